"""The metrics: what events add up to, and the page that Prometheus fetches."""

import subprocess
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from attrs import evolve
from calls import calls_of
from net.webclient import Response, Wire, parse
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from twistd import bootfw, fetch, free_port
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from bootfw.api import DHCPSettings, MetricsSettings, Settings, Subnet, TFTPSettings
from bootfw.attempts.attempt import BootAttempt, Cause, Verdict
from bootfw.errors import ConfigError
from bootfw.events import (
    BootAttemptEnded,
    CertificateLoaded,
    DatagramsCounted,
    DatagramsMalformed,
    Event,
    EventsDropped,
    FileWithheld,
    HandshakeFailed,
    ImageSent,
    InternalError,
    LeasesNotKept,
    NeighbourTableFull,
    OfferMade,
    OfferWithheld,
    PluginFailed,
    PoolExhausted,
    RequestClassified,
    RequestIgnored,
    RequestsDropped,
    ResolverAnswered,
    ResolverPassedOver,
    StaleRequestsDropped,
    TransferBegun,
    TransferEnded,
    TransferRefused,
    WorkerLost,
)
from bootfw.lease import Lease, LeaseState
from bootfw.observe.counts import Counts
from bootfw.observe.metrics import CONNECTIONS, MetricsResource, MetricsSite, add_metrics
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import MemoryNetwork
from bootfw.values import Agreed, BootFile, BootRequest, Outcome, TransferReport, TransferRequest

PROMTOOL = Path(__file__).parents[2] / ".clients/usr/bin/promtool"

BOOT = BootRequest("52:54:00:00:00:01", "discover", "uefi", "x86_64-uefi")
READ = TransferRequest("/a", "a", ("10.0.0.1", 2000))
REPORT = TransferReport(READ, Agreed(), Outcome.COMPLETE, "", 1000, 2, 3, 5.0, 5.02, waited=0.003, backend="directory")
UPLOAD = evolve(READ, write=True, protocol="http")
FAILED = BootAttempt(
    "1", 0.0, 1.0, persona="uefi", verdict=Verdict.FAILED, cause=Cause("path-mtu", "It stopped", "Look")
)

EVENTS: list[Event] = [
    RequestClassified(1.0, BOOT),
    RequestClassified(1.0, evolve(BOOT, family=6)),
    ResolverAnswered(1.0, BOOT, "static", None, 0.0002),
    ResolverAnswered(1.0, BOOT, "callout", BootFile("a"), 0.2),
    ResolverPassedOver(1.0, BOOT, "callout", 3.0),
    OfferMade(1.0, BOOT, "OFFER", BootFile("a"), ("10.0.0.1", 68)),
    RequestIgnored(1.0, "52:54:00:00:00:02", "no PXE"),
    OfferWithheld(1.0, BOOT, "no resolver has a file"),
    FileWithheld(1.0, BOOT, "no resolver has a file"),
    PoolExhausted(1.0, "10.77.0.0/24", "52:54:00:00:00:01"),
    LeasesNotKept(1.0, 4, "disk full"),
    ImageSent(5.0, "a.img", "multicast", ("239.192.1.2", 21700), 2048, 3, 2, 5, 4, 9.0),
    TransferBegun(5.0, READ, Agreed()),
    TransferBegun(5.0, evolve(READ, peer=("10.0.0.2", 1)), Agreed()),
    TransferEnded(5.02, REPORT),
    TransferEnded(5.02, evolve(REPORT, request=UPLOAD, outcome=Outcome.STOPPED_BY_PEER, backend="", retransmitted=0)),
    TransferRefused(6.0, READ, 1, "File not found"),
    BootAttemptEnded(7.0, FAILED),
    DatagramsCounted(8.0, "tftp", 100, 200, 1, 2),
    DatagramsCounted(9.0, "tftp", 10, 20, 0, 0),
    DatagramsMalformed(9.0, "dhcp", 7, "too short", ("10.0.0.9", 1)),
    StaleRequestsDropped(9.0, "dhcp", (("DISCOVER", 8), ("other", 1)), 1.2),
    RequestsDropped(9.0, "tftp", 11, "too many", ("10.0.0.9", 1)),
    HandshakeFailed(9.0, ("10.0.0.9", 1), "unknown CA"),
    WorkerLost(9.0, 1, "killed", 3),
    PluginFailed(9.0, "resolver callout", "resolve", "Traceback"),
    InternalError(9.0, "a transfer", "Traceback"),
    EventsDropped(9.0, 5),
    NeighbourTableFull(9.0, "net.ipv4.neigh.default.gc_thresh3", 1024, 6),
    CertificateLoaded(9.0, "/etc/cert.pem", ("boot",), 2e9),
]

