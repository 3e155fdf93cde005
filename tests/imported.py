"""Imports configurations of other servers, and finds the boot files that bootfw then gives to clients."""

import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from attrs import evolve

from bootfw.build import Parts, assemble
from bootfw.config.configuration import load_config
from bootfw.dhcp.classify import Ignored, classify, classify6
from bootfw.importing.bootfiles import ClientKind
from bootfw.importing.draft import Draft
from bootfw.importing.formats import import_files
from bootfw.importing.outcome import Fate
from bootfw.personas.table import stock
from bootfw.values import BootFile, BootMenu, BootRequest
from bootfw.wire.dhcp4 import BOOTREQUEST, Message
from bootfw.wire.dhcp6 import Message as Message6
from bootfw.wire.dhcp6 import MessageType as MessageType6
from bootfw.wire.options import Option
from bootfw.wire.options6 import Option as Option6


def imported(text: str, name: str = "") -> Draft:
    """The draft that is made of a file with the name "old"."""
    return import_files([("old", text)], lambda path: path.read_text(), name)


def fates(draft: Draft) -> dict[str, set[Fate]]:
    """Text of a line -> its fates."""
    found: dict[str, set[Fate]] = {}
    for outcome in draft.outcomes:
        found.setdefault(outcome.line.text, set()).add(outcome.fate)
    return found


def values(draft: Draft) -> dict[str, Any]:
    """The values of the imported configuration, which `bootfw run --check` accepts."""
    parts(draft)
    return tomllib.loads(draft.text())


def parts(draft: Draft) -> Parts:
    """The parts of a server with the imported configuration."""
    with TemporaryDirectory() as directory:
        path = Path(directory, "bootfw.toml")
        path.write_text(draft.text())
        return assemble(load_config(path, {}), None)


def boot_file_of(
    draft: Draft, code: int | None, ipxe: bool = False, mac: str = "52:54:00:00:00:01", server: str = ""
) -> str | None:
    """The boot file that a client gets, with the server's address if it is another one; None: none.

    Its request goes through the personas and the resolvers, as it does in a running server.

    :param server: our address on its link.
    """
    server_parts = parts(draft)
    settings = server_parts.settings
    kind = evolve(ClientKind(code, ipxe), mac=mac)
    options = {53: b"\1", int(Option.PARAMETER_REQUEST_LIST): b"\x01\x03\x42\x43", **kind.options}
    message = Message(op=BOOTREQUEST, xid=7, chaddr=bytes.fromhex(mac.replace(":", "")), options=options)
    serving = settings.dhcp.mode == "server"
    request = classify(message, stock().with_own(settings.persona).match, assigns_addresses=serving, server=server)
    if isinstance(request, Ignored):
        return None
    return _resolved_file(server_parts, request)


def boot_file6_of(draft: Draft, code: int | None, ipxe: bool = False, server: str = "fd77::1") -> str | None:
    """The boot file that a client of DHCPv6 gets; None: none.

    :param server: our address on its link.
    """
    server_parts = parts(draft)
    options = tuple(evolve(ClientKind(code, ipxe), six=True).options.items())
    message = Message6(MessageType6.SOLICIT, 7, ((int(Option6.OPTION_REQUEST), b"\0\x3b"), *options))
    serving = server_parts.settings.dhcp6.mode == "server"
    match = stock().with_own(server_parts.settings.persona).match
    request = classify6(message, (), match, assigns_addresses=serving, server=server)
    return None if isinstance(request, Ignored) else _resolved_file(server_parts, request)


def _resolved_file(server_parts: Parts, request: BootRequest) -> str | None:
    for _, resolver in server_parts.resolvers:
        answer = resolver.resolve(request)
        if isinstance(answer, BootMenu):
            answer = next(item.file for item in answer.items)
        if isinstance(answer, BootFile):
            return f"{answer.server}: {answer.name}" if answer.server else answer.name
    return None
