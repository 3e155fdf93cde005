"""The files of earlier versions: their content is imported at the first start, also after an interrupted one."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.logger import capturedLogs

from bootfw.api import PluginContext, StateError
from bootfw.lease import Lease, Reservation
from bootfw.plugins import configure
from bootfw.stores import sqlite, statefile
from bootfw.stores.sqlite import SqliteStore
from bootfw.stores.statefile import StateFile, row_of
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS

Content = tuple[dict[str, Lease], list[Reservation], Mapping[str, Mapping[str, object]]]
"""Leases by their addresses, reservations, and orders by their MACs."""

OLD_RESERVATIONS = tuple(evolve(each, lease_seconds=0) for each in RESERVATIONS)
"""They had no lease times of their own."""

A, B = "52:54:00:00:00:01", "52:54:00:00:00:02"


def old_leases(
    path: Path,
    leases: Iterable[Lease] = LEASES,
    reservations: Sequence[Reservation] = OLD_RESERVATIONS,
    version: int = 2,
) -> None:
    """A file as version 1 or 2 of the schema had it."""
    StateFile.create(path)
    file = StateFile.open(path)
    file.write_leases(list(map(row_of, leases)))
    file.replace_reservations(reservations)
    file.close()
    with closing(sqlite3.connect(path)) as db:
        for table in ("lease6", "machine_order", "attempt")[version - 1 :]:
            db.execute(f"DROP TABLE {table}")
        db.execute("ALTER TABLE reservation DROP COLUMN lease_seconds")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()


def old_next_boots(path: Path, *orders: tuple[str, str, float]) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "PRAGMA application_id = 1650882354; PRAGMA user_version = 1; CREATE TABLE one_shot "
            "(number INTEGER PRIMARY KEY AUTOINCREMENT, mac TEXT NOT NULL UNIQUE, file TEXT NOT NULL, ordered REAL)"
        )
        db.executemany("INSERT INTO one_shot (mac, file, ordered) VALUES (?, ?, ?)", orders)
        db.commit()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with both files."""
    old_leases(tmp_path / "leases.sqlite")
    old_next_boots(tmp_path / "next-boot.sqlite", (A, "install.ipxe", 5.5), (B, "memtest", 6.0))
    return tmp_path


def configured_store(state: Path, **options: Any) -> SqliteStore:
    store = configure(sqlite.plugin, options, PluginContext(None, state, state))
    assert isinstance(store, SqliteStore)
    return store


def content(store: SqliteStore) -> Content:
    leases = {lease.address: lease for lease in store.load()}
    found = leases, list(store.reservations()), store.load_orders("next-boot")
    store.close()
    store.close_orders("next-boot")
    return found


OLD_CONTENT = (
    {lease.address: lease for lease in LEASES},
    list(OLD_RESERVATIONS),
    {A: {"file": "install.ipxe", "ordered": 5.5}, B: {"file": "memtest", "ordered": 6.0}},
)


def test_old_files_are_imported_and_renamed(state: Path) -> None:
    with capturedLogs() as logs:
        assert content(configured_store(state)) == OLD_CONTENT
    names = {"bootfw.sqlite", "leases.sqlite.imported", "next-boot.sqlite.imported"}
    assert {path.name for path in state.iterdir()} == names
    assert [event["log_format"].format(**event) for event in logs] == [
        f"{state}/{name} was imported into {state}/bootfw.sqlite, and renamed to {name}.imported"
        for name in ("leases.sqlite", "next-boot.sqlite")
    ]
    with capturedLogs() as logs:
        assert content(configured_store(state)) == OLD_CONTENT
    assert logs == []


def test_loading_only_orders_imports_everything(state: Path) -> None:
    """A proxy loads no leases; a server of the same directory may come later."""
    store = configured_store(state)
    assert store.load_orders("next-boot") == OLD_CONTENT[2]
    store.close_orders("next-boot")
    assert content(configured_store(state)) == OLD_CONTENT


def test_a_file_without_ipv6_leases_is_imported(tmp_path: Path) -> None:
    old_leases(tmp_path / "leases.sqlite", version=1)
    leases, reservations, orders = content(configured_store(tmp_path))
    assert leases == {lease.address: lease for lease in LEASES if ":" not in lease.address}
    assert (reservations, orders) == (list(OLD_RESERVATIONS), {})


