"""The state file: leases, reservations, orders and boot attempts in one SQLite file.

Every call blocks; see sqlite.py for threads.
"""

import json
import os
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from socket import AF_INET6, inet_aton, inet_ntoa, inet_ntop, inet_pton
from typing import Any

from attrs import define, field

from bootfw.api import BootAttempt, Lease, LeaseState, Reservation, StateError
from bootfw.attempts.record import attempt_of, attempt_record

APPLICATION = 0x62667731
"""SQLite's application id of the file: "bfw1"."""

LOCK_TIMEOUT = 2.0
"""Seconds to wait for another process to close the file: the ``bootfw`` command has it open for a moment only."""

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

_ORDER_TABLE = """
CREATE TABLE machine_order (
    kind TEXT NOT NULL,
    mac TEXT NOT NULL,
    content TEXT NOT NULL,
    PRIMARY KEY (kind, mac)
) WITHOUT ROWID;
"""

_ATTEMPT_TABLE = """
CREATE TABLE attempt (
    id TEXT PRIMARY KEY,
    mac TEXT NOT NULL,
    verdict TEXT NOT NULL,
    began REAL NOT NULL,
    content BLOB NOT NULL
) WITHOUT ROWID;
CREATE INDEX attempt_began ON attempt (began);
CREATE INDEX attempt_mac ON attempt (mac, began);
"""

_TABLES = f"""
CREATE TABLE lease (address INTEGER PRIMARY KEY, {_LEASE});
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

_LEASE_TIMES = "ALTER TABLE reservation ADD COLUMN lease_seconds INTEGER NOT NULL DEFAULT 0;"

_MIGRATIONS = (_TABLES, _IPV6_TABLE, _ORDER_TABLE, _ATTEMPT_TABLE, _LEASE_TIMES)
"""The statements that migrate from each schema version, from 0 on, to the next one."""

VERSION = len(_MIGRATIONS)
"""The schema version that this program writes: SQLite's user version of the file."""

Row = tuple[int | bytes, bytes, str, bytes, str, bytes, str, float, float, str]
"""A lease. The address is a number, that of IPv6 16 bytes: SQLite's numbers have 64 bits."""

MAX_ROWS = 1024
"""Rows in one statement. SQLite allows 32766 values in one since 3.32, and a row has ten."""

_COLUMNS = "address, client, mac, client_id, uuid, hostname, state, granted, expires, kind"
_PARAMETERS = "(?, ?, ?, ?, ?, CAST(? AS TEXT), ?, ?, ?, ?)"
_RESERVATION = "address, mac, client_id, uuid, circuit_id, hostname, options, lease_seconds"
_TYPES = (int, bytes, str, bytes, str, str, str, float, float, str)
_STATES = {state.value: state for state in LeaseState}


def row_of(lease: Lease) -> Row:
    """Convert a lease to a row for StateFile.write_leases()."""
    return (
        inet_pton(AF_INET6, lease.address) if ":" in lease.address else int.from_bytes(inet_aton(lease.address)),
        lease.client,
        lease.mac,
        lease.client_id,
        lease.uuid,
        # A client may send any bytes as its host name; a text of SQLite would have to be UTF-8.
        lease.hostname.encode("utf-8", "surrogateescape"),
        lease.state.value,
        lease.granted,
        lease.expires,
        lease.kind,
    )


