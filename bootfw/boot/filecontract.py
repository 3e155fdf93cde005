"""Verifies the result of a backend: is it a reader or a writer? The interfaces are verified once for each class."""

from contextlib import suppress
from functools import lru_cache
from typing import Any

from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from bootfw.ability import abilities_of
from bootfw.interfaces import IReader, IWriter

_READER = ("read", "close")
_WRITER = ("write", "finish", "cancel")


def contract_violation(answer: Any, write: bool, verified: set[type]) -> str:
    """Return what is wrong with *answer* and what would be right, or "" if it can be used.

    An answer that can't be used is closed.

    :param write: true: it has to be a writer, false: a reader.
    :param verified: classes whose interfaces have been verified; that of *answer* is added.
    """
    methods = _WRITER if write else _READER
    kind: Any = type(answer)
    if not _has_methods(kind, methods):
        # The instance may have methods that its class lacks, as a proxy object does.
        missing = [name for name in methods if not callable(getattr(answer, name, None))]
        if missing:
            return _wrong_type(answer, write, missing)
    if kind not in verified:
        wrong = _broken_interfaces(answer, IWriter if write else IReader)
        if wrong:
            return _closed(answer, wrong)
        verified.add(kind)
    if write:
        return ""
    try:
        size = answer.size
    except AttributeError:
        return _closed(answer, f"{_described(answer)} has no size; without a known one it has to be None")
    if size is None or (isinstance(size, int) and size >= 0):
        return ""
    size_text = f"{size}" if isinstance(size, int | float) else f"of type {type(size).__name__}"
    return _closed(answer, f"the size of {_described(answer)} is {size_text}; it has to be a number of bytes, or None")


def _broken_interfaces(answer: Any, basic: Any) -> str:
    """Return why *answer* breaks an optional interface that it declares, such as IFileReader; "": it does not."""
    for interface in abilities_of(answer):
        if interface is not basic and interface.isOrExtends(basic):
            try:
                verifyObject(interface, answer)
            except Invalid as error:
                missing = [name for name in sorted(interface.names(all=True)) if not hasattr(answer, name)]
                reason = f"it has no {' and no '.join(missing)}" if missing else " ".join(str(error).split())
                return f"{_described(answer)} does not implement {interface.__name__}: {reason}"
    return ""


def _closed(answer: Any, text: str) -> str:
    """Close *answer*, which can't be used, and return *text*."""
    with suppress(Exception):
        answer.close()
    return text


@lru_cache(1024)
def _has_methods(kind: Any, methods: tuple[str, ...]) -> bool:
    return all(callable(getattr(kind, name, None)) for name in methods)


def _wrong_type(answer: Any, write: bool, missing: list[str]) -> str:
    if answer is None:
        return "it returned None; if there is no such file it has to raise FileMissing()"
    if isinstance(answer, bytes | bytearray | memoryview):
        return f'it returned {type(answer).__name__}, not a reader such as MemoryReader(b"...")'
    if isinstance(answer, str):
        return 'it returned str, not a reader such as MemoryReader("...".encode())'
    kind = "writer" if write else "reader"
    lacks = " and no ".join(missing)
    return f"it returned {_described(answer)}, which has no {lacks}(), so it is not a {kind} (I{kind.title()})"


def _described(answer: Any) -> str:
    kind = type(answer)
    return f"a {kind.__module__}.{kind.__qualname__}" if kind.__module__ != "builtins" else f"a {kind.__qualname__}"
