"""The pages of a service, and requests to them on connections in memory."""

import json
from typing import Any

from net.webclient import Response, Wire, parse
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from bootfw.web import WebSite


def request(method: str, target: str, body: bytes = b"", **headers: str | None) -> bytes:
    """The bytes of a request; headers as ``If_Match`` for ``If-Match``. None leaves a header out."""
    fields: dict[str, str | None] = {"Host": "127.0.0.1:8067", **headers}
    if body:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Visitor:
    """A client of a WebSite, on a clock."""

    def __init__(self, site: WebSite, clock: Clock) -> None:
        self.site = site
        self.clock = clock
        self.address = "10.9.0.9"

    def connect(self) -> Wire | None:
        """A new connection; None: it is refused."""
        protocol = self.site.buildProtocol(IPv4Address("TCP", self.address, 40000))
        if protocol is None:
            return None
        wire = Wire(self.clock, protocol, self.address)
        protocol.makeConnection(wire)
        return wire

    def send(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Wire:
        """A request on a connection of its own."""
        wire = self.connect()
        assert wire is not None
        wire.protocol.dataReceived(request(method, target, body, **headers))
        return wire

    def response_to(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Response:
        """The response to a request that is answered at once."""
        wire = self.send(method, target, body, **headers)
        response, rest = parse(wire.value(), head=method == "HEAD")
        assert rest == b""
        return response

    def get(self, target: str, **headers: str | None) -> Response:
        """The response to a GET."""
        return self.response_to("GET", target, b"", **headers)

    def json(self, target: str, **headers: str | None) -> Any:
        """What a GET returns."""
        response = self.get(target, **headers)
        assert response.status == 200, response
        return json.loads(response.body)
