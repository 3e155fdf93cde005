"""``bootfw import --diff``: asks the old server and the new configuration the same questions, and compares the answers.

The questions are the DISCOVERs of simulated firmware, and its requests to port 4011. The old server gets them over the
network and gives no lease; the new configuration gets them without a network, at the address of the old server.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_network
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure

from bootfw.build import assemble
from bootfw.cli.bootclient import DEFAULT_MAC, boot_client
from bootfw.cli.dhcpclient import BOOT_SERVER_PORT, Build, Link, Offer
from bootfw.cli.dryrun import DryRun
from bootfw.cli.failure import CommandError
from bootfw.cli.netboot import PROFILES, BootServer, NetBoot, Profile
from bootfw.cli.ownaddress import own_address, web_urls
from bootfw.cli.shownoptions import shown_options
from bootfw.config.configuration import Configuration
from bootfw.stores.memory import MemoryStore
from bootfw.wire.dhcp4 import UNSPECIFIED, Message, pack, parse
from bootfw.wire.options import Option, address

MOST_MACHINES = 16
"""Most machines of the configuration that are compared: all of them could take minutes."""

_KINDS = (
    *PROFILES.values(),
    Profile("ipxe-bios", "iPXE on a BIOS", "x86-bios", ipxe=True),
    Profile("uefi-arm64", "UEFI firmware on 64-bit ARM", "arm64-uefi"),
    Profile("plain", "a client without PXE", "unknown"),
)
_OF_MACHINES = tuple(PROFILES[name] for name in ("bios", "uefi", "ipxe"))

# Options that say the same of the network, whichever server sends them. Lease times are not among them: bootfw gives
# firmware short ones. Nor is the domain search list (119), which may be compressed or not. The others follow from the
# address of the server, or are PXE's own.
_COMPARED = frozenset((1, 3, 6, 12, 15, 17, 26, 42, 121, 209, 210, 211))


@frozen
class Question:
    """A client whose DISCOVER both servers answer."""

    profile: Profile
    mac: str

    def __str__(self) -> str:
        return self.profile.name if self.mac == DEFAULT_MAC else f"{self.profile.name} {self.mac}"


@frozen
class Difference:
    """A value that is different in the two answers; "": the answer has no such value."""

    part: str
    old: str
    new: str


@frozen
class Comparison:
    """The differences between the two answers to a client; empty: they are the same."""

    question: Question
    differences: Sequence[Difference]

    @property
    def record(self) -> dict[str, Any]:
        """The comparison as a JSON object."""
        return {
            "client": self.question.profile.name,
            "mac": self.question.mac,
            "differences": [{"what": each.part, "old": each.old, "new": each.new} for each in self.differences],
        }


def questions(configuration: Configuration, macs: Sequence[str] = ()) -> tuple[Sequence[Question], int]:
    """Return the clients to ask about, and how many machines of the configuration are left out.

    :param macs: the machines, in place of those of the configuration.
    """
    if macs:
        return chosen(_KINDS, _OF_MACHINES, macs, most=None)
    return chosen(_KINDS, _OF_MACHINES, _machines(configuration))


def chosen(
    kinds: Sequence[Profile], of_machines: Sequence[Profile], macs: Iterable[str], most: int | None = MOST_MACHINES
) -> tuple[Sequence[Question], int]:
    """Return a question for each kind of client and for each machine, and how many machines are left out.

    :param of_machines: the kinds of client that each machine is simulated as.
    :param most: most machines; None: all of them.
    """
    machines = list(dict.fromkeys(macs))
    found = [Question(profile, DEFAULT_MAC) for profile in kinds]
    found += [Question(profile, mac) for mac in machines[:most] for profile in of_machines]
    return found, len(machines[most:]) if most is not None else 0


def _machines(configuration: Configuration) -> Iterator[str]:
    """Yield the hardware addresses for which a configuration has settings of their own."""
    dhcp = configuration.settings.dhcp
    yield from (mac for mac in dhcp.ignore if len(mac) == len(DEFAULT_MAC))
    for choice in configuration.plugins.get("resolver", ()):
        yield from (str(client["mac"]) for client in choice.options.get("clients", ()) if "mac" in client)
    yield from (mac for subnet in dhcp.subnets for host in subnet.hosts for mac in host.macs[:1])


def compare(
    configuration: Configuration,
    server: str,
    link: Link,
    servers: BootServer,
    clients: Sequence[Question],
    reactor: Any,
) -> Sequence[Comparison]:
    """Send each question to both servers, and compare the answers.

    :param server: the IPv4 address of the old server.
    :param link: leads to it.
    :param servers: sends requests to its port 4011.
    :param reactor: IReactorTime; it need not run.
    :raise CommandError: the old server answers nothing, or the new configuration answers no DHCP requests.
    """
    if configuration.settings.dhcp.mode == "off":
        raise CommandError("the new configuration answers no DHCP requests, so there is nothing to compare")
    old = _Answerer(_OldServerLink(link, server), servers)
    dry = DryServer(configuration, server, link.relay, reactor)
    new = _Answerer(dry, dry)
    reserved = {mac for subnet in configuration.settings.dhcp.subnets for each in subnet.hosts for mac in each.macs}
    answers = [(each, old.answer(each, reserved), new.answer(each, reserved)) for each in clients]
    if not any(answer for _, answer, _ in answers):
        raise CommandError(f"{server} answers none of {len(answers)} clients: is it the address of the old server?")
    return [Comparison(question, tuple(differences(one, other))) for question, one, other in answers]


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Difference]:
    """Yield the differences between two answers, name -> value each."""
    for name in dict.fromkeys((*old, *new)):
        if old.get(name, "") != new.get(name, ""):
            yield Difference(name, old.get(name, ""), new.get(name, ""))


@frozen
class _Answerer:
    """One of the two servers."""

    link: Link
    servers: BootServer

    def answer(self, question: Question, reserved: "set[str]") -> Mapping[str, str]:
        """Return what a client gets, by name; empty: no answer.

        :param reserved: machines that have an address of their own; other addresses count as their network.
        """
        profile = question.profile
        client = boot_client(
            bytes.fromhex(question.mac.replace(":", "")), profile.architecture, ipxe=profile.ipxe, http=profile.http,
            vendor_class="" if profile.name == "plain" else None,
        )  # fmt: skip
        boot = NetBoot(profile, client, self.link, self.servers, own_address, lambda step: None)
        offers, file, server = boot.request_boot_file()
        found: dict[str, str] = {}
        giving = next((offer for offer in offers if offer.address), None)
        if giving is not None:
            found["address"] = giving.address if question.mac in reserved else _network(giving)
        if file:
            found["boot file"] = file
            if "://" not in file:
                found["boot file's server"] = server
        offer = giving or next(iter(offers), None)
        if offer is not None:
            options = {code: value for code, value in offer.message.options.items() if code in _COMPARED}
            found |= {f"{name} ({code})": value for code, name, value in shown_options(options)}
        return found


def _network(offer: Offer) -> str:
    mask = offer.message.options.get(Option.SUBNET_MASK, b"")
    if len(mask) != 4:
        return offer.address
    return str(ip_network(f"{offer.address}/{address(mask)}", strict=False))


@define
class _OldServerLink:
    """A Link to the old server, which ignores replies of other servers."""

    _link: Link
    _server: str
    description: str = field(init=False)
    relay: str = field(init=False)
    unprivileged_relay: bool = field(init=False)
    on_this_host: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.description, self.relay = self._link.description, self._link.relay
        self.unprivileged_relay, self.on_this_host = self._link.unprivileged_relay, self._link.on_this_host

    def query(self, build: Build, seconds: float) -> list[Offer]:
        """See Link."""
        offers = self._link.query(build, min(seconds, 0.3))
        return [offer for offer in offers if self._server in (offer.server, offer.sender)]

    def send(self, message: Message, server: str) -> None:
        """See Link."""
        self._link.send(message, server)


class DryServer:
    """A Link to a configuration, and its BootServer, without a network.

    :param server: its address.
    :param relay: the address of the relay that the client is behind; "": none.
    """

    unprivileged_relay = False
    on_this_host = True

    def __init__(self, configuration: Configuration, server: str, relay: str, reactor: Any) -> None:
        self.description = "from the new configuration"
        self.relay = relay
        self._server = server
        store = MemoryStore()
        parts = assemble(configuration, reactor, store)
        self._dhcp = configuration.settings.dhcp
        self._run = DryRun(reactor, parts, configuration.settings, server, web_urls(configuration), store)

    def query(self, build: Build, seconds: float) -> list[Offer]:
        """See Link."""
        dhcp = self._dhcp
        peer = (self.relay, dhcp.server_port) if self.relay else (UNSPECIFIED, dhcp.client_port)
        return self._replies(build(0), dhcp.server_port, peer)

    def send(self, message: Message, server: str) -> None:
        """See Link; no lease is given."""

    def boot_server(self, server: str, build: Build) -> list[Offer]:
        """See BootServer."""
        if server != self._server:
            return []
        message = build(0)
        return self._replies(message, self._dhcp.boot_server_port, (message.ciaddr, BOOT_SERVER_PORT))

    def _replies(self, message: Message, port: int, peer: tuple[str, int]) -> list[Offer]:
        reply = replayed(self._run, pack(message, 1472), port, peer)
        return [Offer(parse(reply), self._server, 0.0)] if reply else []


def replayed(run: DryRun, data: bytes, port: int, peer: tuple[str, int]) -> bytes:
    """Return the reply to a packet; empty: there is none.

    :raise CommandError: a resolver does not answer at once.
    """
    found: list[Any] = []
    answer: Deferred[Any] = ensureDeferred(run.replay(data, port, peer))
    answer.addBoth(found.append)
    if not found:
        raise CommandError("a resolver of the new configuration answers later, which --diff can't wait for")
    if isinstance(found[0], Failure):
        found[0].raiseException()
    reply: bytes = found[0].reply
    return reply
