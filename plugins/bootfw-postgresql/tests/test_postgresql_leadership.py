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
from postgresserver import Server, Turns
from psycopg import sql
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.api import Lease, LeaseState, Standing, StateError

pytest_plugins = ["postgresfixtures"]

Make = Callable[..., PostgresqlStore]

LEASE = Lease("192.0.2.1", b"h\1RT\0\x124V", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 60)


def result(reactor: Turns, deferred: "Deferred[Any]") -> Any:
    """What it fires with; a StateError is returned."""
    found: list[Any] = []
    deferred.addBoth(found.append)
    while not found:
        reactor.turn()
    if isinstance(found[0], Failure):
        assert found[0].check(StateError), found[0]
        return found[0].value
    return found[0]


def stands(reactor: Turns, store: PostgresqlStore, name: str, silent: Standing | None = None) -> Standing:
    standing = result(reactor, store.stand(name, silent))
    assert isinstance(standing, Standing), standing
    return standing


def until_it_leads(reactor: Turns, store: PostgresqlStore) -> Standing:
    """Stand without having seen silence; the server takes a moment to find that a process has ended."""
    give_up = time.monotonic() + 60
    while not (standing := stands(reactor, store, "b")).leads:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    return standing


def load(reactor: Turns, store: PostgresqlStore) -> dict[str, Lease]:
    assert result(reactor, store.prepare()) is None
    return {lease.address: lease for lease in store.load()}


def leave(reactor: Turns, *stores: PostgresqlStore) -> None:
    for store in stores:
        result(reactor, store.close())
        result(reactor, store.resign())


LEADER = """
import sys, time
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore
from postgresserver import Turns
reactor = Turns()
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
        words = [sys.executable, "-c", LEADER, server.conninfo(), schema]
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": ":".join(sys.path)}
        )

    def wait(self, leads: bool) -> int:
        """Wait until it leads, or until it does not; return the epoch."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found, epoch = line.split()
            if (found == "True") is leads:
                return int(epoch)
        raise AssertionError("it has ended")


@pytest.fixture
def leader(server: Server, schema: str) -> Iterator[Leader]:
    leader = Leader(server, schema)
    yield leader
    leader.process.kill()
    leader.process.wait()


def watch(reactor: Turns, store: PostgresqlStore) -> Standing:
    """See the leader confirm."""
    first = stands(reactor, store, "b")
    give_up = time.monotonic() + 60
    while (seen := stands(reactor, store, "b")).confirmations == first.confirmations:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    assert not seen.leads
    return seen


def test_a_leader_that_is_killed_is_replaced_at_once(make_store: Make, reactor: Turns, leader: Leader) -> None:
    epoch = leader.wait(True)
    standby = make_store()
    watch(reactor, standby)
    leader.process.kill()
    assert until_it_leads(reactor, standby).epoch > epoch
    leave(reactor, standby)


def test_a_leader_that_was_not_seen_alive_is_waited_for(make_store: Make, reactor: Turns, leader: Leader) -> None:
    """Its session may have ended with that of the standby, as after a restart of the database."""
    leader.wait(True)
    leader.process.kill()
    leader.process.wait()
    standby = make_store()
    seen = stands(reactor, standby, "b")
    for _ in range(20):
        assert not stands(reactor, standby, "b").leads
    assert stands(reactor, standby, "b", seen).leads
    leave(reactor, standby)


def test_a_leader_that_is_stopped_loses_its_session_and_follows(
    make_store: Make, reactor: Turns, leader: Leader
) -> None:
    epoch = leader.wait(True)
    standby = make_store()
    watch(reactor, standby)
    leader.process.send_signal(signal.SIGSTOP)
    seen = stands(reactor, standby, "b")
    if (last := stands(reactor, standby, "b")) != seen:  # a confirmation was under way
        seen = last
    after = stands(reactor, standby, "b", seen)
    assert (after.leads, after.epoch > epoch) == (True, True)
    leader.process.send_signal(signal.SIGCONT)
    assert leader.wait(False) == after.epoch
    for _ in range(10):
        assert stands(reactor, standby, "b").leads
    result(reactor, standby.resign())
    assert leader.wait(True) > after.epoch


def test_of_two_standbys_one_leads(make_store: Make, reactor: Turns, leader: Leader) -> None:
    leader.wait(True)
    one, other = make_store(), make_store()
    watch(reactor, one)
    watch(reactor, other)
    leader.process.send_signal(signal.SIGSTOP)
    time.sleep(0.1)
    seen = stands(reactor, one, "b")
    found = [one.stand("one", seen), other.stand("other", seen)]
    standings = [result(reactor, each) for each in found]
    give_up = time.monotonic() + 60
    while True:
        assert time.monotonic() < give_up
        leads = [isinstance(each, Standing) and each.leads for each in standings]
        assert leads != [True, True]
        if any(leads):
            break
        standings = [stands(reactor, one, "one"), stands(reactor, other, "other")]
    # The other one may have been refused meanwhile.
    epoch = next(each.epoch for each in standings if isinstance(each, Standing) and each.leads)
    for _ in range(5):
        later = [stands(reactor, one, "one"), stands(reactor, other, "other")]
        assert [each.leads for each in later].count(True) <= 1
        # On a busy machine the leader may lose its connection, and then leads or follows in another epoch.
        latest = max(each.epoch for each in later)
        assert latest > epoch or [each.leads for each in later] == leads
        assert latest >= epoch
    leave(reactor, one, other)


