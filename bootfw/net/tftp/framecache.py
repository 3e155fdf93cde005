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

CHUNK_SIZE = 256 * 1024
"""Octets of a chunk, about. Read at once, so it is what one client may make the others wait for."""

_WINDOWSIZE = 64
_MAX_BLOCKS = 960  # in a chunk at most: preadv(2) takes 1024 places (IOV_MAX)
_OVERHEAD = 1024  # bytes that a chunk costs beside its data
_HEADER = 4
_header = Struct("!HH").pack_into
_DATA = 3
_FILE_ITEMS = 3
"""Items of a _file_key() that say which file it is."""


class Chunk:
    """Consecutive blocks of a file, framed as DATA.

    :param first: absolute number of the first one.
    :param count: how many full ones.
    :param tail: bytes of the file's last block, which is not full, behind them; -1: it is not here.
    """

    __slots__ = ("address", "cached", "first", "holders", "last", "last_full", "size", "stride", "view")

    def __init__(self, first: int, count: int, blksize: int, tail: int) -> None:
        self.first = first
        self.last_full = first + count - 1
        """The last full block."""
        self.last = self.last_full + (tail >= 0)
        """The last block."""
        self.stride = blksize + _HEADER
        """Octets from one block to the next."""
        size = _frames_size(count, blksize, tail)
        memory = (ctypes.c_char * size).from_buffer(bytearray(size))
        self.view = memoryview(memory).cast("B")
        """The datagrams one after the other. Whoever has the chunk, or a slice of this, keeps the memory alive."""
        self.address = ctypes.addressof(memory)
        self.size = size + _OVERHEAD
        """Bytes that it costs."""
        self.holders = 0
        """Transfers that send from it; see FrameCache.hold()."""
        self.cached = False

    def frames(self, first: int, last: int) -> memoryview:
        """The datagrams of blocks *first* to *last*, absolute numbers, both in this chunk."""
        start = (first - self.first) * self.stride
        return self.view[start : start + (last - first + 1) * self.stride]

    def fill(self, reader: Any) -> bool:
        """Read the blocks. False: the file is shorter than it was."""
        view, stride = self.view, self.stride
        end = len(view)
        for block, start in zip(range(self.first, self.last + 1), range(0, end, stride), strict=True):
            _header(view, start, _DATA, block & 0xFFFF)
        payloads = [view[start + _HEADER : start + stride] for start in range(0, end, stride)]
        blksize = stride - _HEADER
        begin = reader.start + (self.first - 1) * blksize
        length: int = os.preadv(reader.fileno(), payloads, begin)
        return length == end - _HEADER * len(payloads)


