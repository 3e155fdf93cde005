"""The variables that templates have for a request."""

import re
from collections.abc import Mapping
from typing import Any

from bootfw.api import Client, TransferRequest
from bootfw.backends.names import Identifiers
from bootfw.backends.sandbox import Facts, Unavailable

LONGEST = 128
"""Most characters of a value that a client sent; the rest is cut off."""

_NO_HTTP = (
    "server.http is empty: no HTTP is served where this client could reach it. Set [http] listen, or write "
    "server.http or server.tftp"
)

_UNSAFE = re.compile(r"[^A-Za-z0-9 .:,_/+=@()-]")


def plain(value: str) -> str:
    """Replace the characters of *value*, which a client sent, that could inject code into a script: line ends, quotes,
    variables."""
    return _UNSAFE.sub("_", value[:LONGEST])


def identified(client: Client, *from_path: Identifiers) -> tuple[Identifiers, ...]:
    """Return all identifiers of the client, the most specific first: from the file name, then from DHCP."""
    return (*from_path, Identifiers(client.mac, client.uuid or "", client.address))


def template_variables(path: str, request: TransferRequest, identifiers: tuple[Identifiers, ...]) -> dict[str, Any]:
    """Return the variables of a template, except for ``host``.

    :param identifiers: see :func:`identified`.
    """
    client = request.client
    facts: Mapping[str, Any] = {
        "mac": next((one.mac for one in identifiers if one.mac), ""),
        "uuid": client.uuid or next((one.uuid for one in identifiers if one.uuid), ""),
        "address": client.address,
        "architecture": client.architecture,
        "persona": client.persona,
        "vendor_class": client.vendor_class,
        "ipxe": client.ipxe,
        "http": client.http,
    }
    plain_facts = {name: plain(value) if isinstance(value, str) else value for name, value in facts.items()}
    return {
        "client": Facts("client", plain_facts),
        "server": Facts("server", server(request)),
        "path": plain(path),
        "protocol": request.protocol,
    }


def server(request: TransferRequest) -> dict[str, Any]:
    """Return the addresses at which the client of *request* reaches this server, each a text or Unavailable."""
    address = request.local
    in_url = f"[{address}]" if ":" in address else address
    unknown = Unavailable("the address of this server is not known here, so it is empty")
    return {
        "address": address or unknown,
        "tftp": f"tftp://{in_url}" if address else unknown,
        "http": request.http_url or Unavailable(_NO_HTTP),
    }
