"""A reload moves a port to an address that overlaps the old one: on a real kernel, while both sockets are open."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from attrs import define, evolve, field
from tftpserver import Files, numbered
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.errors import StateError
from bootfw.resolvers.static import StaticResolver
from bootfw.service import BootService
from bootfw.watchdogs.fixed import Fixed

from .namespaces import Host

PORT = 4069
ONE, OTHER, ANY = "10.9.0.1", "10.9.0.3", "0.0.0.0"
OLD, NEW = numbered(2000), b"new"
NARROWER, WIDER = (ANY, ONE), (ONE, ANY)
PATIENT = Fixed([60.0])
"""Retransmits nothing while a test runs, on a machine however slow: clients take the next packet for the reply."""

Hosts = tuple[Host, Host]


@define(eq=False)
class Client:
    """A TFTP client that sends what the test tells it to."""

    sock: socket.socket
    until: TurnUntil
    server: str = ONE

    def send(self, data: bytes) -> None:
        self.sock.sendto(data, (self.server, PORT))

    def receive(self) -> bytes:
        received: list[bytes] = []

        def arrived() -> bool:
            with suppress(BlockingIOError):
                received.append(self.sock.recv(2000))
            return bool(received)

        self.until(arrived)
        return received[0]

    def request(self, name: bytes = b"file") -> bytes:
        self.send(b"\0\1" + name + b"\0octet\0")
        return self.receive()

    def acknowledge(self, *blocks: int) -> list[bytes]:
        """Acknowledge each of *blocks*, and return the data of the block that follows it."""
        received = []
        for number in blocks:
            self.send(bytes((0, 4, 0, number)))
            received.append(self.receive()[4:])
        return received


@define(eq=False)
class Lab:
    """A service whose only file has the content OLD until move() changes its address, and NEW from then on; and its
    clients."""

    hosts: Hosts
    reactor: EPollReactor
    until: TurnUntil
    service: Any = None
    sockets: list[socket.socket] = field(factory=list)
    programs: ExitStack = field(factory=ExitStack)

    def settings(self, host: str, ports: str = "single") -> Settings:
        tftp = TFTPSettings(listen=[(host, PORT)], ports=ports)
        return Settings(tftp=tftp, http=HTTPSettings(listen=[(host, PORT)]), dhcp=DHCPSettings(mode="off"))

    def start(self, host: str, ports: str = "single") -> None:
        with self.hosts[0].inside():
            settings = self.settings(host, ports)
            self.service = BootService(
                self.reactor, settings=settings, backends=[Files({"file": OLD})], watchdog=PATIENT
            )
            self.service.startService()

    def move(self, host: str, content: bytes = NEW) -> None:
        settings = evolve(self.service.settings, tftp=self.settings(host).tftp, http=self.settings(host).http)
        with self.hosts[0].inside():
            self.service.reload(settings, [Files({"file": content})], [], PATIENT)

    def client(self, server: str = ONE, kind: int = socket.SOCK_DGRAM) -> Client:
        with self.hosts[1].inside():
            sock = socket.socket(socket.AF_INET, kind)
        sock.setblocking(False)
        self.sockets.append(sock)
        return Client(sock, self.until, server)

    def download_by_http(self, server: str = ONE) -> bytes:
        client = self.client(server, socket.SOCK_STREAM)
        client.sock.connect_ex((server, PORT))
        response = bytearray()

        def sent() -> bool:
            with suppress(OSError):
                client.sock.send(b"GET /file HTTP/1.0\r\n\r\n")
                return True
            return False

        def ended() -> bool:
            with suppress(BlockingIOError):
                data = client.sock.recv(4000)
                response.extend(data)
                return not data
            return False

        self.until(sent)
        self.until(ended)
        return bytes(response).partition(b"\r\n\r\n")[2]

    def addresses(self) -> set[tuple[str, int]]:
        return {row.address for row in self.service.summary()}


@pytest.fixture
def lab(hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[Lab]:
    hosts[0].ip("addr", "replace", f"{OTHER}/24", "dev", "s0")

    def until(condition: Callable[[], object], seconds: float = 30) -> None:
        with hosts[0].inside():
            turn_until(condition, seconds)

    lab = Lab(hosts, private_reactor, until)
    yield lab
    if lab.service is not None:
        stopped = lab.service.stopService()
        until(lambda: stopped.called)
    lab.programs.close()
    for sock in lab.sockets:
        sock.close()


BOTH_DIRECTIONS = pytest.mark.parametrize(("before", "after"), [NARROWER, WIDER], ids=["narrower", "wider"])


@BOTH_DIRECTIONS
def test_transfer_continues_and_new_requests_get_the_new_file(lab: Lab, before: str, after: str) -> None:
    lab.start(before)
    client = lab.client()
    received = [client.request()[4:]]
    lab.move(after)
    assert lab.addresses() == {(after, PORT)}
    late = lab.client()
    assert late.request()[4:] == NEW
    late.send(b"\0\4\0\1")
    assert lab.download_by_http() == NEW
    received += client.acknowledge(1, 2, 3)
    assert b"".join(received) == OLD
    client.send(b"\0\4\0\4")
    lab.until(lambda: not lab.service._dropped)
    assert lab.client().request()[4:] == NEW, "the old socket is closed"
    assert lab.download_by_http() == NEW


@BOTH_DIRECTIONS
def test_new_transfer_continues_while_the_old_socket_is_open(lab: Lab, before: str, after: str) -> None:
    lab.start(before)
    first = lab.client()
    first.request()
    lab.move(after, OLD[::-1])
    client = lab.client()
    assert b"".join([client.request()[4:], *client.acknowledge(1, 2, 3)]) == OLD[::-1]
    assert lab.service._dropped, "the transfer of the first client has not ended"


@BOTH_DIRECTIONS
def test_repeated_request_gets_the_file_of_its_transfer(lab: Lab, before: str, after: str) -> None:
    lab.start(before)
    client = lab.client()
    first = client.request()
    lab.move(after)
    assert client.request() == first
    assert client.acknowledge(1) == [OLD[512:1024]]


@BOTH_DIRECTIONS
def test_a_client_that_starts_again_gets_the_new_file(lab: Lab, before: str, after: str) -> None:
    lab.start(before)
    client = lab.client()
    client.request()
    client.acknowledge(1)
    lab.move(after)
    assert client.request(b"./file")[4:] == NEW
    client.send(b"\0\4\0\1")
    lab.until(lambda: not lab.service._dropped)
    assert client.request()[4:] == NEW


def test_an_address_that_is_no_longer_configured_takes_no_requests(lab: Lab) -> None:
    lab.start(ANY)
    client = lab.client(OTHER)
    received = [client.request()[4:]]
    lab.move(ONE)
    late = lab.client(OTHER)
    late.send(b"\0\1file\0octet\0")
    assert lab.client().request()[4:] == NEW
    with pytest.raises(BlockingIOError):
        late.sock.recv(100)
    received += client.acknowledge(1, 2, 3)
    assert b"".join(received) == OLD, "a transfer at that address continues"


def test_a_port_moves_back_when_the_transfers_have_ended(lab: Lab) -> None:
    lab.start(ANY)
    client = lab.client()
    client.request()
    lab.move(ONE)
    with pytest.raises(StateError, match=f"http on {ANY}:{PORT} can't be opened while|tftp on {ANY}:{PORT} can't be"):
        lab.move(ANY)
    assert lab.addresses() == {(ONE, PORT)}
    client.acknowledge(1, 2, 3)
    client.send(b"\0\4\0\4")
    lab.until(lambda: not lab.service._dropped)
    lab.move(ANY, OLD)
    assert lab.addresses() == {(ANY, PORT)}
    assert lab.client(OTHER).request()[4:] == OLD[:512]
    assert lab.download_by_http(OTHER) == OLD


HOLDER = f"""
import socket
holder = socket.socket(socket.AF_INET, socket.{{kind}})
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as dnsmasq does
holder.bind(("{OTHER}", {PORT}))
if holder.type == socket.SOCK_STREAM:
    holder.listen()
