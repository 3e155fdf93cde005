"""Build DHCPv4 replies: of a proxy, of the boot server on port 4011, and of a DHCP server."""

from collections.abc import Mapping

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.optionspace import fit_options
from bootfw.values import BootFile, BootMenu, BootRequest, OfferStyle, Option43, Persona
from bootfw.wire import options as codec
from bootfw.wire import pxe
from bootfw.wire.dhcp4 import BOOTREPLY, BROADCAST_FLAG, FILE_MAX, UNSPECIFIED, Message, MessageType, reply_size
from bootfw.wire.options import IPXESuboption, Option
from bootfw.wire.pxe import BootServers, DiscoveryControl, MenuItem, MenuPrompt, VendorOptions

# Firmware takes these options as part of its boot. Values that an operator configures for other devices, such as
# phones, make ROMs wait for minutes, so a reply with a boot file has none of them.
_BOOT_OPTIONS = frozenset((Option.VENDOR_SPECIFIC, Option.VENDOR_CLASS_IDENTIFIER, Option.BOOTFILE_NAME))

# Module constants: reading an attribute of an enum costs as much as three dictionary lookups, for every reply.
_CLIENT_ID, _RELAY_AGENT = Option.CLIENT_IDENTIFIER, Option.RELAY_AGENT_INFORMATION

_NO_PERSONA = Persona("", OfferStyle.FILE)

# iPXE then takes our file at once; else it waits two seconds for a proxy (src/net/udp/dhcp.c).
_NO_PROXY = codec.encapsulate({IPXESuboption.NO_PXEDHCP: b"\1"})


def proxy_reply(
    message: Message,
    request: BootRequest,
    choice: BootFile | BootMenu | None,
    persona: Persona,
    size: int | None = None,
) -> Message:
    """Build the reply of a proxy or boot server to *message*. It has no address for the client.

    :param request: the result of classify() for *message*; ``server`` is set.
    :param choice: the result of adapt() or adapt_menu(); None: the client shall request its boot file from port 4011.
    :param persona: the persona of the client.
    :param size: largest size in bytes; None: reply_size().
    """
    offer = request.phase == "discover"
    server = request.server
    file = choice if isinstance(choice, BootFile) else None
    name = codec.text_bytes(file.name) if file else b""
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((MessageType.OFFER if offer else MessageType.ACK,)),
        # iPXE recognizes a proxy by its identifier and compares it on port 4011 (src/net/udp/dhcp.c).
        Option.SERVER_IDENTIFIER: codec.address_bytes(server),
        # A prefix is enough for most clients; iPXE shows a menu only if it is exactly this.
        Option.VENDOR_CLASS_IDENTIFIER: b"HTTPClient" if request.http else b"PXEClient",
    }
    if request.uuid is not None:
        options[Option.CLIENT_MACHINE_IDENTIFIER] = message.options[Option.CLIENT_MACHINE_IDENTIFIER]
    if isinstance(choice, BootMenu):
        options[Option.VENDOR_SPECIFIC] = _menu(choice, server)
    elif file is not None and not request.http:
        vendor_options = _proxy_option_43(message, request, persona)
        if vendor_options:
            options[Option.VENDOR_SPECIFIC] = vendor_options
    if file is not None:
        options |= _file_options(file, server, persona)
        options[Option.BOOTFILE_NAME] = name + b"\0"  # see server_reply()
    return _reply(
        message,
        options,
        size,
        # A client without an address can only be reached by broadcast; a relay uses this flag too.
        flags=message.flags | (BROADCAST_FLAG if offer else 0),
        ciaddr=UNSPECIFIED if offer else message.ciaddr,
        # iPXE loads nothing while it is zero, not even by URL; UEFI sends its requests for port 4011 there.
        siaddr=(file.server if file else None) or server,
        name=name,
    )


