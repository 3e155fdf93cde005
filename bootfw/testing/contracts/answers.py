"""Results that may be Deferreds."""

from collections.abc import Awaitable, Callable
from inspect import iscoroutine
from typing import Any, TypeVar, overload

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

_T = TypeVar("_T")


class Answers:
    """The part of a kit that waits for results."""

    def wait(self, deferred: "Deferred[Any]") -> None:
        """Called with a Deferred that has no result yet; returns when it has.

        Override it when the implementation needs time to pass or a reactor to run, for instance with
        ``network.run_until(lambda: deferred.called)``.
        """
        raise AssertionError("the answer has not come; override wait() to let time pass")

    @overload
    def answer(self, value: "Deferred[_T]") -> _T: ...

    @overload
    def answer(self, value: Awaitable[_T]) -> _T: ...

    @overload
    def answer(self, value: _T) -> _T: ...

    def answer(self, value: Any) -> Any:
        """Return the result of a Deferred or a coroutine, or raise its failure; return another value as it is."""
        if iscoroutine(value):
            value = Deferred.fromCoroutine(value)
        if not isinstance(value, Deferred):
            return value
        results: list[Any] = []
        value.addBoth(results.append)
        if not results:
            self.wait(value)
        assert results, "the answer has still not come after wait()"
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    def refusal(self, call: Callable[..., object], *arguments: object) -> BaseException | None:
        """Return what call(*arguments) raises, now or later; None: it raises nothing."""
        try:
            self.answer(call(*arguments))
        except Exception as error:
            return error
        return None
