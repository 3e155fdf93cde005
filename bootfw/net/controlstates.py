"""A connection to the control socket as a table: receiving the request, waiting for the operation, sending, ended."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal


class State(Key):
    """What a connection does."""

    RECEIVING = "receiving"
    """The request has not arrived."""
    WAITING = "waiting"
    """The operation has been called and has not returned its records."""
    SENDING = "sending"
    """Records are sent as fast as the client reads them."""
    ENDED = "ended"


class Input(Key):
    """What can happen to a connection."""

    LINE = "line"
    """The client has sent a line, which is the argument."""
    TOO_LONG = "too long"
    """The client has sent a line that is longer than any request."""
    RECORDS = "records"
    """The operation has returned its records."""
    REFUSED = "refused"
    """The operation, or the iteration over its records, has failed. The argument is the last line."""
    PULL = "pull"
    """The transport takes more."""
    LAST = "last"
    """The last record has been sent. The argument is their number."""
    LOST = "lost"
    """The connection is closed."""


class Do(Enum):
    """The actions of the connection."""

    CALL = "call"
    """Call the operation that ``request`` names; then RECORDS or REFUSED."""
    SEND = "send"
    """Let the transport pull the records."""
    SEND_MORE = "send more"
    """Send the next records; then LAST after the last of them, or REFUSED."""
    STOP_SENDING = "stop sending"
    """Let the transport pull no more."""
    CLOSE = "close"
    """Send ``last_line``, and close the connection."""
    RELEASE = "release"
    """Drop the records: there is no connection any more."""


_TOO_LONG = {"error": "the request is too long"}


@goes(State.WAITING)
def call(control: "ControlStates", argument: Any, now: float) -> State:
    """Call the operation."""
    control.request = argument
    control.out.append(Do.CALL)
    return State.WAITING


@goes(State.SENDING)
def send(control: "ControlStates", argument: Any, now: float) -> State:
    """Begin to send the records."""
    control.out.append(Do.SEND)
    return State.SENDING


@goes(STAY)
def send_more(control: "ControlStates", argument: Any, now: float) -> State:
    """Send the next records."""
    control.out.append(Do.SEND_MORE)
    return control.state


@goes(State.ENDED)
def finish(control: "ControlStates", argument: Any, now: float) -> State:
    """Send the number of records, and close."""
    control.last_line = {"done": argument}
    control.out += [Do.STOP_SENDING, Do.CLOSE]
    return State.ENDED


@goes(State.ENDED)
def refuse(control: "ControlStates", argument: Any, now: float) -> State:
    """Send the reason, and close."""
    control.last_line = argument
    control.out.append(Do.CLOSE)
    return State.ENDED


@goes(State.ENDED)
def break_off(control: "ControlStates", argument: Any, now: float) -> State:
    """Send no more records, but the reason, and close."""
    control.out.append(Do.STOP_SENDING)
    return refuse(control, argument, now)


@goes(State.ENDED)
def refuse_length(control: "ControlStates", argument: Any, now: float) -> State:
    """Send that the request is too long, and close."""
    return refuse(control, _TOO_LONG, now)


@goes(State.ENDED)
def break_off_for_length(control: "ControlStates", argument: Any, now: float) -> State:
    """Send no more records, but that the second request is too long, and close."""
    return break_off(control, _TOO_LONG, now)


@goes(State.ENDED)
def release(control: "ControlStates", argument: Any, now: float) -> State:
    """The client is gone. An operation that is pending is not cancelled."""
    control.out.append(Do.RELEASE)
    return State.ENDED


TABLE: Table = {
    State.RECEIVING: {
        Input.LINE: call,
        Input.TOO_LONG: refuse_length,
        Input.RECORDS: illegal,
        Input.REFUSED: illegal,
        Input.PULL: illegal,
        Input.LAST: illegal,
        Input.LOST: release,
    },
    State.WAITING: {
        # A connection is for one request.
        Input.LINE: ignore,
        Input.TOO_LONG: refuse_length,
        Input.RECORDS: send,
        Input.REFUSED: refuse,
        Input.PULL: illegal,
        Input.LAST: illegal,
        Input.LOST: release,
    },
    State.SENDING: {
        Input.LINE: ignore,
        Input.TOO_LONG: break_off_for_length,
        Input.RECORDS: illegal,
        Input.REFUSED: break_off,
        Input.PULL: send_more,
        Input.LAST: finish,
        Input.LOST: release,
    },
    State.ENDED: {
        Input.LINE: ignore,
        Input.TOO_LONG: ignore,
        # The client went away while the operation was pending.
        Input.RECORDS: ignore,
        Input.REFUSED: ignore,
        Input.PULL: ignore,
        Input.LAST: illegal,
        Input.LOST: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class ControlStates(Machine):
    """The states of one connection."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.RECEIVING)
    request: bytes = field(default=b"", init=False)
    last_line: dict[str, Any] = field(factory=dict, init=False)
