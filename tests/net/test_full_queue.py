"""The queue of a device is full: the kernel says so by ENOBUFS, or it says nothing.

For UDP, Linux reports ENOBUFS only where the application has set IP_RECVERR (udp_send_skb() in net/ipv4/udp.c), which
bootfw does not; a packet socket always gets it.
"""

import errno
import shutil
import socket
import subprocess
from collections.abc import Iterator

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.net.dhcp.conflict import ArpProbe
from bootfw.net.udp.port import DatagramPort, listen

from .namespaces import Host
from .recorders import Batches

pytestmark = pytest.mark.interop

IP_RECVERR = 11
COUNT = 50
SIZE = 1000


@pytest.fixture
def slow_server(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """The server, whose device sends one packet a second and has a queue for one more."""
    server, _ = hosts
    if shutil.which("tc") is None:
        pytest.skip("there is no tc(8)")
    tc(server, "replace", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600")
    yield server
    tc(server, "del")


def tc(host: Host, command: str, *discipline: str) -> None:
    """Change the queueing discipline of s0."""
    arguments = ["tc", "-n", host.name, "qdisc", command, "dev", "s0", "root", *discipline]
    completed = subprocess.run(arguments, capture_output=True, text=True)
    if completed.returncode and discipline:
        pytest.skip(f"no such queue here: {completed.stderr.strip()}")


@pytest.fixture
def port(slow_server: Host, private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[DatagramPort]:
    with slow_server.inside():
        port: DatagramPort = listen(private_reactor, Batches(), "10.9.0.1", 10069)
    yield port
    stopped: list[None] = []
    port.stopListening().addCallback(stopped.append)
    turn_until(lambda: bool(stopped))


@pytest.fixture
def receiver(hosts: tuple[Host, Host]) -> Iterator[socket.socket]:
    """The socket that datagrams are sent to; without it, ICMP would report errors too."""
    _, client = hosts
    with client.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind(("10.9.0.9", 10068))
        yield sock


def send_datagrams(port: DatagramPort, segment: int) -> None:
    """Send COUNT datagrams, one by one or, with a *segment* size, by UDP_SEGMENT."""
    if segment:
        for _ in range(COUNT // 10):
            port.write_via(bytes(10 * segment), ("10.9.0.9", 10068), None, segment)
    else:
        for _ in range(COUNT):
            port.write_via(bytes(SIZE), ("10.9.0.9", 10068), None)


@pytest.mark.parametrize("segment", [0, SIZE], ids=["single", "runs"])
@pytest.mark.parametrize("reported", [True, False], ids=["reported", "not reported"])
def test_full_send_queue_loses_datagrams_only(
    port: DatagramPort, slow_server: Host, receiver: socket.socket, segment: int, reported: bool
) -> None:
    port.getHandle().setsockopt(socket.IPPROTO_IP, IP_RECVERR, int(reported))
    send_datagrams(port, segment)
    counters = port.sender.counters
    assert counters.sent + counters.send_errors == COUNT
    assert bool(counters.send_errors) == reported
    tc(slow_server, "del")
    before = counters.sent, counters.send_errors
    send_datagrams(port, segment)
    assert (counters.sent, counters.send_errors) == (before[0] + COUNT, before[1])


def test_a_probe_that_cannot_be_sent_ends_like_one_without_an_answer(
    slow_server: Host, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    """A probe that was sent waits for an answer for longer than this test takes."""
    results: list[str | None] = []
    send_errors: list[int | None] = []
    with slow_server.inside():
        probe = ArpProbe(private_reactor, 1000.0)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as filler:
            filler.bind(("s0", 0x88B5))
            for _ in range(COUNT):
                try:
                    filler.send(bytes(1400))
                except OSError as error:
                    send_errors.append(error.errno)
    assert set(send_errors) == {errno.ENOBUFS}
    for number in range(COUNT):
        probe.start(f"10.9.0.{100 + number}", results.append, interface="s0", server="10.9.0.1", client=b"\2" * 6)
    turn_until(lambda: bool(results))
    assert set(results) == {None}
    probe.close()
