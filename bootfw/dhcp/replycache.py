"""Replies without a boot file from parts that are packed once, byte for byte those of server_reply().

Most replies are the same for all clients of a subnet, but for the address and what they echo.
"""

from collections.abc import Iterable

from bootfw.dhcp.answer import Answer
from bootfw.dhcp.subnet import Subnet
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import MINIMUM_SIZE, UNSPECIFIED, Message, MessageType, pack_options, pack_reply, reply_size
from bootfw.wire.options import Option

_CLIENT_ID, _AGENT = int(Option.CLIENT_IDENTIFIER), int(Option.RELAY_AGENT_INFORMATION)
_OFFER, _ACK = MessageType.OFFER, MessageType.ACK
_IDENTIFIERS = 256


class ReplyCache:
    """OFFERs and ACKs to clients that don't boot, and get the options of their subnet only.

    :param subnets: all that answers can be for.
    """

    def __init__(self, subnets: Iterable[Subnet]) -> None:
        every = [
            options
            for subnet in subnets
            for options in (subnet.reply_options, subnet.system_options, subnet.firmware_options)
        ]
        # By identity, which costs nothing: Exchange makes a new dictionary when a client gets options of its own.
        self._tails = {id(options): (options, pack_options(options)) for options in every}
        self._heads: dict[tuple[MessageType, str], bytes] = {}

    def reply(self, message: Message, answer: Answer) -> bytes | None:
        """What pack() makes of server_reply(message, answer); None: it is not cached, so call these."""
        kind, options = answer.kind, message.options
        tail = self._tails.get(id(answer.options))
        if tail is None or (kind is not _OFFER and kind is not _ACK):
            return None
        head = self._heads.get((kind, answer.identifier))
        if head is None:
            head = self._head(kind, answer.identifier)
        packed = head
        identifier = options.get(_CLIENT_ID)
        if identifier is not None:
            if len(identifier) > 255:
                return None
            packed += bytes((_CLIENT_ID, len(identifier))) + identifier
        packed += tail[1]
        if message.giaddr != UNSPECIFIED:
            agent = options.get(_AGENT)
            if agent is not None:
                if len(agent) > 255:
                    return None
                packed += bytes((_AGENT, len(agent))) + agent
        ciaddr = UNSPECIFIED if kind is _OFFER else message.ciaddr
        data = pack_reply(message, ciaddr, answer.address or UNSPECIFIED, answer.server, packed)
        # Most replies have the size that is always allowed, so the limit of this client is not computed.
        return data if len(data) <= MINIMUM_SIZE or len(data) <= reply_size(message) else None

    def _head(self, kind: MessageType, identifier: str) -> bytes:
        if len(self._heads) >= _IDENTIFIERS:  # relays may choose it
            self._heads.clear()
        head = self._heads[kind, identifier] = pack_options(
            {Option.MESSAGE_TYPE: bytes((kind,)), Option.SERVER_IDENTIFIER: codec.address_bytes(identifier)}
        )
        return head
