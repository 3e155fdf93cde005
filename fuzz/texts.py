"""Targets: what operators and other programs write: the configuration, state, recordings, lease files, boot APIs."""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import firmware
import firmware6
from attrs import evolve
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from bootfw.attempts.attempt import BootAttempt
from bootfw.attempts.record import attempt_record
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.paths import lexical
from bootfw.cli import dnsmasq, isc, replay
from bootfw.cli.dryrun import Exchange
from bootfw.cli.failure import CommandError
from bootfw.cli.leaseimport import exported, identity
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.settings import listen_address, transfer_ports
from bootfw.config.units import Seconds, Size, seconds_text, size_text
from bootfw.dhcp.ranges import ranges4, ranges6
from bootfw.dhcp.subnet import network
from bootfw.errors import ConfigError, StateError, TransferError, WireError
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.records import lease_record, reservation_record
from bootfw.resolvers.bootapi import boot_answer
from bootfw.stores import statefile
from bootfw.stores.statefile import StateFile, row_of
from bootfw.tftp.netascii import NetasciiReading, NetasciiWriting, encode
from bootfw.tftp.path import relative
from bootfw.values import TransferRequest
from bootfw.wire import dhcp6, tftp
from bootfw.wire.pcapng import Datagram, Segment, read_pcapng, write_pcapng
from fuzz.target import Target, scratch

_EXAMPLES = Path(__file__).parent.parent / "examples"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


# The configuration


def configuration(data: bytes) -> None:
    """load_config() raises ConfigErrors only, whatever the file and a variable of the environment hold."""
    file, _, variables = data.partition(b"\n\0")
    environ = dict(each.partition("=")[::2] for each in _text(variables).split("\0"))
    path = scratch() / "bootfw.toml"
    path.write_bytes(file)
    with suppress(ConfigErrors):
        load_config(path, environ)


def _configurations() -> Iterator[bytes]:
    for path in sorted(_EXAMPLES.glob("**/*.toml")):
        yield path.read_bytes()
    yield b'[tftp]\nlisten = ["0.0.0.0:69"]\nports = "30000-30999"\ncache-size = "64 MiB"\n[dhcp]\nmode = "server"\n'
    yield (
        b'[dhcp]\nmode = "server"\nsubnet = [{network = "10.77.0.0/24", pool = ["10.77.0.10-10.77.0.99"], '
        b'router = "10.77.0.1", options = {"ntp-servers" = ["10.77.0.2"], 224 = {uint16 = 7}, 225 = {bytes = "0x01"}}, '
        b'host = [{mac = "52:54:00:12:34:56", address = "10.77.0.9"}]}]\n'
    )
    yield (
        b'[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\npool = ["fd77::1000-fd77::1fff"]\n'
        b'options = {"dns-servers" = ["fd77::2"], domain-list = ["lab.example"]}\n'
    )
    yield b'[[persona]]\nname = "x"\nlike = "uefi"\nvendor-class = "PXEClient"\noui = ["b8:27:eb"]\noffer = "file"\n'
    yield b'[http]\nlisten = ["[::]:80"]\n\n\0BOOTFW_TFTP_MAX_BLKSIZE=1400\0BOOTFW_HTTP_LISTEN=0.0.0.0:80,[::]:80'
    yield b"\n\0BOOTFW_RESOLVER_0_USE=static\0BOOTFW_PORT=tcp://10.0.0.1:80\0BOOTFW_WATCHDOG_RETRIES=5"


_VALUES: tuple[Callable[[Any], Any], ...] = (
    *(Size.read, Seconds.read, listen_address, transfer_ports, network),
    lambda value: ranges4([value]),
    lambda value: ranges6([value]),
)


