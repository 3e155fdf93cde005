"""The DHCP messages of a simulated machine, as its firmware would send them."""

from attrs import frozen

from bootfw.storm.program import Program
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREQUEST, BROADCAST_FLAG, LARGEST_MAX_SIZE, UNSPECIFIED, Message, MessageType, pack
from bootfw.wire.options import Option, address_bytes, machine_uuid_bytes, text_bytes, uint8_bytes, uint16_bytes


@frozen
class Identity:
    """The identifiers of a machine."""

    mac: bytes
    uuid: str
    """SMBIOS text form, lower-case."""


def discover(program: Program, identity: Identity, xid: int, secs: int) -> bytes:
    """Return a DISCOVER."""
    return _packed(program, identity, xid, secs, MessageType.DISCOVER, {})


def request(program: Program, identity: Identity, xid: int, secs: int, address: str, server: str) -> bytes:
    """Return the REQUEST that accepts the offer of *address* by *server*."""
    chosen: dict[int, bytes] = {
        Option.REQUESTED_IP_ADDRESS: address_bytes(address),
        Option.SERVER_IDENTIFIER: address_bytes(server),
    }
    return _packed(program, identity, xid, secs, MessageType.REQUEST, chosen)


def boot_server_request(
    program: Program, identity: Identity, xid: int, address: str, item: pxe.BootItem | None = None
) -> bytes:
    """Return the REQUEST to port 4011 for a boot file (PXE specification 2.1), of a machine that has *address*.

    :param item: of the menu; None: there was no menu.
    """
    chosen: dict[int, bytes] = {}
    if item is not None:
        chosen[Option.VENDOR_SPECIFIC] = pxe.pack(pxe.VendorOptions(boot_item=item))
    return _packed(program, identity, xid, 0, MessageType.REQUEST, chosen, ciaddr=address, flags=0)


def _packed(
    program: Program,
    identity: Identity,
    xid: int,
    secs: int,
    kind: MessageType,
    more: dict[int, bytes],
    ciaddr: str = UNSPECIFIED,
    flags: int | None = None,
) -> bytes:
    options: dict[int, bytes] = {Option.MESSAGE_TYPE: uint8_bytes(kind), **more}
    if program.max_message_size is not None:
        options[Option.MAXIMUM_MESSAGE_SIZE] = uint16_bytes(program.max_message_size)
    if program.requested:
        options[Option.PARAMETER_REQUEST_LIST] = bytes(program.requested)
    if program.has_uuid:
        options[Option.CLIENT_MACHINE_IDENTIFIER] = machine_uuid_bytes(identity.uuid)
    if program.undi is not None:
        options[Option.CLIENT_NETWORK_INTERFACE] = bytes(program.undi)
    if program.architecture is not None:
        options[Option.CLIENT_SYSTEM_ARCHITECTURE] = uint16_bytes(program.architecture)
    if program.user_class:
        options[Option.USER_CLASS] = text_bytes(program.user_class)
    if program.vendor_class:
        options[Option.VENDOR_CLASS_IDENTIFIER] = text_bytes(program.vendor_class)
    message = Message(
        op=BOOTREQUEST,
        xid=xid,
        secs=secs & 0xFFFF,
        flags=(BROADCAST_FLAG if program.broadcast else 0) if flags is None else flags,
        ciaddr=ciaddr,
        chaddr=identity.mac,
        options=options,
    )
    return pack(message, LARGEST_MAX_SIZE)
