"""Files whose content a resolver returned, served under the names that the DHCP replies contain."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from zope.interface import implementer

from bootfw.errors import FileMissing
from bootfw.interfaces import IReader, IUniformBackend, IVersionedBackend
from bootfw.readers import MemoryReader
from bootfw.tftp.path import relative

MAX_SIZE = 64 << 20
"""Bytes of all files together; a boot script has about a thousand. The oldest ones are dropped first."""

_OVERHEAD = 100
"""Approximate bytes of memory that a file takes in addition to its content and name."""


@implementer(IUniformBackend, IVersionedBackend)
class GeneratedFiles:
    """Stores the content that resolvers returned with a boot file. A new file replaces one of the same name.

    :param limit: bytes of all files together.
    :param broadcast: sends a file to the on_message() of the other processes of this server; None: there are none.
    """

    def __init__(self, limit: int = MAX_SIZE, broadcast: Callable[[str, bytes], None] | None = None) -> None:
        self._limit = limit
        self._broadcast = broadcast
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0

    def keep(self, name: str, content: bytes) -> None:
        """Serve *content* as *name*.

        :param name: as in the DHCP reply: a path, or a URL on this server.
        :raise TypeError: *content* is not bytes.
        :raise ValueError: *content* is larger than the limit.
        """
        if not isinstance(content, bytes):
            raise TypeError(f'the content of "{name}" is a {type(content).__name__}, not bytes')
        path = _path(name)
        if _cost(path, content) > self._limit:
            raise ValueError(f'the content of "{name}" has {len(content)} bytes; there is room for {self._limit}')
        self.on_message(path, content)
        if self._broadcast is not None:
            self._broadcast(path, content)

    def on_message(self, path: str, content: bytes) -> None:
        """Store a file that this process or another one has generated."""
        before = self._files.pop(path, None)
        if before is not None:
            self._size -= _cost(path, before)
        self._files[path] = content
        self._size += _cost(path, content)
        while self._size > self._limit:
            self._size -= _cost(*self._files.popitem(last=False))

    def all(self) -> Iterator[tuple[str, bytes]]:
        """Yield everything that is stored, as arguments of on_message()."""
        yield from self._files.items()

    def open(self, path: str, request: Any) -> IReader:
        """See IBackend."""
        content = self._files.get(path)
        if content is None:
            raise FileMissing()
        return MemoryReader(content)

    def version(self, path: str, request: Any) -> None:
        """See IVersionedBackend."""
        if path not in self._files:
            raise FileMissing()


def _path(name: str) -> str:
    return relative(unquote(urlsplit(name).path) if "://" in name else name)


def _cost(path: str, content: bytes) -> int:
    return len(path) + len(content) + _OVERHEAD
