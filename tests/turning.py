"""Types of the fixtures that run a reactor of the test's own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from twisted.internet.posixbase import PosixReactorBase

_T = TypeVar("_T")
_R = TypeVar("_R", bound=PosixReactorBase)

Result = Callable[[Any], Any]
"""Gives the result of a Deferred, or the value itself when it is no Deferred."""


class RunReactor(Protocol):
    """Starts a given reactor, and cleans up behind it."""

    def __call__(self, reactor: _R) -> AbstractContextManager[_R]: ...


class TurnUntil(Protocol):
    """Runs the reactor until *condition* holds."""

    def __call__(self, condition: Callable[[], object], seconds: float = 30) -> None: ...


class Alongside(Protocol):
    """Runs a function in a thread while the reactor runs, and gives what it returns."""

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> _T: ...
