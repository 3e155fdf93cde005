"""Runs simulated machines on real sockets: one process, one loop, no thread."""

import heapq
import select
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from attrs import define, frozen

from bootfw.errors import WireError
from bootfw.storm.link import Link, LinkQuality
from bootfw.storm.machine import (
    Abandon,
    Broadcast,
    Datagram,
    Download,
    Input,
    SimulatedMachine,
    Stage,
    State,
    ToBootServer,
    UseAddress,
)
from bootfw.storm.sockets import Connection, DatagramSocket, FrameSocket, LocalAddresses, open_ports
from bootfw.wire import dhcp4, tftp
from bootfw.wire.dhcp4 import MessageType

_KINDS = {MessageType.OFFER: Input.OFFER, MessageType.ACK: Input.ACK, MessageType.NAK: Input.NAK}
_DATA = b"\0\3"

PROGRESS_SECONDS = 0.25
"""Seconds between two reports of progress."""


@frozen
class Outcome:
    """The result of one machine."""

    number: int
    boot: str
    began: float
    """Seconds since the storm began, as all times here."""
    ended: float | None
    """None: it was still booting when the storm ended."""
    failure: str
    """Why it failed; "": it has not."""
    stages: tuple[Stage, ...]
    state: str
    """Of the machine at the end."""

    @property
    def booted(self) -> bool:
        """Whether it has loaded everything."""
        return self.state == State.BOOTED.value


@frozen
class Effort:
    """The load of the simulator itself, which shows whether it was the limit."""

    processor_share: float
    """Of one processor, in its busiest second."""
    lag: float
    """Seconds of delay of the slowest 1 % of the timers, at least."""
    dropped: int
    """Packets that came faster than it received them."""

    @property
    def limited(self) -> bool:
        """Whether the simulator was the limit, so that the figures do not measure the server."""
        return self.processor_share > 0.95 or self.lag > 0.1 or self.dropped > 0


@frozen
class Progress:
    """The number of machines in each stage."""

    waiting: int
    """Not yet switched on."""
    stages: tuple[tuple[str, int], ...]
    """(name, machines that are in it)."""
    booted: int
    failed: int


@define(eq=False)
class _Slot:
    """A machine, and what the driver keeps for it."""

    number: int
    machine: SimulatedMachine
    link: Link
    arrival: float
    due: float | None = None
    """Time of its valid entry in the queue; None: there is none. Its entries with other times have no effect: they stay
    in the queue, since a heap can't remove them."""
    ended: float | None = None
    connection: Connection | None = None
    connection_number: int = 0
    """Counts its connections: a result that was scheduled for an earlier one is ignored."""


class _CheckAllowed(Protocol):
    def __call__(self, address: str) -> None:
        """Check that packets may go to *address*.

        :raise StormError: they may not.
        """


