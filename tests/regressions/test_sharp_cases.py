"""The sharp cases of TFTP, 1 to 28 by their numbers: what real clients and networks do to a server."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
from narrowing import of_type
from tftpserver import Direct, Files, MemoryWire, Serve, Wire, blocks, numbered

from bootfw.backends.directory import DirectoryBackend
from bootfw.events import DatagramsMalformed, PluginFailed, TransferEnded
from bootfw.testing import TFTPClient
from bootfw.values import Address, Via
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

memory = pytest.mark.parametrize("wire", ["memory-stock", "memory-rich"], indirect=True)
with_packet_info = pytest.mark.parametrize("wire", ["memory-rich", "socket-own"], indirect=True)

FILE = numbered(20 * 512)


def block(number: int, blksize: int = 512) -> tftp.Data:
    return tftp.Data(number, FILE[(number - 1) * blksize : number * blksize])


def block_range(first: int, last: int) -> list[tftp.Data]:
    return [block(number) for number in range(first, last + 1)]


@pytest.mark.every_port
def test_case_01_request_three_times_before_any_reply(serve: Serve, wire: Wire) -> None:
    """One transfer, one TID, the OACK repeated from the same port."""
    served = serve({"file": FILE})
    peer = served.peer()
    request = tftp.request(False, "file", "octet", [("tsize", "0")])
    assert peer.send(request, request, request) == [tftp.OptionAck((("tsize", "10240"),))] * 3
    assert len(set(peer.sources)) == 1
    assert len(served.backend.readers) == served.protocol.transfers == 1
    assert peer.send(tftp.ack(0)) == [block(1)]


@pytest.mark.every_port
def test_case_01_without_options(serve: Serve) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    request = tftp.request(False, "file", "octet")
    assert peer.send(request, request, request) == [block(1)] * 3
    assert len(served.backend.readers) == 1


@pytest.mark.every_port
@pytest.mark.parametrize("options", [{}, {"tsize": 0}])
def test_case_02_request_again_after_the_first_ack(serve: Serve, options: dict[str, Any]) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file", **options)
    if options:
        peer.send(tftp.ack(0))
    assert peer.send(tftp.ack(1)) == [block(2)]
    tid = peer.tid
    for _ in range(3):
        assert peer.request("file", **options) == []
    assert len(served.backend.readers) == 1
    assert peer.send(tftp.ack(2), to=tid) == [block(3)]


@pytest.mark.every_port
@pytest.mark.parametrize("number", [8, 9])
def test_case_03_unknown_tid_gets_error_5(start: Serve, number: int) -> None:
    served = start({"file": FILE}, ports="ephemeral")
    peer = served.peer()
    peer.request("file")
    other_client = served.peer(number)
    assert other_client.send(tftp.ack(1), to=peer.tid) == [tftp.Error(5, "Unknown transfer ID")]
    for number_of_ack in range(1, 20):
        assert peer.send(tftp.ack(number_of_ack)) == [block(number_of_ack + 1)]
    peer.send(tftp.ack(20))
    peer.send(tftp.ack(21))
    assert served.outcomes == ["COMPLETE"]


@pytest.mark.every_port
@pytest.mark.parametrize("code", [0, 5, 8])
def test_case_04_error_from_an_unknown_tid(serve: Serve, code: int) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file")
    assert served.peer().send(tftp.error(code, "go away"), to=peer.tid) == []
    assert peer.send(tftp.ack(1)) == [block(2)]


@pytest.mark.every_port
def test_case_05_old_ack_a_hundred_times(serve: Serve) -> None:
    """Sorcerer's Apprentice: no DATA is sent for it."""
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file")
    assert peer.send(tftp.ack(1)) == [block(2)]
    assert peer.send(*[tftp.ack(1)] * 50, *[tftp.ack(0)] * 50) == []
    assert peer.send(tftp.ack(2)) == [block(3)]


