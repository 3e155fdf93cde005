"""``bootfw import --diff`` by DHCPv6: SOLICITs to the old server and to the new configuration, and their ADVERTISEs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from attrs import evolve

from bootfw.build import assemble
from bootfw.cli.bootclient import DEFAULT_MAC, boot_client
from bootfw.cli.dhcp6client import Advertise, Build6
from bootfw.cli.dryrun import DryRun
from bootfw.cli.failure import CommandError
from bootfw.cli.importdiff import Comparison, Question, chosen, differences, replayed
from bootfw.cli.netboot import PROFILES, Profile
from bootfw.cli.ownaddress import web_urls
from bootfw.cli.shownoptions import shown_options6
from bootfw.config.configuration import Configuration
from bootfw.stores.memory import MemoryStore
from bootfw.wire import dhcp6
from bootfw.wire.options6 import DUIDType, Option, ia_address, identity_association

Query = Callable[[Build6], Sequence[Advertise]]
"""Sends a SOLICIT; returns the ADVERTISEs."""

_KINDS = (
    PROFILES["uefi"],
    PROFILES["uefi-http"],
    PROFILES["ipxe"],
    Profile("uefi-arm64", "UEFI firmware on 64-bit ARM", "arm64-uefi"),
    Profile("plain", "a client without PXE", "unknown"),
)
_OF_MACHINES = (PROFILES["uefi"], PROFILES["ipxe"])

# What the SOLICIT of BootClient requests, beside the URL.
_COMPARED = frozenset((Option.DNS_SERVERS, Option.DOMAIN_LIST, Option.BOOTFILE_PARAMETERS))


def questions6(configuration: Configuration, macs: Sequence[str] = ()) -> tuple[Sequence[Question], int]:
    """Return the clients to ask about, and how many machines of the configuration are left out.

    :param macs: the machines, in place of those of the configuration.
    """
    if macs:
        return chosen(_KINDS, _OF_MACHINES, macs, most=None)
    return chosen(_KINDS, _OF_MACHINES, _machines(configuration))


def _machines(configuration: Configuration) -> Iterator[str]:
    """Yield the hardware addresses for which a configuration has settings of their own."""
    section = configuration.settings.dhcp6
    yield from (mac for mac in section.ignore if len(mac) == len(DEFAULT_MAC))
    yield from (mac for subnet in section.subnets for host in subnet.hosts for mac in host.macs[:1])


def compare6(
    configuration: Configuration, server: str, query: Query, clients: Sequence[Question], reactor: Any
) -> Sequence[Comparison]:
    """Send each question to both servers, and compare the answers.

    :param server: the IPv6 address of the old server.
    :param query: sends SOLICITs to it.
    :param reactor: IReactorTime; it need not run.
    :raise CommandError: the old server answers nothing, or the new configuration answers no DHCPv6 requests.
    """
    section = configuration.settings.dhcp6
    if section.mode == "off":
        raise CommandError("the new configuration answers no DHCPv6 requests, so there is nothing to compare")
    dry = DryServer6(configuration, server, reactor)
    reserved = {mac for subnet in section.subnets for host in subnet.hosts for mac in host.macs}
    networks = [subnet.network for subnet in section.subnets]

    def answer(question: Question, side: Query) -> Mapping[str, str]:
        advertised = side(lambda xid: _solicit(question, xid))
        return _answer(advertised, question.mac in reserved, networks)

    answers = [(each, answer(each, query), answer(each, dry.query)) for each in clients]
    if not any(old for _, old, _ in answers):
        raise CommandError(f"{server} answers none of {len(answers)} clients: is it the address of the old server?")
    return [Comparison(question, tuple(differences(old, new))) for question, old, new in answers]


def _solicit(question: Question, xid: int) -> dhcp6.Message:
    """Return the SOLICIT of a client. Its DUID has its hardware address (RFC 8415 section 11.4), by which servers
    identify it."""
    profile = question.profile
    mac = bytes.fromhex(question.mac.replace(":", ""))
    client = boot_client(
        mac, profile.architecture, ipxe=profile.ipxe, http=profile.http,
        vendor_class="" if profile.name == "plain" else None,
    )  # fmt: skip
    message = client.solicit(xid)
    duid = DUIDType.LINK_LAYER.to_bytes(2, "big") + b"\0\1" + mac
    options = tuple((code, duid if code == Option.CLIENT_ID else value) for code, value in message.options)
    return evolve(message, options=options)


def _answer(advertised: Sequence[Advertise], reserved: bool, networks: Sequence[Any]) -> Mapping[str, str]:
    """Return the values that a client gets, by name; empty: no answer.

    :param reserved: it has an address of its own; other addresses count as their network.
    """
    found: dict[str, str] = {}
    for advertise in advertised[:1]:
        message = advertise.message
        for raw in message.every(Option.IA_NA):
            for code, value in identity_association(raw).options:
                if code == Option.IA_ADDRESS:
                    found["address"] = _address_or_network(ia_address(value).address, reserved, networks)
        url = message.first(Option.BOOTFILE_URL)
        if url:
            found["boot file"] = url.decode("utf-8", "backslashreplace")
        options = tuple((code, value) for code, value in message.options if code in _COMPARED)
        found |= {f"{name} ({code})": value for code, name, value in shown_options6(options)}
    return found


def _address_or_network(address: str, reserved: bool, networks: Sequence[Any]) -> str:
    if reserved:
        return address
    return next((str(network) for network in networks if ip_address(address) in network), address)


class DryServer6:
    """Answers SOLICITs as the server of a configuration would, without a network.

    :param server: its address.
    """

    def __init__(self, configuration: Configuration, server: str, reactor: Any) -> None:
        self._section = configuration.settings.dhcp6
        self._server = server
        store = MemoryStore()
        parts = assemble(configuration, reactor, store)
        self._run = DryRun(reactor, parts, configuration.settings, server, web_urls(configuration), store)

    def query(self, build: Build6) -> Sequence[Advertise]:
        """See Query; no lease is given."""
        peer = ("fe80::1", self._section.client_port)
        reply = replayed(self._run, dhcp6.pack(build(1)), self._section.server_port, peer)
        return [Advertise(dhcp6.parse(reply)[0], self._server)] if reply else []
