"""Leases, reservations, orders and boot attempts as rows, and the statements that read and write them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from socket import AF_INET6, inet_ntop, inet_pton
from typing import Any

from bootfw.api import BootAttempt, Lease, LeaseState, Reservation, StateError, attempt_of, attempt_record
from bootfw_postgresql.database import Connection

Row = tuple[str, bytes, str, bytes, str, bytes, str, float, float, str]
"""A lease: a value for each column that _WRITE_LEASES names."""

_STATES = {state.value: state for state in LeaseState}

_READ_LEASES = """
SELECT host(address), client, mac, client_id, uuid, hostname, state, granted, expires, kind FROM lease
"""

# One statement with a transaction of its own: one round trip for a batch. No row is written in another epoch.
_WRITE_LEASES = """
WITH mine AS MATERIALIZED (SELECT FROM owner WHERE epoch = %s FOR KEY SHARE)
INSERT INTO lease (address, client, mac, client_id, uuid, hostname, state, granted, expires, kind)
SELECT given.* FROM mine, unnest(
    %s::text[]::inet[], %s::bytea[], %s::text[], %s::bytea[], %s::text[], %s::bytea[], %s::text[],
    %s::double precision[], %s::double precision[], %s::text[]
) AS given
ON CONFLICT (address) DO UPDATE SET
    client = excluded.client, mac = excluded.mac, client_id = excluded.client_id, uuid = excluded.uuid,
    hostname = excluded.hostname, state = excluded.state, granted = excluded.granted, expires = excluded.expires,
    kind = excluded.kind
"""

_WRITE_ATTEMPTS = """
INSERT INTO attempt (id, client, verdict, began, content)
SELECT id, client, verdict, began, content::json FROM unnest(
    %s::text[], %s::text[], %s::text[], %s::double precision[], %s::text[]
) AS given (id, client, verdict, began, content)
ON CONFLICT (id) DO UPDATE SET
    client = excluded.client, verdict = excluded.verdict, began = excluded.began, content = excluded.content
