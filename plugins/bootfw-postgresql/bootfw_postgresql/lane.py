"""A lane: one connection, a thread, and a queue of jobs, which are done in the order of the calls."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any

import psycopg
from attrs import define, field, frozen
from psycopg.errors import ReadOnlySqlTransaction
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from bootfw_postgresql.database import Connection, Database, Unavailable

Work = Callable[[Connection], Any]
"""Statements. They may be executed twice: their first connection may be lost after they took effect."""

Rows = Sequence[tuple[Any, ...]]

MAX_JOBS = 1024
"""Jobs in one batch."""


@frozen(eq=False)
class _Job:
    """What the thread is to do; a job with neither work nor rows fires when all earlier ones are done."""

    work: Work | None = None
    rows: Rows | None = None
    """Rows to write, with those of the jobs before and after, in one statement."""
    closes: bool = False
    """The connection is closed after it."""
    done: "Deferred[Any]" = field(factory=Deferred)


@define(eq=False)
class Lane:
    """A connection, the jobs that wait for it, and its thread, which begins with the first job.

    A lost connection is opened again, and the job that it was lost in is done once more. While the server can't be
    reached, each job waits for one try to connect, together with all that were queued by then, and fails.

    :param reactor: if it does not provide IReactorFromThreads, every call blocks.
    :param connect: opens a connection.
    :param write: writes rows.
    """

    _reactor: Any
    _database: Database
    _connect: Callable[[], Connection]
    _write: Callable[[Rows, Connection], None] | None = None
    _connection: Connection | None = field(default=None, init=False)
    _connection_lock: Lock = field(factory=Lock, init=False)
    """Held while the connection is used: by the thread, or by now()."""
    _queue: "SimpleQueue[_Job] | None" = field(default=None, init=False)
    """The jobs that the thread has not begun; None: there is no thread."""
    _thread: Thread | None = field(default=None, init=False)

    def now(self, work: Work) -> Any:
        """Do *work* at once, in the caller's thread.

        :raise StateError: it failed.
        """
        with self._connection_lock:
            return self._attempt(work)

    def later(self, work: Work | None = None) -> "Deferred[Any]":
        """Do *work* after all earlier jobs. The Deferred fires with its result, or fails with a StateError."""
        return self._put(_Job(work))

    def write(self, rows: Rows) -> "Deferred[Any]":
        """Write *rows* after all earlier jobs, in one statement with those that are queued beside them."""
        return self._put(_Job(rows=rows))

    def close(self) -> "Deferred[Any]":
        """Close the connection after all jobs. Nothing is called after it."""
        if self._queue is None and IReactorFromThreads.providedBy(self._reactor):
            # There was no job, at most calls of now(): no thread has to be started to close the connection.
            job = _Job(closes=True)
            self._drop()
            job.done.callback(None)
            return job.done
        return self._put(_Job(closes=True))

    def join(self) -> None:
        """Wait, after close(), until the connection is closed."""
        if self._thread is not None:
            self._thread.join()

    def _put(self, job: _Job) -> "Deferred[Any]":
        if not IReactorFromThreads.providedBy(self._reactor):
            _fire(self._do([job]))
            return job.done
        if self._queue is None:
            self._queue = SimpleQueue()
            # A daemon thread: a process that ends without close() has to be able to end.
            self._thread = Thread(target=self._run, args=(self._queue,), name="store", daemon=True)
            self._thread.start()
        self._queue.put(job)
        return job.done

    def _run(self, queue: "SimpleQueue[_Job]") -> None:
        closes = False
        while not closes:
            jobs = _next_batch(queue)
            closes = jobs[-1].closes
            self._reactor.callFromThread(_fire, self._do(jobs))

    def _do(self, jobs: Sequence[_Job]) -> list[tuple[_Job, Any]]:
        """Do jobs, and return each with its result or exception."""
        results: list[tuple[_Job, Any]] = []
        unavailable: Unavailable | None = None
        for group, work in self._grouped(jobs):
            result: Any = unavailable
            if work is not None and unavailable is None:
                try:
                    result = self.now(work)
                except Unavailable as error:  # one try to connect is enough for all of the batch
                    result = unavailable = error
                except Exception as error:  # any exception has to reach the Deferreds
                    result = error
            results += [(job, result if work is not None else None) for job in group]
        if jobs[-1].closes:
            self._drop()
        return results

    def _grouped(self, jobs: Sequence[_Job]) -> Iterator[tuple[Sequence[_Job], Work | None]]:
        """Yield jobs that are done together, with their work; None: there is nothing to do."""
        for are_rows, jobs_of_kind in groupby(jobs, lambda job: job.rows is not None):
            group = list(jobs_of_kind)
            if are_rows:
                assert self._write is not None
                rows = list(chain.from_iterable(job.rows or () for job in group))
                yield group, partial(self._write, rows) if rows else None
            else:
                yield from (([job], job.work) for job in group)

    def _attempt(self, work: Work) -> Any:
        """Do *work*, twice if the connection was lost.

        :raise Unavailable: there is no connection.
        :raise StateError: the server refuses it.
        """
        # An open connection may have been lost long ago, which only the next statement shows. A new one has just
        # answered: when it is lost too, the work fails.
        tries = 1 if self._connection is None else 2
        while True:
            tries -= 1
            if self._connection is None:
                self._connection = self._connect()
            try:
                return work(self._connection)
            except psycopg.Error as error:
                # A primary that became a standby is as good as gone: another host may be the primary now.
                lost = self._connection.closed or isinstance(error, ReadOnlySqlTransaction)
                converted = self._database.state_error(error)
                if not lost:
                    raise converted from error
                self._drop()
                if not tries:
                    raise Unavailable(str(converted)) from error

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _next_batch(queue: "SimpleQueue[_Job]") -> list[_Job]:
    jobs = [queue.get()]
    while len(jobs) < MAX_JOBS and not jobs[-1].closes:
        try:
            jobs.append(queue.get_nowait())
        except Empty:
            break
    return jobs


def _fire(results: Sequence[tuple[_Job, Any]]) -> None:
    for job, result in results:
        if isinstance(result, Exception):
            job.done.errback(result)
        else:
            job.done.callback(result)