def server_reply(
    message: Message,
    answer: Answer,
    request: BootRequest | None = None,
    choice: BootFile | BootMenu | None = None,
    persona: Persona = _NO_PERSONA,
    size: int | None = None,
) -> Message:
    """Build the reply of a server to *message*: OFFER, ACK, NAK, or a BOOTP reply.

    Options that don't fit are left out; see :func:`fit_options`.

    :param answer: the result of AddressServer.handle() for *message*.
    :param request: the result of classify() for *message*; None: the client does not boot.
    :param choice: the result of adapt() or adapt_menu(); None: the reply names no boot file.
    :param persona: the persona of the client.
    :param size: largest size in bytes; None: reply_size().
    """
    options: dict[int, bytes] = {}
    if answer.kind is not None:
        options[Option.MESSAGE_TYPE] = bytes((answer.kind,))
        options[Option.SERVER_IDENTIFIER] = codec.address_bytes(answer.identifier)
    if answer.kind is MessageType.NAK:
        options[Option.MESSAGE] = codec.text_bytes(answer.message)
        # Else a relay sends it to an address that the client does not have (RFC 2131 section 4.3.2).
        return _reply(message, options, size, flags=message.flags | BROADCAST_FLAG)
    configured: Mapping[int, bytes] = answer.options
    file, name = choice if isinstance(choice, BootFile) else None, b""
    if request is not None:
        if request.uuid is not None:
            options[Option.CLIENT_MACHINE_IDENTIFIER] = message.options[Option.CLIENT_MACHINE_IDENTIFIER]
        if choice is not None and not request.may_be_system and not _BOOT_OPTIONS.isdisjoint(configured):
            configured = {code: value for code, value in configured.items() if code not in _BOOT_OPTIONS}
        if isinstance(choice, BootMenu):
            options[Option.VENDOR_CLASS_IDENTIFIER] = b"PXEClient"
            options[Option.VENDOR_SPECIFIC] = _menu(choice, answer.server)
        if file is not None:
            name = codec.text_bytes(file.name)
            # The NUL is for old ROMs, and for EDK2, which would write it over the byte that follows the option.
            options[Option.BOOTFILE_NAME] = name + b"\0"
            # Without option 60 every firmware takes the file of a reply that has an address; with it, but without
            # option 43, EDK2 sends a request to port 4011 instead (UefiPxeBcDxe/PxeBcDhcp4.c). HTTP boot wants it.
            if request.http:
                options[Option.VENDOR_CLASS_IDENTIFIER] = b"HTTPClient"
            elif vendor_options := _OPTION_43[persona.option_43]:
                options[Option.VENDOR_CLASS_IDENTIFIER] = b"PXEClient"
                options[Option.VENDOR_SPECIFIC] = vendor_options
            options |= _file_options(file, answer.server, persona)
        if request.ipxe and choice is not None and not request.http:
            options[Option.IPXE_ENCAPSULATED] = _NO_PROXY
    return _reply(
        message,
        options,
        size,
        configured,
        flags=message.flags,
        ciaddr=UNSPECIFIED if answer.kind is MessageType.OFFER else message.ciaddr,
        yiaddr=answer.address or UNSPECIFIED,
        # GRUB loads from the server that stands here beside its address; iPXE loads nothing while it is zero.
        siaddr=(file.server if file else None) or answer.server,
        name=name,
    )


# Shared by both