EXPECTED = {
    'bootfw_dhcp_requests_total{family="4",phase="discover"}': 1,
    'bootfw_dhcp_requests_total{family="6",phase="discover"}': 1,
    'bootfw_dhcp_replies_total{family="4",message="offer"}': 1,
    'bootfw_dhcp_unanswered_total{outcome="ignored"}': 1,
    'bootfw_dhcp_unanswered_total{outcome="withheld"}': 1,
    'bootfw_dhcp_unanswered_total{outcome="no_file"}': 1,
    'bootfw_dhcp_pool_exhausted_total{network="10.77.0.0/24"}': 1,
    "bootfw_leases_not_stored_total": 4,
    'bootfw_transfers_total{direction="download",outcome="complete",protocol="tftp"}': 1,
    'bootfw_transfers_total{direction="upload",outcome="stopped_by_peer",protocol="http"}': 1,
    'bootfw_transferred_bytes_total{direction="download",protocol="tftp"}': 1000,
    "bootfw_retransmissions_total": 3,
    'bootfw_transfers_refused_total{code="1",protocol="tftp"}': 1,
    'bootfw_transfers_running{protocol="tftp"}': 1,
    'bootfw_transfers_running{protocol="http"}': 0,
    'bootfw_transfer_seconds_bucket{direction="download",le="0.01",protocol="tftp"}': 0,
    'bootfw_transfer_seconds_bucket{direction="download",le="0.05",protocol="tftp"}': 1,
    'bootfw_transfer_seconds_count{direction="download",protocol="tftp"}': 1,
    'bootfw_resolver_seconds_bucket{le="0.0005",outcome="passed",resolver="static"}': 1,
    'bootfw_resolver_seconds_sum{outcome="answered",resolver="callout"}': 0.2,
    'bootfw_resolver_seconds_count{outcome="too_slow",resolver="callout"}': 1,
    'bootfw_backend_open_seconds_bucket{backend="directory",le="0.005"}': 1,
    'bootfw_backend_open_seconds_count{backend="directory"}': 1,
    'bootfw_multicast_blocks_total{outcome="sent"}': 5,
    'bootfw_multicast_blocks_total{outcome="lost"}': 4,
    'bootfw_multicast_receivers_ended_total{outcome="complete"}': 2,
    'bootfw_multicast_receivers_ended_total{outcome="incomplete"}': 1,
    'bootfw_boots_total{persona="uefi",verdict="failed"}': 1,
    'bootfw_boot_failures_total{cause="path-mtu"}': 1,
    'bootfw_datagrams_total{outcome="received",service="tftp"}': 110,
    'bootfw_datagrams_total{outcome="sent",service="tftp"}': 220,
    'bootfw_datagrams_total{outcome="send_error",service="tftp"}': 1,
    'bootfw_datagrams_total{outcome="receive_error",service="tftp"}': 2,
    'bootfw_datagrams_malformed_total{service="dhcp"}': 7,
    'bootfw_requests_stale_total{kind="DISCOVER",service="dhcp"}': 8,
    'bootfw_requests_stale_total{kind="other",service="dhcp"}': 1,
    'bootfw_requests_dropped_total{service="tftp"}': 11,
    "bootfw_tls_handshake_failures_total": 1,
    "bootfw_neighbour_overflows_total": 6,
    "bootfw_workers_lost_total": 1,
    'bootfw_plugin_failures_total{plugin="resolver callout"}': 1,
    "bootfw_internal_errors_total": 1,
    "bootfw_events_dropped_total": 5,
    'bootfw_certificate_expiry_timestamp_seconds{path="/etc/cert.pem"}': 2e9,
    "bootfw_ready": 1,
    'bootfw_sockets{service="tftp",state="bound"}': 1,
}

