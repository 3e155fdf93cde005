"""A database and connections to it. Errors become StateErrors that name the database."""

import os
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import psycopg
from attrs import frozen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege

from bootfw.api import StateError
from bootfw_postgresql.schema import VERSION, migrate, version_of

ANSWERS_WITHIN = 5.0
"""Seconds that the server has for one statement. libpq itself waits for ever for a server that is stopped."""

_MIGRATES_WITHIN = 120.0
"""Seconds that it has for one statement while the schema is changed."""


class Connection(psycopg.Connection[Any]):
    """A connection that is lost when nothing comes from the server for ``answers_within`` seconds in a statement."""

    answers_within = ANSWERS_WITHIN

    def wait(self, gen: Any, *arguments: Any, **keywords: Any) -> Any:
        """See psycopg.Connection: every statement waits here."""
        return super().wait(self._bounded(gen), *arguments, **keywords)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        deadline = time.monotonic() + self.answers_within
        ready: Any = None
        while True:
            try:
                event = gen.send(ready)
            except StopIteration as end:
                return end.value
            ready = yield event
            if ready:
                deadline = time.monotonic() + self.answers_within
            elif time.monotonic() > deadline:  # psycopg sends 0 ten times a second while nothing comes
                self.close()
                raise psycopg.OperationalError(f"the server has not answered within {self.answers_within:g} s")


_LOCKS = 0x62667731
"""First half of the keys of our advisory locks, "bfw1": other programs may have locks in the same database."""

_PARAMETERS: Mapping[str, Any] = {
    "connect_timeout": 3,
    "target_session_attrs": "read-write",
    "tcp_user_timeout": 10_000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}
"""Defaults for what the conninfo leaves out. With those of libpq a connection waits for minutes when the server's host
is gone, and with several hosts may be to a standby, which can't be written."""

# The server ends the session of a host that is gone as soon, and with it the session's lock. A lease is only a lease
# when it is durable, whatever the default of the role or of the database is.
_PREPARE = """
SELECT set_config('search_path', quote_ident(%s), false), set_config('lock_timeout', '2s', false),
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10s', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"

_END_SESSION = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE (pid, backend_start) = (%s, %s)"

_ENDS_WITHIN = 2.0
"""Seconds that the server has to end a session."""


class Unavailable(StateError):
    """The database can't be reached, or the connection was lost."""


@frozen
class Database:
    """A database, and the schema in it that holds our tables."""

    conninfo: str
    """libpq's connection string or URI, without a password."""
    schema: str

    def __str__(self) -> str:
        return f'PostgreSQL "{self.conninfo}"' if self.conninfo else "PostgreSQL"

    @property
    def lock(self) -> tuple[int, int]:
        """Key of the advisory lock of the leader, or of the one process that uses the leases without one."""
        return _LOCKS, crc32(self.schema.encode()) >> 1

    def connect(self, answers_within: float = ANSWERS_WITHIN) -> Connection:
        """Connect, and bring the schema to the newest version. Statements find its tables without its name.

        :param answers_within: see Connection.
        :raise Unavailable: the server can't be reached, or refuses the connection.
        :raise StateError: the schema can't be created or migrated, or is newer than this program.
        """
        connection = self._connect()
        try:
            with self.errors():
                version = version_of(connection)
                if version is None or version < VERSION:
                    connection.answers_within = _MIGRATES_WITHIN
                    migrate(connection, self.schema)
                    version = version_of(connection)
        except BaseException:
            connection.close()
            raise
        if version != VERSION:
            connection.close()
            raise StateError(
                f'{self}: the tables in its schema "{self.schema}" are of version {version}, and this '
                f"bootfw-postgresql knows version {VERSION}: install the newer one here too"
            )
        connection.answers_within = answers_within
        return connection

    def replace_session(self, connection: Connection, earlier: tuple[Any, ...] | None) -> tuple[Any, ...]:
        """End an earlier session of this process, which the server may not know to be lost.

        :param earlier: a result of this method; None: there was none.
        :return: the session of *connection*.
        :raise StateError: it does not end.
        """
        deadline = time.monotonic() + _ENDS_WITHIN
        while earlier is not None and connection.execute(_END_SESSION, earlier).rowcount:
            if time.monotonic() > deadline:
                raise StateError(f"{self}: an earlier session of this process does not end")
            time.sleep(0.01)
        session: tuple[Any, ...] | None = connection.execute(_SESSION).fetchone()
        assert session is not None
        return session

    def has_tables(self) -> bool:
        """Return whether the schema has our tables."""
        connection = self._connect()
        try:
            with self.errors():
                return version_of(connection) is not None
        finally:
            connection.close()

    def _connect(self) -> Connection:
        conninfo_parameters = conninfo_to_dict(self.conninfo)
        name = f"bootfw {os.getpid()} on {socket.gethostname()}"[:63]
        parameters = {key: value for key, value in _PARAMETERS.items() if key not in conninfo_parameters}
        try:
            connection = Connection.connect(
                self.conninfo, autocommit=True, application_name=name, client_encoding="UTF8", **parameters
            )
        except psycopg.Error as error:
            raise Unavailable(self._message(error)) from error
        try:
            with self.errors():
                connection.execute(_PREPARE, (self.schema,))
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Convert errors of the database to StateErrors."""
        try:
            yield
        except psycopg.Error as error:
            raise self.state_error(error) from error

    def state_error(self, error: psycopg.Error) -> StateError:
        """Return the StateError for an error of a statement."""
        return StateError(self._message(error))

    def _message(self, error: psycopg.Error) -> str:
        # The text of a server's error has the statement in it.
        reason = error.diag.message_primary or " ".join(str(error).split())
        message = f"{self}: {reason}"
        if isinstance(error, InsufficientPrivilege):
            return (
                f'{message}; its owner has to run CREATE SCHEMA "{self.schema}" AUTHORIZATION and the name of the role '
                "that bootfw connects as"
            )
        if "password" in reason:
            return f"{message}; libpq reads passwords from ~/.pgpass or the service file"
        return message
