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
    with cluster_of(lab, tmp_path) as made:
        yield made


@frozen
class Fetch:
    """A client that fetches a file."""

    program: Program
    into: Path

    def ended(self, content: bytes) -> str:
        """ "" when it has ended well, with this content; else what it says."""
        code = self.program.wait(SECONDS)
        fetched = self.into.read_bytes() if self.into.exists() else b""
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


def fetch(client: Client, host: Host, directory: Path, name: str) -> Fetch:
    """Begin to fetch a file from the shared address."""
    need(client.program)
    into = directory / f"{host.name}-{client.name}"
    return Fetch(host.start(*client.get((SHARED, 69), name, into), name=client.name), into)


def fetch_with_all(stations: list[Host], directory: Path, name: str) -> dict[str, Fetch]:
    """Begin with every client on each of *stations*."""
    return {
        f"{client.name} on {host.name}": fetch(client, host, directory, name) for host in stations for client in CLIENTS
    }


def failures(fetches: dict[str, Fetch], content: bytes) -> dict[str, str]:
    """Those that have failed, and what they said, when all have ended."""
    return {name: said for name, each in fetches.items() if (said := each.ended(content))}


def wait_for_progress(fetches: dict[str, Fetch], size: int) -> None:
    """Until some bytes of each file are there, or it is complete."""

    def begun(each: Fetch) -> bool:
        return each.program.exit_code is not None or (each.into.exists() and each.into.stat().st_size > size)

    wait_until(lambda: all(map(begun, fetches.values())), SECONDS, "every transfer has begun")


SIZE = 1_000_000
"""Bytes: seconds in blocks of 512, while others keep the cores busy."""


def test_an_address_that_moves(cluster: Cluster, tmp_path: Path) -> None:
    """keepalived gives the shared address to a node; when that is killed, another one gets it and goes on."""
    content = os.urandom(SIZE)
    cluster.serves("file", content)
    stations = behind_keepalived(cluster, tmp_path)
    first = holder(cluster)
    assert first is not None
    fetches = fetch_with_all(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    first.kill()
    assert failures(fetches, content) == {}
    second = wait_until(lambda: holder(cluster), SECONDS, "another node has the address")
    assert second is not first
    # It stays there when the first one is back.
    first.start()
    wait_until(lambda: first.status()["ready"], SECONDS, "the first node is ready again")
    later = fetch(ATFTP_WINDOW, stations[0], tmp_path, "file")
    assert later.ended(content) == ""
    assert holder(cluster) is second


def serving(cluster: Cluster) -> dict[str, int]:
    """How many transfers each node has in flight."""
    return {node.name: node.status()["transfers"] for node in cluster.nodes}


def kill_the_busiest(cluster: Cluster) -> Node:
    counts = serving(cluster)
    busiest = max(cluster.nodes, key=lambda node: counts[node.name])
    assert counts[busiest.name] > 0, counts
    busiest.kill()
    return busiest


def test_nftables_on_a_router(cluster: Cluster, tmp_path: Path) -> None:
    """The map of the page spreads clients, the script of the page moves those of a node that is killed."""
    content = os.urandom(SIZE)
    cluster.serves("file", content)
    stations = behind_nftables(cluster, tmp_path)
    fetches = fetch_with_all(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    gone = kill_the_busiest(cluster)
    assert failures(fetches, content) == {}

    def mapped() -> str:
        router = Host(cluster.lab, "router")
        return router.run("nft", "list", "map", "ip", "bootfw", "nodes", seconds=SECONDS).output

    assert gone.address not in mapped()
    gone.start()
    wait_until(lambda: gone.address in mapped(), SECONDS, "the node that is back has clients again")


def test_nginx(cluster: Cluster, tmp_path: Path) -> None:
    """nginx spreads clients, whose addresses and ports the nodes see, and moves those of a node that is killed."""
    content = os.urandom(SIZE)
    cluster.serves("file", content)
    stations = behind_nginx(cluster, tmp_path)
    fetches = fetch_with_all(stations, tmp_path, "file")
    wait_for_progress(fetches, 50_000)
    kill_the_busiest(cluster)
    assert failures(fetches, content) == {}
    seen = "".join(node.program.output for node in cluster.nodes)
    assert all(f"tftp {station.addresses()[0].partition('/')[0]}:" in seen for station in stations)


@pytest.mark.firmware
@pytest.mark.parametrize("windowsize", [1, 16])
@pytest.mark.parametrize("behind", [behind_keepalived, behind_nftables, behind_nginx])
def test_no_transfer_fails_when_a_node_is_killed(
    cluster: Cluster, tmp_path: Path, behind: Callable[[Cluster, Path], list[Host]], windowsize: int
) -> None:
    """200 at once, of a client that compares every block, and gives up at the first ERROR."""
    transfers = 200
    cluster.serves("file", os.urandom(2_000_000 if windowsize == 1 else 10_000_000))
    stations = behind(cluster, tmp_path)
    content, each = cluster.nodes[0].root / "file", transfers // len(stations)
    loads = [
        start_load(station, tmp_path, SHARED, content, clients=each, windowsize=windowsize) for station in stations
    ]
    wait_until(lambda: sum(serving(cluster).values()) == transfers, SECONDS, "all have begun")
    gone = kill_the_busiest(cluster)
    results = [figures(load) for load in loads]
    print(gone.name, "was killed:", results)
    assert sum(result["done"] for result in results) == transfers, results
    assert sum(result["failed"] for result in results) == 0, results
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output


def test_the_health_check_of_the_page(cluster: Cluster) -> None:
    """The command of the page tells a node that serves from one that hangs, and from one that has ended."""
    node, station = cluster.nodes[0], cluster.lab.host("station", "10.77.0.9/24")
    cluster.serves("health", b"ok\n")
    node.start(FILES_ONLY)
    [(line, said)] = [block.splitlines() for block in blocks(PAGE, "console") if "bootfw probe" in block]
    words = line.removeprefix("$ bootfw ").split()

    def check() -> Program:
        return station.run(_COMMAND, *words, seconds=SECONDS)

    healthy = check()
    assert (healthy.exit_code, healthy.output.partition(" in ")[0]) == (0, said.partition(" in ")[0])
    node.pause()
    assert check().exit_code == 1
    node.resume()
    assert check().exit_code == 0
    node.kill()
    assert check().exit_code == 1


def served_by(node: Node) -> int:
    """Transfers in its log."""
    return node.program.output.count("': complete, ")


def test_dhcp_names_the_shared_address_and_another_node_has_it(cluster: Cluster) -> None:
    """The node that answers DHCP need not be the one that has the address."""
    answering, serving_files, _ = cluster.nodes
    for name in ("undionly.kpxe", "snponly.efi"):
        cluster.serves(name, (b"MZ" if name.endswith(".efi") else b"") + name.encode() * 100)
    addresses = '[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\npool = ["10.77.0.150-10.77.0.160"]\n'
    answering.start('[dhcp]\nmode = "server"\nprobe-seconds = 0\n', addresses, configuration(), ports=(67, 69, 4011))
    serving_files.start(FILES_ONLY)
    serving_files.host.ip("address", "add", f"{SHARED}/24", "dev", "eth0")
    station = cluster.lab.host("station", "10.77.0.9/24")
    for profile in ("bios", "uefi"):
        done = station.run(_COMMAND, "probe", "--json", "-i", "eth0", "--as", profile, seconds=SECONDS)
        found = json.loads(done.output)
        assert found["boots"], found
    wait_until(lambda: served_by(serving_files) == 2, SECONDS, "the node with the address has served both files")
    assert served_by(answering) == 0
