"""Each cell of the table of a connection to tmcd."""

import pytest
from bootfw_emulab.connectionstates import (
    HANDSHAKE_WITHIN,
    READ_WITHIN,
    TLS_TAG,
    ConnectionStates,
    Do,
    Input,
    State,
)
from bootfw_emulab.tmcdrequest import LONGEST

from bootfw.api import table

NOW = 100.0
REQUEST = b"VERSION=34 status "


def check_transition(
    connection: ConnectionStates, event: Input, next_state: State, *expected_out: Do, data: bytes = b""
) -> None:
    connection.handle(event, data, NOW)
    assert (connection.state, connection.out) == (next_state, list(expected_out))


@pytest.mark.parametrize("state", [State.OPEN, State.SECURED])
@pytest.mark.parametrize("end", [b" ", b"\n", b"\t"])
def test_a_request_is_answered(state: State, end: bytes) -> None:
    connection = ConnectionStates(state, deadline=NOW)
    check_transition(connection, Input.DATA, State.ANSWERING, Do.ANSWER, data=b"VERSION=34 status" + end)
    assert connection.deadline is None


@pytest.mark.parametrize("state", [State.OPEN, State.SECURED])
def test_a_part_of_a_request_waits_for_the_rest(state: State) -> None:
    connection = ConnectionStates(state, deadline=NOW)
    check_transition(connection, Input.DATA, state, data=REQUEST[:9])
    assert connection.deadline == NOW
    check_transition(connection, Input.DATA, State.ANSWERING, Do.ANSWER, data=REQUEST[9:])
    assert connection.received == REQUEST


@pytest.mark.parametrize("state", [State.OPEN, State.SECURED])
def test_too_long_a_request_is_answered_as_far_as_it_goes(state: State) -> None:
    check_transition(ConnectionStates(state), Input.DATA, State.ANSWERING, Do.ANSWER, data=b"x" * LONGEST)


def test_open_data_with_the_tag_begins_tls() -> None:
    connection = ConnectionStates()
    check_transition(connection, Input.DATA, State.SECURED, Do.SECURE, data=TLS_TAG)
    assert (connection.rest, connection.received, connection.deadline) == (b"", b"", NOW + HANDSHAKE_WITHIN)


def test_open_data_after_the_tag_is_of_tls() -> None:
    connection = ConnectionStates()
    check_transition(connection, Input.DATA, State.OPEN, data=TLS_TAG[:3])
    check_transition(connection, Input.DATA, State.SECURED, Do.SECURE, data=TLS_TAG[3:] + b"\x16\x03 ")
    assert connection.rest == b"\x16\x03 "


@pytest.mark.parametrize("event", [Input.END, Input.TIMEOUT])
@pytest.mark.parametrize("state", [State.OPEN, State.SECURED])
def test_request_before_the_end_or_timeout_is_answered(state: State, event: Input) -> None:
    connection = ConnectionStates(state, received=b"VERSION=34 status")
    check_transition(connection, event, State.ANSWERING, Do.ANSWER)


@pytest.mark.parametrize("event", [Input.END, Input.TIMEOUT])
@pytest.mark.parametrize("state", [State.OPEN, State.SECURED])
def test_connection_without_a_request_is_closed(state: State, event: Input) -> None:
    connection = ConnectionStates(state)
    check_transition(connection, event, State.CLOSING, Do.CLOSE)
    assert connection.deadline == NOW + READ_WITHIN


@pytest.mark.parametrize("state", [State.OPEN, State.SECURED, State.CLOSING])
def test_a_reply_that_was_not_asked_for_is_illegal(state: State) -> None:
    with pytest.raises(table.IllegalInput):
        ConnectionStates(state).handle(Input.ANSWERED, b"", NOW)


def test_answering_answered_is_sent() -> None:
    connection = ConnectionStates(State.ANSWERING)
    check_transition(connection, Input.ANSWERED, State.CLOSING, Do.SEND)
    assert connection.deadline == NOW + READ_WITHIN


@pytest.mark.parametrize("event", [Input.DATA, Input.END])
@pytest.mark.parametrize("state", [State.ANSWERING, State.CLOSING, State.CLOSED])
def test_after_the_request_the_client_has_nothing_to_say(state: State, event: Input) -> None:
    check_transition(ConnectionStates(state), event, state, data=b"more ")


def test_answering_has_no_deadline() -> None:
    with pytest.raises(table.IllegalInput):
        ConnectionStates(State.ANSWERING).handle(Input.TIMEOUT, b"", NOW)


def test_closing_timeout_aborts() -> None:
    connection = ConnectionStates(State.CLOSING, deadline=NOW)
    check_transition(connection, Input.TIMEOUT, State.CLOSING, Do.ABORT)
    assert connection.deadline is None


@pytest.mark.parametrize("state", [State.OPEN, State.SECURED, State.ANSWERING, State.CLOSING])
def test_a_lost_connection_is_over(state: State) -> None:
    connection = ConnectionStates(state, deadline=NOW)
    check_transition(connection, Input.LOST, State.CLOSED)
    assert connection.deadline is None


@pytest.mark.parametrize("event", [Input.TIMEOUT, Input.ANSWERED, Input.LOST])
def test_closed_ignores_the_rest(event: Input) -> None:
    check_transition(ConnectionStates(State.CLOSED), event, State.CLOSED)
