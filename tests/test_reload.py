"""A service that gets another configuration while it runs: what is under way ends as it began."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import firmware
import pytest
from attrs import define, evolve, field
from booting import SERVER, Machine, Site
from net.webclient import Wire, parse, request
from tftpserver import Files, numbered
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import DatagramProtocol
from zope.interface import implementer

from bootfw.backends.memory import MemoryBackend
from bootfw.build import load_parts
from bootfw.config.sections import SECTIONS, keys_of
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.errors import StateError
from bootfw.events import BackendProblem, Event, ListenerClosed, ResolverAnswered
from bootfw.interfaces import (
    IBackend,
    IBootFileResolver,
    IBootObserver,
    IClientAware,
    ILeaseStore,
    IOperable,
    IReservationStore,
    ISelfChecking,
    IStartable,
)
from bootfw.lease import Lease, Reservation
from bootfw.net.control import ControlError
from bootfw.net.listening import PortSpec
from bootfw.personas.rule import Rule
from bootfw.plugins import PluginContext, boot_plugin
from bootfw.reload import Reload, needing_restart, with_fixed
from bootfw.service import DROPPED_CLOSE_WITHIN, BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootFile
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire.dhcp4 import pack

FIXED = Fixed()


@implementer(IBackend, IStartable)
@define(eq=False)
class Opened(Files):
    """Files that can be read between start() and close() only."""

    life: list[str] = field(factory=list)
    error: Exception | None = None

    def start(self, publish: Callable[..., Any]) -> None:
        if self.error is not None:
            raise self.error
        self.life.append("started")

    def close(self) -> None:
        self.life.append("closed")


@implementer(ISelfChecking)
@define(eq=False)
class Missing(Files):
    """Files in a directory that is not there."""

    def problem(self) -> str:
        return "no such directory"


@implementer(IStartable, IClientAware)
@define(eq=False)
class Living:
    """A plugin that notes what is done with it; *error* is raised at its start."""

    life: list[str] = field(factory=list, kw_only=True)
    seen: list[Event] = field(factory=list, kw_only=True)
    error: Exception | None = field(default=None, kw_only=True)

    def set_client_lookup(self, lookup: Any) -> None:
        self.life.append("aware")

    def start(self, publish: Callable[..., Any]) -> None:
        if self.error is not None:
            raise self.error
        self.life.append("started")

    def close(self) -> None:
        self.life.append("closed")


@implementer(IBootFileResolver, IOperable, IBootObserver)
@define(eq=False)
class Names(Living):
    """Names one file, at once or when the test fires ``answer``."""

    file: Any
    answer: "Deferred[Any] | None" = None

    def resolve(self, request: Any) -> Any:
        return BootFile(self.file) if self.answer is None else self.answer

    def operations(self) -> dict[str, Callable[[Any], Any]]:
        return {self.file: lambda given: ()}

    def observe(self, event: Event) -> None:
        self.seen.append(event)


def reload(site: Site, backends: list[Any], resolvers: list[Any], tftp: TFTPSettings | None = None) -> None:
    settings = site.service.settings
    site.service.reload(evolve(settings, tftp=tftp or settings.tftp), backends, resolvers, FIXED)


@pytest.fixture
def site() -> Site:
    """A proxy and a file server."""
    made = Site([Names("old")], [Opened({"file": numbered(2000)})])
    made.start()
    return made


# Files


def test_transfer_keeps_its_file_and_the_next_request_gets_the_new_one(site: Site) -> None:
    old, new = site.backends[0], Opened({"file": b"new"})
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    [first] = client.take()
    assert first.data == b"\0\3\0\1" + numbered(2000)[:512]
    reload(site, [new], site.resolvers)
    assert (old.life, new.life) == (["started"], ["started"])
    assert Machine(site).gets("file") == b"new"
    received = [first.data]
    for number in (1, 2, 3):
        client.send(bytes((0, 4, 0, number)), first.peer)
        site.network.advance(0.1)
        received += [each.data for each in client.take()]
    assert b"".join(data[4:] for data in received) == numbered(2000)
    assert old.life == ["started"], "the client has not acknowledged the end"
    client.send(b"\0\4\0\4", first.peer)
    site.network.advance(1.1)
    assert old.life == ["started", "closed"]
    site.stop()
    assert (old.life, new.life) == (["started", "closed"], ["started", "closed"])
    client.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def test_a_backend_that_no_transfer_uses_is_closed_at_once(site: Site) -> None:
    old = site.backends[0]
    reload(site, [Opened()], site.resolvers)
    assert old.life == ["started", "closed"]
    site.stop()
    assert old.life == ["started", "closed"]


def test_a_backend_that_stays_is_neither_started_nor_closed_again(site: Site) -> None:
    reload(site, [*site.backends, Files({"more": b"more"})], site.resolvers)
    assert site.backends[0].life == ["started"]
    assert site.resolvers[0].life == ["aware", "started"]
    machine = Machine(site)
    assert (machine.gets("file"), machine.gets("more")) == (numbered(2000), b"more")
    site.stop()


def test_a_stop_while_an_old_transfer_is_under_way_closes_its_backend(site: Site) -> None:
    old = site.backends[0]
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    reload(site, [], site.resolvers)
    assert old.life == ["started"]
    site.stop()
    assert old.life == ["started", "closed"]
    client.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def test_limits_of_transfers_are_those_of_the_new_configuration(site: Site) -> None:
    reload(site, site.backends, site.resolvers, evolve(site.service.settings.tftp, max_blksize=700))
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0blksize\x001000\0", (SERVER, 69))
    site.network.advance(0.1)
    assert client.take()[0].data == b"\0\6blksize\x00700\0"
    client.close()
    site.stop()


def test_a_problem_of_a_new_backend_is_published(site: Site) -> None:
    reload(site, [Missing()], site.resolvers)
    assert [event.problem for event in site.said(BackendProblem)] == ["no such directory"]
    site.stop()


def test_a_resolver_that_can_not_be_started_leaves_no_backend_started(site: Site) -> None:
    backend, failing = Opened({"file": b"new"}), Names("new", error=StateError("no such program"))
    with pytest.raises(StateError, match="no such program"):
        reload(site, [backend], [failing])
    assert backend.life == ["started", "closed"]
    assert Machine(site).gets("file") == numbered(2000)
    site.stop()
    assert backend.life == ["started", "closed"]


def test_a_service_that_was_reloaded_starts_again_as_it_was(site: Site) -> None:
    new = Opened({"file": b"new"})
    reload(site, [new], site.resolvers)
    site.stop()
    site.service.startService()
    assert Machine(site).gets("file") == b"new"
    site.stop()
    assert new.life == ["started", "closed"] * 2


@define(eq=False)
class Served:
    """A SocketSource that opens nothing, and keeps the protocols."""

    follow_interfaces: bool = False
    protocols: dict[str, Any] = field(factory=dict)

    def listen(self, spec: PortSpec) -> Any:
        self.protocols[spec.service] = spec.protocol
        return MemoryNetwork().host(SERVER).listenUDP(69, DatagramProtocol())


def get(site: Any, clock: Any) -> bytes:
    """What a client of HTTP gets for /file."""
    protocol = site.buildProtocol(IPv4Address("TCP", "10.9.0.9", 4000))
    wire = Wire(clock, protocol)
    protocol.makeConnection(wire)
    protocol.dataReceived(request("GET", "/file"))
    response, _ = parse(wire.value())
    return response.body


def test_http_serves_the_new_files() -> None:
    sockets, host = Served(), MemoryNetwork().host(SERVER)
    settings = Settings(
        tftp=TFTPSettings(listen=()), http=HTTPSettings(listen=[(SERVER, 8069)]), dhcp=DHCPSettings(mode="off")
    )
    service = BootService(host, settings=settings, backends=[Files({"file": b"old"})], sockets=sockets)
    service.startService()
    site = sockets.protocols["http"]
    assert get(site, host) == b"old"
    service.reload(settings, [Files({"file": b"new"})], [], FIXED)
    assert get(site, host) == b"new"
    service.stopService()


def test_the_record_of_a_boot_that_failed_names_the_files_of_the_new_backends() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER)
    settings = Settings(dhcp=DHCPSettings(mode="off"))
    service = BootService(host, settings=settings, attempts=MemoryStore(), backends=[MemoryBackend({})])
    service.startService()
    service.reload(settings, [MemoryBackend({"vmlinuz": b"kernel"})], [], FIXED)
    client = FakePeer(network.host("10.0.0.8", name="client"))
    client.send(b"\0\1vmlinux\0octet\0", (SERVER, 69))
    network.advance(120)
    [record] = network.result_of(service.operations()["boot"]({"machine": "10.0.0.8"}))
    assert "vmlinuz" in str(record)
    network.result_of(service.stopService())


def test_the_records_of_boots_name_clients_by_their_mac_before_and_after_a_reload() -> None:
    network = MemoryNetwork()
    host = network.host(SERVER)
    settings = Settings(dhcp=DHCPSettings(mode="off"))
    service = BootService(host, settings=settings, attempts=MemoryStore(), backends=[MemoryBackend({})])
    macs = {"10.0.0.8": "52:54:00:00:00:08", "10.0.0.9": "52:54:00:00:00:09"}
    service._clients._hardware_address = lambda peer: macs[peer[0]]
    service.startService()
    for address, mac in macs.items():
        client = FakePeer(network.host(address))
        client.send(b"\0\1vmlinux\0octet\0", (SERVER, 69))
        network.advance(120)
        assert network.result_of(service.operations()["boot"]({"machine": mac}))
        client.close()
        service.reload(settings, [MemoryBackend({})], [], FIXED, observers=[])
    network.result_of(service.stopService())


# Sockets


def listening(*addresses: tuple[str, int]) -> TFTPSettings:
    return TFTPSettings(listen=addresses)


def begun(site: Site) -> tuple[FakePeer, Any]:
    """A client that has the first block of a file of four."""
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    [first] = client.take()
    return client, first.peer


@pytest.mark.parametrize("ports", ["single", "ephemeral"])
def test_a_socket_that_is_dropped_closes_when_its_transfers_have_ended(site: Site, ports: str) -> None:
    client, server = begun(site)
    host = next(each for each in site.network.hosts if each.name == "server")
    reload(site, site.backends, site.resolvers, evolve(listening((SERVER, 70)), ports=ports))
    assert [row.address for row in site.service.summary() if row.service == "tftp"] == [(SERVER, 70)]
    assert [event.address for event in site.said(ListenerClosed)] == [("::", 69)]
    refused = FakePeer(site.network.host("10.0.0.7"))
    refused.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    assert refused.take() == [], "it takes no new requests"
    refused.send(b"\0\1file\0octet\0", (SERVER, 70))
    site.network.advance(0.1)
    [answer] = refused.take()
    assert (answer.peer[1] == 70) is (ports == "single"), "a new transfer has its port as the new settings say"
    for number in (1, 2, 3, 4):
        client.send(bytes((0, 4, 0, number)), server)
        site.network.advance(0.1)
    assert [received.data[4:] for received in client.take()] == [
        numbered(2000)[start : start + 512] for start in (512, 1024, 1536)
    ]
    site.network.advance(1.1)
    assert ("0.0.0.0", 69) in [event.address for event in site.said(ListenerClosed)]
    assert host.port_for(SERVER, 69) is None
    client.close()
    refused.close()
    site.stop()
    assert site.network.leaks() == []


def test_transfers_get_ports_of_their_own_from_the_reload_on(site: Site) -> None:
    client, server = begun(site)
    before = site.service.settings.tftp
    reload(site, site.backends, site.resolvers, evolve(before, ports="ephemeral"))
    late = FakePeer(site.network.host("10.0.0.7"))
    late.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    assert server[1] == 69
    assert [answer.peer[1] == 69 for answer in late.take()] == [False]
    client.send(b"\0\4\0\1", server)
    site.network.advance(0.1)
    assert [answer.peer for answer in client.take()] == [server]
    client.close()
    late.close()
    site.stop()


def test_a_socket_may_be_absent_from_the_reload_on(site: Site) -> None:
    reload(site, site.backends, site.resolvers, listening((SERVER, 70)))
    for optional in ((SERVER,), ()):
        settings = evolve(site.service.settings, optional=optional)
        site.service.reload(settings, site.backends, site.resolvers, FIXED)
        [status] = [each for each in site.service.sockets() if each.service == "tftp"]
        assert status.optional is bool(optional)
    site.stop()


def test_dropped_socket_is_closed_after_its_time_limit_during_a_transfer(site: Site) -> None:
    client, server = begun(site)
    reload(site, site.backends, site.resolvers, listening((SERVER, 70)))
    for _ in range(int(DROPPED_CLOSE_WITHIN)):
        client.send(b"\0\4\0\1", server)  # it is slow, and has what it needs to be repeated
        site.network.advance(1.1)
    client.take()
    assert ("0.0.0.0", 69) in [event.address for event in site.said(ListenerClosed)]
    client.close()
    site.stop()


def test_a_stop_closes_a_socket_that_was_dropped_and_has_a_transfer(site: Site) -> None:
    client, _ = begun(site)
    reload(site, site.backends, site.resolvers, listening((SERVER, 70)))
    site.stop()
    site.network.advance(0.1)
    [error] = [received.data for received in client.take() if received.data[:2] == b"\0\5"]
    assert b"the server is stopping" in error
    client.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def discovering(site: Site) -> tuple[FakePeer, Callable[[int], None]]:
    """A client's DHCP port, and what broadcasts a DISCOVER with a transaction ID from it."""
    machine = Machine(site)
    port = FakePeer(machine.host, 68)
    chaddr = bytes.fromhex(machine.mac.replace(":", ""))

    def discover(xid: int) -> None:
        port.send(pack(firmware.IPXE_ROM.message(xid=xid, chaddr=chaddr), 1472), ("255.255.255.255", 67))
        site.network.advance(0.1)

    return port, discover


