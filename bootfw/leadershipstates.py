"""Which of several nodes leads, as a table: standby, loading, leading, unconfirmed, cut off, resigned.

The store knows the leader by an epoch, which each new leader raises, and counts the confirmations of the leader. Nodes
do not compare their clocks. A leader decides for VALID seconds after it has sent a confirmation that succeeded. A
standby ends the time of a leader that has not confirmed its epoch for SILENCE seconds, by the standby's clock; since
SILENCE is longer, the leader has stopped by then. What it still writes is refused, because its epoch is over.
"""

from enum import Enum
from math import inf
from typing import Any, ClassVar
from uuid import UUID

from attrs import define, field, frozen

from bootfw.table import Key, Machine, Table, check, goes, ignore, illegal

CONFIRM_EVERY = 0.4
"""Seconds between two confirmations of a leader."""

LOOK_EVERY = 0.25
"""Seconds between two looks of a standby at the leader's confirmations."""

VALID = 1.2
"""Seconds that a leader decides after it has sent a confirmation."""

SILENCE = 1.6
"""Seconds without a confirmation after which a standby takes the place of the leader. Clocks may go at rates that
differ by 10 %, and VALID still ends first."""


@frozen
class Standing:
    """What a store answers to a node that stands for leader; see ILeadership."""

    leads: bool
    """The node leads."""
    epoch: int
    """Number of the leader in the order of all leaders."""
    confirmations: int
    """How often the leader has confirmed its epoch; any number that changes each time."""
    leader: str = ""
    """Name of the leader, which may be gone; "": no node has led yet."""
    cluster: UUID | None = None
    """Identifies the servers that share the store, as long as its content lasts: a DHCPv6 client is answered by any of
    them in the name of all (DUID-UUID, RFC 6355)."""


class State(Key):
    """The states of a node."""

    STANDBY = "standby"
    """Another node leads, or none does."""
    LOADING = "loading"
    """The node has become the leader, and loads leases and orders."""
    LEADING = "leading"
    UNCONFIRMED = "unconfirmed"
    """Its latest confirmation is too old; another node may lead. It decides nothing."""
    CUT_OFF = "cut off"
    """The store can't be reached. It renews leases up to the end that the store knows, and decides nothing else."""
    RESIGNED = "resigned"
    """The node takes no part any more."""


class Input(Key):
    """What can happen to a node."""

    LEADS = "leads"
    """The store has answered that this node leads. The argument is (Standing, when the question was sent)."""
    FOLLOWS = "follows"
    """The store has answered that it does not. The argument is (Standing, when the question was sent)."""
    UNAVAILABLE = "unavailable"
    """The store can't be reached, or did not answer in time."""
    LAPSED = "lapsed"
    """VALID seconds have passed since the latest confirmation."""
    LOADED = "loaded"
    """Leases and orders are loaded, and the service has begun to use them."""
    NOT_LOADED = "not loaded"
    """They can't be loaded or used."""
    RESIGN = "resign"
    """The service stops."""


class Do(Enum):
    """The actions of a node."""

    LOAD = "load"
    """Load leases and orders, and begin to use them; then LOADED or NOT_LOADED."""
    FOLLOW = "follow"
    """Drop what was loaded, and what waits for an answer."""


