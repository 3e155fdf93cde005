"""The state of what a session has in flight: the one copy, which the session and the fast path both work on."""

from math import inf

from attrs import define

CLOSED = -1
"""As ``Flight.limit``: the fast path answers nothing."""


@define(eq=False)
class Flight:
    """What has been sent and awaits an answer. Times are in seconds on the session's clock, blocks absolute numbers.

    The session owns it. While it is open, the fast path advances it for the one input that needs no decision: an ACK
    for everything in flight, after a round trip that teaches the watchdog nothing. See bootfw.net.tftp.fastpath.

    Three fields follow from the others then, so the fast path need not write them: ``acked`` is ``sent`` less a window,
    ``heard_at`` is ``sent_at``, ``deadline`` is ``sent_at`` plus ``wait``. It is opened only where that is so already.
    The session reads them as fields, because every input of its table closes the flight first; other code reads the
    properties of the session, which are always right.
    """

    heard_at: float
    """When the latest DATA or ACK of the peer came; at first, when the session began."""
    sent_at: float
    """When the latest datagrams that need an answer were sent."""
    wait: float = 0.0
    """How long to wait for that answer."""
    deadline: float | None = None
    """When the session's TICK is due; None: no timer runs."""
    round_trip: float = inf
    """The latest one that was measured; infinite before the first."""
    windowsize: int = 1
    acked: int = 0
    """The last block that the peer has acknowledged."""
    sent: int = 0
    """The highest block that has been sent."""
    limit: int = CLOSED
    """The last block whose ACK the fast path may answer; CLOSED: none."""
    min_round_trip: float = 0.0
    max_round_trip: float = 0.0
    """Bounds of the round trips that the watchdog need not learn of."""

    @property
    def derivable(self) -> bool:
        """Whether the three fields follow from the others, so that the flight may be opened."""
        return (
            self.sent - self.acked == self.windowsize
            and self.heard_at == self.sent_at
            and self.deadline == self.sent_at + self.wait
        )

    def close(self) -> None:
        """Keep the fast path from advancing it."""
        if self.limit != CLOSED:
            self.limit = CLOSED
            self.acked = self.sent - self.windowsize
            self.heard_at = self.sent_at
            self.deadline = self.sent_at + self.wait
