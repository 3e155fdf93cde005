"""State machine of a pending boot-file resolution.

It begins when a resolver returns a Deferred that has not fired: see ResolverChain. Most requests never need it.
"""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.errors import BootRefused
from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """The states of a resolution."""

    CALLING = "calling"
    """The resolver at position ``number`` is being called."""
    WAITING = "waiting"
    """That resolver has returned a Deferred, which has not fired."""
    ANSWERED = "answered"
    """``outcome`` is the answer; None if no resolver has one."""
    REFUSED = "refused"
    """``outcome`` is a BootRefused."""
    CANCELLED = "cancelled"
    """The caller no longer needs the result."""


class Input(Key):
    """What can happen to a resolution."""

    WAIT = "wait"
    """The resolver has returned a Deferred."""
    FOUND = "found"
    """The resolver has an answer that can be used: the argument."""
    PASSED = "passed"
    """The resolver has no usable answer. The argument is the reason, or "" if it has none or has failed."""
    REFUSED = "refused"
    """The resolver refuses the boot. The argument is the BootRefused."""
    TICK = "tick"
    """The deadline has passed."""
    CANCEL = "cancel"
    """The service stops, or the caller no longer needs the result."""


class Do(Enum):
    """The actions of the resolution."""

    CALL = "call"
    """Call the resolver at position ``number``, and give WAIT, FOUND, PASSED or REFUSED."""
    REPORT_LATE = "report late"
    """Publish that the resolver is too slow and the next one is called."""
    WITHDRAW = "withdraw"
    """Cancel the resolver's Deferred, and ignore its result."""
    FINISH = "finish"
    """Fire the caller's Deferred with ``outcome``, or with CancelledError."""


@goes(State.WAITING)
def wait(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Wait for at most the remaining time divided by the number of resolvers that have not answered."""
    left = max(0.0, resolution.ends - now)
    resolution.deadline = now + left / (resolution.count - resolution.number)
    return State.WAITING


def _deliver(resolution: "ResolutionStates", outcome: Any, state: State) -> State:
    resolution.deadline = None
    resolution.outcome = outcome
    resolution.out.append(Do.FINISH)
    return state


@goes(State.ANSWERED)
def answer(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Deliver the answer."""
    return _deliver(resolution, argument, State.ANSWERED)


@goes(State.REFUSED)
def refuse(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Deliver the refusal."""
    return _deliver(resolution, argument, State.REFUSED)


@goes(State.CALLING, State.ANSWERED, State.REFUSED)
def call_next(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Call the next resolver. After the last one, refuse if an answer was unusable; otherwise there is no answer."""
    resolution.deadline = None
    resolution.unusable = resolution.unusable or argument
    resolution.number += 1
    if resolution.number < resolution.count:
        resolution.out.append(Do.CALL)
        return State.CALLING
    if resolution.unusable:
        return refuse(resolution, BootRefused(resolution.unusable), now)
    return answer(resolution, None, now)


@goes(State.CALLING, State.ANSWERED, State.REFUSED)
def pass_over(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Report that the resolver is late, withdraw its call, and call the next one."""
    resolution.out += [Do.REPORT_LATE, Do.WITHDRAW]
    return call_next(resolution, "", now)


@goes(State.CANCELLED)
def cancel(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Call no further resolver."""
    # A plugin may cancel from within its call, while CALL of the next resolver is still among the actions.
    resolution.out[:] = [Do.FINISH]
    return State.CANCELLED


@goes(State.CANCELLED)
def cancel_call(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Withdraw the resolver's call, and call no further one."""
    resolution.deadline = None
    resolution.out += [Do.WITHDRAW, Do.FINISH]
    return State.CANCELLED


@goes(State.CANCELLED)
def withdraw(resolution: "ResolutionStates", argument: Any, now: float) -> State:
    """Withdraw the call during which the resolution was cancelled."""
    resolution.out.append(Do.WITHDRAW)
    return State.CANCELLED


# The adapter drops the result of a withdrawn call, so it never becomes an input.
TABLE: Table = {
    State.CALLING: {
        Input.WAIT: wait,
        Input.FOUND: answer,
        Input.PASSED: call_next,
        Input.REFUSED: refuse,
        Input.TICK: illegal,
        Input.CANCEL: cancel,
    },
    State.WAITING: {
        Input.WAIT: illegal,
        Input.FOUND: answer,
        Input.PASSED: call_next,
        Input.REFUSED: refuse,
        Input.TICK: pass_over,
        Input.CANCEL: cancel_call,
    },
    State.ANSWERED: {
        Input.WAIT: illegal,
        Input.FOUND: illegal,
        Input.PASSED: illegal,
        Input.REFUSED: illegal,
        Input.TICK: illegal,
        Input.CANCEL: ignore,
    },
    State.REFUSED: {
        Input.WAIT: illegal,
        Input.FOUND: illegal,
        Input.PASSED: illegal,
        Input.REFUSED: illegal,
        Input.TICK: illegal,
        Input.CANCEL: ignore,
    },
    # A resolver may cancel the resolution, for example by a stop of the service, and then return.
    State.CANCELLED: {
        Input.WAIT: withdraw,
        Input.FOUND: ignore,
        Input.PASSED: ignore,
        Input.REFUSED: ignore,
        Input.TICK: illegal,
        Input.CANCEL: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class ResolutionStates(Machine):
    """The state of one resolution, created for the first resolver that returned a pending Deferred."""

    table: ClassVar[Table] = TABLE

    count: int
    """Number of resolvers."""
    ends: float
    """When the reply to the client is due, in seconds of the clock."""
    number: int
    """Position of the resolver that is being called or waited for."""
    unusable: str
    """Why the first unusable answer can't be used; "": there was no unusable answer."""
    state: State = field(default=State.CALLING)
    deadline: float | None = field(default=None, init=False)
    """When to give TICK, in seconds of the clock; None: never."""
    outcome: Any = field(default=None, init=False)
    """A BootFile, BootMenu, BootRefused or None."""
