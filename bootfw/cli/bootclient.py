"""The DHCP messages of boot firmware, for commands that act as a client.

The options are those of real firmware: EDK2 (NetworkPkg/UefiPxeBcDxe/PxeBcDhcp4.c and PxeBcDhcp6.c), iPXE
(src/net/udp/dhcp.c), U-Boot (net/bootp.c), and the PXE specification 2.1, table 2-1, for ROMs of a BIOS.
"""

from ipaddress import IPv6Address
from socket import inet_aton
from uuid import UUID

from attrs import field, frozen

from bootfw.values import PROBE_UUIDS
from bootfw.wire import dhcp6, options6
from bootfw.wire.dhcp4 import BOOTREQUEST, BROADCAST_FLAG, UNSPECIFIED, Message, MessageType
from bootfw.wire.iana import architecture_codes, architecture_name
from bootfw.wire.options import Option, RelaySuboption, encapsulate

DEFAULT_MAC = "52:54:00:00:00:01"
"""A locally administered address, so no real machine has it."""

_PXE_LIST = bytes((1, 3, 6, 12, 15, 17, 26, 43, 60, 66, 67, *range(128, 136)))
_EDK2_LIST = bytes((*range(1, 7), 12, 13, 15, 17, 18, 22, 23, 28, 40, 41, 42, 43, 50, 51, 54, 58, 59, 60, 66, 67, 97))
_IPXE_LIST = bytes((1, 3, 6, 7, 12, 15, 17, 26, 43, 60, 66, 67, 119, *range(128, 136), 175, 203))
_U_BOOT_LIST = bytes((1, 3, 6, 12, 17))

# iPXE's option 175: bus id, version, and its features, each of version 1 (src/include/ipxe/features.h).
_IPXE_FEATURES = bytes.fromhex("b1 05 01 8086 100e eb 03 010000") + b"".join(
    bytes((feature, 1, 1)) for feature in (0x17, 0x22, 0x13, 0x14, 0x11, 0x27, 0x19, 0x29, 0x10, 0x21, 0x15, 0x18)
)

_U_BOOT = {"arm64-uboot": "U-Boot.armv8", "arm32-uboot": "U-Boot.armv7"}
_UNDI = {"x86-bios": "002001"}

_INTEL = 343
"""The enterprise number in the vendor class of EDK2 (DHCPv6 option 16)."""


@frozen
class BootClient:
    """A machine that boots from the network: what it sends in its DHCP messages."""

    mac: bytes
    architecture: int | None
    """Option 93; None: it is not sent."""
    vendor_class: str
    """Option 60; "": it is not sent."""
    requested: bytes
    """Option 55."""
    uuid: UUID
    user_class: str = ""
    """Option 77 as one string; "": it is not sent."""
    ipxe: bool = False
    relay: str = ""
    """The address of the relay that forwards its messages; "": there is none."""
    broadcast: bool = field(default=True)
    """Set the broadcast flag, so that replies are broadcast."""

    def discover(self, xid: int, secs: int = 0) -> Message:
        """Return its DISCOVER.

        :param secs: the seconds field: how long the client has been trying.
        """
        return self._message(MessageType.DISCOVER, xid, {}, secs=secs)

    def request(self, xid: int, address: str, server: str) -> Message:
        """Return its REQUEST for the *address* that *server* offered."""
        more: dict[int, bytes] = {
            Option.REQUESTED_IP_ADDRESS: inet_aton(address),
            Option.SERVER_IDENTIFIER: inet_aton(server),
        }
        return self._message(MessageType.REQUEST, xid, more)

    def boot_server_request(self, xid: int, address: str, item: bytes = b"") -> Message:
        """Return its request to port 4011 of a boot server.

        :param address: the client's own address.
        :param item: option 43 with the chosen item of a boot menu.
        """
        more: dict[int, bytes] = {Option.VENDOR_SPECIFIC: item} if item else {}
        return self._message(MessageType.REQUEST, xid, more, ciaddr=address, flags=0)

    def release(self, xid: int, address: str, server: str) -> Message:
        """Return the RELEASE of its lease."""
        return Message(
            op=BOOTREQUEST,
            xid=xid,
            chaddr=self.mac,
            hlen=len(self.mac),
            ciaddr=address,
            giaddr=self.relay or UNSPECIFIED,
            options={
                Option.MESSAGE_TYPE: bytes((MessageType.RELEASE,)),
                Option.SERVER_IDENTIFIER: inet_aton(server),
                **self._identity(),
            },
        )

    def _message(
        self,
        kind: MessageType,
        xid: int,
        more: dict[int, bytes],
        *,
        ciaddr: str = UNSPECIFIED,
        flags: int | None = None,
        secs: int = 0,
    ) -> Message:
        options: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((kind,)),
            Option.MAXIMUM_MESSAGE_SIZE: b"\5\xc0",
            Option.PARAMETER_REQUEST_LIST: self.requested,
            Option.CLIENT_NETWORK_INTERFACE: b"\1\3\0",
            Option.CLIENT_MACHINE_IDENTIFIER: b"\0" + self.uuid.bytes_le,
            **self._identity(),
            **more,
        }
        if self.vendor_class:
            options[Option.VENDOR_CLASS_IDENTIFIER] = self.vendor_class.encode()
        if self.architecture is not None:
            options[Option.CLIENT_SYSTEM_ARCHITECTURE] = self.architecture.to_bytes(2, "big")
        if self.user_class:
            options[Option.USER_CLASS] = self.user_class.encode()
        if self.ipxe:
            options[Option.IPXE_ENCAPSULATED] = _IPXE_FEATURES
        if self.relay:
            options[Option.RELAY_AGENT_INFORMATION] = encapsulate({RelaySuboption.CIRCUIT_ID: b"bootfw"}, end=False)
        return Message(
            op=BOOTREQUEST,
            xid=xid,
            secs=secs,
            hops=1 if self.relay else 0,
            chaddr=self.mac,
            hlen=len(self.mac),
            flags=(BROADCAST_FLAG if self.broadcast else 0) if flags is None else flags,
            ciaddr=ciaddr,
            giaddr=self.relay or UNSPECIFIED,
            options=options,
        )

    def _identity(self) -> dict[int, bytes]:
        return {Option.CLIENT_IDENTIFIER: b"\1" + self.mac} if self.ipxe else {}

    def solicit(self, xid: int) -> dhcp6.Message:
        """Return its DHCPv6 SOLICIT, with a DUID made of its UUID (RFC 6355)."""
        options: list[tuple[int, bytes]] = [
            (options6.Option.CLIENT_ID, b"\0\4" + (self.uuid.bytes if self.ipxe else self.uuid.bytes_le)),
            (options6.Option.ELAPSED_TIME, b"\0\0"),
            (options6.Option.OPTION_REQUEST, options6.uint16s_bytes([59, 60, 23, 24])),
            (
                options6.Option.IA_NA,
                options6.identity_association_bytes(options6.IdentityAssociation(int.from_bytes(self.mac[-4:], "big"))),
            ),
        ]
        if self.architecture is not None:
            options.append((options6.Option.CLIENT_ARCHITECTURE, options6.uint16s_bytes([self.architecture])))
        if self.vendor_class:
            options.append(
                (options6.Option.VENDOR_CLASS, options6.vendor_class_bytes(_INTEL, [self.vendor_class.encode()]))
            )
        if self.user_class:
            options.append((options6.Option.USER_CLASS, options6.strings_bytes([self.user_class.encode()])))
        return dhcp6.Message(dhcp6.MessageType.SOLICIT, xid, tuple(options))

    @property
    def link_local(self) -> str:
        """Its link-local IPv6 address, computed from the MAC (RFC 4291, appendix A)."""
        first, *rest = self.mac
        interface = bytes((first ^ 2, *rest[:2], 0xFF, 0xFE, *rest[2:]))
        return str(IPv6Address(b"\xfe\x80" + bytes(6) + interface))


