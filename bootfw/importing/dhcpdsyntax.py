"""The syntax of dhcpd.conf: statements, blocks, and conditions (dhcpd.conf(5), dhcp-eval(5))."""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from attrs import frozen

from bootfw.importing.bootfiles import ClientKind
from bootfw.importing.draft import Draft
from bootfw.importing.evaluation import Evaluation, UnknownCondition
from bootfw.importing.options import numbers
from bootfw.importing.outcome import Fate, Line

_TOKEN = re.compile(
    r'(?P<space>\s+|\#[^\n]*|//[^\n]*)|(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[{};,()]|!=|~=|~~|=)'
    r'|(?P<word>[^\s{};,()="#~!]+|[~!#])',
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"t": "\t", "r": "\r", "n": "\n", "b": "\b"}
_DEEPEST = 100
"""Of blocks in blocks."""


@frozen
class Statement:
    """A statement; its words are those of the file, with strings in their quotes."""

    line: Line
    words: list[str]


@frozen
class Block:
    """A declaration or condition, with what is in its braces."""

    line: Line
    words: list[str]
    items: "list[Item]"


Item: TypeAlias = Statement | Block


def parse(name: str, text: str, draft: Draft) -> list[Item]:
    """Return the statements and blocks of a file; what is no syntax is reported as left out."""
    raw = text.splitlines()
    outer: list[Item] = []
    stack: list[list[Item]] = [outer]
    words: list[str] = []
    number, first, position = 1, 0, 0

    def line() -> Line:
        at = first or number
        return Line(name, at, raw[at - 1].strip() if at <= len(raw) else "")

    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:  # a string that does not end
            draft.note(line(), Fate.LEFT_OUT, "a string does not end")
            break
        token, kind = found[0], found.lastgroup
        position = found.end()
        if kind == "space":
            pass
        elif token == "{" and len(stack) < _DEEPEST:
            block = Block(line(), words, [])
            stack[-1].append(block)
            stack.append(block.items)
            words, first = [], 0
        elif token == "}" and len(stack) > 1:
            if words:
                draft.note(line(), Fate.LEFT_OUT, "there is no ; behind it")
            stack.pop()
            words, first = [], 0
        elif token in "{}":
            draft.note(line(), Fate.LEFT_OUT, f"{token} has no counterpart")
        elif token == ";":
            if words:
                stack[-1].append(Statement(line(), words))
            words, first = [], 0
        else:
            first = first or number
            words.append(token)
            if first == number and len(words) == 1 and re.match(r"[A-Za-z0-9_]+=", text[found.start() :]):
                # A line of shell variables, as in /etc/default.
                end = text.find("\n", found.start())
                end = len(text) if end < 0 else end
                stack[-1].append(Statement(line(), [text[found.start() : end].strip()]))
                words, first, position = [], 0, end
        number += text.count("\n", found.start(), position)
    if words:
        draft.note(line(), Fate.LEFT_OUT, "the file ends in the middle of it")
    elif len(stack) > 1:
        draft.note(line(), Fate.LEFT_OUT, "the file ends inside a block: a } is missing")
    return outer


