"""Several servers with one schema: who leads when one of them, or the database, fails."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attrs import evolve
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore
from postgresserver import Server, ThreadCallReactor
from psycopg import sql
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.api import Lease, LeaseState, Standing, StateError

pytest_plugins = ["postgresfixtures"]

MakeStore = Callable[..., PostgresqlStore]

LEASE = Lease("192.0.2.1", b"h\1RT\0\x124V", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 60)


def result(reactor: ThreadCallReactor, deferred: "Deferred[Any]") -> Any:
    """What it fires with; a StateError is returned."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    while not results:
        reactor.turn()
    if isinstance(results[0], Failure):
        assert results[0].check(StateError), results[0]
        return results[0].value
    return results[0]


def stand(reactor: ThreadCallReactor, store: PostgresqlStore, name: str, silent: Standing | None = None) -> Standing:
    standing = result(reactor, store.stand(name, silent))
    assert isinstance(standing, Standing), standing
    return standing


def wait_until_it_leads(reactor: ThreadCallReactor, store: PostgresqlStore) -> Standing:
    """Stand without having seen silence; the server takes a moment to find that a process has ended."""
    deadline = time.monotonic() + 60
    while not (standing := stand(reactor, store, "b")).leads:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return standing


def load(reactor: ThreadCallReactor, store: PostgresqlStore) -> dict[str, Lease]:
    assert result(reactor, store.prepare()) is None
    return {lease.address: lease for lease in store.load()}


def close_stores(reactor: ThreadCallReactor, *stores: PostgresqlStore) -> None:
    for store in stores:
        result(reactor, store.close())
        result(reactor, store.resign())


LEADER = """
import sys, time
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore
from postgresserver import ThreadCallReactor
reactor = ThreadCallReactor()
store = PostgresqlStore(Database(*sys.argv[1:]), reactor)
while True:
    standing = store.stand("a", None)
    reactor.wait(standing)
    standing.addCallback(lambda found: print(found.leads, found.epoch, flush=True))
    time.sleep(0.05)
"""


