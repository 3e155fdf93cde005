"""Who a DHCPv6 client is: which hardware, which kind of program."""

from collections.abc import Callable, Sequence
from socket import AF_INET6, inet_pton

from bootfw.errors import WireError
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import Message, Relay
from bootfw.wire.options6 import Option

ETHERNET = 1
_BOOT_CLASSES = (b"PXEClient", b"HTTPClient", b"U-Boot")


def hardware_of(
    message: Message, relays: Sequence[Relay], source: str, neighbour: Callable[[], str] = lambda: ""
) -> str:
    """The MAC of the interface that *message* left by, lower-case with colons; "" when nothing tells it.

    The DUID comes last: it may be made of another card of the machine, and a disk image takes it along.

    :param relays: as parse() gives them.
    :param source: where the datagram came from.
    :param neighbour: asks the kernel whose *source* is; only for clients on our wires.
    """
    if relays:
        # The innermost one that tells (RFC 6939); a switch in between may tell what a router can't see.
        for relay in reversed(relays):
            told = _ethernet(relay.first(Option.CLIENT_LINK_LAYER_ADDRESS))
            if told:
                return told
        source = relays[-1].peer
    found = _of_interface_id(source) or ("" if relays else neighbour())
    if found:
        return found
    kind, hardware = codec.duid_hardware(message.first(Option.CLIENT_ID) or b"")
    return hardware.hex(":") if kind == ETHERNET and len(hardware) == 6 else ""


def is_firmware(message: Message) -> bool:
    """It is boot firmware or a boot program, and another DUID will follow."""
    return (
        message.first(Option.CLIENT_ARCHITECTURE) is not None
        or vendor_class(message).startswith(_BOOT_CLASSES)
        or b"iPXE" in user_classes(message)
    )


def vendor_class(message: Message) -> bytes:
    """The first of the vendor classes; b"" when there is none. Whose they are does not matter: all say 343, Intel's."""
    try:
        _, classes = codec.vendor_class(message.first(Option.VENDOR_CLASS) or b"")
    except WireError:
        return b""
    return classes[0] if classes else b""


def user_classes(message: Message) -> tuple[bytes, ...]:
    """Those that it tells."""
    raw = message.first(Option.USER_CLASS) or b""
    try:
        return codec.strings(raw)
    except WireError:
        return (raw,)


def _ethernet(raw: bytes | None) -> str:
    try:
        kind, hardware = codec.link_layer_address(raw or b"")
    except WireError:
        return ""
    return hardware.hex(":") if kind == ETHERNET and len(hardware) == 6 else ""


def _of_interface_id(address: str) -> str:
    """The MAC that a link-local address was made of (RFC 4291 appendix A), as all firmware does."""
    try:
        packed = inet_pton(AF_INET6, address.partition("%")[0])
    except OSError:
        return ""
    if packed[:8] != b"\xfe\x80" + bytes(6) or packed[11:13] != b"\xff\xfe":
        return ""
    return (bytes((packed[8] ^ 2,)) + packed[9:11] + packed[13:]).hex(":")
