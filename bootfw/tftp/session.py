"""What both sessions have in common: what they publish, and how a table moves them."""

import enum
from typing import Any, ClassVar, Generic, TypeVar

from attrs import define, field

from bootfw.errors import TransferError
from bootfw.table import Table, Transition, check
from bootfw.tftp.retransmit import Patience, Watchdog
from bootfw.values import Outcome
from bootfw.wire.tftp import ErrorCode, error

_State = TypeVar("_State", bound=enum.Enum)


@define(eq=False)
class Session(Generic[_State]):
    """Pure: it holds no timer, socket, file or Deferred.

    The adapter tells it what happened by ``handle()``, and afterwards looks at what it publishes. Time is in seconds on
    any clock that doesn't go backwards.
    """

    Input: ClassVar[Any]
    """What handle() takes."""
    _table: ClassVar[Table]
    _closed: ClassVar[Any]

    state: _State = field(init=False)
    out: list[Any] = field(factory=list, init=False)
    """To be sent, in order; the adapter empties it."""
    deadline: float | None = field(default=None, init=False)
    """When TICK is due."""
    outcome: Outcome | None = field(default=None, init=False)
    """How it ended, once it has."""
    detail: str = field(default="", init=False)
    """A sentence for the operator, or ""."""
    retransmitted: int = field(default=0, init=False)
    """Datagrams that were sent again."""

    _row: Any = field(init=False)
    """The state's row of the table."""
    _patience: Patience = field(init=False)
    _wait: float = field(init=False)
    """Seconds to wait for an answer to the sending that is under way."""
    _sent_at: float = field(init=False)
    """When something was sent that asks for an answer."""

    @classmethod
    def run_by(cls, table: Table, states: type[enum.Enum], inputs: type[enum.Enum]) -> None:
        """Make *table* the one that is executed.

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
        transition: Transition = self._row[event]
        after = transition(self, argument, now)
        if after is not self.state:
            self.state = after
            self._row = self._table[after]

    def _start(self, watchdog: Watchdog, now: float) -> None:
        self._patience = Patience(watchdog)
        self._wait = self._patience.first()
        self._sent_at = now

    def _enter(self, state: _State) -> None:
        self.state = state
        self._row = self._table[state]

    def _early(self, now: float) -> bool:
        """TICK has come before its time."""
        return self.deadline is not None and now < self.deadline

    def _fail(self, failure: TransferError, detail: str = "") -> _State:
        """Our side can't go on: tell the peer."""
        self.out.append(error(failure.tftp_code, failure.message))
        if not detail:
            detail = f"{failure.message}: {failure.detail}" if failure.detail else failure.message
        return self._close(Outcome.FAILED, detail)

    def _cancel(self, reason: str) -> _State:
        """Our side doesn't want to go on: tell the peer."""
        self.out.append(error(ErrorCode.NOT_DEFINED, reason))
        return self._close(Outcome.CANCELLED, reason)

    def _replace(self) -> _State:
        """The peer's port belongs to another transfer now: not a word."""
        return self._close(Outcome.CANCELLED, "the client began another transfer from the same port")

    def _close(self, outcome: Outcome, detail: str = "") -> _State:
        self.deadline = None
        self.outcome = outcome
        self.detail = detail
        closed: _State = self._closed
        return closed
