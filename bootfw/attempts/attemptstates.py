"""The states of a boot attempt as a table: not yet known to be a boot, running, with a verdict, closed."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore


class State(Key):
    """The states of an attempt."""

    PROVISIONAL = "provisional"
    """A machine sends DHCP requests that an installed system may send, too. There is no record of it yet."""
    RUNNING = "running"
    """A machine boots."""
    ENDED = "ended"
    """There is a verdict. It improves if the machine continues its boot."""
    CLOSED = "closed"
    """Nothing more is added to it."""


class Input(Key):
    """What can happen to an attempt."""

    SEEN = "seen"
    """The client did something that fits what it is doing already."""
    BOOTS = "boots"
    """The client did something that only a booting machine does, and that can change the verdict."""
    SILENT = "silent"
    """The client has done nothing for as long as its firmware waits at most."""
    UP = "up"
    """The installed system has requested the phone-home URL."""
    FAILED = "failed"
    """The system that installs the machine has reported that it has failed."""
    REPLACED = "replaced"
    """The client starts again from its firmware."""
    FORGOTTEN = "forgotten"
    """The attempt is too old, there are too many attempts, or events about it were lost."""
    STOPPED = "stopped"
    """The service stops."""


class Do(Enum):
    """The actions of the attempt."""

    CHANGED = "changed"
    """Publish that the attempt has changed."""
    JUDGE = "judge"
    """Find the verdict, and publish it."""
    INTERRUPT = "interrupt"
    """Publish it as booted if it has loaded everything, and else as interrupted."""
    DROP = "drop"
    """Remove it from the index."""


@goes(State.RUNNING)
def begin(states: "AttemptStates", argument: Any, now: float) -> State:
    """It is a boot: publish it."""
    states.out.append(Do.CHANGED)
    return State.RUNNING


@goes(STAY)
def extend(states: "AttemptStates", argument: Any, now: float) -> State:
    """Publish that the attempt has changed."""
    states.out.append(Do.CHANGED)
    state: State = states.state
    return state


@goes(State.ENDED)
def judge(states: "AttemptStates", argument: Any, now: float) -> State:
    """Find the verdict."""
    states.out.append(Do.JUDGE)
    return State.ENDED


@goes(State.CLOSED)
def judge_last(states: "AttemptStates", argument: Any, now: float) -> State:
    """Find the verdict, and close it."""
    states.out += [Do.JUDGE, Do.DROP]
    return State.CLOSED


@goes(State.CLOSED)
def interrupt(states: "AttemptStates", argument: Any, now: float) -> State:
    """Publish it as it is, and close it."""
    states.out += [Do.INTERRUPT, Do.DROP]
    return State.CLOSED


@goes(State.CLOSED)
def drop(states: "AttemptStates", argument: Any, now: float) -> State:
    """Close it without a verdict, or with the one that it has."""
    states.out.append(Do.DROP)
    return State.CLOSED


TABLE: Table = {
    State.PROVISIONAL: {
        Input.SEEN: ignore,
        Input.BOOTS: begin,
        Input.SILENT: drop,
        Input.UP: judge,
        Input.FAILED: judge,
        Input.REPLACED: drop,
        Input.FORGOTTEN: drop,
        Input.STOPPED: drop,
    },
    State.RUNNING: {
        Input.SEEN: extend,
        Input.BOOTS: extend,
        Input.SILENT: judge,
        Input.UP: judge,
        Input.FAILED: judge,
        Input.REPLACED: judge_last,
        Input.FORGOTTEN: drop,
        # A later start of the service can't continue this attempt.
        Input.STOPPED: interrupt,
    },
    State.ENDED: {
        Input.SEEN: ignore,
        Input.BOOTS: begin,
        Input.SILENT: ignore,
        Input.UP: judge,
        # It has failed again.
        Input.FAILED: judge,
        Input.REPLACED: drop,
        Input.FORGOTTEN: drop,
        Input.STOPPED: drop,
    },
    State.CLOSED: dict.fromkeys(Input, ignore),
}

check(TABLE, State, Input)


@define(eq=False)
class AttemptStates(Machine):
    """The state of one attempt."""

    table: ClassVar[Table] = TABLE

    state: State = State.PROVISIONAL
