"""What is told of the messages that clients of an address server get no address for, by either version of DHCP."""

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
from bootfw.values import Address

_SAID_AGAIN = 60.0
_SERVER_SAID_AGAIN = 600.0


class NoReplyReports:
    """Publishes an event for each cause; seldom, where it is one of the network and not of the client.

    :param malformed: counts the messages that make no sense.
    """

    def __init__(self, publish: Callable[[Event], None], malformed: MalformedCounter) -> None:
        self._publish = publish
        self._malformed = malformed
        self._once_per = OncePer(_SAID_AGAIN)
        self._servers_seen = OncePer(_SERVER_SAID_AGAIN)

    def tell(self, cause: NoReplyReason, detail: str, who: str, peer: Address, interface: str, now: float) -> None:
        """The operator, why there is no answer, or what is behind it.

        :param detail: see NoReply.
        :param who: the client, for people.
        :param peer: where the message came from.
        :param interface: where it came by; "" when that is not known.
        """
        if cause is NoReplyReason.OTHER_SERVER:
            if self._servers_seen.due((detail, interface), now):
                self._publish(OtherServerSeen(now, detail, interface, who))
        elif cause is NoReplyReason.EXHAUSTED:
            if self._once_per.due((cause, detail), now):
                self._publish(PoolExhausted(now, detail, who))
        elif cause is NoReplyReason.LIMITED:
            if self._once_per.due((cause, detail), now):
                self._publish(ClientsLimited(now, detail))
        elif cause is NoReplyReason.DECLINED:
            self._publish(AddressTaken(now, detail, who, True))
        elif cause is NoReplyReason.RELEASED:
            self._publish(AddressReleased(now, detail, who))
        elif cause is NoReplyReason.MALFORMED:
            self._malformed.count(detail, peer, now)
        elif cause is not NoReplyReason.NOT_ASKED:
            self._publish(RequestIgnored(now, who, f"{cause.value}: {detail}" if detail else cause.value))
