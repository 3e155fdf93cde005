"""The interim server serves the sockets of a worker while that starts, and then hands its transfers over."""

import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from observers import EventList
from tftpserver import Files, numbered
from twisted.internet.defer import Deferred
from twisted.internet.protocol import DatagramProtocol

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings, Settings, TFTPSettings
from bootfw.events import Event, TransferBegun, TransferEnded
from bootfw.interfaces import IBackend
from bootfw.net.tftp.handover import ADOPTION_TIMEOUT, AdoptedTransfer, AdoptedTransfers, Handover
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.tftp.transfer import Transfer
from bootfw.net.tftp.transferport import opener
from bootfw.net.workers.interim import InterimServer
from bootfw.readers import MemoryReader
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient
from bootfw.testing.tftp import Transferred
from bootfw.values import Address, Agreed, Outcome, TransferRequest
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

CONTENT = numbered(20_000)

Positions = list[tuple[Address, Handover]]
"""What InterimServer.hand_over() gives."""


def largest(below: int) -> int:
    """Takes the place of random numbers."""
    return below - 1


class Server:
    """A port on a MemoryNetwork, served by an InterimServer and then by a worker's protocol."""

    def __init__(self, backend: IBackend, **options: Any) -> None:
        self.network = MemoryNetwork()
        self.network.advance(time.time() + 60)  # files are older than any transfer
        self.host = self.network.host("10.0.0.1")
        self.events: list[Event] = []
        self._options: dict[str, Any] = {"settings": TFTPSettings(writable=True), "randbelow": largest, **options}
        self._backend = backend
        protocol = self.protocol = self._new_protocol()
        self.interim = InterimServer([(protocol, self.host.listenUDP(69, protocol))])

    def _new_protocol(self) -> TFTPProtocol:
        self.adopted = AdoptedTransfers(self.host, self.events.append)
        return TFTPProtocol(
            self.host, self._backend, Fixed(), self.events.append, adopted=self.adopted, **self._options
        )

    def transfers(self) -> list[Transfer]:
        """The transfers that are under way."""
        return self.protocol.on_this_port

    def hand_over(self, positions: Positions | None = None) -> Positions:
        """Let a worker take over; *positions* are those of an earlier InterimServer.hand_over()."""
        stored = pickle.loads(pickle.dumps(self.interim.stored_uploads()))
        positions = self.interim.hand_over() if positions is None else positions
        self.network.advance(0)
        worker = self.protocol = self._new_protocol()
        self.host.listenUDP(69, worker)
        begun = {event.request.peer: event for event in self.events if isinstance(event, TransferBegun)}
        self.adopted.acknowledge_again(stored)
        worker.take_over(
            [AdoptedTransfer(begun[peer], 0, pickle.loads(pickle.dumps(handover))) for peer, handover in positions]
        )
        return positions

    def client(self, options: dict[str, str] | None = None, **arguments: Any) -> TFTPClient:
        return TFTPClient(self.network.host("10.0.0.9"), ("10.0.0.1", 69), options or {}, **arguments)

    def received(self, download: Deferred[Transferred]) -> bytes:
        """The data of a complete download; its last ACK has arrived too."""
        data: bytes = self.network.result_of(download).data
        self.network.advance(0.1)
        return data

    def outcomes(self) -> list[Outcome]:
        return [event.report.outcome for event in self.events if isinstance(event, TransferEnded)]


@pytest.fixture
def directory(tmp_path: Path) -> DirectoryBackend:
    (tmp_path / "file").write_bytes(CONTENT)
    return DirectoryBackend(tmp_path)


def test_handed_over_transfer_continues(directory: DirectoryBackend) -> None:
    server = Server(directory)
    download = server.client().download("file")
    server.network.advance(0.02)
    assert not server.interim.is_busy
    ((_, handover),) = server.hand_over()
    assert 0 < handover.position.acked < len(CONTENT) // 512
    assert server.received(download) == CONTENT
    assert server.outcomes() == [Outcome.COMPLETE]


