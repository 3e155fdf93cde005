"""Mounted file systems that can hang, read from the kernel's table of mounts.

A network file system whose server is gone, and a FUSE file system whose program is stopped, return neither data nor an
error. A thread that opens or reads a file there blocks and can't be interrupted.
"""

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

from attrs import define, field

# fmt: off
_LOCAL = frozenset(
    (
        "bcachefs", "btrfs", "cramfs", "devtmpfs", "erofs", "exfat", "ext2", "ext3", "ext4", "f2fs", "hfs",
        "hfsplus", "hugetlbfs", "iso9660", "jffs2", "jfs", "minix", "msdos", "nilfs2", "ntfs3", "overlay",
        "ramfs", "reiserfs", "rootfs", "romfs", "squashfs", "tmpfs", "ubifs", "udf", "ufs", "vfat", "xfs", "zfs",
    )
)
# fmt: on
"""Types of file systems that wait for a local disk at most. Any other type is treated as one that can hang."""

_NO_FILES = ("/proc/", "/sys/", "/dev/")
"""Directories that hold no files to serve, but mounts of many types (binfmt_misc by autofs, cgroup ...)."""

_TABLE_SECONDS = 1.0
"""Seconds for which the table is cached."""

_LINKS = 40  # the kernel's own limit, path_resolution(7)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@define(eq=False)
class MountTable:
    """The mount points of file systems that can hang.

    :param table: a file in the format of /proc/self/mountinfo, see proc(5). If it can't be read, no file system counts
        as one that can hang.
    """

    _table: Path = Path("/proc/self/mountinfo")
    _seconds: Callable[[], float] = time.monotonic
    _read_at: float | None = field(default=None, init=False)
    _mount_points: frozenset[bytes] = field(default=frozenset(), init=False)
    """What hanging() returned last."""
    _roots: dict[Path, tuple[bytes | None, bytes, bool]] = field(factory=dict, init=False)
    """Root -> (the first mount point on the way to it, the directory that it is without symbolic links, whether a file
    system that can hang is mounted below it). Cleared when the table is read again."""

    def hanging(self) -> frozenset[bytes]:
        """Return the mount points of file systems that can hang. ``/`` is left out: without it nothing works at all."""
        now = self._seconds()
        if self._read_at is None or now - self._read_at >= _TABLE_SECONDS:
            self._read_at = now
            self._roots.clear()
            try:
                self._mount_points = frozenset(_parse(self._table.read_bytes()))
            except OSError:
                self._mount_points = frozenset()
        return self._mount_points

    def on_the_way_to(self, root: Path, name: bytes = b"", ignore_case: bool = False) -> bytes | None:
        """Return the first mount point on the path to *name* below *root*; None: there is none, so opening it can't
        hang.

        Symbolic links are followed as if *root* were ``/``. Nothing behind a mount point is accessed.

        :param ignore_case: the name may differ in upper and lower case.
        """
        mount_points = self.hanging()
        if not mount_points:
            return None
        cached = self._roots.get(root)
        if cached is None:
            mounts = {mount_point: mount_point for mount_point in mount_points}
            found, top = _walk(b"", os.fsencode(os.path.abspath(root)), mounts.get)
            cached = self._roots[root] = found, top, any(each.startswith(top + b"/") for each in mount_points)
        found, top, has_mounts_below = cached
        # Most roots have no such mount, and their files need no walk.
        if found or not name or not has_mounts_below:
            return found
        mounts = {mount_point: mount_point for mount_point in mount_points}
        if ignore_case:
            alike = {mount_point.lower(): mount_point for mount_point in mount_points}
            return _walk(top, name, lambda mount_point: alike.get(mount_point.lower()))[0]
        return _walk(top, name, mounts.get)[0]


PROBE_SECONDS = 1.0
"""Timeout of a probe. A file system that has not answered by then hangs."""

_ANSWER_SECONDS = 10.0
"""Seconds for which an answer is cached. That a file system hangs is not cached: it may answer at any time."""


@define(eq=False)
class MountProbe:
    """Finds out which file systems hang at the moment. Any thread may use it, one at a time."""

    _mounts: MountTable = field(factory=MountTable)
    _seconds: Callable[[], float] = time.monotonic
    _answered: dict[bytes, float] = field(factory=dict, init=False)
    """Mount point -> time of its last answer."""
    _probing: dict[bytes, threading.Thread] = field(factory=dict, init=False)
    """Mount point -> the thread that waits for its answer, perhaps for ever; one for each at most."""

    def hangs(self, path: Path) -> bool:
        """Return whether *path* is on, or leads to, a file system that does not answer.

        Blocks for PROBE_SECONDS at most, and not at all while an earlier probe still waits.
        """
        mount_point = self._mounts.on_the_way_to(path)
        if mount_point is None:
            return False
        now = self._seconds()
        if mount_point in self._answered and now - self._answered[mount_point] < _ANSWER_SECONDS:
            return False
        thread = self._probing.get(mount_point)
        if thread is None:
            # A daemon thread: one that waits for ever must not prevent the process from ending.
            thread = threading.Thread(target=_probe, args=(mount_point,), name="bootfw probe", daemon=True)
            self._probing[mount_point] = thread
            thread.start()
            thread.join(PROBE_SECONDS)
        if thread.is_alive():
            return True
        del self._probing[mount_point]
        self._answered[mount_point] = now
        return False


def _probe(mount_point: bytes) -> None:
    # statvfs(3) asks the server each time; an NFS client may answer stat(2) from its cache.
    with contextlib.suppress(OSError):  # an error is an answer, too
        os.statvfs(mount_point)


def _parse(table: bytes) -> "set[bytes]":
    """Return the mount points of file systems that can hang, from the text of /proc/self/mountinfo."""
    types: dict[bytes, bytes] = {}
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        mount_point = _ESCAPED.sub(lambda code: bytes((int(code[1], 8),)), before.split(b" ")[4])
        types[mount_point] = after.partition(b" ")[0]  # several may be mounted on one directory: the last one counts
    return {
        mount_point
        for mount_point, kind in types.items()
        if mount_point != b"/"
        and kind.decode("ascii", "replace") not in _LOCAL
        and not (os.fsdecode(mount_point) + "/").startswith(_NO_FILES)
    }


def _walk(top: bytes, path: bytes, mount: Callable[[bytes], bytes | None]) -> tuple[bytes | None, bytes]:
    """Return (the first mount point on *path*, the directory that the walk reached).

    os.path.realpath() can't be used: it looks at each directory on the way, and the first one on a file system that
    hangs would block. The walk reads no link at or behind a mount point.

    :param top: where absolute links begin, and where ``..`` ends.
    :param mount: returns the mount point that a directory is; None: it is none.
    """
    pending = path.split(b"/")[::-1]
    directory, links = top, 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if directory != top:
                directory = directory.rpartition(b"/")[0]
            continue
        below = directory + b"/" + name
        found = mount(below)
        if found is not None:
            return found, directory
        try:
            target = os.readlink(below)
        except OSError:  # no link, or missing
            directory = below
            continue
        links += 1
        if links > _LINKS:
            break
        if target.startswith(b"/"):
            directory = top
        pending += target.split(b"/")[::-1]
    return None, directory
