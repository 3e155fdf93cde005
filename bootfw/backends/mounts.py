"""File systems that can keep a caller waiting without end, as the kernel's table of mounts has them.

A network file system whose server is gone, and one in user space whose program stands still, answer nothing and fail
nothing: whoever opens or reads a file there waits, and can't be interrupted.
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
"""File systems that wait for a disk at most. Any other one is taken for one that can hang."""

_NO_FILES = ("/proc/", "/sys/", "/dev/")
"""Below these are no files to serve, but mounts of many types (binfmt_misc by autofs, cgroup ...)."""

_AGE = 1.0
"""Seconds after which the table is read again."""

_LINKS = 40  # the kernel's own limit, path_resolution(7)
_ESCAPED = re.compile(rb"\\([0-7]{3})")


@define(eq=False)
class Mounts:
    """The mount points of file systems that can hang.

    :param table: as /proc/self/mountinfo, see proc(5). Where there is none, no file system is known to hang.
    """

    _table: Path = Path("/proc/self/mountinfo")
    _seconds: Callable[[], float] = time.monotonic
    _read_at: float | None = field(default=None, init=False)
    _hanging: frozenset[bytes] = field(default=frozenset(), init=False)

    def hanging(self) -> frozenset[bytes]:
        """The mount points. ``/`` is none: without it nothing works at all."""
        now = self._seconds()
        if self._read_at is None or now - self._read_at >= _AGE:
            self._read_at = now
            try:
                self._hanging = frozenset(_mount_points(self._table.read_bytes()))
            except OSError:
                self._hanging = frozenset()
        return self._hanging

    def on_the_way_to(self, root: Path, name: bytes = b"", ignore_case: bool = False) -> bytes | None:
        """The first of the mount points that opening *name* below *root* leads to; None: it leads to none.

        Links are followed as in a directory that nothing leads out of. What is behind a mount point is not looked at.

        :param ignore_case: the name may be spelled otherwise.
        """
        hanging = self.hanging()
        if not hanging:
            return None
        mounts = {place: place for place in hanging}
        found, top = _walk(b"", os.fsencode(os.path.abspath(root)), mounts.get)
        if found or not name or not any(place.startswith(top + b"/") for place in hanging):
            return found
        if ignore_case:
            alike = {place.lower(): place for place in hanging}
            return _walk(top, name, lambda place: alike.get(place.lower()))[0]
        return _walk(top, name, mounts.get)[0]


PROBE_SECONDS = 1.0
"""Within which a file system has to answer, or it hangs."""

_ANSWERED = 10.0
"""Seconds for which an answer counts."""


@define(eq=False)
class Probe:
    """Tells which file systems hang at the moment. May be used in any thread, by one at a time."""

    _mounts: Mounts = field(factory=Mounts)
    _seconds: Callable[[], float] = time.monotonic
    _answered: dict[bytes, float] = field(factory=dict, init=False)
    """Mount point -> when it has answered."""
    _asking: dict[bytes, threading.Thread] = field(factory=dict, init=False)
    """Threads that may wait for ever, one for each mount point at most."""

    def hangs(self, path: Path) -> bool:
        """Whether *path* is on, or leads to, a file system that does not answer. Blocks for PROBE_SECONDS at most."""
        place = self._mounts.on_the_way_to(path)
        if place is None:
            return False
        now = self._seconds()
        if place in self._answered and now - self._answered[place] < _ANSWERED:
            return False
        asking = self._asking.get(place)
        if asking is None:
            asking = self._asking[place] = threading.Thread(
                target=_ask, args=(place,), name="bootfw probe", daemon=True
            )
            asking.start()
            asking.join(PROBE_SECONDS)
        if asking.is_alive():
            return True
        del self._asking[place]
        self._answered[place] = now
        return False


def _ask(place: bytes) -> None:
    # Asks the server each time, other than stat(2), which an NFS client may answer by itself.
    with contextlib.suppress(OSError):  # an answer, too
        os.statvfs(place)


def _mount_points(table: bytes) -> "set[bytes]":
    types: dict[bytes, bytes] = {}
    for line in table.splitlines():
        before, _, after = line.partition(b" - ")
        place = _ESCAPED.sub(lambda code: bytes((int(code[1], 8),)), before.split(b" ")[4])
        types[place] = after.partition(b" ")[0]  # of several at one place the latest counts
    return {
        place
        for place, kind in types.items()
        if place != b"/"
        and kind.decode("ascii", "replace") not in _LOCAL
        and not (os.fsdecode(place) + "/").startswith(_NO_FILES)
    }


def _walk(top: bytes, path: bytes, mount: Callable[[bytes], bytes | None]) -> tuple[bytes | None, bytes]:
    """(the first mount point, where *path* leads) from *top* on, where absolute links begin and ``..`` stops."""
    pending = path.split(b"/")[::-1]
    place, links = top, 0
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            if place != top:
                place = place.rpartition(b"/")[0]
            continue
        below = place + b"/" + name
        found = mount(below)
        if found is not None:
            return found, place
        try:
            target = os.readlink(below)
        except OSError:  # it is none, or is not there
            place = below
            continue
        links += 1
        if links > _LINKS:
            break
        if target.startswith(b"/"):
            place = top
        pending += target.split(b"/")[::-1]
    return None, place
