"""Clients that load and boot while a node dies, or while the database is restarted, under load."""

import itertools
import json
import os
import secrets
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import pytest

from . import qemu
from .balancers import SHARED, holder, start_keepalived, start_nodes
from .capture import Capture
from .cluster import SECONDS, Cluster, Node, cluster_of
from .dhcp6clients import CLIENTS, MAC
from .dhcpclients import DHCPClient
from .firmware.files import Served
from .firmware.servers import start_router
from .lab import Lab, Program, need, wait_until
from .machines.bios import start_bios_machine
from .machines.uefi import start_uefi_machine
from .test_dhcp6_server import addresses, has_link_local
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

RATE, LOAD_CLIENTS, LOAD_SECONDS = 1000, 10_000, 16
"""Exchanges a second, different clients, and how long perfdhcp begins exchanges."""


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as cluster:
        yield cluster


def nodes_with_role(cluster: Cluster, role: str) -> list[Node]:
    """The nodes that say that they are "leading", or a "standby"."""

    def has_role(node: Node) -> bool:
        rows = node.status()["cluster"]["nodes"]
        return any(row["name"] == node.name and row["leadership"] == role for row in rows)

    return list(filter(has_role, cluster.nodes))


def kill_the_leader(cluster: Cluster) -> None:
    (leader,) = nodes_with_role(cluster, "leading")
    leader.kill()


def restart_the_database(cluster: Cluster) -> None:
    cluster.server.restart()


@pytest.mark.parametrize("fault", [kill_the_leader, restart_the_database])
def test_dhcp_and_tftp_go_on_under_load(cluster: Cluster, tmp_path: Path, fault: Callable[[Cluster], None]) -> None:
    """perfdhcp is a relay that broadcasts. No acknowledged lease is lost, and no address is given twice."""
    need("perfdhcp")
    cluster.add_file("file", os.urandom(1_000_000))
    cluster.start(DHCP, ports=(67, 69))
    wait_until(lambda: nodes_with_role(cluster, "leading"), SECONDS, "a node leads")
    standby = nodes_with_role(cluster, "standby")[0]
    station = cluster.lab.host("station", "10.77.0.9/24")
    reader = cluster.lab.host("reader", "10.77.0.8/24")
    capture = Capture.start(station, tmp_path, "udp[8] = 2")  # BOOTREPLY
    options = ("-l", "eth0", "-r", str(RATE), "-R", str(LOAD_CLIENTS), "-p", str(LOAD_SECONDS), "-W", "3000000")
    load = station.start("perfdhcp", "-4", *options, "-x", "i")
    file_load = start_load(reader, tmp_path, standby.address, standby.root / "file", clients=20, transfers=400)
    time.sleep(LOAD_SECONDS / 3)
    assert load.exit_code is None, load.output
    failed_at = time.time()
    fault(cluster)
    load.wait(LOAD_SECONDS + SECONDS)
    file_counts = figures(file_load)
    capture.stop()
    lines = capture.fields("dhcp.option.dhcp == 5", "dhcp.ip.your", "dhcp.hw.mac_addr", "frame.time_epoch")
    # The MAC stands in the client identifier too.
    acks = [(address, macs.partition(",")[0], float(timestamp)) for address, macs, timestamp in map(str.split, lines)]
    times = [timestamp for _, _, timestamp in acks]
    assert times[-1] > failed_at + 1, "no node has acknowledged a lease since"
    longest_gap = max(later - earlier for earlier, later in itertools.pairwise(times) if later > failed_at)
    print(f"{len(acks)} leases in {times[-1] - times[0]:.1f} s, none for {longest_gap:.2f} s; {file_counts}")
    print(load.output)
    assert longest_gap < PATIENCE
    assert (file_counts["done"], file_counts["failed"]) == (400, 0)
    clients, addresses = defaultdict(set), defaultdict(set)
    for address, mac, _ in acks:
        clients[address].add(mac)
        addresses[mac].add(address)
    assert {address: macs for address, macs in clients.items() if len(macs) > 1} == {}
    assert {mac: assigned for mac, assigned in addresses.items() if len(assigned) > 1} == {}
    with cluster.server.connect(dbname="bootfw") as connection:
        stored = dict(connection.execute("SELECT host(address), mac FROM bootfw.lease").fetchall())
    assert {address: mac for address, mac, _ in acks if stored.get(address) != mac} == {}
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output