def test_a_leader_whose_sessions_are_lost_stays(make_store: Make, server: Server, reactor: Turns) -> None:
    store, standby = make_store(), make_store()
    standing = stands(reactor, store, "a")
    load(reactor, store)
    for how in (signal.SIGINT, signal.SIGQUIT):
        server.restart(how)
        seen = stands(reactor, standby, "b")
        assert (seen.leads, seen.epoch) == (False, standing.epoch)
        again = stands(reactor, store, "a")
        assert (again.leads, again.epoch) == (True, standing.epoch)
        assert result(reactor, store.commit([LEASE])) is None
    leave(reactor, store, standby)


def test_while_the_database_is_away_nobody_begins_to_lead(make_store: Make, server: Server, reactor: Turns) -> None:
    store, standby = make_store(), make_store()
    stands(reactor, store, "a")
    load(reactor, store)
    seen = stands(reactor, standby, "b")
    server.stop()
    for each, silent in ((store, None), (standby, seen)):
        assert "connection" in str(result(reactor, each.stand("x", silent)))
    assert isinstance(result(reactor, store.commit([LEASE])), StateError)
    server.start()
    assert stands(reactor, store, "a").leads
    leave(reactor, store, standby)


def test_a_database_that_is_stopped_is_away(make_store: Make, server: Server, reactor: Turns) -> None:
    """libpq would wait for it for ever. What was under way takes effect before what follows."""
    store = make_store()
    stands(reactor, store, "a")
    load(reactor, store)
    result(reactor, store.commit([LEASE]))
    store._lane._connection.answers_within = 0.5  # type: ignore[union-attr]
    sessions = [pid for (pid,) in server.run("SELECT pid FROM pg_stat_activity WHERE application_name <> ''")]
    postmaster = int((server.directory / "data" / "postmaster.pid").read_text().split()[0])
    stopped = [*sessions, postmaster]
    for pid in stopped:
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
    try:
        began = time.monotonic()
        waiting = [store.stand("a", None), store.commit([evolve(LEASE, granted=1.0)])]
        errors = [result(reactor, each) for each in waiting]
        assert all(isinstance(each, StateError) for each in errors), errors
        assert time.monotonic() - began < 30
    finally:
        for pid in stopped:
            subprocess.run(["kill", "-CONT", str(pid)], check=False)
    assert stands(reactor, store, "a").leads
    latest = evolve(LEASE, granted=2.0)
    assert result(reactor, store.commit([latest])) is None
    for _ in range(5):
        assert server.run(f"SELECT granted FROM {store._database.schema}.lease") == [(2.0,)]
        time.sleep(0.05)
    leave(reactor, store)


def test_a_write_that_waits_is_before_the_next_epoch_or_refused(
    make_store: Make, server: Server, schema: str, reactor: Turns
) -> None:
    leader, standby = make_store(), make_store()
    stands(reactor, leader, "a")
    load(reactor, leader)
    result(reactor, leader.commit([LEASE]))
    with server.connect() as other, other.transaction():
        # The row of the lease is locked: the leader's write waits for it, and has the row of the owner.
        other.execute(sql.SQL("SELECT FROM {}.lease FOR UPDATE").format(sql.Identifier(schema)))
        waiting = leader.commit([evolve(LEASE, granted=1.0)])
        give_up = time.monotonic() + 60
        while server.run("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:
            assert time.monotonic() < give_up
        seen = stands(reactor, standby, "b")
        blocked = result(reactor, standby.stand("b", seen))
        assert isinstance(blocked, StateError)  # it can't begin while the write is under way
    assert result(reactor, waiting) is None
    assert stands(reactor, standby, "b", seen).leads
    assert load(reactor, standby)[LEASE.address].granted == 1.0
    assert "b leads now" in str(result(reactor, leader.commit([LEASE])))
    leave(reactor, leader, standby)


def test_the_command_does_not_write_beside_a_leader(
    make_store: Make, server: Server, schema: str, reactor: Turns
) -> None:
    leader = make_store()
    stands(reactor, leader, "a")
    command = PostgresqlStore(Database(server.conninfo(), schema))
    with pytest.raises(StateError, match=r"bootfw \d+ on .* uses it"):
        command.load()
    command.close()
    leave(reactor, leader)
    command.load()
    assert not stands(reactor, leader, "a").leads  # and no leader beside the command
    seen = stands(reactor, leader, "a")
    assert not stands(reactor, leader, "a", seen).leads
    assert command.commit([LEASE]).result is None
    command.close()
    assert until_it_leads(reactor, leader).leads
    assert load(reactor, leader) == {LEASE.address: LEASE}
    leave(reactor, leader)


def test_tables_of_version_1_are_migrated(make_store: Make, server: Server, schema: str, reactor: Turns) -> None:
    store = make_store()
    store.load()
    result(reactor, store.commit([LEASE]))
    result(reactor, store.close())
    server.run(f"ALTER TABLE {schema}.owner DROP COLUMN confirmations, DROP COLUMN cluster, DROP CONSTRAINT owner_pkey")
    server.run(f"ALTER TABLE {schema}.reservation DROP COLUMN lease_seconds")
    server.run(f"UPDATE {schema}.schema_version SET version = 1")
    assert stands(reactor, store, "a").leads
    assert load(reactor, store) == {LEASE.address: LEASE}
    leave(reactor, store)
