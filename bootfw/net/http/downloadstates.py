"""An HTTP download as a table: opening, sending, waiting for the reader, paused by the client, ended."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal
from bootfw.values import Outcome

STALLED_SECONDS = 60.0
"""Seconds that a download may make no progress, for the backend or for the client: as long as by TFTP."""


class State(Key):
    """What a download does, or waits for."""

    OPENING = "opening"
    """The backend opens the file, or its first bytes are read for its media type."""
    SENDING = "sending"
    """Bytes are read and written now, without a wait."""
    WAITING = "waiting"
    """The reader answers later."""
    WAITING_PAUSED = "waiting, paused"
    """The reader answers later, and the transport takes no more until it has sent what it has."""
    PAUSED = "paused"
    """The transport takes no more until it has sent what it has."""
    ENDED = "ended"


class Input(Key):
    """What can happen to a download."""

    OPENED = "opened"
    """The file is open, and the response begins."""
    REFUSED = "refused"
    """The response is an error: no file, a condition that does not hold, a range that is not there."""
    ANSWERED = "answered"
    """The response needs no body: HEAD, or 304. The argument is (outcome, detail)."""
    WAIT = "wait"
    """The reader has given a Deferred."""
    READ = "read"
    """That Deferred has fired with bytes, which are going to be written."""
    FAILED = "failed"
    """The reader failed. The argument is the detail."""
    COMPLETE = "complete"
    """The last byte has been written. The argument is the detail."""
    PAUSE = "pause"
    """The transport has more to send than it buffers, or sendfile(2) has filled the socket."""
    RESUME = "resume"
    """The transport has sent what it had, or sendfile(2) has sent its part."""
    TICK = "tick"
    """No progress for STALLED_SECONDS."""
    CANCEL = "cancel"
    """Our side ends the download. The argument is the reason."""
    LOST = "lost"
    """The client has closed the connection. The argument is the detail."""


class Do(Enum):
    """What the download has to do after an input."""

    REFUSE_LATE = "refuse late"
    """Answer 503: the file was not opened in time."""
    ABORT = "abort"
    """Close everything and cut the connection, which no client can take for the end of the file."""
    FINISH = "finish"
    """Close everything; the response is complete."""
    RELEASE = "release"
    """Close everything; there is no connection any more."""


def _ends(download: "DownloadStates", action: Do, outcome: Outcome, detail: str) -> State:
    download.outcome, download.detail = outcome, detail
    download.out.append(action)
    return State.ENDED


@goes(State.SENDING)
def begin(download: "DownloadStates", argument: Any, now: float) -> State:
    """Begin to send."""
    return State.SENDING


@goes(State.ENDED)
def refuse(download: "DownloadStates", argument: Any, now: float) -> State:
    """The error is the whole response."""
    return State.ENDED


@goes(State.ENDED)
def refuse_late(download: "DownloadStates", argument: Any, now: float) -> State:
    """The backend has not opened the file in time: answer 503."""
    download.out.append(Do.REFUSE_LATE)
    return State.ENDED


@goes(State.ENDED)
def answer(download: "DownloadStates", argument: Any, now: float) -> State:
    """The response is complete without a body."""
    outcome, detail = argument
    return _ends(download, Do.FINISH, outcome, detail)


@goes(State.WAITING)
def wait(download: "DownloadStates", argument: Any, now: float) -> State:
    """Wait for the reader."""
    return State.WAITING


@goes(State.WAITING_PAUSED)
def wait_paused(download: "DownloadStates", argument: Any, now: float) -> State:
    """Wait for the reader, and for the client."""
    return State.WAITING_PAUSED


@goes(State.PAUSED)
def pause(download: "DownloadStates", argument: Any, now: float) -> State:
    """Wait until the transport takes more."""
    return State.PAUSED


@goes(State.ENDED)
def complete(download: "DownloadStates", argument: Any, now: float) -> State:
    """The response is complete."""
    return _ends(download, Do.FINISH, Outcome.COMPLETE, argument)


@goes(State.ENDED)
def fail(download: "DownloadStates", argument: Any, now: float) -> State:
    """Cut the connection: the rest can't be read."""
    return _ends(download, Do.ABORT, Outcome.FAILED, argument)


