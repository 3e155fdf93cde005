"""Detects other boot servers on our links: with two of them a client boots from whichever answers first.

A client without an address is reached by broadcast only, so all hosts of the link receive the OFFER of a PXE proxy. The
DHCP client of this host owns UDP port 68, so a packet socket is used, with a filter that passes DHCP replies of other
hosts and nothing else.
"""

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from zope.interface import implementer

from bootfw.boot.onceper import OncePer
from bootfw.errors import WireError
from bootfw.events import Event, OtherBootServerSeen
from bootfw.net.dhcp.conflict import attach_filter
from bootfw.net.linux.interfaces import Interfaces
from bootfw.values import Via
from bootfw.wire.dhcp4 import BOOTREPLY, Message, parse
from bootfw.wire.options import Option, text

_BATCH = 16
"""Packets read in one turn of the reactor."""

_REPEATED_AFTER = 10.0
"""Seconds until the same reply to a client is reported again: servers answer each retry of a DISCOVER."""

_ETH_P_IP = 0x0800
_UDP_HEADER = 8
_DROP = 12
"""Index of the instruction that drops a packet; jumps are relative to the next instruction (bpf(4))."""


def _filter(server_port: int, client_port: int) -> list[tuple[int, int, int, int]]:
    """Build a BPF program that passes unfragmented UDP from *server_port* to *client_port* with a BOOTREPLY.

    It need not drop what this host sends: the kernel does not pass outgoing packets to a packet socket that is bound to
    one protocol (packet(7)).
    """
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, _DROP - 2, socket.IPPROTO_UDP),
        (0x28, 0, 0, 6),  # the offset of the fragment
        (0x45, _DROP - 4, 0, 0x1FFF),
        (0xB1, 0, 0, 0),  # the length of the IP header
        (0x48, 0, 0, 0),
        (0x15, 0, _DROP - 7, server_port),
        (0x48, 0, 0, 2),
        (0x15, 0, _DROP - 9, client_port),
        (0x50, 0, 0, _UDP_HEADER),
        (0x15, 0, _DROP - 11, BOOTREPLY),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    ]
    assert len(program) == _DROP + 1
    return program


@implementer(IReadDescriptor)
class OtherBootServers:
    """Publishes an OtherBootServerSeen for each reply of another server that is about booting.

    :param reactor: IReactorFDSet and IReactorTime.
    :param interfaces: the interfaces that are served; replies on others are ignored.
    :raise OSError: this process lacks CAP_NET_RAW, or the system is not Linux.
    """

    def __init__(
        self,
        reactor: Any,
        publish: Callable[[Event], None],
        interfaces: Interfaces,
        server_port: int = 67,
        client_port: int = 68,
    ) -> None:
        if not hasattr(socket, "AF_PACKET"):
            raise OSError("there are no packet sockets")
        self._reactor = reactor
        self._publish = publish
        self._interfaces = interfaces
        self._once_per = OncePer(_REPEATED_AFTER)
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_IP))
        attach_filter(self._socket, _filter(server_port, client_port))
        reactor.addReader(self)

    def close(self) -> None:
        """Close the socket."""
        if self.fileno() >= 0:
            self._reactor.removeReader(self)
            self._socket.close()

    # IReadDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._socket.fileno()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "other boot servers"

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor. The reactor has given up the descriptor."""
        self.close()

    def doRead(self) -> None:
        """See IReadDescriptor."""
        for _ in range(_BATCH):
            try:
                packet, sender = self._socket.recvfrom(65535)
            except OSError:  # there are no more, or an interface is down
                return
            self._received(packet, sender[0])

    def _received(self, packet: bytes, interface: str) -> None:
        try:
            message = parse(packet[4 * (packet[0] & 15) + _UDP_HEADER :])
        except (WireError, IndexError):
            return
        file = _boot_file(message)
        raw = message.options.get(Option.SERVER_IDENTIFIER, b"")
        server = socket.inet_ntoa(raw if len(raw) == 4 else packet[12:16])
        if file is None or self._interfaces.is_own(server) or not self._serves(interface):
            return
        # Publish later in this turn: the DISCOVER that it answers may still be in the buffer of the DHCP socket, and
        # the boot attempt begins with it.
        now = self._reactor.seconds()
        if self._once_per.due((server, message.mac, file), now):
            self._reactor.callLater(0, self._publish, OtherBootServerSeen(now, server, interface, message.mac, file))

    def _serves(self, interface: str) -> bool:
        try:
            return self._interfaces.serves(Via("", socket.if_nametoindex(interface), ""))
        except OSError:
            return False  # it is gone


def _boot_file(message: Message) -> str | None:
    """Return the boot file in a reply, "" if it refers to port 4011, None if it is not about booting."""
    name = message.options.get(Option.BOOTFILE_NAME, b"") or message.file
    if name:
        return text(name)
    vendor_class = message.options.get(Option.VENDOR_CLASS_IDENTIFIER, b"")
    return "" if vendor_class.startswith((b"PXEClient", b"HTTPClient")) else None
