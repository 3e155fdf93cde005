"""The states of a TFTP listener as a table: not started, serving, draining, closed."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """What a listener does."""

    STOPPED = "stopped"
    """It has no port. Transfers on ports of their own go on."""
    SERVING = "serving"
    """It takes requests."""
    DRAINING = "draining"
    """It drops requests, and its transfers go on."""
    CLOSED = "closed"
    """It has ended its transfers, and drops requests until its port closes."""


class Input(Key):
    """What can happen to a listener."""

    START = "start"
    """Its port is open."""
    DRAIN = "drain"
    """drain(): another process takes the requests."""
    CLOSE = "close"
    """close()."""
    STOP = "stop"
    """Its port closes."""


class Do(Enum):
    """The actions of the listener."""

    END_TRANSFERS = "end transfers"
    """End every transfer, with an ERROR to each client."""


@goes(State.SERVING)
def serve(listener: "ListenerStates", argument: Any, now: float) -> State:
    """Take requests."""
    return State.SERVING


@goes(State.DRAINING)
def drain(listener: "ListenerStates", argument: Any, now: float) -> State:
    """Drop requests, which their clients send again."""
    return State.DRAINING


@goes(State.CLOSED)
def close(listener: "ListenerStates", argument: Any, now: float) -> State:
    """End the transfers, and drop requests."""
    listener.out.append(Do.END_TRANSFERS)
    return State.CLOSED


@goes(State.STOPPED)
def stop(listener: "ListenerStates", argument: Any, now: float) -> State:
    """End the transfers: what their clients send does not arrive any more."""
    listener.out.append(Do.END_TRANSFERS)
    return State.STOPPED


@goes(State.STOPPED)
def stopped(listener: "ListenerStates", argument: Any, now: float) -> State:
    """There is no transfer that needs the port."""
    return State.STOPPED


TABLE: Table = {
    State.STOPPED: {
        Input.START: serve,
        Input.DRAIN: ignore,
        # Of an interim server: its port is closed, and transfers on ports of their own go on.
        Input.CLOSE: close,
        Input.STOP: illegal,
    },
    State.SERVING: {
        Input.START: illegal,
        Input.DRAIN: drain,
        Input.CLOSE: close,
        Input.STOP: stop,
    },
    State.DRAINING: {
        Input.START: illegal,
        Input.DRAIN: ignore,
        Input.CLOSE: close,
        Input.STOP: stopped,
    },
    State.CLOSED: {
        # It was closed without a port.
        Input.START: serve,
        Input.DRAIN: ignore,
        Input.CLOSE: ignore,
        Input.STOP: stopped,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class ListenerStates(Machine):
    """The states of one listener."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.STOPPED)
