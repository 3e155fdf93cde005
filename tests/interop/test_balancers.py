"""Nodes behind one address: the page docs/howto/balancers.md with real balancers and real clients."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import frozen
from howtos import blocks

from bootfw.values import Address

from .balancers import PAGE, SHARED, behind_keepalived, behind_nftables, behind_nginx, configuration, holder
from .clients import ATFTP, ATFTP_WINDOW, BUSYBOX, CURL, HPA, Client
from .cluster import FILES_ONLY, SECONDS, Cluster, Node, cluster_of
from .lab import Host, Lab, Program, need, wait_until
from .tftpload import figures, start_load

pytestmark = pytest.mark.interop

_COMMAND = str(Path(sys.executable).with_name("bootfw"))


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as cluster:
        yield cluster


@frozen
class Fetch:
    """A client that fetches a file."""

    program: Program
    destination: Path

    def error_when_finished(self, content: bytes) -> str:
        """ "" when it has ended well, with this content; else what it says."""
        code = self.program.wait(SECONDS)
        fetched = self.destination.read_bytes() if self.destination.exists() else b""
        return "" if code == 0 and fetched == content else f"{code}, {len(fetched)} bytes: {self.program.output}"


def _patient(server: Address, remote: str, local: Path) -> list[str]:
    """curl repeats a packet after 72 s, but with a time limit after some seconds, as firmware does."""
    return [*CURL.get(server, remote, local), "--max-time", str(SECONDS)]


def _http(server: Address, remote: str, local: Path) -> list[str]:
    options = (
        "--silent",
        "--show-error",
        "--retry",
        "20",
        "--retry-delay",
        "1",
        "--retry-all-errors",
        "--continue-at",
        "-",
    )
    return [
        "curl",
        *options,
        "--connect-timeout",
        "2",
        "--limit-rate",
        "2M",
        "--output",
        str(local),
        f"http://{server[0]}:8069/{remote}",
    ]


CLIENTS = (HPA, ATFTP, BUSYBOX, Client("curl", "curl", _patient), Client("curl-http", "curl", _http))


def start_fetch(client: Client, host: Host, directory: Path, name: str) -> Fetch:
    """Begin to fetch a file from the shared address."""
    need(client.program)
    destination = directory / f"{host.name}-{client.name}"
    return Fetch(host.start(*client.get((SHARED, 69), name, destination), name=client.name), destination)


def start_all_fetches(stations: list[Host], directory: Path, name: str) -> dict[str, Fetch]:
    """Begin with every client on each of *stations*."""
    return {
        f"{client.name} on {host.name}": start_fetch(client, host, directory, name)
        for host in stations
        for client in CLIENTS
    }


def failures(fetches: dict[str, Fetch], content: bytes) -> dict[str, str]:
    """Those that have failed, and what they said, when all have ended."""
    return {name: error for name, fetch in fetches.items() if (error := fetch.error_when_finished(content))}


def wait_for_progress(fetches: dict[str, Fetch], size: int) -> None:
    """Until some bytes of each file are there, or it is complete."""

    def has_begun(fetch: Fetch) -> bool:
        return fetch.program.exit_code is not None or (
            fetch.destination.exists() and fetch.destination.stat().st_size > size
        )

    wait_until(lambda: all(map(has_begun, fetches.values())), SECONDS, "every transfer has begun")


SIZE = 1_000_000
"""Bytes: seconds in blocks of 512, while others keep the cores busy."""


def test_keepalived_moves_the_address_of_a_killed_node(cluster: Cluster, tmp_path: Path) -> None:
    """keepalived gives the shared address to a node; when that is killed, another one gets it and goes on."""
    content = os.urandom(SIZE)
    cluster.add_file("file", content)
    stations = behind_keepalived(cluster, tmp_path)
    first = holder(cluster)
    assert first is not None
    fetches = start_all_fetches(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    first.kill()
    assert failures(fetches, content) == {}
    second = wait_until(lambda: holder(cluster), SECONDS, "another node has the address")
    assert second is not first
    # It stays there when the first one is back.
    first.start()
    wait_until(lambda: first.status()["ready"], SECONDS, "the first node is ready again")
    later_fetch = start_fetch(ATFTP_WINDOW, stations[0], tmp_path, "file")
    assert later_fetch.error_when_finished(content) == ""
    assert holder(cluster) is second


def transfers_in_progress(cluster: Cluster) -> dict[str, int]:
    """How many transfers each node has in flight."""
    return {node.name: node.status()["transfers"] for node in cluster.nodes}


def kill_the_busiest(cluster: Cluster) -> Node:
    counts = transfers_in_progress(cluster)
    busiest = max(cluster.nodes, key=lambda node: counts[node.name])
    assert counts[busiest.name] > 0, counts
    busiest.kill()
    return busiest


def test_nftables_moves_the_clients_of_a_killed_node(cluster: Cluster, tmp_path: Path) -> None:
    """The map of the page spreads clients, the script of the page moves those of a node that is killed."""
    content = os.urandom(SIZE)
    cluster.add_file("file", content)
    stations = behind_nftables(cluster, tmp_path)
    fetches = start_all_fetches(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    killed = kill_the_busiest(cluster)
    assert failures(fetches, content) == {}

    def mapped_addresses() -> str:
        router = Host(cluster.lab, "router")
        return router.run("nft", "list", "map", "ip", "bootfw", "nodes", seconds=SECONDS).output

    assert killed.address not in mapped_addresses()
    killed.start()
    wait_until(lambda: killed.address in mapped_addresses(), SECONDS, "the node that is back has clients again")


def test_nginx_moves_the_clients_of_a_killed_node(cluster: Cluster, tmp_path: Path) -> None:
    """nginx spreads clients, whose addresses and ports the nodes see, and moves those of a node that is killed."""
    content = os.urandom(SIZE)
    cluster.add_file("file", content)
    stations = behind_nginx(cluster, tmp_path)
    fetches = start_all_fetches(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    kill_the_busiest(cluster)
    assert failures(fetches, content) == {}
    logs = "".join(node.program.output for node in cluster.nodes)
    assert all(f"tftp {station.addresses()[0].partition('/')[0]}:" in logs for station in stations)


@pytest.mark.firmware
@pytest.mark.parametrize("windowsize", [1, 16])
@pytest.mark.parametrize("start_behind_balancer", [behind_keepalived, behind_nftables, behind_nginx])
def test_no_transfer_fails_when_a_node_is_killed(
    cluster: Cluster, tmp_path: Path, start_behind_balancer: Callable[[Cluster, Path], list[Host]], windowsize: int
) -> None:
    """200 at once, of a client that compares every block, and gives up at the first ERROR."""
    transfers = 200
    cluster.add_file("file", os.urandom(2_000_000 if windowsize == 1 else 10_000_000))
    stations = start_behind_balancer(cluster, tmp_path)
    content, clients_per_station = cluster.nodes[0].root / "file", transfers // len(stations)
    loads = [
        start_load(station, tmp_path, SHARED, content, clients=clients_per_station, windowsize=windowsize)
        for station in stations
    ]
    wait_until(lambda: sum(transfers_in_progress(cluster).values()) == transfers, SECONDS, "all have begun")
    killed = kill_the_busiest(cluster)
    results = [figures(load) for load in loads]
    print(killed.name, "was killed:", results)
    assert sum(result["done"] for result in results) == transfers, results
    assert sum(result["failed"] for result in results) == 0, results
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output


def test_the_health_check_of_the_page(cluster: Cluster) -> None:
    """The command of the page tells a node that serves from one that hangs, and from one that has ended."""
    node, station = cluster.nodes[0], cluster.lab.host("station", "10.77.0.9/24")
    cluster.add_file("health", b"ok\n")
    node.start(FILES_ONLY)
    [(line, expected)] = [block.splitlines() for block in blocks(PAGE, "console") if "bootfw probe" in block]
    arguments = line.removeprefix("$ bootfw ").split()

    def check() -> Program:
        return station.run(_COMMAND, *arguments, seconds=SECONDS)

    healthy = check()
    assert (healthy.exit_code, healthy.output.partition(" in ")[0]) == (0, expected.partition(" in ")[0])
    node.pause()
    assert check().exit_code == 1
    node.resume()
    assert check().exit_code == 0
    node.kill()
    assert check().exit_code == 1


def completed_transfers(node: Node) -> int:
    """Transfers in its log."""
    return node.program.output.count("': complete, ")


def test_dhcp_names_the_shared_address_and_another_node_has_it(cluster: Cluster) -> None:
    """The node that answers DHCP need not be the one that has the address."""
    dhcp_node, file_node, _ = cluster.nodes
    for name in ("undionly.kpxe", "snponly.efi"):
        cluster.add_file(name, (b"MZ" if name.endswith(".efi") else b"") + name.encode() * 100)
    addresses = '[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\npool = ["10.77.0.150-10.77.0.160"]\n'
    dhcp_node.start('[dhcp]\nmode = "server"\nprobe-seconds = 0\n', addresses, configuration(), ports=(67, 69, 4011))
    file_node.start(FILES_ONLY)
    file_node.host.ip("address", "add", f"{SHARED}/24", "dev", "eth0")
    station = cluster.lab.host("station", "10.77.0.9/24")
    for profile in ("bios", "uefi"):
        result = station.run(_COMMAND, "probe", "--json", "-i", "eth0", "--as", profile, seconds=SECONDS)
        report = json.loads(result.output)
        assert report["boots"], report
    wait_until(lambda: completed_transfers(file_node) == 2, SECONDS, "the node with the address has served both files")
    assert completed_transfers(dhcp_node) == 0
