"""The program of a worker: ``python -m bootfw.cli.worker``, started by bootfw.net.workers.supervisor only.

It serves files on the sockets that the main process has opened, and ends with the main process.
"""

import gc
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from attrs import define, evolve, field
from twisted.internet import reactor
from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, eventAsText, globalLogBeginner
from zope.interface import implementer

from bootfw.build import Parts, assemble
from bootfw.config.configuration import Configuration
from bootfw.config.settings import DHCP6Settings, DHCPSettings, Settings
from bootfw.config.state import state_directory
from bootfw.errors import BootfwError
from bootfw.interfaces import INodes
from bootfw.net.clock import monotonic
from bootfw.net.draining import Draining
from bootfw.net.linux.openfiles import allow_many_files
from bootfw.net.listening import PortKey
from bootfw.net.tftp.handover import POSITIONS_EVERY, AdoptedTransfer
from bootfw.net.workers.channel import Channel, Incoming, Outgoing, received_sockets
from bootfw.net.workers.supervisor import TERMINAL_SIGNALS
from bootfw.net.workers.worker import EventPipe, GivenSockets
from bootfw.net.workers.workerstates import HEARTBEAT_EVERY
from bootfw.reload import with_fixed
from bootfw.service import BootService, Prepared
from bootfw.values import Address

_FROM, _TO, _SOCKETS = 3, 4, 5
"""Descriptors: the pipe that this process reads, the one that it writes, and the connection that sockets come by."""


