"""Lists the files of an image: an archive, a directory, or a disk image, whose files can't be read."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bootfw.backends.archive.backend import UNPACK_SIZE
from bootfw.backends.archive.contents import ArchiveError, Member, Stored
from bootfw.backends.archive.opened import OpenArchive, open_archive
from bootfw.backends.imagelibrary.imageentry import DISKS
from bootfw.images.listing import Listing

ENTRIES = 50_000
"""Most files of a directory that are listed."""


@contextmanager
def listing_of(path: Path) -> Iterator[Listing]:
    """Yield the listing of the image at *path*. It may take seconds, and may be called in any thread.

    :raise ArchiveError: it can't be read.
    :raise OSError: the file system reports an error.
    """
    if os.path.isdir(path):
        yield _directory(path)
        return
    try:
        archive = open_archive(path, int(UNPACK_SIZE))
    except ArchiveError:
        if not path.name.casefold().endswith(DISKS):
            raise
        yield Listing({}, lambda name, most: b"", size=path.stat().st_size)
        return
    try:
        yield _archive(archive, path.stat().st_size)
    finally:
        archive.close()


def _directory(root: Path) -> Listing:
    sizes: dict[str, int] = {}
    for directory, below, names in os.walk(root):
        below.sort()
        for name in names:
            path = os.path.join(directory, name)
            try:
                status = os.stat(path)
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode):
                sizes[os.path.relpath(path, root)] = status.st_size
        if len(sizes) > ENTRIES:
            break

    def read(name: str, most: int) -> bytes:
        with open(root / name, "rb") as file:
            return file.read(most)

    return Listing(sizes, read)


def _archive(archive: OpenArchive, size: int) -> Listing:
    contents = archive.contents
    members: dict[str, Member] = dict(contents.members)
    for name in contents.links:
        if (target := contents.find(name)) is not None:
            members[name] = target

    def read(name: str, most: int) -> bytes:
        member = members[name]
        if isinstance(member, Stored):
            reader = archive.reader(member)
            try:
                data = reader.read(0, most)
                assert isinstance(data, bytes)
                return data
            finally:
                reader.close()
        with open(archive.unpacking(member)(), "rb") as file:
            return file.read(most)

    return Listing({name: _size(member) for name, member in members.items()}, read, contents.volume, size)


def _size(member: Member) -> int:
    return sum(length for _, length in member.runs) if isinstance(member, Stored) else member.size
