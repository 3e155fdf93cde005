"""The proxy on a real kernel: broadcasts on two wires, an unnumbered interface, the choice of interfaces."""

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import firmware
import pytest
from dhcpports import boot_server_port, proxy_port, server_port
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.events import Event, OfferMade, OfferWithheld, RequestIgnored
from bootfw.net.dhcp.journal import Journal
from bootfw.net.dhcp.proxy import Proxy4
from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.udp.port import listen
from bootfw.resolvers.static import StaticResolver
from bootfw.stores.memory import MemoryStore
from bootfw.wire.dhcp4 import BROADCAST_FLAG, Message, pack, parse

from .namespaces import Host

SO_BINDTODEVICE = 25

StartProxy = Callable[..., list[Any]]
"""The fixture ``proxy``: gives the list that the events will be in, which are of any kind."""


@pytest.fixture
def proxy(hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[StartProxy]:
    """Starts the proxy on both ports of the server; what it is called with goes to the protocols."""
    server, _ = hosts
    chain = ResolverChain(private_reactor, [("static", StaticResolver("boot.file"))], lambda event: None, 0.8)
    ports = []

    def start(kind: Callable[..., Proxy4] = proxy_port, port: int = 67, **options: Any) -> list[Any]:
        events: list[Any] = []
        with server.inside():
            ports.append(
                listen(private_reactor, kind(private_reactor, chain, events.append, **options), "0.0.0.0", port)
            )
        return events

    yield start
    stopped = [port.stopListening() for port in ports]
    turn_until(lambda: all(waiting.called for waiting in stopped))


@pytest.fixture
def run_until(hosts: tuple[Host, Host], turn_until: TurnUntil) -> Callable[[Callable[..., Any]], None]:
    """Turn the reactor in the server's namespace, where the names of interfaces are its own."""
    server, _ = hosts

    def run(condition: Callable[..., Any]) -> None:
        with server.inside():
            turn_until(condition)

    return run


@pytest.fixture
def client(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """Makes sockets of the client, one bound to each wire."""
    _, client = hosts
    made = []

    def open_socket(interface: str, port: int = 68) -> socket.socket:
        with client.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, interface.encode())
        sock.setblocking(False)
        sock.bind(("", port))
        return sock

    yield open_socket
    for sock in made:
        sock.close()


Replies = list[tuple[Message, tuple[str, int]]]


def received(sock: socket.socket) -> Replies:
    found = []
    with suppress(BlockingIOError):
        while True:
            data, peer = sock.recvfrom(2048)
            found.append((parse(data), peer))
    return found


def gathered(sock: socket.socket, replies: Replies) -> Replies:
    """The same, added to what has come before."""
    replies.extend(received(sock))
    return replies


@pytest.mark.parametrize(("interface", "address"), [("c0", "10.9.0.1"), ("c1", "10.9.1.1")])
def test_each_link_gets_the_address_that_it_can_reach(
    proxy: StartProxy,
    client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    interface: str,
    address: str,
) -> None:
    events = proxy()
    here = client(interface)
    other = client("c1" if interface == "c0" else "c0")
    here.sendto(firmware.IPXE_ROM.datagram(), ("255.255.255.255", 67))
    replies: Replies = []
    run_until(lambda: gathered(here, replies))

    [(offer, peer)] = replies
    assert peer == (address, 67)
    assert offer.siaddr == address
    assert offer.options[54] == socket.inet_aton(address)
    assert received(other) == []
    [made] = [event for event in events if isinstance(event, OfferMade)]
    assert made.request.interface == interface.replace("c", "s")


def test_the_boot_server_answers_from_the_requested_address(
    proxy: StartProxy, client: Callable[..., socket.socket], run_until: Callable[[Callable[..., Any]], None]
) -> None:
    proxy(boot_server_port, 4011)
    here = client("c0", 4011)
    here.sendto(pack(firmware.asks_boot_server(firmware.OVMF), 1472), ("10.9.0.2", 4011))
    replies: Replies = []
    run_until(lambda: gathered(here, replies))

    [(ack, peer)] = replies
    assert peer == ("10.9.0.2", 4011)
    assert (ack.siaddr, ack.file) == ("10.9.0.2", b"boot.file")


def test_interfaces_that_are_not_named_are_not_served(
    proxy: StartProxy, client: Callable[..., socket.socket], run_until: Callable[[Callable[..., Any]], None]
) -> None:
    events = proxy(interfaces=Interfaces(["s1"]))
    ignored, served = client("c0"), client("c1")
    ignored.sendto(firmware.IPXE_ROM.datagram(xid=1), ("255.255.255.255", 67))
    served.sendto(firmware.IPXE_ROM.datagram(xid=2), ("255.255.255.255", 67))
    run_until(lambda: received(served))

    assert {event.request.xid for event in events if not isinstance(event, RequestIgnored)} == {2}
    assert received(ignored) == []


def test_an_interface_without_an_address_offers_nothing(
    hosts: tuple[Host, Host],
    proxy: StartProxy,
    client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
) -> None:
    """The kernel lends it the address of another wire, which its clients can't reach."""
    server, other = hosts
    server.ip("link", "add", "s2", "type", "veth", "peer", "name", "c2", "netns", other.name)
    try:
        server.ip("link", "set", "s2", "up")
        other.ip("link", "set", "c2", "up")
        events = proxy()
        here = client("c2")
        here.sendto(firmware.IPXE_ROM.datagram(), ("255.255.255.255", 67))
        run_until(lambda: [event for event in events if isinstance(event, OfferWithheld)])

        [withheld] = [event for event in events if isinstance(event, OfferWithheld)]
        assert withheld.reason.startswith("interface s2 has no IPv4 address")
        assert received(here) == []
    finally:
        server.ip("link", "delete", "s2")


@pytest.fixture
def second(hosts: tuple[Host, Host]) -> Iterator[str]:
    """The server's end of wire 0 has an address in another network too."""
    server, _ = hosts
    server.ip("addr", "add", "10.99.0.1/24", "dev", "s0", "label", "s0:1")
    yield "10.99.0.1"
    server.ip("addr", "del", "10.99.0.1/24", "dev", "s0")


def offered_by(
    proxy_events: list[Event], client: socket.socket, run_until: Callable[[Callable[..., Any]], None], **fields: Any
) -> Message:
    client.sendto(firmware.IPXE_ROM.datagram(**fields), ("255.255.255.255", 67))
    replies: Replies = []
    run_until(lambda: gathered(client, replies))
    [(offer, _)] = replies
    return offer


def asking_for(address: str, kind: int = 1) -> dict[int, bytes]:
    return {**firmware.IPXE_ROM.options, 53: bytes((kind,)), 50: socket.inet_aton(address)}


def test_a_proxy_names_its_address_in_the_clients_network(
    proxy: StartProxy,
    client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    second: str,
) -> None:
    """A proxy can't know that network, unless the client requests its former address, or other clients have addresses
    of it."""
    events, here = proxy(), client("c0")

    assert offered_by(events, here, run_until).siaddr == "10.9.0.1"
    assert offered_by(events, here, run_until, options=asking_for("10.99.0.7")).siaddr == second
    assert offered_by(events, here, run_until).siaddr == "10.9.0.1"
    here.sendto(firmware.DHCPCD.datagram(options=asking_for("10.99.0.8", 3)), ("255.255.255.255", 67))
    assert offered_by(events, here, run_until).siaddr == second
    assert offered_by(events, here, run_until, options=asking_for("172.16.0.1")).siaddr == second


def test_a_server_gives_addresses_of_the_network_of_its_second_address(
    hosts: tuple[Host, Host],
    private_reactor: EPollReactor,
    client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    second: str,
    turn_until: TurnUntil,
) -> None:
    store = MemoryStore()
    addresses = AddressServer([Subnet(network="10.99.0.0/24", pool=["10.99.0.100"])])
    events: list[Event] = []
    journal = Journal(store, events.append, private_reactor)
    chain = ResolverChain(private_reactor, [("static", StaticResolver("boot.file"))], events.append, 0.8)
    with hosts[0].inside():
        protocol = server_port(private_reactor, chain, events.append, addresses, journal)
        port = listen(private_reactor, protocol, "0.0.0.0", 67)
    offer = offered_by(events, client("c0"), run_until, flags=BROADCAST_FLAG)
    protocol.close()
    stopped = port.stopListening()
    turn_until(lambda: stopped.called)

    assert (offer.yiaddr, offer.siaddr) == ("10.99.0.100", second)
    assert offer.options[54] == socket.inet_aton(second)
    [made] = [event for event in events if isinstance(event, OfferMade)]
    assert made.request.server == second
