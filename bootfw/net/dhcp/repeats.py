"""Repeats a reply, for a client that opens its port only after it has sent the request."""

from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define

from bootfw.net.alarm import Alarm
from bootfw.values import Address, Via

DELAYS = (0.1, 0.9)
"""Seconds from the reply to its first repeat, and from there to the second. EDK2 listens for 3 s."""


@define(eq=False)
class _Reply:
    """A reply that was sent and is to be repeated."""

    data: bytes
    to: Address
    via: Via | None
    delays: deque[float]
    """Seconds to each repeat that is left, after the next one."""
    deadline: float | None
    """When it is repeated next, see Alarm."""


class Repeats:
    """Sends replies again after ``DELAYS``.

    EDK2 sends its request to port 4011 by IPv6 once, and opens that port for the reply only afterwards
    (PxeBcRequestBootService() in UefiPxeBcDxe/PxeBcDhcp6.c). A reply that comes sooner is lost: the firmware answers it
    by ICMP "port unreachable", waits for 3 s and gives up. A client that has the reply already drops the repeats.

    :param clock: an IReactorTime.
    :param send: called with data, destination and Via, as ``DHCPPort.send`` is.
    """

    def __init__(self, clock: Any, send: Callable[[bytes, Address, Via | None], None]) -> None:
        self._clock = clock
        self._send = send
        self._alarm: Alarm[_Reply] = Alarm(clock, self._repeat)

    def add(self, data: bytes, to: Address, via: Via | None, times: int) -> None:
        """Repeat a reply that has just been sent, at most *times* times."""
        delays = deque(DELAYS[: max(0, times)])
        if delays:
            self._alarm.watch(_Reply(data, to, via, delays, self._clock.seconds() + delays.popleft()))

    def stop(self) -> None:
        """Cancel the timer."""
        self._alarm.stop()

    def _repeat(self, reply: _Reply, now: float) -> float | None:
        self._send(reply.data, reply.to, reply.via)
        reply.deadline = now + reply.delays.popleft() if reply.delays else None
        return reply.deadline
