"""What the worker processes have recorded of a client's packets, for the record of a boot that failed."""

from collections.abc import Callable
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from bootfw.wire.pcapng import Datagram

WAIT = 2.0
"""Seconds that a worker has to answer. It has the packets in memory; the record of the boot waits for them."""


@define(eq=False)
class _Query:
    unanswered: int
    """The number of workers that have not answered."""
    result: "Deferred[list[Datagram]]"
    timeout: IDelayedCall
    packets: list[Datagram] = field(factory=list)


@define(eq=False)
class PacketQueries:
    """Queries that were sent to workers and are not answered by all of them.

    :param reactor: IReactorTime.
    """

    _reactor: Any
    _numbers: "count[int]" = field(factory=count, init=False)
    _pending: dict[int, _Query] = field(factory=dict, init=False)

    def query(self, workers: int, send: Callable[[int], None]) -> "Deferred[list[Datagram]]":
        """Query a number of workers.

        :param send: sends the query, with this number, to each of them.
        :return: fires with the packets of those that answer within WAIT seconds.
        """
        number = next(self._numbers)
        result: Deferred[list[Datagram]] = Deferred()
        # A process that ends meanwhile never answers. Then the timeout ends the query.
        timeout = self._reactor.callLater(WAIT, self._end, number)
        self._pending[number] = _Query(workers, result, timeout)
        if workers:
            send(number)
        else:
            self._end(number)
        return result

    def answer(self, number: int, packets: list[Datagram]) -> None:
        """Take a worker's answer; one that comes too late is dropped."""
        query = self._pending.get(number)
        if query is None:
            return
        query.packets += packets
        query.unanswered -= 1
        if not query.unanswered:
            self._end(number)

    def close(self) -> None:
        """End every query with the packets that have come so far."""
        for number in list(self._pending):
            self._end(number)

    def _end(self, number: int) -> None:
        query = self._pending.pop(number)
        if query.timeout.active():
            query.timeout.cancel()
        query.result.callback(query.packets)
