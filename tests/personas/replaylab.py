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
    """A server, and one machine on its wire.

    :param server: it gives addresses; else it is a proxy, and nobody does.
    """

    backend: Any
    server: bool = False
    own: tuple[Rule, ...] = ()
    events: list[Event] = field(factory=list)
    network: MemoryNetwork = field(factory=MemoryNetwork)
    clients: Clients = field(factory=Clients)
    _stop: list[Any] = field(factory=list)
    _booting: Any = None
    _up: Any = None

    def __attrs_post_init__(self) -> None:
        host = self.network.host(SERVER, rich=True)
        publish, personas = self.events.append, stock().with_own(self.own)
        chain = ResolverChain(host, [("by-architecture", ByArchitecture(dict(FILES)))], publish, 0.8)
        about: dict[str, Any] = {"personas": personas, "clients": self.clients}
        if self.server:
            addresses = AddressServer([pool(2)])
            journal = Journal(MemoryStore(), publish, host)
            dhcp: Any = server_port(host, chain, publish, addresses, journal, **about)
        else:
            dhcp = proxy_port(host, chain, publish, **about)
        files = TFTPProtocol(host, self.backend, Adaptive(), publish, **about)
        for port, protocol in ((67, dhcp), (4011, boot_server_port(host, chain, publish, **about)), (69, files)):
            self._stop.append((protocol, host.listenUDP(port, protocol)))
        self._booting = FakePeer(self.network.host(), 68)
        self._up = self.network.host(ADDRESS)

    def says(self, message: Message) -> list[Message]:
        """What is broadcast to the machine, after it has broadcast *message*."""
        self._booting.send(dhcp4.pack(message, 1472), ("255.255.255.255", 67))
        self.network.advance(0.1)
        heard = [received.data for received in self._booting.take() if received.data[0] == dhcp4.BOOTREPLY]
        return [dhcp4.parse(data) for data in heard]

    def discovers(self, client: Client) -> Message:
        [offer] = self.says(client.message())
        assert offer.message_type is MessageType.OFFER
        return offer

    def file(self, name: str, *options: tuple[str, str]) -> "Asking":
        """The machine, which has an address by now, asks for a file."""
        asking = Asking(self, FakePeer(self._up, 0))
        asking.say(tftp.request(False, name, "octet", options))
        return asking

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
            assert self.backend.all_given_back()


@define(eq=False)
class Asking:
    """A client in a transfer."""

    _lab: Lab
    _peer: FakePeer
    heard: list[tftp.Packet] = field(factory=list)
    """In answer to what it has said last."""
    _tid: Address = (SERVER, 69)

    def say(self, *datagrams: bytes) -> list[tftp.Packet]:
        for datagram in datagrams:
            self._peer.send(datagram, self._tid)
        self._lab.network.advance(0.005)
        taken = self._peer.take()
        self._tid = taken[-1].peer if taken else self._tid
        self.heard = [tftp.parse(received.data) for received in taken]
        return self.heard

    def rest(self, blksize: int, windowsize: int = 1, tail: bytes = b"") -> bytes:
        """Acknowledges what it has heard and goes on to the end of the file. *tail* follows each ACK."""
        content, block = b"", 0
        if isinstance(self.heard[0], tftp.OptionAck):
            self.say(tftp.ack(0) + tail)
        while True:
            heard = [of_type(tftp.Data, packet) for packet in self.heard]
            if heard[-1].block != block + len(heard):
                # Out of order: it is answered at once (RFC 7440 section 4), and comes behind what is in order.
                assert heard.pop().payload == b""
            assert [packet.block for packet in heard] == list(range(block + 1, block + 1 + len(heard)))
            assert 0 < len(heard) <= windowsize
            content += b"".join(packet.payload for packet in heard)
            block += len(heard)
            last = heard[-1].payload
            self.say(tftp.ack(block) + tail)
            if len(last) < blksize:
                assert self.heard == []
                return content