def test_a_port_of_dhcp_that_is_dropped_sends_the_answers_that_it_waits_for() -> None:
    waiting: Deferred[Any] = Deferred()
    old = Names("old", waiting)
    site = Site([old])
    site.start()
    port, discover = discovering(site)
    discover(9)
    reload(site, [], [])
    assert [row.service for row in site.service.summary()] == ["tftp", "tftp"]
    discover(10)
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert [b"late" in received.data for received in port.take()] == [True]
    site.network.advance(1.1)
    assert old.life == ["aware", "started", "closed"]
    assert {event.service for event in site.said(ListenerClosed)} == {"dhcp", "boot-server"}
    port.close()
    site.stop()


def test_abandoned_reload_leaves_no_sockets_or_plugins(site: Site) -> None:
    settings = evolve(site.service.settings, tftp=listening(("0.0.0.0", 69), (SERVER, 70)))
    backend, resolver = Opened({"file": b"new"}), Names("new")
    prepared = site.service.prepare(settings, [backend], [resolver], FIXED)
    with pytest.raises(StateError, match="loading another configuration"):
        site.service.prepare(settings, [backend], [resolver], FIXED)
    assert (backend.life, resolver.life) == (["started"], ["aware", "started"])
    machine = Machine(site)
    assert machine.gets("file") == numbered(2000), "it is not in use yet"
    site.service.abandon(prepared)
    site.network.advance(0)
    assert (backend.life, resolver.life) == (["started", "closed"], ["aware", "started", "closed"])
    assert [row.address for row in site.service.summary() if row.service == "tftp"] == [("0.0.0.0", 69), ("::", 69)]
    host = next(each for each in site.network.hosts if each.name == "server")
    assert host.port_for(SERVER, 70) is None
    assert machine.gets("file") == numbered(2000)
    assert machine.asks(firmware.IPXE_ROM) == "old"
    with pytest.raises(StateError, match="stopping"):
        site.service.commit(prepared)
    site.stop()
    assert site.network.leaks() == []


