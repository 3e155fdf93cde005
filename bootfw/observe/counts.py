"""The metrics of a service: counters, histograms and gauges, updated by events.

An update is a dictionary access; the work is done when a monitoring system fetches the metrics, in
bootfw.observe.metrics. Label values come from bounded sets (the configuration, protocols, personas, the table of
symptoms) and never from packets, so a client can't create time series.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field, frozen
from zope.interface import implementer

from bootfw import events
from bootfw.events import Event
from bootfw.interfaces import IBatchObserver
from bootfw.values import Address

Labels = tuple[str, ...]
"""The label values of one time series, in the order of Family.labels."""

SECONDS = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Upper bounds of the buckets for short times, in seconds: lookups, reactor lag."""

TRANSFER_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
"""Upper bounds of the buckets for transfers, in seconds."""

_MAX_RUNNING = 50_000
"""Most transfers that are counted as running; the oldest is dropped first. A full event queue may drop the event that
ends one."""


@frozen(eq=False)
class Family:
    """A metric: a name, a help text, and the names of its labels."""

    name: str
    help: str
    labels: Labels = ()


@define(eq=False)
class Histogram:
    """Counts values by bucket.

    :param bounds: upper bounds of the buckets, ascending, without infinity.
    """

    bounds: Sequence[float]
    total: float = field(default=0.0, init=False)
    """Sum of the values."""
    _counts: list[int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        """Count *value*."""
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, cumulative count) of each bucket; the last bound is "+Inf"."""
        buckets, below = [], 0
        for bound, count in zip((*self.bounds, float("inf")), self._counts, strict=True):
            below += count
            buckets.append(("+Inf" if bound == float("inf") else repr(bound), float(below)))
        return buckets


DHCP_REQUESTS = Family(
    "bootfw_dhcp_requests", "DHCP packets of boot clients, retransmissions included.", ("family", "phase")
)
DHCP_REPLIES = Family("bootfw_dhcp_replies", "DHCP replies to boot clients.", ("family", "message"))
DHCP_UNANSWERED = Family(
    "bootfw_dhcp_unanswered",
    "DHCP packets without the reply that a boot client waits for: ignored, withheld, or no_file (an address only).",
    ("outcome",),
)
POOL_EXHAUSTED = Family(
    "bootfw_dhcp_pool_exhausted", "Times that a network had no free address; one a minute at most.", ("network",)
)
OTHER_SERVERS = Family(
    "bootfw_dhcp_other_servers", "Times that another DHCP server was seen; one in ten minutes at most for each."
)
ADDRESSES_TAKEN = Family("bootfw_dhcp_addresses_in_use", "Addresses that a host without a lease used.")
LEASES_NOT_STORED = Family("bootfw_leases_not_stored", "Leases that could not be stored.")
TRANSFERS = Family(
    "bootfw_transfers", "Transfers that have ended, by their outcome.", ("protocol", "direction", "outcome")
)
BYTES = Family("bootfw_transferred_bytes", "File bytes that the receiver has acknowledged.", ("protocol", "direction"))
RETRANSMISSIONS = Family("bootfw_retransmissions", "Datagrams of transfers that were sent more than once.")
REFUSED = Family("bootfw_transfers_refused", "Requests for a file that got an error.", ("protocol", "code"))
MULTICAST_BLOCKS = Family(
    "bootfw_multicast_blocks",
    "Blocks of 1,024 bytes of images that were sent to many machines, counted when the image ends: sent, and lost, "
    "which receivers requested again.",
    ("outcome",),
)
MULTICAST_RECEIVERS = Family(
    "bootfw_multicast_receivers_ended", "Receivers of images that have ended, with all of it or not.", ("outcome",)
)
BOOTS = Family("bootfw_boots", "Boot attempts that have ended, by their verdict.", ("verdict", "persona"))
FAILURES = Family("bootfw_boot_failures", "Boot attempts that failed or booted nothing, by their cause.", ("cause",))
DATAGRAMS = Family(
    "bootfw_datagrams",
    "Datagrams of the UDP ports: received, sent, not accepted by the kernel (send_error), errors (receive_error).",
    ("service", "outcome"),
)
MALFORMED = Family("bootfw_datagrams_malformed", "Datagrams that could not be parsed.", ("service",))
STALE = Family(
    "bootfw_requests_stale",
    "Requests dropped unread because they had waited too long: more arrive than can be answered.",
    ("service", "kind"),
)
DROPPED = Family(
    "bootfw_requests_dropped", "Requests that were dropped because of a limit or a list of addresses.", ("service",)
)
HANDSHAKES_FAILED = Family("bootfw_tls_handshake_failures", "HTTPS connections whose TLS handshake failed.")
EVENTS_DROPPED = Family(
    "bootfw_events_dropped", "Events that were dropped because an observer was too slow; other counts lack them."
)
NEIGHBOUR_OVERFLOWS = Family(
    "bootfw_neighbour_overflows", "Neighbours that the kernel had no room for, so that packets to them were dropped."
)
WORKERS_LOST = Family("bootfw_workers_lost", "Worker processes that ended without being stopped.")
PLUGIN_FAILURES = Family("bootfw_plugin_failures", "Calls of plugins that raised.", ("plugin",))
INTERNAL_ERRORS = Family("bootfw_internal_errors", "Internal errors of bootfw.")

COUNTERS = (
    *(DHCP_REQUESTS, DHCP_REPLIES, DHCP_UNANSWERED, POOL_EXHAUSTED, OTHER_SERVERS, ADDRESSES_TAKEN),
    *(LEASES_NOT_STORED, TRANSFERS, BYTES, RETRANSMISSIONS, REFUSED, BOOTS, FAILURES, DATAGRAMS, MALFORMED, DROPPED),
    *(MULTICAST_BLOCKS, MULTICAST_RECEIVERS),
    *(STALE, HANDSHAKES_FAILED, EVENTS_DROPPED, NEIGHBOUR_OVERFLOWS, WORKERS_LOST, PLUGIN_FAILURES, INTERNAL_ERRORS),
)
"""The counters; Prometheus adds ``_total`` to their names."""

TRANSFER_TIME = Family("bootfw_transfer_seconds", "How long transfers took.", ("protocol", "direction"))
RESOLVER_TIME = Family(
    "bootfw_resolver_seconds",
    "How long resolvers took: answered, passed (the next one was called) or too_slow.",
    ("resolver", "outcome"),
)
BACKEND_TIME = Family(
    "bootfw_backend_open_seconds", "How long backends took to open a file that a client then got.", ("backend",)
)
REACTOR_LAG = Family(
    "bootfw_reactor_lag_seconds", "How late a timer fired that is set once a second: how long the reactor was busy."
)

HISTOGRAMS = {
    TRANSFER_TIME: TRANSFER_SECONDS,
    RESOLVER_TIME: SECONDS,
    BACKEND_TIME: SECONDS,
    REACTOR_LAG: SECONDS,
}


@implementer(IBatchObserver)
@define(eq=False)
class Counts:
    """Counts the events of a service, those of its workers included."""

    counters: dict[Family, "Counter[Labels]"] = field(init=False)
    histograms: dict[Family, dict[Labels, Histogram]] = field(init=False)
    certificates: dict[str, float] = field(factory=dict, init=False)
    """Path of a certificate -> when it expires, in seconds since the epoch."""
    _running: dict[tuple[str, Address], None] = field(factory=dict, init=False)
    """(protocol, peer) of each running transfer; the oldest first."""
    _updates: dict[type[Event], Callable[[Any], None]] = field(init=False)
    """Kind of event -> the function that updates the metrics."""

    def __attrs_post_init__(self) -> None:
        self.counters = {family: Counter() for family in COUNTERS}
        self.histograms = {family: {} for family in HISTOGRAMS}
        self._updates = {
            events.TransferBegun: self._transfer_begun,
            events.TransferEnded: self._transfer_ended,
            events.TransferRefused: self._transfer_refused,
            events.RequestClassified: lambda e: self.count(DHCP_REQUESTS, str(e.request.family), e.request.phase),
            events.OfferMade: lambda e: self.count(DHCP_REPLIES, str(e.request.family), e.message.lower()),
            events.RequestIgnored: lambda e: self.count(DHCP_UNANSWERED, "ignored"),
            events.OfferWithheld: lambda e: self.count(DHCP_UNANSWERED, "withheld"),
            events.FileWithheld: lambda e: self.count(DHCP_UNANSWERED, "no_file"),
            events.PoolExhausted: lambda e: self.count(POOL_EXHAUSTED, e.network),
            events.OtherServerSeen: lambda e: self.count(OTHER_SERVERS),
            events.AddressTaken: lambda e: self.count(ADDRESSES_TAKEN),
            events.LeasesNotKept: lambda e: self.count(LEASES_NOT_STORED, by=e.count),
            events.ResolverAnswered: lambda e: self.time(
                RESOLVER_TIME, e.seconds, e.resolver, "passed" if e.answer is None else "answered"
            ),
            events.ResolverPassedOver: lambda e: self.time(RESOLVER_TIME, e.seconds, e.resolver, "too_slow"),
            events.ImageSent: self._image_sent,
            events.BootAttemptEnded: self._boot_ended,
            events.DatagramsCounted: self._datagrams,
            events.DatagramsMalformed: lambda e: self.count(MALFORMED, e.service, by=e.count),
            events.StaleRequestsDropped: self._stale,
            events.RequestsDropped: lambda e: self.count(DROPPED, e.service, by=e.count),
            events.HandshakeFailed: lambda e: self.count(HANDSHAKES_FAILED),
            events.NeighbourTableFull: lambda e: self.count(NEIGHBOUR_OVERFLOWS, by=e.overflows),
            events.EventsDropped: lambda e: self.count(EVENTS_DROPPED, by=e.count),
            events.WorkerLost: lambda e: self.count(WORKERS_LOST),
            events.PluginFailed: lambda e: self.count(PLUGIN_FAILURES, e.plugin),
            events.InternalError: lambda e: self.count(INTERNAL_ERRORS),
            events.CertificateLoaded: lambda e: self.certificates.__setitem__(e.path, e.ends),
        }

    def observe(self, event: Event) -> None:
        """See IBootObserver."""
        self.observe_many((event,))

    def observe_many(self, events: Sequence[Event]) -> None:
        """See IBatchObserver."""
        updates = self._updates
        for event in events:
            update = updates.get(type(event))
            if update is not None:
                update(event)

    def count(self, family: Family, *labels: str, by: int = 1) -> None:
        """Increment a counter."""
        self.counters[family][labels] += by

    def time(self, family: Family, seconds: float, *labels: str) -> None:
        """Add a duration to a histogram."""
        histograms = self.histograms[family]
        if labels not in histograms:
            histograms[labels] = Histogram(HISTOGRAMS[family])
        histograms[labels].add(seconds)

    def running(self) -> "Counter[str]":
        """Return protocol -> number of transfers that have begun and not ended."""
        return Counter(protocol for protocol, _ in self._running)

    def _transfer_begun(self, event: Any) -> None:
        running, request = self._running, event.request
        if len(running) >= _MAX_RUNNING:
            del running[next(iter(running))]
        running[request.protocol, request.peer] = None

    def _transfer_ended(self, event: Any) -> None:
        report = event.report
        request = report.request
        protocol = request.protocol
        direction = "upload" if request.write else "download"
        self._running.pop((protocol, request.peer), None)
        counters = self.counters
        counters[TRANSFERS][protocol, direction, report.outcome.name.lower()] += 1
        counters[BYTES][protocol, direction] += report.bytes_transferred
        if report.retransmitted:
            counters[RETRANSMISSIONS][()] += report.retransmitted
        self.time(TRANSFER_TIME, report.ended - report.began, protocol, direction)
        if report.backend:
            self.time(BACKEND_TIME, report.waited, report.backend)

    def _transfer_refused(self, event: Any) -> None:
        protocol = event.request.protocol
        self._running.pop((protocol, event.request.peer), None)
        self.counters[REFUSED][protocol, str(event.code)] += 1

    def _image_sent(self, event: Any) -> None:
        self.count(MULTICAST_BLOCKS, "sent", by=event.blocks_sent)
        self.count(MULTICAST_BLOCKS, "lost", by=event.blocks_lost)
        self.count(MULTICAST_RECEIVERS, "complete", by=event.completed)
        self.count(MULTICAST_RECEIVERS, "incomplete", by=event.joined - event.completed)

    def _boot_ended(self, event: Any) -> None:
        attempt = event.attempt
        self.count(BOOTS, attempt.verdict.name.lower(), attempt.persona)
        if attempt.cause is not None:
            self.count(FAILURES, attempt.cause.key)

    def _stale(self, event: Any) -> None:
        for kind, count in event.dropped:
            self.count(STALE, event.service, kind, by=count)

    def _datagrams(self, event: Any) -> None:
        for outcome in ("received", "sent", "send_errors", "receive_errors"):
            self.count(DATAGRAMS, event.service, outcome.removesuffix("s"), by=getattr(event, outcome))
