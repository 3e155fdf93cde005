"""The states of a UDP port as a table: closed, connecting its protocol, reading, stopping."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """What a port does."""

    CLOSED = "closed"
    """It has no socket."""
    CONNECTING = "connecting"
    """Its socket is bound, and its protocol is being connected."""
    READING = "reading"
    """The reactor watches its socket."""
    STOPPING = "stopping"
    """It reads no more, and closes in the next turn of the reactor. It can still send."""


class Input(Key):
    """What can happen to a port."""

    BOUND = "bound"
    """startListening() has bound the socket."""
    CONNECTED = "connected"
    """The protocol has taken the port."""
    FAILED = "failed"
    """The protocol has raised when it was given the port."""
    STOP = "stop"
    """stopListening()."""
    LOST = "lost"
    """connectionLost(): the turn after a stop, or the reactor ends, or it has seen an error on the socket."""


class Do(Enum):
    """The actions of the port."""

    READ = "read"
    """Have the reactor watch the socket."""
    CLOSE_SOON = "close soon"
    """Have the reactor watch it no more, and call connectionLost() in the next turn."""
    ABANDON = "abandon"
    """Close the socket: the protocol does not have the port."""
    CLOSE = "close"
    """Stop the protocol, and close the socket."""


@goes(State.CONNECTING)
def connect(port: "PortStates", argument: Any, now: float) -> State:
    """The protocol is connected next."""
    return State.CONNECTING


@goes(State.READING)
def read(port: "PortStates", argument: Any, now: float) -> State:
    """Read."""
    port.out.append(Do.READ)
    return State.READING


@goes(State.STOPPING)
def stop(port: "PortStates", argument: Any, now: float) -> State:
    """Read no more, and close in the next turn."""
    port.out.append(Do.CLOSE_SOON)
    return State.STOPPING


@goes(State.CLOSED)
def abandon(port: "PortStates", argument: Any, now: float) -> State:
    """Close without calling the protocol, which does not have the port."""
    port.out.append(Do.ABANDON)
    return State.CLOSED


@goes(State.CLOSED)
def close(port: "PortStates", argument: Any, now: float) -> State:
    """Stop the protocol, and close."""
    port.out.append(Do.CLOSE)
    return State.CLOSED


TABLE: Table = {
    State.CLOSED: {
        Input.BOUND: connect,
        Input.CONNECTED: illegal,
        Input.FAILED: illegal,
        Input.STOP: ignore,
        # The reactor ended before the turn that a stop has scheduled.
        Input.LOST: ignore,
    },
    State.CONNECTING: {
        Input.BOUND: illegal,
        Input.CONNECTED: read,
        Input.FAILED: abandon,
        Input.STOP: stop,
        Input.LOST: illegal,
    },
    State.READING: {
        Input.BOUND: illegal,
        Input.CONNECTED: illegal,
        Input.FAILED: illegal,
        Input.STOP: stop,
        # The reactor ends, or gives the port up for an error that is not one of the network.
        Input.LOST: close,
    },
    State.STOPPING: {
        Input.BOUND: illegal,
        # The protocol has stopped the port while it was connected.
        Input.CONNECTED: ignore,
        Input.FAILED: abandon,
        # Each call of stopListening() waits for the same end.
        Input.STOP: ignore,
        Input.LOST: close,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class PortStates(Machine):
    """The states of one port."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.CLOSED)
