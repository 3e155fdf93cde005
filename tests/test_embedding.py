"""BootService in another program: it can be started, stopped and started again, and leaves nothing behind."""

import errno
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from firmware import MAC_TEXT, OVMF, UUID, boot_server_request
from observers import EventList
from tftpserver import Files, Peer, Pending, at_once, blocks, numbered
from twisted.application.service import MultiService
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from zope.interface import Invalid, implementer

from bootfw.config.settings import DHCP6Settings, DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.dhcp.hostclass import HostClass, HostClass6
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import FileMissing
from bootfw.events import (
    ListenerBound,
    ListenerClosed,
    ListenerFailed,
    PluginFailed,
    TransferEnded,
    TransferRefused,
)
from bootfw.interfaces import IPerClientBackend, ISelfChecking
from bootfw.personas.rule import Rule
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.values import BootMenu, BootMenuItem, Client, TransferRequest
from bootfw.wire import tftp
from bootfw.wire.dhcp4 import pack

SERVER = ("10.0.0.1", 69)


class Embedded:
    """A network with a BootService on one host of it."""

    def __init__(
        self, rich: bool = True, ports: tuple[int, int] | str = "single", backend: Any = None, **options: Any
    ) -> None:
        self.network = MemoryNetwork()
        self.host = self.network.host("10.0.0.1", "fd00::1", name="server", rich=rich)
        self.backend = Files({"file": numbered(5000)}) if backend is None else backend
        self.observer = EventList()
        settings = Settings(tftp=TFTPSettings(ports=ports, writable=True))
        self.service = BootService(
            self.host, settings=settings, backend=self.backend, observers=[self.observer], **options
        )
        self._client = self.network.host("10.0.0.9", "fd00::9", name="client")

    # A Peer uses this class as its wire.

    def socket(self, number: int, port: int = 0) -> FakePeer:
        return FakePeer(self._client, port)

    def settle(self) -> None:
        self.network.advance(0.005)

    def peer(self) -> Peer:
        return Peer(self, SERVER)

    def client(self, server: tuple[str, int] = SERVER) -> TFTPClient:
        return TFTPClient(self._client, server)

    def stop(self) -> None:
        self.network.result_of(self.service.stopService())

    def leaks(self) -> list[str]:
        self.network.advance(0)
        return [leak for leak in self.network.leaks() if not leak.startswith("client")]


@pytest.fixture(params=["single", "ephemeral", (30000, 30099)], ids=["single", "ephemeral", "range"])
def ports(request: pytest.FixtureRequest) -> tuple[int, int] | str:
    ports: tuple[int, int] | str = request.param
    return ports


