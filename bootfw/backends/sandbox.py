"""Renders Jinja2 templates in jinja2's immutable sandbox, with limits on time and memory. The reasons are in ADR 11."""

import json
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.loaders import BaseLoader
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

LONGEST = 0.5
"""Seconds of processor time for one rendering. A menu of 100 images takes about 0.005."""

LARGEST = 1_048_576
"""Bytes of a rendered file, and size of a value: characters of text, items of a list, bits of a number."""

LARGEST_TOTAL = 32 * LARGEST
"""Total size of the values that operators, macros, blocks and ``join`` create in one rendering."""

# Padding and formatting have a width, which a template could take from a path: a client could exhaust memory. With
# random values, the second request for a file would get other content than the first.
_LEFT_OUT_FILTERS = ("batch", "center", "format", "indent", "random", "slice")
_LEFT_OUT_METHODS = frozenset(
    ("center", "encode", "expandtabs", "format", "format_map", "ljust", "rjust", "to_bytes", "zfill")
)


class LimitExceeded(TemplateRuntimeError):
    """A rendering would take too much time or memory."""


class Facts(dict[str, Any]):
    """A table of template variables with a name for error messages.

    :param name: such as "client".
    """

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._name = name


class Unavailable(Undefined):
    """A variable without a value. It is false and equals "", so templates can test it; printing it is an error.

    :param hint: the message of that error: why there is no value, and what to do about it.
    """

    __slots__ = ()
    __str__ = Undefined._fail_with_undefined_error
    __hash__ = Undefined.__hash__

    def __eq__(self, other: object) -> bool:
        return other == ""


class _Undefined(StrictUndefined):
    """An undefined variable. Its error names the table that lacks the key, and the keys that it has."""

    @property
    def _undefined_message(self) -> str:
        table = self._undefined_obj
        if self._undefined_hint or not isinstance(table, dict):
            return str(super()._undefined_message)
        where = table._name if isinstance(table, Facts) else "the table"
        return f'{where} has no "{self._undefined_name}"; it has {", ".join(map(str, table)) or "nothing"}'


