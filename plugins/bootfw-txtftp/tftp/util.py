"""Helpers that python-tx-tftp offers to its users. The sessions here don't need timedCaller."""

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

__all__ = ["CANCELLED", "deferred", "timedCaller"]

CANCELLED = "CANCELLED"
"""The result of a timedCaller that was cancelled."""

_Item = TypeVar("_Item")


def timedCaller(
    timings: Iterable[float], call: Callable[[], object], last: Callable[[], object], clock: Any = None
) -> "Deferred[Any]":
    """Call *call* after each delay of *timings*, in seconds, and *last* after the final one.

    :param clock: an IReactorTime; None: the global reactor.
    :return: fires with what *last* returns, or with CANCELLED after its cancel().
    :raise ValueError: there are no timings.
    """
    if clock is None:
        from twisted.internet import reactor as clock
    delays = iterlast(timings)

    def wait(_: object = None) -> "Deferred[Any]":
        for is_last, delay in delays:
            if is_last:
                return deferLater(clock, delay, last)
            return deferLater(clock, delay, call).addCallback(wait)
        raise ValueError("No timings specified.")

    def cancelled(failure: Failure) -> str:
        failure.trap(CancelledError)
        return CANCELLED

    return wait().addErrback(cancelled)


def iterlast(iterable: Iterable[_Item]) -> Iterator[tuple[bool, _Item]]:
    """Yield (whether it is the last, item) for each item."""
    items = iter(iterable)
    try:
        item = next(items)
    except StopIteration:
        return
    for following in items:
        yield False, item
        item = following
    yield True, item


def deferred(func: Callable[..., Any]) -> "Callable[..., Deferred[Any]]":
    """Decorate a function: it returns a Deferred, also of what it raises."""

    @wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> "Deferred[Any]":
        return maybeDeferred(func, *args, **kwargs)

    return wrapper
