"""Calls a function that may block in a thread of the reactor."""

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

_Result = TypeVar("_Result")


def in_thread(reactor: Any, function: Callable[[], _Result]) -> "Deferred[_Result]":
    """Call *function* in a thread of the reactor, or directly if the reactor has no threads."""
    if not IReactorFromThreads.providedBy(reactor) or not hasattr(reactor, "callInThread"):
        return maybeDeferred(function)
    answer: Deferred[Any] = Deferred()

    def run() -> None:
        result: Any
        try:
            result = function()
        except Exception:
            result = Failure()
        reactor.callFromThread(answer.callback, result)

    reactor.callInThread(run)
    return answer
