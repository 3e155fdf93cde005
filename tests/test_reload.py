"""A service that gets another configuration while it runs: transfers and requests under way keep the old one."""

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
class StartableFiles(Files):
    """A backend that records start() and close(); *error* is raised at its start."""

    calls: list[str] = field(factory=list)
    error: Exception | None = None

    def start(self, publish: Callable[..., Any]) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append("started")

    def close(self) -> None:
        self.calls.append("closed")


@implementer(ISelfChecking)
@define(eq=False)
class FilesWithProblem(Files):
    """A backend that reports a problem at the start."""

    def problem(self) -> str:
        return "no such directory"


@implementer(IStartable, IClientAware)
@define(eq=False)
class RecordingPlugin:
    """A plugin that records the calls of the service, and the events; *error* is raised at its start."""

    calls: list[str] = field(factory=list, kw_only=True)
    events: list[Event] = field(factory=list, kw_only=True)
    error: Exception | None = field(default=None, kw_only=True)

    def set_client_lookup(self, lookup: Any) -> None:
        self.calls.append("aware")

    def start(self, publish: Callable[..., Any]) -> None:
        if self.error is not None:
            raise self.error
        self.calls.append("started")

    def close(self) -> None:
        self.calls.append("closed")


@implementer(IBootFileResolver, IOperable, IBootObserver)
@define(eq=False)
class NamingResolver(RecordingPlugin):
    """Names one file, at once or when the test fires ``answer``."""

    file: Any
    answer: "Deferred[Any] | None" = None

    def resolve(self, request: Any) -> Any:
        return BootFile(self.file) if self.answer is None else self.answer

    def operations(self) -> dict[str, Callable[[Any], Any]]:
        return {self.file: lambda arguments: ()}

    def observe(self, event: Event) -> None:
        self.events.append(event)


def reload(site: Site, backends: list[Any], resolvers: list[Any], tftp: TFTPSettings | None = None) -> None:
    settings = site.service.settings
    site.service.reload(evolve(settings, tftp=tftp or settings.tftp), backends, resolvers, FIXED)


@pytest.fixture
def site() -> Site:
    """A proxy and a file server."""
    site = Site([NamingResolver("old")], [StartableFiles({"file": numbered(2000)})])
    site.start()
    return site


# Files


def test_transfer_keeps_its_file_and_the_next_request_gets_the_new_one(site: Site) -> None:
    old, new = site.backends[0], StartableFiles({"file": b"new"})
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    [first] = client.take()
    assert first.data == b"\0\3\0\1" + numbered(2000)[:512]
    reload(site, [new], site.resolvers)
    assert (old.calls, new.calls) == (["started"], ["started"])
    assert Machine(site).fetch("file") == b"new"
    received = [first.data]
    for number in (1, 2, 3):
        client.send(bytes((0, 4, 0, number)), first.peer)
        site.network.advance(0.1)
        received += [each.data for each in client.take()]
    assert b"".join(data[4:] for data in received) == numbered(2000)
    assert old.calls == ["started"], "the client has not acknowledged the end"
    client.send(b"\0\4\0\4", first.peer)
    site.network.advance(1.1)
    assert old.calls == ["started", "closed"]
    site.stop()
    assert (old.calls, new.calls) == (["started", "closed"], ["started", "closed"])
    client.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def test_a_backend_that_no_transfer_uses_is_closed_at_once(site: Site) -> None:
    old = site.backends[0]
    reload(site, [StartableFiles()], site.resolvers)
    assert old.calls == ["started", "closed"]
    site.stop()
    assert old.calls == ["started", "closed"]


def test_a_backend_that_stays_is_neither_started_nor_closed_again(site: Site) -> None:
    reload(site, [*site.backends, Files({"more": b"more"})], site.resolvers)
    assert site.backends[0].calls == ["started"]
    assert site.resolvers[0].calls == ["aware", "started"]
    machine = Machine(site)
    assert (machine.fetch("file"), machine.fetch("more")) == (numbered(2000), b"more")
    site.stop()


