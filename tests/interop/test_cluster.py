"""Several nodes with one PostgreSQL, as an operator sets them up."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clients import CURL
from .cluster import SECONDS, Cluster, cluster_of
from .lab import Lab, need

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
