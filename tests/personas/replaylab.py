"""All of bootfw's IPv4 ports on a network in memory, for clients that are replayed packet by packet."""

from typing import Any

from attrs import define, field
from dhcpports import boot_server_port, proxy_port, server_port
from firmware import Client
from leasing import pool
from narrowing import of_type
from tftpserver import Files

from bootfw.boot.clients import Clients
from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.server import AddressServer
from bootfw.events import Event, OfferMade, TransferEnded
from bootfw.net.dhcp.journal import Journal
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.personas.rule import Rule
from bootfw.personas.table import stock
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import Address, TransferReport
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import dhcp4, tftp
from bootfw.wire.dhcp4 import Message, MessageType

SERVER = "10.77.0.1"
ADDRESS = "10.77.0.100"
FILES = {
    "x86-bios": "pxelinux.0",
    "x86_64-uefi": "bootmgfw.efi",
    "arm-rpiboot": "bootcode.bin",
    "network-gear": "network-confg",
    "unknown": "undionly.kpxe",
}


@define(eq=False)
class Lab:
    """A server, and one machine on its link.

    :param server: whether the DHCP server assigns addresses; else it is a proxy, and nothing assigns addresses.
    """

    backend: Any
    server: bool = False
    own_personas: tuple[Rule, ...] = ()
    events: list[Event] = field(factory=list)
    network: MemoryNetwork = field(factory=MemoryNetwork)
    clients: Clients = field(factory=Clients)
    _stop: list[Any] = field(factory=list)
    _booting_peer: Any = None
    _machine_host: Any = None

    def __attrs_post_init__(self) -> None:
        host = self.network.host(SERVER, rich=True)
        publish, personas = self.events.append, stock().with_own(self.own_personas)
        chain = ResolverChain(host, [("by-architecture", ByArchitecture(dict(FILES)))], publish, 0.8)
        dependencies: dict[str, Any] = {"personas": personas, "clients": self.clients}
        if self.server:
            addresses = AddressServer([pool(2)])
            journal = Journal(MemoryStore(), publish, host)
            dhcp: Any = server_port(host, chain, publish, addresses, journal, **dependencies)
        else:
            dhcp = proxy_port(host, chain, publish, **dependencies)
        files = TFTPProtocol(host, self.backend, Adaptive(), publish, **dependencies)
        for port, protocol in ((67, dhcp), (4011, boot_server_port(host, chain, publish, **dependencies)), (69, files)):
            self._stop.append((protocol, host.listenUDP(port, protocol)))
        self._booting_peer = FakePeer(self.network.host(), 68)
        self._machine_host = self.network.host(ADDRESS)

    def send(self, message: Message) -> list[Message]:
        """Broadcast *message* from the machine; returns the replies that it receives."""
        self._booting_peer.send(dhcp4.pack(message, 1472), ("255.255.255.255", 67))
        self.network.advance(0.1)
        datagrams = [datagram.data for datagram in self._booting_peer.take() if datagram.data[0] == dhcp4.BOOTREPLY]
        return [dhcp4.parse(data) for data in datagrams]

    def discovers(self, client: Client) -> Message:
        [offer] = self.send(client.message())
        assert offer.message_type is MessageType.OFFER
        return offer

    def request_file(self, name: str, *options: tuple[str, str]) -> "TransferClient":
        """Request a file by TFTP; the machine has an address by now."""
        client = TransferClient(self, FakePeer(self._machine_host, 0))
        client.send(tftp.request(False, name, "octet", options))
        return client

    @property
    def reports(self) -> list[TransferReport]:
        return [event.report for event in self.events if isinstance(event, TransferEnded)]

    @property
    def outcomes(self) -> list[str]:
        return [report.outcome.name for report in self.reports]

    @property
    def offers(self) -> list[OfferMade]:
        return [event for event in self.events if isinstance(event, OfferMade)]

    def stop(self) -> None:
        for protocol, port in self._stop:
            protocol.close()
            port.stopListening()
        for host in self.network.hosts[1:]:
            for port in list(host.ports):
                port.stopListening()
        self.network.advance(0)
        assert self.network.leaks() == []
        if isinstance(self.backend, Files):
            assert self.backend.all_closed()


@define(eq=False)
class TransferClient:
    """A TFTP client in a transfer."""

    _lab: Lab
    _peer: FakePeer
    replies: list[tftp.Packet] = field(factory=list)
    """The packets that the server has sent in answer to the last datagrams."""
    _tid: Address = (SERVER, 69)

    def send(self, *datagrams: bytes) -> list[tftp.Packet]:
        for datagram in datagrams:
            self._peer.send(datagram, self._tid)
        self._lab.network.advance(0.005)
        received = self._peer.take()
        self._tid = received[-1].peer if received else self._tid
        self.replies = [tftp.parse(datagram.data) for datagram in received]
        return self.replies

    def receive_rest(self, blksize: int, windowsize: int = 1, tail: bytes = b"") -> bytes:
        """Acknowledge the replies and receive the file to its end; returns its content. *tail* follows each ACK."""
        content, block = b"", 0
        if isinstance(self.replies[0], tftp.OptionAck):
            self.send(tftp.ack(0) + tail)
        while True:
            replies = [of_type(tftp.Data, packet) for packet in self.replies]
            if replies[-1].block != block + len(replies):
                # A marker is out of order: it is answered at once (RFC 7440 section 4), and comes behind the others.
                assert replies.pop().payload == b""
            assert [packet.block for packet in replies] == list(range(block + 1, block + 1 + len(replies)))
            assert 0 < len(replies) <= windowsize
            content += b"".join(packet.payload for packet in replies)
            block += len(replies)
            last = replies[-1].payload
            self.send(tftp.ack(block) + tail)
            if len(last) < blksize:
                assert self.replies == []
                return content
