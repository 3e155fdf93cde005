"""The base of both sessions: what they publish, and how their table moves them."""

import enum
from typing import Any, ClassVar, Generic, TypeVar

from attrs import define, field

from bootfw.errors import TransferError
from bootfw.table import Table, Transition, check
from bootfw.tftp.flight import CLOSED, Flight
from bootfw.tftp.retransmit import RetransmitTimer, Watchdog
from bootfw.values import Outcome
from bootfw.wire.tftp import ErrorCode, error

_State = TypeVar("_State", bound=enum.Enum)


@define(eq=False)
class Session(Generic[_State]):
    """Pure: it holds no timer, socket, file or Deferred.

    The adapter calls ``handle()`` with what happened, and afterwards looks at what the session publishes. Time is
    in seconds on any clock that doesn't go backwards.
    """

    Input: ClassVar[Any]
    """What handle() takes."""
    _table: ClassVar[Table]
    _closed: ClassVar[Any]

    state: _State = field(init=False)
    out: list[Any] = field(factory=list, init=False)
    """Datagrams and Blocks to send, in order. The adapter clears it."""
    outcome: Outcome | None = field(default=None, init=False)
    """How the transfer ended; None: it has not."""
    detail: str = field(default="", init=False)
    """A sentence for the operator, or ""."""
    retransmitted: int = field(default=0, init=False)
    """Datagrams that were sent again."""

    _row: Any = field(init=False)
    """The row of the table for ``state``, so that handle() has one lookup less."""
    flight: Flight = field(init=False)
    """The blocks in flight. Their times, positions and the deadline are stored only there."""
    _timer: RetransmitTimer = field(init=False)

    @classmethod
    def use_table(cls, table: Table, states: type[enum.Enum], inputs: type[enum.Enum]) -> None:
        """Set the *table* that sessions of this class follow.

        :raise TypeError: it has a hole.
        """
        check(table, states, inputs)
        cls.Input = inputs
        cls._table = table
        cls._closed = states["CLOSED"]

    def handle(self, event: Any, argument: Any, now: float) -> None:
        """Take one input, a member of ``Input`` with its argument.

        :raise IllegalInput: the adapter is wrong. What a peer did never raises.
        """
        # The input may change what an ACK means. The adapter opens the fast path again if the session is steady then.
        flight = self.flight
        if flight.limit != CLOSED:
            flight.close()
        transition: Transition = self._row[event]
        after = transition(self, argument, now)
        if after is not self.state:
            self.state = after
            self._row = self._table[after]

    @property
    def deadline(self) -> float | None:
        """When TICK is due; None: no timer runs."""
        flight = self.flight
        return flight.deadline if flight.limit == CLOSED else flight.sent_at + flight.wait

    @property
    def last_heard(self) -> float:
        """When the latest DATA or ACK of the peer came; at first, when the session began."""
        flight = self.flight
        return flight.heard_at if flight.limit == CLOSED else flight.sent_at

    def _start(self, watchdog: Watchdog, now: float) -> None:
        self.flight = Flight(now, now)
        self._timer = RetransmitTimer(watchdog, self.flight)
        self.flight.wait = self._timer.first()

    def _enter(self, state: _State) -> None:
        self.state = state
        self._row = self._table[state]

    def _is_early(self, now: float) -> bool:
        """Return whether TICK has come before its time."""
        return self.flight.deadline is not None and now < self.flight.deadline

    def _fail(self, failure: TransferError, detail: str = "") -> _State:
        """End with an ERROR: our side failed."""
        self.out.append(error(failure.tftp_code, failure.message))
        return self._close(Outcome.FAILED, detail or failure.reason)

    def _cancel(self, reason: str) -> _State:
        """End with an ERROR: our side cancels."""
        self.out.append(error(ErrorCode.NOT_DEFINED, reason))
        return self._close(Outcome.CANCELLED, reason)

    def _replace(self) -> _State:
        """End without an ERROR: the peer's port belongs to another transfer now."""
        return self._close(Outcome.CANCELLED, "the client began another transfer from the same port")

    def _close(self, outcome: Outcome, detail: str = "") -> _State:
        self.flight.deadline = None
        self.outcome = outcome
        self.detail = detail
        closed: _State = self._closed
        return closed
