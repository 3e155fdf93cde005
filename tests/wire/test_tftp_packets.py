"""bootfw.wire.tftp: the exact bytes of packets, tolerated deviations, and WireError for all other bytes."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.tftp import TFTP, TFTP_ACK, TFTP_DATA, TFTP_ERROR, TFTP_OACK, TFTP_RRQ, TFTP_WRQ

from bootfw.errors import WireError
from bootfw.wire import tftp
from bootfw.wire.tftp import Ack, Data, Error, ErrorCode, Opcode, OptionAck, Request

# Captured from iPXE, OVMF (its size probe), U-Boot and tftp-hpa.
CAPTURED = {
    b"\0\1undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0": Request(
        False, "undionly.kpxe", "octet", (("blksize", "1432"), ("tsize", "0"))
    ),
    b"\0\1grubx64.efi\0octet\0tsize\x000\0blksize\x001468\0windowsize\x004\0": Request(
        False, "grubx64.efi", "octet", (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4"))
    ),
    b"\0\1Image\0octet\0timeout\x005\0blksize\x001468\0": Request(
        False, "Image", "octet", (("timeout", "5"), ("blksize", "1468"))
    ),
    b"\0\2upload\0netascii\0": Request(True, "upload", "netascii"),
}


@pytest.mark.parametrize("data", CAPTURED)
def test_requests_of_real_clients(data: bytes) -> None:
    packet = CAPTURED[data]
    assert tftp.parse(data) == packet
    assert tftp.request(packet.write, packet.filename, packet.mode, packet.options) == data


def test_exact_bytes() -> None:
    assert tftp.data(0xFFFE, b"abc") == b"\0\3\xff\xfeabc"
    assert tftp.ack(258) == b"\0\4\1\2"
    assert tftp.error(1, "File not found") == b"\0\5\0\1File not found\0"
    assert tftp.option_ack([("blksize", "1432"), ("tsize", "7")]) == b"\0\6blksize\x001432\0tsize\x007\0"
    assert tftp.parse(b"\0\3\xff\xfeabc") == Data(0xFFFE, b"abc")
    assert tftp.parse(b"\0\3\0\1") == Data(1, b"")
    assert tftp.parse(b"\0\4\1\2") == Ack(258)
    assert tftp.parse(b"\0\5\0\1File not found\0") == Error(1, "File not found")
    assert tftp.parse(b"\0\6blksize\x001432\0") == OptionAck((("blksize", "1432"),))


def test_numbers_are_those_of_the_rfc() -> None:
    assert [code.value for code in Opcode] == [1, 2, 3, 4, 5, 6]
    assert [(code.value, code.name) for code in ErrorCode] == [
        (0, "NOT_DEFINED"),
        (1, "FILE_NOT_FOUND"),
        (2, "ACCESS_VIOLATION"),
        (3, "DISK_FULL"),
        (4, "ILLEGAL_OPERATION"),
        (5, "UNKNOWN_TID"),
        (6, "FILE_EXISTS"),
        (7, "NO_SUCH_USER"),
        (8, "OPTION_NEGOTIATION"),
    ]


def test_only_the_mode_is_lower_cased() -> None:
    assert tftp.parse(b"\0\1Kernel\0OcTeT\0BLKSIZE\x00512\0") == Request(
        False, "Kernel", "octet", (("BLKSIZE", "512"),)
    )


def test_first_of_an_option_named_twice_wins() -> None:
    packet = tftp.parse(b"\0\1f\0octet\0blksize\x00600\0tsize\x000\0BlkSize\x00700\0blksize\x00800\0")
    assert packet == Request(False, "f", "octet", (("blksize", "600"), ("tsize", "0")))


def test_option_without_value_is_ignored() -> None:
    assert tftp.parse(b"\0\1f\0octet\0tsize\x000\0blksize\0") == Request(False, "f", "octet", (("tsize", "0"),))


@pytest.mark.parametrize(
    ("data", "options"),
    [
        (b"\0\1f\0octet", ()),
        (b"\0\1f\0octet\0tsize\x000", (("tsize", "0"),)),
        (b"\0\1f\0octet\0tsize\0", ()),
    ],
)
def test_missing_last_nul_is_tolerated(data: bytes, options: tftp.Options) -> None:
    assert tftp.parse(data) == Request(False, "f", "octet", options)


def test_empty_option_value_is_preserved() -> None:
    # By RFC 2090 the multicast option has an empty value in requests; atftp sends it so.
    packet = tftp.parse(b"\0\1f\0octet\0multicast\0\0tsize\x000\0")
    assert packet == Request(False, "f", "octet", (("multicast", ""), ("tsize", "0")))


def test_padding_after_a_request_is_ignored() -> None:
    assert tftp.parse(b"\0\1f\0octet\0" + bytes(20)) == Request(False, "f", "octet")


def test_request_beyond_512_bytes_is_parsed() -> None:
    name = "a" * 2000
    assert tftp.parse(tftp.request(False, name, "octet", [("x" * 300, "y" * 300), ("tsize", "0")])) == Request(
        False, name, "octet", (("x" * 300, "y" * 300), ("tsize", "0"))
    )


def test_empty_file_name_is_parsed() -> None:
    assert tftp.parse(b"\0\1\0octet\0") == Request(False, "", "octet")


def test_eight_bit_name_survives() -> None:
    data = b"\0\1gr\xfc\xdf.txt\0octet\0"
    packet = tftp.parse(data)
    assert isinstance(packet, Request)
    assert packet.filename == "gr\udcfc\udcdf.txt"
    assert tftp.request(False, packet.filename, "octet") == data


def test_ack_with_a_fifth_byte() -> None:
    assert tftp.parse(b"\0\4\0\7\x10") == Ack(7)


@pytest.mark.parametrize("data", [b"\0\5\0\0", b"\0\5\0\0\0", b"\0\5\0\0\0junk"])
def test_error_without_text_or_with_junk_behind_it(data: bytes) -> None:
    assert tftp.parse(data) == Error(0, "")


def test_error_of_unknown_code() -> None:
    assert tftp.parse(b"\0\5\x13\x88odd") == Error(5000, "odd")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\0",
        b"\0\7",
        b"\xff\xff\0\0",
        b"\1\1f\0octet\0",
        b"\0\3",
        b"\0\3\0",
        b"\0\4\0",
        b"\0\5",
        b"\0\5\0",
        b"\0\1",
        b"\0\1\0",
        b"\0\1file",
        b"\0\1file\0",
        b"\0\2file\0",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(WireError):
        tftp.parse(data)


def test_the_longest_request_is_parsed_and_a_longer_one_is_not() -> None:
    data = b"\0\1".ljust(tftp.MAX_REQUEST - 6, b"a") + b"\0octet\0"
    with pytest.raises(WireError, match="4097 bytes; it may have 4096"):
        tftp.parse(data)
    packet = tftp.parse(data[:2] + data[3:])
    assert isinstance(packet, Request)
    assert len(packet.filename) == tftp.MAX_REQUEST - 9


def test_each_truncation_of_a_request() -> None:
    data = b"\0\1undionly.kpxe\0octet\0blksize\x001432\0tsize\x000\0"
    for length in range(len(data)):
        try:
            packet = tftp.parse(data[:length])
        except WireError:
            assert length <= len(b"\0\1undionly.kpxe\0")
        else:
            assert isinstance(packet, Request)
            assert packet.filename == "undionly.kpxe"


def is_parsed_or_refused(data: bytes) -> bool:
    try:
        packet = tftp.parse(data)
    except WireError:
        return True
    return isinstance(packet, Request | Data | Ack | Error | OptionAck)


@given(st.binary(max_size=600))
@example(b"\0\1\xff\0\xff\0\xff\0\xff")
@example(b"\0\6" + b"\0" * 40)
def test_parser_raises_wire_error_only(data: bytes) -> None:
    assert is_parsed_or_refused(data)


@given(st.integers(0, 7), st.binary(max_size=100))
def test_parser_raises_wire_error_only_after_an_opcode(opcode: int, body: bytes) -> None:
    assert is_parsed_or_refused(bytes([0, opcode]) + body)


def field_texts(min_size: int = 0) -> st.SearchStrategy[str]:
    data = st.binary(min_size=min_size, max_size=20).filter(lambda text: b"\0" not in text)
    return data.map(lambda text: text.decode("utf-8", "surrogateescape"))


option_lists = st.lists(
    st.tuples(field_texts(1), field_texts()),
    max_size=5,
    unique_by=lambda option: option[0].encode("utf-8", "surrogateescape").lower(),
).map(tuple)


@given(st.booleans(), field_texts(), field_texts(1), option_lists)
def test_request_round_trip(write: bool, filename: str, mode: str, options: tftp.Options) -> None:
    packet = tftp.parse(tftp.request(write, filename, mode, options))
    assert isinstance(packet, Request)
    assert (packet.write, packet.filename, packet.options) == (write, filename, options)
    assert packet.mode == mode.lower()


@given(option_lists)
def test_option_ack_round_trip(options: tftp.Options) -> None:
    assert tftp.parse(tftp.option_ack(options)) == OptionAck(options)


@given(st.integers(0, 0xFFFF), st.binary(max_size=1500))
def test_data_and_ack_round_trip(block: int, payload: bytes) -> None:
    assert tftp.parse(tftp.data(block, payload)) == Data(block, payload)
    assert tftp.parse(tftp.ack(block)) == Ack(block)


@given(st.integers(0, 0xFFFF), st.text(max_size=100).filter(lambda text: "\0" not in text))
def test_error_round_trip(code: int, message: str) -> None:
    assert tftp.parse(tftp.error(code, message)) == Error(code, message.encode("utf-8", "replace").decode("utf-8"))


@given(st.text())
@example("x" * 5000)
@example("a\0b")
@example("\udcff\ud800")
def test_error_takes_any_message_and_fits_512_bytes(message: str) -> None:
    data = tftp.error(0, message)
    assert len(data) <= 512
    assert data.count(0, 4) == 1
    assert data.endswith(b"\0")


def test_a_field_with_nul_can_not_be_packed() -> None:
    with pytest.raises(ValueError, match="NUL"):
        tftp.request(False, "a\0b", "octet")


def test_a_block_number_beyond_16_bits_can_not_be_packed() -> None:
    with pytest.raises(Exception, match="format"):
        tftp.ack(65536)


@pytest.mark.parametrize(
    ("data", "belongs"),
    [
        (b"\0\3\0\1", True),
        (b"\0\4\0\1", True),
        (b"\0\5\0\1x\0", True),
        (b"\0\6a\0b\0", True),
        (b"\0\4\0", False),
        (b"\0\1f\0octet\0", False),
        (b"\0\7\0\1", False),
        (b"", False),
    ],
)
def test_is_datagram(data: bytes, belongs: bool) -> None:
    assert tftp.is_datagram(data) is belongs


def test_scapy_parses_our_packets() -> None:
    request = TFTP(tftp.request(False, "boot/x", "octet", [("blksize", "1432"), ("tsize", "0")]))
    assert request[TFTP_RRQ].filename == b"boot/x"
    assert request[TFTP_RRQ].mode == b"octet"
    options = request.lastlayer().options
    assert [(option.oname, option.value) for option in options] == [(b"blksize", b"1432"), (b"tsize", b"0")]
    assert TFTP(tftp.data(9, b"abc"))[TFTP_DATA].block == 9
    assert TFTP(tftp.ack(65535))[TFTP_ACK].block == 65535
    error = TFTP(tftp.error(8, "no"))[TFTP_ERROR]
    assert (error.errorcode, error.errormsg) == (8, b"no")
    assert TFTP(tftp.option_ack([("tsize", "3")])).haslayer(TFTP_OACK)


def test_packets_of_scapy_are_parsed() -> None:
    assert tftp.parse(bytes(TFTP() / TFTP_WRQ(filename="a/b", mode="netascii"))) == Request(True, "a/b", "netascii")
    assert tftp.parse(bytes(TFTP() / TFTP_ACK(block=17))) == Ack(17)
    assert tftp.parse(bytes(TFTP() / TFTP_DATA(block=3) / b"payload")) == Data(3, b"payload")
    assert tftp.parse(bytes(TFTP() / TFTP_ERROR(errorcode=2, errormsg="no"))) == Error(2, "no")
