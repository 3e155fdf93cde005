"""Jinja2 for templates that may take anything the host file or the client says: it reads, and its work is bounded.

jinja2's sandbox keeps a template from what it should not touch. It does not keep it from being busy for ever or from
filling the memory, so here every turn of a loop and every call is counted, values are bounded, and only filters and
methods are there whose result is no larger than that.
"""

import functools
import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from jinja2 import FileSystemLoader, StrictUndefined, TemplateRuntimeError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS
from jinja2.loaders import BaseLoader
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

STEPS = 20_000
"""Turns of loops, calls, and values that filters see, in one rendering: about 0.1 s."""

LARGEST = 1_048_576
"""Bytes of a rendered file, characters of a text, values in a list."""

_LENGTH_OF_A_STEP = 256
"""So all the texts that a rendering puts together are no longer than 5 MB."""

# fmt: off
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr",
    "sort", "sum", "title", "trim", "truncate", "unique", "upper", "urlencode",
)

_OF_TEXTS = (
    "capitalize", "casefold", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal",
    "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower", "lstrip", "partition", "removeprefix",
    "removesuffix", "rfind", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
    "title", "upper",
)
# fmt: on

_METHODS: Mapping[type, frozenset[str]] = {
    str: frozenset(_OF_TEXTS),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    int: frozenset(),
    float: frozenset(),
}


class TooMuchWork(TemplateRuntimeError):
    """A template that would take too long, or too much memory."""


