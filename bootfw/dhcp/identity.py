"""Identify a DHCP client: the key of its lease, its MAC address, and whether it is boot firmware."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from socket import AF_INET6, inet_pton

from attrs import define

from bootfw.errors import WireError
from bootfw.wire import dhcp4, dhcp6, options6
from bootfw.wire import options as options4
from bootfw.wire.dhcp4 import ETHERNET
from bootfw.wire.dhcp6 import Relay
from bootfw.wire.options import Option, RelaySuboption
from bootfw.wire.options6 import Option as Option6

_BOOT_CLASSES = (b"PXEClient", b"HTTPClient", b"U-Boot")
"""Prefixes of the vendor class of boot firmware and boot programs."""
_IPXE_CLASS = b"iPXE"

_BY_HARDWARE, _BY_CLIENT_ID = b"h", b"i"

# An attribute of an enum costs as much as three look-ups in a dictionary, and this runs for every message.
_CLIENT_ID = Option.CLIENT_IDENTIFIER
_MACHINE_ID = Option.CLIENT_MACHINE_IDENTIFIER
_ARCHITECTURE = Option.CLIENT_SYSTEM_ARCHITECTURE
_VENDOR_CLASS = Option.VENDOR_CLASS_IDENTIFIER
_USER_CLASS = Option.USER_CLASS
_IPXE = Option.IPXE_ENCAPSULATED
_CIRCUIT_ID = RelaySuboption.CIRCUIT_ID

# DHCPv4


@define(eq=False)
class Client:
    """The sender of a DHCPv4 message."""

    key: bytes
    """Key of its lease: the same in ROM, boot program and operating system, which send different client identifiers."""
    mac: str
    client_id: bytes
    machine: bytes
    """Option 97 as sent."""
    circuit_id: bytes
    """Option 82 sub-option 1, only when a relay is in the way."""
    classes: Sequence[object] = ()
    """Those of its client classes that have pools."""

    @property
    def uuid(self) -> str:
        """Option 97 in SMBIOS text form; "" when absent or malformed."""
        return machine_uuid(self.machine)


def identify(message: dhcp4.Message, agent: Mapping[int, bytes], by_client_id: bool = False) -> Client | None:
    """Return the sender of *message*; None: it sends neither a hardware address nor option 61.

    A client is a network interface: ROM, iPXE and operating system send different client identifiers (option 61), and
    must get the same address. InfiniBand sends no hardware address, so option 61 identifies it (RFC 4390).

    :param agent: sub-options of the relay's option 82.
    :param by_client_id: prefer option 61 to the hardware address, as RFC 2131 section 4.2 requires.
    """
    options = message.options
    client_id = options.get(_CLIENT_ID, b"")
    chaddr = message.chaddr
    if chaddr.strip(b"\0") and not (by_client_id and client_id):
        key = _BY_HARDWARE + bytes((message.htype,)) + chaddr
    elif client_id:
        key = _BY_CLIENT_ID + client_id
    else:
        return None
    machine = options.get(_MACHINE_ID, b"")
    return Client(key, chaddr.hex(":"), client_id, machine, agent.get(_CIRCUIT_ID, b"") if agent else b"")


def is_firmware(message: dhcp4.Message) -> bool:
    """Return whether the sender is boot firmware or a boot program: it uses its address for minutes only."""
    options = message.options
    return (
        _ARCHITECTURE in options
        or _IPXE in options
        or options.get(_VENDOR_CLASS, b"").startswith(_BOOT_CLASSES)
        or options.get(_USER_CLASS) == _IPXE_CLASS
    )


@lru_cache(1024)
def machine_uuid(raw: bytes) -> str:
    """Option 97 in SMBIOS text form; "" when absent or malformed. Cached: a client sends it in every message."""
    try:
        return options4.machine_uuid(raw)
    except WireError:
        return ""


# DHCPv6


def client_mac(
    message: dhcp6.Message, relays: Sequence[Relay], source: str, neighbour: Callable[[], str] = lambda: ""
) -> str:
    """Return the MAC address of the interface that sent *message*, lower-case with colons; "" if it is unknown.

    The DUID is the last resort: it may contain the MAC address of another card, or be copied with a disk image.

    :param relays: the relays that parse() returned.
    :param source: the source address of the datagram.
    :param neighbour: looks up *source* in the kernel's neighbour table; called for clients on our links only.
    """
    if relays:
        # The innermost relay that names it (RFC 6939); a switch in between may know what a router does not see.
        for relay in reversed(relays):
            mac = _ethernet(relay.first(Option6.CLIENT_LINK_LAYER_ADDRESS))
            if mac:
                return mac
        source = relays[-1].peer
    found = _of_interface_id(source) or ("" if relays else neighbour())
    if found:
        return found
    kind, hardware = options6.duid_hardware(message.first(Option6.CLIENT_ID) or b"")
    return hardware.hex(":") if kind == ETHERNET and len(hardware) == 6 else ""


def is_firmware6(message: dhcp6.Message) -> bool:
    """Return whether the sender is boot firmware or a boot program: the system will use another DUID."""
    return (
        message.first(Option6.CLIENT_ARCHITECTURE) is not None
        or vendor_class6(message).startswith(_BOOT_CLASSES)
        or _IPXE_CLASS in user_classes6(message)
    )


def vendor_class6(message: dhcp6.Message) -> bytes:
    """Return the first vendor class; b"" if there is none. The enterprise number is ignored: all firmware sends 343,
    Intel's."""
    try:
        _, classes = options6.vendor_class(message.first(Option6.VENDOR_CLASS) or b"")
    except WireError:
        return b""
    return classes[0] if classes else b""


def user_classes6(message: dhcp6.Message) -> tuple[bytes, ...]:
    """Return the user classes; a malformed option counts as one class."""
    raw = message.first(Option6.USER_CLASS) or b""
    try:
        return options6.strings(raw)
    except WireError:
        return (raw,)


def _ethernet(raw: bytes | None) -> str:
    try:
        kind, hardware = options6.link_layer_address(raw or b"")
    except WireError:
        return ""
    return hardware.hex(":") if kind == ETHERNET and len(hardware) == 6 else ""


def _of_interface_id(address: str) -> str:
    """Return the MAC address in the interface identifier of a link-local address (RFC 4291 appendix A)."""
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except OSError:
        return ""
    if packed[:8] != b"\xfe\x80" + bytes(6) or packed[11:13] != b"\xff\xfe":
        return ""
    return (bytes((packed[8] ^ 2,)) + packed[9:11] + packed[13:]).hex(":")