@goes(State.LOADING)
def load(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Load leases and orders."""
    node.note_confirmation(*argument)
    node.out.append(Do.LOAD)
    return State.LOADING


@goes(State.LOADING)
def wait_for_load(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Go on loading. In another epoch what is being loaded is out of date: load again."""
    if argument[0].epoch != node.epoch:
        node.out.append(Do.LOAD)
    node.note_confirmation(*argument)
    return State.LOADING


@goes(State.LEADING, State.UNCONFIRMED)
def lead(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Decide, unless the latest confirmation is too old."""
    return State.LEADING if now < node.until else State.UNCONFIRMED


@goes(State.LEADING, State.UNCONFIRMED, State.LOADING)
def confirm(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Decide until VALID seconds after the confirmation was sent. In another epoch, drop everything and load."""
    if argument[0].epoch != node.epoch:
        node.out.append(Do.FOLLOW)
        return load(node, argument, now)
    node.note_confirmation(*argument)
    return State.LEADING if now < node.until else State.UNCONFIRMED


@goes(State.UNCONFIRMED)
def lapse(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Decide nothing until the next confirmation."""
    return State.UNCONFIRMED


@goes(State.CUT_OFF)
def cut_off(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Renew leases only."""
    return State.CUT_OFF


@goes(State.STANDBY)
def give_up(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Load again when the store next answers that this node leads."""
    # The store takes this node for the leader until another one has its place: the next answer is LEADS or FOLLOWS.
    return State.STANDBY


@goes(State.STANDBY)
def watch(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Note when another confirmation of the leader was seen first."""
    node.note_leader(argument[0], now)
    return State.STANDBY


@goes(State.STANDBY)
def stop_loading(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Another node leads: what is being loaded is out of date."""
    return watch(node, argument, now)


@goes(State.STANDBY)
def follow(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Another node leads: drop everything."""
    node.out.append(Do.FOLLOW)
    return watch(node, argument, now)


@goes(State.STANDBY)
def forget(node: "LeadershipStates", argument: Any, now: float) -> State:
    """The leader may not reach the store either: give it time when the store is back."""
    node.seen = None
    return State.STANDBY


@goes(State.RESIGNED)
def resign(node: "LeadershipStates", argument: Any, now: float) -> State:
    """Take no part any more."""
    return State.RESIGNED


TABLE: Table = {
    State.STANDBY: {
        Input.LEADS: load,
        Input.FOLLOWS: watch,
        Input.UNAVAILABLE: forget,
        Input.LAPSED: ignore,
        # Loading ended after another node had begun to lead.
        Input.LOADED: ignore,
        Input.NOT_LOADED: ignore,
        Input.RESIGN: resign,
    },
    State.LOADING: {
        Input.LEADS: wait_for_load,
        Input.FOLLOWS: stop_loading,
        # The load reads the same store, and ends with NOT_LOADED if it can't.
        Input.UNAVAILABLE: ignore,
        # LOADED looks at the time: a load that took long ends in UNCONFIRMED.
        Input.LAPSED: ignore,
        Input.LOADED: lead,
        Input.NOT_LOADED: give_up,
        Input.RESIGN: resign,
    },
    State.LEADING: {
        Input.LEADS: confirm,
        Input.FOLLOWS: follow,
        Input.UNAVAILABLE: cut_off,
        Input.LAPSED: lapse,
        Input.LOADED: illegal,
        Input.NOT_LOADED: illegal,
        Input.RESIGN: resign,
    },
    State.UNCONFIRMED: {
        Input.LEADS: confirm,
        Input.FOLLOWS: follow,
        Input.UNAVAILABLE: cut_off,
        Input.LAPSED: ignore,
        Input.LOADED: illegal,
        Input.NOT_LOADED: illegal,
        Input.RESIGN: resign,
    },
    State.CUT_OFF: {
        Input.LEADS: confirm,
        Input.FOLLOWS: follow,
        Input.UNAVAILABLE: ignore,
        # No limit of time: leases are renewed up to the ends in the store, before which no other node gives them away.
        Input.LAPSED: ignore,
        Input.LOADED: illegal,
        Input.NOT_LOADED: illegal,
        Input.RESIGN: resign,
    },
    State.RESIGNED: {
        Input.LEADS: ignore,
        Input.FOLLOWS: ignore,
        Input.UNAVAILABLE: ignore,
        Input.LAPSED: ignore,
        Input.LOADED: ignore,
        Input.NOT_LOADED: ignore,
        Input.RESIGN: ignore,
    },
}

check(TABLE, State, Input)


@define(eq=False)
class LeadershipStates(Machine):
    """The state of a node. Each input has the time, of a clock that is never set."""

    table: ClassVar[Table] = TABLE

    state: State = field(default=State.STANDBY)
    standing: Standing = field(default=Standing(False, 0, 0), init=False)
    """The latest answer of the store."""
    until: float = field(default=-inf, init=False)
    """The node decides until then, while it is LEADING."""
    seen: Standing | None = field(default=None, init=False)
    """What a standby saw last of the leader; None: nothing since the store could be reached."""
    seen_at: float = field(default=-inf, init=False)
    """When it saw that first."""

    @property
    def epoch(self) -> int:
        """The epoch of the latest answer."""
        return self.standing.epoch

    def silent(self, now: float) -> Standing | None:
        """Return the leader that has not confirmed its epoch for SILENCE seconds; None: there is none."""
        return self.seen if self.seen is not None and now - self.seen_at >= SILENCE else None

    def note_confirmation(self, standing: Standing, sent: float) -> None:
        """This node leads.

        :param sent: when it asked. The store has answered later, so a standby that waits from the answer on waits
            longer.
        """
        self.standing = standing
        self.seen = None
        self.until = sent + VALID

    def note_leader(self, standing: Standing, now: float) -> None:
        """Another node leads, or none does."""
        self.standing = standing
        if self.seen != standing:
            self.seen, self.seen_at = standing, now
