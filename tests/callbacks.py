"""A reactor with callFromThread() only: calls from threads are made when the test waits for them."""

from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer


@implementer(IReactorFromThreads)
class CallbackReactor:
    def __init__(self) -> None:
        self.calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()
        self.turns = 0

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        self.calls.put((partial(callable, **kwargs), args))

    def turn(self) -> None:
        """Make the next call, waiting for it."""
        call, arguments = self.calls.get(timeout=30)
        self.turns += 1
        call(*arguments)

    def wait(self, deferred: Deferred[Any]) -> None:
        while not deferred.called:
            self.turn()