class _Spent(threading.local):
    """The time and memory that the rendering in this thread may still use. Several threads render at the same time."""

    until = float("inf")
    """When the processor time is used up, on the clock of the thread."""
    left = LARGEST_TOTAL


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and renders templates. A compiled template is cached until its file changes. Thread-safe.

    :param loader: finds templates by name.
    :param longest: seconds of processor time for one rendering.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, loader: BaseLoader, longest: float = LONGEST) -> None:
        super().__init__(
            loader=loader,
            undefined=_Undefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            finalize=text,
        )
        self._longest = longest
        self._spent = _Spent()
        for name in _LEFT_OUT_FILTERS:
            del self.filters[name]
        del self.globals["lipsum"]
        self.filters |= {"_each": self._each, "_joined": self._joined, "join": self._join, "tojson": self._tojson}

    def render(self, name: str, facts: Mapping[str, Any]) -> bytes:
        """Render the template *name* with the variables *facts*.

        :raise TemplateError: it does not exist, it is invalid, or a variable is undefined.
        """
        template = self.get_template(name)
        self._spent.until, self._spent.left = time.thread_time() + self._longest, LARGEST_TOTAL
        parts, length = [], 0
        for part in template.generate(facts):
            data = part.encode("utf-8", "surrogateescape")
            length += len(data)
            if length > LARGEST:
                raise LimitExceeded(f"the file would have more than {LARGEST} bytes")
            parts.append(data)
        return b"".join(parts)

    # jinja2's hooks.

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Insert filters around the iterables of loops and the operands of ``~``: jinja2 has no hooks for these."""
        template = super()._parse(source, name, filename)
        for loop in template.find_all(nodes.For):
            loop.iter = _filtered(loop.iter, "_each")
        for concat in template.find_all(nodes.Concat):
            concat.nodes = [_filtered(nodes.List(concat.nodes, lineno=concat.lineno), "_joined")]
        return template

    def call(self, context: Any, obj: Any, *arguments: Any, **named: Any) -> Any:
        """Called when a template calls a macro, a function or a method."""
        self._check_time()
        return super().call(context, obj, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Called for an operator whose result may be larger than its operands: limit the size before it is computed."""
        if operator == "%" and isinstance(left, str):
            raise SecurityError("text is put together by ~ and join, not by %")
        size = _size(left) + _size(right)
        if operator == "**" and isinstance(right, int):
            size = _size(left) * right
        elif operator == "*" and isinstance(left, int) != isinstance(right, int):
            size = _size(left) * right if isinstance(right, int) else _size(right) * left
        self._spend(size)
        return super().call_binop(context, operator, left, right)

    def concat(self, parts: Iterable[str]) -> str:
        """Join the output of a macro or a block."""
        return self._joined(list(parts))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Return whether a template may read this attribute."""
        left_out = isinstance(obj, str | int) and attr in _LEFT_OUT_METHODS
        return not left_out and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Do not wrap str.format, since is_safe_attribute() refuses it."""

    # Limits.

    def _check_time(self) -> None:
        if time.thread_time() > self._spent.until:
            raise LimitExceeded(f"rendering takes more than {self._longest} s of processor time")

    def _spend(self, size: int) -> None:
        """Account for a value of that size, before it is created."""
        if size > LARGEST:
            raise LimitExceeded(f"a value would be larger than {LARGEST}")
        self._spent.left -= size
        if self._spent.left < 0:
            raise LimitExceeded(f"the values of one rendering would be larger than {LARGEST_TOTAL} together")

    # Filters.

    def _each(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._check_time()
            yield value

    def _join(self, values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
        """jinja2's join, but every value has to be printable, as in ``{{ }}``."""
        items = values if attribute is None else (self.getitem(value, attribute) for value in values)
        return self._joined(list(items), separator)

    def _joined(self, values: Sequence[Any], separator: str = "") -> str:
        parts = [str(text(value)) for value in values]
        self._spend(sum(map(len, parts)) + len(separator) * len(parts))
        return separator.join(parts)

    def _tojson(self, value: Any) -> str:
        """Convert to JSON on one line with sorted keys. jinja2's own filter escapes it for HTML."""
        return self.concat(self._each(json.JSONEncoder(sort_keys=True, default=_as_json).iterencode(value)))


def text(value: Any) -> Any:
    """Convert *value* to the text that ``{{ }}`` prints. A list, a table or null is an error, since Python's text, such
    as "None", would be wrong in a boot script."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Undefined):
        return value
    if value is None:
        raise TemplateRuntimeError("the value is null, which can't be printed")
    kinds: dict[type, str] = {list: "a list", tuple: "a list", dict: "a table", Facts: "a table"}
    kind = kinds.get(type(value), f"a {type(value).__name__}")
    raise TemplateRuntimeError(f"{kind} can't be printed as it is; filters such as join and tojson make text of it")


def templates_in(directory: Any) -> BaseLoader:
    """Return a loader for template files below *directory*, which are read again when they change."""
    return FileSystemLoader(directory, encoding="utf-8-sig")


def _as_json(value: Any) -> Any:
    if isinstance(value, Undefined):
        str(value)  # raises, and names the variable
    raise TemplateRuntimeError(f"a {type(value).__name__} can't be JSON")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _size(value: Any) -> int:
    if isinstance(value, int):
        return value.bit_length()
    return len(value) if isinstance(value, str | list | tuple) else 0


__all__ = [
    "LARGEST",
    "LARGEST_TOTAL",
    "LONGEST",
    "Facts",
    "LimitExceeded",
    "Sandbox",
    "TemplateRuntimeError",
    "TemplateSyntaxError",
    "Unavailable",
    "templates_in",
]
