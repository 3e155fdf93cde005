"""Properties of all DHCPv4 messages."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire.dhcp4 import FILE_MAX, SNAME_MAX, Message, MessageType, pack, parse

MAX_SIZE = 1 << 16
COOKIE = bytes.fromhex("63825363")

addresses = st.ip_addresses(v=4).map(str)
uint8 = st.integers(0, 0xFF)
uint16 = st.integers(0, 0xFFFF)
codes = st.integers(1, 254).filter(lambda code: code not in (52, 53))


def names(longest: int) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=longest).map(lambda raw: raw.replace(b"\0", b""))


@st.composite
def messages(draw: st.DrawFn) -> Message:
    htype = draw(st.sampled_from([1, 6, 32]))
    chaddr = draw(st.binary(min_size=1 if htype == 1 else 0, max_size=16))
    options = draw(st.dictionaries(codes, st.binary(max_size=600), max_size=12))
    kind = draw(st.none() | st.sampled_from(MessageType))
    if kind is not None:
        options[53] = bytes((kind,))
    return Message(
        op=draw(st.sampled_from([1, 2])),
        htype=htype,
        hlen=len(chaddr),
        hops=draw(uint8),
        xid=draw(st.integers(0, 0xFFFFFFFF)),
        secs=draw(uint16),
        flags=draw(uint16),
        ciaddr=draw(addresses),
        yiaddr=draw(addresses),
        siaddr=draw(addresses),
        giaddr=draw(addresses),
        chaddr=chaddr,
        sname=draw(names(SNAME_MAX)),
        file=draw(names(FILE_MAX)),
        options=options,
    )


@settings(deadline=None)
@given(messages())
def test_message_round_trips(message: Message) -> None:
    data = pack(message, MAX_SIZE)

    assert parse(data) == message
    assert len(data) >= 300


@settings(deadline=None)
@given(messages(), st.integers(0, 1 << 12))
def test_a_message_fits_or_is_not_packed(message: Message, max_size: int) -> None:
    size = len(pack(message, MAX_SIZE))
    try:
        assert len(pack(message, max_size)) <= max_size
    except ValueError:
        assert size > max_size
    else:
        assert size <= max_size


def check_parse(data: bytes) -> None:
    """Check that the data are refused, or parsed to a valid message."""
    try:
        message = parse(data)
    except WireError:
        return
    assert not message.options.keys() & {0, 52, 255}
    assert len(message.chaddr) == message.hlen <= 16
    assert message.message_type is None or message.message_type == message.options[53][0]


@given(st.binary(max_size=600))
@example(b"")
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    check_parse(data)


@settings(deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.binary(min_size=64, max_size=64),
    st.binary(min_size=128, max_size=128),
    st.lists(st.binary(max_size=6) | st.sampled_from([b"\x34\1\1", b"\x34\1\2", b"\x34\1\3"]), max_size=20).map(
        b"".join
    ),
)
def test_any_bytes_in_the_option_fields_are_options_or_refused(op: int, sname: bytes, file: bytes, vend: bytes) -> None:
    check_parse(bytes((op, 1, 6, 0)) + bytes(24) + b"\2\0\0\0\0\1" + bytes(10) + sname + file + COOKIE + vend)


@settings(deadline=None)
@given(messages(), st.data())
def test_a_packed_message_cut_or_damaged_is_a_message_or_refused(message: Message, data: st.DataObject) -> None:
    packed = bytearray(pack(message, MAX_SIZE))
    offset = data.draw(st.integers(0, len(packed) - 1))
    packed[offset] ^= data.draw(st.integers(1, 255))

    check_parse(bytes(packed))
    check_parse(bytes(packed[:offset]))