class FrameCache:
    """Pieces of framed files; those that were wanted last are kept.

    :param capacity: bytes of memory for all of them; 0: none.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._used = self._evicted_in_use = 0
        self._chunks: OrderedDict[Any, Chunk] = OrderedDict()

    @property
    def used(self) -> int:
        """Bytes of the chunks that are cached."""
        return self._used

    @property
    def evicted_in_use(self) -> int:
        """Bytes of the chunks that are cached no more, but which transfers still send from: at most one chunk each."""
        return self._evicted_in_use

    def hold(self, chunk: Chunk) -> None:
        """A transfer sends from *chunk*: it had better stay cached."""
        chunk.holders += 1

    def release(self, chunk: Chunk) -> None:
        """Undo hold()."""
        chunk.holders -= 1
        if not chunk.holders and not chunk.cached:
            self._evicted_in_use -= chunk.size

    def chunk(self, reader: Any, blksize: int, block: int) -> Chunk | None:
        """The chunk with *block*; None: there is none, read it.

        It stays what it is for as long as the caller has it; the cache only forgets it.

        :param reader: one that can_be_framed().
        :param block: absolute number.
        :raise OSError: it can't be read.
        """
        count = _blocks_per_chunk(blksize, CHUNK_SIZE)
        number = (block - 1) // count
        file_key = _file_key(reader)
        key = (file_key, blksize, number)
        chunk = self._chunks.get(key)
        if chunk is not None:
            # What was read of it before and what was framed is of one file, if that is still so at the end.
            if chunk.last > chunk.last_full and not self._is_unchanged(reader, file_key):
                return None
            self._chunks.move_to_end(key)
            _record_sample(reader, chunk)
            return chunk
        full, tail = divmod(reader.size, blksize)
        first = number * count + 1
        if first + count <= full + 1:
            tail = -1
        count = min(count, full - first + 1)
        needed = _frames_size(count, blksize, tail) + _OVERHEAD
        if block > full + 1 or needed > self.capacity:
            return None
        while self._used + needed > self.capacity:
            # Those that are held would keep their memory, so others go first. A held one is one of a transfer under
            # way, so few are passed over.
            self._evict(next((key for key, old in self._chunks.items() if not old.holders), next(iter(self._chunks))))
        chunk = Chunk(first, count, blksize, tail)
        if not chunk.fill(reader) or not self._is_unchanged(reader, file_key):
            return None
        self._chunks[key] = chunk
        chunk.cached = True
        _record_sample(reader, chunk)
        self._used += needed
        return chunk

    def contains(self, reader: Any, blksize: int, block: int) -> bool:
        """Whether chunk() would have nothing to read."""
        try:
            file_key = _file_key(reader)
        except OSError:
            return False
        return (file_key, blksize, (block - 1) // _blocks_per_chunk(blksize, CHUNK_SIZE)) in self._chunks

    def clear(self) -> None:
        """Give the memory back."""
        for key in list(self._chunks):
            self._evict(key)

    def _is_unchanged(self, reader: IReader, file_key: tuple[Hashable, ...]) -> bool:
        """Whether it still reads what it did when it was opened; else what was framed of that goes."""
        try:
            if provides(reader, IVerifiableReader):
                reader.verify()
        except TransferError:
            for key in [key for key in self._chunks if key[0][:_FILE_ITEMS] == file_key[:_FILE_ITEMS]]:
                self._evict(key)
            return False
        return True

    def _evict(self, key: Any) -> None:
        """Take a chunk out of the cache. Its memory goes with the last transfer that sends from it."""
        chunk = self._chunks.pop(key)
        chunk.cached = False
        self._used -= chunk.size
        if chunk.holders:
            self._evicted_in_use += chunk.size


def is_cacheable(reader: IReader) -> bool:
    """Whether chunks can be made of what *reader* reads, and used again for others who read the same."""
    return provides(reader, IFileReader) and reader.identity is not None and reader.size is not None


def _file_key(reader: IFileReader) -> tuple[Hashable, ...]:
    """What chunks are shared by: the part of a file that *reader* reads, and the version of the file.

    An identity that is no FileVersion would not do alone: readers of two backends may have the same one by chance.

    :return: at most _FILE items that say which file it is, and others.
    :raise OSError: the descriptor can't be used.
    """
    identity = reader.identity
    if type(identity) is FileVersion:
        return (identity,)
    status = os.fstat(reader.fileno())
    return identity, status.st_dev, status.st_ino, status.st_mtime_ns, reader.start, reader.size


def _record_sample(reader: Any, chunk: Chunk) -> None:
    """Tell *reader* what was read of it, where there is more to be read."""
    if chunk.first == 1 and chunk.last > chunk.last_full:
        return
    if provides(reader, IComparingReader):
        reader.remember((chunk.first - 1) * (chunk.stride - _HEADER), chunk.view[_HEADER : chunk.stride])


def last_in_chunk(blksize: int, block: int) -> int:
    """The last block that is in one chunk with *block*, an absolute number, if the file is long enough."""
    count = _blocks_per_chunk(blksize, CHUNK_SIZE)
    return block + count - 1 - (block - 1) % count


def _frames_size(count: int, blksize: int, tail: int) -> int:
    """See Piece."""
    return count * (blksize + _HEADER) + (_HEADER + tail if tail >= 0 else 0)


@lru_cache(256)
def _blocks_per_chunk(blksize: int, size: int) -> int:
    """Blocks in a chunk of about *size* bytes: a multiple of the usual window sizes, so that windows lie in one chunk.

    Cached: each transfer needs it several times, and most clients request one of a few block sizes.
    """
    count = max(1, min(_MAX_BLOCKS, size // (blksize + _HEADER)))
    windowsize = min(_WINDOWSIZE, 1 << count.bit_length() - 1)
    return (count + windowsize // 2) // windowsize * windowsize
