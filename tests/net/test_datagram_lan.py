"""Our UDP port between two hosts on two wires."""

import contextlib
import socket
from collections.abc import Callable, Iterator

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.net.linux.interfaces import Interfaces
from bootfw.net.udp.port import DatagramPort, listen
from bootfw.values import Address, Via

from .namespaces import Host
from .recorders import Batches, Echo

pytestmark = pytest.mark.interop

PORT = 10069
CLIENT_PORT = 10068


@pytest.fixture
def start_port(
    hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[Callable[[Batches | Echo, str], DatagramPort]]:
    """Calls listen() on the server."""
    server, _ = hosts
    ports = []

    def start(protocol: Batches | Echo, address: str) -> DatagramPort:
        with server.inside():
            ports.append(listen(private_reactor, protocol, address, PORT))
        port: DatagramPort = ports[-1]
        return port

    yield start
    stopped: list[None] = []
    for port in ports:
        port.stopListening().addCallback(stopped.append)
    turn_until(lambda: len(stopped) == len(ports))


@pytest.fixture
def open_client(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """Opens a socket on an interface of the client, and connects it to a *server*, if there is one."""
    _, host = hosts
    with contextlib.ExitStack() as stack:

        def open_socket(
            interface: str, *, family: socket.AddressFamily = socket.AF_INET, server: tuple[str, int] | None = None
        ) -> socket.socket:
            with host.inside():
                sock = stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                sock.settimeout(10)
                sock.bind(("", CLIENT_PORT))
                if server is not None:
                    sock.connect(server)
                return sock

        yield open_socket


@pytest.fixture
def index_of(hosts: tuple[Host, Host]) -> Callable[[str], int]:
    """Returns the index of an interface of the server."""
    server, _ = hosts

    def find(name: str) -> int:
        with server.inside():
            return socket.if_nametoindex(name)

    return find


def receives_nothing(sock: socket.socket) -> bool:
    """Whether no datagram arrives within 50 ms."""
    sock.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        return not sock.recv(100)
    return True


@pytest.mark.parametrize(("wildcard", "requested"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
@pytest.mark.parametrize("count", [1, 5])
def test_the_reply_leaves_from_the_requested_secondary_address(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
    turn_until: TurnUntil,
    wildcard: str,
    requested: str,
    count: int,
) -> None:
    """A connected socket, which a boot ROM may have, receives replies from that address only."""
    protocol = Batches()
    start_port(protocol, wildcard)
    sock = open_client("c0", family=socket.AF_INET6 if ":" in requested else socket.AF_INET, server=(requested, PORT))
    for n in range(count):
        sock.send(b"%d" % n)
    turn_until(lambda: len(protocol.received) == count)
    assert {via for _, _, via in protocol.received} == {Via(requested, index_of("s0"), requested)}
    assert [sock.recv(10) for _ in range(count)] == [b"%d" % n for n in range(count)]


@pytest.mark.parametrize(("wildcard", "requested"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
def test_a_window_leaves_from_the_requested_address(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    turn_until: TurnUntil,
    wildcard: str,
    requested: str,
) -> None:
    """UDP_SEGMENT over veth: 40 blocks of the largest size that fits the frame."""
    segment = 1500 - (48 if ":" in requested else 28)
    protocol = Batches(lambda transport, data, peer, via: transport.write_via(data * segment * 40, peer, via, segment))
    port = start_port(protocol, wildcard)
    sock = open_client("c0", family=socket.AF_INET6 if ":" in requested else socket.AF_INET, server=(requested, PORT))
    sock.send(b"x")
    assert not protocol.received
    turn_until(lambda: protocol.received)
    assert [sock.recv(2000) for _ in range(40)] == [b"x" * segment] * 40
    assert port.counters.sent == 40
    assert port.counters.send_errors == 0


@pytest.mark.parametrize(("wildcard", "requested"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
@pytest.mark.parametrize("size", [4000, 65000])
def test_blocks_larger_than_the_mtu_are_fragmented(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    turn_until: TurnUntil,
    wildcard: str,
    requested: str,
    size: int,
) -> None:
    protocol = Batches(lambda transport, data, peer, via: transport.write_via(data * size * 3, peer, via, size))
    port = start_port(protocol, wildcard)
    sock = open_client("c0", family=socket.AF_INET6 if ":" in requested else socket.AF_INET, server=(requested, PORT))
    sock.send(b"x")
    turn_until(lambda: protocol.received)
    assert [len(sock.recv(65535)) for _ in range(3)] == [size] * 3
    assert port.counters.send_errors == 0


def test_a_broadcast_is_distinguished_from_a_unicast_and_answered_on_its_link(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    """A DHCP client without an address sends and receives broadcasts, on one of two links."""

    def answer(transport: DatagramPort, data: bytes, peer: Address, via: Via) -> None:
        transport.write_via(b"you are on " + via.local.encode(), ("255.255.255.255", CLIENT_PORT), via)

    protocol = Batches(answer)
    start_port(protocol, "0.0.0.0")
    clients = [open_client("c0"), open_client("c1")]
    for number, interface, other in ((0, "s0", 1), (1, "s1", 0)):
        protocol.batches.clear()
        clients[number].sendto(b"DISCOVER", ("255.255.255.255", PORT))
        turn_until(lambda: protocol.received)
        ((_, _, via),) = protocol.received
        assert via == Via(f"10.9.{number}.1", index_of(interface), "255.255.255.255")
        assert clients[number].recv(100) == f"you are on 10.9.{number}.1".encode()
        assert receives_nothing(clients[other])


def test_broadcast_of_one_network_is_recognized(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    protocol = Batches(lambda *_: None)
    start_port(protocol, "0.0.0.0")
    open_client("c1").sendto(b"x", ("10.9.1.255", PORT))
    turn_until(lambda: protocol.received)
    assert protocol.received[0][2] == Via("10.9.1.1", index_of("s1"), "10.9.1.255")


def test_an_ipv6_group_is_recognized_and_answered_on_its_link(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    """A DHCPv6 request arrives on a group; the reply leaves from an address that the kernel chooses on that link."""
    protocol = Batches()
    start_port(protocol, "::")
    sock = open_client("c1", family=socket.AF_INET6)
    sock.sendto(b"SOLICIT", ("ff02::1", PORT))
    turn_until(lambda: protocol.received)
    ((_, peer, via),) = protocol.received
    assert peer == ("fe80::9", CLIENT_PORT, 0, index_of("s1"))
    assert via == Via("", index_of("s1"), "ff02::1")
    answer, source = sock.recvfrom(100)
    assert (answer, source[0]) == (b"SOLICIT", "fe80::1")


@pytest.mark.parametrize("protocol_class", [Batches, Echo])
@pytest.mark.parametrize("wire", [0, 1])
def test_link_local_peers_are_distinguished_by_their_scope(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    index_of: Callable[[str], int],
    turn_until: TurnUntil,
    protocol_class: type[Batches] | type[Echo],
    wire: int,
) -> None:
    """Both wires have the same two addresses. An ordinary protocol of Twisted replies on the right one, too."""
    protocol = protocol_class()
    start_port(protocol, "::")
    _, host = hosts
    with host.inside():
        scope = socket.if_nametoindex(f"c{wire}")
    clients = [open_client(f"c{n}", family=socket.AF_INET6) for n in (0, 1)]
    clients[wire].sendto(b"hello", ("fe80::1", PORT, 0, scope))
    turn_until(lambda: protocol.received)
    assert protocol.received[0][1] == ("fe80::9", CLIENT_PORT, 0, index_of(f"s{wire}"))
    assert clients[wire].recv(100) == b"hello"
    assert receives_nothing(clients[1 - wire])


def test_a_reply_takes_the_route_to_the_peer_not_the_link_of_the_request(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
) -> None:
    """With asymmetric routing the request arrives on a link that is not the one to its sender."""
    port = start_port(Echo(), "0.0.0.0")
    sock = open_client("c0")
    port.write_via(b"x", ("10.9.0.9", CLIENT_PORT), Via("10.9.1.1", index_of("s1"), "10.9.1.1"))
    assert sock.recvfrom(10) == (b"x", ("10.9.1.1", PORT))


@pytest.mark.parametrize(
    ("wildcard", "target"),
    [("0.0.0.0", "255.255.255.255"), ("0.0.0.0", "224.0.0.1"), ("::", "ff02::1"), ("::", "fe80::9")],
)
@pytest.mark.parametrize("wire", [0, 1])
def test_reply_without_a_source_address_leaves_by_interface(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    index_of: Callable[[str], int],
    wildcard: str,
    target: str,
    wire: int,
) -> None:
    port = start_port(Echo(), wildcard)
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    clients = [open_client(f"c{n}", family=family) for n in (0, 1)]
    port.write_via(b"x", (target, CLIENT_PORT), Via("", index_of(f"s{wire}"), ""))
    assert clients[wire].recv(10) == b"x"
    assert receives_nothing(clients[1 - wire])


@pytest.mark.parametrize(("address", "width"), [("10.9.0.77", 24), ("fd00:9::77", 64)])
def test_address_added_later_is_served(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    turn_until: TurnUntil,
    address: str,
    width: int,
) -> None:
    server, _ = hosts
    protocol = Echo()
    start_port(protocol, address)
    server.ip("address", "add", f"{address}/{width}", "dev", "s0", *(["nodad"] if ":" in address else []))
    try:
        sock = open_client("c0", family=socket.AF_INET6 if ":" in address else socket.AF_INET, server=(address, PORT))
        sock.send(b"hello")
        turn_until(lambda: protocol.received)
        assert sock.recv(100) == b"hello"
    finally:
        server.ip("address", "delete", f"{address}/{width}", "dev", "s0")


def test_reply_from_a_removed_address_is_dropped(
    start_port: Callable[[Batches | Echo, str], DatagramPort],
    open_client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    turn_until: TurnUntil,
) -> None:
    server, _ = hosts
    protocol = Batches(lambda *_: None)
    port = start_port(protocol, "0.0.0.0")
    open_client("c0").sendto(b"x", ("10.9.0.1", PORT))
    turn_until(lambda: protocol.received)
    ((_, peer, via),) = protocol.received
    server.ip("link", "set", "s0", "down")
    try:
        port.write_via(b"x", peer, via)
        port.write_via(b"x" * 3, peer, via, 1)
    finally:
        server.ip("link", "set", "s0", "up")
    assert port.counters.send_errors == 4


def test_mtu_is_that_of_the_arrival_interface(hosts: tuple[Host, Host], index_of: Callable[[str], int]) -> None:
    server, _ = hosts
    mtu = Interfaces().mtu
    via = Via("10.9.1.1", index_of("s1"), "10.9.1.1")
    with server.inside():
        assert mtu(via) == 1500
        server.ip("link", "set", "s1", "mtu", "1400")
        try:
            assert mtu(via) == 1400
        finally:
            server.ip("link", "set", "s1", "mtu", "1500")
        assert mtu(Via("", 0, "")) is None
        assert mtu(Via("", 9999, "")) is None