def test_a_stop_while_an_old_transfer_is_under_way_closes_its_backend(site: Site) -> None:
    old = site.backends[0]
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    reload(site, [], site.resolvers)
    assert old.calls == ["started"]
    site.stop()
    assert old.calls == ["started", "closed"]
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
    reload(site, [FilesWithProblem()], site.resolvers)
    assert [event.problem for event in site.events_of(BackendProblem)] == ["no such directory"]
    site.stop()


def test_a_resolver_that_can_not_be_started_leaves_no_backend_started(site: Site) -> None:
    backend, failing = StartableFiles({"file": b"new"}), NamingResolver("new", error=StateError("no such program"))
    with pytest.raises(StateError, match="no such program"):
        reload(site, [backend], [failing])
    assert backend.calls == ["started", "closed"]
    assert Machine(site).fetch("file") == numbered(2000)
    site.stop()
    assert backend.calls == ["started", "closed"]


def test_a_reloaded_service_starts_again_with_the_new_plugins(site: Site) -> None:
    new = StartableFiles({"file": b"new"})
    reload(site, [new], site.resolvers)
    site.stop()
    site.service.startService()
    assert Machine(site).fetch("file") == b"new"
    site.stop()
    assert new.calls == ["started", "closed"] * 2


@define(eq=False)
class StubSockets:
    """A SocketSource that opens no socket, and keeps the protocols."""

    follow_interfaces: bool = False
    protocols: dict[str, Any] = field(factory=dict)

    def listen(self, spec: PortSpec) -> Any:
        self.protocols[spec.service] = spec.protocol
        return MemoryNetwork().host(SERVER).listenUDP(69, DatagramProtocol())


def get(site: Any, clock: Any) -> bytes:
    """The body of the HTTP response for /file."""
    protocol = site.buildProtocol(IPv4Address("TCP", "10.9.0.9", 4000))
    wire = Wire(clock, protocol)
    protocol.makeConnection(wire)
    protocol.dataReceived(request("GET", "/file"))
    response, _ = parse(wire.value())
    return response.body


def test_http_serves_the_new_files() -> None:
    sockets, host = StubSockets(), MemoryNetwork().host(SERVER)
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


def listen_settings(*addresses: tuple[str, int]) -> TFTPSettings:
    return TFTPSettings(listen=addresses)


def begin_download(site: Site) -> tuple[FakePeer, Any]:
    """A client that has the first of four blocks of a file, and the server's address for it."""
    client = FakePeer(site.network.host("10.0.0.8", name="client"))
    client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    [first] = client.take()
    return client, first.peer


@pytest.mark.parametrize("ports", ["single", "ephemeral"])
def test_a_socket_that_is_dropped_closes_when_its_transfers_have_ended(site: Site, ports: str) -> None:
    client, server = begin_download(site)
    host = next(each for each in site.network.hosts if each.name == "server")
    reload(site, site.backends, site.resolvers, evolve(listen_settings((SERVER, 70)), ports=ports))
    assert [row.address for row in site.service.summary() if row.service == "tftp"] == [(SERVER, 70)]
    assert [event.address for event in site.events_of(ListenerClosed)] == [("::", 69)]
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
    assert ("0.0.0.0", 69) in [event.address for event in site.events_of(ListenerClosed)]
    assert host.port_for(SERVER, 69) is None
    client.close()
    refused.close()
    site.stop()
    assert site.network.leaks() == []


def test_transfers_after_a_reload_may_have_their_own_ports(site: Site) -> None:
    client, server = begin_download(site)
    before = site.service.settings.tftp
    reload(site, site.backends, site.resolvers, evolve(before, ports="ephemeral"))
    other_client = FakePeer(site.network.host("10.0.0.7"))
    other_client.send(b"\0\1file\0octet\0", (SERVER, 69))
    site.network.advance(0.1)
    assert server[1] == 69
    assert [answer.peer[1] == 69 for answer in other_client.take()] == [False]
    client.send(b"\0\4\0\1", server)
    site.network.advance(0.1)
    assert [answer.peer for answer in client.take()] == [server]
    client.close()
    other_client.close()
    site.stop()


