"""The metrics of a service for Prometheus: a web resource that other sites mount, and a site of its own.

prometheus_client (the extra ``bootfw[metrics]``) encodes the metrics; it is imported by the first request.
"""

import importlib.util
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define
from twisted.application.service import Service
from twisted.web.resource import Resource
from twisted.web.server import Site

from bootfw import __version__
from bootfw.config.settings import MetricsSettings
from bootfw.net.http.channel import Channel, QuietRequest
from bootfw.observe.counts import COUNTERS, HISTOGRAMS, REACTOR_LAG, Counts

PACKAGE = "prometheus_client"

CONNECTIONS = 16
"""Most connections at a time on a port that serves the metrics alone; further ones are closed."""

_IDLE = 30
"""Seconds after which a connection without a complete request is closed."""

_INTERVAL = 1.0
"""Seconds between two measurements of the reactor lag."""


def add_metrics(reactor: Any, boot: Any, settings: MetricsSettings) -> "MetricsResource | None":
    """Collect the metrics of a service, and serve them on the addresses in *settings*.

    :param boot: a BootService that has not been started.
    :return: the resource, which other sites may mount too; None: prometheus_client is missing.
    """
    if importlib.util.find_spec(PACKAGE) is None:
        return None
    counts = Counts()
    boot.add_observer(counts, "metrics")
    ReactorMonitor(reactor, boot, counts).setServiceParent(boot)  # type: ignore[no-untyped-call]
    resource = MetricsResource(boot, counts)
    boot.add_site("metrics", settings.listen, MetricsSite(reactor, resource))
    return resource


class ReactorMonitor(Service):
    """Once a second, measures the reactor lag and has the service publish the counters of its UDP ports.

    :param reactor: IReactorTime.
    """

    def __init__(self, reactor: Any, boot: Any, counts: Counts) -> None:
        self._reactor = reactor
        self._boot = boot
        self._counts = counts
        self._timer: Any = None
        self._due = 0.0
        """When the timer should fire, in seconds of the reactor's clock."""

    def startService(self) -> None:
        """Start the timer."""
        super().startService()  # type: ignore[no-untyped-call]
        self._start_timer()

    def stopService(self) -> None:
        """Cancel the timer."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_timer(self) -> None:
        self._due = self._reactor.seconds() + _INTERVAL
        self._timer = self._reactor.callLater(_INTERVAL, self._tick)

    def _tick(self) -> None:
        self._counts.time(REACTOR_LAG, max(0.0, self._reactor.seconds() - self._due))
        self._boot.report_datagrams()
        self._start_timer()


@define(eq=False)
class Collector:
    """A prometheus_client collector: the counters and histograms, and gauges of the service's present state."""

    _boot: Any
    _counts: Counts

    def collect(self) -> Iterator[Any]:
        """Yield every metric family."""
        from prometheus_client import metrics_core as core

        counts = self._counts
        for family in COUNTERS:
            counter = core.CounterMetricFamily(family.name, family.help, labels=family.labels)
            values = counts.counters[family]
            for labels, value in values.items() if family.labels or values else [((), 0)]:
                counter.add_metric(labels, value)
            yield counter
        for family in HISTOGRAMS:
            histogram = core.HistogramMetricFamily(family.name, family.help, labels=family.labels)
            for labels, timed in counts.histograms[family].items():
                histogram.add_metric(labels, timed.buckets(), timed.total)
            yield histogram

        def gauge(
            name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
        ) -> Any:
            family = core.GaugeMetricFamily(name, text, labels=labels)
            for labelled, value in values:
                family.add_metric(labelled, value)
            return family

        running = counts.running()
        transfers = [((protocol,), running[protocol]) for protocol in sorted({"tftp", "http", *running})]
        yield gauge("bootfw_transfers_running", "Transfers under way.", ("protocol",), transfers)
        yield from _of_images(gauge, self._boot.images_sent())
        leases, free = self._boot.lease_counts()
        yield gauge("bootfw_leases", "Addresses by the state of their lease.", ("subnet", "state"), leases.items())
        yield gauge("bootfw_pool_free_addresses", "Addresses of the pools that are free.", ("subnet",), free.items())
        sockets = Counter((status.service, status.state) for status in self._boot.sockets())
        yield gauge("bootfw_sockets", "Sockets that are wanted, by their state.", ("service", "state"), sockets.items())
        ready = [((), float(self._boot.ready))]
        yield gauge("bootfw_ready", "1 when every socket that is not optional is bound.", (), ready)
        cluster = self._boot.cluster_record()
        if cluster is not None:
            rows = cluster["nodes"]

            def numbers(key: str) -> list[tuple[tuple[str, ...], float]]:
                """Return a number that each present node has announced. A node of an earlier version may not have
                it."""
                announced = [(row["name"], row.get(key)) for row in rows if row["state"] == "here"]
                return [((str(name),), float(value)) for name, value in announced if isinstance(value, int | float)]

            up = [((str(row["name"]),), float(row["state"] == "here")) for row in rows]
            yield gauge("bootfw_node_up", "1 when the node of the cluster was heard within 4 s.", ("node",), up)
            leads = [
                ((str(row["name"]),), float(row.get("leadership") == "leading"))
                for row in rows
                if row["state"] == "here"
            ]
            yield gauge("bootfw_node_leads", "1 when the node answers DHCP for the cluster.", ("node",), leads)
            yield gauge("bootfw_node_draining", "1 when the node is about to stop.", ("node",), numbers("draining"))
            text = "Transfers under way at the node."
            yield gauge("bootfw_node_transfers_running", text, ("node",), numbers("transfers"))
            behind = [] if cluster["behind"] is None else [((), cluster["behind"])]
            text = "Seconds since an announcement to the other nodes got through to the store."
            yield gauge("bootfw_store_behind_seconds", text, (), behind)
        ends = [((path,), end) for path, end in counts.certificates.items()]
        text = "When the HTTPS certificate expires, in seconds since the epoch."
        yield gauge("bootfw_certificate_expiry_timestamp_seconds", text, ("path",), ends)
        yield gauge("bootfw_build_info", "1, with the version as a label.", ("version",), [((__version__,), 1.0)])


