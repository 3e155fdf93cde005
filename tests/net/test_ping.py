"""ICMP echo on real links: probes whether an address behind a router is in use."""

import contextlib
import os
import select
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from bootfw.net.dhcp.conflict import IcmpProbe, PendingProbes

from .namespaces import Host

CLIENT, UNUSED, UNREACHABLE = "10.9.0.9", "10.9.0.77", "192.0.2.9"
FAR = "10.99.0.5"
"""An address behind the client, which routes to it."""
TIMEOUT = 1.0


@pytest.fixture(scope="module")
def routed(hosts: tuple[Host, Host]) -> Iterator[tuple[Host, Host]]:
    """The two hosts, and a network behind the client."""
    server, client = hosts
    client.ip("link", "set", "lo", "up")
    client.ip("address", "add", f"{FAR}/32", "dev", "lo")
    client.ip("address", "add", "10.9.0.10/24", "dev", "c0")
    server.ip("link", "set", "lo", "up")
    server.ip("route", "add", "10.99.0.0/24", "via", CLIENT)
    yield hosts
    server.ip("route", "del", "10.99.0.0/24")
    client.ip("address", "del", "10.9.0.10/24", "dev", "c0")
    client.ip("address", "del", f"{FAR}/32", "dev", "lo")


def set_sysctl(host: Host, name: str, value: str) -> None:
    """Set net.ipv4.*name* of *host*."""
    with host.inside(), open(f"/proc/sys/net/ipv4/{name}", "w") as file:
        file.write(value)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Runs the block without capabilities."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture(params=["raw", "ping socket"])
def ping(
    request: pytest.FixtureRequest, routed: tuple[Host, Host], private_reactor: EPollReactor
) -> Iterator[IcmpProbe]:
    server, _ = routed
    with server.inside(), contextlib.ExitStack() as stack:
        if request.param == "ping socket":
            set_sysctl(server, "ping_group_range", "0 2147483647")
            stack.enter_context(unprivileged())
        probe = IcmpProbe(private_reactor, TIMEOUT)
    yield probe
    probe.close()
    set_sysctl(server, "ping_group_range", "1 0")