def test_a_reload_may_make_a_socket_optional(site: Site) -> None:
    reload(site, site.backends, site.resolvers, listen_settings((SERVER, 70)))
    for optional in ((SERVER,), ()):
        settings = evolve(site.service.settings, optional=optional)
        site.service.reload(settings, site.backends, site.resolvers, FIXED)
        [status] = [each for each in site.service.sockets() if each.service == "tftp"]
        assert status.optional is bool(optional)
    site.stop()


def test_dropped_socket_is_closed_after_its_time_limit_during_a_transfer(site: Site) -> None:
    client, server = begin_download(site)
    reload(site, site.backends, site.resolvers, listen_settings((SERVER, 70)))
    for _ in range(int(DROPPED_CLOSE_WITHIN)):
        client.send(b"\0\4\0\1", server)  # a slow client, which asks for the same block again
        site.network.advance(1.1)
    client.take()
    assert ("0.0.0.0", 69) in [event.address for event in site.events_of(ListenerClosed)]
    client.close()
    site.stop()


def test_a_stop_closes_a_socket_that_was_dropped_and_has_a_transfer(site: Site) -> None:
    client, _ = begin_download(site)
    reload(site, site.backends, site.resolvers, listen_settings((SERVER, 70)))
    site.stop()
    site.network.advance(0.1)
    [error] = [received.data for received in client.take() if received.data[:2] == b"\0\5"]
    assert b"the server is stopping" in error
    client.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def dhcp_client(site: Site) -> tuple[FakePeer, Callable[[int], None]]:
    """A client's DHCP port, and a function that broadcasts a DISCOVER with a transaction ID from it."""
    machine = Machine(site)
    port = FakePeer(machine.host, 68)
    chaddr = bytes.fromhex(machine.mac.replace(":", ""))

    def discover(xid: int) -> None:
        port.send(pack(firmware.IPXE_ROM.message(xid=xid, chaddr=chaddr), 1472), ("255.255.255.255", 67))
        site.network.advance(0.1)

    return port, discover


def test_a_port_of_dhcp_that_is_dropped_sends_the_answers_that_it_waits_for() -> None:
    waiting: Deferred[Any] = Deferred()
    old = NamingResolver("old", waiting)
    site = Site([old])
    site.start()
    port, discover = dhcp_client(site)
    discover(9)
    reload(site, [], [])
    assert [row.service for row in site.service.summary()] == ["tftp", "tftp"]
    discover(10)
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert [b"late" in received.data for received in port.take()] == [True]
    site.network.advance(1.1)
    assert old.calls == ["aware", "started", "closed"]
    assert {event.service for event in site.events_of(ListenerClosed)} == {"dhcp", "boot-server"}
    port.close()
    site.stop()


def test_abandoned_reload_leaves_no_sockets_or_plugins(site: Site) -> None:
    settings = evolve(site.service.settings, tftp=listen_settings(("0.0.0.0", 69), (SERVER, 70)))
    backend, resolver = StartableFiles({"file": b"new"}), NamingResolver("new")
    prepared = site.service.prepare(settings, [backend], [resolver], FIXED)
    with pytest.raises(StateError, match="loading another configuration"):
        site.service.prepare(settings, [backend], [resolver], FIXED)
    assert (backend.calls, resolver.calls) == (["started"], ["aware", "started"])
    machine = Machine(site)
    assert machine.fetch("file") == numbered(2000), "the new one is not in use yet"
    site.service.abandon(prepared)
    site.network.advance(0)
    assert (backend.calls, resolver.calls) == (["started", "closed"], ["aware", "started", "closed"])
    assert [row.address for row in site.service.summary() if row.service == "tftp"] == [("0.0.0.0", 69), ("::", 69)]
    host = next(each for each in site.network.hosts if each.name == "server")
    assert host.port_for(SERVER, 70) is None
    assert machine.fetch("file") == numbered(2000)
    assert machine.offered_file(firmware.IPXE_ROM) == "old"
    with pytest.raises(StateError, match="stopping"):
        site.service.commit(prepared)
    site.stop()
    assert site.network.leaks() == []