def _of_images(gauge: Callable[..., Any], records: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    """Yield the gauges of the images that are sent to many machines now. They are few, see [multicast] sessions."""
    receivers, rate, loss = Counter[tuple[str, str]](), Counter[tuple[str, str]](), dict[tuple[str, str], float]()
    for each in records:
        labels = each["image"], each["method"]
        receivers[labels] += each["receivers"]
        rate[labels] += each["rate"]
        loss[labels] = max(each["loss"], loss.get(labels, 0.0))
    names = ("image", "method")
    text = "Receivers of an image that is sent to many machines."
    yield gauge("bootfw_multicast_receivers", text, names, receivers.items())
    text = "Bytes per second at which an image is sent now."
    yield gauge("bootfw_multicast_rate_bytes", text, names, rate.items())
    text = "Share of the blocks that a receiver of an image lost."
    yield gauge("bootfw_multicast_loss_ratio", text, names, loss.items())


class MetricsResource(Resource):
    """``/metrics``, in the text format of Prometheus or in OpenMetrics, by the Accept header of the request."""

    isLeaf = True

    def __init__(self, boot: Any, counts: Counts) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._collector = Collector(boot, counts)
        self._registry: Any = None

    def render_GET(self, request: Any) -> bytes:
        """See IResource. HEAD is the same, without the body."""
        from prometheus_client import CollectorRegistry, ProcessCollector
        from prometheus_client.exposition import choose_encoder

        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(self._collector)
            ProcessCollector(registry=self._registry)
        encode, content_type = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("Content-Type", content_type)
        page: bytes = encode(self._registry)
        return page


class _Root(Resource):
    """Every path but /metrics. (A page of twisted.web.pages needs Twisted 22.10; Debian 12 has 22.4.)"""

    def getChild(self, path: bytes, request: Any) -> Any:
        """See IResource."""
        return self

    def render(self, request: Any) -> bytes:
        """See IResource."""
        request.setResponseCode(404)
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        return b"The metrics are at /metrics.\n"


class Connection(Channel):
    """A connection of a monitoring system."""

    def connectionMade(self) -> None:
        """See IProtocol."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.connections.add(self)

    def connectionLost(self, reason: Any) -> None:  # type: ignore[override]
        """See IProtocol."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.factory.connections.discard(self)


class MetricsSite(Site):
    """A site that serves only the metrics."""

    noisy = False
    protocol = Connection  # type: ignore[assignment]

    def __init__(self, reactor: Any, metrics: MetricsResource) -> None:
        root = _Root()  # type: ignore[no-untyped-call]
        root.putChild(b"metrics", metrics)
        super().__init__(root, QuietRequest, reactor=reactor, timeout=_IDLE)  # type: ignore[no-untyped-call]
        self.connections: set[Connection] = set()

    def buildProtocol(self, addr: Any) -> Any:
        """See IProtocolFactory. Returns None, which closes the connection, if there are too many."""
        if len(self.connections) >= CONNECTIONS:
            return None
        return super().buildProtocol(addr)  # type: ignore[no-untyped-call]

    def close(self) -> None:
        """Reset every connection."""
        for connection in list(self.connections):
            transport: Any = connection.transport
            transport.abortConnection()

    # Site opens an access log here, and starts a timer for the dates in it.

    def startFactory(self) -> None:
        """Do not open an access log."""

    def stopFactory(self) -> None:
        """There is no access log to close."""
