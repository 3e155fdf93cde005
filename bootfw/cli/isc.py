"""ISC dhcpd's lease file: a journal of declarations, of which the last of each address counts (dhcpd.leases(5))."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from socket import AF_INET, inet_pton

from attrs import define, field

from bootfw.cli.failure import CommandError
from bootfw.cli.foreign import Foreign, Identify
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.wire.dhcp4 import ETHERNET

HARDWARE: Mapping[str, int] = {"ethernet": ETHERNET, "token-ring": 6, "fddi": 8, "infiniband": 32}
"""As dhcpd writes it -> htype (RFC 1700)."""

QUARANTINE = 3600.0
"""Seconds that an abandoned address rests from now on: dhcpd keeps it for ever."""

_TOKEN = re.compile(r'\s+|#[^\n]*|(?P<string>"(?:[^"\\]|\\.)*")|(?P<mark>[{};])|(?P<word>[^\s{};"#]+)', re.DOTALL)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"t": "\t", "r": "\r", "n": "\n", "b": "\b"}


def is_isc(text: str) -> bool:
    """*text* looks like it."""
    return bool(re.search(r"^(lease|host|server-duid|authoring-byte-order)\s.*[{;]\s*(#.*)?$", text, re.MULTILINE))


def read_isc(text: str, now: float, identify: Identify) -> Foreign:
    """The leases, and the hosts that were added while it ran (omapi).

    An active lease stays active, an abandoned address is declined, and of the others the client is remembered.

    :raise CommandError: the text ends in the middle of something, or is of DHCPv6.
    """
    found = _Found(now, identify)
    for words, body in _declarations(text):
        match words:
            case ["lease", address]:
                found.lease(address, body)
            case ["host", name]:
                found.host(name, body)
            case ["ia-na" | "ia-ta" | "ia-pd", *_]:
                raise CommandError("this is a file of DHCPv6 leases")
    return Foreign(found.leases, tuple(found.hosts.values()), tuple(found.left_out.values()))


Statement = list[str]


@define
class _Found:
    """What the declarations so far come to."""

    _now: float
    _identify: Identify
    leases: dict[str, Lease] = field(factory=dict)
    hosts: dict[str, Reservation] = field(factory=dict)
    left_out: dict[str, str] = field(factory=dict)

    def lease(self, address: str, body: list[Statement]) -> None:
        """What is said last about an address counts."""
        self.leases.pop(address, None)
        self.left_out.pop(address, None)
        try:
            inet_pton(AF_INET, address)
            self._lease(address, _by_name(body))
        except (IndexError, OSError, ValueError):
            self.left_out[address] = f"{address}: its lease can't be understood"

    def _lease(self, address: str, statements: Mapping[str, Statement]) -> None:
        hardware, mac = _hardware(statements)
        client_id = _octets(statements.get("uid", []))
        client = self._identify(hardware, mac, client_id)
        state = (statements.get("binding state") or ["active"])[0]
        if state == "abandoned":
            quarantined = LeaseState.DECLINED, self._now, self._now + QUARANTINE
            self.leases[address] = Lease(address, b"", "", *quarantined)
            return
        if not client:
            if state == "active":
                self.left_out[address] = f"{address}: nothing tells whose lease it is"
            return
        granted = _time(statements.get("cltt") or statements.get("starts") or []) or self._now
        expires = _time(statements.get("ends", []))
        if state != "active":
            expires = min(expires or self._now, self._now)
        self.leases[address] = Lease(
            address,
            client,
            mac.hex(":"),
            LeaseState.RELEASED if state == "released" else LeaseState.ACTIVE,
            granted,
            NEVER if expires is None else expires,
            client_id,
            hostname=_text(statements.get("client-hostname", [])),
            kind="system",
        )

    def host(self, name: str, body: list[Statement]) -> None:
        """The same for a host."""
        statements = _by_name(body)
        self.hosts.pop(name, None)
        self.left_out.pop(f"host {name}", None)
        if "deleted" in statements:
            return
        try:
            _, mac = _hardware(statements)
            (address,) = statements.get("fixed-address", [""])
            client_id = _octets(statements.get("uid", []))
            self.hosts[name] = Reservation(address, mac=mac.hex(":"), client_id=client_id)
        except (IndexError, ValueError) as error:
            self.left_out[f"host {name}"] = f"host {name}: {error}"


def _declarations(text: str) -> Iterator[tuple[Statement, list[Statement]]]:
    """The words before each pair of braces, and the statements in it."""
    words: Statement = []
    body: list[Statement] | None = None
    deeper = 0
    head: Statement = []
    for token in _tokens(text):
        if token == "{":
            if body is None:
                head, body, words = words, [], []
            else:
                deeper += 1
        elif token == "}":
            if deeper:
                deeper -= 1
            elif body is not None:
                yield head, body
                body = None
            words = []
        elif token == ";":
            if words and body is not None and not deeper:
                body.append(words)
            words = []
        else:
            words.append(token)
    if body is not None or words:
        raise CommandError(f"the file ends in the middle of {' '.join(words or head)}; is all of it there?")


def _tokens(text: str) -> Iterator[str]:
    place = 0
    while place < len(text):
        found = _TOKEN.match(text, place)
        if found is None:
            line = text.count("\n", 0, place) + 1
            raise CommandError(f"line {line} can't be read: {text[place : place + 40]!r}")
        place = found.end()
        if found.lastgroup:
            yield found[0]


def _by_name(body: list[Statement]) -> dict[str, Statement]:
    statements = {}
    for words in body:
        if words[:2] == ["binding", "state"]:
            statements["binding state"] = words[2:]
        else:
            statements[words[0]] = words[1:]
    return statements


def _hardware(statements: Mapping[str, Statement]) -> tuple[int, bytes]:
    words = statements.get("hardware", [])
    if len(words) != 2:
        return ETHERNET, b""
    # Others are written as "unknown-37".
    hardware = HARDWARE.get(words[0]) or int(words[0].removeprefix("unknown-") or 0)
    return hardware, _hex(words[1])


def _hex(text: str) -> bytes:
    """``0:1:ab``: a zero in front may be missing."""
    return bytes(int(part, 16) for part in text.split(":"))


def _octets(words: Statement) -> bytes:
    """``"\\001abc"`` or ``1:61:62:63``."""
    if not words:
        return b""
    if words[0].startswith('"'):
        return _unquoted(words[0]).encode("latin-1", "replace")
    return _hex(words[0])


def _text(words: Statement) -> str:
    return _unquoted(words[0]).encode("latin-1", "replace").decode("utf-8", "surrogateescape") if words else ""


def _unquoted(text: str) -> str:
    def character(found: "re.Match[str]") -> str:
        code = found[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _LETTERS.get(code, code)

    return _ESCAPE.sub(character, text[1:-1]) if text.startswith('"') else text


def _time(words: Statement) -> float | None:
    """``4 2026/11/19 12:00:00`` in UTC, or ``epoch 1763553600``; None: "never", or nothing is said."""
    if not words or words[0] == "never":
        return None
    if words[0] == "epoch":
        return float(words[1])
    return datetime.strptime(" ".join(words[1:3]), "%Y/%m/%d %H:%M:%S").replace(tzinfo=UTC).timestamp()
