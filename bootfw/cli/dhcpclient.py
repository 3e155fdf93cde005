"""A DHCP client with blocking sockets: sends a packet and collects every reply to it.

It broadcasts from port 68 of an interface. If that is not possible, or the server is in another network, it sends the
packet to one server by unicast, as a relay would.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from ipaddress import ip_address
from typing import Protocol

from attrs import define, evolve, field, frozen

from bootfw.cli.failure import CommandError
from bootfw.cli.ownaddress import own_address
from bootfw.errors import WireError
from bootfw.net.linux.interfaces import own_addresses
from bootfw.net.linux.portowner import who_holds
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREPLY, UNSPECIFIED, Message, MessageType, pack, parse
from bootfw.wire.options import Option, address, text

BROADCAST = "255.255.255.255"
SERVER_PORT, CLIENT_PORT, BOOT_SERVER_PORT = 67, 68, 4011

_SENT_AT = (0.0, 1.0, 3.0, 7.0)
"""Times in seconds at which a packet is sent until there is a reply. Firmware sends it four times too, but slower."""

_LARGEST = 65536
"""Largest datagram in bytes."""


@frozen
class Offer:
    """A reply of a DHCP server, proxy or boot server."""

    message: Message
    sender: str
    """The source address of the datagram."""
    seconds: float
    """From the first packet that was sent until the reply."""

    @property
    def server(self) -> str:
        """The server's address: option 54, or the sender."""
        raw = self.message.options.get(Option.SERVER_IDENTIFIER, b"")
        return address(raw) if len(raw) == 4 else self.sender

    @property
    def address(self) -> str:
        """The offered address; "": it offers none."""
        return "" if self.message.yiaddr == UNSPECIFIED else self.message.yiaddr

    @property
    def file(self) -> str:
        """The name of the boot file, in option 67 or the file field; "": it names none."""
        return text(self.message.options.get(Option.BOOTFILE_NAME, b"").rstrip(b"\0") or self.message.file)

    @property
    def next_server(self) -> str:
        """The server of the boot file: siaddr, option 66 if it is an address, or else the DHCP server."""
        if self.message.siaddr != UNSPECIFIED:
            return self.message.siaddr
        tftp_server = text(self.message.options.get(Option.TFTP_SERVER_NAME, b"").rstrip(b"\0"))
        return tftp_server or self.server

    @property
    def vendor_class(self) -> str:
        """Option 60; replies of boot servers begin with "PXEClient" or "HTTPClient"."""
        return text(self.message.options.get(Option.VENDOR_CLASS_IDENTIFIER, b""))

    @property
    def pxe(self) -> pxe.VendorOptions:
        """Option 43; empty if it is missing or is not in PXE format."""
        try:
            return pxe.parse(self.message.options.get(Option.VENDOR_SPECIFIC, b""))
        except WireError:
            return pxe.VendorOptions()

    @property
    def kind(self) -> str:
        """The message type: "OFFER", "ACK" and so on."""
        kind = self.message.message_type
        return kind.name if kind is not None else "BOOTP reply"


Build = Callable[[int], Message]
"""Returns the message to send; called with the seconds field of its header."""


class Link(Protocol):
    """A way to send messages to DHCP servers."""

    @property
    def description(self) -> str:
        """Describes the link, such as "on eth0"."""

    @property
    def relay(self) -> str:
        """The relay address (giaddr) of the client's messages; "": they are not relayed."""

    @property
    def unprivileged_relay(self) -> bool:
        """Whether the port of the relay is not 67, so that the server has to support RFC 8357."""

    @property
    def on_this_host(self) -> bool:
        """Whether the server is known to be on this host."""

    def query(self, build: Build, seconds: float) -> list[Offer]:
        """Send a message, and retransmit it while there is no reply.

        :param seconds: how long to wait for further replies after the first one.
        :return: every reply to this client; empty: none arrived in time.
        """

    def send(self, message: Message, server: str) -> None:
        """Send a message to one server; expects no reply."""


