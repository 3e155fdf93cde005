"""The processes that serve files beside the main one, which answers DHCP: started, supervised, restarted.

The main process keeps every socket open, so that datagrams for a worker that has died wait in the kernel for the next
one, and no client is moved to another socket. The sockets of a port share it by SO_REUSEPORT, and the kernel spreads
clients over them.
"""

import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import define, field
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, succeed
from twisted.internet.error import CannotListenError, ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.events import Event, TransferBegun, TransferEnded, TransferRefused, WorkerLost
from bootfw.net.alarm import Alarm
from bootfw.net.listening import OwnSockets, PortKey, PortSpec
from bootfw.net.tftp.handover import AdoptedTransfer
from bootfw.net.workers.channel import Channel, packed, send_sockets, socket_connection
from bootfw.net.workers.interim import InterimServer, Serve
from bootfw.net.workers.packetqueries import PacketQueries
from bootfw.net.workers.sharedport import SharedPort, open_shared
from bootfw.net.workers.workerstates import Do, Input, WorkerStates
from bootfw.values import Address
from bootfw.wire.pcapng import Datagram

OnMessage = Callable[[str, tuple[Any, ...]], bool]
"""Takes (kind, values) of a message. Returns False if it does not know the kind."""

MAX_DEFAULT_WORKERS = 4
"""The most workers that are started if the configuration does not set their number."""

TERMINAL_SIGNALS = signal.SIGINT, signal.SIGHUP
"""A terminal sends these to all its processes. Workers ignore them: the main process ends its workers itself."""

_TO, _FROM, _SOCKETS = 3, 4, 5
"""Descriptors in the worker: the pipe that it reads, the one that it writes, the connection that it gets sockets from.
bootfw/cli/worker.py has the same numbers."""

CHECK_WITHIN = 60.0
"""Seconds that a process has to load another configuration."""

READY_WITHIN = 90.0
"""Seconds that a reload waits for the first processes to be ready."""


def default_worker_count() -> int:
    """Return the number of processors that this process may use, at most MAX_DEFAULT_WORKERS."""
    return min(len(os.sched_getaffinity(0)), MAX_DEFAULT_WORKERS)