def values(data: bytes) -> None:
    """Sizes, times, addresses and ranges are read, or refused with ValueError or ConfigError."""
    text = _text(data)
    inputs: list[Any] = [text]
    with suppress(ValueError, RecursionError):
        number = json.loads(text)
        if isinstance(number, int | float):
            inputs.append(number)
    for read in _VALUES:
        for value in inputs if read in (Size.read, Seconds.read) else inputs[:1]:
            with suppress(ValueError, ConfigError):
                found = read(value)
                if read == Size.read:
                    assert Size.read(size_text(found)) == found or found > 1 << 53
                if read == Seconds.read:
                    seconds_text(found)


def _values() -> Iterator[bytes]:
    yield from (b"256 MiB", b"90 s", b"0.5ms", b"268435456", b"1e300", b"[::]:69", b"0.0.0.0:69", b"30000-30999")
    yield from (b"10.77.0.100-10.77.0.200", b"10.77.0.128/25", b"fd77::1000-fd77::1fff", b"fd77::1:0/112", b"single")


# State


def state(data: bytes) -> None:
    """A state file with any values in its rows raises StateError only."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(document, dict):
        return
    with closing(_state_file()) as file:
        for table, columns in _COLUMNS.items():
            for row in _rows(document.get(table), columns):
                with suppress(sqlite3.Error, OverflowError, UnicodeEncodeError):
                    placeholders = ",".join("?" * columns)
                    file.connection.execute(f"INSERT INTO {table} VALUES ({placeholders})", row)
        reads: tuple[Callable[[], Any], ...] = (
            *(file.leases, file.reservations, lambda: file.orders("next-boot")),
            lambda: file.attempts("", "", 0.0, 0.0, 100),
        )
        for read in reads:
            with suppress(StateError):
                list(read())


_COLUMNS = {"lease": 10, "lease6": 10, "reservation": 8, "machine_order": 3, "attempt": 5}


def _rows(value: Any, columns: int) -> Iterator[list[Any]]:
    """Rows of as many values as SQLite takes; {"hex": ...} stands for bytes, and {"zip": ...} for compressed JSON."""
    for row in value if isinstance(value, list) else ():
        if isinstance(row, list) and len(row) == columns:
            yield [_value(each) for each in row]


def _value(value: Any) -> Any:
    if isinstance(value, dict):
        if isinstance(value.get("hex"), str):
            with suppress(ValueError):
                return bytes.fromhex(value["hex"])
        return zlib.compress(json.dumps(value.get("zip")).encode())
    return json.dumps(value) if isinstance(value, list) else value


def _state_file() -> StateFile:
    """An empty one in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript("".join(statefile._MIGRATIONS))
    db.text_factory = statefile._text
    return StateFile(scratch() / "state.db", db)


_LEASE = Lease(
    "10.77.0.10", b"\1\1RT\0\x124V", firmware.MAC_TEXT, LeaseState.ACTIVE, 1.0, 2.0, b"\1", firmware.UUID, "n"
)


def _states() -> Iterator[bytes]:
    leases = [_LEASE, evolve(_LEASE, address="fd77::1000", state=LeaseState.DECLINED)]
    rows = [[{"hex": each.hex()} if isinstance(each, bytes) else each for each in row_of(lease)] for lease in leases]
    for row in rows:
        row[5] = "n"  # the statement of write_leases() makes a text of it
    order = '{"file": "x", "mac": "52:54:00:12:34:56", "ordered": 1.0}'
    yield json.dumps({"lease": rows[:1], "lease6": rows[1:]}).encode()
    yield json.dumps(
        {
            "reservation": [[0, "10.77.0.9", "52:54:00:12:34:56", {"hex": ""}, "", {"hex": ""}, "n", '{"67": "00"}']],
            "machine_order": [["next-boot", "52:54:00:12:34:56", order]],
        }
    ).encode()
    record = attempt_record(BootAttempt("1", 1.0, 2.0, mac="52:54:00:12:34:56"))
    yield json.dumps({"attempt": [["1", "52:54:00:12:34:56", "booted", 1.0, {"zip": record}]]}).encode()


