"""Several nodes behind one shared address, set up as docs/howto/balancers.md describes."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from howtos import blocks

from .cluster import SECONDS, Cluster, Node
from .lab import Host, Program, wait_until

PAGE = "balancers.md"
SHARED = "10.77.0.100"
"""The shared address on the page."""

_UNPACKED = Path(__file__).resolve().parents[2] / ".clients"

_MODULES = [root / "usr/lib/nginx/modules/ngx_stream_module.so" for root in (Path("/"), _UNPACKED)]


def find_program(name: str) -> Path:
    """A program that is installed, or that tools/install-clients has unpacked."""
    path = shutil.which(name, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", str(_UNPACKED / "usr/sbin"))))
    if path is None:
        pytest.skip(f"{name} is not installed: tools/install-clients unpacks it on Debian")
    return Path(path)


def library_path() -> str:
    """LD_LIBRARY_PATH=... for programs that are unpacked."""
    return f"LD_LIBRARY_PATH={_UNPACKED / 'usr/lib' / f'{os.uname().machine}-linux-gnu'}"


def start_nodes(cluster: Cluster, *parts: str, ports: Sequence[int] = (69,)) -> None:
    """Start all nodes, with the page's nftables rules: their hosts send no ICMP error when no server runs."""
    [rules] = [block for block in blocks(PAGE, "") if "bootfw_node" in block]
    path = cluster.directory / "bootfw-node.nft"
    path.write_text(rules)
    for node in cluster.nodes:
        result = node.host.run("nft", "--file", path, seconds=SECONDS)
        assert result.exit_code == 0, result.output
    cluster.start(*parts, ports=ports)


def start_keepalived(node: Node) -> Program:
    """Start keepalived on the host of *node*, with the configuration on the page."""
    program = find_program("keepalived")
    [configuration] = [block for block in blocks(PAGE, "") if "vrrp_instance" in block]
    assert SHARED in configuration
    path = node.state / "keepalived.conf"
    path.write_text(configuration)
    pids = [f"--{kind}={node.state / kind}.pid" for kind in ("pid", "vrrp_pid", "checkers_pid")]
    options = ["--dont-fork", "--log-console", "--log-detail", "--vrrp", *pids, f"--use-file={path}"]
    return node.start_program("env", library_path(), program, *options)


def holder(cluster: Cluster) -> Node | None:
    """The one node that has the shared address."""
    holders = [node for node in cluster.nodes if f"{SHARED}/24" in node.host.addresses()]
    return holders[0] if len(holders) == 1 else None


def configuration() -> str:
    """The bootfw configuration on the page, without the tables that Node.start() writes itself."""
    [tables] = blocks(PAGE, "toml")
    for table in ("bootfw", "http", "web"):
        tables = re.sub(rf"^\[{table}\]\n(?:[a-z].*\n)+\n?", "", tables, flags=re.MULTILINE)
    return tables


def behind_keepalived(cluster: Cluster, directory: Path, *parts: str, ports: Sequence[int] = (69,)) -> list[Host]:
    """Start nodes with keepalived; return a client in their network."""
    start_nodes(cluster, *parts, ports=ports)
    for node in cluster.nodes:
        start_keepalived(node)
    wait_until(lambda: holder(cluster), SECONDS, "one node has the address")
    return [cluster.lab.host("station", "10.77.0.9/24")]


def add_router(cluster: Cluster) -> Host:
    """Add the clients' router, which has the shared address and is the nodes' gateway."""
    router = cluster.lab.router("router", "10.77.0.1/24", "10.78.0.1/24")
    router.ip("address", "add", f"{SHARED}/32", "dev", "lo")
    for node in cluster.nodes:
        node.host.ip("route", "add", "default", "via", "10.77.0.1")
    return router


def add_stations(cluster: Cluster, count: int) -> list[Host]:
    """Add clients behind the router."""
    stations = [
        cluster.lab.host(f"station{number}", f"10.78.0.{10 + number}/24", segment="far") for number in range(count)
    ]
    for station in stations:
        station.ip("route", "add", "default", "via", "10.78.0.1")
    return stations


def behind_nftables(cluster: Cluster, directory: Path) -> list[Host]:
    """Start nodes behind a router with the nftables map and the script on the page; return clients of the router."""
    start_nodes(cluster)
    router = add_router(cluster)
    [rules] = [block for block in blocks(PAGE, "") if "jhash" in block]
    (directory / "bootfw.nft").write_text(rules)
    result = router.run("nft", "--file", directory / "bootfw.nft", seconds=SECONDS)
    assert result.exit_code == 0, result.output
    script, _ = blocks(PAGE, "sh")
    (directory / "bootfw-nodes").write_text(script)
    router.start("sh", directory / "bootfw-nodes", name="bootfw-nodes")
    return add_stations(cluster, 4)


def behind_nginx(cluster: Cluster, directory: Path) -> list[Host]:
    """Start nodes behind a router with nginx and the script on the page; return clients of the router."""
    program = find_program("nginx")
    module = next((path for path in _MODULES if path.exists()), None)
    if module is None:
        pytest.skip("nginx's stream module is not installed: tools/install-clients unpacks it on Debian")
    start_nodes(cluster)
    router = add_router(cluster)
    [commands] = [block for block in blocks(PAGE, "console") if "lookup 69" in block]
    for line in commands.splitlines():
        result = router.run("sh", "-c", line.removeprefix("# "), seconds=SECONDS)
        assert result.exit_code == 0, f"{line}: {result.output}"
    [configuration] = blocks(PAGE, "nginx")
    node_lists = directory / "lists"
    adapted = configuration.replace("modules/ngx_stream_module.so", str(module)).replace(
        "/run/bootfw-nodes", str(node_lists)
    )
    (directory / "nginx.conf").write_text(adapted)
    options = f"-e stderr -p {directory} -c {directory}/nginx.conf -g 'pid {directory}/pid;'"
    _, script = blocks(PAGE, "sh")
    assert "nginx -s reload" in script
    script = script.replace("nginx -s", f"{program} {options} -s").replace("/run/bootfw-nodes", str(node_lists))
    (directory / "bootfw-nodes").write_text(script)
    router.start("sh", directory / "bootfw-nodes", name="bootfw-nodes")
    wait_until((node_lists / "8069").exists, SECONDS, "the lists of nodes")
    server = router.start("sh", "-c", f"exec {program} {options.replace('pid ', 'daemon off; pid ')}", name="nginx")
    server.wait_until_bound(69)
    return add_stations(cluster, 4)
