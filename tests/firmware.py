"""Messages of real clients, rebuilt from captures of Debian 12's builds under QEMU 7.2."""

from collections.abc import Mapping
from typing import Any

from attrs import evolve, frozen

from bootfw.wire.dhcp4 import BOOTREQUEST, Message, pack

MAC = bytes.fromhex("525400123456")
MAC_TEXT = "52:54:00:12:34:56"
UUID = "52420077-1234-4abc-9def-0123456789ab"
UUID_ON_THE_WIRE = bytes.fromhex("00 77004252 3412 bc4a 9def 0123456789ab")
XID = 0x12345678
DISCOVER, REQUEST, INFORM = b"\1", b"\3", b"\x08"
BOOT_ITEM = bytes.fromhex("47 04 8000 0000 ff")
"""Option 43 of iPXE at port 4011, when it follows a list of boot servers."""

_IPXE_LIST = bytes((1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, *range(128, 136), 175, 203))
_EDK2_LIST = bytes((*range(1, 7), 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97))


@frozen
class Client:
    """A DHCP client; ``options`` are those of its DISCOVER."""

    name: str
    options: dict[int, bytes]
    flags: int = 0
    chaddr: bytes = MAC

    def message(self, **header: Any) -> Message:
        """Its DISCOVER, or something else by other *header* fields."""
        fields: dict[str, Any] = {
            "op": BOOTREQUEST,
            "xid": XID,
            "chaddr": self.chaddr,
            "flags": self.flags,
            "options": self.options,
        }
        return Message(**(fields | header))

    def datagram(self, **header: Any) -> bytes:
        return pack(self.message(**header), 1472)

    def changed(self, options: Mapping[int, bytes | None]) -> "Client":
        """The same with other options; None: without that one."""
        merged = {**self.options, **options}
        return evolve(self, options={code: value for code, value in merged.items() if value is not None})


def ipxe_features(*codes: int) -> bytes:
    return bytes.fromhex("b1 05 01 8086 100e eb 03 010000") + b"".join(bytes((code, 1, 1)) for code in codes)


def _ipxe(name: str, architecture: int, undi: str, version: bytes) -> Client:
    options = {
        53: DISCOVER,
        57: b"\5\xc0",
        93: architecture.to_bytes(2, "big"),
        94: version,
        60: f"PXEClient:Arch:{architecture:05}:UNDI:{undi}".encode(),
        77: b"iPXE",
        55: _IPXE_LIST,
        175: ipxe_features(0x17, 0x22, 0x13, 0x14, 0x11, 0x27, 0x19, 0x29, 0x10, 0x21, 0x15, 0x18),
        61: b"\1" + MAC,
        97: UUID_ON_THE_WIRE,
    }
    return Client(name, options)


def edk2(architecture: int, kind: str = "PXEClient") -> Client:
    options = {
        53: DISCOVER,
        57: b"\5\xc0",
        55: _EDK2_LIST,
        97: UUID_ON_THE_WIRE,
        94: b"\1\3\0",
        93: architecture.to_bytes(2, "big"),
        60: f"{kind}:Arch:{architecture:05}:UNDI:003000".encode(),
    }
    return Client(f"EDK2 {kind} {architecture}", options, flags=0x8000)


def u_boot(architecture: int | None, vendor: bytes) -> Client:
    options = {53: DISCOVER, 57: b"\2\x40", 94: b"\1\0\0", 60: vendor, 55: b"\1\3\6\x0c\x11"}
    if architecture is not None:
        options[93] = architecture.to_bytes(2, "big")
    return Client(f"U-Boot {vendor.decode()}", options)


IPXE_ROM = _ipxe("iPXE ROM", 0, "002001", b"\1\2\1")
SNPONLY = _ipxe("iPXE snponly.efi", 7, "003010", b"\1\3\x0a")
# Not captured: a ROM of a network card's maker, which is like iPXE's without what only iPXE sends.
BIOS_ROM = evolve(IPXE_ROM.changed({77: None, 175: None, 61: b"\0" + UUID_ON_THE_WIRE[1:]}), name="BIOS ROM")
OVMF = edk2(7)
OVMF_IA32, AAVMF_32, AAVMF = edk2(6), edk2(10), edk2(11)
OVMF_HTTP, AAVMF_HTTP = edk2(16, "HTTPClient"), edk2(19, "HTTPClient")
BOOT_CLIENTS = [IPXE_ROM, SNPONLY, BIOS_ROM, OVMF, OVMF_IA32, AAVMF_32, AAVMF, OVMF_HTTP, AAVMF_HTTP]

