"""DHCPv6 messages: their exact bytes, every malformed case, and properties of all messages."""

from collections.abc import Callable
from socket import AF_INET6, inet_ntop
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers import dhcp6 as scapy6

from bootfw.errors import WireError
from bootfw.wire.dhcp6 import MOST_RELAYS, Message, MessageType, Relay, pack, parse
from bootfw.wire.options6 import (
    IAAddress,
    IdentityAssociation,
    Option,
    Status,
    addresses_bytes,
    domains_bytes,
    ia_address_bytes,
    identity_association,
    identity_association_bytes,
    status_bytes,
    strings_bytes,
    uint16s_bytes,
    vendor_class_bytes,
)

SOLICIT = Message(MessageType.SOLICIT, 0xABCDEF, ((1, b"\0\3\0\1RT\0\0\0\1"), (14, b"")))
SOLICIT_DATA = bytes.fromhex("01abcdef 0001000a 00030001525400000001 000e0000")

inner_kinds = st.sampled_from([kind for kind in MessageType if "RELAY" not in kind.name])
addresses = st.ip_addresses(v=6).map(lambda value: inet_ntop(AF_INET6, value.packed))
option_lists = st.lists(
    st.tuples(st.integers(0, 0xFFFF).filter(lambda code: code != Option.RELAY_MESSAGE), st.binary(max_size=40)),
    max_size=8,
).map(tuple)
messages = st.builds(Message, inner_kinds, st.integers(0, 0xFFFFFF), option_lists)
relay_lists = st.lists(st.builds(Relay, st.integers(0, 255), addresses, addresses, option_lists), max_size=4)


def test_message_round_trip() -> None:
    assert pack(SOLICIT) == SOLICIT_DATA
    assert parse(SOLICIT_DATA) == (SOLICIT, ())


def test_relays_are_returned_with_the_outermost_one_first() -> None:
    relays = (Relay(1, "::", "fe80::2", ((18, b"far"),)), Relay(0, "fd77::1", "fe80::3", ((37, b"\0\0\0\x09id"),)))
    data = pack(SOLICIT, relays, MessageType.RELAY_FORWARD)

    assert (data[0], data[1], data[2:18], data[18:34]) == (12, 1, bytes(16), bytes.fromhex("fe80" + "00" * 13 + "02"))
    assert parse(data) == (SOLICIT, relays)


def test_the_first_instance_of_an_option_and_every_instance() -> None:
    message = Message(MessageType.REQUEST, 1, ((3, b"a"), (1, b"x"), (3, b"b")))
    assert (message.first(3), message.first(9), message.every(3)) == (b"a", None, [b"a", b"b"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"\1\0\0", "3 bytes"),
        (b"\x63\0\0\0", "message type 99"),
        (b"\0\0\0\0", "message type 0"),
        (b"\1\0\0\0" + b"\x0f\xff\x0f\xfc" + bytes(4093), "4101 bytes"),
        (b"\x0c" + bytes(32), "no relay's message"),
        (b"\x0c" + bytes(33), "without a message in it"),
        (
            pack(SOLICIT, [Relay(0, "::", "::")] * (MOST_RELAYS + 1)),
            "more than 32 relays",
        ),
        (
            b"\x0c" + bytes(33) + b"\0\x09\0\x26\x0d" + bytes(33) + b"\0\x09\0\0",
            "or the other way round",
        ),
    ],
)
def test_malformed_messages_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse(data)


@pytest.mark.parametrize("tail", [b"\0", b"\0\x10\0", b"\0\x10\0\5", b"\0\x10\0\x20abc"])
def test_an_option_that_is_cut_off_is_ignored(tail: bytes) -> None:
    """In a message, in the relay message around it, and in an identity association."""
    association = (3, bytes(12) + b"\0\x0d\0\2\0\0" + tail)
    message = Message(MessageType.SOLICIT, 1, ((1, b"duid"), association))
    data = pack(message) + tail
    relayed = b"\x0c" + bytes(33) + b"\0\x09" + len(data).to_bytes(2, "big") + data + tail

    assert parse(data) == (message, ())
    assert parse(relayed) == (message, (Relay(0, "::", "::"),))
    assert identity_association(association[1]).options == ((13, b"\0\0"),)


