"""Readers of one member of an archive in place."""

from collections.abc import Sequence

from attrs import define, field
from zope.interface import implementer

from bootfw.api import FileReader, ICacheableReader, IFileReader, IVerifiableReader


@implementer(IFileReader, ICacheableReader, IVerifiableReader)
@define(eq=False)
class MemberReader:
    """Reads a part of a file.

    :param file: the reader of the archive, which this object owns from now on. The archive may be renamed, replaced or
        removed meanwhile.
    :param start: offset of the part in bytes.
    :param size: bytes of the part.
    """

    _file: FileReader
    start: int
    size: int
    modified: float
    etag: str
    changed: float
    identity: tuple[int, ...] | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        of_file = self._file.identity
        self.identity = (*of_file, self.start, self.size) if of_file is not None else None

    def fileno(self) -> int:
        """See IFileReader. The descriptor is that of the archive."""
        return self._file.fileno()

    def read(self, offset: int, length: int) -> bytes:
        """See IReader.

        :raise OSError: ESTALE if the archive has become shorter; others as the file system reports them.
        """
        data = self._file.read(self.start + offset, min(length, self.size - offset))
        if offset + length >= self.size:
            self.verify()
        return data

    def verify(self) -> None:
        """See IVerifiableReader."""
        self._file.verify()

    def remember(self, offset: int, data: bytes | memoryview) -> None:
        """See IReader."""
        self._file.remember(self.start + offset, data)

    def close(self) -> None:
        """See IReader."""
        self._file.close()


@implementer(ICacheableReader, IVerifiableReader)
@define(eq=False)
class PiecesReader:
    """Reads several parts of a file as one.

    :param runs: (offset, bytes) of each.
    """

    _file: FileReader
    _runs: Sequence[tuple[int, int]]
    modified: float
    etag: str
    changed: float
    size: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.size = sum(extent for _, extent in self._runs)

    def read(self, offset: int, length: int) -> bytes:
        """See IReader.

        :raise OSError: see MemberReader.read().
        """
        data = b""
        for start, extent in self._runs:
            if 0 <= offset < extent and length > 0:
                piece = self._file.read(start + offset, min(length, extent - offset))
                data += piece
                offset += len(piece)
                length -= len(piece)
            offset -= extent
        if offset + length >= 0:
            self.verify()
        return data

    def verify(self) -> None:
        """See IVerifiableReader."""
        self._file.verify()

    def close(self) -> None:
        """See IReader."""
        self._file.close()