class Leader:
    """Another process, which stands for leader and confirms as often as it can."""

    def __init__(self, server: Server, schema: str) -> None:
        command = [sys.executable, "-c", LEADER, server.conninfo(), schema]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path)}
        )

    def wait(self, leads: bool) -> int:
        """Wait until it leads, or until it does not; return the epoch."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            leading, epoch = line.split()
            if (leading == "True") is leads:
                return int(epoch)
        raise AssertionError("it has ended")


@pytest.fixture
def leader(server: Server, schema: str) -> Iterator[Leader]:
    leader = Leader(server, schema)
    yield leader
    leader.process.kill()
    leader.process.wait()


def watch(reactor: ThreadCallReactor, store: PostgresqlStore) -> Standing:
    """See the leader confirm."""
    before = stand(reactor, store, "b")
    deadline = time.monotonic() + 60
    while (observed := stand(reactor, store, "b")).confirmations == before.confirmations:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not observed.leads
    return observed


def test_a_leader_that_is_killed_is_replaced_at_once(
    make_store: MakeStore, reactor: ThreadCallReactor, leader: Leader
) -> None:
    epoch = leader.wait(True)
    standby = make_store()
    watch(reactor, standby)
    leader.process.kill()
    assert wait_until_it_leads(reactor, standby).epoch > epoch
    close_stores(reactor, standby)


def test_a_leader_that_was_not_seen_alive_is_waited_for(
    make_store: MakeStore, reactor: ThreadCallReactor, leader: Leader
) -> None:
    """Its session may have ended with that of the standby, as after a restart of the database."""
    leader.wait(True)
    leader.process.kill()
    leader.process.wait()
    standby = make_store()
    observed = stand(reactor, standby, "b")
    for _ in range(20):
        assert not stand(reactor, standby, "b").leads
    assert stand(reactor, standby, "b", observed).leads
    close_stores(reactor, standby)


def test_a_leader_that_is_stopped_loses_its_session_and_follows(
    make_store: MakeStore, reactor: ThreadCallReactor, leader: Leader
) -> None:
    epoch = leader.wait(True)
    standby = make_store()
    watch(reactor, standby)
    leader.process.send_signal(signal.SIGSTOP)
    observed = stand(reactor, standby, "b")
    if (latest := stand(reactor, standby, "b")) != observed:  # a confirmation was under way
        observed = latest
    after = stand(reactor, standby, "b", observed)
    assert (after.leads, after.epoch > epoch) == (True, True)
    leader.process.send_signal(signal.SIGCONT)
    assert leader.wait(False) == after.epoch
    for _ in range(10):
        assert stand(reactor, standby, "b").leads
    result(reactor, standby.resign())
    assert leader.wait(True) > after.epoch


def test_of_two_standbys_one_leads(make_store: MakeStore, reactor: ThreadCallReactor, leader: Leader) -> None:
    leader.wait(True)
    first, second = make_store(), make_store()
    watch(reactor, first)
    watch(reactor, second)
    leader.process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    observed = stand(reactor, first, "b")
    deferreds = [first.stand("one", observed), second.stand("other", observed)]
    standings = [result(reactor, each) for each in deferreds]
    deadline = time.monotonic() + 60
    while True:
        assert time.monotonic() < deadline
        leads = [isinstance(each, Standing) and each.leads for each in standings]
        assert leads != [True, True]
        if any(leads):
            break
        standings = [stand(reactor, first, "one"), stand(reactor, second, "other")]
    # The other one may have been refused meanwhile.
    epoch = next(each.epoch for each in standings if isinstance(each, Standing) and each.leads)
    for _ in range(5):
        standings_later = [stand(reactor, first, "one"), stand(reactor, second, "other")]
        assert [each.leads for each in standings_later].count(True) <= 1
        # On a busy machine the leader may lose its connection, and then leads or follows in another epoch.
        latest = max(each.epoch for each in standings_later)
        assert latest > epoch or [each.leads for each in standings_later] == leads
        assert latest >= epoch
    close_stores(reactor, first, second)


def test_a_leader_whose_sessions_are_lost_stays(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    store, standby = make_store(), make_store()
    standing = stand(reactor, store, "a")
    load(reactor, store)
    for signal_number in (signal.SIGINT, signal.SIGQUIT):
        server.restart(signal_number)
        observed = stand(reactor, standby, "b")
        assert (observed.leads, observed.epoch) == (False, standing.epoch)
        second_standing = stand(reactor, store, "a")
        assert (second_standing.leads, second_standing.epoch) == (True, standing.epoch)
        assert result(reactor, store.commit([LEASE])) is None
    close_stores(reactor, store, standby)


def test_while_the_database_is_away_nobody_begins_to_lead(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    store, standby = make_store(), make_store()
    stand(reactor, store, "a")
    load(reactor, store)
    observed = stand(reactor, standby, "b")
    server.stop()
    for each, silent in ((store, None), (standby, observed)):
        assert "connection" in str(result(reactor, each.stand("x", silent)))
    assert isinstance(result(reactor, store.commit([LEASE])), StateError)
    server.start()
    assert stand(reactor, store, "a").leads
    close_stores(reactor, store, standby)


def test_a_database_that_is_stopped_is_away(make_store: MakeStore, server: Server, reactor: ThreadCallReactor) -> None:
    """libpq would wait for it for ever. What was under way takes effect before what follows."""
    store = make_store()
    stand(reactor, store, "a")
    load(reactor, store)
    result(reactor, store.commit([LEASE]))
    store._lane._connection.answers_within = 0.5  # type: ignore[union-attr]
    sessions = [pid for (pid,) in server.run("SELECT pid FROM pg_stat_activity WHERE application_name <> ''")]
    postmaster = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    pids = [*sessions, postmaster]
    for pid in pids:
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
    try:
        began = time.monotonic()
        deferreds = [store.stand("a", None), store.commit([evolve(LEASE, granted=1.0)])]
        errors = [result(reactor, each) for each in deferreds]
        assert all(isinstance(each, StateError) for each in errors), errors
        assert time.monotonic() - began < 30
    finally:
        for pid in pids:
            subprocess.run(["kill", "-CONT", str(pid)], check=False)
    assert stand(reactor, store, "a").leads
    latest = evolve(LEASE, granted=2.0)
    assert result(reactor, store.commit([latest])) is None
    for _ in range(5):
        assert server.run(f"SELECT granted FROM {store._database.schema}.lease") == [(2.0,)]
        time.sleep(0.05)
    close_stores(reactor, store)


def test_a_write_that_waits_is_before_the_next_epoch_or_refused(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    leader, standby = make_store(), make_store()
    stand(reactor, leader, "a")
    load(reactor, leader)
    result(reactor, leader.commit([LEASE]))
    with server.connect() as other_session, other_session.transaction():
        # The row of the lease is locked: the leader's write waits for it, and has the row of the owner.
        other_session.execute(sql.SQL("SELECT FROM {}.lease FOR UPDATE").format(sql.Identifier(schema)))
        write = leader.commit([evolve(LEASE, granted=1.0)])
        deadline = time.monotonic() + 60
        while server.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert time.monotonic() < deadline
        observed = stand(reactor, standby, "b")
        refusal = result(reactor, standby.stand("b", observed))
        assert isinstance(refusal, StateError)  # it can't begin while the write is under way
    assert result(reactor, write) is None
    assert stand(reactor, standby, "b", observed).leads
    assert load(reactor, standby)[LEASE.address].granted == 1.0
    assert "b leads now" in str(result(reactor, leader.commit([LEASE])))
    close_stores(reactor, leader, standby)


def test_the_command_does_not_write_beside_a_leader(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    leader = make_store()
    stand(reactor, leader, "a")
    command = PostgresqlStore(Database(server.conninfo(), schema))
    with pytest.raises(StateError, match=r"bootfw \d+ on .* uses it"):
        command.load()
    command.close()
    close_stores(reactor, leader)
    command.load()
    assert not stand(reactor, leader, "a").leads  # and no leader beside the command
    observed = stand(reactor, leader, "a")
    assert not stand(reactor, leader, "a", observed).leads
    assert command.commit([LEASE]).result is None
    command.close()
    assert wait_until_it_leads(reactor, leader).leads
    assert load(reactor, leader) == {LEASE.address: LEASE}
    close_stores(reactor, leader)


def test_tables_of_version_1_are_migrated(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    store.load()
    result(reactor, store.commit([LEASE]))
    result(reactor, store.close())
    server.run(f"ALTER TABLE {schema}.owner DROP COLUMN confirmations, DROP COLUMN cluster, DROP CONSTRAINT owner_pkey")
    server.run(f"ALTER TABLE {schema}.reservation DROP COLUMN lease_seconds")
    server.run(f"UPDATE {schema}.schema_version SET version = 1")
    assert stand(reactor, store, "a").leads
    assert load(reactor, store) == {LEASE.address: LEASE}
    close_stores(reactor, store)
