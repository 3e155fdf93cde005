"""The cache of framed files: its frames are those of the file, within its capacity, and never outdated."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest
from attrs import define
from hypothesis import assume, given
from hypothesis import strategies as st
from narrowing import present

from bootfw import readers
from bootfw.backends.archive.reader import MemberReader
from bootfw.net.tftp import framecache
from bootfw.net.tftp.framecache import FrameCache, last_in_chunk
from bootfw.net.udp.sender import LARGEST_RUN
from bootfw.readers import FileReader
from bootfw.tftp.blocks import Blocks, frame

CAPACITY = 1 << 20


class OpenReader(Protocol):
    """The fixture ``open_reader``."""

    def __call__(self, content: bytes, name: str = "file") -> FileReader: ...


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is too new to be cached."""
    monkeypatch.setattr(readers, "_TICK", -1)


@pytest.fixture
def open_reader(tmp_path: Path, settled: None) -> Iterator[OpenReader]:
    """Writes a file with this content and opens a reader of it; closed after the test."""
    opened: list[FileReader] = []

    def make(content: bytes, name: str = "file") -> FileReader:
        (tmp_path / name).write_bytes(content)
        opened.append(FileReader(os.open(tmp_path / name, os.O_RDONLY)))
        return opened[-1]

    yield make
    for reader in opened:
        reader.close()


@given(
    size=st.integers(0, 3000), blksize=st.integers(8, 700), block=st.integers(1, 400), chunk_size=st.integers(100, 2000)
)
def test_chunk_has_the_frames_of_its_blocks(size: int, blksize: int, block: int, chunk_size: int) -> None:
    content = bytes(i % 251 for i in range(size))
    fd = os.memfd_create("test")
    os.write(fd, content)
    reader = FileReader(fd)
    reader.identity = (1,)  # type: ignore[assignment]  # frames need no more than that there is one
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(framecache, "CHUNK_SIZE", chunk_size)
        chunk = FrameCache(CAPACITY).chunk(reader, blksize, block)
        chunk_end = last_in_chunk(blksize, block)
    reader.close()
    final = size // blksize + 1
    if block > final:
        assert chunk is None
        return
    assert chunk is not None
    assert chunk.first <= block <= chunk.last == min(chunk_end, final)
    assert chunk.last_full == min(chunk_end, final - 1)
    data = content[(chunk.first - 1) * blksize : chunk.last * blksize]
    assert bytes(chunk.view) == frame(Blocks(chunk.first, chunk.last - chunk.first + 1), blksize, data)


