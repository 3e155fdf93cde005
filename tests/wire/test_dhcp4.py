"""DHCPv4 messages: their exact bytes, every malformed case, the order and the size of sent options."""

import struct
from typing import Any

import pytest
from attrs import evolve

from bootfw.errors import WireError
from bootfw.wire.dhcp4 import (
    BOOTREPLY,
    BOOTREQUEST,
    BROADCAST_FLAG,
    DEFAULT_MAX_SIZE,
    FILE_MAX,
    LARGEST_MAX_SIZE,
    SNAME_MAX,
    Message,
    MessageType,
    option_size,
    pack,
    pack_options,
    parse,
    reply_size,
)

MAC = bytes.fromhex("525400123456")
COOKIE = bytes.fromhex("63825363")
DISCOVER = bytes((53, 1, 1))
END = b"\xff"


def frame(
    options: bytes = DISCOVER + END,
    *,
    op: int = 1,
    htype: int = 1,
    hlen: int = 6,
    chaddr: bytes = MAC,
    sname: bytes = b"",
    file: bytes = b"",
    cookie: bytes = COOKIE,
) -> bytes:
    """A message, built byte by byte without the code under test."""
    return b"".join(
        (
            bytes((op, htype, hlen, 3)),
            bytes.fromhex("deadbeef"),
            bytes.fromhex("0004"),
            bytes.fromhex("8000"),
            bytes((10, 77, 0, 5)),
            bytes((10, 77, 0, 6)),
            bytes((10, 77, 0, 7)),
            bytes((10, 77, 0, 8)),
            chaddr.ljust(16, b"\0"),
            sname.ljust(64, b"\0"),
            file.ljust(128, b"\0"),
            cookie,
            options,
        )
    )


def test_parse_reads_every_field() -> None:
    assert parse(frame(sname=b"boot.example", file=b"pxelinux.0")) == Message(
        op=BOOTREQUEST,
        htype=1,
        hlen=6,
        hops=3,
        xid=0xDEADBEEF,
        secs=4,
        flags=BROADCAST_FLAG,
        ciaddr="10.77.0.5",
        yiaddr="10.77.0.6",
        siaddr="10.77.0.7",
        giaddr="10.77.0.8",
        chaddr=MAC,
        sname=b"boot.example",
        file=b"pxelinux.0",
        options={53: b"\1"},
    )


def test_pack_writes_every_field() -> None:
    message = parse(frame(sname=b"boot.example", file=b"pxelinux.0"))

    assert pack(message) == frame(sname=b"boot.example", file=b"pxelinux.0").ljust(300, b"\0")


def test_reply_can_be_parsed() -> None:
    assert parse(frame(op=2)).op == BOOTREPLY


def test_the_mac_is_lower_case_with_colons() -> None:
    assert parse(frame(chaddr=bytes.fromhex("AABBCCDDEEFF"))).mac == "aa:bb:cc:dd:ee:ff"


@pytest.mark.parametrize("kind", list(MessageType))
def test_message_type(kind: MessageType) -> None:
    assert parse(frame(bytes((53, 1, kind, 255)))).message_type is kind


def test_strings_end_at_their_first_nul() -> None:
    message = parse(frame(sname=b"a\0rest", file=b"b\0rest"))

    assert (message.sname, message.file) == (b"a", b"b")


def test_strings_may_fill_their_field() -> None:
    message = parse(frame(sname=b"s" * 64, file=b"f" * 128))

    assert (message.sname, message.file) == (b"s" * 64, b"f" * 128)


def test_options_keep_their_order_in_the_message() -> None:
    assert list(parse(frame(bytes.fromhex("3d0100 350101 3c0141 ff"))).options) == [61, 53, 60]


def test_pads_between_options_are_skipped() -> None:
    assert parse(frame(bytes.fromhex("00 350101 0000 3c0141 00 ff"))).options == {53: b"\1", 60: b"A"}


