"""netascii (RFC 764, RFC 1350 section 1): on the wire a line ends with CR LF, and CR alone is CR NUL.

The file's own line end is LF. Both helpers do no I/O: they say what to read or write, and the adapter does it.
"""

from attrs import define, field


def encode(data: bytes) -> bytes:
    """Return *data* of a file as it is on the wire. Each byte is encoded alone, so a file may be split anywhere."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")


@define(eq=False)
class NetasciiReading:
    """A file read through the translation, in order, where the latest block may be read again.

    That is all a transfer with windowsize 1 needs. Use: ``need()``, read what it says, ``feed()``.
    """

    _positions: dict[int, tuple[int, bytes]] = field(factory=lambda: {0: (0, b"")}, init=False)
    """Offset on the wire -> (offset in the file, the second half of a pair that the previous block has cut). The latest
    two offsets."""
    _requested: tuple[int, int] = field(default=(0, 0), init=False)

    def need(self, offset: int, length: int) -> tuple[int, int]:
        """Return (offset, length) to read in the file for *length* bytes from *offset* on the wire.

        :param offset: where the latest block began, or where it ended.
        :raise ValueError: it is another one.
        """
        if offset not in self._positions:
            raise ValueError(f"offset {offset} is neither the latest block nor the next")
        self._requested = (offset, length)
        position, pending = self._positions[offset]
        # No byte gets shorter on the wire, so this many are always enough.
        return position, length - len(pending)

    def feed(self, source: bytes) -> bytes:
        """Return the block on the wire: *length* bytes, fewer at the end of the file.

        :param source: what was read where need() has said.
        """
        offset, length = self._requested
        position, pending = self._positions[offset]
        encoded = pending + encode(source)
        block, rest = encoded[:length], encoded[length:]
        # On the wire each CR begins a pair that stands for one byte of the file; a pair cut in the middle counts as
        # read, and its second half is what the next block begins with.
        cut = block.endswith(b"\r")
        read = len(block) - len(pending) - block.count(b"\r") + cut
        self._positions = {
            offset: (position, pending),
            offset + len(block): (position + read, rest[:1] if cut else b""),
        }
        return block


@define(eq=False)
class NetasciiWriting:
    """A file written through the translation, in order."""

    _offset: int = field(default=0, init=False)
    """In the file."""
    _cr: bytes = field(default=b"", init=False)
    """A CR at the end of the previous block, or b"": its meaning depends on the next byte."""

    def feed(self, payload: bytes, final: bool) -> tuple[int, bytes]:
        """Return (offset, data) to write in the file for the next block on the wire; data may be empty."""
        wire = self._cr + payload
        self._cr = b""
        if wire.endswith(b"\r") and not final:
            wire, self._cr = wire[:-1], b"\r"
        # A CR followed by anything else breaks the rule; it is kept as it is.
        data = b"\r".join(part.replace(b"\r\n", b"\n") for part in wire.split(b"\r\0"))
        offset = self._offset
        self._offset += len(data)
        return offset, data
