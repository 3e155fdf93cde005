"""A TFTPProtocol sends a file to a multicast group (RFC 2090): which clients are in the group, and what ends it."""

import hashlib
import socket
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from tftpserver import Files, Pending, Reader, Serve, Served, numbered
from twisted.internet.interfaces import IReactorProcess
from twisted.internet.task import Clock
from zope.interface import directlyProvides, implementer

from bootfw import readers
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.build import assemble
from bootfw.config.configuration import load_config
from bootfw.config.settings import TFTPSettings
from bootfw.errors import TransferError
from bootfw.events import Event, InternalError, PluginFailed, TransferBegun
from bootfw.interfaces import ICacheableReader
from bootfw.net.tftp import multicast
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.multicast import GroupAddresses
from bootfw.net.udp.port import listen
from bootfw.net.workers import supervisor
from bootfw.testing import FakePeer
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

FILE = numbered(1100)
BLOCKS = [tftp.Data(number + 1, FILE[512 * number : 512 * (number + 1)]) for number in range(3)]
GROUPS = {"multicast_groups": "239.255.77.0-239.255.77.1"}


@implementer(ICacheableReader)
@define(eq=False)
class TaggedReader(Reader):
    """A Reader with an etag: it may have the same content as other readers."""

    etag: str = "abc"
    modified: None = field(default=None, init=False)
    changed: None = field(default=None, init=False)


class TaggedFiles(Files):
    """Files with TaggedReaders."""

    def _open(self, path: str) -> Reader:
        super()._open(path)
        self.readers[-1] = TaggedReader(self, self.files[path], etag=hashlib.sha256(self.files[path]).hexdigest())
        return self.readers[-1]


@pytest.fixture
def served(serve: Serve) -> Served:
    """A server with one file, which can be sent to a group."""
    return serve(TaggedFiles({"file": FILE}), **GROUPS)


def group_listener(served: Served, number: int = 0) -> FakePeer:
    """A host that receives what is sent to group *number*."""
    return FakePeer(served.wire.network.host(f"239.255.77.{number}"), multicast.PORT)


def received(group: FakePeer) -> list[tftp.Packet]:
    """What has been sent to the group since the last call."""
    return [tftp.parse(arrival.data) for arrival in group.take()]


def oack(number: int, mc: int, *options: tuple[str, str]) -> tftp.OptionAck:
    """The OACK of group *number*; *mc*: 1: its receiver is the master client."""
    return tftp.OptionAck((("multicast", f"239.255.77.{number},1758,{mc}"), *options))


def test_two_clients_receive_one_file(served: Served) -> None:
    group, first, second = group_listener(served), served.peer(8), served.peer(9)

    assert first.request("file", multicast="") == [oack(0, 1)]
    assert second.request("file", multicast="") == [oack(0, 0)]
    for number, block in enumerate(BLOCKS):
        assert first.send(tftp.ack(number)) == []
        assert received(group) == [block]
    assert first.send(tftp.ack(3)) == []
    assert second.take() == [oack(0, 1)]
    # The second client has missed block 2.
    second.send(tftp.ack(1))
    assert received(group) == [BLOCKS[1]]
    second.send(tftp.ack(3))

    assert served.outcomes == ["COMPLETE", "COMPLETE"]
    assert [report.bytes_transferred for report in served.reports] == [1100, 1100]
    assert first.sources == second.sources[:1] * len(first.sources) == [served.address] * len(first.sources)
    assert first.request("file", multicast="") == [oack(0, 1)]


def test_a_file_of_a_directory_is_the_same_under_two_names(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "_TICK", -1)
    (tmp_path / "file").write_bytes(FILE)
    (tmp_path / "other").hardlink_to(tmp_path / "file")
    (tmp_path / "copy").write_bytes(FILE)
    served = serve(DirectoryBackend(tmp_path), **GROUPS)

    assert served.peer(7).request("file", multicast="") == [oack(0, 1)]
    assert served.peer(8).request("other", multicast="") == [oack(0, 0)]
    assert served.peer(9).request("copy", multicast="") == [oack(1, 1)]


def test_options_are_acknowledged_in_the_order_of_the_request_without_windows(served: Served) -> None:
    assert served.peer().request("file", tsize=0, windowsize=8, Multicast="", blksize=100) == [
        tftp.OptionAck((("tsize", "1100"), ("Multicast", "239.255.77.0,1758,1"), ("blksize", "100")))
    ]
    assert [event.agreed.windowsize for event in served.of(TransferBegun)] == [1]


