"""Datagrams are counted since the last report, for each service."""

from collections.abc import Iterator
from typing import Any

import pytest
from attrs import define, field
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock

from bootfw.events import DatagramsCounted, Event
from bootfw.net.binding import WantedSocket
from bootfw.net.datagramcounts import DatagramCounts
from bootfw.net.udp.port import DatagramPort, listen


@define
class Scene:
    """Counts, and sockets whose counters a test sets."""

    reactor: EPollReactor
    events: list[Event] = field(factory=list)
    ports: list[DatagramPort] = field(factory=list)
    counts: DatagramCounts = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.counts = DatagramCounts(Clock(), self.events.append)

    def socket(self, service: str) -> WantedSocket:
        port: DatagramPort = listen(self.reactor, DatagramProtocol(), "127.0.0.1", 0)
        self.ports.append(port)
        wanted = WantedSocket(service, ("127.0.0.1", 0), "", False, None, False, str, lambda wanted: None)
        wanted.port = port
        return wanted

    def report(self, *sockets: WantedSocket) -> list[Any]:
        """What is published: (service, received, sent, errors of sending, errors of receiving)."""
        self.events.clear()
        self.counts.report(sockets)
        assert all(isinstance(event, DatagramsCounted) for event in self.events)
        return [
            (event.service, event.received, event.sent, event.send_errors, event.receive_errors)
            for event in self.events
            if isinstance(event, DatagramsCounted)
        ]


@pytest.fixture
def scene(private_reactor: EPollReactor) -> Iterator[Scene]:
    scene = Scene(private_reactor)
    yield scene
    for port in scene.ports:
        port.stopListening()
    private_reactor.iterate(0)


def count(wanted: WantedSocket, received: int, sent: int = 0, send_errors: int = 0, receive_errors: int = 0) -> None:
    counters = wanted.port.counters
    counters.received += received
    counters.sent += sent
    counters.send_errors += send_errors
    counters.receive_errors += receive_errors


def test_new_datagrams_are_published_once(scene: Scene) -> None:
    tftp = scene.socket("tftp")
    assert scene.report(tftp) == []
    count(tftp, 5, 4, 3, 2)
    assert scene.report(tftp) == [("tftp", 5, 4, 3, 2)]
    assert scene.report(tftp) == []
    count(tftp, 1)
    assert scene.report(tftp) == [("tftp", 1, 0, 0, 0)]


def test_sockets_of_a_service_are_added_up(scene: Scene) -> None:
    first, second, dhcp = scene.socket("tftp"), scene.socket("tftp"), scene.socket("dhcp")
    for wanted, number in ((first, 1), (second, 10), (dhcp, 100)):
        count(wanted, number)
    assert scene.report(first, second, dhcp) == [("tftp", 11, 0, 0, 0), ("dhcp", 100, 0, 0, 0)]


def test_a_socket_without_a_port_is_left_out(scene: Scene) -> None:
    wanted = scene.socket("tftp")
    count(wanted, 1)
    wanted.port = None
    assert scene.report(wanted) == []


def test_a_port_that_is_closed_is_forgotten(scene: Scene) -> None:
    first, second = scene.socket("tftp"), scene.socket("tftp")
    count(first, 1)
    count(second, 2)
    scene.report(first, second)
    scene.counts.forget(first.port)
    assert scene.report(first, second) == [("tftp", 1, 0, 0, 0)]
    scene.counts.clear()
    assert scene.report(first, second) == [("tftp", 3, 0, 0, 0)]
    scene.counts.forget(None)
