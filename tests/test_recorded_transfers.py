"""Recordings of transfers: TFTP packets, HTTP requests, and all packets of a boot that fails."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import partial, partialmethod
from pathlib import Path
from typing import Any

import firmware
import pytest
from attrs import define, field
from booting import SERVER, Machine, Site
from dhcpports import proxy6_port
from observers import EventList

from bootfw import service as service_module
from bootfw.attempts.attempt import BootAttempt, Stage, StageKind, Verdict
from bootfw.backends.memory import MemoryBackend
from bootfw.boot.flightrecorder import AT_TIMEOUT, OF_TRANSFER, FlightRecorder
from bootfw.boot.resolverchain import ResolverChain
from bootfw.cli.bootclient import boot_client
from bootfw.cli.main import main
from bootfw.config.settings import TFTPSettings
from bootfw.events import BootAttemptEnded, Event
from bootfw.net.dhcp.duid import own_duid
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.observe.boots import BootRecorder
from bootfw.observe.recordings import Recordings
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.values import Via
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import dhcp6, tftp
from bootfw.wire.pcapng import Datagram, Segment, read_pcapng, write_pcapng

CLIENT = "10.0.0.9"
WALL = 1_700_000_000.0
FILES = {"grub.cfg": b"menu", "kernel": bytes(512 * 60 + 5)}


@define(eq=False)
class RecordingServer:
    """A TFTP server that records its packets, and the host of a client."""

    network: MemoryNetwork = field(factory=MemoryNetwork)
    recorder: FlightRecorder = field(factory=FlightRecorder)
    server: Any = None
    host: Any = None
    writable: bool = False

    def __attrs_post_init__(self) -> None:
        self.server = self.network.host(SERVER, name="server", rich=True)
        self.host = self.network.host(CLIENT, name="client")
        protocol = TFTPProtocol(
            self.server,
            MemoryBackend(dict(FILES), writable=self.writable),
            Fixed(),
            lambda event: None,
            recorder=self.recorder,
            settings=TFTPSettings(writable=self.writable),
        )
        self.server.listenUDP(69, protocol)

    def fetch(self, name: str, *options: tuple[str, str]) -> None:
        client = TFTPClient(self.host, (SERVER, 69), options)
        self.network.result_of(client.download(name))
        self.network.advance(0.01)

    def packets(self, since: float = 0.0) -> list[Datagram]:
        return self.recorder.transfers_of([CLIENT], since)


def opcodes(packets: Sequence[Datagram]) -> list[tuple[bool, int]]:
    return [(packet.outbound, packet.data[1]) for packet in packets]


def test_a_transfer_is_kept_from_its_request_to_its_last_ack() -> None:
    server = RecordingServer()
    server.fetch("grub.cfg", ("tsize", "0"))
    packets = server.packets()
    assert opcodes(packets) == [(False, 1), (True, 6), (False, 4), (True, 3), (False, 4)]
    request, oack, _, data, _ = packets
    assert request.destination == (SERVER, 69)
    assert oack.destination == request.source == data.destination
    assert b"tsize\x004\0" in oack.data
    assert (data.data, data.length) == (b"\0\3\0\1", 8), "the header, and the length with the content"
    assert server.packets(since=1e9) == []
    assert server.recorder.transfers_of(["10.0.0.99"], 0) == []


def test_middle_of_a_long_transfer_is_not_recorded() -> None:
    server = RecordingServer()
    server.fetch("kernel")
    packets = server.packets()
    assert len(packets) == 1 + OF_TRANSFER
    assert opcodes(packets[:3]) == [(False, 1), (True, 3), (False, 4)]
    assert server.recorder.transfers_of([CLIENT], 0) == packets


def test_packets_after_a_timeout_are_recorded() -> None:
    server = RecordingServer()
    peer = FakePeer(server.host)
    peer.send(tftp.request(False, "kernel", "octet", ()), (SERVER, 69))
    for block in range(1, 31):
        server.network.advance(0.01)
        peer.send(b"\0\4" + block.to_bytes(2), (SERVER, 69))
    server.network.advance(0.01)
    before = server.packets()
    server.network.advance(2)
    after = server.packets()[len(before) :]
    assert {each.data for each in after} == {b"\0\3\0\x1f"}
    peer.send(tftp.error(0, "given up"), (SERVER, 69))
    server.network.advance(0.01)
    assert server.packets()[-1].data.startswith(b"\0\5"), "an ERROR is kept in any case"
    peer.close()
    assert 1 <= len(after) <= AT_TIMEOUT


def test_the_datagrams_of_a_window_are_kept_one_by_one() -> None:
    recorder = FlightRecorder()
    recorder.keep_tftp((2.0, True, b"\0\3\xff\xff", 516 + 516 + 11, 516, (CLIENT, 2000), None, 69))
    window = recorder.transfers_of([CLIENT], 0)
    assert [(each.at, each.data, each.length) for each in window] == [
        (2.0, b"\0\3\xff\xff", 516),
        (2.0, b"\0\3\0\0", 516),
        (2.0, b"\0\3\0\1", 11),
    ]


def test_a_refused_request_is_kept_with_its_error() -> None:
    server = RecordingServer()
    with pytest.raises(TransferFailed):
        server.fetch("missing")
    request, error = server.packets()
    assert b"missing" in request.data
    assert error.data[:4] == b"\0\5\0\1"
    assert error.outbound


def test_a_malformed_request_is_kept_with_its_error() -> None:
    server = RecordingServer()
    peer = FakePeer(server.host)
    peer.send(b"\0\1no end of the name", (SERVER, 69))
    server.network.advance(0.01)
    peer.close()
    assert opcodes(server.packets()) == [(False, 1), (True, 5)]


def test_a_huge_packet_is_kept_up_to_a_bound() -> None:
    server = RecordingServer()
    peer = FakePeer(server.host)
    for data in (
        b"\0\1".ljust(8000, b"a"),
        tftp.request(False, "grub.cfg", "octet"),
        b"\0\5\0\0".ljust(8000, b"e"),
    ):
        peer.send(data, (SERVER, 69))
        server.network.advance(0.1)
    peer.close()
    huge = [packet for packet in server.packets() if packet.length]
    assert [(len(packet.data), packet.length) for packet in huge if not packet.outbound] == [(4096, 8000)] * 2


def test_a_request_that_is_sent_again_is_kept_each_time() -> None:
    server = RecordingServer()
    peer = FakePeer(server.host)
    for _ in range(2):
        peer.send(tftp.request(False, "grub.cfg", "octet", (("tsize", "0"),)), (SERVER, 69))
        server.network.advance(0.1)
    peer.close()
    assert opcodes(server.packets())[:4] == [(False, 1), (True, 6), (False, 1), (True, 6)]


def test_an_upload_is_kept_without_its_content() -> None:
    server = RecordingServer(writable=True)
    client = TFTPClient(server.host, (SERVER, 69))
    server.network.result_of(client.upload("file", bytes(100)))
    server.network.advance(0)
    packets = server.packets()
    assert opcodes(packets) == [(False, 2), (True, 4), (False, 3), (True, 4)]
    assert (packets[2].data, packets[2].length) == (b"\0\3\0\1", 104)


# HTTP


def test_http_requests_are_made_from_the_stages(tmp_path: Path) -> None:
    recorder = FlightRecorder()
    recorder.keep_tftp((0.0, True, b"\0\5\0\1no\0", 7, 0, (CLIENT, 2000), Via(SERVER, 0, SERVER), 69))
    data = {"protocol": "http", "peer": CLIENT}
    attempt = BootAttempt(
        id="1",
        began=WALL,
        addresses=(CLIENT,),
        verdict=Verdict.FAILED,
        stages=(
            Stage(
                WALL + 1,
                StageKind.TRANSFER,
                {**data, "file": "boot menu", "outcome": "complete", "bytes": 4, "seconds": 0.1},
            ),
            Stage(WALL + 2, StageKind.REFUSED, {**data, "file": "vmlinuz", "code": 404, "message": "File not found"}),
        ),
    )
    paths: list[str] = []
    Recordings(recorder, lambda: 100.0, tmp_path, lambda: WALL + 100).write(attempt).addCallback(paths.append)
    *_, first, answer, second, refused = read_pcapng(Path(paths[0]).read_bytes())
    assert isinstance(first, Segment)
    assert first.data.startswith(b"GET /boot%20menu HTTP/1.1\r\n")
    assert (first.source[0], first.destination, first.at) == (CLIENT, (SERVER, 80), WALL + 1)
    assert answer.data.startswith(b"HTTP/1.1 200 OK\r\n")
    assert (answer.source, answer.destination) == (first.destination, first.source)
    assert second.source != first.source
    assert refused.data.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert refused.outbound
    assert refused.comment.startswith("made from the record of the boot: http ")


# A service


class AttemptObserver(EventList):
    @property
    def ended(self) -> list[BootAttempt]:
        return [event.attempt for event in self.of(BootAttemptEnded)]


def test_a_boot_that_fails_has_its_packets_in_a_file_that_its_record_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through BootService: DHCP, and the request for a boot file that is missing."""
    observer = AttemptObserver()
    site = Site([], knows_macs=True)
    host = site.network.host(SERVER, name="server", rich=True)
    monkeypatch.setattr(service_module, "Recordings", partial(Recordings, wall_clock=host.seconds))
    init = partialmethod(BootRecorder.__init__, wall_clock=host.seconds)
    monkeypatch.setattr(service_module, "BootRecorder", type("OnTime", (BootRecorder,), {"__init__": init}))
    site.service = service = BootService(
        host,
        resolvers=[StaticResolver("missing.efi")],
        backends=[MemoryBackend({})],
        observers=[observer],
        attempts=MemoryStore(),
        recordings=tmp_path / "recordings",
    )
    service.startService()
    machine = Machine(site)
    for _ in range(3):
        name = machine.offered_file(firmware.SNPONLY)
        assert name == "missing.efi"
        assert machine.fetch(name) is None
        site.network.advance(1)
    for _ in range(200):
        site.network.advance(1)
    attempt = next(each for each in observer.ended if each.verdict is Verdict.FAILED)
    assert attempt.recording
    assert Path(attempt.recording).parent == tmp_path / "recordings"
    packets = read_pcapng(Path(attempt.recording).read_bytes())
    kinds = {
        (packet.destination[1] if not packet.outbound else packet.source[1], packet.outbound) for packet in packets
    }
    assert {(67, False), (67, True), (69, False), (69, True)} <= kinds
    site.stop()

    if shutil.which("tshark") is not None:
        tshark = subprocess.run(["tshark", "-r", attempt.recording], capture_output=True, text=True, check=True)
        assert "Read Request, File: missing.efi" in tshark.stdout
        assert "DHCP" in tshark.stdout

    (tmp_path / "bootfw.toml").write_text(
        '[bootfw]\nstate-dir = "state"\n[[resolver]]\nuse = "static"\nfile = "missing.efi"\n'
        '[[backend]]\nuse = "memory"\nfiles = {"missing.efi" = "found by now"}\n'
    )
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)
    assert main(["replay", attempt.recording, "-c", "bootfw.toml"]) == 1
    out = capsys.readouterr().out
    assert "TFTP missing.efi: answer: ERROR 1 File not found -> " in out
    assert "DISCOVER" not in out