def test_commit_after_a_stop_is_refused(site: Site) -> None:
    backend = Opened({"file": b"new"})
    settings = evolve(site.service.settings, tftp=listening((SERVER, 70)))
    prepared = site.service.prepare(settings, [backend], site.resolvers, FIXED)
    site.stop()
    assert backend.life == ["started", "closed"]
    with pytest.raises(StateError, match="stopping"):
        site.service.commit(prepared)
    site.service.abandon(prepared)
    assert site.network.leaks() == []
    site.service.startService()
    assert Machine(site).gets("file") == numbered(2000)
    site.stop()


# Decisions


def test_the_next_request_is_for_the_new_resolver(site: Site) -> None:
    old, new = site.resolvers[0], Names("new")
    machine = Machine(site)
    assert machine.asks(firmware.IPXE_ROM) == "old"
    old.seen.clear()
    reload(site, site.backends, [new])
    assert (old.life, new.life) == (["aware", "started", "closed"], ["aware", "started"])
    assert machine.asks(firmware.IPXE_ROM) == "new"
    assert any(isinstance(event, ResolverAnswered) for event in new.seen)
    assert not any(isinstance(event, ResolverAnswered) for event in old.seen), "it observes no longer"
    assert set(site.service.operations()) >= {"new"}
    assert "old" not in site.service.operations()
    site.stop()


