"""First messages of real clients, rebuilt from captures of their builds in Debian 12 under QEMU 7.2.

The order of the options and the total lengths are the measured ones. Where a capture had more iPXE features than
were written down, features of three bytes each make up its length.
"""

import pytest
from attrs import frozen

from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import Message, MessageType, pack, parse
from bootfw.wire.iana import architecture_name
from bootfw.wire.pxe import BootItem
from bootfw.wire.pxe import parse as parse_vendor_options

MAC = bytes.fromhex("525400123456")
UUID = "52420077-1234-4abc-9def-0123456789ab"
UUID_ON_THE_WIRE = bytes.fromhex("00 77004252 3412 bc4a 9def 0123456789ab")  # as captured
DISCOVER, REQUEST = b"\1", b"\3"

IPXE_LIST = bytes((1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, *range(128, 136), 175, 203))
EDK2_COMMON = (1, 2, 3, 4, 5, 6, 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60)
EDK2_PXE_LIST = bytes((*EDK2_COMMON, 66, 67, 97, *range(128, 136)))
EDK2_HTTP_LIST = bytes((*EDK2_COMMON, 235, 67, 97))


def ipxe_features(*codes: int) -> bytes:
    bus_and_version = bytes.fromhex("b1 05 01 8086 100e eb 03 010000")
    return bus_and_version + b"".join(bytes((code, 1, 1)) for code in codes)


@frozen
class Capture:
    """The message of a client as it was captured."""

    name: str
    options: tuple[tuple[int, bytes], ...]
    flags: int = 0
    secs: int = 0
    xid: int = 0x12345678
    ciaddr: bytes = bytes(4)
    length: int | None = None
    """Octets, where measured."""

    @property
    def head(self) -> bytes:
        fixed = bytes((1, 1, 6, 0)) + self.xid.to_bytes(4, "big") + self.secs.to_bytes(2, "big")
        fixed += self.flags.to_bytes(2, "big") + self.ciaddr + bytes(12) + MAC + bytes(10 + 64 + 128)
        return fixed + bytes.fromhex("63825363")

    @property
    def data(self) -> bytes:
        return self.head + b"".join(bytes((code, len(value))) + value for code, value in self.options) + b"\xff"


IPXE_ROM = Capture(
    "iPXE ROM",
    (
        (53, DISCOVER),
        (57, b"\5\xc0"),
        (93, b"\0\0"),
        (94, b"\1\2\1"),
        (60, b"PXEClient:Arch:00000:UNDI:002001"),
        (77, b"iPXE"),
        (55, IPXE_LIST),
        (175, ipxe_features(0x17, 0x22, 0x13, 0x14, 0x11, 0x27, 0x19, 0x29, 0x10, 0x21, 0x15, 0x18)),
        (61, b"\1" + MAC),
        (97, UUID_ON_THE_WIRE),
    ),
    secs=4,
    length=400,
)
SNPONLY = Capture(
    "iPXE snponly.efi",
    (
        (53, DISCOVER),
        (57, b"\5\xc0"),
        (93, b"\0\7"),
        (94, b"\1\3\x0a"),
        (60, b"PXEClient:Arch:00007:UNDI:003010"),
        (77, b"iPXE"),
        (55, IPXE_LIST),
        (175, ipxe_features(0x17, 0x22, 0x13, 0x14, 0x11, 0x27, 0x15, 0x24)),
        (61, b"\1" + MAC),
        (97, UUID_ON_THE_WIRE),
    ),
    secs=4,
    length=388,
)
IPXE_BOOT_ITEM = Capture(
    "iPXE asking port 4011 for a boot item",
    ((53, REQUEST), (93, b"\0\0"), (60, b"PXEClient"), (77, b"iPXE"), (43, bytes.fromhex("470480000000ff"))),
    flags=0x8000,
    xid=0,
    ciaddr=bytes((10, 77, 0, 188)),
)


def edk2(arch: int, kind: str = "PXEClient", length: int | None = None) -> Capture:
    return Capture(
        f"EDK2 {kind} {arch}",
        (
            (53, DISCOVER),
            (57, b"\5\xc0"),
            (55, EDK2_PXE_LIST if kind == "PXEClient" else EDK2_HTTP_LIST),
            (97, UUID_ON_THE_WIRE),
            (94, b"\1\3\0"),
            (93, arch.to_bytes(2, "big")),
            (60, f"{kind}:Arch:{arch:05}:UNDI:003000".encode()),
        ),
        flags=0x8000,
        length=length,
    )


OVMF = edk2(7, length=347)
OVMF_HTTP = edk2(16, "HTTPClient", length=340)
EDK2 = [OVMF, edk2(6), edk2(10), edk2(11)]


def u_boot(arch: int | None, vendor: bytes) -> Capture:
    architecture = () if arch is None else ((93, arch.to_bytes(2, "big")),)
    return Capture(
        f"U-Boot {arch}",
        ((53, DISCOVER), (57, b"\2\x40"), *architecture, (94, b"\1\0\0"), (60, vendor), (55, b"\1\3\6\x0c\x11")),
    )


