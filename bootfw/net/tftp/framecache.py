"""Files as they go over the wire: blocks with their headers between them, shared by all who read the same file.

A run of blocks is then one slice of memory: nothing is read, joined or copied for it.
"""

import ctypes
import os
from collections import OrderedDict
from collections.abc import Hashable
from functools import lru_cache
from struct import Struct
from typing import Any

from bootfw.ability import provides
from bootfw.errors import TransferError
from bootfw.interfaces import IComparingReader, IFileReader, IReader, IVerifiableReader
from bootfw.readers import FileVersion

PIECE = 256 * 1024
"""Octets of a piece, about. Read at once, so it is what one client may make the others wait for."""

_WINDOWSIZE = 64
_BLOCKS = 960  # in a piece at most: preadv(2) takes 1024 places (IOV_MAX)
_OVERHEAD = 1024  # bytes that a piece costs beside its data
_HEADER = 4
_header = Struct("!HH").pack_into
_DATA = 3
_FILE = 3
"""Items of a _source() that say which file it is."""


class Piece:
    """Consecutive blocks of a file, framed as DATA.

    :param first: absolute number of the first one.
    :param count: how many full ones.
    :param rest: bytes of the file's last block, which is not full, behind them; -1: it is not here.
    """

    __slots__ = ("address", "cached", "end", "first", "holders", "last", "size", "stride", "view")

    def __init__(self, first: int, count: int, blksize: int, rest: int) -> None:
        self.first = first
        self.last = first + count - 1
        """The last full block."""
        self.end = self.last + (rest >= 0)
        """The last block."""
        self.stride = blksize + _HEADER
        """Octets from one block to the next."""
        size = _frames_size(count, blksize, rest)
        memory = (ctypes.c_char * size).from_buffer(bytearray(size))
        self.view = memoryview(memory).cast("B")
        """The datagrams one after the other. Whoever has the piece, or a slice of this, keeps the memory alive."""
        self.address = ctypes.addressof(memory)
        self.size = size + _OVERHEAD
        """Bytes that it costs."""
        self.holders = 0
        """Transfers that send from it; see Images.hold()."""
        self.cached = False

    def frames(self, first: int, last: int) -> memoryview:
        """The datagrams of blocks *first* to *last*, absolute numbers, both in this piece."""
        start = (first - self.first) * self.stride
        return self.view[start : start + (last - first + 1) * self.stride]

    def fill(self, reader: Any) -> bool:
        """Read the blocks. False: the file is shorter than it was."""
        view, stride = self.view, self.stride
        end = len(view)
        for block, start in zip(range(self.first, self.end + 1), range(0, end, stride), strict=True):
            _header(view, start, _DATA, block & 0xFFFF)
        payloads = [view[start + _HEADER : start + stride] for start in range(0, end, stride)]
        blksize = stride - _HEADER
        begin = reader.start + (self.first - 1) * blksize
        length: int = os.preadv(reader.fileno(), payloads, begin)
        return length == end - _HEADER * len(payloads)


