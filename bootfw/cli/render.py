"""``bootfw render``: what a client would get."""

import argparse
import os
import socket
import sys
from typing import Any

from bootfw.backends.names import is_uuid, mac_address
from bootfw.boot.pluginresult import later
from bootfw.build import assemble
from bootfw.cli.failure import CommandError
from bootfw.cli.table import printable
from bootfw.config import defaults
from bootfw.config.configuration import Configuration, load_config
from bootfw.errors import FileMissing, TransferError
from bootfw.net.http.urls import WebURLs
from bootfw.tftp.path import relative
from bootfw.values import Address, Client, TransferRequest

NOT_MADE = 1
"""Exit code: the file can't be given."""

UNDONE = 2
"""Exit code: it was not tried, since the configuration or the command is wrong."""

NOBODY_HAS_IT = 3
"""Exit code: no backend has such a file."""

ABOUT = """
Prints the file that a client would get for PATH: made by a template or the menu, or as it lies in a directory. It asks
the backends of the configuration themselves, no server. Exit codes: 0 printed, 1 the file can't be made (the reason has
the template and the line), 2 the configuration or the command is wrong, 3 no backend has the file.
"""


def add_render(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser("render", help="print the file that a client would get", description=ABOUT)
    command.add_argument("path", metavar="PATH", help='as the client asks for it, such as "boot.ipxe"')
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration that the server runs by")
    command.add_argument("--mac", default="", help="of the client")
    command.add_argument("--uuid", default="")
    command.add_argument("--address", default="", help="of the client")
    command.add_argument("--arch", default="unknown", help='its architecture, such as "x86_64-uefi"')
    command.add_argument("--persona", default="", help='such as "ipxe"')
    command.add_argument("--vendor-class", default="", help="its option 60")
    command.add_argument("--ipxe", action="store_true", help="it is iPXE")
    command.add_argument("--http", action="store_true", help="it asks by HTTP; else by TFTP")
    command.add_argument("--server", default="", metavar="ADDRESS", help="our address that it asks")
    command.add_argument("-v", "--verbose", action="store_true", help="say which backend it comes from")
    command.set_defaults(run=_render, failed=UNDONE)


def _render(options: argparse.Namespace) -> int:
    configuration = load_config(options.config, os.environ)
    request = _request(options, configuration)
    for name, backend in assemble(configuration, None).backends:
        try:
            data = _content(name, backend, request)
        except FileMissing:
            continue
        except TransferError as error:
            told = f"{error.detail}; the client is told: {error}" if error.detail else str(error)
            sys.stderr.write(f"bootfw: {printable(f'backend {name}: {told}')}\n")
            return NOT_MADE
        if options.verbose:
            sys.stderr.write(f"bootfw: {len(data)} octets from backend {name}\n")
        if sys.stdout.isatty() and b"\0" in data:
            raise CommandError(f"{options.path} is no text; send it to a file")
        sys.stdout.buffer.write(data)
        return 0
    sys.stderr.write(f'bootfw: no backend has "{printable(options.path)}" for this client\n')
    return NOBODY_HAS_IT


def _content(name: str, backend: Any, request: TransferRequest) -> bytes:
    reader = backend.open(request.path, request)
    if later(reader) is not None:
        raise CommandError(f"backend {name} answers in its own time: only a server can ask it")
    try:
        data = b""
        while True:
            block = reader.read(len(data), 1 << 20)
            if later(block) is not None:
                raise CommandError(f"backend {name} reads in its own time: only a server can ask it")
            if not block:
                return data
            data += block
    finally:
        reader.close()


def _request(options: argparse.Namespace, configuration: Configuration) -> TransferRequest:
    mac = mac_address(options.mac)
    if options.mac and not mac:
        raise CommandError(f'--mac {options.mac}: no MAC; write it as in "52:54:00:12:34:56"')
    if options.uuid and not is_uuid(options.uuid):
        raise CommandError(f"--uuid {options.uuid}: no UUID")
    client = Client(
        address=options.address,
        mac=mac,
        uuid=options.uuid.lower() or None,
        architecture=options.arch,
        persona=options.persona,
        vendor_class=options.vendor_class,
        ipxe=options.ipxe,
        http=options.http,
    )
    peer: Address = (options.address, 0)
    return TransferRequest(
        filename=options.path,
        path=relative(options.path),
        peer=peer,
        local=options.server or _own_address(options.address),
        protocol="http" if options.http else "tftp",
        lookup=lambda _: client,
        own_urls=_urls(configuration).of,
    )


def _urls(configuration: Configuration) -> WebURLs:
    settings, urls = configuration.settings.http, WebURLs()
    for address in settings.listen or (() if configuration.source else defaults.HTTP_LISTEN):
        urls.listening("http", address)
    return urls


def _own_address(client: str) -> str:
    """Our address on the way to *client*; nothing is sent."""
    family = socket.AF_INET6 if ":" in client else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((client or "192.0.2.1", 9))
            address: str = probe.getsockname()[0]
        except OSError:
            return "::1" if family == socket.AF_INET6 else "127.0.0.1"
        return address
