"""Compares what the nodes serve, for ``bootfw lint --cluster``.

One node sends a question to all others. Each lists its files in a thread and answers with a digest of each bucket
(FileList). Then the files of those buckets that differ are requested. Announcements may be lost, so a node that does
not answer in time is named as one that was not compared.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorThreads
from twisted.internet.threads import deferToThreadPool

from bootfw.net.nodes.announcements import Announcements, Unreadable
from bootfw.net.nodes.filelist import BUCKETS, FileList, list_files

FILES_WANTED = "files-wanted"
"""All nodes shall list their files and answer with FILES. An item is the key of a question, text."""

FILES = "files"
"""[key, digests of the buckets]."""

BUCKETS_WANTED = "buckets-wanted"
"""The files of some buckets are wanted: [key, numbers of the buckets]."""

BUCKET = "bucket"
"""A part of a bucket: [key, number of the bucket, index of the part, count of parts, {path: version}]."""

ANSWER_WITHIN = 10.0
"""Seconds that a node has to list its files, and again to send those of some buckets."""

MOST_DIFFERENCES = 200
"""Files that are named as different; when there are more, the others are not looked at."""

_BUCKETS_AT_ONCE = 8

_LIST_KEPT = 120.0
"""Seconds that a node keeps its list for the question that it was made for."""

_PART = 5000
"""Bytes of JSON in one part of a bucket."""


@define(eq=False)
class _Question:
    """What one comparison has learned so far."""

    waits_for: set[tuple[Any, ...]] = field(factory=set)
    """Answers that have not come: (node,) or (node, bucket)."""
    answered: "Deferred[None]" = field(factory=Deferred)
    """Fires when none is waited for."""
    digests: dict[str, Sequence[str]] = field(factory=dict)
    """Node -> digests of its buckets."""
    buckets: dict[tuple[str, int], dict[str, str]] = field(factory=dict)
    """(node, bucket) -> its files."""
    parts: dict[tuple[str, int], set[int]] = field(factory=dict)
    """(node, bucket) -> which of its parts have come."""

    def came(self, *answer: Any) -> None:
        """Do not wait for this answer any more."""
        self.waits_for.discard(answer)
        if not self.waits_for and not self.answered.called:
            self.answered.callback(None)


@define(eq=False)
class FileComparison:
    """Answers the questions of other nodes, and can ask them.

    Nodes are named as in Announcements.node.

    :param reactor: IReactorTime; if it provides IReactorThreads, files are listed in one of its threads.
    :param others: returns the nodes that should answer.
    :param roots: returns the directories that this node serves, in the order of the search.
    """

    _reactor: Any
    _announcements: Announcements
    _others: Callable[[], Iterable[str]]
    _roots: Callable[[], Iterable[Path]]
    _list: "tuple[str, Deferred[FileList]] | None" = field(default=None, init=False)
    """The latest list that was made, with the key of the question that it was made for."""
    _forget: "IDelayedCall | None" = field(default=None, init=False)
    """When the list is dropped."""
    _questions: dict[str, _Question] = field(factory=dict, init=False)

    def __attrs_post_init__(self) -> None:
        subscribe = self._announcements.subscribe
        subscribe(FILES_WANTED, self._files_wanted)
        subscribe(FILES, self._files)
        subscribe(BUCKETS_WANTED, self._buckets_wanted)
        subscribe(BUCKET, self._bucket)

    def close(self) -> None:
        """Drop the list."""
        self._list = None
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None

    def compare(self) -> "Deferred[Sequence[Mapping[str, Any]]]":
        """Compare the files of all nodes.

        :return: fires with {"file": path, "versions": {node: version, "" where it is missing}} for each file that
            differs, and one last record {"compared": nodes, "silent": nodes that did not answer, "files": number of
            files of this node, "more": whether further files differ}.
        """
        return Deferred.fromCoroutine(self._compare())

    async def _compare(self) -> Sequence[Mapping[str, Any]]:
        own, key, question = self._announcements.node, uuid4().hex[:12], _Question()
        self._questions[key] = question
        try:
            others = sorted(set(self._others()) - {own})
            answers = self._wait(question, [(node,) for node in others])
            self._announcements.announce(FILES_WANTED, key)
            files = await self._listed(key)
            await answers
            question.digests[own] = files.digests()
            compared = sorted(question.digests)
            every = range(BUCKETS)
            differing = [number for number in every if len({question.digests[node][number] for node in compared}) > 1]
            found: list[Mapping[str, Any]] = []
            while differing and len(found) < MOST_DIFFERENCES:
                numbers, differing = differing[:_BUCKETS_AT_ONCE], differing[_BUCKETS_AT_ONCE:]
                answering = [node for node in compared if node != own]
                answers = self._wait(question, [(node, number) for node in answering for number in numbers])
                self._announcements.announce(BUCKETS_WANTED, [key, numbers])
                await answers
                silent = {node for node, *_ in question.waits_for}
                compared = [node for node in compared if node not in silent]
                for number in numbers:
                    buckets = {node: question.buckets.get((node, number), {}) for node in compared}
                    found += _differences({**buckets, own: files.bucket(number)})
            found.sort(key=lambda record: str(record["file"]))
            summary = {
                "compared": compared,
                "silent": [node for node in others if node not in compared],
                "files": len(files.files),
                "more": bool(differing) or len(found) > MOST_DIFFERENCES,
            }
            return [*found[:MOST_DIFFERENCES], summary]
        finally:
            del self._questions[key]

    def _wait(self, question: _Question, answers: Iterable[tuple[Any, ...]]) -> "Deferred[None]":
        """Return what fires when these answers have come, after ANSWER_WITHIN seconds at the latest."""
        question.waits_for, question.answered = set(answers), Deferred()
        if not question.waits_for:
            return succeed(None)
        timeout = self._reactor.callLater(ANSWER_WITHIN, question.answered.callback, None)

        def answered(_: None) -> None:
            if timeout.active():
                timeout.cancel()

        return question.answered.addCallback(answered)

    def _listed(self, key: str) -> "Deferred[FileList]":
        """Return what fires with the files of this node, which are listed once for each question."""
        if self._list is None or self._list[0] != key:
            roots = list(self._roots())
            made: Deferred[FileList]
            if IReactorThreads.providedBy(self._reactor):
                made = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), list_files, roots)
            else:
                made = succeed(list_files(roots))
            self.close()
            self._list = key, made
            self._forget = self._reactor.callLater(_LIST_KEPT, self._drop)
        listed: Deferred[FileList] = Deferred()

        def pass_on(files: FileList) -> FileList:
            listed.callback(files)
            return files

        self._list[1].addCallback(pass_on)
        return listed

    def _drop(self) -> None:
        self._forget = None
        self._list = None

    def _files_wanted(self, node: str, items: Sequence[Any]) -> None:
        for key in items:
            _check(isinstance(key, str))
            self._listed(key).addCallback(self._send_digests, key)

    def _send_digests(self, files: FileList, key: str) -> None:
        self._announcements.announce(FILES, [key, files.digests()])

    def _files(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            key, digests, *_ = _with_key(item, 2)
            question = self._questions.get(key)
            if question is not None:
                _check(isinstance(digests, list) and len(digests) == BUCKETS)
                question.digests[node] = digests
                question.came(node)

    def _buckets_wanted(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            key, numbers, *_ = _with_key(item, 2)
            _check(isinstance(numbers, list) and all(number in range(BUCKETS) for number in numbers))
            if self._list is not None and self._list[0] == key:
                self._listed(key).addCallback(self._send_buckets, key, numbers)

    def _send_buckets(self, files: FileList, key: str, numbers: Sequence[int]) -> None:
        for number in numbers:
            parts = list(_parts(files.bucket(number)))
            self._announcements.announce(
                BUCKET, *([key, number, index, len(parts), part] for index, part in enumerate(parts))
            )

    def _bucket(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            key, number, index, count, part, *_ = _with_key(item, 5)
            question = self._questions.get(key)
            if question is not None:
                _check(all(isinstance(each, int) for each in (number, index, count)) and isinstance(part, dict))
                question.buckets.setdefault((node, number), {}).update(part)
                come = question.parts.setdefault((node, number), set())
                come.add(index)
                if len(come) >= count:
                    question.came(node, number)


def _check(is_right: bool) -> None:
    if not is_right:
        raise Unreadable("it is of another shape")


def _with_key(item: Any, values: int) -> Sequence[Any]:
    """Return *item*, which has the key of a question and at least so many values with it."""
    _check(isinstance(item, list) and len(item) >= values and isinstance(item[0], str))
    return item  # type: ignore[no-any-return]


def _parts(bucket: Mapping[str, str]) -> Iterable[dict[str, str]]:
    """Yield the files of a bucket in parts that an announcement can carry; at least one part."""
    part: dict[str, str] = {}
    size = 0
    for path, version in bucket.items():
        length = len(json.dumps([path, version]))
        if length > _PART:
            continue  # a name of thousands of bytes
        if size + length > _PART:
            yield part
            part, size = {}, 0
        part[path] = version
        size += length
    yield part


def _differences(buckets: Mapping[str, Mapping[str, str]]) -> Iterable[Mapping[str, Any]]:
    """Yield a record for each file that is not the same in all *buckets*, by node."""
    for path in set().union(*buckets.values()):
        versions = {node: bucket.get(path, "") for node, bucket in buckets.items()}
        if len(set(versions.values())) > 1:
            yield {"file": path, "versions": versions}