@pytest.mark.parametrize("address", [CLIENT, FAR], ids=["beside us", "behind a router"])
def test_a_reply_ends_the_probe_at_once_without_a_mac_address(
    ping: IcmpProbe, private_reactor: EPollReactor, turn_until: TurnUntil, address: str
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    ping.start(address, results.append)
    assert results == []
    turn_until(lambda: results)

    assert results == [""]
    assert private_reactor.seconds() < began + TIMEOUT
    assert private_reactor.getDelayedCalls() == []


def test_an_address_is_free_when_no_reply_comes_before_the_timeout(
    ping: IcmpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    for address in (UNUSED, "10.99.0.6"):
        ping.start(address, results.append)
    turn_until(lambda: len(results) == 2)

    assert results == [None, None]
    assert TIMEOUT - 0.01 <= private_reactor.seconds() - began < 2 * TIMEOUT


def test_without_a_route_there_is_no_wait_for_a_reply(
    ping: IcmpProbe, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    results: list[str | None] = []
    began = private_reactor.seconds()
    ping.start(UNREACHABLE, results.append)
    assert results == []
    turn_until(lambda: results)

    assert results == [None]
    assert private_reactor.seconds() < began + TIMEOUT


def test_an_address_can_be_probed_again(ping: IcmpProbe, turn_until: TurnUntil) -> None:
    for _ in range(2):
        results: list[str | None] = []
        ping.start(FAR, results.append)
        turn_until(lambda: results)  # noqa: B023 (it is called in this turn of the loop)
        assert results == [""]


def test_replies_to_other_processes_do_not_wake_us(
    ping: IcmpProbe, routed: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    [reader] = (reader for reader in private_reactor.getReaders() if isinstance(reader, PendingProbes))
    with routed[0].inside():
        other = IcmpProbe(private_reactor, TIMEOUT)
    results: list[str | None] = []
    other.start(CLIENT, results.append)
    turn_until(lambda: results)
    other.close()

    assert results == [""]
    assert select.select([reader.fileno()], [], [], 0)[0] == []


def test_a_reply_that_waits_in_the_buffer_counts_when_the_reactor_was_busy() -> None:
    """The reactor notices the deadline before the reply that has come in time."""

    class Reactor(Clock):
        def addReader(self, reader: Any) -> None:
            pass

        removeReader = addReader

    reactor, results = Reactor(), list[str | None]()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    probes = PendingProbes(reactor, TIMEOUT, ours, lambda packet, sender: probes.replied(packet.decode()), "ping")
    for address in (FAR, UNUSED, CLIENT):
        probes.start(address, lambda: None, results.append)
    theirs.send(CLIENT.encode())
    reactor.advance(10 * TIMEOUT)

    assert results == ["", None, None]
    probes.close()
    theirs.close()


def test_close_drops_pending_probes(ping: IcmpProbe, private_reactor: EPollReactor) -> None:
    results: list[str | None] = []
    ping.start(CLIENT, results.append)
    ping.close()
    assert private_reactor.getDelayedCalls() == []
    assert results == []


def checksum(data: bytes) -> int:
    """The checksum of RFC 1071, by its definition."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def reply(echo_request: bytes, icmp_type: int = 0, inverted: tuple[int, ...] = ()) -> bytes:
    """The reply to an echo request, of another ICMP type, or with the bytes at the offsets *inverted* inverted."""
    packet = bytearray(echo_request)
    packet[0] = icmp_type
    for offset in inverted:
        packet[offset] ^= 0xFF
    packet[2:4] = b"\0\0"
    packet[2:4] = struct.pack("!H", checksum(bytes(packet)))
    return bytes(packet)


@pytest.mark.parametrize(
    ("source", "changes", "user"),
    [
        (CLIENT, {}, ""),
        ("10.9.0.10", {}, None),
        (CLIENT, {"inverted": (4, 5)}, None),
        (CLIENT, {"inverted": (12,)}, None),
        (CLIENT, {"inverted": (-1,)}, None),
        (CLIENT, {"icmp_type": 8}, None),
        (CLIENT, {"icmp_type": 14}, None),
    ],
    ids=[
        "matching",
        "another source",
        "another identifier",
        "other data",
        "other last byte",
        "echo request",
        "timestamp reply",
    ],
)
def test_only_a_matching_echo_reply_is_accepted(
    ping: IcmpProbe,
    routed: tuple[Host, Host],
    turn_until: TurnUntil,
    source: str,
    changes: dict[str, Any],
    user: str | None,
) -> None:
    _, client = routed
    set_sysctl(client, "icmp_echo_ignore_all", "1")
    with client.inside():
        reply_socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    try:
        with reply_socket:
            reply_socket.bind((source, 0))
            results: list[str | None] = []
            with client.inside(), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as request_socket:
                request_socket.bind((CLIENT, 0))
                request_socket.settimeout(20)
                ping.start(CLIENT, results.append)
                packet, (server, _) = request_socket.recvfrom(2048)
            echo_request = packet[(packet[0] & 15) * 4 :]
            assert (echo_request[0], echo_request[1], checksum(echo_request)) == (8, 0, 0)
            reply_socket.sendto(reply(echo_request, **changes), (server, 0))
            turn_until(lambda: results)
    finally:
        set_sysctl(client, "icmp_echo_ignore_all", "0")
    assert results == [user]


def test_a_process_that_may_not_ping_gets_a_permission_error(
    routed: tuple[Host, Host], private_reactor: EPollReactor
) -> None:
    with routed[0].inside(), unprivileged(), pytest.raises(PermissionError):
        IcmpProbe(private_reactor, TIMEOUT)
    assert private_reactor.getDelayedCalls() == []
