"""``bootfw explain``: shows the reply that a boot client would get from a configuration, and why."""

import argparse
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from socket import AF_INET, AF_INET6
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import attrs

from bootfw.backends.names import is_uuid
from bootfw.boot.pluginresult import as_deferred
from bootfw.build import Parts, assemble
from bootfw.cli.assembly import Assembly
from bootfw.cli.bootclient import DEFAULT_MAC, BootClient, boot_client
from bootfw.cli.dryrun import ANSWERED, DryRun, Exchange, options_of, result_of
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import machine_mac
from bootfw.cli.ownaddress import own_address, web_urls
from bootfw.cli.personas import conditions
from bootfw.cli.shownoptions import ShownOption, shown_options, shown_options6
from bootfw.cli.snapshot import snapshot
from bootfw.config.configuration import Configuration, load_config
from bootfw.config.settings import Settings
from bootfw.errors import FileMissing, TransferError, nearest
from bootfw.net.linux.interfaces import own_addresses
from bootfw.terminal import aligned, printable
from bootfw.tftp.path import relative
from bootfw.values import BootFile, BootMenu, BootRequest, Client, TransferRequest
from bootfw.wire import dhcp4, dhcp6
from bootfw.wire.iana import ARCHITECTURES
from bootfw.wire.options6 import Option as Option6

NO_FILE = 1
"""Exit code: the client gets no boot file."""

MISUSED = 2
"""Exit code: the configuration or the command is wrong."""

ABOUT = """
Shows what a configuration answers a client that boots, and why: the persona that matches, what each resolver does, and
the reply with its options. It uses the configuration's own plugins, leases and one-time boots, opens no port, sends
no packet to a client, and uses nothing up.
"""

EPILOG = """
Examples:
  bootfw explain --mac 52:54:00:12:34:56 --arch x86_64-uefi -c /etc/bootfw/bootfw.toml
  bootfw explain --mac 52:54:00:12:34:56 --ipxe     the same machine, when iPXE runs on it
  bootfw explain --arch x86_64-uefi --http          UEFI firmware that boots by HTTP
  bootfw explain --arch x86-bios --relay 10.9.0.1   behind the DHCP relay 10.9.0.1

Exit codes: 0 the client gets a boot file or a menu, 1 it gets none, 2 the configuration or the command is wrong.
"""


