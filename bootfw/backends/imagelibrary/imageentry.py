"""The images as entries of a directory, and the version of each."""

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from attrs import frozen

DISKS = (".img", ".raw")
"""Suffixes of disk images, byte for byte."""

SUFFIXES = (".iso", *DISKS, ".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst")

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""Names of images: they are parts of URLs, and of the configurations of boot programs."""

_EDGE = 65536
"""Bytes at both ends of a file that determine its version: the volume descriptors, with their dates, are there."""

DIGESTS = ".chunks"
"""The suffix of the file beside a disk image that has the digests of its chunks."""

Change = tuple[int, int, int, int]
"""Differs whenever the file may have changed: device, inode, size in bytes, time of the latest change in ns."""


@frozen
class ImageEntry:
    """An entry of the directory of images."""

    name: str
    """The name of the image: that of the file without its suffix."""
    path: Path
    suffix: str
    """"" : it is a directory."""
    change: Change
    """Of the image, or of its digests."""
    digests: bool = False
    """Whether there is a file with the digests of a disk image. One that is older than the image does not count: it was
    computed from another one."""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory with the files of the image."""
        return not self.suffix


def split_name(entry: str) -> tuple[str, str]:
    """Split the name of a file: ``debian-12.tar.gz`` to ``debian-12`` and ``.tar.gz``; unknown suffix: ("", "")."""
    folded = entry.casefold()
    suffix = max((suffix for suffix in SUFFIXES if folded.endswith(suffix)), key=len, default="")
    return (entry[: -len(suffix)], suffix) if suffix else ("", "")


def image_entries(root: Path) -> Iterator[ImageEntry | str]:
    """Yield the images in a directory, and a sentence for each entry that can't be used as one. Of two files for the
    same image name, the first one in the order of their names is used.

    :raise OSError: the directory can't be read.
    """
    file_names: dict[str, str] = {}
    entries = {entry.name: entry for entry in sorted(os.scandir(root), key=lambda entry: entry.name)}
    for entry in entries.values():
        if entry.name.startswith("."):
            continue
        try:
            status = entry.stat()
        except OSError as error:
            yield f"{entry.path}: {error.strerror}"
            continue
        name, suffix = (entry.name, "") if stat.S_ISDIR(status.st_mode) else split_name(entry.name)
        if not name or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            continue
        if not NAME.fullmatch(name):
            yield f"{entry.path}: rename it: boot programs can use only letters, digits and . _ + - in its name"
        elif name in file_names:
            yield f"{entry.path}: {file_names[name]} is the image {name} already"
        else:
            file_names[name] = entry.name
            change = change_of(status)
            digests = _digests(entries.get(f"{entry.name}{DIGESTS}")) if suffix in DISKS else None
            has_digests = digests is not None and digests.st_mtime_ns >= status.st_mtime_ns
            if digests is not None and has_digests:
                change = (*change[:3], max(change[3], change_of(digests)[3]))
            yield ImageEntry(name, Path(entry.path), suffix, change, has_digests)


def _digests(entry: "os.DirEntry[str] | None") -> os.stat_result | None:
    try:
        return entry.stat() if entry is not None else None
    except OSError:
        return None


def change_of(status: os.stat_result) -> Change:
    """Return the Change of a file."""
    return status.st_dev, status.st_ino, status.st_size, max(status.st_mtime_ns, status.st_ctime_ns)


def version_of(descriptor: int) -> str:
    """Return the version of an open image: eight hexadecimal digits, the same on every server that has the same file.

    A directory has a new version when it is replaced, or an entry of it is added or removed.

    :raise OSError: it can't be read.
    """
    status = os.fstat(descriptor)
    digest = hashlib.blake2b(f"{status.st_size} {int(status.st_mtime)}".encode(), digest_size=4)
    if stat.S_ISDIR(status.st_mode):
        for name in sorted(map(os.fsencode, os.listdir(f"/proc/self/fd/{descriptor}"))):
            digest.update(name + b"\0")
    else:
        digest.update(os.pread(descriptor, _EDGE, 0))
        digest.update(os.pread(descriptor, _EDGE, max(0, status.st_size - _EDGE)))
    return digest.hexdigest()


def open_entry(path: Path) -> int:
    """Open an image or a directory.

    :return: its descriptor.
    :raise OSError: it can't be opened.
    """
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