@pytest.fixture(params=[False, True], ids=["stock", "rich"])
def rich(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_a_service_can_be_started_again_after_a_stop(
    rich: bool, ports: tuple[int, int] | str, failures: list[BaseException]
) -> None:
    """With transfers in every state: file being opened, block awaited, lingering, and a client that is gone."""
    pending = Pending()
    behaviours: Iterator[Callable[[Callable[[], Any]], Any]] = iter([at_once, pending])
    backend = Files({"file": numbered(5000)}, {"open": lambda call: next(behaviours, at_once)(call)})
    # Without packet info proxyDHCP does not know which of its addresses to send to clients.
    embedded = Embedded(rich, ports, backend, resolvers=[StaticResolver("file")] if rich else [])
    embedded.service.startService()
    reader, opener, writer, finished = (embedded.peer() for _ in range(4))
    reader.request("file", tsize=0)
    opener.request("file")
    writer.put("new")
    writer.send(tftp.data(1, bytes(512)))
    finished.upload("small", b"content")
    embedded.peer().send(b"\0\7malformed", b"\0\7malformed")
    embedded.stop()
    assert embedded.leaks() == []
    assert backend.all_closed()
    assert pending.cancelled == 1
    embedded.settle()
    stopping = [tftp.Error(0, "the server is stopping")]
    assert [peer.take() for peer in (reader, opener, writer, finished)] == [stopping, stopping, stopping, []]

    for _ in range(2):
        embedded.service.startService()
        assert embedded.network.result_of(embedded.client().download("file")).data == numbered(5000)
        assert embedded.network.result_of(embedded.client(("fd00::1", 69)).download("small")).data == b"content"
        embedded.stop()
        assert embedded.leaks() == []
    assert backend.all_closed()
    assert embedded.observer.of(PluginFailed) == []


def test_stopping_twice_is_stopping_once() -> None:
    embedded = Embedded()
    embedded.service.startService()
    first = embedded.service.stopService()
    assert embedded.service.stopService() is first
    embedded.network.result_of(first)
    embedded.stop()
    assert embedded.leaks() == []
    assert len(embedded.observer.of(ListenerClosed)) == len(embedded.observer.of(ListenerBound)) == 2


def test_a_service_that_was_never_started_can_be_stopped() -> None:
    embedded = Embedded()
    embedded.stop()
    assert embedded.leaks() == []


def test_ports_are_bound_once_by_a_privileged_start_and_a_start() -> None:
    """As ``twistd`` does: privilegedStartService() as root, then startService() as the configured user."""
    embedded = Embedded()
    parent = MultiService()
    embedded.service.setServiceParent(parent)
    parent.privilegedStartService()
    assert len(embedded.host.ports) == 2
    parent.startService()
    assert len(embedded.host.ports) == 2
    assert [tuple(row.address) for row in embedded.service.summary()] == [("0.0.0.0", 69), ("::", 69)]
    embedded.network.result_of(parent.stopService())
    assert embedded.service.summary() == []
    assert embedded.leaks() == []


def test_a_port_in_use_fails_the_start() -> None:
    """All ports or none: those bound before are closed, and the start can be tried again."""
    embedded = Embedded(resolvers=[StaticResolver("file")])
    blocker = FakePeer(embedded.host, 69, "::")
    for start in (embedded.service.privilegedStartService, embedded.service.startService):
        with pytest.raises(CannotListenError) as caught:
            start()
        assert caught.value.socketError.errno == errno.EADDRINUSE
        embedded.network.advance(0)
        assert [port.protocol for port in embedded.host.ports] == [blocker]
        assert embedded.service.summary() == []
    failed = embedded.observer.of(ListenerFailed)
    assert [(event.service, event.address) for event in failed] == [("tftp", ("::", 69))] * 2
    blocker.close()
    embedded.network.advance(0)
    assert embedded.leaks() == []
    embedded.service.startService()
    assert embedded.network.result_of(embedded.client().download("file")).data == numbered(5000)
    embedded.stop()
    assert embedded.leaks() == []


def test_a_start_without_privileges_fails() -> None:
    embedded = Embedded()
    embedded.host.privileged = False
    with pytest.raises(CannotListenError) as caught:
        embedded.service.startService()
    assert caught.value.socketError.errno == errno.EACCES
    assert embedded.leaks() == []


def test_exception_in_a_backend_start_is_an_error() -> None:
    @implementer(ISelfChecking)
    class Broken(Files):
        def problem(self) -> str:
            raise ValueError("broken")

    embedded = Embedded(backend=Broken())
    with pytest.raises(ValueError, match="broken"):
        embedded.service.startService()
    assert embedded.leaks() == []
    assert embedded.service.summary() == []


def test_objects_without_the_interface_are_refused() -> None:
    network = MemoryNetwork()
    for options in (
        {"backend": object()},
        {"resolvers": [object()]},
        {"observers": [object()]},
        {"watchdog": object()},
    ):
        with pytest.raises(Invalid):
            BootService(network.host(), **options)


def test_exhausted_port_range_refuses_the_transfer(rich: bool) -> None:
    embedded = Embedded(rich, ports=(30000, 30001))
    embedded.service.startService()
    peers = [embedded.peer() for _ in range(2)]
    assert [blocks(peer.request("file"))[0] for peer in peers] == [1, 1]
    assert {peer.tid[1] for peer in peers} == {30000, 30001}
    full = tftp.Error(0, "Every transfer port is in use, try again later")
    assert embedded.peer().request("file") == [full]
    assert embedded.peer().put("new") == [full]
    assert peers[0].send(tftp.error(0, "enough")) == []
    assert embedded.network.result_of(embedded.client().download("file")).data == numbered(5000)
    [refused, _] = embedded.observer.of(TransferRefused)
    assert refused.message == full.message
    assert embedded.observer.of(PluginFailed) == []
    embedded.stop()
    assert embedded.leaks() == []
    assert embedded.backend.all_closed()


def test_ports_of_a_range_are_taken_in_turn() -> None:
    """A port that was just closed is not used again at once: late packets for it would go to another transfer."""
    embedded = Embedded(ports=(30000, 30003))
    embedded.service.startService()
    used_ports = []
    for _ in range(8):
        peer = embedded.peer()
        peer.download("file")
        used_ports.append(peer.tid[1])
    assert used_ports == [30000, 30001, 30002, 30003] * 2
    embedded.stop()


def test_observers_get_events_in_order_and_before_the_end() -> None:
    embedded = Embedded()
    embedded.service.startService()
    embedded.peer().request("file")
    embedded.stop()
    kinds = [type(event).__name__ for event in embedded.observer.events]
    started = ["ListenerBound"] * 2 + ["ReadinessChanged"]
    assert kinds == [*started, "TransferBegun", "TransferEnded"] + ["ListenerClosed"] * 2
    assert embedded.observer.of(TransferEnded)[0].report.outcome.name == "CANCELLED"


@pytest.mark.parametrize(("interfaces", "served"), [((), True), (("lo",), True), (("other0",), False)])
def test_requests_are_answered_on_the_configured_interfaces_only(
    private_reactor: EPollReactor, interfaces: tuple[str, ...], served: bool
) -> None:
    settings = Settings(interfaces=interfaces, tftp=TFTPSettings(listen=["127.0.0.1:0"]))
    service = BootService(private_reactor, settings=settings, backend=Files({"file": b"x"}))
    service.startService()
    [row] = service.summary()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(tftp.request(False, "file", "octet"), row.address)
        for _ in range(5):
            private_reactor.iterate(0)
        if served:
            assert sock.recv(100) == tftp.data(1, b"x")
        else:
            with pytest.raises(BlockingIOError):
                sock.recv(100)
    stopped: list[None] = []
    service.stopService().addCallback(stopped.append)
    for _ in range(5):
        private_reactor.iterate(0)
    assert stopped == [None]
    assert private_reactor.getDelayedCalls() == []


def test_client_gets_the_reason_of_a_refusal(rich: bool, ports: tuple[int, int] | str) -> None:
    embedded = Embedded(rich, ports)
    embedded.service.startService()
    with pytest.raises(TransferFailed, match="ERROR 1: File not found"):
        embedded.network.result_of(embedded.client().download("missing"))
    embedded.stop()
    assert embedded.leaks() == []


def test_settings_take_lists_where_they_keep_tuples() -> None:
    """mypy checks this as well: a program that passes lists needs no cast in strict mode."""
    subnet = Subnet(network="10.77.0.0/24", pool=["10.77.0.10-10.77.0.20"], dns=["10.77.0.1"], relays=["10.78.0.1"])
    subnet6 = Subnet6(network="fd77::/64", pool=["fd77::10-fd77::20"])
    rule = Rule(
        name="lab",
        tftp_files=["lab/*"],
        personas=["uefi"],
        oui=["52:54:00"],
        architectures=["x86_64-uefi"],
        empty_when_missing=["*.cfg"],
        instead={"*.efi": ["grub.efi"]},
    )
    settings = Settings(
        interfaces=["lab0"],
        tftp=TFTPSettings(listen=["0.0.0.0:69"]),
        dhcp=DHCPSettings(mode="server", subnets=[subnet], classes=[HostClass(vendor_class="PXEClient")]),
        dhcp6=DHCP6Settings(mode="server", subnets=[subnet6], classes=[HostClass6(user_class="iPXE")]),
        http=HTTPSettings(listen=["0.0.0.0:8069"]),
        persona=[rule],
    )
    assert settings.dhcp.subnets == (subnet,)
    assert settings.dhcp6.subnets == (subnet6,)
    assert settings.persona == (rule,)
    assert (rule.tftp_files, rule.personas, rule.empty_when_missing) == (("lab/*",), ("uefi",), ("*.cfg",))
    assert [type(each) for each in (settings.dhcp.classes, settings.dhcp6.classes)] == [tuple, tuple]
    menu = BootMenu([BootMenuItem("Local disk", None)])
    assert menu.items == (BootMenuItem("Local disk", None),)


@implementer(IPerClientBackend)
class ClientRecorder:
    """Has no file, and records the clients of its requests."""

    def __init__(self) -> None:
        self.clients: list[Client] = []

    def open(self, path: str, request: TransferRequest) -> Any:
        self.clients.append(request.client)
        raise FileMissing(path)


def test_a_backend_that_needs_the_client_gets_it() -> None:
    """A machine sends a request to port 4011 from the address that it then fetches a file from."""
    backend = ClientRecorder()
    embedded = Embedded(True, backend=backend, resolvers=[StaticResolver("file")])
    embedded.service.startService()
    peer = embedded.peer()
    FakePeer(embedded._client, 4011).send(pack(boot_server_request(OVMF), 1472), ("10.0.0.1", 4011))
    embedded.settle()
    peer.request("file")
    assert backend.clients == [
        Client("10.0.0.9", MAC_TEXT, UUID, "x86_64-uefi", "uefi", "PXEClient:Arch:00007:UNDI:003000")
    ]
    embedded.stop()
