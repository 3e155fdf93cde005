"""A connection to tmcd as a state table: one request, which may be in TLS, and one reply."""

from enum import Enum
from typing import Any

from attrs import define

from bootfw.api import table
from bootfw_emulab.tmcdrequest import LONGEST

TLS_TAG = b"ISPEAKSSL_TMCDV10"
"""What a client sends before its TLS handshake."""

READ_WITHIN = 3.0
"""Seconds that a client has for its request, and after the reply for closing the connection."""

HANDSHAKE_WITHIN = 10.0
"""Seconds for the TLS handshake and the request."""

_COMPLETE = (b" ", b"\t", b"\n")


class State(table.Key):
    """What a connection waits for."""

    OPEN = "open"
    """The request, or the tag of TLS."""
    SECURED = "secured"
    """The request, in TLS."""
    ANSWERING = "answering"
    """The reply of this server."""
    CLOSING = "closing"
    """The client, which reads the reply and closes."""
    CLOSED = "closed"


class Input(table.Key):
    """An input of the table."""

    DATA = "data"
    """Bytes of the client, decrypted."""
    END = "end"
    """The client sends no more."""
    TIMEOUT = "timeout"
    """The deadline has passed."""
    ANSWERED = "answered"
    """The reply is ready."""
    LOST = "lost"
    """The connection is closed."""


class Do(Enum):
    """An action, which the adapter carries out."""

    SECURE = "secure"
    """Begin TLS with the bytes after the tag; without a certificate, close."""
    ANSWER = "answer"
    """Answer the request."""
    SEND = "send"
    """Send the reply, and close."""
    CLOSE = "close"
    ABORT = "abort"


@table.goes(State.OPEN, State.SECURED, State.ANSWERING)
def read(connection: "ConnectionStates", data: bytes, now: float) -> State:
    """Take bytes: the request, the tag of TLS, or a part of either."""
    connection.received += data
    received = connection.received
    if TLS_TAG.startswith(received[: len(TLS_TAG)]):
        if len(received) < len(TLS_TAG):
            return State.OPEN
        connection.received, connection.rest = b"", received[len(TLS_TAG) :]
        connection.deadline = now + HANDSHAKE_WITHIN
        connection.out.append(Do.SECURE)
        return State.SECURED
    return _answer(connection) if _is_complete(received) else State.OPEN


@table.goes(State.SECURED, State.ANSWERING)
def read_secured(connection: "ConnectionStates", data: bytes, now: float) -> State:
    """Take bytes of the request."""
    connection.received += data
    return _answer(connection) if _is_complete(connection.received) else State.SECURED


@table.goes(State.ANSWERING, State.CLOSING)
def answer_what_is_there(connection: "ConnectionStates", argument: Any, now: float) -> State:
    """Answer what has been received. If there is nothing, close."""
    if connection.received:
        return _answer(connection)
    connection.deadline = now + READ_WITHIN
    connection.out.append(Do.CLOSE)
    return State.CLOSING


@table.goes(State.CLOSING)
def send(connection: "ConnectionStates", argument: Any, now: float) -> State:
    """Send the reply, and close."""
    connection.deadline = now + READ_WITHIN
    connection.out.append(Do.SEND)
    return State.CLOSING


@table.goes(State.CLOSING)
def abort(connection: "ConnectionStates", argument: Any, now: float) -> State:
    """The client does not take the reply: drop the connection."""
    connection.deadline = None
    connection.out.append(Do.ABORT)
    return State.CLOSING


@table.goes(State.CLOSED)
def end(connection: "ConnectionStates", argument: Any, now: float) -> State:
    """The connection is over."""
    connection.deadline = None
    return State.CLOSED


def _answer(connection: "ConnectionStates") -> State:
    connection.deadline = None
    connection.out.append(Do.ANSWER)
    return State.ANSWERING


def _is_complete(received: bytes) -> bool:
    """Return whether the bytes can be a whole request. tmcc ends it with a blank; a part of one may end anywhere."""
    return len(received) >= LONGEST or received.endswith(_COMPLETE)


TABLE: table.Table = {
    State.OPEN: {
        Input.DATA: read,
        Input.END: answer_what_is_there,
        Input.TIMEOUT: answer_what_is_there,
        Input.ANSWERED: table.illegal,
        Input.LOST: end,
    },
    State.SECURED: {
        Input.DATA: read_secured,
        Input.END: answer_what_is_there,
        Input.TIMEOUT: answer_what_is_there,
        Input.ANSWERED: table.illegal,
        Input.LOST: end,
    },
    State.ANSWERING: {
        Input.DATA: table.ignore,
        Input.END: table.ignore,
        Input.TIMEOUT: table.illegal,
        Input.ANSWERED: send,
        Input.LOST: end,
    },
    State.CLOSING: {
        Input.DATA: table.ignore,
        Input.END: table.ignore,
        Input.TIMEOUT: abort,
        Input.ANSWERED: table.illegal,
        Input.LOST: end,
    },
    State.CLOSED: {
        Input.DATA: table.ignore,
        Input.END: table.ignore,
        Input.TIMEOUT: table.ignore,
        # The resolvers were asked, and the client did not wait.
        Input.ANSWERED: table.ignore,
        Input.LOST: table.ignore,
    },
}

table.check(TABLE, State, Input)


@define(eq=False)
class ConnectionStates(table.Machine):
    """The state of one connection."""

    table = TABLE

    state: State = State.OPEN
    received: bytes = b""
    """The bytes of the request so far; LONGEST of them are used."""
    rest: bytes = b""
    """Bytes that came with the tag of TLS, after it."""
    deadline: float | None = None
    """When TIMEOUT is due; None: never."""
