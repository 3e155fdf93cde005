"""One process at a time uses the leases, reservations and orders of a schema.

The session that writes them holds an advisory lock; the server releases it when the session ends, however that happens.
A process that has lost its connection may find that another one has written since: it must not go on with what it
remembers, or it would give an address twice. So the first write of each process raises the epoch, and a process that
connects again goes on only if the epoch is the one that it knows, or its own.
"""

import os
import socket
from typing import Any
from uuid import uuid4

import psycopg
from attrs import define, field
from psycopg.errors import LockNotAvailable

from bootfw.api import StateError
from bootfw_postgresql.database import Connection, Database

_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND datname = current_database()
"""


@define(eq=False)
class Ownership:
    """The right of this process to write what only one process may write, from load() on."""

    _database: Database
    _token: str = field(factory=lambda: uuid4().hex, init=False)
    """Of the epoch that this object has begun."""
    _epoch: int | None = field(default=None, init=False)
    """The epoch at the first connection; None: there was none."""
    _has_begun: bool = field(default=False, init=False)
    """Whether the epoch is ours."""
    _session: tuple[Any, ...] | None = field(default=None, init=False)
    """Process id and start of our latest session at the server."""

    def connect(self) -> Connection:
        """Connect, and take the lock.

        :raise StateError: another process holds it, or has written since our first connection.
        """
        connection = self._database.connect()
        try:
            with self._database.errors():
                self._take(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def begin(self, connection: Connection) -> None:
        """Call it before each write: the first one begins an epoch of our own."""
        if not self._has_begun:
            name = f"process {os.getpid()} on {socket.gethostname()}"
            connection.execute(
                "UPDATE owner SET epoch = epoch + 1, token = %s, name = %s, since = now()", (self._token, name)
            )
            self._has_begun = True

    def _take(self, connection: Connection) -> None:
        if self._session is not None:
            # The server may not have noticed that our earlier session was lost. Writes of it must not follow ours.
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s",
                self._session,
            )
        try:
            connection.execute("SELECT pg_advisory_lock(%s, %s)", self._database.lock)
        except LockNotAvailable as error:
            raise StateError(
                f"{self._database}: {self._holder(connection)} uses it; is bootfw running already?"
            ) from error
        self._session = connection.execute(
            "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        ).fetchone()
        row = connection.execute("SELECT epoch, token, name FROM owner").fetchone()
        if row is None:
            raise StateError(f'{self._database}: the table "owner" of its schema has lost its row; restore a backup')
        epoch, token, name = row
        if self._epoch is None:
            self._epoch = epoch
        elif epoch != self._epoch and token != self._token:
            raise StateError(
                f"{self._database}: {name} has written leases while this process had no connection; restart bootfw, "
                "so that it knows them"
            )

    def _holder(self, connection: psycopg.Connection[Any]) -> str:
        row = connection.execute(_HOLDER, self._database.lock).fetchone()
        return row[0] if row and row[0] else "another process"
