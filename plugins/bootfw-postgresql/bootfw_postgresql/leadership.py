"""The choice of the leader among the nodes that use one schema.

The leader has an epoch in the table "owner", confirms it by counting up, and its session holds an advisory lock, which
the server releases when a process ends: a standby that has seen the lock held and finds it free leads at once. The
session of a process that is stopped or cut off stays, and so does the lock. Then a standby ends the session and begins
an epoch, if the leader has not confirmed its own for so long that it has stopped to decide.
"""

from typing import Any
from uuid import uuid4

from attrs import define, field
from psycopg.errors import LockNotAvailable
from twisted.internet.defer import Deferred

from bootfw.api import Standing, StateError
from bootfw_postgresql.database import Connection, Database
from bootfw_postgresql.lane import Lane
from bootfw_postgresql.ownership import UNATTENDED, Owner, holder_of, owner_of

_ANSWERS_WITHIN = 1.0
"""Seconds that the server has for a statement here, less than a leader and a standby wait for each other."""

# A confirmation that a crash of the server undoes is worth nothing anyway, and needs no disk.
_PREPARE = "SET synchronous_commit = off; SET lock_timeout = '500ms'"

_CONFIRM = "UPDATE owner SET confirmations = confirmations + 1 WHERE epoch = %s RETURNING confirmations, cluster"

_END_HOLDERS = """
SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s AND objid = %s AND granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND pid <> pg_backend_pid()
"""


@define(eq=False)
class Leadership:
    """This process among those that stand for leader. Everything but the Deferreds is done in the thread of its lane.

    :param reactor: IReactorFromThreads.
    """

    _reactor: Any
    _database: Database
    _token: str = field(factory=lambda: uuid4().hex, init=False)
    _epoch: int | None = field(default=None, init=False)
    """The epoch in which this process leads; None: it does not lead."""
    _session: tuple[Any, ...] | None = field(default=None, init=False)
    """Our latest session at the server."""
    _locking_connection: Connection | None = field(default=None, init=False)
    """The connection that has the lock."""
    _seen: tuple[Connection, int, int] | None = field(default=None, init=False)
    """(connection, epoch, confirmations): what was seen last of another leader, and by which connection."""
    _watching_connection: Connection | None = field(default=None, init=False)
    """The connection that has seen another leader confirm its epoch; see _campaign()."""
    _lane: Lane = field(init=False)

    @_lane.default
    def _new_lane(self) -> Lane:
        return Lane(self._reactor, self._database, self._connect)

    def stand(self, node: str, silent: Standing | None) -> "Deferred[Standing]":
        """See ILeadership."""
        return self._lane.later(lambda connection: self._stand(connection, node, silent))

    def resign(self) -> "Deferred[None]":
        """See ILeadership. Nothing is called after it."""
        resigned = self._lane.later(self._resign).addErrback(lambda failure: failure.trap(StateError) and None)
        closed = self._lane.close()
        return resigned.addCallback(lambda _: closed)

    def _connect(self) -> Connection:
        connection = self._database.connect(_ANSWERS_WITHIN)
        try:
            with self._database.errors():
                self._session = self._database.replace_session(connection, self._session)
                connection.execute(_PREPARE)
        except BaseException:
            connection.close()
            raise
        return connection

    def _stand(self, connection: Connection, node: str, silent: Standing | None) -> Standing:
        if self._epoch is None:
            return self._campaign(connection, node, silent)
        confirmed = connection.execute(_CONFIRM, (self._epoch,)).fetchone()
        if confirmed is None:
            self._epoch = None
            self._unlock(connection)
            return _follows(owner_of(connection, self._database))
        if self._locking_connection is not connection:
            self._try_lock(connection)  # the session that had it was lost
        return Standing(True, self._epoch, confirmed[0], node, confirmed[1])

    def _campaign(self, connection: Connection, node: str, silent: Standing | None) -> Standing:
        """Begin an epoch if there is no leader, or if it has been silent for long enough; see ILeadership.stand()."""
        is_free = self._try_lock(connection)
        owner = owner_of(connection, self._database)
        self._watch(connection, owner)
        is_ours = owner.token == self._token  # an earlier try, whose connection was lost with the reply
        is_silent = silent is not None and (owner.epoch, owner.confirmations) == (silent.epoch, silent.confirmations)
        if is_free:
            # A leader that was not seen may have lost its session together with us, and come back: wait for it.
            may_lead = (
                owner.confirmations == UNATTENDED or self._watching_connection is connection or is_silent or is_ours
            )
        else:
            # Without confirmations the lock is that of a "bootfw" command or of a leader that is just beginning: wait.
            may_lead = owner.confirmations != UNATTENDED and (is_silent or is_ours)
            if may_lead:
                self._take_lock(connection)
        epoch = self._begin(connection, owner, node) if may_lead else None
        if epoch is None:
            self._unlock(connection)
            return _follows(owner_of(connection, self._database))
        self._epoch = epoch
        return Standing(True, epoch, 0, node, owner.cluster)

    def _watch(self, connection: Connection, owner: Owner) -> None:
        before, self._seen = self._seen, (connection, owner.epoch, owner.confirmations)
        if before is not None and before[:2] == self._seen[:2] and before[2] < owner.confirmations:
            self._watching_connection = connection

    def _begin(self, connection: Connection, owner: Owner, node: str) -> int | None:
        with connection.transaction():
            connection.execute("SET LOCAL synchronous_commit = on")
            return owner.succeed(connection, self._token, node, 0)

    def _try_lock(self, connection: Connection) -> bool:
        row = connection.execute("SELECT pg_try_advisory_lock(%s, %s)", self._database.lock).fetchone()
        is_free = row == (True,)
        if is_free:
            self._locking_connection = connection
        return is_free

    def _take_lock(self, connection: Connection) -> None:
        """End the session that has the lock, and take it.

        :raise StateError: it can't be ended.
        """
        connection.execute(_END_HOLDERS, self._database.lock)
        try:
            connection.execute("SELECT pg_advisory_lock(%s, %s)", self._database.lock)
        except LockNotAvailable as error:
            holder = holder_of(connection, self._database)
            raise StateError(f"{self._database}: the session of {holder}, which is silent, does not end") from error
        self._locking_connection = connection

    def _unlock(self, connection: Connection) -> None:
        if self._locking_connection is connection:
            connection.execute("SELECT pg_advisory_unlock_all()")
        self._locking_connection = None

    def _resign(self, connection: Connection) -> None:
        if self._epoch is not None:
            connection.execute("UPDATE owner SET confirmations = %s WHERE epoch = %s", (UNATTENDED, self._epoch))
            self._epoch = None
        self._unlock(connection)  # the server takes a moment to find that a session has ended


def _follows(owner: Owner) -> Standing:
    return Standing(False, owner.epoch, owner.confirmations, owner.name, owner.cluster)
