"""Types of the fixtures that run a reactor of the test's own."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

from twisted.internet.epollreactor import EPollReactor

_T = TypeVar("_T")

Result = Callable[[Any], Any]
"""Gives the result of a Deferred, or the value itself when it is no Deferred."""

RunReactor = Callable[[EPollReactor], AbstractContextManager[EPollReactor]]


class TurnUntil(Protocol):
    """Runs the reactor until *condition* holds."""

    def __call__(self, condition: Callable[[], object], seconds: float = 5) -> None: ...


class Alongside(Protocol):
    """Runs a function in a thread while the reactor runs, and gives what it returns."""

    def __call__(self, function: Callable[..., _T], *arguments: Any) -> _T: ...