ONLY_TFTP = Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),)), dhcp=DHCPSettings(mode="off"))


def request(clock: Clock, site: MetricsSite, accept: str = "", path: str = "/metrics") -> Response:
    protocol = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
    wire = Wire(clock, protocol)
    protocol.makeConnection(wire)
    protocol.dataReceived(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept: {accept}\r\n\r\n".encode())
    response, _ = parse(wire.value())
    return response


def parsed(page: str) -> Any:
    return text_string_to_metric_families(page)


def samples(page: str) -> dict[str, float]:
    """Each sample of a page, with its labels in order."""
    found = {}
    for family in parsed(page):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def start_service(
    *events: Event, settings: Settings = ONLY_TFTP, **options: Any
) -> tuple[Clock, BootService, MetricsSite]:
    """A service on a network in memory that runs, and has seen *events*."""
    network = MemoryNetwork()
    boot = BootService(network.host("10.0.0.1", rich=True), settings=settings, **options)
    metrics = add_metrics(network.clock, boot, settings.metrics)
    assert metrics is not None
    boot.startService()
    for event in events:
        boot._publisher.publish(event)
    network.clock.advance(0)
    return network.clock, boot, MetricsSite(network.clock, metrics)


def test_events_are_counted() -> None:
    clock, _, site = start_service(*EVENTS)
    response = request(clock, site)
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    found = samples(response.body.decode())
    assert {name: found.get(name) for name in EXPECTED} == EXPECTED


def test_a_counter_without_labels_begins_with_zero() -> None:
    clock, _, site = start_service()
    found = samples(request(clock, site).body.decode())
    assert found["bootfw_internal_errors_total"] == found["bootfw_retransmissions_total"] == 0
    assert not any(name.startswith("bootfw_transfers_total") for name in found)


def test_openmetrics_for_clients_that_prefer_it() -> None:
    clock, _, site = start_service(*EVENTS)
    response = request(clock, site, "application/openmetrics-text; version=1.0.0")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    families: Any = parse_openmetrics(response.body.decode())  # type: ignore[no-untyped-call]
    names = {family.name for family in families}
    assert {"bootfw_transfers", "bootfw_reactor_lag_seconds"} <= names
    missing = request(clock, site, path="/")
    assert (missing.status, b"/metrics" in missing.body) == (404, True)


@pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is missing: make install-clients")
@pytest.mark.interop
def test_promtool_finds_no_problem() -> None:
    clock, _, site = start_service(*EVENTS)
    clock.advance(1.0)
    page = request(clock, site).body
    result = subprocess.run([PROMTOOL, "check", "metrics"], input=page, capture_output=True)
    assert (result.returncode, result.stdout + result.stderr) == (0, b"")


def test_each_family_has_a_help_text_that_ends_as_a_sentence() -> None:
    clock, _, site = start_service(*EVENTS)
    for family in parsed(request(clock, site).body.decode()):
        if family.name.startswith("bootfw_"):
            assert family.documentation.endswith((".", "label.")), family.name


def test_the_lag_of_the_reactor_is_measured_each_second() -> None:
    clock, boot, site = start_service()
    clock.advance(1.0)
    clock.rightNow += 3.5
    clock.advance(0)
    found = samples(request(clock, site).body.decode())
    assert found["bootfw_reactor_lag_seconds_count"] == 2
    assert found['bootfw_reactor_lag_seconds_bucket{le="1.0"}'] == 1
    assert found["bootfw_reactor_lag_seconds_sum"] == 2.5
    boot.stopService()
    clock.advance(0)
    assert not clock.getDelayedCalls()


def store_with_leases(count: int) -> MemoryStore:
    store = MemoryStore()
    states = [LeaseState.ACTIVE, LeaseState.RELEASED, LeaseState.DECLINED, LeaseState.ACTIVE]
    store.commit(
        [
            Lease(
                f"10.77.{number >> 8}.{number & 255}",
                number.to_bytes(7, "big"),
                f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}",
                states[number % 4],
                0.0,
                1.0 if number % 4 == 3 else 1e10,
            )
            for number in range(256, 256 + count)
        ]
    )
    return store


