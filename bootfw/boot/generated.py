"""Files that resolvers have made for clients, served under the names that the clients were told."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from zope.interface import implementer

from bootfw.errors import FileMissing
from bootfw.interfaces import IReader, IUniformBackend
from bootfw.readers import MemoryReader
from bootfw.tftp.path import relative

SIZE = 64 << 20
"""That are kept; a script has about a thousand. Those that were made longest ago are forgotten first."""

_EACH = 100
"""Octets that a file costs beside its content and name, about."""


@implementer(IUniformBackend)
class GeneratedFiles:
    """Keeps the content of boot files that have one. The latest of a name counts.

    :param limit: bytes.
    :param broadcast: is given what on_message() of another process's GeneratedFiles takes, when a file was made.
    """

    def __init__(self, limit: int = SIZE, broadcast: Callable[[str, bytes], None] = lambda name, content: None) -> None:
        self._limit = limit
        self._broadcast = broadcast
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def keep(self, name: str, content: bytes) -> None:
        """Serve *content* as *name*.

        :param name: as the client is told it: a path, or a URL of ours.
        :raise TypeError: it is no bytes.
        :raise ValueError: it is longer than all that is kept.
        """
        if not isinstance(content, bytes):
            raise TypeError(f'the content of "{name}" is a {type(content).__name__}, not bytes')
        path = _path(name)
        if _cost(path, content) > self._limit:
            raise ValueError(f'the content of "{name}" has {len(content)} bytes; there is room for {self._limit}')
        self.on_message(path, content)
        self._broadcast(path, content)

    def on_message(self, path: str, content: bytes) -> None:
        """*content* is served at *path*."""
        before = self._files.pop(path, None)
        if before is not None:
            self._size -= _cost(path, before)
        self._files[path] = content
        self._size += _cost(path, content)
        while self._size > self._limit:
            self._size -= _cost(*self._files.popitem(last=False))

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Everything that is kept, as on_message() takes it."""
        yield from self._files.items()

    def open(self, path: str, request: Any) -> IReader:
        """See IBackend."""
        content = self._files.get(path)
        if content is None:
            raise FileMissing()
        return MemoryReader(content)


def _path(name: str) -> str:
    return relative(unquote(urlsplit(name).path) if "://" in name else name)


def _cost(path: str, content: bytes) -> int:
    return len(path) + len(content) + _EACH
