"""A TFTP client for tests. It was written from the RFCs, independently of bootfw's own sessions, to check them."""

from collections.abc import Callable, Iterable
from typing import Any

from attrs import define, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import DatagramProtocol

from bootfw.errors import WireError
from bootfw.testing.network import MemoryHost
from bootfw.wire import tftp


class TransferFailed(Exception):
    """A transfer of a TFTPClient has failed.

    :param code: the code of the server's ERROR; None: the client gave up, or the packet was malformed.
    """

    def __init__(self, code: int | None, message: str) -> None:
        self.code = code
        self.message = message
        super().__init__(f"ERROR {code}: {message}" if code is not None else message)


@frozen
class Transferred:
    """A transfer of a TFTPClient that is complete; times in seconds on the network's clock."""

    data: bytes
    accepted: tuple[tuple[str, str], ...]
    """The options of the OACK; empty: there was no OACK."""
    began: float
    ended: float
    sent: int
    """Datagrams."""
    received: int
    """Datagrams, duplicates included."""


@define(eq=False)
class TFTPClient:
    """A client on a MemoryHost::

        client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69), {"blksize": 1468, "windowsize": 4})
        assert network.result_of(client.download("pxelinux.0")).data == ...

    Like firmware, it accepts packets only from the address to which it sent the request, and closes its port with its
    last datagram. Each transfer has its own port.

    :param options: the options of the request, in this order.
    :param pause: called with the number of a block before it is acknowledged, 0 for the OACK; returns for how many
        seconds the client ignores packets before the ACK (PXELINUX shows menus, others write to flash).
    :param retry: seconds after which the client repeats its last datagram.
    :param attempts: how often the client sends a datagram before it gives up.
    """

    host: MemoryHost
    server: tuple[str, int]
    options: Any = ()
    mode: str = "octet"
    pause: Callable[[int], float] | None = None
    retry: float = 2.0
    attempts: int = 8

    def download(self, filename: str) -> "Deferred[Transferred]":
        """Read a file.

        :raise TransferFailed: in the Deferred.
        """
        return _Download(self, filename).begin(False, filename)

    def upload(self, filename: str, data: bytes) -> "Deferred[Transferred]":
        """Write a file.

        :raise TransferFailed: in the Deferred.
        """
        return _Upload(self, data).begin(True, filename)


class _Transfer(DatagramProtocol):
    """What both directions share: the port, the server's address, the repetition of what was sent last."""

    noisy = False

    def __init__(self, client: TFTPClient) -> None:
        self.client = client
        self.host = client.host
        self.blksize, self.windowsize = 512, 1
        self.accepted: tuple[tuple[str, str], ...] = ()
        self.peer: tuple[str, int] | None = None
        """The server's side of this transfer, once it has answered (its TID)."""
        self.sent = self.received = 0
        self._done: Deferred[Transferred] = Deferred()
        self._last: list[bytes] = []
        self._attempt = 0
        self._timer: IDelayedCall | None = None
        self._began = self.host.seconds()

    def begin(self, write: bool, filename: str) -> "Deferred[Transferred]":
        interface = "::" if ":" in self.client.server[0] else ""
        self._port = self.host.listenUDP(0, self, interface, maxPacketSize=65536)
        options = self.client.options
        pairs: Iterable[tuple[str, Any]] = options.items() if isinstance(options, dict) else options
        texts = [(name, str(value)) for name, value in pairs]
        self.send([tftp.request(write, filename, self.client.mode, texts)])
        return self._done

    def send(self, datagrams: list[bytes]) -> None:
        """Send, and repeat until the next call."""
        self._last, self._attempt = datagrams, 0
        self._transmit()

    def _transmit(self) -> None:
        self._stop_timer()
        self._attempt += 1
        if self._attempt > self.client.attempts:
            self.fail(None, f"no answer to {self.client.attempts} transmissions")
            return
        self._timer = self.host.callLater(self.client.retry, self._transmit)
        for datagram in self._last:
            self.sent += 1
            self._port.write(datagram, self.peer or self.client.server)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def busy(self, block: int, then: Callable[..., None], *arguments: Any) -> None:
        """Call *then* after the pause before acknowledging *block*."""
        seconds = self.client.pause(block) if self.client.pause is not None else 0
        if seconds:
            self._stop_timer()
            self._timer = self.host.callLater(seconds, self._woken, then, *arguments)
            self.deaf = True
        else:
            then(*arguments)

    deaf = False
    """Whether it ignores packets: it pauses, or the transfer has ended."""

    def _woken(self, then: Callable[..., None], *arguments: Any) -> None:
        self.deaf = False
        then(*arguments)

    def finish(self, data: bytes, farewell: bytes = b"") -> None:
        """Complete the transfer; *farewell*, the last ACK, is sent once."""
        if farewell:
            self.sent += 1
            self._port.write(farewell, self.peer)
        result = Transferred(data, self.accepted, self._began, self.host.seconds(), self.sent, self.received)
        self._close().callback(result)

    def fail(self, code: int | None, message: str) -> None:
        self._close().errback(TransferFailed(code, message))

    def _close(self) -> "Deferred[Transferred]":
        self._stop_timer()
        self._port.stopListening()
        self.deaf = True
        return self._done

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        peer = (addr[0], addr[1])
        if peer[0] != self.client.server[0] or self.peer not in (None, peer):
            return
        self.received += 1
        if self.deaf:
            return
        try:
            packet = tftp.parse(datagram)
        except WireError as error:
            self.fail(None, f"malformed: {error}")
            return
        self.peer = peer
        if isinstance(packet, tftp.Error):
            self.fail(packet.code, packet.message)
        else:
            self.packet(packet)

    def agree(self, options: Iterable[tuple[str, str]]) -> None:
        """Take the options of an OACK."""
        self.accepted = tuple(options)
        values = {name.lower(): value for name, value in self.accepted}
        self.blksize = int(values.get("blksize", 512))
        self.windowsize = int(values.get("windowsize", 1))

    def packet(self, packet: tftp.Packet) -> None:
        raise NotImplementedError


