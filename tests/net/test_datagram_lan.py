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
def serve(
    hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[Callable[[Batches | Echo, str], DatagramPort]]:
    """listen() on the server."""
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
def client(hosts: tuple[Host, Host]) -> Iterator[Callable[..., socket.socket]]:
    """Makes a socket of the client: bound to an interface, and connected if there is a *peer*."""
    _, host = hosts
    with contextlib.ExitStack() as made:

        def make(
            interface: str, *, family: socket.AddressFamily = socket.AF_INET, to: tuple[str, int] | None = None
        ) -> socket.socket:
            with host.inside():
                sock = made.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
                sock.settimeout(10)
                sock.bind(("", CLIENT_PORT))
                if to is not None:
                    sock.connect(to)
                return sock

        yield make


@pytest.fixture
def index(hosts: tuple[Host, Host]) -> Callable[[str], int]:
    """Interface number on the server."""
    server, _ = hosts

    def of(name: str) -> int:
        with server.inside():
            return socket.if_nametoindex(name)

    return of


def nothing_comes(sock: socket.socket) -> bool:
    sock.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        return not sock.recv(100)
    return True


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
@pytest.mark.parametrize("count", [1, 5])
def test_the_reply_leaves_from_the_requested_secondary_address(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
    turn_until: TurnUntil,
    wildcard: str,
    asked: str,
    count: int,
) -> None:
    """A connected socket, as a boot ROM does, takes answers from that address only. Alone and in a batch."""
    protocol = Batches()
    serve(protocol, wildcard)
    sock = client("c0", family=socket.AF_INET6 if ":" in asked else socket.AF_INET, to=(asked, PORT))
    for n in range(count):
        sock.send(b"%d" % n)
    turn_until(lambda: len(protocol.received) == count)
    assert {via for _, _, via in protocol.received} == {Via(asked, index("s0"), asked)}
    assert [sock.recv(10) for _ in range(count)] == [b"%d" % n for n in range(count)]


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
def test_a_window_leaves_from_the_requested_address(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    turn_until: TurnUntil,
    wildcard: str,
    asked: str,
) -> None:
    """UDP_SEGMENT over veth: 40 blocks of the largest size that fits the frame."""
    segment = 1500 - (48 if ":" in asked else 28)
    protocol = Batches(lambda transport, data, peer, via: transport.write_via(data * segment * 40, peer, via, segment))
    port = serve(protocol, wildcard)
    sock = client("c0", family=socket.AF_INET6 if ":" in asked else socket.AF_INET, to=(asked, PORT))
    sock.send(b"x")
    assert not protocol.received
    turn_until(lambda: protocol.received)
    assert [sock.recv(2000) for _ in range(40)] == [b"x" * segment] * 40
    assert port.counters.sent == 40
    assert port.counters.send_errors == 0


@pytest.mark.parametrize(("wildcard", "asked"), [("0.0.0.0", "10.9.0.2"), ("::", "fd00:9::2")])
@pytest.mark.parametrize("size", [4000, 65000])
def test_blocks_larger_than_the_mtu_are_fragmented(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    turn_until: TurnUntil,
    wildcard: str,
    asked: str,
    size: int,
) -> None:
    protocol = Batches(lambda transport, data, peer, via: transport.write_via(data * size * 3, peer, via, size))
    port = serve(protocol, wildcard)
    sock = client("c0", family=socket.AF_INET6 if ":" in asked else socket.AF_INET, to=(asked, PORT))
    sock.send(b"x")
    turn_until(lambda: protocol.received)
    assert [len(sock.recv(65535)) for _ in range(3)] == [size] * 3
    assert port.counters.send_errors == 0


def test_a_broadcast_is_distinguished_from_a_unicast_and_answered_on_its_link(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    """A DHCP client without an address: everything is broadcast, and each wire is another network."""

    def answer(transport: DatagramPort, data: bytes, peer: Address, via: Via) -> None:
        transport.write_via(b"you are on " + via.local.encode(), ("255.255.255.255", CLIENT_PORT), via)

    protocol = Batches(answer)
    serve(protocol, "0.0.0.0")
    socks = [client("c0"), client("c1")]
    for asking, wire, other in ((0, "s0", 1), (1, "s1", 0)):
        protocol.batches.clear()
        socks[asking].sendto(b"DISCOVER", ("255.255.255.255", PORT))
        turn_until(lambda: protocol.received)
        ((_, _, via),) = protocol.received
        assert via == Via(f"10.9.{asking}.1", index(wire), "255.255.255.255")
        assert socks[asking].recv(100) == f"you are on 10.9.{asking}.1".encode()
        assert nothing_comes(socks[other])


def test_broadcast_of_one_network_is_recognized(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    protocol = Batches(lambda *_: None)
    serve(protocol, "0.0.0.0")
    client("c1").sendto(b"x", ("10.9.1.255", PORT))
    turn_until(lambda: protocol.received)
    assert protocol.received[0][2] == Via("10.9.1.1", index("s1"), "10.9.1.255")


def test_an_ipv6_group_is_recognized_and_answered_on_its_link(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
    turn_until: TurnUntil,
) -> None:
    """A DHCPv6 request arrives on a group; the reply leaves from an address that the kernel chooses on that link."""
    protocol = Batches()
    serve(protocol, "::")
    sock = client("c1", family=socket.AF_INET6)
    sock.sendto(b"SOLICIT", ("ff02::1", PORT))
    turn_until(lambda: protocol.received)
    ((_, peer, via),) = protocol.received
    assert peer == ("fe80::9", CLIENT_PORT, 0, index("s1"))
    assert via == Via("", index("s1"), "ff02::1")
    answer, source = sock.recvfrom(100)
    assert (answer, source[0]) == (b"SOLICIT", "fe80::1")


@pytest.mark.parametrize("make", [Batches, Echo])
@pytest.mark.parametrize("wire", [0, 1])
def test_link_local_peers_are_distinguished_by_their_scope(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    index: Callable[[str], int],
    turn_until: TurnUntil,
    make: type[Batches] | type[Echo],
    wire: int,
) -> None:
    """The same two addresses are on both wires. An ordinary protocol finds its way back as well."""
    protocol = make()
    serve(protocol, "::")
    _, host = hosts
    with host.inside():
        scope = socket.if_nametoindex(f"c{wire}")
    socks = [client(f"c{n}", family=socket.AF_INET6) for n in (0, 1)]
    socks[wire].sendto(b"hello", ("fe80::1", PORT, 0, scope))
    turn_until(lambda: protocol.received)
    assert protocol.received[0][1] == ("fe80::9", CLIENT_PORT, 0, index(f"s{wire}"))
    assert socks[wire].recv(100) == b"hello"
    assert nothing_comes(socks[1 - wire])


def test_a_reply_takes_the_route_to_the_peer_not_the_link_of_the_request(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
) -> None:
    """Asymmetric routing: the request arrives on one link, from the other network."""
    port = serve(Echo(), "0.0.0.0")
    sock = client("c0")
    port.write_via(b"x", ("10.9.0.9", CLIENT_PORT), Via("10.9.1.1", index("s1"), "10.9.1.1"))
    assert sock.recvfrom(10) == (b"x", ("10.9.1.1", PORT))


@pytest.mark.parametrize(
    ("wildcard", "target"),
    [("0.0.0.0", "255.255.255.255"), ("0.0.0.0", "224.0.0.1"), ("::", "ff02::1"), ("::", "fe80::9")],
)
@pytest.mark.parametrize("wire", [0, 1])
def test_reply_without_a_source_address_leaves_by_interface(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    index: Callable[[str], int],
    wildcard: str,
    target: str,
    wire: int,
) -> None:
    port = serve(Echo(), wildcard)
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    socks = [client(f"c{n}", family=family) for n in (0, 1)]
    port.write_via(b"x", (target, CLIENT_PORT), Via("", index(f"s{wire}"), ""))
    assert socks[wire].recv(10) == b"x"
    assert nothing_comes(socks[1 - wire])


@pytest.mark.parametrize(("address", "width"), [("10.9.0.77", 24), ("fd00:9::77", 64)])
def test_address_added_later_is_served(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    turn_until: TurnUntil,
    address: str,
    width: int,
) -> None:
    server, _ = hosts
    protocol = Echo()
    serve(protocol, address)
    server.ip("address", "add", f"{address}/{width}", "dev", "s0", *(["nodad"] if ":" in address else []))
    try:
        sock = client("c0", family=socket.AF_INET6 if ":" in address else socket.AF_INET, to=(address, PORT))
        sock.send(b"hello")
        turn_until(lambda: protocol.received)
        assert sock.recv(100) == b"hello"
    finally:
        server.ip("address", "delete", f"{address}/{width}", "dev", "s0")


def test_reply_from_a_removed_address_is_dropped(
    serve: Callable[[Batches | Echo, str], DatagramPort],
    client: Callable[..., socket.socket],
    hosts: tuple[Host, Host],
    turn_until: TurnUntil,
) -> None:
    server, _ = hosts
    protocol = Batches(lambda *_: None)
    port = serve(protocol, "0.0.0.0")
    client("c0").sendto(b"x", ("10.9.0.1", PORT))
    turn_until(lambda: protocol.received)
    ((_, peer, via),) = protocol.received
    server.ip("link", "set", "s0", "down")
    try:
        port.write_via(b"x", peer, via)
        port.write_via(b"x" * 3, peer, via, 1)
    finally:
        server.ip("link", "set", "s0", "up")
    assert port.counters.send_errors == 4


def test_mtu_is_that_of_the_arrival_interface(hosts: tuple[Host, Host], index: Callable[[str], int]) -> None:
    server, _ = hosts
    mtu = Interfaces().mtu
    via = Via("10.9.1.1", index("s1"), "10.9.1.1")
    with server.inside():
        assert mtu(via) == 1500
        server.ip("link", "set", "s1", "mtu", "1400")
        try:
            assert mtu(via) == 1400
        finally:
            server.ip("link", "set", "s1", "mtu", "1500")
        assert mtu(Via("", 0, "")) is None
        assert mtu(Via("", 9999, "")) is None