def lease_files(data: bytes) -> None:
    """The lease files of ISC dhcpd and dnsmasq and our own export are read; only CommandError comes out."""
    text = _text(data)
    for by_client_id in (False, True):
        isc.is_isc(text)
        isc.read_isc(text, 1e9, identity(by_client_id))
        dnsmasq.is_dnsmasq(text)
        dnsmasq.read_dnsmasq(text, 1e9, identity(by_client_id))
    with suppress(CommandError):
        exported(text)


def _lease_files() -> Iterator[bytes]:
    yield (
        b"lease 10.0.0.9 {\n  starts 3 2026/07/01 10:00:00;\n  ends never;\n  binding state active;\n"
        b'  hardware ethernet 52:54:00:12:34:56;\n  uid "\\001RT\\000\\0224V";\n  client-hostname "n";\n}\n'
        b"host n1 {\n  dynamic;\n  hardware ethernet 52:54:00:12:34:57;\n  fixed-address 10.0.0.10;\n}\n"
        b'server-duid "\\000\\001";\nia-na "\\007\\000\\000\\000\\000\\003\\000\\001RT\\000\\0224V" {\n'
        b"  cltt 3 2026/07/01 10:00:00;\n  iaaddr fd77::1000 {\n    binding state active;\n    max-life 120;\n"
        b"    ends epoch 1800000000;\n  }\n}\n"
    )
    yield (
        b"1800000000 52:54:00:12:34:56 10.0.0.9 n 01:52:54:00:12:34:56\nduid 00:01:00:01\n"
        b"1800000000 7 fd77::1000 n 00:03:00:01:52:54:00:12:34:56\n"
    )
    reservation = reservation_record(Reservation("10.77.0.9", firmware.MAC_TEXT, hostname="n", options={67: b"x"}))
    document = {"leases": [lease_record(_LEASE, 1.5)], "reservations": [{**reservation, "origin": "command"}]}
    yield json.dumps(document).encode()


# Recordings


def recording(data: bytes) -> None:
    """read_pcapng() raises WireError only, what it reads survives writing, and `bootfw replay` compares it."""
    try:
        packets = read_pcapng(data)
    except WireError:
        return
    rewritten = read_pcapng(write_pcapng(packets))
    assert [each.data for each in rewritten] == [each.data for each in packets]
    failures: list[Failure] = []
    comparison: Deferred[Any] = ensureDeferred(replay._replay_packets(_Replies(), packets))  # type: ignore[arg-type]
    comparison.addErrback(failures.append)
    if failures and not failures[0].check(CommandError):
        failures[0].raiseException()


class _Replies:
    """The part of DryRun that a replay uses, with the same replies for all."""

    def listens(self, port: int) -> bool:
        return port in (67, 547, 4011)

    async def replay(self, data: bytes, port: int, peer: tuple[str, int]) -> Exchange:
        return Exchange("DISCOVER", port, reply=firmware.OVMF.datagram(op=2))

    async def replay_tftp(self, data: bytes, peer: tuple[str, int]) -> bytes:
        return tftp.option_ack([("blksize", "1408")])

    async def replay_http(self, target: str, peer: tuple[str, int]) -> int:
        return 200

    async def close(self) -> None:
        pass


def _recordings() -> Iterator[bytes]:
    client, server = ("10.77.0.10", 2070), ("10.77.0.1", 69)
    request = tftp.request(False, "boot/loader", "octet", [("blksize", "1468")])
    reply = tftp.option_ack([("blksize", "1468")])
    yield write_pcapng([Datagram(1.0, client, server, request), Datagram(1.1, server, client, reply, True, "an OACK")])
    broadcast = ("0.0.0.0", 68), ("255.255.255.255", 67)
    offer = Datagram(1.1, ("10.77.0.1", 67), ("255.255.255.255", 68), firmware.OVMF.datagram(op=2), True)
    yield write_pcapng([Datagram(1.0, *broadcast, firmware.OVMF.datagram(), comment="DISCOVER"), offer])
    solicit = dhcp6.pack(firmware6.OVMF.message())
    yield write_pcapng([Datagram(1.0, (firmware6.LINK_LOCAL, 546), ("ff02::1:2", 547), solicit)])
    get = Segment(1.0, client, ("10.77.0.1", 80), b"GET /a%20b HTTP/1.1\r\n\r\n")
    response = Segment(1.1, ("10.77.0.1", 80), client, b"HTTP/1.1 200 OK\r\n\r\n", True, "", 1000)
    yield write_pcapng([get, response], "a boot")


