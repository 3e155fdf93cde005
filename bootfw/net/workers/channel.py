"""Messages between the processes of one server: pickled, with a length prefix. Both ends run the same code.

Sockets travel on a connection of their own, since a pipe does not carry descriptors.
"""

import os
import pickle
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import fdesc
from twisted.internet.abstract import FileDescriptor
from twisted.protocols.basic import Int32StringReceiver

OnReceived = Callable[[str, tuple[Any, ...]], None]
"""Called with the kind of a message and its values."""

MAX_MESSAGE = 1 << 28
"""Bytes. Messages are small, but the configuration and the state for a new worker may be large."""


class Channel(Int32StringReceiver):
    """One end of a connection. It runs over pipes, so that only the two processes can have its ends."""

    MAX_LENGTH = MAX_MESSAGE

    def __init__(self, on_received: OnReceived) -> None:
        self._on_received = on_received

    def send(self, kind: str, *values: Any) -> None:
        """Send a message. Messages arrive in order; the last ones may be lost if the other process ends."""
        self.send_packed(packed(kind, *values))

    def send_packed(self, message: bytes) -> None:
        """Send the result of packed(), which can go to several channels."""
        self.sendString(message)  # type: ignore[no-untyped-call]

    def stringReceived(self, string: bytes) -> None:
        """See Int32StringReceiver."""
        # Unpickling runs code that the sender chooses. The sender has this pipe from us, and runs the same program.
        self._on_received(*pickle.loads(string))


_DESCRIPTORS_PER_MESSAGE = 64
"""Linux takes up to 253 (SCM_MAX_FD)."""


def send_sockets(channel: socket.socket, sockets: Sequence[socket.socket]) -> None:
    """Give another process copies of *sockets*, by a connection of socket_connection().

    :raise OSError: the other process is gone, or has taken nothing for long.
    """
    for start in range(0, len(sockets), _DESCRIPTORS_PER_MESSAGE):
        part = [sock.fileno() for sock in sockets[start : start + _DESCRIPTORS_PER_MESSAGE]]
        # Descriptors need at least one byte of data to travel with (unix(7)).
        socket.send_fds(channel, [b"s"], part)


def received_sockets(channel: socket.socket, count: int) -> list[socket.socket]:
    """Receive *count* sockets that another process has sent by send_sockets().

    This does not wait: sockets are sent before the message that announces them, so they are in the buffer already.

    :raise OSError: they are not there.
    """
    sockets: list[socket.socket] = []
    while len(sockets) < count:
        _, descriptors, _, _ = socket.recv_fds(channel, 1, _DESCRIPTORS_PER_MESSAGE)
        if not descriptors:
            raise OSError(f"{count - len(sockets)} sockets are missing")
        for descriptor in descriptors:
            # recv_fds() does not ask for MSG_CMSG_CLOEXEC, so programs that are started would inherit them.
            os.set_inheritable(descriptor, False)
            sockets.append(sock := socket.socket(fileno=descriptor))
            sock.setblocking(False)
    return sockets


def packed(kind: str, *values: Any) -> bytes:
    """Serialize a message for send_packed()."""
    return pickle.dumps((kind, values), pickle.HIGHEST_PROTOCOL)


class _InheritedPipe(FileDescriptor):
    """An end of a pipe that this process inherited.

    :param on_lost: called once, when either end has been closed.
    """

    connected = 1

    def __init__(self, reactor: Any, descriptor: int, on_lost: Callable[[], None]) -> None:
        super().__init__(reactor)
        self._descriptor = descriptor
        self._on_lost = on_lost
        fdesc.setNonBlocking(descriptor)

    def fileno(self) -> int:
        """See IFileDescriptor."""
        return self._descriptor

    def connectionLost(self, reason: Any) -> None:
        """See IFileDescriptor."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        os.close(self._descriptor)
        self._descriptor = -1
        self._on_lost()


class Incoming(_InheritedPipe):
    """The reading end of a pipe."""

    def __init__(
        self, reactor: Any, descriptor: int, on_received: Callable[[bytes], None], on_lost: Callable[[], None]
    ) -> None:
        super().__init__(reactor, descriptor, on_lost)
        self._on_received = on_received
        self.startReading()  # type: ignore[no-untyped-call]

    def doRead(self) -> Any:
        """See IReadDescriptor."""
        return fdesc.readFromFD(self._descriptor, self._on_received)


class Outgoing(_InheritedPipe):
    """The writing end of a pipe. write() writes to the pipe at once, so that the data is read even if this process
    dies.

    Data is buffered here only while the pipe is full.
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


def socket_connection() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a connection that carries sockets: (ours, that of the other process)."""
    # SOCK_SEQPACKET keeps messages apart, so each is read with its own descriptors.
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    # A process that hangs reads nothing. When the buffer is full, sending to it is an error and does not block.
    ours.setblocking(False)
    return ours, theirs
