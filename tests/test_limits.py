"""The limits of a whole service against floods by clients, and their reload."""

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, evolve, field
from tftpserver import Files, numbered
from zope.interface import implementer

from bootfw.config.settings import DHCPSettings, Settings, TFTPSettings
from bootfw.events import Event, RequestsDropped, TransferEnded
from bootfw.interfaces import IBootObserver
from bootfw.net.tftp import listener
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

SERVER = "10.0.0.1"


@implementer(IBootObserver)
@define(eq=False)
class Site:
    """A service that serves ``file``, and clients with any address."""

    settings: Settings
    network: MemoryNetwork = field(factory=MemoryNetwork)
    events: list[Event] = field(factory=list)
    files: Files = field(factory=lambda: Files({"file": numbered(5000)}))
    service: Any = None
    hosts: dict[str, Any] = field(factory=dict)

    def start(self) -> None:
        host = self.network.host(SERVER, name="server", rich=True)
        self.service = BootService(
            host,
            settings=self.settings,
            backends=[self.files],
            resolvers=[StaticResolver("file")],
            observers=[self],
        )
        self.service.startService()
        self.network.advance(0.01)

    def observe(self, event: Event) -> None:
        self.events.append(event)

    def port(self, address: str, number: int = 0) -> FakePeer:
        if address not in self.hosts:
            self.hosts[address] = self.network.host(address, name=address)
        return FakePeer(self.hosts[address], number)

    def requests(self, peer: FakePeer, name: str = "file", write: bool = False) -> None:
        peer.send(tftp.request(write, name, "octet", ()), (SERVER, 69))

    def answer(self, address: str, name: str = "file", write: bool = False) -> tftp.Packet | None:
        """The reply to a client's request from a new port; None: there is none."""
        peer = self.port(address)
        self.requests(peer, name, write)
        self.network.advance(0.01)
        received = peer.take()
        peer.close()
        return tftp.parse(received[0].data) if received else None

    def loads(self, address: str) -> bool:
        """Whether a client can download the whole file."""
        self.port(address).close()
        client = TFTPClient(self.hosts[address], (SERVER, 69))
        return bool(self.network.result_of(client.download("file"), 30).data == numbered(5000))

    def reload(self, **changes: Any) -> None:
        service = self.service
        settings = evolve(service.settings, **changes)
        service.reload(settings, [self.files], [StaticResolver("file")], Fixed([1.0, 2.0]))

    @property
    def reasons(self) -> set[str]:
        self.network.advance(20)
        return {event.reason for event in self.events if isinstance(event, RequestsDropped)}

    @property
    def transfers(self) -> int:
        return sum(each.transfers for each in self.service._tftps())


@pytest.fixture
def site() -> Iterator[Site]:
    tftp_only = Settings(tftp=TFTPSettings(listen=["0.0.0.0:69"]), dhcp=DHCPSettings(mode="off"))
    site = Site(tftp_only)
    site.start()
    yield site
    site.network.result_of(site.service.stopService())
    site.network.advance(0)


def test_a_reload_takes_the_new_lists(site: Site) -> None:
    assert site.answer("10.0.0.9") is not None
    site.reload(deny=["10.0.0.9"])
    assert site.answer("10.0.0.9") is None
    assert site.answer("10.0.0.8") is not None
    site.reload(allow=["10.0.0.9"], deny=[])
    assert site.answer("10.0.0.9") is not None
    assert site.answer("10.0.0.8") is None


def test_a_client_that_is_denied_can_finish_its_transfer(site: Site) -> None:
    peer = site.port("10.0.0.9")
    site.requests(peer)
    site.network.advance(0.01)
    assert len(peer.take()) == 1
    site.reload(deny=["10.0.0.9"])
    peer.send(tftp.ack(1), (SERVER, 69))
    site.network.advance(0.01)
    assert [tftp.parse(each.data).block for each in peer.take()] == [2]  # type: ignore[union-attr]


def test_only_listed_clients_may_upload(site: Site) -> None:
    refused = tftp.Error(tftp.ErrorCode.ACCESS_VIOLATION, "Uploads are not allowed")
    assert site.answer("10.0.0.9", "new", write=True) == refused
    site.reload(tftp=evolve(site.service.settings.tftp, writable=True))
    assert site.answer("10.0.0.8", "new", write=True) == tftp.Ack(0)
    site.reload(tftp=evolve(site.service.settings.tftp, writable=True, writable_by=["10.0.0.9", "10.1.0.0/16"]))
    assert site.answer("10.0.0.9", "new", write=True) == tftp.Ack(0)
    assert site.answer("10.1.7.7", "other", write=True) == tftp.Ack(0)
    assert site.answer("10.0.0.8", "third", write=True) == refused


def test_requests_beyond_the_rate_are_dropped_and_others_are_served(site: Site) -> None:
    site.reload(requests_per_second=5)
    assert site.loads("10.0.0.8")
    flood = [site.answer("10.0.0.9", "missing") for _ in range(20)]
    assert 10 <= sum(answer is not None for answer in flood) <= 12
    assert site.loads("10.0.0.8")
    assert site.reasons == {"more than 5 requests a second of one client"}


def test_one_client_has_half_of_all_transfers_at_most(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_TRANSFERS", 20)
    for _ in range(30):
        site.requests(site.port("10.0.0.9"))
    site.network.advance(0.01)
    assert site.transfers == 10
    assert site.loads("10.0.0.8")
    assert site.reasons == {"too many transfers at once of one client"}


def test_forged_requests_displace_each_other_but_no_client(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "MOST_TRANSFERS", 20)
    client = site.port("10.0.0.9")
    site.requests(client)
    site.network.advance(0.01)
    client.send(tftp.ack(1), (SERVER, 69))
    site.network.advance(0.01)
    assert len(client.take()) == 2
    for number in range(100):
        site.requests(site.port(f"10.1.0.{number + 1}"))
    site.network.advance(0.01)
    assert site.transfers == 20
    client.send(tftp.ack(2), (SERVER, 69))
    site.network.advance(0.01)
    assert [tftp.parse(each.data).block for each in client.take()] == [3]  # type: ignore[union-attr]
    assert site.loads("10.0.0.8")
    assert site.reasons == set()
    assert sum(isinstance(event, TransferEnded) for event in site.events) > 80


def test_when_every_transfer_is_of_a_client_that_acknowledges_new_ones_have_to_wait(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "MOST_TRANSFERS", 5)
    clients = [site.port(f"10.1.0.{number}") for number in range(1, 6)]
    for client in clients:
        site.requests(client)
        site.network.advance(0.01)
        client.send(tftp.ack(1), (SERVER, 69))
    site.network.advance(0.01)
    assert site.answer("10.0.0.8") is None
    clients[0].send(tftp.error(0, "done"), (SERVER, 69))
    site.network.advance(0.01)
    assert site.loads("10.0.0.8")
    assert site.reasons == {"5 transfers at once"}
