"""The file of one-time boots: real SQLite, two processes, and what can be wrong with a file."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfw.errors import StateError
from bootfw.stores import orders
from bootfw.stores.orders import Busy, Order, Orders

A, B = "52:54:00:00:00:01", "52:54:00:00:00:02"


@pytest.fixture
def kept(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "state" / "next-boot.sqlite")


def files(kept: Orders) -> dict[str, str]:
    return {mac: order.file for mac, order in kept.read().items()}


def test_without_a_file_nothing_is_ordered_and_looking_makes_none(kept):
    assert (kept.read(), kept.version()) == ({}, None)
    assert not kept.path.parent.exists()


def test_an_order_is_kept(kept):
    kept.order(A, "install.ipxe", 5.0)
    assert Orders(kept.path).read() == {A: Order(1, A, "install.ipxe", 5.0)}
    kept.order(A, "rescue.ipxe", 6.0)
    kept.order(B, "memtest", 7.0)
    assert files(kept) == {A: "rescue.ipxe", B: "memtest"}


def test_a_used_up_order_does_not_take_a_new_one_with_it(kept):
    kept.order(A, "install.ipxe")
    old = kept.read()[A]
    kept.order(A, "install.ipxe")
    kept.remove([old])
    assert files(kept) == {A: "install.ipxe"}
    kept.remove([kept.read()[A], old])
    assert files(kept) == {}


def test_each_change_shows(kept):
    versions = [kept.version()]
    for number in range(3):
        kept.order(A, f"{number}")
        versions.append(kept.version())
    kept.remove(kept.read().values())
    versions.append(kept.version())
    assert len(set(versions)) == 5
    kept.read()
    assert kept.version() == versions[-1]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([A, B]), st.text(min_size=0, max_size=3)), max_size=10))
def test_it_is_what_a_dictionary_is(tmp_path_factory, given_orders):
    """An empty name: its order is used up."""
    kept, model = Orders(tmp_path_factory.mktemp("state") / "file"), {}
    for mac, file in given_orders:
        if file:
            model[mac] = file
            kept.order(mac, file)
        elif mac in model:
            del model[mac]
            kept.remove([kept.read()[mac]])
        assert files(kept) == model


def test_another_process_writes_it_too(kept, monkeypatch):
    monkeypatch.setattr(orders, "PATIENCE", 60)  # SQLite's lock is not fair, and the disk may be busy
    kept.order(A, "one")
    program = f"""
import pathlib
from bootfw.stores import orders
from bootfw.stores.orders import Orders
orders.PATIENCE = 60
kept = Orders(pathlib.Path({str(kept.path)!r}))
for number in range(50):
    kept.order("process", str(number))
"""
    with subprocess.Popen([sys.executable, "-c", program]) as other:
        while other.poll() is None:
            kept.order(B, "two")
            kept.remove([kept.read(60)[B]])
    assert other.returncode == 0
    assert files(kept) == {A: "one", "process": "49"}


def test_who_reads_waits_only_as_long_as_it_can(kept):
    kept.order(A, "one")
    writer = sqlite3.connect(kept.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    with pytest.raises(Busy, match="another process uses it"):
        kept.read(0.01)
    writer.execute("ROLLBACK")
    assert files(kept) == {A: "one"}
    writer.close()


def other_version(path: Path) -> None:
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 2")
    db.commit()
    db.close()


def not_ours(path: Path) -> None:
    path.unlink()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE lease (address)")
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.write_bytes(b"no database at all " * 100), "is damaged: file is not a database"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "is damaged"),
        (other_version, "written by another version of bootfw: its tables are of version 2"),
        (not_ours, "it is not a file of next boots of bootfw"),
        (lambda path: (path.unlink(), path.mkdir()), "unable to open database file"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_told_of(kept, spoil, said):
    kept.order(A, "x" * 5000)
    spoil(kept.path)
    with pytest.raises(StateError, match=said) as caught:
        kept.read()
    assert str(caught.value).startswith(str(kept.path))


def test_the_file_gets_its_name_when_it_is_complete(kept, monkeypatch):
    def crash(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", crash)
        with pytest.raises(KeyboardInterrupt):
            kept.order(A, "one")
    assert list(kept.path.parent.iterdir()) == []
    kept.order(A, "one")
    assert files(kept) == {A: "one"}


def test_a_file_without_tables_is_refused(kept):
    kept.path.parent.mkdir()
    kept.path.write_bytes(b"")
    with pytest.raises(StateError, match="it is not a file of next boots of bootfw"):
        kept.order(A, "one")
    assert kept.path.read_bytes() == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_what_root_makes_is_the_servers(kept):
    kept.path.parent.mkdir()
    os.chown(kept.path.parent, 65534, 65534)
    kept.order(A, "one")
    assert kept.path.stat().st_uid == 65534
