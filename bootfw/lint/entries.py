"""Rules for directory entries: links, permissions, special files, and names that differ only in case."""

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator

from attrs import frozen

from bootfw.backends.openat2 import resolve
from bootfw.lint.tree import Entry, Tree
from bootfw.values import Finding


@frozen
class User:
    """The user that the server runs as."""

    name: str
    uid: int
    groups: frozenset[int]

    @classmethod
    def current(cls) -> "User":
        """Return the user that runs this program."""
        return cls("this user", os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))

    @classmethod
    def named(cls, name: str) -> "User":
        """Return the user with that name.

        :raise KeyError: there is no such user.
        """
        entry = pwd.getpwnam(name)
        groups = {group.gr_gid for group in grp.getgrall() if name in group.gr_mem}
        return cls(name, entry.pw_uid, frozenset({entry.pw_gid, *groups}))

    def may(self, status: os.stat_result, bit: int) -> bool:
        """Return whether the user has a permission on a file; *bit*: 4 to read, 1 to search a directory."""
        if self.uid == 0:
            return True
        if status.st_uid == self.uid:
            return bool(status.st_mode >> 6 & bit)
        return bool(status.st_mode >> (3 if status.st_gid in self.groups else 0) & bit)


def check_entries(tree: Tree, user: User) -> Iterator[Finding]:
    """Check links, permissions, file types, and names that differ only in case."""
    last: dict[tuple[str, str], str] = {}
    for entry in tree.entries:
        if entry.is_special:
            yield Finding(
                str(entry.host_path),
                "special",
                "it is a FIFO, a socket or a device, and only regular files are served",
                "put a regular file there, or remove it",
            )
        elif not entry.is_link:
            yield from _permission(entry, user)
        elif tree.find(entry.path) is None:
            yield from _link(entry)
        key = str(entry.root), entry.path.casefold()
        other = last.setdefault(key, entry.path)
        if other != entry.path:
            yield Finding(
                str(entry.host_path),
                "case",
                f"{other} differs from it in upper and lower case only",
                "keep one of them: a client that ignores case may get either",
            )
    for directory, reason in tree.unlisted:
        yield Finding(
            str(directory),
            "unreadable",
            f"it can't be listed, so nothing below it was checked: {reason}",
            "run this as a user that may list it, or chmod a+rx",
        )


def _link(entry: Entry) -> Iterator[Finding]:
    root = os.open(entry.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(resolve(root, os.fsencode(entry.path)))
        return
    except OSError as error:
        reason = error
        target = os.readlink(entry.host_path)
    finally:
        os.close(root)
    if reason.errno == errno.ELOOP:
        yield Finding(
            str(entry.host_path),
            "link",
            f"it leads to {target}, and links lead in a circle there",
            "remove or correct it",
        )
    elif reason.errno in (errno.ENAMETOOLONG, errno.EACCES):
        yield Finding(
            str(entry.host_path), "link", f"it leads to {target}: {reason.strerror}", "correct it, or what it leads to"
        )
    elif os.path.exists(entry.host_path):
        yield Finding(
            str(entry.host_path),
            "link",
            f"it leads out of {entry.root}, to {target}, which clients can't reach",
            "copy the file, mount its directory there, or add a [[backend]] for that directory",
        )
    else:
        yield Finding(
            str(entry.host_path), "link", f"it leads to {target}, which does not exist", "remove or correct it"
        )


def _permission(entry: Entry, user: User) -> Iterator[Finding]:
    try:
        status = os.stat(entry.host_path)
    except OSError as error:
        yield Finding(
            str(entry.host_path),
            "unreadable",
            f"it can't be checked: {error.strerror}",
            "check the permissions of its directory",
        )
        return
    bit = 1 if stat.S_ISDIR(status.st_mode) else 4
    if not user.may(status, bit):
        action = "go through it" if bit == 1 else "read it"
        yield Finding(
            str(entry.host_path),
            "unreadable",
            f"{user.name} may not {action} (mode {stat.S_IMODE(status.st_mode):03o})",
            f"chmod {'a+rx' if bit == 1 else 'a+r'}",
        )
