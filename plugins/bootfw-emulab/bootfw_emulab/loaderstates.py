"""The boot loader of a node as a table: what is done when it asks, is answered, is sent an order, or goes on.

It repeats a request that is not answered, and an answer may be lost. So a one-time boot is over when the node shows
that it uses the answer: by a DHCP request, by what its system reports, or by not asking again.
"""

from enum import Enum
from typing import Any

from attrs import define

from bootfw.api import table
from bootfw_emulab.bootwhat import BootWhat, Kind

REPEATED = 10.0
"""Seconds after a request in which the next one is a repetition of it: answered, and not reported again."""

USED_AFTER = 20.0
"""Seconds after an answer by which the node uses it. pxeboot repeats a request after 2, 4, 8 and 16 s."""


class State(table.Key):
    """What the loader does, as far as it is known."""

    IDLE = "idle"
    """It does not run, or has got what it asked for."""
    ASKING = "asking"
    """The resolvers look for its answer."""
    ANSWERED = "answered"
    """A reply with what to boot was sent, and may be lost."""
    WAITING = "waiting"
    """It waits for an order."""


class Input(table.Key):
    """What can happen."""

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
    """What is to be done."""

    RESOLVE = "resolve"
    """Ask the resolvers."""
    REPLY = "reply"
    SEND_ORDER = "send order"
    REPORT_REQUEST = "report request"
    REPORT_ANSWER = "report answer"
    USED = "used"
    """Publish that the answer is used, if it was a one-time boot."""


@table.goes(State.ASKING)
def ask(loader: "LoaderStates", argument: Any, now: float) -> State:
    """Ask the resolvers. A repetition is not reported."""
    loader.is_repeated = now - loader.asked <= REPEATED
    loader.asked, loader.deadline = now, None
    loader.out += [Do.RESOLVE] if loader.is_repeated else [Do.REPORT_REQUEST, Do.RESOLVE]
    return State.ASKING


@table.goes(table.STAY)
def repeat(loader: "LoaderStates", argument: Any, now: float) -> State:
    """The answer is on its way."""
    loader.asked = now
    return State.ASKING


@table.goes(State.ANSWERED, State.WAITING, State.IDLE)
def answer(loader: "LoaderStates", argument: BootWhat | None, now: float) -> State:
    """Reply. A node that is to ask again does so at once, whether the reply arrives or not."""
    loader.out += [Do.REPLY] if loader.is_repeated else [Do.REPLY, Do.REPORT_ANSWER]
    if argument is None:
        return State.IDLE
    if argument.kind is Kind.AUTO:
        loader.out.append(Do.USED)
        loader.asked = float("-inf")
        return State.IDLE
    loader.deadline = now + USED_AFTER
    return State.WAITING if argument.kind is Kind.WAIT else State.ANSWERED


@table.goes(table.STAY)
def send(loader: "LoaderStates", argument: BootWhat, now: float) -> State:
    """Send the order; whether the node runs a loader that gets it is not known."""
    loader.out.append(Do.SEND_ORDER)
    state: State = loader.state
    return state


@table.goes(State.IDLE)
def send_and_end(loader: "LoaderStates", argument: BootWhat, now: float) -> State:
    """Send the order. It replaces the answer, and what the node asks next is no repetition."""
    loader.out += [Do.USED, Do.SEND_ORDER]
    loader.deadline, loader.asked = None, float("-inf")
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
        Input.REQUEST: ask,
        Input.ANSWER: table.illegal,
        Input.ORDER: send,
        Input.FIRMWARE: table.ignore,
        Input.SYSTEM: table.ignore,
        Input.SILENT: table.ignore,
    },
    State.ASKING: {
        Input.REQUEST: repeat,
        Input.ANSWER: answer,
        Input.ORDER: send,
        # It has just asked, so these are about what was before.
        Input.FIRMWARE: table.ignore,
        Input.SYSTEM: table.ignore,
        Input.SILENT: table.ignore,
    },
    State.ANSWERED: {
        Input.REQUEST: ask,
        Input.ANSWER: table.illegal,
        Input.ORDER: send_and_end,
        Input.FIRMWARE: go_on,
        Input.SYSTEM: go_on,
        Input.SILENT: go_on,
    },
    State.WAITING: {
        Input.REQUEST: ask,
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
    """Where the loader of one node stands."""

    table = TABLE

    state: State = State.IDLE
    asked: float = float("-inf")
    """When it asked last, in seconds of the clock."""
    is_repeated: bool = False
    """The request that is answered is a repetition."""
    deadline: float | None = None
    """When SILENT is due; None: never."""
