"""The frame cache: files framed as DATA datagrams, shared by all transfers of the same file.

A window is one slice of a chunk's memory, so nothing is read, joined or copied to send it.
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
"""Bytes of a chunk, about. A chunk is read in one system call, during which all other clients wait."""

_WINDOWSIZE = 64
_MAX_BLOCKS = 960  # per chunk at most: preadv(2) takes 1024 buffers (IOV_MAX)
_OVERHEAD = 1024  # bytes that a chunk needs beside its data
_HEADER = 4
_header = Struct("!HH").pack_into
_DATA = 3
_FILE_ITEMS = 3
"""Leading items of a content_key() that identify the file; the others identify a part of it."""


class Chunk:
    """Consecutive blocks of a file, framed as DATA.

    :param first: absolute number of the first block.
    :param count: number of full blocks.
    :param tail: bytes of the file's last, short block, which follows them; -1: this chunk does not reach it.
    """

    __slots__ = ("address", "cached", "first", "holders", "last", "last_full", "size", "stride", "view")

    def __init__(self, first: int, count: int, blksize: int, tail: int) -> None:
        self.first = first
        self.last_full = first + count - 1
        """The last full block."""
        self.last = self.last_full + (tail >= 0)
        """The last block."""
        self.stride = blksize + _HEADER
        """Bytes from one frame to the next."""
        size = _frames_size(count, blksize, tail)
        # The kernel gets addresses of frames, so the memory must not move. The view keeps the ctypes array alive, and
        # that keeps the bytearray.
        memory = (ctypes.c_char * size).from_buffer(bytearray(size))
        self.view = memoryview(memory).cast("B")
        """The datagrams, one after the other. A reference to the chunk or to a slice of this keeps the memory alive."""
        self.address = ctypes.addressof(memory)
        self.size = size + _OVERHEAD
        """Bytes, with overhead."""
        self.holders = 0
        """Transfers that send from it; see FrameCache.hold()."""
        self.cached = False

    def frames(self, first: int, last: int) -> memoryview:
        """Return the datagrams of blocks *first* to *last*, absolute numbers; both are in this chunk."""
        start = (first - self.first) * self.stride
        return self.view[start : start + (last - first + 1) * self.stride]

    def fill(self, reader: Any) -> bool:
        """Read the blocks, all by one preadv(2) into their places. Returns False if the file has become shorter."""
        view, stride = self.view, self.stride
        end = len(view)
        for block, start in zip(range(self.first, self.last + 1), range(0, end, stride), strict=True):
            _header(view, start, _DATA, block & 0xFFFF)
        # Headers and payloads alternate in memory. preadv(2) reads each payload directly behind its header, so the
        # content is copied once.
        payloads = [view[start + _HEADER : start + stride] for start in range(0, end, stride)]
        blksize = stride - _HEADER
        begin = reader.start + (self.first - 1) * blksize
        length: int = os.preadv(reader.fileno(), payloads, begin)
        return length == end - _HEADER * len(payloads)


class FrameCache:
    """Least-recently-used cache of chunks.

    Eviction only forgets a chunk: transfers that send from it hold references, and its memory goes with the last one.

    :param capacity: bytes of all cached chunks together; 0: nothing is cached.
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
        """Bytes of evicted chunks that transfers still send from: at most one chunk for each transfer."""
        return self._evicted_in_use

    def hold(self, chunk: Chunk) -> None:
        """Count a transfer that sends from *chunk*. Chunks that are not held are evicted first."""
        chunk.holders += 1

    def release(self, chunk: Chunk) -> None:
        """Undo hold()."""
        chunk.holders -= 1
        if not chunk.holders and not chunk.cached:
            self._evicted_in_use -= chunk.size

    def chunk(self, reader: Any, blksize: int, block: int) -> Chunk | None:
        """Return the chunk with *block*, from the cache or read now; None: it can't be cached, call the reader.

        :param reader: one that is_cacheable().
        :param block: absolute number.
        :raise OSError: it can't be read.
        """
        count = _blocks_per_chunk(blksize, CHUNK_SIZE)
        number = (block - 1) // count
        file_key = content_key(reader)
        key = (file_key, blksize, number)
        chunk = self._chunks.get(key)
        if chunk is not None:
            # A file may be overwritten during a transfer. Its last chunk is given out only if the reader still sees
            # the version that was opened, so no client gets a complete file that is mixed from two versions. A file of
            # one chunk can't be mixed.
            if chunk.last > chunk.last_full and chunk.first > 1 and not self._is_unchanged(reader, file_key):
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
            # Evicting a held chunk frees no memory, so others go first. The scan is short: only chunks of running
            # transfers are held.
            self._evict(next((key for key, old in self._chunks.items() if not old.holders), next(iter(self._chunks))))
        chunk = Chunk(first, count, blksize, tail)
        # Verify after the read: a file that is overwritten during preadv(2) gives blocks of both versions.
        if not chunk.fill(reader) or not self._is_unchanged(reader, file_key):
            return None
        self._chunks[key] = chunk
        chunk.cached = True
        _record_sample(reader, chunk)
        self._used += needed
        return chunk

    def contains(self, reader: Any, blksize: int, block: int) -> bool:
        """Return whether chunk() would find *block* in the cache."""
        try:
            file_key = content_key(reader)
        except OSError:
            return False
        return (file_key, blksize, (block - 1) // _blocks_per_chunk(blksize, CHUNK_SIZE)) in self._chunks

    def clear(self) -> None:
        """Give the memory back."""
        for key in list(self._chunks):
            self._evict(key)

    def _is_unchanged(self, reader: IReader, file_key: tuple[Hashable, ...]) -> bool:
        """Return whether the reader still sees the version that was opened. If not, evict all chunks of it."""
        try:
            if provides(reader, IVerifiableReader):
                reader.verify()
        except TransferError:
            for key in [key for key in self._chunks if key[0][:_FILE_ITEMS] == file_key[:_FILE_ITEMS]]:
                self._evict(key)
            return False
        return True

    def _evict(self, key: Any) -> None:
        """Remove a chunk from the cache. Transfers that hold it go on sending from it."""
        chunk = self._chunks.pop(key)
        chunk.cached = False
        self._used -= chunk.size
        if chunk.holders:
            self._evicted_in_use += chunk.size


def is_cacheable(reader: IReader) -> bool:
    """Return whether the file of *reader* can be framed from its descriptor and shared with other readers of it."""
    return provides(reader, IFileReader) and reader.identity is not None and reader.size is not None


def content_key(reader: IFileReader) -> tuple[Hashable, ...]:
    """Return what identifies the content of *reader*: the file, its version, and the part of it that is read.

    A FileVersion is unique. Any other identity is unique within its backend only, so what fstat(2) says is added.

    :return: at most _FILE_ITEMS items that identify the file, and others.
    :raise OSError: the descriptor can't be used.
    """
    identity = reader.identity
    if type(identity) is FileVersion:
        return (identity,)
    status = os.fstat(reader.fileno())
    return identity, status.st_dev, status.st_ino, status.st_mtime_ns, reader.start, reader.size


def _record_sample(reader: Any, chunk: Chunk) -> None:
    """Report to *reader* what was read of its file, so that it can notice a later overwrite."""
    if chunk.first == 1 and chunk.last > chunk.last_full:
        return
    if provides(reader, IComparingReader):
        reader.remember((chunk.first - 1) * (chunk.stride - _HEADER), chunk.view[_HEADER : chunk.stride])


def last_in_chunk(blksize: int, block: int) -> int:
    """Return the last block of the chunk that *block* is in, an absolute number, if the file is long enough."""
    count = _blocks_per_chunk(blksize, CHUNK_SIZE)
    return block + count - 1 - (block - 1) % count


def _frames_size(count: int, blksize: int, tail: int) -> int:
    """Return the bytes of the frames of a chunk; arguments as of Chunk."""
    return count * (blksize + _HEADER) + (_HEADER + tail if tail >= 0 else 0)


@lru_cache(256)
def _blocks_per_chunk(blksize: int, size: int) -> int:
    """Return the number of blocks in a chunk of about *size* bytes.

    It is a multiple of the usual window sizes, so that no window straddles two chunks.
    """
    count = max(1, min(_MAX_BLOCKS, size // (blksize + _HEADER)))
    windowsize = min(_WINDOWSIZE, 1 << count.bit_length() - 1)
    return (count + windowsize // 2) // windowsize * windowsize