# Files and their names


def names(data: bytes) -> None:
    """No name of a client leads out of the directory that is served."""
    name = _text(data)
    path = relative(name)
    assert relative(path) == path
    assert ".." not in lexical(path).split("/")
    request = TransferRequest(name, path, ("10.0.0.9", 2070), ignore_case=len(data) % 2 == 1)
    try:
        reader: Any = _root().open(path, request)
    except TransferError:
        return
    with closing(reader):
        assert reader.read(0, 100) == b"inside", name


def _root() -> DirectoryBackend:
    """A directory with files, links that lead out of it, and something secret beside it."""
    root = scratch() / "root"
    if not root.exists():
        (root / "boot" / "Dir").mkdir(parents=True)
        (scratch() / "secret").write_bytes(b"secret")
        for name in ("a", "boot/loader", "boot/Dir/B.efi"):
            (root / name).write_bytes(b"inside")
        (root / "out").symlink_to(scratch())
        (root / "boot" / "link").symlink_to("../../secret")
    return DirectoryBackend(root)


def _names() -> Iterator[bytes]:
    yield from (b"boot/loader", b"\\boot\\Dir\\b.EFI", b"../secret", b"boot/../../secret", b"out/secret", b"boot/link")
    yield from (b"/a", b"a/", b"boot//./loader", b"boot/../a", b"", b"/", b"a\0b", b"\xff\xfe", b"x" * 300)


def netascii(data: bytes) -> None:
    """A file survives netascii in blocks of any size, and blocks that are no netascii are written as they are."""
    size, file = (data[0] % 32 + 1 if data else 1), data[1:]
    reading, blocks, offset = NetasciiReading(), list[bytes](), 0
    while not blocks or len(blocks[-1]) == size:
        start, length = reading.need(offset, size)
        blocks.append(reading.feed(file[start : start + length]))
        offset += len(blocks[-1])
        assert offset <= 2 * len(file)
    assert b"".join(blocks) == encode(file)
    assert _written(blocks) == file
    _written([file[at : at + size] for at in range(0, len(file), size)])


def _written(blocks: list[bytes]) -> bytes:
    writing, written = NetasciiWriting(), b""
    for number, block in enumerate(blocks, 1):
        offset, data = writing.feed(block, number == len(blocks))
        assert offset == len(written)
        written += data
    return written


def _netascii() -> Iterator[bytes]:
    yield from (b"\3line\nline\r\nend", b"\1\r\r\n\n\r\0", b"\x08" + b"a\rb\n" * 20, b"")


# A boot API


def boot_api(data: bytes) -> None:
    """An answer of a boot API makes a script of iPXE without lines that the answer has put in, or a ValueError."""
    with suppress(ValueError):
        script = boot_answer(data, "http://10.77.0.1").script
        assert script.startswith("#!ipxe")


def _boot_apis() -> Iterator[bytes]:
    yield b'{"kernel": "/vmlinuz", "initrd": ["a.img", "http://h/b"], "cmdline": "quiet {{ URL \\"x\\" }}"}'
    yield b'{"kernel": "https://h/k", "message": "m", "cmdline": {"a": true, "b": "c d", "e": {"url": "f"}}}'
    yield b'{"ipxe-script": "#!ipxe\\nshell"}'


TARGETS = (
    Target("configuration", configuration, _configurations, 4096),
    Target("values", values, _values, 500),
    Target("state", state, _states, 4096),
    Target("lease-files", lease_files, _lease_files, 4096),
    Target("recording", recording, _recordings, 2048),
    Target("names", names, _names, 600),
    Target("netascii", netascii, _netascii, 300),
    Target("boot-api", boot_api, _boot_apis, 1000),
)
