"""Socket addresses and packet info, bytes to values and back."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import InvalidAddressError

from bootfw.net.udp.packetinfo import IPV4, IPV6, UNKNOWN_VIA, Cache, Family, control_message
from bootfw.values import Via

PORTS = st.integers(0, 65535)
ADDRESSES4 = st.ip_addresses(v=4).map(str)
ADDRESSES6 = st.ip_addresses(v=6).map(lambda address: socket.inet_ntop(socket.AF_INET6, address.packed))
NUMBERS = st.integers(0, 2**32 - 1)


@given(ADDRESSES4, PORTS)
def test_ipv4_sockaddr_round_trip(host: str, port: int) -> None:
    destination = IPV4.destination((host, port))
    assert len(destination.raw) == 16
    assert IPV4.read_address(destination.raw) == destination.address == (host, port)


@given(ADDRESSES6, PORTS, st.integers(0, 2**20 - 1), NUMBERS)
def test_ipv6_sockaddr_round_trip(host: str, port: int, flow: int, scope: int) -> None:
    destination = IPV6.destination((host, port, flow, scope))
    assert len(destination.raw) == 28
    assert IPV6.read_address(destination.raw) == destination.address == (host, port, flow, scope)


def test_sockaddr_layout_matches_the_kernel() -> None:
    raw4 = struct.pack("=H", socket.AF_INET) + b"\x00\x45" + bytes([10, 0, 0, 1]) + bytes(8)
    assert IPV4.destination(("10.0.0.1", 69)).raw == raw4
    raw6 = struct.pack("=H", socket.AF_INET6) + b"\x02\x22" + bytes([0, 0, 0, 7]) + b"\xfe\x80" + bytes(13) + b"\x09"
    raw6 += struct.pack("=I", 3)
    assert IPV6.destination(("fe80::9", 546, 7, 3)).raw == raw6


def test_zone_of_an_address_selects_the_interface() -> None:
    lo = socket.if_nametoindex("lo")
    assert IPV6.destination(("fe80::9%lo", 546)).address == ("fe80::9", 546, 0, lo)
    assert IPV6.destination(("fe80::9%7", 546)).address == ("fe80::9", 546, 0, 7)
    with pytest.raises(InvalidAddressError):
        IPV6.destination(("fe80::9%nosuch", 546))


def test_twisted_broadcast_name_is_the_broadcast_address() -> None:
    assert IPV4.destination(("<broadcast>", 68)) == IPV4.destination(("255.255.255.255", 68))


@pytest.mark.parametrize("host", ["", "localhost", "::1", "10.1", "010.0.0.1", "10.0.0.256"])
def test_invalid_ipv4_addresses_raise(host: str) -> None:
    with pytest.raises(InvalidAddressError):
        IPV4.destination((host, 69))


@pytest.mark.parametrize(
    ("family", "host", "needs_interface"),
    [
        (IPV4, "255.255.255.255", True),
        (IPV4, "224.0.1.2", True),
        (IPV4, "239.255.0.1", True),
        (IPV4, "10.255.255.255", False),  # one network's broadcast has a route
        (IPV4, "223.255.255.255", False),
        (IPV4, "240.0.0.1", False),
        (IPV6, "ff02::1:2", True),
        (IPV6, "fe80::1", True),
        (IPV6, "febf::1", True),
        (IPV6, "fec0::1", False),
        (IPV6, "fd00::1", False),
        (IPV6, "2001:db8::1", False),
    ],
)
def test_link_local_and_multicast_destinations_need_an_interface(
    family: Family, host: str, needs_interface: bool
) -> None:
    assert family.destination((host, 69)).needs_interface is needs_interface


def test_ipv4_packet_info_is_read() -> None:
    info = struct.pack("=I", 3) + bytes([10, 0, 0, 1]) + bytes([255, 255, 255, 255])
    assert IPV4.read_info(info) == Via("10.0.0.1", 3, "255.255.255.255")
    assert len(info) == IPV4.info_length


def test_packet_info_of_an_interface_without_an_address_has_no_local_address() -> None:
    assert IPV4.read_info(struct.pack("=I", 3) + bytes(4) + b"\xff" * 4) == Via("", 3, "255.255.255.255")


def test_ipv6_packet_info_is_read() -> None:
    info = b"\xfe\x80" + bytes(13) + b"\x01" + struct.pack("=I", 3)
    assert IPV6.read_info(info) == Via("fe80::1", 3, "fe80::1")
    assert len(info) == IPV6.info_length


def test_multicast_destination_is_not_used_as_source() -> None:
    info = b"\xff\x02" + bytes(11) + b"\x01\x00\x02" + struct.pack("=I", 3)
    assert IPV6.read_info(info) == Via("", 3, "ff02::1:2")


@pytest.mark.parametrize(
    ("local", "on_interface", "expected"),
    [
        ("10.0.0.1", False, struct.pack("=I", 0) + bytes([10, 0, 0, 1]) + bytes(4)),
        ("10.0.0.1", True, struct.pack("=I", 3) + bytes([10, 0, 0, 1]) + bytes(4)),
        ("", True, struct.pack("=I", 3) + bytes(8)),
        ("", False, b""),
        ("255.255.255.255", False, b""),
        ("224.0.0.1", False, b""),
    ],
)
def test_ipv4_packet_info_is_written(local: str, on_interface: bool, expected: bytes) -> None:
    assert IPV4.info(Via(local, 3, ""), on_interface) == expected


@pytest.mark.parametrize(
    ("local", "on_interface", "expected"),
    [
        ("fd00::1", False, b"\xfd" + bytes(14) + b"\x01" + struct.pack("=I", 0)),
        ("fd00::1", True, b"\xfd" + bytes(14) + b"\x01" + struct.pack("=I", 3)),
        ("fe80::1", False, b"\xfe\x80" + bytes(13) + b"\x01" + struct.pack("=I", 3)),
        ("", True, bytes(16) + struct.pack("=I", 3)),
        ("", False, b""),
        ("ff02::1", False, b""),
    ],
)
def test_ipv6_packet_info_is_written(local: str, on_interface: bool, expected: bytes) -> None:
    assert IPV6.info(Via(local, 3, ""), on_interface) == expected


@given(st.binary(min_size=1, max_size=20))
def test_control_message_has_padding_and_length(payload: bytes) -> None:
    message = control_message(1, 2, payload)
    assert len(message) == socket.CMSG_SPACE(len(payload))
    assert struct.unpack_from("@Nii", message) == (socket.CMSG_LEN(len(payload)), 1, 2)
    assert message[socket.CMSG_LEN(0) :][: len(payload)] == payload


def test_cache_computes_each_value_once_and_is_bounded() -> None:
    computed: list[int] = []

    def negative(key: int) -> int:
        computed.append(key)
        return -key

    cache = Cache(negative)
    assert [cache[1], cache[1], cache[2]] == [-1, -1, -2]
    assert computed == [1, 2]
    for key in range(10_000):
        cache[key]
        assert len(cache) <= 4096


def test_packet_info_of_a_datagram_from_before_the_socket_option_is_unknown() -> None:
    """The kernel knows only the destination of a datagram that came before IP_PKTINFO was set."""
    info = struct.pack("=I4s4s", 0, bytes(4), socket.inet_aton("10.0.0.1"))
    assert IPV4.read_info(info) == UNKNOWN_VIA
