"""Publishes events about DHCPv4 and DHCPv6 messages that get no address."""

from collections.abc import Callable

from bootfw.boot.onceper import OncePer
from bootfw.dhcp.answer import NoReplyReason
from bootfw.events import (
    AddressReleased,
    AddressTaken,
    ClientsLimited,
    Event,
    OtherServerSeen,
    PoolExhausted,
    RequestIgnored,
)
from bootfw.net.dropcounter import DropCounter
from bootfw.values import Address, BootRequest

RECORDED = frozenset(
    (
        NoReplyReason.EXHAUSTED,
        NoReplyReason.OTHER_SERVER,
        NoReplyReason.NO_SUBNET,
        NoReplyReason.UNKNOWN_CLIENT,
        NoReplyReason.NO_POOL,
    )
)
"""Reasons that end a boot attempt, so their events contain the boot request."""

_REPEATED_AFTER = 60.0
"""Seconds until the same event is published again."""

_SERVER_REPEATED_AFTER = 600.0
"""Seconds until another DHCP server is reported again."""


class NoReplyReports:
    """Publishes an event for each message; if the reason is in the network and not in the client, once a minute.

    :param malformed: counts the malformed messages.
    """

    def __init__(self, publish: Callable[[Event], None], malformed: DropCounter) -> None:
        self._publish = publish
        self._malformed = malformed
        self._once_per = OncePer(_REPEATED_AFTER)
        self._servers_seen = OncePer(_SERVER_REPEATED_AFTER)

    def report(
        self,
        reason: NoReplyReason,
        detail: str,
        client: str,
        peer: Address,
        interface: str,
        now: float,
        request: BootRequest | None = None,
    ) -> None:
        """Publish why a message gets no reply, or a reply without an address.

        :param detail: see NoReply.
        :param client: name of the client in events.
        :param peer: source address of the message.
        :param interface: the interface that it arrived on; "": unknown.
        :param request: the boot request; None: the client does not boot, or it is unknown.
        """
        if reason is NoReplyReason.OTHER_SERVER:
            # The event of a client that boots ends its boot attempt, so each such client has its own.
            boots = request is not None and self._once_per.due((reason, detail, client), now)
            if self._servers_seen.due((detail, interface), now) or boots:
                self._publish(OtherServerSeen(now, detail, interface, client))
        elif reason is NoReplyReason.EXHAUSTED:
            if self._once_per.due((reason, detail, client if request is not None else ""), now):
                self._publish(PoolExhausted(now, detail, client, request))
        elif reason is NoReplyReason.LIMITED:
            if self._once_per.due((reason, detail), now):
                self._publish(ClientsLimited(now, detail))
        elif reason is NoReplyReason.DECLINED:
            self._publish(AddressTaken(now, detail, client, True))
        elif reason is NoReplyReason.RELEASED:
            self._publish(AddressReleased(now, detail, client))
        elif reason is NoReplyReason.MALFORMED:
            self._malformed.count(detail, peer, now)
        elif reason is not NoReplyReason.NOT_FOR_SERVER:
            text = f"{reason.value}: {detail}" if detail else reason.value
            self._publish(RequestIgnored(now, client, text, request))