class Images:
    """Pieces of framed files; those that were wanted last are kept.

    :param room: bytes of memory for all of them; 0: none.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._used = self._beyond = 0
        self._pieces: OrderedDict[Any, Piece] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes of the pieces that are cached."""
        return self._used

    @property
    def beyond(self) -> int:
        """Bytes of the pieces that are cached no more, but which transfers still send from: at most one piece each."""
        return self._beyond

    def hold(self, piece: Piece) -> None:
        """A transfer sends from *piece*: it had better stay cached."""
        piece.holders += 1

    def release(self, piece: Piece) -> None:
        """Undo hold()."""
        piece.holders -= 1
        if not piece.holders and not piece.cached:
            self._beyond -= piece.size

    def piece(self, reader: Any, blksize: int, block: int) -> Piece | None:
        """The piece with *block*; None: there is none, read it.

        It stays what it is for as long as the caller has it; the cache only forgets it.

        :param reader: one that can_be_framed().
        :param block: absolute number.
        :raise OSError: it can't be read.
        """
        count = _together(blksize, PIECE)
        number = (block - 1) // count
        source = _source(reader)
        key = (source, blksize, number)
        piece = self._pieces.get(key)
        if piece is not None:
            # What was read of it before and what was framed is of one file, if that is still so at the end.
            if piece.end > piece.last and not self._is_unchanged(reader, source):
                return None
            self._pieces.move_to_end(key)
            _remember(reader, piece)
            return piece
        full, rest = divmod(reader.size, blksize)
        first = number * count + 1
        if first + count <= full + 1:
            rest = -1
        count = min(count, full - first + 1)
        needed = _frames_size(count, blksize, rest) + _OVERHEAD
        if block > full + 1 or needed > self.room:
            return None
        while self._used + needed > self.room:
            # Those that are held would keep their memory, so others go first. A held one is one of a transfer under
            # way, so few are passed over.
            self._forget(next((key for key, old in self._pieces.items() if not old.holders), next(iter(self._pieces))))
        piece = Piece(first, count, blksize, rest)
        if not piece.fill(reader) or not self._is_unchanged(reader, source):
            return None
        self._pieces[key] = piece
        piece.cached = True
        _remember(reader, piece)
        self._used += needed
        return piece

    def has(self, reader: Any, blksize: int, block: int) -> bool:
        """Whether piece() would have nothing to read."""
        try:
            source = _source(reader)
        except OSError:
            return False
        return (source, blksize, (block - 1) // _together(blksize, PIECE)) in self._pieces

    def clear(self) -> None:
        """Give the memory back."""
        for key in list(self._pieces):
            self._forget(key)

    def _is_unchanged(self, reader: IReader, source: tuple[Hashable, ...]) -> bool:
        """Whether it still reads what it did when it was opened; else what was framed of that goes."""
        try:
            if provides(reader, IVerifiableReader):
                reader.verify()
        except TransferError:
            for key in [key for key in self._pieces if key[0][:_FILE] == source[:_FILE]]:
                self._forget(key)
            return False
        return True

    def _forget(self, key: Any) -> None:
        """Take a piece out of the cache. Its memory goes with the last transfer that sends from it."""
        piece = self._pieces.pop(key)
        piece.cached = False
        self._used -= piece.size
        if piece.holders:
            self._beyond += piece.size


def can_be_framed(reader: IReader) -> bool:
    """Whether pieces can be made of what *reader* reads, and used again for others who read the same."""
    return provides(reader, IFileReader) and reader.identity is not None and reader.size is not None


def _source(reader: IFileReader) -> tuple[Hashable, ...]:
    """What pieces are shared by: the part of a file that *reader* reads, and the version of the file.

    An identity that is no FileVersion would not do alone: readers of two backends may have the same one by chance.

    :return: at most _FILE items that say which file it is, and others.
    :raise OSError: the descriptor can't be used.
    """
    identity = reader.identity
    if type(identity) is FileVersion:
        return (identity,)
    status = os.fstat(reader.fileno())
    return identity, status.st_dev, status.st_ino, status.st_mtime_ns, reader.start, reader.size


def _remember(reader: Any, piece: Piece) -> None:
    """Tell *reader* what was read of it, where there is more to be read."""
    if piece.first == 1 and piece.end > piece.last:
        return
    if provides(reader, IComparingReader):
        reader.remember((piece.first - 1) * (piece.stride - _HEADER), piece.view[_HEADER : piece.stride])


def last_together(blksize: int, block: int) -> int:
    """The last block that is in one piece with *block*, an absolute number, if the file is long enough."""
    count = _together(blksize, PIECE)
    return block + count - 1 - (block - 1) % count


def _frames_size(count: int, blksize: int, rest: int) -> int:
    """See Piece."""
    return count * (blksize + _HEADER) + (_HEADER + rest if rest >= 0 else 0)


@lru_cache(256)
def _together(blksize: int, size: int) -> int:
    """Blocks in a piece of about *size* bytes: a multiple of the usual window sizes, so that windows lie in one piece.

    Cached: each transfer needs it several times, and most clients request one of a few block sizes.
    """
    count = max(1, min(_BLOCKS, size // (blksize + _HEADER)))
    windowsize = min(_WINDOWSIZE, 1 << count.bit_length() - 1)
    return (count + windowsize // 2) // windowsize * windowsize