DHCP6 = """
[dhcp]
mode = "off"
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::1000-fd77::1fff"]
lease-seconds = 60
rapid-commit = false
"""


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_a_client_of_dhcp6_goes_on_with_another_node(cluster: Cluster, tmp_path: Path, client: DHCPClient) -> None:
    """Two leaders are killed: one that has advertised the address that the client requests, one that has given it."""
    for number, node in enumerate(cluster.nodes, 1):
        node.host.ip("-6", "address", "add", f"fd77::{number}/64", "dev", "eth0", "nodad")
        wait_until(partial(has_link_local, node.host), SECONDS, "a link-local address can be used")
    cluster.start(DHCP6, ports=(69, 547))
    wait_until(lambda: nodes_with_role(cluster, "leading"), SECONDS, "a node leads")
    (first_leader,) = nodes_with_role(cluster, "leading")
    station = cluster.lab.host("station", mac=MAC)
    wait_until(lambda: has_link_local(station), SECONDS, "the client's link-local address can be used")
    need("tcpdump")
    tcpdump = station.start("tcpdump", "-l", "-n", "-i", "eth0", "udp port 547")
    tcpdump.wait_until(lambda: "listening on" in tcpdump.output, SECONDS, "it records")
    cluster.lab.drop("ip6 nexthdr udp udp dport 547 @th,64,8 3")  # REQUEST
    client.start(station, tmp_path)
    tcpdump.wait_until(lambda: "dhcp6 request" in tcpdump.output, SECONDS, "it requests what was advertised")
    first_leader.kill()
    cluster.stop_dropping()
    tcpdump.wait_until(lambda: addresses(station) != [], SECONDS, "it has an address")
    cluster.nodes.remove(first_leader)
    (second_leader,) = nodes_with_role(cluster, "leading")
    replies = tcpdump.output.count("dhcp6 reply")
    second_leader.kill()
    tcpdump.wait_until(lambda: tcpdump.output.count("dhcp6 reply") > replies, SECONDS, "it renews")
    message_types = [line.partition("dhcp6 ")[2].split()[0] for line in tcpdump.output.splitlines() if "dhcp6 " in line]
    exchange = message_types[message_types.index("request") :]
    assert (set(exchange), exchange[-1]) == ({"request", "reply", "renew"}, "reply")


CHOICE = """
[[resolver]]
use = "by-architecture"
server = "{shared}"
[resolver.files]
"""


def start_behind_one_address(cluster: Cluster, files: Mapping[str, str]) -> Node:
    """Nodes that answer DHCP too; returns the one that leads, and has the shared address."""
    boot_files = "".join(f'{architecture} = "{file}"\n' for architecture, file in files.items())
    for node in cluster.nodes:
        node.host.ip("route", "add", "10.77.0.0/16", "dev", "eth0")  # where the pool is
    start_nodes(cluster, DHCP, CHOICE.format(shared=SHARED), boot_files, ports=(67, 69, 4011))
    wait_until(lambda: nodes_with_role(cluster, "leading"), SECONDS, "a node leads")
    (leader,) = nodes_with_role(cluster, "leading")
    for node in sorted(cluster.nodes, key=lambda node: node is not leader):
        start_keepalived(node)
        wait_until(lambda: holder(cluster) is leader, SECONDS, "the leader has the address")
    return leader


