"""A resolver that has a file for each persona."""

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from bootfw.interfaces import IBootFileResolver
from bootfw.values import BootFile, BootRequest


@implementer(IBootFileResolver)
class ByPersona:
    """Answers with what ``files`` has for the client's persona; a callable there is called with the request.

    ``asked`` has all requests.
    """

    def __init__(self, files: Mapping[str, Any]) -> None:
        self.files: dict[str, Any] = dict(files)
        self.asked: list[BootRequest] = []

    def resolve(self, request: BootRequest) -> BootFile | Deferred[Any] | None:
        self.asked.append(request)
        answer: Any = self.files.get(request.persona)
        found: BootFile | Deferred[Any] | None
        if callable(answer):
            found = answer(request)
        else:
            found = BootFile(answer) if isinstance(answer, str) else answer
        return found