def test_commit_after_a_stop_is_refused(site: Site) -> None:
    backend = StartableFiles({"file": b"new"})
    settings = evolve(site.service.settings, tftp=listen_settings((SERVER, 70)))
    prepared = site.service.prepare(settings, [backend], site.resolvers, FIXED)
    site.stop()
    assert backend.calls == ["started", "closed"]
    with pytest.raises(StateError, match="stopping"):
        site.service.commit(prepared)
    site.service.abandon(prepared)
    assert site.network.leaks() == []
    site.service.startService()
    assert Machine(site).fetch("file") == numbered(2000)
    site.stop()


# Decisions


def test_the_next_request_is_for_the_new_resolver(site: Site) -> None:
    old, new = site.resolvers[0], NamingResolver("new")
    machine = Machine(site)
    assert machine.offered_file(firmware.IPXE_ROM) == "old"
    old.events.clear()
    reload(site, site.backends, [new])
    assert (old.calls, new.calls) == (["aware", "started", "closed"], ["aware", "started"])
    assert machine.offered_file(firmware.IPXE_ROM) == "new"
    assert any(isinstance(event, ResolverAnswered) for event in new.events)
    assert not any(isinstance(event, ResolverAnswered) for event in old.events), "it is no observer any more"
    assert set(site.service.operations()) >= {"new"}
    assert "old" not in site.service.operations()
    site.stop()


def test_a_stop_cancels_the_requests_that_a_resolver_has_not_answered() -> None:
    cancelled: list[Any] = []
    waiting: Deferred[Any] = Deferred(cancelled.append)
    site = Site([NamingResolver("old", waiting)])
    site.start()
    port, discover = dhcp_client(site)
    discover(9)
    assert cancelled == []
    site.stop()
    assert cancelled == [waiting]
    port.close()
    site.network.advance(0)
    assert site.network.leaks() == []


def test_a_request_that_waits_gets_the_answer_of_the_old_resolver() -> None:
    waiting: Deferred[Any] = Deferred()
    old = NamingResolver("old", waiting)
    site = Site([old])
    site.start()
    port, discover = dhcp_client(site)
    discover(9)
    reload(site, [], [NamingResolver("new")])
    assert old.calls == ["aware", "started"]
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert any(b"late" in received.data for received in port.take())
    site.network.advance(1.1)
    assert old.calls == ["aware", "started", "closed"]
    port.close()
    site.stop()


# Observers and personas


@implementer(IBootObserver, IOperable)
@define(eq=False)
class RecordingObserver(RecordingPlugin):
    """Records the events, and has one operation."""

    operation: str = "new"

    def operations(self) -> dict[str, Callable[[Any], Any]]:
        return {self.operation: lambda arguments: ()}

    def observe(self, event: Event) -> None:
        assert self.calls[-1] == "started"
        self.events.append(event)


def set_observers(site: Site, *observers: Any) -> None:
    service = site.service
    service.reload(service.settings, site.backends, site.resolvers, FIXED, observers=observers)


def test_an_observer_gets_the_events_from_its_reload_until_the_next(site: Site) -> None:
    machine = Machine(site)
    first, second = RecordingObserver("first"), RecordingObserver("second")
    set_observers(site, first, second)
    assert "first" in site.service.operations()
    assert machine.fetch("file") == numbered(2000)
    refuse = FakePeer(site.network.host("10.0.0.7"))
    refuse.send(b"\0\1nosuch\0octet\0", (SERVER, 69))
    site.network.advance(0)
    set_observers(site, second)
    assert first.calls == ["aware", "started", "closed"]
    assert second.calls == ["aware", "started"], "it stays"
    assert {"first", "second"} & set(site.service.operations()) == {"second"}
    before = list(first.events)
    assert machine.fetch("file") == numbered(2000)
    site.network.advance(0)
    assert first.events == before
    assert second.events[: len(before)] == before
    assert len(second.events) > len(before)
    refuse.close()
    site.stop()
    assert second.calls == ["aware", "started", "closed"]


