"""The readers for backends."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from bootfw.errors import TransferError
from bootfw.interfaces import IReader
from bootfw.readers import FileReader, MemoryReader


@given(st.binary(max_size=200), st.integers(0, 250), st.integers(1, 250))
def test_readers_return_slices_of_the_content(data: bytes, offset: int, length: int) -> None:
    fd = os.memfd_create("test")
    os.write(fd, data)
    from_file, from_memory = FileReader(fd), MemoryReader(data)
    try:
        for reader in (from_file, from_memory):
            verifyObject(IReader, reader)
            assert reader.size == len(data)
            assert reader.read(offset, length) == data[offset : offset + length]
    finally:
        from_file.close()
        from_memory.close()


def test_closing_a_reader_twice_closes_no_other_file() -> None:
    reader = FileReader(os.memfd_create("test"))
    reader.close()
    other = os.memfd_create("other")  # has the same number now
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.close()
    os.close(other)


def test_a_shared_file_is_closed_with_its_last_user() -> None:
    fd = os.memfd_create("test")
    os.write(fd, b"abc")
    reader = FileReader(fd)
    shares = [reader.share(), reader.share()]
    reader.close()
    shares[1].close()
    assert shares[0].read(1, 5) == b"bc"
    shares[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        shares[0].close()


@pytest.fixture
def old_file(tmp_path: Path) -> Path:
    """A file that was written long ago."""
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (OLD, OLD))
    return path


OLD = 1_000_000_000


def reader_of(path: Path) -> FileReader:
    return FileReader(os.open(path, os.O_RDONLY))


def test_the_end_of_a_file_that_was_overwritten_is_not_read(old_file: Path) -> None:
    reader = reader_of(old_file)
    old_file.write_bytes(b"another")
    assert reader.read(0, 3) == b"ano"
    with pytest.raises(TransferError, match="changed meanwhile"):
        reader.read(3, 4)
    with pytest.raises(TransferError, match="changed meanwhile"):
        reader.verify()
    reader.close()


@pytest.mark.parametrize("size", [7, 20_000, 1_000_000])
@pytest.mark.parametrize("appended", [True, False])
def test_growth_with_different_earlier_bytes_is_a_change(old_file: Path, size: int, appended: bool) -> None:
    """The times of the file are the same for both."""
    content = bytes(n % 251 for n in range(size))
    old_file.write_bytes(content)
    os.utime(old_file, (OLD, OLD))
    reader = reader_of(old_file)
    half = size // 2
    for offset in range(0, half, 1000):
        reader.read(offset, min(1000, half - offset))
    offset_of_change = size if appended else size // 3
    old_file.write_bytes(content[:offset_of_change] + b"more" + content[offset_of_change:])
    if appended:
        assert reader.read(half, size - half) == content[half:]
        reader.verify()
    else:
        with pytest.raises(TransferError, match="changed meanwhile"):
            reader.read(half, size - half)
    reader.close()


@pytest.mark.parametrize("quarter", range(4))
def test_samples_are_of_the_whole_file(old_file: Path, quarter: int) -> None:
    size = 1_000_000
    old_file.write_bytes(bytes(size))
    os.utime(old_file, (OLD, OLD))
    reader = reader_of(old_file)
    for offset in range(0, size - 1000, 1000):
        reader.read(offset, 1000)
    with old_file.open("r+b") as file:
        file.seek(quarter * size // 4)
        file.write(b"x" * (size // 4))
        file.truncate(size + 1000)
    with pytest.raises(TransferError, match="changed meanwhile"):
        reader.verify()
    reader.close()


def test_growth_is_compared_with_bytes_passed_to_remember(old_file: Path) -> None:
    reader = reader_of(old_file)
    reader.remember(2, memoryview(b"nten"))
    with old_file.open("ab") as file:
        file.write(b" and more")
    reader.verify()
    old_file.write_bytes(b"another, and more")
    with pytest.raises(TransferError, match="changed meanwhile"):
        reader.verify()
    reader.close()


@pytest.mark.parametrize("change", ["nothing", "renamed", "removed", "replaced", "mode", "appended"])
def test_change_of_metadata_is_not_a_change(old_file: Path, change: str) -> None:
    reader = reader_of(old_file)
    if change == "renamed":
        old_file.rename(old_file.with_name("other"))
    elif change == "removed":
        old_file.unlink()
    elif change == "replaced":
        other = old_file.with_name("other")
        other.write_bytes(b"another")
        other.rename(old_file)
    elif change == "mode":
        old_file.chmod(0o600)
    elif change == "appended":
        with old_file.open("ab") as file:
            file.write(b" and more")
    assert reader.read(0, 100) == b"content"
    reader.verify()
    reader.close()
