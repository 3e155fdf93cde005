"""Leases in an SQLite file, one call after the other; where the calls are made from is decided elsewhere."""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from socket import AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton

from attrs import define

from bootfw.api import Lease, LeaseState, LeaseStoreError, Reservation, StateError
from bootfw.stores.statefile import Format, StateFile

_LEASE = """
    client BLOB NOT NULL,
    mac TEXT NOT NULL,
    client_id BLOB NOT NULL,
    uuid TEXT NOT NULL,
    hostname TEXT NOT NULL,
    state TEXT NOT NULL,
    granted REAL NOT NULL,
    expires REAL NOT NULL,
    kind TEXT NOT NULL
"""

_IPV6_TABLE = f"CREATE TABLE lease6 (address BLOB PRIMARY KEY, {_LEASE}) WITHOUT ROWID;"

_TABLES = f"""
CREATE TABLE lease (address INTEGER PRIMARY KEY, {_LEASE});
{_IPV6_TABLE}
CREATE TABLE reservation (
    position INTEGER PRIMARY KEY,
    address TEXT NOT NULL,
    mac TEXT NOT NULL,
    client_id BLOB NOT NULL,
    uuid TEXT NOT NULL,
    circuit_id BLOB NOT NULL,
    hostname TEXT NOT NULL,
    options TEXT NOT NULL
);
"""

_FORMAT = Format(
    application=0x62667731,  # "bfw1"
    tables=_TABLES,
    upgrades={1: _IPV6_TABLE},
    name="a lease file",
    advice=(
        "Put a good copy in its place; or move it away to begin without any lease, "
        "and then addresses that are in use may be given to others"
    ),
    error=LeaseStoreError,
    busy=LeaseStoreError,
    in_use="another process uses it; is bootfw running already?",
)

Row = tuple[int | bytes, bytes, str, bytes, str, bytes, str, float, float, str]
"""The address is a number, that of IPv6 16 bytes: SQLite's numbers have 64 bits."""

LARGEST = 1024
"""Rows in one statement. SQLite allows 32766 values in one since 3.32, and a row has ten."""

PATIENCE = 2.0
"""Seconds to wait for another process to release the file: ``bootfw leases`` uses it only for a moment."""

_COLUMNS = "address, client, mac, client_id, uuid, hostname, state, granted, expires, kind"
_RESERVED = "address, mac, client_id, uuid, circuit_id, hostname, options"
_TYPES = (int, bytes, str, bytes, str, str, str, float, float, str)
_STATES = {state.value: state for state in LeaseState}


def row_of(lease: Lease) -> Row:
    """What LeaseFile.write() takes."""
    return (
        inet_pton(AF_INET6, lease.address) if ":" in lease.address else int.from_bytes(inet_aton(lease.address)),
        lease.client,
        lease.mac,
        lease.client_id,
        lease.uuid,
        # Clients put what they like into it; SQLite's text would have to be UTF-8.
        lease.hostname.encode("utf-8", "surrogateescape"),
        lease.state.value,
        lease.granted,
        lease.expires,
        lease.kind,
    )


