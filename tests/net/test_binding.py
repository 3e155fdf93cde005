"""Wanted sockets: bound exactly while their interfaces and addresses exist and no other program has the port."""

import errno
import itertools
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPSConnection
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observers import EventList
from turning import Alongside, TurnUntil
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorFDSet
from twisted.internet.task import Clock
from zope.interface import directlyProvides, implementer

from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings, WebSettings
from bootfw.dhcp.subnet import Subnet
from bootfw.errors import ConfigError
from bootfw.events import Event, ListenerBound, ListenerFailed, ReadinessChanged, SocketChanged
from bootfw.interfaces import IPerClientBackend
from bootfw.net.binding import Bindings, WantedSocket
from bootfw.net.bindingstates import State
from bootfw.net.linux.interfaces import index_of
from bootfw.net.linux.netlink import Changes
from bootfw.net.listening import OwnSockets, PortSpec
from bootfw.net.workers.sharedport import open_shared
from bootfw.readers import MemoryReader
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.values import TransferRequest
from bootfw.web.site import add_web

from .namespaces import Host

PORT = 4069


class Kernel:
    """What exists and who has the port, as far as one wanted socket sees it."""

    def __init__(self) -> None:
        self.present = self.held = False
        self.port: Any = None

    def missing(self) -> str:
        return "" if self.present else "this host has no such address"

    def open(self) -> Any:
        if self.held:
            raise CannotListenError("10.0.0.1", 69, OSError(errno.EADDRINUSE, "in use by dnsmasq (pid 7)"))
        return FakePort()


class FakePort:  # IListeningPort
    def __init__(self, host: str = "10.0.0.1") -> None:
        self._host = host

    def getHost(self) -> Any:
        return type("Host", (), {"host": self._host, "port": 69})


STEPS = st.lists(st.sampled_from(["appear", "vanish", "hold", "release", "second", "report"]), max_size=40)


@given(STEPS)
def test_socket_is_bound_exactly_if_present_and_not_held(steps: list[str]) -> None:
    kernel, events = Kernel(), list[Event]()
    clock, bindings = following(events)
    kernel.held = True  # so that its port is opened late, and every retry can fail
    wanted = WantedSocket("web", ("10.0.0.1", 69), "", False, kernel.open, True, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    bindings.start()
    opened = False
    for step in steps:
        if step in ("appear", "vanish"):
            kernel.present = step == "appear"
            bindings.look()  # as the kernel reports it
        elif step in ("hold", "release"):
            kernel.held = step == "hold"
        elif step == "second":
            clock.advance(1.0)
        else:
            bindings.look()
        opened = opened or (wanted.port is not None)
        state = bindings.statuses()[0].state
        assert (state == "waiting") is (not kernel.present)
        if state == "held":
            assert wanted.port is None
            assert wanted.deadline is not None
        assert bindings.ready is (state == "bound")
    kernel.present, kernel.held = True, False
    bindings.look()
    clock.advance(1.0)
    assert bindings.ready
    told = [event.ready for event in events if isinstance(event, ReadinessChanged)]
    assert all(before is not after for before, after in itertools.pairwise(told)), "each change is told once"
    assert told[-1]
    bindings.close()
    assert clock.getDelayedCalls() == []
    assert not bindings.ready


def test_a_held_port_is_reported_once() -> None:
    kernel, clock, events = Kernel(), Clock(), list[Event]()
    kernel.present = kernel.held = True
    bindings = Bindings(clock, events.append, follow=False)
    bindings.add(
        WantedSocket("web", ("10.0.0.1", 69), "", True, kernel.open, True, kernel.missing, lambda wanted: None)
    )
    bindings.start()
    clock.pump([1.0] * 10)
    (failed,) = (event for event in events if isinstance(event, ListenerFailed))
    assert failed.reason == "[Errno 98] in use by dnsmasq (pid 7)"
    assert bindings.ready, "it is optional"
    kernel.held = False
    clock.advance(1.0)
    assert bindings.statuses()[0].state == "bound"


def following(events: list[Event] | None = None) -> tuple[Clock, Bindings]:
    """Wanted sockets that a kernel reports on, and their clock."""
    clock, noted = Clock(), events if events is not None else []
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, noted.append, follow=True)
    bindings._changes = object.__new__(Changes)
    bindings._changes._socket = None
    return clock, bindings


def wanted_socket(
    kernel: Kernel, host: str = "10.0.0.1", *, may_be_held: bool = True, service: str = "web"
) -> WantedSocket:
    return WantedSocket(
        *(service, (host, 69), "", False, kernel.open, may_be_held), kernel.missing, lambda wanted: None
    )


