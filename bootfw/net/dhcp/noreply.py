"""Events for messages of DHCPv4 and DHCPv6 that get no address."""

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
from bootfw.net.malformedcounter import MalformedCounter
from bootfw.values import Address, BootRequest

_REPEATED_AFTER = 60.0
_SERVER_REPEATED_AFTER = 600.0
"""Seconds until another DHCP server is reported again."""


class NoReplyReports:
    """Publishes an event for each message; for a reason in the network and not in the client, once a minute.

    :param malformed: counts the malformed messages.
    """

    def __init__(self, publish: Callable[[Event], None], malformed: MalformedCounter) -> None:
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
        """Publish why there is no reply, or no address in it.

        :param detail: see NoReply.
        :param client: its name in events.
        :param peer: the sender of the message.
        :param interface: the one that it arrived on; "" when that is not known.
        :param request: what a boot client requests; None: it does not boot, or that is not known.
        """
        if reason is NoReplyReason.OTHER_SERVER:
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
            self._publish(RequestIgnored(now, client, f"{reason.value}: {detail}" if detail else reason.value))
