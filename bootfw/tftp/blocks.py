"""Block numbers and runs of blocks.

Inside, a block has an absolute number that starts at 1 and never wraps. On the wire it has 16 bits and wraps to 0.
The two meet in this module only, and wire numbers are never compared by order.
"""

from struct import Struct

from attrs import frozen

_header = Struct("!HH").pack
_DATA = 3


@frozen(slots=False)  # with slots, each field would be set by a call
class Blocks:
    """A run of *count* blocks beginning with block *first*."""

    first: int
    """Absolute, from 1."""
    count: int

    @property
    def last(self) -> int:
        """Absolute number of the last block of the run."""
        return self.first + self.count - 1


def wire_number(block: int) -> int:
    """Return the 16 bits that stand for absolute *block* in a packet; 65535 is followed by 0."""
    return block & 0xFFFF


def advance(acked: int, number: int, limit: int) -> int | None:
    """Return the absolute block that 16-bit *number* means, if it is 0 to *limit* blocks after *acked*; else None.

    :param limit: at most 65535, so that the answer is unambiguous.
    """
    # A difference modulo 65536 is right across the wrap, where a comparison of the numbers is not.
    ahead = (number - acked) & 0xFFFF
    return acked + ahead if ahead <= limit else None


def frame(blocks: Blocks, blksize: int, data: bytes) -> bytes:
    """Return the DATA datagrams of *blocks* in one string: each has ``blksize + 4`` bytes, the last may be shorter.

    :param data: the content of the run; only the last block may be short of *blksize*.
    :raise ValueError: *data* doesn't fill all blocks but the last, or is too long.
    """
    first, count = blocks.first, blocks.count
    if not 0 <= len(data) - (count - 1) * blksize <= blksize:
        raise ValueError(f"{len(data)} bytes don't make {count} blocks of {blksize}")
    if count == 1:
        return _header(_DATA, first & 0xFFFF) + data
    pieces = []
    for offset in range(0, count * blksize, blksize):
        pieces.append(_header(_DATA, first & 0xFFFF))
        pieces.append(data[offset : offset + blksize])
        first += 1
    return b"".join(pieces)
