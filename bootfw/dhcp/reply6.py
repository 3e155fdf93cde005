"""DHCPv6 replies of a proxy and of a server, and how they go back."""

from collections.abc import Iterable, Sequence

from bootfw.dhcp.answer import Answer6
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp6 import CLIENT_PORT, LARGEST, REPLY_RATIO, Message, MessageType, Relay
from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import Option, Options, code_of, vendor_class_bytes

INTEL = 343
"""The enterprise number that firmware writes and wants in option 16."""

_TAKE_ME = b"\xff"
"""The highest preference: a client waits for no other server (RFC 8415 section 18.2.1)."""

_OF_BOOTING = frozenset((Option.VENDOR_CLASS, Option.BOOTFILE_URL, Option.BOOTFILE_PARAMETERS))

_LINK_LOCAL = frozenset(("fe8", "fe9", "fea", "feb"))

_RELAY_SIZE = 34 + 4
"""Bytes of a relay's header, and of the header of the option that holds the message."""


def proxy_reply6(message: Message, request: BootRequest, file: BootFile, duid: bytes) -> Message:
    """The reply of a proxy: no address, but where the boot file is.

    :param request: what classify6() made of *message*.
    :param file: as adapt() gave it.
    :param duid: ours.
    """
    solicit = message.kind is MessageType.SOLICIT
    options = [*identifiers(message, duid)]
    if solicit and not request.http:
        # EDK2 takes this for a proxy's offer (UefiPxeBcDxe/PxeBcDhcp6.c) and goes on at port 4011 of the URL's host.
        options.append((Option.VENDOR_CLASS, vendor_class_bytes(INTEL, [b"PXEClient"])))
    options += boot_options(request, file)
    return Message(MessageType.ADVERTISE if solicit else MessageType.REPLY, message.xid, tuple(options))


def server_reply6(
    message: Message,
    answer: Answer6,
    duid: bytes,
    request: BootRequest | None,
    file: BootFile | None,
    relays: Sequence[Relay] = (),
    limit: int = LARGEST,
) -> Message:
    """The reply of a server that gives addresses. Configured options that there is no room for are left out.

    :param answer: what AddressServer6 made of *message*.
    :param duid: ours.
    :param request: what classify6() made of *message*; None: the client does not boot.
    :param file: as adapt() gave it; None: the reply names none.
    :param relays: that *message* came by.
    :param limit: bytes that the datagram should have at most, with what the relays get back.
    """
    head, tail = [*identifiers(message, duid), *answer.options], list[tuple[int, bytes]]()
    configured = [(code_of(key), value) for key, value in answer.configured.items()]
    if request is not None and file is not None:
        tail += boot_options(request, file)
        # What an operator has for other devices there would make two files of one.
        configured = [option for option in configured if option[0] not in _OF_BOOTING]
        if answer.kind is MessageType.ADVERTISE and answer.address and not request.may_be_system:
            # Else the firmware waits for seconds, and then may take the address of a server that names no file.
            tail.append((int(Option.PREFERENCE), _TAKE_ME))
    room = limit - 4 - sum(_RELAY_SIZE + _size(relay.options) for relay in relays_back(relays))
    room -= _size((*head, *tail))
    fitting = list[tuple[int, bytes]]()
    for option in configured:
        size = _size((option,))
        if size <= room:
            room -= size
            fitting.append(option)
    return Message(answer.kind, message.xid, (*head, *fitting, *tail))


def reply_limit(size: int, source: str) -> int:
    """Bytes that the reply to a message should have at most.

    No router forwards a link-local address, so a reply to one stays on the link of its sender. Clients send from no
    other (RFC 8415 section 17.1); a host elsewhere can only be a victim by another one.

    :param size: of the datagram that the message came in.
    :param source: the address that it came from, of the client or the last relay.
    """
    return LARGEST if is_link_local(source) else min(LARGEST, REPLY_RATIO * size)


def is_link_local(address: str) -> bool:
    """Whether *address* is one of fe80::/10."""
    return address[:3].lower() in _LINK_LOCAL and address[3:4] != ":"


def _size(options: Options) -> int:
    return sum(4 + len(value) for _, value in options)


def identifiers(message: Message, duid: bytes) -> Options:
    """The identifiers of server and client. An INFORMATION-REQUEST may have no client identifier (RFC 8415 section
    18.2.6)."""
    client = message.first(Option.CLIENT_ID)
    ours = (int(Option.SERVER_ID), duid)
    return (ours,) if client is None else ((int(Option.CLIENT_ID), client), ours)


def boot_options(request: BootRequest, file: BootFile) -> Options:
    """The options that name the boot file. Old iPXE uses them without having requested them (option 6).

    Option 60 is left out: EDK2 gives up when its first parameter is not a number.
    """
    url = (int(Option.BOOTFILE_URL), text_bytes(file.name))
    if not request.http:
        return (url,)
    # EDK2 takes no other answer for one of HTTP boot (HttpBootDxe/HttpBootDhcp6.c).
    return ((int(Option.VENDOR_CLASS), vendor_class_bytes(INTEL, [b"HTTPClient"])), url)


def relays_back(relays: Iterable[Relay]) -> tuple[Relay, ...]:
    """The relays of a request as they stand in the reply (RFC 8415 section 19.3): with the options that they put there,
    which they may want back, but for the client's own address (RFC 6939)."""
    return tuple(
        Relay(
            relay.hops,
            relay.link,
            relay.peer,
            tuple(option for option in relay.options if option[0] != Option.CLIENT_LINK_LAYER_ADDRESS),
        )
        for relay in relays
    )


def answer_port(relays: Sequence[Relay], source_port: int, *, server_port: int, client_port: int = CLIENT_PORT) -> int:
    """The UDP port that the reply goes to, at the address that the message came from."""
    if not relays:
        return client_port
    return source_port if relays[0].first(Option.RELAY_SOURCE_PORT) is not None else server_port  # RFC 8357
