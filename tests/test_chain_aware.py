"""A resolver that serves its own protocol: it gets the resolver chain, and is started with or without DHCP."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import define, field
from observers import EventList
from twisted.internet.defer import CancelledError, Deferred, succeed
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootMenu,
    BootMenuItem,
    BootRefused,
    BootRequest,
    BootService,
    DHCPSettings,
    Event,
    IBootFileResolver,
    IChainAware,
    IStartable,
    ResolverAnswered,
    Settings,
    TFTPSettings,
)
from bootfw.testing import MemoryNetwork

REQUEST = BootRequest("52:54:00:00:00:01", "bootinfo", "", "unknown")
OFF = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))


@implementer(IBootFileResolver)
@define(eq=False)
class Answering:
    """A resolver that always gives the same answer."""

    answer: Any

    def resolve(self, request: BootRequest) -> Any:
        return self.answer


@implementer(IBootFileResolver, IStartable, IChainAware)
@define(eq=False)
class OwnProtocol:
    """Records the calls of the service."""

    calls: list[str] = field(factory=list)
    chain: Callable[[BootRequest], Any] = field(default=lambda request: None)

    def set_resolver_chain(self, resolve: Callable[[BootRequest], Any]) -> None:
        self.calls.append("given the chain")
        self.chain = resolve

    def start(self, publish: Callable[[Event], None]) -> None:
        self.calls.append("started")

    def close(self) -> None:
        self.calls.append("closed")

    def resolve(self, request: BootRequest) -> None:
        return None


def service_with(*answers: object) -> tuple[OwnProtocol, BootService]:
    """An OwnProtocol, and a service with it and with resolvers that give these answers."""
    plugin = OwnProtocol()
    resolvers: Sequence[Any] = [plugin, *map(Answering, answers)]
    return plugin, BootService(MemoryNetwork().host("10.0.0.1"), settings=OFF, resolvers=resolvers)


def test_the_resolver_is_started_where_dhcp_is_off() -> None:
    plugin, service = service_with()
    service.startService()
    assert plugin.calls == ["given the chain", "started"]
    service.stopService()
    assert plugin.calls == ["given the chain", "started", "closed"]


def test_the_first_answer_for_its_protocol_counts() -> None:
    menu = BootMenu((BootMenuItem("Install", BootFile("a")),))
    later: Any = succeed(BootFile("bootinfo:wait"))
    plugin, service = service_with(BootFile("ipxe.efi"), menu, None, later, BootFile("bootinfo:reboot"))
    service.startService()
    assert plugin.chain(REQUEST) == BootFile("bootinfo:wait")
    service.stopService()


def test_the_chain_waits_for_an_answer_by_a_deferred() -> None:
    waiting: Deferred[Any] = Deferred()
    plugin, service = service_with(waiting)
    service.startService()
    found: list[Any] = []
    plugin.chain(REQUEST).addCallback(found.append)
    assert found == []
    waiting.callback(BootFile("bootinfo:auto"))
    assert found == [BootFile("bootinfo:auto")]
    service.stopService()


def test_no_answer_for_its_protocol_is_a_refusal_with_the_reason() -> None:
    plugin, service = service_with(BootFile("ipxe.efi"))
    service.startService()
    with pytest.raises(BootRefused, match="ipxe"):
        plugin.chain(REQUEST)
    service.stopService()


def test_no_answer_at_all_is_none() -> None:
    plugin, service = service_with(None)
    service.startService()
    assert plugin.chain(REQUEST) is None
    service.stopService()


def test_the_answer_of_each_resolver_is_an_event() -> None:
    network, plugin, observer = MemoryNetwork(), OwnProtocol(), EventList()
    resolvers: Any = [("own", plugin), ("other", Answering(BootFile("bootinfo:auto")))]
    service = BootService(network.host("10.0.0.1"), settings=OFF, resolvers=resolvers)
    service.add_observer(observer)
    service.startService()
    plugin.chain(REQUEST)
    network.advance(1)
    answers = [(event.resolver, event.request.phase) for event in observer.of(ResolverAnswered)]
    assert answers == [("own", "bootinfo"), ("other", "bootinfo")]
    service.stopService()


def test_a_stop_cancels_what_no_resolver_has_answered() -> None:
    cancelled: list[Deferred[Any]] = []
    waiting: Deferred[Any] = Deferred(cancelled.append)
    plugin, service = service_with(waiting)
    service.startService()
    results: list[Any] = []
    plugin.chain(REQUEST).addBoth(results.append)
    service.stopService()
    assert cancelled == [waiting]
    assert results[0].check(CancelledError)
