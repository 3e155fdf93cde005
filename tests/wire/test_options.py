"""DHCPv4 options: their exact bytes when they are read and written, and each malformed length."""

import uuid
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bootfw.errors import WireError
from bootfw.wire import options
from bootfw.wire.options import IPXESuboption, Option, RelaySuboption

UUID = "52420077-1234-4abc-9def-0123456789ab"
UUID_ON_THE_WIRE = bytes.fromhex("00 77004252 3412 bc4a 9def 0123456789ab")


@pytest.mark.parametrize(
    ("read", "raw", "value"),
    [
        (options.uint8, b"\xfe", 254),
        (options.uint16, b"\1\2", 258),
        (options.uint32, b"\1\2\3\4", 0x01020304),
        (options.text, b"", ""),
        (options.text, b"pxelinux.0", "pxelinux.0"),
        (options.text, b"pxelinux.0\0", "pxelinux.0"),
        (options.text, b"a\0b\0", "a"),
        (options.text, b"Raspberry Pi Boot   ", "Raspberry Pi Boot   "),
        (options.text, "grüße".encode(), "grüße"),
        (options.text, b"\xff\xfe", "\udcff\udcfe"),
        (options.address, b"\x0a\x4d\0\1", "10.77.0.1"),
        (options.addresses, b"\x0a\x4d\0\1\xff\xff\xff\xff", ("10.77.0.1", "255.255.255.255")),
        (options.max_message_size, b"\5\xc0", 1472),
        (options.max_message_size, b"\2\x40", 576),
        (options.max_message_size, b"\0\x64", 576),
        (options.max_message_size, b"\xff\0", 65280),
        (options.architectures, b"\0\7", (7,)),
        (options.architectures, b"\0\x10\0\7\x01\0", (16, 7, 256)),
        (options.network_interface, b"\1\3\x0a", (1, 3, 10)),
        (options.machine_uuid, UUID_ON_THE_WIRE, UUID),
        (options.user_classes, b"", ()),
        (options.user_classes, b"iPXE", (b"iPXE",)),
        (options.user_classes, b"\4iPXE", (b"iPXE",)),
        (options.user_classes, b"\4iPXE\3lab", (b"iPXE", b"lab")),
        (options.user_classes, b"\4iPXE\4lab", (b"\4iPXE\4lab",)),
        (options.user_classes, b"\4iPXE\0", (b"\4iPXE\0",)),
        (options.user_classes, b"\0", (b"\0",)),
        (options.user_classes, b"\5iPXE", (b"\5iPXE",)),
        (options.relay_agent, b"", {}),
        (options.relay_agent, b"\1\4eth0\2\0", {1: b"eth0", 2: b""}),
        (options.relay_agent, b"\0\1x\xff\1y", {0: b"x", 255: b"y"}),
        (options.relay_agent, b"\1\1a\1\1b", {1: b"a"}),
        (options.relay_agent, b"\1", {}),
        (options.relay_agent, b"\1\4eth", {}),
        (options.relay_agent, b"\1\4eth0\xff", {1: b"eth0"}),
        (options.relay_agent, b"\1\4eth0\2\4x", {1: b"eth0"}),
        (options.first_address, None, None),
        (options.first_address, b"", None),
        (options.first_address, b"\x0a\x4d\0", None),
        (options.first_address, b"\x0a\x4d\0\1", "10.77.0.1"),
        (options.first_address, b"\x0a\x4d\0\1\x0a\x4d\0\2", "10.77.0.1"),
        (options.ipxe, bytes.fromhex("b105018086100eeb03010000170101"), {
            IPXESuboption.BUS_ID: bytes.fromhex("018086100e"),
            IPXESuboption.VERSION: b"\1\0\0",
            0x17: b"\1",
        }),
        (options.encapsulated, b"\0\6\1\x08\0\xff\7\1x", {6: b"\x08"}),
        (options.encapsulated, b"\6\1\x08", {6: b"\x08"}),
        (options.encapsulated, b"\6\0\6\1x\xff", {6: b""}),
    ],
)  # fmt: skip
def test_option_values_are_read(read: object, raw: bytes, value: object) -> None:
    assert read(raw) == value  # type: ignore[operator]