def test_a_configured_file_is_upgraded_where_it_is(state: Path) -> None:
    """Leases in the default file are not imported then, as before; next boots have always been in the directory."""
    (state / "leases.sqlite").rename(state / "mine.sqlite")
    old_leases(state / "leases.sqlite", leases=[evolve(LEASES[0], address="10.9.9.9")])
    assert content(configured_store(state, path="mine.sqlite")) == OLD_CONTENT
    names = {"mine.sqlite", "leases.sqlite", "next-boot.sqlite.imported"}
    assert {path.name for path in state.iterdir()} == names


def test_rows_written_later_by_an_earlier_version_are_imported(state: Path) -> None:
    """An operator has gone back to an earlier version for a while."""
    content(configured_store(state))
    unchanged, renewed, new = LEASES[0], evolve(LEASES[1], granted=2e9), evolve(LEASES[0], address="10.9.9.9")
    older = evolve(unchanged, granted=1.0, hostname="older")
    old_leases(
        state / "leases.sqlite", [older, renewed, new], [OLD_RESERVATIONS[0], evolve(OLD_RESERVATIONS[0], hostname="x")]
    )
    old_next_boots(state / "next-boot.sqlite", (A, "rescue.ipxe", 7.0))
    leases, reservations, orders = content(configured_store(state))
    assert (leases[unchanged.address], leases[renewed.address], leases[new.address]) == (unchanged, renewed, new)
    assert reservations == [*OLD_RESERVATIONS, evolve(OLD_RESERVATIONS[0], hostname="x")]
    assert orders[A]["file"] == "rescue.ipxe"


KILLED_IMPORT = """
import os, signal, sqlite3, sys
from pathlib import Path
from bootfw.stores import oldfiles
from bootfw.stores.sqlite import SqliteStore

def kill(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

moment, state = sys.argv[1], Path(sys.argv[2])
if moment == "before the rename":
    os.rename = kill
elif moment == "after the rename":
    oldfiles.sync_directory = kill
else:
    class Killing:
        def __init__(self, db):
            self.db = db
        def __enter__(self):
            self.db.execute("BEGIN IMMEDIATE")
        def __exit__(self, *error):
            kill()
    oldfiles.transaction = Killing
SqliteStore(state / "bootfw.sqlite", None, [state / "leases.sqlite", state / "next-boot.sqlite"]).load_orders("loop")
"""


@pytest.mark.parametrize("moment", ["before the commit", "before the rename", "after the rename"])
def test_killed_migration_leaves_the_old_files_usable(state: Path, moment: str) -> None:
    for _ in range(3):
        killed = subprocess.run([sys.executable, "-c", KILLED_IMPORT, moment, str(state)], timeout=60, check=False)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL
    assert content(configured_store(state)) == OLD_CONTENT
    assert not (state / "leases.sqlite").exists()
    assert not (state / "next-boot.sqlite").exists()


def test_damaged_old_file_is_named_and_kept(state: Path) -> None:
    os.truncate(state / "leases.sqlite", 9000)
    before = (state / "leases.sqlite").read_bytes()
    with pytest.raises(StateError, match=f"^{state}/leases.sqlite: is damaged: "):
        configured_store(state).load()
    assert (state / "leases.sqlite").read_bytes() == before


def test_an_old_file_of_another_program_is_named(state: Path) -> None:
    with closing(sqlite3.connect(state / "next-boot.sqlite")) as db:
        db.execute("PRAGMA application_id = 7")
    with pytest.raises(StateError, match=r"next-boot.sqlite: is damaged: it is not a file of an earlier version"):
        configured_store(state).load()


def test_files_of_a_running_old_version_are_not_imported(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "LOCK_TIMEOUT", 0)
    with closing(sqlite3.connect(state / "leases.sqlite", isolation_level=None)) as running:
        running.execute("PRAGMA locking_mode = EXCLUSIVE")
        running.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StateError, match=r"leases.sqlite: another process uses it"):
            configured_store(state).load()
    assert content(configured_store(state)) == OLD_CONTENT


def test_without_old_files_nothing_is_logged(tmp_path: Path) -> None:
    with capturedLogs() as logs:
        assert content(configured_store(tmp_path)) == ({}, [], {})
    assert logs == []
