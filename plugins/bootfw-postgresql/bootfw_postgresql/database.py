"""Where the database is, and connections to it; errors are StateErrors that name the database."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from zlib import crc32

import psycopg
from attrs import frozen
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import InsufficientPrivilege

from bootfw.api import StateError
from bootfw_postgresql.schema import VERSION, migrate, version_of

Connection = psycopg.Connection[Any]

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
"""Defaults for what the conninfo leaves out. libpq's own ones wait for minutes when the server's host is gone, and with
several hosts take a standby, which can't be written."""

# The server ends the session of a host that is gone as soon, and with it the session's lock. A lease is only a lease
# when it is durable, whatever the default of the role or of the database is.
_PREPARE = """
SELECT set_config('search_path', quote_ident(%s), false), set_config('lock_timeout', '2s', false),
    set_config('tcp_keepalives_idle', '5', false), set_config('tcp_keepalives_interval', '2', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10s', false),
    CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
"""


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
        """Key of the advisory lock of the one process that uses the leases in this schema."""
        return _LOCKS, crc32(self.schema.encode()) >> 1

    def connect(self) -> Connection:
        """Connect, and bring the schema to the newest version. Statements find its tables without its name.

        :raise Unavailable: the server can't be reached, or refuses the connection.
        :raise StateError: the schema can't be made or migrated, or is newer than this program.
        """
        connection = self._connect()
        try:
            with self.errors():
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
        return connection

    def has_tables(self) -> bool:
        """Whether the schema has been made."""
        connection = self._connect()
        try:
            with self.errors():
                return version_of(connection) is not None
        finally:
            connection.close()

    def _connect(self) -> Connection:
        given = conninfo_to_dict(self.conninfo)
        name = f"bootfw {os.getpid()} on {socket.gethostname()}"[:63]
        parameters = {key: value for key, value in _PARAMETERS.items() if key not in given}
        try:
            connection = psycopg.connect(
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
        """The StateError for an error of a statement."""
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