def test_a_port_that_is_taken_ends_the_start_although_its_address_is_absent() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.held = True
    _, bindings = following(events)
    with pytest.raises(CannotListenError) as caught:
        bindings.add(wanted_socket(kernel, may_be_held=False))
    assert str(caught.value.socketError) == "[Errno 98] in use by dnsmasq (pid 7)"
    (failed,) = events
    assert isinstance(failed, ListenerFailed)


def test_an_address_that_cannot_be_waited_for_ends_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "netlink")

    monkeypatch.setattr("bootfw.net.binding.Changes", forbidden)
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=True)
    with pytest.raises(CannotListenError, match="no such address; without netlink bootfw can't wait for it"):
        bindings.add(wanted_socket(Kernel()))


def test_a_socket_that_the_kernel_refuses_fails_and_is_retried() -> None:
    def refuse() -> Any:
        raise CannotListenError("10.0.0.1", 69, OSError(errno.ENOMEM, "Cannot allocate memory"))

    kernel = Kernel()
    kernel.present = True
    clock, bindings = following()
    wanted = wanted_socket(kernel)
    wanted.open = refuse
    clock.advance(5.0)
    bindings.add(wanted)
    (status,) = bindings.statuses()
    assert (status.state, status.reason, status.since) == ("failed", "[Errno 12] Cannot allocate memory", 5.0)
    wanted.open = kernel.open
    clock.advance(1.0)
    (status,) = bindings.statuses()
    assert (status.state, status.since) == ("bound", 6.0)


def test_closing_cancels_the_retry() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    clock, bindings = following()
    bindings.add(wanted_socket(kernel))
    assert len(clock.getDelayedCalls()) == 1
    bindings.close()
    assert clock.getDelayedCalls() == []


def test_dropped_socket_is_removed_and_its_port_stays_open() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    clock, bindings = following(events)
    stays, dropped = wanted_socket(kernel), wanted_socket(kernel, "10.0.0.2")
    bindings.add(stays)
    bindings.add(dropped)
    bindings.drop(dropped)
    assert list(bindings) == [stays]
    assert (dropped.state, dropped.port is None) == (State.CLOSED, False)
    kernel.present = False
    bindings.look()
    assert (stays.state, dropped.state) == (State.WAITING, State.CLOSED)
    assert clock.getDelayedCalls() == []


def test_dropping_an_unbound_socket_ends_its_retries_and_makes_the_service_ready() -> None:
    held, events = Kernel(), list[Event]()
    held.present = held.held = True
    clock, bindings = following(events)
    dropped = wanted_socket(held)
    bindings.add(dropped)
    bindings.start()
    bindings.drop(dropped)
    assert clock.getDelayedCalls() == []
    assert [event.ready for event in events if isinstance(event, ReadinessChanged)] == [False, True]


def test_socket_is_identified_by_service_address_and_interface() -> None:
    wanted = wanted_socket(Kernel())
    assert wanted.key == ("web", ("10.0.0.1", 69), "")


def test_link_local_address_has_its_zone_in_status_and_events() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    kernel.open = lambda: FakePort("fe80::1")  # type: ignore[method-assign]
    bindings = Bindings(Clock(), events.append, follow=False)
    wanted = wanted_socket(kernel, "fe80::1%s9")
    bindings.add(wanted)
    assert bindings.statuses()[0].address == wanted.where == ("fe80::1%s9", 69)
    assert [event.address for event in events if isinstance(event, ListenerBound)] == [("fe80::1%s9", 69)]


def test_tcp_of_an_absent_interface_is_opened_later() -> None:
    _, bindings = following()
    wanted = wanted_socket(Kernel(), "fe80::1%s9", service="http")
    bindings.add(wanted)
    assert wanted.port is None


def test_optional_names_are_those_of_the_configuration() -> None:
    Settings(interfaces=("s9",), tftp=TFTPSettings(listen=["10.0.0.1:69"]), optional=("s9", "10.0.0.1"))
    with pytest.raises(ConfigError, match=r'"s8" is not in the configuration; .* are: .*s9'):
        Settings(interfaces=("s9",), optional=("s8",))


# What each of them is, and when


def test_a_port_that_is_closed_keeps_its_address_in_the_status() -> None:
    kernel = Kernel()
    kernel.present = True
    _, bindings = following()
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    assert wanted.where == ("10.0.0.1", 69)

    def closed() -> Any:
        raise AttributeError("socket")

    wanted.port.getHost = closed
    assert wanted.where == ("10.0.0.1", 69)


def test_unbound_socket_shows_the_configured_address() -> None:
    _, bindings = following()
    wanted = wanted_socket(Kernel(), "10.0.0.7%s9", service="http")
    bindings.add(wanted)
    assert wanted.where == ("10.0.0.7%s9", 69)


def test_port_number_is_shown_when_it_is_known() -> None:
    _, bindings = following()
    kernel, host = Kernel(), {"host": "10.0.0.1", "port": 0}
    kernel.open = lambda: Opened(host)  # type: ignore[method-assign]
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    assert wanted.where == ("10.0.0.1", 0)
    host["port"] = 4069
    assert wanted.where == ("10.0.0.1", 4069)
    host["port"] = 0
    assert wanted.where == ("10.0.0.1", 4069), "it is kept"


class Opened:
    """An IListeningPort with one socket, which is bound to port 69."""

    def __init__(self, host: dict[str, Any] | None = None) -> None:
        self._host = host or {"host": "10.0.0.1", "port": 69}

    def getHost(self) -> Any:
        return type("Host", (), self._host)

    def getHandle(self) -> Any:
        return self

    def getsockname(self) -> tuple[str, int]:
        return "10.0.0.1", 69


def test_sockets_of_the_main_process_count_as_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.net.binding.Changes", lambda *arguments: pytest.fail("no subscription is needed"))
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=False)
    kernel = Kernel()
    wanted = WantedSocket(
        "tftp", ("10.0.0.1", 69), "lo", False, kernel.open, False, kernel.missing, lambda wanted: None
    )
    bindings.add(wanted)
    bindings.start()
    assert bindings.ready
    assert wanted.index == index_of("lo")


@pytest.fixture
def subscriptions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done with subscriptions to the kernel's changes."""
    done: list[str] = []

    class Subscription:
        def __init__(self, *arguments: Any) -> None:
            done.append("opened")

        def close(self) -> None:
            done.append("closed")

    monkeypatch.setattr("bootfw.net.binding.Changes", Subscription)
    return done


def subscribing() -> Bindings:
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    return Bindings(clock, lambda event: None, follow=True)


def test_one_netlink_subscription_serves_all_sockets(subscriptions: list[str]) -> None:
    bindings = subscribing()
    bindings.add(wanted_socket(Kernel(), "0.0.0.0"))
    assert subscriptions == []
    for _ in range(2):
        bindings.add(wanted_socket(Kernel()))
        bindings.add(wanted_socket(Kernel(), "10.0.0.2"))
        assert subscriptions == ["opened"]
        bindings.close()
        assert subscriptions == ["opened", "closed"]
        subscriptions.clear()


def test_stop_closes_every_socket() -> None:
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    _, bindings = following(events)
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    bindings.start()
    assert bindings.close() == [wanted]
    assert wanted.state is State.CLOSED
    assert list(bindings) == []
    assert bindings.statuses() == ()
    bindings.start()
    assert [event.ready for event in events if isinstance(event, ReadinessChanged)] == [True, True]


def test_without_netlink_an_optional_socket_is_still_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*arguments: Any) -> None:
        raise PermissionError(errno.EPERM, "netlink")

    monkeypatch.setattr("bootfw.net.binding.Changes", forbidden)
    bindings = subscribing()
    wanted = wanted_socket(Kernel())
    wanted.optional = True
    bindings.add(wanted)
    assert wanted.state is State.WAITING


def test_tcp_of_an_absent_interface_is_opened_at_once_for_worker_processes() -> None:
    """They get every socket once."""
    clock = Clock()
    directlyProvides(clock, IReactorFDSet)
    bindings = Bindings(clock, lambda event: None, follow=True, opens_later=False)
    bindings._changes = object.__new__(Changes)
    kernel = Kernel()
    kernel.open = Opened  # type: ignore[method-assign]
    wanted = wanted_socket(kernel, "fe80::1%s9", service="http")
    bindings.add(wanted)
    assert wanted.port is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_wildcard_socket_waits_for_no_address(host: str) -> None:
    kernel = Kernel()
    _, bindings = following()
    wanted = wanted_socket(kernel, host)
    bindings.add(wanted)
    assert wanted.state is State.BOUND
    bindings.look()
    assert wanted.state is State.BOUND


