"""Several services that share a store: each continues the TFTP transfers of the others."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from memorynodes import Cluster, MemoryNodes
from observers import EventList
from tftpserver import numbered
from twisted.logger import capturedLogs, formatEvent

from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import DHCPSettings, Settings, TFTPSettings
from bootfw.events import TransferBegun, TransferEnded, TransferRefused
from bootfw.net.draining import QUIET
from bootfw.net.nodes.elsewhere import FORGET_AFTER, REPEATED_EVERY
from bootfw.net.nodes.generatedparts import LARGEST
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import Outcome
from bootfw.wire import tftp

CONTENT = numbered(5000)
LONG_AGO = 1_600_000_000
OTHER_VERSION = "This server has another version of the file, start again"


class Observer(EventList):
    def outcomes(self) -> list[tuple[Outcome, str]]:
        return [(event.report.outcome, event.report.detail) for event in self.of(TransferEnded)]


@define(eq=False)
class Node:
    """One of the services."""

    address: tuple[str, int]
    root: Path
    service: BootService
    store: MemoryNodes
    observer: Observer
    host: Any


class Nodes:
    """Nodes on one network, each with a copy of the file, and a client."""

    def __init__(self, directory: Path) -> None:
        self.network = MemoryNetwork()
        self.network.clock.advance(time.time())  # the times of files are compared with the clock
        self.cluster = Cluster()
        self.directory = directory
        self.nodes: list[Node] = []
        self.client = FakePeer(self.network.host("10.0.0.9"))

    def start(self, **settings: Any) -> Node:
        number = len(self.nodes) + 1
        root = self.directory / str(number)
        root.mkdir()
        self.put(root)
        host, store, observer = self.network.host(f"10.0.0.{number}", rich=True), self.cluster.node(), Observer()
        service = BootService(
            host,
            settings=Settings(tftp=TFTPSettings(writable=True, **settings), dhcp=DHCPSettings(mode="off")),
            backend=DirectoryBackend(root),
            observers=[observer],
            store=store,
        )
        service.startService()
        self.nodes.append(node := Node((f"10.0.0.{number}", 69), root, service, store, observer, host))
        self.meet()
        return node

    def meet(self) -> None:
        """Let each node hear the others, as each does once a second."""
        for node in self.nodes:
            node.store.announce("hello", "a node")
        for _ in range(3):
            self.settle()

    def put(self, root: Path, content: bytes = CONTENT, modified: float = LONG_AGO) -> None:
        """Write the file, as a copy that was made long ago."""
        (root / "file").write_bytes(content)
        os.utime(root / "file", (modified, modified))

    def send(self, data: bytes, to: Node) -> list[bytes]:
        """Send *data* to a node, and return its replies; other nodes may repeat what they have sent before."""
        self.client.send(data, to.address)
        self.settle()
        return [answer.data for answer in self.client.take() if answer.peer == to.address]

    def settle(self) -> None:
        """Deliver the packets and announcements that are on their way, and the replies to them."""
        self.network.advance(0.01)
        self.cluster.deliver()
        self.network.advance(0.01)

    def close(self) -> None:
        for node in self.nodes:
            node.service.stopService()


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    # Files that were just written count as settled.
    monkeypatch.setattr("bootfw.boot.etag.SETTLED", -1.0)
    nodes = Nodes(tmp_path)
    yield nodes
    nodes.close()


def request(*options: tuple[str, str], mode: str = "octet") -> bytes:
    return tftp.request(False, "file", mode, options)


def data(block: int, size: int = 1000) -> bytes:
    return tftp.data(block & 0xFFFF, CONTENT[(block - 1) * size : block * size])


REQUEST = request(("blksize", "1000"))
OACK = tftp.option_ack([("blksize", "1000")])


def test_another_node_completes_a_transfer(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    assert nodes.send(REQUEST, one) == [OACK]
    assert nodes.send(tftp.ack(0), one) == [data(1)]
    assert nodes.send(tftp.ack(1), two) == [data(2)]
    for block in range(2, 6):
        assert nodes.send(tftp.ack(block), two) == [data(block + 1)]
    assert nodes.send(tftp.ack(6), two) == []
    (begun,) = two.observer.of(TransferBegun)
    assert (begun.acked, begun.request.local) == (1, two.address[0])
    assert two.observer.outcomes() == [(Outcome.COMPLETE, "")]
    # The other node has stopped sending.
    assert one.observer.outcomes() == [(Outcome.HANDED_OVER, "")]
    nodes.network.advance(60)
    assert nodes.client.take() == []


def test_a_client_may_return_to_its_first_node(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.ack(0), two) == [data(1)]
    assert nodes.send(tftp.ack(1), one) == [data(2)]
    assert nodes.send(tftp.ack(2), two) == [data(3)]
    assert nodes.send(tftp.ack(3), one) == [data(4)]


def test_a_client_without_a_block_repeats_its_request_at_another_node(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    assert nodes.send(REQUEST, one) == [OACK]
    nodes.network.advance(0.5)
    assert nodes.send(REQUEST, two) == [OACK]
    assert nodes.send(tftp.ack(0), two) == [data(1)]
    assert one.observer.outcomes() == [(Outcome.HANDED_OVER, "")]


def test_a_client_that_has_begun_anew_is_not_disturbed_by_an_older_transfer(nodes: Nodes) -> None:
    """The announcement of the first transfer arrives late."""
    one, two = nodes.start(), nodes.start()
    nodes.client.send(REQUEST, one.address)
    nodes.network.advance(0.01)
    nodes.client.send(REQUEST, two.address)
    nodes.network.advance(0.01)
    nodes.client.take()
    assert nodes.send(tftp.ack(0), two) == [data(1)]
    assert nodes.send(tftp.ack(1), two) == [data(2)]
    assert two.observer.outcomes() == []


def test_a_window_is_continued(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(request(("blksize", "1000"), ("windowsize", "3")), one)
    nodes.send(tftp.ack(0), one)
    acked, received = 2, CONTENT[:2000]
    for _ in range(10):
        for packet in nodes.send(tftp.ack(acked), two):
            if packet[2:4] == (acked + 1).to_bytes(2):
                acked, received = acked + 1, received + packet[4:]
        if acked == 6:
            break
    assert nodes.send(tftp.ack(6), two) == []
    assert received == CONTENT
    assert two.observer.outcomes() == [(Outcome.COMPLETE, "")]


@pytest.mark.parametrize("modified", [LONG_AGO + 0.25, LONG_AGO + 0.75])
def test_a_copy_may_lack_the_fraction_of_its_modification_time(nodes: Nodes, modified: float) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.put(two.root, modified=modified)
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.ack(0), two) == [data(1)]


@pytest.mark.parametrize(("content", "modified"), [(CONTENT, LONG_AGO + 1), (CONTENT[1:], LONG_AGO)])
def test_a_client_begins_anew_where_the_file_differs(nodes: Nodes, content: bytes, modified: float) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.put(two.root, content, modified)
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.ack(0), two) == [tftp.error(0, OTHER_VERSION)]
    assert nodes.send(tftp.ack(0), two) == []
    (refused,) = two.observer.of(TransferRefused)
    assert refused.message == OTHER_VERSION
    assert two.observer.of(TransferBegun) == []


def test_a_client_begins_anew_where_the_file_is_missing(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    (two.root / "file").unlink()
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.ack(0), two) == [tftp.error(1, "File not found")]


def test_the_client_of_a_generated_file_that_is_too_large_for_other_nodes_gets_an_error_there(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    with capturedLogs() as logs:
        for name, size in (("fits", LARGEST), ("large", LARGEST + 1), ("large", LARGEST + 1)):
            one.service._generated.keep(name, bytes(size))
        nodes.settle()
    for name, answer in (("large", tftp.error(1, "File not found")), ("fits", tftp.data(1, bytes(512)))):
        assert nodes.send(tftp.request(False, name, "octet", (("blksize", "512"),)), one) != []
        assert nodes.send(tftp.ack(0), two) == [answer]
        assert nodes.send(tftp.request(False, name, "octet"), two) == [answer]
    (line,) = map(formatEvent, logs)
    assert '"large", which was generated for a client, has 1048577 bytes' in line


def test_a_file_that_has_just_changed_is_not_continued(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.boot.etag.SETTLED", 3600.0)
    one, two = nodes.start(), nodes.start()
    nodes.put(two.root, modified=LONG_AGO + 0.5)
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.ack(0), two) == [tftp.error(0, OTHER_VERSION)]


def test_a_netascii_transfer_begins_anew(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(request(mode="netascii"), one)
    assert nodes.send(tftp.ack(1), two) == [tftp.error(0, "Another server has begun this, start again")]
    assert nodes.send(tftp.ack(1), two) == []


def test_an_upload_begins_anew(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    assert nodes.send(tftp.request(True, "upload", "octet"), one) == [tftp.ack(0)]
    assert nodes.send(tftp.data(1, bytes(512)), two) == [tftp.error(0, "Another server has begun this, start again")]
    assert nodes.send(tftp.data(1, bytes(512)), two) == []


def test_an_error_of_the_client_is_not_answered(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    assert nodes.send(tftp.error(0, "enough"), two) == []
    assert nodes.send(tftp.ack(0), two) == []


def test_a_transfer_that_ends_is_forgotten(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    nodes.send(tftp.error(0, "enough"), one)
    assert nodes.send(tftp.ack(0), two) == []


def test_a_transfer_whose_node_is_silent_is_forgotten(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    nodes.cluster.lost = True
    nodes.network.advance(FORGET_AFTER)
    assert nodes.send(tftp.ack(0), two) == []


def test_a_running_transfer_is_announced_again(nodes: Nodes) -> None:
    """To a node that was there all the time, or has come later."""
    one, two = nodes.start(), nodes.start()
    nodes.cluster.lost = True
    nodes.send(REQUEST, one)
    nodes.cluster.lost = False
    assert nodes.send(tftp.ack(0), two) == []
    nodes.network.advance(REPEATED_EVERY)
    nodes.settle()
    nodes.client.take()
    assert nodes.send(tftp.ack(0), two) == [data(1)]


def test_a_node_that_joins_takes_part_as_soon_as_it_hears_another_one(nodes: Nodes) -> None:
    one, _ = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    three = nodes.start()
    assert nodes.send(tftp.ack(0), three) == [data(1)]


def test_transfers_on_ports_of_their_own_stay_where_they_are(nodes: Nodes) -> None:
    one, two = nodes.start(ports="ephemeral"), nodes.start(ports="ephemeral")
    nodes.client.send(REQUEST, one.address)
    nodes.settle()
    assert [answer.data for answer in nodes.client.take()] == [OACK]
    assert nodes.send(tftp.ack(0), two) == []


def test_a_node_that_stops_hands_its_transfers_over(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.network.advance(1)
    nodes.settle()
    nodes.send(REQUEST, one)
    one.service.stopService()
    nodes.settle()
    assert nodes.client.take() == []
    assert one.observer.outcomes()[-1] == (Outcome.HANDED_OVER, "")
    assert nodes.send(tftp.ack(0), two) == [data(1)]


def test_a_node_that_drains_is_not_ready_and_serves_until_its_clients_have_moved(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.network.advance(1)
    nodes.settle()
    nodes.send(REQUEST, one)
    assert one.service.ready
    draining = one.service.drain(60)
    done = draining.start()
    assert (draining.count, draining.hands_over, one.service.ready) == (1, True, False)
    for block in range(6):
        assert nodes.send(tftp.ack(block), one) == [data(block + 1)]
    assert nodes.send(tftp.ack(6), one) == []
    assert not done.called
    assert nodes.send(REQUEST, one) == [OACK]  # a new transfer
    assert nodes.send(tftp.ack(0), two) == [data(1)]
    nodes.network.advance(QUIET - 0.5)
    assert not done.called
    nodes.network.advance(1)
    assert done.called


def test_nodes_that_drain_all_at_once_tell_their_clients_that_they_stop(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    nodes.send(REQUEST, one)
    assert one.service.drain(60).hands_over
    nodes.settle()
    assert not two.service.drain(60).hands_over
    nodes.settle()
    one.service.stopService()
    nodes.settle()
    assert [answer.data for answer in nodes.client.take()] == [tftp.error(0, "the server is stopping")]


def test_a_node_without_others_tells_its_clients_that_it_stops(nodes: Nodes) -> None:
    one = nodes.start()
    nodes.send(REQUEST, one)
    draining = one.service.drain()
    assert not draining.hands_over
    one.service.stopService()
    nodes.settle()
    assert [answer.data for answer in nodes.client.take()] == [tftp.error(0, "the server is stopping")]


def test_uploads_of_a_node_that_stops_get_an_error(nodes: Nodes) -> None:
    one, _ = nodes.start(), nodes.start()
    nodes.network.advance(1)
    nodes.settle()
    nodes.send(tftp.request(True, "upload", "octet"), one)
    one.service.stopService()
    nodes.settle()
    assert [answer.data for answer in nodes.client.take()] == [tftp.error(0, "the server is stopping")]


def long_transfer(nodes: Nodes, blocks: int, one: Node, *, delivers: bool = True) -> None:
    """The client has acknowledged some blocks of a file of 70,000, at 5,000 a second; it is the same at each node."""
    for node in nodes.nodes:
        with (node.root / "file").open("r+b") as file:
            file.truncate(70_000 * 8)
        os.utime(node.root / "file", (LONG_AGO, LONG_AGO))
    nodes.send(request(("blksize", "8")), one)
    nodes.send(tftp.ack(0), one)
    (transfer,) = one.service._under_way()
    for acked in range(0, blocks, 1000):
        transfer.session.flight.acked, transfer.session.flight.sent = acked, acked + 1
        nodes.network.advance(0.2)
        if delivers:
            nodes.settle()
    nodes.send(tftp.ack((acked + 1) & 0xFFFF), one)
    assert transfer.session.acked == acked + 1
    nodes.network.advance(0.3)
    nodes.settle()
    nodes.client.take()


def test_the_position_in_a_long_file_is_announced(nodes: Nodes) -> None:
    one, two = nodes.start(), nodes.start()
    long_transfer(nodes, 68_000, one)
    assert nodes.send(tftp.ack(67_002 & 0xFFFF), two) == [tftp.data(67_003 & 0xFFFF, bytes(8))]
    (begun,) = two.observer.of(TransferBegun)
    assert begun.acked == 67_002


@pytest.mark.parametrize("delivers", [True, False])
def test_where_the_position_is_too_old_the_client_begins_anew(nodes: Nodes, delivers: bool) -> None:
    """The speed of the transfer is known, even if all announcements arrive at once."""
    one, two = nodes.start(), nodes.start()
    long_transfer(nodes, 68_000, one, delivers=delivers)
    nodes.cluster.lost = True
    nodes.network.advance(30)
    assert nodes.send(tftp.ack(67_002 & 0xFFFF), two) == [
        tftp.error(0, "This server does not know how much you have, start again")
    ]
