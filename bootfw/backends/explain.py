"""Explains why an existing file is not served. The texts are for the log; clients do not get them."""

import os
import stat
from pathlib import Path

_LINKS = 40  # the kernel's own limit, path_resolution(7)
_KINDS = (
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def explain_link(root: Path, name: bytes) -> str:
    """Describe the symbolic link because of which *name* can't be resolved below *root*; "": there is none.

    Links are resolved here one by one: if the kernel followed them, it could be led outside of *root*.
    """
    top = os.path.realpath(os.fsencode(root))
    pending = name.split(b"/")[::-1]
    directory, link = top, ""
    for _ in range(_LINKS):
        found = _next_link(top, directory, pending)
        if found is None:
            return f"{link}: its target does not exist" if link else ""
        directory, at, target = found
        link = f"{os.fsdecode(at)} -> {os.fsdecode(target)}"
        if target.startswith(b"/"):
            if _is_below(os.path.normpath(target), top):
                return f"{link}: absolute links begin at {os.fsdecode(top)} here; make it a relative one"
            return f"{link} leads out of {os.fsdecode(top)}; copy the file, or add a [[backend]] for where it leads"
        if not _is_below(os.path.normpath(os.path.join(directory, target)), top):
            return f"{link} leads out of {os.fsdecode(top)}; copy the file, or add a [[backend]] for where it leads"
        pending += target.split(b"/")[::-1]
    return f"{link}: links lead in a circle"


def _next_link(top: bytes, directory: bytes, pending: list[bytes]) -> tuple[bytes, bytes, bytes] | None:
    """Return (its directory, its path, its target) of the first link on the path; None: there is none."""
    while pending:
        name = pending.pop()
        if name in (b"", b"."):
            continue
        if name == b"..":
            directory = directory if directory == top else os.path.dirname(directory)
            continue
        below = os.path.join(directory, name)
        try:
            return directory, below, os.readlink(below)
        except OSError:  # no link, or missing
            directory = below
    return None


def _is_below(path: bytes, top: bytes) -> bool:
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def explain_denial(path: str, status: os.stat_result) -> str:
    """Describe a denied access: *path*, the user and group of this process, and the mode and owner of the file."""
    return (
        f"{path}: permission denied for uid {os.geteuid()}, gid {os.getegid()}: "
        f"mode {stat.S_IMODE(status.st_mode):04o}, owner uid {status.st_uid}, gid {status.st_gid}"
    )


def explain_path_denial(root: Path, name: bytes) -> str:
    """Describe the first directory on the path of *name* that this process may not enter; "": not known."""
    directory = os.fsencode(root)
    parts = name.split(b"/")
    for part in (b"", *parts) if b".." not in parts else ():
        directory = os.path.join(directory, part) if part else directory
        try:
            status = os.stat(directory)
        except OSError:
            break
        if stat.S_ISDIR(status.st_mode) and not os.access(directory, os.X_OK, effective_ids=True):
            return explain_denial(os.fsdecode(directory), status)
    return ""


def special_kind(mode: int) -> str:
    """Return the kind of a special file, such as "a FIFO"; "": the mode is that of a regular file or directory."""
    return next((kind for is_kind, kind in _KINDS if is_kind(mode)), "")