@pytest.mark.parametrize("windowsize", ["4", "64"])
def test_handed_over_transfer_with_windows_continues(directory: DirectoryBackend, windowsize: str) -> None:
    server = Server(directory)
    download = server.client({"windowsize": windowsize}).download("file")
    server.network.advance(0.004)
    server.hand_over()
    assert server.received(download) == CONTENT
    assert server.outcomes() == [Outcome.COMPLETE]


def test_handover_waits_for_the_transfer_of_a_generated_file() -> None:
    """Another process would generate it again, perhaps with another content."""
    server = Server(MemoryBackend({"file": CONTENT}))
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.interim.is_busy
    assert server.received(download) == CONTENT
    assert not server.interim.is_busy


def test_pending_open_delays_the_handover() -> None:
    answer: Deferred[MemoryReader] = Deferred()

    class Slow(MemoryBackend):
        def open(self, path: str, request: TransferRequest) -> Any:
            return answer

    server = Server(Slow({}))
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.interim.is_busy
    answer.callback(MemoryReader(b"late"))
    assert server.received(download) == b"late"
    assert not server.interim.is_busy


def test_draining_interim_server_leaves_requests_to_the_worker(directory: DirectoryBackend) -> None:
    server = Server(directory)
    server.interim.drain()
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.events == []
    server.hand_over()
    assert server.received(download) == CONTENT


def test_transfer_on_an_ephemeral_port_is_completed(directory: DirectoryBackend) -> None:
    network_listen: dict[str, Callable[[DatagramProtocol, str], Any]] = {}

    def listen(protocol: DatagramProtocol, local: str) -> Any:
        return network_listen["open"](protocol, local)

    server = Server(directory, listen=listen)
    network_listen["open"] = opener(server.host, "0.0.0.0", "ephemeral")
    download = server.client().download("file")
    server.network.advance(0.02)
    assert not server.interim.is_busy
    assert server.hand_over() == []
    assert server.received(download) == CONTENT
    assert server.outcomes() == [Outcome.COMPLETE]


def test_stop_of_the_service_sends_errors_to_the_clients(directory: DirectoryBackend) -> None:
    server = Server(directory)
    download = server.client().download("file")
    server.network.advance(0.02)
    server.interim.close()
    assert "server is stopping" in str(server.network.result_of(download.addErrback(lambda failure: failure.value)))
    server.network.advance(1)
    assert server.network.leaks() == []


def test_handover_waits_until_an_upload_is_stored() -> None:
    server = Server(Files({}))
    upload = server.client().upload("new", CONTENT)
    server.network.advance(0.02)
    assert server.interim.is_busy
    server.network.result_of(upload)
    assert server.outcomes() == [Outcome.COMPLETE]
    ((protocol, _),) = server.interim._serving
    assert protocol.transfers == 1, "the client may repeat its last block"
    assert not server.interim.is_busy
    assert server.hand_over() == []


