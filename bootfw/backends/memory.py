"""The ``memory`` backend: files whose content is in the configuration, or in the program that embeds bootfw."""

from collections.abc import Mapping
from typing import Any

from attrs import define, field
from zope.interface import implementer

from bootfw.api import (
    FileAlreadyExists,
    FileMissing,
    IListableBackend,
    IllegalOperation,
    IReader,
    IReplacingBackend,
    IStaticBackend,
    IWritableBackend,
    IWriter,
    MemoryReader,
    boot_plugin,
)
from bootfw.backends.paths import lexical


def _contents(files: Mapping[str, bytes | str]) -> dict[str, bytes]:
    return {lexical(path): data.encode() if isinstance(data, str) else bytes(data) for path, data in files.items()}


@implementer(IReplacingBackend, IStaticBackend, IListableBackend)
@define(eq=False)
class MemoryBackend:
    """Files whose content is in the configuration.

    :param files: path -> content; text is served as UTF-8.
    :param writable: uploads are accepted, and kept until the process ends; otherwise the next backend gets them.
    """

    files: dict[str, bytes] = field(converter=_contents, factory=dict)
    """The files that exist now, uploads included."""
    writable: bool = False

    @classmethod
    def configured(cls, context: Any, files: dict[str, str], writable: bool = False) -> "MemoryBackend":
        """Called by boot_plugin. In TOML all files are text."""
        return cls(files, writable)

    def has(self, path: str) -> bool:
        """See IListableBackend."""
        return path in self.files

    def names(self) -> list[str]:
        """See IListableBackend."""
        return sorted(self.files)

    def open(self, path: str, request: Any) -> IReader:
        """See IBackend."""
        data = self.files.get(lexical(path))
        if data is None:
            raise FileMissing()
        return MemoryReader(data)

    def create(self, path: str, request: Any) -> IWriter:
        """See IWritableBackend."""
        name = self._writable_name(path)
        if name in self.files:
            raise FileAlreadyExists()
        return _MemoryWriter(self.files, name)

    def replace(self, path: str, request: Any) -> IWriter:
        """See IReplacingBackend. Its files have no time."""
        return _MemoryWriter(self.files, self._writable_name(path), replaces=True)

    def _writable_name(self, path: str) -> str:
        if not self.writable:
            raise FileMissing()
        name = lexical(path)
        if not name:
            raise IllegalOperation()
        return name


@implementer(IWriter)
@define(eq=False)
class _MemoryWriter:
    _files: dict[str, bytes]
    _name: str
    _replaces: bool = field(default=False, kw_only=True)
    _data: bytearray = field(factory=bytearray, init=False, repr=False)

    def write(self, offset: int, data: bytes) -> None:
        self._data[offset : offset + len(data)] = data

    def finish(self) -> None:
        # Another upload of the same name may have finished first.
        if self._name in self._files and not self._replaces:
            raise FileAlreadyExists()
        self._files[self._name] = bytes(self._data)

    def cancel(self) -> None:
        self._data.clear()


plugin = boot_plugin(IWritableBackend, MemoryBackend)
