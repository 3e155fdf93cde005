"""Several nodes with one PostgreSQL, as an operator sets them up."""

import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from howtos import blocks
from installing import POSTGRESQL

from .clients import CURL
from .cluster import DATABASE, SECONDS, Cluster, Node, cluster_of
from .lab import Lab, need, wait_until

pytestmark = pytest.mark.interop

PAGE, CONFIGURATION = "cluster.md", "/etc/bootfw/bootfw.toml"

COMMAND = str(Path(sys.executable).with_name("bootfw"))


def roles(node: Node) -> dict[str, str]:
    """What *node* knows of the nodes that are there."""
    rows = node.status()["cluster"]["nodes"]
    return {row["name"]: row["leadership"] for row in rows if row["state"] == "here"}


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as cluster:
        yield cluster


def test_every_node_serves_the_files(cluster: Cluster, tmp_path: Path) -> None:
    need(CURL.program)
    content = os.urandom(100_000)
    cluster.add_file("file", content)
    cluster.start()
    station = cluster.lab.host("station", "10.77.0.9/24")
    for node in cluster.nodes:
        destination = tmp_path / f"from-{node.name}"
        result = station.run(*CURL.get((node.address, 69), "file", destination), seconds=SECONDS)
        assert result.exit_code == 0, result.output
        assert destination.read_bytes() == content
        assert node.status()["ready"]
        assert "bootfw" in node.command("status")


def test_nodes_know_each_other_and_what_the_others_serve(cluster: Cluster) -> None:
    """The status shows a node that dies, and lint the files that differ."""
    first, second, third = cluster.nodes
    cluster.add_file("same", b"x")
    cluster.start()

    def states(node: Node) -> dict[str, str]:
        return {row["name"]: row["state"] for row in node.status()["cluster"]["nodes"]}

    all_here = {each.name: "here" for each in cluster.nodes}
    wait_until(lambda: all(states(each) == all_here for each in cluster.nodes), SECONDS, "they know each other")
    status = first.command("status")
    assert second.address in status
    assert "compared: node1, node2, node3; 1 files on this node" in first.command("lint", "--cluster")

    (second.root / "only-here").write_bytes(b"content")
    (third.root / "same").write_bytes(b"longer")
    findings = first.command("lint", "--cluster", code=1)
    assert "only-here" in findings
    assert "node1, node3: missing; node2: 7 bytes of " in findings
    assert "2 findings" in findings

    third.kill()
    wait_until(lambda: states(first)["node3"] == "gone", SECONDS, "a node that was killed is gone")
    second.program.stop()
    wait_until(lambda: states(first)["node2"] == "stopped", SECONDS, "a node that was stopped has said so")
    cluster.server.stop()
    wait_until(lambda: "was last reached" in first.command("status"), SECONDS, "the status says that the store is away")
    assert first.status()["ready"]


def test_two_nodes_as_the_page_sets_them_up(cluster: Cluster, tmp_path: Path) -> None:
    """The commands of docs/howto/cluster.md; then the leader is killed, and a machine keeps its address."""
    first, second, _ = cluster.nodes
    cluster.nodes.remove(cluster.nodes[2])
    create_command, install_block, copy_command, start_command, check_block = blocks(PAGE, "console")
    cluster.server.run("DROP DATABASE bootfw")
    for statement in shlex.split(create_command.removeprefix("# sudo -u postgres psql "))[1::2]:
        cluster.server.run(statement)
    [access_block] = blocks(PAGE, "")
    listen_line, access_line = access_block.splitlines()
    assert DATABASE in listen_line
    rules = cluster.server.directory / "data" / "pg_hba.conf"
    rules.write_text(f"{access_line}\n{rules.read_text()}")
    cluster.server.run("SELECT pg_reload_conf()")
    install, password = install_block.splitlines()
    assert install == f"# pip install . ./plugins/{POSTGRESQL.name}"
    [text] = blocks(PAGE, "toml")
    for name in ("pxelinux.0", "grubx64.efi"):
        (first.root / name).write_bytes((b"MZ" if name.endswith(".efi") else b"") + name.encode())
    assert copy_command.startswith("# rsync --archive ")
    shutil.copytree(first.root, second.root, copy_function=shutil.copy2, dirs_exist_ok=True)
    assert start_command == f"# bootfw run -c {CONFIGURATION}\n"
    for node in cluster.nodes:
        passwords = node.state / "pgpass"
        line = password.removeprefix("# ").replace("/etc/bootfw/pgpass", str(passwords))
        result = node.host.run("sh", "-c", line, seconds=SECONDS)
        assert result.exit_code == 0, result.output
        passwords.chmod(0o600)
        configuration = text.replace("/etc/bootfw/pgpass", str(passwords)).replace("/srv/boot", str(node.root))
        node.configuration.write_text(f'[bootfw]\nstate-dir = "{node.state}"\nworkers = 1\n{configuration}')
        node.start(ports=(67, 69, 4011))
        wait_until(lambda: roles(first).get("node1") == "leading", SECONDS, "the first node leads")

    status_command, *table, lint, finding, compared = check_block.splitlines()
    assert status_command == f"# bootfw status -c {CONFIGURATION} | grep -A 2 ^NODE"
    wait_until(lambda: roles(first) == {"node1": "leading", "node2": "standby"}, SECONDS, "they know each other")
    status = re.sub(r"\d+ s ago", "0 s ago", first.command("status"))
    assert [line for line in table if line not in status.splitlines()] == []
    assert lint == f"# bootfw lint -c {CONFIGURATION} --cluster"
    assert first.command("lint", "--cluster").splitlines() == [finding, compared]

    station = cluster.lab.host("station", "10.77.0.9/24")
    boot = (COMMAND, "probe", "-i", "eth0", "--as", "bios", "--lease", "--json")
    before = json.loads(station.run(*boot, seconds=SECONDS).output)
    assert before["boots"], before
    first.kill()
    wait_until(lambda: roles(second).get("node2") == "leading", SECONDS, "the other node leads")
    after = json.loads(station.run(*boot, seconds=SECONDS).output)
    assert after["boots"], after
    assert "10.77.0.12" in json.dumps(after)
