"""The destination of a DHCPv4 reply (RFC 2131 section 4.1)."""

from bootfw.dhcp.answer import Answer
from bootfw.values import Address
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import BROADCAST_FLAG, ETHERNET, UNSPECIFIED, Message, MessageType
from bootfw.wire.options import Option, RelaySuboption

BROADCAST = "255.255.255.255"
# An attribute of an enum costs as much as three look-ups in a dictionary, and this runs for every reply.
_RELAY_AGENT, _RELAY_SOURCE_PORT = Option.RELAY_AGENT_INFORMATION, RelaySuboption.RELAY_SOURCE_PORT


def destination(
    message: Message, peer: Address, *, boot_server: bool = False, server_port: int = 67, client_port: int = 68
) -> Address:
    """Where the reply of a proxy to *message* goes.

    :param peer: where *message* came from.
    :param boot_server: it came to the boot server's port.
    :param server_port: where relays listen.
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
    """Where *answer* of a server to *message* goes.

    :param peer: where *message* came from.
    :return: the destination, and whether the client does not answer ARP there yet. A server that can't set its
        neighbour table broadcasts instead.
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


def renews(message: Message) -> bool:
    """Whether *message* is a client's REQUEST to keep the address that it has (RFC 2131 section 4.3.2)."""
    return (
        message.ciaddr != UNSPECIFIED
        and message.message_type is MessageType.REQUEST
        and codec.first_address(message.options.get(Option.SERVER_IDENTIFIER)) is None
    )


def _uses_ciaddr(message: Message, peer: Address) -> bool:
    """Whether the client has configured ciaddr, and answers ARP for it.

    That holds for a renewal, an INFORM and BOOTP. In a DISCOVER, and in a REQUEST that selects an offer (option 54),
    ciaddr must be empty (RFC 2131 section 4.4.1); some clients put a former address there, and can't be reached by it.
    """
    if renews(message):
        return True
    kind = message.message_type
    if kind is MessageType.REQUEST:
        # A renewal that names the server, which it should not: the client sends it from its own address.
        return peer[0] == message.ciaddr and Option.REQUESTED_IP_ADDRESS not in message.options
    return kind is not MessageType.DISCOVER


def _relay(message: Message, peer: Address, server_port: int) -> Address:
    raw = message.options.get(_RELAY_AGENT)
    chose_port = raw is not None and _RELAY_SOURCE_PORT in codec.relay_agent(raw)  # RFC 8357
    return message.giaddr, peer[1] if chose_port else server_port
