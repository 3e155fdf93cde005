"""State machine of a webhook: gathers events into batches, sends them, and retries a batch that failed."""

from enum import Enum
from typing import Any, ClassVar

from attrs import define, field

from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal

FIRST_RETRY = 1.0
"""Seconds until the first retry; the delay doubles with each further retry."""

LAST_RETRY = 60.0
"""Longest delay before a retry, in seconds."""


class State(Key):
    """The states of a webhook."""

    IDLE = "idle"
    """No event is queued."""
    GATHERING = "gathering"
    """Events are queued; more are gathered until the deadline."""
    SENDING = "sending"
    """A request is pending."""
    RETRYING = "retrying"
    """The request failed; the same batch is sent again at the deadline."""
    FINISHING = "finishing"
    """The service stops: the queued events are sent, without retries."""
    ENDED = "ended"
    """Nothing is sent any more."""


class Input(Key):
    """What can happen to a webhook."""

    EVENT = "event"
    """Events have been queued."""
    TICK = "tick"
    """The deadline has passed."""
    DELIVERED = "delivered"
    """The server has accepted the batch. The argument is the number of events that are queued behind it."""
    FAILED = "failed"
    """The request failed, or the server answered with a temporary error. The argument is as above."""
    REFUSED = "refused"
    """The server answered with a permanent error. The argument is as above."""
    STOP = "stop"
    """The service stops."""


class Do(Enum):
    """The actions of the webhook."""

    SEND = "send"
    """Send the first batch, and give DELIVERED, FAILED or REFUSED."""
    DROP = "drop"
    """Drop the first batch, and count its events."""
    DROP_ALL = "drop all"
    """Drop every event, and count them."""
    FINISHED = "finished"
    """Report to the service that the webhook has stopped."""


@goes(State.GATHERING)
def gather(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Wait for more events."""
    delivery.deadline = now + delivery.gather_seconds
    return State.GATHERING


@goes(State.SENDING)
def send(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Send a batch."""
    delivery.deadline = None
    delivery.failures = 0
    delivery.out.append(Do.SEND)
    return State.SENDING


@goes(State.SENDING)
def send_again(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Send the same batch again."""
    delivery.deadline = None
    delivery.out.append(Do.SEND)
    return State.SENDING


@goes(State.SENDING, State.IDLE)
def go_on(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Send the next batch, if there are events."""
    return send(delivery, argument, now) if argument else State.IDLE


@goes(State.RETRYING, State.SENDING, State.IDLE)
def retry(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Wait before the next retry, or drop the batch if there have been too many."""
    delivery.failures += 1
    if delivery.failures > delivery.retries:
        return give_up(delivery, argument, now)
    delivery.deadline = now + min(LAST_RETRY, FIRST_RETRY * 2 ** (delivery.failures - 1))
    return State.RETRYING


@goes(State.SENDING, State.IDLE)
def give_up(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Drop the batch, and send the next one, if there are events."""
    delivery.out.append(Do.DROP)
    return go_on(delivery, argument, now)


@goes(State.FINISHING)
def send_last(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Send the queued events at once."""
    delivery.deadline = None
    delivery.out.append(Do.SEND)
    return State.FINISHING


@goes(State.FINISHING)
def wait_for_last(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Wait for the pending request, which has a timeout."""
    return State.FINISHING


@goes(State.FINISHING, State.ENDED)
def finish(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Send the rest, if there is any."""
    return send_last(delivery, argument, now) if argument else end(delivery, argument, now)


@goes(State.ENDED)
def end_without(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """Drop all events, since the server does not accept them now."""
    delivery.out.append(Do.DROP_ALL)
    return end(delivery, argument, now)


@goes(State.ENDED)
def end(delivery: "DeliveryStates", argument: Any, now: float) -> State:
    """End: no event is left to be sent."""
    delivery.deadline = None
    delivery.out.append(Do.FINISHED)
    return State.ENDED


@goes(STAY)
def queue(delivery: "DeliveryStates", argument: Any, now: float) -> Any:
    """Leave the event in the queue."""
    return delivery.state


TABLE: Table = {
    State.IDLE: {
        Input.EVENT: gather,
        Input.TICK: illegal,
        Input.DELIVERED: illegal,
        Input.FAILED: illegal,
        Input.REFUSED: illegal,
        Input.STOP: end,
    },
    State.GATHERING: {
        Input.EVENT: queue,
        Input.TICK: send,
        Input.DELIVERED: illegal,
        Input.FAILED: illegal,
        Input.REFUSED: illegal,
        Input.STOP: send_last,
    },
    State.SENDING: {
        Input.EVENT: queue,
        Input.TICK: illegal,
        Input.DELIVERED: go_on,
        Input.FAILED: retry,
        Input.REFUSED: give_up,
        Input.STOP: wait_for_last,
    },
    State.RETRYING: {
        Input.EVENT: queue,
        Input.TICK: send_again,
        Input.DELIVERED: illegal,
        Input.FAILED: illegal,
        Input.REFUSED: illegal,
        Input.STOP: send_last,
    },
    State.FINISHING: {
        Input.EVENT: queue,
        Input.TICK: illegal,
        Input.DELIVERED: finish,
        Input.FAILED: end_without,
        Input.REFUSED: end_without,
        Input.STOP: illegal,
    },
    State.ENDED: {
        # The service publishes events until all of its parts are closed.
        Input.EVENT: ignore,
        Input.TICK: illegal,
        Input.DELIVERED: illegal,
        Input.FAILED: illegal,
        Input.REFUSED: illegal,
        Input.STOP: illegal,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class DeliveryStates(Machine):
    """The state of a webhook.

    :param gather_seconds: how long events are gathered into a batch.
    :param retries: how often a batch is sent again before it is dropped.
    """

    table: ClassVar[Table] = TABLE

    gather_seconds: float
    retries: int
    state: State = field(default=State.IDLE, kw_only=True)
    deadline: float | None = field(default=None, init=False)
    """When TICK is due, in seconds of the reactor's clock; None: never."""
    failures: int = field(default=0, init=False)
    """How often the current batch has failed."""