print("bound", flush=True)
input()
"""


@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
def test_reload_fails_if_another_program_holds_the_port(lab: Lab, kind: str) -> None:
    lab.start(ONE)
    command = ["ip", "netns", "exec", lab.hosts[0].name, sys.executable, "-c", HOLDER.format(kind=kind)]
    holder = lab.programs.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"bound\n"
    client = lab.client()
    received = [client.request()[4:]]
    protocol = "tftp" if kind == "SOCK_DGRAM" else "http"
    with pytest.raises(StateError, match=rf"{protocol} on {ANY}:{PORT} can't be opened: .*in use"):
        lab.move(ANY)
    assert lab.addresses() == {(ONE, PORT)}
    received += client.acknowledge(1, 2, 3)
    assert b"".join(received) == OLD
    assert lab.client().request()[4:] == OLD[:512]
    assert lab.download_by_http() == OLD
    holder.communicate()  # its input ends, and so does it
    lab.move(ANY)
    assert lab.client(OTHER).request()[4:] == NEW


def test_dropped_tftp_port_can_be_used_by_dhcp(lab: Lab) -> None:
    lab.start(ANY)
    lab.client().request()
    dhcp = DHCPSettings(mode="proxy", server_port=PORT, boot_server_port=PORT + 1)
    settings = evolve(lab.service.settings, dhcp=dhcp, tftp=TFTPSettings(listen=()))
    with lab.hosts[0].inside():
        lab.service.reload(settings, [], [StaticResolver("file")], PATIENT)
    assert {row.service for row in lab.service.summary()} == {"dhcp", "boot-server", "http"}


def bind(sock: socket.socket, address: str) -> None:
    sock.bind((address, PORT))
    if sock.type == socket.SOCK_STREAM:
        sock.listen()


def test_port_is_not_shared_with_other_programs_after_the_move(lab: Lab) -> None:
    lab.start(ANY)
    lab.client().request()
    lab.move(ONE)
    assert lab.service._dropped
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for address in (ANY, ONE):
            with lab.hosts[0].inside(), socket.socket(socket.AF_INET, kind) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    bind(other, address)


def test_reload_adds_and_removes_interfaces(lab: Lab) -> None:
    lab.start(ANY)
    client = lab.client()
    received = [client.request()[4:]]
    for interfaces, content in ((("s0",), NEW), ((), OLD[::-1])):
        settings = evolve(lab.service.settings, interfaces=interfaces)
        with lab.hosts[0].inside():
            lab.service.reload(settings, [Files({"file": content})], [], PATIENT)
        assert lab.client().request()[4:] == content[:512]
        if interfaces:
            received += client.acknowledge(1, 2, 3)
            client.send(b"\0\4\0\4")
            lab.until(lambda: len(lab.service._dropped) == 0 or lab.service._retired)
            for number in range(4):
                late = lab.client()
                assert late.request()[4:] == NEW, number
                late.send(b"\0\4\0\1")
            lab.until(lambda: not lab.service._dropped)
    assert b"".join(received) == OLD
