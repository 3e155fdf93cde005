"""Build DHCPv6 replies of a proxy and of a server, and find their size limit, relays and port."""

from collections.abc import Iterable, Sequence

from bootfw.dhcp.answer import Answer6
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp6 import CLIENT_PORT, LARGEST, REPLY_RATIO, Message, MessageType, Relay
from bootfw.wire.options import text_bytes
from bootfw.wire.options6 import Option, Options, code_of, vendor_class_bytes

INTEL = 343
"""The enterprise number in option 16 that firmware sends and requires."""

_HIGHEST_PREFERENCE = b"\xff"
"""Preference 255: the client takes this ADVERTISE at once (RFC 8415 section 18.2.1)."""

_BOOT_OPTIONS = frozenset((Option.VENDOR_CLASS, Option.BOOTFILE_URL, Option.BOOTFILE_PARAMETERS))

_LINK_LOCAL = frozenset(("fe8", "fe9", "fea", "feb"))

_RELAY_SIZE = 34 + 4
"""Bytes that a relay adds: its header, and the header of the option with the message (RFC 8415 section 9)."""


def proxy_reply6(message: Message, request: BootRequest, file: BootFile, duid: bytes) -> Message:
    """Build the reply of a proxy: it has the boot file and no address.

    :param request: the result of classify6() for *message*.
    :param file: the result of adapt().
    :param duid: the DUID of this server.
    """
    solicit = message.kind is MessageType.SOLICIT
    options = [*identifiers(message, duid)]
    if solicit and not request.http:
        # EDK2 recognizes a proxy's offer by it (UefiPxeBcDxe/PxeBcDhcp6.c), and requests the file from port 4011 of the
        # host in the URL.
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
    """Build the reply of a DHCPv6 server. Configured options that don't fit are left out.

    :param answer: the result of AddressServer6 for *message*.
    :param duid: the DUID of this server.
    :param request: the result of classify6() for *message*; None: the client does not boot.
    :param file: the result of adapt(); None: the reply names no boot file.
    :param relays: the relays that forwarded *message*.
    :param limit: largest size of the datagram in bytes, with the headers for the relays.
    """
    head, tail = [*identifiers(message, duid), *answer.options], list[tuple[int, bytes]]()
    configured = [(code_of(key), value) for key, value in answer.configured.items()]
    if request is not None and file is not None:
        tail += boot_options(request, file)
        # Otherwise the reply would have two boot files if the operator has configured one for other devices.
        configured = [option for option in configured if option[0] not in _BOOT_OPTIONS]
        if answer.kind is MessageType.ADVERTISE and answer.address and not request.may_be_system:
            # Without it firmware waits for seconds, and may then take the address of a server that names no boot file.
            tail.append((int(Option.PREFERENCE), _HIGHEST_PREFERENCE))
    room = limit - 4 - sum(_RELAY_SIZE + _size(relay.options) for relay in reply_relays(relays))
    room -= _size((*head, *tail))
    fitting = list[tuple[int, bytes]]()
    for option in configured:
        size = _size((option,))
        if size <= room:
            room -= size
            fitting.append(option)
    return Message(answer.kind, message.xid, (*head, *fitting, *tail))


def reply_limit(size: int, source: str) -> int:
    """Return the largest size in bytes of the reply to a message, so that the server does not amplify forged requests.

    Routers don't forward link-local addresses, so a reply to one stays on its link. Clients send from link-local
    addresses only (RFC 8415 section 17.1); another source address may be forged.

    :param size: bytes of the datagram that was received.
    :param source: its source address: of the client or the last relay.
    """
    return LARGEST if is_link_local(source) else min(LARGEST, REPLY_RATIO * size)


def is_link_local(address: str) -> bool:
    """Return whether *address* is in fe80::/10."""
    return address[:3].lower() in _LINK_LOCAL and address[3:4] != ":"


def _size(options: Options) -> int:
    return sum(4 + len(value) for _, value in options)


def identifiers(message: Message, duid: bytes) -> Options:
    """Return the options with the DUIDs of client and server; an INFORMATION-REQUEST may have none of its client (RFC
    8415 section 18.2.6)."""
    client = message.first(Option.CLIENT_ID)
    ours = (int(Option.SERVER_ID), duid)
    return (ours,) if client is None else ((int(Option.CLIENT_ID), client), ours)


def boot_options(request: BootRequest, file: BootFile) -> Options:
    """Return the options that name the boot file, whether requested or not: old iPXE requests none (option 6).

    Option 60 is left out: EDK2 aborts if its first parameter is not a number.
    """
    url = (int(Option.BOOTFILE_URL), text_bytes(file.name))
    if not request.http:
        return (url,)
    # EDK2 ignores a reply without it when it boots by HTTP (HttpBootDxe/HttpBootDhcp6.c).
    return ((int(Option.VENDOR_CLASS), vendor_class_bytes(INTEL, [b"HTTPClient"])), url)


def reply_relays(relays: Iterable[Relay]) -> tuple[Relay, ...]:
    """Return the relay headers of the reply (RFC 8415 section 19.3). The relays' own options are echoed, except for the
    client's link-layer address (RFC 6939), which only requests have."""
    return tuple(
        Relay(
            relay.hops,
            relay.link,
            relay.peer,
            tuple(option for option in relay.options if option[0] != Option.CLIENT_LINK_LAYER_ADDRESS),
        )
        for relay in relays
    )


def reply_port(relays: Sequence[Relay], source_port: int, *, server_port: int, client_port: int = CLIENT_PORT) -> int:
    """Return the UDP port that the reply is sent to, at the source address of the message."""
    if not relays:
        return client_port
    return source_port if relays[0].first(Option.RELAY_SOURCE_PORT) is not None else server_port  # RFC 8357
