"""The schema of the state file: its old versions, and files of other programs."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bootfw.errors import StateError
from bootfw.stores import statefile
from bootfw.stores.statefile import APPLICATION, VERSION, StateFile
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "bootfw.sqlite"


def make(path: Path, version: int, application: int = APPLICATION) -> None:
    """An empty file of an earlier schema version."""
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        tables = "".join(statefile._MIGRATIONS[:version])
        db.executescript(f"PRAGMA application_id = {application}; PRAGMA user_version = {version}; {tables}")


def schema(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}


TABLES = {"lease", "lease6", "reservation", "machine_order", "attempt", "attempt_began", "attempt_mac"}


def test_a_new_file_has_the_newest_version(path: Path) -> None:
    StateFile.create(path)
    assert schema(path) == (VERSION, TABLES)


@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_a_file_of_each_version_is_upgraded_and_works(path: Path, version: int) -> None:
    make(path, version)
    file = StateFile.open(path)
    file.write_leases(list(map(statefile.row_of, LEASES)))
    file.replace_reservations(RESERVATIONS)
    file.write_orders("next-boot", {"52:54:00:12:34:56": {"file": "x"}})
    file.close()
    assert schema(path) == (VERSION, TABLES)


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    make(path, 1)
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE machine_order (mac)")
    with pytest.raises(StateError, match="table machine_order already exists"):
        StateFile.open(path)
    assert schema(path) == (1, {"lease", "reservation", "machine_order"})


@pytest.mark.parametrize("version", [0, VERSION + 1])
def test_a_file_of_another_version_is_refused_with_both_versions(path: Path, version: int) -> None:
    make(path, version)
    with pytest.raises(StateError, match=f"of version {version}, and this one knows version {VERSION}"):
        StateFile.open(path)


def test_foreign_sqlite_file_is_refused_with_a_remedy(path: Path) -> None:
    make(path, VERSION, application=78)
    with pytest.raises(StateError, match=r"is damaged: it is not a state file of bootfw\. Put a good copy"):
        StateFile.open(path)


def test_invalid_order_is_a_damaged_file(path: Path) -> None:
    StateFile.create(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO machine_order VALUES ('loop', '52:54:00:12:34:56', '{')")
        db.commit()
    file = StateFile.open(path)
    assert file.orders("next-boot") == {}
    with pytest.raises(StateError, match="is damaged: the loop order of 52:54:00:12:34:56 is invalid"):
        file.orders("loop")
    file.close()


def test_failed_transaction_is_rolled_back(path: Path) -> None:
    StateFile.create(path)
    file = StateFile.open(path)
    file.write_orders("loop", {"a": {"times": 1}, "b": {"times": 1}})
    with pytest.raises(StateError):
        file.write_orders("loop", {"a": None, None: {"times": 2}})  # type: ignore[dict-item]
    assert file.orders("loop") == {"a": {"times": 1}, "b": {"times": 1}}
    file.close()
