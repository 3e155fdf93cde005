"""SQLite files in the state directory: how they begin, whose they are, and what an operator is told of their errors."""

import os
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from attrs import field, frozen

from bootfw.api import StateError


class Busy(StateError):
    """Another process uses the file."""


@frozen
class Format:
    """What makes a file one of a kind.

    :param application: SQLite's application id.
    :param tables: the statements that make the tables of the newest version.
    :param upgrades: version -> the statements that lead from it to the next one.
    :param name: such as "a lease file", for messages.
    :param advice: what to do about a damaged file, as the end of a message.
    :param error: raised for everything that is wrong with a file.
    :param busy: raised while another process uses it.
    :param in_use: the message of *busy*.
    """

    application: int
    tables: str
    name: str
    advice: str
    upgrades: Mapping[int, str] = field(factory=dict)
    error: type[StateError] = StateError
    busy: type[StateError] = Busy
    in_use: str = "another process uses it"

    @property
    def version(self) -> int:
        """The newest version: SQLite's user version of a file."""
        return max(self.upgrades, default=0) + 1


@frozen
class StateFile:
    """A path, and what has to be there. Every method raises ``format.error`` for what SQLite or the disk refuses."""

    path: Path
    format: Format

    def create(self) -> None:
        """Make an empty file, for the owner of its directory only; a file that exists is left as it is.

        It gets its name when it is complete, so that a file that is not complete is always a damaged one.
        """
        with self.explained():
            _make_directory(self.path.parent)
            fd, scratch = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.path.parent)
            try:
                if os.geteuid() == 0:
                    # "twistd --uid" makes it as root, and later runs may be that user's from the start.
                    owner = self.path.parent.stat()
                    os.fchown(fd, owner.st_uid, owner.st_gid)
                os.close(fd)
                with closing(sqlite3.connect(scratch)) as db:
                    db.executescript(
                        f"PRAGMA application_id = {self.format.application}; "
                        f"PRAGMA user_version = {self.format.version}; {self.format.tables}"
                    )
                with suppress(FileExistsError):
                    os.link(scratch, self.path)
            finally:
                os.unlink(scratch)
            _sync(self.path.parent)

    def connect(self, patience: float) -> sqlite3.Connection:
        """Open the file, which must exist. Transactions are begun by hand; threads that share it take turns.

        :param patience: seconds to wait for another process to release it.
        """
        with self.explained():
            if not self.path.exists():  # SQLite would make one
                raise self.format.error(f"{self.path}: there is no such file")
            return sqlite3.connect(self.path, timeout=patience, isolation_level=None, check_same_thread=False)

    def recognize(self, db: sqlite3.Connection) -> int:
        """The version of the file, which is of this kind and no newer than this program."""
        with self.explained():
            (application,) = db.execute("PRAGMA application_id").fetchone()
            (version,) = db.execute("PRAGMA user_version").fetchone()
        if application != self.format.application:
            raise self.damaged(f"it is not {self.format.name} of bootfw")
        if not 0 < version <= self.format.version:
            raise self.format.error(
                f"{self.path}: was written by another version of bootfw: its tables are of version {version}, "
                f"and this one knows version {self.format.version}"
            )
        return int(version)

    def upgrade(self, db: sqlite3.Connection, version: int) -> None:
        """Bring a file of *version* to the newest one, in one transaction."""
        if version == self.format.version:
            return
        statements = " ".join(self.format.upgrades[each] for each in range(version, self.format.version))
        with self.explained():
            db.executescript(f"BEGIN; {statements} PRAGMA user_version = {self.format.version}; COMMIT;")

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of SQLite and of the system into what an operator has to know."""
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest is detail
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise self.format.busy(f"{self.path}: {self.format.in_use}") from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise self.damaged(str(error)) from error
            raise self.format.error(f"{self.path}: {error}") from error
        except OSError as error:
            raise self.format.error(f"{error.filename or self.path}: {error.strerror}") from error

    def damaged(self, reason: str) -> StateError:
        """The error of a file whose content is wrong."""
        return self.format.error(f"{self.path}: is damaged: {reason}. {self.format.advice}")


def _make_directory(directory: Path) -> None:
    """With those above it, each durable; for the user only."""
    if not directory.is_dir():
        _make_directory(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)
        _sync(directory.parent)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
