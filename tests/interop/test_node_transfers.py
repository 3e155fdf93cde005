"""Transfers go on when their server is killed or drained, at another server that takes its address."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from .clients import ATFTP, ATFTP_WINDOW, CURL, HPA, Client
from .cluster import SECONDS, Cluster, Node, cluster_of
from .lab import Host, Lab, Program, need, wait_until
from .tftpload import figures, start_load

pytestmark = pytest.mark.interop

VIRTUAL_ADDRESS = "10.77.0.100"
"""The address that clients know."""

LARGE = 12_000_000
"""Bytes; several clients at once fetch it in seconds on a quiet machine, in less than SECONDS on a busy one."""

TRANSFERS = 500
"""During an upgrade, 200 at a time."""


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as cluster:
        yield cluster


@pytest.fixture
def content(cluster: Cluster) -> bytes:
    content = os.urandom(LARGE)
    cluster.add_file("large", content)
    return content


@pytest.fixture
def station(cluster: Cluster) -> Host:
    return cluster.lab.host("station", "10.77.0.9/24")


class VirtualAddress:
    """An address that one node has, and that moves as VRRP would move it."""

    def __init__(self, station: Host) -> None:
        self._station = station
        self.owner: Node | None = None

    def move(self, node: Node) -> None:
        if self.owner is not None:
            self.owner.host.ip("address", "del", f"{VIRTUAL_ADDRESS}/24", "dev", "eth0")
        node.host.ip("address", "add", f"{VIRTUAL_ADDRESS}/24", "dev", "eth0")
        self._station.ip("neigh", "flush", "dev", "eth0")  # in place of an ARP announcement
        self.owner = node


@pytest.fixture
def virtual(station: Host) -> VirtualAddress:
    return VirtualAddress(station)


def is_ready(node: Node) -> bool:
    """What a health check of a balancer finds."""
    result = node.host.run("curl", "--silent", "--fail", "--max-time", "2", "http://127.0.0.1:8067/readyz", seconds=10)
    return result.exit_code == 0


@contextmanager
def health_checked(virtual: VirtualAddress, nodes: Sequence[Node]) -> Iterator[None]:
    """Moves the address from a node that is not ready to one that is."""
    stopped = threading.Event()

    def check() -> None:
        while not stopped.wait(0.3):
            assert virtual.owner is not None
            if not is_ready(virtual.owner):
                for node in nodes:
                    if node is not virtual.owner and is_ready(node):
                        virtual.move(node)
                        break

    thread = threading.Thread(target=check)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def start_fetch(station: Host, client: Client, destination: Path) -> Program:
    need(client.program)
    command = client.get((VIRTUAL_ADDRESS, 69), "large", destination)
    # Without a time limit curl repeats an ACK only after 72 s.
    options = ("--max-time", str(2 * SECONDS)) if client is CURL else ()
    return station.start(*command, *options, name=destination.name)


def start_nodes(virtual: VirtualAddress, nodes: Sequence[Node], *workers: int) -> None:
    """Start nodes, and wait until each hears the others. The first one gets the address."""
    for node, count in zip(nodes, workers, strict=True):
        node.start(workers=count)

    def nodes_seen(node: Node) -> int:
        return sum(row["state"] == "here" for row in node.status()["cluster"]["nodes"])

    wait_until(lambda: all(nodes_seen(node) == len(nodes) for node in nodes), SECONDS, "the nodes hear each other")
    virtual.move(nodes[0])


def header_of(response: Path, name: str) -> str:
    """A header of a response that curl has written with --dump-header."""
    fields = dict(line.split(": ", 1) for line in response.read_text().splitlines() if ": " in line)
    return {key.lower(): value for key, value in fields.items()}[name]


def have_size(copies: Sequence[Path], size: int) -> bool:
    return all(copy.exists() and copy.stat().st_size >= size for copy in copies)


def test_a_download_goes_on_when_its_server_is_killed(
    cluster: Cluster, station: Host, virtual: VirtualAddress, content: bytes, tmp_path: Path
) -> None:
    """At one with several processes, any of which may get the client's packets."""
    start_nodes(virtual, cluster.nodes[:2], 1, 2)
    clients = [HPA, ATFTP, ATFTP_WINDOW, CURL]
    copies = [tmp_path / client.name for client in clients]
    fetches = [start_fetch(station, client, copy) for client, copy in zip(clients, copies, strict=True)]
    wait_until(lambda: have_size(copies, 50_000), SECONDS, "the downloads have begun")
    assert all(fetch.exit_code is None for fetch in fetches)
    cluster.nodes[0].kill()
    virtual.move(cluster.nodes[1])
    for fetch, copy in zip(fetches, copies, strict=True):
        assert fetch.wait(2 * SECONDS) == 0, fetch.output
        assert copy.read_bytes() == content
    assert "Traceback" not in cluster.nodes[1].program.output