def test_a_request_that_waits_gets_the_answer_of_the_old_resolver() -> None:
    waiting: Deferred[Any] = Deferred()
    old = Names("old", waiting)
    site = Site([old])
    site.start()
    port, discover = discovering(site)
    discover(9)
    reload(site, [], [Names("new")])
    assert old.life == ["aware", "started"]
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert any(b"late" in received.data for received in port.take())
    site.network.advance(1.1)
    assert old.life == ["aware", "started", "closed"]
    port.close()
    site.stop()


# Observers and personas


@implementer(IBootObserver, IOperable)
@define(eq=False)
class Watching(Living):
    """Keeps the events, and has one operation."""

    operation: str = "new"

    def operations(self) -> dict[str, Callable[[Any], Any]]:
        return {self.operation: lambda given: ()}

    def observe(self, event: Event) -> None:
        assert self.life[-1] == "started"
        self.seen.append(event)


def observe(site: Site, *observers: Any) -> None:
    service = site.service
    service.reload(service.settings, site.backends, site.resolvers, FIXED, observers=observers)


def test_an_observer_gets_the_events_from_its_reload_until_the_next(site: Site) -> None:
    machine = Machine(site)
    first, second = Watching("first"), Watching("second")
    observe(site, first, second)
    assert "first" in site.service.operations()
    assert machine.gets("file") == numbered(2000)
    refuse = FakePeer(site.network.host("10.0.0.7"))
    refuse.send(b"\0\1nosuch\0octet\0", (SERVER, 69))
    site.network.advance(0)
    observe(site, second)
    assert first.life == ["aware", "started", "closed"]
    assert second.life == ["aware", "started"], "it stays"
    assert {"first", "second"} & set(site.service.operations()) == {"second"}
    before = list(first.seen)
    assert machine.gets("file") == numbered(2000)
    site.network.advance(0)
    assert first.seen == before
    assert second.seen[: len(before)] == before
    assert len(second.seen) > len(before)
    refuse.close()
    site.stop()
    assert second.life == ["aware", "started", "closed"]


