"""The mirror keeps to what bootfw asks of every backend."""

from pathlib import Path
from typing import Any

import pytest
from bootfw_http_mirror.mirror import MirrorBackend
from twisted.internet.defer import succeed
from twisted.internet.task import Clock
from twisted.web.iweb import IAgent
from zope.interface import implementer

from bootfw.testing.contracts import BackendContract

from .conftest import Response

URL = "http://up.example/"


class Whole(Response):
    """Gives all of its body at once."""

    def __init__(self, body: bytes) -> None:
        super().__init__(200, body)
        self.body = body

    def deliverBody(self, protocol: Any) -> None:
        super().deliverBody(protocol)
        self.send(self.body)
        self.end()


@implementer(IAgent)
class Server:
    """Answers at once."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = {f"{URL}{path}": data for path, data in files.items()}

    def request(self, method: bytes, uri: bytes, headers: Any = None, bodyProducer: Any = None) -> Any:
        body = self.files.get(uri.decode())
        return succeed(Response(404) if body is None else Whole(body))


class TestMirror(BackendContract):
    @pytest.fixture(autouse=True)
    def directory(self, tmp_path: Path) -> None:
        self.cache = tmp_path
        self.clock = Clock()

    def make_backend(self) -> MirrorBackend:
        return MirrorBackend(self.clock, URL, self.cache, agent=Server(dict(self.files)))

    def wait(self, deferred: Any) -> None:
        self.clock.advance(0)


class TestMirrorWithStoredFiles(TestMirror):
    def make_backend(self) -> MirrorBackend:
        backend = super().make_backend()
        for path in self.files:
            self.fetch(backend, path)
        return backend