@define
class Broadcasts:
    """A Link that broadcasts on the network of an interface.

    :param server_port: the port of the servers.
    :raise CommandError: this process may not use port 68, or another program has it.
    """

    interface: str
    server_port: int = SERVER_PORT
    relay: str = field(default="", init=False)
    unprivileged_relay: bool = field(default=False, init=False)
    on_this_host: bool = field(default=False, init=False)

    @property
    def description(self) -> str:
        """See Link."""
        return f"on {self.interface}"

    def query(self, build: Build, seconds: float) -> list[Offer]:
        """See Link."""
        with closing(self._socket()) as sock:
            return _collected(sock, (BROADCAST, self.server_port), build, seconds)

    def send(self, message: Message, server: str) -> None:
        """See Link."""
        with closing(self._socket()) as sock:
            sock.sendto(pack(message, 1472), (server, self.server_port))

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.interface.encode())
            sock.bind(("0.0.0.0", CLIENT_PORT))
        except OSError as error:
            sock.close()
            more = " or CAP_NET_BIND_SERVICE; without them give SERVER, which is then queried as by a relay"
            raise no_client(error, self.interface, socket.AF_INET, CLIENT_PORT, more) from error
        return sock


def no_client(
    error: OSError, interface: str, family: socket.AddressFamily, port: int, without_root: str = ""
) -> CommandError:
    """Return the error for a client's socket on *interface* that can't be opened.

    :param without_root: the end of the sentence about missing permissions: what else helps.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return CommandError(f"a client on {interface} needs UDP port {port}, which needs root{without_root}")
    if error.errno == errno.EADDRINUSE:
        holder = who_holds(port, family) or "another program"
        return CommandError(f"a client on {interface} needs UDP port {port}; stop {holder}, which uses it")
    if error.errno == errno.ENODEV:
        return CommandError(f"there is no interface {interface}; there are {', '.join(interfaces())}")
    return CommandError(f"{interface}: {error.strerror}")


@define
class Relayed:
    """A Link that sends to one server by unicast, as a relay on this host would.

    :param server: the address of the server.
    """

    server: str
    server_port: int = SERVER_PORT
    relay: str = field(init=False)
    unprivileged_relay: bool = field(init=False)
    on_this_host: bool = field(init=False)
    _port: int = field(init=False, default=SERVER_PORT)
    _to: str = field(init=False)
    """The destination of packets: the server, or the loopback address of this host."""

    def __attrs_post_init__(self) -> None:
        self.relay, self._to = _relay_for(self.server)
        self.on_this_host = self.server in (own_addresses(socket.AF_INET) or ())
        # A server on another port expects relays on that port as well, which it uses itself if it is on this host. With
        # RFC 8357 it replies to any port.
        if self.server_port != SERVER_PORT:
            self._port, self.unprivileged_relay = 0, True
            return
        with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
            try:
                sock.bind((self.relay, SERVER_PORT))
            except OSError:
                self._port = 0  # an ephemeral port: RFC 8357 makes the server reply to it
        self.unprivileged_relay = not self._port

    @property
    def description(self) -> str:
        """See Link."""
        return f"from {self.server}"

    def query(self, build: Build, seconds: float) -> list[Offer]:
        """See Link."""
        with closing(self._socket()) as sock:
            to = self._to, self.server_port
            if self._to == self.server:
                return _collected(sock, to, build, seconds)
            offers = _collected(sock, to, lambda secs: _renamed(build(secs), self.server, self._to), seconds)
            return [evolve(offer, message=_renamed(offer.message, self._to, self.server)) for offer in offers]

    def send(self, message: Message, server: str) -> None:
        """See Link."""
        with closing(self._socket()) as sock:
            sock.sendto(pack(_renamed(message, self.server, self._to), 1472), (self._to, self.server_port))

    def _socket(self) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((self.relay, self._port))
        return sock


_NAMING = frozenset((Option.SERVER_IDENTIFIER, Option.TFTP_SERVER_NAME, Option.BOOTFILE_NAME, Option.VENDOR_SPECIFIC))
"""Options that may contain the address of the server."""


def _renamed(message: Message, old: str, new: str) -> Message:
    """Replace the server's address *old* in *message* by *new*. A server names the address at which it was queried,
    which is not that of its clients if it is a loopback address."""
    if old == new:
        return message
    pairs = (ip_address(old).packed, ip_address(new).packed), (old.encode(), new.encode())

    def renamed(value: bytes) -> bytes:
        for before, after in pairs:
            value = value.replace(before, after)
        return value

    options = {code: renamed(value) for code, value in message.options.items() if code in _NAMING}
    file = message.file.rstrip(b"\0").replace(*pairs[1])
    siaddr = new if message.siaddr == old else message.siaddr
    return evolve(message, siaddr=siaddr, file=file, options={**message.options, **options})


def _relay_for(server: str) -> tuple[str, str]:
    """Return (address of the relay, address to send to).

    A server refuses a relay with the server's own address or a loopback address. For a server on this host, the relay
    therefore has another address of this host, or the packet is sent to the loopback address.
    """
    ours = own_address(server)
    if not ours.startswith("127.") and ours != server:
        return ours, server
    addresses = sorted(each for each in own_addresses(socket.AF_INET) or () if not each.startswith("127."))
    usable = [other for other in addresses if other != server]
    if usable:
        return usable[0], server
    if addresses:
        return addresses[0], "127.0.0.1"
    raise CommandError(f"{server} is this host, which has no other address; give --interface")


def ask_boot_server(server: str, build: Build, seconds: float = 0.5, port: int = BOOT_SERVER_PORT) -> list[Offer]:
    """Send a request to the boot server's port.

    :param server: its address.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.connect((server, port))
        return _collected(sock, None, build, seconds)