def test_replaced_observer_gets_the_events_published_before(site: Site) -> None:
    old, new = Watching("old"), Watching("new")
    observe(site, old)
    site.service._publisher.publish(BackendProblem(1.0, "files", "no such directory"))
    observe(site, new)
    assert any(isinstance(event, BackendProblem) for event in old.seen)
    site.network.advance(0)
    assert not any(isinstance(event, BackendProblem) for event in new.seen)
    site.stop()


def test_observers_get_events_in_their_order_and_before_those_that_were_added(site: Site) -> None:
    order: list[str] = []

    @implementer(IBootObserver)
    @define(eq=False)
    class Noting:
        name: str

        def observe(self, event: Event) -> None:
            order.append(self.name)

    site.service.add_observer(Noting("added"))
    observe(site, Noting("first"), Noting("second"))
    site.network.advance(0)
    order.clear()
    site.service._publisher.publish(BackendProblem(1.0, "files", "no such directory"))
    site.network.advance(0)
    assert order == ["first", "second", "added"]
    site.stop()


def test_an_observer_that_can_not_be_started_changes_nothing(site: Site) -> None:
    stays, good, bad = Watching("stays"), Watching("good"), Watching("bad", error=StateError("no such collector"))
    observe(site, stays)
    with pytest.raises(StateError, match="no such collector"):
        observe(site, good, bad)
    assert (stays.life[-1], good.life[-1], bad.life) == ("started", "closed", ["aware"])
    assert {"stays", "good"} & set(site.service.operations()) == {"stays"}
    Machine(site).gets("file")
    assert stays.seen
    assert good.seen == []
    site.stop()


def test_an_observer_of_a_configuration_that_was_abandoned_is_closed(site: Site) -> None:
    new = Watching()
    service = site.service
    prepared = service.prepare(service.settings, site.backends, site.resolvers, FIXED, observers=[new])
    service.abandon(prepared)
    assert new.life == ["aware", "started", "closed"]
    failing = Opened(error=StateError("no such archive"))
    with pytest.raises(StateError, match="no such archive"):
        service.prepare(service.settings, [failing], site.resolvers, FIXED, observers=[new])
    assert new.life[3:] == ["aware", "started", "closed"]
    site.stop()


def with_personas(site: Site, *tables: dict[str, Any]) -> None:
    service = site.service
    rules = tuple(Rule(**table) for table in tables)
    service.reload(evolve(service.settings, persona=rules), site.backends, site.resolvers, FIXED)


def test_a_client_is_classified_by_the_new_personas(site: Site) -> None:
    machine = Machine(site)
    assert machine.asks(firmware.IPXE_ROM) == "old"
    with_personas(
        site,
        {
            "name": "mine",
            "vendor_class": "PXEClient",
            "oui": [firmware.MAC_TEXT[:8]],
            "offer": "none",
            "reason": "has its own disk",
        },
    )
    assert machine.asks(firmware.IPXE_ROM) is None
    with_personas(site)
    assert machine.asks(firmware.IPXE_ROM) == "old"
    site.stop()


def test_transfers_have_the_quirks_of_the_new_personas(site: Site) -> None:
    client = FakePeer(site.network.host("10.0.0.8", name="client"))

    def answer() -> bytes:
        client.send(b"\0\1file\0octet\0blksize\x00700\0", (SERVER, 69))
        site.network.advance(0.1)
        data: bytes = client.take()[0].data
        client.send(b"\0\5\0\0\0", (SERVER, 69))
        site.network.advance(0.1)
        return data

    assert answer() == b"\0\6blksize\x00700\0"
    with_personas(site, {"name": "mine", "tftp_files": ["fi*"], "refuse_options": ["blksize"]})
    assert answer() == b"\0\3\0\1" + numbered(2000)[:512]
    client.close()
    site.stop()


def test_a_pending_request_is_answered_although_its_persona_is_gone() -> None:
    waiting: Deferred[Any] = Deferred()
    site = Site([Names("old", waiting)])
    site.start()
    mine = {"name": "mine", "like": "ipxe", "oui": [firmware.MAC_TEXT[:8]]}
    with_personas(site, mine)
    port, discover = discovering(site)
    discover(9)
    with_personas(site)
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert [b"late" in received.data for received in port.take()] == [True]
    port.close()
    site.stop()


# What can't be