def test_replaced_observer_gets_the_events_published_before(site: Site) -> None:
    old, new = RecordingObserver("old"), RecordingObserver("new")
    set_observers(site, old)
    site.service._publisher.publish(BackendProblem(1.0, "files", "no such directory"))
    set_observers(site, new)
    assert any(isinstance(event, BackendProblem) for event in old.events)
    site.network.advance(0)
    assert not any(isinstance(event, BackendProblem) for event in new.events)
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
    set_observers(site, Noting("first"), Noting("second"))
    site.network.advance(0)
    order.clear()
    site.service._publisher.publish(BackendProblem(1.0, "files", "no such directory"))
    site.network.advance(0)
    assert order == ["first", "second", "added"]
    site.stop()


def test_an_observer_that_can_not_be_started_changes_nothing(site: Site) -> None:
    stays, good, bad = (
        RecordingObserver("stays"),
        RecordingObserver("good"),
        RecordingObserver("bad", error=StateError("no such collector")),
    )
    set_observers(site, stays)
    with pytest.raises(StateError, match="no such collector"):
        set_observers(site, good, bad)
    assert (stays.calls[-1], good.calls[-1], bad.calls) == ("started", "closed", ["aware"])
    assert {"stays", "good"} & set(site.service.operations()) == {"stays"}
    Machine(site).fetch("file")
    assert stays.events
    assert good.events == []
    site.stop()


def test_an_observer_of_a_configuration_that_was_abandoned_is_closed(site: Site) -> None:
    new = RecordingObserver()
    service = site.service
    prepared = service.prepare(service.settings, site.backends, site.resolvers, FIXED, observers=[new])
    service.abandon(prepared)
    assert new.calls == ["aware", "started", "closed"]
    failing = StartableFiles(error=StateError("no such archive"))
    with pytest.raises(StateError, match="no such archive"):
        service.prepare(service.settings, [failing], site.resolvers, FIXED, observers=[new])
    assert new.calls[3:] == ["aware", "started", "closed"]
    site.stop()


def with_personas(site: Site, *tables: dict[str, Any]) -> None:
    service = site.service
    rules = tuple(Rule(**table) for table in tables)
    service.reload(evolve(service.settings, persona=rules), site.backends, site.resolvers, FIXED)


def test_a_client_is_classified_by_the_new_personas(site: Site) -> None:
    machine = Machine(site)
    assert machine.offered_file(firmware.IPXE_ROM) == "old"
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
    assert machine.offered_file(firmware.IPXE_ROM) is None
    with_personas(site)
    assert machine.offered_file(firmware.IPXE_ROM) == "old"
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
    site = Site([NamingResolver("old", waiting)])
    site.start()
    persona = {"name": "mine", "like": "ipxe", "oui": [firmware.MAC_TEXT[:8]]}
    with_personas(site, persona)
    port, discover = dhcp_client(site)
    discover(9)
    with_personas(site)
    waiting.callback(BootFile("late"))
    site.network.advance(0.1)
    assert [b"late" in received.data for received in port.take()] == [True]
    port.close()
    site.stop()


# Reloads that fail


def test_a_plugin_that_can_not_be_started_changes_nothing(site: Site) -> None:
    first, second = StartableFiles({"file": b"new"}), StartableFiles(error=StateError("no such archive"))
    with pytest.raises(StateError, match="no such archive"):
        reload(site, [first, second], [NamingResolver("new")])
    assert (first.calls, second.calls) == (["started", "closed"], [])
    assert Machine(site).fetch("file") == numbered(2000)
    assert Machine(site, address="10.0.0.7").offered_file(firmware.IPXE_ROM) == "old"
    site.stop()
    assert site.backends[0].calls == ["started", "closed"]


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
class FileService:
    """A service with a configuration file."""

    path: Path
    network: MemoryNetwork
    service: BootService
    reload: Reload
    calls: list[str]

    def apply(self) -> Any:
        """Reload the file; the error lines."""
        return self.network.result_of(self.reload.run())

    def fetch(self, name: str) -> bytes:
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
def file_service(tmp_path: Path) -> Any:
    path = tmp_path / "bootfw.toml"
    path.write_text(CONFIG)
    network = MemoryNetwork()
    host = network.host(SERVER, name="server", rich=True)
    parts = load_parts(path, {}, host)
    service = BootService(host, settings=parts.settings, backends=parts.backends, watchdog=parts.watchdog[1])
    service.startService()
    file_service = FileService(path, network, service, Reload(host, service, parts, path, {}), [])
    file_service.reload.before, file_service.reload.after = (
        lambda: file_service.calls.append("before"),
        lambda: file_service.calls.append("after"),
    )
    yield file_service
    network.result_of(service.stopService())