@pytest.mark.parametrize(
    ("read", "raw"),
    [
        (options.uint8, b""),
        (options.uint8, b"\0\0"),
        (options.uint16, b"\0"),
        (options.uint16, b"\0\0\0"),
        (options.uint32, b"\0\0\0"),
        (options.uint32, b"\0\0\0\0\0"),
        (options.address, b""),
        (options.address, b"\0\0\0"),
        (options.address, bytes(8)),
        (options.addresses, b""),
        (options.addresses, bytes(5)),
        (options.addresses, bytes(7)),
        (options.max_message_size, b""),
        (options.max_message_size, b"\5"),
        (options.max_message_size, b"\0\0\5\xc0"),
        (options.architectures, b""),
        (options.architectures, b"\0"),
        (options.architectures, b"\0\7\0"),
        (options.network_interface, b"\1\3"),
        (options.network_interface, b"\1\3\0\0"),
        (options.machine_uuid, b""),
        (options.machine_uuid, UUID_ON_THE_WIRE[:-1]),
        (options.machine_uuid, UUID_ON_THE_WIRE + b"\0"),
        (options.machine_uuid, b"\1" + UUID_ON_THE_WIRE[1:]),
        (options.machine_uuid, UUID_ON_THE_WIRE[1:]),
        (options.ipxe, b"\xb1\5\1"),
        (options.encapsulated, b"\6"),
        (options.encapsulated, b"\6\1"),
        (options.encapsulated, b"\6\1\x08\7\4\1\2\3"),
    ],
)
def test_a_malformed_option_is_refused(read: object, raw: bytes) -> None:
    with pytest.raises(WireError):
        read(raw)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("write", "value", "raw"),
    [
        (options.uint8_bytes, 8, b"\x08"),
        (options.uint16_bytes, 0x0102, b"\1\2"),
        (options.uint32_bytes, 3600, b"\0\0\x0e\x10"),
        (options.text_bytes, "snponly.efi", b"snponly.efi"),
        (options.text_bytes, "\udcff", b"\xff"),
        (options.address_bytes, "10.77.0.1", b"\x0a\x4d\0\1"),
        (options.addresses_bytes, ["10.77.0.1", "10.77.0.2"], b"\x0a\x4d\0\1\x0a\x4d\0\2"),
        (options.machine_uuid_bytes, UUID, UUID_ON_THE_WIRE),
        (options.machine_uuid_bytes, UUID.upper(), UUID_ON_THE_WIRE),
        (options.encapsulate, {6: b"\x08", 71: b""}, b"\6\1\x08\x47\0\xff"),
        (options.encapsulate, {}, b"\xff"),
    ],
)
def test_option_values_are_written(write: object, value: object, raw: bytes) -> None:
    assert write(value) == raw  # type: ignore[operator]


def test_relay_sub_options_have_no_end() -> None:
    assert options.encapsulate({RelaySuboption.CIRCUIT_ID: b"eth0"}, end=False) == b"\1\4eth0"


