"""The right to write leases, reservations and orders of a schema: that of the process whose epoch is the latest one.

The table "owner" has one row, with the epoch and a token of the process that began it. Each write locks the row FOR KEY
SHARE and is refused unless the epoch is its own; a new epoch waits for the writes that have the lock. So the process
that begins an epoch knows all that was written before, and nothing of an earlier one is written after.

A process begins an epoch as the leader of several nodes, see leadership.py. Without them, as the ``bootfw`` command
does it, the session that writes holds the leader's lock, and its first write begins the epoch.
"""

import os
import socket
from typing import Any
from uuid import UUID, uuid4

from attrs import define, field
from psycopg.errors import LockNotAvailable

from bootfw.api import StateError
from bootfw_postgresql import statements
from bootfw_postgresql.database import Connection, Database
from bootfw_postgresql.lane import Rows, Work

UNATTENDED = -1
"""Instead of the number of confirmations: the owner does not confirm its epoch."""

_BEGIN = """
UPDATE owner SET epoch = epoch + 1, confirmations = %s, token = %s, name = %s, since = now()
WHERE epoch = %s AND confirmations = %s RETURNING epoch
"""

_HOLDER = """
SELECT application_name FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted AND datname = current_database()
"""


class Superseded(StateError):
    """Another process owns the leases now."""


@define
class Owner:
    """The row of the table "owner"."""

    epoch: int
    confirmations: int
    token: str
    name: str
    cluster: UUID
    """See Standing."""

    def succeed(self, connection: Connection, token: str, name: str, confirmations: int = UNATTENDED) -> int | None:
        """Begin an epoch in place of this owner's. It waits for what this owner is writing.

        :return: the epoch; None: the row has changed.
        """
        row = connection.execute(_BEGIN, (confirmations, token, name, self.epoch, self.confirmations)).fetchone()
        return None if row is None else int(row[0])


def owner_of(connection: Connection, database: Database) -> Owner:
    """Return the owner.

    :raise StateError: the table has lost its row.
    """
    row = connection.execute("SELECT epoch, confirmations, token, name, cluster FROM owner").fetchone()
    if row is None:
        raise StateError(f'{database}: the table "owner" of its schema has lost its row; restore a backup')
    return Owner(*row)


def holder_of(connection: Connection, database: Database) -> str:
    """Return the process that has the lock, for the operator."""
    row = connection.execute(_HOLDER, database.lock).fetchone()
    return row[0] if row and row[0] else "another process"


@define(eq=False)
class Ownership:
    """The right of this process to write what only one process may write, from load() on.

    :param epoch: of this process as the leader; None: it takes the lock, and its first write begins an epoch.
    """

    _database: Database
    _epoch: int | None = None
    _leads: bool = field(init=False)
    _token: str = field(factory=lambda: uuid4().hex, init=False)
    """Token of the epoch that this object begins."""
    _owns_epoch: bool = field(init=False)
    """The epoch is ours; false: it is the one that our first connection has found, and our first write ends it."""
    _session: tuple[Any, ...] | None = field(default=None, init=False)
    """Our latest session at the server."""

    def __attrs_post_init__(self) -> None:
        self._leads = self._owns_epoch = self._epoch is not None

    def connect(self) -> Connection:
        """Connect.

        :raise Superseded: another process has begun an epoch since our first connection, or since we lead.
        :raise StateError: another process has the lock.
        """
        connection = self._database.connect()
        try:
            with self._database.errors():
                # Writes of an earlier session must not follow those of this one.
                self._session = self._database.replace_session(connection, self._session)
                if self._leads:
                    self._require(connection)
                else:
                    self._take_lock(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def write(self, work: Work) -> Work:
        """Return *work* as a transaction that is refused in the epoch of another process."""

        def owned(connection: Connection) -> Any:
            self._begin(connection)
            with connection.transaction():
                self._require(connection)
                return work(connection)

        return owned

    def write_leases(self, rows: Rows, connection: Connection) -> None:
        """See statements.write_leases().

        :raise Superseded: the epoch of this process is over.
        """
        self._begin(connection)
        assert self._epoch is not None
        if not statements.write_leases(connection, rows, self._epoch):
            raise self._superseded(connection)

    def _begin(self, connection: Connection) -> None:
        """Begin an epoch with the first write, unless this process leads."""
        if self._owns_epoch:
            return
        owner = owner_of(connection, self._database)
        name = f"process {os.getpid()} on {socket.gethostname()}"
        epoch = owner.succeed(connection, self._token, name) if owner.epoch == self._epoch else None
        if epoch is None:
            raise self._superseded(connection)
        self._epoch, self._owns_epoch = epoch, True

    def _require(self, connection: Connection) -> None:
        """Verify that the epoch is ours; in a transaction: until its end."""
        assert self._epoch is not None
        if not statements.is_current(connection, self._epoch):
            raise self._superseded(connection)

    def _take_lock(self, connection: Connection) -> None:
        """Take the lock, and check that no other process has written since this one has loaded.

        :raise Superseded: one has.
        """
        try:
            connection.execute("SELECT pg_advisory_lock(%s, %s)", self._database.lock)
        except LockNotAvailable as error:
            holder = holder_of(connection, self._database)
            raise StateError(f"{self._database}: {holder} uses it; is bootfw running already?") from error
        # With our own token the epoch is ours, perhaps begun by a connection that was lost before it answered.
        owner = owner_of(connection, self._database)
        if self._epoch is None or owner.token == self._token:
            self._epoch, self._owns_epoch = owner.epoch, owner.token == self._token
        elif owner.epoch != self._epoch:
            raise self._superseded(connection)

    def _superseded(self, connection: Connection) -> Superseded:
        name = owner_of(connection, self._database).name
        if self._leads:
            return Superseded(f"{self._database}: {name} leads now")
        return Superseded(
            f"{self._database}: {name} has written leases while this process had no connection; restart bootfw, so "
            "that it knows them"
        )
