"""The contents of DHCPv6 options."""

from collections.abc import Callable
from socket import AF_INET6, inet_ntop
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire import options6 as codec
from bootfw.wire.options6 import IAAddress, IdentityAssociation

numbers = st.integers(0, 0xFFFFFFFF)
texts = st.lists(st.binary(max_size=30), max_size=4).map(tuple)
option_lists = st.lists(st.tuples(st.integers(0, 0xFFFF), st.binary(max_size=30)), max_size=4).map(tuple)
addresses = st.ip_addresses(v=6).map(lambda value: inet_ntop(AF_INET6, value.packed))
associations = st.builds(IdentityAssociation, numbers, numbers, numbers, option_lists)
ia_addresses = st.builds(IAAddress, addresses, numbers, numbers, option_lists)
names = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,9}(\.[a-z]{1,9}){0,3}", fullmatch=True), max_size=3).map(tuple)

CODECS: list[tuple[Callable[[Any], bytes], Callable[[bytes], Any], st.SearchStrategy[Any]]] = [
    (codec.options_bytes, codec.read_options, option_lists),
    (codec.identity_association_bytes, codec.identity_association, associations),
    (codec.ia_address_bytes, codec.ia_address, ia_addresses),
    (codec.address_bytes, codec.address, addresses),
    (codec.addresses_bytes, codec.addresses, st.lists(addresses, min_size=1, max_size=4).map(tuple)),
    (codec.uint16s_bytes, codec.uint16s, st.lists(st.integers(0, 0xFFFF), max_size=6).map(tuple)),
    (codec.strings_bytes, codec.strings, texts),
    (lambda v: codec.vendor_class_bytes(*v), codec.vendor_class, st.tuples(numbers, texts)),
    (lambda v: codec.vendor_options_bytes(*v), codec.vendor_options, st.tuples(numbers, option_lists)),
    (codec.domains_bytes, codec.domains, names),
    (lambda v: codec.status_bytes(*v), codec.status, st.tuples(st.integers(0, 0xFFFF), st.text("abc é", max_size=9))),
]


@pytest.mark.parametrize(("write", "read", "values"), CODECS)
def test_options_round_trip(
    write: Callable[..., Any], read: Callable[..., Any], values: st.SearchStrategy[Any]
) -> None:
    @given(values)
    def check(value: Any) -> None:
        assert read(write(value)) == value

    check()


@pytest.mark.parametrize("read", [read for _, read, _ in CODECS] + [codec.link_layer_address])
def test_any_bytes_are_understood_or_refused(read: Callable[..., Any]) -> None:
    @given(st.binary(max_size=80))
    def check(raw: bytes) -> None:
        try:
            read(raw)
        except WireError:
            return

    check()


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        (codec.identity_association, bytes(11)),
        (codec.ia_address, bytes(23)),
        (codec.status, b"\0"),
        (codec.address, bytes(15)),
        (codec.addresses, b""),
        (codec.addresses, bytes(17)),
        (codec.uint16s, bytes(3)),
        (codec.strings, b"\0\5abc"),
        (codec.strings, b"\0"),
        (codec.vendor_class, bytes(3)),
        (codec.vendor_options, bytes(3)),
        (codec.domains, b"\3ab"),
        (codec.domains, b"\2ab"),
        (codec.domains, b"\xc0\x0c"),
        (codec.link_layer_address, bytes(2)),
        (codec.read_options, bytes(3)),
    ],
)
def test_malformed(read: Callable[[bytes], Any], raw: bytes) -> None:
    with pytest.raises(WireError):
        read(raw)


@pytest.mark.parametrize(
    "write",
    [
        lambda: codec.address_bytes("10.0.0.1"),
        lambda: codec.options_bytes([(1, bytes(1 << 16))]),
        lambda: codec.identity_association_bytes(IdentityAssociation(1 << 32)),
        lambda: codec.ia_address_bytes(IAAddress("::", -1)),
        lambda: codec.uint16s_bytes([1 << 16]),
        lambda: codec.strings_bytes([bytes(1 << 16)]),
        lambda: codec.vendor_class_bytes(-1, []),
        lambda: codec.domains_bytes(["a..b"]),
    ],
)
def test_unencodable_values_raise(write: Callable[[], bytes]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        write()


def test_duid_is_parsed() -> None:
    mac = bytes.fromhex("525400123456")
    assert codec.duid_hardware(b"\0\1\0\1" + bytes(4) + mac) == (1, mac)
    assert codec.duid_hardware(b"\0\3\0\1" + mac) == (1, mac)
    assert codec.duid_hardware(b"\0\4" + bytes(16)) == (0, b"")
    assert codec.duid_hardware(b"\0\3\0\1") == (0, b"")
    assert codec.duid_machine(b"\0\4" + bytes(range(16))) == bytes(range(16))
    assert codec.duid_machine(b"\0\4" + bytes(15)) == b""
    assert codec.duid_machine(b"\0\3" + bytes(16)) == b""
    assert codec.link_layer_address(b"\0\1" + mac) == (1, mac)
