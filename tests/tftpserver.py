"""A TFTPProtocol on any kind of port, with peers that a test plays by hand.

Time is virtual throughout: on real sockets, too, the protocol's clock is a ``task.Clock``. What is sent over loopback
has arrived when the system call returns, so a few turns of the reactor are all there is to wait for.
"""

import contextlib
import gc
import socket
import sys
from array import array
from collections.abc import Callable, Iterable
from math import inf
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw.boot.clients import Clients
from bootfw.config.settings import TFTPSettings
from bootfw.errors import FileMissing
from bootfw.events import Event, TransferBegun, TransferEnded, TransferRefused
from bootfw.interfaces import IReader, IViaTransport, IWritableBackend, IWriter
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.multicast import GroupAddresses
from bootfw.net.udp.port import listen
from bootfw.personas.table import Personas
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import TransferReport, Via
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

KINDS = ("memory-rich", "memory-stock", "socket-stock", "socket-own")
"""Kinds of port: on a network in memory or on sockets, of Twisted (stock) or of bootfw, with batches and local
addresses."""

PORTS = ("single", "ephemeral")
"""All replies from one port, or a port for each transfer."""

ONE_WAY = 0.0005
"""Seconds."""


class MemoryWire:
    """Hosts on a MemoryNetwork: the server has 10.0.0.1 and 10.0.0.2."""

    broadcast = "255.255.255.255"
    servers = 0

    def __init__(self, *, rich: bool) -> None:
        self.rich = rich
        self.network = MemoryNetwork(delay=ONE_WAY)
        self.clock = self.network.clock
        self.server = self.network.host("10.0.0.1", "10.0.0.2", name="server", rich=rich)
        self.reactor: Any = self.server
        self._hosts: dict[int, Any] = {}

    def address(self, number: int) -> str:
        """The address of host *number*; the server has 1 and 2."""
        return f"10.0.0.{number}"

    def listen(self, protocol: Any, local: str = "", port: int = 0) -> Any:
        return self.server.listenUDP(port, protocol, local, maxPacketSize=65536)

    def socket(self, number: int, port: int = 0) -> Any:
        """A port of host *number*, with send(data, to) and take()."""
        if number not in self._hosts:
            self._hosts[number] = self.network.host(self.address(number))
        return FakePeer(self._hosts[number], port)

    def settle(self) -> None:
        """Let the datagrams under way arrive, and their answers."""
        self.network.advance(4 * ONE_WAY)

    def advance(self, seconds: float) -> None:
        self.network.advance(seconds)

    def leaks(self) -> list[str]:
        self.network.advance(1)
        return [leak for leak in self.network.leaks() if not leak.startswith("host")]


class SocketWire:
    """Sockets on the loopback interface: the server has 127.0.0.1 and 127.0.0.2."""

    broadcast = "127.255.255.255"
    servers = 0

    def __init__(self, reactor: Any, *, rich: bool) -> None:
        self.rich = rich
        self.clock = Clock()
        self.reactor: Any = self.clock
        self._reactor = reactor
        self._sockets: list[_Socket] = []

    def address(self, number: int) -> str:
        return f"127.0.0.{number}"

    def listen(self, protocol: Any, local: str = "", port: int = 0) -> Any:
        if self.rich:
            return listen(self._reactor, protocol, local, port)
        return self._reactor.listenUDP(port, protocol, local, maxPacketSize=65536)

    def socket(self, number: int, port: int = 0) -> "_Socket":
        self._sockets.append(_Socket(self.address(number), port))
        return self._sockets[-1]

    def settle(self) -> None:
        self.advance(2 * ONE_WAY)
        self._turn()
        self.advance(2 * ONE_WAY)

    def advance(self, seconds: float) -> None:
        until = self.clock.seconds() + seconds
        while (due := min((call.getTime() for call in self.clock.getDelayedCalls()), default=inf)) <= until:
            self.clock.rightNow = max(due, self.clock.seconds())
            self.clock.advance(0)
            self._turn()
        self.clock.rightNow = until

    def _turn(self) -> None:
        for _ in range(5):
            self._reactor.iterate(0)

    def leaks(self) -> list[str]:
        self._turn()
        ports = [port for port in self._reactor.getReaders() if IListeningPort.providedBy(port)]
        return [*map(repr, ports), *map(str, self.clock.getDelayedCalls())]

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()


Wire = MemoryWire | SocketWire
"""The fixture ``wire``."""


@define(eq=False)
class _Arrival:
    data: bytes
    peer: tuple[str, int]


