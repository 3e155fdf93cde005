"""The state file with leases and reservations: complete, damaged, moved, and on a full disk."""

import os
import re
import resource
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest
from attrs import evolve

from bootfw.api import StateError
from bootfw.records import number
from bootfw.stores import statefile
from bootfw.stores.statefile import VERSION, StateFile, row_of
from bootfw.testing.contracts.leases import LEASES, RESERVATIONS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a closed file with leases."""
    path = tmp_path / "state" / "bootfw.sqlite"
    StateFile.create(path)
    file = StateFile.open(path)
    more = [evolve(LEASES[0], address=f"10.0.{high}.{low}") for high in range(10) for low in range(100, 200)]
    file.write_leases(list(map(row_of, [*LEASES, *more])))
    file.replace_reservations(RESERVATIONS)
    file.close()
    return path


def error_of(path: Path) -> str:
    """The message for the operator when the file is opened, without its path."""
    with pytest.raises(StateError) as caught:
        list(StateFile.open(path).leases())
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@contextmanager
def edited(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as db:
        yield db
        db.commit()


def test_file_is_private_and_leaves_no_temporary_files(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["bootfw.sqlite"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_files_made_by_root_belong_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65533)
    path = tmp_path / "bootfw.sqlite"
    StateFile.create(path)
    file = StateFile.open(path)
    file.write_leases(list(map(row_of, LEASES)))
    assert {(each.stat().st_uid, each.stat().st_gid) for each in tmp_path.iterdir()} == {(65534, 65533)}
    assert len(list(tmp_path.iterdir())) == 2
    file.close()


def test_creating_keeps_an_existing_file(path: Path) -> None:
    before = path.read_bytes()
    StateFile.create(path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["bootfw.sqlite"]


def test_leases_come_by_address(path: Path) -> None:
    file = StateFile.open(path)
    addresses = [number(lease.address) for lease in file.leases()]
    assert addresses == sorted(addresses)
    assert len(addresses) == 1000 + len(LEASES)
    file.close()


def test_each_write_is_synced(path: Path) -> None:
    """Only the settings of SQLite: the rest could be seen after a power failure only."""
    file = StateFile.open(path)
    assert file.connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert file.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    file.close()


def test_open_file_is_locked_against_other_processes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statefile, "LOCK_TIMEOUT", 0)
    file = StateFile.open(path)
    assert error_of(path) == "another process uses it; is bootfw running already?"
    file.close()
    StateFile.open(path).close()


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none") == "there is no such file"
    assert list(tmp_path.iterdir()) == []


def test_parent_that_is_not_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=re.escape(f"{tmp_path / 'file'}: ")):
        StateFile.create(tmp_path / "file" / "state" / "bootfw.sqlite")


DAMAGED = r"is damaged: .*\. Put a good copy in its place; or move it away to begin without any lease, .*"


@pytest.mark.parametrize("content", [b"", b"leases", b"SQLite format 3\0", os.urandom(100_000)])
def test_file_without_tables_is_damaged(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bootfw.sqlite"
    path.write_bytes(content)
    assert re.fullmatch(DAMAGED, error_of(path))
    assert path.read_bytes() == content


def test_database_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.sqlite"
    with edited(path) as db:
        db.execute("CREATE TABLE lease (address)")
    assert "it is not a state file of bootfw" in error_of(path)


def test_database_of_a_later_version_is_refused(path: Path) -> None:
    with edited(path) as db:
        db.execute(f"PRAGMA user_version = {VERSION + 1}")
    assert error_of(path) == (
        f"was written by another version of bootfw: its tables are of version {VERSION + 1}, "
        f"and this one knows version {VERSION}"
    )


def test_database_of_version_1_is_extended_for_ipv6(path: Path) -> None:
    with edited(path) as db:
        db.execute("DROP TABLE lease6")
        db.execute("DROP TABLE machine_order")
        db.execute("DROP TABLE attempt")
        db.execute("ALTER TABLE reservation DROP COLUMN lease_seconds")
        db.execute("PRAGMA user_version = 1")
    file = StateFile.open(path)
    before = list(file.leases())
    file.write_leases(list(map(row_of, LEASES)))
    file.close()
    file = StateFile.open(path)
    assert len(before) == 1000 + len([each for each in LEASES if ":" not in each.address])
    assert {lease.address for lease in file.leases()} >= {lease.address for lease in LEASES}
    file.close()


def test_invalid_ipv6_address_is_damage(path: Path) -> None:
    with edited(path) as db:
        db.execute("UPDATE lease6 SET address = x'0102' WHERE address = ?", (b"\xff" * 16,))
    assert "the lease numbered 0102 is invalid" in error_of(path)


@pytest.mark.parametrize("part", [0.2, 0.5, 0.99])
def test_truncated_file_is_damaged(path: Path, part: float) -> None:
    os.truncate(path, int(path.stat().st_size * part))
    assert re.fullmatch(DAMAGED, error_of(path))


def test_overwritten_page_is_damage(path: Path) -> None:
    whole = path.read_bytes()
    for start in range(4096, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(4096) + whole[start + 4096 :])
        assert re.fullmatch(DAMAGED, error_of(path))


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE lease SET state = 'lost' WHERE address = 1",
        "UPDATE lease SET client = 'text' WHERE address = 1",
        "UPDATE lease SET granted = 'yesterday' WHERE address = 1",
        "INSERT INTO lease SELECT -1, client, mac, client_id, uuid, hostname, state, granted, expires, kind FROM lease",
        "INSERT INTO lease SELECT 1 << 32, client, mac, client_id, uuid, hostname, state, granted, expires, kind "
        "FROM lease WHERE address = 1",
    ],
)
def test_invalid_lease_is_damage(path: Path, change: str) -> None:
    with edited(path) as db:
        db.execute("DELETE FROM lease WHERE address != 1")
        db.execute(change)
    assert re.fullmatch(DAMAGED, error_of(path))


@pytest.mark.parametrize("change", ["options = '{'", "options = '[]'", "mac = 'none'", "client_id = 7, mac = ''"])
def test_invalid_reservation_is_damage(path: Path, change: str) -> None:
    with edited(path) as db:
        db.execute(f"UPDATE reservation SET {change} WHERE position = 0")
    file = StateFile.open(path)
    with pytest.raises(StateError, match=DAMAGED):
        list(file.reservations())
    file.close()


def test_missing_table_is_damage(path: Path) -> None:
    with edited(path) as db:
        db.execute("DROP TABLE lease")
    assert "no such table: lease" in error_of(path)


def test_full_disk_fails_the_write_and_keeps_the_rest(path: Path) -> None:
    """Earlier leases stay, and writes succeed again when there is room."""
    file = StateFile.open(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StateError, match="disk"):
            file.write_leases([row_of(evolve(LEASES[0], hostname="a" * 10_000))])
        with pytest.raises(StateError, match="disk"):
            file.replace_reservations([evolve(RESERVATIONS[0], hostname="a" * 10_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert {lease.address: lease for lease in file.leases()}[LEASES[0].address] == LEASES[0]
    assert list(file.reservations()) == list(RESERVATIONS)
    changed = evolve(LEASES[0], hostname="changed")
    file.write_leases([row_of(changed)])
    file.close()
    file = StateFile.open(path)
    assert {lease.address: lease for lease in file.leases()}[changed.address] == changed
    file.close()


LEASE = row_of(evolve(LEASES[0], hostname="changed"))


@pytest.mark.parametrize("lost", ["bootfw.sqlite", "bootfw.sqlite-wal", "."])
def test_a_write_to_a_file_that_is_gone_fails_until_it_is_back(path: Path, lost: str, tmp_path: Path) -> None:
    """The kernel accepts writes to a file that was removed, and drops it when it is closed."""
    file = StateFile.open(path)
    original = path.parent / lost
    original.rename(tmp_path / "aside")
    for write in (
        partial(file.write_leases, [LEASE]),
        partial(file.replace_reservations, []),
        partial(file.write_orders, "loop", {"02:00:00:00:00:01": {}}),
    ):
        with pytest.raises(StateError, match=r"bootfw\.sqlite(-wal)?: it was moved or removed while bootfw uses it"):
            write()
    (tmp_path / "aside").rename(original)
    file.write_leases([LEASE])
    file.close()
    file = StateFile.open(path)
    assert next(lease for lease in file.leases() if lease.address == LEASES[0].address).hostname == "changed"
    file.close()


def test_write_fails_if_the_path_is_taken_by_another_file(path: Path) -> None:
    file = StateFile.open(path)
    path.rename(path.with_name("aside"))
    StateFile.create(path)
    with pytest.raises(StateError, match=r"bootfw\.sqlite: another file has taken its place while bootfw uses it"):
        file.write_leases([LEASE])
    file.close()


def test_writing_no_leases_does_not_need_the_file(path: Path) -> None:
    file = StateFile.open(path)
    path.rename(path.with_name("aside"))
    file.write_leases([])
    file.close()