# Not captured here. What it asks for is in Plan 9's log of its netboot (9netics, RPi 3B+); the rest is in
# raspberrypi/documentation, net.md.
PI_3_MAC = bytes.fromhex("b827eb123456")
RASPBERRY_PI_3 = Client(
    "Raspberry Pi 3",
    {
        53: DISCOVER,
        55: bytes((43, 60, 67, *range(128, 136), 66)),
        93: b"\0\0",
        94: b"\1\2\1",
        97: b"\0" + bytes.fromhex("44444444" * 4),
        60: b"PXEClient:Arch:00000:UNDI:002001",
    },
    chaddr=PI_3_MAC,
)
# eeprom-bootloader.adoc: option 97 is "RPi4", the board, four bytes of the MAC and the serial number.
PI_4_MAC = bytes.fromhex("dca6320136c2")
RASPBERRY_PI_4 = Client(
    "Raspberry Pi 4",
    {
        53: DISCOVER,
        55: bytes((1, 3, 43, 60, 66, 67, *range(128, 136))),
        60: b"PXEClient:Arch:00000:UNDI:002001",
        93: b"\0\0",
        94: b"\1\2\1",
        97: b"\0RPi4" + bytes.fromhex("1131c000 320136c2 9ffefdef"),
    },
    chaddr=PI_4_MAC,
)
# stand/libsa/bootp.c, bootp_fill_request().
FREEBSD_LOADER = Client(
    "FreeBSD loader", {53: DISCOVER, 60: b"PXEClient", 77: b"\7FreeBSD", 55: bytes((17, 12, 16, 3, 1, 26, 54))}
)
# Junos asks so in its REQUEST (vincent.bernat.ch, 2020-dhcp-ztp-juniper); Cisco's AutoInstall by RFC 5859.
JUNOS = Client("Junos", {53: DISCOVER, 55: bytes((3, 51, 1, 15, 6, 66, 67, 120, 44, 43, 150, 12, 7, 42))}, flags=0x8000)
CISCO_IOS = Client(
    "Cisco IOS",
    {
        53: DISCOVER,
        57: b"\4\x80",
        61: b"\0cisco-0011.2233.4455-Vl1",
        12: b"Switch",
        55: bytes((1, 6, 15, 44, 3, 33, 150, 43)),
    },
    flags=0x8000,
)
CISCO_TELEPHONE = Client(
    "Cisco telephone",
    {53: DISCOVER, 60: b"Cisco Systems, Inc. IP Phone CP-7960", 55: bytes((1, 66, 6, 3, 15, 150, 35))},
    flags=0x8000,
)
NETWORK_GEAR = [JUNOS, CISCO_IOS, CISCO_TELEPHONE]

U_BOOTS = [u_boot(22, b"U-Boot.armv8"), u_boot(21, b"U-Boot.armv7"), u_boot(None, b"U-Boot")]
SLOF = Client("SLOF", {53: DISCOVER, 55: b"\1\3\6\x42\x43\x5d"})
SYSLINUX_EFI = Client("syslinux.efi", {53: DISCOVER, 57: b"\xff\0", 55: b"\1\3\6"}, flags=0x8000)
DHCLIENT = Client("dhclient", {53: DISCOVER, 12: b"client", 55: b"\1\x1c\2\3\x0f\6\x77\x0c\x2c\x2f\x1a\x79\x2a"})
UDHCPC = Client("udhcpc", {53: DISCOVER, 57: b"\2\x40", 55: b"\1\3\6\x0c\x0f\x1c\x2a", 60: b"udhcp 1.35.0"})
DHCPCD = Client("dhcpcd", {53: DISCOVER, 57: b"\5\xc0", 60: b"dhcpcd-9.4.1:Linux-6.1:x86_64", 61: b"\1" + MAC})
ORDINARY_CLIENTS = [SLOF, SYSLINUX_EFI, DHCLIENT, UDHCPC, DHCPCD]


def boot_server_request(client: Client, **header: Any) -> Message:
    """The request of *client* to port 4011, with the address 10.0.0.9 that it has got."""
    options = {**client.options, 53: REQUEST}
    if client.options.get(77) == b"iPXE":
        fields = {"flags": 0x8000, "xid": XID, "options": {**options, 54: bytes((10, 0, 0, 1))}}
    else:
        fields = {"flags": 0, "xid": 0x0BADCAFE, "options": {**options, 57: b"\xff\0"}}
    return client.message(**({"ciaddr": "10.0.0.9"} | fields | header))


def ipxe_boot_item_request() -> Message:
    options = {53: REQUEST, 93: b"\0\0", 60: b"PXEClient", 77: b"iPXE", 43: BOOT_ITEM, 54: bytes((10, 0, 0, 1))}
    return IPXE_ROM.message(xid=0, flags=0x8000, ciaddr="10.0.0.9", options=options)
