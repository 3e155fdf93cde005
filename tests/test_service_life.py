"""The states of a BootService: every cell of their table has a test that is named after it; and the service with it."""

import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from cellnames import cells_without_test
from observers import EventList
from tftpserver import Files, numbered
from turning import TurnUntil
from twistd import free_port
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.error import CannotListenError
from zope.interface import implementer

from bootfw import servicestates
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.events import Event, ListenerFailed
from bootfw.interfaces import IBackend, IBootFileResolver, IOperable, IStartable
from bootfw.service import BootService
from bootfw.servicestates import Do, Input, ServiceStates, State
from bootfw.table import IllegalInput
from bootfw.testing import FakePeer, MemoryNetwork
from bootfw.values import BootRequest


def check_input(state: State, event: Input, after: State, *out: Do) -> None:
    states = ServiceStates(state)
    states.handle(event)
    assert (states.state, states.out) == (after, [*out])


def check_illegal(state: State, event: Input) -> None:
    states = ServiceStates(state)
    with pytest.raises(IllegalInput, match=f"in {state}"):
        states.handle(event)
    assert (states.state, states.out) == (state, [])


# STOPPED


def test_a_service_begins_stopped() -> None:
    assert ServiceStates().state is State.STOPPED


def test_stopped_bind_opens_the_ports() -> None:
    check_input(State.STOPPED, Input.BIND, State.BINDING, Do.OPEN)


def test_stopped_bound_is_illegal() -> None:
    check_illegal(State.STOPPED, Input.BOUND)


def test_stopped_failed_is_illegal() -> None:
    check_illegal(State.STOPPED, Input.FAILED)


def test_stopped_start_is_illegal() -> None:
    check_illegal(State.STOPPED, Input.START)


def test_stopped_drain_is_ignored() -> None:
    check_input(State.STOPPED, Input.DRAIN, State.STOPPED)


def test_stopped_stop_is_ignored() -> None:
    check_input(State.STOPPED, Input.STOP, State.STOPPED)


def test_stopped_closed_is_illegal() -> None:
    check_illegal(State.STOPPED, Input.CLOSED)


# BINDING


def test_binding_bind_is_illegal() -> None:
    check_illegal(State.BINDING, Input.BIND)


def test_binding_bound_is_bound() -> None:
    check_input(State.BINDING, Input.BOUND, State.BOUND)


def test_binding_failed_closes_what_was_opened() -> None:
    check_input(State.BINDING, Input.FAILED, State.STOPPING, Do.CLOSE)


def test_binding_start_is_illegal() -> None:
    check_illegal(State.BINDING, Input.START)


def test_binding_drain_is_illegal() -> None:
    check_illegal(State.BINDING, Input.DRAIN)


def test_binding_stop_is_illegal() -> None:
    check_illegal(State.BINDING, Input.STOP)


def test_binding_closed_is_of_the_stop_before() -> None:
    check_input(State.BINDING, Input.CLOSED, State.BINDING)


# BOUND


def test_bound_bind_is_done_already() -> None:
    check_input(State.BOUND, Input.BIND, State.BOUND)


def test_bound_bound_is_illegal() -> None:
    check_illegal(State.BOUND, Input.BOUND)


def test_bound_failed_is_illegal() -> None:
    check_illegal(State.BOUND, Input.FAILED)


def test_bound_start_runs_it() -> None:
    check_input(State.BOUND, Input.START, State.RUNNING, Do.RUN)


def test_bound_drain_is_ignored() -> None:
    check_input(State.BOUND, Input.DRAIN, State.BOUND)


def test_bound_stop_closes() -> None:
    check_input(State.BOUND, Input.STOP, State.STOPPING, Do.CLOSE)


def test_bound_closed_is_of_the_stop_before() -> None:
    check_input(State.BOUND, Input.CLOSED, State.BOUND)


# RUNNING


