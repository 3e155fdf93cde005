"""Types of the fixtures that run a private reactor."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from twisted.internet.posixbase import PosixReactorBase

_T = TypeVar("_T")
_R = TypeVar("_R", bound=PosixReactorBase)

Result = Callable[[Any], Any]
"""Returns the result of a Deferred, or the value itself if it is none."""


def connections(reactor: PosixReactorBase) -> set[Any]:
    """Return what a reactor reads from and writes to, without what is its own."""
    return {*reactor.getReaders(), *reactor.getWriters()} - set(reactor._internalReaders)


class RunReactor(Protocol):
    """Starts a given reactor, and cleans up behind it."""

    def __call__(self, reactor: _R) -> AbstractContextManager[_R]: ...


class TurnUntil(Protocol):
    """Runs the reactor until *condition* holds."""

    def __call__(self, condition: Callable[[], object], seconds: float = 60) -> None: ...


class Alongside(Protocol):
    """Runs a function in a thread while the reactor runs; returns its result."""

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> _T: ...
