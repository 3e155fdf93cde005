"""The directory backend: reading."""

import ctypes
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_descriptors
from narrowing import of_type
from zope.interface.verify import verifyObject

from bootfw.api import (
    AccessViolation,
    ConfigError,
    FileMissing,
    IVersionedBackend,
    IWritableBackend,
    MountTable,
    PluginContext,
    TransferError,
)
from bootfw.backends.directory import DirectoryBackend, plugin
from bootfw.backends.openat2 import openat2, walk


@pytest.fixture(params=[openat2, walk], ids=["openat2", "walk"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> DirectoryBackend:
    (tmp_path / "secret").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "a" / "b").write_bytes(b"content")
    (root / "etc").mkdir()
    (root / "etc" / "hosts").write_bytes(b"ours")
    return DirectoryBackend(root, resolve=request.param)


def fetch(backend: DirectoryBackend, path: str) -> bytes:
    reader = backend.open(path, None)
    try:
        content: bytes = reader.read(0, 1 << 20)
        return content
    finally:
        reader.close()


def test_provides_the_interface(backend: DirectoryBackend) -> None:
    verifyObject(IWritableBackend, backend)


@pytest.mark.parametrize(
    "path",
    ["a/b", "/a/b", "//a///b", "a\\b", "\\a\\b", "a/./b", "./a/b", "a/../a/b", "../a/b", "..\\..\\a/b"],
)
def test_spellings_of_one_file(backend: DirectoryBackend, path: str) -> None:
    assert fetch(backend, path) == b"content"


def test_absolute_paths_are_below_the_root(backend: DirectoryBackend) -> None:
    assert fetch(backend, "/etc/hosts") == b"ours"


@pytest.mark.parametrize(
    "path",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "../secret",
        "..\\..\\secret",
        "..\\../secret",
        "a/../../secret",
        "/proc/self/fd/3",
        "a\0b",
        "a/b\0",
        "\0",
        "",
        "/",
        "..",
        "a",
        "a/",
        "missing",
        "a/b/c",
        "a/\udcff\udcfe",
        "lone \ud800 surrogate",
        "x" * 300,
        "x/" * 3000,
    ],
)
def test_missing_paths_raise_file_missing(backend: DirectoryBackend, path: str) -> None:
    with pytest.raises(FileMissing):
        backend.open(path, None)


@pytest.mark.parametrize("target", ["../secret", "/etc/passwd", "../../../../etc/passwd", "loop", "/proc/self/fd/0"])
def test_links_can_not_leave_the_root(backend: DirectoryBackend, target: str) -> None:
    (backend.root / "loop").symlink_to(target)
    with pytest.raises(FileMissing):
        backend.open("loop", None)


@pytest.mark.parametrize("target", ["a/b", "/a/b", "../a/b", "a/../../a/b"])
def test_links_are_followed_as_if_the_root_were_that_of_the_file_system(backend: DirectoryBackend, target: str) -> None:
    (backend.root / "link").symlink_to(target)
    assert fetch(backend, "link") == b"content"


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_full_path_is_that_file_if_there_is_none_of_that_path_below_the_root(
    backend: DirectoryBackend, slash: str
) -> None:
    full = f"{slash}{str(backend.root).lstrip('/')}"
    assert fetch(backend, f"{full}/a/b") == b"content"
    for path in (full, f"{full}/", f"{full}/none", f"{full}x/a/b", f"{full}/secret", f"{full}/{full}/a/b"):
        with pytest.raises(FileMissing):
            fetch(backend, path)

    below = backend.root / str(backend.root).lstrip("/") / "a"
    below.mkdir(parents=True)
    (below / "b").write_bytes(b"below the root")
    assert fetch(backend, f"{full}/a/b") == b"below the root"