def test_an_option_may_be_empty() -> None:
    assert parse(frame(DISCOVER + bytes((80, 0)) + END)).options == {53: b"\1", 80: b""}


def test_bytes_after_end_are_ignored() -> None:
    assert parse(frame(DISCOVER + END + bytes.fromhex("3c08414141"))).options == {53: b"\1"}


def test_the_end_option_may_be_missing_after_whole_options() -> None:
    assert parse(frame(DISCOVER)).options == {53: b"\1"}


def test_a_message_may_end_after_the_magic_cookie() -> None:
    assert parse(frame(b"")).options == {}


# RFC 3396


def test_an_option_that_comes_twice_is_joined_at_its_first_position() -> None:
    options = bytes((60, 2)) + b"AB" + DISCOVER + bytes((60, 0, 60, 1)) + b"C" + END

    assert list(parse(frame(options)).options.items()) == [(60, b"ABC"), (53, b"\1")]


@pytest.mark.parametrize(
    ("overload", "options", "sname", "file"),
    [
        (1, {60: b"V", 53: b"\1", 66: b"F", 67: b"F"}, b"B\1S\xff", b""),
        (2, {60: b"V", 53: b"\1", 66: b"S"}, b"", b"B\1FC\1F\xff"),
        (3, {60: b"V", 53: b"\1", 66: b"FS", 67: b"F"}, b"", b""),
    ],
)
def test_overload(overload: int, options: dict[int, bytes], sname: bytes, file: bytes) -> None:
    vend = b"\x3c\1V" + bytes((52, 1, overload)) + DISCOVER + END
    message = parse(frame(vend, file=b"B\1FC\1F\xff", sname=b"B\1S\xff"))

    assert list(message.options.items()) == list(options.items())
    assert (message.sname, message.file) == (sname, file)


def test_options_are_joined_across_fields_in_the_order_options_file_sname() -> None:
    vend = bytes((67, 2)) + b"op" + bytes((52, 1, 3)) + DISCOVER + END

    assert parse(frame(vend, file=b"\x43\2ti", sname=b"\x43\2on")).options == {67: b"option", 53: b"\1"}


def test_overload_inside_an_overloaded_field_means_nothing() -> None:
    message = parse(frame(bytes((52, 1, 1)) + DISCOVER, file=bytes((52, 1, 2, 52, 1, 2)), sname=b"name"))

    assert (message.options, message.sname) == ({53: b"\1"}, b"name")


@pytest.mark.parametrize("overload", ["340104", "340180", "3400", "34020001", "340100 340102"])
def test_overload_without_effect_leaves_sname_and_file(overload: str) -> None:
    message = parse(frame(DISCOVER + bytes.fromhex(overload) + END, sname=b"B\1S", file=b"B\1F"))

    assert (message.options, message.sname, message.file) == ({53: b"\1"}, b"B\1S", b"B\1F")


@pytest.mark.parametrize("overload", ["34020100", "340101 340102"])
def test_of_an_overload_of_two_bytes_the_first_counts(overload: str) -> None:
    message = parse(frame(DISCOVER + bytes.fromhex(overload) + END, sname=b"B\1S", file=b"C\1F"))

    assert (message.options, message.sname, message.file) == ({53: b"\1", 67: b"F"}, b"B\1S", b"")


@pytest.mark.parametrize("field", ["file", "sname"])
def test_an_option_past_the_end_of_an_overloaded_field_is_ignored(field: str) -> None:
    vend = DISCOVER + bytes((52, 1, 1 if field == "file" else 2)) + END
    content = {"file": bytes(122) + b"\x0c\1h\x43\2x", "sname": bytes(58) + b"\x0c\1h\x42\2x"}[field]
    data = frame(vend, file=content) if field == "file" else frame(vend, sname=content)

    assert parse(data).options == {53: b"\1", 12: b"h"}


def test_a_field_of_options_needs_no_end() -> None:
    message = parse(frame(DISCOVER + bytes((52, 1, 1)) + END, file=b"A" * 128))

    assert message.options == {53: b"\1", 65: b"A" * 65}