@define(eq=False)
class LeaseFile:
    """An open file. No other process can open it meanwhile; the lock goes with the process, however that ends.

    Every method raises LeaseStoreError for what SQLite or the disk refuses.
    """

    path: Path
    _file: StateFile
    _db: sqlite3.Connection

    @classmethod
    def open(cls, path: Path) -> "LeaseFile":
        """Open a file that is there, and read all of it to see whether it is whole."""
        file = StateFile(path, _FORMAT)
        db = file.connect(PATIENCE)
        try:
            with file.explained():
                # Before anything is read: then there is no shared memory, and no second process.
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                version = file.recognize(db)
                (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise LeaseStoreError(f"{path}: can't keep leases safely here: SQLite's journal is {mode}, not wal")
                # The default may be less than a sync for each commit, and a lease is only a lease when it is on disk.
                db.execute("PRAGMA synchronous = FULL")
                (found,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                raise file.damaged(" ".join(found.split()))
            file.upgrade(db, version)
        except BaseException:
            db.close()
            raise
        db.text_factory = _text
        return cls(path, file, db)

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty file; a file that exists is left as it is. See StateFile.create()."""
        StateFile(path, _FORMAT).create()

    def leases(self) -> Iterator[Lease]:
        """All of them, by address, those of IPv6 last. Nothing is written while they are read."""
        with self._file.explained():
            for table, types in (("lease", _TYPES), ("lease6", (bytes, *_TYPES[1:]))):
                for row in self._db.execute(f"SELECT {_COLUMNS} FROM {table} ORDER BY address"):
                    number, client, mac, client_id, uuid, hostname, state, granted, expires, kind = row
                    # SQLite's columns take values of any type.
                    if tuple(map(type, row)) != types or state not in _STATES:
                        raise self._makes_no_sense(number)
                    try:
                        address = inet_ntop(AF_INET6, number) if types[0] is bytes else inet_ntoa(number.to_bytes(4))
                    except (OverflowError, ValueError) as error:
                        raise self._makes_no_sense(number) from error
                    yield Lease(address, client, mac, _STATES[state], granted, expires, client_id, uuid, hostname, kind)

    def _makes_no_sense(self, number: object) -> StateError:
        shown = number.hex() if isinstance(number, bytes) else number
        return self._file.damaged(f"the lease numbered {shown} makes no sense")

    def write(self, rows: Sequence[Row]) -> None:
        """Keep the leases; they are durable when it returns. Of several for one address the last counts."""
        with self._file.explained():
            for first in range(0, len(rows), LARGEST):
                batch = rows[first : first + LARGEST]
                ipv6 = [row for row in batch if type(row[0]) is bytes]
                self._write("lease", [row for row in batch if type(row[0]) is int] if ipv6 else batch)
                self._write("lease6", ipv6)

    def _write(self, table: str, rows: Sequence[Row]) -> None:
        if not rows:
            return
        # One statement, and a transaction of its own. sqlite3 lets go of the interpreter for each, and gets it back
        # from a busy reactor only after 5 ms (sys.getswitchinterval()). Measured beside one, in batches of 150:
        # executemany() 600 leases/s, this 11,000.
        # The number of rows is made a power of two by repeating the last, so that few statements are ever prepared.
        count = 1 << (len(rows) - 1).bit_length()
        values = [value for row in rows for value in row] + list(rows[-1]) * (count - len(rows))
        places = ",".join([_PLACES] * count)
        self._db.execute(f"INSERT OR REPLACE INTO {table} ({_COLUMNS}) VALUES {places}", values)

    def reservations(self) -> Iterator[Reservation]:
        """All of them, in the order that they were given."""
        with self._file.explained():
            for row in self._db.execute(f"SELECT {_RESERVED} FROM reservation ORDER BY position"):
                address, mac, client_id, uuid, circuit_id, hostname, options = row
                try:
                    codes = {int(code): bytes.fromhex(value) for code, value in json.loads(options).items()}
                    first, *others = mac.split() or [""]
                    yield Reservation(address, first, client_id, uuid, circuit_id, hostname, codes, tuple(others))
                except (ValueError, AttributeError, TypeError) as error:
                    raise self._file.damaged(f"the reservation of {address or mac} makes no sense") from error

    def replace_reservations(self, reservations: Sequence[Reservation]) -> None:
        """Keep these and no others; durable when it returns."""
        rows = [
            (
                position,
                each.address,
                " ".join(each.macs),
                each.client_id,
                each.uuid,
                each.circuit_id,
                each.hostname,
                json.dumps({code: value.hex() for code, value in each.options.items()}),
            )
            for position, each in enumerate(reservations)
        ]
        with self._file.explained():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.execute("DELETE FROM reservation")
                self._db.executemany("INSERT INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Release the file; what was written stays."""
        with self._file.explained():
            self._db.close()


_PLACES = "(?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)"


def _text(stored: bytes) -> str:
    return stored.decode("utf-8", "surrogateescape")