@goes(State.ENDED)
def reader_is_late(download: "DownloadStates", argument: Any, now: float) -> State:
    """Cut the connection: the backend has not answered in time."""
    return _ends(download, Do.ABORT, Outcome.FAILED, f"the backend had not answered after {STALLED_SECONDS:.0f} s")


@goes(State.ENDED)
def client_is_late(download: "DownloadStates", argument: Any, now: float) -> State:
    """Cut the connection: the client has taken nothing for too long."""
    return _ends(download, Do.ABORT, Outcome.TIMED_OUT, f"the client took nothing for {STALLED_SECONDS:.0f} s")


@goes(State.ENDED)
def cancel(download: "DownloadStates", argument: Any, now: float) -> State:
    """Cut the connection."""
    return _ends(download, Do.ABORT, Outcome.CANCELLED, argument)


@goes(State.ENDED)
def lose(download: "DownloadStates", argument: Any, now: float) -> State:
    """The client is gone: close everything."""
    return _ends(download, Do.RELEASE, Outcome.STOPPED_BY_PEER, argument)


TABLE: Table = {
    State.OPENING: {
        Input.OPENED: begin,
        Input.REFUSED: refuse,
        Input.ANSWERED: answer,
        Input.WAIT: illegal,
        Input.READ: illegal,
        Input.FAILED: illegal,
        Input.COMPLETE: illegal,
        Input.PAUSE: illegal,
        Input.RESUME: illegal,
        Input.TICK: refuse_late,
        Input.CANCEL: cancel,
        Input.LOST: lose,
    },
    State.SENDING: {
        Input.OPENED: illegal,
        Input.REFUSED: illegal,
        Input.ANSWERED: illegal,
        Input.WAIT: wait,
        Input.READ: illegal,
        Input.FAILED: fail,
        Input.COMPLETE: complete,
        Input.PAUSE: pause,
        Input.RESUME: ignore,
        # Sending takes no turn of the reactor.
        Input.TICK: illegal,
        Input.CANCEL: cancel,
        Input.LOST: lose,
    },
    State.WAITING: {
        Input.OPENED: illegal,
        Input.REFUSED: illegal,
        Input.ANSWERED: illegal,
        Input.WAIT: illegal,
        Input.READ: begin,
        Input.FAILED: fail,
        Input.COMPLETE: illegal,
        Input.PAUSE: wait_paused,
        Input.RESUME: ignore,
        Input.TICK: reader_is_late,
        Input.CANCEL: cancel,
        Input.LOST: lose,
    },
    State.WAITING_PAUSED: {
        Input.OPENED: illegal,
        Input.REFUSED: illegal,
        Input.ANSWERED: illegal,
        Input.WAIT: illegal,
        Input.READ: pause,
        Input.FAILED: fail,
        Input.COMPLETE: illegal,
        Input.PAUSE: ignore,
        Input.RESUME: wait,
        Input.TICK: reader_is_late,
        Input.CANCEL: cancel,
        Input.LOST: lose,
    },
    State.PAUSED: {
        Input.OPENED: illegal,
        Input.REFUSED: illegal,
        Input.ANSWERED: illegal,
        # What is being read or written when the transport pauses ends here.
        Input.WAIT: wait_paused,
        Input.READ: illegal,
        Input.FAILED: fail,
        Input.COMPLETE: illegal,
        Input.PAUSE: ignore,
        Input.RESUME: begin,
        Input.TICK: client_is_late,
        Input.CANCEL: cancel,
        Input.LOST: lose,
    },
    State.ENDED: {
        Input.OPENED: illegal,
        Input.REFUSED: illegal,
        Input.ANSWERED: illegal,
        Input.WAIT: illegal,
        Input.READ: illegal,
        Input.FAILED: ignore,
        Input.COMPLETE: illegal,
        # The transport has not noticed yet that the response is complete.
        Input.PAUSE: ignore,
        Input.RESUME: ignore,
        Input.TICK: illegal,
        Input.CANCEL: ignore,
        Input.LOST: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class DownloadStates(Machine):
    """The states of one download."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.OPENING)
    outcome: Outcome | None = field(default=None, init=False)
    """How it ended; None: it has not, or it was refused."""
    detail: str = field(default="", init=False)