def test_a_drained_server_hands_its_downloads_over(
    cluster: Cluster, station: Host, virtual: VirtualAddress, content: bytes, tmp_path: Path
) -> None:
    start_nodes(virtual, cluster.nodes[:2], 2, 1)
    clients = [HPA, ATFTP_WINDOW]
    copies = [tmp_path / client.name for client in clients]
    fetches = [start_fetch(station, client, copy) for client, copy in zip(clients, copies, strict=True)]
    wait_until(lambda: have_size(copies, 50_000), SECONDS, "the downloads have begun")
    with health_checked(virtual, cluster.nodes[:2]):
        output = cluster.nodes[0].command("drain", "--within", "10", "--json")
    assert json.loads(output)["drained"]
    assert virtual.owner is cluster.nodes[1]
    for fetch, copy in zip(fetches, copies, strict=True):
        assert fetch.wait(2 * SECONDS) == 0, fetch.output
        assert copy.read_bytes() == content
    for node in cluster.nodes[:2]:
        assert "Traceback" not in node.program.output
    assert "the server is stopping" not in cluster.nodes[0].program.output


def test_an_http_download_goes_on_at_another_server_with_a_range(
    cluster: Cluster, station: Host, virtual: VirtualAddress, content: bytes, tmp_path: Path
) -> None:
    """The copies have the same strong entity tag: curl asks for the rest on the condition that this has not changed."""
    start_nodes(virtual, cluster.nodes[:2], 1, 2)
    copy, first_headers, second_headers = tmp_path / "copy", tmp_path / "first", tmp_path / "second"
    url = f"http://{VIRTUAL_ADDRESS}:8069/large"
    fetch_command = ("curl", "--silent", "--show-error", "--fail", "--output", copy, "--max-time", str(2 * SECONDS))
    curl = station.start(*fetch_command, "--limit-rate", "2M", "--dump-header", first_headers, url, name="curl")
    wait_until(lambda: have_size([copy], 50_000), SECONDS, "the download has begun")
    assert curl.exit_code is None, curl.output
    cluster.nodes[0].kill()
    virtual.move(cluster.nodes[1])
    assert curl.wait(2 * SECONDS) != 0
    assert 0 < copy.stat().st_size < len(content)
    etag = header_of(first_headers, "etag")
    assert etag.startswith('"')  # strong
    condition = ("--header", f"If-Range: {etag}", "--continue-at", "-")
    result = station.run(*fetch_command, *condition, "--dump-header", second_headers, url, seconds=2 * SECONDS)
    assert result.exit_code == 0, result.output
    assert second_headers.read_text().split()[1] == "206"
    assert header_of(second_headers, "etag") == etag
    assert copy.read_bytes() == content


@pytest.mark.firmware
def test_an_upgrade_one_server_after_the_other_during_200_transfers(
    cluster: Cluster, station: Host, virtual: VirtualAddress, content: bytes, tmp_path: Path
) -> None:
    start_nodes(virtual, cluster.nodes, 1, 1, 1)
    file = cluster.nodes[0].root / "large"
    load = start_load(station, tmp_path, VIRTUAL_ADDRESS, file, clients=200, transfers=TRANSFERS, windowsize=4)
    with health_checked(virtual, cluster.nodes):
        for node in cluster.nodes:
            wait_until(lambda: is_ready(node), SECONDS, "it is ready")  # noqa: B023
            assert load.exit_code is None, load.output
            node.command("drain", "--within", "10")
            node.start()
        counts = figures(load)
    assert (counts["done"], counts["failed"]) == (TRANSFERS, 0)
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output


@pytest.mark.firmware
def test_a_server_is_killed_during_200_transfers(
    cluster: Cluster, station: Host, virtual: VirtualAddress, content: bytes, tmp_path: Path
) -> None:
    start_nodes(virtual, cluster.nodes, 1, 1, 1)
    file = cluster.nodes[0].root / "large"
    load = start_load(station, tmp_path, VIRTUAL_ADDRESS, file, clients=200, windowsize=4)
    wait_until(lambda: cluster.nodes[0].status()["transfers"] == 200, SECONDS, "all have begun")
    cluster.nodes[0].kill()
    virtual.move(cluster.nodes[1])
    counts = figures(load)
    assert (counts["done"], counts["failed"]) == (200, 0)
    assert "Traceback" not in cluster.nodes[1].program.output
