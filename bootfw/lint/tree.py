"""The served files, and the entries of the boot directories."""

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import define, field, frozen

from bootfw.errors import TransferError
from bootfw.readers import MemoryReader
from bootfw.values import TransferRequest

HEAD = 4096
"""Bytes at the beginning of a file that show its kind."""

_CHUNK = 1 << 20


@define(slots=False, eq=False)
class Served:
    """A file that a client can request."""

    path: str
    """The path that a client requests."""
    host_path: str
    """The path on this host, for messages."""
    _open: Callable[[], Any]
    """Opens the file; returns an IReader, never a Deferred."""
    is_generated: bool = False
    """The file is generated for each client, so its content is not known here."""
    damage: str = ""
    """Why the first bytes can't be read; no rule is applied to such a file."""

    @cached_property
    def size(self) -> int:
        """In bytes."""
        with closing(self._open()) as reader:
            return int(reader.size or 0)

    @cached_property
    def head(self) -> bytes:
        """The first HEAD bytes."""
        with closing(self._open()) as reader:
            return bytes(reader.read(0, HEAD))

    def tail(self, length: int) -> bytes:
        """Return the last *length* bytes."""
        with closing(self._open()) as reader:
            return bytes(reader.read(max(0, self.size - length), length))

    def chunks(self) -> Iterator[bytes]:
        """Yield the whole content in pieces."""
        with closing(self._open()) as reader:
            offset = 0
            while data := bytes(reader.read(offset, _CHUNK)):
                yield data
                offset += len(data)

    def data(self, most: int = 64 << 20) -> bytes:
        """Return the content, at most *most* bytes of it."""
        with closing(self._open()) as reader:
            return bytes(reader.read(0, most))

    @property
    def directory(self) -> str:
        """The path without the file name; "" at the top."""
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The file name without its directory."""
        return self.path.rpartition("/")[2]


@frozen
class Entry:
    """A directory entry below a boot directory."""

    root: Path
    path: str
    """Path relative to the root, with ``/``."""
    is_link: bool
    is_directory: bool
    """It is a directory, or a link to one."""
    is_special: bool = False
    """It is a FIFO, a socket or a device, or a link to one."""

    @property
    def host_path(self) -> Path:
        """The path on this host."""
        return self.root / self.path


@define(slots=False, eq=False)
class Tree:
    """All served files that are known without a client.

    :param backend: an IBackend that returns its results directly; it has every file that is not generated for a client.
    :param roots: (directory, an IBackend of its files) of each directory that is checked.
    :param complete: true: a file that is not found is missing; false: an unknown plugin may generate it.
    :param generates: returns whether the file at a path is generated for each client.
    """

    backend: Any
    roots: Sequence[tuple[Path, Any]]
    complete: bool = True
    generates: Callable[[str], bool] = lambda path: False
    unlisted: list[tuple[Path, str]] = field(factory=list, init=False)
    """(directory, reason) of those that can't be listed. Filled when ``entries`` is computed."""
    _found: dict[str, Served | None] = field(factory=dict, init=False)

    @cached_property
    def entries(self) -> Sequence[Entry]:
        """All entries below the directories; links are not followed."""
        return [entry for root, _ in self.roots for entry in _below(root, self.unlisted)]

    @cached_property
    def files(self) -> Sequence[Served]:
        """Every file in the directories that can be read, by each of its names."""
        served = []
        for root, backend in self.roots:
            for entry in self.entries:
                if entry.root is root and not entry.is_directory:
                    file = _served(backend, entry.path, str(entry.host_path))
                    if file is not None:
                        served.append(file)
        return served

    def find(self, path: str) -> Served | None:
        """Return the file that a client gets for *path*; None: there is none."""
        if path not in self._found:
            found = _served(self.backend, path, self._host_path(path))
            if found is None and self.generates(path):
                found = Served(path, path, lambda: MemoryReader(b""), True)
            self._found[path] = found
        return self._found[path]

    def found_by(self, backend: Any, path: str) -> Served | None:
        """Return the file that *backend* alone has at *path*; None: there is none."""
        return _served(backend, path, self._host_path(path))

    def nearest(self, path: str, directory: str) -> Served | None:
        """Return the file at *path* in *directory* or in a directory above it; None: there is none.

        A tree that was moved into a subdirectory still boots, because the server looks the files of a loader up beside
        the loader (boot/secondstage.py).
        """
        parts = directory.split("/") if directory else []
        for depth in range(len(parts), -1, -1):
            found = self.find("/".join([*parts[:depth], path]))
            if found is not None:
                return found
        return None

    def other_spelling(self, path: str, directory: str) -> str:
        """Return a file whose name differs from that of a missing one only in upper and lower case; "": none."""
        parts = directory.split("/") if directory else []
        candidates = {"/".join([*parts[:depth], path]).casefold() for depth in range(len(parts) + 1)}
        return next((entry.path for entry in self.entries if entry.path.casefold() in candidates), "")

    def directories_of(self, file: Served) -> Sequence[str]:
        """Return all directories that have the file, or a link to it."""
        return self._names.get(_identity(file.host_path), [file.directory])

    @cached_property
    def _names(self) -> dict[Any, list[str]]:
        names = defaultdict(list)
        for entry in self.entries:
            if not entry.is_directory:
                names[_identity(str(entry.host_path))].append(entry.path.rpartition("/")[0])
        return names

    def _host_path(self, path: str) -> str:
        # os.path.isfile returns False for any error; Path.is_file raises for a name that is too long.
        return next((str(root / path) for root, _ in self.roots if os.path.isfile(root / path)), path)


def _below(root: Path, unlisted: list[tuple[Path, str]]) -> Iterator[Entry]:
    """Yield all entries below *root*, each directory before its content."""
    waiting = [""]
    while waiting:
        directory = waiting.pop()
        try:
            with os.scandir(root / directory) as listing:
                found = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            unlisted.append((root / directory, error.strerror or str(error)))
            continue
        below = []
        for each in found:
            path = f"{directory}/{each.name}" if directory else each.name
            mode = _mode(each)
            special = bool(mode) and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))
            yield Entry(root, path, each.is_symlink(), stat.S_ISDIR(mode), special)
            if stat.S_ISDIR(mode) and not each.is_symlink():
                below.append(path)
        waiting += reversed(below)


def _mode(entry: "os.DirEntry[str]") -> int:
    """Return the mode of a file, for a link that of its target; 0: not known."""
    try:
        return entry.stat().st_mode
    except OSError:  # a dangling link, a loop of links, or a directory that this user may not search
        return 0


def _served(backend: Any, path: str, host_path: str) -> Served | None:
    def opened() -> Any:
        return backend.open(path, TransferRequest(path, path, ("", 0)))

    try:
        opened().close()
    except (TransferError, OSError):
        return None
    served = Served(path, host_path, opened)
    try:
        served.head  # noqa: B018  read now and cached, so that rules can rely on it
    except (TransferError, OSError) as error:
        reason = (error.strerror if isinstance(error, OSError) else "") or str(error)
        return Served(path, host_path, lambda: MemoryReader(b""), True, reason)
    return served


def _identity(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError:
        return path
    return status.st_dev, status.st_ino
