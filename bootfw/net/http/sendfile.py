"""Sends files by sendfile(2): the kernel copies them from the page cache to the socket."""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from attrs import define
from twisted.internet.tcp import Connection

from bootfw.ability import provides
from bootfw.interfaces import IComparingReader, IFileReader, IReader

MOST = 512 * 1024
"""Bytes that one connection sends in one turn of the reactor; then others are due."""

_SAMPLE = 1024
"""Bytes of what is sent that its reader compares."""


@define(eq=False)
class FileSender:
    """Sends from a file to a TCP connection of Twisted's.

    The connection's own buffer has to be empty: what is in there would be overtaken.
    """

    _transport: Any
    _fd: int
    _start: int = 0
    """Where the file begins there."""
    _remember: Callable[[int, bytes], None] | None = None
    """See IReader."""

    def send(self, offset: int, stop: int) -> tuple[int, bool]:
        """Send what the connection takes now of the file's bytes from *offset* to *stop*, MOST of them at most.

        :return: how many, and whether it can go on so. Else the rest is to be read, which will tell what is wrong.
        """
        sock, begin, end = self._transport.getHandle().fileno(), offset, min(stop, offset + MOST)
        if self._remember is not None:
            with suppress(OSError):  # sendfile(2) will find out as well
                self._remember(offset, os.pread(self._fd, _SAMPLE, self._start + offset))
        while offset < end:
            try:
                sent = os.sendfile(sock, self._fd, self._start + offset, end - offset)
            except (BlockingIOError, ConnectionError):
                break  # a connection that is lost says so when the transport looks at it next
            except OSError:
                return offset - begin, False
            if not sent:
                return offset - begin, False  # the file has become shorter
            offset += sent
        return offset - begin, True

    def wait(self) -> None:
        """Have the producer resumed when the connection takes more, in a later turn.

        A transport does that when its buffer has been emptied, and ours is: this makes it look.
        """
        self._transport.producerPaused = True
        self._transport.startWriting()


def file_sender(transport: Any, reader: IReader) -> FileSender | None:
    """A sender of what *reader* reads; None: it is no file, or the bytes have to pass through us, as for TLS."""
    if not isinstance(transport, Connection) or transport.TLS or not provides(reader, IFileReader):
        return None
    fileno, start = reader.fileno(), reader.start
    return FileSender(transport, fileno, start, reader.remember if provides(reader, IComparingReader) else None)
