"""Whether this server leads those that share a store: the adapter of bootfw/leadershipstates.py to the store.

It asks the store a few times a second, and gives its answers to the table of states; docs/adr/0019-leadership.md.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.errors import StateError
from bootfw.events import Event, LeadershipChanged
from bootfw.interfaces import ILeadership
from bootfw.leadershipstates import CONFIRM_EVERY, LOOK_EVERY, Do, Input, LeadershipStates, Standing, State

_SOONEST = 0.05
"""Seconds from an answer of the store to the next question, at least: also a slow store gets a pause."""

_PUBLISHED = (State.STANDBY, State.LEADING, State.CUT_OFF)
"""The states that are published. The others last for a moment."""


class Leadership:
    """Whether this server decides, of several that share a store.

    :param reactor: IReactorTime.
    :param node: name of this server.
    :param lead: called when leases and orders can be loaded without waiting: begin to use them. It may raise StateError
        and has then undone what it began.
    :param follow: called when another server leads: stop to use them.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        store: ILeadership,
        node: str,
        lead: Callable[[], None],
        follow: Callable[[], None],
        publish: Callable[[Event], None],
    ) -> None:
        self._reactor = reactor
        self._seconds: Callable[[], float] = reactor.seconds
        self._store = store
        self.node = node
        self._lead = lead
        self._publish = publish
        self._do = {Do.LOAD: self._load, Do.FOLLOW: follow}
        self._states = LeadershipStates(State.RESIGNED)
        self._next_question: Any = None
        """The delayed call of the next question; None: the store has not answered the latest one, or it is over."""
        self._starts = 0
        """Count of start(), so that the answer to a question from before a restart is ignored."""
        self._loads = 0
        """Count of loads, so that the result of an earlier one is ignored."""
        self._reason = ""
        """Why the store can't be reached or used."""
        self._published: tuple[str, str, bool] | None = None
        """State, leader, and whether there was a reason, of the latest event."""
        self.dropped = 0
        """Requests that were dropped unread because another server leads."""

    def start(self) -> None:
        """Stand for leader, until stop()."""
        if self._states.state is State.RESIGNED:
            self._starts += 1
            self._states = LeadershipStates()
            self._published, self._reason = None, ""
            self._ask()

    def stop(self, closed: "Deferred[Any]") -> "Deferred[Any]":
        """Stand no more.

        :param closed: fires when leases and orders are closed.
        :return: fires when the store is released.
        """
        if self._states.state is State.RESIGNED:
            return closed
        if self._next_question is not None:
            self._next_question.cancel()
            self._next_question = None
        led = self._states.state in (State.LEADING, State.UNCONFIRMED, State.CUT_OFF)
        self._handle(Input.RESIGN)
        if led:
            self._publish(LeadershipChanged(self._seconds(), State.RESIGNED.value, self.node))
        # Not earlier: once another node leads, the store refuses what this one has still to write.
        return closed.addCallback(lambda _: maybeDeferred(self._store.resign))

    @property
    def decides(self) -> bool:
        """Whether this server gives addresses and chooses boot files now. Read before each batch and each reply."""
        # The clock decides and no timer: after the process was stopped (SIGSTOP, a paused virtual machine), packets are
        # read before a timer that is due runs.
        states = self._states
        if states.state is not State.LEADING:
            return False
        if self._seconds() < states.until:
            return True
        self._handle(Input.LAPSED)
        return False

    @property
    def renews(self) -> bool:
        """Whether this server renews leases that the store has, and decides nothing else."""
        return self._states.state is State.CUT_OFF

    @property
    def leader(self) -> str:
        """Name of the leader as far as this server knows; "": there was none."""
        return self._states.standing.leader

    @property
    def standing(self) -> Standing:
        """The latest answer of the store."""
        return self._states.standing

    @property
    def refusal(self) -> str:
        """Why this server refuses what only the leader can do, and which server leads, for the operator."""
        if self._states.state is State.RESIGNED:
            return "this server does not lead, since it is about to stop: ask another one"
        leader_text = f"{self.leader} leads: ask there" if self.leader not in ("", self.node) else "no server leads"
        return f"this server is a standby; {leader_text}"

    def record(self) -> Mapping[str, object]:
        """What an operator can see: state, node, leader, epoch, dropped, reason."""
        states = self._states
        return {
            "state": states.state.value,
            "node": self.node,
            "leader": self.leader,
            "epoch": states.epoch,
            "dropped": self.dropped,
            "reason": self._reason,
        }

    def _ask(self) -> None:
        self._next_question = None
        now, start = self._seconds(), self._starts
        silent = self._states.silent(now)
        maybeDeferred(self._store.stand, self.node, silent).addCallbacks(
            self._answered, self._unavailable, callbackArgs=(now, start), errbackArgs=(now, start)
        ).addErrback(lambda failure: self._log.failure("Failed to take the answer of the store.", failure))

    def _answered(self, standing: Standing, sent: float, start: int) -> None:
        if start != self._starts or self._states.state is State.RESIGNED:
            return
        try:
            if not standing.leads or self._states.state is not State.STANDBY:
                # A standby that the store takes for the leader has failed to load: it keeps that reason until it can.
                self._reason = ""
            self._handle(Input.LEADS if standing.leads else Input.FOLLOWS, (standing, sent))
        finally:
            self._ask_again(sent)

    def _unavailable(self, failure: Failure, sent: float, start: int) -> None:
        if start != self._starts or self._states.state is State.RESIGNED:
            return
        self._reason = str(failure.value)
        if failure.check(StateError) is None and (self._published is None or not self._published[2]):
            self._log.failure("The store failed to choose a leader.", failure)
        self._handle(Input.UNAVAILABLE)
        self._ask_again(sent)

    def _ask_again(self, sent: float) -> None:
        if self._states.state is State.RESIGNED:
            return
        every = LOOK_EVERY if self._states.state is State.STANDBY else CONFIRM_EVERY
        self._next_question = self._reactor.callLater(max(_SOONEST, sent + every - self._seconds()), self._ask)

    def _load(self) -> None:
        self._loads += 1
        maybeDeferred(self._store.prepare).addCallbacks(
            self._prepared, self._not_prepared, callbackArgs=(self._loads,), errbackArgs=(self._loads,)
        ).addErrback(lambda failure: self._log.failure("Failed to take the content of the store.", failure))

    def _prepared(self, _: object, load: int) -> None:
        if load != self._loads or self._states.state is not State.LOADING:
            return
        try:
            self._lead()
        except Exception:
            self._not_prepared(Failure(), load)
        else:
            self._reason = ""
            self._handle(Input.LOADED)

    def _not_prepared(self, failure: Failure, load: int) -> None:
        if load != self._loads or self._states.state is not State.LOADING:
            return
        reason = str(failure.value)
        if failure.check(StateError) is None and reason != self._reason:
            self._log.failure("This server can't lead.", failure)
        self._reason = reason
        self._handle(Input.NOT_LOADED)

    def _handle(self, event: Input, argument: Any = None) -> None:
        """Give an input to the table of states, do the actions that follow, and publish a change."""
        # The answers of the store are timed by when the question was sent (_answered): it may have waited in a network
        # or for a disk since, while a standby has counted.
        states, now = self._states, self._seconds()
        states.run(self._do, event, argument, now)
        published = states.state.value, self.leader, bool(self._reason)
        if states.state in _PUBLISHED and published != self._published:
            self._published = published
            self._publish(LeadershipChanged(now, states.state.value, self.leader, self._reason))
