"""Announcements to the other nodes by NOTIFY, and theirs by LISTEN."""

import json
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from threading import Event, Lock, Thread
from time import monotonic
from typing import Any
from uuid import uuid4

import psycopg
from attrs import define, field
from psycopg import sql
from twisted.internet.defer import Deferred, gatherResults

from bootfw.api import StateError
from bootfw_postgresql.database import Connection, Database
from bootfw_postgresql.lane import Lane, Rows

LONGEST = 7900
"""Bytes of the longest announcement; PostgreSQL takes less than 8000."""

MAX_PENDING = 10_000
"""Announcements that wait for the database; later ones are dropped."""

RETRY_SECONDS = 1.0
"""From a lost connection, or from one that failed, until the next try to listen."""


@define(eq=False)
class Announcements:
    """Sends the announcements of this node, and receives those of the others, from begin() to end().

    It has two connections, each with a thread: one listens, the other one sends what was announced meanwhile in one
    transaction.

    :param reactor: IReactorFromThreads.
    :param receive: see INodes.join_nodes().
    """

    _reactor: Any
    _database: Database
    _receive: Callable[[str, Sequence[object]], None]
    _node: str = field(factory=lambda: uuid4().hex, init=False)
    """Identifies this node, to pass over its own announcements: a session gets its own notifications too."""
    _sending: Lane = field(init=False)
    _pending: int = field(default=0, init=False)
    """Announcements that wait for the database."""
    _sent_at: float | None = field(default=None, init=False)
    """When a transaction with announcements was committed last, in seconds of the monotonic clock."""
    _ended: Event = field(factory=Event, init=False)
    """Set by end(), in the reactor's thread: the thread that listens has to end."""
    _connection_lock: Lock = field(factory=Lock, init=False)
    """Held while the listening connection is stored, closed or cut."""
    _connection: Connection | None = field(default=None, init=False)
    """The connection that listens."""
    _listening_ended: "Deferred[Any]" = field(factory=Deferred, init=False)

    @_sending.default
    def _lane(self) -> Lane:
        return Lane(self._reactor, self._database, self._database.connect, self._notify)

    @property
    def _channel(self) -> str:
        # Channels are the database's, not the schema's.
        return f"bootfw_{self._database.lock[1]:08x}"

    @property
    def behind(self) -> float | None:
        """See INodes."""
        return None if self._sent_at is None else monotonic() - self._sent_at

    def begin(self) -> None:
        """Start to listen."""
        Thread(target=self._listen, name="announcements", daemon=True).start()

    def announce(self, kind: str, values: Sequence[object]) -> None:
        """See INodes."""
        payload = json.dumps([self._node, kind, *values], separators=(",", ":"))
        if len(payload) > LONGEST:
            raise ValueError(f"an announcement has {LONGEST} bytes at most, and one of the kind {kind} {len(payload)}")
        if self._pending < MAX_PENDING:
            self._pending += 1
            self._sending.write([(payload,)]).addCallbacks(self._note_sent, _ignore_state_error).addBoth(
                self._note_ended
            )

    def end(self) -> "Deferred[Any]":
        """Stop; fires when both connections are closed."""
        self._ended.set()
        with self._connection_lock:
            if self._connection is not None:
                # The thread waits for the socket without a timeout. A shutdown wakes it; it closes the connection
                # itself, so the descriptor must not be closed here (detach).
                with socket.socket(fileno=self._connection.fileno()) as end:
                    with suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
                    end.detach()
        return gatherResults([self._listening_ended, self._sending.close()]).addCallback(lambda _: None)

    def _notify(self, rows: Rows, connection: Connection) -> None:
        payloads = [payload for (payload,) in rows]
        connection.execute("SELECT pg_notify(%s, payload) FROM unnest(%b::text[]) payload", (self._channel, payloads))

    def _note_sent(self, _: object) -> None:
        self._sent_at = monotonic()

    def _note_ended(self, _: object) -> None:
        self._pending -= 1

    def _listen(self) -> None:
        """Run the thread that listens."""
        while not self._ended.is_set():
            with suppress(StateError, psycopg.Error):
                connection = self._database.connect(inf)  # nothing may come for hours
                try:
                    self._listen_on(connection)
                finally:
                    with self._connection_lock:
                        self._connection = None
                        connection.close()
            self._ended.wait(RETRY_SECONDS)
        self._reactor.callFromThread(self._listening_ended.callback, None)

    def _listen_on(self, connection: Connection) -> None:
        connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
        with self._connection_lock:
            if self._ended.is_set():
                return
            self._connection = connection
        own = f'["{self._node}"'  # the beginning of our own payloads: they need not be decoded
        for notification in connection.notifies():
            if not notification.payload.startswith(own):
                self._reactor.callFromThread(self._received, notification.payload)

    def _received(self, payload: str) -> None:
        _, kind, *values = json.loads(payload)
        if not self._ended.is_set():
            self._receive(kind, values)


def _ignore_state_error(failure: Any) -> None:
    failure.trap(StateError)
