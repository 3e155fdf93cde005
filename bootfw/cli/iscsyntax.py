"""Parses the syntax of dhcpd's lease files: declarations with statements in braces, each ending with a semicolon.

Parsing continues after a part that a crash or an editor has damaged.
"""

import re
from collections.abc import Callable, Iterator

from attrs import define, field, frozen

# Strings end on their line: dhcpd writes a line feed in them as \012.
_TOKEN = re.compile(
    r'[ \t\r\f\v]+|#[^\0]*|(?P<hole>\0+)|(?P<string>"(?:[^"\\\0]|\\[^\0])*")|(?P<mark>[{};])|(?P<word>[^\s{};"#\0]+)'
)
_ESCAPE = re.compile(r"\\([0-7]{1,3}|.)", re.DOTALL)
_LETTERS = {"t": "\t", "r": "\r", "n": "\n", "b": "\b"}

_DECLARATIONS = ("lease", "host", "ia-na", "ia-ta", "ia-pd")
NOT_NEEDED = ("authoring-byte-order", "server-duid", "failover")
"""Declarations of the server itself."""

IDENTITY = ("hardware", "uid", "starts", "ends", "cltt", "binding", "iaaddr", "abandoned", "reserved")
"""Statements that determine client and duration of a lease. A declaration in which one is damaged is not used."""
LEASE_STATEMENTS = {
    *IDENTITY,
    *("next", "rewind", "tstp", "tsfp", "atsfp", "timestamp", "client-hostname", "hostname", "dynamic-bootp", "bootp"),
    *("billing", "option", "set", "on", "if", "else", "elsif", "vendor-class-identifier", "user-class", "released"),
    *("ddns-text", "ddns-txt", "ddns-fwd-name", "ddns-rev-name", "ddns-client-fqdn", "ddns-dhcid"),
    *("preferred-life", "max-life"),
}


@frozen
class Statement:
    """A statement, such as ``hardware ethernet 52:54:00:12:34:56;``."""

    line: int
    words: list[str]

    def __str__(self) -> str:
        return shown(" ".join(self.words))


@define
class Block:
    """A declaration: its words, and the statements and blocks in its braces."""

    line: int
    words: list[str]
    items: "list[Statement | Block]" = field(factory=list)
    damage: str = ""
    """Why it can't be used; "": it is complete."""

    def __str__(self) -> str:
        return shown(" ".join(self.words))


class DeclarationReader:
    """Parses declarations, and continues after damaged ones.

    :param leave_out: called with a line number and what is wrong there.
    """

    def __init__(self, leave_out: Callable[[int, str], None]) -> None:
        self._leave_out = leave_out
        self._open: list[Block] = []
        self._words: list[str] = []
        self._line = 0
        """Line number of the first of the words; 0: there are none."""

    def read(self, text: str) -> Iterator[Block]:
        """Yield the outermost blocks of *text*."""
        for number, line in enumerate(text.split("\n"), 1):
            tokens = _tokens(line)
            if tokens is None:
                self._damaged_line(number, line)
                continue
            for kind, token in tokens:
                yield from self._token(number, kind, token)
        if self._open or self._words:
            unfinished = self._open[0] if self._open else Statement(self._line, self._words)
            self._leave_out(unfinished.line, f"the file ends in the middle of {unfinished}; is all of it there?")

    def _token(self, number: int, kind: str, token: str) -> Iterator[Block]:
        if kind == "hole":
            self._hole(number, len(token))
        elif token == "{":
            block = Block(self._line or number, self._words)
            if self._open and self._words[:1] in [[word] for word in _DECLARATIONS]:
                self._damage(f"there is no }} before {block} on line {block.line}")
                yield self._open[0]
                self._open.clear()
            elif self._open:
                self._open[-1].items.append(block)
            self._open.append(block)
            self._words, self._line = [], 0
        elif token == "}":
            yield from self._closed(number)
        elif token == ";":
            self._statement()
        else:
            self._line = self._line or number
            self._words.append(token)

    def _closed(self, number: int) -> Iterator[Block]:
        if not self._open:
            self._leave_out(number, "} is not inside a declaration")
        elif self._words:
            self._damage(f"there is no ; after {shown(' '.join(self._words))} on line {self._line}")
        self._words, self._line = [], 0
        if self._open:
            block = self._open.pop()
            if not self._open:
                yield block

    def _statement(self) -> None:
        statement = Statement(self._line, self._words)
        self._words, self._line = [], 0
        if self._open:
            self._open[-1].items.append(statement)
        elif statement.words and statement.words[0] not in NOT_NEEDED:
            self._leave_out(statement.line, f"{statement} is not inside a declaration")

    def _hole(self, number: int, size: int) -> None:
        explanation = "as a crash leaves them; what was there is lost"
        self._leave_out(number, f"{size} NUL byte{'s' if size > 1 else ''}, {explanation}")
        if self._open:
            self._damage(f"there are NUL bytes in it on line {number}")
        self._words, self._line = [], 0

    def _damaged_line(self, number: int, line: str) -> None:
        first = next(iter(line.split()), "")  # "": of separators that are no blanks, such as U+001C
        if not self._open:
            self._leave_out(number, f"can't be read: {shown(line.strip())}")
        elif self._words or first in IDENTITY or first not in LEASE_STATEMENTS or "\0" in line:
            self._damage(f"line {number} can't be read: {shown(line.strip())}")
        else:
            consequence = f"; {self._open[0]} is imported without it"
            self._leave_out(number, f"can't be read: {shown(line.strip())}{consequence}")
        self._words, self._line = [], 0

    def _damage(self, reason: str) -> None:
        self._open[0].damage = self._open[0].damage or reason


def _tokens(line: str) -> list[tuple[str, str]] | None:
    """Return (kind, token) of each token of a line; None: a string in it is not terminated."""
    found = []
    position = 0
    while position < len(line):
        token = _TOKEN.match(line, position)
        if token is None:
            return None
        position = token.end()
        if token.lastgroup:
            found.append((token.lastgroup, token[0]))
    return found


def unquoted(text: str) -> str:
    """Remove the quotes of a string, and decode its escapes."""

    def character(found: "re.Match[str]") -> str:
        code = found[1]
        return chr(int(code, 8) & 0xFF) if code[0] in "01234567" else _LETTERS.get(code, code)

    return _ESCAPE.sub(character, text[1:-1]) if text.startswith('"') else text


def shown(text: str) -> str:
    """Shorten *text* for a message."""
    decoded = text.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
    return decoded if len(decoded) <= 60 else f"{decoded[:57]}..."
