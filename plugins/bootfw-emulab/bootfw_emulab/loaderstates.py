"""The boot loader of a node as a state table: what the server does at its requests, at orders, and when it goes on.

A loader repeats its request if no answer comes, and an answer may be lost. So a one-time boot is used up only when the
node shows that it uses the answer: by a DHCP request, by a report of its system, or by not repeating the request.
"""

from enum import Enum
from typing import Any

from attrs import define

from bootfw.api import table
from bootfw_emulab.bootwhat import BootWhat, Kind

REPEATED = 10.0
"""Seconds after a request in which the next one counts as its repetition, which is answered but not reported again."""

USED_AFTER = 20.0
"""Seconds without a further request after which the node uses the answer. pxeboot repeats a request after 2, 4, 8 and
16 s."""


class State(table.Key):
    """The state of the loader, as far as the server knows it."""

    IDLE = "idle"
    """It does not run, or has used its answer."""
    RESOLVING = "resolving"
    """The resolvers decide about its request."""
    ANSWERED = "answered"
    """A reply with what to boot was sent, and may be lost."""
    WAITING = "waiting"
    """It waits for an order."""


class Input(table.Key):
    """An input of the table."""

    REQUEST = "request"
    ANSWER = "answer"
    """The resolvers have decided; with a BootWhat, or None."""
    ORDER = "order"
    """The operator sends an order; with a BootWhat."""
    FIRMWARE = "firmware"
    """The machine has sent a DHCP request: it starts again, or goes on."""
    SYSTEM = "system"
    """The system of the node has reported something."""
    SILENT = "silent"
    """The deadline has passed."""


class Do(Enum):
    """An action, which the adapter carries out."""

    RESOLVE = "resolve"
    """Ask the resolvers."""
    REPLY = "reply"
    SEND_ORDER = "send order"
    REPORT_REQUEST = "report request"
    REPORT_ANSWER = "report answer"
    USED = "used"
    """Publish that the answer is used, if it was a one-time boot."""


@table.goes(State.RESOLVING)
def resolve(loader: "LoaderStates", argument: Any, now: float) -> State:
    """Ask the resolvers. A repetition is not reported."""
    loader.is_repeated = now - loader.requested_at <= REPEATED
    loader.requested_at, loader.deadline = now, None
    loader.out += [Do.RESOLVE] if loader.is_repeated else [Do.REPORT_REQUEST, Do.RESOLVE]
    return State.RESOLVING


@table.goes(table.STAY)
def repeat(loader: "LoaderStates", argument: Any, now: float) -> State:
    """Wait for the resolvers, whose answer serves this request too."""
    loader.requested_at = now
    return State.RESOLVING


@table.goes(State.ANSWERED, State.WAITING, State.IDLE)
def answer(loader: "LoaderStates", argument: BootWhat | None, now: float) -> State:
    """Reply. After AUTO the node sends its next request at once, which is no repetition."""
    loader.out += [Do.REPLY] if loader.is_repeated else [Do.REPLY, Do.REPORT_ANSWER]
    if argument is None:
        return State.IDLE
    if argument.kind is Kind.AUTO:
        loader.out.append(Do.USED)
        loader.requested_at = float("-inf")
        return State.IDLE
    loader.deadline = now + USED_AFTER
    return State.WAITING if argument.kind is Kind.WAIT else State.ANSWERED


@table.goes(table.STAY)
def send(loader: "LoaderStates", argument: BootWhat, now: float) -> State:
    """Send the order. The server does not know whether a loader runs that receives it."""
    loader.out.append(Do.SEND_ORDER)
    state: State = loader.state
    return state


@table.goes(State.IDLE)
def send_and_end(loader: "LoaderStates", argument: BootWhat, now: float) -> State:
    """Send the order. It replaces the answer, and the next request is no repetition."""
    loader.out += [Do.USED, Do.SEND_ORDER]
    loader.deadline, loader.requested_at = None, float("-inf")
    return State.IDLE


@table.goes(State.IDLE)
def go_on(loader: "LoaderStates", argument: Any, now: float) -> State:
    """The answer is used."""
    loader.out.append(Do.USED)
    loader.deadline = None
    return State.IDLE


@table.goes(State.WAITING)
def wait(loader: "LoaderStates", argument: Any, now: float) -> State:
    """The node has got the answer, and waits."""
    loader.out.append(Do.USED)
    loader.deadline = None
    return State.WAITING


TABLE: table.Table = {
    State.IDLE: {
        Input.REQUEST: resolve,
        Input.ANSWER: table.illegal,
        Input.ORDER: send,
        Input.FIRMWARE: table.ignore,
        Input.SYSTEM: table.ignore,
        Input.SILENT: table.ignore,
    },
    State.RESOLVING: {
        Input.REQUEST: repeat,
        Input.ANSWER: answer,
        Input.ORDER: send,
        # The loader has just sent a request, so these were sent before it.
        Input.FIRMWARE: table.ignore,
        Input.SYSTEM: table.ignore,
        Input.SILENT: table.ignore,
    },
    State.ANSWERED: {
        Input.REQUEST: resolve,
        Input.ANSWER: table.illegal,
        Input.ORDER: send_and_end,
        Input.FIRMWARE: go_on,
        Input.SYSTEM: go_on,
        Input.SILENT: go_on,
    },
    State.WAITING: {
        Input.REQUEST: resolve,
        Input.ANSWER: table.illegal,
        Input.ORDER: send_and_end,
        Input.FIRMWARE: go_on,
        Input.SYSTEM: go_on,
        Input.SILENT: wait,
    },
}

table.check(TABLE, State, Input)


@define(eq=False)
class LoaderStates(table.Machine):
    """The state of the loader of one node."""

    table = TABLE

    state: State = State.IDLE
    requested_at: float = float("-inf")
    """Time of its latest request, in seconds of the clock; minus infinity: the next one is no repetition."""
    is_repeated: bool = False
    """Whether the request that is answered is a repetition."""
    deadline: float | None = None
    """When SILENT is due; None: never."""
