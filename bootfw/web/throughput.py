"""Counts bytes per second over the last minutes, from the reports of transfers that have ended."""

import math
from collections import deque
from collections.abc import Sequence

from bootfw.values import TransferReport

SECONDS = 300
"""Seconds that are counted, up to now."""


class Throughput:
    """One count of bytes for each of the last SECONDS seconds.

    A report has one sum of bytes, which is spread evenly over the time of its transfer. The report comes at the end, so
    the counts of past seconds still grow.
    """

    def __init__(self) -> None:
        self._bytes: deque[float] = deque([0.0] * SECONDS, SECONDS)
        self._latest = 0
        """The second of the last count, on the reactor's clock."""

    def add(self, report: TransferReport) -> None:
        """Count a transfer that has ended. Its part from before the last SECONDS seconds is left out."""
        self._advance_to(report.ended)
        first, last = math.floor(report.began), math.floor(report.ended)
        if first >= last:
            self._count(last, report.bytes_transferred)
            return
        took = report.ended - report.began
        for second in range(max(first, self._latest - SECONDS), last + 1):
            within = min(report.ended, second + 1) - max(report.began, second)
            self._count(second, report.bytes_transferred * within / took)

    def rates(self, now: float) -> Sequence[int]:
        """Return the bytes in each of the last SECONDS whole seconds, the oldest first."""
        self._advance_to(now)
        return [round(count) for count in self._bytes]

    def _advance_to(self, now: float) -> None:
        second = math.floor(now)
        if second > self._latest:
            self._bytes.extend([0.0] * min(SECONDS, second - self._latest))
            self._latest = second

    def _count(self, second: int, count: float) -> None:
        index = second - self._latest + SECONDS - 1
        if 0 <= index < SECONDS:
            self._bytes[index] += count