def test_all_machines_of_a_storm_boot(cluster: Cluster, tmp_path: Path) -> None:
    """The node that leads and has the address is killed when a part of the machines have booted."""
    machines = 300
    for name in ("vmlinuz", "initrd.img"):
        cluster.add_file(name, os.urandom(1_000_000))
    for name in ("loader", "ldlinux.c32", "pxelinux.cfg/default"):
        cluster.add_file(name, os.urandom(30_000))
    leader = start_behind_one_address(cluster, {"x86-bios": "loader"})
    station = cluster.lab.host("station", "10.77.0.9/16")
    rules = 'add table netdev storm; add chain netdev storm in { type filter hook ingress device "eth0" priority 0; };'
    # Frames to the MAC of any machine are for this host.
    result = station.run("nft", f"{rules} add rule netdev storm in meta pkttype set host", seconds=SECONDS)
    assert result.exit_code == 0, result.output
    boot_options = (
        "-n",
        str(machines),
        "--boot",
        "pxelinux",
        "--arrival",
        "racks",
        "--rack",
        "20",
        "--rack-seconds",
        "2",
    )
    network_options = ("--interface", "eth0", "--allow", "10.77.0.0/16", "--json")
    storm = station.start(
        sys.executable, "-m", "bootfw.cli.main", "storm", *boot_options, *network_options, name="storm"
    )
    wait_until(lambda: leader.program.output.count("'initrd.img': complete, ") > machines // 10, SECONDS, "some booted")
    assert leader.status()["transfers"] > 0
    leader.kill()
    assert storm.wait(200) == 0, storm.output
    report = json.loads(storm.output[storm.output.index("{") :])
    print({key: value for key, value in report.items() if key != "machines"})
    assert (report["booted"], report["failures"]) == (machines, {})
    for node in cluster.nodes:
        assert "Traceback" not in node.program.output


def start_bios(lab: Lab) -> Program:
    return start_bios_machine(lab, "e1000")


def script_and_linux(served: Served) -> Mapping[str, str]:
    """The kernel is the large file."""
    served.linux()
    return {"ipxe": served.ipxe_script(kernel="kernel")}


def large_grub(served: Served) -> Mapping[str, str]:
    """GRUB, with zeros behind it, which the firmware loads too."""
    name = served.grub_with_marker("x86_64-efi")
    with (served.root / name).open("ab") as file:
        file.write(bytes(12_000_000))
    return {"x86_64-uefi": name}


def sent_bytes(node: Node) -> int:
    """What has left its host since that was made."""
    result = node.host.run("cat", "/sys/class/net/eth0/statistics/tx_bytes", seconds=SECONDS)
    return int(result.output)


@pytest.mark.parametrize(
    ("start", "prepare"), [(start_bios, script_and_linux), (start_uefi_machine, large_grub)], ids=["ipxe", "ovmf"]
)
def test_firmware_boots(
    cluster: Cluster, tmp_path: Path, start: Callable[[Lab], Program], prepare: Callable[[Served], Mapping[str, str]]
) -> None:
    """The node that leads and has the address is killed while it sends a large file."""
    served = Served(tmp_path / "served", f"marker-{secrets.token_hex(8)}")
    served.root.mkdir()
    files = prepare(served)
    for path in served.root.rglob("*"):
        if path.is_file():
            cluster.add_file(str(path.relative_to(served.root)), path.read_bytes())
    leader = start_behind_one_address(cluster, files)
    start_router(cluster.lab)
    console = start(cluster.lab)
    before = sent_bytes(leader)
    wait_until(lambda: sent_bytes(leader) - before > 2_000_000, 2 * SECONDS, "a large file is on its way")
    assert leader.status()["transfers"] == 1
    leader.kill()
    console.wait_until(lambda: served.marker in console.output, qemu.SECONDS, "the marker on the console")
    other_nodes = [node for node in cluster.nodes if node is not leader]
    assert any("': complete, " in node.program.output for node in other_nodes)
