"""The ``sqlite`` store: its transactions, thread, errors and configuration."""

import resource
import threading
from pathlib import Path

import pytest
from attrs import evolve
from callbacks import CallbackReactor
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import DeferredList
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from bootfw.api import ConfigError, Lease, LeaseState, PluginContext, StateError
from bootfw.plugins import configure
from bootfw.stores import sqlite
from bootfw.stores.sqlite import OPEN_AGAIN_AFTER, SqliteStore
from bootfw.testing.contracts.leases import LEASES


@pytest.fixture
def reactor() -> CallbackReactor:
    return CallbackReactor()


@pytest.fixture
def store(tmp_path: Path, reactor: CallbackReactor) -> sqlite.SqliteStore:
    store = SqliteStore(tmp_path / "bootfw.sqlite", reactor)
    list(store.load())
    return store


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "store"]


def close(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    reactor.wait(store.close())


def test_queued_writes_are_committed_together(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    """All writes that came while the disk was busy are one transaction, and one call from the thread."""
    answers = [store.commit([evolve(LEASES[0], address=f"10.0.0.{number}")]) for number in range(250)]
    reactor.wait(DeferredList(answers))
    assert reactor.turns < 50
    close(store, reactor)


def test_pending_writes_fail_and_the_next_write_succeeds(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    failed: list[Failure] = []
    try:
        answers = [store.commit([lease]).addErrback(failed.append) for lease in LEASES]
        reactor.wait(DeferredList(answers))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [str(failure.value).partition(": ")[0] for failure in failed] == [str(store.path)] * len(LEASES)
    assert all(failure.check(StateError) for failure in failed)
    results: list[None] = []
    reactor.wait(store.commit(LEASES[:1]).addCallback(results.append))
    assert results == [None]
    close(store, reactor)
    assert list(store.load()) == [LEASES[0]]
    close(store, reactor)


def test_closed_store_leaves_no_thread_and_no_temporary_file(
    store: sqlite.SqliteStore, reactor: CallbackReactor
) -> None:
    reactor.wait(store.commit(LEASES))
    (thread,) = threads()
    close(store, reactor)
    thread.join(10)
    assert threads() == []
    assert [path.name for path in store.path.parent.iterdir()] == ["bootfw.sqlite"]


def test_no_thread_is_started_before_the_first_commit(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    assert threads() == []
    close(store, reactor)


def test_two_servers_can_not_use_one_file(
    store: sqlite.SqliteStore, reactor: CallbackReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bootfw.stores.statefile.LOCK_TIMEOUT", 0)
    with pytest.raises(StateError, match="is bootfw running already"):
        SqliteStore(store.path, reactor).load()
    close(store, reactor)


def test_a_file_that_another_process_has_is_opened_again_only_after_a_while(
    store: sqlite.SqliteStore, reactor: CallbackReactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try may take seconds, in which nothing is served."""
    monkeypatch.setattr("bootfw.stores.statefile.LOCK_TIMEOUT", 0)
    clock = Clock()
    other = SqliteStore(store.path, clock)
    errors: list[Failure] = []

    def save() -> bool:
        saved = other.save_attempts([], 10, 0.0)
        saved.addErrback(errors.append)
        return saved.result is None and not errors

    assert not save()
    close(store, reactor)
    for seconds in (0.0, OPEN_AGAIN_AFTER - 1):
        clock.advance(seconds)
        assert not save()
    assert [failure.getErrorMessage() for failure in errors] == [
        f"{store.path}: another process uses it; is bootfw running already?"
    ] * 3
    errors.clear()
    clock.advance(1)
    assert save()
    other.close_attempts()


def test_misuse_raises_at_once(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    with pytest.raises(UnicodeEncodeError):
        store.commit([evolve(LEASES[0], hostname="\ud800")])
    with pytest.raises(OSError, match="illegal IP address"):
        store.commit([evolve(LEASES[0], address="")])
    with pytest.raises(AssertionError):
        store.load()
    close(store, reactor)


def test_call_after_close_fails(store: sqlite.SqliteStore, reactor: CallbackReactor) -> None:
    close(store, reactor)
    faults: list[Failure] = []
    store.commit(LEASES).addErrback(faults.append)
    (fault,) = faults
    assert str(fault.value) == f"{store.path}: is closed"


ADDRESS = st.integers(1, 5).map("10.0.0.{}".format)
MOMENT = st.floats(0, 1e12)
LEASE = st.builds(
    Lease,
    address=ADDRESS,
    client=st.binary(max_size=20),
    mac=st.text(max_size=5),
    state=st.sampled_from(LeaseState),
    granted=MOMENT,
    expires=MOMENT,
    client_id=st.binary(max_size=20),
    uuid=st.text(max_size=5),
    hostname=st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    kind=st.sampled_from(["", "firmware", "system"]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(LEASE, max_size=8), max_size=8), st.integers(1, 8))
def test_store_equals_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, commits: list[list[Lease]], largest: int
) -> None:
    reactor = CallbackReactor()
    store = SqliteStore(tmp_path_factory.mktemp("state") / "bootfw.sqlite", reactor)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bootfw.stores.statefile.MAX_ROWS", largest)
        patch.setattr(sqlite, "MAX_ROWS", largest)
        list(store.load())
        reactor.wait(DeferredList([store.commit(leases) for leases in commits]))
        close(store, reactor)
    stored = {lease.address: lease for lease in store.load()}
    assert stored == {lease.address: lease for leases in commits for lease in leases}
    close(store, reactor)


CONTEXT = PluginContext(None, Path("/etc/bootfw"), Path("/var/lib/bootfw"))


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, "/var/lib/bootfw/bootfw.sqlite"),
        ({"path": "leases"}, "/etc/bootfw/leases"),
        ({"path": "/srv/leases"}, "/srv/leases"),
    ],
)
def test_path_option_is_relative_to_the_configuration(options: dict[str, str], path: str) -> None:
    assert str(configure(sqlite.plugin, options, CONTEXT).path) == path


def test_unknown_option_is_an_error() -> None:
    with pytest.raises(ConfigError, match="known: path"):
        configure(sqlite.plugin, {"file": "leases"}, CONTEXT)
