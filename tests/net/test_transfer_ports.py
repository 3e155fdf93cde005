"""Ports of single transfers: what thousands of them cost, and what happens when there are too many."""

import os
import resource
import socket
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.logger import capturedLogs, formatEvent

from bootfw.errors import TransferError
from bootfw.net.tftp.transferport import SPARE, opener
from bootfw.net.udp.port import DatagramPort
from bootfw.net.udp.quietport import quiet_port

from .recorders import Echo


@pytest.fixture
def open_ports(private_reactor: EPollReactor) -> Iterator[Callable[..., list[DatagramPort]]]:
    """Opens a number of ports, as transfers open them."""
    opened: list[DatagramPort] = []
    open_port = opener(private_reactor, "127.0.0.1", "ephemeral")

    def open_ports(count: int, kind: type[DatagramProtocol] | type[Echo] = DatagramProtocol) -> list[DatagramPort]:
        for _ in range(count):
            opened.append(open_port(kind(), "127.0.0.1"))
        return opened[-count:]

    yield open_ports
    for port in opened:
        port.stopListening()
    private_reactor.iterate(0)


def test_a_port_costs_a_few_kilobytes(open_ports: Callable[..., list[DatagramPort]]) -> None:
    open_ports(5)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        open_ports(100)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / 100 < 8_000


def test_ports_with_shared_buffers_keep_their_datagrams_apart(
    open_ports: Callable[..., list[DatagramPort]], turn_until: TurnUntil
) -> None:
    ports = open_ports(20, Echo)
    clients = []
    for number, port in enumerate(ports):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        client.connect((port.getHost().host, port.getHost().port))
        client.setblocking(False)
        for count in range(3):
            client.send(b"%d of %d" % (count, number) * 50)
        clients.append(client)
    received: list[list[bytes]] = [[] for _ in clients]

    def all_received() -> bool:
        for client, datagrams in zip(clients, received, strict=True):
            try:
                datagrams.append(client.recv(2000))
            except BlockingIOError:
                continue
        return all(len(datagrams) == 3 for datagrams in received)

    turn_until(all_received)
    for number, (client, datagrams) in enumerate(zip(clients, received, strict=True)):
        assert datagrams == [b"%d of %d" % (count, number) * 50 for count in range(3)]
        client.close()


@pytest.fixture
def limit_descriptors() -> Iterator[Callable[..., Any]]:
    """Sets the limit on open descriptors of this process (RLIMIT_NOFILE)."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda count: resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def refusal(open_ports: Callable[..., list[DatagramPort]]) -> str:
    """Open more ports than are allowed, and return the detail of the error."""
    with pytest.raises(TransferError, match="Too many transfers at once, try again later") as caught:
        open_ports(1000)
    return caught.value.detail


def test_transfer_ports_leave_free_descriptors(
    open_ports: Callable[..., list[DatagramPort]], limit_descriptors: Callable[..., Any], private_reactor: EPollReactor
) -> None:
    highest = max(map(int, os.listdir("/proc/self/fd")))
    limit_descriptors(highest + 50 + SPARE)
    detail = refusal(open_ports)
    assert f"all but {SPARE} of {highest + 50 + SPARE} descriptors" in detail
    assert 'ports = "single"' in detail
    private_reactor.iterate(0)
    assert refusal(open_ports) == "", "the detail is for the log, once a minute"
    private_reactor.iterate(0)
    spare = [os.open("/dev/null", os.O_RDONLY) for _ in range(SPARE - 1)]
    for descriptor in spare:
        os.close(descriptor)


def test_exhausted_descriptors_refuse_the_transfer(
    open_ports: Callable[..., list[DatagramPort]], limit_descriptors: Callable[..., Any]
) -> None:
    free = os.dup(0)
    os.close(free)
    limit_descriptors(free)
    assert "descriptors are in use" in refusal(open_ports)


def test_connections_that_cannot_be_accepted_are_logged_once_a_minute(
    limit_descriptors: Callable[..., Any], private_reactor: EPollReactor
) -> None:
    port = quiet_port(private_reactor.listenTCP, 0, Factory.forProtocol(Protocol), interface="127.0.0.1")
    clients = [socket.socket() for _ in range(20)]
    for client in clients:
        client.connect(("127.0.0.1", port.getHost().port))
    free = os.dup(0)
    os.close(free)
    limit_descriptors(free)
    with capturedLogs() as logs:
        for _ in clients:
            private_reactor.iterate(0)
    limit_descriptors(free + 100)
    for client in clients:
        client.close()
    port.stopListening()
    private_reactor.iterate(0)
    [event] = logs
    assert f"accept() fails with EMFILE. The process may have {free} files open" in formatEvent(event)
