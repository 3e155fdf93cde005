"""Host files: the site's values for each machine, one TOML or YAML file per machine."""

import os
import re
import stat
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.logger import Logger

from bootfw.api import Finding
from bootfw.backends.mistakes import source_finding
from bootfw.backends.names import Identifiers, is_uuid, mac_address

DEFAULTS = "defaults"
"""Name of the file with values for all hosts, unknown ones included."""

GROUPS = "groups"
"""Directory of the files for the hosts whose ``groups`` name them."""

_SUFFIXES = (".toml", ".yaml", ".yml")

_IDENTITY = ("mac", "uuid", "address")

_ANY_IDENTITY = re.compile(
    r"[0-9A-Fa-f]{2}(?:[-:][0-9A-Fa-f]{2}){5}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
)


class HostFileError(ValueError):
    """A file that can't be used; the message names it and the line."""


@frozen
class _Stamp:
    """Identifies a version of a file: it differs whenever the file may have changed."""

    path: Path
    modified: int
    size: int
    inode: int


@define
class _Read:
    """The content of a file, or the error of reading it."""

    stamp: _Stamp
    data: Mapping[str, Any] = field(factory=dict)
    error: str = ""
    suspects: frozenset[str] = frozenset()
    """MACs and UUIDs that occur in an invalid file. A host with one of them gets an error: treated as unknown, it might
    boot an installer."""


@define(eq=False)
class Hosts:
    """The host files of a directory: ``web1.toml`` or ``web1.yaml`` describes the host "web1".

    Its keys ``mac``, ``uuid`` and ``address``, each a value or a list, identify the machine. All other keys are for the
    templates. ``defaults.toml`` applies to all hosts, ``groups/rack1.toml`` to hosts with ``groups = ["rack1"]``. The
    host overrides its groups, and these override the defaults; tables are merged.

    A changed file is read again. A mistake in a file affects only its host, and is logged once. Thread-safe; reads the
    disk.

    :param directory: None: there are no host files, but machines.
    :param seconds: a clock, to check files for changes at most once a second. None: they are checked at each lookup.
    :param machines: the ``[[machine]]`` tables of the configuration, each with its ``name``: as if in host files.
    """

    directory: Path | None
    _seconds: Callable[[], float] | None = None
    _machines: Sequence[Mapping[str, Any]] = ()
    log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _lock: Any = field(factory=threading.Lock, init=False)
    _checked_at: float | None = field(default=None, init=False)
    """When the files were last checked for changes."""
    _files: dict[str, _Read] = field(factory=dict, init=False)
    """Name below the directory, without suffix -> its content."""
    _index: dict[str, str] = field(factory=dict, init=False)
    """MAC, UUID, address and name of each host -> its name."""
    _problems: tuple[str, ...] = field(default=(), init=False)

    def problems(self) -> tuple[str, ...]:
        """Return the mistakes in the present files, a sentence each."""
        with self._lock:
            self._refresh()
            return self._problems

    def lint(self) -> list[Finding]:
        """Return problems() as findings."""
        return [source_finding(*problem.split(": ", 1)) for problem in self.problems()]

    def find(self, identifiers: Sequence[Identifiers]) -> Mapping[str, Any]:
        """Return the values for a machine; the defaults if it has no file.

        :param identifiers: of the machine, the most specific first.
        :return: its key ``name`` is the name of the host, "" for an unknown machine.
        :raise HostFileError: its file, or one of its groups or the defaults, is invalid.
        """
        with self._lock:
            self._refresh()
            return self._values(identifiers)

    def path_of(self, name: str) -> str:
        """Return the path of the file of a host that find() or all() has returned; for a table "[[machine]] NAME"."""
        return str(self._files[name].stamp.path)

    def all(self) -> list[Mapping[str, Any]]:
        """Return the values of each host whose file is valid, see find()."""
        with self._lock:
            self._refresh()
            found = []
            for name in sorted(set(self._index.values())):
                with suppress(HostFileError):
                    found.append(self._values([Identifiers(name=name)]))
            return found

    def _values(self, identifiers: Sequence[Identifiers]) -> Mapping[str, Any]:
        name = self._name(identifiers)
        host = self._usable(name) if name else {}
        merged = dict(self._usable(DEFAULTS)) if DEFAULTS in self._files else {}
        for group in _texts(host.get("groups", ())):
            if f"{GROUPS}/{group}" not in self._files:
                raise HostFileError(self._no_group(name, group))
            merged = _merged(merged, self._usable(f"{GROUPS}/{group}"))
        return _merged(merged, {**host, "name": name})

    def _refresh(self) -> None:
        """Check every file, and read those that are new or have changed."""
        now = self._seconds() if self._seconds is not None else None
        if now is not None and self._checked_at is not None and 0 <= now - self._checked_at < 1:
            return
        self._checked_at = now
        found = {machine["name"]: _machine(machine) for machine in self._machines}
        problems: list[str] = []
        for name, stamp in self._stamps(problems):
            if name in found:
                problems.append(f"{stamp.path}: {found[name].stamp.path.name} exists as well, and is used instead")
                continue
            previous = self._files.get(name)
            found[name] = previous if previous is not None and previous.stamp == stamp else _read(stamp)
        self._files = found
        self._index, clashes = _index(found)
        problems += [read.error for read in found.values() if read.error] + clashes
        problems += [self._no_group(name, group) for name in found for group in self._absent_groups(name)]
        # Once for each mistake, not at each check of the files.
        for problem in problems:
            if problem not in self._problems:
                self.log.error("{problem}", problem=problem)
        self._problems = tuple(problems)

    def _name(self, identifiers: Sequence[Identifiers]) -> str:
        keys = [key for one in identifiers for key in one.keys]
        for key in keys:
            if key in self._index:
                return self._index[key]
        # No valid file is for the machine. If an invalid one may be, its error is better than the defaults.
        for name, read in self._files.items():
            if read.error and read.suspects.intersection(keys):
                return name
        return ""

    def _absent_groups(self, name: str) -> list[str]:
        if name == DEFAULTS or name.startswith(f"{GROUPS}/"):
            return []
        groups = _texts(self._files[name].data.get("groups", ()))
        return [group for group in groups if f"{GROUPS}/{group}" not in self._files]

    def _no_group(self, name: str, group: str) -> str:
        path = self._files[name].stamp.path
        if self.directory is None:
            return f'{path}: group "{group}" needs a directory of host files: "hosts" of the template backend'
        return f'{path}: there is no {self.directory / GROUPS / group}.toml for group "{group}"'

    def _usable(self, name: str) -> Mapping[str, Any]:
        read = self._files[name]
        if read.error:
            raise HostFileError(read.error)
        return read.data

    def _stamps(self, problems: list[str]) -> Iterator[tuple[str, _Stamp]]:
        if self.directory is None:
            return
        for directory, prefix in ((self.directory, ""), (self.directory / GROUPS, f"{GROUPS}/")):
            try:
                entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
            except OSError as error:
                if not prefix:
                    problems.append(f"{directory}: {error.strerror}")
                continue
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)
                if suffix not in _SUFFIXES or not stem or stem.startswith("."):
                    continue
                try:
                    status = entry.stat()
                except OSError as error:
                    problems.append(f"{entry.path}: {error.strerror}")
                    continue
                stamp = _Stamp(Path(entry.path), status.st_mtime_ns, status.st_size, status.st_ino)
                yield prefix + stem, stamp


