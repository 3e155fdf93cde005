"""bootfw's contract kits, once as the server uses the store and once as the command does."""

from typing import Any

import pytest
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore
from postgresserver import Server, ThreadCallReactor

from bootfw.testing import (
    AttemptStoreContract,
    LeadershipContract,
    LeaseStoreContract,
    NodesContract,
    OrderStoreContract,
)

pytest_plugins = ["postgresfixtures"]


class _WithThreads:
    @pytest.fixture(autouse=True)
    def _database(self, server: Server, schema: str, reactor: ThreadCallReactor) -> None:
        self.database = Database(server.conninfo(), schema)
        self.reactor: ThreadCallReactor | None = reactor

    def make_store(self) -> PostgresqlStore:
        return PostgresqlStore(self.database, self.reactor)

    def wait(self, deferred: Any) -> None:
        assert self.reactor is not None
        self.reactor.wait(deferred)


class _Blocking(_WithThreads):
    @pytest.fixture(autouse=True)
    def _database(self, server: Server, schema: str) -> None:
        self.database = Database(server.conninfo(), schema)
        self.reactor = None


class TestLeases(_WithThreads, LeaseStoreContract):
    pass


class TestOrders(_WithThreads, OrderStoreContract):
    pass


class TestAttempts(_WithThreads, AttemptStoreContract):
    pass


class TestNodes(_WithThreads, NodesContract):
    def make_nodes(self) -> list[PostgresqlStore]:
        return [self.make_store() for _ in range(3)]

    def turn(self) -> None:
        assert self.reactor is not None
        self.reactor.turn()


class TestLeadership(_WithThreads, LeadershipContract):
    def make_nodes(self) -> list[PostgresqlStore]:
        return [self.make_store() for _ in range(2)]


class TestLeasesOffline(_Blocking, LeaseStoreContract):
    pass


class TestOrdersOffline(_Blocking, OrderStoreContract):
    pass


class TestAttemptsOffline(_Blocking, AttemptStoreContract):
    pass
