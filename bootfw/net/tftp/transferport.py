"""The port of one transfer, where transfers have ports of their own (RFC 1350 section 4)."""

import errno
import resource
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

from twisted.internet.error import CannotListenError, MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.boot.onceper import OncePer
from bootfw.errors import TransferError
from bootfw.interfaces import IBatchReceiver, IViaTransport
from bootfw.net.tftp.transfer import Send, Transfer, send_nothing
from bootfw.net.udp import mmsg
from bootfw.net.udp.port import listen
from bootfw.values import Address, Via
from bootfw.wire import tftp as wire

SPARE = 64
"""File descriptors that transfer ports leave to files, connections and other ports."""

_AGAIN = 60.0
"""Seconds until the log repeats that descriptors are used up."""

_REQUEST_OPCODES = (b"\0\1", b"\0\2")
_ERROR = b"\0\5"


@implementer(IBatchReceiver)
class TransferProtocol(DatagramProtocol):
    """The port of one transfer. Other peers get ERROR 5 (RFC 1350 section 4).

    It is not connect()ed: the kernel would then drop what other peers send, and they would get no ERROR.
    """

    noisy = False
    _log = Logger()

    def __init__(self, reactor: Any, transfer: Transfer) -> None:
        self._reactor = reactor
        self._transfer = transfer
        self._peer = transfer.request.peer
        self._send: Send = send_nothing

    def startProtocol(self) -> None:
        self._send = sender_of(self.transport)

    def stopProtocol(self) -> None:
        self._send = send_nothing

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        self.datagrams_received(((datagram, addr, None),))

    def datagrams_received(self, batch: Any) -> None:
        """See IBatchReceiver."""
        now = self._reactor.seconds()
        for data, peer, via in batch:
            try:
                if peer == self._peer:
                    if data[:2] not in _REQUEST_OPCODES:
                        self._transfer.datagram(data, now)
                # Never for an ERROR: two servers would answer each other for ever.
                elif data[:2] != _ERROR and len(data) >= 4:
                    self.send(_UNKNOWN_TID, peer, via, 0)
            except Exception:
                self._log.failure("Unexpected error for a datagram of {peer}.", peer=peer)

    def send(self, data: bytes, peer: Address, via: Via | None, segment: int) -> None:
        """See Send."""
        self._send(data, peer, via, segment)


_UNKNOWN_TID = wire.error(wire.ErrorCode.UNKNOWN_TID, "Unknown transfer ID")


def sender_of(transport: Any) -> Send:
    """Return the function that sends by *transport*. What can't be sent counts as lost on the wire."""
    send: Send = transport.write_via if IViaTransport.providedBy(transport) else partial(_write_each, transport)
    return send


def _write_each(transport: Any, data: bytes, peer: Address, via: Via | None, segment: int) -> None:
    """Send by a transport that knows neither arrival addresses nor runs of datagrams."""
    data = bytes(data)  # frames are a memoryview
    try:
        for start in range(0, len(data), segment or len(data)):
            transport.write(data[start : start + segment] if segment else data, peer)
    except (OSError, MessageLengthError):
        return


def bindable(via: Via | None) -> str:
    """Return the local address that the request came to, in a form that a socket can bind; "" when not known."""
    if via is None:
        return ""
    # A link-local address is one of an interface (RFC 4007 section 6).
    link_local = ":" in via.local and ip_address(via.local).is_link_local
    return f"{via.local}%{via.interface}" if link_local else via.local


def opener(reactor: Any, anywhere: str, ports: str | tuple[int, int]) -> Callable[[DatagramProtocol, str], Any]:
    """Return a function that opens a port for one transfer, given its protocol and the local address, "" if not known.

    :param anywhere: the address to bind then.
    :param ports: (first, last) of a range; otherwise the kernel chooses.
    """
    numbers = _Numbers(*ports) if isinstance(ports, tuple) else None
    buffers, once_per = mmsg.Buffers(), OncePer(_AGAIN)

    def open_port(protocol: DatagramProtocol, local: str) -> Any:
        host = local or anywhere
        for number in numbers.all_once() if numbers is not None else (0,):
            try:
                port = listen(reactor, protocol, host, number, buffers=buffers)
            except CannotListenError as error:
                code = getattr(error.socketError, "errno", None)
                if code in (errno.EMFILE, errno.ENFILE):
                    raise too_many() from error
                # Another transfer, or another program, has this port of the range: try the next one.
                if code != errno.EADDRINUSE or numbers is None:
                    raise
                continue
            # Checked on the open port: only its descriptor says how many are in use.
            if not _leaves_descriptors(port):
                port.stopListening()
                raise too_many()
            return port
        raise TransferError("Every transfer port is in use, try again later")

    def too_many() -> TransferError:
        detail = ""
        if once_per.due("descriptors", reactor.seconds()):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            detail = (
                f"all but {SPARE} of {limit} descriptors are in use, and each transfer has its own port; raise "
                'LimitNOFILE= of the unit, or set ports = "single"'
            )
        return TransferError("Too many transfers at once, try again later", detail)

    return open_port


def _leaves_descriptors(port: Any) -> bool:
    """Return whether SPARE descriptors are left beside *port*. The kernel assigns the lowest free number."""
    descriptor = port.fileno() if hasattr(port, "fileno") else -1
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return bool(limit == resource.RLIM_INFINITY or descriptor < limit - SPARE)


class _Numbers:
    """The ports of a range, in turn, so that a port is reused as late as possible."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._count, self._next = first, last - first + 1, 0

    def all_once(self) -> Any:
        """Yield each number once, beginning after the one that was used last."""
        for _ in range(self._count):
            number = self._first + self._next
            self._next = (self._next + 1) % self._count
            yield number