def _machine(machine: Mapping[str, Any]) -> _Read:
    table = {key: value for key, value in machine.items() if key != "name"}
    return _Read(_Stamp(Path(f"[[machine]] {machine['name']}"), 0, 0, 0), table)


def _read(stamp: _Stamp) -> _Read:
    path = stamp.path
    text = ""
    try:
        mode = os.stat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a FIFO would block until it has a writer
            raise HostFileError(f"{path}: must be a regular file")
        text = path.read_bytes().decode("utf-8-sig")
        data = _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)
        _check(path, data)
        return _Read(stamp, data)
    except OSError as error:
        message = f"{path}: {error.strerror}"
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        text = error.object.decode("ascii", "replace")
        message = f"{path}:{line}: must be UTF-8"
    except HostFileError as error:
        message = str(error)
    found = {found[0].lower() for found in _ANY_IDENTITY.finditer(f"{path.stem}\n{text}")}
    return _Read(stamp, error=message, suspects=frozenset({mac_address(key) or key for key in found} | {path.stem}))


def _toml(path: Path, text: str) -> Any:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason = str(error)
        location = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", reason)
        line = (location[1] if location else None) or text.count("\n") + 1
        raise HostFileError(f"{path}:{line}: {reason[: location.start()] if location else reason}") from error
    except (RecursionError, ValueError) as error:
        raise HostFileError(f"{path}: {error}") from error


def _yaml(path: Path, text: str) -> Any:
    try:
        import yaml
    except ImportError:
        raise HostFileError(f"{path}: YAML needs PyYAML: pip install bootfw[yaml], or write the file in TOML") from None
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark is not None else str(path)
        raise HostFileError(f"{where}: {getattr(error, 'problem', None) or 'no YAML'}") from error
    except (RecursionError, ValueError) as error:
        raise HostFileError(f"{path}: {error}") from error
    return {} if data is None else data


def _check(path: Path, data: Any) -> None:
    if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
        raise HostFileError(f"{path}: must be a table of names and values")
    if "name" in data:
        raise HostFileError(f'{path}: the name of the file is the host\'s "name"')
    for key in (*_IDENTITY, "groups"):
        values = data.get(key, [])
        if not isinstance(values, str) and not (isinstance(values, list) and all(isinstance(v, str) for v in values)):
            hint = ": YAML takes 52:54:00:12:34:56 without quotes for a number" if isinstance(values, int) else ""
            raise HostFileError(f'{path}: "{key}" must be a string or a list of strings{hint}')
    for key, right in (("mac", mac_address), ("uuid", is_uuid)):
        for value in _texts(data.get(key, ())):
            if not right(value):
                raise HostFileError(f'{path}: "{value}" is no {"MAC" if key == "mac" else "UUID"}')


def _index(files: Mapping[str, _Read]) -> tuple[dict[str, str], list[str]]:
    """Return (identifier -> host, a sentence for each identifier that two files contain; the first file keeps it)."""
    index: dict[str, str] = {}
    clashes = []
    hosts = {name: read for name, read in files.items() if name != DEFAULTS and not name.startswith(f"{GROUPS}/")}
    for name, read in hosts.items():
        data = read.data
        keys = [name, mac_address(name), name.lower() if is_uuid(name) else ""]
        keys += [mac_address(value) for value in _texts(data.get("mac", ()))]
        keys += [value.lower() for value in _texts(data.get("uuid", ()))]
        keys += _texts(data.get("address", ()))
        for key in filter(None, keys):
            owner = index.setdefault(key, name)
            if owner != name:
                clashes.append(f"{read.stamp.path}: {key} is in {files[owner].stamp.path.name} already")
    return index, clashes


def _texts(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged
