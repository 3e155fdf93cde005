"""A reload that moves a port to an address that overlaps the old one: on a real kernel, where both sockets are open."""

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

Hosts = tuple[Host, Host]


@define(eq=False)
class Client:
    """A TFTP client that sends what the test says."""

    sock: socket.socket
    until: TurnUntil
    server: str = ONE

    def sends(self, data: bytes) -> None:
        self.sock.sendto(data, (self.server, PORT))

    def gets(self) -> bytes:
        received: list[bytes] = []

        def arrived() -> bool:
            with suppress(BlockingIOError):
                received.append(self.sock.recv(2000))
            return bool(received)

        self.until(arrived)
        return received[0]

    def asks(self, name: bytes = b"file") -> bytes:
        self.sends(b"\0\1" + name + b"\0octet\0")
        return self.gets()

    def acknowledges(self, *blocks: int) -> list[bytes]:
        """The data that follows."""
        found = []
        for number in blocks:
            self.sends(bytes((0, 4, 0, number)))
            found.append(self.gets()[4:])
        return found


@define(eq=False)
class Moved:
    """A service of the file OLD at one address, and of NEW from the reload on at another."""

    hosts: Hosts
    reactor: EPollReactor
    until: TurnUntil
    service: Any = None
    opened: list[socket.socket] = field(factory=list)
    programs: ExitStack = field(factory=ExitStack)

    def settings(self, host: str, ports: str = "single") -> Settings:
        tftp = TFTPSettings(listen=[(host, PORT)], ports=ports)
        return Settings(tftp=tftp, http=HTTPSettings(listen=[(host, PORT)]), dhcp=DHCPSettings(mode="off"))

    def start(self, host: str, ports: str = "single") -> None:
        with self.hosts[0].inside():
            self.service = BootService(
                self.reactor, settings=self.settings(host, ports), backends=[Files({"file": OLD})]
            )
            self.service.startService()

    def move(self, host: str, content: bytes = NEW) -> None:
        settings = evolve(self.service.settings, tftp=self.settings(host).tftp, http=self.settings(host).http)
        with self.hosts[0].inside():
            self.service.reload(settings, [Files({"file": content})], [], Fixed())

    def client(self, server: str = ONE, kind: int = socket.SOCK_DGRAM) -> Client:
        with self.hosts[1].inside():
            made = socket.socket(socket.AF_INET, kind)
        made.setblocking(False)
        self.opened.append(made)
        return Client(made, self.until, server)

    def gets_by_http(self, server: str = ONE) -> bytes:
        client = self.client(server, socket.SOCK_STREAM)
        client.sock.connect_ex((server, PORT))
        page = bytearray()

        def sent() -> bool:
            with suppress(OSError):
                client.sock.send(b"GET /file HTTP/1.0\r\n\r\n")
                return True
            return False

        def ended() -> bool:
            with suppress(BlockingIOError):
                data = client.sock.recv(4000)
                page.extend(data)
                return not data
            return False

        self.until(sent)
        self.until(ended)
        return bytes(page).partition(b"\r\n\r\n")[2]

    def addresses(self) -> set[tuple[str, int]]:
        return {row.address for row in self.service.summary()}


@pytest.fixture
def moved(hosts: Hosts, private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[Moved]:
    hosts[0].ip("addr", "replace", f"{OTHER}/24", "dev", "s0")

    def until(condition: Callable[[], object], seconds: float = 30) -> None:
        with hosts[0].inside():
            turn_until(condition, seconds)

    made = Moved(hosts, private_reactor, until)
    yield made
    if made.service is not None:
        stopped = made.service.stopService()
        until(lambda: stopped.called)
    made.programs.close()
    for sock in made.opened:
        sock.close()


BOTH = pytest.mark.parametrize(("before", "after"), [NARROWER, WIDER], ids=["narrower", "wider"])


@BOTH
def test_transfer_continues_and_new_requests_get_the_new_file(moved: Moved, before: str, after: str) -> None:
    moved.start(before)
    client = moved.client()
    received = [client.asks()[4:]]
    moved.move(after)
    assert moved.addresses() == {(after, PORT)}
    late = moved.client()
    assert late.asks()[4:] == NEW
    late.sends(b"\0\4\0\1")
    assert moved.gets_by_http() == NEW
    received += client.acknowledges(1, 2, 3)
    assert b"".join(received) == OLD
    client.sends(b"\0\4\0\4")
    moved.until(lambda: not moved.service._dropped)
    assert moved.client().asks()[4:] == NEW, "the old socket is closed"
    assert moved.gets_by_http() == NEW


@BOTH
def test_new_transfer_continues_while_the_old_socket_is_open(moved: Moved, before: str, after: str) -> None:
    moved.start(before)
    held = moved.client()
    held.asks()
    moved.move(after, OLD[::-1])
    client = moved.client()
    assert b"".join([client.asks()[4:], *client.acknowledges(1, 2, 3)]) == OLD[::-1]
    assert moved.service._dropped, "one client has acknowledged nothing"


@BOTH
def test_repeated_request_gets_the_file_of_its_transfer(moved: Moved, before: str, after: str) -> None:
    moved.start(before)
    client = moved.client()
    first = client.asks()
    moved.move(after)
    assert client.asks() == first
    assert client.acknowledges(1) == [OLD[512:1024]]


@BOTH
def test_a_client_that_starts_again_gets_the_new_file(moved: Moved, before: str, after: str) -> None:
    moved.start(before)
    client = moved.client()
    client.asks()
    client.acknowledges(1)
    moved.move(after)
    assert client.asks(b"./file")[4:] == NEW
    client.sends(b"\0\4\0\1")
    moved.until(lambda: not moved.service._dropped)
    assert client.asks()[4:] == NEW


def test_an_address_that_is_not_wanted_any_more_takes_no_requests(moved: Moved) -> None:
    moved.start(ANY)
    running = moved.client(OTHER)
    received = [running.asks()[4:]]
    moved.move(ONE)
    refused = moved.client(OTHER)
    refused.sends(b"\0\1file\0octet\0")
    assert moved.client().asks()[4:] == NEW
    with pytest.raises(BlockingIOError):
        refused.sock.recv(100)
    received += running.acknowledges(1, 2, 3)
    assert b"".join(received) == OLD, "a transfer there goes on"


def test_a_port_moves_back_when_the_transfers_have_ended(moved: Moved) -> None:
    moved.start(ANY)
    client = moved.client()
    client.asks()
    moved.move(ONE)
    with pytest.raises(StateError, match=f"http on {ANY}:{PORT} can't be opened while|tftp on {ANY}:{PORT} can't be"):
        moved.move(ANY)
    assert moved.addresses() == {(ONE, PORT)}
    client.acknowledges(1, 2, 3)
    client.sends(b"\0\4\0\4")
    moved.until(lambda: not moved.service._dropped)
    moved.move(ANY, OLD)
    assert moved.addresses() == {(ANY, PORT)}
    assert moved.client(OTHER).asks()[4:] == OLD[:512]
    assert moved.gets_by_http(OTHER) == OLD


HOLDER = f"""
import socket
holder = socket.socket(socket.AF_INET, socket.{{kind}})
holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as dnsmasq has it
holder.bind(("{OTHER}", {PORT}))
if holder.type == socket.SOCK_STREAM:
    holder.listen()
print("holds it", flush=True)
input()
"""


@pytest.mark.parametrize("kind", ["SOCK_DGRAM", "SOCK_STREAM"])
def test_reload_fails_if_another_program_holds_the_port(moved: Moved, kind: str) -> None:
    moved.start(ONE)
    command = ["ip", "netns", "exec", moved.hosts[0].name, sys.executable, "-c", HOLDER.format(kind=kind)]
    holder = moved.programs.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"holds it\n"
    client = moved.client()
    received = [client.asks()[4:]]
    protocol = "tftp" if kind == "SOCK_DGRAM" else "http"
    with pytest.raises(StateError, match=rf"{protocol} on {ANY}:{PORT} can't be opened: .*in use"):
        moved.move(ANY)
    assert moved.addresses() == {(ONE, PORT)}
    received += client.acknowledges(1, 2, 3)
    assert b"".join(received) == OLD
    assert moved.client().asks()[4:] == OLD[:512]
    assert moved.gets_by_http() == OLD
    holder.communicate()  # it ends
    moved.move(ANY)
    assert moved.client(OTHER).asks()[4:] == NEW


def test_dropped_tftp_port_can_be_used_by_dhcp(moved: Moved) -> None:
    moved.start(ANY)
    moved.client().asks()
    dhcp = DHCPSettings(mode="proxy", server_port=PORT, boot_server_port=PORT + 1)
    settings = evolve(moved.service.settings, dhcp=dhcp, tftp=TFTPSettings(listen=()))
    with moved.hosts[0].inside():
        moved.service.reload(settings, [], [StaticResolver("file")], Fixed())
    assert {row.service for row in moved.service.summary()} == {"dhcp", "boot-server", "http"}


def take(sock: socket.socket, address: str) -> None:
    sock.bind((address, PORT))
    if sock.type == socket.SOCK_STREAM:
        sock.listen()


def test_port_is_not_shared_with_other_programs_after_the_move(moved: Moved) -> None:
    moved.start(ANY)
    moved.client().asks()
    moved.move(ONE)
    assert moved.service._dropped
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for address in (ANY, ONE):
            with moved.hosts[0].inside(), socket.socket(socket.AF_INET, kind) as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                with pytest.raises(OSError, match="in use"):
                    take(other, address)


def test_reload_adds_and_removes_interfaces(moved: Moved) -> None:
    moved.start(ANY)
    client = moved.client()
    received = [client.asks()[4:]]
    for interfaces, content in ((("s0",), NEW), ((), OLD[::-1])):
        settings = evolve(moved.service.settings, interfaces=interfaces)
        with moved.hosts[0].inside():
            moved.service.reload(settings, [Files({"file": content})], [], Fixed())
        assert moved.client().asks()[4:] == content[:512]
        if interfaces:
            received += client.acknowledges(1, 2, 3)
            client.sends(b"\0\4\0\4")
            moved.until(lambda: len(moved.service._dropped) == 0 or moved.service._retired)
            for number in range(4):
                late = moved.client()
                assert late.asks()[4:] == NEW, number
                late.sends(b"\0\4\0\1")
            moved.until(lambda: not moved.service._dropped)
    assert b"".join(received) == OLD