# Answered again

CONFIG = """
[bootfw]
state-dir = "state"
[[resolver]]
use = "static"
file = "kernel"
[[backend]]
use = "memory"
files = {"kernel" = "content"}
"""


@pytest.fixture
def replay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, Any]]:
    """Runs the command on packets. Returns its exit code and what it prints as JSON."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)

    def run(packets: Sequence[Datagram], config: str = CONFIG) -> tuple[int, Any]:
        Path("bootfw.toml").write_text(config)
        Path("it.pcapng").write_bytes(write_pcapng(packets))
        code = main(["replay", "it.pcapng", "-c", "bootfw.toml", "--json"])
        return code, json.loads(capsys.readouterr().out)

    return run


CLIENT_PORT, SERVER_PORT = (CLIENT, 2000), (SERVER, 69)
READ = tftp.request(False, "kernel", "octet", (("tsize", "0"), ("blksize", "1468")))


def test_same_oack_is_not_a_difference(replay: Callable[..., tuple[int, Any]]) -> None:
    oack = b"\0\6tsize\x007\0blksize\x001468\0"
    packets = [Datagram(1.0, CLIENT_PORT, SERVER_PORT, READ), Datagram(1.1, SERVER_PORT, CLIENT_PORT, oack, True)]
    assert replay(packets) == (0, {"requests": 1, "differences": []})


def test_a_request_that_was_sent_again_is_answered_once(replay: Callable[..., tuple[int, Any]]) -> None:
    oack = Datagram(1.1, SERVER_PORT, CLIENT_PORT, b"\0\6tsize\x007\0blksize\x001468\0", True)
    packets = [Datagram(1.0, CLIENT_PORT, SERVER_PORT, READ), Datagram(1.1, CLIENT_PORT, SERVER_PORT, READ), oack]
    assert replay(packets) == (0, {"requests": 1, "differences": []})


def test_block_size_limited_by_the_mtu_is_not_a_difference(replay: Callable[..., tuple[int, Any]]) -> None:
    oack = b"\0\6tsize\x007\0blksize\x001408\0"
    packets = [Datagram(1.0, CLIENT_PORT, SERVER_PORT, READ), Datagram(1.1, SERVER_PORT, CLIENT_PORT, oack, True)]
    assert replay(packets)[0] == 0


def test_another_size_of_the_file_is_a_difference(replay: Callable[..., tuple[int, Any]]) -> None:
    oack = b"\0\6tsize\x009\0blksize\x001468\0"
    code, found = replay(
        [Datagram(1.0, CLIENT_PORT, SERVER_PORT, READ), Datagram(1.1, SERVER_PORT, CLIENT_PORT, oack, True)]
    )
    assert code == 1
    assert found["differences"] == [
        {"number": 1, "request": "TFTP kernel", "what": "option tsize", "recorded": "9", "now": "7"}
    ]


def test_a_file_that_is_missing_now_is_a_difference(replay: Callable[..., tuple[int, Any]]) -> None:
    data = Datagram(1.1, SERVER_PORT, CLIENT_PORT, b"\0\3\0\1", True, length=11)
    packets = [Datagram(1.0, CLIENT_PORT, SERVER_PORT, tftp.request(False, "gone", "octet", ())), data]
    code, found = replay(packets)
    assert code == 1
    (difference,) = found["differences"]
    assert (difference["recorded"], difference["now"]) == ("DATA", "ERROR 1 File not found")


@pytest.mark.parametrize(
    ("status", "target", "now"), [("200", "kernel", ""), ("404", "kernel", "200"), ("200", "gone", "404")]
)
def test_the_status_of_an_http_response_is_compared(
    replay: Callable[..., tuple[int, Any]], status: str, target: str, now: str
) -> None:
    browser, web = (CLIENT, 49152), (SERVER, 80)
    packets = [
        Segment(1.0, browser, web, f"GET /{target} HTTP/1.1\r\n\r\n".encode()),
        Segment(1.0, web, browser, f"HTTP/1.1 {status} \r\n\r\n".encode(), True),
    ]
    code, found = replay(packets)
    assert (code, found["requests"]) == (1 if now else 0, 1)
    assert [(each["what"], each["recorded"], each["now"]) for each in found["differences"]] == (
        [("status", status, now)] if now else []
    )


CONFIG6 = CONFIG + '[dhcp6]\nmode = "proxy"\n'


@pytest.fixture
def solicited(tmp_path: Path) -> list[Datagram]:
    """A recording with a SOLICIT, and the answer of a proxy with CONFIG6."""
    network, recorder = MemoryNetwork(), FlightRecorder()
    host = network.host("2001:db8::1", name="server", rich=True)
    resolvers = [("static", StaticResolver("kernel"))]
    publish: Callable[[Event], None] = lambda event: None  # noqa: E731
    chain = ResolverChain(host, resolvers, publish, 1.0)
    port = proxy6_port(host, chain, publish, own_duid(), server="2001:db8::1", recorder=recorder)
    host.listenUDP(547, port)
    client = boot_client(bytes.fromhex("525400123456"), "x86_64-uefi")
    via = Via("2001:db8::1", 2, "ff02::1:2")
    port.datagrams_received([(dhcp6.pack(client.solicit(7)), ("fe80::9", 546, 0, 2), via)])
    network.advance(1)
    port.close()
    attempt = BootAttempt(id="1", began=WALL, addresses=("fe80::9",), verdict=Verdict.FAILED)
    paths: list[str] = []
    writing = Recordings(recorder, host.seconds, tmp_path, lambda: WALL + host.seconds()).write(attempt)
    writing.addCallback(paths.append)
    return read_pcapng(Path(paths[0]).read_bytes())


def test_dhcpv6_is_answered_again(solicited: list[Datagram], replay: Callable[..., tuple[int, Any]]) -> None:
    assert [(each.outbound, each.data[0]) for each in solicited] == [(False, 1), (True, 2)]
    assert replay(solicited, CONFIG6) == (0, {"requests": 1, "differences": []})


def test_another_boot_file_by_dhcpv6_is_a_difference(
    solicited: list[Datagram], replay: Callable[..., tuple[int, Any]]
) -> None:
    code, found = replay(solicited, CONFIG6.replace('file = "kernel"', 'file = "other"'))
    assert code == 1
    (difference,) = found["differences"]
    assert (difference["number"], difference["request"]) == (1, "SOLICIT")
    assert difference["what"].startswith("option 59 ")
    assert difference["recorded"].endswith("/kernel")
    assert difference["now"].endswith("/other")


def test_dhcpv6_that_is_switched_off_is_not_replayed(
    solicited: list[Datagram], replay: Callable[..., tuple[int, Any]]
) -> None:
    assert replay(solicited, CONFIG + '[dhcp6]\nmode = "off"\n') == (0, {"requests": 0, "differences": []})
