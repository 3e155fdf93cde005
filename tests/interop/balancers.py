"""Several nodes behind one address, set up as the page docs/howto/balancers.md says."""

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
"""The address of the page."""

_UNPACKED = Path(__file__).resolve().parents[2] / ".clients"

_MODULES = [root / "usr/lib/nginx/modules/ngx_stream_module.so" for root in (Path("/"), _UNPACKED)]


def unpacked(name: str) -> Path:
    """A program that is installed, or that tools/install-clients has unpacked."""
    found = shutil.which(name, path=os.pathsep.join((os.environ["PATH"], "/usr/sbin", str(_UNPACKED / "usr/sbin"))))
    if found is None:
        pytest.skip(f"{name} is not installed: tools/install-clients unpacks it on Debian")
    return Path(found)


def libraries() -> str:
    """The variable for programs that are unpacked."""
    return f"LD_LIBRARY_PATH={_UNPACKED / 'usr/lib' / f'{os.uname().machine}-linux-gnu'}"


def start_nodes(cluster: Cluster, *parts: str, ports: Sequence[int] = (69,)) -> None:
    """All nodes, which do not refuse packets when they have ended. See Node.start()."""
    [rules] = [block for block in blocks(PAGE, "") if "bootfw_node" in block]
    path = cluster.directory / "bootfw-node.nft"
    path.write_text(rules)
    for node in cluster.nodes:
        done = node.host.run("nft", "--file", path, seconds=SECONDS)
        assert done.exit_code == 0, done.output
    cluster.start(*parts, ports=ports)


def start_keepalived(node: Node) -> Program:
    """keepalived on the host of *node*, with the configuration of the page."""
    program = unpacked("keepalived")
    [text] = [block for block in blocks(PAGE, "") if "vrrp_instance" in block]
    assert SHARED in text
    path = node.state / "keepalived.conf"
    path.write_text(text)
    pids = [f"--{kind}={node.state / kind}.pid" for kind in ("pid", "vrrp_pid", "checkers_pid")]
    options = ["--dont-fork", "--log-console", "--log-detail", "--vrrp", *pids, f"--use-file={path}"]
    return node.run_later("env", libraries(), program, *options)


def holder(cluster: Cluster) -> Node | None:
    """The one node that has the shared address."""
    found = [node for node in cluster.nodes if f"{SHARED}/24" in node.host.addresses()]
    return found[0] if len(found) == 1 else None


def configuration() -> str:
    """That of the page, for nodes that answer DHCP and whose files are the page's."""
    [text] = blocks(PAGE, "toml")
    # The lab's configuration has the tables of HTTP and of the pages, and the others are the page's.
    for table in ("bootfw", "http", "web"):
        text = re.sub(rf"^\[{table}\]\n(?:[a-z].*\n)+\n?", "", text, flags=re.MULTILINE)
    return text


def behind_keepalived(cluster: Cluster, directory: Path, *parts: str, ports: Sequence[int] = (69,)) -> list[Host]:
    """Nodes with keepalived, and a client in their network."""
    start_nodes(cluster, *parts, ports=ports)
    for node in cluster.nodes:
        start_keepalived(node)
    wait_until(lambda: holder(cluster), SECONDS, "one node has the address")
    return [cluster.lab.host("station", "10.77.0.9/24")]


def add_router(cluster: Cluster) -> Host:
    """The clients' router, which has the shared address, and is the nodes' gateway."""
    router = cluster.lab.router("router", "10.77.0.1/24", "10.78.0.1/24")
    router.ip("address", "add", f"{SHARED}/32", "dev", "lo")
    for node in cluster.nodes:
        node.host.ip("route", "add", "default", "via", "10.77.0.1")
    return router


def add_stations(cluster: Cluster, count: int) -> list[Host]:
    """Clients behind the router."""
    stations = [
        cluster.lab.host(f"station{number}", f"10.78.0.{10 + number}/24", segment="far") for number in range(count)
    ]
    for station in stations:
        station.ip("route", "add", "default", "via", "10.78.0.1")
    return stations


def behind_nftables(cluster: Cluster, directory: Path) -> list[Host]:
    """Clients behind a router with the map and the script of the page."""
    start_nodes(cluster)
    router = add_router(cluster)
    [rules] = [block for block in blocks(PAGE, "") if "jhash" in block]
    (directory / "bootfw.nft").write_text(rules)
    done = router.run("nft", "--file", directory / "bootfw.nft", seconds=SECONDS)
    assert done.exit_code == 0, done.output
    script, _ = blocks(PAGE, "sh")
    (directory / "bootfw-nodes").write_text(script)
    router.start("sh", directory / "bootfw-nodes", name="bootfw-nodes")
    return add_stations(cluster, 4)


def behind_nginx(cluster: Cluster, directory: Path) -> list[Host]:
    """Clients behind a router with nginx and the script of the page."""
    program = unpacked("nginx")
    module = next((path for path in _MODULES if path.exists()), None)
    if module is None:
        pytest.skip("nginx's stream module is not installed: tools/install-clients unpacks it on Debian")
    start_nodes(cluster)
    router = add_router(cluster)
    [commands] = [block for block in blocks(PAGE, "console") if "lookup 69" in block]
    for line in commands.splitlines():
        done = router.run("sh", "-c", line.removeprefix("# "), seconds=SECONDS)
        assert done.exit_code == 0, f"{line}: {done.output}"
    [text] = blocks(PAGE, "nginx")
    lists = directory / "lists"
    replaced = text.replace("modules/ngx_stream_module.so", str(module)).replace("/run/bootfw-nodes", str(lists))
    (directory / "nginx.conf").write_text(replaced)
    options = f"-e stderr -p {directory} -c {directory}/nginx.conf -g 'pid {directory}/pid;'"
    _, script = blocks(PAGE, "sh")
    assert "nginx -s reload" in script
    script = script.replace("nginx -s", f"{program} {options} -s").replace("/run/bootfw-nodes", str(lists))
    (directory / "bootfw-nodes").write_text(script)
    router.start("sh", directory / "bootfw-nodes", name="bootfw-nodes")
    wait_until((lists / "8069").exists, SECONDS, "the lists of nodes")
    running = router.start("sh", "-c", f"exec {program} {options.replace('pid ', 'daemon off; pid ')}", name="nginx")
    running.wait_until_bound(69)
    return add_stations(cluster, 4)
