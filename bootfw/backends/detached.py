"""Opens, reads and writes files in separate threads, for file systems that may hang, such as NFS and FUSE.

A system call on such a file system can't be interrupted, and may never return. Each file system therefore has its own
few threads, so that one that hangs delays only its own files. They are daemon threads: the process can exit while they
hang.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.api import ICacheableReader, IWriter, TransferError, provides

THREADS = 4
"""Most threads for one file system."""

PENDING = 1000
"""Most pending calls of each file system."""

AHEAD = 64 * 1024
"""Bytes of a read-ahead: to start a thread for each block of a transfer would cost more than to read the block."""


@define(eq=False)
class _Call:
    """A call that is queued or runs in a thread."""

    work: Callable[[], Any]
    unwanted: Callable[[Any], None]
    """Releases the result if the call was cancelled while it ran."""
    result: "Deferred[Any]" = field(init=False)
    cancelled: bool = field(default=False, init=False)


@define(eq=False)
class Threads:
    """Calls functions in threads, at most THREADS at a time for each file system.

    :param reactor: an IReactorFromThreads.
    """

    _reactor: Any
    _running: dict[Hashable, int] = field(factory=dict, init=False)
    """File system -> number of its threads."""
    _pending: "dict[Hashable, deque[_Call]]" = field(factory=dict, init=False)
    """File system -> calls that wait for a thread."""

    def call(
        self,
        mount: Hashable,
        work: Callable[[], Any],
        unwanted: Callable[[Any], None] = lambda value: None,
        must_run: bool = False,
    ) -> "Deferred[Any]":
        """Call *work* in a thread. The Deferred fires in the reactor's thread. Cancelling it drops a pending call.

        :param mount: identifies the file system; only calls with the same one wait for each other.
        :param unwanted: called in a thread with the result if the call was cancelled while it ran, to release it.
        :param must_run: queue the call even if too many are pending.
        :raise TransferError: too many calls are pending.
        """
        call = _Call(work, unwanted)
        call.result = Deferred(lambda _: self._cancel(mount, call))
        if self._running.get(mount, 0) < THREADS:
            self._start(mount, call)
            return call.result
        pending = self._pending.setdefault(mount, deque())
        if len(pending) >= PENDING and not must_run:
            raise TransferError("Too many requests wait for this directory, try again later")
        pending.append(call)
        return call.result

    def _start(self, mount: Hashable, call: _Call) -> None:
        self._running[mount] = self._running.get(mount, 0) + 1
        threading.Thread(target=self._run, args=(mount, call), name="bootfw files", daemon=True).start()

    def _run(self, mount: Hashable, call: _Call) -> None:
        # In the thread: it must not touch _running and _pending, which only the reactor's thread uses.
        value, error = None, None
        try:
            value = call.work()
        except Exception as caught:
            error = caught
        self._reactor.callFromThread(self._done, mount, call, value, error)

    def _done(self, mount: Hashable, call: _Call, value: Any, error: Exception | None) -> None:
        self._running[mount] -= 1
        pending = self._pending.get(mount)
        if pending:
            self._start(mount, pending.popleft())
        elif not self._running[mount]:
            del self._running[mount]
            self._pending.pop(mount, None)
        if call.cancelled:
            # Its Deferred has failed already. Releasing may block as well, since it closes a file.
            if error is None:
                self.call(mount, lambda: call.unwanted(value), must_run=True).addErrback(lambda _: None)
        elif error is None:
            call.result.callback(value)
        else:
            call.result.errback(error)

    def _cancel(self, mount: Hashable, call: _Call) -> None:
        # A thread can't be interrupted: a call that runs is only marked, and _done() releases its result.
        call.cancelled = True
        pending = self._pending.get(mount)
        if pending and call in pending:
            pending.remove(call)


@implementer(ICacheableReader)
@define(eq=False)
class DetachedReader:
    """Reads *file* in threads.

    :param file: a reader that returns its results directly. This object owns it from now on.
    :param mount: see Threads.call().
    """

    _file: Any
    _threads: Threads
    _mount: Hashable
    size: int | None = field(init=False)
    modified: float | None = field(init=False)
    changed: float | None = field(init=False)
    etag: str | None = field(init=False)
    _lock: Any = field(factory=threading.Lock, init=False)
    """Held while a thread uses the file, so that close() waits for a pending read()."""
    _begin: int = field(default=0, init=False)
    """Offset of ``_data`` in the file."""
    _data: bytes = field(default=b"", init=False)
    """The bytes that were read ahead."""

    def __attrs_post_init__(self) -> None:
        self.size = self._file.size
        self.modified = self.changed = self.etag = None
        if provides(self._file, ICacheableReader):
            self.modified, self.changed, self.etag = self._file.modified, self._file.changed, self._file.etag

    def read(self, offset: int, length: int) -> Any:
        """See IReader."""
        if self.size is not None:
            length = min(length, self.size - offset)
        if length <= 0:
            return b""
        start = offset - self._begin
        if 0 <= start <= len(self._data) - length:
            return self._data[start : start + length]
        return self._threads.call(self._mount, lambda: self._read(offset, length)).addCallback(
            self._received, offset, length
        )

    def close(self) -> None:
        """See IReader."""
        self._data = b""
        self._threads.call(self._mount, self._close, must_run=True).addErrback(lambda _: None)

    def _received(self, data: bytes, offset: int, length: int) -> bytes:
        self._begin, self._data = offset, data
        return data[:length]

    def _read(self, offset: int, length: int) -> bytes:
        with self._lock:
            data: bytes = self._file.read(offset, max(length, AHEAD))
        return data

    def _close(self) -> None:
        with self._lock:
            self._file.close()


@implementer(IWriter)
@define(eq=False)
class DetachedWriter:
    """Writes *file* in threads; arguments as of DetachedReader."""

    _file: Any
    _threads: Threads
    _mount: Hashable
    _lock: Any = field(factory=threading.Lock, init=False)
    """Held while a thread uses the file: calls of one writer may run in several threads."""
    _cancelled: bool = field(default=False, init=False)
    """cancel() was called; a finish() that is still queued does nothing."""

    def write(self, offset: int, data: bytes) -> Any:
        """See IWriter."""
        return self._threads.call(self._mount, lambda: self._locked(self._file.write, offset, data))

    def finish(self) -> Any:
        """See IWriter."""
        return self._threads.call(self._mount, lambda: self._locked(self._finish))

    def cancel(self) -> None:
        """See IWriter. A finish() that has begun is completed."""
        self._cancelled = True
        cancelling = self._threads.call(self._mount, lambda: self._locked(self._file.cancel), must_run=True)
        cancelling.addErrback(lambda _: None)

    def _finish(self) -> None:
        if not self._cancelled:
            self._file.finish()

    def _locked(self, work: Callable[..., None], *arguments: Any) -> None:
        with self._lock:
            work(*arguments)
