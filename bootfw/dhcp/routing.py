"""Find the destination of a DHCPv4 reply (RFC 2131 section 4.1)."""

from bootfw.dhcp.answer import Answer
from bootfw.values import Address
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import BROADCAST_FLAG, ETHERNET, UNSPECIFIED, Message, MessageType
from bootfw.wire.options import Option, RelaySuboption

BROADCAST = "255.255.255.255"
# Module constants: reading an attribute of an enum costs as much as three dictionary lookups, for every reply.
_RELAY_AGENT, _RELAY_SOURCE_PORT = Option.RELAY_AGENT_INFORMATION, RelaySuboption.RELAY_SOURCE_PORT


def proxy_destination(
    message: Message, peer: Address, *, boot_server: bool = False, server_port: int = 67, client_port: int = 68
) -> Address:
    """Return the destination of a proxy's reply to *message*.

    :param peer: the source address of *message*.
    :param boot_server: *message* arrived on the boot server's port.
    :param server_port: the port of relays.
    """
    if boot_server:
        # EDK2 sends from port 4011 and iPXE from 68; each listens on that port only.
        if peer[0] != UNSPECIFIED:
            return peer[0], peer[1]
        if message.ciaddr != UNSPECIFIED and not message.flags & BROADCAST_FLAG:
            return message.ciaddr, peer[1]
        return BROADCAST, client_port
    if message.giaddr != UNSPECIFIED:
        return _relay(message, peer, server_port)
    # A proxy's client has no address yet, and its offer gives it none.
    return BROADCAST, client_port


def server_destination(
    message: Message, answer: Answer, peer: Address, *, server_port: int = 67, client_port: int = 68
) -> tuple[Address, bool]:
    """Return the destination of a DHCP server's reply to *message*.

    :param peer: the source address of *message*.
    :return: the destination, and whether the client does not answer ARP for it yet. Then the server has to add it to
        its neighbour table, or to broadcast the reply.
    """
    if message.giaddr != UNSPECIFIED:
        return _relay(message, peer, server_port), False
    if answer.kind is MessageType.NAK:
        return (BROADCAST, client_port), False
    if message.ciaddr != UNSPECIFIED and _uses_ciaddr(message, peer):
        return (message.ciaddr, peer[1] if peer[0] == message.ciaddr else client_port), False
    if not answer.address and peer[0] != UNSPECIFIED:
        return (peer[0], peer[1]), False  # an INFORM without ciaddr
    if not answer.address or message.flags & BROADCAST_FLAG or message.htype != ETHERNET or message.hlen != 6:
        return (BROADCAST, client_port), False
    return (answer.address, client_port), True


def is_renewal(message: Message) -> bool:
    """Return whether *message* is a REQUEST in RENEWING or REBINDING state (RFC 2131 section 4.3.2)."""
    return (
        message.ciaddr != UNSPECIFIED
        and message.message_type is MessageType.REQUEST
        and codec.first_address(message.options.get(Option.SERVER_IDENTIFIER)) is None
    )


def _uses_ciaddr(message: Message, peer: Address) -> bool:
    """Return whether the client has configured ciaddr, and answers ARP for it.

    It has in a renewal, an INFORM and a BOOTP request. In a DISCOVER, and in a REQUEST that selects an offer (option
    54), ciaddr must be empty (RFC 2131 section 4.4.1); some clients put a former address there, and can't be reached by
    it.
    """
    if is_renewal(message):
        return True
    kind = message.message_type
    if kind is MessageType.REQUEST:
        # Some clients name the server in a renewal, against the RFC; they send it from their own address.
        return peer[0] == message.ciaddr and Option.REQUESTED_IP_ADDRESS not in message.options
    return kind is not MessageType.DISCOVER


def _relay(message: Message, peer: Address, server_port: int) -> Address:
    raw = message.options.get(_RELAY_AGENT)
    chose_port = raw is not None and _RELAY_SOURCE_PORT in codec.relay_agent(raw)  # RFC 8357
    return message.giaddr, peer[1] if chose_port else server_port