class Driver:
    """Boots machines, each when its time has come.

    :param machines: (number, machine, when it is switched on in seconds from the start), by time.
    :param interface: where DHCP messages are broadcast; "": no boot needs DHCP.
    :param check_allowed: called with the address of each server before something is sent to it.
    :param quality: of each machine's link, for DHCP and TFTP. The lab loses TCP segments itself, since the kernel's TCP
        sends them.
    """

    def __init__(
        self,
        machines: Iterable[tuple[int, SimulatedMachine, float]],
        interface: str,
        check_allowed: _CheckAllowed,
        quality: LinkQuality,
        seed: int,
    ) -> None:
        self._slots = [
            _Slot(number, machine, Link(quality, seed * 1_000_003 + number), arrival)
            for number, machine, arrival in machines
        ]
        self._perfect = quality.perfect
        self._check_allowed = check_allowed
        self._allowed: set[str] = set()
        self._by_mac = {slot.machine.identity.mac: slot for slot in self._slots}
        self._by_address: dict[str, _Slot] = {
            slot.machine.address: slot for slot in self._slots if slot.machine.address
        }
        self._addresses = LocalAddresses()
        for address in self._by_address:
            self._addresses.add(address)
        self._frames = FrameSocket(interface) if interface else None
        self._ports = open_ports()
        self._timers: list[tuple[float, int, Callable[[], None] | None, _Slot | None]] = []
        self._sequence = 0
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[int], None]] = {}
        for port_number, port in enumerate(self._ports):
            self._watch(port.fileno(), select.EPOLLIN, self._reader(port_number, port))
        if self._frames is not None:
            self._watch(self._frames.fileno(), select.EPOLLIN, self._read_frames)
        self._unsent: set[DatagramSocket] = set()
        """Sockets with datagrams in their queue: run() sends them together, at the end of each turn."""
        self._ended_count = 0
        self._waiting = len(self._slots)
        self._lags: list[float] = []
        self._start = 0.0

    def run(
        self, seconds: float, progress: Callable[[Progress], None] = lambda progress: None
    ) -> tuple[list[Outcome], Effort]:
        """Boot every machine. Return when all have booted or failed, or *seconds* after the last one was switched on.

        :param progress: called every PROGRESS_SECONDS.
        """
        self._start = time.monotonic()
        for slot in self._slots:
            self._at(self._start + slot.arrival, None, slot)
        end = self._start + max((slot.arrival for slot in self._slots), default=0.0) + seconds
        next_progress = next_second = self._start
        spent, busiest = time.process_time(), 0.0
        while self._ended_count < len(self._slots):
            now = time.monotonic()
            if now >= end:
                break
            if now >= next_progress:
                next_progress = now + PROGRESS_SECONDS
                progress(self.progress())
            if now >= next_second + 1:
                used = time.process_time()
                busiest = max(busiest, (used - spent) / (now - next_second))
                next_second, spent = now, used
            wait = min(self._timers[0][0] if self._timers else end, next_progress, end) - now
            for descriptor, events in self._epoll.poll(max(wait, 0)):
                reader = self._readers.get(descriptor)
                if reader is not None:
                    reader(events)
            self._run_timers()
            for port in self._unsent:
                port.flush()
            self._unsent.clear()
        progress(self.progress())
        return self._outcomes(), self._effort(busiest)

    def close(self) -> None:
        """Close every socket."""
        for slot in self._slots:
            if slot.connection is not None:
                slot.connection.close()
        for port in self._ports:
            port.close()
        if self._frames is not None:
            self._frames.close()
        self._addresses.close()
        self._epoll.close()

    def progress(self) -> Progress:
        """Return the number of machines in each stage now."""
        counts: dict[str, int] = {}
        booted = failed = 0
        for slot in self._slots:
            machine = slot.machine
            if machine.state is State.BOOTED:
                booted += 1
            elif machine.state is State.FAILED:
                failed += 1
            elif machine.stages:
                counts[machine.stages[-1].name] = counts.get(machine.stages[-1].name, 0) + 1
        return Progress(self._waiting, tuple(counts.items()), booted, failed)

    # Timers

    def _at(self, when: float, call: Callable[[], None] | None, slot: _Slot | None) -> None:
        # Entries of the same time are compared by this number, since functions and slots can't be.
        self._sequence += 1
        heapq.heappush(self._timers, (when, self._sequence, call, slot))

    def _run_timers(self) -> None:
        timers = self._timers
        now = time.monotonic()
        while timers and timers[0][0] <= now:
            due, _, call, slot = heapq.heappop(timers)
            if call is not None:
                call()
            elif slot is not None:
                self._run_timer(slot, due, now)

    def _run_timer(self, slot: _Slot, due: float, now: float) -> None:
        machine = slot.machine
        if machine.state is State.OFF:
            self._waiting -= 1
            self._lags.append(now - due)
            self._handle(slot, Input.POWER_ON)
            return
        if slot.due != due or machine.deadline is None:
            return
        slot.due = None
        # Most packets move the deadline. The entry stays where it is, and a later one is queued when it is due.
        if machine.deadline > now:
            self._schedule(slot)
            return
        self._lags.append(now - machine.deadline)
        self._handle(slot, Input.TIMER)

    def _schedule(self, slot: _Slot) -> None:
        """Queue the machine's deadline, unless an earlier entry is queued, which will queue it again."""
        deadline = slot.machine.deadline
        if deadline is not None and (slot.due is None or deadline < slot.due):
            slot.due = deadline
            self._at(deadline, None, slot)

    # Machines

    def _handle(self, slot: _Slot, event: Input, argument: Any = None) -> None:
        machine = slot.machine
        machine.handle(event, argument, time.monotonic())
        while machine.out:
            self._do(slot, machine.out.pop(0))
        if machine.over:
            if slot.ended is None:
                slot.ended = time.monotonic()
                self._ended_count += 1
        else:
            self._schedule(slot)

    def _do(self, slot: _Slot, out: Any) -> None:
        if type(out) is Datagram:
            self._check(out.peer[0])
            self._over_link(slot, lambda: self._send_datagram(slot, out))
        elif type(out) is Broadcast:
            assert self._frames is not None
            frames = self._frames
            self._over_link(slot, lambda: frames.broadcast(slot.machine.identity.mac, out.data))
        elif type(out) is ToBootServer:
            assert self._frames is not None
            self._check(out.server)
            frames, source = self._frames, (slot.machine.address, out.port)
            self._over_link(slot, lambda: frames.send(slot.machine.identity.mac, source, (out.server, 4011), out.data))
        elif type(out) is UseAddress:
            self._addresses.add(out.address)
            self._by_address[out.address] = slot
        elif type(out) is Download:
            self._download(slot, out)
        elif type(out) is Abandon and slot.connection is not None:
            self._close_connection(slot)

    def _check(self, address: str) -> None:
        if address not in self._allowed:
            self._check_allowed(address)
            self._allowed.add(address)

    def _over_link(self, slot: _Slot, deliver: Callable[[], None]) -> None:
        """Send a packet over the machine's link, which may lose, delay or duplicate it."""
        if self._perfect:
            deliver()
            return
        for delay in slot.link.delays():
            if delay:
                self._at(time.monotonic() + delay, deliver, None)
            else:
                deliver()

    def _send_datagram(self, slot: _Slot, out: Datagram) -> None:
        port = self._ports[out.port]
        port.send(slot.machine.address, out.peer, out.data)
        self._unsent.add(port)

    # What servers send

    def _read_frames(self, events: int) -> None:
        assert self._frames is not None
        for frame in self._frames.receive():
            try:
                message = dhcp4.parse(frame.data)
            except WireError:
                continue
            slot = self._by_mac.get(message.chaddr)
            if slot is None or message.op != dhcp4.BOOTREPLY:
                continue
            event = _KINDS.get(message.message_type) if message.message_type is not None else None
            if slot.machine.state is State.BOOT_SERVER and frame.from_port == 4011:
                event = Input.BOOT_REPLY
            if event is not None:
                self._over_link(slot, partial(self._reply, slot, event, message))

    def _reply(self, slot: _Slot, event: Input, message: dhcp4.Message) -> None:
        if message.xid == slot.machine.xid:
            self._handle(slot, event, message)

    def _reader(self, number: int, port: DatagramSocket) -> Callable[[int], None]:
        by_address = self._by_address

        def read(events: int) -> None:
            for address, peer, data in port.receive():
                slot = by_address.get(address)
                if slot is None:
                    continue
                if self._perfect:
                    self._datagram(slot, number, peer, data)
                else:
                    self._over_link(slot, partial(self._datagram, slot, number, peer, data))

        return read

    def _datagram(self, slot: _Slot, port: int, peer: tuple[str, int], data: bytes) -> None:
        machine = slot.machine
        if machine.port != port or machine.over:
            return
        if data[:2] == _DATA and len(data) >= 4:
            self._handle(slot, Input.DATA, (peer, data[2] << 8 | data[3], len(data) - 4))
            return
        try:
            packet = tftp.parse(data)
        except WireError:
            return
        if isinstance(packet, tftp.OptionAck):
            self._handle(slot, Input.OACK, (peer, packet))
        elif isinstance(packet, tftp.Error):
            self._handle(slot, Input.ERROR, (peer, packet.code))

    # HTTP

    def _download(self, slot: _Slot, out: Download) -> None:
        connection_number = slot.connection_number = slot.connection_number + 1

        def ended(result: tuple[int, int] | str) -> None:
            # In the next turn: the machine may begin another download, and this one is still on the stack.
            self._at(time.monotonic(), lambda: self._downloaded(slot, connection_number, result), None)

        connection = Connection(
            slot.machine.address,
            out.method,
            out.url,
            out.user_agent,
            lambda size: self._handle(slot, Input.PROGRESS, size),
            ended,
            self._check,
        )
        slot.connection = connection
        connection.open()
        descriptor = connection.sock.fileno()
        if descriptor < 0:  # open() has failed, and has closed it
            return

        def ready(events: int) -> None:
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR) and connection.sent:
                connection.read()
            elif connection.write():
                self._epoll.modify(descriptor, select.EPOLLIN)
            # epoll drops a descriptor that is closed. The next socket may get the same number.
            if connection.sock.fileno() < 0:
                self._readers.pop(descriptor, None)

        self._watch(descriptor, select.EPOLLOUT, ready)

    def _downloaded(self, slot: _Slot, connection_number: int, result: tuple[int, int] | str) -> None:
        if connection_number != slot.connection_number or slot.machine.over:
            return
        slot.connection = None
        if isinstance(result, str):
            self._handle(slot, Input.DISCONNECTED, result)
        else:
            self._handle(slot, Input.DOWNLOADED, result)

    def _close_connection(self, slot: _Slot) -> None:
        connection, slot.connection = slot.connection, None
        slot.connection_number += 1
        if connection is not None:
            self._readers.pop(connection.sock.fileno(), None)
            connection.close()

    def _watch(self, descriptor: int, events: int, reader: Callable[[int], None]) -> None:
        self._readers[descriptor] = reader
        self._epoll.register(descriptor, events)

    # Results

    def _outcomes(self) -> list[Outcome]:
        return [
            Outcome(
                slot.number,
                slot.machine.boot.name,
                slot.arrival,
                None if slot.ended is None else slot.ended - self._start,
                slot.machine.failure,
                tuple(self._since_start(slot.machine.stages)),
                slot.machine.state.value,
            )
            for slot in self._slots
        ]

    def _since_start(self, stages: Sequence[Stage]) -> Iterable[Stage]:
        for stage in stages:
            ended = None if stage.ended is None else stage.ended - self._start
            yield Stage(stage.name, stage.began - self._start, ended, stage.retries, stage.bytes)

    def _effort(self, busiest: float) -> Effort:
        lags = sorted(self._lags)
        late = lags[int(len(lags) * 0.99)] if lags else 0.0
        dropped = sum(port.dropped() for port in self._ports)
        if self._frames is not None:
            dropped += self._frames.dropped()
        return Effort(busiest, late, dropped)
