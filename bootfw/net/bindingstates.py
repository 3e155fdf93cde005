"""A wanted socket as a table: waiting for its interface or address, binding, bound, held by another program, failed."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal

RETRY_EVERY = 1.0
"""Seconds between two attempts to bind a socket whose port another program holds, or that the kernel has refused."""


class State(Key):
    """What a wanted socket does. The values are those of SocketStatus.state."""

    WAITING = "waiting"
    """Its interface or its address does not exist on this host."""
    BINDING = "binding"
    """It is being bound, which takes no turn of the reactor."""
    BOUND = "bound"
    """Clients can reach it."""
    HELD = "held"
    """Another program has the port."""
    FAILED = "failed"
    """The kernel has refused it."""
    CLOSED = "closed"


class Input(Key):
    """What can happen to a wanted socket."""

    ABSENT = "absent"
    """Its interface or its address does not exist. The argument says what is missing, and what exists."""
    PRESENT = "present"
    """Its interface and its address exist."""
    RECREATED = "recreated"
    """They exist, and the interface is another one than the socket was bound to, with the same name."""
    OPENED = "opened"
    """After BIND: it is bound."""
    HELD = "held by another program"
    """After BIND: another program has the port. The argument names the program."""
    FAILED = "failed"
    """After BIND: the kernel refuses it. The argument says why."""
    TICK = "tick"
    """The deadline has passed."""
    CLOSE = "close"
    """The service stops, or no longer wants the socket."""


class Do(Enum):
    """The actions of Bindings."""

    BIND = "bind"
    """Bind it; then OPENED, HELD, FAILED or ABSENT."""


@goes(State.WAITING)
def wait(binding: "BindingStates", argument: Any, now: float) -> State:
    """Wait until the kernel reports its interface or address."""
    binding.reason, binding.deadline = argument, None
    return State.WAITING


@goes(State.BINDING)
def bind(binding: "BindingStates", argument: Any, now: float) -> State:
    """Bind it."""
    binding.deadline = None
    binding.out.append(Do.BIND)
    return State.BINDING


@goes(State.BOUND)
def opened(binding: "BindingStates", argument: Any, now: float) -> State:
    """Clients can reach it."""
    binding.reason = ""
    return State.BOUND


@goes(State.HELD)
def held(binding: "BindingStates", argument: Any, now: float) -> State:
    """Try again in a second: the other program may end."""
    binding.reason, binding.deadline = argument, now + RETRY_EVERY
    return State.HELD


@goes(State.FAILED)
def failed(binding: "BindingStates", argument: Any, now: float) -> State:
    """Try again in a second: the kernel may be short of memory for a moment."""
    binding.reason, binding.deadline = argument, now + RETRY_EVERY
    return State.FAILED


@goes(STAY)
def still_absent(binding: "BindingStates", argument: Any, now: float) -> State:
    """Note what exists now instead."""
    binding.reason = argument
    return State.WAITING


@goes(State.CLOSED)
def close(binding: "BindingStates", argument: Any, now: float) -> State:
    """The socket is no longer wanted."""
    binding.reason, binding.deadline = "", None
    return State.CLOSED


TABLE: Table = {
    State.WAITING: {
        Input.ABSENT: still_absent,
        Input.PRESENT: bind,
        Input.RECREATED: bind,
        Input.OPENED: illegal,
        Input.HELD: illegal,
        Input.FAILED: illegal,
        Input.TICK: illegal,
        Input.CLOSE: close,
    },
    State.BINDING: {
        # The interface or address disappeared while the socket was being bound.
        Input.ABSENT: wait,
        Input.PRESENT: illegal,
        Input.RECREATED: illegal,
        Input.OPENED: opened,
        Input.HELD: held,
        Input.FAILED: failed,
        Input.TICK: illegal,
        # The start has failed.
        Input.CLOSE: close,
    },
    State.BOUND: {
        Input.ABSENT: wait,
        Input.PRESENT: ignore,
        Input.RECREATED: bind,
        Input.OPENED: illegal,
        Input.HELD: illegal,
        Input.FAILED: illegal,
        Input.TICK: illegal,
        Input.CLOSE: close,
    },
    State.HELD: {
        Input.ABSENT: wait,
        # Other interfaces change often; the deadline is near.
        Input.PRESENT: ignore,
        Input.RECREATED: bind,
        Input.OPENED: illegal,
        Input.HELD: illegal,
        Input.FAILED: illegal,
        Input.TICK: bind,
        Input.CLOSE: close,
    },
    State.FAILED: {
        Input.ABSENT: wait,
        Input.PRESENT: ignore,
        Input.RECREATED: bind,
        Input.OPENED: illegal,
        Input.HELD: illegal,
        Input.FAILED: illegal,
        Input.TICK: bind,
        Input.CLOSE: close,
    },
    State.CLOSED: {
        Input.ABSENT: illegal,
        Input.PRESENT: illegal,
        Input.RECREATED: illegal,
        Input.OPENED: illegal,
        Input.HELD: illegal,
        Input.FAILED: illegal,
        Input.TICK: illegal,
        Input.CLOSE: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class BindingStates(Machine):
    """The states of one wanted socket."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.WAITING)
    reason: str = field(default="", init=False)
    """What it waits for, which program has its port, or why the kernel refuses it; "" when it is bound."""
    deadline: float | None = field(default=None, init=False)
    """When to give TICK, in seconds of the clock; None: never."""
