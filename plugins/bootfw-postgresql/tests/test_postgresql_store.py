"""The ``postgresql`` store: who may use it, what it is when the database fails, and how it is configured."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attrs import evolve
from bootfw_postgresql import schema as schemas
from bootfw_postgresql.database import Database
from bootfw_postgresql.store import PostgresqlStore, plugin
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgresserver import Server, ThreadCallReactor
from twisted.internet.defer import Deferred, DeferredList
from twisted.python.failure import Failure

from bootfw.api import ConfigError, Lease, LeaseState, PluginContext, StateError

pytest_plugins = ["postgresfixtures"]

MakeStore = Callable[..., PostgresqlStore]

LEASE = Lease("192.0.2.1", b"h\1RT\0\x124V", "52:54:00:12:34:56", LeaseState.ACTIVE, 1e9, 1e9 + 60, hostname="pc")
MAC = LEASE.mac


def lease_of(number: int) -> Lease:
    return evolve(LEASE, address=f"10.0.{number // 250}.{number % 250}", client=b"%d" % number)


def result(reactor: ThreadCallReactor, deferred: "Deferred[Any]") -> Any:
    """What it fires with; a StateError is returned."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    if not results:
        reactor.wait(deferred)
    if isinstance(results[0], Failure):
        assert results[0].check(StateError), results[0]
        return results[0].value
    return results[0]


def loaded_leases(store: PostgresqlStore) -> dict[str, Lease]:
    return {lease.address: lease for lease in store.load()}


def stored_addresses(server: Server, schema: str) -> set[str]:
    """The addresses in the table, as another program sees them."""
    return {address for (address,) in server.run(f"SELECT host(address) FROM {schema}.lease")}


# Failures of the database


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGQUIT], ids=["restarted", "crashed"])
def test_leases_are_stored_again_after_the_database_was_restarted(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor, signal_number: signal.Signals
) -> None:
    store = make_store()
    assert loaded_leases(store) == {}
    assert result(reactor, store.commit([lease_of(1)])) is None
    server.restart(signal_number)
    assert result(reactor, store.commit([lease_of(2)])) is None  # nobody has to try again

    server.stop(signal_number)
    failed = [store.commit([lease_of(number)]) for number in (3, 4)]
    order = store.save_orders("next-boot", {MAC: {"file": "a"}})
    attempts = store.find_attempts()
    for deferred in (*failed, order, attempts):
        error = result(reactor, deferred)
        assert isinstance(error, StateError)
        assert str(error).startswith('PostgreSQL "')
        assert "connection" in str(error)
        assert "\n" not in str(error)
    server.start()
    assert result(reactor, store.commit([lease_of(5)])) is None
    assert result(reactor, store.find_attempts()) == []
    result(reactor, store.close_attempts())
    result(reactor, store.close())
    assert set(loaded_leases(store)) == {lease_of(number).address for number in (1, 2, 5)}
    result(reactor, store.close())


