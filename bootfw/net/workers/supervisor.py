"""The processes that serve files beside the one that decides: started, watched, replaced.

The sockets stay open here, so what is sent to a worker that has died waits in the kernel for the one that follows: no
flow changes its socket. All of a port's sockets share it by SO_REUSEPORT, so the kernel spreads clients over them.
"""

import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import ProcessDone
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.events import Event, SecondStageFound, TransferBegun, TransferEnded, TransferRefused, WorkerLost
from bootfw.net.listening import OwnSockets
from bootfw.net.reachability import check_address
from bootfw.net.tftp.handover import AdoptedTransfer
from bootfw.net.workers.channel import Channel, packed
from bootfw.net.workers.interim import InterimServer, Serve
from bootfw.net.workers.sharedport import SharedPort, open_shared
from bootfw.values import Address, Client

OnMessage = Callable[[str, tuple[Any, ...]], bool]
"""Takes (kind, values) of a message. False: it is of no known kind."""

MAX_DEFAULT_WORKERS = 4
"""Workers that are started where nobody says how many."""

TERMINAL_SIGNALS = signal.SIGINT, signal.SIGHUP
"""What a terminal sends to all its processes is for the main process, which ends its workers itself."""

_TO, _FROM = 3, 4
"""Descriptors in the worker: of the pipe that it reads, and of the one that it writes."""
_FIRST_SOCKET = 5

_SOON = 10.0
"""Seconds: a worker that ends sooner than that is replaced after a while, and each time after a longer one."""
_LONGEST_WAIT = 30.0

_DRAINED_AFTER, _HANDED_OVER_WITHIN = 5.0, 60.0
"""Seconds: what can't be handed over to a worker that is ready is waited for. From the first on new requests are
ignored, and at the second the worker gets its sockets whatever is under way."""
_LOOKED_AT_AGAIN = 0.02

_PATIENCE = 5.0
"""Seconds that workers have to end by themselves."""