class _Socket:
    def __init__(self, host: str, port: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        self._socket.bind((host, port))
        self._socket.setblocking(False)
        self.address = self._socket.getsockname()
        self.close = self._socket.close

    def send(self, data: bytes, to: tuple[str, int]) -> None:
        self._socket.sendto(data, to)

    def take(self) -> list[_Arrival]:
        found = []
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            while True:
                found.append(_Arrival(*self._socket.recvfrom(65536)))
        return found


@define(eq=False)
class Peer:
    """A client that a test moves by hand. It sends to the address from which the last datagram came."""

    _wire: Any
    _server: tuple[str, int]
    number: int = 9
    _port: int = 0
    tid: tuple[str, int] = field(init=False)
    """The server's address and port for what it sends next."""
    sources: list[tuple[str, int]] = field(factory=list, init=False)
    """The source of each datagram that it has received."""
    _socket: Any = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._socket = self._wire.socket(self.number, self._port)
        self.tid = self._server

    @property
    def address(self) -> tuple[str, int]:
        address: tuple[str, int] = self._socket.address
        return address

    def close(self) -> None:
        self._socket.close()

    def send(self, *datagrams: bytes, to: tuple[str, int] | None = None) -> list[tftp.Packet]:
        """Send datagrams, and return what comes back."""
        for datagram in datagrams:
            self._socket.send(datagram, to or self.tid)
        self._wire.settle()
        return self.take()

    def request(self, filename: str, mode: str = "octet", write: bool = False, **options: Any) -> list[tftp.Packet]:
        """Send a request to the server's well-known port, and return what comes back."""
        self.tid = self._server
        return self.send(tftp.request(write, filename, mode, [(name, str(value)) for name, value in options.items()]))

    def put(self, filename: str, mode: str = "octet", **options: Any) -> list[tftp.Packet]:
        """The same for an upload."""
        return self.request(filename, mode, True, **options)

    def take(self) -> list[tftp.Packet]:
        """What has come since the last call."""
        packets = []
        for arrival in self._socket.take():
            self.sources.append(arrival.peer)
            self.tid = arrival.peer
            packets.append(tftp.parse(arrival.data))
        return packets

    def download(self, filename: str, mode: str = "octet", **options: Any) -> bytes:
        """The whole file."""
        packets = self.request(filename, mode, **options)
        blksize, windowsize = 512, 1
        if packets and isinstance(packets[0], tftp.OptionAck):
            agreed = {name.lower(): int(value) for name, value in packets[0].options}
            blksize, windowsize = agreed.get("blksize", 512), agreed.get("windowsize", 1)
            packets = self.send(tftp.ack(0))
        content, block = b"", 0
        while True:
            assert 0 < len(packets) <= windowsize, packets
            for packet in packets:
                assert isinstance(packet, tftp.Data), packet
                if packet.block != (block + 1) & 0xFFFF:
                    # Out of order: it is acknowledged at once (RFC 7440 section 4), and comes after those in order.
                    assert (packet, packet.payload) == (packets[-1], b"")
                    break
                block += 1
                content += packet.payload
                ended = len(packet.payload) < blksize
            packets = self.send(tftp.ack(block & 0xFFFF))
            if ended:
                assert packets == []
                return content

    def upload(self, filename: str, content: bytes, mode: str = "octet", **options: Any) -> None:
        """The whole file."""
        [reply] = self.put(filename, mode, **options)
        agreed: dict[str, int] = {}
        if options:
            assert isinstance(reply, tftp.OptionAck), reply
            agreed = {name.lower(): int(value) for name, value in reply.options}
        else:
            assert reply == tftp.Ack(0)
        blksize, windowsize = agreed.get("blksize", 512), agreed.get("windowsize", 1)
        last = len(content) // blksize + 1
        for first in range(1, last + 1, windowsize):
            last_of_window = min(first + windowsize - 1, last)
            window = [
                tftp.data(number & 0xFFFF, content[(number - 1) * blksize : number * blksize])
                for number in range(first, last_of_window + 1)
            ]
            assert self.send(*window) == [tftp.Ack(last_of_window & 0xFFFF)]


def numbered(size: int) -> bytes:
    """Content in which no two blocks are equal: the numbers from 0, in four bytes each, in network order."""
    numbers = array("I", range(size // 4 + 1))
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()[:size]


# Behaviours of a plugin: how it returns the result of a function.


def at_once(call: Callable[[], Any]) -> Any:
    return call()


def fired(call: Callable[[], Any]) -> Any:
    return succeed(call())


async def coroutine(call: Callable[[], Any]) -> Any:
    return call()


@define(eq=False)
class Pending:
    """Answers by Deferreds that fire when the test says so."""

    cancellable: bool = True
    waiting: list[tuple[Any, Callable[[], Any]]] = field(factory=list)
    cancelled: int = 0

    def __call__(self, call: Callable[[], Any]) -> Any:
        waiting: Deferred[Any] = Deferred(self._cancel) if self.cancellable else Deferred()
        self.waiting.append((waiting, call))
        return waiting

    def _cancel(self, waiting: Any) -> None:
        self.cancelled += 1

    def fire(self) -> None:
        """Fire the oldest Deferred, if it has not been cancelled meanwhile."""
        waiting, call = self.waiting.pop(0)
        if waiting.called and self.cancellable:
            return
        try:
            waiting.callback(call())
        except Exception:
            waiting.errback()


@define(eq=False)
class Raising:
    """Raises *error* that many *times*, and answers afterwards; the first *after* calls are answered, too."""

    error: BaseException
    behaviour: Callable[[Callable[[], Any]], Any] = at_once
    times: float = inf
    after: int = 0

    def __call__(self, call: Callable[[], Any]) -> Any:
        self.after -= 1
        if self.after >= 0:
            return call()
        self.times -= 1
        return self.behaviour(call if self.times < 0 else self._raise)

    def _raise(self) -> Any:
        raise self.error


def failed(call: Callable[[], Any]) -> Any:
    """A Deferred that has failed already."""
    waiting: Deferred[Any] = Deferred()
    try:
        waiting.callback(call())
    except Exception:
        waiting.errback()
    return waiting


@implementer(IReader)
@define(eq=False)
class Reader:
    """Counts its calls, and fails if it is used after close()."""

    _files: "Files"
    content: Any
    closed: int = 0
    reads: list[tuple[int, int]] = field(factory=list)

    @property
    def size(self) -> int | None:
        size: int | None = self._files.behaviour("size")(lambda: len(self.content))
        return size

    def read(self, offset: int, length: int) -> Any:
        assert not self.closed
        self.reads.append((offset, length))
        return self._files.behaviour("read")(lambda: self.content[offset : offset + length])

    def close(self) -> None:
        self.closed += 1
        self._files.behaviour("close")(lambda: None)


@implementer(IWriter)
@define(eq=False)
class Writer:
    """The same for uploads. It has slots, as bootfw's writers have: no attribute can be added to it."""

    _files: "Files"
    name: str
    content: bytearray = field(factory=bytearray)
    finished: int = 0
    cancelled: int = 0
    published: bool = False

    def write(self, offset: int, data: bytes) -> Any:
        assert not self.finished
        assert not self.cancelled
        return self._files.behaviour("write")(lambda: self._store(offset, data))

    def _store(self, offset: int, data: bytes) -> None:
        assert offset == len(self.content)
        self.content += data

    def finish(self) -> Any:
        assert not self.finished
        assert not self.cancelled
        self.finished += 1
        return self._files.behaviour("finish")(self._publish)

    def _publish(self) -> None:
        self.published = True
        self._files.files[self.name] = bytes(self.content)

    def cancel(self) -> None:
        assert not self.published
        self.cancelled += 1
        self._files.behaviour("cancel")(lambda: None)


@implementer(IWritableBackend)
@define(eq=False)
class Files:
    """A backend that counts calls.

    :param behaviours: how a method answers, by its name: "open", "size", "read", "close", "create", "write", "finish",
        "cancel".
    """

    files: dict[str, Any] = field(factory=dict)
    """Name -> content: bytes, or an object with len() and slices."""
    behaviours: dict[str, Callable[[Callable[[], Any]], Any]] = field(factory=dict)
    readers: list[Reader] = field(factory=list)
    writers: list[Writer] = field(factory=list)

    def behaviour(self, method: str) -> Callable[[Callable[[], Any]], Any]:
        return self.behaviours.get(method, at_once)

    def open(self, path: str, request: Any) -> Any:
        return self.behaviour("open")(lambda: self._open(path))

    def _open(self, path: str) -> Reader:
        if path not in self.files:
            raise FileMissing()
        self.readers.append(Reader(self, self.files[path]))
        return self.readers[-1]

    def create(self, path: str, request: Any) -> Any:
        return self.behaviour("create")(lambda: self._create(path))

    def _create(self, path: str) -> Writer:
        self.writers.append(Writer(self, path))
        return self.writers[-1]

    def all_closed(self) -> bool:
        """Each reader is closed once, each writer is finished or cancelled."""
        return all(reader.closed == 1 for reader in self.readers) and all(
            writer.cancelled + writer.published == 1 for writer in self.writers
        )


class Served:
    """A TFTPProtocol on a wire.

    :param files: what it serves, or a backend.
    :param ports: "single" or "ephemeral".
    """

    def __init__(
        self,
        wire: Any,
        files: Any = (),
        *,
        ports: str = "single",
        watchdog: Any = None,
        writable: bool = True,
        mtu: Callable[[Any], int | None] | None = None,
        personas: Personas | None = None,
        clients: Clients | None = None,
        **settings: Any,
    ) -> None:
        self.wire = wire
        wire.servers += 1
        self.ports = ports
        self.backend = Files(dict(files)) if isinstance(files, dict | tuple) else files
        self.events: list[Event] = []
        tftp_settings = TFTPSettings(writable=writable, **settings)
        self.group_addresses = GroupAddresses(tftp_settings.multicast_groups)
        self.protocol = TFTPProtocol(
            wire.reactor,
            self.backend,
            Fixed([1.0, 3.0, 7.0]) if watchdog is None else watchdog,
            self.events.append,
            settings=tftp_settings,
            listen=wire.listen if ports == "ephemeral" else None,
            mtu=mtu,
            personas=personas,
            clients=clients,
            group_addresses=self.group_addresses,
        )
        self.port = wire.listen(self.protocol, "0.0.0.0")
        self.address = (wire.address(1), self.port.getHost().port)
        self._stopped = False

    def peer(self, number: int = 9, port: int = 0) -> Peer:
        return Peer(self.wire, self.address, number, port)

    def settle(self) -> None:
        self.wire.settle()

    def advance(self, seconds: float) -> None:
        self.wire.advance(seconds)

    @property
    def now(self) -> float:
        now: float = self.wire.clock.seconds()
        return now

    def of(self, kind: type[Event]) -> list[Any]:
        """The events of that kind."""
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def reports(self) -> list[TransferReport]:
        return [event.report for event in self.of(TransferEnded)]

    @property
    def outcomes(self) -> list[str]:
        return [report.outcome.name for report in self.reports]

    @property
    def refused(self) -> list[tuple[int, str]]:
        return [(event.code, event.message) for event in self.of(TransferRefused)]

    def stop(self, *, politely: bool = True) -> None:
        """Stop it, and check that nothing is left.

        :param politely: the clients are told, as BootService does.
        """
        if self._stopped:
            return
        self._stopped = True
        if politely:
            self.protocol.close()
        self.port.stopListening()
        self.settle()
        assert self.protocol.transfers == 0
        self.wire.servers -= 1
        assert self.wire.servers or self.wire.leaks() == []
        assert len(self.of(TransferBegun)) == len(self.reports)
        if isinstance(self.backend, Files):
            assert self.backend.all_closed()
        gc.collect(1)  # a failure without an errback is logged when its Deferred is collected


Serve = Callable[..., Served]
"""The fixtures ``start`` and ``serve``: a Served of these arguments, without its wire."""


def blocks(packets: Iterable[Any]) -> list[int]:
    """The numbers of DATA or ACK packets."""
    return [packet.block for packet in packets]


@implementer(IViaTransport)
class Direct:
    """A TFTPProtocol and its peer without a network: for transfers of more blocks than a test can carry."""

    PEER = ("10.0.0.9", 2000)
    VIA = Via("10.0.0.1", 2, "10.0.0.1")

    def __init__(self, backend: Any) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.protocol = TFTPProtocol(
            self.clock, backend, Fixed([1.0, 3.0, 7.0]), self.events.append, settings=TFTPSettings(writable=True)
        )
        transport: Any = self  # write_via() is all that the protocol calls
        self.protocol.makeConnection(transport)
        self._out: list[bytes] = []

    def write_via(self, data: bytes | memoryview, peer: Any, via: Any, segment: int = 0) -> None:
        assert (peer, via) == (self.PEER, self.VIA)
        size = segment or len(data)
        self._out += [bytes(data[start : start + size]) for start in range(0, len(data), size)]

    def send(self, data: bytes) -> list[bytes]:
        """Give it a datagram, and return what it sends."""
        self.protocol.datagrams_received([(data, self.PEER, self.VIA)])
        return self.take()

    def take(self) -> list[bytes]:
        out, self._out = self._out, []
        return out