@define(eq=False)
class StateFile:
    """An open state file. No other process can open it meanwhile; the lock ends with the process, however that ends.

    Every method raises StateError for what SQLite or the disk refuses.
    """

    path: Path
    connection: sqlite3.Connection
    _files: dict[Path, tuple[int, int]] = field(factory=dict, init=False)
    """What was opened: the file and SQLite's write-ahead log beside it -> (device, inode)."""

    @classmethod
    def create(cls, path: Path) -> None:
        """Create an empty file that only the owner of its directory can read; an existing file is left as it is.

        The file gets its name when it is complete, so a file that is not complete is always a damaged one.
        """
        with as_state_errors(path):
            _make_directory(path.parent)
            fd, scratch = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                if os.geteuid() == 0:
                    # "twistd --uid" makes it as root, and later starts may be that user's from the beginning.
                    owner = path.parent.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                os.close(fd)
                with closing(sqlite3.connect(scratch)) as db:
                    # In one transaction: otherwise the disk is waited for after each statement.
                    db.executescript(
                        f"BEGIN; PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION}; "
                        f"{''.join(_MIGRATIONS)} COMMIT;"
                    )
                with suppress(FileExistsError):
                    os.link(scratch, path)
            finally:
                os.unlink(scratch)
            sync_directory(path.parent)

    @classmethod
    def open(cls, path: Path, wait: float | None = None) -> "StateFile":
        """Open an existing file, check all of it for damage, and migrate it to the newest schema version.

        :param wait: seconds to wait for another process to close it; None: LOCK_TIMEOUT.
        """
        with as_state_errors(path):
            if not path.exists():  # SQLite would make one
                raise StateError(f"{path}: there is no such file")
            # Transactions are begun by hand. The reactor's thread and the one that writes take turns.
            timeout = LOCK_TIMEOUT if wait is None else wait
            db = sqlite3.connect(path, timeout=timeout, isolation_level=None, check_same_thread=False)
        try:
            with as_state_errors(path):
                # Set before the first read, so that SQLite uses no shared memory and no second process can open the
                # file.
                db.execute("PRAGMA locking_mode = EXCLUSIVE")
                version = _version(path, db)
                (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise StateError(f"{path}: can't keep state safely here: SQLite's journal is {mode}, not wal")
                # The default may be less than a sync for each commit, and a lease is only a lease when it is on disk.
                db.execute("PRAGMA synchronous = FULL")
                check_database(path, db, "main")
                if version < VERSION:
                    statements = "".join(_MIGRATIONS[version:])
                    db.executescript(f"BEGIN; {statements} PRAGMA user_version = {VERSION}; COMMIT;")
        except BaseException:
            db.close()
            raise
        db.text_factory = _text
        opened = cls(path, db)
        opened._files = {each: present for each in (path, Path(f"{path}-wal")) if (present := _identity(each))}
        return opened

    def leases(self) -> Iterator[Lease]:
        """Yield all leases by address, those of IPv6 last. Nothing may be written while they are read."""
        with as_state_errors(self.path):
            for table, types in (("lease", _TYPES), ("lease6", (bytes, *_TYPES[1:]))):
                for row in self.connection.execute(f"SELECT {_COLUMNS} FROM {table} ORDER BY address"):
                    number, client, mac, client_id, uuid, hostname, state, granted, expires, kind = row
                    # SQLite's columns take values of any type.
                    if tuple(map(type, row)) != types or state not in _STATES:
                        raise self._invalid_lease(number)
                    try:
                        address = inet_ntop(AF_INET6, number) if types[0] is bytes else inet_ntoa(number.to_bytes(4))
                    except (OverflowError, ValueError) as error:
                        raise self._invalid_lease(number) from error
                    yield Lease(address, client, mac, _STATES[state], granted, expires, client_id, uuid, hostname, kind)

    def _invalid_lease(self, number: object) -> StateError:
        formatted = number.hex() if isinstance(number, bytes) else number
        return damage_error(self.path, f"the lease numbered {formatted} is invalid")

    def write_leases(self, rows: Sequence[Row]) -> None:
        """Store leases; they are durable when it returns. Of several for one address the last counts."""
        if not rows:
            return
        with self._writing():
            for first in range(0, len(rows), MAX_ROWS):
                batch = rows[first : first + MAX_ROWS]
                ipv6 = [row for row in batch if type(row[0]) is bytes]
                self._write("lease", [row for row in batch if type(row[0]) is int] if ipv6 else batch)
                self._write("lease6", ipv6)

    def _write(self, table: str, rows: Sequence[Row]) -> None:
        if not rows:
            return
        # One statement, and a transaction of its own. sqlite3 releases the interpreter lock for each, and gets it back
        # from a busy reactor only after 5 ms (sys.getswitchinterval()). Measured beside one, in batches of 150:
        # executemany() 600 leases/s, this 11,000.
        # The last row is repeated until their number is a power of two, so that few statements are ever prepared.
        count = 1 << (len(rows) - 1).bit_length()
        values = [value for row in rows for value in row] + list(rows[-1]) * (count - len(rows))
        parameters = ",".join([_PARAMETERS] * count)
        self.connection.execute(f"INSERT OR REPLACE INTO {table} ({_COLUMNS}) VALUES {parameters}", values)

    def reservations(self) -> Iterator[Reservation]:
        """Yield all reservations, in the order in which they were added."""
        with as_state_errors(self.path):
            for row in self.connection.execute(f"SELECT {_RESERVATION} FROM reservation ORDER BY position"):
                address, mac, client_id, uuid, circuit_id, hostname, options, seconds = row
                try:
                    codes = {int(code): bytes.fromhex(value) for code, value in json.loads(options).items()}
                    first, *other_macs = mac.split() or [""]
                    yield Reservation(
                        address, first, client_id, uuid, circuit_id, hostname, codes, tuple(other_macs), seconds
                    )
                except (ValueError, AttributeError, TypeError, RecursionError) as error:
                    raise damage_error(self.path, f"the reservation of {address or mac} is invalid") from error

    def replace_reservations(self, reservations: Sequence[Reservation]) -> None:
        """Store these in place of all others; durable when it returns."""
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
                each.lease_seconds,
            )
            for position, each in enumerate(reservations)
        ]
        with self._writing() as connection, transaction(connection) as db:
            db.execute("DELETE FROM reservation")
            db.executemany("INSERT INTO reservation VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        """Return the orders of one kind, by MAC."""
        found: dict[str, Mapping[str, object]] = {}
        with as_state_errors(self.path):
            statement = "SELECT mac, content FROM machine_order WHERE kind = ? ORDER BY mac"
            for mac, content in self.connection.execute(statement, (kind,)):
                try:
                    found[mac] = json.loads(content)
                except (ValueError, TypeError, RecursionError) as error:
                    raise damage_error(self.path, f"the {kind} order of {mac} is invalid") from error
        return found

    def write_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> None:
        """Store orders of one kind, and remove those that are None; durable when it returns."""
        removed = [(kind, mac) for mac, order in orders.items() if order is None]
        stored = [(kind, mac, json.dumps(order)) for mac, order in orders.items() if order is not None]
        with self._writing() as connection, transaction(connection) as db:
            db.executemany("DELETE FROM machine_order WHERE kind = ? AND mac = ?", removed)
            db.executemany("INSERT OR REPLACE INTO machine_order VALUES (?, ?, ?)", stored)

    def write_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> None:
        """Store boot attempts, and drop those beyond the bounds; see IAttemptStore."""
        rows = [
            (attempt.id, attempt.client, attempt.verdict.value, attempt.began, _encode_attempt(attempt))
            for attempt in attempts
        ]
        with self._writing() as connection, transaction(connection) as db:
            db.executemany("INSERT OR REPLACE INTO attempt VALUES (?, ?, ?, ?, ?)", rows)
            db.execute("DELETE FROM attempt WHERE began < ?", (since,))
            db.execute(
                "DELETE FROM attempt WHERE began < (SELECT began FROM attempt ORDER BY began DESC LIMIT 1 OFFSET ?)",
                (keep - 1,),
            )

    def attempts(self, machine: str, verdict: str, since: float, before: float, limit: int) -> list[BootAttempt]:
        """Return the latest boot attempts; see IAttemptStore."""
        where, values = ["began >= ?"], list[Any]([since])
        for condition, value in (("mac = ?", machine), ("verdict = ?", verdict), ("began < ?", before)):
            if value:
                where.append(condition)
                values.append(value)
        statement = f"SELECT content FROM attempt WHERE {' AND '.join(where)} ORDER BY began DESC LIMIT ?"
        with as_state_errors(self.path):
            try:
                return [_decode_attempt(content) for (content,) in self.connection.execute(statement, (*values, limit))]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError, zlib.error) as error:
                raise damage_error(self.path, "a boot attempt is invalid") from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run a block that writes.

        :raise StateError: it has failed, or the file that was written has no name any more.
        """
        # SQLite goes on with a file that was removed or replaced, and reports no error: its writes would be lost with
        # the process. So this is checked after each write, before a lease is acknowledged.
        with as_state_errors(self.path):
            yield self.connection
        for path, opened in self._files.items():
            now = _identity(path)
            if now != opened:
                reason = "another file has taken its place" if now else "it was moved or removed"
                raise StateError(
                    f"{path}: {reason} while bootfw uses it: put it back; or restart bootfw, which then begins without "
                    "the leases that were in it"
                )

    def close(self) -> None:
        """Close the file; what was written stays."""
        with as_state_errors(self.path):
            self.connection.close()


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Run a block in a transaction: it is committed as a whole, or rolled back."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite ends it by itself when the disk is full
            db.execute("ROLLBACK")
        raise


@contextmanager
def as_state_errors(path: Path) -> Iterator[None]:
    """Convert errors of SQLite and the system to StateErrors whose message names *path*."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the first line names the error; the others are details
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise StateError(f"{path}: another process uses it; is bootfw running already?") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise damage_error(path, str(error)) from error
        raise StateError(f"{path}: {error}") from error
    except OSError as error:
        raise StateError(f"{error.filename or path}: {error.strerror}") from error


def damage_error(path: Path, reason: str) -> StateError:
    """Return the error for a damaged file."""
    return StateError(
        f"{path}: is damaged: {reason}. Put a good copy in its place; or move it away to begin without any lease, "
        "and then addresses that are in use may be given to others"
    )


def check_database(path: Path, db: sqlite3.Connection, schema: str) -> None:
    """Read all of a database and look for damage.

    :param schema: SQLite's name of it, such as "main".
    """
    (found,) = db.execute(f"PRAGMA {schema}.quick_check(1)").fetchone()
    if found != "ok":
        raise damage_error(path, " ".join(found.split()))


def _identity(path: Path) -> tuple[int, int] | None:
    """Return (device, inode) of the file at *path*; None: there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _encode_attempt(attempt: BootAttempt) -> bytes:
    # The JSON of an attempt has some kilobytes, in which the same words are repeated.
    return zlib.compress(json.dumps(attempt_record(attempt), separators=(",", ":")).encode(), 1)


def _decode_attempt(content: bytes) -> BootAttempt:
    return attempt_of(json.loads(zlib.decompress(content)))


def _version(path: Path, db: sqlite3.Connection) -> int:
    """Return the schema version of a state file.

    :raise StateError: it is not a state file of bootfw, or newer than this program.
    """
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION:
        raise damage_error(path, "it is not a state file of bootfw")
    if not 0 < version <= VERSION:
        raise StateError(
            f"{path}: was written by another version of bootfw: its tables are of version {version}, "
            f"and this one knows version {VERSION}"
        )
    return int(version)


def _text(content: bytes) -> str:
    """Decode a text of SQLite; the host name of a client may be any bytes, see row_of()."""
    return content.decode("utf-8", "surrogateescape")


def _make_directory(directory: Path) -> None:
    """Create a directory and its parents with mode 0700, and sync each to disk."""
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Sync a directory to disk: file names that were created or renamed in it are durable then."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