def test_held_socket_is_not_retried_on_network_changes() -> None:
    """Other interfaces change often, and the retry is near."""
    kernel = Kernel()
    kernel.present = kernel.held = True
    kernel.open, opens = opening(kernel)  # type: ignore[method-assign]
    clock, bindings = following()
    wanted = WantedSocket("web", ("10.0.0.1", 69), "lo", False, kernel.open, True, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    for _ in range(3):
        bindings.look()
    assert (wanted.state, len(opens)) == (State.HELD, 1)
    kernel.held = False
    clock.advance(1.0)
    assert (wanted.state, len(opens)) == (State.BOUND, 2)


def opening(kernel: Kernel) -> tuple[Callable[[], Any], list[str]]:
    """A function that opens a port as the kernel lets it, and its calls."""
    opens: list[str] = []

    def open_it() -> Any:
        opens.append("open")
        if kernel.held:
            raise CannotListenError("10.0.0.1", 69, OSError(errno.EADDRINUSE, "in use by dnsmasq (pid 7)"))
        return Opened()

    return open_it, opens


def test_held_socket_without_an_address_is_not_retried() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    clock, bindings = following()
    wanted = wanted_socket(kernel)
    bindings.add(wanted)
    kernel.present = False
    bindings.look()
    assert wanted.state is State.WAITING
    assert clock.getDelayedCalls() == []


def test_an_interface_without_a_socket_is_waited_for() -> None:
    kernel, events = Kernel(), list[Event]()
    _, bindings = following(events)
    wanted = WantedSocket("interface", ("0.0.0.0", 0), "lo", False, None, False, kernel.missing, lambda wanted: None)
    bindings.add(wanted)
    bindings.start()
    assert not bindings.ready
    kernel.present = True
    bindings.look()
    assert bindings.ready
    assert [event.socket.state for event in events if isinstance(event, SocketChanged)] == ["waiting", "bound"]
    assert not [event for event in events if isinstance(event, ListenerBound | ListenerFailed)]


def test_an_interface_that_is_gone_again_while_its_socket_is_bound_is_waited_for() -> None:
    kernel = Kernel()
    kernel.open = Opened  # type: ignore[method-assign]
    _, bindings = following()
    wanted = WantedSocket(
        *("tftp", ("10.0.0.1", 69), "nosuch0", False, kernel.open, True), kernel.missing, lambda wanted: None
    )
    bindings.add(wanted)
    kernel.present = True
    bindings.look()
    assert (wanted.state, wanted.states.reason) == (State.WAITING, "no interface nosuch0")


def test_failed_start_has_the_error_number_once() -> None:
    kernel = Kernel()
    kernel.present = kernel.held = True
    _, bindings = following()
    with pytest.raises(CannotListenError) as caught:
        bindings.add(wanted_socket(kernel, may_be_held=False))
    error = caught.value.socketError
    assert isinstance(error, OSError)
    assert (error.errno, str(error)) == (errno.EADDRINUSE, "[Errno 98] in use by dnsmasq (pid 7)")


def test_socket_state_changes_are_published() -> None:
    """Bound at the start: that it is bound. Later, each change of its state; the device in a note."""
    kernel, events = Kernel(), list[Event]()
    kernel.present = True
    kernel.open = Opened  # type: ignore[method-assign]
    clock, bindings = following(events)
    changed: list[State] = []
    wanted = WantedSocket(
        *("tftp", ("10.0.0.1", 69), "lo", False, kernel.open, True),
        kernel.missing,
        lambda wanted: changed.append(wanted.state),
    )
    bindings.add(wanted)
    (bound,) = events
    assert isinstance(bound, ListenerBound)
    assert bound.note == "on lo"
    bindings.start()
    kernel.present = False
    clock.advance(3.0)
    bindings.look()
    bindings.look()
    assert [type(event) for event in events[1:]] == [ReadinessChanged, SocketChanged, ReadinessChanged]
    (gone,) = (event for event in events if isinstance(event, SocketChanged))
    assert (gone.was, gone.socket.state, gone.socket.since) == ("bound", "waiting", 3.0)
    assert changed == [State.BOUND, State.WAITING]


def test_tcp_on_an_address_is_opened_before_the_address_exists() -> None:
    """So that no other program can take its port meanwhile."""
    for service in ("http", "https", "web", "tftp"):
        _, bindings = following()
        wanted = wanted_socket(Kernel(), service=service)
        bindings.add(wanted)
        assert wanted.port is not None, service
    _, bindings = following()
    kernel = Kernel()
    kernel.open = Opened  # type: ignore[method-assign]
    wanted = wanted_socket(kernel, "fe80::1%s9", service="tftp")
    bindings.add(wanted)
    assert wanted.port is not None, "a UDP socket needs no port to be open"


# On a real kernel


class Watched:
    """A service on the server of two hosts; the reactor turns there."""

    def __init__(self, host: Host, reactor: EPollReactor, turn_until: TurnUntil) -> None:
        self.host, self.reactor, self._turn_until = host, reactor, turn_until
        self.observer = EventList()
        self.service: Any = None

    def start(self, settings: Settings, backend: Any = None) -> BootService:
        with self.host.inside():
            backend = backend or MemoryBackend({"file": b"content"})
            self.service = BootService(self.reactor, settings=settings, backend=backend, observers=[self.observer])
            self.service.startService()
        return self.service  # type: ignore[no-any-return]

    def until(self, condition: Callable[[], object]) -> float:
        """Seconds until it holds."""
        begun = monotonic()
        with self.host.inside():
            self._turn_until(condition)
        return monotonic() - begun

    def states(self) -> list[str]:
        return [status.state for status in self.service.sockets()]


@pytest.fixture
def watched(hosts: tuple[Host, Host], private_reactor: EPollReactor, turn_until: TurnUntil) -> Iterator[Watched]:
    made = Watched(hosts[0], private_reactor, turn_until)
    yield made
    with suppress(Exception):
        hosts[0].ip("link", "delete", "s9")
    if made.service is not None:
        stopped = made.service.stopService()
        made.until(lambda: stopped.called)
    assert not [each for each in private_reactor.getReaders() if isinstance(each, Changes)]


def wire(hosts: tuple[Host, Host], *, address: bool = True) -> None:
    server, client = hosts
    server.ip("link", "add", "s9", "type", "veth", "peer", "name", "c9", "netns", client.name)
    server.ip("link", "set", "s9", "up")
    client.ip("link", "set", "c9", "up")
    client.ip("addr", "add", "10.9.9.2/24", "dev", "c9")
    if address:
        server.ip("addr", "add", "10.9.9.1/24", "dev", "s9")


def fetched(hosts: tuple[Host, Host], watched: Watched, where: tuple[str, int] = ("10.9.9.1", PORT)) -> bytes:
    """The first block of the file, as a TFTP client gets it."""
    with hosts[1].inside():
        client = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.setblocking(False)
        received: list[bytes] = []

        def answered() -> bool:
            with suppress(BlockingIOError):
                received.append(client.recv(600))
            return bool(received)

        client.sendto(b"\0\1file\0octet\0", where)
        watched.until(answered)
        with suppress(OSError):
            client.sendto(b"\0\4\0\1", where)
    return received[0]


QUIET = partial(Settings, dhcp=DHCPSettings(mode="off"))


@pytest.mark.parametrize("by", ["address", "interface"])
def test_a_late_address_is_served_and_makes_the_service_ready(
    hosts: tuple[Host, Host], watched: Watched, by: str
) -> None:
    if by == "address":
        tftp, http = TFTPSettings(listen=[f"10.9.9.1:{PORT}"]), HTTPSettings(listen=["10.9.9.1:8069"])
        service = watched.start(QUIET(tftp=tftp, http=http))
    else:
        service = watched.start(QUIET(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    assert not service.ready
    assert service.summary() == []
    assert set(watched.states()) == {"waiting"}
    wire(hosts)
    assert watched.until(lambda: service.ready) < 1
    assert set(watched.states()) == {"bound"}
    assert fetched(hosts, watched) == b"\0\3\0\1content"
    watched.until(lambda: len(watched.observer.of(ReadinessChanged)) > 1)
    assert [event.ready for event in watched.observer.of(ReadinessChanged)] == [False, True]
    if by == "address":
        with hosts[1].inside():
            client = socket.socket()
        with client:
            client.setblocking(False)
            client.connect_ex(("10.9.9.1", 8069))
            page = bytearray()

            def received() -> bool:
                with suppress(BlockingIOError):
                    page.extend(client.recv(1000))
                return page.endswith(b"content")

            def sent() -> bool:
                with suppress(OSError):
                    client.send(b"GET /file HTTP/1.0\r\n\r\n")
                    return True
                return False

            watched.until(sent)
            watched.until(received)


@pytest.mark.parametrize("late", [False, True], ids=["at the start", "later"])
def test_an_ipv6_address_is_bound_when_its_duplicate_detection_is_done(
    hosts: tuple[Host, Host], watched: Watched, late: bool
) -> None:
    def add() -> None:  # one probe of a second (RFC 4862 section 5.4), during which the address is tentative
        hosts[0].ip("addr", "add", "fd00:9:9::1/64", "dev", "s9")

    wire(hosts)
    hosts[1].ip("addr", "add", "fd00:9:9::2/64", "dev", "c9", "nodad")
    if not late:
        add()
    service = watched.start(QUIET(tftp=TFTPSettings(listen=[f"[fd00:9:9::1]:{PORT}"])))
    assert not service.ready
    if late:
        add()
    watched.until(lambda: service.sockets()[0].reason == "this address is still tentative")
    assert watched.states() == ["waiting"]
    watched.until(lambda: service.ready)
    assert fetched(hosts, watched, ("fd00:9:9::1", PORT)) == b"\0\3\0\1content"


def test_an_ipv6_address_of_another_host_is_waited_for(hosts: tuple[Host, Host], watched: Watched) -> None:
    wire(hosts)
    hosts[1].ip("addr", "add", "fd00:9:9::1/64", "dev", "c9", "nodad")
    service = watched.start(QUIET(tftp=TFTPSettings(listen=[f"[fd00:9:9::1]:{PORT}"])))
    hosts[0].ip("addr", "add", "fd00:9:9::1/64", "dev", "s9")
    watched.until(lambda: service.sockets()[0].reason == "another host has this address")
    assert not service.ready


def test_https_is_served_on_an_address_that_arrives_late(
    hosts: tuple[Host, Host], watched: Watched, alongside: Alongside, tmp_path: Path
) -> None:
    pytest.importorskip("OpenSSL", reason="pyOpenSSL is not installed: pip install bootfw[tls]")
    from certificates import Authority

    authority = Authority()
    certificate, key = authority.issue("10.9.9.1")
    (tmp_path / "served.pem").write_bytes(certificate + key)
    https = HTTPSettings(https_listen=["10.9.9.1:8443"], certificate=str(tmp_path / "served.pem"))
    service = watched.start(QUIET(tftp=TFTPSettings(listen=()), http=https))
    assert (service.ready, watched.states()) == (False, ["waiting"])
    wire(hosts)
    watched.until(lambda: service.ready)
    trust = ssl.create_default_context(cadata=authority.pem.decode())

    def fetch() -> bytes:
        with hosts[1].inside():
            connection = HTTPSConnection("10.9.9.1", 8443, timeout=10, context=trust)
            connection.request("GET", "/file")
        with closing(connection):
            return connection.getresponse().read()

    with watched.host.inside():
        assert alongside(fetch) == b"content"


def test_an_address_that_moves_away_is_waited_for(hosts: tuple[Host, Host], watched: Watched) -> None:
    wire(hosts)
    service = watched.start(QUIET(tftp=TFTPSettings(listen=[f"10.9.9.1:{PORT}"])))
    assert service.ready
    hosts[0].ip("addr", "del", "10.9.9.1/24", "dev", "s9")
    watched.until(lambda: not service.ready)
    (status,) = service.sockets()
    assert status.reason.startswith("this host has no such address; it has: ")
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    assert watched.until(lambda: service.ready) < 1
    assert fetched(hosts, watched) == b"\0\3\0\1content"


@implementer(IPerClientBackend)
class OwnURL:
    """Has one file, with our URL of HTTP as the client of the request reaches it."""

    def open(self, path: str, request: TransferRequest) -> MemoryReader:
        return MemoryReader(f"({request.http_url})".encode())


@pytest.mark.parametrize("first", [False, True], ids=["absent at the start", "present at the start"])
def test_a_url_is_offered_while_its_address_exists(hosts: tuple[Host, Host], watched: Watched, first: bool) -> None:
    def offered() -> bytes:
        return fetched(hosts, watched, ("10.9.0.1", PORT))[4:]

    wire(hosts, address=first)
    http = HTTPSettings(listen=["10.9.9.1:8069"])
    service = watched.start(QUIET(tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"]), http=http), OwnURL())
    for present in (first, not first, first):
        if service.ready is not present:
            hosts[0].ip("addr", "add" if present else "del", "10.9.9.1/24", "dev", "s9")
            watched.until(lambda: service.ready is present)  # noqa: B023
        assert offered() == (b"(http://10.9.9.1:8069)" if present else b"()")


def test_worker_processes_get_the_reachable_urls(hosts: tuple[Host, Host], watched: Watched) -> None:
    sent: list[tuple[Any, ...]] = []
    wire(hosts, address=False)
    with hosts[0].inside():
        settings = QUIET(tftp=TFTPSettings(listen=()), http=HTTPSettings(listen=["10.9.9.1:8069", "0.0.0.0:8070"]))
        service = watched.service = BootService(
            watched.reactor, settings=settings, broadcast=lambda *message: sent.append(message)
        )
        service.startService()
    waiting = ("url", "http", ("10.9.9.1", 8069), False)
    assert sent == [waiting, ("url", "http", ("0.0.0.0", 8070), True)]
    assert service._shared_state() == [("url", waiting[1:])], "what a new process has to know"
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    watched.until(lambda: service.ready)
    assert sent[2:] == [("url", "http", ("10.9.9.1", 8069), True)]
    assert service._shared_state() == []


def test_the_web_page_is_served_on_an_address_that_arrives_late(hosts: tuple[Host, Host], watched: Watched) -> None:
    wire(hosts, address=False)
    with hosts[0].inside():
        service = watched.service = BootService(
            watched.reactor, settings=QUIET(tftp=TFTPSettings(listen=())), observers=[watched.observer]
        )
        add_web(watched.reactor, service, WebSettings(listen=["10.9.9.1:8067"]))
        service.startService()
    assert watched.states() == ["waiting"]
    assert not service.ready
    hosts[0].ip("addr", "add", "10.9.9.1/24", "dev", "s9")
    assert watched.until(lambda: service.ready) < 1
    with hosts[1].inside():
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("10.9.9.1", 8067))
    with client:
        received: list[bytes] = []
        watched.until(lambda: client.connect_ex(("10.9.9.1", 8067)) == errno.EISCONN)
        client.send(b"GET /healthz HTTP/1.1\r\nHost: 10.9.9.1:8067\r\n\r\n")

        def answered() -> bool:
            with suppress(BlockingIOError):
                received.append(client.recv(1000))
            return bool(received)

        watched.until(answered)
    assert received[0].startswith(b"HTTP/1.1 200 ")
    hosts[0].ip("addr", "del", "10.9.9.1/24", "dev", "s9")
    watched.until(lambda: watched.states() == ["waiting"])


def test_an_interface_that_is_deleted_and_made_again_is_served(hosts: tuple[Host, Host], watched: Watched) -> None:
    wire(hosts)
    service = watched.start(QUIET(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    assert fetched(hosts, watched) == b"\0\3\0\1content"
    hosts[0].ip("link", "delete", "s9")
    watched.until(lambda: not service.ready)
    wire(hosts)
    assert watched.until(lambda: service.ready) < 1
    assert fetched(hosts, watched) == b"\0\3\0\1content"


@pytest.mark.parametrize("known", [False, True], ids=["at its first appearance", "when it is made again"])
def test_a_port_that_was_taken_meanwhile_is_retried(hosts: tuple[Host, Host], watched: Watched, known: bool) -> None:
    if known:
        wire(hosts)
    service = watched.start(QUIET(interfaces=["s9"], tftp=TFTPSettings(listen=[f"0.0.0.0:{PORT}"])))
    if known:
        hosts[0].ip("link", "delete", "s9")
        watched.until(lambda: not service.ready)
    with hosts[0].inside():
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if known:  # our socket keeps its port on the interface that is gone, so that it has to be on another one
            server, client = hosts
            server.ip("link", "add", "s9", "type", "veth", "peer", "name", "c9", "netns", client.name)
            holder.setsockopt(socket.SOL_SOCKET, 25, b"s9\0")
        holder.bind(("0.0.0.0", PORT))
    if not known:
        wire(hosts)
    watched.until(lambda: watched.states() == ["held"])
    (status,) = service.sockets()
    assert f"(pid {os.getpid()})" in status.reason
    holder.close()
    assert watched.until(lambda: service.ready) < 1.5
    assert len(watched.observer.of(ListenerFailed)) == 1


def test_a_network_of_dhcp_is_waited_for(hosts: tuple[Host, Host], watched: Watched, tmp_path: Any) -> None:
    subnet = Subnet(network="10.9.9.0/24", pool=["10.9.9.100-10.9.9.120"])
    dhcp = DHCPSettings(mode="server", subnets=[subnet], probe_seconds=0)
    with watched.host.inside():
        service = watched.service = BootService(
            watched.reactor,
            settings=Settings(dhcp=dhcp, tftp=TFTPSettings(listen=())),
            observers=[watched.observer],
            store=MemoryStore(),
        )
        service.startService()
    assert [(status.address[0], status.state) for status in service.sockets()] == [
        ("0.0.0.0", "bound"),
        ("10.9.9.0/24", "waiting"),
    ]
    wire(hosts)
    watched.until(lambda: service.ready)
    watched.until(lambda: len(watched.observer.of(SocketChanged)) > 1)
    assert [event.socket.state for event in watched.observer.of(SocketChanged)] == ["waiting", "bound"]


def test_the_sockets_of_several_processes_wait_together(hosts: tuple[Host, Host], watched: Watched) -> None:
    events: list[Event] = []
    bindings = Bindings(watched.reactor, events.append, follow=True, opens_later=False)
    opening = partial(open_shared, "tftp", "0.0.0.0", PORT, 3, "s9")
    with hosts[0].inside():
        bindings.add(
            WantedSocket(
                *("tftp", ("0.0.0.0", PORT), "s9", False, opening, False),
                lambda: "" if index_of("s9") else "no interface s9",
                lambda wanted: None,
            )
        )
        bindings.start()
    (wanted,) = bindings
    assert wanted.where == ("0.0.0.0", PORT)
    wire(hosts)
    watched.until(lambda: bindings.ready)
    assert all(sock.getsockname()[1] == PORT for sock in wanted.sockets())
    hosts[0].ip("link", "delete", "s9")
    wire(hosts)
    with hosts[0].inside():
        bindings.look()  # it sees both changes at once
    assert all(sock.getsockopt(socket.SOL_SOCKET, 25, 16).startswith(b"s9\0") for sock in wanted.sockets())
    assert all(shares_of(hosts, wanted)), "each socket gets some of the clients"
    bindings.close()
    wanted.port.stopListening()


def shares_of(hosts: tuple[Host, Host], wanted: WantedSocket) -> list[int]:
    """How many of 64 clients each socket gets."""
    with hosts[1].inside():
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(64)]
    for client in clients:
        client.sendto(b"request", ("10.9.9.1", PORT))
        client.close()
    shares = [0 for _ in wanted.sockets()]
    end = monotonic() + 30
    while sum(shares) < len(clients) and monotonic() < end:  # the datagrams wait for ARP
        sleep(0.01)
        shares = [share + received(sock) for share, sock in zip(shares, wanted.sockets(), strict=True)]
    return shares


def received(sock: socket.socket) -> int:
    count = 0
    with suppress(BlockingIOError):
        while sock.recv(100):
            count += 1
    return count


def test_the_clients_are_spread_over_the_processes_again(hosts: tuple[Host, Host], watched: Watched) -> None:
    """A bound socket that is bound to another interface leaves its SO_REUSEPORT group."""
    wire(hosts)
    bindings = Bindings(watched.reactor, lambda event: None, follow=True, opens_later=False)
    with hosts[0].inside():
        port = open_shared("tftp", "0.0.0.0", PORT, 2, "s9")
        bindings.add(
            WantedSocket(
                *("tftp", ("0.0.0.0", PORT), "s9", False, lambda: port, False),
                lambda: "" if index_of("s9") else "no interface s9",
                lambda wanted: None,
            )
        )
        bindings.start()
    (wanted,) = bindings
    descriptors = [sock.fileno() for sock in port.sockets]
    sent_on: list[str] = []
    port.on_reopened = lambda: sent_on.append("reopened")
    for times in (1, 2):
        hosts[0].ip("link", "delete", "s9")
        watched.until(lambda: not bindings.ready)
        wire(hosts)
        watched.until(lambda: bindings.ready)
        assert len(sent_on) == times
        shares = shares_of(hosts, wanted)
        assert sum(shares) == 64
        assert all(shares)
        assert [sock.fileno() for sock in port.sockets] == descriptors
    bindings.close()
    port.stopListening()


def test_a_port_that_another_program_holds_ends_the_start(private_reactor: EPollReactor) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
        holder.bind(("127.0.0.1", 0))
        bindings = Bindings(private_reactor, lambda event: None, follow=True)
        source, address = OwnSockets(private_reactor), holder.getsockname()
        opening = partial(source.listen, PortSpec("tftp", address, None))
        wanted = WantedSocket("tftp", address, "", False, opening, False, lambda: "", lambda wanted: None)
        with pytest.raises(CannotListenError) as caught:
            bindings.add(wanted)
        assert f"(pid {os.getpid()})" in str(caught.value.socketError)
        bindings.close()