@pytest.mark.parametrize(
    "pack_invalid",
    [
        lambda: pack(Message(MessageType.RELAY_FORWARD, 1)),
        lambda: pack(Message(MessageType.REPLY, 1 << 24)),
        lambda: pack(Message(MessageType.REPLY, 1, ((1 << 16, b""),))),
        lambda: pack(Message(MessageType.REPLY, 1, ((1, bytes(1 << 16)),))),
        lambda: pack(SOLICIT, [Relay(0, "10.0.0.1", "::")]),
        lambda: pack(SOLICIT, [Relay(0, "::", "::")], MessageType.REPLY),
    ],
)
def test_unencodable_values_raise(pack_invalid: Callable[..., Any]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        pack_invalid()


@settings(deadline=None)
@given(messages, relay_lists, st.sampled_from([MessageType.RELAY_FORWARD, MessageType.RELAY_REPLY]))
def test_message_round_trips(message: Message, relays: list[Relay], relay_kind: MessageType) -> None:
    assert parse(pack(message, relays, relay_kind)) == (message, tuple(relays))


@settings(deadline=None)
@given(messages, relay_lists)
def test_a_truncated_message_is_understood_or_refused(message: Message, relays: list[Relay]) -> None:
    data = pack(message, relays)
    for length in range(len(data)):
        try:
            parse(data[:length])
        except WireError:
            continue


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_refused(data: bytes) -> None:
    try:
        message, relays = parse(data)
    except WireError:
        return
    kind = MessageType.RELAY_FORWARD if data[0] == 12 else MessageType.RELAY_REPLY
    assert parse(pack(message, relays, kind)) == (message, relays)


def test_scapy_reads_an_advertise() -> None:
    address = ia_address_bytes(IAAddress("fd77::100", 300, 600))
    association = IdentityAssociation(7, 150, 240, ((5, address), (13, status_bytes(Status.SUCCESS, "well"))))
    message = Message(
        MessageType.ADVERTISE,
        0xCAFE01,
        (
            (1, b"\0\3\0\1RT\0\0\0\1"),
            (2, b"\0\4" + bytes(range(16))),
            (3, identity_association_bytes(association)),
            (23, addresses_bytes(["fd77::1", "fd77::2"])),
            (24, domains_bytes(["lab.example", "example"])),
            (16, vendor_class_bytes(343, [b"HTTPClient"])),
            (59, b"tftp://[fd77::1]/snponly.efi"),
            (60, strings_bytes([b"one", b"two"])),
            (61, uint16s_bytes([7])),
        ),
    )
    scapy_message = scapy6.DHCP6_Advertise(pack(message))

    assert scapy_message.trid == 0xCAFE01
    assert bytes(scapy_message[scapy6.DUID_LL].lladdr, "ascii") == b"52:54:00:00:00:01"
    assert (
        scapy_message[scapy6.DHCP6OptIA_NA].iaid,
        scapy_message[scapy6.DHCP6OptIA_NA].T1,
        scapy_message[scapy6.DHCP6OptIA_NA].T2,
    ) == (
        7,
        150,
        240,
    )
    scapy_address = scapy_message[scapy6.DHCP6OptIAAddress]
    assert (scapy_address.addr, scapy_address.preflft, scapy_address.validlft) == ("fd77::100", 300, 600)
    assert scapy_message[scapy6.DHCP6OptStatusCode].statusmsg == b"well"
    assert scapy_message[scapy6.DHCP6OptDNSServers].dnsservers == ["fd77::1", "fd77::2"]
    assert scapy_message[scapy6.DHCP6OptDNSDomains].dnsdomains == ["lab.example.", "example."]
    assert scapy_message[scapy6.DHCP6OptVendorClass].enterprisenum == 343
    assert scapy_message[scapy6.DHCP6OptVendorClass].vcdata[0].data == b"HTTPClient"
    assert scapy_message[scapy6.DHCP6OptBootFileUrl].optdata == b"tftp://[fd77::1]/snponly.efi"
    assert scapy_message[scapy6.DHCP6OptClientArchType].archtypes == [7]


def test_messages_of_scapy_are_parsed() -> None:
    solicit = (
        scapy6.DHCP6_Solicit(trid=5)
        / scapy6.DHCP6OptClientId(duid=scapy6.DUID_LLT(timeval=1, lladdr="52:54:00:00:00:02"))
        / scapy6.DHCP6OptIA_NA(iaid=9, T1=0, T2=0)
        / scapy6.DHCP6OptOptReq(reqopts=[59, 60])
    )
    relayed = (
        scapy6.DHCP6_RelayForward(hopcount=1, linkaddr="fd77::9", peeraddr="fe80::9")
        / scapy6.DHCP6OptIfaceId(ifaceid=b"port 3")
        / scapy6.DHCP6OptRelayMsg(message=solicit)
    )
    message, (relay,) = parse(bytes(relayed))

    assert (message.kind, message.xid) == (MessageType.SOLICIT, 5)
    assert message.first(1) == bytes.fromhex("0001000100000001525400000002")
    assert message.first(6) == uint16s_bytes([59, 60])
    assert (relay.hops, relay.link, relay.peer, relay.first(18)) == (1, "fd77::9", "fe80::9", b"port 3")