def test_jobs_for_a_database_that_is_down_wait_for_one_try_to_connect(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    """With a try for each job, clients of a host that is gone would wait for seconds times their number."""
    store = make_store()
    loaded_leases(store)
    server.stop()
    lane = store._lane
    assert lane is not None
    attempts: list[None] = []
    connect = lane._connect

    def counting_connect() -> Any:
        attempts.append(None)
        return connect()

    lane._connect = counting_connect
    deferreds: list[Deferred[Any]] = []
    with lane._connection_lock:
        for number in range(20):
            deferreds += [store.commit([lease_of(number)]), store.save_orders("one", {MAC: {}})]
    for deferred in deferreds:
        assert isinstance(result(reactor, deferred), StateError)
    assert len(attempts) <= 2  # one for the job that the thread had, and one for the others
    result(reactor, store.close())


def test_primary_that_becomes_a_standby_is_disconnected(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    """The session stays, and can't write; another host of the conninfo may be the primary now."""
    store = make_store()
    loaded_leases(store)
    assert result(reactor, store.commit([lease_of(1)])) is None
    assert store._lane is not None
    store._lane.now(lambda connection: connection.execute("SET default_transaction_read_only = on"))
    assert result(reactor, store.commit([lease_of(2)])) is None  # on a new session
    assert set(server.run("SHOW default_transaction_read_only")) == {("off",)}
    result(reactor, store.close())


def test_a_database_that_is_down_at_the_start(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    server.stop()
    for call in (store.load, lambda: store.load_orders("one"), store.exists):
        with pytest.raises(StateError, match=r'^PostgreSQL ".*": connection .*Is the server running'):
            call()
    result(reactor, store.close())
    server.start()
    assert loaded_leases(store) == {}
    result(reactor, store.close())


def test_a_wrong_password(
    make_store: MakeStore, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.run("DROP ROLE IF EXISTS guarded")
    server.run("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    passwords = tmp_path / "pgpass"
    passwords.write_text("*:*:*:guarded:never-shown\n")
    passwords.chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    store = make_store(user="guarded")
    with pytest.raises(StateError, match=r'password authentication failed for user "guarded".*pgpass') as caught:
        store.load()
    assert "never-shown" not in f"{caught.value!s} {store!r}"


def test_a_role_that_may_not_make_the_schema(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    server.run(f"CREATE ROLE {schema} LOGIN")
    store = make_store(user=schema)
    with pytest.raises(
        StateError, match=f'permission denied for database.* run CREATE SCHEMA "{schema}" AUTHORIZATION'
    ):
        store.load()
    server.run(f'CREATE SCHEMA "{schema}" AUTHORIZATION {schema}')
    assert loaded_leases(store) == {}
    assert result(reactor, store.commit([LEASE])) is None

    server.run(f"REVOKE INSERT ON {schema}.lease FROM {schema}")
    error = result(reactor, store.commit([lease_of(1)]))
    assert "permission denied for table lease" in str(error)
    server.run(f"GRANT INSERT ON {schema}.lease TO {schema}")
    assert result(reactor, store.commit([lease_of(1)])) is None
    result(reactor, store.close())


@pytest.fixture
def small_tablespace(tmp_path_factory: pytest.TempPathFactory, server: Server, schema: str) -> Iterator[Path]:
    """A file system of the server's for the tablespace "small"; the server sees it in a mount namespace of its own."""
    probe = ["unshare", "--mount", "sh", "-c", "mount --make-rprivate / && mount -t tmpfs -o size=1m none /mnt"]
    if subprocess.run(probe, capture_output=True, check=False).returncode != 0:
        pytest.skip("file systems can't be mounted here")
    path = server.directory / "small"
    path.mkdir(exist_ok=True)
    script = (
        f'mount --make-rprivate / && mount -t tmpfs -o size=2m,uid=$(id -u nobody),mode=0700 none {path} && exec "$@"'
    )
    command = server._command
    server.stop()
    server._command = ["unshare", "--mount", "sh", "-c", script, "-", *command]
    server.start()
    server.run(f"CREATE TABLESPACE small LOCATION '{path}'")
    yield path
    server.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
    server.run("DROP TABLESPACE small")
    server.stop()
    server._command = command
    server.start()


def test_a_full_disk(
    make_store: MakeStore, server: Server, schema: str, small_tablespace: Path, reactor: ThreadCallReactor
) -> None:
    store = make_store(options="-c default_tablespace=small")
    assert loaded_leases(store) == {}
    server.run(
        f"CREATE TABLE {schema}.other TABLESPACE small AS SELECT repeat(n::text, 50) FROM generate_series(1, 2000) n"
    )
    calls, error = 0, None
    while error is None:
        calls += 1
        assert calls < 500
        large_leases = [
            evolve(lease_of(calls * 20 + number), client_id=random.Random(number).randbytes(4000))
            for number in range(20)
        ]
        error = result(reactor, store.commit(large_leases))
    assert "No space left on device" in str(error)
    assert stored_addresses(server, schema) == {lease_of(number).address for number in range(20, calls * 20)}
    # Something else is removed, and it goes on.
    server.run(f"DROP TABLE {schema}.other")
    assert result(reactor, store.commit([lease_of(1)])) is None
    result(reactor, store.close())


CUT = """
CREATE SEQUENCE {0}.calls;
CREATE FUNCTION {0}.cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('{0}.calls') IN ({1}) THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER cut BEFORE INSERT ON {0}.lease FOR EACH ROW EXECUTE FUNCTION {0}.cut()
"""
"""The connection is cut at these rows."""


def test_a_connection_that_is_cut_in_the_middle_of_a_batch(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    server.run(CUT.format(schema, "3, 11, 13"))
    batch = [lease_of(number) for number in range(5)]
    assert result(reactor, store.commit(batch)) is None  # cut at its third row, and written once more
    assert stored_addresses(server, schema) == {lease.address for lease in batch}
    second_batch = [lease_of(number) for number in range(5, 10)]
    # Its rows are the ninth and on: the first try is cut at the third row, the second one at the second row.
    assert isinstance(result(reactor, store.commit(second_batch)), StateError)
    assert stored_addresses(server, schema) == {lease.address for lease in batch}
    assert result(reactor, store.commit(second_batch)) is None
    result(reactor, store.close())
    assert loaded_leases(store) == {lease.address: lease for lease in (*batch, *second_batch)}
    result(reactor, store.close())


class ReplyLoser:
    """Stands between a client and the server, and cuts the next connection between a statement and its reply."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server_path = str(server.directory / ".s.PGSQL.5432")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(directory / ".s.PGSQL.5432"))
        self._listening.listen()
        self.cuts_next_reply = False
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._server_path)
            threading.Thread(target=self._to_server, args=(client, server), daemon=True).start()
            threading.Thread(target=self._to_client, args=(server, client), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(1 << 16):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _to_client(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client, server:
            while data := server.recv(1 << 16):
                if self.cuts_next_reply:
                    self.cuts_next_reply = False
                    server.shutdown(socket.SHUT_RDWR)
                    break
                client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def reply_loser(server: Server, tmp_path: Path) -> Iterator[ReplyLoser]:
    reply_loser = ReplyLoser(server, tmp_path)
    yield reply_loser
    reply_loser.close()


def test_a_batch_whose_reply_was_lost_is_not_doubled(
    server: Server, schema: str, reactor: ThreadCallReactor, tmp_path: Path, reply_loser: ReplyLoser
) -> None:
    store = PostgresqlStore(Database(server.conninfo(host=str(tmp_path)), schema), reactor)
    loaded_leases(store)
    for turn in range(3):
        # With the first write the epoch begins: its reply is the one that is lost then.
        reply_loser.cuts_next_reply = True
        assert result(reactor, store.commit([lease_of(turn), lease_of(turn + 1)])) is None
        reply_loser.cuts_next_reply = True
        assert result(reactor, store.save_orders("one", {MAC: {"turn": turn}})) is None
    result(reactor, store.close())
    assert loaded_leases(store) == {lease_of(number).address: lease_of(number) for number in range(4)}
    assert store.load_orders("one") == {MAC: {"turn": 2}}
    result(reactor, store.close_orders("one"))
    result(reactor, store.close())


# One process at a time


def test_a_second_process_is_refused_while_the_first_one_uses_the_leases(
    make_store: MakeStore, reactor: ThreadCallReactor
) -> None:
    first, second = make_store(), make_store()
    loaded_leases(first)
    for call in (second.load, lambda: second.load_orders("one")):
        with pytest.raises(StateError, match=r"bootfw \d+ on .* uses it; is bootfw running already\?"):
            call()
    result(reactor, second.close())
    assert result(reactor, second.find_attempts()) == []  # boot attempts may be read beside
    result(reactor, second.close_attempts())
    result(reactor, first.close())
    assert loaded_leases(second) == {}
    result(reactor, second.close())


def test_a_process_that_was_killed_leaves_nothing_in_the_way(
    server: Server, schema: str, make_store: MakeStore
) -> None:
    program = (
        "import sys; from bootfw_postgresql.database import Database; from bootfw_postgresql.store import *\n"
        "store = PostgresqlStore(Database(*sys.argv[1:])); store.load(); print('loaded', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, server.conninfo(), schema]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"loaded\n"
        store = make_store()
        with pytest.raises(StateError, match=f"bootfw {process.pid} on "):
            store.load()
        process.kill()
        process.wait()
    assert loaded_leases(store) == {}


def end_sessions(server: Server, schema: str) -> None:
    """The sessions that hold a lock of ours are ended, as a cut network ends them."""
    lock = Database("", schema).lock
    rows = server.run(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks "
        "WHERE locktype = 'advisory' AND classid = %s AND objid = %s",
        *lock,
    )
    assert rows == [(True,)]


def test_lost_connection_is_opened_again_unless_another_process_has_written(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    first, second = make_store(), make_store()
    loaded_leases(first)
    end_sessions(server, schema)
    assert result(reactor, first.commit([lease_of(1)])) is None
    end_sessions(server, schema)
    assert set(loaded_leases(second)) == {lease_of(1).address}
    error = result(reactor, first.commit([lease_of(2)]))
    assert "uses it" in str(error)
    result(reactor, second.close())
    assert result(reactor, first.commit([lease_of(2)])) is None  # the second one has only read

    end_sessions(server, schema)
    loaded_leases(second)
    assert result(reactor, second.commit([lease_of(3)])) is None
    result(reactor, second.close())
    for _ in range(2):
        error = result(reactor, first.commit([lease_of(4)]))
        assert "has written leases while this process had no connection; restart bootfw" in str(error)
    result(reactor, first.close())
    assert set(loaded_leases(first)) == {lease_of(number).address for number in (1, 2, 3)}
    assert result(reactor, first.commit([lease_of(4)])) is None
    result(reactor, first.close())


def test_a_session_that_the_server_takes_for_alive_does_not_keep_its_process_out(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    assert result(reactor, store.commit([lease_of(1)])) is None
    assert store._lane is not None
    assert store._lane._connection is not None
    # The client finds its connection closed, and the server's end of it stays open.
    descriptor = store._lane._connection.fileno()
    server_end = os.dup(descriptor)
    closed_socket, other = socket.socketpair()
    other.close()
    os.dup2(closed_socket.fileno(), descriptor)
    closed_socket.close()
    assert result(reactor, store.commit([lease_of(2)])) is None
    os.close(server_end)
    assert stored_addresses(server, schema) == {lease_of(1).address, lease_of(2).address}
    result(reactor, store.close())


# The schema


def test_processes_that_start_at_once_make_the_schema_once(server: Server, schema: str) -> None:
    database = Database(server.conninfo(), schema)
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    def start() -> None:
        try:
            barrier.wait(60)
            database.connect().close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert errors == []
    assert server.run(f"SELECT version FROM {schema}.schema_version") == [(schemas.VERSION,)]
    assert server.run(f"SELECT epoch FROM {schema}.owner") == [(0,)]


def test_a_migration_that_fails_leaves_nothing(
    make_store: MakeStore, server: Server, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schemas, "MIGRATIONS", (*schemas.MIGRATIONS, "CREATE TABLE lease (again integer)"))
    monkeypatch.setattr(schemas, "VERSION", 2)
    store = make_store()
    with pytest.raises(StateError, match='relation "lease" already exists'):
        store.load()
    assert store.exists() is False
    assert server.run("SELECT to_regnamespace(%s)", schema) == [(None,)]


def test_a_newer_schema_is_refused(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    assert store.exists() is False
    loaded_leases(store)
    result(reactor, store.close())
    assert store.exists() is True
    newer = schemas.VERSION + 1
    server.run(f"UPDATE {schema}.schema_version SET version = {newer}")
    with pytest.raises(StateError, match=f"are of version {newer}, and .* knows version {schemas.VERSION}: install"):
        store.load()


def test_invalid_row_of_another_program_is_named(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    assert result(reactor, store.commit([LEASE])) is None
    result(reactor, store.close())
    server.run(f"UPDATE {schema}.lease SET state = 'lost'")
    with pytest.raises(
        StateError, match=r'the lease of 192\.0\.2\.1 has the state "lost"; known: active, declined, releas'
    ):
        store.load()
    result(reactor, store.close())
    server.run(f"UPDATE {schema}.lease SET state = 'active'")
    server.run(f"INSERT INTO {schema}.reservation VALUES (0, '', '{{}}', '', '', '', '', '{{}}')")
    store.load()
    with pytest.raises(StateError, match="the reservation in position 0 is invalid: needs at least one of mac"):
        store.reservations()
    server.run(f"DELETE FROM {schema}.owner")
    result(reactor, store.close())
    with pytest.raises(StateError, match='the table "owner" of its schema has lost its row'):
        store.load()
    server.run(f"INSERT INTO {schema}.attempt VALUES ('a', '', '', 1, '[]')")
    assert "a boot attempt is invalid" in str(result(reactor, store.find_attempts()))
    result(reactor, store.close_attempts())


# What it does


def test_commits_that_arrive_while_the_database_is_busy_are_one_transaction(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    assert store._lane is not None
    with store._lane._connection_lock:
        deferreds = [store.commit([lease_of(number)]) for number in range(300)]
    assert result(reactor, DeferredList(deferreds)) == [(True, None)] * 300
    assert len(server.run(f"SELECT DISTINCT xmin::text FROM {schema}.lease")) <= 2
    result(reactor, store.close())


def test_jobs_take_effect_in_their_order(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    store.load_orders("one")
    deferreds: list[Deferred[Any]] = []
    for turn in range(20):
        deferreds.append(store.commit([evolve(LEASE, granted=float(turn))]))
        deferreds.append(store.save_orders("one", {MAC: {"turn": turn} if turn % 2 else None}))
    assert {success for success, _ in result(reactor, DeferredList(deferreds))} == {True}
    assert server.run(f"SELECT epoch FROM {schema}.owner") == [(1,)]  # the first write began it, the others did not
    result(reactor, store.close_orders("one"))
    result(reactor, store.close())
    assert loaded_leases(store)[LEASE.address].granted == 19.0
    assert store.load_orders("one") == {MAC: {"turn": 19}}
    result(reactor, store.close_orders("one"))
    result(reactor, store.close())


def test_a_lease_is_durable_whatever_the_role_says(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor
) -> None:
    server.run(f"CREATE ROLE {schema} SUPERUSER LOGIN")
    server.run(f"ALTER ROLE {schema} SET synchronous_commit = off")
    store = make_store(user=schema)
    loaded_leases(store)
    assert store._lane is not None
    assert store._lane.now(lambda connection: connection.execute("SHOW synchronous_commit").fetchone()) == ("on",)
    result(reactor, store.close())


def test_closed_store_leaves_no_connection_and_no_thread(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    store = make_store()
    loaded_leases(store)
    result(reactor, store.commit([LEASE]))
    result(reactor, store.find_attempts())
    threads = [thread for thread in threading.enumerate() if thread.name == "store"]
    assert len(threads) == 2
    result(reactor, store.close_attempts())
    result(reactor, store.close())
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_load_after_close_waits_for_the_jobs_before(
    make_store: MakeStore, schema: str, reactor: ThreadCallReactor
) -> None:
    """The session that writes the last jobs must not be taken for one that was lost, and ended."""
    store = make_store()
    loaded_leases(store)
    store.load_orders("one")
    deferreds: list[Deferred[Any]] = [store.commit([lease_of(number)]) for number in range(200)]
    deferreds.append(store.save_orders("one", {MAC: {"turn": 1}}))
    assert store._lane is not None
    thread = store._lane._thread
    deferreds += [store.close_orders("one"), store.close()]
    late_save = store.save_orders("one", {MAC: {"turn": 2}})
    assert thread is not None
    assert not thread.is_alive()
    assert late_save.result is None
    assert [success for success, _ in result(reactor, DeferredList(deferreds))] == [True] * 203
    assert store.load_orders("one") == {MAC: {"turn": 2}}
    result(reactor, store.close_orders("one"))


def test_late_calls_get_an_error(make_store: MakeStore, reactor: ThreadCallReactor) -> None:
    store = make_store()
    loaded_leases(store)
    result(reactor, store.close())
    for deferred in (store.commit([LEASE]), store.save_reservations(())):
        assert str(result(reactor, deferred)).endswith(": is closed")


MOMENT = st.floats(0, 1e12)
PLAIN = st.text("0123456789abcdef:-", max_size=5)
LEASES = st.builds(
    Lease,
    address=st.integers(1, 5).map("10.0.0.{}".format) | st.integers(1, 4).map("fd77::1:{:x}:1".format),
    client=st.binary(max_size=20),
    mac=PLAIN,
    state=st.sampled_from(LeaseState),
    granted=MOMENT,
    expires=MOMENT,
    client_id=st.binary(max_size=20),
    uuid=PLAIN,
    hostname=st.text(st.characters(max_codepoint=0xD7FF) | st.sampled_from("\udc80\udcff"), max_size=20),
    kind=st.sampled_from(["", "firmware", "system"]),
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.lists(LEASES, max_size=6), max_size=6), max_size=3))
def test_store_equals_a_dictionary(
    make_store: MakeStore, server: Server, schema: str, reactor: ThreadCallReactor, sessions: list[list[list[Lease]]]
) -> None:
    store = make_store()
    loaded_leases(store)
    assert result(reactor, store.close()) is None
    server.run(f"TRUNCATE {schema}.lease")
    expected: dict[str, Lease] = {}
    for commits in sessions:
        assert loaded_leases(store) == expected
        result(reactor, DeferredList([store.commit(leases) for leases in commits]))
        expected.update((lease.address, lease) for leases in commits for lease in leases)
        assert result(reactor, store.close()) is None
    assert loaded_leases(store) == expected
    result(reactor, store.close())


# Announcements


def announce_until_received(
    sender: PostgresqlStore, kind: str, received: list[str], reactor: ThreadCallReactor
) -> None:
    deadline = time.monotonic() + 60
    while kind not in received:
        assert time.monotonic() < deadline
        sender.announce(kind)
        reactor.turn()


def test_announcements_go_on_after_the_database_was_away(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor
) -> None:
    sender, receiver = make_store(), make_store()
    received: list[str] = []
    leave = sender.join_nodes(lambda kind, values: None)
    leave_receiver = receiver.join_nodes(lambda kind, values: received.append(kind))
    announce_until_received(sender, "before", received, reactor)
    server.stop()
    for _ in range(10):
        sender.announce("lost")
    server.start()
    announce_until_received(sender, "after", received, reactor)
    threads = [thread for thread in threading.enumerate() if thread.name == "announcements"]
    result(reactor, leave())
    result(reactor, leave_receiver())
    assert len(threads) == 2
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_a_node_without_a_database_can_leave(make_store: MakeStore, server: Server, reactor: ThreadCallReactor) -> None:
    server.stop()
    store = make_store()
    leave = store.join_nodes(lambda kind, values: None)
    store.announce("lost")
    assert result(reactor, leave()) is None


def test_announcements_are_bounded(
    make_store: MakeStore, server: Server, reactor: ThreadCallReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootfw_postgresql.announcements.MAX_PENDING", 5)
    store = make_store()
    leave = store.join_nodes(lambda kind, values: None)
    with pytest.raises(ValueError, match="an announcement has 7900 bytes at most, and one of the kind long 8"):
        store.announce("long", "x" * 8000)
    store.announce("longest", "x" * 7000)
    assert store._announcements is not None
    for _ in range(20):
        store.announce("kind")
    assert store._announcements._pending == 5
    assert result(reactor, leave()) is None


# Configuration


CONTEXT = PluginContext(None, Path("/etc/bootfw"), Path("/var/lib/bootfw"))


@pytest.mark.parametrize(
    ("options", "path", "message"),
    [
        ({"conninfo": "dbname"}, "conninfo", 'must be a connection string of libpq, such as "host=db.example'),
        ({"conninfo": "host=a password=b"}, "conninfo", "must not have a password"),
        ({"conninfo": "postgresql://a:b@c/d"}, "conninfo", "must not have a password"),
        ({"schema": ""}, "schema", "must be a name of up to 63 bytes"),
        ({"schema": "x" * 64}, "schema", "must be a name of up to 63 bytes"),
        ({"dsn": "host=a"}, "dsn", "known: conninfo, schema"),
    ],
)
def test_options_that_are_wrong(options: dict[str, str], path: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin.configure(options, CONTEXT)
    assert caught.value.path == (path,)
    assert message in str(caught.value)


def test_a_schema_may_have_any_name(server: Server, schema: str) -> None:
    store: Any = plugin.configure({"conninfo": server.conninfo(), "schema": f'A "b";\' {schema}'}, CONTEXT)
    assert loaded_leases(store) == {}
    store.commit([LEASE])
    store.close()
    assert loaded_leases(store) == {LEASE.address: LEASE}
    store.close()


def test_a_standby_is_not_taken(server: Server, schema: str) -> None:
    """Of several hosts the one that can be written is."""
    read_only = server.conninfo(options="-c default_transaction_read_only=on")
    with pytest.raises(StateError, match="session is read-only"):
        Database(read_only, schema).connect()
    psycopg.connect(read_only).close()