def test_a_changed_file_is_applied_and_equal_tables_keep_their_plugins(file_service: FileService) -> None:
    before = dict(enumerate(file_service.reload._parts.backends))
    file_service.change(("hello", "changed"), ("1400", "1300"))
    assert file_service.apply() == ()
    assert file_service.calls == ["before", "after"]
    assert file_service.fetch("motd") == b"changed"
    assert file_service.service.settings.tftp.max_blksize == 1300
    after = dict(enumerate(file_service.reload._parts.backends))
    assert (after[0][1] is before[0][1], after[1][1] is before[1][1]) == (False, True)
    assert file_service.reload._parts.store[1] is file_service.reload._parts.attempts[1]


def test_equal_tables_have_separate_plugins_after_a_reload(file_service: FileService) -> None:
    file_service.change(("hello", "other"), ("motd", "other"))
    assert file_service.apply() == ()
    first, second = (plugin for _, plugin in file_service.reload._parts.backends)
    assert first is not second


def test_a_wrong_file_changes_nothing_and_every_error_has_a_line(file_service: FileService) -> None:
    file_service.change(
        ("hello", "changed"), ("1400", "1"), ('use = "memory"\nfiles = { "other"', 'use = "none"\nfiles = { "other"')
    )
    lines = file_service.apply()
    assert len(lines) == 2
    assert lines[0].startswith(f"{file_service.path}: tftp.max-blksize: must be ")
    assert lines[1].startswith(f"{file_service.path}: backend[1].use: ")
    assert file_service.fetch("motd") == b"hello"
    assert file_service.calls == ["before", "after"]
    file_service.change(("hello", "right"))
    assert file_service.apply() == ()
    assert file_service.fetch("motd") == b"right"


@pytest.mark.parametrize(
    ("before", "after", "key"),
    [
        ('"state"', '"another"', "bootfw.state-dir"),
        ("workers = 1", "workers = 2", "bootfw.workers"),
        ("max-blksize = 1400", 'max-blksize = 1400\ncache-size = "1 MiB"', "tftp.cache-size"),
        ("[web]", '[log]\nformat = "json"\n[web]', "log.format"),
        ("[web]", '[store]\nuse = "memory"\n[web]', "store"),
    ],
)
def test_reload_with_a_key_that_needs_a_restart_is_refused(
    file_service: FileService, before: str, after: str, key: str
) -> None:
    file_service.change((before, after), ("hello", "changed"))
    reason = f"{file_service.path}: {key}: was changed, which needs a restart"
    assert file_service.apply() == (reason,)
    with pytest.raises(ControlError) as refused:
        file_service.network.result_of(file_service.reload.operation({}))
    assert (str(refused.value), refused.value.more) == (reason, {"restart": True})
    assert file_service.fetch("motd") == b"hello"


def test_observers_and_personas_of_a_file_are_applied(file_service: FileService) -> None:
    observer = f'[[observer]]\nuse = "{__name__}:recording_observer"\n'
    persona = '[[persona]]\nname = "mine"\nvendor-class = "Mine"\n'
    file_service.change(("[web]", f"{observer}{persona}[web]"))
    assert file_service.apply() == ()
    [(_, recording_observer)] = file_service.reload._parts.observers
    assert recording_observer.calls == ["aware", "started"]
    file_service.fetch("motd")
    assert recording_observer.events
    assert [rule.name for rule in file_service.service.settings.persona] == ["mine"]
    file_service.change(("[web]", f"{observer}{persona}[web]"), ("hello", "changed"))
    assert file_service.apply() == ()
    assert file_service.reload._parts.observers[0][1] is recording_observer, "its table is the same"
    file_service.change()
    assert file_service.apply() == ()
    assert recording_observer.calls == ["aware", "started", "closed"]
    assert file_service.service.settings.persona == ()


