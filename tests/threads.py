"""A reactor's threads that work when they are told to."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.python.failure import Failure


@define(eq=False)
class Threads:
    """As much of a reactor as deferToThreadPool() needs, and its pool."""

    jobs: list[tuple[Callable[..., None], Callable[[], Any]]] = field(factory=list)

    def getThreadPool(self) -> "Threads":
        return self

    def callInThreadWithCallback(self, done: Callable[..., None], call: Callable[..., Any], *arguments: Any) -> None:
        self.jobs.append((done, lambda: call(*arguments)))

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)

    def work(self) -> int:
        """Do all that is to be done, what comes of it too; how many jobs it was."""
        count = 0
        while self.jobs:
            done, call = self.jobs.pop(0)
            count += 1
            try:
                result, succeeded = call(), True
            except Exception:
                result, succeeded = Failure(), False
            done(succeeded, result)
        return count