class DoublingLink:
    """A link that delivers everything twice, and counts the DATA that were sent."""

    def __init__(self, gap: float) -> None:
        self.gap = gap
        self.data_packets = 0

    def __call__(self, datagram: bytes, source: Address, destination: Address) -> tuple[float, float]:
        self.data_packets += datagram.startswith(b"\0\3")
        return 0.0005, 0.0005 + self.gap


@memory
@pytest.mark.parametrize("gap", [0, 0.0001, 0.0007])
@pytest.mark.parametrize(("window", "at_most"), [(1, 202), (4, 201 * 1.5), (16, 201 * 1.5)])
@pytest.mark.usefixtures("proven_peers")
def test_case_06_everything_duplicated_does_not_double_the_traffic(
    serve: Serve, wire: MemoryWire, gap: float, window: int, at_most: float
) -> None:
    """One block at a time each is sent once, and block 1 again for the copy of the request. With windows a second ACK
    may ask again, but that does not multiply."""
    content = numbered(200 * 512)
    served = serve({"file": content})
    network = wire.network
    network.link = link = DoublingLink(gap)
    options = {"windowsize": window} if window > 1 else {}
    client = TFTPClient(network.host("10.0.0.7"), served.address, options)
    assert network.result_of(client.download("file")).data == content
    assert 201 <= link.data_packets <= at_most
    network.link = None


@pytest.mark.every_port
def test_case_07_ack_for_the_future(serve: Serve) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file")
    assert peer.send(*[tftp.ack(number) for number in (2, 3, 100, 65535, 0)]) == []
    assert peer.send(tftp.ack(1)) == [block(2)]


@pytest.mark.every_port
@pytest.mark.usefixtures("proven_peers")
def test_case_08_ack_in_the_middle_of_a_window(serve: Serve) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file", windowsize=8)
    assert peer.send(tftp.ack(0)) == block_range(1, 8)
    assert peer.send(tftp.ack(3)) == block_range(4, 11)
    assert peer.send(tftp.ack(11)) == block_range(12, 19)


@pytest.mark.usefixtures("proven_peers")
def test_case_09_edk2_repeats_three_acks_for_a_missing_first_block(serve: Serve) -> None:
    served = serve({"file": FILE})
    peer = served.peer()
    peer.request("file", windowsize=4)
    assert peer.send(tftp.ack(0)) == block_range(1, 4)
    assert peer.send(tftp.ack(4)) == block_range(5, 8)
    assert peer.send(tftp.ack(4), tftp.ack(4), tftp.ack(4)) == block_range(5, 8)
    assert peer.send(tftp.ack(8)) == block_range(9, 12)


def without_markers(packets: list[tftp.Packet]) -> set[int]:
    """The numbers of the blocks; FILE has 21."""
    return {number for number in blocks(packets) if number <= 21}


@pytest.mark.every_port
@pytest.mark.usefixtures("proven_peers")
def test_case_10_u_boot_is_silent_for_five_seconds(serve: Serve) -> None:
    """It ignores what it has already, and repeats a lost ACK only then. Here it has lost what else was sent, too."""
    served = serve({"file": FILE}, watchdog=Adaptive())
    peer = served.peer()
    peer.request("file", windowsize=4)
    assert peer.send(tftp.ack(0)) == block_range(1, 4)
    served.advance(5)
    assert without_markers(peer.take()) == set(range(1, 9))
    assert peer.send(tftp.ack(4)) == block_range(5, 8)
    served.advance(12)
    peer.take()
    assert peer.send(tftp.ack(8)) == block_range(9, 12)
    assert served.reports == []


class PeriodicContent:
    """Content with a period that has nothing to do with block numbers, as if it were *size* bytes."""

    PERIOD = 1_000_003

    def __init__(self, size: int) -> None:
        self._twice = random.Random(0).randbytes(self.PERIOD) * 2
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, requested: slice) -> bytes:
        start = requested.start % self.PERIOD
        return self._twice[start : start + min(requested.stop, self.size) - requested.start]


