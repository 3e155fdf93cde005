"""The states of a BootService as a table: stopped, binding its ports, bound, running, stopping."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """What a service is doing."""

    STOPPED = "stopped"
    BINDING = "binding"
    BOUND = "bound"
    RUNNING = "running"
    STOPPING = "stopping"


class Input(Key):
    """What can happen to it."""

    BIND = "bind"
    """privilegedStartService() or startService(): its ports are to be bound."""
    BOUND = "bound"
    """Every port is bound."""
    FAILED = "failed"
    """A port can't be bound, a plugin can't be started, or the state can't be read."""
    START = "start"
    """startService(), after BIND."""
    STOP = "stop"
    """stopService()."""
    DRAINED = "drained"
    """All that CLOSE has ever closed is closed by now."""


class Do(Enum):
    """What the service has to do, and to answer with an input."""

    OPEN = "open"
    """Bind every port; then BOUND or FAILED."""
    RUN = "run"
    """Start the services that stand below this one."""
    CLOSE = "close"
    """Close what is open; then DRAINED, sooner or later."""
    RELEASE = "release"
    """Everything is closed: deliver the last events, and give the clock back."""


@goes(State.BINDING)
def open_ports(service: "ServiceStates", argument: Any, now: float) -> State:
    """Bind every port. What an earlier stop is still closing is not waited for."""
    service.out.append(Do.OPEN)
    return State.BINDING


@goes(State.BOUND)
def have_bound(service: "ServiceStates", argument: Any, now: float) -> State:
    """Every port is bound."""
    return State.BOUND


@goes(State.RUNNING)
def run(service: "ServiceStates", argument: Any, now: float) -> State:
    """Start the services below."""
    service.out.append(Do.RUN)
    return State.RUNNING


@goes(State.STOPPING)
def close(service: "ServiceStates", argument: Any, now: float) -> State:
    """Close everything that is open."""
    service.out.append(Do.CLOSE)
    return State.STOPPING


@goes(State.STOPPED)
def release(service: "ServiceStates", argument: Any, now: float) -> State:
    """Everything is closed: deliver the last events, and give the clock back."""
    service.out.append(Do.RELEASE)
    return State.STOPPED


TABLE: Table = {
    State.STOPPED: {
        Input.BIND: open_ports,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: illegal,
        Input.STOP: ignore,
        Input.DRAINED: illegal,
    },
    # Binding takes no turn of the reactor: only a plugin that is being started could start or stop the service here.
    State.BINDING: {
        Input.BIND: illegal,
        Input.BOUND: have_bound,
        Input.FAILED: close,
        Input.START: illegal,
        Input.STOP: illegal,
        Input.DRAINED: ignore,
    },
    State.BOUND: {
        Input.BIND: ignore,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: run,
        Input.STOP: close,
        Input.DRAINED: ignore,
    },
    State.RUNNING: {
        Input.BIND: ignore,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: ignore,
        Input.STOP: close,
        Input.DRAINED: ignore,
    },
    State.STOPPING: {
        Input.BIND: open_ports,
        Input.BOUND: illegal,
        Input.FAILED: illegal,
        Input.START: illegal,
        Input.STOP: ignore,
        Input.DRAINED: release,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class ServiceStates(Machine):
    """A service can be started again while its last stop still waits for connections and plugins to end."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.STOPPED)
