"""The result of an address server for one message: an answer to send, or the reason why there is no reply."""

import enum
from collections.abc import Mapping

from attrs import define, field, frozen

from bootfw.dhcp.subnet6 import Subnet6
from bootfw.lease import Lease, Reservation
from bootfw.wire import dhcp4, dhcp6
from bootfw.wire.dhcp6 import Relay
from bootfw.wire.options6 import Options, Values


@frozen
class Arrival:
    """The address that a DHCPv4 message was sent to, and our addresses on its link."""

    server: str
    """Our address on that link, or the one that a relay sent it to: the server identifier of the reply."""
    unicast: bool = False
    """The message was sent to our address, not by broadcast."""
    addresses: tuple[str, ...] = ()
    """All our addresses on that link, if there are several and the message was sent by broadcast; else empty."""


@frozen
class Arrival6:
    """Our addresses on the link of a DHCPv6 message, and the relays that forwarded it."""

    addresses: tuple[str, ...]
    """Our addresses on that link."""
    relays: tuple[Relay, ...] = ()
    mac: str = ""
    """The client's MAC address; see client_mac()."""
    unicast: bool = False
    """The message was sent to one of our addresses, not by multicast."""
    link: object = None
    """Key of the client's link for the rate limit: (the interface or the relay, the relay's port or None)."""


class NoReplyReason(enum.Enum):
    """The reason why there is no reply, in words that an operator reads in the log."""

    NO_SUBNET = "no subnet is configured for its link"
    EXHAUSTED = "the pool has no address left"
    LIMITED = "too many new clients at once"
    OTHER_SERVER = "it took the offer of another server"
    UNKNOWN = "its address is not known here, and this server is not authoritative"
    UNKNOWN_CLIENT = "only known clients are given an address there, and nothing is reserved for it"
    NO_POOL = "the addresses there are for other client classes"
    UNRESERVED = "BOOTP, and no address is reserved for it"
    DECLINED = "it declined the address: another machine uses it"
    RELEASED = "it gave the address back"
    MALFORMED = "the message is malformed"
    NOT_FOR_SERVER = "the message is not for a server"


@frozen
class NoReply:
    """The server sends no reply."""

    reason: NoReplyReason
    detail: str = ""
    """EXHAUSTED, LIMITED, UNKNOWN_CLIENT and NO_POOL: the network; OTHER_SERVER: the address of that server; DECLINED
    and RELEASED: the declined or released address; others: more for the operator, or ""."""
    commit: tuple[Lease, ...] = ()
    """Leases to store; no reply waits for them."""


@define(eq=False)
class Answer:
    """A DHCPv4 server's decision to reply. :func:`bootfw.dhcp.reply.server_reply` builds the message."""

    kind: dhcp4.MessageType | None
    """OFFER, ACK or NAK; None: a BOOTP reply."""
    server: str
    """Our address, for siaddr: the next server."""
    identifier: str = ""
    """The server identifier (option 54): our address, or the one that its relay requires; "" for BOOTP."""
    address: str = ""
    """yiaddr; "" in a NAK and in the ACK of an INFORM."""
    options: Mapping[int, bytes] = field(factory=dict)
    """Code to bytes: mask, lease time and the configured options, the most important first. The message type, the
    server identifier and echoed options are not in it."""
    commit: tuple[Lease, ...] = ()
    """Leases that must be durable before the reply is sent. For an ACK and a BOOTP reply the first one is the
    client's."""
    new: bool = False
    """The client did not have this address before; false for a renewal."""
    probe: bool = False
    """Another machine may use the address: probe it before this OFFER leaves, then call
    :meth:`~bootfw.dhcp.server.AddressServer.probe_finished`. A reply to the probe by the client itself does not
    count."""
    reservation: Reservation | None = None
    message: str = ""
    """The text of a NAK (option 56), for the client and the operator."""


@define(eq=False)
class Answer6:
    """A DHCPv6 server's decision to reply. :func:`bootfw.dhcp.reply6.server_reply6` builds the message."""

    kind: dhcp6.MessageType
    options: Options
    """Options of the reply in their order, without the identifiers of client and server."""
    configured: Values = field(factory=dict)
    """The configured options that the client requests; those that there is no room for are left out."""
    commit: tuple[Lease, ...] = ()
    """Leases that must be durable before the reply is sent."""
    address: str = ""
    """The first address that the client is given or offered; "": none."""
    granted: tuple[Lease, ...] = ()
    """Leases of *commit* that the client did not have before."""
    subnet: Subnet6 | None = None
    """The client's subnet; None: it is not known or not needed."""
    reason: NoReplyReason | None = None
    """EXHAUSTED, UNKNOWN_CLIENT, NO_POOL, RELEASED or DECLINED, to report; *detail* is the network or the address."""
    detail: str = ""
