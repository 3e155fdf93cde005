"""One-time boots, in an SQLite file that the server and the ``bootfw`` command both write."""

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from sqlite3 import Connection

from attrs import frozen

from bootfw.stores.statefile import Busy, Format, StateFile

FILE = "next-boot.sqlite"
"""Its name in the state directory."""

_TABLE = """
CREATE TABLE one_shot (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    mac TEXT NOT NULL UNIQUE,
    file TEXT NOT NULL,
    ordered REAL NOT NULL
)
"""

_FORMAT = Format(
    application=0x62667732,  # "bfw2"
    tables=_TABLE,
    name="a file of next boots",
    advice="Move it away; then no machine has an order any more",
)

_CHANGE_COUNTER = 24
"""Offset of the 4-byte count of transactions in an SQLite file (https://www.sqlite.org/fileformat2.html)."""

PATIENCE = 5.0
"""Seconds to wait for another process that is writing; that takes milliseconds."""


@frozen
class Order:
    """What a machine boots next."""

    number: int
    """Each order has its own, so that a machine that has got an old one does not use up a new one."""
    mac: str
    file: str
    ordered: float
    """Seconds since the epoch."""


@frozen
class Orders:
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

    def read(self, patience: float = PATIENCE) -> Mapping[str, Order]:
        """All of them, by MAC.

        :raise Busy: another process was writing all the time.
        :raise StateError: it can't be read, or is none of ours.
        """
        if not self.path.exists():
            return {}
        with self._opened(patience) as db:
            rows = db.execute("SELECT number, mac, file, ordered FROM one_shot ORDER BY mac")
            return {row[1]: Order(*row) for row in rows}

    def order(self, mac: str, file: str, now: float | None = None) -> None:
        """Have *mac* boot *file* next; durable when it returns, and in place of what was ordered before.

        :raise StateError: it can't be stored.
        """
        with self._opened(PATIENCE) as db:
            ordered = time.time() if now is None else now
            db.execute("INSERT OR REPLACE INTO one_shot (mac, file, ordered) VALUES (?, ?, ?)", (mac, file, ordered))

    def remove(self, orders: Iterable[Order]) -> None:
        """Those are over; durable when it returns. What was ordered later stays.

        :raise StateError: that can't be stored.
        """
        with self._opened(PATIENCE) as db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM one_shot WHERE number = ?", [(each.number,) for each in orders])
            db.execute("COMMIT")

    @contextmanager
    def _opened(self, patience: float) -> Iterator[Connection]:
        file = StateFile(self.path, _FORMAT)
        if not self.path.exists():
            file.create()
        with file.explained(), closing(file.connect(patience)) as db:
            # Also the removal of the journal is on disk when a change is, else a power failure could undo it.
            db.execute("PRAGMA synchronous = EXTRA")
            file.upgrade(db, file.recognize(db))
            yield db


__all__ = ["FILE", "PATIENCE", "Busy", "Order", "Orders"]