@pytest.mark.parametrize(("window", "mebibytes"), [(1, 33), (16, 100)])
@pytest.mark.usefixtures("proven_peers")
def test_case_11_a_hundred_mebibytes_in_blocks_of_512(window: int, mebibytes: int) -> None:
    """Block numbers wrap after each 32 MiB, from 65535 to 0. Old ACKs that come just behind that get no answer."""
    content = PeriodicContent(mebibytes << 20)
    direct = Direct(Files({"file": content}))
    direct.send(tftp.request(False, "file", "octet", [("windowsize", str(window))]))
    acked, last, received = 0, (mebibytes << 20) // 512 + 1, direct.send(tftp.ack(0))
    while received:
        for number, datagram in enumerate(received, acked + 1):
            assert datagram == tftp.data(number & 0xFFFF, content[(number - 1) * 512 : number * 512])
        assert len(received) == min(window, last - acked)
        acked += len(received)
        received = direct.send(tftp.ack(acked & 0xFFFF))
        if acked > window and acked & 0xFFFF <= window:
            assert [direct.send(tftp.ack((acked - behind) & 0xFFFF)) for behind in (window, window + 1)] == [[], []]
    assert acked == last
    assert of_type(TransferEnded, direct.events[-1]).report.outcome.name == "COMPLETE"


@pytest.mark.usefixtures("proven_peers")
def test_case_12_loss_where_the_numbers_wrap() -> None:
    """Block 65536 (0 on the wire) is lost, and an ACK of 65534 comes late: no jump of 65536 blocks."""
    content = PeriodicContent(8 * 70_000)
    direct = Direct(Files({"file": content}))

    def data(*numbers: int) -> list[bytes]:
        return [tftp.data(number & 0xFFFF, content[(number - 1) * 8 : number * 8]) for number in numbers]

    direct.send(tftp.request(False, "file", "octet", [("blksize", "8"), ("windowsize", "2")]))
    for number in range(0, 65_534, 2):
        direct.send(tftp.ack(number))
    assert direct.send(tftp.ack(65_534)) == data(65_535, 65_536)
    direct.clock.advance(1)
    [new, marker] = direct.take()
    assert [new] == data(65_537)
    assert len(marker) == 4
    assert direct.send(tftp.ack(65_535)) == data(65_536, 65_537)
    assert direct.send(tftp.ack(65_534)) == []
    assert direct.send(tftp.ack(0)) == data(65_537, 65_538)
    assert direct.send(tftp.ack(65_535)) == []
    assert direct.send(tftp.ack(2)) == data(65_539, 65_540)
    direct.protocol.close()


@pytest.mark.every_port
@pytest.mark.parametrize(("size", "sizes"), [(0, [0]), (1024, [512, 512, 0]), (1, [1]), (512, [512, 0])])
def test_case_13_the_last_block_is_short(serve: Serve, size: int, sizes: list[int]) -> None:
    served = serve({"file": numbered(size)})
    peer = served.peer()
    received = peer.request("file")
    for number, expected in enumerate(sizes, 1):
        [packet] = received
        assert isinstance(packet, tftp.Data)
        assert (packet.block, len(packet.payload)) == (number, expected)
        received = peer.send(tftp.ack(number))
    assert received == []
    assert served.outcomes == ["COMPLETE"]


def test_case_14_pxelinux_takes_six_seconds_to_answer_the_oack(serve: Serve) -> None:
    served = serve({"file": FILE}, watchdog=Adaptive())
    peer = served.peer()
    oack = tftp.OptionAck((("tsize", "10240"), ("blksize", "1408")))
    assert peer.request("file", tsize=0, blksize=1408) == [oack]
    served.advance(6)
    assert peer.take() == [oack] * 2  # after 1 s and after 3 s
    assert peer.send(tftp.ack(0)) == [block(1, 1408)]


