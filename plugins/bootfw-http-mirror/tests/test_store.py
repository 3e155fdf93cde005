"""The cache directory."""

import os
from pathlib import Path

from bootfw_http_mirror.store import Entry, Store


def put(store: Store, name: str, data: bytes, etag: str = "") -> None:
    fd, part = store.begin()
    os.write(fd, data)
    os.close(fd)
    store.keep(part, Entry(name, len(data), etag))


def content(store: Store, name: str) -> bytes | None:
    if store.find(name) is None:
        return None
    with open(store.open(name), "rb") as file:
        return file.read()


def test_files_are_there_after_a_restart(tmp_path: Path) -> None:
    put(Store(tmp_path, 100), "a/b", b"data", '"1"')
    store = Store(tmp_path, 100)
    assert store.find("a/b") == Entry("a/b", 4, '"1"')
    assert content(store, "a/b") == b"data"
    assert content(store, "a/c") is None


def test_unfinished_files_go_at_the_start(tmp_path: Path) -> None:
    fd, part = Store(tmp_path, 100).begin()
    os.close(fd)
    Store(tmp_path, 100)
    assert not part.exists()


def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    store = Store(tmp_path, 10)
    put(store, "a", b"1234")
    put(store, "b", b"1234")
    assert store.find("a")
    put(store, "c", b"1234")
    assert [name for name in "abc" if store.find(name)] == ["a", "c"]
    assert len(list(tmp_path.iterdir())) == 4


def test_use_is_remembered_over_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path, 10)
    for second, name in enumerate("ab"):
        put(store, name, b"1234")
        os.utime(store._note(name), (second, second))
    assert store.find("a")
    store = Store(tmp_path, 10)
    put(store, "c", b"1234")
    assert [name for name in "abc" if store.find(name)] == ["a", "c"]


def test_a_smaller_limit_holds_from_the_start(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, "a", b"1234")
    put(store, "b", b"1234")
    store = Store(tmp_path, 5)
    assert sum(store.find(name) is not None for name in "ab") == 1


def test_a_file_larger_than_everything_is_not_kept_and_drives_nothing_out(tmp_path: Path) -> None:
    store = Store(tmp_path, 10)
    put(store, "a", b"1234")
    put(store, "b", b"x" * 11)
    assert content(store, "a") == b"1234"
    assert store.find("b") is None


def test_a_damaged_file_counts_as_absent(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, "a", b"1234")
    store._data("a").write_bytes(b"12")
    assert store.find("a") is None
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_note_counts_as_none(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, "a", b"1234")
    store._note("a").write_text("{")
    assert Store(tmp_path, 100).find("a") is None
    assert list(tmp_path.iterdir()) == []


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "vmlinuz").write_bytes(b"mine")
    put(Store(tmp_path, 1), "a", b"1234")
    Store(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["vmlinuz"]


def test_an_open_file_stays_readable_when_it_is_replaced(tmp_path: Path) -> None:
    store = Store(tmp_path, 100)
    put(store, "a", b"old")
    with open(store.open("a"), "rb") as file:
        put(store, "a", b"new")
        assert file.read() == b"old"
    assert content(store, "a") == b"new"
