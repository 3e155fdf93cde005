"""Drives a MulticastSession as an adapter does, without clock, socket or reactor: now is a number."""

from typing import Any

from attrs import define, field
from driving import Waits, numbered

from bootfw import table
from bootfw.tftp.multicast import Input, Member, MulticastSession, State
from bootfw.values import Agreed, Outcome
from bootfw.wire import tftp as wire

BLKSIZE = 8
ADDRESS = ("239.255.77.1", 1758)
OPTIONS = (("multicast", ""), ("blksize", "8"))

Sent = tuple[str, wire.Packet]
"""The name of a member, or "group", and what was sent to it."""


def oack(mc: int) -> wire.OptionAck:
    return wire.OptionAck((("multicast", f"239.255.77.1,1758,{mc}"), ("blksize", "8")))


@define(eq=False)
class Multicasting:
    """A session with its file. With *lazy* nothing is fetched before fetch()."""

    content: bytes = numbered(20)
    lazy: bool = False
    now: float = 0.0
    session: MulticastSession = field(init=False)
    names: dict[Member, str] = field(factory=dict, init=False)
    _sent: list[Sent] = field(factory=list, init=False)

    def __attrs_post_init__(self) -> None:
        self.session = MulticastSession(ADDRESS, len(self.content), BLKSIZE)

    def join(self, name: str, agreed: Agreed | None = None, watchdog: Any = None) -> tuple[Member, list[Sent]]:
        agreed = agreed or Agreed(BLKSIZE, acknowledged=OPTIONS)
        member = Member(self.session, agreed, watchdog or Waits(), self.now)
        self.names[member] = name
        return member, self.give(Input.JOINED, member)

    def give(self, event: Input, member: Member | None, argument: Any = None, at: float | None = None) -> list[Sent]:
        """Give the session one input, and check what must hold after each; returns what is sent then."""
        self.now = self.now if at is None else at
        self._step(event, member, argument)
        if not self.lazy:
            self.fetch()
        sent, self._sent = self._sent, []
        return sent

    def ack(self, member: Member, number: int, at: float | None = None) -> list[Sent]:
        return self.give(Input.ACK, member, number, at)

    def tick(self) -> list[Sent]:
        """TICK, just when it is due."""
        assert self.session.deadline is not None
        return self.give(Input.TICK, None, None, max(self.now, self.session.deadline))

    def fetch(self) -> list[Sent]:
        """Let the reader answer."""
        session = self.session
        if session.wants is not None:
            offset, length = session.wanted
            self._step(Input.FETCHED, session.master, self.content[offset : offset + length])
        sent, self._sent = self._sent, [] if self.lazy else self._sent
        return sent

    def _step(self, event: Input, member: Member | None, argument: Any) -> None:
        session = self.session
        before = session.state
        cell: Any = session.table[before][event]
        session.handle(event, (member, argument), self.now)
        if cell is table.ignore:
            assert session.state is before
        else:
            assert session.state in [before if state is table.STAY else state for state in cell.successors]
        self._sent += [
            ("group" if to is None else self.names[to], wire.parse(datagram)) for to, datagram in session.out
        ]
        session.out.clear()
        self._check_attributes()

    def _check_attributes(self) -> None:
        """Check that the public attributes agree with the state."""
        session = self.session
        idle = session.state is State.IDLE
        assert (session.master is None) == idle == (not session.members)
        assert idle or session.master in session.members
        assert (session.wants is not None) == (session.state is State.FETCHING)
        assert (session.deadline is not None) == (session.state in (State.APPOINTING, State.AWAITING_ACK))
        assert all(member.outcome is None for member in session.members)
        assert all(member.outcome is not None and member not in session.members for member in session.ended)
        for member in self.names:
            assert member.deadline == (session.deadline if member is session.master else None)
            assert member.outcome is not Outcome.COMPLETE or member.bytes_transferred == session.size
