"""What machines boot next, once: an SQLite file that the server and the ``bootfw`` command both write."""

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

from attrs import frozen

from bootfw.api import StateError

FILE = "next-boot.sqlite"
"""Its name in the state directory."""

APPLICATION = 0x62667732
"""SQLite's application id of our files: "bfw2"."""

SCHEMA = 1
"""SQLite's user version: grows with each change of the table."""

_TABLE = """
CREATE TABLE one_shot (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mac TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL,
    ordered REAL NOT NULL
)
"""

_CHANGE_COUNTER = 24
"""Where an SQLite file counts its transactions, in four octets (https://www.sqlite.org/fileformat2.html)."""

PATIENCE = 5.0
"""Seconds to wait for another process that writes just now; that takes milliseconds."""


@frozen
class OneShot:
    """What a machine boots next."""

    number: int
    """Each order has its own, so that a machine that has got an old one does not use up a new one."""
    mac: str
    file: str
    ordered: float
    """Seconds since the epoch."""


@frozen
class OneShots:
    """The file. It is made with the first order, and is always whole: each change is one transaction.

    It is opened for each use, so several processes may use it; what one has changed shows in version().
    """

    path: Path

    def version(self) -> tuple[int, bytes] | None:
        """Another one after each change; None: there is no file."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            return os.fstat(fd).st_ino, os.pread(fd, 4, _CHANGE_COUNTER)
        except OSError:
            return None
        finally:
            os.close(fd)

    def read(self, patience: float = PATIENCE) -> Mapping[str, OneShot]:
        """All of them, by MAC.

        :raise Busy: another process was writing all the time.
        :raise StateError: it can't be read, or is none of ours.
        """
        if not self.path.exists():
            return {}
        with self._opened(patience) as db:
            rows = db.execute("SELECT number, mac, file, ordered FROM one_shot ORDER BY mac")
            return {row[1]: OneShot(*row) for row in rows}

    def order(self, mac: str, file: str, now: float | None = None) -> None:
        """Have *mac* boot *file* next; durable when it returns, and in place of what was ordered before.

        :raise StateError: it can't be kept.
        """
        with self._opened(PATIENCE) as db:
            ordered = time.time() if now is None else now
            db.execute("INSERT OR REPLACE INTO one_shot (mac, file, ordered) VALUES (?, ?, ?)", (mac, file, ordered))

    def remove(self, one_shots: Iterable[OneShot]) -> None:
        """Those are over; durable when it returns. What was ordered later stays.

        :raise StateError: that can't be kept.
        """
        with self._opened(PATIENCE) as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM one_shot WHERE number = ?", [(each.number,) for each in one_shots])
            db.execute("COMMIT")

    @contextmanager
    def _opened(self, patience: float) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=patience, isolation_level=None)) as db:
                # Also the removal of the journal is on disk when a change is, else the power's failing could undo it.
                db.execute("PRAGMA synchronous = EXTRA")
                self._prepare(db)
                yield db
        except sqlite3.Error as error:
            raise self._explained(error) from error
        except OSError as error:
            raise StateError(f"{error.filename or self.path}: {error.strerror}") from error

    def _prepare(self, db: sqlite3.Connection) -> None:
        """Make the table in a file that has none, or see whose file it is."""
        if _version(db) == (0, 0) and not db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            db.execute("BEGIN IMMEDIATE")
            if _version(db) == (0, 0):  # nobody else has been quicker
                db.execute(_TABLE)
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")
            if os.geteuid() == 0:
                # "twistd --uid" makes it as root, and later runs may be that user's from the start.
                owner = self.path.parent.stat()
                os.chown(self.path, owner.st_uid, owner.st_gid)
        application, version = _version(db)
        if application != APPLICATION:
            raise StateError(f"{self.path}: is no file of bootfw's next boots; move it away")
        if version != SCHEMA:
            raise StateError(
                f"{self.path}: was written by another version of bootfw: its table is of version {version}, "
                f"and this one knows version {SCHEMA}"
            )

    def _explained(self, error: sqlite3.Error) -> StateError:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return StateError(f"{self.path}: is damaged: {error}. Move it away; then no machine has an order any more")
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            return Busy(f"{self.path}: another process uses it")
        return StateError(f"{self.path}: {error}")


class Busy(StateError):
    """Somebody else writes just now."""


def _version(db: sqlite3.Connection) -> tuple[int, int]:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    return application, version
