"""Sends files by sendfile(2): the kernel copies them from the page cache to the socket."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IWriteDescriptor
from twisted.internet.tcp import Connection
from zope.interface import implementer

from bootfw.ability import provides
from bootfw.interfaces import IComparingReader, IFileReader, IReader

PIECE = 2 * 1024 * 1024
"""Bytes of one call of sendfile(2), which waits for the disk where the page cache does not have them: a disk that reads
200 MB/s stops the reactor for 10 ms."""

MOST = 8 * 1024 * 1024
"""Bytes that one connection sends in one turn of the reactor, at most."""

TURN = 0.001
"""Seconds after which a turn ends, whatever it has sent: other connections wait."""

_SAMPLE = 1024
"""Bytes at the beginning of each turn that the reader remembers, to find out later whether the file was changed."""


@implementer(IWriteDescriptor)
@define(eq=False)
class FileSender:
    """Sends from a file to a TCP connection of Twisted's.

    The transport's buffer has to be empty: sendfile(2) would overtake what is in there.

    From the first wait() to stop() the reactor watches a duplicate of the connection's descriptor. It watches the
    transport's own descriptor for what the client sends; to watch that one for room as well, and to stop that again, in
    every turn costs two system calls and as much CPU as sending half a megabyte.
    """

    _transport: Any
    _fd: int
    _seconds: Callable[[], float]
    """The clock."""
    _start: int = 0
    """The offset in _fd at which the file begins: it may be a part of an image."""
    _remember: Callable[[int, bytes], None] | None = None
    """See IComparingReader."""
    _duplicate: int = field(default=-1, init=False)
    """-1: the reactor does not watch it."""
    _writable: Callable[[], None] | None = field(default=None, init=False)

    def send(self, offset: int, stop: int) -> tuple[int, bool]:
        """Send what the connection takes now of the file's bytes from *offset* to *stop*, as much as a turn may.

        :return: (number of bytes, whether sendfile(2) can go on). If not, the rest is to be read, and the read finds
            the error.
        """
        sock, begin, end = self._transport.getHandle().fileno(), offset, min(stop, offset + MOST)
        if self._remember is not None:
            with suppress(OSError):  # sendfile(2) reports the same error
                self._remember(offset, os.pread(self._fd, _SAMPLE, self._start + offset))
        leave = self._seconds() + TURN
        while offset < end:
            length = min(PIECE, end - offset)
            try:
                sent = os.sendfile(sock, self._fd, self._start + offset, length)
            except (BlockingIOError, ConnectionError):
                break  # the reactor reports a lost connection to the transport
            except OSError:
                return offset - begin, False
            if not sent:
                return offset - begin, False  # the file has become shorter
            offset += sent
            if sent < length or self._seconds() >= leave:
                break  # the connection is full, or the turn is over
        return offset - begin, True

    def wait(self, writable: Callable[[], None]) -> None:
        """Have *writable* called in each turn of the reactor in which the connection takes more, until stop().

        :raise OSError: there is no descriptor left.
        """
        self._writable = writable
        if self._duplicate < 0:
            self._duplicate = os.dup(self._transport.getHandle().fileno())
            self._transport.reactor.addWriter(self)

    def stop(self) -> None:
        """Wait no longer. To be called before the connection is closed: the duplicate would keep it open for the
        client."""
        self._writable = None
        if self._duplicate >= 0:
            self._transport.reactor.removeWriter(self)
            os.close(self._duplicate)
            self._duplicate = -1

    # IWriteDescriptor

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._duplicate

    def doWrite(self) -> None:
        """See IWriteDescriptor."""
        if self._writable is not None:
            self._writable()

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor. The reactor has found an error of the duplicate."""
        self.stop()
        # The transport may be watched for nothing, and would never find the error. With an empty buffer it resumes its
        # producer, if that is paused; the download then writes, and the write finds the error.
        self._transport.producerPaused = True
        self._transport.startWriting()

    def logPrefix(self) -> str:
        """See ILoggingContext."""
        return "http"


def file_sender(transport: Any, reader: IReader, seconds: Callable[[], float]) -> FileSender | None:
    """Return a sender of what *reader* reads; None: it is no file, or the bytes have to be read here, as for TLS.

    :param seconds: the clock.
    """
    if not isinstance(transport, Connection) or transport.TLS or not provides(reader, IFileReader):
        return None
    fileno, start = reader.fileno(), reader.start
    return FileSender(
        transport, fileno, seconds, start, reader.remember if provides(reader, IComparingReader) else None
    )
