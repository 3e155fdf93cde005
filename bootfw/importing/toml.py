"""Writes TOML: tables with comments, as an operator would write them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from attrs import define, field

Value: TypeAlias = str | bool | int | float | Sequence["Value"] | Mapping[str, "Value"]

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_WIDTH = 120


@define
class Table:
    """A table, with its comments."""

    header: str
    """``[dhcp]`` or ``[[dhcp.subnet]]``; "": the keys before the first table."""
    values: dict[str, Value] = field(factory=dict)
    comments: list[str] = field(factory=list)
    """Lines above the table."""
    remarks: dict[str, str] = field(factory=dict)
    """Key -> comment behind its value."""
    below: "list[Table]" = field(factory=list)
    """Tables inside this one, such as the hosts of a subnet."""

    def set(self, key: str, value: Value, remark: object = "") -> None:
        """Set a key, with a comment behind its value."""
        self.values[key] = value
        if str(remark):
            self.remarks[key] = str(remark)

    def lines(self) -> Iterator[str]:
        """Yield the lines of the table and of those inside it."""
        yield from (f"# {_comment(comment)}".rstrip() for comment in self.comments)
        if self.header:
            yield self.header
        for key, value in self.values.items():
            line = f"{_key(key)} = {_value(value)}"
            if len(line) > _WIDTH and isinstance(value, (list, tuple)):
                line = f"{_key(key)} = [\n" + "".join(f"    {_value(item)},\n" for item in value) + "]"
            yield line + (f"  # {_comment(self.remarks[key])}" if key in self.remarks else "")
        for table in self.below:
            yield ""
            yield from table.lines()


def document(tables: Sequence[Table]) -> str:
    """Return the text of *tables*, with a blank line between two of them; empty tables are left out."""
    return (
        "\n\n".join("\n".join(table.lines()) for table in tables if table.values or table.comments or table.header)
        + "\n"
    )


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + " }"
    return "[" + ", ".join(map(_value, value)) + "]"


def _comment(text: str) -> str:
    """Return a comment with escapes for control characters and bytes that are not UTF-8, which TOML does not allow."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(text: str) -> str:
    return '"' + "".join(_ESCAPES.get(letter) or _letter(letter) for letter in text) + '"'


def _letter(letter: str) -> str:
    code = ord(letter)
    if 0xD800 <= code <= 0xDFFF:  # a byte that is not UTF-8
        return "\\ufffd"
    return f"\\u{code:04x}" if code < 32 or code == 127 else letter
