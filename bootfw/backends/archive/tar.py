"""Tar archives, by the standard library. A compressed one is unpacked as a whole first, see packing.py."""

import tarfile
from typing import Any

from bootfw.backends.archive.contents import ArchiveError, Contents, Stored


def is_tar(file: Any) -> bool:
    """There is the header of a member in the open *file*, or the end of an empty archive."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:"):
            return True
    except tarfile.TarError:
        return False


def read_tar(file: Any, size: int) -> Contents:
    """What is in the archive.

    :param file: open for reading and seeking.
    :param size: of the archive; what would lie behind its end is left out.
    :raise ArchiveError: it can't be read.
    """
    contents = Contents()
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:", encoding="utf-8", errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                if member.issym():
                    contents.link(member.name, member.linkname)
                elif member.islnk():
                    original = contents.find(member.linkname)
                    if original is not None:
                        contents.add(member.name, original)
                # A sparse file is in pieces with nothing between them, which no boot file is.
                elif member.isreg() and not member.issparse() and member.offset_data + member.size <= size:
                    runs = ((member.offset_data, member.size),) if member.size else ()
                    contents.add(member.name, Stored(runs, float(member.mtime)))
                archive.members = []  # type: ignore[attr-defined]  # it would keep them all
    except (tarfile.TarError, OSError) as error:
        raise ArchiveError(f"no tar archive that can be read: {error}") from error
    return contents