def add_explain(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "explain",
        help="show which reply a client would get, and why",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    command.add_argument(
        "--mac",
        default=DEFAULT_MAC,
        metavar="MACHINE",
        help="MAC address of the client's network card, or its name (default: %(default)s)",
    )
    command.add_argument(
        "--arch",
        metavar="ARCHITECTURE",
        default="x86_64-uefi",
        help='such as "x86-bios", or its number; "unknown": the client does not send it (default: %(default)s)',
    )
    command.add_argument("--uuid", default="", help="of the machine; by default one that follows from the MAC address")
    command.add_argument("--vendor-class", metavar="TEXT", help="option 60, in place of what such firmware sends")
    command.add_argument("--user-class", metavar="TEXT", help="option 77, in place of what such firmware sends")
    command.add_argument("--ipxe", action="store_true", help="iPXE runs on the client")
    command.add_argument("--http", action="store_true", help="the client is UEFI firmware that boots by HTTP")
    command.add_argument("--dhcp6", action="store_true", help="the client boots by DHCPv6")
    command.add_argument("--relay", metavar="ADDRESS", default="", help="its messages come by this DHCP relay")
    command.add_argument(
        "--server", metavar="ADDRESS", default="", help="our address on its network (default: a suitable one of ours)"
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(run=_explain, failed=MISUSED)


def _explain(options: argparse.Namespace) -> int:
    configuration = load_config(options.config, os.environ)
    client = _client(options, configuration)
    stored = snapshot(configuration)
    for note in stored.notes:
        sys.stderr.write(f"bootfw: {printable(note)}\n")

    from twisted.internet import reactor  # a plugin may connect to an API

    parts = assemble(configuration, reactor, stored.store)
    settings = _settings(configuration, options)
    server = options.server or _server_address(settings, client.relay, options.dhcp6)
    dry_run = DryRun(reactor, parts, settings, server, web_urls(configuration), stored.store)
    exchanges = result_of(reactor, _exchanges(dry_run, client, options.dhcp6))
    report = _Report(dry_run, parts, client, exchanges, options.config)
    if options.json:
        sys.stdout.write(json.dumps(report.record(), indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(report.lines()) + "\n")
    return 0 if report.boots else NO_FILE


async def _exchanges(dry_run: DryRun, client: BootClient, by_dhcp6: bool) -> list[Exchange]:
    try:
        return await (dry_run.solicit(client) if by_dhcp6 else dry_run.discover(client))
    finally:
        await dry_run.close()


def _client(options: argparse.Namespace, configuration: Configuration) -> BootClient:
    mac = machine_mac(options.mac, Assembly(configuration), "--mac")
    if options.uuid and not is_uuid(options.uuid):
        raise CommandError(f"--uuid {options.uuid}: is not a UUID")
    try:
        boot_client(bytes(6), options.arch)
    except ValueError:
        known = sorted({*ARCHITECTURES.values()})
        near = nearest(options.arch, known) or f"; it may be {', '.join(known)}, or unknown"
        raise CommandError(f"--arch {options.arch}: there is no such architecture{near}") from None
    for name, version in (("relay", 4), ("server", 6 if options.dhcp6 else 4)):
        value = getattr(options, name)
        if value and not _is_address(value, version):
            raise CommandError(f"--{name} {value}: is not an IPv{version} address")
    if options.relay and options.dhcp6:
        raise CommandError("--relay is for DHCPv4: leave it out with --dhcp6")
    return boot_client(
        bytes.fromhex(mac.replace(":", "")),
        options.arch,
        uuid=UUID(options.uuid) if options.uuid else None,
        vendor_class=options.vendor_class,
        user_class=options.user_class,
        ipxe=options.ipxe,
        http=options.http,
        relay=options.relay,
    )


def _is_address(text: str, version: int) -> bool:
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


def _settings(configuration: Configuration, options: argparse.Namespace) -> Settings:
    settings = configuration.settings
    section = settings.dhcp6 if options.dhcp6 else settings.dhcp
    if section.mode != "off":
        return settings
    if options.dhcp6 and configuration.source is None and ("dhcp6", "mode") not in configuration.explicit_keys:
        return attrs.evolve(settings, dhcp6=attrs.evolve(settings.dhcp6, mode="proxy"))
    name = "dhcp6" if options.dhcp6 else "dhcp"
    raise CommandError(
        f'no client is answered: [{name}] has mode = "off" in {configuration.source or "the defaults"}; '
        'it may be "proxy" or "server"'
    )


def _server_address(settings: Settings, relay: str, by_dhcp6: bool) -> str:
    """Return our address for the client: one in a configured subnet, or else that of the default route."""
    section = settings.dhcp6 if by_dhcp6 else settings.dhcp
    usual = own_address(relay, 6 if by_dhcp6 else 4)
    if section.mode != "server" or relay:
        return usual
    networks = [subnet.network for subnet in section.subnets]
    ours = sorted(own_addresses(AF_INET6 if by_dhcp6 else AF_INET) or ())
    for network in networks:
        for address in (usual, *ours):
            if ip_address(address) in network:
                return address
    assumed = str(networks[0][1])
    sys.stderr.write(
        f"bootfw: this host has no address in {', '.join(map(str, networks))}; {assumed} is assumed for the server\n"
    )
    return assumed


@attrs.define
class _Location:
    """The location of the boot file."""

    ours: bool
    """This server serves it."""
    size: int | None = None
    """Bytes; None: not known, or there is no such file."""
    backend: str = ""
    """The backend that has it; "": none."""
    problem: str = ""
    """Why the client can't get it."""

    def __str__(self) -> str:
        if self.problem:
            return self.problem
        if not self.ours:
            return "another server has it, so it was not looked for"
        return f"{self.size} bytes, from {self.backend}" if self.size is not None else f"from {self.backend}"


class _Report:
    """The output of `bootfw explain`."""

    def __init__(
        self, dry_run: DryRun, parts: Parts, client: BootClient, exchanges: Sequence[Exchange], source: str | None
    ) -> None:
        self._source = source
        self._dry_run = dry_run
        self._parts = parts
        self._client = client
        self._exchanges = exchanges
        self._last = exchanges[-1]
        self._request = self._last.request
        file = self._last.file
        self._location = self._location_of(file, self._last.request) if isinstance(file, BootFile) else None

    @property
    def boots(self) -> bool:
        """Whether the client gets a boot file or a menu."""
        return self._last.file is not None and not (self._location is not None and self._location.problem)

    def record(self) -> dict[str, Any]:
        """Return the output as a JSON object."""
        client, request, file = self._client, self._request, self._last.file
        rule = self._rule()
        return {
            "boots": self.boots,
            "reason": self._reason(),
            "client": {
                "mac": client.mac.hex(":"),
                "uuid": str(client.uuid),
                "architecture": request.architecture if request else None,
                "vendor_class": client.vendor_class,
                "user_class": client.user_class,
                "ipxe": client.ipxe,
            },
            "persona": None if rule is None else {"name": rule[0], "matched": rule[1]},
            "exchanges": [
                {
                    "message": exchange.sent,
                    "port": exchange.port,
                    "resolvers": [attrs.asdict(resolver) for resolver in exchange.resolvers]
                    if exchange.request
                    else [],
                    "reply": _kind(exchange),
                    "to": list(exchange.to[:2]) if exchange.to else None,
                    "address": self._address(exchange),
                    "options": [
                        {"code": code, "name": name, "value": value} for code, name, value in _reply_options(exchange)
                    ],
                }
                for exchange in self._exchanges
            ],
            "file": file.name if isinstance(file, BootFile) else None,
            "file_server": (file.server or self._dry_run.server) if isinstance(file, BootFile) else None,
            "location": attrs.asdict(self._location) if self._location else None,
            "menu": [item.description for item in file.items] if isinstance(file, BootMenu) else None,
        }

    def lines(self) -> Iterable[str]:
        """Yield the output for people."""
        client, request, last = self._client, self._request, self._last
        rows = [("client", f"{client.mac.hex(':')}, {client.vendor_class or 'without a vendor class'}")]
        rule = self._rule()
        if rule is not None and request is not None:
            matched = "; ".join(f"{key}: {value}" for key, value in rule[1].items()) or "every boot client"
            rows.append(("persona", f"{rule[0]}, the first whose conditions hold ({matched})"))
            rows.append(("architecture", request.architecture))
        for exchange in self._exchanges[:-1]:
            rows.append(
                (exchange.sent, f"{_kind(exchange)} without a boot file: the client requests it at port {last.port}")
            )
        for number, each in enumerate(last.resolvers if request is not None else ()):
            detail = f": {each.detail}" if each.detail else ""
            rows.append(("resolvers" if number == 0 else "", f"{each.name}  {each.outcome}{detail}"))
        if last.reply:
            to = f"{last.to[0]} port {last.to[1]}" if last.to else ""
            rows.append((last.sent, f"{_kind(last)} to {to}"))
        else:
            rows.append((last.sent, "no reply"))
        address = self._address(last)
        if address:
            of_class = self._dry_run.class_of(address)
            rows.append(("address", f"{address}, of the pool for {of_class}" if of_class else address))
        for number, (code, name, value) in enumerate(_reply_options(last)):
            rows.append(("options" if number == 0 else "", f"{code} {name}: {value}"))
        file = last.file
        if isinstance(file, BootFile):
            by = "" if "://" in file.name else f" by TFTP from {file.server or self._dry_run.server}"
            rows.append(("boot file", f"{file.name}{by}"))
            rows.append(("", str(self._location)))
        elif isinstance(file, BootMenu):
            for number, item in enumerate(file.items):
                target = item.file.name if item.file else "its next way to boot"
                rows.append(("menu" if number == 0 else "", f"{item.description}: {target}"))
        yield aligned(rows)
        yield ""
        yield printable("It boots." if self.boots else f"It does not boot: {self._reason()}.")
        if self.boots and self._is_ipxe():
            yield f"The file is iPXE, which sends a DHCP request of its own; its answer: {self._ipxe_command()}"

    def _reason(self) -> str:
        if self._location is not None and self._location.problem:
            return self._location.problem
        if self.boots:
            return ""
        if self._last.reason:
            return self._last.reason
        return "no resolver names a boot file" if self._last.reply else "it gets no reply"

    def _rule(self) -> tuple[str, dict[str, str]] | None:
        """Return the name and the conditions of the client's persona; None: it has none."""
        if self._request is None:
            return None
        for rule in self._dry_run.personas.rules:
            if rule.name == self._request.persona:
                return rule.name, conditions(rule)
        return None

    def _address(self, exchange: Exchange) -> str:
        """Return the address that the client is offered; "": none."""
        return exchange.offer.address if exchange.offer is not None and exchange.offer.address else _yiaddr(exchange)

    def _is_ipxe(self) -> bool:
        file = self._last.file
        if not isinstance(file, BootFile) or self._client.ipxe:
            return False
        return self._dry_run.personas.is_ipxe_program(urlsplit(file.name).path.rpartition("/")[2])

    def _ipxe_command(self) -> str:
        architecture = self._request.architecture.removesuffix("-http") if self._request else "unknown"
        six = " --dhcp6" if self._request and self._request.family == 6 else ""
        config = f" -c {shlex.quote(self._source)}" if self._source else ""
        return f"bootfw explain --mac {self._client.mac.hex(':')} --arch {architecture} --ipxe{six}{config}"

    def _location_of(self, file: BootFile, request: BootRequest | None) -> _Location:
        assert request is not None
        path, http = self._own_path(file, request)
        if path is None:
            return _Location(ours=False)
        client = Client(
            address=request.client_address,
            mac=request.mac,
            uuid=request.uuid,
            architecture=request.architecture,
            persona=request.persona,
            vendor_class=request.vendor_class,
            ipxe=request.ipxe,
            http=request.http,
        )
        transfer = TransferRequest(
            filename=path,
            path=relative(path),
            peer=(request.client_address, 0),
            local=request.server,
            protocol="http" if http else "tftp",
            client=client,
            http_url=request.http_url,
        )
        resolver = next((each.name for each in self._last.resolvers if each.outcome == ANSWERED), "a resolver")
        for name, backend in ((f"resolver {resolver}", self._dry_run.generated), *self._parts.backends):
            found = _location_in(name, backend, transfer)
            if found is not None:
                return found
        return _Location(ours=True, problem=f'no backend has "{transfer.path}"')

    def _own_path(self, file: BootFile, request: BootRequest) -> tuple[str | None, bool]:
        """Return (the path at which this server serves *file*, None if another server does; whether by HTTP)."""
        name = file.name
        if "://" not in name:
            return (name if file.server in (None, request.server) else None), request.http
        for url in (request.http_url, request.https_url):
            if url and name.startswith(f"{url}/"):
                return unquote(urlsplit(name).path), True
        parts = urlsplit(name)
        return (unquote(parts.path) if parts.scheme == "tftp" and parts.hostname == request.server else None), False


def _location_in(name: str, backend: Any, transfer: TransferRequest) -> _Location | None:
    label = name if name.startswith("resolver ") else f"backend {name}"
    try:
        reader = backend.open(transfer.path, transfer)
        if as_deferred(reader) is not None:
            return _Location(ours=True, backend=f"{label}, if that has it: only a running server can read it")
    except FileMissing:
        return None
    except TransferError as error:
        return _Location(ours=True, problem=f"{label} can't serve it: {error.detail or error}")
    try:
        return _Location(ours=True, size=reader.size, backend=label)
    finally:
        reader.close()


def _kind(exchange: Exchange) -> str | None:
    """Return the message type of the reply; None: there is no reply."""
    if not exchange.reply:
        return None
    if exchange.sent == "SOLICIT":
        return dhcp6.parse(exchange.reply)[0].kind.name
    kind = dhcp4.parse(exchange.reply).message_type
    return kind.name if kind is not None else "BOOTP reply"


def _yiaddr(exchange: Exchange) -> str:
    if not exchange.reply or exchange.sent == "SOLICIT":
        return ""
    address = dhcp4.parse(exchange.reply).yiaddr
    return "" if address == dhcp4.UNSPECIFIED else address


def _reply_options(exchange: Exchange) -> list[ShownOption]:
    if not exchange.reply:
        return []
    if exchange.sent != "SOLICIT":
        return shown_options(options_of(exchange.reply))
    message = dhcp6.parse(exchange.reply)[0]
    return shown_options6(tuple(option for option in message.options if option[0] != Option6.CLIENT_ID))
