"""The syntax of Kea's configurations: JSON with comments, and the tests of client classes."""

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from attrs import frozen

from bootfw.importing.bootfiles import ClientKind
from bootfw.importing.evaluation import Evaluation, UnknownCondition
from bootfw.importing.outcome import Line, UnreadableConfiguration

Scalar: TypeAlias = str | int | float | bool | None
_TOKEN = re.compile(
    r'(?P<space>\s+|\#[^\n]*|//[^\n]*|/\*.*?\*/)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<include><\?include\s+"[^"]*"\s*\?>)'
    r"|(?P<mark>[{}\[\],:])|(?P<word>[-+.\w]+)",
    re.DOTALL,
)
_LITERALS: dict[str, Scalar] = {"true": True, "false": False, "null": None}
_DEEPEST = 60
"""Of values in values."""


@frozen
class Node:
    """A value, with the line that it begins on."""

    line: Line
    value: "Scalar | list[Node] | dict[str, Node]"

    @property
    def members(self) -> "Mapping[str, Node]":
        """Of an object; {}: it is none."""
        return self.value if isinstance(self.value, dict) else {}

    def items(self, name: str) -> "list[Node]":
        """Return the values of a list that is a member; []: there is none."""
        member = self.members.get(name)
        return member.value if member is not None and isinstance(member.value, list) else []

    def value_of(self, name: str) -> Scalar:
        """Return a member that is no list and no object; None: there is none."""
        member = self.members.get(name)
        return None if member is None or isinstance(member.value, list | dict) else member.value

    def text(self, name: str) -> str:
        """Return a member that is a text; "": there is none."""
        value = self.value_of(name)
        return value if isinstance(value, str) else ""

    def number(self, name: str) -> int | None:
        """Return a member that is an integer; None: there is none."""
        value = self.value_of(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse(name: str, text: str, load: Callable[[Path], str]) -> Node:
    """Return the object that a file holds.

    :raise UnreadableConfiguration: it is no JSON with comments.
    """
    reader = _Reader(name, text, load, 0)
    node = reader.value()
    reader.finish()
    return node


class _Reader:
    def __init__(self, name: str, text: str, load: Callable[[Path], str], depth: int) -> None:
        self._name, self._text, self._load, self._depth = name, text, load, depth
        self._raw = text.splitlines()
        self._position, self._number, self._nested = 0, 1, 0
        self._peeked: tuple[str, str] | None = None

    def value(self) -> Node:
        """Read the next value."""
        kind, token = self._take()
        line = self._line()
        self._nested += 1
        if self._nested > _DEEPEST:
            raise self._error("values are nested too deep")
        value: Scalar | list[Node] | dict[str, Node]
        if token == "{":
            value = self._object()
        elif token == "[":
            value = self._list()
        elif kind == "string":
            value = self._string(token)
        elif kind == "include":
            return self._include(token, line)
        elif token in _LITERALS:
            value = _LITERALS[token]
        elif re.fullmatch(r"-?\d{1,18}", token):
            value = int(token)
        elif re.fullmatch(r"-?\d{1,18}\.\d{1,18}", token):
            value = float(token)
        else:
            raise self._error(f"{token or 'the end of the file'} is no value")
        self._nested -= 1
        return Node(line, value)

    def _include(self, token: str, line: Line) -> Node:
        path = token.split('"')[1]
        try:
            if self._depth > 8:
                raise self._error("files are included too deep")
            reader = _Reader(path, self._load(Path(path)), self._load, self._depth + 1)
        except OSError as error:
            raise self._error(f"{path} can't be read: {error.strerror}") from error
        self._nested -= 1
        node = reader.value()
        reader.finish()
        return node

    def _object(self) -> dict[str, Node]:
        found: dict[str, Node] = {}
        while self._peek()[1] != "}":
            kind, token = self._take()
            if kind != "string":
                raise self._error(f"{token or 'the end of the file'} is no key: a text in quotes")
            key, line = self._string(token), self._line()
            self._expect(":")
            node = self.value()
            # A member begins with its key.
            found[key] = node if isinstance(node.value, dict) and self._depth else Node(line, node.value)
            if self._peek()[1] != "}":
                self._expect(",")
        self._take()
        return found

    def _list(self) -> list[Node]:
        found: list[Node] = []
        while self._peek()[1] != "]":
            found.append(self.value())
            if self._peek()[1] != "]":
                self._expect(",")
        self._take()
        return found

    def _string(self, token: str) -> str:
        try:
            return str(json.loads(token, strict=False))
        except ValueError:
            raise self._error(f"{token} is no text") from None

    def finish(self) -> None:
        """Check that the text ends here.

        :raise UnreadableConfiguration: it does not.
        """
        if self._peek()[1]:
            raise self._error(f"{self._peek()[1]} follows the end")

    def _line(self) -> Line:
        text = self._raw[self._number - 1].strip() if self._number <= len(self._raw) else ""
        return Line(self._name, self._number, text)

    def _error(self, reason: str) -> UnreadableConfiguration:
        return UnreadableConfiguration(f"{self._name}:{self._number}: {reason}")

    def _expect(self, mark: str) -> None:
        _, token = self._take()
        if token != mark:
            raise self._error(f"{token or 'the end of the file'} instead of {mark}")

    def _peek(self) -> tuple[str, str]:
        if self._peeked is None:
            self._peeked = self._next()
        return self._peeked

    def _take(self) -> tuple[str, str]:
        kind, token = self._peek()
        self._peeked = None
        return kind, token

    def _next(self) -> tuple[str, str]:
        while self._position < len(self._text):
            found = _TOKEN.match(self._text, self._position)
            if found is None:
                raise self._error(f"{self._text[self._position]} is not expected")
            self._position = found.end()
            self._number += found[0].count("\n")
            if found.lastgroup != "space":
                return str(found.lastgroup), found[0]
        return "", ""


_TEST = re.compile(r"\s*(?:(?P<text>'[^']*')|(?P<mark>==|!=|[()\[\],.+])|(?P<word>[\w:-]+))")


@frozen
class Test:
    """The test of a client class."""

    text: str
    codes: Mapping[str, int]
    """Option -> code."""

    def holds(self, kind: ClientKind, member: Collection[str]) -> bool:
        """Return whether such a client is in the class.

        :param member: the classes before it that the client is in.
        :raise UnknownCondition: that is not known.
        """
        return _Evaluation(list(_words(self.text)), self.codes, kind, member).value()

    def prefix(self) -> tuple[str, str] | None:
        """Return (key of a [[dhcp.class]], text) of a comparison with the beginning of a vendor class or a user class;
        None: it is something else."""
        words = " ".join(_words(self.text))
        found = re.fullmatch(r"substring \( option \[ (\w+|[\w-]+) \] \. \w+ , 0 , \d+ \) == '([^']+)'", words)
        found = found or re.fullmatch(r"option \[ ([\w-]+) \] \. \w+ == '([^']+)'", words)
        if found is None:
            return None
        code = int(found[1]) if found[1].isdecimal() else self.codes.get(found[1], 0)
        key = {60: "vendor-class", 77: "user-class"}.get(code)
        return (key, found[2]) if key else None


def _words(text: str) -> Iterator[str]:
    position = 0
    text = text.strip()
    while position < len(text):
        found = _TEST.match(text, position)
        if found is None:
            raise UnknownCondition(text)
        position = found.end()
        yield found[0].strip()


class _Evaluation(Evaluation):
    """The test of a class, for one kind of client."""

    def __init__(self, words: list[str], codes: Mapping[str, int], kind: ClientKind, member: Collection[str]) -> None:
        super().__init__(words)
        self._codes, self._kind, self._member = codes, kind, member

    def _comparison(self) -> bool:
        if self._take("("):
            value = self._disjunction()
            self._expect(")")
            return value
        if self._take("member"):
            self._expect("(")
            name = self._word().strip("'")
            self._expect(")")
            return name in self._member
        if self.unread[:1] == ["option"] and "exists" in self.unread[4:6]:
            code = self._code()
            self._expect(".")
            self._expect("exists")
            return code in self._kind.options
        one = self._data()
        if self._take("=="):
            return one == self._data()
        if self._take("!="):
            return one != self._data()
        raise self._no_comparison()

    def _code(self) -> int:
        self._expect("option")
        self._expect("[")
        name = self._word()
        self._expect("]")
        code = int(name) if name.isdecimal() else self._codes.get(name)
        if code is None:
            raise UnknownCondition(f"option[{name}]")
        return code

    def _data(self) -> bytes:
        if self.unread[:1] == ["option"]:
            code = self._code()
            self._expect(".")
            if self._word() not in ("hex", "text"):
                raise UnknownCondition(f"option[{code}]")
            return self._kind.options.get(code, b"")
        if self._take("substring"):
            self._expect("(")
            self._descend()
            value = self._data()
            self._depth -= 1
            self._expect(",")
            start = self._word()
            self._expect(",")
            length = self._word()
            self._expect(")")
            if not re.fullmatch(r"\d{1,6}", start) or not re.fullmatch(r"\d{1,6}|all", length):
                raise UnknownCondition("substring")
            return value[int(start) :] if length == "all" else value[int(start) : int(start) + int(length)]
        if self.unread[:3] == ["pkt4", ".", "mac"]:
            del self.unread[:3]
            return bytes.fromhex(self._kind.mac.replace(":", ""))
        word = self._word()
        if word.startswith("'"):
            return word[1:-1].encode("utf-8", "surrogateescape")
        if re.fullmatch(r"0x[0-9a-fA-F]+", word):
            digits = word[2:]
            return bytes.fromhex(digits if len(digits) % 2 == 0 else f"0{digits}")
        raise UnknownCondition(word)
