"""The reply to a boot client: the OFFER of a proxy, or the ACK of the boot server on port 4011."""

from bootfw.dhcp.room import fit
from bootfw.dhcp.vendor import menu_option_43, option_43, pxelinux_options, server_options
from bootfw.values import BootFile, BootMenu, BootRequest, Persona
from bootfw.wire import options as codec
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREPLY, BROADCAST_FLAG, FILE_MAX, UNSPECIFIED, Message, MessageType
from bootfw.wire.options import Option


def proxy_reply(message: Message, request: BootRequest, told: BootFile | BootMenu | None, persona: Persona) -> Message:
    """The answer to *message*. It never carries an address for the client.

    :param request: what classify() made of *message*; ``server`` is set.
    :param told: as adapt() or adapt_menu() gave it; None: the client is sent on to port 4011 for it.
    :param persona: the client's.
    """
    offer = request.stage == "discover"
    server = request.server
    file = told if isinstance(told, BootFile) else None
    name = codec.text_bytes(file.name) if file else b""
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((MessageType.OFFER if offer else MessageType.ACK,)),
        # iPXE takes a proxy by its identifier and compares it on port 4011 (src/net/udp/dhcp.c).
        Option.SERVER_IDENTIFIER: codec.address_bytes(server),
        # A prefix would do for most; iPXE's menus want it exactly.
        Option.VENDOR_CLASS_IDENTIFIER: b"HTTPClient" if request.http else b"PXEClient",
    }
    if request.uuid is not None:
        options[Option.CLIENT_MACHINE_IDENTIFIER] = message.options[Option.CLIENT_MACHINE_IDENTIFIER]
    if isinstance(told, BootMenu):
        vendor_options = menu_option_43(told, server)
    else:
        vendor_options = _vendor_options(message, request, file, persona)
    if vendor_options:
        options[Option.VENDOR_SPECIFIC] = vendor_options
    if file is not None:
        options |= server_options(file.server or server, persona) | pxelinux_options(file)
        # The NUL is for old ROMs, and for EDK2, which would write it over the byte that follows the option.
        options[Option.BOOTFILE_NAME] = name + b"\0"
    for code in (Option.CLIENT_IDENTIFIER, Option.RELAY_AGENT_INFORMATION):  # RFC 6842; RFC 3046 section 2.2
        if code in message.options and (code != Option.RELAY_AGENT_INFORMATION or message.giaddr != UNSPECIFIED):
            options[code] = message.options[code]
    fit(options, message)
    return Message(
        op=BOOTREPLY,
        htype=message.htype,
        hlen=message.hlen,
        xid=message.xid,
        # Whoever has no address yet can only be reached by everybody's; a relay goes by this flag too.
        flags=message.flags | (BROADCAST_FLAG if offer else 0),
        ciaddr=UNSPECIFIED if offer else message.ciaddr,
        # iPXE loads nothing while it is zero, not even by URL; UEFI asks it for port 4011.
        siaddr=(file.server if file else None) or server,
        giaddr=message.giaddr,
        chaddr=message.chaddr,
        # iPXE reads this before option 67 and EDK2 after it, so they must not differ.
        file=name if len(name) <= FILE_MAX else b"",
        options=options,
    )


def _vendor_options(message: Message, request: BootRequest, file: BootFile | None, persona: Persona) -> bytes:
    if request.http or file is None:
        return b""
    asks_server = request.stage == "boot-server"
    item = pxe.boot_item(message.options.get(Option.VENDOR_SPECIFIC, b"")) if asks_server else None
    if item is not None:
        # Without this bit EDK2 takes such an answer for an order to boot from the disk (UefiPxeBcDxe/PxeBcBoot.c).
        return pxe.pack(pxe.VendorOptions(discovery_control=pxe.DiscoveryControl.USE_BOOT_FILE, boot_item=item))
    return option_43(persona)
