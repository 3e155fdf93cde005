"""The directory backend: uploads."""

import errno
import os
import resource
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_descriptors
from twisted.internet import defer
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from bootfw.api import (
    AccessViolation,
    DiskFull,
    FileAlreadyExists,
    FileMissing,
    IllegalOperation,
    IWriter,
    TransferRequest,
)
from bootfw.backends import upload as module
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.openat2 import openat2, walk


def write_request(path: str, *options: Any) -> TransferRequest:
    return TransferRequest(path, path, ("10.0.0.9", 1069), write=True, options=options)


def all_files(root: Path) -> list[str]:
    return sorted(os.path.join(directory, name) for directory, _, files in os.walk(root) for name in files)


@pytest.fixture(params=["nameless", "named"])
def scratch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of temporary file: without a name by O_TMPFILE, or with one."""
    kind: str = request.param
    if kind == "named":

        def open_without_tmpfile(path: bytes, flags: int, *arguments: int, **keywords: Any) -> int:
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                raise OSError(errno.EOPNOTSUPP, "")
            return os.open(path, flags, *arguments, **keywords)

        class Os:
            open = staticmethod(open_without_tmpfile)

            def __getattr__(self, name: str) -> Any:
                return getattr(os, name)

        monkeypatch.setattr(module, "os", Os())
    return kind


@pytest.fixture(params=[openat2, walk], ids=["openat2", "walk"])
def backend(request: pytest.FixtureRequest, tmp_path: Path, scratch: str) -> DirectoryBackend:
    return DirectoryBackend(tmp_path, resolve=request.param)


def upload(backend: DirectoryBackend, path: str, *blocks: bytes) -> module.Upload:
    writer: module.Upload = backend.create(path, write_request(path))
    offset = 0
    for block in blocks:
        writer.write(offset, block)
        offset += len(block)
    return writer


def test_upload_appears_when_it_is_finished(backend: DirectoryBackend, tmp_path: Path, scratch: str) -> None:
    before = open_descriptors()
    writer = upload(backend, "new.cfg", b"first ", b"second")
    verifyObject(IWriter, writer)
    with pytest.raises(FileMissing):
        backend.open("new.cfg", None)
    assert len(os.listdir(tmp_path)) == (scratch == "named")
    assert writer.finish() is None
    assert os.listdir(tmp_path) == ["new.cfg"]
    assert (tmp_path / "new.cfg").read_bytes() == b"first second"
    assert open_descriptors() == before


def test_empty_upload(backend: DirectoryBackend, tmp_path: Path) -> None:
    upload(backend, "empty").finish()
    assert (tmp_path / "empty").read_bytes() == b""


def test_file_mode_follows_the_umask(backend: DirectoryBackend, tmp_path: Path) -> None:
    old_umask = os.umask(0o027)
    try:
        upload(backend, "x").finish()
    finally:
        os.umask(old_umask)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_cancelled_upload_leaves_nothing(backend: DirectoryBackend, tmp_path: Path) -> None:
    before = open_descriptors()
    upload(backend, "a/b/c", b"data").cancel()
    assert os.listdir(tmp_path) == []
    assert open_descriptors() == before


def test_directories_are_created_when_the_upload_finishes(backend: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    writer = upload(backend, "/a/b\\c/d", b"data")
    assert not (tmp_path / "a" / "b").exists()
    writer.finish()
    assert all_files(tmp_path) == [str(tmp_path / "a" / "b" / "c" / "d")]


def test_two_uploads_into_one_new_directory(backend: DirectoryBackend, tmp_path: Path) -> None:
    first, second = upload(backend, "dir/one", b"1"), upload(backend, "dir/other", b"2")
    first.finish()
    second.finish()
    assert sorted(os.listdir(tmp_path / "dir")) == ["one", "other"]


@pytest.mark.parametrize("kind", ["file", "dir", "fifo", "link", "dangling"])
def test_upload_does_not_replace_a_file(backend: DirectoryBackend, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "taken"
    create: dict[str, Callable[[], object]] = {
        "file": lambda: path.write_bytes(b"old"),
        "dir": path.mkdir,
        "fifo": lambda: os.mkfifo(path),
        "link": lambda: path.symlink_to("/"),
        "dangling": lambda: path.symlink_to("../outside"),
    }
    create[kind]()
    before = open_descriptors()
    with pytest.raises(FileAlreadyExists):
        backend.create("taken", write_request("taken"))
    path.rename(tmp_path / "aside")
    writer = upload(backend, "taken", b"new")
    (tmp_path / "aside").rename(path)
    with pytest.raises(FileAlreadyExists):
        writer.finish()
    writer.cancel()
    assert os.listdir(tmp_path) == ["taken"]
    assert not (tmp_path.parent / "outside").exists()
    assert open_descriptors() == before


def test_quicker_upload_wins(backend: DirectoryBackend, tmp_path: Path) -> None:
    slow, quick = upload(backend, "dir/x", b"slow"), upload(backend, "dir/x", b"quick")
    quick.finish()
    with pytest.raises(FileAlreadyExists):
        slow.finish()
    slow.cancel()
    assert all_files(tmp_path) == [str(tmp_path / "dir" / "x")]
    assert (tmp_path / "dir" / "x").read_bytes() == b"quick"


@pytest.mark.parametrize("path", ["../x", "/../x", "..\\x", "up/x", "abs/x"])
def test_uploads_stay_below_the_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "up").symlink_to("..")
    (root / "abs").symlink_to("/")
    upload(DirectoryBackend(root), path, b"data").finish()
    assert all_files(tmp_path) == [str(root / "x")]


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("", IllegalOperation),
        ("/", IllegalOperation),
        ("..", IllegalOperation),
        ("a/..", IllegalOperation),
        ("a\0b", FileMissing),
        ("missing/../x", FileMissing),
        ("file/x", FileMissing),
        ("file/x/y", FileMissing),
        ("x" * 256, FileMissing),
    ],
)
def test_unwritable_paths_are_refused(
    backend: DirectoryBackend, tmp_path: Path, path: str, error: type[IllegalOperation] | type[FileMissing]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    before = open_descriptors()
    with pytest.raises(error):
        backend.create(path, write_request(path))
    assert os.listdir(tmp_path) == ["file"]
    assert open_descriptors() == before


def test_a_link_that_appears_in_place_of_a_new_directory_is_not_followed(
    backend: DirectoryBackend, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    backend.root = root
    writer = upload(backend, "a/b/x", b"data")
    (root / "a").symlink_to("..")
    with pytest.raises(FileMissing):
        writer.finish()
    writer.cancel()
    assert os.listdir(tmp_path) == ["root"]
    assert os.listdir(root) == ["a"]


def test_failed_finish_removes_created_directories(
    backend: DirectoryBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = upload(backend, "a/b/x", b"data")

    def fail(directory: int) -> None:
        raise OSError(errno.EIO, "")

    monkeypatch.setattr(module, "_sync", fail)
    with pytest.raises(OSError, match="5"):
        writer.finish()
    writer.cancel()
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write")
def test_unwritable_directory_is_refused(backend: DirectoryBackend, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    os.seteuid(65534)
    try:
        with pytest.raises(AccessViolation):
            backend.create("x", write_request("x"))
    finally:
        os.seteuid(0)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may write but not read")
def test_drop_box(backend: DirectoryBackend, tmp_path: Path) -> None:
    for path in (tmp_path, *tmp_path.parents):
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    tmp_path.chmod(0o733)
    os.seteuid(65534)
    try:
        upload(backend, "x", b"data").finish()
    finally:
        os.seteuid(0)
    assert (tmp_path / "x").read_bytes() == b"data"


@pytest.mark.parametrize("name", ["tsize", "TSize"])
def test_upload_larger_than_the_free_space_is_refused(backend: DirectoryBackend, tmp_path: Path, name: str) -> None:
    space = os.statvfs(tmp_path)
    too_much = space.f_blocks * space.f_frsize
    with pytest.raises(DiskFull):
        backend.create("x", write_request("x", (name, str(too_much))))
    backend.create("x", write_request("x", (name, "1000"))).cancel()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("size", ["", "-1", "abc", "9" * 300, "٣"])
def test_unusable_announced_sizes_are_ignored(backend: DirectoryBackend, size: str) -> None:
    backend.create("x", write_request("x", ("tsize", size))).cancel()


def test_file_size_limit_is_a_full_disk(backend: DirectoryBackend, tmp_path: Path) -> None:
    writer = backend.create("x", write_request("x"))
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, old_limit[1]))
    try:
        with pytest.raises(DiskFull):
            writer.write(0, bytes(1468))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
    writer.cancel()
    assert os.listdir(tmp_path) == []


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[Path]:
    path.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"a small disk can't be mounted: {mount.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


def test_full_disk(backend: DirectoryBackend, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 65536) as disk:
        backend.root = disk
        with pytest.raises(DiskFull):
            backend.create("x", write_request("x", ("tsize", "70000")))
        writer = backend.create("x", write_request("x"))
        stored = 0
        while stored < 1 << 20:
            try:
                writer.write(stored, bytes(1468))
            except DiskFull:
                break
            stored += 1468
        assert 40_000 < stored <= 65536
        writer.cancel()
        assert os.listdir(disk) == []
        upload(backend, "y", bytes(40_000)).finish()
        assert all_files(disk) == [str(disk / "y")]


class Threads:
    """The part of a reactor that deferToThreadPool() needs; its one thread works when run() is called."""

    def getThreadPool(self) -> "Threads":
        return self

    def callInThreadWithCallback(self, done: Callable[..., Any], call: Callable[..., Any]) -> None:
        self.call, self.done = call, done

    def callFromThread(self, call: Callable[..., Any], *arguments: Failure | None) -> None:
        call(*arguments)

    def run(self) -> None:
        try:
            self.done(True, self.call())
        except Exception:
            self.done(False, Failure())


def test_finish_answers_later_from_a_thread_of_the_reactor(tmp_path: Path, scratch: str) -> None:
    reactor = Threads()
    finished = upload(DirectoryBackend(tmp_path, reactor=reactor), "x", b"data").finish()
    assert not finished.called
    assert not (tmp_path / "x").exists()
    reactor.run()
    assert os.listdir(tmp_path) == ["x"]
    assert finished.result is None


def test_cancelled_while_a_thread_finishes_it(tmp_path: Path, scratch: str) -> None:
    """When the client is gone or the server stops, the thread still uses its descriptors: they must stay open."""
    before = open_descriptors()
    reactor = Threads()
    writer = upload(DirectoryBackend(tmp_path, reactor=reactor), "a/x", b"data")
    finished = writer.finish()
    finished.addErrback(lambda failure: failure.trap(defer.CancelledError))
    finished.cancel()
    writer.cancel()
    reactor.run()
    assert os.listdir(tmp_path) == []
    assert open_descriptors() == before


def test_content_is_synchronized_to_disk_before_the_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def sync(fd: int) -> None:
        calls.append(os.readlink(f"/proc/self/fd/{fd}"))

    def record_link(*arguments: str | bytes, **keywords: Any) -> None:
        calls.append("link")
        os.link(*arguments, **keywords)

    class Os:
        fsync, link = staticmethod(sync), staticmethod(record_link)

        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

    monkeypatch.setattr(module, "os", Os())
    upload(DirectoryBackend(tmp_path), "a/x", b"data").finish()
    content, *later = calls
    assert content.endswith("(deleted)")  # /proc names a file without a name so
    assert later == ["link", str(tmp_path), str(tmp_path / "a")]


def replace(backend: DirectoryBackend, path: str, content: bytes, *options: tuple[str, str]) -> module.Upload:
    writer: module.Upload = backend.replace(path, write_request(path, *options))
    writer.write(0, content)
    return writer


def test_replacement_appears_as_a_whole_with_its_modification_time(backend: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"before")
    before = open_descriptors()
    writer = replace(backend, "disk.img", b"after", ("tsize", "5"), ("mtime", "1795917936"))
    assert (tmp_path / "disk.img").read_bytes() == b"before"
    writer.finish()
    assert os.listdir(tmp_path) == ["disk.img"]
    assert (tmp_path / "disk.img").read_bytes() == b"after"
    assert (tmp_path / "disk.img").stat().st_mtime == 1795917936
    assert open_descriptors() == before


def test_replacement_goes_into_new_directories(backend: DirectoryBackend, tmp_path: Path) -> None:
    replace(backend, "a/b/disk.img", b"new").finish()
    assert (tmp_path / "a/b/disk.img").read_bytes() == b"new"


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.symlink_to("/etc/passwd"), os.mkfifo])
def test_only_regular_files_are_replaced(
    backend: DirectoryBackend, tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "disk.img")
    before = open_descriptors()
    with pytest.raises(FileAlreadyExists):
        backend.replace("disk.img", write_request("disk.img"))
    assert open_descriptors() == before


def test_replacement_that_fails_leaves_the_file(backend: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "disk.img").write_bytes(b"before")
    writer = replace(backend, "disk.img", b"after")
    (tmp_path / "disk.img").unlink()
    (tmp_path / "disk.img").mkdir()
    before = open_descriptors()
    with pytest.raises(IsADirectoryError):
        writer.finish()
    assert os.listdir(tmp_path) == ["disk.img"]
    assert len(open_descriptors()) < len(before)


def test_replacement_is_synchronized_to_disk_while_it_is_written(
    backend: DirectoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(module, "_DURABLE_EVERY", 8)
    monkeypatch.setattr("bootfw.backends.upload.os.fdatasync", synced.append)
    writer = replace(backend, "disk.img", b"12345")
    writer.write(5, b"678")
    writer.write(8, b"9")
    writer.cancel()
    assert len(synced) == 1
