"""What an operator writes for a node to boot, and the packets of bootinfo that say so."""

import pytest
from bootfw_emulab.bootinfopacket import SIZE, BootinfoRequest, order, parse, reply
from bootfw_emulab.bootwhat import LONGEST_COMMAND_LINE, LONGEST_PATH, BootWhat, Kind, boot_what
from emulabcaptures import (
    BOOTINFO_KEYED,
    BOOTINFO_NOTHING,
    BOOTINFO_ORDERS,
    BOOTINFO_REPLIES,
    BOOTINFO_REQUEST,
    KEY,
)
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(("text", "packet"), BOOTINFO_REPLIES.items())
def test_a_reply_is_that_of_the_real_server(text: str, packet: bytes) -> None:
    assert reply(1, boot_what(text), "10.9.0.1") == packet.ljust(SIZE, b"\0")


@pytest.mark.parametrize(("text", "packet"), BOOTINFO_ORDERS.items())
def test_an_order_is_that_of_the_real_server(text: str, packet: bytes) -> None:
    assert order(boot_what(text), "10.9.0.1") == packet.ljust(SIZE, b"\0")


def test_nothing_to_boot_is_a_failure() -> None:
    assert reply(1, None, "10.9.0.1") == BOOTINFO_NOTHING.ljust(SIZE, b"\0")


def test_a_reply_has_the_version_of_its_request() -> None:
    assert reply(0, None, "")[:2] == b"\0\0"


def test_requests_of_the_real_client() -> None:
    assert parse(BOOTINFO_REQUEST) == BootinfoRequest(1)
    assert parse(BOOTINFO_KEYED) == BootinfoRequest(1, KEY)


@pytest.mark.parametrize("opcode", [0, 2, 3, 4, 7, 0xFFFF])
def test_other_packets_are_no_requests(opcode: int) -> None:
    assert parse(b"\1\0" + opcode.to_bytes(2, "little") + BOOTINFO_REQUEST[4:]) is None


def test_an_information_request_is_a_request() -> None:
    assert parse(b"\1\0\5\0" + BOOTINFO_REQUEST[4:]) == BootinfoRequest(1)


def test_a_short_datagram_gets_no_longer_reply() -> None:
    assert parse(BOOTINFO_REQUEST[:-1]) is None


def test_a_key_ends_where_the_field_ends() -> None:
    packet = BOOTINFO_KEYED[:8] + b"k" * (SIZE - 8)
    assert parse(packet) == BootinfoRequest(1, "k" * 129)


@given(st.binary(max_size=600))
def test_no_datagram_raises(data: bytes) -> None:
    assert parse(data) is None or len(data) >= SIZE


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("partition:2", BootWhat(Kind.PARTITION, 2)),
        ("sysid:0xa5", BootWhat(Kind.SYSID, 165)),
        ("disk:0x80:1", BootWhat(Kind.DISK, 1, 128)),
        ("multiboot:/kernel", BootWhat(Kind.MULTIBOOT, path="/kernel")),
        ("mfs:boss.example.net:/mfs", BootWhat(Kind.MFS, host="boss.example.net", path="/mfs")),
        ("wait", BootWhat(Kind.WAIT)),
        ("restart", BootWhat(Kind.RESTART)),
        ("mfs:/mfs  -s  -v ", BootWhat(Kind.MFS, path="/mfs", command_line="-s  -v")),
    ],
)
def test_order_is_parsed_and_formatted(text: str, what: BootWhat) -> None:
    assert boot_what(text) == what
    assert boot_what(text).text == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must be one of"),
        ("partitions:2", 'must be one of .*, not "partitions:2"'),
        ("partition:2\n", "must be one of"),
        ("partition:", 'needs a number, not ""'),
        ("partition:-1", "needs a number"),
        ("disk:128", "needs a number"),
        ("wait:1", "nothing after the colon"),
        ("mfs:frisbee", "absolute path"),
        ("mfs::/frisbee", "absolute path"),
        ("multiboot:boss:/kernel", "boss"),
        ("mfs:/" + "a" * LONGEST_PATH, "256 bytes, and 255 at most"),
        ("wait " + "a" * (LONGEST_COMMAND_LINE + 1), "224 bytes, and 223 at most"),
    ],
)
def test_invalid_order_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        boot_what(text)


def test_the_longest_path_and_command_line_leave_room_for_their_ends() -> None:
    text = "multiboot:/" + "p" * (LONGEST_PATH - 1) + " " + "c" * LONGEST_COMMAND_LINE
    packet = reply(1, boot_what(text), "10.9.0.1")
    assert len(packet) == SIZE
    assert packet[12 + 4 + LONGEST_PATH] == 0
    assert packet[272:].rstrip(b"\0") == b"c" * LONGEST_COMMAND_LINE


def test_a_multiboot_kernel_without_a_host_is_on_this_server() -> None:
    assert reply(1, boot_what("multiboot:/k"), "10.9.0.1")[12:18] == bytes([10, 9, 0, 1]) + b"/k"


@pytest.mark.parametrize(
    ("text", "what"),
    [("partition:2", "2"), ("sysid:165", "165"), ("mfs:h:/m", "h:/m"), ("wait", ""), ("multiboot:/k", "")],
)
def test_what_of_an_order(text: str, what: str) -> None:
    assert boot_what(text).what == what
