"""The cached files, in a directory, up to a limit."""

import contextlib
import hashlib
import json
import os
import tempfile
from pathlib import Path

from attrs import asdict, define, field, frozen

PREFIX = "bootfw-mirror-"
"""Prefix of every file of the cache: no other file in the directory is touched."""

PART = ".part"
NOTE = ".json"


@frozen
class Entry:
    """What is known of a stored file."""

    name: str
    size: int
    etag: str = ""
    last_modified: str = ""


@define(eq=False)
class Store:
    """Files by name. One process uses a directory at a time.

    :param directory: made when there is none. What was left unfinished in it is removed.
    :param limit: bytes of all files together; the least recently used are evicted first.
    """

    directory: Path
    limit: int
    _entries: dict[str, Entry] = field(init=False, factory=dict)
    """By name; the most recently used last."""

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        entries = []
        for note in self.directory.glob(f"{PREFIX}*{NOTE}"):
            with contextlib.suppress(OSError, ValueError, TypeError):
                entry = Entry(**json.loads(note.read_text()))
                entries.append((note.stat().st_mtime, entry.name, entry))
        self._entries = {name: entry for _, name, entry in sorted(entries)}
        known_paths = {path for name in self._entries for path in (self._data(name), self._note(name))}
        for path in set(self.directory.glob(f"{PREFIX}*")) - known_paths:
            path.unlink()
        self._make_room(0)

    def find(self, name: str) -> Entry | None:
        """The entry of *name*, if its file is whole."""
        entry = self._entries.get(name)
        if entry is None:
            return None
        try:
            is_complete = self._data(name).stat().st_size == entry.size
        except OSError:
            is_complete = False
        if not is_complete:
            self.forget(name)
            return None
        self._entries[name] = self._entries.pop(name)
        with contextlib.suppress(OSError):
            os.utime(self._note(name))
        return entry

    def open(self, name: str) -> int:
        """A descriptor for reading. It stays good when the file is replaced or forgotten."""
        return os.open(self._data(name), os.O_RDONLY | os.O_CLOEXEC)

    def begin(self) -> tuple[int, Path]:
        """A new file to fill: its descriptor, for reading and writing, and where it is until keep() or discard()."""
        fd, path = tempfile.mkstemp(PART, PREFIX, self.directory)
        return fd, Path(path)

    def keep(self, part: Path, entry: Entry) -> None:
        """*part* is complete and becomes the file of that entry; one that is larger than everything goes."""
        self.forget(entry.name)
        if entry.size > self.limit:
            part.unlink()
            return
        self._make_room(entry.size)
        # Without its note a file counts as absent, so that a crash in between can't pair it with the old one.
        part.rename(self._data(entry.name))
        note = self._note(entry.name)
        note.with_suffix(PART).write_text(json.dumps(asdict(entry)))
        note.with_suffix(PART).rename(note)
        self._entries[entry.name] = entry

    def discard(self, part: Path) -> None:
        """Delete *part*."""
        part.unlink(missing_ok=True)

    def forget(self, name: str) -> None:
        """Drop the file *name*."""
        self._entries.pop(name, None)
        for path in (self._note(name), self._data(name)):
            path.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        total = size + sum(entry.size for entry in self._entries.values())
        for entry in list(self._entries.values()):
            if total <= self.limit:
                return
            self.forget(entry.name)
            total -= entry.size

    def _data(self, name: str) -> Path:
        return self.directory / (PREFIX + hashlib.sha256(os.fsencode(name)).hexdigest())

    def _note(self, name: str) -> Path:
        return self._data(name).with_suffix(NOTE)