def test_the_last_ack_of_an_upload_is_repeated_by_the_worker() -> None:
    """Its client, which has lost it, would else report that the upload has failed."""
    server = Server(Files({}))
    server.network.link = link = LosesOne("10.0.0.1", len(CONTENT) // 512 + 2)  # ACK 0 is the first
    upload = server.client().upload("new", CONTENT)
    server.network.run_until(link.has_lost)
    assert not server.interim.is_busy
    assert server.hand_over() == []
    server.network.result_of(upload)
    assert server.outcomes() == [Outcome.COMPLETE]


def test_an_upload_that_takes_too_long_is_refused_and_reported() -> None:
    server = Server(Files({}))
    upload = server.client().upload("new", CONTENT)
    server.network.advance(0.02)
    assert server.interim.is_busy
    assert server.hand_over() == []
    failure = server.network.result_of(upload.addErrback(lambda failure: failure.value))
    assert "another process serves this port now" in str(failure)
    assert server.outcomes() == [Outcome.CANCELLED]


@pytest.mark.parametrize(
    "data", [b"\0\3\0", b"\0\3\0\2last", tftp.ack(1)], ids=["a cut packet", "another block", "an ACK"]
)
def test_nothing_but_the_last_block_of_a_stored_upload_is_acknowledged(data: bytes) -> None:
    server = Server(Files({}))
    client = FakePeer(server.network.host("10.0.0.9"), 2000)
    address = "10.0.0.1", 69
    for datagram in (tftp.request(True, "new", "octet", ()), b"\0\3\0\1last"):
        client.send(datagram, address)
        server.network.advance(0.01)
    server.hand_over()
    server.network.link = link = OneWayLink("10.0.0.9")
    client.send(data, address)
    server.network.advance(0.01)
    assert link.lost_lengths == []
    client.send(b"\0\3\0\1last", address)
    server.network.advance(0.01)
    assert link.lost_lengths == [len(tftp.ack(1))]
    server.network.advance(ADOPTION_TIMEOUT)
    client.send(b"\0\3\0\1last", address)
    server.network.advance(0.01)
    assert len(link.lost_lengths) == 1, "the upload is forgotten"


def test_repeated_request_is_answered_while_draining() -> None:
    server = Server(Files({"file": CONTENT}))
    server.network.link = link = OneWayLink("10.0.0.9")
    client = FakePeer(server.network.host("10.0.0.9"), 2000)
    for _ in range(2):
        client.send(tftp.request(True, "new", "octet", (("blksize", "1000"),)), ("10.0.0.1", 69))
        server.network.advance(0.01)
        server.interim.drain()
    assert len(link.lost_lengths) == 2


# A packet is lost during the handover


class LosesOne:
    """A link that drops one datagram: number *number*, from 1, of those that *source* sends."""

    def __init__(self, source: str, number: int) -> None:
        self.lost = b""
        self._source = source
        self._remaining = number

    def __call__(self, data: bytes, source: Address, destination: Address) -> list[float]:
        if source[0] == self._source:
            self._remaining -= 1
            if not self._remaining:
                self.lost = data
                return []
        return [0.001]

    def has_lost(self) -> bool:
        return self.lost != b""


class OneWayLink:
    """A link that delivers only what *source* sends. It records the lengths of the datagrams that are lost."""

    def __init__(self, source: str) -> None:
        self.lost_lengths: list[int] = []
        self._source = source

    def __call__(self, data: bytes, source: Address, destination: Address) -> list[float]:
        if source[0] == self._source:
            return [0.001]
        self.lost_lengths.append(len(data))
        return []


SILENT = {"retry": 1000.0}
"""Settings of a client that repeats nothing soon enough, like GRUB and SLOF at some points."""


LONG = "a-name-that-lets-us-send-two-blocks-by-the-ratio"


@pytest.mark.parametrize(
    "options",
    [{}, {"blksize": "1000"}, {"blksize": "1468", "windowsize": "4"}, {"windowsize": "16", "unknown": "1"}],
    ids=["no options", "blksize", "windows of 4", "windows of 16"],
)
@pytest.mark.parametrize("number", range(1, 9))
@pytest.mark.parametrize("source", ["10.0.0.1", "10.0.0.9"], ids=["from the server", "from the client"])
def test_packet_lost_during_the_handover_is_retransmitted(
    tmp_path: Path, source: str, number: int, options: dict[str, str]
) -> None:
    """The worker's timer retransmits it, as the main process's would. The client repeats nothing."""
    if (source, number) == ("10.0.0.9", 1):
        number = 9  # without its request there is no transfer
    if "windowsize" in options and (source, number) == ("10.0.0.9", 3):
        # ACK 1: only the client can repeat it, since it has proven nothing yet; see docs/adr/0012-proof.md
        number = 10
    content = numbered(100_000)
    (tmp_path / LONG).write_bytes(content)
    durations = []
    for handed_over in (False, True):
        server = Server(DirectoryBackend(tmp_path))
        server.network.link = link = LosesOne(source, number)
        began = server.network.clock.seconds()
        download = server.client(options, **SILENT).download(LONG)
        server.network.run_until(link.has_lost)
        if handed_over:
            assert len(server.hand_over()) == 1
        assert server.network.result_of(download, limit=5).data == content
        durations.append(server.network.clock.seconds() - began)
        server.network.advance(0.1)
        assert server.outcomes() == [Outcome.COMPLETE]
    without_handover, with_handover = durations
    assert with_handover == pytest.approx(without_handover, abs=0.1)


@pytest.mark.parametrize("number", range(1, 7))
def test_handover_does_not_raise_the_amplification_of_a_forged_request(
    directory: DirectoryBackend, number: int
) -> None:
    """Its client has proven nothing, and is sent no more in all than one process alone would send."""
    sent = []
    for handed_over in (False, True):
        server = Server(directory)
        server.network.link = link = OneWayLink("10.0.0.9")
        forger = FakePeer(server.network.host("10.0.0.9"), 2000)
        forger.send(tftp.request(False, "file", "octet", (("windowsize", "16"),)), ("10.0.0.1", 69))
        for block in range(number - 1):
            forger.send(tftp.ack(block), ("10.0.0.1", 69))
        server.network.advance(0.02)
        if handed_over:
            server.hand_over()
        server.network.advance(120)
        assert server.outcomes() == [Outcome.TIMED_OUT]
        sent.append((len(link.lost_lengths), sum(link.lost_lengths)))
    without_handover, with_handover = sent
    assert with_handover == without_handover


def test_proven_client_gets_whole_windows_after_the_handover(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(numbered(512 * 2000))
    server = Server(DirectoryBackend(tmp_path))
    download = server.client({"windowsize": "16"}).download("file")
    server.network.run_until(lambda: all(t.session._proof is None for t in server.transfers()) and server.transfers())
    ((_, handover),) = server.hand_over()
    assert handover.position.proof is None
    (transfer,) = server.transfers()
    assert transfer.session._proof is None
    assert server.received(download) == numbered(512 * 2000)


def test_worker_does_not_repeat_an_oack_that_ends_atftp(directory: DirectoryBackend) -> None:
    """The client repeats its ACK 0 itself, and a repeated OACK would end its download."""
    server = Server(directory)
    server.network.link = link = LosesOne("10.0.0.9", 2)
    datagrams: list[bytes] = []

    def record(data: bytes, source: Address, destination: Address) -> list[float]:
        datagrams.append(data)
        return link(data, source, destination)

    server.network.link = record
    download = server.client({"blksize": "1428"}, retry=5.0).download("file")
    server.network.run_until(link.has_lost)
    server.hand_over()
    assert server.received(download) == CONTENT
    assert len([data for data in datagrams if data[:2] == b"\0\6"]) == 1


def test_retransmitted_request_belongs_to_the_same_transfer(directory: DirectoryBackend) -> None:
    server = Server(directory)
    server.network.link = link = LosesOne("10.0.0.1", 1)
    download = server.client({"blksize": "1428"}, retry=3.0).download("file")  # atftp's, so it has to repeat itself
    server.network.run_until(link.has_lost)
    server.network.advance(0.5)
    server.hand_over()
    assert server.received(download) == CONTENT
    assert len([event for event in server.events if isinstance(event, TransferBegun)]) == 1
    assert server.outcomes() == [Outcome.COMPLETE]


def test_changed_file_ends_a_handed_over_transfer(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    server = Server(DirectoryBackend(tmp_path))
    download = server.client().download("file")
    server.network.advance(0.02)
    positions = server.interim.hand_over()
    (tmp_path / "file").unlink()
    server.hand_over(positions)
    failure = server.network.result_of(download.addErrback(lambda failure: failure.value))
    assert "not found" in str(failure)
    assert server.outcomes() == [Outcome.FAILED]


def test_with_several_ports_each_transfer_continues_on_its_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(CONTENT)
    network = MemoryNetwork()
    network.advance(time.time() + 60)
    host = network.host("10.0.0.1", "10.0.0.2", rich=True)
    listen = [("10.0.0.1", 69), ("10.0.0.2", 69)]
    events: list[Event] = []
    protocols = [TFTPProtocol(host, DirectoryBackend(tmp_path), Fixed(), events.append) for _ in listen]
    ports = [
        host.listenUDP(port, protocol, address) for protocol, (address, port) in zip(protocols, listen, strict=True)
    ]
    interim = InterimServer(list(zip(protocols, ports, strict=True)))
    downloads = [TFTPClient(network.host(f"10.0.0.{9 + i}"), to).download("file") for i, to in enumerate(listen)]
    network.advance(0.02)
    positions = interim.hand_over()
    network.advance(0)

    recorder = EventList()
    settings = Settings(dhcp=DHCPSettings(mode="off"), tftp=TFTPSettings(listen=listen))
    service = BootService(host, settings=settings, backend=DirectoryBackend(tmp_path), observers=[recorder])
    service.privilegedStartService()
    service.startService()
    begun = {event.request.peer: event for event in events if isinstance(event, TransferBegun)}
    service.take_over([AdoptedTransfer(begun[peer], 0, handover) for peer, handover in positions])
    assert [network.result_of(download).data for download in downloads] == [CONTENT] * 2
    network.advance(600)
    reports = [event.report for event in recorder.events if isinstance(event, TransferEnded)]
    assert [report.outcome for report in reports] == [Outcome.COMPLETE] * 2
    assert [report.retransmitted for report in reports] == [0, 0]


@pytest.mark.parametrize("ports", ["single", "ephemeral"])
def test_transfer_of_a_crashed_worker_ends_once_with_any_number_of_ports(tmp_path: Path, ports: str) -> None:
    """It is not known which of the ports its client uses. A transfer on an ephemeral port can't continue at all."""
    (tmp_path / "file").write_bytes(CONTENT)
    network = MemoryNetwork()
    network.advance(time.time() + 60)
    host = network.host("10.0.0.1", "10.0.0.2", rich=True)
    listen = [("10.0.0.1", 69), ("10.0.0.2", 69)]
    recorder = EventList()
    settings = Settings(dhcp=DHCPSettings(mode="off"), tftp=TFTPSettings(listen=listen, ports=ports))
    service = BootService(host, settings=settings, backend=DirectoryBackend(tmp_path), observers=[recorder])
    service.privilegedStartService()
    service.startService()
    peers = [FakePeer(network.host(f"10.0.0.{9 + i}"), 2000) for i in range(3)]
    requests = [TransferRequest("file", "file", (f"10.0.0.{9 + i}", 2000)) for i in range(3)]
    began = network.clock.seconds() - 1
    service.take_over([AdoptedTransfer(TransferBegun(began, request, Agreed()), 0) for request in requests])
    for peer, server in zip(peers, listen, strict=False):
        for block in range(1, len(CONTENT) // 512 + 2):
            peer.send(tftp.ack(block), server)
            network.advance(0.01)
    network.advance(600)
    reports = [event.report for event in recorder.events if isinstance(event, TransferEnded)]
    assert sorted((report.request.peer[0], report.outcome) for report in reports) == [
        ("10.0.0.10", Outcome.COMPLETE if ports == "single" else Outcome.FAILED),
        ("10.0.0.11", Outcome.FAILED),
        ("10.0.0.9", Outcome.COMPLETE if ports == "single" else Outcome.FAILED),
    ]
    network.result_of(service.stopService())
