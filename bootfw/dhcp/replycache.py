"""A fast path for replies without a boot file: they are built from parts that are packed once.

Most replies in a subnet differ in the address and the echoed options only. The bytes are those of server_reply().
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
    """Builds OFFERs and ACKs for clients that don't boot and get the options of their subnet only.

    :param subnets: all subnets of the server.
    """

    def __init__(self, subnets: Iterable[Subnet]) -> None:
        every = [
            options
            for subnet in subnets
            for options in (subnet.reply_options, subnet.system_options, subnet.firmware_options)
        ]
        # Keyed by identity: Exchange creates a new dictionary if a client gets options of its own, so the same object
        # means that these are the options of the subnet. Comparing dictionaries would cost more than packing the reply.
        # The values keep the dictionaries alive: an id() could be reused otherwise.
        self._tails = {id(options): (options, pack_options(options)) for options in every}
        self._heads: dict[tuple[MessageType, str], bytes] = {}

    def reply(self, message: Message, answer: Answer) -> bytes | None:
        """Return the bytes of pack(server_reply(message, answer)); None: this reply can't be built here, so call
        these."""
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
        # Nearly all replies are shorter than the size that every client accepts (RFC 2131 section 2), so reply_size()
        # is rarely called.
        return data if len(data) <= MINIMUM_SIZE or len(data) <= reply_size(message) else None

    def _head(self, kind: MessageType, identifier: str) -> bytes:
        if len(self._heads) >= _IDENTIFIERS:  # relays choose it by option 82 (RFC 5107), so it must be bounded
            self._heads.clear()
        head = self._heads[kind, identifier] = pack_options(
            {Option.MESSAGE_TYPE: bytes((kind,)), Option.SERVER_IDENTIFIER: codec.address_bytes(identifier)}
        )
        return head
