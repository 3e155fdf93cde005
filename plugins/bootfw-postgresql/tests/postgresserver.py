"""A PostgreSQL server of the tests' own, on a UNIX socket, and a reactor whose calls from threads a test waits for."""

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psycopg
import pytest
from psycopg import sql
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

_UNPACKED = Path(__file__).parents[3] / ".clients" / "usr" / "lib" / "postgresql"

# Durability is the server's affair: what is tested here is what comes before and after it.
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{0}'
fsync = off
shared_buffers = 16MB
max_connections = 30
max_wal_size = 64MB
jit = off
"""

_ACCESS = """
local all guarded scram-sha-256
local all all trust
"""


@cache
def _programs() -> Path | None:
    """The directory of the server's programs; None: they are not installed."""
    on_path = shutil.which("postgres")
    directories = [Path(on_path).resolve().parent] if on_path else []
    for root in (Path("/usr/lib/postgresql"), _UNPACKED):
        directories += sorted(root.glob("*/bin"), reverse=True)
    return next(
        (
            directory
            for directory in directories
            if (directory / "postgres").exists() and (directory / "initdb").exists()
        ),
        None,
    )


def _environment(programs: Path) -> dict[str, str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    if programs.is_relative_to(_UNPACKED):
        libraries = _UNPACKED.parent / f"{os.uname().machine}-linux-gnu"
        environment["LD_LIBRARY_PATH"] = str(libraries)
    return environment


def _account() -> Sequence[str]:
    """The words that run a command as another user: PostgreSQL does not run as root."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=KILL")


class Server:
    """A server that the test can stop and start; it ends with the test process."""

    def __init__(self, directory: Path, programs: Path, wrapper: Sequence[str] = ()) -> None:
        self.directory = directory
        self._data = directory / "data"
        self._command = [*wrapper, *_account(), str(programs / "postgres"), "-D", str(self._data)]
        self._environment = _environment(programs)
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def make(cls, directory: Path, wrapper: Sequence[str] = ()) -> "Server":
        """A server with an empty cluster in *directory*. The test is skipped where there is no PostgreSQL.

        :param wrapper: the words before the server's command.
        """
        programs = _programs()
        if programs is None:
            pytest.skip("PostgreSQL is not installed: tools/install-clients installs it on Debian")
        if os.geteuid() == 0:
            shutil.chown(directory, "nobody", "nogroup")
        arguments = (str(programs / "initdb"), "-D", directory / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8")
        result = subprocess.run(
            [*_account(), *arguments, "--no-locale", "--no-sync"],
            env=_environment(programs),
            cwd=directory,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            pytest.skip(f"PostgreSQL can't make a cluster here: {result.stdout}{result.stderr}")
        with (directory / "data" / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS.format(directory))
        (directory / "data" / "pg_hba.conf").write_text(_ACCESS)
        return cls(directory, programs, wrapper)

    def configure(self, setting: str, access: str) -> None:
        """Add a line to postgresql.conf and one to pg_hba.conf, for the next start."""
        for name, line in (("postgresql.conf", setting), ("pg_hba.conf", access)):
            with (self._data / name).open("a") as file:
                file.write(f"{line}\n")

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, and wait until it takes connections."""
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, cwd=self.directory, stdout=log, stderr=log
            )
        while True:
            try:
                self._process.wait(0.02)
            except subprocess.TimeoutExpired:
                pass
            else:
                raise AssertionError(f"PostgreSQL did not start: {(self.directory / 'log').read_text()}")
            try:
                self.connect().close()
            except psycopg.OperationalError:
                continue
            return

    def stop(self, signal_number: signal.Signals = signal.SIGINT) -> None:
        """End it, by default with all its sessions; SIGQUIT ends it as a crash does."""
        assert self._process is not None
        self._process.send_signal(signal_number)
        self._process.wait(60)
        self._process = None

    def restart(self, signal_number: signal.Signals = signal.SIGINT) -> None:
        self.stop(signal_number)
        self.start()

    def conninfo(self, **parameters: str) -> str:
        """What connects to it, as the superuser to the database "postgres" where *parameters* say nothing else."""
        return psycopg.conninfo.make_conninfo(
            **{"host": str(self.directory), "user": "postgres", "dbname": "postgres", **parameters}
        )

    def connect(self, **parameters: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo(**parameters), autocommit=True)

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with self.connect() as connection:
            cursor = connection.execute(sql.SQL(statement), values or None)
            return cursor.fetchall() if cursor.description else []


@implementer(IReactorFromThreads)
class ThreadCallReactor:
    """A reactor with callFromThread() only."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., object], *args: object, **kwargs: object) -> None:
        self.calls.put(partial(callable, *args, **kwargs))

    def turn(self) -> None:
        """Make the next call, if one comes soon."""
        with contextlib.suppress(Empty):
            self.calls.get(timeout=0.05)()

    def wait(self, deferred: "Deferred[Any]") -> None:
        """Make the calls until there is a result."""
        while not deferred.called:
            self.calls.get(timeout=60)()