class _Download(_Transfer):
    def __init__(self, client: TFTPClient, filename: str) -> None:
        super().__init__(client)
        self.data = bytearray()
        self.block = 0  # the last one we have; never wraps
        self.acknowledged = 0
        self.complained = False

    def packet(self, packet: tftp.Packet) -> None:
        if isinstance(packet, tftp.OptionAck):
            if self.block == 0:
                self.agree(packet.options)
                self.busy(0, self._acknowledge)
        elif isinstance(packet, tftp.Data):
            if packet.block == (self.block + 1) & 0xFFFF:
                self._take(packet.payload)
            elif self.windowsize == 1 or not self.complained:
                # A block is missing or has come again: say what we have, in a window once for each gap (RFC 7440).
                self.complained = True
                self._acknowledge()

    def _take(self, payload: bytes) -> None:
        self.block += 1
        self.complained = False
        self.data += payload
        if len(payload) < self.blksize:
            self.busy(self.block, self.finish, bytes(self.data), tftp.ack(self.block & 0xFFFF))
        elif self.block - self.acknowledged >= self.windowsize:
            self.busy(self.block, self._acknowledge)

    def _acknowledge(self) -> None:
        self.acknowledged = self.block
        self.send([tftp.ack(self.block & 0xFFFF)])


class _Upload(_Transfer):
    def __init__(self, client: TFTPClient, data: bytes) -> None:
        super().__init__(client)
        self.data = data
        self.block: int | None = None  # the last one that is acknowledged; None: not even the request is

    def packet(self, packet: tftp.Packet) -> None:
        if isinstance(packet, tftp.OptionAck) and self.block is None:
            self.agree(packet.options)
            self._go_on(0)
        elif isinstance(packet, tftp.Ack):
            # Never more than a window behind what was sent, so the distance says which block is meant.
            ahead = (packet.block - (self.block or 0)) & 0xFFFF
            if self.block is None:
                if packet.block == 0:
                    self._go_on(0)
            elif 0 < ahead <= self.windowsize:
                self._go_on(self.block + ahead)

    def _go_on(self, block: int) -> None:
        self.block = block
        last = len(self.data) // self.blksize + 1
        if block >= last:
            self.finish(self.data)
            return
        numbers = range(block + 1, min(block + self.windowsize, last) + 1)
        self.busy(block, self.send, [self._framed(number) for number in numbers])

    def _framed(self, number: int) -> bytes:
        start = (number - 1) * self.blksize
        return tftp.data(number & 0xFFFF, self.data[start : start + self.blksize])