def test_clients_with_another_block_size_or_file_have_another_group(served: Served) -> None:
    served.backend.files["other"] = FILE

    assert served.peer(7).request("file", multicast="") == [oack(0, 1)]
    assert served.peer(8).request("file", multicast="", blksize=100) == [oack(1, 1, ("blksize", "100"))]
    # There are no more groups.
    assert served.peer(9).request("other", multicast="") == BLOCKS[:1]


def test_a_file_that_was_replaced_has_another_group(served: Served) -> None:
    assert served.peer(7).request("file", multicast="") == [oack(0, 1)]
    served.backend.files["file"] = FILE[::-1]
    assert served.peer(8).request("file", multicast="") == [oack(1, 1)]


def test_clients_without_the_multicast_option_have_ordinary_transfers(served: Served) -> None:
    group = group_listener(served)
    served.peer(7).request("file", multicast="")

    assert served.peer(8).download("file", blksize=100, windowsize=4) == FILE
    assert received(group) == []


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        (GROUPS, {"mode": "netascii"}),
        (GROUPS, {"blksize": 8}),
    ],
    ids=["not configured", "netascii", "too many blocks"],
)
def test_requests_that_are_served_one_by_one(serve: Serve, settings: dict[str, Any], options: dict[str, Any]) -> None:
    content = bytes(8 * 65535)
    served = serve(TaggedFiles({"file": content}), **settings)
    [answer] = served.peer().request("file", multicast="", **options)
    if isinstance(answer, tftp.OptionAck):
        assert "multicast" not in dict(answer.options)
    else:
        assert answer == tftp.Data(1, content[:512])


def test_the_largest_file_in_blocks_has_a_group(serve: Serve) -> None:
    served = serve(TaggedFiles({"file": bytes(8 * 65535 - 1)}), **GROUPS)
    assert served.peer().request("file", multicast="", blksize=8) == [oack(0, 1, ("blksize", "8"))]


def test_files_that_can_not_be_compared_are_served_one_by_one(serve: Serve) -> None:
    served = serve({"file": FILE}, **GROUPS)
    assert served.peer(8).request("file", multicast="") == BLOCKS[:1]


def test_generated_content_is_compared(serve: Serve) -> None:
    served = serve(MemoryBackend({"file": FILE, "other": FILE[::-1]}), **GROUPS)
    assert served.peer(7).request("file", multicast="") == [oack(0, 1)]
    assert served.peer(8).request("file", multicast="") == [oack(0, 0)]
    assert served.peer(9).request("other", multicast="") == [oack(1, 1)]


def test_a_group_has_a_bounded_number_of_clients(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multicast, "MOST_MEMBERS", 2)
    served.peer(7).request("file", multicast="")
    served.peer(8).request("file", multicast="")
    assert served.peer(9).download("file") == FILE
    assert served.peer(10).request("file", multicast="") == BLOCKS[:1]


def test_an_upload_has_no_group(served: Served) -> None:
    assert served.peer().put("new", multicast="") == [tftp.Ack(0)]


def test_the_next_client_replaces_a_silent_master_client(served: Served) -> None:
    group, first, second = group_listener(served), served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    first.send(tftp.ack(0))
    served.advance(3.1)

    assert received(group) == BLOCKS[:1] * 2
    assert second.take() == [oack(0, 1)]
    assert first.take() == [oack(0, 0)]
    second.send(tftp.ack(3))
    served.advance(20)
    assert served.outcomes == ["COMPLETE", "TIMED_OUT"]


def test_a_client_that_starts_again_is_the_last_to_become_master_client(served: Served) -> None:
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    # A client that has sent only its request may repeat it: that is no new start.
    assert second.request("file", multicast="") == [oack(0, 0)]
    first.send(tftp.ack(0))
    served.advance(1.5)

    assert first.request("file", multicast="")[-1] == oack(0, 0)
    assert second.take() == [oack(0, 1)]
    assert served.outcomes == ["CANCELLED"]


def test_an_error_from_a_client_ends_its_membership(served: Served) -> None:
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    assert first.send(tftp.error(0, "enough")) == []
    assert second.take() == [oack(0, 1)]
    assert served.outcomes == ["STOPPED_BY_PEER"]


def test_unexpected_packets_are_ignored(served: Served) -> None:
    peer = served.peer()
    peer.request("file", multicast="")
    assert peer.send(tftp.data(1, b"x"), b"\0\4\0", tftp.option_ack(())) == []
    assert served.reports == []


