"""journald's native protocol: one datagram for each entry (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/)."""

import array
import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path

from attrs import define, field

JOURNAL = Path("/run/systemd/journal/socket")

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
"""journald accepts a memory file only if its content can't change any more."""


@define(eq=False)
class JournalSocket:
    """A connection to journald. It never blocks; entries that journald has no room for are dropped and counted.

    :raise OSError: there is no journald.
    """

    _path: Path = JOURNAL
    _socket: socket.socket = field(init=False)
    dropped: int = field(default=0, init=False)
    """Entries that were dropped since the last one that was sent."""

    def __attrs_post_init__(self) -> None:
        self._socket = self._connected()

    def _connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        connection.setblocking(False)
        return connection

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, entry: bytes) -> None:
        """Send an entry, preceded by one with the number of dropped entries if there are any."""
        try:
            if self.dropped:
                self._send(_dropped_entry(self.dropped))
                self.dropped = 0
            self._send(entry)
        except OSError:
            self.dropped += 1

    def _send(self, entry: bytes) -> None:
        try:
            self._send_once(entry)
        except OSError as error:
            if error.errno not in (errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET):
                raise
            # journald has been restarted with a new socket.
            self._socket, old = self._connected(), self._socket
            old.close()
            self._send_once(entry)

    def _send_once(self, entry: bytes) -> None:
        try:
            self._socket.send(entry)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_as_file(entry)

    def _send_as_file(self, entry: bytes) -> None:
        """Send an entry that is too large for a datagram, as a sealed memory file."""
        descriptor = os.memfd_create("bootfw-journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(descriptor, "wb", closefd=False) as file:
                file.write(entry)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
            rights = array.array("i", [descriptor])
            self._socket.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        finally:
            with suppress(OSError):
                os.close(descriptor)


def _dropped_entry(count: int) -> bytes:
    text = f"{count} log entries were dropped: the journal is too slow, or was not available"
    return f"MESSAGE={text}\nPRIORITY=4\nSYSLOG_IDENTIFIER=bootfw\nBOOTFW_EVENT=LogEntriesDropped\n".encode()
