"""Clients that load and boot while a node dies, or while the database is restarted, under load."""

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .capture import Capture
from .cluster import SECONDS, Cluster, Node, cluster_of
from .lab import Lab, need, wait_until
from .test_takeover import PATIENCE
from .tftpload import figures, start_load

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

DHCP = """
[dhcp]
mode = "server"
probe-seconds = 0
new-clients-per-second = 0
[[dhcp.subnet]]
network = "10.77.0.0/16"
pool = ["10.77.4.0-10.77.60.255"]
"""

RATE, CLIENTS, LOAD_SECONDS = 1000, 10_000, 16
"""Exchanges a second, different clients, and how long perfdhcp begins exchanges."""


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as made:
        yield made


def with_role(cluster: Cluster, role: str) -> list[Node]:
    """The nodes that say that they are "leading", or a "standby"."""

    def has_role(node: Node) -> bool:
        rows = node.status()["cluster"]["nodes"]
        return any(row["name"] == node.name and row["leadership"] == role for row in rows)

    return list(filter(has_role, cluster.nodes))


def kill_the_leader(cluster: Cluster) -> None:
    (leader,) = with_role(cluster, "leading")
    leader.kill()


def restart_the_database(cluster: Cluster) -> None:
    cluster.server.restart()


@pytest.mark.parametrize("fault", [kill_the_leader, restart_the_database])
def test_dhcp_and_tftp_go_on_under_load(cluster: Cluster, tmp_path: Path, fault: Callable[[Cluster], None]) -> None:
    """perfdhcp is a relay that broadcasts. No acknowledged lease is lost, and no address is given twice."""
    need("perfdhcp")
    cluster.serves("file", os.urandom(1_000_000))
    cluster.start(DHCP, ports=(67, 69))
    wait_until(lambda: with_role(cluster, "leading"), SECONDS, "a node leads")
    standby = with_role(cluster, "standby")[0]
    station = cluster.lab.host("station", "10.77.0.9/24")
    reader = cluster.lab.host("reader", "10.77.0.8/24")
    capture = Capture.start(station, tmp_path, "udp[8] = 2")  # BOOTREPLY
    words = ("-l", "eth0", "-r", str(RATE), "-R", str(CLIENTS), "-p", str(LOAD_SECONDS), "-W", "3000000")
    load = station.start("perfdhcp", "-4", *words, "-x", "i")
    files = start_load(reader, tmp_path, standby.address, standby.root / "file", clients=20, transfers=400)
    time.sleep(LOAD_SECONDS / 3)
    assert load.exit_code is None, load.output
    failed_at = time.time()
    fault(cluster)
    load.wait(LOAD_SECONDS + SECONDS)
    read = figures(files)
    capture.stop()
    lines = capture.fields("dhcp.option.dhcp == 5", "dhcp.ip.your", "dhcp.hw.mac_addr", "frame.time_epoch")
    # The MAC stands in the client identifier too.
    acks = [(address, macs.partition(",")[0], float(at)) for address, macs, at in map(str.split, lines)]
    times = [at for _, _, at in acks]
    assert times[-1] > failed_at + 1, "no node has acknowledged a lease since"
    gap = max(later - earlier for earlier, later in itertools.pairwise(times) if later > failed_at)
    print(f"{len(acks)} leases in {times[-1] - times[0]:.1f} s, none for {gap:.2f} s; {read}")
    print(load.output)
    assert gap < PATIENCE
    assert (read["done"], read["failed"]) == (400, 0)
    clients, addresses = defaultdict(set), defaultdict(set)
    for address, mac, _ in acks:
        clients[address].add(mac)
        addresses[mac].add(address)
    assert {address: macs for address, macs in clients.items() if len(macs) > 1} == {}
    assert {mac: given for mac, given in addresses.items() if len(given) > 1} == {}
    with cluster.server.connect(dbname="bootfw") as connection:
        stored = dict(connection.execute("SELECT host(address), mac FROM bootfw.lease").fetchall())
    assert {address: mac for address, mac, _ in acks if stored.get(address) != mac} == {}
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output
