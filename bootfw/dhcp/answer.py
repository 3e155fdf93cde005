"""What an AddressServer decides about a message: its answer, or why there is no reply."""

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
    """How a DHCPv4 message reached us."""

    server: str
    """Our address on that link, or the one that a relay sent it to: the server identifier of the reply."""
    unicast: bool = False
    """It was sent to our address, and not by broadcast."""
    addresses: tuple[str, ...] = ()
    """All of ours on that link, when there are several and it was sent by broadcast."""


@frozen
class Arrival6:
    """How a DHCPv6 message reached us."""

    addresses: tuple[str, ...]
    """Ours on that link."""
    relays: tuple[Relay, ...] = ()
    mac: str = ""
    """Of hardware_of()."""
    unicast: bool = False
    """It was sent to an address of ours, and not by multicast."""
    wire: object = None
    """Identifies the interface, or the relay and its port."""


class NoReplyReason(enum.Enum):
    """Why there is no reply."""

    NO_SUBNET = "no subnet is configured for its link"
    EXHAUSTED = "the pool has no address left"
    LIMITED = "too many new clients at once"
    OTHER_SERVER = "it took the offer of another server"
    UNKNOWN = "its address is not known here, and this server is not authoritative"
    UNKNOWN_CLIENT = "only known clients are given an address there, and nothing is reserved for it"
    UNRESERVED = "BOOTP, and no address is reserved for it"
    DECLINED = "it declined the address: another machine uses it"
    RELEASED = "it gave the address back"
    MALFORMED = "the message is malformed"
    NOT_FOR_SERVER = "the message is not for a server"


@frozen
class NoReply:
    """There is no reply."""

    reason: NoReplyReason
    detail: str = ""
    """EXHAUSTED, LIMITED and UNKNOWN_CLIENT: the network; OTHER_SERVER: its address; DECLINED and RELEASED: the address
    in question; others: more for the operator, or ""."""
    commit: tuple[Lease, ...] = ()
    """To be stored; no reply waits for it."""


@define(eq=False)
class Answer:
    """A DHCPv4 server's decision to reply. :func:`bootfw.dhcp.reply.server_reply` makes the message of it."""

    kind: dhcp4.MessageType | None
    """OFFER, ACK or NAK; None: a BOOTP reply."""
    server: str
    """Our address, for siaddr: the next server."""
    identifier: str = ""
    """The server identifier (option 54): our address, or the one that its relay requires; "" for BOOTP."""
    address: str = ""
    """yiaddr; "" in a NAK and in the ACK of an INFORM."""
    options: Mapping[int, bytes] = field(factory=dict)
    """Code to bytes: mask, lease time and whatever is configured, in order of importance. Not the type, the server
    identifier, and what is only echoed."""
    commit: tuple[Lease, ...] = ()
    """Must be durable before the reply leaves; of an ACK and a BOOTP reply the first is the client's lease."""
    new: bool = False
    """The client did not have this address before; false for a renewal."""
    probe: bool = False
    """Another machine may use the address: probe it before this OFFER leaves, then call
    :meth:`~bootfw.dhcp.server.AddressServer.probed`. A reply by the client itself does not count."""
    reservation: Reservation | None = None
    message: str = ""
    """Of a NAK: for the client and the operator."""


@define(eq=False)
class Answer6:
    """A DHCPv6 server's decision to reply. :func:`bootfw.dhcp.reply6.server_reply6` makes the message of it."""

    kind: dhcp6.MessageType
    options: Options
    """In order, without the identifiers of client and server."""
    configured: Values = field(factory=dict)
    """The configured options that the client requests; those that there is no room for are left out."""
    commit: tuple[Lease, ...] = ()
    """Must be durable before the reply leaves."""
    address: str = ""
    """The first that the client is given or offered; "": none."""
    granted: tuple[Lease, ...] = ()
    """Those of *commit* that the client did not have before."""
    subnet: Subnet6 | None = None
    """The client's; None: it does not matter, or is not known."""
    reason: NoReplyReason | None = None
    """EXHAUSTED, UNKNOWN_CLIENT, RELEASED or DECLINED, to be reported; *detail* is the network or the address."""
    detail: str = ""
