"""A testbed in memory: a service with the plugin, nodes that are played by the test, and what the observers see."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from bootfw_emulab.emulab import Emulab, plugin
from emulabcaptures import HOST_FILES
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootFileUsed,
    BootReported,
    BootRequest,
    BootService,
    DHCPSettings,
    Event,
    IBootFileResolver,
    IBootObserver,
    PluginContext,
    Settings,
    TFTPSettings,
)
from bootfw.testing import FakePeer, MemoryNetwork

SERVER = "10.9.0.1"
NO_SERVICES = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))


def write_hosts(directory: Path, files: Mapping[str, str] = HOST_FILES) -> Path:
    """Host files in a directory of their own."""
    hosts = directory / "hosts"
    hosts.mkdir(exist_ok=True)
    for name, text in files.items():
        (hosts / f"{name}.toml").write_text(text)
    return hosts


@implementer(IBootFileResolver, IBootObserver)
@define(eq=False)
class OneTimeBoots:
    """One-time boots: MAC -> name, until the machine uses it; what resolves later is a Deferred of the test."""

    boots: dict[str, Any] = field(factory=dict)
    requests: list[BootRequest] = field(factory=list)

    def resolve(self, request: BootRequest) -> Any:
        self.requests.append(request)
        found = self.boots.get(request.mac)
        return BootFile(found) if isinstance(found, str) else found

    def observe(self, event: Event) -> None:
        if isinstance(event, BootFileUsed):
            self.boots.pop(event.mac, None)


@implementer(IBootObserver)
@define(eq=False)
class RecordingObserver:
    """The events."""

    events: list[Event] = field(factory=list)

    def observe(self, event: Event) -> None:
        self.events.append(event)


@define(eq=False)
class Testbed:
    """The service, which runs."""

    __test__ = False

    directory: Path
    options: Mapping[str, Any] = field(factory=dict)
    neighbours: dict[str, str] = field(factory=dict)
    """Address -> MAC, as the kernel knows it."""
    network: MemoryNetwork = field(factory=MemoryNetwork)
    once: OneTimeBoots = field(factory=OneTimeBoots)
    observer: RecordingObserver = field(factory=RecordingObserver)
    emulab: Emulab = field(init=False)
    service: BootService = field(init=False)
    peers: dict[str, FakePeer] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        host = self.network.host(SERVER, "10.9.0.2", rich=True)
        write_hosts(self.directory)
        context = PluginContext(host, self.directory, self.directory)
        options = {"hosts": "hosts", "tmcd-listen": [], **self.options}
        emulab: Any = plugin.configure(options, context)
        self.emulab = emulab
        resolvers: Any = [("once", self.once), ("emulab", emulab)]
        self.service = BootService(host, settings=NO_SERVICES, resolvers=resolvers, observers=[self.observer])
        self.service.startService()

    def stop(self) -> None:
        """Stop it; nothing is left."""
        self.service.stopService()
        self.network.advance(0)

    def node(self, address: str = "10.9.0.11") -> FakePeer:
        """The port of bootinfo's client at an address."""
        if address not in self.peers:
            self.peers[address] = FakePeer(self.network.host(address), 9696)
        return self.peers[address]

    def request(self, packet: bytes, address: str = "10.9.0.11", server: str = SERVER) -> list[bytes]:
        """Send a packet to bootinfo; the replies, without the zeros at their end."""
        node = self.node(address)
        node.send(packet, (server, 6969))
        self.network.advance(0.1)
        received = node.take()
        assert all(each.peer == (server, 6969) and len(each.data) == 520 for each in received)
        return [each.data.rstrip(b"\0") for each in received]

    def reported(self) -> list[str]:
        """What was reported since the last call."""
        self.network.advance(0)
        reports = [event.what for event in self.observer.events if isinstance(event, BootReported)]
        self.observer.events.clear()
        return reports

    def operate(self, operation: str, **arguments: Any) -> Any:
        """What an operation of the control socket returns."""
        return self.emulab.operations()[operation](arguments)