def default_worker_count() -> int:
    """One for each processor that we may use, up to MAX_DEFAULT_WORKERS."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_WORKERS)


@define(eq=False)
class _Worker(ProcessProtocol):
    """One of the processes, and its successors."""

    workers: "Workers"
    number: int
    channel: Channel = field(init=False)
    process: Any = None
    """None: there is none now."""
    interim: InterimServer | None = None
    """Serves its sockets while the first process starts; None: it does so itself."""
    begun: bool = False
    """The process has been given its sockets."""
    transfers: dict[Address, TransferBegun] = field(factory=dict)
    """What it has begun and not ended."""
    positions: dict[Address, int] = field(factory=dict)
    """How far the long ones of these are, as it has told lately."""
    began: float = 0.0
    failures: int = 0
    """How often in a row it has ended soon after its start."""
    again: IDelayedCall | None = None
    ended: "Deferred[None] | None" = None
    _line: bytes = b""

    def connectionMade(self) -> None:
        """See ProcessProtocol."""
        self.channel = Channel(self._received)
        self.channel.makeConnection(_Pipe(self.transport))  # type: ignore[no-untyped-call]

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """See ProcessProtocol."""
        if childFD == _FROM:
            self.channel.dataReceived(data)  # type: ignore[no-untyped-call]
            return
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self.workers.log.warn("worker {number}: {line}", number=self.number, line=line.decode(errors="replace"))

    def processEnded(self, reason: Failure) -> None:
        """See ProcessProtocol."""
        self.process = None
        self.workers.has_ended(self, reason)

    def _received(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "events":
            self.happened(*values)
        elif kind == "prepared":
            self.workers.is_prepared(self)
        elif kind == "positions":
            self.positions = dict(*values)
        else:
            self.workers.on_message(self, kind, values)

    def happened(self, events: Sequence[Event]) -> None:
        """In the process, or in what stands in for it."""
        transfers = self.transfers
        for event in events:
            if type(event) is TransferEnded:
                transfers.pop(event.report.request.peer, None)
            elif type(event) is TransferBegun:
                transfers[event.request.peer] = event
            elif type(event) is TransferRefused:
                transfers.pop(event.request.peer, None)
            self.workers.publish(with_lookup(event, self.workers.lookup))


@define(eq=False)
class _Pipe:
    """What a Channel writes to: a descriptor of a process."""

    _transport: Any

    def write(self, data: bytes) -> None:
        self._transport.writeToChild(_TO, data)

    def loseConnection(self) -> None:
        self._transport.closeChildFD(_TO)


@define(eq=False, slots=False)
class Workers(Service):
    """A number of processes that serve the files of one server; the SocketSource of its BootService.

    :param reactor: IReactorProcess and IReactorTime.
    :param count: how many.
    :param module: what each runs, as by ``python -m``.
    :param configuration: sent to that program, which makes its service of it. It is pickled.
    """

    _reactor: Any
    count: int
    _module: str
    _configuration: object
    follow_interfaces: bool = field(default=True, init=False)
    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    publish: Callable[[Event], None] = field(init=False)
    lookup: Callable[[Address], Client] = field(init=False)
    _on_message: OnMessage = field(init=False)
    _memory: Callable[[], list[tuple[str, tuple[Any, ...]]]] = field(init=False)
    _serve: Serve = field(init=False)
    _workers: list[_Worker] = field(factory=list, init=False)
    _ports: list[SharedPort] = field(factory=list, init=False)
    _interim_servers: list[InterimServer] = field(factory=list, init=False)
    """Those that have left, too: they may have transfers on ports of their own."""
    _stopping: bool = field(default=False, init=False)

    def join(
        self,
        on_message: OnMessage,
        *,
        publish: Callable[[Event], None],
        lookup: Callable[[Address], Client],
        memory: Callable[[], list[tuple[str, tuple[Any, ...]]]],
        serve: Serve,
    ) -> None:
        """Have them work for a BootService; see its add_workers().

        :param on_message: called with (kind, values) of what a worker sends; the other workers get it too, if it
            returns True.
        :param publish: takes the events that happen in the workers, and to them.
        :param lookup: finds the client of an address, for the requests in these events.
        :param memory: gives the messages from which a new worker learns what the others know.
        :param serve: serves a socket in this process, while its worker starts.
        """
        self._on_message, self.publish, self.lookup = on_message, publish, lookup
        self._memory, self._serve = memory, serve

    # Ports

    def listen(self, service: str, address: tuple[str, int], protocol: Any, device: str, certificate: Any) -> Any:
        """See SocketSource. The ports of files are shared by the workers, the others are this process's own."""
        if service not in ("tftp", "http", "https"):
            return OwnSockets(self._reactor).listen(service, address, protocol, device, certificate)
        check_address(self._reactor, address)
        opened = open_shared(service, *address, self.count, device)
        self._ports.append(opened)
        return opened

    # Processes

    def startService(self) -> None:
        """Start them all. Until they are ready their sockets are served here."""
        self._stopping = False
        self._workers = [_Worker(self, number) for number in range(self.count)]
        for worker in self._workers:
            worker.interim = self._start_interim(worker)
            self._start(worker)

    def _start_interim(self, worker: _Worker) -> InterimServer:
        def publish(event: Event) -> None:
            worker.happened((without_lookup(event),))

        serving = [self._serve(p.service, p.configured, p.sockets[worker.number].dup(), publish) for p in self._ports]
        self._interim_servers.append(interim := InterimServer(serving))
        return interim

    def stopService(self) -> "Deferred[Any]":
        """Have them end their transfers and then themselves.

        :return: fires when there is none any more, and the events that they had are published.
        """
        self._stopping = True
        workers, self._workers = self._workers, []
        interim_servers, self._interim_servers = self._interim_servers, []
        self._ports.clear()
        return DeferredList([*map(self._end, workers), *(interim.close() for interim in interim_servers)])

    def broadcast(self, kind: str, *values: Any) -> None:
        """Send a message to all of them."""
        self._pass_on(kind, values, None)

    def on_message(self, worker: _Worker, kind: str, values: tuple[Any, ...]) -> None:
        """Take a message of one of them, and pass it on to the others."""
        if self._on_message(kind, values):
            self._pass_on(kind, values, worker)

    def _pass_on(self, kind: str, values: tuple[Any, ...], sender: _Worker | None) -> None:
        others = [worker for worker in self._workers if worker.process is not None and worker is not sender]
        if others:
            message = packed(kind, *values)
            for worker in others:
                worker.channel.send_packed(message)

    def _start(self, worker: _Worker) -> None:
        worker.again, worker.begun = None, False
        worker.began = self._reactor.seconds()
        sockets = [port.sockets[worker.number] for port in self._ports]
        descriptors: dict[int, Any] = {1: "r", 2: "r", _TO: "w", _FROM: "r"}
        descriptors |= {_FIRST_SOCKET + n: sock.fileno() for n, sock in enumerate(sockets)}
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Blocked from its first instruction on, until it ignores them itself.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        try:
            worker.process = self._reactor.spawnProcess(
                worker, sys.executable, [sys.executable, "-m", self._module], env=environment, childFDs=descriptors
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        worker.channel.send("prepare", self._configuration, self.count)

    def is_prepared(self, worker: _Worker) -> None:
        """It can serve from now on: give it its sockets, as soon as what stands in for it can leave."""
        worker.again = None
        if self._stopping:
            return
        if worker.interim is not None:
            waited = self._reactor.seconds() - worker.began
            if worker.interim.busy and waited < _HANDED_OVER_WITHIN:
                if waited > _DRAINED_AFTER:
                    worker.interim.drain()
                worker.again = self._reactor.callLater(_LOOKED_AT_AGAIN, self.is_prepared, worker)
                return
            handed = dict(worker.interim.hand_over())
            worker.positions = {peer: handover.position.acked for peer, handover in handed.items()}
            worker.transfers = {peer: worker.transfers[peer] for peer in handed if peer in worker.transfers}
            worker.interim = None
        else:
            handed = {}
        worker.begun = True
        listening = [(p.service, p.configured, p.device, _FIRST_SOCKET + n) for n, p in enumerate(self._ports)]
        # What another process has begun: what was handed over goes on at once, the others when their clients are heard.
        position = worker.positions.get
        adopted = [
            AdoptedTransfer(begun, position(peer, 0), handed.get(peer)) for peer, begun in worker.transfers.items()
        ]
        worker.channel.send("begin", listening, self._memory(), adopted)

    def has_ended(self, worker: _Worker, reason: Failure) -> None:
        """A process is gone: its successor takes over."""
        if worker.ended is not None:
            worker.ended.callback(None)
            return
        if self._stopping:
            return
        if worker.again is not None:
            worker.again.cancel()
        now = self._reactor.seconds()
        soon = now - worker.began < _SOON
        worker.failures = worker.failures + 1 if soon else 0
        why = "it ended by itself" if isinstance(reason.value, ProcessDone) else reason.getErrorMessage().rstrip(".")
        self.publish(WorkerLost(now, worker.number, why, len(worker.transfers) if worker.interim is None else 0))
        wait = min(2.0 ** (worker.failures - 2), _LONGEST_WAIT) if worker.failures > 1 else 0.0
        worker.again = self._reactor.callLater(wait, self._start, worker)

    def _end(self, worker: _Worker) -> "Deferred[None]":
        if worker.again is not None:
            worker.again.cancel()
            worker.again = None
        if worker.process is None:
            return succeed(None)
        ended: Deferred[None] = Deferred()
        worker.ended = ended
        worker.process.closeChildFD(_TO)
        # One that has not begun has nothing to end, and may not hear for a while.
        patience = _PATIENCE if worker.begun else 0.0
        kill = self._reactor.callLater(patience, worker.process.signalProcess, "KILL")

        def over(result: Any) -> Any:
            if kill.active():
                kill.cancel()
            return result

        return ended.addBoth(over)


def without_lookup(event: Event) -> Event:
    """*event* as it can go to another process: who asks is known there as well."""
    return with_lookup(event, None)


def with_lookup(event: Event, lookup: Callable[[Address], Client] | None) -> Event:
    """*event* with that look-up for who asks, and none for our URLs, which only backends ask for."""
    if type(event) is TransferEnded:
        request = evolve(event.report.request, lookup=lookup, own_urls=None)
        return evolve(event, report=evolve(event.report, request=request))
    if isinstance(event, (TransferBegun, TransferRefused, SecondStageFound)):
        return evolve(event, request=evolve(event.request, lookup=lookup, own_urls=None))
    return event