def test_a_plugin_that_can_not_be_started_changes_nothing(site: Site) -> None:
    first, second = Opened({"file": b"new"}), Opened(error=StateError("no such archive"))
    with pytest.raises(StateError, match="no such archive"):
        reload(site, [first, second], [Names("new")])
    assert (first.life, second.life) == (["started", "closed"], [])
    assert Machine(site).gets("file") == numbered(2000)
    assert Machine(site, address="10.0.0.7").asks(firmware.IPXE_ROM) == "old"
    site.stop()
    assert site.backends[0].life == ["started", "closed"]


def test_a_service_that_does_not_run_can_not_be_reloaded() -> None:
    service = BootService(MemoryNetwork().host("10.0.0.1"))
    with pytest.raises(StateError, match="starting or stopping"):
        service.reload(Settings(), [], [], FIXED)


# From a file

CONFIG = """
[bootfw]
state-dir = "state"
workers = 1
[dhcp]
mode = "off"
[web]
listen = []
[tftp]
listen = ["0.0.0.0:69"]
max-blksize = 1400
[[backend]]
use = "memory"
files = { "motd" = "hello" }
[[backend]]
use = "memory"
files = { "other" = "other" }
"""


@define(eq=False)
class Running:
    """A service of a file."""

    path: Path
    network: MemoryNetwork
    service: BootService
    reload: Reload
    calls: list[str]

    def reloads(self) -> Any:
        """The errors."""
        return self.network.result_of(self.reload.run())

    def gets(self, name: str) -> bytes:
        client = FakePeer(self.network.host(f"10.0.0.{len(self.network.hosts) + 1}"))
        client.send(b"\0\1" + name.encode() + b"\0octet\0", (SERVER, 69))
        self.network.advance(0.1)
        [received] = client.take()
        client.send(b"\0\4\0\1", received.peer)
        return received.data[4:]

    def change(self, *pairs: tuple[str, str]) -> None:
        text = CONFIG
        for before, after in pairs:
            assert before in text
            text = text.replace(before, after)
        self.path.write_text(text)


@pytest.fixture
def running(tmp_path: Path) -> Any:
    path = tmp_path / "bootfw.toml"
    path.write_text(CONFIG)
    network = MemoryNetwork()
    host = network.host(SERVER, name="server", rich=True)
    parts = load_parts(path, {}, host)
    service = BootService(host, settings=parts.settings, backends=parts.backends, watchdog=parts.watchdog[1])
    service.startService()
    made = Running(path, network, service, Reload(host, service, parts, path, {}), [])
    made.reload.before, made.reload.after = lambda: made.calls.append("before"), lambda: made.calls.append("after")
    yield made
    network.result_of(service.stopService())


def test_a_changed_file_is_applied_and_equal_tables_keep_their_plugins(running: Running) -> None:
    before = dict(enumerate(running.reload._parts.backends))
    running.change(("hello", "changed"), ("1400", "1300"))
    assert running.reloads() == ()
    assert running.calls == ["before", "after"]
    assert running.gets("motd") == b"changed"
    assert running.service.settings.tftp.max_blksize == 1300
    after = dict(enumerate(running.reload._parts.backends))
    assert (after[0][1] is before[0][1], after[1][1] is before[1][1]) == (False, True)
    assert running.reload._parts.store[1] is running.reload._parts.attempts[1]


def test_equal_tables_are_plugins_of_their_own_after_it_too(running: Running) -> None:
    running.change(("hello", "other"), ("motd", "other"))
    assert running.reloads() == ()
    one, other = (plugin for _, plugin in running.reload._parts.backends)
    assert one is not other


def test_a_wrong_file_changes_nothing_and_every_error_has_a_line(running: Running) -> None:
    running.change(
        ("hello", "changed"), ("1400", "1"), ('use = "memory"\nfiles = { "other"', 'use = "none"\nfiles = { "other"')
    )
    lines = running.reloads()
    assert len(lines) == 2
    assert lines[0].startswith(f"{running.path}: tftp.max-blksize: must be ")
    assert lines[1].startswith(f"{running.path}: backend[1].use: ")
    assert running.gets("motd") == b"hello"
    assert running.calls == ["before", "after"]
    running.change(("hello", "right"))
    assert running.reloads() == ()
    assert running.gets("motd") == b"right"


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ('"state"', '"another"', "bootfw.state-dir"),
        ("workers = 1", "workers = 2", "bootfw.workers"),
        ("max-blksize = 1400", 'max-blksize = 1400\ncache-size = "1 MiB"', "tftp.cache-size"),
        ("[web]", '[log]\nformat = "json"\n[web]', "log.format"),
        ("[web]", '[store]\nuse = "memory"\n[web]', "store"),
    ],
)
def test_reload_with_a_key_that_needs_a_restart_is_refused(
    running: Running, before: str, after: str, where: str
) -> None:
    running.change((before, after), ("hello", "changed"))
    reason = f"{running.path}: {where}: was changed, which needs a restart"
    assert running.reloads() == (reason,)
    with pytest.raises(ControlError) as refused:
        running.network.result_of(running.reload.operation({}))
    assert (str(refused.value), refused.value.more) == (reason, {"restart": True})
    assert running.gets("motd") == b"hello"


