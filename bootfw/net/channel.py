"""Messages between the processes of one server: pickled, each behind its length. Both ends run the same code."""

import pickle
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.protocols.basic import Int32StringReceiver
from zope.interface import implementer

Received = Callable[[str, tuple[Any, ...]], None]
"""Called with the kind of a message and its values."""

LARGEST = 1 << 28
"""Octets. What is told is small; a configuration and the memory that a new worker is given may be larger."""


@implementer(IHalfCloseableProtocol)
class Channel(Int32StringReceiver):
    """One end. Over pipes, so that nobody else can be at the other one.

    :param ending: nothing will be received any more; what is told still arrives.
    :param lost: nothing can be told any more either.
    """

    MAX_LENGTH = LARGEST

    def __init__(self, received: Received, ending: Callable[[], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._ending = ending
        self._lost = lost

    def tell(self, kind: str, *values: Any) -> None:
        """Send a message. It comes in its order, or with the other process's end not at all."""
        self.tell_packed(packed(kind, *values))

    def tell_packed(self, message: bytes) -> None:
        """Send what packed() made; for several at once."""
        self.sendString(message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """See Int32StringReceiver."""
        self._received(*pickle.loads(string))

    def readConnectionLost(self) -> None:
        """See IHalfCloseableProtocol."""
        self._ending()

    def writeConnectionLost(self) -> None:
        """See IHalfCloseableProtocol. The other end has gone without a word."""
        self._lost()

    def connectionLost(self, reason: Any = None) -> None:
        """See IProtocol."""
        self._lost()


def packed(kind: str, *values: Any) -> bytes:
    """A message, as tell_packed() takes it."""
    return pickle.dumps((kind, values), pickle.HIGHEST_PROTOCOL)
