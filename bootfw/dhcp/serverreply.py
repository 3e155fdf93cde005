"""The reply of a server that gives addresses: OFFER, ACK, NAK, or BOOTP's."""

from collections.abc import Mapping

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.room import fit
from bootfw.dhcp.vendor import menu_option_43, option_43, pxelinux_options, server_options
from bootfw.values import BootFile, BootMenu, BootRequest, OfferStyle, Persona
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import BOOTREPLY, BROADCAST_FLAG, FILE_MAX, UNSPECIFIED, Message, MessageType
from bootfw.wire.options import IPXESuboption, Option

# In an answer to firmware these speak of booting. What an operator has for other devices there stops ROMs for minutes.
_OF_BOOTING = frozenset((Option.VENDOR_SPECIFIC, Option.VENDOR_CLASS_IDENTIFIER, Option.BOOTFILE_NAME))

_NO_PERSONA = Persona("", OfferStyle.FILE)

# iPXE then takes our file at once; else it waits two seconds for a proxy (src/net/udp/dhcp.c).
_NO_PROXY = codec.encapsulate({IPXESuboption.NO_PXEDHCP: b"\1"})


def server_reply(
    message: Message,
    answer: Answer,
    request: BootRequest | None = None,
    told: BootFile | BootMenu | None = None,
    persona: Persona = _NO_PERSONA,
) -> Message:
    """The reply to *message*. What the client has no room for and can live without is left out; see :func:`fit`.

    :param request: what classify() made of *message*; None: the client does not boot.
    :param told: as adapt() or adapt_menu() gave it; None: the client is told of no boot file.
    :param persona: the client's.
    """
    options = _echoed(message, answer)
    if answer.kind is MessageType.NAK:
        options[Option.MESSAGE] = codec.text_bytes(answer.message)
        fit(options, message)
        # Else a relay sends it to an address that the client does not have (RFC 2131 section 4.3.2).
        return _reply(message, options, flags=message.flags | BROADCAST_FLAG)
    configured: Mapping[int, bytes] = answer.options
    file, name = told if isinstance(told, BootFile) else None, b""
    if request is not None:
        if request.uuid is not None:
            options[Option.CLIENT_MACHINE_IDENTIFIER] = message.options[Option.CLIENT_MACHINE_IDENTIFIER]
        if told is not None and not request.may_be_system:
            configured = {code: value for code, value in configured.items() if code not in _OF_BOOTING}
        if isinstance(told, BootMenu):
            options[Option.VENDOR_CLASS_IDENTIFIER] = b"PXEClient"
            options[Option.VENDOR_SPECIFIC] = menu_option_43(told, answer.server)
        if file is not None:
            name = codec.text_bytes(file.name)
            options |= _boot_options(request, name, persona)
            options |= server_options(file.server or answer.server, persona) | pxelinux_options(file)
        if request.ipxe and told is not None and not request.http:
            options[Option.IPXE_ENCAPSULATED] = _NO_PROXY
    fit(options, message, configured)
    return _reply(
        message,
        options,
        flags=message.flags,
        ciaddr=UNSPECIFIED if answer.kind is MessageType.OFFER else message.ciaddr,
        yiaddr=answer.address or UNSPECIFIED,
        # GRUB loads from whoever stands here beside its address; iPXE loads nothing while it is zero.
        siaddr=(file.server if file else None) or answer.server,
        # iPXE reads this before option 67 and EDK2 after it, so they must not differ; U-Boot reads nothing else.
        file=name if len(name) <= FILE_MAX else b"",
    )


def _echoed(message: Message, answer: Answer) -> dict[int, bytes]:
    options: dict[int, bytes] = {}
    if answer.kind is not None:
        options[Option.MESSAGE_TYPE] = bytes((answer.kind,))
        options[Option.SERVER_IDENTIFIER] = codec.address_bytes(answer.identifier)
    for code in (Option.CLIENT_IDENTIFIER, Option.RELAY_AGENT_INFORMATION):  # RFC 6842; RFC 3046 section 2.2
        if code in message.options and (code != Option.RELAY_AGENT_INFORMATION or message.giaddr != UNSPECIFIED):
            options[code] = message.options[code]
    return options


def _boot_options(request: BootRequest, name: bytes, persona: Persona) -> dict[int, bytes]:
    """What makes the client load *name*.

    Without option 60 every firmware takes the file of an answer that has an address; with it, but without option 43,
    EDK2 asks port 4011 instead (UefiPxeBcDxe/PxeBcDhcp4.c). HTTP boot wants it.
    """
    # The NUL is for old ROMs, and for EDK2, which would write it over the byte that follows the option.
    options: dict[int, bytes] = {Option.BOOTFILE_NAME: name + b"\0"}
    if request.http:
        options[Option.VENDOR_CLASS_IDENTIFIER] = b"HTTPClient"
        return options
    vendor_options = option_43(persona)
    if vendor_options:
        options[Option.VENDOR_CLASS_IDENTIFIER] = b"PXEClient"
        options[Option.VENDOR_SPECIFIC] = vendor_options
    return options


def _reply(
    message: Message,
    options: dict[int, bytes],
    *,
    flags: int,
    ciaddr: str = UNSPECIFIED,
    yiaddr: str = UNSPECIFIED,
    siaddr: str = UNSPECIFIED,
    file: bytes = b"",
) -> Message:
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
        file=file,
        options=options,
    )
