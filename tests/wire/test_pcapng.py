"""Recorded datagrams: a written file is read again, also by tshark of Wireshark."""

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire.pcapng import Datagram, Segment, read_pcapng, write_pcapng

PORTS = st.integers(0, 65535)
TIMES = st.integers(0, 2**51).map(lambda microseconds: microseconds / 1e6)


def datagrams(version: int) -> st.SearchStrategy[Datagram]:
    addresses = st.tuples(st.ip_addresses(v=4 if version == 4 else 6).map(str), PORTS)
    common = TIMES, addresses, addresses, st.binary(max_size=1500), st.booleans(), st.text(max_size=40)
    numbers = st.integers(0, 2**32 - 1)
    return st.builds(Datagram, *common) | st.builds(Segment, *common, sequence=numbers, acknowledged=numbers)


@given(st.lists(datagrams(4) | datagrams(6), max_size=4), st.text(max_size=40))
def test_file_round_trips(written: list[Datagram], comment: str) -> None:
    read = read_pcapng(write_pcapng(written, comment))
    assert [evolve(each, at=0) for each in read] == [evolve(each, at=0) for each in written]
    assert all(abs(first.at - second.at) < 2e-6 for first, second in zip(read, written, strict=True))


SAMPLE = write_pcapng(
    [
        Datagram(1.5, ("10.0.0.9", 68), ("10.0.0.1", 67), b"request", comment="discover"),
        Datagram(2.25, ("fe80::1", 547), ("fe80::9", 546), b"reply", True),
    ],
    "a boot",
)


def test_every_truncation_is_refused_or_has_fewer_datagrams() -> None:
    for length in range(len(SAMPLE)):
        with contextlib.suppress(WireError):
            assert len(read_pcapng(SAMPLE[:length])) < 2


@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 255))
def test_a_changed_byte_raises_nothing_but_wire_errors(offset: int, value: int) -> None:
    with contextlib.suppress(WireError):
        read_pcapng(SAMPLE[:offset] + bytes((value,)) + SAMPLE[offset + 1 :])


@given(st.binary(max_size=200))
def test_other_files_are_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        read_pcapng(data)


def test_a_capture_of_another_program_is_refused() -> None:
    ethernet = SAMPLE.replace(struct.pack("<HHI", 101, 0, 0), struct.pack("<HHI", 1, 0, 0))
    with pytest.raises(WireError, match="not written by bootfw"):
        read_pcapng(ethernet)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_reads_a_written_file(tmp_path: Path) -> None:
    (tmp_path / "file.pcapng").write_bytes(SAMPLE)
    fields = ("frame.time_epoch", "ip.src", "ipv6.src", "udp.dstport", "udp.checksum.status", "frame.comment")
    command = ["tshark", "-r", str(tmp_path / "file.pcapng"), "-o", "udp.check_checksum:TRUE", "-T", "fields"]
    command += [part for field in fields for part in ("-e", field)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [(float(row[0]), *row[1:4]) for row in rows] == [(1.5, "10.0.0.9", "", "67"), (2.25, "", "fe80::1", "546")]
    assert rows[0][5] == "discover"
    assert rows[1][4] == "1", "the checksum is right"


@pytest.mark.parametrize("host", ["10.0.0.9", "fe80::9"])
def test_a_truncated_datagram_keeps_its_original_length(host: str) -> None:
    addresses = (host, 2000), (host, 69)
    (read,) = read_pcapng(write_pcapng([Datagram(1.0, *addresses, b"\0\3\0\1", length=1432)]))
    assert (read.data, read.length) == (b"\0\3\0\1", 1432)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="needs tshark")
def test_tshark_shows_tftp_and_http(tmp_path: Path) -> None:
    client, server = ("10.0.0.9", 2000), ("10.0.0.1", 69)
    request = b"GET /vmlinuz HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n"
    browser, web = ("10.0.0.9", 49152), ("10.0.0.1", 80)
    response = b"HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n"
    packets = [
        Datagram(1.0, client, server, b"\0\1grub.cfg\0octet\0"),
        Datagram(1.1, server, client, b"\0\3\0\1", True, length=516),
        Segment(2.0, browser, web, request, sequence=1, acknowledged=1),
        Segment(2.1, web, browser, response, True, sequence=1, acknowledged=1 + len(request)),
    ]
    (tmp_path / "file.pcapng").write_bytes(write_pcapng(packets))
    command = ["tshark", "-r", str(tmp_path / "file.pcapng"), "-o", "tcp.check_checksum:TRUE"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert "TFTP" in lines[0]
    assert "Read Request, File: grub.cfg" in lines[0]
    assert "Data Packet, Block: 1" in lines[1]
    assert "HTTP" in lines[2]
    assert "GET /vmlinuz HTTP/1.1" in lines[2]
    assert "HTTP" in lines[3]
    assert "404 Not Found" in lines[3]
    assert not any("incorrect" in line or "Malformed" in line for line in lines)