SERVER = Settings(
    tftp=TFTPSettings(listen=()),
    dhcp=DHCPSettings(
        mode="server",
        subnets=(Subnet(network="10.77.0.0/16", pool=("10.77.1.0-10.77.200.0",)),),
    ),
)


def test_leases_by_subnet_and_state() -> None:
    clock, _, site = start_service(settings=SERVER, store=store_with_leases(40))
    clock.advance(2.0)
    found = samples(request(clock, site).body.decode())
    states = ("active", "expired", "released", "declined")
    names = [f'bootfw_leases{{state="{state}",subnet="10.77.0.0/16"}}' for state in states]
    assert [found[name] for name in names] == [10.0] * 4
    assert found['bootfw_pool_free_addresses{subnet="10.77.0.0/16"}'] > 50_000


def test_a_machine_with_a_lease_a_transfer_and_a_boot_costs_the_page_few_calls() -> None:
    def calls_for(machines: int) -> int:
        boots = [
            BootAttemptEnded(7.0, evolve(FAILED, mac=f"52:54:00:00:{number >> 8:02x}:{number & 255:02x}"))
            for number in range(machines)
        ]
        transfers = [
            TransferBegun(5.0, evolve(READ, peer=(f"10.77.{number >> 8}.{number & 255}", 1)), Agreed())
            for number in range(machines)
        ]
        clock, _, site = start_service(settings=SERVER, store=store_with_leases(machines))
        counts: Counts = site.resource.children[b"metrics"]._collector._counts
        counts.observe_many([*EVENTS, *boots, *transfers])
        assert request(clock, site).status == 200  # loads prometheus_client
        return calls_of(lambda: request(clock, site))

    assert calls_for(1030) - calls_for(30) <= 4 * 1000