class Facts(dict[str, Any]):
    """A table that templates know by a name of its own.

    :param called: such as "client".
    """

    def __init__(self, called: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.called = called


class Unavailable(str):
    """An empty text that stands for the beginning of a URL which there is not; with a path behind it, it is an error.

    :param reason: why, for the author of the template.
    """

    def __new__(cls, reason: str) -> "Unavailable":
        """See str."""
        made = super().__new__(cls)
        made.reason = reason
        return made

    reason: str


class _Undefined(StrictUndefined):
    """Says what is not there in the words of who writes templates."""

    @property
    def _undefined_message(self) -> str:
        table = self._undefined_obj
        if self._undefined_hint or not isinstance(table, dict):
            return str(super()._undefined_message)
        where = table.called if isinstance(table, Facts) else "the table"
        return f'{where} has no "{self._undefined_name}"; it has {", ".join(map(str, table)) or "nothing"}'


class _Budget(threading.local):
    """What is left for the rendering of this thread."""

    steps = STEPS

    def spend(self, steps: int = 1) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooMuchWork(f"the template takes more than {STEPS} steps")

    def spend_on(self, length: int) -> None:
        """A value of that length is about to be made."""
        if length > LARGEST:
            raise TooMuchWork(f"a value would be longer than {LARGEST}")
        self.spend(length // _LENGTH_OF_A_STEP)


class Sandbox(ImmutableSandboxedEnvironment):
    """Compiles and renders templates. Compiled ones are kept until their file changes.

    Safe to be used from several threads.

    :param loader: where templates come from by name.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))

    def __init__(self, loader: BaseLoader) -> None:
        super().__init__(
            loader=loader,
            undefined=_Undefined,
            autoescape=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            finalize=text,
        )
        self._budget = _Budget()
        own: dict[str, Callable[..., Any]] = {
            "_each": self._each,
            "_joined": self._joined,
            "_before_path": _before_path,
            "join": self._join,
            "replace": self._replace,
            "tojson": self._tojson,
        }
        self.filters = {name: self._counted(FILTERS[name]) for name in _FILTERS} | own
        self.globals = {"dict": dict, "range": self._range, "namespace": self.globals["namespace"]}

    def render(self, name: str, facts: Mapping[str, Any]) -> bytes:
        """The template *name* with these variables.

        :raise TemplateError: there is none, or it is wrong, or some variable is not there.
        """
        self._budget.steps = STEPS
        parts, length = [], 0
        for part in self.get_template(name).generate(facts):
            data = part.encode("utf-8", "surrogateescape")
            length += len(data)
            if length > LARGEST:
                raise TooMuchWork(f"the file would have more than {LARGEST} bytes")
            parts.append(data)
        return b"".join(parts)

    # What jinja2 asks.

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """As jinja2 does, with each loop's turns counted, and nothing put together that is not bounded."""
        template = super()._parse(source, name, filename)
        for loop in list(template.find_all(nodes.For)):
            loop.iter = _filtered(loop.iter, "_each")
        for concat in list(template.find_all(nodes.Concat)):
            # The node becomes a call of a filter; who holds it does not know its kind.
            parts = nodes.List(concat.nodes, lineno=concat.lineno)
            concat.nodes = [_filtered(parts, "_joined")]
        for output in list(template.find_all(nodes.Output)):
            for index, (part, behind) in enumerate(pairwise(output.nodes)):
                if isinstance(behind, nodes.TemplateData) and behind.data.startswith("/"):
                    output.nodes[index] = (
                        part if isinstance(part, nodes.TemplateData) else _filtered(part, "_before_path")
                    )
        return template

    def concat(self, parts: Iterable[str]) -> str:
        """What the body of a macro or of a block comes to."""
        kept = list(parts)
        self._budget.spend_on(sum(map(len, kept)))
        return "".join(kept)

    def call(self, context: Any, obj: Any, *arguments: Any, **named: Any) -> Any:
        """A template calls something."""
        self._budget.spend()
        return super().call(context, obj, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """One of the operators that can make much of little."""
        for operand in (left, right):
            if isinstance(operand, Undefined):
                str(operand)  # raises, and says which
        _check_url(left, right)
        self._check_growth(operator, left, right)
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """What of *obj* a template may see."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        for kind, names in _METHODS.items():
            if isinstance(obj, kind):
                return attr in names
        return True

    def wrap_str_format(self, value: Any) -> Any:
        """``"{:999999}".format`` and the like."""
        if isinstance(getattr(value, "__self__", None), str) and value.__name__ in ("format", "format_map"):
            raise SecurityError("texts are put together by ~ and join, not by format")
        return None

    def _check_growth(self, operator: str, left: Any, right: Any) -> None:
        if operator == "%":
            if isinstance(left, str):
                raise SecurityError("texts are put together by ~ and join, not by %")
        elif isinstance(left, list | tuple) or isinstance(right, list | tuple):
            # What is then done with its values is not counted everywhere, so they are counted here.
            self._budget.spend(_length(left, right))
        elif isinstance(left, str) or isinstance(right, str):
            self._budget.spend_on(_length(left, right))
        elif operator != "+" and isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > 128:
                raise TooMuchWork("a number would have more than 128 bits")

    # Filters and functions.

    def _counted(self, filter: Callable[..., Any]) -> Callable[..., Any]:
        """*filter*, which costs as much as it is given."""

        @functools.wraps(filter)  # also what jinja2 has noted of it: that it wants the environment, say
        def counted(*arguments: Any, **named: Any) -> Any:
            for argument in arguments:
                if isinstance(argument, list | tuple | dict | range):
                    self._budget.spend(len(argument))
                elif isinstance(argument, str):
                    self._budget.spend_on(len(argument))
            return filter(*arguments, **named)

        return counted

    def _each(self, values: Iterable[Any]) -> Iterator[Any]:
        for value in values:
            self._budget.spend()
            yield value

    def _range(self, *arguments: int) -> range:
        made = range(*arguments)
        if len(made) > STEPS:
            raise TooMuchWork(f"a range of {len(made)} numbers is longer than {STEPS}")
        return made

    def _join(self, values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
        """As jinja2's: the values as one text."""
        if attribute is not None:
            values = [self.getitem(value, attribute) for value in values]
        parts: list[Any] = []
        for value in self._each(values):
            if parts:
                parts.append(separator)
            parts.append(value)
        return self._joined(parts)

    def _joined(self, parts: Sequence[Any]) -> str:
        for left, right in pairwise(parts):
            _check_url(left, right)
        return self.concat([str(text(part)) for part in parts])

    def _replace(self, value: Any, old: str, new: str) -> str:
        """As jinja2's, for every occurrence."""
        whole = str(text(value))
        self._budget.spend_on(len(whole) + whole.count(old) * len(new))
        return whole.replace(old, new)

    def _tojson(self, value: Any) -> str:
        """JSON on one line, keys sorted."""
        if isinstance(value, Undefined):
            str(value)
        return self.concat(self._each(json.JSONEncoder(sort_keys=True, default=_as_json).iterencode(value)))


def text(value: Any) -> Any:
    """*value* as it stands in the file. What has no plain text there is a mistake, not "[1, 2]" or "None"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float | Undefined):
        return value
    if value is None:
        raise TemplateRuntimeError("there is nothing to print here: the value is null")
    kinds: dict[type, str] = {list: "a list", tuple: "a list", dict: "a table", Facts: "a table"}
    kind = kinds.get(type(value), f"a {type(value).__name__}")
    raise TemplateRuntimeError(f"{kind} can't be printed as it is; filters such as join and tojson make a text of it")


def _check_url(left: Any, right: Any) -> None:
    """Whether *right* may stand behind *left*."""
    if isinstance(left, Unavailable) and isinstance(right, str) and right.startswith("/"):
        raise TemplateRuntimeError(left.reason)


def _before_path(value: Any) -> Any:
    """*value*, behind which the template has a slash."""
    _check_url(value, "/")
    return value


def templates_in(directory: Any) -> BaseLoader:
    """Templates that are files below *directory*; those that change are read again."""
    return FileSystemLoader(directory, encoding="utf-8-sig")


def _as_json(value: Any) -> Any:
    if isinstance(value, Undefined):
        str(value)
    raise TemplateRuntimeError(f"a {type(value).__name__} can't be JSON")


def _filtered(node: Any, name: str) -> nodes.Filter:
    return nodes.Filter(node, name, [], [], None, None, lineno=node.lineno)


def _length(left: Any, right: Any) -> int:
    """Of what becomes of a text or list and another one (+), or a number (*)."""
    sizes = [len(operand) if isinstance(operand, str | list | tuple) else operand for operand in (left, right)]
    if not all(isinstance(size, int) for size in sizes):
        return 0  # Python will say what is wrong with it
    numbers = [operand for operand in (left, right) if isinstance(operand, int)]
    return int(sizes[0] * sizes[1] if numbers else sizes[0] + sizes[1])


__all__ = ["LARGEST", "STEPS", "Sandbox", "TemplateRuntimeError", "TemplateSyntaxError", "TooMuchWork", "templates_in"]
