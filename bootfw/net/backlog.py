"""Drops requests from a backlog in a socket's buffer, before they are parsed.

When more requests arrive than the server can answer, the buffer fills, and each request waits until all before it are
answered. By then its client has sent it again or has given up: the answer is useless, and costs as much as one that is
in time. Without such stale requests the server keeps up with the new ones. A request that continues an exchange may
wait longer than one that begins it: where not all can be served, those that have begun are.

A backlog that does not shrink is no storm of machines that are switched on together. Then requests are dropped long
before their clients give up: the buffer would become full, and the kernel would drop whatever comes.

One address that sends thousands of requests a second would leave no room for others in the buffer. Of what it sends,
only as much is read as a client may send; to drop the rest here costs a tenth of what parsing it would cost. A relay
sends for many clients, and may send more at once. Any host can claim to be a relay, and from any address, so all relays
together have a limit too: clients on our own links are served beside them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from math import inf
from typing import Any, TypeVar

from attrs import frozen

from bootfw.events import Event, RequestsDropped, StaleRequestsDropped
from bootfw.net.admission import REPORT_SECONDS
from bootfw.net.dropcounter import DropCounter
from bootfw.net.reportlimit import ReportLimit
from bootfw.tokenbuckets import TokenBuckets
from bootfw.values import Address, Via

_Arrival = TypeVar("_Arrival", bound=tuple[bytes, Address, Via])

LASTING = 5.0
"""Seconds after which a backlog is a lasting one. That of 3,000 machines that are switched on together is shorter."""
LASTING_SHARE = 0.1
"""Requests may then wait for this share of their patience."""
RELAY_BURST = 8.0
"""A relay may send at once what an address may send in so many seconds: 3,000 machines behind it that are switched on
together send 3,000 DISCOVERs within a second, and as many REQUESTs soon after."""
ALL_RELAYS = 1.5
"""All relays together may send so many times what one relay may send."""
RELAY_ALONE = 3600.0
"""Seconds without a request of another address in a backlog, after which a relay has no limit. The first requests of
another client may be lost until one of them is read, so this is long."""
_RELAYS_REMEMBERED = 1024
_SHORT = 0.1
"""Seconds. If the datagrams have waited for less, the backlog is not a lasting one."""
_PAUSE = 0.5
"""Seconds without a full batch, after which a backlog is a new one."""

_NO_ADDRESS: Address = ("", 0)
_ONE_ADDRESS = "more than {most:.0f} requests a second of one address"
_ONE_RELAY = "more than {most:.0f} requests a second of one relay"
_ALL_RELAYS = "more than {of_relays:.0f} requests a second of all relays"


@frozen
class RequestKind:
    """Requests that are treated alike."""

    name: str
    """Its name in events."""
    patience: float
    """Seconds that such a request may wait in the buffer."""
    relayed: bool = False
    """Whether a relay sends it, which may send more at once than another address."""


class Backlog:
    """The requests that wait in the buffer of one port.

    :param service: its name in the events.
    :param kind: returns the kind of a datagram; None: it is never dropped.
    :param per_address: returns how many requests of one address are read in a second; None: any number.
    :param clock: an IReactorTime.
    """

    def __init__(
        self,
        service: str,
        kind: Callable[[bytes], RequestKind | None],
        per_address: Callable[[], float] | None,
        publish: Callable[[Event], None],
        clock: Any,
    ) -> None:
        self._service = service
        self._kind = kind
        self._per_address = per_address
        self._publish = publish
        self._clock = clock
        self._stale: Counter[str] = Counter()
        """Dropped requests by kind, since the last event."""
        self._waited = 0.0
        self._limit = ReportLimit(clock, self._report)
        self._sent: Counter[str] = Counter()
        """Requests by address, in the current second."""
        self._relays = TokenBuckets(_RELAYS_REMEMBERED)
        self._all_relays = TokenBuckets(1)
        self._counted_from = -inf
        self._shared_at = -inf
        """When more than one address had requests in the backlog. A relay that is alone has no limit."""
        self._began = self._trimmed = -inf
        """When the present backlog began, and when trim() was called last."""
        self._excess = DropCounter(service, publish, clock, RequestsDropped, REPORT_SECONDS)

    def stop(self) -> None:
        """Report what has not been reported, and cancel the timers."""
        self._limit.stop()
        self._excess.stop()

    def trim(self, batch: Sequence[_Arrival], waited: float) -> list[_Arrival]:
        """Return *batch* without the requests that are dropped.

        :param waited: seconds that the datagrams have been in the buffer, at least.
        """
        now = self._clock.seconds()
        if not 0 <= now - self._counted_from < 1:
            self._counted_from = now
            self._sent.clear()
        if waited < _SHORT or now - self._trimmed > _PAUSE:
            self._began = now
        self._trimmed = now
        share = LASTING_SHARE if now - self._began > LASTING else 1.0
        per_address = inf if self._per_address is None else self._per_address()
        of_relays, shared = ALL_RELAYS * per_address, now - self._shared_at < RELAY_ALONE
        # The buckets of relays are filled and emptied also while a relay is alone, so that its limit takes effect with
        # the first request of another address.
        sent, kept, stale = self._sent, [], False
        excess, sender, limit = 0, _NO_ADDRESS, ""
        for arrival in batch:
            data, peer, _ = arrival
            kind = self._kind(data)
            if kind is None:
                kept.append(arrival)
                continue
            address = peer[0]
            sent[address] += 1
            if per_address == inf or _is_exempt(address):
                exceeded = ""
            elif not kind.relayed:
                exceeded = _ONE_ADDRESS if sent[address] > per_address else ""
            elif not self._relays.take(address, per_address, RELAY_BURST * per_address, now):
                exceeded = _ONE_RELAY if shared else ""
            elif not self._all_relays.take("", of_relays, RELAY_BURST * of_relays, now):
                exceeded = _ALL_RELAYS if shared else ""
            else:
                exceeded = ""
            if exceeded:
                excess += 1
                sender, limit = peer, exceeded
            elif waited > share * kind.patience:
                self._stale[kind.name] += 1
                stale = True
            else:
                kept.append(arrival)
        if len(sent) > 1:
            self._shared_at = now
        if excess:
            self._excess.count(limit.format(most=per_address, of_relays=of_relays), sender, now, excess)
        if stale:
            self._waited = waited
            self._limit.due(now)
        return kept

    def _report(self, now: float) -> None:
        dropped = tuple(sorted(self._stale.items()))
        self._stale.clear()
        self._publish(StaleRequestsDropped(now, self._service, dropped, self._waited))


def _is_exempt(address: str) -> bool:
    """Return whether an address has no limit: 0.0.0.0, from which all clients without an address send, or loopback."""
    return address in ("0.0.0.0", "::1") or address.startswith("127.")
