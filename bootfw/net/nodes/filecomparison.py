"""Compares the files that the nodes serve, for ``bootfw lint --cluster``.

One node sends a question to all others. Each lists its files in a thread and answers with a digest of each bucket
(FileList). Then the first node requests the files of the buckets that differ. Announcements may be lost, so the result
names a node that does not answer in time as one that was not compared.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from attrs import define, field
from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorThreads
from twisted.internet.threads import deferToThreadPool

from bootfw.errors import StateError
from bootfw.net.nodes.announcements import Announcements, Unreadable
from bootfw.net.nodes.filelist import BUCKETS, FileList, list_files

FILES_WANTED = "files-wanted"
"""Requests FILES of all nodes. An item is the key of a question, text."""

FILES = "files"
"""[key, digests of the buckets]."""

BUCKETS_WANTED = "buckets-wanted"
"""Requests the files of some buckets: [key, numbers of the buckets]."""

BUCKET = "bucket"
"""A part of a bucket: [key, number of the bucket, index of the part, count of parts, {path: version}]."""

ANSWER_WITHIN = 10.0
"""Seconds that a node has to list its files, and again to send those of some buckets."""

MOST_DIFFERENCES = 200
"""Files that are named as different; when there are more, the others are not looked at."""

_BUCKETS_AT_ONCE = 8
"""Buckets that are requested together: where all files differ, MOST_DIFFERENCES are found in the first ones, and the
others need not be sent."""

_LIST_KEPT = 120.0
"""Seconds that a node keeps its list for later requests of the same question."""

_PART = 5000
"""Bytes of JSON in one part of a bucket."""


@define(eq=False)
class _Question:
    """One comparison: the answers that have come, and those that have not."""

    outstanding: set[tuple[Any, ...]] = field(factory=set)
    """Answers that have not come: (node,) or (node, bucket)."""
    all_answered: "Deferred[None]" = field(factory=Deferred)
    """Fires when none is waited for."""
    digests: dict[str, Sequence[str]] = field(factory=dict)
    """Node -> digests of its buckets."""
    buckets: dict[tuple[str, int], dict[str, str]] = field(factory=dict)
    """(node, bucket) -> its files."""
    parts: dict[tuple[str, int], set[int]] = field(factory=dict)
    """(node, bucket) -> which of its parts have come."""

    def note_answer(self, *answer: Any) -> None:
        """Take that this answer is complete."""
        self.outstanding.discard(answer)
        if not self.outstanding and not self.all_answered.called:
            self.all_answered.callback(None)


@define(eq=False)
class FileComparison:
    """Answers the questions of other nodes, and sends them those of this one.

    Nodes are named as in Announcements.node.

    :param reactor: IReactorTime; if it provides IReactorThreads, files are listed in one of its threads.
    :param others: returns the nodes that should answer.
    :param roots: returns the directories that this node serves, in the order of the search.
    """

    _reactor: Any
    _announcements: Announcements
    _others: Callable[[], Iterable[str]]
    _roots: Callable[[], Iterable[Path]]
    _listing: "tuple[str, Deferred[FileList]] | None" = field(default=None, init=False)
    """The key of the latest question, and the list that answers it."""
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
        self._listing = None
        if self._forget is not None:
            self._forget.cancel()
            self._forget = None

    def compare(self) -> "Deferred[Sequence[Mapping[str, Any]]]":
        """Compare the files of all nodes.

        :return: fires with {"file": path, "versions": {node: version, "" where it is missing}} for each file that
            differs, and one last record {"compared": nodes, "silent": nodes that did not answer, "files": number of
            files of this node, "more": whether further files differ}. It fails with StateError if this node can't
            list its own files in ANSWER_WITHIN seconds.
        """
        return Deferred.fromCoroutine(self._compare())

    async def _compare(self) -> Sequence[Mapping[str, Any]]:
        own_node, key, question = self._announcements.node, uuid4().hex[:12], _Question()
        self._questions[key] = question
        try:
            # Waiting begins before the question is sent: an answer may come while this node lists its own files.
            others = sorted(set(self._others()) - {own_node})
            answers = self._wait(question, [(node,) for node in others])
            self._announcements.announce(FILES_WANTED, key)
            try:
                files = await self._list_files(key).addTimeout(ANSWER_WITHIN, self._reactor)
            except TimeoutError as error:
                raise StateError(
                    f"the files of this node could not be listed within {ANSWER_WITHIN:.0f} s: does a file system hang?"
                ) from error
            await answers
            question.digests[own_node] = files.digests()
            compared = sorted(question.digests)
            every = range(BUCKETS)
            differing = [number for number in every if len({question.digests[node][number] for node in compared}) > 1]
            found: list[Mapping[str, Any]] = []
            while differing and len(found) < MOST_DIFFERENCES:
                numbers, differing = differing[:_BUCKETS_AT_ONCE], differing[_BUCKETS_AT_ONCE:]
                answering = [node for node in compared if node != own_node]
                answers = self._wait(question, [(node, number) for node in answering for number in numbers])
                self._announcements.announce(BUCKETS_WANTED, [key, numbers])
                await answers
                # A node whose bucket has come in part only would seem to lack files, so it does not count.
                silent = {node for node, *_ in question.outstanding}
                compared = [node for node in compared if node not in silent]
                for number in numbers:
                    buckets = {node: question.buckets.get((node, number), {}) for node in compared}
                    found += _differences({**buckets, own_node: files.bucket(number)})
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
        """Wait until these answers have come, or for ANSWER_WITHIN seconds.

        :return: fires in both cases; question.outstanding has those that have not come.
        """
        question.outstanding, question.all_answered = set(answers), Deferred()
        if not question.outstanding:
            return succeed(None)
        timeout = self._reactor.callLater(ANSWER_WITHIN, question.all_answered.callback, None)

        def answered(_: None) -> None:
            if timeout.active():
                timeout.cancel()

        return question.all_answered.addCallback(answered)

    def _list_files(self, key: str) -> "Deferred[FileList]":
        """List the files of this node, once for each question.

        Digests and buckets of one question have to come from one list, or a file that is changed between them would
        differ without need.
        """
        if self._listing is None or self._listing[0] != key:
            roots = list(self._roots())
            listing: Deferred[FileList]
            if IReactorThreads.providedBy(self._reactor):
                listing = deferToThreadPool(self._reactor, self._reactor.getThreadPool(), list_files, roots)
            else:
                listing = succeed(list_files(roots))
            self.close()
            self._listing = key, listing
            self._forget = self._reactor.callLater(_LIST_KEPT, self._drop)
        # Several requests may wait for one list. Each gets a Deferred of its own, since a callback of one would change
        # the result for the next.
        listed: Deferred[FileList] = Deferred()

        def pass_on(files: FileList) -> FileList:
            listed.callback(files)
            return files

        self._listing[1].addCallback(pass_on)
        return listed

    def _drop(self) -> None:
        self._forget = None
        self._listing = None

    def _files_wanted(self, node: str, items: Sequence[Any]) -> None:
        for key in items:
            _check(isinstance(key, str))
            self._list_files(key).addCallback(self._send_digests, key)

    def _send_digests(self, files: FileList, key: str) -> None:
        self._announcements.announce(FILES, [key, files.digests()])

    def _files(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            key, digests, *_ = _with_key(item, 2)
            question = self._questions.get(key)
            if question is not None:
                _check(isinstance(digests, list) and len(digests) == BUCKETS)
                question.digests[node] = digests
                question.note_answer(node)

    def _buckets_wanted(self, node: str, items: Sequence[Any]) -> None:
        for item in items:
            key, numbers, *_ = _with_key(item, 2)
            _check(isinstance(numbers, list) and all(number in range(BUCKETS) for number in numbers))
            if self._listing is not None and self._listing[0] == key:
                self._list_files(key).addCallback(self._send_buckets, key, numbers)

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
                    question.note_answer(node, number)


def _check(is_right: bool) -> None:
    if not is_right:
        raise Unreadable("it is of another shape")


def _with_key(item: Any, values: int) -> Sequence[Any]:
    """Return *item*, a list that begins with the key of a question.

    :param values: how many values it has at least; a later version may append more.
    :raise Unreadable: it is no such list.
    """
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