def test_an_overload_of_zero_leaves_sname_and_file() -> None:
    # RFC 2132 section 9.3 has the values 1 to 3 only; 0 can only mean no overload.
    message = parse(frame(DISCOVER + bytes((52, 1, 0)) + END, sname=b"s", file=b"f"))

    assert (message.options, message.sname, message.file) == ({53: b"\1"}, b"s", b"f")


# BOOTP, and hardware other than Ethernet


def test_bootp_without_a_cookie_has_no_options() -> None:
    message = parse(frame(bytes.fromhex("350101ff"), cookie=bytes(4)))

    assert (message.options, message.message_type) == ({}, None)


@pytest.mark.parametrize("cookie", ["63825364", "00000001", "434d5500"])
def test_options_after_another_magic_cookie_are_ignored(cookie: str) -> None:
    """RFC 951 leaves the field to vendors; CMU's cookie is one that was in use."""
    message = parse(frame(bytes.fromhex("350101ff"), cookie=bytes.fromhex(cookie)))

    assert (message.options, message.message_type, message.chaddr) == ({}, None, MAC)


def test_longest_message_is_parsed_and_a_longer_one_is_not() -> None:
    data = frame(bytes.fromhex("350101ff")).ljust(4096, b"\0")
    assert parse(data).options == {53: b"\1"}
    with pytest.raises(WireError, match="4097 bytes"):
        parse(data + b"\0")


@pytest.mark.parametrize("length", [236, 237, 239])
def test_bootp_may_end_before_the_cookie(length: int) -> None:
    assert parse(frame(file=b"f" * 128)[:length]) == parse(frame(file=b"f" * 128, cookie=bytes(4)))


def test_bootp_with_a_cookie_has_no_message_type() -> None:
    assert parse(frame(b"\x0c\1h\xff")).message_type is None


def test_infiniband_has_no_hardware_address() -> None:
    message = parse(frame(htype=32, hlen=0, chaddr=b""))

    assert (message.chaddr, message.mac) == (b"", "")


def test_a_client_may_have_no_hardware_address_on_ethernet() -> None:
    assert parse(frame(hlen=0)).chaddr == b""


def test_a_hardware_type_of_zero_is_accepted() -> None:
    message = parse(frame(htype=0))

    assert (message.htype, message.chaddr) == (0, MAC)


def test_the_hardware_address_may_have_16_bytes() -> None:
    assert parse(frame(hlen=16, chaddr=bytes(range(16)))).chaddr == bytes(range(16))


# Malformed options


@pytest.mark.parametrize(
    ("options", "read"),
    [
        (b"\x3c", {}),
        (b"\x3c\1", {}),
        (b"\x3c\4ABC", {}),
        (b"\x3c\xffABC\xff", {}),
        (b"\x3c\1A\x0c\4ABC", {60: b"A"}),
        (b"\x3d\2AB\x3d\2A", {61: b"AB"}),
        (b"\x34\1", {}),
    ],
)
def test_an_option_that_is_cut_off_is_ignored(options: bytes, read: dict[int, bytes]) -> None:
    assert parse(frame(DISCOVER + options)).options == {53: b"\1", **read}


def test_an_overload_that_is_cut_off_leaves_sname_and_file() -> None:
    message = parse(frame(DISCOVER + b"\x34\1", sname=b"s", file=b"f"))

    assert (message.sname, message.file) == (b"s", b"f")


@pytest.mark.parametrize("options", [b"\x35\2\1\0", b"\x35\2\1\1", b"\x35\1\1\x35\1\3", DISCOVER + b"\x35\0"])
def test_of_a_message_type_the_first_byte_counts(options: bytes) -> None:
    assert parse(frame(options + END)).options == {53: b"\1"}