def test_sockets_that_are_waited_for_and_readiness() -> None:
    class FakeService:
        """What a service says of its sockets."""

        ready = False

        def sockets(self) -> list[SimpleNamespace]:
            states = ("bound", "waiting", "waiting")
            return [SimpleNamespace(service="tftp", state=state) for state in states]

        def lease_counts(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
            return {}, {}

        def images_sent(self) -> list[dict[str, Any]]:
            sessions = [(3, 2e7, 0.01), (4, 1e7, 0.03)]
            return [
                {"image": "a.img", "method": "multicast", "receivers": receivers, "rate": rate, "loss": loss}
                for receivers, rate, loss in sessions
            ]

        def cluster_record(self) -> dict[str, Any]:
            leader = {"name": "build1", "state": "here", "leadership": "leading", "draining": False, "transfers": 7}
            gone_node = {"name": "build2", "state": "gone", "draining": True, "transfers": 7}
            earlier_version = {"name": "build3", "state": "here"}
            nodes = [leader, gone_node, earlier_version, {"name": "build4", "state": "here", "draining": True}]
            return {"nodes": nodes, "behind": 1.5}

    clock = Clock()
    found = samples(request(clock, MetricsSite(clock, MetricsResource(FakeService(), Counts()))).body.decode())
    assert found['bootfw_sockets{service="tftp",state="bound"}'] == 1
    assert found['bootfw_sockets{service="tftp",state="waiting"}'] == 2
    assert found["bootfw_ready"] == 0
    assert found['bootfw_multicast_receivers{image="a.img",method="multicast"}'] == 7
    assert found['bootfw_multicast_rate_bytes{image="a.img",method="multicast"}'] == 3e7
    assert found['bootfw_multicast_loss_ratio{image="a.img",method="multicast"}'] == 0.03
    assert found['bootfw_node_up{node="build1"}'] == 1
    assert found['bootfw_node_up{node="build2"}'] == 0
    assert found['bootfw_node_leads{node="build1"}'] == 1
    assert 'bootfw_node_leads{node="build2"}' not in found
    assert {name: value for name, value in found.items() if "draining" in name or "node_transfers" in name} == {
        'bootfw_node_draining{node="build1"}': 0,
        'bootfw_node_draining{node="build4"}': 1,
        'bootfw_node_transfers_running{node="build1"}': 7,
    }
    assert found["bootfw_store_behind_seconds"] == 1.5


@pytest.mark.parametrize("last_event", [TransferEnded(5.02, REPORT), TransferRefused(6.0, READ, 1, "File not found")])
def test_a_transfer_runs_until_it_ends_or_is_refused(last_event: Event) -> None:
    counts = Counts()
    counts.observe_many([TransferBegun(5.0, READ, Agreed()), TransferBegun(5.0, UPLOAD, Agreed())])
    assert counts.running() == {"tftp": 1, "http": 1}
    counts.observe(last_event)
    assert counts.running() == {"http": 1}


def test_dropped_end_event_does_not_leave_a_transfer_running() -> None:
    counts = Counts()
    for number in range(50_010):
        counts.observe(TransferBegun(5.0, evolve(READ, peer=("10.0.0.1", number)), Agreed()))
    assert counts.running() == {"tftp": 50_000}


def test_metrics_need_prometheus_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("bootfw.config.settings.find_spec", lambda name: None)
    network = MemoryNetwork()
    boot = BootService(network.host("10.0.0.1"), settings=ONLY_TFTP)
    assert add_metrics(network.clock, boot, MetricsSettings()) is None
    with pytest.raises(ConfigError, match=r'^listen: metrics need prometheus_client: pip install "bootfw\[metrics\]"'):
        MetricsSettings(listen=("127.0.0.1:9150",))


def test_connections_are_bounded_and_reset_when_the_service_stops() -> None:
    clock, _, site = start_service()
    wires = []
    for _ in range(CONNECTIONS):
        protocol = site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000))
        wires.append(Wire(clock, protocol))
        protocol.makeConnection(wires[-1])
    assert site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 40000)) is None
    site.close()
    assert all(wire.aborted for wire in wires)
    clock.advance(0)
    assert not site.connections


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_and_its_workers_are_counted_together(tmp_path: Path, workers: int) -> None:
    tftp, web, metrics = free_port(), free_port(), free_port()
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "a").write_bytes(b"x" * 300)
    config = tmp_path / "bootfw.toml"
    config.write_text(
        f'[bootfw]\nworkers = {workers}\nstate-dir = "state"\n[tftp]\nlisten = ["127.0.0.1:{tftp}"]\n'
        f'[dhcp]\nmode = "off"\n[web]\nlisten = ["127.0.0.1:{web}"]\n[metrics]\nlisten = ["127.0.0.1:{metrics}"]\n'
        '[[backend]]\nuse = "directory"\nroot = "files"\n'
    )
    with bootfw(config) as server:
        server.until("bootfw serves")

        def page(port: int) -> dict[str, float]:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
                return samples(response.read().decode())

        def received() -> float:
            return page(metrics).get('bootfw_datagrams_total{outcome="received",service="tftp"}', 0.0)

        transfers = 0
        deadline = time.monotonic() + 90
        while (
            received() < 20 and time.monotonic() < deadline
        ):  # while a worker starts, the main process serves its files
            assert fetch(("127.0.0.1", tftp), "a") == b"x" * 300
            transfers += 1
            server.until("got 'a'", times=transfers)
        assert received() >= 20
        found = page(metrics)
        assert found['bootfw_transfers_total{direction="download",outcome="complete",protocol="tftp"}'] == transfers
        assert found['bootfw_transferred_bytes_total{direction="download",protocol="tftp"}'] == transfers * 300
        assert page(web)["bootfw_ready"] == 1
        assert "process_cpu_seconds_total" in found