def test_observers_and_personas_of_a_file_are_applied(running: Running) -> None:
    observer = f'[[observer]]\nuse = "{__name__}:watching"\n'
    persona = '[[persona]]\nname = "mine"\nvendor-class = "Mine"\n'
    running.change(("[web]", f"{observer}{persona}[web]"))
    assert running.reloads() == ()
    [(_, watching)] = running.reload._parts.observers
    assert watching.life == ["aware", "started"]
    running.gets("motd")
    assert watching.seen
    assert [rule.name for rule in running.service.settings.persona] == ["mine"]
    running.change(("[web]", f"{observer}{persona}[web]"), ("hello", "changed"))
    assert running.reloads() == ()
    assert running.reload._parts.observers[0][1] is watching, "its table is the same"
    running.change()
    assert running.reloads() == ()
    assert watching.life == ["aware", "started", "closed"]
    assert running.service.settings.persona == ()


def test_the_control_operation_answers_with_the_errors(running: Running) -> None:
    assert running.network.result_of(running.reload.operation({})) == ()
    running.path.unlink()
    with pytest.raises(ControlError, match=r"bootfw\.toml: can't be read: No such file or directory"):
        running.network.result_of(running.reload.operation({}))


RESOLVER = '[[resolver]]\nuse = "by-architecture"\nfiles = { x86-bios = "motd" }\n'
TO_PROXY = [('[dhcp]\nmode = "off"', '[dhcp]\nmode = "proxy"'), ("[web]", f"{RESOLVER}[web]")]


def listens(running: Running) -> list[tuple[str, str, int]]:
    return [(row.service, *row.address) for row in running.service.summary()]


def test_the_proxy_is_switched_on_and_off(running: Running) -> None:
    running.change(*TO_PROXY)
    assert running.reloads() == ()
    assert listens(running) == [
        ("tftp", "0.0.0.0", 69),
        ("dhcp", "0.0.0.0", 67),
        ("boot-server", "0.0.0.0", 4011),
    ]
    site = Site([], network=running.network)
    assert Machine(site, address="10.0.0.77").asks(firmware.BIOS_ROM) == "motd"
    running.change()
    assert running.reloads() == ()
    assert listens(running) == [("tftp", "0.0.0.0", 69)]
    assert Machine(site, address="10.0.0.78").asks(firmware.BIOS_ROM) is None
    assert running.network.hosts[0].port_for(SERVER, 67) is None


def test_a_port_that_another_program_has_changes_nothing(running: Running) -> None:
    other = FakePeer(running.network.hosts[0], 70)
    before = running.network.hosts[0].port_for(SERVER, 69)
    running.change(('"0.0.0.0:69"', '"0.0.0.0:69", "0.0.0.0:71", "0.0.0.0:70"'), ("hello", "changed"))
    reason = "tftp on 0.0.0.0:70 can't be opened: [Errno 98] Address already in use"
    assert running.reloads() == (reason,)
    assert running.gets("motd") == b"hello"
    assert listens(running) == [("tftp", "0.0.0.0", 69)]
    assert running.network.hosts[0].port_for(SERVER, 71) is None, "it was opened before that one"
    assert running.network.hosts[0].port_for(SERVER, 69) is before
    other.close()
    running.network.advance(0)
    assert running.reloads() == ()
    assert [port for _, _, port in listens(running)] == [69, 71, 70]
    assert running.network.hosts[0].port_for(SERVER, 69) is before
    assert running.gets("motd") == b"changed"


def test_an_address_that_overlaps_one_which_is_dropped_is_refused_where_ports_can_not_be_shared(
    running: Running,
) -> None:
    """A reactor that has no sockets, see tests/net/test_readdressed.py for those that have."""
    running.change(("0.0.0.0:69", f"{SERVER}:69"))
    assert running.reloads() == (
        f"tftp on {SERVER}:69 can't be opened: [Errno 98] Address already in use; tftp on 0.0.0.0:69 is open: "
        "reload without both first, or restart",
    )
    assert running.gets("motd") == b"hello"
    running.change(('"0.0.0.0:69"', ""))
    assert running.reloads() == ()
    assert listens(running) == []
    running.change(("0.0.0.0:69", f"{SERVER}:69"))
    running.network.advance(60)
    assert running.reloads() == ()
    assert listens(running) == [("tftp", SERVER, 69)]
    assert running.gets("motd") == b"hello"


