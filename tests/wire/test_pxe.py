"""Option 43 of PXE: its exact bytes when it is parsed and packed, and each malformed length."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire.pxe import (
    BootItem,
    BootServers,
    DiscoveryControl,
    MenuItem,
    MenuPrompt,
    VendorOptions,
    boot_item,
    pack,
    parse,
)

PARTS = [
    (VendorOptions(), "ff"),
    (VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE), "060108 ff"),
    (
        VendorOptions(discovery_control=DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST),
        "060103 ff",
    ),
    (VendorOptions(boot_servers=(BootServers(0x8000),)), "0803 8000 00 ff"),
    (
        VendorOptions(boot_servers=(BootServers(1, ("10.77.0.1", "10.77.0.2")), BootServers(2))),
        "080e 0001 02 0a4d0001 0a4d0002 0002 00 ff",
    ),
    (
        VendorOptions(menu=(MenuItem(0, "disk"), MenuItem(0x8000, "net"))),
        "090d 0000 04 6469736b 8000 03 6e6574 ff",
    ),
    (VendorOptions(menu=(MenuItem(0, ""),)), "0903 0000 00 ff"),
    (VendorOptions(prompt=MenuPrompt(10, "F8")), "0a03 0a 4638 ff"),
    (VendorOptions(prompt=MenuPrompt(0, "")), "0a01 00 ff"),
    (VendorOptions(boot_item=BootItem(0x8000, 0)), "4704 8000 0000 ff"),  # as iPXE sends it
    (VendorOptions(boot_item=BootItem(1, 0x8002)), "4704 0001 8002 ff"),
    (VendorOptions(others={7: b"\xe0\0\1\2", 128: b""}), "0704 e0000102 8000 ff"),
    (
        VendorOptions(
            discovery_control=DiscoveryControl.LISTED_ONLY,
            boot_item=BootItem(5),
            others={1: b"\0\0\0\0", 200: b"x"},
        ),
        "0104 00000000 060104 4704 0005 0000 c801 78 ff",
    ),
]


@pytest.mark.parametrize(("value", "hex_data"), PARTS)
def test_vendor_options_are_packed(value: VendorOptions, hex_data: str) -> None:
    assert pack(value) == bytes.fromhex(hex_data)


@pytest.mark.parametrize(("value", "hex_data"), PARTS)
def test_vendor_options_are_parsed(value: VendorOptions, hex_data: str) -> None:
    assert parse(bytes.fromhex(hex_data)) == value
    assert parse(bytes.fromhex(hex_data)[:-1]) == value  # the end missing


def test_a_control_byte_may_have_bits_without_a_name() -> None:
    assert parse(bytes.fromhex("0601f8ff")).discovery_control == 0xF8


def test_pads_and_bytes_behind_the_end_are_skipped() -> None:
    assert parse(bytes.fromhex("00 060108 00 ff 060100")) == VendorOptions(
        discovery_control=DiscoveryControl.USE_BOOT_FILE
    )


@pytest.mark.parametrize(
    "hex_data",
    [
        "06",
        "0601",
        "0600 ff",
        "06020800 ff",
        "0801 00 ff",
        "0802 0001 ff",
        "0803 0001 01 ff",
        "0806 0001 01 0a4d00 ff",
        "0807 0001 02 0a4d0001 ff",
        "0808 0001 01 0a4d0001 00 ff",
        "0901 00 ff",
        "0902 0000 ff",
        "0903 0000 01 ff",
        "0906 0000 04 616263 ff",
        "0904 0000 00 00 ff",
        "0a00 ff",
        "4700 ff",
        "4703 800000 ff",
        "4705 8000000000 ff",
        "5261737062657272792050692042 6f6f74",
    ],
)
def test_a_malformed_option_is_refused(hex_data: str) -> None:
    with pytest.raises(WireError):
        parse(bytes.fromhex(hex_data))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (VendorOptions(discovery_control=DiscoveryControl(256)), "256 does not fit"),
        (VendorOptions(boot_servers=(BootServers(1 << 16),)), "65536 does not fit"),
        (VendorOptions(boot_servers=(BootServers(1, ("boot.example",)),)), "no IPv4 address"),
        (VendorOptions(boot_servers=(BootServers(1, ("10.0.0.1",) * 63),)), "option 43 has 258 bytes"),
        (VendorOptions(menu=(MenuItem(-1, ""),)), "-1 does not fit"),
        (VendorOptions(menu=(MenuItem(1, "x" * 256),)), "256 does not fit"),
        (VendorOptions(prompt=MenuPrompt(256, "")), "256 does not fit"),
        (VendorOptions(boot_item=BootItem(1 << 16)), "65536 does not fit"),
        (VendorOptions(boot_item=BootItem(0, -1)), "-1 does not fit"),
        (VendorOptions(others={0: b""}), "sub-option 0"),
        (VendorOptions(others={255: b""}), "sub-option 255"),
        (VendorOptions(others={6: b"\x08"}), "among the others"),
        (VendorOptions(others={71: b"\0\0\0\0"}), "among the others"),
        (VendorOptions(others={128: bytes(253)}), "option 43 has 256 bytes"),
    ],
)
def test_invalid_arguments_raise(value: VendorOptions, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        pack(value)


def test_option_43_has_255_bytes_at_most() -> None:
    assert len(pack(VendorOptions(others={128: bytes(252)}))) == 255


types = st.integers(0, 0xFFFF)
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
options = st.builds(
    VendorOptions,
    discovery_control=st.none() | st.integers(0, 255).map(DiscoveryControl),
    boot_servers=st.lists(
        st.builds(BootServers, types, st.lists(st.ip_addresses(v=4).map(str), max_size=3).map(tuple)), max_size=2
    ).map(tuple),
    menu=st.lists(st.builds(MenuItem, types, texts), max_size=2).map(tuple),
    prompt=st.none() | st.builds(MenuPrompt, st.integers(0, 255), texts),
    boot_item=st.none() | st.builds(BootItem, types, types),
    others=st.dictionaries(st.integers(128, 254), st.binary(max_size=5), max_size=3),
)


@settings(deadline=None)
@given(options)
def test_round_trip(value: VendorOptions) -> None:
    assert parse(pack(value)) == value


@given(st.lists(st.binary(max_size=5) | st.sampled_from([b"\x06\1", b"\x08\x05", b"\x09\x05", b"\x0a\2", b"\x47\4"])))
def test_no_bytes_raise_anything_but_wire_error(pieces: list[bytes]) -> None:
    with suppress(WireError):
        parse(b"".join(pieces))


@pytest.mark.parametrize(
    ("raw", "item"),
    [
        ("4704 8000 0000 ff", BootItem(0x8000)),
        ("4704 0001 8002", BootItem(1, 0x8002)),
        ("0602 0000 4704 8000 0000 0909", BootItem(0x8000)),
        ("4704 8000 00", None),
        ("4703 800000 ff", None),
        ("ff 4704 8000 0000", None),
        ("", None),
    ],
)
def test_the_boot_item_is_read_if_other_sub_options_are_malformed(raw: str, item: BootItem | None) -> None:
    assert boot_item(bytes.fromhex(raw)) == item
