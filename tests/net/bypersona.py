"""A resolver that has a file for each persona."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.interfaces import IBootFileResolver
from bootfw.values import BootFile, BootRequest


@implementer(IBootFileResolver)
class ByPersona:
    """Returns what *files* has for the client's persona: a BootFile, its name, or a function that takes the request.

    ``requests`` has all requests so far.
    """

    def __init__(self, files: Mapping[str, Any]) -> None:
        self.files: dict[str, Any] = dict(files)
        self.requests: list[BootRequest] = []

    def resolve(self, request: BootRequest) -> BootFile | Deferred[Any] | None:
        self.requests.append(request)
        file: Any = self.files.get(request.persona)
        result: BootFile | Deferred[Any] | None
        if callable(file):
            result = file(request)
        else:
            result = BootFile(file) if isinstance(file, str) else file
        return result