@pytest.mark.parametrize(
    ("write", "value", "reason"),
    [
        (options.uint8_bytes, 256, "256 does not fit into 1 "),
        (options.uint8_bytes, -1, "-1 does not fit"),
        (options.uint16_bytes, 1 << 16, "65536 does not fit into 2 "),
        (options.uint32_bytes, 1 << 32, "4294967296 does not fit into 4 "),
        (options.address_bytes, "10.77.0", "'10.77.0' is no IPv4 address"),
        (options.address_bytes, "::1", "no IPv4 address"),
        (options.address_bytes, "10.77.0.1\0", "null"),
        (options.addresses_bytes, ["10.77.0.1", ""], "'' is no IPv4 address"),
        (options.machine_uuid_bytes, "no uuid", "UUID"),
        (options.encapsulate, {0: b""}, "sub-option 0 of 0 bytes"),
        (options.encapsulate, {255: b""}, "sub-option 255 of 0 bytes"),
        (options.encapsulate, {6: bytes(256)}, "sub-option 6 of 256 bytes"),
    ],
)
def test_invalid_arguments_raise(write: object, value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        write(value)  # type: ignore[operator]


@given(st.uuids())
def test_uuid_round_trip(value: uuid.UUID) -> None:
    assert options.machine_uuid(options.machine_uuid_bytes(str(value))) == str(value)


@given(st.lists(st.binary(min_size=1, max_size=255), max_size=5))
def test_well_formed_user_classes_are_separated(classes: list[bytes]) -> None:
    raw = b"".join(bytes((len(each),)) + each for each in classes)

    assert options.user_classes(raw) == tuple(classes)


@given(st.dictionaries(st.integers(1, 254), st.binary(max_size=255), max_size=8), st.binary(max_size=8))
def test_sub_options_round_trip(suboptions: dict[int, bytes], junk: bytes) -> None:
    assert options.encapsulated(options.encapsulate(suboptions) + junk) == suboptions
    assert options.relay_agent(options.encapsulate(suboptions, end=False)) == suboptions


@given(st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=60))
def test_addresses_round_trip(values: list[str]) -> None:
    assert options.addresses(options.addresses_bytes(values)) == tuple(values)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_text_round_trip(value: str) -> None:
    assert options.text(options.text_bytes(value)) == value


READERS = (
    options.uint8,
    options.uint16,
    options.uint32,
    options.text,
    options.address,
    options.addresses,
    options.max_message_size,
    options.architectures,
    options.network_interface,
    options.machine_uuid,
    options.user_classes,
    options.relay_agent,
    options.ipxe,
    options.encapsulated,
)


@given(st.binary(max_size=40))
@example(b"")
def test_no_bytes_raise_anything_but_wire_error(raw: bytes) -> None:
    for read in READERS:
        with suppress(WireError):
            read(raw)


def test_codes_are_those_of_the_registry() -> None:
    # The numbers are part of the protocol: this fails when one of them is changed by mistake.
    assert {option.name: option.value for option in Option} == {
        "SUBNET_MASK": 1, "ROUTER": 3, "DOMAIN_NAME_SERVER": 6, "HOST_NAME": 12, "BOOT_FILE_SIZE": 13,
        "DOMAIN_NAME": 15, "ROOT_PATH": 17, "INTERFACE_MTU": 26, "BROADCAST_ADDRESS": 28, "NTP_SERVERS": 42,
        "VENDOR_SPECIFIC": 43, "REQUESTED_IP_ADDRESS": 50, "LEASE_TIME": 51, "OVERLOAD": 52, "MESSAGE_TYPE": 53,
        "SERVER_IDENTIFIER": 54, "PARAMETER_REQUEST_LIST": 55, "MESSAGE": 56, "MAXIMUM_MESSAGE_SIZE": 57,
        "RENEWAL_TIME": 58, "REBINDING_TIME": 59, "VENDOR_CLASS_IDENTIFIER": 60, "CLIENT_IDENTIFIER": 61,
        "TFTP_SERVER_NAME": 66, "BOOTFILE_NAME": 67, "USER_CLASS": 77, "RAPID_COMMIT": 80,
            "RELAY_AGENT_INFORMATION": 82,
        "CLIENT_SYSTEM_ARCHITECTURE": 93, "CLIENT_NETWORK_INTERFACE": 94, "CLIENT_MACHINE_IDENTIFIER": 97,
        "TFTP_SERVER_ADDRESS": 150, "IPXE_ENCAPSULATED": 175, "PXELINUX_MAGIC": 208, "PXELINUX_CONFIG_FILE": 209,
        "PXELINUX_PATH_PREFIX": 210, "PXELINUX_REBOOT_TIME": 211,
    }  # fmt: skip
