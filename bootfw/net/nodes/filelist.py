"""The files that a node serves, as a list that nodes can compare by few short messages.

Files are put into BUCKETS by their path. Two lists are equal when the digests of all their buckets are; where one
differs, only the files of that bucket need be compared one by one.
"""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from attrs import define, field

BUCKETS = 256
"""Few enough that the digests of all fit into one announcement."""


def bucket_of(path: str) -> int:
    """Return the bucket of a file."""
    return blake2b(path.encode("utf-8", "surrogateescape"), digest_size=1).digest()[0]


@define(eq=False)
class FileList:
    """All files of a node.

    :param files: path -> its version, as text: size and time of the latest modification, which copies keep; or for a
        link to a directory its target.
    """

    files: Mapping[str, str]
    _buckets: list[dict[str, str]] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._buckets = [{} for _ in range(BUCKETS)]
        for path, version in self.files.items():
            self._buckets[bucket_of(path)][path] = version

    def digests(self) -> Sequence[str]:
        """Return the digest of each bucket, 12 hexadecimal digits; "" for one without files."""
        return [_digest(bucket) for bucket in self._buckets]

    def bucket(self, number: int) -> Mapping[str, str]:
        """Return the files of one bucket."""
        return self._buckets[number]


def _digest(bucket: Mapping[str, str]) -> str:
    if not bucket:
        return ""
    digest = blake2b(digest_size=6)
    for path in sorted(bucket):
        digest.update(f"{path}\0{bucket[path]}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def list_files(roots: Iterable[Path]) -> FileList:
    """List the regular files below directories. Where several have the same path, the first directory serves it.

    What this process can't read is left out, as it is not served. Blocks: for 100,000 files about a second.
    """
    files: dict[str, str] = {}
    for root in roots:
        for path, version in _below(os.fspath(root)):
            files.setdefault(path, version)
    return FileList(files)


def _below(root: str) -> Iterator[tuple[str, str]]:
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(os.path.join(root, directory)) as entries:
                found = list(entries)
        except OSError:
            continue
        for entry in found:
            path = f"{directory}/{entry.name}" if directory else entry.name
            try:
                status = entry.stat()
                if stat.S_ISREG(status.st_mode):
                    yield path, _version(status)
                elif stat.S_ISDIR(status.st_mode) and entry.is_symlink():
                    yield path, f"a link to {os.readlink(entry.path)}"
                elif stat.S_ISDIR(status.st_mode):
                    waiting.append(path)
            except OSError:
                continue


def _version(status: os.stat_result) -> str:
    # Copying by rsync may cut the time to whole seconds, and so do some network file systems.
    modified = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(int(status.st_mtime)))
    return f"{status.st_size} bytes of {modified}"