@define(eq=False)
class Program:
    """Receives its configuration and then its sockets, and serves until its pipe is closed."""

    channel: Channel = field(init=False)
    _parts: Parts = field(init=False)
    _count: int = field(init=False)
    """How many workers share the memory for cached files."""
    _service: BootService | None = field(default=None, init=False)
    _sockets: GivenSockets = field(init=False)
    _socket_connection: socket.socket = field(init=False)
    """The connection by which sockets arrive."""
    _checked: tuple[Parts, Prepared | None] | None = field(default=None, init=False)
    """The plugins and ports of another configuration, until it is used or abandoned."""
    _draining: Draining | None = field(default=None, init=False)
    """The wait for transfers before the end; None: it has not begun."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _timed: Any = field(default=None, init=False)
    """The reactor, with a monotonic clock."""

    def run(self) -> int:
        """Run until the pipe is closed, and return the exit code."""
        globalLogBeginner.beginLoggingTo([_print_problem], redirectStandardIO=False)
        allow_many_files()
        # The main process ends its workers itself, in order. It has started this one with these signals blocked, since
        # a Ctrl-C before this line would end it.
        for number in TERMINAL_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
        self.channel = Channel(self._received)
        self.channel.makeConnection(Outgoing(reactor, _TO, self._lost))  # type: ignore[no-untyped-call]
        self._socket_connection = socket.socket(fileno=_SOCKETS)
        self._socket_connection.setblocking(False)
        os.set_inheritable(_SOCKETS, False)
        Incoming(reactor, _FROM, self.channel.dataReceived, self._end)
        reactor.run()
        return 0

    def _received(self, kind: str, values: tuple[Any, ...]) -> None:
        if kind == "prepare":
            self._prepare(*values)
        elif kind == "begin":
            self._begin(*values)
        elif kind == "check":
            self._check(*values)
        elif kind == "use":
            self._use()
        elif kind == "abandon":
            self._abandon()
        elif kind == "drain":
            self._drain(*values)
        elif kind == "reopened":
            [key], [sock] = values, received_sockets(self._socket_connection, 1)
            self._sockets.replace(key, sock)
        elif self._service is not None:
            self._service.on_message(kind, values)

    def _drain(self, hands_over: bool) -> None:
        """Prepare for the end, which follows.

        :param hands_over: other nodes go on with the transfers at once; otherwise they get some time to end.
        """
        if self._service is None:
            return
        if hands_over:
            self.channel.send("positions", self._service.positions())
            self._service.hand_over_at_stop()
        else:
            self._draining = self._service.drain()

    def _prepare(self, configuration: Configuration, count: int) -> None:
        """Load the plugins, which may take long, and report that this process is ready."""
        self._timed = monotonic(reactor)
        self._parts = assemble(configuration, self._timed)
        self._count = count
        self.channel.send("prepared")

    def _begin(
        self,
        listening: Sequence[PortKey],
        shared_state: Sequence[tuple[str, tuple[Any, ...]]],
        adopted: Sequence[AdoptedTransfer],
        stored: Sequence[tuple[Address, int]],
    ) -> None:
        timed = self._timed
        self._sockets = GivenSockets(
            timed, dict(zip(listening, received_sockets(self._socket_connection, len(listening)), strict=True))
        )
        events = EventPipe(timed, self.channel, self._sockets)
        transport: Any = self.channel.transport
        transport.registerProducer(events, True)
        parts = self._parts
        self._service = service = BootService(
            timed,
            settings=self._worker_settings(parts.settings),
            backends=parts.backends,
            watchdog=parts.watchdog[1],
            event_sink=events,
            sockets=self._sockets,
            broadcast=self.channel.send,
            recordings=state_directory(parts.settings.state_dir) / "recordings",
            tags_files=INodes.providedBy(parts.store[1]),
        )
        service.privilegedStartService()
        service.startService()
        # A datagram that arrives at a socket without a port would wait for ever.
        self._sockets.close_unused()
        for kind, values in shared_state:
            service.on_message(kind, values)
        service.take_over(adopted, stored)
        timed.callLater(POSITIONS_EVERY, self._send_positions, [])
        self._send_heartbeat()
        gc.freeze()  # see bootfw.tap.Daemon.startService

    def _worker_settings(self, settings: Settings) -> Settings:
        """Return the settings of this process: those for files, with its share of the memory."""
        tftp = evolve(settings.tftp, cache_size=settings.tftp.cache_size // self._count)
        return evolve(settings, dhcp=DHCPSettings(mode="off"), dhcp6=DHCP6Settings(mode="off"), tftp=tftp)

    def _check(self, configuration: Configuration, listening: Sequence[PortKey]) -> None:
        """Load another configuration, and report why it can't be used; see Workers.check()."""
        errors: list[str] = []
        try:
            sockets = received_sockets(self._socket_connection, len(listening))
            parts, prepared = assemble(configuration, self._timed, running=self._parts), None
            if self._service is not None:
                self._sockets.add(zip(listening, sockets, strict=True))
                settings = with_fixed(self._service.settings, self._worker_settings(parts.settings))
                prepared = self._service.prepare(settings, parts.backends, (), parts.watchdog[1])
            self._checked = parts, prepared
        except (BootfwError, OSError) as error:
            errors = str(error).split("\n")
        except Exception as error:
            self._log.failure("The configuration can't be loaded.")
            errors = [f"{type(error).__name__}: {error}"]
        self.channel.send("checked", errors)

    def _use(self) -> None:
        """Use the configuration that was checked. If there is none, end: the next process loads the configuration."""
        checked, self._checked = self._checked, None
        if checked is None:
            self._end()
            return
        self._parts, prepared = checked
        if self._service is not None and prepared is not None:
            self._service.commit(prepared)
            self._sockets.close_unused()

    def _abandon(self) -> None:
        checked, self._checked = self._checked, None
        if checked is not None and checked[1] is not None and self._service is not None:
            self._service.abandon(checked[1])
        if self._service is not None:
            self._sockets.close_unused()
        self.channel.send("checked", [])

    def _send_positions(self, before: list[tuple[Address, int]]) -> None:
        """Report the positions of long transfers. The next process of this worker sees only block numbers, which
        repeat."""
        if self._service is None:
            return
        positions = self._service.positions()
        if positions or before:
            self.channel.send("positions", positions)
        self._timed.callLater(POSITIONS_EVERY, self._send_positions, positions)

    def _send_heartbeat(self) -> None:
        """Report the counters of the UDP ports, and that this reactor turns: a process that hangs is replaced."""
        if self._service is not None:
            self._service.report_datagrams()
            self.channel.send("heartbeat")
            self._timed.callLater(HEARTBEAT_EVERY, self._send_heartbeat)

    def _end(self) -> None:
        """Stop the service, then this process: the main process has ended, or has closed the pipe to end it."""
        service, self._service = self._service, None
        if service is None:
            self._ended(None)
        elif self._draining is not None:
            self._draining.start().addCallback(lambda _: service.stopService()).addBoth(self._ended)
        else:
            service.stopService().addBoth(self._ended)

    def _ended(self, result: Any) -> None:
        transport: Any = self.channel.transport
        transport.loseConnection()

    def _lost(self) -> None:
        if reactor.running:
            reactor.stop()


@implementer(ILogObserver)
def _print_problem(event: LogEvent) -> None:
    """Print warnings and errors; everything else is reported by events."""
    if event["log_level"] >= LogLevel.warn:
        sys.stderr.write(eventAsText(event, includeTimestamp=False, includeSystem=False) + "\n")
        sys.stderr.flush()


def main() -> int:
    """Run the program."""
    return Program().run()


if __name__ == "__main__":
    sys.exit(main())