# Refused messages


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (frame(b"")[:235], "235 bytes"),
        (frame(op=0), "op 0"),
        (frame(op=3), "op 3"),
        (frame(hlen=17), "hlen 17"),
        (frame(hlen=255), "hlen 255"),
        (frame(htype=32, hlen=20), "hlen 20"),
        (frame(b"\x35\0\xff"), "option 53 is empty"),
        (frame(b"\x35\1\0\xff"), "option 53 is 00"),
        (frame(b"\x35\1\x13\xff"), "option 53 is 13"),
        (frame(b"\x35\2\x13\1\xff"), "option 53 is 13"),
    ],
)
def test_message_without_type_or_sender_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse(data)


# Packed messages


def reply(**fields: Any) -> Message:
    return evolve(Message(op=BOOTREPLY, xid=1, chaddr=MAC), **{"options": {53: b"\2"}, **fields})


def sent_options(data: bytes) -> list[tuple[int, bytes]]:
    """The code and the bytes of each option on the wire; long options are not joined, and END is included."""
    found: list[tuple[int, bytes]] = []
    offset = 240
    while data[offset] != 255:
        if data[offset] == 0:
            found.append((0, b""))
            offset += 1
        else:
            length = data[offset + 1]
            found.append((data[offset], data[offset + 2 : offset + 2 + length]))
            offset += 2 + length
    return [*found, (255, data[offset + 1 :])]


def test_the_type_comes_first_then_the_server_and_the_relay_option_last() -> None:
    options = {82: b"r", 60: b"PXEClient", 54: b"abcd", 3: b"abcd", 53: b"\2", 97: b"u", 1: b"abcd"}
    data = pack(reply(options=options))

    assert [code for code, _ in sent_options(data)] == [53, 54, 60, 3, 97, 1, 82, 255]


def test_a_short_message_is_padded_to_the_bootp_size() -> None:
    data = pack(reply())

    assert len(data) == 300
    assert data[240:] == b"\x35\1\2\xff" + bytes(56)


def test_a_longer_message_is_not_padded() -> None:
    assert len(pack(reply(options={53: b"\2", 60: b"x" * 100}))) == 240 + 3 + 102 + 1


@pytest.mark.parametrize(
    ("length", "pieces"),
    [(0, [0]), (254, [254]), (255, [255]), (256, [255, 1]), (510, [255, 255]), (600, [255, 255, 90])],
)
def test_a_long_option_is_split(length: int, pieces: list[int]) -> None:
    value = bytes(number % 251 for number in range(length))
    sent = sent_options(pack(reply(options={43: value}), LARGEST_MAX_SIZE))

    assert [(code, len(part)) for code, part in sent[:-1]] == [(43, length) for length in pieces]
    assert b"".join(part for _, part in sent[:-1]) == value


def test_the_byte_after_the_boot_file_name_may_be_overwritten() -> None:
    # EDK2 writes a NUL there; the packet it keeps is read again by shim and GRUB.
    message = reply(options={53: b"\2", 67: b"snponly.efi", 60: b"PXEClient"})
    data = bytearray(pack(message))
    data[data.index(b"snponly.efi") + len(b"snponly.efi")] = 0

    assert parse(bytes(data)) == message


def test_names_never_share_their_fields_with_options() -> None:
    # iPXE doesn't know option 52 and would read the field as a name.
    data = pack(reply(options={53: b"\2", 43: b"x" * 255, 60: b"y" * 30}))

    assert data[44:236] == bytes(192)
    assert 52 not in dict(sent_options(data))


def test_a_message_that_fits_exactly_is_sent() -> None:
    options = {53: b"\2", 43: b"x" * 255, 60: b"y" * (DEFAULT_MAX_SIZE - 240 - 3 - 257 - 2 - 1)}

    assert len(pack(reply(options=options))) == DEFAULT_MAX_SIZE


def test_a_message_that_does_not_fit_raises() -> None:
    options = {53: b"\2", 43: b"x" * 255, 60: b"y" * (DEFAULT_MAX_SIZE - 240 - 3 - 257 - 2)}

    with pytest.raises(ValueError, match="has 549 bytes and may have 548"):
        pack(reply(options=options))
    assert len(pack(reply(options=options), LARGEST_MAX_SIZE)) == 549