U_BOOT = u_boot(22, b"U-Boot.armv8")
SLOF = Capture("SLOF", ((53, DISCOVER), (55, b"\1\3\6\x42\x43\x5d")))
S390X_REQUEST = Capture(
    "s390x loader",
    ((53, REQUEST), (50, b"\x0aM\0\xbc"), (54, b"\x0aM\0\1"), (93, b"\0\x1f"), (55, b"\1\3\6\x42\x43\x5d\xd1\xd2")),
)
SYSLINUX_EFI = Capture("syslinux.efi", ((53, DISCOVER), (57, b"\xff\0"), (55, b"\1\3\6")), flags=0x8000)
DHCLIENT = Capture("dhclient", ((53, DISCOVER), (12, b"client"), (55, b"\1\x1c\2\3\x0f\6\x77\x0c\x2c\x2f\x1a\x79\x2a")))
UDHCPC = Capture("udhcpc", ((53, DISCOVER), (57, b"\2\x40"), (55, b"\1\3\6\x0c\x0f\x1c\x2a"), (60, b"udhcp 1.35.0")))
DHCPCD = Capture(
    "dhcpcd", ((50, b"\x0aM\0\xbc"), (53, REQUEST), (57, b"\5\xc0"), (60, b"dhcpcd-9.4.1:Linux-6.1:x86_64"))
)

CLIENTS = [
    IPXE_ROM,
    SNPONLY,
    IPXE_BOOT_ITEM,
    *EDK2,
    OVMF_HTTP,
    U_BOOT,
    u_boot(21, b"U-Boot.armv7"),
    u_boot(None, b"U-Boot"),
    SLOF,
    S390X_REQUEST,
    SYSLINUX_EFI,
    DHCLIENT,
    UDHCPC,
    DHCPCD,
]
each_client = pytest.mark.parametrize("capture", CLIENTS, ids=lambda capture: capture.name)


@each_client
def test_every_field_and_option_of_the_message_is_read(capture: Capture) -> None:
    if capture.length is not None:
        assert len(capture.data) == capture.length
    message = parse(capture.data)

    assert list(message.options.items()) == list(capture.options)
    assert (message.op, message.mac, message.xid) == (1, "52:54:00:12:34:56", capture.xid)
    assert (message.flags, message.secs) == (capture.flags, capture.secs)


@each_client
def test_the_message_survives_packing(capture: Capture) -> None:
    message = parse(capture.data)

    assert parse(pack(message)) == message


@each_client
def test_padding_to_the_bootp_size_does_not_change_the_message(capture: Capture) -> None:
    assert parse(capture.data.ljust(300, b"\0")) == parse(capture.data)


@each_client
def test_the_complete_options_of_a_truncated_message_are_read(capture: Capture) -> None:
    ends: list[tuple[int, dict[int, bytes]]] = [(240, {})]
    for code, value in capture.options:
        last_end, earlier = ends[-1]
        ends.append((last_end + 2 + len(value), {**earlier, code: value}))
    for length in range(236, len(capture.data)):
        complete = [options for end, options in ends if end <= length]
        assert parse(capture.data[:length]).options == (complete[-1] if complete else {})


def option(capture: Capture, code: int) -> bytes:
    return parse(capture.data).options[code]


def test_ipxe_rom() -> None:
    message = parse(IPXE_ROM.data)

    assert message.message_type is MessageType.DISCOVER
    assert codec.user_classes(message.options[77]) == (b"iPXE",)
    assert codec.text(message.options[60]) == "PXEClient:Arch:00000:UNDI:002001"
    assert codec.network_interface(message.options[94]) == (1, 2, 1)
    features = codec.ipxe(message.options[175])
    assert features[codec.IPXESuboption.BUS_ID] == bytes.fromhex("01 8086 100e")
    assert features[codec.IPXESuboption.VERSION] == b"\1\0\0"
    assert features[codec.IPXESuboption.HTTP] == b"\1"
    assert codec.IPXESuboption.EFI not in features


@pytest.mark.parametrize("capture", [IPXE_ROM, SNPONLY, *EDK2, OVMF_HTTP], ids=lambda capture: capture.name)
def test_the_uuid_is_what_the_operator_gave_to_qemu(capture: Capture) -> None:
    assert codec.machine_uuid(option(capture, 97)) == UUID


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        (IPXE_ROM, "x86-bios"),
        (SNPONLY, "x86_64-uefi"),
        (OVMF, "x86_64-uefi"),
        (edk2(6), "x86-uefi"),
        (edk2(10), "arm32-uefi"),
        (edk2(11), "arm64-uefi"),
        (OVMF_HTTP, "x86_64-uefi-http"),
        (U_BOOT, "arm64-uboot"),
        (S390X_REQUEST, "s390"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_architecture(capture: Capture, name: str) -> None:
    assert [architecture_name(code) for code in codec.architectures(option(capture, 93))] == [name]


def test_ipxe_names_its_boot_item_with_xid_0() -> None:
    message: Message = parse(IPXE_BOOT_ITEM.data)

    assert (message.xid, message.ciaddr) == (0, "10.77.0.188")
    assert parse_vendor_options(message.options[43]).boot_item == BootItem(0x8000, 0)


def test_a_request_may_put_its_type_second() -> None:
    assert parse(DHCPCD.data).message_type is MessageType.REQUEST
