"""Fixtures: a running PostgreSQL server, a schema of the test's own in it, and stores."""

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore
from postgresserver import Server, ThreadCallReactor

_serial = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A running server."""
    directory = Path(tempfile.mkdtemp(prefix="bootfw-pg-"))  # a short path, which another user can enter
    try:
        server = Server.make(directory)
        server.start()
        yield server
        if server.is_running:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def server(postgresql: Server) -> Iterator[Server]:
    """A running server that the test may stop."""
    yield postgresql
    if not postgresql.is_running:
        postgresql.start()


@pytest.fixture
def schema() -> str:
    """The name of a schema that there is not yet."""
    return f"bootfw{os.getpid()}x{next(_serial)}"


@pytest.fixture
def reactor() -> ThreadCallReactor:
    return ThreadCallReactor()


@pytest.fixture
def make_store(server: Server, schema: str, reactor: ThreadCallReactor) -> Callable[..., PostgresqlStore]:
    """Makes stores in the schema of the test, whose threads call *reactor*."""

    def make(**parameters: str) -> PostgresqlStore:
        return PostgresqlStore(Database(server.conninfo(**parameters), schema), reactor)

    return make
