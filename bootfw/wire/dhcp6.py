"""DHCPv6 messages (RFC 8415 sections 8 and 9), and the relay messages around them.

How :func:`parse` treats malformed datagrams; "refused" is a WireError:

============================================  ==================================================================
fewer than 4 bytes, of a relay's 34          refused
more than 4096 bytes                          refused: no client sends it, and what it holds may be remembered
a message type that is not of RFC 8415        refused
an option that runs past the end              absent; those before it count
an option that comes twice                    kept; readers take the first, as identity associations may repeat
a relay's message without a message in it     refused
a relay's message to the server in one to a   refused
client, or the other way round
more than 32 relays                           refused: RFC 8415 has 8, other servers allow 32
============================================  ==================================================================
"""

import enum
from collections.abc import Sequence
from socket import AF_INET6, inet_ntop

from attrs import frozen

from bootfw.errors import WireError
from bootfw.wire.options6 import Option, Options, address_bytes, first, leading_options, options_bytes

CLIENT_PORT = 546
SERVER_PORT = 547
ALL_AGENTS = "ff02::1:2"
"""The multicast address that clients send to (RFC 8415 section 7.1)."""
ALL_SERVERS = "ff05::1:3"
"""The multicast address that relays send to when they know no server's address."""

UNSPECIFIED = "::"
"""No address (RFC 4291 section 2.5.2)."""

MOST_RELAYS = 32

LARGEST = 1452
"""Bytes of message that one Ethernet frame holds. EDK2 ignores what is longer than 1472."""

LARGEST_ACCEPTED = 4096
"""Bytes of the longest message that is parsed, with those of its relays."""

REPLY_RATIO = 3
"""Bytes of reply for each byte of a request, at most, where the sender of the request may be forged."""

_HEAD = 4
_RELAY_HEAD = 34


class MessageType(enum.IntEnum):
    """The first byte (RFC 8415 section 7.3)."""

    SOLICIT = 1
    ADVERTISE = 2
    REQUEST = 3
    CONFIRM = 4
    RENEW = 5
    REBIND = 6
    REPLY = 7
    RELEASE = 8
    DECLINE = 9
    RECONFIGURE = 10
    INFORMATION_REQUEST = 11
    RELAY_FORWARD = 12
    RELAY_REPLY = 13


_TYPES = {int(kind): kind for kind in MessageType}
_RELAYED = (MessageType.RELAY_FORWARD, MessageType.RELAY_REPLY)
_RELAYED_TYPES = tuple(bytes((kind,)) for kind in _RELAYED)


@frozen
class Message:
    """A message between client and server."""

    kind: MessageType
    xid: int
    """24 bits."""
    options: Options = ()

    def first(self, code: int) -> bytes | None:
        """Return the bytes of the first option with that code; None: there is none."""
        return first(self.options, code)

    def every(self, code: int) -> list[bytes]:
        """Return the bytes of each option with that code."""
        return [value for found, value in self.options if found == code]


@frozen
class Relay:
    """The header and options that one relay has put around a message."""

    hops: int
    link: str
    """An address on the client's link; "::" when the relay does not name it (RFC 6221)."""
    peer: str
    """The address that sent it to the relay: of the client, or of the relay before."""
    options: Options = ()
    """Without the message itself."""

    def first(self, code: int) -> bytes | None:
        """Return the bytes of the first option with that code; None: there is none."""
        return first(self.options, code)


def parse(data: bytes) -> tuple[Message, tuple[Relay, ...]]:
    """Parse a datagram: return the message, of client or server, and the relays that forwarded it, the last one first.

    :raise WireError: it is refused; see the table of the module.
    """
    if len(data) > LARGEST_ACCEPTED:
        raise WireError(f"{len(data)} bytes; a DHCPv6 message may have {LARGEST_ACCEPTED}")
    relays: list[Relay] = []
    outermost = data[:1]
    while data[:1] in _RELAYED_TYPES:
        if len(relays) == MOST_RELAYS:
            raise WireError(f"more than {MOST_RELAYS} relays")
        if data[:1] != outermost:
            raise WireError("a relay's message to the server in one to a client, or the other way round")
        relay, data = _relay(data)
        relays.append(relay)
    if len(data) < _HEAD:
        raise WireError(f"{len(data)} bytes are no DHCPv6 message")
    kind = _TYPES.get(data[0])
    if kind is None:
        raise WireError(f"message type {data[0]} is not known")
    return Message(kind, int.from_bytes(data[1:4], "big"), leading_options(data[_HEAD:])), tuple(relays)


def _relay(data: bytes) -> tuple[Relay, bytes]:
    if len(data) < _RELAY_HEAD:
        raise WireError(f"{len(data)} bytes are no relay's message")
    link, peer = inet_ntop(AF_INET6, data[2:18]), inet_ntop(AF_INET6, data[18:34])
    options = leading_options(data[_RELAY_HEAD:])
    inside = first(options, Option.RELAY_MESSAGE)
    if inside is None:
        raise WireError("a relay's message without a message in it")
    relay_options = tuple(option for option in options if option[0] != Option.RELAY_MESSAGE)
    return Relay(data[1], link, peer, relay_options), inside


def pack(message: Message, relays: Sequence[Relay] = (), wrapped_as: MessageType = MessageType.RELAY_REPLY) -> bytes:
    """Encode *message* as a datagram.

    :param relays: on its way, the first one first, as parse() returns those of a request.
    :param wrapped_as: RELAY_FORWARD or RELAY_REPLY.
    :raise ValueError: a field is out of range: a mistake of the caller.
    """
    if message.kind in _RELAYED or wrapped_as not in _RELAYED:
        raise ValueError("a message is wrapped by relays, and is none of theirs itself")
    try:
        data = bytes((message.kind,)) + message.xid.to_bytes(3, "big") + options_bytes(message.options)
        for relay in reversed(relays):
            head = bytes((wrapped_as, relay.hops)) + address_bytes(relay.link) + address_bytes(relay.peer)
            data = head + options_bytes((*relay.options, (Option.RELAY_MESSAGE, data)))
    except OverflowError as error:
        raise ValueError(f"a field is out of range: {error}") from None
    return data
