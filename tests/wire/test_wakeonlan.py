"""The magic packet of Wake-on-LAN."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.wire.wakeonlan import magic_packet

MAC = bytes.fromhex("525400123456")


def test_a_packet_byte_by_byte() -> None:
    assert magic_packet(MAC).hex() == "ff" * 6 + "525400123456" * 16


@given(mac=st.binary(min_size=6, max_size=6), password=st.sampled_from([b"", b"\1\2\3\4", b"\1\2\3\4\5\6"]))
def test_a_card_finds_its_address_and_its_password(mac: bytes, password: bytes) -> None:
    packet = magic_packet(mac, password)
    assert packet[:6] == b"\xff" * 6
    assert {packet[offset : offset + 6] for offset in range(6, 102, 6)} == {mac}
    assert packet[102:] == password


@pytest.mark.parametrize("mac", [b"", MAC[:5], MAC + b"\0"])
def test_an_address_of_another_length_is_refused(mac: bytes) -> None:
    with pytest.raises(ValueError, match=f"has 6 bytes, not {len(mac)}"):
        magic_packet(mac)


@pytest.mark.parametrize("length", [1, 5, 7])
def test_a_password_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=f"has 4 or 6 bytes, not {length}"):
        magic_packet(MAC, bytes(length))
