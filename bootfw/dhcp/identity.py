"""Who a DHCP client is: the key its lease is kept under, and what else it is known by."""

from collections.abc import Mapping
from functools import lru_cache

from attrs import define

from bootfw.errors import WireError
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import Message
from bootfw.wire.options import Option, RelaySuboption

_BOOT_CLASSES = (b"PXEClient", b"HTTPClient", b"U-Boot")
_BY_HARDWARE, _BY_CLIENT_ID = b"h", b"i"

# An attribute of an enum costs as much as three look-ups in a dictionary, and this runs for every message.
_CLIENT_ID = Option.CLIENT_IDENTIFIER
_MACHINE_ID = Option.CLIENT_MACHINE_IDENTIFIER
_ARCHITECTURE = Option.CLIENT_SYSTEM_ARCHITECTURE
_VENDOR_CLASS = Option.VENDOR_CLASS_IDENTIFIER
_USER_CLASS = Option.USER_CLASS
_IPXE = Option.IPXE_ENCAPSULATED
_CIRCUIT_ID = RelaySuboption.CIRCUIT_ID


@define(eq=False)
class Client:
    """The sender of a message."""

    key: bytes
    """The same through ROM, boot program and operating system, whose client identifiers differ."""
    mac: str
    client_id: bytes
    machine: bytes
    """Option 97 as sent."""
    circuit_id: bytes
    """Option 82 sub-option 1, only when a relay is in the way."""

    @property
    def uuid(self) -> str:
        """Option 97 in SMBIOS text form; "" when absent or malformed."""
        return _uuid(self.machine)


def identify(message: Message, agent: Mapping[int, bytes], by_client_id: bool = False) -> Client | None:
    """The sender of *message*; None: nothing tells it from others.

    A client is its network interface: the ROM, iPXE and the system identify themselves differently (option 61), and
    are to have one address. Hardware without an address of its own in the message is known by option 61 (RFC 4390).

    :param agent: the relay's option 82.
    :param by_client_id: go by option 61 where there is one, as RFC 2131 section 4.2 has it.
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
    return Client(key, message.mac, client_id, machine, agent.get(_CIRCUIT_ID, b"") if agent else b"")


def is_firmware(message: Message) -> bool:
    """It is boot firmware or a boot program, and will be gone soon."""
    options = message.options
    return (
        _ARCHITECTURE in options
        or _IPXE in options
        or options.get(_VENDOR_CLASS, b"").startswith(_BOOT_CLASSES)
        or options.get(_USER_CLASS) == b"iPXE"
    )


@lru_cache(1024)
def _uuid(raw: bytes) -> str:
    try:
        return codec.machine_uuid(raw)
    except WireError:
        return ""
