"""netascii (RFC 764): on the wire a line ends with CR LF, and any other CR is followed by NUL."""

import os
import re
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred

__all__ = ["NetasciiReceiverProxy", "NetasciiSenderProxy", "from_netascii", "to_netascii"]

CR = b"\r"
LF = b"\n"
CRLF = CR + LF
NUL = b"\0"
CRNUL = CR + NUL
NL = os.linesep.encode("ascii")
"""How a line ends in a file of this system."""

re_from_netascii = re.compile(b"\r\n|\r\0")
_re_to_netascii = b"(NL|\r)"
re_to_netascii = re.compile(_re_to_netascii.replace(b"NL", NL))


def from_netascii(data: bytes) -> bytes:
    """Return *data* from the wire as it is in a file."""
    return re_from_netascii.sub(lambda match: NL if match.group() == CRLF else CR, data)


def to_netascii(data: bytes) -> bytes:
    """Return *data* of a file as it is on the wire."""
    return re_to_netascii.sub(lambda match: CRLF if match.group() == NL else CRNUL, data)


class NetasciiReceiverProxy:
    """An IWriter that takes netascii and gives the file's own bytes to *writer*, whose other attributes it has."""

    def __init__(self, writer: Any) -> None:
        self.writer = writer
        self._carry_cr = False

    def write(self, data: bytes) -> "Deferred[Any]":
        """See IWriter. A CR at the end waits for what follows it."""
        data = from_netascii((CR if self._carry_cr else b"") + data)
        self._carry_cr = data.endswith(CR)
        return maybeDeferred(self.writer.write, data[:-1] if self._carry_cr else data)

    def finish(self) -> "Deferred[Any]":
        """See IWriter. Nothing follows a CR that still waits: it is written as it is."""
        if not self._carry_cr:
            return maybeDeferred(self.writer.finish)
        self._carry_cr = False
        return maybeDeferred(self.writer.write, CR).addCallback(lambda _: self.writer.finish())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.writer, name)


class NetasciiSenderProxy:
    """An IReader that gives the bytes of *reader* as netascii, and has its other attributes."""

    size = None
    """Not known before all of it is translated."""

    def __init__(self, reader: Any) -> None:
        self.reader = reader
        self.buffer = b""

    def read(self, size: int) -> "Deferred[bytes]":
        """See IReader."""
        missing = size - len(self.buffer)
        if missing <= 0:
            return maybeDeferred(self._take, b"", size)
        # Translation makes nothing shorter, so that what is read fills the block unless the file ends.
        return maybeDeferred(self.reader.read, missing).addCallback(self._take, size)

    def _take(self, data: bytes, size: int) -> bytes:
        buffer = self.buffer + to_netascii(data)
        self.buffer = buffer[size:]
        return buffer[:size]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)
