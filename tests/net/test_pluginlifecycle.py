"""Resolvers that start and stop with the service, receive its events, and serve operations on the control socket."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from turning import Alongside
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import capturedLogs
from zope.interface import implementer
from zope.interface.verify import verifyObject

from bootfw.config.settings import DHCPSettings, Settings
from bootfw.errors import StateError
from bootfw.events import Event, ListenerBound
from bootfw.interfaces import IBootFileResolver, IBootObserver, IOperable, IStartable
from bootfw.net.pluginlifecycle import PluginLifecycle
from bootfw.service import BootService
from bootfw.testing import MemoryNetwork, TFTPClient
from bootfw.values import BootFile, BootRequest

CallOperation = Callable[[Path, str], list[dict[str, Any]]]
"""The fixture ``call_operation``."""


@implementer(IBootFileResolver, IStartable, IOperable, IBootObserver)
@define(eq=False)
class Resolver:
    """Records its starts and closes, and the types of the events that it observes."""

    history: list[str | type[Event]] = field(factory=list)
    error: Exception | None = None

    def resolve(self, request: BootRequest) -> BootFile:
        return BootFile("made.ipxe", content=b"#!ipxe")

    def start(self, publish: Callable[..., Any]) -> None:
        if self.error:
            raise self.error
        self.history.append("start")
        publish(Event(1.0))

    def close(self) -> None:
        self.history.append("close")

    def operations(self) -> dict[str, Callable[..., Any]]:
        return {"history": lambda arguments: [{"history": self.history}]}

    def observe(self, event: Event) -> None:
        self.history.append(type(event))


def test_fake_plugin_provides_its_interfaces() -> None:
    for interface in (IBootFileResolver, IStartable, IOperable, IBootObserver):
        verifyObject(interface, Resolver())


def test_plugin_starts_before_the_ports_and_observes_all_events() -> None:
    network, resolver = MemoryNetwork(), Resolver()
    service = BootService(network.host("10.0.0.1", rich=True), resolvers=[resolver])
    for _ in range(2):
        service.privilegedStartService()
        service.startService()
        assert resolver.history == ["start"]
        network.advance(0)
        assert resolver.history[1:3] == [Event, ListenerBound]
        network.result_of(service.stopService())
        assert resolver.history.count("close") == 1
        resolver.history.clear()
    assert network.leaks() == []


def test_resolvers_are_not_started_without_dhcp() -> None:
    network, resolver = MemoryNetwork(), Resolver()
    service = BootService(
        network.host("10.0.0.1", rich=True), resolvers=[resolver], settings=Settings(dhcp=DHCPSettings(mode="off"))
    )
    service.startService()
    network.result_of(service.stopService())
    assert not {"start", "close"} & set(resolver.history)


def test_plugin_that_fails_to_start_makes_the_start_fail() -> None:
    network, first = MemoryNetwork(), Resolver()
    second = Resolver(error=StateError("next-boot.sqlite: is damaged"))
    service = BootService(network.host("10.0.0.1", rich=True), resolvers=[first, second])
    with pytest.raises(StateError, match="damaged"):
        service.startService()
    assert [entry for entry in first.history if isinstance(entry, str)] == ["start", "close"]
    assert "close" not in second.history
    assert service.summary() == []
    assert network.leaks() == []


def test_files_that_a_plugin_generates_are_served(failures: list[BaseException]) -> None:
    network = MemoryNetwork()
    service = BootService(network.host("10.0.0.1", rich=True), resolvers=[Resolver()])
    service.startService()
    service._protocols.resolver_chain().resolve(BootRequest("52:54:00:00:00:01", "discover", "pxe-bios", "x86-bios"))
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69))
    assert network.result_of(client.download("/made.ipxe")).data == b"#!ipxe"
    network.result_of(service.stopService())


# The control socket


@pytest.fixture
def call_operation(alongside: Alongside) -> CallOperation:
    """Calls an operation by the control socket at a path, and returns the lines of the answer."""

    def call(path: Path, operation: str) -> list[dict[str, Any]]:
        def exchange() -> list[dict[str, Any]]:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(10)
                connection.connect(str(path))
                with connection.makefile("rw") as stream:
                    stream.write(json.dumps({"do": operation}) + "\n")
                    stream.flush()
                    return list(map(json.loads, stream))

        return alongside(exchange)

    return call


def lifecycle_of(reactor: EPollReactor, *resolvers: Resolver) -> PluginLifecycle:
    return PluginLifecycle(reactor, [("r", resolver) for resolver in resolvers], lambda event: None)


def test_operations_of_a_plugin_are_available_while_it_runs(
    private_reactor: EPollReactor,
    tmp_path: Path,
    call_operation: CallOperation,
) -> None:
    path = tmp_path / "state" / "control.sock"
    lifecycle = lifecycle_of(private_reactor, Resolver())
    lifecycle.start()
    lifecycle.listen(path)
    assert call_operation(path, "history") == [{"record": {"history": ["start"]}}, {"done": 1}]
    [refusal] = call_operation(path, "leases")
    assert refusal["error"].startswith('this server has no operation "leases"')

    closed = lifecycle.close()
    while not closed.called:
        private_reactor.iterate(0.01)
    assert not path.exists()


def test_the_operations_of_replaced_plugins_are_replaced(
    private_reactor: EPollReactor, call_operation: CallOperation, tmp_path: Path
) -> None:
    @define(eq=False)
    class Other(Resolver):
        def operations(self) -> dict[str, Callable[..., Any]]:
            return {"other": lambda arguments: []}

    path, old = tmp_path / "control.sock", Resolver()
    lifecycle = lifecycle_of(private_reactor, old)
    lifecycle.start()
    lifecycle.listen(path)
    new = [("o", Other())]
    lifecycle.start_new(new)
    [close] = lifecycle.replace(new)
    assert call_operation(path, "other") == [{"done": 0}]
    assert "error" in call_operation(path, "history")[0]
    close()
    assert old.history == ["start", "close"]
    lifecycle.close()


def test_control_socket_is_not_created_without_operations(private_reactor: EPollReactor, tmp_path: Path) -> None:
    lifecycle_of(private_reactor).listen(tmp_path / "state" / "control.sock")
    assert not (tmp_path / "state").exists()


def test_operations_of_the_address_server_are_on_the_same_socket(
    private_reactor: EPollReactor,
    tmp_path: Path,
    call_operation: CallOperation,
) -> None:
    path = tmp_path / "control.sock"
    lifecycle = lifecycle_of(private_reactor, Resolver())
    lifecycle.listen(path, {"leases": lambda arguments: [{"address": "10.0.0.9"}]})
    assert call_operation(path, "leases")[0] == {"record": {"address": "10.0.0.9"}}
    assert call_operation(path, "history")[0] == {"record": {"history": []}}
    lifecycle.close()


def test_proxy_starts_without_a_control_socket_but_an_address_server_does_not(
    private_reactor: EPollReactor, tmp_path: Path
) -> None:
    path = tmp_path / "control.sock"
    first = lifecycle_of(private_reactor, Resolver())
    first.listen(path)
    with capturedLogs() as logs:
        lifecycle_of(private_reactor, Resolver()).listen(path)
    assert [event["log_format"][:29] for event in logs] == ["no control socket at {path}, "]
    with pytest.raises(StateError):
        lifecycle_of(private_reactor, Resolver()).listen(path, {})
    first.close()
