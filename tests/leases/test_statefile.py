"""SQLite files of the state directory: what they have in common, whatever is in them."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bootfw.api import StateError
from bootfw.stores.statefile import Busy, Format, StateFile

FIRST = Format(application=77, tables="CREATE TABLE one (a);", name="a test file", advice="Move it away")
THIRD = Format(
    application=77,
    tables="CREATE TABLE one (a); CREATE TABLE two (a); CREATE TABLE three (a);",
    upgrades={1: "CREATE TABLE two (a);", 2: "CREATE TABLE three (a);"},
    name="a test file",
    advice="Move it away",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "file"


def tables(path: Path) -> tuple[int, set[str]]:
    with closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        return version, {name for (name,) in db.execute("SELECT name FROM sqlite_schema")}


def opened(path: Path, format: Format) -> int:
    """The version that a file had, which then has the newest."""
    file = StateFile(path, format)
    with closing(file.connect(0)) as db:
        version = file.recognize(db)
        file.upgrade(db, version)
    return version


def test_a_new_file_is_of_the_newest_version(path: Path) -> None:
    StateFile(path, THIRD).create()
    assert tables(path) == (3, {"one", "two", "three"})
    assert opened(path, THIRD) == 3


def test_an_old_file_is_upgraded_through_all_versions(path: Path) -> None:
    StateFile(path, FIRST).create()
    assert tables(path) == (1, {"one"})
    assert opened(path, THIRD) == 1
    assert tables(path) == (3, {"one", "two", "three"})


def test_an_upgrade_that_fails_changes_nothing(path: Path) -> None:
    StateFile(path, FIRST).create()
    broken = Format(77, "", "a test file", "Move it away", {1: "CREATE TABLE two (a);", 2: "CREATE TABLE one (a);"})
    with pytest.raises(StateError, match="table one already exists"):
        opened(path, broken)
    assert tables(path) == (1, {"one"})


def test_a_newer_file_is_refused_with_both_versions(path: Path) -> None:
    StateFile(path, THIRD).create()
    with pytest.raises(StateError, match="its tables are of version 3, and this one knows version 1"):
        opened(path, FIRST)


def test_a_file_of_another_program_is_refused_with_what_to_do(path: Path) -> None:
    StateFile(path, Format(78, "CREATE TABLE one (a);", "another file", "")).create()
    with pytest.raises(StateError, match=r"is damaged: it is not a test file of bootfw\. Move it away"):
        opened(path, FIRST)


def test_a_file_that_does_not_exist_is_not_made_by_opening_it(path: Path) -> None:
    path.parent.mkdir()
    with pytest.raises(StateError, match="there is no such file"):
        StateFile(path, FIRST).connect(0)
    assert list(path.parent.iterdir()) == []


def test_a_locked_file_is_busy(path: Path) -> None:
    StateFile(path, FIRST).create()
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Busy, match="another process uses it"):
            opened(path, FIRST)
