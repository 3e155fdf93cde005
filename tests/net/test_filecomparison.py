"""The files of nodes, compared by announcements."""

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from hypothesis import given, settings
from hypothesis import strategies as st
from memorynodes import Cluster, MemoryNodes
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.task import Clock
from zope.interface import directlyProvides

from bootfw.errors import StateError
from bootfw.net.nodes import filecomparison
from bootfw.net.nodes.announcements import Announcements
from bootfw.net.nodes.filecomparison import ANSWER_WITHIN, FILES, MOST_DIFFERENCES, FileComparison
from bootfw.net.nodes.filelist import BUCKETS, FileList, bucket_of, list_files


def write(root: Path, files: dict[str, str], modified: float = 1e9) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (modified, modified + 0.5))


def test_files_are_listed_with_size_and_whole_seconds(tmp_path: Path) -> None:
    write(tmp_path / "one", {"a": "x", "sub/b": "yy"})
    write(tmp_path / "two", {"a": "later root", "c": ""})
    (tmp_path / "one/to-file").symlink_to("sub/b")
    (tmp_path / "one/to-directory").symlink_to("sub")
    (tmp_path / "one/dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "one/fifo")
    when = "2001-09-09 01:46:40 UTC"
    assert dict(list_files([tmp_path / "one", tmp_path / "two", tmp_path / "missing"]).files) == {
        "a": f"1 bytes of {when}",
        "sub/b": f"2 bytes of {when}",
        "to-file": f"2 bytes of {when}",
        "to-directory": "a link to sub",
        "c": f"0 bytes of {when}",
    }


def test_a_name_that_is_not_utf8_is_listed(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xe4")).write_bytes(b"")
    listed = list_files([tmp_path])
    assert list(listed.files) == ["\udcff\udce4"]
    assert any(listed.digests())


_FILES = st.dictionaries(st.text(max_size=3), st.sampled_from(["1", "2"]), max_size=20)


@given(_FILES, _FILES)
def test_lists_are_equal_when_their_digests_are(one: dict[str, str], other: dict[str, str]) -> None:
    assert (FileList(one).digests() == FileList(other).digests()) is (one == other)


@define(eq=False)
class LossyNodes(MemoryNodes):
    """Loses the announcements of all kinds but ``only``; if that is empty, none."""

    only: str = ""

    def announce(self, kind: str, *values: object) -> None:
        if self.only in ("", kind):
            super().announce(kind, *values)


class Node:
    """A node that serves a directory and can compare it with those of the others."""

    def __init__(self, cluster: Cluster, clock: Clock, root: Path) -> None:
        self.nodes = LossyNodes(cluster)
        cluster.nodes.append(self.nodes)
        self.announcements = Announcements(self.nodes)
        self.others: list[str] = []
        self.comparison = FileComparison(clock, self.announcements, lambda: self.others, lambda: [root])
        self.announcements.join()


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Scene:
    """Three nodes with directories of their own."""

    def __init__(self, clock: Clock, root: Path) -> None:
        self.clock, self.cluster = clock, Cluster()
        self.roots = [root / name for name in ("one", "two", "three")]
        self.nodes = [Node(self.cluster, clock, each) for each in self.roots]
        for each in self.nodes:
            each.others = [other.announcements.node for other in self.nodes if other is not each]

    def compare(self, number: int = 0, seconds: float = 0.0) -> tuple[list[Any], Any]:
        """(differences with the numbers of nodes in place of their names, the last record)."""
        records: list[Any] = []
        self.nodes[number].comparison.compare().addCallback(records.extend)
        for _ in range(40):
            if self.cluster.deliver() == 0:
                break
        if seconds:
            for _ in range(4):
                self.clock.advance(seconds)
                self.cluster.deliver()
        *found, summary = records
        names = {node.announcements.node: index for index, node in enumerate(self.nodes)}
        differences = [(each["file"], {names[node]: text for node, text in each["versions"].items()}) for each in found]
        for kind in ("compared", "silent"):
            summary[kind] = sorted(names[node] for node in summary[kind])
        return differences, summary


@pytest.fixture
def scene(clock: Clock, tmp_path: Path) -> Scene:
    scene = Scene(clock, tmp_path)
    for root in scene.roots:
        write(root, {f"same-{number}": "x" for number in range(300)})
    return scene


def test_nodes_that_serve_the_same_files_have_no_differences(scene: Scene) -> None:
    assert scene.compare() == ([], {"compared": [0, 1, 2], "silent": [], "files": 300, "more": False})
    kinds = {kind for node in scene.nodes for kind, _ in node.nodes.sent}
    assert "bucket" not in kinds


def test_files_that_differ_are_named_with_their_versions(scene: Scene) -> None:
    write(scene.roots[1], {"same-7": "longer", "deep/only": "two"})
    write(scene.roots[2], {"same-8": "x"}, modified=2e9)
    when, later = "2001-09-09 01:46:40 UTC", "2033-05-18 03:33:20 UTC"
    for number in range(3):
        found, summary = scene.compare(number)
        assert found == [
            ("deep/only", {0: "", 1: f"3 bytes of {when}", 2: ""}),
            ("same-7", {0: f"1 bytes of {when}", 1: f"6 bytes of {when}", 2: f"1 bytes of {when}"}),
            ("same-8", {0: f"1 bytes of {when}", 1: f"1 bytes of {when}", 2: f"1 bytes of {later}"}),
        ]
        assert (summary["compared"], summary["more"]) == ([0, 1, 2], False)


def test_a_node_that_does_not_answer_is_named_and_the_others_are_compared(scene: Scene) -> None:
    write(scene.roots[1], {"only": "two"})
    scene.nodes[2].nodes.receive = None
    found, summary = scene.compare(seconds=ANSWER_WITHIN)
    assert [file for file, _ in found] == ["only"]
    assert (summary["compared"], summary["silent"]) == ([0, 1], [2])


def test_a_node_that_falls_silent_during_the_comparison_is_named(scene: Scene) -> None:
    write(scene.roots[1], {"only": "two"})
    scene.nodes[2].nodes.only = FILES
    found, summary = scene.compare(seconds=ANSWER_WITHIN)
    assert [file for file, _ in found] == ["only"]
    assert (summary["compared"], summary["silent"]) == ([0, 1], [2])


def test_the_differences_of_a_node_with_entirely_different_files_are_limited(scene: Scene) -> None:
    write(scene.roots[1], {f"other-{number}": "y" for number in range(2000)})
    found, summary = scene.compare()
    assert len(found) == MOST_DIFFERENCES
    assert summary["more"] is True
    assert len(scene.nodes[1].nodes.sent) < 100, "it does not send all its files"


def test_a_bucket_is_sent_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filecomparison, "_PART", 100)
    write(scene.roots[1], {f"other-{number}": "y" for number in range(150)})
    found, summary = scene.compare()
    assert {file for file, _ in found} == {f"other-{number}" for number in range(150)}
    assert summary["more"] is False


def test_a_file_system_of_this_node_that_hangs_is_an_error(
    scene: Scene, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing: Deferred[FileList] = Deferred()
    monkeypatch.setattr(filecomparison, "deferToThreadPool", lambda reactor, pool, function, roots: listing)
    monkeypatch.setattr(clock, "getThreadPool", lambda: None, raising=False)
    directlyProvides(clock, IReactorThreads)
    results: list[Any] = []
    scene.nodes[0].comparison.compare().addBoth(results.append)
    clock.advance(ANSWER_WITHIN)
    with pytest.raises(StateError, match="the files of this node could not be listed within 10 s"):
        results[0].raiseException()
    listing.callback(FileList({}))
    scene.nodes[0].comparison.close()
    assert clock.getDelayedCalls() == []


def test_a_list_is_kept_for_its_question_only(scene: Scene, clock: Clock) -> None:
    scene.compare()
    write(scene.roots[0], {"new": "z"})
    assert [file for file, _ in scene.compare()[0]] == ["new"]
    clock.advance(1000)
    assert clock.getDelayedCalls() == []


@settings(max_examples=20)
@given(item=st.recursive(st.none() | st.integers() | st.text(max_size=3), lambda each: st.lists(each, max_size=6)))
def test_any_announcement_of_another_version_is_harmless(item: Any) -> None:
    cluster, clock = Cluster(), Clock()
    node, other = Node(cluster, clock, Path("/nonexistent")), Announcements(cluster.node())
    other.join()
    for kind in ("files-wanted", "files", "buckets-wanted", "bucket"):
        other.announce(kind, item)
    cluster.deliver()
    node.comparison.close()
    assert clock.getDelayedCalls() == []


def test_buckets_are_about_equal() -> None:
    counts = [0] * BUCKETS
    for number in range(BUCKETS * 40):
        counts[bucket_of(f"dir/file-{number}")] += 1
    assert max(counts) < 80