def test_running_bind_is_done_already() -> None:
    check_input(State.RUNNING, Input.BIND, State.RUNNING)


def test_running_bound_is_illegal() -> None:
    check_illegal(State.RUNNING, Input.BOUND)


def test_running_failed_is_illegal() -> None:
    check_illegal(State.RUNNING, Input.FAILED)


def test_running_start_is_done_already() -> None:
    check_input(State.RUNNING, Input.START, State.RUNNING)


def test_running_drain_goes_on_and_is_not_ready() -> None:
    check_input(State.RUNNING, Input.DRAIN, State.DRAINING)


def test_running_stop_closes() -> None:
    check_input(State.RUNNING, Input.STOP, State.STOPPING, Do.CLOSE)


def test_running_closed_is_of_the_stop_before() -> None:
    check_input(State.RUNNING, Input.CLOSED, State.RUNNING)


# DRAINING


def test_draining_bind_is_ignored() -> None:
    check_input(State.DRAINING, Input.BIND, State.DRAINING)


def test_draining_bound_is_illegal() -> None:
    check_illegal(State.DRAINING, Input.BOUND)


def test_draining_failed_is_illegal() -> None:
    check_illegal(State.DRAINING, Input.FAILED)


def test_draining_start_is_ignored() -> None:
    check_input(State.DRAINING, Input.START, State.DRAINING)


def test_draining_drain_is_ignored() -> None:
    check_input(State.DRAINING, Input.DRAIN, State.DRAINING)


def test_draining_stop_closes_everything() -> None:
    check_input(State.DRAINING, Input.STOP, State.STOPPING, Do.CLOSE)


def test_draining_closed_is_ignored() -> None:
    check_input(State.DRAINING, Input.CLOSED, State.DRAINING)


# STOPPING


def test_stopping_bind_opens_the_ports_again() -> None:
    check_input(State.STOPPING, Input.BIND, State.BINDING, Do.OPEN)


def test_stopping_bound_is_illegal() -> None:
    check_illegal(State.STOPPING, Input.BOUND)


def test_stopping_failed_is_illegal() -> None:
    check_illegal(State.STOPPING, Input.FAILED)


def test_stopping_start_is_illegal() -> None:
    check_illegal(State.STOPPING, Input.START)


def test_stopping_drain_is_ignored() -> None:
    check_input(State.STOPPING, Input.DRAIN, State.STOPPING)


def test_stopping_stop_is_under_way_already() -> None:
    check_input(State.STOPPING, Input.STOP, State.STOPPING)


def test_stopping_closed_is_the_end() -> None:
    check_input(State.STOPPING, Input.CLOSED, State.STOPPED, Do.RELEASE)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert ServiceStates.table is servicestates.TABLE


# The service with its states.


@implementer(IBackend, IStartable)
@define(eq=False)
class SlowBackend(Files):
    """A backend whose close() takes as long as a test wants."""

    closing: list[Deferred[Any]] = field(factory=list, init=False)

    def start(self, publish: Callable[..., Any]) -> None:
        pass

    def close(self) -> Deferred[Any]:
        self.closing.append(Deferred())
        return self.closing[-1]


class SlowService:
    """A service with a slow backend on a MemoryNetwork."""

    def __init__(self, *listen: tuple[str, int]) -> None:
        self.events: list[Event] = []
        self.network = MemoryNetwork()
        self.host = self.network.host("10.0.0.1", name="server")
        self.backend = SlowBackend({"file": numbered(500)})
        settings = Settings(tftp=TFTPSettings(listen=listen or [("0.0.0.0", 69)]))
        self.service = BootService(
            self.host, settings=settings, backend=self.backend, observers=[EventList(self.events)]
        )

    def stop(self) -> list[tuple[object, int]]:
        """Stop the service. The list gets (result, number of bound ports) when the stop's Deferred fires."""
        stopped: list[tuple[object, int]] = []
        self.service.stopService().addCallback(lambda result: stopped.append((result, len(self.host.ports))))
        self.network.advance(0.1)
        return stopped


