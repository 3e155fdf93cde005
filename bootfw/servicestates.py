"""State machine of a BootService: stopped, binding its ports, bound, running, draining, stopping."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """The states of a service."""

    STOPPED = "stopped"
    BINDING = "binding"
    """The ports are being bound."""
    BOUND = "bound"
    """All ports are bound; startService() is next."""
    RUNNING = "running"
    DRAINING = "draining"
    """It serves what is under way, and is not ready for more."""
    STOPPING = "stopping"
    """Ports, transfers and plugins are being closed."""


class Input(Key):
    """What can happen to a service."""

    BIND = "bind"
    """privilegedStartService() or startService() was called: bind the ports."""
    BOUND = "bound"
    """Every port is bound."""
    FAILED = "failed"
    """A port can't be bound, a plugin can't be started, or the state can't be read."""
    START = "start"
    """startService(), after BIND."""
    DRAIN = "drain"
    """drain(): a stop is next."""
    STOP = "stop"
    """stopService()."""
    CLOSED = "closed"
    """Everything that this CLOSE and earlier ones have closed is closed."""


class Do(Enum):
    """The actions of the service."""

    OPEN = "open"
    """Bind every port, and give BOUND or FAILED."""
    RUN = "run"
    """Start the child services."""
    CLOSE = "close"
    """Close everything that is open, and give CLOSED when it is closed."""
    RELEASE = "release"
    """Everything is closed: deliver the last events, and release the reactor's clock."""


@goes(State.BINDING)
def open_ports(service: "ServiceStates", argument: Any, now: float) -> State:
    """Bind every port, without waiting for what an earlier stop is still closing."""
    service.out.append(Do.OPEN)
    return State.BINDING


@goes(State.BOUND)
def have_bound(service: "ServiceStates", argument: Any, now: float) -> State:
    """Every port is bound."""
    return State.BOUND


@goes(State.RUNNING)
def run(service: "ServiceStates", argument: Any, now: float) -> State:
    """Start the child services."""
    service.out.append(Do.RUN)
    return State.RUNNING


@goes(State.DRAINING)
def drain(service: "ServiceStates", argument: Any, now: float) -> State:
    """The service is not ready for new clients any more."""
    return State.DRAINING


@goes(State.STOPPING)
def close(service: "ServiceStates", argument: Any, now: float) -> State:
    """Close everything that is open."""
    service.out.append(Do.CLOSE)
    return State.STOPPING


@goes(State.STOPPED)
def release(service: "ServiceStates", argument: Any, now: float) -> State:
    """Deliver the last events, and release the reactor's clock."""
    service.out.append(Do.RELEASE)
    return State.STOPPED


TABLE: Table = {
    State.STOPPED: {
        Input.BIND: open_ports,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: illegal,
        Input.DRAIN: ignore,
        Input.STOP: ignore,
        Input.CLOSED: illegal,
    },
    # Binding takes no reactor turn, so only the start() of a plugin could start or stop the service in this state.
    State.BINDING: {
        Input.BIND: illegal,
        Input.BOUND: have_bound,
        Input.FAILED: close,
        Input.START: illegal,
        Input.DRAIN: illegal,
        Input.STOP: illegal,
        Input.CLOSED: ignore,
    },
    State.BOUND: {
        Input.BIND: ignore,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: run,
        Input.DRAIN: ignore,
        Input.STOP: close,
        Input.CLOSED: ignore,
    },
    State.RUNNING: {
        Input.BIND: ignore,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: ignore,
        Input.DRAIN: drain,
        Input.STOP: close,
        Input.CLOSED: ignore,
    },
    State.DRAINING: {
        Input.BIND: ignore,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: ignore,
        Input.DRAIN: ignore,
        Input.STOP: close,
        Input.CLOSED: ignore,
    },
    State.STOPPING: {
        Input.BIND: open_ports,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: illegal,
        Input.DRAIN: ignore,
        Input.STOP: ignore,
        Input.CLOSED: release,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class ServiceStates(Machine):
    """The state of a service. It can be started again while its last stop still waits for connections and plugins."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.STOPPED)