def test_stopping_sends_an_error_to_each_client(served: Served) -> None:
    peers = [served.peer(number) for number in (7, 8, 9)]
    for peer in peers:
        peer.request("file", multicast="")
    served.stop()
    for peer in peers:
        assert peer.take()[-1] == tftp.Error(0, "the server is stopping")
    assert served.outcomes == ["CANCELLED"] * 3


@pytest.mark.parametrize("cancellable", [True, False])
def test_the_pending_read_of_a_master_client_that_leaves_is_dropped(serve: Serve, cancellable: bool) -> None:
    pending = Pending(cancellable)
    served = serve(TaggedFiles({"file": FILE}, {"read": pending}), **GROUPS)
    group, first, second = group_listener(served), served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    first.send(tftp.ack(0))
    first.send(tftp.error(0, "enough"))
    assert pending.cancelled == cancellable
    second.send(tftp.ack(1))
    pending.fire()
    pending.fire()
    served.settle()
    assert received(group) == [BLOCKS[1]]


def test_a_reader_that_never_answers_ends_the_transfers_of_all_clients(serve: Serve) -> None:
    served = serve(TaggedFiles({"file": FILE}, {"read": Pending()}), **GROUPS)
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    first.send(tftp.ack(0))
    served.advance(61)
    assert first.take() == second.take() == [tftp.Error(0, "No answer about the file within 60 s")]
    assert served.outcomes == ["FAILED"] * 2


def fail(error: Exception) -> Any:
    """A behaviour of Files."""

    def behaviour(call: Any) -> Any:
        raise error

    return behaviour


@pytest.mark.parametrize(
    ("error", "message", "plugin_failures"),
    [(TransferError("gone"), "gone", 0), (ValueError("bug"), "Internal error", 1)],
)
def test_a_reader_that_fails_ends_the_transfers_of_all_clients(
    serve: Serve, error: Exception, message: str, plugin_failures: int
) -> None:
    served = serve(TaggedFiles({"file": FILE}, {"read": fail(error)}), **GROUPS)
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    assert first.send(tftp.ack(0)) == [tftp.Error(0, message)]
    assert second.take() == [tftp.Error(0, message)]
    assert len(served.of(PluginFailed)) == plugin_failures
    assert first.request("file", multicast="") == [oack(0, 1)]


class _FailingWatchdog:
    """Fails at the first retransmission."""

    def begin(self, agreed: Any) -> Any:
        return self

    def wait(self, attempt: int) -> float:
        if attempt > 1:
            raise ValueError("bug")
        return 1.0


def test_a_watchdog_that_fails_ends_the_transfers_of_all_clients(serve: Serve) -> None:
    served = serve(TaggedFiles({"file": FILE}), watchdog=_FailingWatchdog(), **GROUPS)
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    served.advance(1.1)
    assert first.take() == second.take() == [tftp.Error(0, "Internal error")]
    assert (served.outcomes, len(served.of(PluginFailed)), served.of(InternalError)) == (["FAILED"] * 2, 1, [])
    assert first.request("file", multicast="") == [oack(0, 1)]


def test_a_watchdog_that_gives_up_early_leaves_the_group_to_the_next(serve: Serve) -> None:
    served = serve(TaggedFiles({"file": FILE}), watchdog=Fixed([0.1]), **GROUPS)
    first, second = served.peer(8), served.peer(9)
    first.request("file", multicast="")
    second.request("file", multicast="")
    served.advance(5)
    assert served.outcomes == ["TIMED_OUT"] * 2


@pytest.mark.parametrize(("groups", "has_workers"), [("", True), ("239.255.77.1-239.255.77.14", False)])
def test_one_process_serves_the_files(
    groups: str, has_workers: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text(f'[tftp]\nmulticast-groups = "{groups}"\n')
    monkeypatch.setattr(supervisor, "default_worker_count", lambda: 2)
    reactor = Clock()
    directlyProvides(reactor, IReactorProcess)
    parts = assemble(load_config(path, {"BOOTFW_STATE_DIR": str(tmp_path)}), reactor)
    workers = parts._workers(reactor)
    assert (workers is not None) == has_workers


def test_multicast_ttl_is_set_on_the_socket(private_reactor: Any) -> None:
    events: list[Event] = []
    protocol = TFTPProtocol(
        Clock(),
        MemoryBackend(),
        Fixed([1.0]),
        events.append,
        settings=TFTPSettings(multicast_ttl=7),
        group_addresses=GroupAddresses("239.255.77.1-239.255.77.14"),
    )
    port = listen(private_reactor, protocol, "127.0.0.1", 0)
    assert port.getHandle().getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 7
    port.stopListening()
    private_reactor.iterate(0)
