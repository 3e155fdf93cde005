"""What a ReadSession waits for, and what can happen to it."""

from bootfw.table import Key


class State(Key):
    """What the session waits for."""

    NEGOTIATING = "negotiating"
    """The OACK is out, ACK 0 is awaited (RFC 2347)."""
    FETCHING = "fetching"
    """The adapter reads the content of ``wants``."""
    AWAITING_ACK = "awaiting ACK"
    """A window is in flight."""
    PROVING = "proving"
    """A burst is in flight: its ACK shows whether the peer receives what it is sent. See bootfw.tftp.proof."""
    CLOSED = "closed"
    """The transfer has ended; ``outcome`` says how."""


class Input(Key):
    """What can happen, with the argument that goes with it."""

    ACK = "ACK"
    """Block number on the wire."""
    FETCHED = "fetched"
    """Number of bytes that were read for ``wants``."""
    FAILED = "failed"
    """A TransferError of the reader."""
    PEER_ERROR = "peer error"
    """(code, text) of the peer's ERROR."""
    REQUESTED = "requested"
    """None: an identical copy of the request has come."""
    TICK = "tick"
    """None: ``deadline`` is reached; too early does no harm."""
    CANCEL = "cancel"
    """A sentence for the peer: our side ends it."""
    REPLACED = "replaced"
    """None: the peer has begun another transfer from the same port."""