def unquoted(word: str) -> str:
    """Remove the quotes of a string, and decode its escapes."""
    if not word.startswith('"'):
        return word

    def letter(found: "re.Match[str]") -> str:
        code = found[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _LETTERS.get(code, code)

    return _ESCAPE.sub(letter, word[1:-1])


def listed(words: Sequence[str]) -> list[str]:
    """Return the values between commas; words without a comma between them are one value."""
    found: list[str] = []
    joins = False
    for word in words:
        if word == ",":
            joins = False
        elif joins:
            found[-1] += f" {word}"
        else:
            found.append(word)
            joins = True
    return found


def option_kind(words: Sequence[str]) -> str:
    """Return the type of a declared option, a name of bootfw.dhcp.optionvalues; "": it is guessed from the value."""
    match list(words):
        case ["ip-address"]:
            return "address"
        case ["array", "of", "ip-address"]:
            return "addresses"
        case ["text"]:
            return "text"
        case ["boolean"]:
            return "boolean"
        case ["unsigned", "integer", size] | ["integer", size] if size in ("8", "16", "32"):
            return f"uint{size}"
    return ""


OPTIONS = numbers(
    "subnet-mask=1 time-offset=2 routers=3 time-servers=4 ien116-name-servers=5 domain-name-servers=6 log-servers=7 "
    "cookie-servers=8 lpr-servers=9 impress-servers=10 resource-location-servers=11 host-name=12 boot-size=13 "
    "merit-dump=14 domain-name=15 swap-server=16 root-path=17 extensions-path=18 ip-forwarding=19 "
    "non-local-source-routing=20 policy-filter=21 max-dgram-reassembly=22 default-ip-ttl=23 path-mtu-aging-timeout=24 "
    "path-mtu-plateau-table=25 interface-mtu=26 all-subnets-local=27 broadcast-address=28 perform-mask-discovery=29 "
    "mask-supplier=30 router-discovery=31 router-solicitation-address=32 static-routes=33 trailer-encapsulation=34 "
    "arp-cache-timeout=35 ieee802-3-encapsulation=36 default-tcp-ttl=37 tcp-keepalive-interval=38 "
    "tcp-keepalive-garbage=39 nis-domain=40 nis-servers=41 ntp-servers=42 vendor-encapsulated-options=43 "
    "netbios-name-servers=44 netbios-dd-server=45 netbios-node-type=46 netbios-scope=47 font-servers=48 "
    "x-display-manager=49 dhcp-requested-address=50 dhcp-lease-time=51 dhcp-server-identifier=54 "
    "dhcp-parameter-request-list=55 dhcp-message=56 dhcp-max-message-size=57 dhcp-renewal-time=58 "
    "dhcp-rebinding-time=59 vendor-class-identifier=60 dhcp-client-identifier=61 nisplus-domain=64 nisplus-servers=65 "
    "tftp-server-name=66 bootfile-name=67 mobile-ip-home-agent=68 smtp-server=69 pop-server=70 nntp-server=71 "
    "www-server=72 finger-server=73 irc-server=74 user-class=77 pxe-system-type=93 pxe-interface-id=94 "
    "pxe-client-id=97 uap-servers=98 pcode=100 tcode=101 domain-search=119 vivco=124 vivso=125 tftp-server-address=150 "
    "agent.circuit-id=-1 agent.remote-id=-2"
)
"""Names of options -> code (dhcp-options(5)); below 0: of the relay."""

OPTIONS6 = numbers(
    "dhcp6.client-id=1 dhcp6.name-servers=23 dhcp6.domain-search=24 dhcp6.nis-servers=27 dhcp6.nis-domain-name=29 "
    "dhcp6.sntp-servers=31 dhcp6.info-refresh-time=32 dhcp6.bootfile-url=59 dhcp6.bootfile-param=60"
)


_Result: TypeAlias = bytes | bool | int | None


@frozen
class Condition:
    """A boolean expression (dhcp-eval(5))."""

    words: Sequence[str]
    codes: Mapping[str, int]
    """Option -> code, of the predefined and the declared ones."""

    def holds(self, kind: ClientKind) -> bool:
        """Return whether the expression is true for such a client.

        :raise UnknownCondition: that is not known.
        """
        return _Evaluation(list(self.words), self.codes, kind).value()

    def prefix(self) -> tuple[str, str] | None:
        """Return (key of a [[dhcp.class]], text) of a comparison with the beginning of a vendor class or a user class;
        None: it is something else."""
        text = " ".join(word for word in self.words if word not in ("(", ")", ","))
        found = re.fullmatch(r'substring option (vendor-class-identifier|user-class) 0 (\d+) = "([^"]*)"', text)
        found = found or re.fullmatch(r'option (vendor-class-identifier|user-class) (=) "([^"]*)"', text)
        if found is None or not found[3]:
            return None
        return "vendor-class" if found[1].startswith("vendor") else "user-class", found[3]


class _Evaluation(Evaluation):
    """A condition of dhcp-eval(5), for one kind of client."""

    def __init__(self, words: list[str], codes: Mapping[str, int], kind: ClientKind) -> None:
        super().__init__(words)
        self._codes = codes
        self._kind = kind

    def _comparison(self) -> bool:
        if self._take("exists"):
            return self._option(self._word()) is not None
        if self._take("known") or self._take("static"):
            return bool(self._kind.mac)
        if self.unread[:1] == ["("] and self._is_boolean():
            self._expect("(")
            value = self._disjunction()
            self._expect(")")
            return value
        one = self._data()
        if self._take("="):
            return _equal(one, self._data())
        if self._take("!="):
            return not _equal(one, self._data())
        raise self._no_comparison()

    def _is_boolean(self) -> bool:
        """Return whether the parenthesis at the beginning has a condition in it: a comparison at its own level."""
        depth = 0
        for word in self.unread:
            depth += (word == "(") - (word == ")")
            if word in ("=", "!=", "exists", "known", "and", "or", "not") and depth >= 1:
                return True
            if depth == 0:
                break
        return False

    def _data(self) -> _Result:
        if self._take("("):
            self._descend()
            value = self._data()
            self._depth -= 1
            self._expect(")")
            return value
        word = self._word()
        if word.startswith('"'):
            return unquoted(word).encode("utf-8", "surrogateescape")
        if word == "option":
            return self._option(self._word())
        if word == "hardware":
            return b"\1" + bytes.fromhex(self._kind.mac.replace(":", "")) if self._kind.mac else b"\1\0\0\0\0\0\0"
        if word in ("substring", "suffix", "lcase", "ucase", "pick-first-value", "pick"):
            return self._function(word)
        if re.fullmatch(r"[0-9a-fA-F]{1,2}(:[0-9a-fA-F]{1,2})+", word):
            return bytes(int(part, 16) for part in word.split(":"))
        if re.fullmatch(r"0x[0-9a-fA-F]+|\d+", word):
            return int(word, 0) if word.startswith("0x") else int(word)
        raise UnknownCondition(word)

    def _function(self, name: str) -> _Result:
        self._expect("(")
        self._descend()
        values = [self._data()]
        while self._take(","):
            values.append(self._data())
        self._depth -= 1
        self._expect(")")
        first = values[0]
        if name.startswith("pick"):
            return next((value for value in values if value is not None), None)
        if first is None:
            return None
        match name, first, values[1:]:
            case "substring", bytes(), [int(offset), int(length)]:
                return first[offset : offset + length]
            case "suffix", bytes(), [int(length)]:
                return first[max(0, len(first) - length) :]
            case "lcase", bytes(), []:
                return first.lower()
            case "ucase", bytes(), []:
                return first.upper()
        raise UnknownCondition(name)

    def _option(self, name: str) -> bytes | None:
        code = self._codes.get(name)
        if code is None or code < 0:
            raise UnknownCondition(f"option {name}")
        return self._kind.options.get(code)


def _equal(one: _Result, other: _Result) -> bool:
    if one is None or other is None:
        return False
    if isinstance(one, bytes) and isinstance(other, int):
        return int.from_bytes(one) == other
    if isinstance(one, int) and isinstance(other, bytes):
        return one == int.from_bytes(other)
    return one == other