@pytest.mark.parametrize("window", [1, 4])
@pytest.mark.usefixtures("proven_peers")
def test_case_15_pause_of_forty_seconds(serve: Serve, window: int) -> None:
    """GRUB verifies, others write flash. What was sent before is known: the client goes on where it was."""
    served = serve({"file": FILE}, watchdog=Adaptive())
    peer = served.peer()
    peer.request("file", windowsize=window)
    assert peer.send(tftp.ack(0)) == block_range(1, window)
    served.advance(40)
    assert without_markers(peer.take()) == set(range(1, window + 1 + (4 if window > 1 else 0)))
    assert peer.send(tftp.ack(window)) == block_range(window + 1, 2 * window)


@pytest.mark.every_port
def test_case_16_a_thousand_size_probes(start: Serve) -> None:
    """No leak, and no failure that would be worth a warning."""
    served = start({"file": FILE})
    peer = served.peer()
    for _ in range(1000):
        assert peer.request("file", tsize=0) == [tftp.OptionAck((("tsize", "10240"),))]
        assert peer.send(tftp.error(8, "User aborted the transfer")) == []
    assert served.outcomes == ["SIZE_PROBE"] * 1000
    assert served.protocol.transfers == 0
    assert served.refused == []
    assert served.of(PluginFailed) == []
    assert served.wire.clock.getDelayedCalls() == []


def test_case_17_last_ack_is_lost_and_the_client_gone(serve: Serve) -> None:
    """A success: the port is closed after the waits."""
    served = serve({"file": FILE[:600]})
    peer = served.peer()
    peer.request("file")
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, FILE[512:600])]
    peer.close()
    served.advance(12)
    assert served.outcomes == ["UNCONFIRMED"]
    assert served.protocol.transfers == 0


OUT_OF_RANGE = [
    *[("timeout", value) for value in ("0", "256", "abc", "-1", "1.5", "")],
    *[("blksize", value) for value in ("7", "65465", "-1", "", "1e3", "0x200", " 512", "٥١٢")],
    *[("windowsize", value) for value in ("0", "65536", "-1", "")],
    *[("tsize", value) for value in ("-1", "", "9" * 21)],
]


@pytest.mark.parametrize(("name", "value"), OUT_OF_RANGE)
def test_case_18_option_out_of_range(serve: Serve, name: str, value: str) -> None:
    """It is left out of the OACK, which another option asks for; alone, there is no OACK."""
    invalid_option: dict[str, Any] = {name: value}
    served = serve({"file": FILE[:100]})
    if name == "timeout":
        assert served.peer().request("file", timeout=value, blksize=64) == [tftp.OptionAck((("blksize", "64"),))]
    else:
        assert served.peer().request("file", timeout=9, **invalid_option) == [tftp.OptionAck((("timeout", "9"),))]
    assert served.peer().request("file", **invalid_option) == [tftp.Data(1, FILE[:100])]


ODD_REQUESTS = {
    "unknown option": (b"\0\1file\0octet\0nonsense\x001\0blksize\x0064\0", "64"),
    "repeated option": (b"\0\1file\0octet\0blksize\x0064\0BlkSize\x00128\0", "64"),
    "option without value": (b"\0\1file\0octet\0blksize\x0064\0tsize\0", "64"),
    "no NUL at the end": (b"\0\1file\0octet\0blksize\x0064", "64"),
    "more than 512 bytes": (b"\0\1file\0octet\0x\0" + b"y" * 600 + b"\0blksize\x0064\0", "64"),
}


@pytest.mark.parametrize(("request_", "blksize"), ODD_REQUESTS.values(), ids=ODD_REQUESTS)
def test_case_19_odd_requests(serve: Serve, request_: bytes, blksize: str) -> None:
    served = serve({"file": FILE})
    assert served.peer().send(request_) == [tftp.OptionAck((("blksize", blksize),))]


def test_case_20_capitals(serve: Serve) -> None:
    served = serve({"file": FILE[:64]})
    peer = served.peer()
    assert peer.request("file", "OcTeT", BLKSIZE=64, TSize=0) == [tftp.OptionAck((("BLKSIZE", "64"), ("TSize", "64")))]
    assert peer.download("file", "NetASCII") == FILE[:64].replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