def _reply(
    message: Message,
    options: dict[int, bytes],
    size: int | None,
    configured: Mapping[int, bytes] | None = None,
    *,
    flags: int,
    ciaddr: str = UNSPECIFIED,
    yiaddr: str = UNSPECIFIED,
    siaddr: str = UNSPECIFIED,
    name: bytes = b"",
) -> Message:
    """Build a reply with *options*, those that it must echo, and as many of the *configured* ones as fit."""
    requested = message.options
    if _CLIENT_ID in requested:  # RFC 6842
        options[_CLIENT_ID] = requested[_CLIENT_ID]
    if _RELAY_AGENT in requested and message.giaddr != UNSPECIFIED:  # RFC 3046 section 2.2
        options[_RELAY_AGENT] = requested[_RELAY_AGENT]
    fit_options(options, message, reply_size(message) if size is None else size, configured)
    return Message(
        op=BOOTREPLY,
        htype=message.htype,
        hlen=message.hlen,
        xid=message.xid,
        flags=flags,
        ciaddr=ciaddr,
        yiaddr=yiaddr,
        siaddr=siaddr,
        giaddr=message.giaddr,
        chaddr=message.chaddr,
        # iPXE reads this before option 67 and EDK2 after it, so they must not differ; U-Boot reads nothing else.
        file=name if len(name) <= FILE_MAX else b"",
        options=options,
    )


def _file_options(file: BootFile, server: str, persona: Persona) -> dict[int, bytes]:
    """Return the options beside the name of *file*: the TFTP server, for clients that ignore siaddr, and the options of
    PXELINUX (RFC 5071).

    :param server: the TFTP server if *file* has none.
    """
    options: dict[int, bytes] = {}
    if persona.tftp_server_options:
        server = file.server or server
        if Option.TFTP_SERVER_NAME in persona.tftp_server_options:
            options[Option.TFTP_SERVER_NAME] = codec.text_bytes(server)
        if Option.TFTP_SERVER_ADDRESS in persona.tftp_server_options:
            options[Option.TFTP_SERVER_ADDRESS] = codec.address_bytes(server)
    if file.configfile:
        options[Option.PXELINUX_CONFIG_FILE] = codec.text_bytes(file.configfile)
    if file.pathprefix:
        options[Option.PXELINUX_PATH_PREFIX] = codec.text_bytes(file.pathprefix)
    if file.reboot_seconds is not None:
        options[Option.PXELINUX_REBOOT_TIME] = codec.uint32_bytes(file.reboot_seconds)
    return options


# Option 43

_USE_BOOT_FILE = pxe.pack(VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE))


def _raspberry_pi(item: str) -> bytes:
    """Build a menu with one item and no timeout: the ROM needs a whole menu (raspberrypi/documentation issue 1686)."""
    control = DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST
    return pxe.pack(VendorOptions(control, menu=(MenuItem(0, item),), prompt=MenuPrompt(0, "PXE")))


_OPTION_43 = {
    Option43.NONE: b"",
    Option43.USE_BOOT_FILE: _USE_BOOT_FILE,
    Option43.MENU: _USE_BOOT_FILE,
    Option43.RASPBERRY_PI: _raspberry_pi("Raspberry Pi Boot"),
    Option43.RASPBERRY_PI_3: _raspberry_pi("Raspberry Pi Boot   "),
}
"""Option 43 in a reply with a boot file; b"": none."""


def _proxy_option_43(message: Message, request: BootRequest, persona: Persona) -> bytes:
    to_boot_server = request.phase == "boot-server"
    item = pxe.boot_item(message.options.get(Option.VENDOR_SPECIFIC, b"")) if to_boot_server else None
    if item is not None:
        # Without this bit EDK2 takes such a reply for an instruction to boot from the disk (UefiPxeBcDxe/PxeBcBoot.c).
        return pxe.pack(VendorOptions(discovery_control=DiscoveryControl.USE_BOOT_FILE, boot_item=item))
    return _OPTION_43[persona.option_43]


def _menu(menu: BootMenu, server: str) -> bytes:
    """Build option 43 with *menu*; the client sends the request for the selected item to *server*, port 4011."""
    files = [BootServers(item.type, (server,)) for item in menu.items if item.file is not None]
    return pxe.pack(
        VendorOptions(
            DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST,
            boot_servers=tuple(files),
            menu=tuple(MenuItem(item.type, item.description) for item in menu.items),
            prompt=MenuPrompt(menu.timeout_seconds, menu.prompt),
        )
    )