def test_the_metadata_of_a_key_says_whether_it_needs_a_restart(running: Running) -> None:
    """Every key of bootfw.config that can be reloaded is given to a service."""
    new = evolve(Settings(), tftp=TFTPSettings(max_blksize=900, cache_size=7), workers=3, state_dir="elsewhere")
    kept = with_fixed(Settings(), new)
    assert (kept.tftp.max_blksize, kept.tftp.cache_size) == (900, TFTPSettings().cache_size)
    assert (kept.workers, kept.state_dir) == (0, "")


def test_howto_lists_the_keys_that_need_a_restart() -> None:
    """A key that is not in the list is applied: look at BootService.commit() before you take one out."""
    text = (Path(__file__).parents[1] / "docs" / "howto" / "command-line.md").read_text()
    [line] = [line for line in text.splitlines() if line.endswith("| needs a restart |")]
    listed = {name for name in re.findall(r"`([^`]*)`", line) if "[" not in name}
    assert listed == {key.key for section in SECTIONS for key in keys_of(section) if key.metadata.get("restart")}


@define(eq=False)
class Surroundings(Files):
    """Knows what it was given."""

    context: PluginContext | None = None

    @classmethod
    def configured(cls, context: PluginContext, label: str = "") -> "Surroundings":
        return cls({"label": label.encode()}, context=context)


surroundings = boot_plugin(IBackend, Surroundings)


@define(eq=False)
class Configured(Watching):
    """An observer without options."""

    @classmethod
    def configured(cls, context: PluginContext) -> "Configured":
        return cls()


watching = boot_plugin(IBootObserver, Configured)


@implementer(ILeaseStore, IReservationStore)
@define(eq=False)
class LeasesOnly:
    """A store that keeps no orders: these go to the default store."""

    def load(self) -> list[Lease]:
        return []

    def reservations(self) -> list[Reservation]:
        return []

    def commit(self, leases: Any) -> "Deferred[None]":
        return succeed(None)

    def save_reservations(self, reservations: Any) -> "Deferred[None]":
        return succeed(None)

    def close(self) -> "Deferred[None]":
        return succeed(None)


leases_only = boot_plugin(ILeaseStore, LeasesOnly)


def test_the_orders_stay_where_they_are_when_the_store_keeps_none(running: Running) -> None:
    store = f'[store]\nuse = "{__name__}:leases_only"\n[web]'
    running.change(("[web]", store))
    before = running.reload._parts = load_parts(running.path, {}, running.network.hosts[0])
    running.change(("[web]", store), ("hello", "changed"))
    assert running.reloads() == ()
    assert running.reload._parts is not before
    assert running.reload._parts.orders is before.orders


def test_a_new_plugin_has_the_orders_and_the_state_directory_of_the_running_server(running: Running) -> None:
    """Orders that resolvers wait for were given to the store of those."""
    before = running.reload._parts
    state = before.configuration.settings.state_dir
    # As where --uid or [bootfw] user has it elsewhere than the file says.
    running.reload._parts = evolve(before, settings=evolve(before.settings, state_dir=f"{state}-of-user"))
    plugin = f'[[backend]]\nuse = "{__name__}:surroundings"\nlabel = "new"\n[web]'
    running.change(("[web]", plugin))
    assert running.reloads() == ()
    (_, made) = running.reload._parts.backends[0]
    assert isinstance(made, Surroundings)
    assert made.context is not None
    assert made.context.state_directory == Path(f"{state}-of-user")
    assert made.context.orders is before.orders
    assert running.reload._parts.orders is before.orders
    running.change()
    assert running.reloads() == ()
    assert running.reload._parts.orders is before.orders


EVERYTHING = """
[bootfw]
state-dir = "state"
interfaces = ["lo"]
optional = ["lo"]
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.150"]
router = "10.77.0.1"
[[dhcp.subnet.host]]
mac = "52:54:00:00:00:01"
address = "10.77.0.9"
[[dhcp.class]]
vendor-class = "phone"
options = { ntp-servers = "10.77.0.1" }
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::100-fd77::200"]
[[persona]]
name = "mine"
vendor-class = "Mine"
"""


@pytest.mark.parametrize(
    ("before", "after", "where"),
    [
        ("", "", []),
        ("10.77.0.150", "10.77.0.151", []),
        ('mode = "server"\n[[dhcp.sub', 'mode = "server"\nprobe-seconds = 0.3\n[[dhcp.sub', ["dhcp.probe-seconds"]),
        ('"Mine"', '"mine"', []),
    ],
)
def test_only_changed_keys_need_a_restart(tmp_path: Path, before: str, after: str, where: list[str]) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text(EVERYTHING)
    running = load_parts(path, {}, None)
    path.write_text(EVERYTHING.replace(before, after) if before else EVERYTHING)
    changed = [
        ".".join(map(str, error.path)) for error in needing_restart(running, load_parts(path, {}, None, running))
    ]
    assert changed == where
