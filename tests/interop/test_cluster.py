"""Several nodes with one PostgreSQL, as an operator sets them up."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clients import CURL
from .cluster import SECONDS, Cluster, Node, cluster_of
from .lab import Lab, need, wait_until

pytestmark = pytest.mark.interop


@pytest.fixture
def cluster(lab: Lab, tmp_path: Path) -> Iterator[Cluster]:
    with cluster_of(lab, tmp_path) as made:
        yield made


def test_every_node_serves_the_files(cluster: Cluster, tmp_path: Path) -> None:
    need(CURL.program)
    content = os.urandom(100_000)
    cluster.serves("file", content)
    cluster.start()
    station = cluster.lab.host("station", "10.77.0.9/24")
    for node in cluster.nodes:
        into = tmp_path / f"from-{node.name}"
        fetched = station.run(*CURL.get((node.address, 69), "file", into), seconds=SECONDS)
        assert fetched.exit_code == 0, fetched.output
        assert into.read_bytes() == content
        assert node.status()["ready"]
        assert "bootfw" in node.command("status")


def test_nodes_know_each_other_and_what_the_others_serve(cluster: Cluster) -> None:
    """The status shows a node that dies, and lint the files that differ."""
    first, second, third = cluster.nodes
    cluster.serves("same", b"x")
    cluster.start()

    def states(node: Node) -> dict[str, str]:
        return {row["name"]: row["state"] for row in node.status()["cluster"]["nodes"]}

    everybody = {each.name: "here" for each in cluster.nodes}
    wait_until(lambda: all(states(each) == everybody for each in cluster.nodes), SECONDS, "they know each other")
    shown = first.command("status")
    assert second.address in shown
    assert "compared: node1, node2, node3; 1 files on this node" in first.command("lint", "--cluster")

    (second.root / "only-here").write_bytes(b"content")
    (third.root / "same").write_bytes(b"longer")
    found = first.command("lint", "--cluster", code=1)
    assert "only-here" in found
    assert "node1, node3: missing; node2: 7 bytes of " in found
    assert "2 findings" in found

    third.kill()
    wait_until(lambda: states(first)["node3"] == "gone", SECONDS, "a node that was killed is gone")
    second.program.stop()
    wait_until(lambda: states(first)["node2"] == "stopped", SECONDS, "a node that was stopped has said so")
    cluster.server.stop()
    wait_until(lambda: "was last reached" in first.command("status"), SECONDS, "the status says that the store is away")
    assert first.status()["ready"]
