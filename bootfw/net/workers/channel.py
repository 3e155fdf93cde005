"""Messages between the processes of one server: pickled, each behind its length. Both ends run the same code."""

import os
import pickle
from collections.abc import Callable
from typing import Any

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.basic import Int32StringReceiver

Received = Callable[[str, tuple[Any, ...]], None]
"""Called with the kind of a message and its values."""

LARGEST = 1 << 28
"""Bytes. Messages are small; a configuration, and what a new worker is to know, may be larger."""


class Channel(Int32StringReceiver):
    """One end. Over pipes, so that nobody else can be at the other one."""

    MAX_LENGTH = LARGEST

    def __init__(self, received: Received) -> None:
        self._received = received

    def send(self, kind: str, *values: Any) -> None:
        """Send a message. Messages arrive in order; when the other process ends, the last ones may not."""
        self.send_packed(packed(kind, *values))

    def send_packed(self, message: bytes) -> None:
        """Send what packed() made; for several at once."""
        self.sendString(message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """See Int32StringReceiver."""
        self._received(*pickle.loads(string))


def packed(kind: str, *values: Any) -> bytes:
    """A message, as send_packed() takes it."""
    return pickle.dumps((kind, values), pickle.HIGHEST_PROTOCOL)


class _Pipe(FileDescriptor):
    """An end of a pipe that this process was started with.

    :param lost: called once, when it has been closed at either end.
    """

    connected = 1

    def __init__(self, reactor: Any, descriptor: int, lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._lost = lost
        fdesc.setNonBlocking(descriptor)  # type: ignore[no-untyped-call]

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._descriptor

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        os.close(self._descriptor)
        self._descriptor = -1
        self._lost()


class Incoming(_Pipe):
    """One that is read."""

    def __init__(
        self, reactor: Any, descriptor: int, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor, lost)
        self._received = received
        self.startReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        return fdesc.readFromFD(self._descriptor, self._received)  # type: ignore[no-untyped-call]


class Outgoing(_Pipe):
    """One that is written to, and no later than that: what is in a pipe outlives the process that wrote it.

    Only while it is full, what is written waits here.
    """

    def write(self, data: bytes) -> None:
        """See ITransport."""
        super().write(data)
        if self.connected:
            # Should it be broken, it will be so yet when the reactor asks.
            self.doWrite()  # type: ignore[no-untyped-call]

    def writeSomeData(self, data: bytes) -> Any:
        """See FileDescriptor."""
        return fdesc.writeToFD(self._descriptor, data)  # type: ignore[no-untyped-call]