def test_block_numbers_wrap_in_a_chunk(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    reader = open_reader(bytes(8 * 70_000))
    chunk = cache.chunk(reader, 8, 65536)
    assert chunk is not None
    offset = (65536 - chunk.first) * chunk.stride
    assert bytes(chunk.view[offset - 12 : offset + 16])[:4] == b"\0\3\xff\xff"
    assert bytes(chunk.view[offset : offset + 4]) == b"\0\3\0\0"
    assert bytes(chunk.view[offset + 12 : offset + 16]) == b"\0\3\0\1"


def test_a_chunk_is_read_once_for_all_readers(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    one, other = open_reader(bytes(5000)), open_reader(bytes(5000), "other")
    duplicate = FileReader(os.dup(one.fileno()))
    assert cache.chunk(one, 512, 1) is cache.chunk(duplicate, 512, 9)
    assert cache.chunk(one, 512, 1) is not cache.chunk(other, 512, 1)
    assert cache.chunk(one, 512, 1) is not cache.chunk(one, 600, 1)
    duplicate.close()


def test_least_recently_used_chunk_is_dropped(open_reader: OpenReader) -> None:
    cache = FrameCache(30_000)
    files = [open_reader(bytes([n]) * 8192, f"{n}") for n in range(4)]
    chunks = [cache.chunk(file, 1024, 1) for file in files[:3]]
    assert cache.chunk(files[0], 1024, 1) is chunks[0]
    fourth = cache.chunk(files[3], 1024, 1)
    assert [present(chunk).cached for chunk in chunks] == [True, False, True]
    assert fourth is not None
    assert fourth.view[4] == 3
    assert cache.used <= 30_000
    cache.clear()
    assert cache.used == 0


def test_a_chunk_that_does_not_fit_is_not_cached(open_reader: OpenReader) -> None:
    reader = open_reader(bytes(8192))
    assert FrameCache(8192).chunk(reader, 1024, 1) is None
    assert FrameCache(0).chunk(reader, 1024, 1) is None


def test_changed_file_gets_a_new_chunk(open_reader: OpenReader, tmp_path: Path) -> None:
    cache = FrameCache(CAPACITY)
    before = open_reader(b"old!" * 1000)
    old = cache.chunk(before, 512, 1)
    os.utime(tmp_path / "file", ns=(1, 1))
    after = open_reader(b"new!" * 1000)
    assert before.identity != after.identity
    assert bytes(present(cache.chunk(after, 512, 1)).view[4:8]) == b"new!"
    assert old is not None
    assert bytes(old.view[4:8]) == b"old!"


def test_a_file_that_has_become_shorter_is_left_to_its_reader(open_reader: OpenReader, tmp_path: Path) -> None:
    cache = FrameCache(CAPACITY)
    reader = open_reader(bytes(8192))
    os.truncate(tmp_path / "file", 3000)
    assert cache.chunk(reader, 1024, 1) is None
    assert cache.used == 0


def test_a_file_that_has_just_changed_has_no_identity(tmp_path: Path) -> None:
    """One more change within a tick of the file system's clock would not show."""
    (tmp_path / "file").write_bytes(b"x")
    reader = FileReader(os.open(tmp_path / "file", os.O_RDONLY))
    assert reader.identity is None
    reader.close()


@given(st.integers(8, 65464), st.sampled_from([1, 2, 4, 8, 16, 32, 64]), st.integers(0, 10_000))
def test_window_lies_in_one_chunk(blksize: int, windowsize: int, windows_before: int) -> None:
    assume(windowsize * (blksize + 4) <= LARGEST_RUN)
    first = windows_before * windowsize + 1
    assert last_in_chunk(blksize, first) >= first + windowsize - 1
    assert framecache._blocks_per_chunk(blksize, framecache.CHUNK_SIZE) * (blksize + 4) < 1.5 * framecache.CHUNK_SIZE


def overwrite(reader: FileReader, content: bytes) -> None:
    """Change the file in place."""
    with open(f"/proc/self/fd/{reader.fileno()}", "r+b") as file:
        file.write(content)
    os.utime(reader.fileno(), (1, 1))


def test_an_overwritten_file_has_no_frames_for_readers_that_opened_it_before(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    size = 2 * 512 * last_in_chunk(512, 1)
    before, other = open_reader(bytes(size)), open_reader(bytes(1000), "other")
    first, other_chunk = cache.chunk(before, 512, 1), cache.chunk(other, 512, 1)
    overwrite(before, b"x" * size)
    assert cache.chunk(before, 512, last_in_chunk(512, 1) + 1) is None
    assert first is not None
    assert not first.cached
    assert bytes(first.view[4:8]) == bytes(4), "a transfer that sends from it continues with the old content"
    assert other_chunk is not None
    assert other_chunk.cached
    assert not cache.contains(before, 512, 1)


def test_the_last_frames_are_not_sent_to_readers_of_an_older_version(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    second_chunk_start = last_in_chunk(512, 1) + 1
    size = 512 * second_chunk_start - 12
    reader = open_reader(bytes(size))
    assert present(cache.chunk(reader, 512, second_chunk_start)) is cache.chunk(reader, 512, second_chunk_start)
    overwrite(reader, b"x" * size)
    assert cache.chunk(reader, 512, second_chunk_start) is None


def test_a_small_file_is_sent_whole_to_readers_of_an_older_version(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    reader = open_reader(bytes(1000))
    chunk = cache.chunk(reader, 512, 1)
    overwrite(reader, b"x" * 1000)
    assert present(cache.chunk(reader, 512, 2)) is chunk
    newer = FileReader(os.dup(reader.fileno()))
    assert bytes(present(cache.chunk(newer, 512, 2)).view[4:8]) == b"xxxx"


@define(eq=False)
class NumberedReader(FileReader):
    """The reader of a plugin whose backends count the versions of their files, each from 1 on."""

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        self.identity = 1  # type: ignore[assignment]  # any value that is hashable may be one


def numbered_reader(path: Path) -> NumberedReader:
    return NumberedReader(os.open(path, os.O_RDONLY))


def test_two_backends_with_equal_identities_do_not_share_frames(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a" * 5000)
    (tmp_path / "b").write_bytes(b"b" * 5000)
    cache = FrameCache(CAPACITY)
    one, other, again = (
        numbered_reader(tmp_path / "a"),
        numbered_reader(tmp_path / "b"),
        numbered_reader(tmp_path / "a"),
    )
    assert bytes(present(cache.chunk(one, 512, 1)).view[4:8]) == b"aaaa"
    assert not cache.contains(other, 512, 1)
    assert bytes(present(cache.chunk(other, 512, 1)).view[4:8]) == b"bbbb"
    assert cache.chunk(again, 512, 1) is cache.chunk(one, 512, 1)
    overwrite(again, b"c" * 5000)
    newest = numbered_reader(tmp_path / "a")
    assert bytes(present(cache.chunk(newest, 512, 1)).view[4:8]) == b"cccc"
    for reader in (one, other, again, newest):
        reader.close()


def test_two_parts_of_a_file_do_not_share_frames(open_reader: OpenReader) -> None:
    cache = FrameCache(CAPACITY)
    file = open_reader(b"a" * 5000 + b"b" * 5000)
    parts = [MemberReader(file.share(), start, 5000, 0.0, "", 0.0) for start in (0, 5000)]
    for part in parts:
        part.identity = 1  # type: ignore[assignment]  # any value that is hashable may be one
    assert [bytes(present(cache.chunk(part, 512, 1)).view[4:6]) for part in parts] == [b"aa", b"bb"]
    for part in parts:
        part.close()


@given(
    st.lists(st.tuples(st.integers(8, 65464), st.sampled_from([500, framecache.CHUNK_SIZE])), min_size=1, max_size=20)
)
def test_the_cached_number_of_blocks_is_that_for_the_block_size_and_the_chunk_size(
    sizes: list[tuple[int, int]],
) -> None:
    for blksize, size in [*sizes, *sizes]:
        assert framecache._blocks_per_chunk(blksize, size) == framecache._blocks_per_chunk.__wrapped__(blksize, size)


@pytest.mark.parametrize("framed_before", [True, False])
def test_reader_learns_samples_of_cached_chunks(open_reader: OpenReader, framed_before: bool) -> None:
    """The beginning was sent from frames of the old content. When the file has grown, its end is compared with that."""
    cache = FrameCache(CAPACITY)
    second_chunk_start = last_in_chunk(512, 1) + 1
    reader = open_reader(b"a" * 512 * (second_chunk_start + 2))
    if framed_before:
        other = FileReader(os.dup(reader.fileno()))
        cache.chunk(other, 512, 1)
        other.close()
    assert bytes(present(cache.chunk(reader, 512, 1)).view[4:6]) == b"aa"
    overwrite(reader, b"b" * (reader.size + 1000))
    assert cache.chunk(reader, 512, second_chunk_start) is None


def test_frames_that_a_transfer_sends_from_are_evicted_last_and_kept_until_it_ends(open_reader: OpenReader) -> None:
    cache = FrameCache(20_000)
    files = [open_reader(bytes([n]) * 8192, f"{n}") for n in range(5)]
    held, other = (present(cache.chunk(file, 1024, 1)) for file in files[:2])
    cache.hold(held)
    third = present(cache.chunk(files[2], 1024, 1))
    assert (held.cached, other.cached, third.cached) == (True, False, True), "the oldest one is held"
    cache.hold(third)
    assert cache.evicted_in_use == 0
    fourth = present(cache.chunk(files[3], 1024, 1))
    assert (held.cached, third.cached, fourth.cached) == (False, True, True), "all were held"
    assert cache.evicted_in_use == held.size
    assert cache.used == third.size + fourth.size <= 20_000
    assert bytes(held.view[4:1028]) == bytes(1024)
    cache.hold(held)
    cache.release(held)
    assert cache.evicted_in_use == held.size
    cache.release(held)
    assert cache.evicted_in_use == 0
    cache.release(third)
    assert cache.used == third.size + fourth.size
    cache.clear()
    assert (cache.used, cache.evicted_in_use) == (0, 0)