@define(eq=False)
class _Worker(ProcessProtocol):
    """Runs one worker's processes, one after the other, as WorkerStates says."""

    _workers: "Workers"
    number: int
    states: WorkerStates = field(factory=WorkerStates, init=False)
    stopped: "Deferred[None]" = field(factory=Deferred, init=False)
    """Fires when the worker was stopped and its process has ended."""
    _channel: Channel = field(init=False)
    _process: Any = field(default=None, init=False)
    _connection: socket.socket | None = field(default=None, init=False)
    """Carries sockets to the process; None: there is none."""
    _loaded: object = field(default=None, init=False)
    """The configuration that the process uses or, before it serves, was given to prepare."""
    interim: InterimServer | None = field(default=None, init=False)
    """Serves the worker's sockets until its first process is ready."""
    _transfers: dict[Address, TransferBegun] = field(factory=dict, init=False)
    """Client -> its transfer, for transfers that have begun and not ended."""
    _positions: dict[Address, int] = field(factory=dict, init=False)
    """Client -> the last acknowledged block of a long transfer, as the process last reported."""
    _partial_line: bytes = field(default=b"", init=False)
    """An incomplete line of the standard output or error of the process."""
    _actions: dict[Do, Callable[[], None]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._actions = {
            Do.SPAWN: self._spawn,
            Do.CHECK_INTERIM: self._check_interim,
            Do.DRAIN: self._drain,
            Do.BEGIN: self._begin,
            Do.REPORT: self._report,
            Do.FINISH: lambda: self._channel.send("drain", self._workers.hands_over),
            Do.CLOSE: self._close,
            Do.KILL: self._kill,
            Do.STOPPED: lambda: self.stopped.callback(None),
        }

    @property
    def deadline(self) -> float | None:
        """See Watched."""
        return self.states.deadline

    def handle(self, event: Input, argument: Any = None) -> None:
        """Take one input of the table, and carry out the actions that it returns."""
        # The deadline is watched after the actions, each of which may be an input that sets another one.
        self.states.run(self._actions, event, argument, self._workers.reactor.seconds())
        self._workers.watch(self)

    def record(self) -> dict[str, Any]:
        """See Workers.records()."""
        pid = None if self._process is None else getattr(self._process, "pid", None)
        return {"number": self.number, "state": self.states.state.value, "pid": pid}

    def under_way(self) -> Collection[Address]:
        """Return the clients of the transfers and downloads."""
        return self._transfers.keys()

    def start(self, interim: InterimServer) -> None:
        """Start the first process.

        :param interim: serves the worker's sockets until then.
        """
        self.interim = interim
        self.handle(Input.START)

    def stop(self) -> "Deferred[None]":
        """Tell the process to end.

        :return: fires when it has.
        """
        self.handle(Input.STOP)
        return self.stopped

    def check(self, configuration: object, ports: Sequence[SharedPort]) -> bool:
        """Have the process load another configuration, for which it gets the sockets of *ports*.

        :return: false: no process serves. The next one loads the configuration that is in use when it begins.
        :raise OSError: the sockets can't be sent.
        """
        if not self.states.has_sockets:
            return False
        # Sockets before the message, here and below: the process takes them when it reads the message, without a wait.
        self._send_sockets(ports)
        self._channel.send("check", configuration, [_key(port) for port in ports])
        self.handle(Input.LOAD)
        return True

    def use(self, configuration: object) -> None:
        """Have the process use what it has loaded."""
        self._loaded = configuration
        self._channel.send("use")

    def _send_sockets(self, ports: Sequence[SharedPort]) -> None:
        assert self._connection is not None
        send_sockets(self._connection, [port.sockets[self.number] for port in ports])

    def send_packed(self, message: bytes) -> None:
        """Send a message if the process serves. A later process gets all state when it begins to serve, see
        needed_to_serve()."""
        if self.states.has_sockets:
            self._channel.send_packed(message)

    def publish(self, events: Sequence[Event]) -> None:
        """Publish events of the process or the interim server, and note which transfers are under way."""
        for event in events:
            if type(event) is TransferEnded:
                self._transfers.pop(event.report.request.peer, None)
            elif type(event) is TransferBegun:
                self._transfers[event.request.peer] = event
                if event.acked is not None:
                    self._positions[event.request.peer] = event.acked
            elif type(event) is TransferRefused:
                self._transfers.pop(event.request.peer, None)
            self._workers.publish(event)

    # IProcessProtocol

    def connectionMade(self) -> None:
        """See ProcessProtocol."""
        self._channel = Channel(self._received)
        self._channel.makeConnection(_ProcessPipe(self.transport))  # type: ignore[no-untyped-call]

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """See ProcessProtocol."""
        if childFD == _FROM:
            self._channel.dataReceived(data)  # type: ignore[no-untyped-call]
            return
        # The standard output and error: what plugins print, and the traceback of a process that fails to start.
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        for line in lines:
            self._workers.log.warn("worker {number}: {line}", number=self.number, line=line.decode(errors="replace"))

    def childConnectionLost(self, childFD: int) -> None:
        """See ProcessProtocol. Some time may pass until processEnded(), and transport has no such pipe any more."""
        # The standard output and error say nothing about the process: its children may hold them open, or it may close
        # them itself.
        if childFD == _TO:
            self.handle(Input.DISCONNECTED)
            self._workers.checked(self, ["it has ended"])

    def processEnded(self, reason: Failure) -> None:
        """See ProcessProtocol."""
        self._close_connection()
        self._workers.checked(self, ["it has ended"])
        self._workers.closed(self)
        ended = isinstance(reason.value, ProcessDone)
        self.handle(Input.EXITED, "it ended by itself" if ended else reason.getErrorMessage().rstrip("."))

    def reopened(self, port: SharedPort) -> None:
        """Have the process serve the sockets that a port has now. One that serves later gets them then."""
        if self.states.has_sockets:
            with suppress(OSError):  # the process is about to end
                self._send_sockets([port])
                self._channel.send("reopened", _key(port))

    def _close_connection(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _received(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "events":
            self.publish(*values)
        elif kind == "prepared":
            self.handle(Input.PREPARED)
        elif kind == "positions":
            self._positions = dict(*values)
            self._workers.on_positions(*values)
        elif kind == "heartbeat":
            self.handle(Input.HEARTBEAT)
        elif kind == "checked":
            self.handle(Input.LOADED)
            self._workers.checked(self, *values)
        elif kind == "closed":
            self._workers.closed(self, *values)
        elif kind == "packets":
            self._workers.packet_queries.answer(*values)
        else:
            self._workers.on_message(self, kind, values)

    # Actions of the table

    def _spawn(self) -> None:
        try:
            self._connection, theirs = socket_connection()
            # Close our copy of its end: with it the connection would not end when the process does.
            with theirs:
                self._process = self._workers.spawn(self, theirs.fileno())
        except OSError as error:
            self._close_connection()
            self.handle(
                Input.SPAWN_FAILED, f"it can't be started, which is tried again and again: {error.strerror or error}"
            )
            return
        self._loaded = self._workers.configuration
        self._channel.send("prepare", self._loaded, self._workers.count)

    def _check_interim(self) -> None:
        self.handle(Input.BUSY if self.interim is not None and self.interim.is_busy else Input.FREE)

    def _drain(self) -> None:
        if self.interim is not None:
            self.interim.drain()

    def _begin(self) -> None:
        handed, stored = {}, []
        if self.interim is not None:
            # First: hand_over() drops all transfers.
            stored = self.interim.stored_uploads()
            handed = dict(self.interim.hand_over())
            self._positions = {peer: handover.position.acked for peer, handover in handed.items()}
            # The others have ended, or have ports of their own and finish in the interim server.
            self._transfers = {peer: self._transfers[peer] for peer in handed if peer in self._transfers}
            self.interim = None
        # The process sends the next block of what was handed over at once. It continues the transfers of a process
        # that has died when their clients send something.
        adopted = [
            AdoptedTransfer(begun, self._positions.get(peer, 0), handed.get(peer))
            for peer, begun in self._transfers.items()
        ]
        ports, shared_state = self._workers.needed_to_serve()
        try:
            self._send_sockets(ports)
        except OSError as error:
            self._workers.log.error("worker {number} can't get its sockets: {error}", number=self.number, error=error)
            self._kill()
            return
        if self._loaded is not self._workers.configuration:  # a reload has changed it since the process was created
            self._channel.send("check", self._workers.configuration, [])
            self.use(self._workers.configuration)
        self._channel.send("begin", [_key(port) for port in ports], shared_state, adopted, stored)
        self._workers.note_serving()

    def _report(self) -> None:
        # While the interim server serves, the process has no transfer that is lost with it.
        transfers = len(self._transfers) if self.interim is None else 0
        self._workers.publish(WorkerLost(self._workers.reactor.seconds(), self.number, self.states.reason, transfers))

    def _close(self) -> None:
        self._process.closeChildFD(_TO)

    def _kill(self) -> None:
        # A child of the process may hold its pipes open after its end, which delays processEnded().
        with suppress(ProcessExitedAlready):
            self._process.signalProcess("KILL")


@define(eq=False)
class _ProcessPipe:
    """The transport of a Channel: the pipe to the process of a worker."""

    _transport: Any

    def write(self, data: bytes) -> None:
        self._transport.writeToChild(_TO, data)

    def loseConnection(self) -> None:
        self._transport.closeChildFD(_TO)


@define(eq=False, slots=False)
class Workers(Service):
    """A number of processes that serve the files of one server; the SocketSource of its BootService.

    :param reactor: IReactorProcess and IReactorTime.
    :param count: how many processes.
    :param module: the program of each, as for ``python -m``.
    :param configuration: sent to the program, which builds its service from it. It is pickled.
    """

    reactor: Any
    count: int
    _module: str
    configuration: object
    """The configuration that the next process gets."""
    follow_interfaces: bool = field(default=True, init=False)
    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    publish: Callable[[Event], None] = field(init=False)
    _on_message: OnMessage = field(init=False)
    _shared_state: Callable[[], list[tuple[str, tuple[Any, ...]]]] = field(init=False)
    _serve: Serve = field(init=False)
    on_positions: Callable[[Sequence[tuple[Address, int]]], None] = field(default=lambda positions: None, init=False)
    """Takes what positions() of a worker's service returns, a few times a second."""
    hands_over: bool = field(default=False, init=False)
    """When the workers stop, other nodes go on with their transfers."""
    _workers: list[_Worker] = field(factory=list, init=False)
    _ports: list[SharedPort] = field(factory=list, init=False)
    _ending_ports: list[SharedPort] = field(factory=list, init=False)
    """Ports of processes that stopService() is ending: they have the sockets until they have ended."""
    _half_closed: "list[_HalfClosedPort]" = field(factory=list, init=False)
    """Ports that are closed in this process, and open in some workers."""
    _interim_servers: list[InterimServer] = field(factory=list, init=False)
    """All interim servers. One that has handed over may still have transfers on ports of their own."""
    _alarm: "Alarm[_Worker]" = field(init=False)
    _check: "_Check | None" = field(default=None, init=False)
    """The configuration that the processes are loading, or have loaded and don't use yet."""
    _until_serving: "list[Deferred[None]]" = field(factory=list, init=False)
    """Fire when no interim server is left, or by cancel(): one for each pending ready()."""
    packet_queries: PacketQueries = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._alarm = Alarm(self.reactor, lambda worker, now: worker.handle(Input.TICK))
        self.packet_queries = PacketQueries(self.reactor)

    def join(
        self,
        on_message: OnMessage,
        *,
        publish: Callable[[Event], None],
        shared_state: Callable[[], list[tuple[str, tuple[Any, ...]]]],
        serve: Serve,
    ) -> None:
        """Have the workers serve for a BootService; see its add_workers().

        :param on_message: takes (kind, values) of what a worker has broadcast. The other workers get it too if this
            returns True.
        :param publish: takes the events of the workers, and those about them.
        :param shared_state: returns the messages that bring a new worker to the state of the others.
        :param serve: serves a socket in this process, while its worker starts.
        """
        self._on_message, self.publish = on_message, publish
        self._shared_state, self._serve = shared_state, serve

    # Ports

    def listen(self, spec: PortSpec) -> Any:
        """See SocketSource. The workers share the ports of TFTP and HTTP; the others are opened for this process."""
        if spec.service not in ("tftp", "http", "https"):
            return OwnSockets(self.reactor).listen(spec)
        if spec.beside and spec.service == "tftp":
            # The kernel spreads the clients of another address over the processes in another way, and a transfer's
            # acknowledgments would come to a process that does not know it.
            reason = "several workers can't hand transfers over"
            raise CannotListenError(*spec.address, OSError(errno.EADDRINUSE, reason))
        self._ports = self.ports
        # A process that has not ended has its socket still, so even the first new one has to share the port.
        replaces = any(spec.key == _key(port) for port in self._ending_ports)
        opened = open_shared(
            spec.service, *spec.address, self.count, spec.device, replaces=replaces, beside=spec.beside
        )
        opened.on_reopened = partial(self._reopened, opened)
        opened.on_closed = partial(self._closed_in_workers, _key(opened))
        self._ports.append(opened)
        return opened

    def _reopened(self, port: SharedPort) -> None:
        for worker in self._workers:
            worker.reopened(port)

    def _closed_in_workers(self, key: PortKey) -> "Deferred[None]":
        """Return a Deferred that fires when no process of a worker has the port any more.

        Until then the address is in use: a reload that opens the port again has to wait.
        """
        # Workers that start now get no socket of a closed port, see needed_to_serve().
        holders = {worker for worker in self._workers if worker.states.has_sockets}
        if not holders:
            return succeed(None)
        self._half_closed.append(half_closed := _HalfClosedPort(key, holders))
        return half_closed.closed

    def closed(self, worker: _Worker, key: PortKey | None = None) -> None:
        """Note that the process of *worker* has closed a port.

        :param key: of the port; None: the process has ended, so it has closed every port.
        """
        ports = [port for port in self._half_closed if worker in port.holders and key in (None, port.key)]
        # A port may have been closed, opened and closed again. A process reports each of its ends, the oldest first.
        for port in ports if key is None else ports[:1]:
            port.holders.discard(worker)
            if not port.holders:
                self._half_closed.remove(port)
                port.closed.callback(None)

    # Processes

    def records(self) -> list[dict[str, Any]]:
        """Return the workers, for the status: number, state, and process id, which is None where there is no
        process."""
        return [worker.record() for worker in self._workers]

    def under_way(self) -> list[tuple[int, Address]]:
        """Return the transfers and downloads of the workers, each as (number of the worker, client)."""
        return [(worker.number, peer) for worker in self._workers for peer in worker.under_way()]

    def startService(self) -> None:
        """Start every worker. This process serves their sockets until they are ready."""
        for number in range(self.count):
            worker = _Worker(self, number)
            worker.start(self._start_interim(worker))
            self._workers.append(worker)

    def _start_interim(self, worker: _Worker) -> InterimServer:
        def publish(event: Event) -> None:
            worker.publish((event,))

        # Copies of the sockets: the interim server closes its own, and the worker's process gets the others.
        serving = [
            self._serve(port.service, port.configured, port.sockets[worker.number].dup(), publish)
            for port in self.ports
        ]
        self._interim_servers.append(interim := InterimServer(serving))
        return interim

    def stopService(self) -> "Deferred[Any]":
        """Have the workers end their transfers and then themselves.

        :return: fires when every process has ended and its last events are published.
        """
        self.packet_queries.close()
        check, self._check = self._check, None
        if check is not None and check.done is not None and check.waiting:
            check.waiting.clear()
            check.done.callback(["the server is stopping"])
        workers, self._workers = self._workers, []
        # No worker is left to wait for, so what waits in ready() goes on.
        self.note_serving()
        interim_servers, self._interim_servers = self._interim_servers, []
        ports, self._ports = self._ports, []
        self._ending_ports += ports
        closing = [interim.close() for interim in interim_servers]
        return DeferredList([worker.stop() for worker in workers] + closing).addCallback(self._has_stopped, ports)

    def _has_stopped(self, results: Any, ports: Sequence[SharedPort]) -> None:
        for port in ports:
            self._ending_ports.remove(port)

    def broadcast(self, kind: str, *values: Any) -> None:
        """Send a message to all workers."""
        self._send(kind, values, self._workers)

    # Another configuration

    @property
    def ports(self) -> list[SharedPort]:
        """The ports that are open."""
        return [port for port in self._ports if not port.closed]

    def ready(self) -> "Deferred[list[str]]":
        """Wait until the first processes serve: until then this one serves for some of them.

        :return: what is still missing after READY_WITHIN seconds, a line for each worker.
        """
        waiting: Deferred[None] = Deferred()
        self._until_serving.append(waiting)
        waiting.addTimeout(READY_WITHIN, self.reactor)
        # They may all serve already.
        self.note_serving()

        def missing(result: object) -> list[str]:
            self._until_serving = [each for each in self._until_serving if each is not waiting]
            starting = [worker.number for worker in self._workers if worker.interim is not None]
            return [f"worker {number} is still starting: try again" for number in starting]

        return waiting.addBoth(missing)

    def note_serving(self) -> None:
        """Note that a process serves; end the wait of ready() if it was the last one."""
        if not any(worker.interim is not None for worker in self._workers):
            waiting, self._until_serving = self._until_serving, []
            for each in waiting:
                each.callback(None)

    def check(self, configuration: object, served: Sequence[SharedPort]) -> "Deferred[list[str]]":
        """Have every process load another configuration, and open the ports that it needs.

        A configuration is used by all processes or by none: the caller calls use() if this returns no reason, and
        abandon() otherwise.

        :param served: the ports that the processes have already.
        :return: why some can't use it, a line for each reason.
        """
        ports = [port for port in self.ports if port not in served]
        self._check = check = _Check(configuration, ports)
        for worker in self._workers:
            try:
                if worker.check(configuration, ports):
                    check.waiting.add(worker)
                    check.workers.append(worker)
            except OSError as error:
                check.errors.append(f"worker {worker.number} can't get its sockets: {error}")
        return self._answered(check)

    def _answered(self, check: "_Check") -> "Deferred[list[str]]":
        """Return a Deferred that fires when every process has answered or ended, or CHECK_WITHIN seconds are over."""
        if not check.waiting:
            return succeed(check.errors)
        done: Deferred[list[str]] = Deferred()
        check.done = done
        timeout = self.reactor.callLater(CHECK_WITHIN, self._overdue, check)

        def stop(errors: list[str]) -> list[str]:
            if timeout.active():
                timeout.cancel()
            return errors

        return done.addCallback(stop)

    def checked(self, worker: _Worker, errors: Sequence[str]) -> None:
        """Note that a process has loaded the configuration.

        :param errors: why it can't use it; empty: it can.
        """
        check = self._check
        if check is None or worker not in check.waiting:
            return
        check.waiting.discard(worker)
        check.errors += [f"worker {worker.number}: {error}" for error in errors]
        if not check.waiting and check.done is not None:
            check.done.callback(check.errors)

    def _overdue(self, check: "_Check") -> None:
        # A copy, since checked() removes the worker from the set.
        for worker in tuple(check.waiting):
            self.checked(worker, [f"it has not loaded the configuration within {CHECK_WITHIN:.0f} s"])

    def use(self) -> None:
        """Have the workers serve the requests that come from now on by what they have loaded."""
        check, self._check = self._check, None
        if check is None:
            return
        self.configuration = check.configuration
        for worker in check.workers:
            # One that has ended since gets the configuration with its next process.
            if worker.states.has_sockets:
                worker.use(check.configuration)

    def abandon(self) -> "Deferred[Any]":
        """Have the workers forget the configuration that they have loaded.

        :return: fires when they have closed the sockets that they got for it.
        """
        check = self._check
        if check is None:
            return succeed(None)
        check.waiting = {worker for worker in check.workers if worker.states.has_sockets}
        self._send("abandon", (), tuple(check.waiting))

        def abandoned(result: object) -> None:
            self._check = None
            # The processes report the ports that they close. These sockets never became ports there.
            for port in check.ports:
                for worker in check.workers:
                    self.closed(worker, _key(port))

        return self._answered(check).addCallback(abandoned)

    def packets_of(self, addresses: Collection[str], since: float) -> "Deferred[list[Datagram]]":
        """Return what the processes have recorded of a client; see FlightRecorder.transfers_of()."""
        serving = [worker for worker in self._workers if worker.states.has_sockets]
        return self.packet_queries.query(
            len(serving), lambda number: self._send("packets-of", (number, addresses, since), serving)
        )

    def on_message(self, worker: _Worker, kind: str, values: tuple[Any, ...]) -> None:
        """Take a message of a worker, and send it to the others."""
        if self._on_message(kind, values):
            self._send(kind, values, [other for other in self._workers if other is not worker])

    def _send(self, kind: str, values: tuple[Any, ...], workers: Sequence[_Worker]) -> None:
        if workers:
            message = packed(kind, *values)
            for worker in workers:
                worker.send_packed(message)

    # Called by _Worker

    def watch(self, worker: _Worker) -> None:
        """Have the alarm follow the deadline of *worker*, which may have changed."""
        if worker.deadline is None:
            self._alarm.forget(worker)
        else:
            self._alarm.watch(worker)

    def spawn(self, worker: _Worker, sockets: int) -> Any:
        """Create a process for *worker*.

        :param sockets: the descriptor that it gets its sockets from.
        :return: IProcessTransport.
        :raise OSError: the system can't create a process.
        """
        descriptors: dict[int, Any] = {1: "r", 2: "r", _TO: "w", _FROM: "r", _SOCKETS: sockets}
        # The process finds the same modules and plugins, also those that this one has by sys.path only.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        # Without this a Ctrl-C would end the process until it ignores the signals. It inherits them blocked, and
        # unblocks them when it ignores them.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
        try:
            return self.reactor.spawnProcess(
                worker, sys.executable, [sys.executable, "-m", self._module], env=environment, childFDs=descriptors
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def needed_to_serve(self) -> tuple[list[SharedPort], list[tuple[str, tuple[Any, ...]]]]:
        """Return what a process needs to serve: (its ports, the messages that bring it to the state of the others)."""
        return self.ports, self._shared_state()


@define(eq=False)
class _Check:
    """A configuration that the processes are loading."""

    configuration: object
    ports: Sequence[SharedPort]
    """The ports that were opened for it."""
    workers: list[_Worker] = field(factory=list, init=False)
    """The workers whose processes got it."""
    waiting: set[_Worker] = field(factory=set, init=False)
    """Those of them that have not answered."""
    errors: list[str] = field(factory=list, init=False)
    done: "Deferred[list[str]] | None" = field(default=None, init=False)
    """Fires with the errors; None: nothing waits for an answer."""


@define(eq=False)
class _HalfClosedPort:
    """A port that is closed in the main process, and open in some workers."""

    key: PortKey
    holders: set[_Worker]
    """The workers whose processes have not closed it."""
    closed: "Deferred[None]" = field(factory=Deferred, init=False)


def _key(port: SharedPort) -> PortKey:
    return port.service, port.configured, port.device
