"""The flight recorder: packets are kept in memory, written when a boot fails, and can be answered again."""

import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from dhcpports import proxy_port
from howtos import blocks
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from bootfw.attempts.attempt import BootAttempt, Cause, Stage, StageKind, Verdict
from bootfw.boot import flightrecorder
from bootfw.boot.flightrecorder import FlightRecorder, datagram_of
from bootfw.boot.resolverchain import ResolverChain
from bootfw.build import assemble
from bootfw.cli.bootclient import boot_client
from bootfw.cli.main import main
from bootfw.config.configuration import load_config
from bootfw.observe import recordings
from bootfw.observe.recordings import Recordings
from bootfw.testing import MemoryNetwork
from bootfw.values import Via
from bootfw.wire import dhcp4
from bootfw.wire.pcapng import read_pcapng

MAC = "52:54:00:12:34:56"
WALL = 1_700_000_000.0
VIA = Via("10.77.0.1", 0, "255.255.255.255")
CLIENT = ("0.0.0.0", 68)

ATTEMPT = BootAttempt(
    id="1",
    began=WALL,
    mac=MAC,
    verdict=Verdict.FAILED,
    cause=Cause("key", "it never requested its boot file", "look at the cable"),
    stages=(Stage(WALL, StageKind.DISCOVER), Stage(WALL + 1, StageKind.OFFER, {"file": "last.efi"})),
)

CONFIG = """
[bootfw]
state-dir = "state"
[[backend]]
use = "memory"
files = {"last.efi" = "program"}
[[resolver]]
use = "static"
file = "last.efi"
"""


def write(recordings: Recordings, attempt: BootAttempt) -> str:
    """The path of the recording; "" if none is written. Without worker processes write() answers at once."""
    paths: list[str] = []
    recordings.write(attempt).addCallback(paths.append)
    (path,) = paths
    return path


def discover(mac: str = MAC) -> bytes:
    client = boot_client(bytes.fromhex(mac.replace(":", "")), "x86-bios")
    return dhcp4.pack(client.discover(7), 1472)


# The memory


def test_the_packets_of_a_client_are_kept_with_their_directions() -> None:
    recorder, sent = FlightRecorder(), []
    recorder.keep((1.0, discover(), CLIENT, VIA, 67, False))
    recorder.sender(lambda: 2.0, lambda *packet: sent.append(packet), 67)(discover(), ("10.77.0.9", 68), VIA)
    recorder.keep((3.0, discover("52:54:00:00:00:99"), CLIENT, VIA, 67, False))
    assert sent == [(discover(), ("10.77.0.9", 68), VIA)]
    first, second = (datagram_of(entry, WALL) for entry in recorder.packets_of(MAC, (), 0))
    assert (first.at, first.source, first.destination) == (WALL + 1, CLIENT, ("255.255.255.255", 67))
    assert (second.at, second.source, second.destination) == (WALL + 2, ("10.77.0.1", 67), ("10.77.0.9", 68))
    assert (first.outbound, second.outbound) == (False, True)


def test_dhcpv6_clients_are_recognized_by_their_addresses() -> None:
    recorder = FlightRecorder()
    recorder.keep((1.0, b"\1abc", ("fe80::9", 546, 0, 2), None, 547, False))
    (entry,) = recorder.packets_of(MAC, ["fe80::9", "10.77.0.9"], 0)
    packet = datagram_of(entry, 0)
    assert (packet.source, packet.destination) == (("fe80::9", 546), ("::", 547))


def test_malformed_datagram_is_recorded_without_error() -> None:
    recorder = FlightRecorder()
    recorder.keep((1.0, b"", CLIENT, None, 67, False))
    assert recorder.packets_of(MAC, (), 0) == []


def test_recorded_packets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flightrecorder, "PACKETS", 3)
    recorder = FlightRecorder()
    for number in range(5):
        recorder.keep((float(number), discover(), CLIENT, VIA, 67, False))
    assert [entry[0] for entry in recorder.packets_of(MAC, (), 0)] == [2, 3, 4]
    assert [entry[0] for entry in recorder.packets_of(MAC, (), 3)] == [3, 4]
    assert recorder.packets_of("", (), 0) == [], "a client whose hardware address is not known"


# The files


@pytest.fixture
def boot_recordings(tmp_path: Path) -> Recordings:
    """Recordings with the DISCOVER of a client in memory."""
    recorder = FlightRecorder()
    recorder.keep((0.0, discover(), CLIENT, VIA, 67, False))
    return Recordings(recorder, lambda: 100.0, tmp_path / "recordings", lambda: WALL + 100)


