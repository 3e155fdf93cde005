"""A thread pool without threads: its jobs run when the test calls work()."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.python.failure import Failure


@define(eq=False)
class Threads:
    """The methods of a reactor that deferToThreadPool() needs, and those of its pool."""

    jobs: list[tuple[Callable[..., None], Callable[[], Any]]] = field(factory=list)

    def getThreadPool(self) -> "Threads":
        return self

    def callInThreadWithCallback(
        self, on_result: Callable[..., None], call: Callable[..., Any], *arguments: Any
    ) -> None:
        self.jobs.append((on_result, lambda: call(*arguments)))

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)

    def work(self) -> int:
        """Run all jobs, and those that they lead to; how many there were."""
        count = 0
        while self.jobs:
            on_result, call = self.jobs.pop(0)
            count += 1
            try:
                result, succeeded = call(), True
            except Exception:
                result, succeeded = Failure(), False
            on_result(succeeded, result)
        return count
