"""A DHCPv6 client with a blocking socket: multicasts a SOLICIT on an interface, and collects the ADVERTISEs."""

import os
import select
import socket
import time
from collections.abc import Callable
from contextlib import closing

from attrs import frozen

from bootfw.cli.dhcpclient import no_client
from bootfw.cli.failure import CommandError
from bootfw.errors import WireError
from bootfw.wire.dhcp6 import Message, MessageType, pack, parse

ALL_SERVERS = "ff02::1:2"
"""All_DHCP_Relay_Agents_and_Servers, RFC 8415 section 7.1."""

SERVER_PORT, CLIENT_PORT = 547, 546

_SENT_AT = (0.0, 1.0, 3.0)
"""Times in seconds at which a SOLICIT is sent until there is an ADVERTISE, and 4 s more."""

_LARGEST = 65536
"""Largest datagram in bytes."""


@frozen
class Advertise:
    """A reply of a DHCPv6 server."""

    message: Message
    sender: str
    """The source address of the datagram, without a scope id."""


Build6 = Callable[[int], Message]
"""Returns the SOLICIT to send; called with the transaction id."""


@frozen
class Multicasts:
    """Sends SOLICITs on the network of an interface.

    :param server: the server whose ADVERTISEs count. With an address that is not link-local, those of any server do,
        since a server replies from its link-local address.
    """

    interface: str
    server: str

    def query(self, build: Build6) -> list[Advertise]:
        """Send a SOLICIT, again while there is no ADVERTISE, and return those that arrive within 0.3 s of the first.

        :raise CommandError: this process may not use port 546, another program has it, or several servers answer.
        """
        message = build(int.from_bytes(os.urandom(3), "big"))
        with closing(self._socket()) as sock:
            found = self._collected(sock, message)
        senders = sorted({each.sender for each in found})
        if len(senders) > 1:
            raise CommandError(f"several servers answer on {self.interface}: give one of them, {', '.join(senders)}")
        return found

    def _collected(self, sock: socket.socket, message: Message) -> list[Advertise]:
        to = (ALL_SERVERS, SERVER_PORT, 0, socket.if_nametoindex(self.interface))
        began = time.monotonic()
        found: list[Advertise] = []
        for number, after in enumerate(_SENT_AT):
            try:
                sock.sendto(pack(message), to)
            except OSError as error:
                raise CommandError(f"can't send on {self.interface}: {error.strerror}") from error
            until = began + (_SENT_AT[number + 1] if number + 1 < len(_SENT_AT) else after + 4)
            while (left := until - time.monotonic()) > 0 and select.select([sock], [], [], left)[0]:
                data, (sender, *_) = sock.recvfrom(_LARGEST)
                sender = sender.partition("%")[0]
                if self._is_of_server(sender) and (reply := _advertise(data, message.xid)):
                    if not found:
                        until = time.monotonic() + 0.3
                    found.append(Advertise(reply, sender))
            if found:
                break
        return found

    def _is_of_server(self, sender: str) -> bool:
        return sender == self.server or not self.server.startswith("fe80:")

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(("::", CLIENT_PORT))
        except OSError as error:
            sock.close()
            raise no_client(error, self.interface, socket.AF_INET6, CLIENT_PORT) from error
        return sock


def _advertise(data: bytes, xid: int) -> Message | None:
    try:
        message, relays = parse(data)
    except WireError:
        return None
    expected = message.kind == MessageType.ADVERTISE and message.xid == xid and not relays
    return message if expected else None
