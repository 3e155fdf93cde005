"""The digests of an image's chunks, by which a receiver verifies what it gets, and finds what it has."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen

from bootfw.errors import BootfwError
from bootfw.wire.frisbee import CHUNK_SIZE

SUFFIX = ".chunks"
"""The name of the file with the digests of an image is the name of the image with this suffix."""

DISKS = (".img", ".raw")
"""Suffixes of disk images, which have digests; as in bootfw/backends/imagelibrary/imageentry.py."""

_LENGTH = hashlib.sha256().digest_size


class DigestsError(BootfwError):
    """A file of digests can't be used. The message says why, in a sentence without a full stop."""


@frozen
class Digests:
    """The SHA-256 digest of each chunk of an image."""

    size: int
    """Bytes of the image."""
    chunks: tuple[bytes, ...]

    @classmethod
    def of(cls, read: Callable[[int], bytes]) -> "Digests":
        """Return the digests of what *read* returns.

        :param read: called with a number of bytes; returns as many or fewer, and none at the end. Its OSErrors pass.
        """
        size, found = 0, []
        while content := _exactly(read, CHUNK_SIZE):
            size += len(content)
            found.append(hashlib.sha256(content).digest())
        return cls(size, tuple(found))

    @classmethod
    def parse(cls, text: bytes) -> "Digests":
        """Read what dump() has written.

        :raise DigestsError: it is something else.
        """
        try:
            found = json.loads(text)
            if (found["algorithm"], found["chunk-size"]) != ("sha256", CHUNK_SIZE):
                raise DigestsError(f"the digests are not SHA-256 of chunks of {CHUNK_SIZE} bytes")
            digests = cls(found["size"], tuple(bytes.fromhex(each) for each in found["chunks"]))
            whole = len(digests.chunks) == -(-digests.size // CHUNK_SIZE)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DigestsError(f"this is no file of digests: {error}") from None
        if not whole or any(len(each) != _LENGTH for each in digests.chunks):
            raise DigestsError(f"this is no file of digests: it has {len(digests.chunks)} for {digests.size} bytes")
        return digests

    def dump(self) -> bytes:
        """Return the content of the file of digests, in JSON."""
        lines = ",\n".join(f'"{each.hex()}"' for each in self.chunks)
        head = f'{{"algorithm": "sha256", "chunk-size": {CHUNK_SIZE}, "size": {self.size}, "chunks": [\n'
        return (head + lines + "\n]}\n").encode()

    def matches(self, chunk: int, content: bytes) -> bool:
        """Return whether *content* is that chunk."""
        return chunk < len(self.chunks) and hashlib.sha256(content).digest() == self.chunks[chunk]


@define(eq=False)
class ChunkDigests:
    """Computes the digests of an image from its bytes, as they come."""

    _size: int = field(default=0, init=False)
    _complete: list[bytes] = field(factory=list, init=False)
    """The digests of the chunks that are complete."""
    _chunk: Any = field(factory=hashlib.sha256, init=False)
    """The digest, so far, of the chunk that the next byte belongs to."""

    def update(self, content: bytes) -> None:
        """Take the next bytes."""
        remaining = memoryview(content)
        while remaining:
            part = remaining[: CHUNK_SIZE - self._size % CHUNK_SIZE]
            self._chunk.update(part)
            self._size += len(part)
            remaining = remaining[len(part) :]
            if self._size % CHUNK_SIZE == 0:
                self._complete.append(self._chunk.digest())
                self._chunk = hashlib.sha256()

    def result(self) -> Digests:
        """Return the digests of what has come."""
        last_chunk = (self._chunk.digest(),) if self._size % CHUNK_SIZE else ()
        return Digests(self._size, (*self._complete, *last_chunk))


def _exactly(read: Callable[[int], bytes], length: int) -> bytes:
    parts = []
    while length and (part := read(length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)