"""


def row_of(lease: Lease) -> Row:
    """Convert a lease to a row for write_leases()."""
    return (
        lease.address,
        lease.client,
        lease.mac,
        lease.client_id,
        lease.uuid,
        lease.hostname.encode("utf-8", "surrogateescape"),
        lease.state.value,
        lease.granted,
        lease.expires,
        lease.kind,
    )


def leases(connection: Connection) -> Sequence[Lease]:
    """Read all leases.

    :raise StateError: one has a state that is unknown.
    """
    with connection.cursor(binary=True) as cursor:
        return [_lease(*row) for row in cursor.execute(_READ_LEASES)]


def _lease(
    address: str,
    client: bytes,
    mac: str,
    client_id: bytes,
    uuid: str,
    hostname: bytes,
    state: str,
    granted: float,
    expires: float,
    kind: str,
) -> Lease:
    if state not in _STATES:
        raise StateError(f'PostgreSQL: the lease of {address} has the state "{state}"; known: {", ".join(_STATES)}')
    if ":" in address:
        address = inet_ntop(AF_INET6, inet_pton(AF_INET6, address))
    name = hostname.decode("utf-8", "surrogateescape")
    return Lease(address, client, mac, _STATES[state], granted, expires, client_id, uuid, name, kind)


def is_current(connection: Connection, epoch: int) -> bool:
    """Return whether *epoch* is the latest one. In a transaction it then stays so until the end."""
    return connection.execute("SELECT FROM owner WHERE epoch = %s FOR KEY SHARE", (epoch,)).rowcount == 1


def write_leases(connection: Connection, rows: Sequence[tuple[Any, ...]], epoch: int) -> bool:
    """Store leases. Of several for one address the last counts.

    :return: false if *epoch* is over; then nothing is stored.
    """
    latest = {row[0]: row for row in rows}  # one statement can't change a row twice
    columns = [list(column) for column in zip(*latest.values(), strict=True)]
    return connection.execute(_WRITE_LEASES, [epoch, *columns]).rowcount == len(latest)


def reservations(connection: Connection) -> Sequence[Reservation]:
    """Read all reservations, in the order in which they were given.

    :raise StateError: one is invalid.
    """
    return list(map(_reservation, connection.execute("SELECT * FROM reservation ORDER BY position")))


def _reservation(row: Sequence[Any]) -> Reservation:
    position, address, macs, client_id, uuid, circuit_id, hostname, options, seconds = row
    try:
        codes = {int(code): bytes.fromhex(value) for code, value in options.items()}
        first_mac, *other_macs = macs or [""]
        return Reservation(address, first_mac, client_id, uuid, circuit_id, hostname, codes, tuple(other_macs), seconds)
    except (ValueError, AttributeError, TypeError) as error:
        raise StateError(f"PostgreSQL: the reservation in position {position} is invalid: {error}") from error


def replace_reservations(connection: Connection, reservations: Sequence[Reservation]) -> None:
    """Store these in place of all others."""
    rows = [
        (
            position,
            each.address,
            list(each.macs),
            each.client_id,
            each.uuid,
            each.circuit_id,
            each.hostname,
            json.dumps({code: value.hex() for code, value in each.options.items()}),
            each.lease_seconds,
        )
        for position, each in enumerate(reservations)
    ]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM reservation")
        cursor.executemany("INSERT INTO reservation VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", rows)


def orders(connection: Connection, kind: str) -> Mapping[str, Mapping[str, object]]:
    """Read the orders of one kind, by MAC."""
    return dict(connection.execute("SELECT mac, content FROM machine_order WHERE kind = %s", (kind,)).fetchall())


def all_orders(connection: Connection) -> Mapping[str, Mapping[str, Mapping[str, object]]]:
    """Read the orders of all kinds: kind -> MAC -> order."""
    orders_by_kind: dict[str, dict[str, Mapping[str, object]]] = {}
    for kind, mac, content in connection.execute("SELECT kind, mac, content FROM machine_order"):
        orders_by_kind.setdefault(kind, {})[mac] = content
    return orders_by_kind


def write_orders(connection: Connection, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> None:
    """Store orders of one kind, and remove those that are None."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM machine_order WHERE kind = %s AND mac = ANY(%s)", (kind, list(orders)))
        rows = [(kind, mac, json.dumps(order)) for mac, order in orders.items() if order is not None]
        cursor.executemany("INSERT INTO machine_order VALUES (%s, %s, %s)", rows)


def write_attempts(connection: Connection, attempts: Sequence[BootAttempt], keep: int, since: float) -> None:
    """Store boot attempts, and drop those beyond the bounds; see IAttemptStore."""
    latest = {
        each.id: (each.id, each.client, each.verdict.value, each.began, json.dumps(attempt_record(each)))
        for each in attempts
    }
    with connection.transaction():
        if latest:
            connection.execute(_WRITE_ATTEMPTS, [list(column) for column in zip(*latest.values(), strict=True)])
        connection.execute("DELETE FROM attempt WHERE began < %s", (since,))
        connection.execute(
            "DELETE FROM attempt WHERE began < (SELECT began FROM attempt ORDER BY began DESC LIMIT 1 OFFSET %s)",
            (keep - 1,),
        )


def attempts(
    connection: Connection, machine: str, verdict: str, since: float, before: float, limit: int
) -> list[BootAttempt]:
    """Find the latest boot attempts; see IAttemptStore.

    :raise StateError: one is invalid.
    """
    conditions: Iterator[tuple[str, Any]] = iter(
        (("began >= %s", since), ("client = %s", machine), ("verdict = %s", verdict), ("began < %s", before))
    )
    used_conditions = [(condition, value) for condition, value in conditions if value]
    where = " AND ".join(condition for condition, _ in used_conditions) or "true"
    statement: Any = f"SELECT content FROM attempt WHERE {where} ORDER BY began DESC LIMIT %s"
    rows = connection.execute(statement, [*(value for _, value in used_conditions), limit]).fetchall()
    try:
        return [attempt_of(content) for (content,) in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StateError(f"PostgreSQL: a boot attempt is invalid: {error!r}") from error
