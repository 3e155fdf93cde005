"""Sends files by sendfile(2): the kernel copies them from the page cache to the socket."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define
from twisted.internet.tcp import Connection

from bootfw.ability import provides
from bootfw.interfaces import IComparingReader, IFileReader, IReader

PIECE = 512 * 1024
"""Bytes of one call of sendfile(2). Of a disk that takes 10 ms to read them, a turn waits no longer than that."""

MOST = 16 * PIECE
"""Bytes that one connection sends in one turn of the reactor, at most."""

TURN = 0.001
"""Seconds after which a turn ends, whatever it has sent: other connections are due. Each turn costs as much CPU as
sending 1 MB from the page cache, so a turn that ended after every piece would double what a large file costs."""

_SAMPLE = 1024
"""Bytes of what is sent that its reader compares."""


@define(eq=False)
class FileSender:
    """Sends from a file to a TCP connection of Twisted's.

    The connection's own buffer has to be empty: what is in there would be overtaken.
    """

    _transport: Any
    _fd: int
    _seconds: Callable[[], float]
    """The clock."""
    _start: int = 0
    """Where the file begins there."""
    _remember: Callable[[int, bytes], None] | None = None
    """See IReader."""

    def send(self, offset: int, stop: int) -> tuple[int, bool]:
        """Send what the connection takes now of the file's bytes from *offset* to *stop*, as much as a turn may.

        :return: how many, and whether it can go on so. Else the rest is to be read, which will tell what is wrong.
        """
        sock, begin, end = self._transport.getHandle().fileno(), offset, min(stop, offset + MOST)
        if self._remember is not None:
            with suppress(OSError):  # sendfile(2) reports the same error
                self._remember(offset, os.pread(self._fd, _SAMPLE, self._start + offset))
        leave = self._seconds() + TURN
        while offset < end:
            try:
                sent = os.sendfile(sock, self._fd, self._start + offset, min(PIECE, end - offset))
            except (BlockingIOError, ConnectionError):
                break  # a connection that is lost says so when the transport looks at it next
            except OSError:
                return offset - begin, False
            if not sent:
                return offset - begin, False  # the file has become shorter
            offset += sent
            if self._seconds() >= leave:
                break
        return offset - begin, True

    def wait(self) -> None:
        """Have the producer resumed when the connection takes more, in a later turn.

        A transport does that when its buffer has been emptied, and ours is: this makes it look.
        """
        self._transport.producerPaused = True
        self._transport.startWriting()


def file_sender(transport: Any, reader: IReader, seconds: Callable[[], float]) -> FileSender | None:
    """A sender of what *reader* reads; None: it is no file, or the bytes have to pass through us, as for TLS.

    :param seconds: the clock.
    """
    if not isinstance(transport, Connection) or transport.TLS or not provides(reader, IFileReader):
        return None
    fileno, start = reader.fileno(), reader.start
    return FileSender(
        transport, fileno, seconds, start, reader.remember if provides(reader, IComparingReader) else None
    )