def machine_uuid(mac: bytes) -> UUID:
    """Return a UUID for a machine of which only the MAC is known; always the same for that MAC."""
    return UUID(PROBE_UUIDS + mac.hex())


def boot_client(
    mac: bytes,
    architecture: str,
    *,
    uuid: UUID | None = None,
    vendor_class: str | None = None,
    user_class: str | None = None,
    ipxe: bool = False,
    http: bool = False,
    relay: str = "",
) -> BootClient:
    """Return a client with the options that firmware of an architecture sends.

    :param architecture: a name of bootfw.wire.iana, a number of option 93, or "unknown": it is not sent.
    :param vendor_class: replaces the usual one.
    :param user_class: replaces the usual one.
    :param ipxe: it runs iPXE.
    :param http: it is UEFI firmware that boots by HTTP.
    :raise ValueError: the architecture is unknown.
    """
    number = _number(architecture)
    if number is not None:
        architecture = architecture_name(number)
    http = (http or architecture.endswith("-http")) and not ipxe
    name = architecture
    if http and architecture != "unknown" and not architecture.endswith("-http"):
        name = f"{architecture}-http"
    codes = architecture_codes(name) or architecture_codes(architecture)
    if not codes and architecture != "unknown":
        raise ValueError(f'"{architecture}" is no architecture')
    code = codes[0] if codes else None
    if number is not None and name == architecture:
        code = number  # a name may have several
    if vendor_class is None:
        kind = "HTTPClient" if http else "PXEClient"
        vendor_class = _U_BOOT.get(architecture) or (
            kind if code is None else f"{kind}:Arch:{code:05}:UNDI:{_UNDI.get(architecture, '003000')}"
        )
    requested = _U_BOOT_LIST if architecture in _U_BOOT else _PXE_LIST if name == "x86-bios" else _EDK2_LIST
    return BootClient(
        mac,
        code,
        vendor_class,
        _IPXE_LIST if ipxe else requested,
        uuid or machine_uuid(mac),
        user_class if user_class is not None else "iPXE" if ipxe else "",
        ipxe,
        relay,
    )


def _number(architecture: str) -> int | None:
    """Return the number that *architecture* is, if it is one of 16 bits."""
    if not (architecture.isascii() and architecture.isdecimal()) or len(architecture) > 5:
        return None
    number = int(architecture)
    return number if number <= 0xFFFF else None
