"""Checks TOML values against Python type annotations, and describes the expected types in the operator's words."""

import datetime
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union, get_args, get_origin

from bootfw.config.units import Seconds, Size
from bootfw.errors import ConfigError, nearest, shown

KeyPath = tuple[str | int, ...]
"""Keys and list positions, from the top of the document."""

_NOUNS: dict[type, tuple[str, str]] = {
    bool: ("true or false", "booleans"),
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a string", "strings"),
    list: ("a list", "lists"),
    dict: ("a table", "tables"),
    Size: ("a size", "sizes"),
    Seconds: ("a time", "times"),
    datetime.datetime: ("a date and time", "dates and times"),
    datetime.date: ("a date", "dates"),
    datetime.time: ("a time of day", "times of day"),
}
_LISTS = (list, tuple, set, frozenset, Sequence, Iterable)


def quoted(names: Iterable[str]) -> str:
    """``"single", "ephemeral"``: names as they stand in TOML."""
    return ", ".join(f'"{name}"' for name in names)


RENAMED: Mapping[str, str] = {
    "cache-octets": "cache-size",
    "leases": "store",
    "octets": "bytes",
    "unpack-octets": "unpack-size",
}
"""Old name of a key -> its new name. The values are the same."""


def unknown_keys(table: Mapping[str, Any], known: Sequence[str], path: KeyPath = ()) -> Iterator[ConfigError]:
    """Yield an error for each key of *table* that is not *known*."""
    for key in table:
        if RENAMED.get(key) in known:
            yield ConfigError(f'is called "{RENAMED[key]}" now', (*path, key))
        elif key not in known:
            listed = f"known: {', '.join(known)}" if known else "this table takes no keys"
            yield ConfigError(f"unknown key; {listed}{nearest(key, known)}", (*path, key))


def mismatches(value: Any, annotation: Any, path: KeyPath = ()) -> Iterator[ConfigError]:
    """Yield an error for each part of a parsed TOML *value* that does not match *annotation*.

    An annotation without a TOML type (Any, or a class of a plugin) matches everything.
    """
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        yield from _no_member(value, [member for member in arguments if member is not type(None)], path)
    elif origin is Literal:
        if value not in arguments:
            allowed = quoted(map(str, arguments))
            yield ConfigError(f"must be one of {allowed}, not {shown(value)}", path)
    elif origin in _LISTS and origin is not str:
        yield from _in_list(value, origin, arguments, path)
    elif origin in (dict, Mapping):
        if not isinstance(value, dict):
            yield _wrong(value, annotation, path)
        elif len(arguments) == 2:
            for key, item in value.items():
                yield from mismatches(item, arguments[1], (*path, key))
    elif origin in (Size, Seconds):
        try:
            origin.read(value)
        except ValueError as error:
            yield ConfigError(f"{error}, not {shown(value)}", path)
    elif (origin in (str, int, float, bool)) and not _fits(value, origin):
        yield _wrong(value, annotation, path)


def expected(annotation: Any) -> str:
    """Return *annotation* in the operator's words, such as "a list of strings"."""
    origin, arguments = get_origin(annotation) or annotation, get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(expected(member) for member in arguments if member is not type(None))
    if origin is Literal:
        return "one of " + quoted(map(str, arguments))
    if origin in _LISTS and origin is not str:
        items = {_plural(item) for item in arguments if item is not Ellipsis}
        return f"a list of {items.pop()}" if len(items) == 1 else "a list"
    if origin in (dict, Mapping):
        return f"a table of {_plural(arguments[1])}" if len(arguments) == 2 else "a table"
    return _NOUNS.get(origin, ("a value", "values"))[0]


def _fits(value: Any, kind: type) -> bool:
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _wrong(value: Any, annotation: Any, path: KeyPath) -> ConfigError:
    return ConfigError(f"must be {expected(annotation)}, not {shown(value)}", path)


def _no_member(value: Any, members: Sequence[Any], path: KeyPath) -> Iterator[ConfigError]:
    errors = [list(mismatches(value, member, path)) for member in members]
    if not all(errors):
        return
    # Report the member of the union that fits best: the one whose errors are not about the value as a whole.
    deeper = [found for found in errors if any(error.path != path for error in found)]
    if deeper:
        yield from deeper[0]
    else:
        yield ConfigError(f"must be {' or '.join(expected(member) for member in members)}, not {shown(value)}", path)


def _in_list(value: Any, origin: Any, arguments: Sequence[Any], path: KeyPath) -> Iterator[ConfigError]:
    if not isinstance(value, list):
        yield ConfigError(f"must be {expected(origin[*arguments] if arguments else origin)}, not {shown(value)}", path)
        return
    if origin is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            yield ConfigError(f"must be a list of {len(arguments)} values, not {len(value)}", path)
            return
        items: Iterable[Any] = arguments
    else:
        items = [arguments[0] if arguments else Any] * len(value)
    for index, (item, annotation) in enumerate(zip(value, items, strict=True)):
        yield from mismatches(item, annotation, (*path, index))


def _plural(annotation: Any) -> str:
    origin = get_origin(annotation) or annotation
    if origin in _LISTS and origin is not str:
        return "lists"
    if origin in (dict, Mapping):
        return "tables"
    if origin in (Union, types.UnionType):
        return " or ".join(_plural(member) for member in get_args(annotation) if member is not type(None))
    return _NOUNS.get(origin, ("", "values"))[1]
