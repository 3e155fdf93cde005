"""The tables, and the migration of those of an earlier version."""

from typing import Any

import psycopg
from psycopg import sql

# Bytes that a client has sent, such as its host name, may be no text of the database's encoding. "owner" has one row:
# who may write leases, reservations and orders; see ownership.py.
_TABLES = """
CREATE TABLE lease (
    address inet PRIMARY KEY,
    client bytea NOT NULL,
    mac text NOT NULL,
    client_id bytea NOT NULL,
    uuid text NOT NULL,
    hostname bytea NOT NULL,
    state text NOT NULL,
    granted double precision NOT NULL,
    expires double precision NOT NULL,
    kind text NOT NULL
);
CREATE TABLE reservation (
    position integer PRIMARY KEY,
    address text NOT NULL,
    macs text[] NOT NULL,
    client_id bytea NOT NULL,
    uuid text NOT NULL,
    circuit_id bytea NOT NULL,
    hostname text NOT NULL,
    options json NOT NULL
);
CREATE TABLE machine_order (
    kind text NOT NULL,
    mac text NOT NULL,
    content json NOT NULL,
    PRIMARY KEY (kind, mac)
);
CREATE TABLE attempt (
    id text PRIMARY KEY,
    client text NOT NULL,
    verdict text NOT NULL,
    began double precision NOT NULL,
    content json NOT NULL
);
CREATE INDEX attempt_began ON attempt (began);
CREATE INDEX attempt_client ON attempt (client, began);
CREATE TABLE owner (
    epoch bigint NOT NULL,
    token text NOT NULL,
    name text NOT NULL,
    since timestamp with time zone NOT NULL
);
INSERT INTO owner VALUES (0, '', '', now());
CREATE TABLE schema_version (version integer NOT NULL);
INSERT INTO schema_version VALUES (0);
"""

# A row lock FOR KEY SHARE, which each write takes, then conflicts with a new epoch and not with a confirmation.
_CONFIRMATIONS = """
ALTER TABLE owner ADD COLUMN confirmations bigint NOT NULL DEFAULT -1, ADD PRIMARY KEY (epoch);
"""

# What all nodes are to DHCPv6 clients; see Standing.cluster.
_CLUSTER = """
ALTER TABLE owner ADD COLUMN cluster uuid NOT NULL DEFAULT gen_random_uuid();
"""

_LEASE_TIMES = """
ALTER TABLE reservation ADD COLUMN lease_seconds integer NOT NULL DEFAULT 0;
"""

MIGRATIONS = (_TABLES, _CONFIRMATIONS, _CLUSTER, _LEASE_TIMES)
"""The statements that migrate from each version, from 0 on, to the next one."""

VERSION = len(MIGRATIONS)
"""The version that this program knows."""

_LOCK = 0x62667732
"""First half of the key of the advisory lock under which the schema is changed, "bfw2"."""


def version_of(connection: psycopg.Connection[Any]) -> int | None:
    """Return the version of the schema that the connection's search_path names; None: it has none of our tables."""
    if connection.execute("SELECT to_regclass('schema_version')").fetchone() == (None,):
        return None
    row = connection.execute("SELECT version FROM schema_version").fetchone()
    return int(row[0]) if row is not None else 0


def migrate(connection: psycopg.Connection[Any], schema: str) -> None:
    """Create the schema, or migrate it to VERSION, in one transaction; a newer one is left as it is.

    Of two processes that start at once, one waits for the other. If it fails, the connection has to be closed.
    """
    # Not in the transaction: a session learns of tables that others have created when a transaction begins.
    key = (_LOCK, schema)
    connection.execute("SET lock_timeout = '60s'")
    connection.execute("SELECT pg_advisory_lock(%s, hashtext(%s))", key)
    with connection.transaction():
        version = version_of(connection)
        if version is None:
            # IF NOT EXISTS would need the right to make schemas where there is nothing to make.
            if connection.execute("SELECT to_regnamespace(quote_ident(%s))", (schema,)).fetchone() == (None,):
                connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
            version = 0
        if version < VERSION:
            for statements in MIGRATIONS[version:]:
                connection.execute(sql.SQL(statements))
            connection.execute("UPDATE schema_version SET version = %s", (VERSION,))
    connection.execute("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)
    connection.execute("SET lock_timeout = '2s'")