def test_root_may_be_a_link(backend: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("root")
    assert fetch(DirectoryBackend(tmp_path / "link"), "a/b") == b"content"


def test_8_bit_names_are_the_bytes_that_the_client_sent(backend: DirectoryBackend) -> None:
    name = b"gr\xfc\xdfe.cfg"
    with open(os.path.join(os.fsencode(backend.root), name), "wb") as file:
        file.write(b"latin-1")
    assert fetch(backend, name.decode("utf-8", "surrogateescape")) == b"latin-1"


def times_opened(watched: Path, call: Callable[..., Any]) -> int:
    """How often the file *watched* is opened during call()."""
    libc = ctypes.CDLL(None)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    assert libc.inotify_add_watch(watch, os.fsencode(watched), 0x20) >= 0  # IN_OPEN
    try:
        call()
        try:
            return len(os.read(watch, 4096)) // struct.calcsize("iIII")
        except BlockingIOError:
            return 0
    finally:
        os.close(watch)


def test_fifo_is_neither_waited_for_nor_opened(backend: DirectoryBackend) -> None:
    os.mkfifo(backend.root / "fifo")

    def open_file() -> None:
        with pytest.raises(FileMissing):
            backend.open("fifo", None)

    assert times_opened(backend.root / "fifo", open_file) == 0
    assert times_opened(backend.root / "a" / "b", lambda: fetch(backend, "a/b")) == 1


def test_device_is_not_opened(backend: DirectoryBackend) -> None:
    device = backend.root / "zero"
    try:
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs CAP_MKNOD")

    def open_file() -> None:
        with pytest.raises(FileMissing):
            backend.open("zero", None)

    assert times_opened(device, open_file) == 0


def test_socket_is_missing(backend: DirectoryBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(backend.root)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        with pytest.raises(FileMissing):
            backend.open("socket", None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not read")
def test_unreadable_file_and_directory_are_access_violations(backend: DirectoryBackend) -> None:
    (backend.root / "private").write_bytes(b"x")
    (backend.root / "private").chmod(0)
    (backend.root / "a").chmod(0)
    for parent in backend.root.parents:
        if str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    os.seteuid(65534)
    try:
        for path in ("private", "a/b"):
            with pytest.raises(AccessViolation):
                backend.open(path, None)
    finally:
        os.seteuid(0)


def test_open_file_is_not_affected_by_a_replacement(backend: DirectoryBackend) -> None:
    """protocols.md 7 #24."""
    path = backend.root / "a" / "b"
    reader = backend.open("a/b", None)
    path.rename(backend.root / "old")
    path.write_bytes(b"another")
    assert reader.read(0, 100) == b"content"
    (backend.root / "old").unlink()
    assert reader.read(3, 100) == b"tent"
    reader.close()


def test_shrinking_file_fails_and_appended_bytes_are_not_read(backend: DirectoryBackend) -> None:
    """protocols.md 7 #24: no silent truncation."""
    reader = backend.open("a/b", None)
    with open(backend.root / "a" / "b", "ab") as file:
        file.write(b" and more")
    assert (reader.size, reader.read(0, 100), reader.read(7, 100)) == (7, b"content", b"")
    os.truncate(backend.root / "a" / "b", 5)
    assert reader.read(0, 5) == b"conte"
    for offset in (0, 3, 5, 6):
        with pytest.raises(OSError, match="shorter") as caught:
            reader.read(offset, 100)
        assert caught.value.errno == errno.ESTALE
    reader.close()


def test_all_descriptors_are_closed(backend: DirectoryBackend) -> None:
    before = open_descriptors()
    os.mkfifo(backend.root / "fifo")
    for path in ("a/b", "a", "fifo", "missing", "a/b/c"):
        with suppress(TransferError):
            fetch(backend, path)
    assert open_descriptors() == before


def test_case_matters_unless_it_is_ignored(backend: DirectoryBackend) -> None:
    with pytest.raises(FileMissing):
        backend.open("A/B", None)


def test_ignoring_case(backend: DirectoryBackend) -> None:
    backend.ignore_case = True
    boot = backend.root / "boot"
    boot.mkdir()
    (boot / "bcd").write_bytes(b"lower")
    assert fetch(backend, "\\Boot\\BCD") == b"lower"
    (boot / "Bcd").write_bytes(b"mixed")
    assert fetch(backend, "boot/BCD") == b"mixed"  # the first in byte order
    (boot / "BCD").write_bytes(b"upper")
    assert fetch(backend, "boot/BCD") == b"upper"
    assert fetch(backend, "boot/bcd") == b"lower"
    with pytest.raises(FileMissing):
        backend.open("BOOT/BCD.LOG", None)
    with pytest.raises(FileMissing):
        backend.open("A/B/C", None)


@pytest.mark.parametrize("path", ["../SECRET", "OUT", "UP/SECRET", "A/../../SECRET", "LOOP/X"])
def test_ignoring_case_does_not_leave_the_root(backend: DirectoryBackend, path: str) -> None:
    backend.ignore_case = True
    (backend.root / "out").symlink_to("../secret")
    (backend.root / "up").symlink_to("..")
    (backend.root / "loop").symlink_to("loop")
    with pytest.raises(FileMissing):
        backend.open(path, None)


def test_ignoring_case_follows_links_and_dots(backend: DirectoryBackend) -> None:
    backend.ignore_case = True
    (backend.root / "link").symlink_to("/a")
    assert fetch(backend, "LINK/B") == b"content"
    assert fetch(backend, "A/../LINK/../A/B") == b"content"


def test_missing_root_is_a_missing_file_and_a_problem(tmp_path: Path) -> None:
    backend = DirectoryBackend(tmp_path / "missing")
    with pytest.raises(FileMissing):
        backend.open("x", None)
    assert backend.problem() == f"{tmp_path}/missing: No such file or directory"
    (tmp_path / "missing").write_text("a file")
    assert backend.problem() == f"{tmp_path}/missing: Not a directory"
    (tmp_path / "missing").unlink()
    (tmp_path / "missing").mkdir()
    assert backend.problem() == ""
    (tmp_path / "missing" / "x").write_bytes(b"now")
    assert fetch(backend, "x") == b"now"


def test_root_is_relative_to_the_configuration_file(tmp_path: Path) -> None:
    context = PluginContext(reactor=None, directory=tmp_path)
    assert of_type(DirectoryBackend, plugin.configure({"root": "boot"}, context)).root == tmp_path / "boot"
    backend = of_type(DirectoryBackend, plugin.configure({"root": "/srv/boot", "ignore-case": True}, context))
    assert (str(backend.root), backend.ignore_case) == ("/srv/boot", True)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({}, ()),
        ({"root": ""}, ("root",)),
        ({"root": "a\0b"}, ("root",)),
        ({"root": 1}, ("root",)),
        ({"root": "x", "ignore-case": "yes"}, ("ignore-case",)),
        ({"root": "x", "resolve": "y"}, ("resolve",)),
        ({"root": "x", "reactor": "y"}, ("reactor",)),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, str | int], path: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin.configure(options, PluginContext(reactor=None, directory=tmp_path))
    assert caught.value.path == path


# Versions


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is so late that every file has changed long ago."""
    monkeypatch.setattr("bootfw.readers.time.time_ns", lambda: 2**62)


def opened_version(backend: DirectoryBackend, path: str) -> object:
    reader = backend.open(path, None)
    reader.close()
    return reader.identity


@pytest.mark.usefixtures("settled")
def test_the_version_is_that_of_the_reader(backend: DirectoryBackend, tmp_path: Path) -> None:
    verifyObject(IVersionedBackend, backend)
    first = backend.version("a/b", None)
    assert first is not None
    assert first == opened_version(backend, "a/b")
    (tmp_path / "root" / "a" / "b").write_bytes(b"another content")
    assert first != backend.version("a/b", None) == opened_version(backend, "a/b")
    other = tmp_path / "root2"
    (other / "a").mkdir(parents=True)
    (other / "a" / "b").write_bytes(b"third")
    (tmp_path / "root").rename(tmp_path / "old")
    other.rename(tmp_path / "root")
    assert backend.version("a/b", None) == opened_version(backend, "a/b"), "the root may be replaced"
    assert fetch(backend, "a/b") == b"third"


def test_a_file_that_has_just_changed_has_no_version(backend: DirectoryBackend) -> None:
    assert backend.version("a/b", None) is None


@pytest.mark.usefixtures("settled")
def test_versions_leave_nothing_open(backend: DirectoryBackend) -> None:
    before = open_descriptors()
    backend.version("a/b", None)
    backend.version("a", None)
    assert open_descriptors() == before


@pytest.mark.usefixtures("settled")
def test_version_of_a_missing_file_raises_file_missing(backend: DirectoryBackend) -> None:
    with pytest.raises(FileMissing):
        backend.version("a/none", None)
    assert DirectoryBackend(backend.root, ignore_case=True).version("A/B", None) is None, "a/b would be served"
    assert backend.version(f"{backend.root}/a/b", None) is None, "a/b would be served"


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "path", ["link", "absolute", "up", "directory/b", "loop", "a", "a/b/c", "fifo", "", "a/../a/b"]
)
def test_paths_that_only_open_can_resolve_have_no_version(backend: DirectoryBackend, path: str) -> None:
    root = backend.root
    (root / "link").symlink_to("a/b")
    (root / "absolute").symlink_to("/a/b")
    (root / "up").symlink_to("../secret")
    (root / "directory").symlink_to("a")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "fifo")
    assert backend.version(path, None) is None


@pytest.mark.usefixtures("settled")
def test_files_below_a_root_that_is_a_link_have_no_version(backend: DirectoryBackend, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("root")
    assert DirectoryBackend(tmp_path / "current").version("a/b", None) is None


@pytest.mark.usefixtures("settled")
def test_a_file_system_that_can_hang_is_not_accessed_for_a_version(backend: DirectoryBackend, tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(f"1 0 0:1 / {backend.root}/a rw - nfs4 server:/a rw\n")
    accessed: list[bytes] = []

    def record(path: bytes) -> int:
        accessed.append(path)
        raise OSError(errno.ELOOP, "")

    backend_with_mounts = DirectoryBackend(
        backend.root, reactor=object(), without_links=record, mounts=MountTable(table)
    )
    assert backend_with_mounts.version("a/b", None) is None
    assert accessed == []
    assert backend_with_mounts.version("etc/hosts", None) is None
    assert accessed == [os.fsencode(backend.root / "etc/hosts")]


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("error", [errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EIO])
def test_there_is_no_version_when_opening_without_links_fails(backend: DirectoryBackend, error: int) -> None:
    def refused(path: bytes) -> int:
        raise OSError(error, os.strerror(error))

    assert DirectoryBackend(backend.root, without_links=refused).version("a/b", None) is None