def test_a_failed_boot_is_written_with_its_stages(boot_recordings: Recordings, tmp_path: Path) -> None:
    assert write(boot_recordings, ATTEMPT) == f"{tmp_path}/recordings/1.pcapng"
    path = tmp_path / "recordings" / "1.pcapng"
    (packet,) = read_pcapng(path.read_bytes())
    assert (packet.data, packet.comment) == (discover(), "discover")
    assert b"it never requested its boot file; look at the cable\n" in path.read_bytes()
    assert b"   1.000 s  " in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_packets_of_an_earlier_boot_are_left_out(boot_recordings: Recordings, tmp_path: Path) -> None:
    assert write(boot_recordings, evolve(ATTEMPT, began=WALL + 60)) == ""
    assert not (tmp_path / "recordings").exists()


def test_the_oldest_files_are_dropped(
    boot_recordings: Recordings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "FILES", 2)
    for number in range(4):
        path = write(boot_recordings, evolve(ATTEMPT, id=str(number)))
        os.utime(path, (number, number))
    assert {path.name for path in (tmp_path / "recordings").iterdir()} == {"2.pcapng", "3.pcapng"}


def test_uncreatable_directory_is_reported_once(boot_recordings: Recordings, tmp_path: Path) -> None:
    directory = tmp_path / "recordings"
    directory.write_text("a file")
    with capturedLogs() as logs:
        assert [write(boot_recordings, ATTEMPT) for _ in range(3)] == [""] * 3
        directory.unlink()
        assert (
            write(boot_recordings, ATTEMPT)
            == write(boot_recordings, ATTEMPT)
            == str(directory / f"{ATTEMPT.id}.pcapng")
        )
    unable, able = map(str, map(formatEvent, logs))
    assert "the packets of failed boots can't be written: " in unable
    assert able == "the packets of failed boots are written again"


def test_a_full_disk_leaves_no_part_of_a_file(boot_recordings: Recordings, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with capturedLogs() as logs:
            assert write(boot_recordings, ATTEMPT) == ""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(logs) == 1
    assert list((tmp_path / "recordings").iterdir()) == []


# Answered again


@pytest.fixture
def recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recording of a boot that a proxy with CONFIG has answered."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOTFW_")]:
        monkeypatch.delenv(name)
    (tmp_path / "bootfw.toml").write_text(CONFIG)
    network, recorder = MemoryNetwork(Clock()), FlightRecorder()
    host = network.host("10.77.0.1")
    parts = assemble(load_config("bootfw.toml", {}), host)
    publish: Callable[[Any], None] = lambda event: None  # noqa: E731
    chain = ResolverChain(host, parts.resolvers, publish, 1.0)
    port = proxy_port(host, chain, publish, server="10.77.0.1", recorder=recorder)
    host.listenUDP(67, port)
    port.datagrams_received([(discover(), CLIENT, VIA)])
    network.advance(1)
    port.close()
    path = write(Recordings(recorder, host.seconds, tmp_path, lambda: WALL + host.seconds()), ATTEMPT)
    assert [packet.outbound for packet in read_pcapng(Path(path).read_bytes())] == [False, True]
    return Path(path)


def test_the_same_configuration_answers_the_same(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(recording), "-c", "bootfw.toml"]) == 0
    assert capsys.readouterr().out == "1 requests, 0 answered differently\n"


def test_another_boot_file_is_a_difference(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bootfw.toml").write_text(CONFIG.replace("last.efi", "other.efi"))
    assert main(["replay", str(recording), "-c", "bootfw.toml"]) == 1
    out = capsys.readouterr().out
    assert "packet 1, DISCOVER: " in out
    assert "last.efi -> other.efi\n" in out
    assert out.endswith("1 requests, 1 answered differently\n")


def test_no_answer_is_a_difference(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bootfw.toml").write_text(CONFIG.partition("[[resolver]]")[0] + '[[resolver]]\nuse = "next-boot"\n')
    assert main(["replay", str(recording), "-c", "bootfw.toml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "requests": 1,
        "differences": [
            {"number": 1, "request": "DISCOVER", "what": "answer", "recorded": "OFFER", "now": "no answer"}
        ],
    }


def test_file_that_is_not_a_recording_is_an_error(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "bootfw.toml", "-c", "bootfw.toml"]) == 2
    assert capsys.readouterr().err == "bootfw: bootfw.toml: this is no pcapng file in little-endian byte order\n"


def test_missing_recording_is_an_error(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", "nothing.pcapng", "-c", "bootfw.toml"]) == 2
    assert capsys.readouterr().err == "bootfw: nothing.pcapng: No such file or directory\n"


def test_the_recording_of_the_howto(recording: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page shows the output of the command for a boot file that was renamed."""
    (page,) = blocks("recordings.md", "console")
    _, *expected = page.splitlines()
    Path("bootfw.toml").write_text(CONFIG.replace("last.efi", "grubx64.efi"))
    main(["replay", str(recording), "-c", "bootfw.toml"])
    assert capsys.readouterr().out.splitlines() == expected
