"""Messages between the processes of one server: pickled, with a length prefix. Both ends run the same code.

Sockets go by a connection of their own, since a pipe does not carry descriptors.
"""

import os
import pickle
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.protocols.basic import Int32StringReceiver

Received = Callable[[str, tuple[Any, ...]], None]
"""Takes the kind of a message and its values."""

MAX_MESSAGE = 1 << 28
"""Bytes. Messages are small, but the configuration and the state for a new worker may be large."""


class Channel(Int32StringReceiver):
    """One end of a connection. It runs over pipes, so that only the two processes can have its ends."""

    MAX_LENGTH = MAX_MESSAGE

    def __init__(self, received: Received) -> None:
        self._received = received

    def send(self, kind: str, *values: Any) -> None:
        """Send a message. Messages arrive in order; the last ones may be lost if the other process ends."""
        self.send_packed(packed(kind, *values))

    def send_packed(self, message: bytes) -> None:
        """Send the result of packed(), which can go to several channels."""
        self.sendString(message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """See Int32StringReceiver."""
        self._received(*pickle.loads(string))


def packed(kind: str, *values: Any) -> bytes:
    """Serialize a message for send_packed()."""
    return pickle.dumps((kind, values), pickle.HIGHEST_PROTOCOL)


class _Pipe(FileDescriptor):
    """An end of a pipe that this process inherited.

    :param lost: called once, when either end has been closed.
    """

    connected = 1

    def __init__(self, reactor: Any, descriptor: int, lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._lost = lost
        fdesc.setNonBlocking(descriptor)

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
    """The reading end of a pipe."""

    def __init__(
        self, reactor: Any, descriptor: int, received: Callable[[bytes], None], lost: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor, lost)
        self._received = received
        self.startReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        return fdesc.readFromFD(self._descriptor, self._received)


class Outgoing(_Pipe):
    """The writing end of a pipe. write() reaches the pipe at once, so its data outlives this process.

    Data is buffered only while the pipe is full.
    """

    def write(self, data: bytes) -> None:
        """See ITransport."""
        super().write(data)
        if self.connected:
            # Ignore an error here: the reactor writes again, gets the same error, and closes the pipe.
            self.doWrite()  # type: ignore[no-untyped-call]

    def writeSomeData(self, data: bytes) -> Any:
        """See FileDescriptor."""
        return fdesc.writeToFD(self._descriptor, data)


def send_socket(connection: socket.socket, number: int, sock: socket.socket) -> None:
    """Send a socket by a connection of socket_connection().

    :param number: which one of the other process it replaces.
    :raise OSError: that process has ended.
    """
    socket.send_fds(connection, [number.to_bytes(4)], [sock.fileno()])


def socket_connection() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection that carries sockets: (ours, that of the other process)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours, theirs


class IncomingSockets(_Pipe):
    """The receiving end of a connection that carries sockets.

    :param received: called with (number, descriptor) of each.
    """

    def __init__(self, reactor: Any, descriptor: int, received: Callable[[int, int], None]) -> None:
        super().__init__(reactor, descriptor, lambda: None)
        self._connection = socket.socket(fileno=os.dup(descriptor))
        self._received = received
        self.startReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        message, descriptors, _, _ = socket.recv_fds(self._connection, 4, 1)
        if not descriptors:
            return ConnectionDone()
        self._received(int.from_bytes(message), descriptors[0])
        return None

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        super().connectionLost(reason)
        self._connection.close()
