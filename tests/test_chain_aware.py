"""A resolver with a protocol of its own: it gets the resolver chain, and runs whether DHCP does or not."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.defer import Deferred, succeed
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
    IBootObserver,
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
class Answers:
    """Always the same one."""

    answer: Any

    def resolve(self, request: BootRequest) -> Any:
        return self.answer


@implementer(IBootFileResolver, IStartable, IChainAware)
@define(eq=False)
class Speaks:
    life: list[str] = field(factory=list)
    chain: Callable[[BootRequest], Any] = field(default=lambda request: None)

    def set_resolver_chain(self, resolve: Callable[[BootRequest], Any]) -> None:
        self.life.append("given the chain")
        self.chain = resolve

    def start(self, publish: Callable[[Event], None]) -> None:
        self.life.append("started")

    def close(self) -> None:
        self.life.append("closed")

    def resolve(self, request: BootRequest) -> None:
        return None


def speaking(*others: object) -> tuple[Speaks, BootService]:
    plugin = Speaks()
    resolvers: Sequence[Any] = [plugin, *map(Answers, others)]
    return plugin, BootService(MemoryNetwork().host("10.0.0.1"), settings=OFF, resolvers=resolvers)


@implementer(IBootObserver)
@define(eq=False)
class Seen:
    events: list[Event] = field(factory=list)

    def observe(self, event: Event) -> None:
        self.events.append(event)


def test_it_runs_where_dhcp_is_off() -> None:
    plugin, service = speaking()
    service.startService()
    assert plugin.life == ["given the chain", "started"]
    service.stopService()
    assert plugin.life == ["given the chain", "started", "closed"]


def test_the_first_answer_for_its_protocol_counts() -> None:
    menu = BootMenu((BootMenuItem("Install", BootFile("a")),))
    later: Any = succeed(BootFile("bootinfo:wait"))
    plugin, service = speaking(BootFile("ipxe.efi"), menu, None, later, BootFile("bootinfo:reboot"))
    service.startService()
    assert plugin.chain(REQUEST) == BootFile("bootinfo:wait")
    service.stopService()


def test_a_resolver_that_waits_is_waited_for() -> None:
    waiting: Deferred[Any] = Deferred()
    plugin, service = speaking(waiting)
    service.startService()
    found: list[Any] = []
    plugin.chain(REQUEST).addCallback(found.append)
    assert found == []
    waiting.callback(BootFile("bootinfo:auto"))
    assert found == [BootFile("bootinfo:auto")]
    service.stopService()


def test_nothing_for_its_protocol_is_a_refusal_with_the_reason() -> None:
    plugin, service = speaking(BootFile("ipxe.efi"))
    service.startService()
    with pytest.raises(BootRefused, match="ipxe"):
        plugin.chain(REQUEST)
    service.stopService()


def test_no_answer_at_all_is_none() -> None:
    plugin, service = speaking(None)
    service.startService()
    assert plugin.chain(REQUEST) is None
    service.stopService()


def test_what_was_decided_is_an_event() -> None:
    network, plugin, seen = MemoryNetwork(), Speaks(), Seen()
    resolvers: Any = [("own", plugin), ("other", Answers(BootFile("bootinfo:auto")))]
    service = BootService(network.host("10.0.0.1"), settings=OFF, resolvers=resolvers)
    service.add_observer(seen)
    service.startService()
    plugin.chain(REQUEST)
    network.advance(1)
    answered = [event for event in seen.events if isinstance(event, ResolverAnswered)]
    assert [(event.resolver, event.request.phase) for event in answered] == [("own", "bootinfo"), ("other", "bootinfo")]
    service.stopService()
