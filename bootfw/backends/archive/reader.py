"""One member of an archive, read where it is."""

import errno
import os
from collections.abc import Sequence

from attrs import define, field
from zope.interface import implementer

from bootfw.api import IReader


@implementer(IReader)
@define(eq=False)
class MemberReader:
    """Reads pieces of a file as one; owns the descriptor from now on.

    :param fd: open for reading. The archive may be renamed, replaced or removed meanwhile.
    :param runs: (offset, octets) of each piece.
    :param modified: see IReader.
    :param etag: see IReader.
    """

    _fd: int
    _runs: Sequence[tuple[int, int]]
    modified: float
    etag: str
    size: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = sum(octets for _, octets in self._runs)

    def read(self, offset: int, length: int) -> bytes:
        """See IReader.

        :raise OSError: ESTALE when the archive has become shorter; otherwise what the file system says.
        """
        if len(self._runs) == 1:
            start, octets = self._runs[0]
            return self._exactly(start + offset, max(0, min(length, octets - offset)))
        data = b""
        for start, octets in self._runs:
            if 0 <= offset < octets and length > 0:
                piece = self._exactly(start + offset, min(length, octets - offset))
                data += piece
                offset += len(piece)
                length -= len(piece)
            offset -= octets
        return data

    def _exactly(self, start: int, length: int) -> bytes:
        data = os.pread(self._fd, length, start)
        while len(data) < length:
            more = os.pread(self._fd, length - len(data), start + len(data))
            if not more:
                raise OSError(errno.ESTALE, "the archive has become shorter while it was being read")
            data += more
        return data

    def close(self) -> None:
        """See IReader. A second call raises OSError: the number may be another file's by then."""
        fd, self._fd = self._fd, -1
        os.close(fd)
