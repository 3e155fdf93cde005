"""Findings about files that a script or configuration refers to."""

import re
from collections.abc import Iterator

from bootfw.lint.payloads import is_linux
from bootfw.lint.tree import Served, Tree
from bootfw.tftp.path import relative
from bootfw.values import Finding

_OURS = re.compile(r"(?:tftp|https?)://\$\{next-server\}(?::\d+)?/", re.IGNORECASE)
_FOREIGN = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def local(name: str) -> str:
    """Return the path on our server of *name*, a URL or path; "": it is on another server, or contains a variable."""
    name = _OURS.sub("/", name, count=1)
    return "" if "$" in name or "{" in name or _FOREIGN.match(name) else name.partition("?")[0]


def absent(tree: Tree, file: Served, line: int, name: str) -> Finding:
    """Return the finding that *file* names a path in *line* that does not exist."""
    path = relative(name)
    other = tree.other_spelling(path, file.directory)
    if other:
        remedy = f"there is {other}: upper and lower case are not the same"
    else:
        remedy = "put it there, or correct the name"
    return Finding(f"{file.host_path}:{line}", "missing", f"it names {name}, which does not exist", remedy)


def without_initrd(tree: Tree, file: Served, line: int, kernel: Served | None) -> Iterator[Finding]:
    """Report that a kernel is loaded without the initrd in its directory."""
    if kernel is None or not is_linux(kernel) or kernel.name.lower().startswith("mem"):
        return
    beside = [
        entry.path
        for entry in tree.entries
        if entry.path.rpartition("/")[0] == kernel.directory
        and re.match(r"(initrd|initramfs)", entry.path.rpartition("/")[2], re.IGNORECASE)
    ]
    if beside:
        yield Finding(
            f"{file.host_path}:{line}",
            "initrd",
            f"the kernel {kernel.path} is loaded without an initrd, and {beside[0]} is beside it",
            "load it too, or move it away: the kernels of most distributions find no disk and no network without it",
        )