def test_case_21_the_oack_holds_the_requested_options(serve: Serve) -> None:
    served = serve({"file": FILE})
    assert served.peer().request("file", blksize=100) == [tftp.OptionAck((("blksize", "100"),))]
    assert served.peer().request("file", windowsize=2) == [tftp.OptionAck((("windowsize", "2"),))]


@pytest.mark.every_port
@pytest.mark.parametrize("options", [{}, {"tsize": 0, "blksize": 1468}])
def test_case_22_missing_file(serve: Serve, options: dict[str, Any]) -> None:
    served = serve()
    peer = served.peer()
    for _ in range(3):
        assert peer.request("pxelinux.cfg/default", **options) == [tftp.Error(1, "File not found")]
    assert served.refused == [(1, "File not found")] * 3
    served.advance(30)
    assert peer.take() == []
    assert served.protocol.transfers == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory with all that is no file in it, and a secret beside it."""
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "b" / "c").write_bytes(b"content")
    (root / "out").symlink_to("../secret")
    (root / "absolute").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    if os.geteuid() == 0:
        os.mknod(root / "device", 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero
    return root


FORBIDDEN = [
    "../../etc/passwd",
    "/etc/passwd",
    "..\\..\\secret",
    "../secret",
    "a/../../secret",
    "out",
    "absolute",
    "loop",
    "a",
    "",
    "/",
    "fifo",
    "device",
    "/proc/self/fd/3",
    "\udcff\udcfe",
    "a/b/c/d",
    "x" * 400,
]


@pytest.mark.parametrize("name", FORBIDDEN)
@pytest.mark.parametrize("write", [False, True])
def test_case_23_no_way_out(serve: Serve, root: Path, name: str, write: bool) -> None:
    """Never a byte, and nothing hangs."""
    served = serve(DirectoryBackend(root))
    [answer] = served.peer().request(name, write=write)
    assert isinstance(answer, tftp.Error | tftp.Ack)
    if isinstance(answer, tftp.Error):
        assert answer.code in ((1, 2, 4, 6, 0) if write else (1, 2))
    served.stop()
    assert (root.parent / "secret").read_bytes() == b"secret"
    assert sorted(path.name for path in root.parent.iterdir()) == ["root", "secret"]
    assert served.of(PluginFailed) == []


def test_case_23_nul_ends_the_name(serve: Serve, root: Path) -> None:
    served = serve(DirectoryBackend(root))
    assert served.peer().send(b"\0\1a/b/c\0../../secret\0octet\0") == [
        tftp.Error(4, "Mode '../../secret' is not served")
    ]


@pytest.mark.parametrize("name", ["a/b/c", "/a/b/c", "//a///b/c", "a\\b\\c", "a/./b/c", "a/b/../b/c", "../a/b/c"])
def test_case_23_ways_to_write_a_name(serve: Serve, root: Path, name: str) -> None:
    """``..`` stops at the root."""
    assert serve(DirectoryBackend(root)).peer().download(name) == b"content"


@pytest.mark.every_port
def test_case_24_file_is_truncated_meanwhile(serve: Serve, tmp_path: Path) -> None:
    """An ERROR, no silent end."""
    (tmp_path / "file").write_bytes(FILE)
    served = serve(DirectoryBackend(tmp_path))
    peer = served.peer()
    peer.request("file")
    os.truncate(tmp_path / "file", 700)
    [answer] = peer.send(tftp.ack(1))
    assert isinstance(answer, tftp.Error)
    assert answer.code == 0
    assert served.outcomes == ["FAILED"]
    assert served.of(PluginFailed) == []


def test_case_24_file_is_replaced_meanwhile(serve: Serve, tmp_path: Path) -> None:
    """The one that was opened is served to its end."""
    (tmp_path / "file").write_bytes(FILE[:1500])
    served = serve(DirectoryBackend(tmp_path))
    peer = served.peer()
    peer.request("file")
    (tmp_path / "new").write_bytes(b"other")
    os.replace(tmp_path / "new", tmp_path / "file")
    assert peer.send(tftp.ack(1)) == [block(2)]
    assert peer.send(tftp.ack(2)) == [tftp.Data(3, FILE[1024:1500])]
    peer.send(tftp.ack(3))
    assert served.peer().download("file") == b"other"


def test_case_25_netascii_with_cr_at_the_edge_of_a_block(serve: Serve) -> None:
    served = serve({"file": b"x" * 511 + b"\r" + b"y" * 510 + b"\nz"})
    peer = served.peer()
    assert peer.request("file", "netascii") == [tftp.Data(1, b"x" * 511 + b"\r")]
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, b"\0" + b"y" * 510 + b"\r")]
    served.advance(1.1)
    assert peer.take() == [tftp.Data(2, b"\0" + b"y" * 510 + b"\r")]
    assert peer.send(tftp.ack(2)) == [tftp.Data(3, b"\nz")]
    assert peer.send(tftp.ack(3)) == []


@pytest.mark.every_port
@with_packet_info
def test_case_26_request_to_a_secondary_address(serve: Serve, wire: Wire) -> None:
    served = serve({"file": FILE})
    served.address = (wire.address(2), served.address[1])
    peer = served.peer()
    assert peer.download("file", windowsize=4) == FILE
    assert {host for host, _ in peer.sources} == {wire.address(2)}


@pytest.mark.every_port
@with_packet_info
@pytest.mark.parametrize("write", [False, True])
def test_case_27_request_by_broadcast(serve: Serve, wire: Wire, write: bool) -> None:
    served = serve({"file": FILE})
    peer = served.peer(port=5000)
    for name in ("file", "missing"):
        request = tftp.request(write, name, "octet")
        assert peer.send(request, b"\0\1", to=(wire.broadcast, served.address[1])) == []
    assert served.events == []
    assert peer.request("file") == [block(1)]


def test_case_27_request_by_multicast() -> None:
    """For a group the kernel names no address of ours. Every host is in ff02::1."""
    direct = Direct(Files({"file": FILE}))
    request = tftp.request(False, "file", "octet")
    direct.protocol.datagrams_received([(request, ("fe80::9", 2000, 0, 2), Via("", 2, "ff02::1"))])
    assert direct.protocol.transfers == 0
    assert direct.events == []
    assert direct.take() == []


@pytest.mark.parametrize(
    "datagram", [b"", b"\0", b"\0\1", b"\0\3", b"\0\4\0", b"\0\5\0", b"\0\0", b"\0\7abc", b"\xff\xff" * 300]
)
def test_case_28_runts_and_unknown_opcodes(serve: Serve, datagram: bytes) -> None:
    """Dropped or ERROR 4, counted; also in the middle of a transfer, which goes on."""
    served = serve({"file": FILE})
    assert served.peer().send(datagram) in ([], [tftp.Error(4, "Malformed request")])
    assert [event.count for event in served.of(DatagramsMalformed)] == [1]
    peer = served.peer()
    peer.request("file")
    served.advance(2)
    peer.take()
    assert peer.send(datagram) == []
    if served.ports == "single" or not datagram.startswith(b"\0\1"):
        assert [event.count for event in served.of(DatagramsMalformed)] == [1, 1]
    assert peer.send(tftp.ack(1)) == [block(2)]


@pytest.mark.every_port
@pytest.mark.parametrize("datagram", [tftp.data(1, b"x"), tftp.ack(0), tftp.option_ack([("blksize", "8")])])
def test_case_28_part_of_no_transfer(serve: Serve, datagram: bytes) -> None:
    """Well-formed and late: no answer, and not malformed."""
    served = serve({"file": FILE})
    assert served.peer().send(datagram) == []
    assert served.events == []
    assert served.peer().request("file") == [block(1)]