def test_a_service_that_is_started_while_it_stops_can_be_stopped_again() -> None:
    served = SlowService()
    served.service.startService()
    first = served.stop()
    served.service.startService()
    assert len(served.host.ports) == 1
    second = served.stop()
    assert served.host.ports == []
    assert (first, second) == ([], [])
    served.backend.closing[1].callback(None)
    assert (first, second) == ([], []), "the second waits for the first"
    served.backend.closing[0].callback(None)
    assert (first, second) == ([(None, 0)], [(None, 0)])
    assert served.network.leaks() == []


def test_end_of_a_stop_does_not_affect_a_service_started_again() -> None:
    served = SlowService()
    served.service.startService()
    first = served.stop()
    served.service.startService()
    served.backend.closing[0].callback(None)
    assert first == [(None, 1)]
    client = FakePeer(served.network.host("10.0.0.9", name="client"))
    client.send(b"\0\1file\0octet\0", ("10.0.0.1", 69))
    served.network.advance(0.1)
    assert [received.data for received in client.received] == [b"\0\3\0\1" + numbered(500)]
    last = served.stop()
    served.backend.closing[1].callback(None)
    assert last == [(None, 0)]


def test_why_a_start_failed_is_published_before_it_raises() -> None:
    """The program may end then, without another turn of the reactor. It does not wait for backends to close."""
    served = SlowService(("0.0.0.0", 69), ("203.0.113.77", 69))
    with pytest.raises(CannotListenError):
        served.service.startService()
    assert [event.address for event in served.events if isinstance(event, ListenerFailed)] == [("203.0.113.77", 69)]
    last = served.stop()
    assert last == []
    served.backend.closing[0].callback(None)
    assert last == [(None, 0)]


def test_a_restart_in_the_same_turn_has_its_ports_and_its_control_socket_again(
    private_reactor: EPollReactor, turn_until: TurnUntil, tmp_path: Path
) -> None:
    """Twisted closes sockets in the next turn of the reactor only, unless the address is needed before."""
    ports = [free_port() for _ in range(2)]
    address = "127.0.0.1", free_port(socket.SOCK_STREAM)
    settings = Settings(
        dhcp=DHCPSettings(mode="proxy", server_port=ports[0], boot_server_port=ports[1]),
        tftp=TFTPSettings(listen=[address]),
        http=HTTPSettings(listen=[address]),
    )
    control, events = tmp_path / "control.sock", list[Event]()
    service = BootService(
        private_reactor,
        settings=settings,
        backend=Files({"file": b"content"}),
        resolvers=[Operable()],
        control=control,
        observers=[EventList(events)],
    )
    service.startService()
    stops = [service.stopService()]
    service.startService()
    try:
        turn_until(lambda: stops[0].called)
        with socket.create_connection(address) as client:
            client.sendall(b"GET /file HTTP/1.0\r\n\r\n")
            client.setblocking(False)
            received = bytearray()
            turn_until(lambda: _receive(client, received).endswith(b"content"))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(control))
    finally:
        stops.append(service.stopService())
        turn_until(lambda: stops[1].called)
    assert not control.exists()
    assert [event for event in events if isinstance(event, ListenerFailed)] == []


def _receive(client: socket.socket, received: bytearray) -> bytearray:
    with suppress(BlockingIOError):
        received += client.recv(1000)
    return received


@implementer(IBootFileResolver, IOperable)
class Operable:
    def resolve(self, request: BootRequest) -> None:
        return None

    def operations(self) -> dict[str, Callable[[Any], list[Any]]]:
        return {"look": lambda arguments: []}


def test_started_twice_is_started_once() -> None:
    served = SlowService()
    served.service.startService()
    served.service.startService()
    assert len(served.host.ports) == 1
    last = served.stop()
    served.backend.closing[0].callback(None)
    assert last == [(None, 0)]