def interfaces() -> list[str]:
    """Return the names of the interfaces of this host, except for the loopback interface."""
    return [name for _, name in socket.if_nameindex() if name != "lo"]


def _collected(sock: socket.socket, to: tuple[str, int] | None, build: Build, seconds: float) -> list[Offer]:
    began = time.monotonic()
    found: list[Offer] = []
    for number, after in enumerate(_SENT_AT):
        message = build(int(after))
        try:
            sock.send(pack(message, 1472)) if to is None else sock.sendto(pack(message, 1472), to)
        except OSError as error:
            # ICMP "port unreachable" for the packet before: the server may start meanwhile, so go on.
            if error.errno != errno.ECONNREFUSED:
                raise CommandError(f"can't send to {to[0] if to else 'the boot server'}: {error.strerror}") from error
        until = _SENT_AT[number + 1] if number + 1 < len(_SENT_AT) else after + 4
        for offer in _replies(sock, message, began, began + until):
            found.append(offer)
            break
        if found:
            found += _replies(sock, message, began, time.monotonic() + seconds)
            break
    return found


def _replies(sock: socket.socket, message: Message, began: float, until: float) -> Iterator[Offer]:
    """Yield the replies to *message* that arrive until that time of the monotonic clock."""
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([sock], [], [], left)[0]:
            return
        try:
            data, sender = sock.recvfrom(_LARGEST)
            reply = parse(data)
        except (WireError, ConnectionRefusedError):
            continue
        if reply.op == BOOTREPLY and reply.xid == message.xid and reply.chaddr == message.chaddr:
            yield Offer(reply, sender[0], time.monotonic() - began)


def random_xid() -> int:
    """Return a random transaction id, so that replies to another run are not taken for ours."""
    return int.from_bytes(os.urandom(4), "big")


def offers_of(replies: Sequence[Offer]) -> list[Offer]:
    """Return the offers among *replies*, one for each server and address."""
    found: dict[tuple[str, str], Offer] = {}
    for reply in replies:
        if reply.message.message_type in (MessageType.OFFER, None):
            found.setdefault((reply.server, reply.address), reply)
    return list(found.values())