def test_the_longest_names_are_sent_with_their_nul() -> None:
    data = pack(reply(sname=b"s" * SNAME_MAX, file=b"f" * FILE_MAX))

    assert data[44:236] == b"s" * 63 + b"\0" + b"f" * 127 + b"\0"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"op": 0}, "op must be 1 or 2"),
        ({"op": 3}, "op must be 1 or 2"),
        ({"hlen": 5}, "chaddr of hlen bytes"),
        ({"hlen": 17, "chaddr": bytes(17)}, "16 at most"),
        ({"htype": 256}, "out of range"),
        ({"hops": -1}, "out of range"),
        ({"xid": 2**32}, "out of range"),
        ({"secs": 2**16}, "out of range"),
        ({"flags": -1}, "out of range"),
        ({"ciaddr": ""}, "out of range"),
        ({"yiaddr": "10.77.0.256"}, "out of range"),
        ({"siaddr": "boot.example"}, "out of range"),
        ({"giaddr": "10.1"}, "out of range"),
        ({"sname": b"s" * 64}, "63 and 127 bytes"),
        ({"file": b"f" * 128}, "63 and 127 bytes"),
        ({"sname": b"a\0b"}, "without NUL"),
        ({"file": b"a\0"}, "without NUL"),
        ({"options": {0: b""}}, r"options \[0\]"),
        ({"options": {255: b""}}, r"options \[255\]"),
        ({"options": {256: b"", -1: b""}}, r"options \[-1, 256\]"),
        ({"options": {52: b"\1"}}, r"options \[52\]"),
        ({"options": {53: b""}}, "option 53"),
        ({"options": {53: b"\x13"}}, "option 53"),
        ({"options": {53: b"\1\1"}}, "option 53"),
    ],
)
def test_invalid_arguments_raise(fields: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pack(reply(**fields))


@pytest.mark.parametrize(
    ("option", "length"),
    [
        (None, 548),
        (b"", 548),
        (b"\5", 548),
        (b"\0\5\xdc", 548),
        (struct.pack("!H", 0), 548),
        (struct.pack("!H", 100), 548),
        (struct.pack("!H", 576), 548),
        (struct.pack("!H", 577), 549),
        (struct.pack("!H", 1472), 1444),
        (struct.pack("!H", 1500), 1472),
        (struct.pack("!H", 1501), 1472),
        (struct.pack("!H", 0xFF00), 1472),  # EDK2's REQUEST
    ],
)
def test_reply_size(option: bytes | None, length: int) -> None:
    request = Message(op=BOOTREQUEST, xid=1, chaddr=MAC, options={} if option is None else {57: option})

    assert reply_size(request) == length


@pytest.mark.parametrize(
    ("maximum", "agent", "size"),
    [
        (None, 40, 548 + 42),
        (None, 300, 548 + 304),
        (b"\4\0", 40, 996 + 42),
        (b"\5\xdc", 40, 1472),
        (None, 1000, 548 + 1008),
    ],
)
def test_relay_option_does_not_count_for_the_client_size(maximum: bytes | None, agent: int, size: int) -> None:
    options = {82: b"x" * agent} if maximum is None else {82: b"x" * agent, 57: maximum}
    request = Message(op=BOOTREQUEST, xid=1, chaddr=MAC, giaddr="10.77.0.2", options=options)

    assert reply_size(request) == size
    assert reply_size(evolve(request, giaddr="0.0.0.0")) == min(size, {None: 548, b"\4\0": 996}.get(maximum, 1472))


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 510, 511])
@pytest.mark.parametrize("code", [61, 67])
def test_the_size_of_an_option_is_that_of_its_packed_bytes(code: int, length: int) -> None:
    assert option_size(code, bytes(length)) == len(pack_options({code: bytes(length)}))


def test_a_message_is_a_value() -> None:
    assert hash(reply()) == hash(reply())
    assert reply() != reply(xid=2)