def test_the_control_operation_answers_with_the_errors(file_service: FileService) -> None:
    assert file_service.network.result_of(file_service.reload.operation({})) == ()
    file_service.path.unlink()
    with pytest.raises(ControlError, match=r"bootfw\.toml: can't be read: No such file or directory"):
        file_service.network.result_of(file_service.reload.operation({}))


RESOLVER = '[[resolver]]\nuse = "by-architecture"\nfiles = { x86-bios = "motd" }\n'
TO_PROXY = [('[dhcp]\nmode = "off"', '[dhcp]\nmode = "proxy"'), ("[web]", f"{RESOLVER}[web]")]


def listeners(file_service: FileService) -> list[tuple[str, str, int]]:
    return [(row.service, *row.address) for row in file_service.service.summary()]


def test_the_proxy_is_switched_on_and_off(file_service: FileService) -> None:
    file_service.change(*TO_PROXY)
    assert file_service.apply() == ()
    assert listeners(file_service) == [
        ("tftp", "0.0.0.0", 69),
        ("dhcp", "0.0.0.0", 67),
        ("boot-server", "0.0.0.0", 4011),
    ]
    site = Site([], network=file_service.network)
    assert Machine(site, address="10.0.0.77").offered_file(firmware.BIOS_ROM) == "motd"
    file_service.change()
    assert file_service.apply() == ()
    assert listeners(file_service) == [("tftp", "0.0.0.0", 69)]
    assert Machine(site, address="10.0.0.78").offered_file(firmware.BIOS_ROM) is None
    assert file_service.network.hosts[0].port_for(SERVER, 67) is None


def test_a_reload_with_an_occupied_port_changes_nothing(file_service: FileService) -> None:
    other = FakePeer(file_service.network.hosts[0], 70)
    before = file_service.network.hosts[0].port_for(SERVER, 69)
    file_service.change(('"0.0.0.0:69"', '"0.0.0.0:69", "0.0.0.0:71", "0.0.0.0:70"'), ("hello", "changed"))
    reason = "tftp on 0.0.0.0:70 can't be opened: [Errno 98] Address already in use"
    assert file_service.apply() == (reason,)
    assert file_service.fetch("motd") == b"hello"
    assert listeners(file_service) == [("tftp", "0.0.0.0", 69)]
    assert file_service.network.hosts[0].port_for(SERVER, 71) is None, "it was opened before that one"
    assert file_service.network.hosts[0].port_for(SERVER, 69) is before
    other.close()
    file_service.network.advance(0)
    assert file_service.apply() == ()
    assert [port for _, _, port in listeners(file_service)] == [69, 71, 70]
    assert file_service.network.hosts[0].port_for(SERVER, 69) is before
    assert file_service.fetch("motd") == b"changed"


def test_an_address_that_overlaps_one_which_is_dropped_is_refused_where_ports_can_not_be_shared(
    file_service: FileService,
) -> None:
    """With a reactor without real sockets; tests/net/test_readdressed.py is about those that have them."""
    file_service.change(("0.0.0.0:69", f"{SERVER}:69"))
    assert file_service.apply() == (
        f"tftp on {SERVER}:69 can't be opened: [Errno 98] Address already in use; tftp on 0.0.0.0:69 is open: "
        "reload without both first, or restart",
    )
    assert file_service.fetch("motd") == b"hello"
    file_service.change(('"0.0.0.0:69"', ""))
    assert file_service.apply() == ()
    assert listeners(file_service) == []
    file_service.change(("0.0.0.0:69", f"{SERVER}:69"))
    file_service.network.advance(60)
    assert file_service.apply() == ()
    assert listeners(file_service) == [("tftp", SERVER, 69)]
    assert file_service.fetch("motd") == b"hello"


