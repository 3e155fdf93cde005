"""The proxy and the server on a real kernel: broadcasts on two links, an interface without an address, the choice of
interfaces, and two networks on one link."""

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

StartProxy = Callable[..., list[Any]]
"""The fixture ``proxy``: returns the list to which its events are added."""


@pytest.fixture
def proxy(hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[StartProxy]:
    """Starts a port of the proxy on the server's host; its options are those of the functions of dhcpports."""
    server, _ = hosts
    chain = ResolverChain(private_reactor, [("static", StaticResolver("boot.file"))], lambda event: None, 0.8)
    ports = []

    def start(make_port: Callable[..., Proxy4] = proxy_port, port: int = 67, **options: Any) -> list[Any]:
        events: list[Any] = []
        with server.inside():
            ports.append(
                listen(private_reactor, make_port(private_reactor, chain, events.append, **options), "0.0.0.0", port)
            )
        return events

    yield start
    stopped = [port.stopListening() for port in ports]
    turn_until(lambda: all(deferred.called for deferred in stopped))


@pytest.fixture
def run_until(hosts: tuple[Host, Host], turn_until: TurnUntil) -> Callable[[Callable[..., Any]], None]:
    """Turns the reactor in the server's namespace, so that its interfaces have their names."""
    server, _ = hosts

    def run(condition: Callable[..., Any]) -> None:
        with server.inside():
            turn_until(condition)

    return run


@pytest.fixture
def open_client(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """Opens a socket on an interface of the client."""
    _, client = hosts
    sockets = []

    def open_socket(interface: str, port: int = 68) -> socket.socket:
        with client.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sockets.append(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setblocking(False)
        sock.bind(("", port))
        return sock

    yield open_socket
    for sock in sockets:
        sock.close()


Replies = list[tuple[Message, tuple[str, int]]]


def received(sock: socket.socket) -> Replies:
    """The replies in the buffer of *sock*, with their senders."""
    replies = []
    with suppress(BlockingIOError):
        while True:
            data, peer = sock.recvfrom(2048)
            replies.append((parse(data), peer))
    return replies


def gathered(sock: socket.socket, replies: Replies) -> Replies:
    """Add the replies in the buffer of *sock* to *replies*, and return all."""
    replies.extend(received(sock))
    return replies


@pytest.mark.parametrize(("interface", "address"), [("c0", "10.9.0.1"), ("c1", "10.9.1.1")])
def test_each_link_gets_the_address_that_it_can_reach(
    proxy: StartProxy,
    open_client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    interface: str,
    address: str,
) -> None:
    events = proxy()
    sock = open_client(interface)
    other = open_client("c1" if interface == "c0" else "c0")
    sock.sendto(firmware.IPXE_ROM.datagram(), ("255.255.255.255", 67))
    replies: Replies = []
    run_until(lambda: gathered(sock, replies))

    [(offer, peer)] = replies
    assert peer == (address, 67)
    assert offer.siaddr == address
    assert offer.options[54] == socket.inet_aton(address)
    assert received(other) == []
    [event] = [event for event in events if isinstance(event, OfferMade)]
    assert event.request.interface == interface.replace("c", "s")


def test_the_boot_server_answers_from_the_requested_address(
    proxy: StartProxy, open_client: Callable[..., socket.socket], run_until: Callable[[Callable[..., Any]], None]
) -> None:
    proxy(boot_server_port, 4011)
    sock = open_client("c0", 4011)
    sock.sendto(pack(firmware.boot_server_request(firmware.OVMF), 1472), ("10.9.0.2", 4011))
    replies: Replies = []
    run_until(lambda: gathered(sock, replies))

    [(ack, peer)] = replies
    assert peer == ("10.9.0.2", 4011)
    assert (ack.siaddr, ack.file) == ("10.9.0.2", b"boot.file")


def test_interfaces_that_are_not_named_are_not_served(
    proxy: StartProxy, open_client: Callable[..., socket.socket], run_until: Callable[[Callable[..., Any]], None]
) -> None:
    events = proxy(interfaces=Interfaces(["s1"]))
    ignored, served = open_client("c0"), open_client("c1")
    ignored.sendto(firmware.IPXE_ROM.datagram(xid=1), ("255.255.255.255", 67))
    served.sendto(firmware.IPXE_ROM.datagram(xid=2), ("255.255.255.255", 67))
    run_until(lambda: received(served))

    assert {event.request.xid for event in events if not isinstance(event, RequestIgnored)} == {2}
    assert received(ignored) == []


def test_an_interface_without_an_address_offers_nothing(
    hosts: tuple[Host, Host],
    proxy: StartProxy,
    open_client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
) -> None:
    """The kernel lends it the address of another wire, which its clients can't reach."""
    server, client_host = hosts
    server.ip("link", "add", "s2", "type", "veth", "peer", "name", "c2", "netns", client_host.name)
    try:
        server.ip("link", "set", "s2", "up")
        client_host.ip("link", "set", "c2", "up")
        events = proxy()
        sock = open_client("c2")
        sock.sendto(firmware.IPXE_ROM.datagram(), ("255.255.255.255", 67))
        run_until(lambda: [event for event in events if isinstance(event, OfferWithheld)])

        [withheld] = [event for event in events if isinstance(event, OfferWithheld)]
        assert withheld.reason.startswith("interface s2 has no IPv4 address")
        assert received(sock) == []
    finally:
        server.ip("link", "delete", "s2")


@pytest.fixture
def second_address(hosts: tuple[Host, Host]) -> Iterator[str]:
    """Gives the server's interface of wire 0 an address in another network too."""
    server, _ = hosts
    server.ip("addr", "add", "10.99.0.1/24", "dev", "s0", "label", "s0:1")
    yield "10.99.0.1"
    server.ip("addr", "del", "10.99.0.1/24", "dev", "s0")


def offer_to(client: socket.socket, run_until: Callable[[Callable[..., Any]], None], **fields: Any) -> Message:
    """The OFFER to a DISCOVER with these *fields*."""
    client.sendto(firmware.IPXE_ROM.datagram(**fields), ("255.255.255.255", 67))
    replies: Replies = []
    run_until(lambda: gathered(client, replies))
    [(offer, _)] = replies
    return offer


def requesting(address: str, kind: int = 1) -> dict[int, bytes]:
    """The options of a message of that *kind* with *address* as the requested address."""
    return {**firmware.IPXE_ROM.options, 53: bytes((kind,)), 50: socket.inet_aton(address)}


def test_a_proxy_names_its_address_in_the_clients_network(
    proxy: StartProxy,
    open_client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    second_address: str,
) -> None:
    """A proxy can't know that network, unless the client requests its former address, or other clients have addresses
    of it."""
    proxy()
    sock = open_client("c0")

    assert offer_to(sock, run_until).siaddr == "10.9.0.1"
    assert offer_to(sock, run_until, options=requesting("10.99.0.7")).siaddr == second_address
    assert offer_to(sock, run_until).siaddr == "10.9.0.1"
    sock.sendto(firmware.DHCPCD.datagram(options=requesting("10.99.0.8", 3)), ("255.255.255.255", 67))
    assert offer_to(sock, run_until).siaddr == second_address
    assert offer_to(sock, run_until, options=requesting("172.16.0.1")).siaddr == second_address


def test_a_server_gives_addresses_of_the_network_of_its_second_address(
    hosts: tuple[Host, Host],
    private_reactor: EPollReactor,
    open_client: Callable[..., socket.socket],
    run_until: Callable[[Callable[..., Any]], None],
    second_address: str,
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
    offer = offer_to(open_client("c0"), run_until, flags=BROADCAST_FLAG)
    protocol.close()
    stopped = port.stopListening()
    turn_until(lambda: stopped.called)

    assert (offer.yiaddr, offer.siaddr) == ("10.99.0.100", second_address)
    assert offer.options[54] == socket.inet_aton(second_address)
    [event] = [event for event in events if isinstance(event, OfferMade)]
    assert event.request.server == second_address
