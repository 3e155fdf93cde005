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
def full(hosts: tuple[Host, Host]) -> Iterator[Host]:
    """The server, whose device sends one packet a second and has a queue for one more."""
    server, _ = hosts
    if shutil.which("tc") is None:
        pytest.skip("there is no tc(8)")
    tc(server, "replace", "tbf", "rate", "8kbit", "burst", "1600", "limit", "1600")
    yield server
    tc(server, "del")


def tc(host: Host, what: str, *discipline: str) -> None:
    words = ["tc", "-n", host.name, "qdisc", what, "dev", "s0", "root", *discipline]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode and discipline:
        pytest.skip(f"no such queue here: {done.stderr.strip()}")


@pytest.fixture
def port(full: Host, private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[DatagramPort]:
    with full.inside():
        made: DatagramPort = listen(private_reactor, Batches(), "10.9.0.1", 10069)
    yield made
    stopped: list[None] = []
    made.stopListening().addCallback(stopped.append)
    turn_until(lambda: bool(stopped))


@pytest.fixture
def receiver(hosts: tuple[Host, Host]) -> Iterator[socket.socket]:
    """Without it ICMP would report errors too."""
    _, client = hosts
    with client.inside():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.bind(("10.9.0.9", 10068))
        yield sock


def datagrams(port: DatagramPort, segment: int) -> None:
    """One by one, or with UDP_SEGMENT."""
    if segment:
        for _ in range(COUNT // 10):
            port.write_via(bytes(10 * segment), ("10.9.0.9", 10068), None, segment)
    else:
        for _ in range(COUNT):
            port.write_via(bytes(SIZE), ("10.9.0.9", 10068), None)


@pytest.mark.parametrize("segment", [0, SIZE], ids=["single", "runs"])
@pytest.mark.parametrize("reported", [True, False], ids=["reported", "not reported"])
def test_full_send_queue_loses_datagrams_only(
    port: DatagramPort, full: Host, receiver: socket.socket, segment: int, reported: bool
) -> None:
    port.getHandle().setsockopt(socket.IPPROTO_IP, IP_RECVERR, int(reported))
    datagrams(port, segment)
    counters = port.sender.counters
    assert counters.sent + counters.send_errors == COUNT
    assert bool(counters.send_errors) == reported
    tc(full, "del")
    before = counters.sent, counters.send_errors
    datagrams(port, segment)
    assert (counters.sent, counters.send_errors) == (before[0] + COUNT, before[1])


def test_a_probe_that_cannot_be_sent_ends_like_one_without_an_answer(
    full: Host, private_reactor: EPollReactor, turn_until: TurnUntil
) -> None:
    """What was sent waits for an answer for longer than this test takes."""
    ended: list[str | None] = []
    refused: list[int | None] = []
    with full.inside():
        probe = ArpProbe(private_reactor, 1000.0)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as filler:
            filler.bind(("s0", 0x88B5))
            for _ in range(COUNT):
                try:
                    filler.send(bytes(1400))
                except OSError as error:
                    refused.append(error.errno)
    assert set(refused) == {errno.ENOBUFS}
    for number in range(COUNT):
        probe.start(f"10.9.0.{100 + number}", ended.append, interface="s0", server="10.9.0.1", client=b"\2" * 6)
    turn_until(lambda: bool(ended))
    assert set(ended) == {None}
    probe.close()
