"""The ``postgresql`` store: what each interface of a store does with which connection."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import psycopg
from attrs import define, field
from psycopg.conninfo import conninfo_to_dict
from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from bootfw.api import (
    BootAttempt,
    ConfigError,
    IAttemptStore,
    ILeadership,
    ILeaseStore,
    INodes,
    IOfflineStore,
    IOrderStore,
    IReadableStore,
    IReservationStore,
    Lease,
    PluginContext,
    Reservation,
    Standing,
    StateError,
    boot_plugin,
)
from bootfw_postgresql import statements
from bootfw_postgresql.announcements import Announcements
from bootfw_postgresql.database import Connection, Database
from bootfw_postgresql.lane import Lane, Work
from bootfw_postgresql.leadership import Leadership
from bootfw_postgresql.ownership import Ownership

_LEASES = "leases"
"""A user of the connection that writes leases, from load() to close(). The others are the kinds of orders."""

_SECRETS = ("password", "sslpassword")


@define
class _Prepared:
    """What prepare() has read. Each part is used once, since it changes from then on."""

    leases: Sequence[Lease] | None
    reservations: Sequence[Reservation] | None
    orders: Mapping[str, Mapping[str, Mapping[str, object]]]
    """By kind and MAC."""
    used: set[str] = field(factory=set)
    """The kinds of orders that were used."""


@implementer(IOfflineStore, IReservationStore, IOrderStore, IAttemptStore, INodes, ILeadership, IReadableStore)
@define(eq=False)
class PostgresqlStore:
    """Keeps leases, reservations, orders and boot attempts in PostgreSQL.

    Leases that arrive while the database is busy become one transaction. It has two connections, each with a thread:
    one for leases, reservations and orders, and one for boot attempts, whose searches no lease waits for.

    :param conninfo: connection string or URI of libpq, such as `"host=db.example dbname=bootfw"` or
        `"service=bootfw"`; what it leaves out is taken from libpq's variables, such as `PGHOST`. It has no password:
        that is in `~/.pgpass` or in the service file.
    :param schema: name of the schema for the tables; it is made by the first start.
    """

    _database: Database
    _reactor: Any = None
    """If it does not provide IReactorFromThreads, every call blocks."""
    _users: set[str] = field(factory=set, init=False, repr=False)
    """Users of the lane of leases. It is opened for the first one and closed after the last."""
    _ownership: Ownership = field(init=False, repr=False)
    _lane: Lane | None = field(default=None, init=False, repr=False)
    """The lane of leases, reservations and orders."""
    _closing_lane: Lane | None = field(default=None, init=False, repr=False)
    """The latest lane of leases that was closed. Its session may not have ended."""
    _attempts_lane: Lane | None = field(default=None, init=False, repr=False)
    """The lane of boot attempts."""
    _announcements: Announcements | None = field(default=None, init=False, repr=False)
    """None: it has not joined the nodes, or has left them."""
    _leadership: Leadership | None = field(default=None, init=False, repr=False)
    """From the first stand() to resign()."""
    _standing: Standing | None = field(default=None, init=False, repr=False)
    """The latest answer of stand(), until resign()."""
    _prepared: _Prepared | None = field(default=None, init=False, repr=False)

    @_ownership.default
    def _new_ownership(self) -> Ownership:
        return Ownership(self._database)

    @classmethod
    def configured(cls, context: PluginContext, conninfo: str = "", schema: str = "bootfw") -> "PostgresqlStore":
        """Called by boot_plugin."""
        try:
            parameters = conninfo_to_dict(conninfo)
        except psycopg.Error as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f'must be a connection string of libpq, such as "host=db.example dbname=bootfw": {reason}',
                ("conninfo",),
            ) from None
        if any(key in parameters for key in _SECRETS):
            raise ConfigError(
                "must not have a password, which would be shown wherever the configuration is: write it to ~/.pgpass "
                "or to a service file of libpq",
                ("conninfo",),
            )
        if not schema or len(schema.encode()) > 63 or "\0" in schema:
            raise ConfigError("must be a name of up to 63 bytes", ("schema",))
        return cls(Database(conninfo, schema), context.reactor)

    def exists(self) -> bool:
        """See IOfflineStore."""
        return self._database.has_tables()

    def load(self) -> Iterable[Lease]:
        """See ILeaseStore."""
        lane, prepared = self._open(_LEASES), self._prepared
        if prepared is not None and prepared.leases is not None:
            leases, prepared.leases = prepared.leases, None
            return leases
        found: Sequence[Lease] = lane.now(statements.leases)
        return found

    def commit(self, leases: Sequence[Lease]) -> "Deferred[Any]":
        """See ILeaseStore."""
        if self._lane is None or _LEASES not in self._users:
            # An operator's command may arrive while the service stops.
            return fail(self._closed_error())
        return self._lane.write(list(map(statements.row_of, leases)))

    def close(self) -> "Deferred[Any]":
        """See ILeaseStore."""
        return self._close(_LEASES)

    def reservations(self) -> Iterable[Reservation]:
        """See IReservationStore."""
        assert self._lane is not None, "load() comes first"
        prepared = self._prepared
        if prepared is not None and prepared.reservations is not None:
            reservations, prepared.reservations = prepared.reservations, None
            return reservations
        found: Sequence[Reservation] = self._lane.now(statements.reservations)
        return found

    def save_reservations(self, reservations: Sequence[Reservation]) -> "Deferred[Any]":
        """See IReservationStore."""
        if self._lane is None or _LEASES not in self._users:
            return fail(self._closed_error())
        work = partial(statements.replace_reservations, reservations=tuple(reservations))
        return self._lane.later(self._ownership.write(work))

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """See IOrderStore."""
        lane, prepared = self._open(kind), self._prepared
        if prepared is not None and kind not in prepared.used:
            prepared.used.add(kind)
            return prepared.orders.get(kind, {})
        found: Mapping[str, Mapping[str, object]] = lane.now(partial(statements.orders, kind=kind))
        return found

    def save_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[Any]":
        """See IOrderStore."""
        work = self._ownership.write(partial(statements.write_orders, kind=kind, orders=dict(orders)))
        if self._lane is not None:
            return self._lane.later(work)
        if self._leadership is not None and not self._leads:
            return fail(self._not_leading_error())
        # Called after close_orders(): nothing would close the connection later, so write now and close it.
        lane = self._new_lane(None)
        saved = lane.later(work)
        lane.close()
        return saved

    def close_orders(self, kind: str) -> "Deferred[Any]":
        """See IOrderStore."""
        return self._close(kind)

    def save_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> "Deferred[Any]":
        """See IAttemptStore."""
        work = partial(statements.write_attempts, attempts=tuple(attempts), keep=keep, since=since)
        return self._open_attempts_lane().later(work)

    def find_attempts(
        self, machine: str = "", verdict: str = "", since: float = 0.0, before: float = 0.0, limit: int = 100
    ) -> "Deferred[Any]":
        """See IAttemptStore."""
        search = partial(statements.attempts, machine=machine, verdict=verdict, since=since, before=before, limit=limit)
        return self._open_attempts_lane().later(search)

    def close_attempts(self) -> "Deferred[Any]":
        """See IAttemptStore."""
        lane, self._attempts_lane = self._attempts_lane, None
        return lane.close() if lane is not None else succeed(None)

    def read_leases(self) -> "Deferred[Any]":
        """See IReadableStore."""
        return self._read(statements.leases)

    def read_reservations(self) -> "Deferred[Any]":
        """See IReadableStore."""
        return self._read(statements.reservations)

    def read_orders(self, kind: str) -> "Deferred[Any]":
        """See IReadableStore."""
        return self._read(partial(statements.orders, kind=kind))

    def _read(self, work: Work) -> "Deferred[Any]":
        """Read by a connection of its own, which takes no lock: another server leads."""
        lane = Lane(self._reactor, self._database, self._database.connect)
        result = lane.later(work)
        lane.close()
        return result

    @property
    def behind(self) -> float | None:
        """See INodes."""
        return None if self._announcements is None else self._announcements.behind

    def join_nodes(self, receive: Callable[[str, Sequence[object]], None]) -> "Callable[[], Deferred[None]]":
        """See INodes."""
        assert self._announcements is None, "it has joined already"
        self._announcements = Announcements(self._reactor, self._database, receive)
        self._announcements.begin()
        return self._leave_nodes

    def announce(self, kind: str, *values: object) -> None:
        """See INodes."""
        if self._announcements is not None:
            self._announcements.announce(kind, values)

    def _leave_nodes(self) -> "Deferred[Any]":
        announcements, self._announcements = self._announcements, None
        return announcements.end() if announcements is not None else succeed(None)

    def stand(self, node: str, silent: Standing | None) -> "Deferred[Standing]":
        """See ILeadership."""
        if self._leadership is None:
            self._leadership = Leadership(self._reactor, self._database)
        return self._leadership.stand(node, silent).addCallback(self._note_standing, self._leadership)

    def prepare(self) -> "Deferred[None]":
        """See ILeadership."""
        assert not self._users, "the leases and orders of the time before are not closed"
        if not self._leads:
            return fail(self._not_leading_error())
        assert self._standing is not None
        if self._lane is not None:
            self._lane.close()  # of an earlier call, whose result was not used
        self._ownership = Ownership(self._database, self._standing.epoch)
        self._lane = Lane(self._reactor, self._database, self._ownership.connect, self._ownership.write_leases)
        return self._lane.later(_read_all).addCallback(self._note_prepared, self._lane)

    def resign(self) -> "Deferred[None]":
        """See ILeadership."""
        leadership, self._leadership = self._leadership, None
        self._standing = self._prepared = None
        if self._lane is not None and not self._users:
            self._lane.close()
            self._lane = None
        return leadership.resign() if leadership is not None else succeed(None)

    @property
    def _leads(self) -> bool:
        return self._standing is not None and self._standing.leads

    def _note_standing(self, standing: Standing, leadership: Leadership) -> Standing:
        if leadership is self._leadership:  # else resign() was called meanwhile
            self._standing = standing
        return standing

    def _note_prepared(self, prepared: _Prepared, lane: Lane) -> None:
        if lane is self._lane:  # else it was closed meanwhile, by resign() or another prepare()
            self._prepared = prepared

    def _not_leading_error(self) -> StateError:
        leader = self._standing.leader if self._standing is not None else ""
        return StateError(f"{self._database}: {leader or 'another server'} leads")

    def _open(self, user: str) -> Lane:
        """Open the lane of leases for *user*."""
        assert user not in self._users or self._lane is None, "it is loaded already"
        if self._lane is None:
            if self._leadership is not None and not self._leads:
                raise self._not_leading_error()
            self._ownership = Ownership(self._database, self._standing.epoch if self._standing is not None else None)
            lane = self._new_lane(self._reactor)
            lane.now(lambda connection: None)
            self._lane = lane
        self._users.add(user)
        return self._lane

    def _close(self, user: str) -> "Deferred[Any]":
        self._users.discard(user)
        if self._lane is None:
            return succeed(None)
        if self._users:
            return self._lane.later()  # fires after all earlier jobs
        self._closing_lane, self._lane, self._prepared = self._lane, None, None
        return self._closing_lane.close()

    def _new_lane(self, reactor: Any) -> Lane:
        if self._closing_lane is not None:
            # Its session has the lock, and may still write.
            self._closing_lane.join()
            self._closing_lane = None
        return Lane(reactor, self._database, self._ownership.connect, self._ownership.write_leases)

    def _open_attempts_lane(self) -> Lane:
        if self._attempts_lane is None:
            self._attempts_lane = Lane(self._reactor, self._database, self._database.connect)
        return self._attempts_lane

    def _closed_error(self) -> StateError:
        return StateError(f"{self._database}: is closed")


def _read_all(connection: Connection) -> _Prepared:
    return _Prepared(
        statements.leases(connection), statements.reservations(connection), statements.all_orders(connection)
    )


plugin = boot_plugin(ILeaseStore, PostgresqlStore)
