"""The end of a transfer as a table: it runs, its end is reported, it is finished."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore
from bootfw.values import Outcome


class State(Key):
    """The state of a transfer."""

    RUNNING = "running"
    REPORTED = "reported"
    """Its end is published; it remains to repeat its last packet."""
    FINISHED = "finished"
    """All its resources are released."""


class Input(Key):
    """What can happen to a transfer."""

    OUTCOME = "outcome"
    """Its session has ended, well or not, and may repeat its last packet. The argument is (Outcome, a sentence for the
    operator or "")."""
    CLOSE = "close"
    """Its session has ended and sends nothing more, or has failed. The argument is that of OUTCOME."""
    FINISH = "finish"
    """Nothing is expected of the client any more, or another process continues with it."""


class Do(Enum):
    """The actions of the transfer."""

    REPORT = "report"
    """Publish the TransferEnded: see ``outcome``, ``detail`` and ``ended``."""
    RELEASE = "release"
    """Release the file, the port, the timer and the entry in the listener."""


@goes(State.REPORTED)
def report(transfer: "TransferStates", argument: Any, now: float) -> State:
    """Report the end."""
    transfer.outcome, transfer.detail = argument
    transfer.ended = now
    transfer.out.append(Do.REPORT)
    return State.REPORTED


@goes(State.FINISHED)
def finish(transfer: "TransferStates", argument: Any, now: float) -> State:
    """Release everything."""
    transfer.out.append(Do.RELEASE)
    return State.FINISHED


@goes(State.FINISHED)
def report_and_finish(transfer: "TransferStates", argument: Any, now: float) -> State:
    """Report the end, and release everything."""
    report(transfer, argument, now)
    return finish(transfer, argument, now)


TABLE: Table = {
    State.RUNNING: {
        Input.OUTCOME: report,
        Input.CLOSE: report_and_finish,
        Input.FINISH: finish,
    },
    State.REPORTED: {
        # The client has sent its last packet again, or the repetition has failed.
        Input.OUTCOME: ignore,
        Input.CLOSE: finish,
        Input.FINISH: finish,
    },
    State.FINISHED: {
        # A plugin that is called to release something may end the transfer again.
        Input.OUTCOME: ignore,
        Input.CLOSE: ignore,
        Input.FINISH: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class TransferStates(Machine):
    """The states of one transfer."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.RUNNING)
    outcome: Outcome = field(default=Outcome.FAILED, init=False)
    """The outcome that is reported; the next two are reported with it."""
    detail: str = field(default="", init=False)
    ended: float = field(default=0.0, init=False)
    """When the session ended, in seconds of the clock."""