def test_the_metadata_of_a_key_says_whether_it_needs_a_restart(file_service: FileService) -> None:
    """Every key of bootfw.config that can be reloaded is given to a service."""
    new = evolve(Settings(), tftp=TFTPSettings(max_blksize=900, cache_size=7), workers=3, state_dir="elsewhere")
    merged = with_fixed(Settings(), new)
    assert (merged.tftp.max_blksize, merged.tftp.cache_size) == (900, TFTPSettings().cache_size)
    assert (merged.workers, merged.state_dir) == (0, "")


def test_howto_lists_the_keys_that_need_a_restart() -> None:
    """A key that is not in the list is applied: look at BootService.commit() before you take one out."""
    text = (Path(__file__).parents[1] / "docs" / "howto" / "command-line.md").read_text()
    [line] = [line for line in text.splitlines() if line.endswith("| needs a restart |")]
    listed_keys = {name for name in re.findall(r"`([^`]*)`", line) if "[" not in name}
    assert listed_keys == {key.key for section in SECTIONS for key in keys_of(section) if key.metadata.get("restart")}


@define(eq=False)
class ContextBackend(Files):
    """Keeps its PluginContext."""

    context: PluginContext | None = None

    @classmethod
    def configured(cls, context: PluginContext, label: str = "") -> "ContextBackend":
        return cls({"label": label.encode()}, context=context)


context_backend = boot_plugin(IBackend, ContextBackend)


@define(eq=False)
class ConfiguredObserver(RecordingObserver):
    """An observer without options."""

    @classmethod
    def configured(cls, context: PluginContext) -> "ConfiguredObserver":
        return cls()


recording_observer = boot_plugin(IBootObserver, ConfiguredObserver)


@implementer(ILeaseStore, IReservationStore)
@define(eq=False)
class LeasesOnly:
    """A store that is no IOrderStore: orders go to the default store."""

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


def test_a_reload_keeps_the_store_of_orders_where_the_lease_store_has_none(file_service: FileService) -> None:
    store = f'[store]\nuse = "{__name__}:leases_only"\n[web]'
    file_service.change(("[web]", store))
    before = file_service.reload._parts = load_parts(file_service.path, {}, file_service.network.hosts[0])
    file_service.change(("[web]", store), ("hello", "changed"))
    assert file_service.apply() == ()
    assert file_service.reload._parts is not before
    assert file_service.reload._parts.orders is before.orders


def test_a_new_plugin_has_the_orders_and_the_state_directory_of_the_running_server(file_service: FileService) -> None:
    """Resolvers wait for orders in the store of the running server."""
    before = file_service.reload._parts
    state = before.configuration.settings.state_dir
    # As with --uid or [bootfw] user, where the state directory is not that of the file.
    file_service.reload._parts = evolve(before, settings=evolve(before.settings, state_dir=f"{state}-of-user"))
    plugin = f'[[backend]]\nuse = "{__name__}:context_backend"\nlabel = "new"\n[web]'
    file_service.change(("[web]", plugin))
    assert file_service.apply() == ()
    (_, backend) = file_service.reload._parts.backends[0]
    assert isinstance(backend, ContextBackend)
    assert backend.context is not None
    assert backend.context.state_directory == Path(f"{state}-of-user")
    assert backend.context.orders is before.orders
    assert file_service.reload._parts.orders is before.orders
    file_service.change()
    assert file_service.apply() == ()
    assert file_service.reload._parts.orders is before.orders


FULL_CONFIG = """
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
    ("before", "after", "keys"),
    [
        ("", "", []),
        ("10.77.0.150", "10.77.0.151", []),
        ('mode = "server"\n[[dhcp.sub', 'mode = "server"\nprobe-seconds = 0.3\n[[dhcp.sub', ["dhcp.probe-seconds"]),
        ('"Mine"', '"mine"', []),
    ],
)
def test_only_changed_keys_need_a_restart(tmp_path: Path, before: str, after: str, keys: list[str]) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text(FULL_CONFIG)
    old_parts = load_parts(path, {}, None)
    path.write_text(FULL_CONFIG.replace(before, after) if before else FULL_CONFIG)
    changed = [
        ".".join(map(str, error.path)) for error in needing_restart(old_parts, load_parts(path, {}, None, old_parts))
    ]
    assert changed == keys
