"""Netascii (RFC 764): a reader and a writer that translate around those of the backend."""

from typing import Any

from attrs import define, field
from zope.interface import implementer

from bootfw.boot.pluginresult import as_deferred, checked_bytes
from bootfw.errors import TransferError
from bootfw.interfaces import IReader, IWriter
from bootfw.tftp.netascii import NetasciiReading, NetasciiWriting


@implementer(IReader)
@define(eq=False)
class NetasciiReader:
    """Reads *reader* as netascii. Only the latest offset and the next one can be read (windowsize 1)."""

    _reader: Any
    size: int | None = field(default=None, init=False)
    _reading: NetasciiReading = field(factory=NetasciiReading, init=False)

    def read(self, offset: int, length: int) -> Any:
        """See IReader."""
        position, needed = self._reading.need(offset, length)
        if self._reader.size is not None:
            needed = min(needed, self._reader.size - position)
        if needed <= 0:
            return self._reading.feed(b"")
        answer = self._reader.read(position, needed)
        waiting = as_deferred(answer)
        if waiting is None:
            return self._translated(answer, needed)
        return waiting.addCallback(self._translated, needed)

    def _translated(self, answer: Any, needed: int) -> bytes:
        source = checked_bytes(answer, needed, self._reader)
        if len(source) < needed and self._reader.size is not None:
            raise TransferError("file changed while being sent")
        return self._reading.feed(source)

    def close(self) -> None:
        """See IReader."""
        self._reader.close()


@implementer(IWriter)
@define(eq=False)
class NetasciiWriter:
    """Writes to *writer* the text that netascii encodes.

    Set ``final`` before the last write: a CR at the end of a block waits for the byte that follows it.
    """

    _writer: Any
    _writing: NetasciiWriting = field(factory=NetasciiWriting, init=False)
    final: bool = field(default=False, init=False)
    """The next write is the last."""

    def write(self, offset: int, data: bytes) -> Any:
        """See IWriter."""
        position, translated = self._writing.feed(data, self.final)
        return self._writer.write(position, translated) if translated else None

    def finish(self) -> Any:
        """See IWriter."""
        return self._writer.finish()

    def cancel(self) -> None:
        """See IWriter."""
        self._writer.cancel()
