"""The archive backend, in addition to the contract tests for every kind of archive."""

import bz2
import errno
import gc
import gzip
import io
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from archives import MAKERS, make_iso, make_tar, make_zip
from backendcontent import content
from descriptors import open_descriptors
from narrowing import of_type
from threads import Threads
from twisted.internet.defer import CancelledError
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from bootfw.api import ConfigError, FileMissing, FileReader, IStartable, PluginContext, TemporarilyUnavailable
from bootfw.backends.archive import packing
from bootfw.backends.archive.backend import ArchiveBackend, plugin
from bootfw.backends.archive.contents import ArchiveError
from bootfw.backends.archive.iso import read_iso
from bootfw.backends.archive.reader import PiecesReader
from bootfw.net.tftp.framecache import FrameCache

FILES = {"install/vmlinuz": b"kernel", "install/initrd.gz": b"initrd" * 1000, "readme": b"read me"}


@pytest.fixture(autouse=True, scope="module")
def _collect_garbage_of_failures() -> Iterator[None]:
    """Failures keep their frames, and the open archives in them, until they are collected."""
    yield
    gc.collect()


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    logged: list[str] = []

    def error(self: object, text: str, **values: Any) -> None:
        logged.append(text.format(**values))

    monkeypatch.setattr("twisted.logger.Logger.error", error)
    return logged


def open_files() -> list[str]:
    return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in open_descriptors() if _is_open(fd))


def _is_open(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


@pytest.mark.parametrize("kind", MAKERS)
def test_prefix_and_path(tmp_path: Path, kind: str) -> None:
    files = {"install/sub/vmlinuz": b"kernel", "readme": b"read me"}
    MAKERS[kind](tmp_path / kind, files)
    backend = ArchiveBackend(tmp_path / kind, prefix="/debian/12/", path="install")
    assert content(backend, "debian/12/sub/vmlinuz") == b"kernel"
    for path in ("sub/vmlinuz", "debian/sub/vmlinuz", "debian/12", "debian/12/readme", "debian/12/../../readme", ""):
        assert content(backend, path) == "missing", path
    assert content(backend, "debian/12/../12/sub/./vmlinuz") == b"kernel"
    assert content(backend, "debian/12/../../../debian/12/sub/vmlinuz") == b"kernel"


LINKS = {
    "linux": "install/vmlinuz",
    "current": "install",
    "install/up": "../readme",
    "far": "/install/vmlinuz",
    "above": "../../../../readme",
    "outside": "/etc/passwd",
    "loop": "pool",
    "pool": "loop",
    "dangling": "nothing",
}


@pytest.mark.parametrize("kind", ["links.iso", "links.tar", "links.zip"])
def test_links_are_followed_inside(tmp_path: Path, kind: str) -> None:
    if kind == "links.iso":
        make_iso(tmp_path / kind, FILES, LINKS)
    elif kind == "links.tar":
        make_tar(tmp_path / kind, FILES, LINKS)
    else:
        make_zip(tmp_path / kind, FILES)
        with zipfile.ZipFile(tmp_path / kind, "a") as archive:
            for name, target in LINKS.items():
                info = zipfile.ZipInfo(name)
                info.external_attr = 0o120777 << 16
                archive.writestr(info, target)
    backend = ArchiveBackend(tmp_path / kind)
    for path in ("linux", "current/vmlinuz", "far", "install/../linux"):
        assert content(backend, path) == b"kernel", path
    for path in ("install/up", "above", "current/../readme", "current/up"):
        assert content(backend, path) == b"read me", path
    for path in ("outside", "loop", "pool/x", "dangling", "current"):
        assert content(backend, path) == "missing", path


def test_hard_links_in_a_tar(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", FILES)
    with tarfile.open(tmp_path / "a.tar", "a") as archive:
        for name, target in (("linux", "./install/vmlinuz"), ("nothing", "not/there")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
    backend = ArchiveBackend(tmp_path / "a.tar")
    assert content(backend, "linux") == b"kernel"
    assert content(backend, "nothing") == "missing"


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    logged: list[str] = []
    monkeypatch.setattr("twisted.logger.Logger.warn", lambda self, text, **values: logged.append(text.format(**values)))
    return logged


@pytest.mark.parametrize("options", [[], ["--gzip"], ["--format=posix"], ["--format=gnu", "--xz"]], ids=" ".join)
def test_a_sparse_member_is_served_with_its_holes(tmp_path: Path, warnings: list[str], options: list[str]) -> None:
    """``tar --sparse`` packs disk images so."""
    data = bytes(1 << 20) + b"middle" * 1000 + bytes(1 << 20) + b"end"
    with (tmp_path / "disk.img").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"middle" * 1000)
        file.seek((1 << 20) + 6000 + (1 << 20))
        file.write(b"end")
    (tmp_path / "behind").write_bytes(b"behind")
    subprocess.run(["tar", "--sparse", *options, "-cf", "a.tar", "disk.img", "behind"], cwd=tmp_path, check=True)
    backend = ArchiveBackend(tmp_path / "a.tar")
    with closing(backend.open("disk.img", None)) as reader:
        assert reader.size == len(data)
        assert reader.read(0, len(data)) == data
    assert content(backend, "behind") == b"behind"
    assert warnings == []


def test_a_sparse_member_of_an_archive_that_was_cut_off(tmp_path: Path, errors: list[str]) -> None:
    with (tmp_path / "disk.img").open("wb") as file:
        file.seek(1 << 20)
        file.write(b"x" * 100_000)
    subprocess.run(["tar", "--sparse", "-cf", "a.tar", "disk.img"], cwd=tmp_path, check=True)
    os.truncate(tmp_path / "a.tar", 50_000)
    assert content(ArchiveBackend(tmp_path / "a.tar"), "disk.img") == "missing"
    assert len(errors) == 1


def test_hard_links_that_come_before_their_file_and_links_to_nothing(tmp_path: Path, warnings: list[str]) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, target in (("linux", "./install/vmlinuz"), ("nothing", "not/there")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.LNKTYPE, target
            archive.addfile(member)
        member = tarfile.TarInfo("install/vmlinuz")
        member.size = 6
        archive.addfile(member, io.BytesIO(b"kernel"))
    backend = ArchiveBackend(tmp_path / "a.tar")
    assert content(backend, "linux") == content(backend, "install/vmlinuz") == b"kernel"
    assert content(backend, "nothing") == "missing"
    (logged,) = warnings
    assert logged.endswith("nothing is not served: it is a hard link to not/there, which is not in the archive")


def patch_zip(path: Path, name: str, *, flags: int = 0, method: int | None = None) -> None:
    """Change both headers of a member: its flags, its compression method."""
    data = bytearray(path.read_bytes())
    for signature, flags_at, name_at in ((b"PK\x03\x04", 6, 30), (b"PK\x01\x02", 8, 46)):
        start = data.index(signature)
        while data[start + name_at : start + name_at + len(name)] != name.encode():
            start = data.index(signature, start + 1)
        data[start + flags_at] |= flags
        if method is not None:
            data[start + flags_at + 2] = method
    path.write_bytes(data)


def test_unreadable_members_of_a_zip_are_logged_and_the_others_served(
    tmp_path: Path, warnings: list[str], errors: list[str]
) -> None:
    names = ("secret", "deflate64", "damaged", "good")
    make_zip(tmp_path / "a.zip", {name: name.encode() * 100 for name in names})
    patch_zip(tmp_path / "a.zip", "secret", flags=1)
    patch_zip(tmp_path / "a.zip", "deflate64", method=9)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        offset = archive.getinfo("damaged").header_offset
    data[offset : offset + 4] = b"XXXX"
    (tmp_path / "a.zip").write_bytes(data)
    backend = ArchiveBackend(tmp_path / "a.zip")
    assert content(backend, "good") == b"good" * 100
    assert [content(backend, name) for name in names[:3]] == ["missing"] * 3
    assert [logged.partition("a.zip: ")[2].partition(" is not served: ")[::2] for logged in warnings] == [
        ("secret", "it is encrypted"),
        ("deflate64", "it is compressed by method 9, which is not known here: store it, or use deflate"),
        ("damaged", "it is damaged: damaged is not where the directory says"),
    ]
    assert errors == []


def test_a_packed_member_whose_header_is_damaged_fails_alone(tmp_path: Path, errors: list[str]) -> None:
    make_zip(tmp_path / "a.zip", {"bad": b"bad" * 1000, "good": b"good" * 1000}, zipfile.ZIP_DEFLATED)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[:4] = b"PK\x03\x04"
    data[26] = 200  # the length of its name
    (tmp_path / "a.zip").write_bytes(data)
    backend = ArchiveBackend(tmp_path / "a.zip")
    assert content(backend, "bad") == "It can't be unpacked"
    assert content(backend, "good") == b"good" * 1000
    assert len(errors) == 1


def test_only_some_members_that_are_left_out_are_logged(tmp_path: Path, warnings: list[str]) -> None:
    make_zip(tmp_path / "a.zip", {f"file{number:02}": b"x" for number in range(15)} | {"good": b"good"})
    for number in range(15):
        patch_zip(tmp_path / "a.zip", f"file{number:02}", flags=1)
    assert content(ArchiveBackend(tmp_path / "a.zip"), "good") == b"good"
    assert len(warnings) == 11
    assert warnings[-1].endswith("5 more members are not served")


def test_a_packed_zip_inside_gzip(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"good": b"good" * 1000}, zipfile.ZIP_DEFLATED)
    (tmp_path / "a.zip.gz").write_bytes(gzip.compress((tmp_path / "a.zip").read_bytes()))
    assert content(ArchiveBackend(tmp_path / "a.zip.gz"), "good") == b"good" * 1000


def test_members_outside_of_the_archive_root_are_ignored(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", {"../../evil": b"evil", "good": b"good"})
    backend = ArchiveBackend(tmp_path / "a.tar")
    assert content(backend, "good") == b"good"
    assert content(backend, "evil") == content(backend, "../../evil") == "missing"


def test_case_is_ignored_if_configured(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", {"Boot/BCD": b"bcd"})
    assert content(ArchiveBackend(tmp_path / "a.tar"), "boot/bcd") == "missing"
    assert content(ArchiveBackend(tmp_path / "a.tar", ignore_case=True), "BOOT/bcd") == b"bcd"
    make_iso(tmp_path / "a.iso", {"boot/linux.img": b"linux"}, view="plain")
    assert content(ArchiveBackend(tmp_path / "a.iso"), "BOOT/Linux.IMG") == b"linux"


@pytest.mark.parametrize("kind", ["rock-ridge.iso", "plain.tar", "a.tar.gz", "deflated.zip"])
def test_replaced_archive_is_used_for_the_next_request(tmp_path: Path, kind: str) -> None:
    path, new = tmp_path / kind, tmp_path / "new"
    MAKERS[kind](path, {"a": b"old" * 1000, "gone": b"x"})
    backend = ArchiveBackend(path)
    with closing(backend.open("a", None)) as old:
        MAKERS[kind](new, {"a": b"new" * 1000, "more": b"y"})
        os.replace(new, path)
        assert content(backend, "a") == b"new" * 1000
        assert content(backend, "gone") == "missing"
        assert content(backend, "more") == b"y"
        assert old.read(0, 6000) == b"old" * 1000
        with closing(backend.open("a", None)) as reader:
            assert reader.etag != old.etag
    path.unlink()
    assert content(backend, "a") == "missing"


def test_archive_is_opened_when_the_first_file_is_requested(tmp_path: Path) -> None:
    backend = ArchiveBackend(tmp_path / "later.tar")
    assert content(backend, "readme") == "missing"
    make_tar(tmp_path / "later.tar", FILES)
    assert content(backend, "readme") == b"read me"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("text.iso", b"no archive at all"),
        ("empty.tar", b""),
        ("head.zip", b"PK\x03\x04" + bytes(100)),
        ("text.tar.gz", gzip.compress(b"no archive", mtime=0)),
        ("damaged.tar.gz", gzip.compress(bytes(100_000), mtime=0)[:-20]),
        ("damaged.tar.xz", lzma.compress(bytes(100_000))[:-20]),
        ("damaged.tar.bz2", bz2.compress(os.urandom(100_000))[:-20]),
        ("damaged.tar.zst", b"\x28\xb5\x2f\xfd" + bytes(range(100))),
        ("descriptor.iso", bytes(32768) + b"\1CD001\1" + bytes(5000)),
    ],
)
def test_an_unreadable_archive_is_logged_once_and_its_files_are_missing(
    tmp_path: Path, errors: list[str], name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    backend = ArchiveBackend(tmp_path / name)
    before = open_files()
    assert content(backend, "a") == content(backend, "a") == "missing"
    assert len(errors) == 1
    assert name in errors[0]
    assert open_files() == before
    make_tar(tmp_path / name, {"a": b"repaired"})
    assert content(backend, "a") == b"repaired"


def test_files_behind_the_end_of_a_truncated_archive_are_missing(tmp_path: Path) -> None:
    """The archive is a download that was cut off: the files in its first part are served."""
    make_iso(tmp_path / "a.iso", {"first": b"1" * 5000, "second": b"2" * 500_000})
    image = (tmp_path / "a.iso").read_bytes()
    (tmp_path / "a.iso").write_bytes(image[: image.index(b"2" * 5000) + 100_000])
    backend = ArchiveBackend(tmp_path / "a.iso")
    assert content(backend, "first") == b"1" * 5000
    assert content(backend, "second") == "missing"


def test_truncated_archive_fails_the_read(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", {"a": b"x" * 5000})
    with closing(ArchiveBackend(tmp_path / "a.tar").open("a", None)) as reader:
        os.truncate(tmp_path / "a.tar", 1000)
        with pytest.raises(OSError, match="shorter"):
            reader.read(0, 5000)


def test_unpacked_size_is_limited(tmp_path: Path, errors: list[str]) -> None:
    make_tar(tmp_path / "a.tar.gz", {"a": bytes(100_000)}, mode="w:gz")
    assert content(ArchiveBackend(tmp_path / "a.tar.gz", unpack_size=50_000), "a") == "missing"
    assert "unpack-size" in errors[0]
    make_zip(tmp_path / "a.zip", {"a": bytes(60_000), "b": bytes(10_000)}, zipfile.ZIP_DEFLATED)
    backend = ArchiveBackend(tmp_path / "a.zip", unpack_size=50_000)
    assert content(backend, "a") == "Too large to be unpacked here"
    assert content(backend, "b") == bytes(10_000)


def test_member_larger_than_its_header_fails(tmp_path: Path, errors: list[str]) -> None:
    make_zip(tmp_path / "a.zip", {"a": bytes(60_000)}, zipfile.ZIP_DEFLATED)
    data = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(data.replace((60_000).to_bytes(4, "little"), (60).to_bytes(4, "little")))
    assert content(ArchiveBackend(tmp_path / "a.zip"), "a") == "It can't be unpacked"
    assert "a.zip" in errors[0]


def test_most_recently_used_members_stay_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: name.encode() * 30_000 for name in "abc"}
    make_zip(tmp_path / "a.zip", files, zipfile.ZIP_DEFLATED)
    backend = ArchiveBackend(tmp_path / "a.zip", unpack_size=70_000)
    times: list[int] = []

    def unpack(*arguments: Any) -> Any:
        times.append(1)
        return packing.unpack(*arguments)

    monkeypatch.setattr("bootfw.backends.archive.opened.unpack", unpack)
    for name in "ababcb":
        assert content(backend, name) == files[name]
    assert len(times) == 3, "a, b and c once each"
    reader = backend.open("c", None)
    assert content(backend, "a") == files["a"]
    assert content(backend, "b") == files["b"]
    assert reader.read(0, 100_000) == files["c"], "a transfer keeps a member that was dropped from the cache"
    reader.close()
    assert len(times) == 5


@pytest.mark.parametrize("kind", ["a.tar.gz", "deflated.zip", "rock-ridge.iso"])
def test_threads_do_the_long_work_once_for_all(tmp_path: Path, kind: str) -> None:
    MAKERS[kind](tmp_path / kind, FILES)
    threads = Threads()
    backend = ArchiveBackend(tmp_path / kind, reactor=threads)
    found: list[Any] = []
    for path in ("readme", "readme", "install/vmlinuz", "nothing"):
        backend.open(path, None).addBoth(found.append)
    assert found == []
    assert len(threads.jobs) == 1
    assert threads.work() == (3 if kind == "deflated.zip" else 1)
    missing = [each for each in found if isinstance(each, Failure)]
    readers = [each for each in found if not isinstance(each, Failure)]
    assert [failure.type for failure in missing] == [FileMissing]
    assert sorted(reader.read(0, 100) for reader in readers) == [b"kernel", b"read me", b"read me"]
    for reader in readers:
        reader.close()
    assert content(backend, "readme") == b"read me"
    assert threads.work() == 0


def test_a_cancelled_request_leaves_nothing_open(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_DEFLATED)
    threads = Threads()
    backend = ArchiveBackend(tmp_path / "a.zip", reactor=threads)
    assert content(backend, "install/vmlinuz") == b"kernel"
    before = open_files()
    first, second = (backend.open("readme", None) for _ in range(2))
    first.cancel()
    first.addErrback(lambda failure: failure.trap(CancelledError))
    second.cancel()
    second.addErrback(lambda failure: failure.trap(CancelledError))
    assert threads.work() == 1
    assert len(open_files()) == len(before) + 1, "the member itself, unpacked"
    assert content(backend, "readme") == b"read me"


def test_without_descriptors_a_request_fails_and_the_next_one_does_not_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dup(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    make_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_DEFLATED)
    backend = ArchiveBackend(tmp_path / "a.zip", reactor=Threads())
    assert content(backend, "install/vmlinuz") == b"kernel"
    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", dup)
        with pytest.raises(TemporarilyUnavailable):
            backend.open("readme", None)
    assert content(backend, "readme") == b"read me"


def test_archive_is_replaced_while_a_thread_unpacks(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", {"a": b"old"}, zipfile.ZIP_DEFLATED)
    threads = Threads()
    backend = ArchiveBackend(tmp_path / "a.zip", reactor=threads)
    assert content(backend, "a") == b"old"
    make_zip(tmp_path / "a.zip", {"a": b"old", "b": b"bbb"}, zipfile.ZIP_DEFLATED)
    found: list[Any] = []
    backend.open("b", None).addBoth(found.append)
    done, call = threads.jobs.pop(0)
    done(True, call())  # the archive is open
    done, call = threads.jobs.pop(0)
    unpacked = call()
    make_zip(tmp_path / "new.zip", {"b": b"new"}, zipfile.ZIP_DEFLATED)
    os.replace(tmp_path / "new.zip", tmp_path / "a.zip")
    assert content(backend, "b") == b"new"
    done(True, unpacked)
    assert len(found) == 1
    assert found[0].read(0, 10) == b"new"
    found[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(unpacked)


def test_a_file_in_pieces(tmp_path: Path) -> None:
    """ISO 9660 has files of 4 GB and more in pieces, and UDF those of 1 GB."""
    (tmp_path / "a").write_bytes(b"..abc...defgh.ij.")
    file = FileReader(os.open(tmp_path / "a", os.O_RDONLY))
    reader = PiecesReader(file, ((2, 3), (8, 5), (14, 2)), 0.0, "etag", 0.0)
    assert reader.size == 10
    for offset in range(12):
        for length in range(12):
            assert reader.read(offset, length) == b"abcdefghij"[offset : offset + length]
    reader.close()


@pytest.mark.parametrize("kind", ["rock-ridge.iso", "plain.tar", "stored.zip"])
def test_transfers_share_the_unpacked_member(tmp_path: Path, kind: str) -> None:
    """The frame cache of net/tftp/framecache.py reads the member at its offset in the archive."""
    files = {name: name.encode() * 5000 for name in "ab"}
    MAKERS[kind](tmp_path / kind, files)
    backend, frame_cache = ArchiveBackend(tmp_path / kind), FrameCache(1 << 20)
    with (
        closing(backend.open("a", None)) as a,
        closing(backend.open("b", None)) as b,
        closing(backend.open("b", None)) as c,
    ):
        assert b.start > 0
        # A file that has just changed may change again in the same tick of its clock: it has no identity yet.
        for reader in (a, b, c):
            reader.identity = (1, reader.start, reader.size)
        chunk = frame_cache.chunk(b, 512, 1)
        assert chunk is not None
        assert bytes(chunk.view[:516]) == b"\0\3\0\1" + b"b" * 512
        assert frame_cache.chunk(c, 512, 2) is chunk
        assert frame_cache.chunk(a, 512, 1) is not chunk


@pytest.mark.parametrize("kind", ["rock-ridge.iso", "plain.tar", "deflated.zip"])
def test_a_copy_of_the_archive_has_the_same_entity_tags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Another node may have a copy by rsync or tar: another file, with the same time in whole seconds."""
    monkeypatch.setattr("bootfw.backends.archive.opened._SETTLED", -1.0)
    found = []
    for number, modified in enumerate((1_600_000_000.5, 1_600_000_000)):
        (directory := tmp_path / str(number)).mkdir()
        path = directory / kind
        MAKERS[kind](path, {"a": b"a" * 1000, "b": b"b" * 1000})
        os.utime(path, (modified, modified))
        backend = ArchiveBackend(path)
        tags = []
        for name in ("a", "b"):
            assert content(backend, name) == name.encode() * 1000
            with closing(backend.open(name, None)) as reader:
                tags.append(reader.etag)
        found.append(tags)
    assert found[0] == found[1]
    assert found[0][0] != found[0][1]


def test_each_member_has_its_own_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tar(tmp_path / "a.tar", {"a": b"1", "b": b"2", "empty": b""})
    monkeypatch.setattr("time.time_ns", lambda: 1 << 62)
    backend = ArchiveBackend(tmp_path / "a.tar")
    readers = [backend.open(path, None) for path in ("a", "b", "empty", "a")]
    assert len({reader.identity for reader in readers}) == 3
    assert len({reader.etag for reader in readers}) == 3
    assert None not in {reader.identity for reader in readers}
    assert readers[0].changed <= time.time()
    for reader in readers:
        reader.close()


Command = Callable[[Path, Path], list[str | Path]]
"""Returns the command line that creates an image of a tree."""


def _xorriso(image: Path, tree: Path) -> list[str | Path]:
    return ["xorriso", "-as", "mkisofs", "-quiet", "-R", "-J", "-o", image, tree]


def _genisoimage(*options: str) -> Command:
    return lambda image, tree: ["genisoimage", "-quiet", *options, "-o", image, tree]


@pytest.mark.parametrize(
    "command",
    [_xorriso, _genisoimage("-R", "-J"), _genisoimage("-R", "-D"), _genisoimage("-J"), _genisoimage("-udf", "-J")],
    ids=["xorriso", "rock-ridge-and-joliet", "rock-ridge", "joliet", "udf"],
)
def test_images_of_other_programs_are_read(tmp_path: Path, command: Command) -> None:
    line = command(tmp_path / "a.iso", tmp_path / "tree")
    if shutil.which(line[0]) is None:
        pytest.skip(f"{line[0]} is not installed")
    files = {"d/" * 9 + "deep": b"deep", "A name With.many.dots and blanks": b"name", "empty": b"", **FILES}
    for name, data in files.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(data)
    rock_ridge = "-R" in line
    if rock_ridge:
        (tmp_path / "tree/linux").symlink_to("install/vmlinuz")
    if not rock_ridge:
        del files["d/" * 9 + "deep"]  # ISO 9660 allows eight directories in each other
        shutil.rmtree(tmp_path / "tree/d")
    subprocess.run(line, check=True, capture_output=True)
    backend = ArchiveBackend(tmp_path / "a.iso")
    assert {path: content(backend, path) for path in files} == files
    if rock_ridge:
        assert content(backend, "linux") == b"kernel"


@pytest.fixture
def context(tmp_path: Path) -> PluginContext:
    return PluginContext(None, tmp_path)


def test_options_are_configured(tmp_path: Path, context: PluginContext) -> None:
    make_tar(tmp_path / "a.tar", FILES)
    backend = of_type(ArchiveBackend, plugin.configure({"file": "a.tar", "prefix": "x", "path": "install"}, context))
    assert content(backend, "x/vmlinuz") == b"kernel"
    assert backend.problem() == ""


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"file": ""}, "file"),
        ({"file": "a\0b"}, "file"),
        ({"file": "a.tar", "prefix": "../x"}, "prefix"),
        ({"file": "a.tar", "path": "x/.."}, "path"),
        ({"file": "a.tar", "unpack-size": -1}, "unpack-size"),
    ],
)
def test_wrong_options(context: PluginContext, options: dict[str, object], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        plugin.configure(options, context)
    assert caught.value.path == (key,)


def test_images_need_pycdlib(context: PluginContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycdlib", None)
    with pytest.raises(ConfigError, match=r"bootfw\[iso\]"):
        plugin.configure({"file": "a.iso"}, context)


def test_tars_of_zstd_need_zstandard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[str]) -> None:
    MAKERS["a.tar.zst"](tmp_path / "a.tar.zst", FILES)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert content(ArchiveBackend(tmp_path / "a.tar.zst"), "readme") == "missing"
    assert "bootfw[zstd]" in errors[0]


def test_unused_backend_closes_its_files(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_DEFLATED)
    gc.collect()
    before = open_files()
    assert content(ArchiveBackend(tmp_path / "a.zip"), "readme") == b"read me"
    gc.collect()
    assert open_files() == before


def test_stopped_service_closes_files_and_can_restart(tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip", FILES, zipfile.ZIP_DEFLATED)
    backend = ArchiveBackend(tmp_path / "a.zip")
    verifyObject(IStartable, backend)
    before = open_files()
    for _ in range(2):
        backend.start(None)
        assert content(backend, "readme") == b"read me"
        backend.close()
        assert open_files() == before


def test_service_is_stopped_while_a_thread_opens_the_archive(tmp_path: Path) -> None:
    make_tar(tmp_path / "a.tar", FILES)
    threads, before = Threads(), open_files()
    backend = ArchiveBackend(tmp_path / "a.tar", reactor=threads)
    waiting = backend.open("readme", None)
    waiting.addErrback(lambda failure: failure.trap(CancelledError))
    waiting.cancel()
    backend.close()
    assert threads.work() == 1
    assert open_files() == before
    assert content(backend, "readme") == b"read me"


def test_missing_archive_is_a_problem(tmp_path: Path) -> None:
    assert "No such file" in ArchiveBackend(tmp_path / "a.iso").problem()
    assert "regular file" in ArchiveBackend(tmp_path).problem()


def test_an_image_with_a_damaged_rock_ridge_entry_is_an_archive_error(tmp_path: Path) -> None:
    path = tmp_path / "image.iso"
    make_iso(path, FILES)
    data = path.read_bytes()
    entry = data.index(b"F0.;1RR") + len(b"F0.;1")
    damaged = data[:entry] + bytes(2) + data[entry + 2 :]
    with pytest.raises(ArchiveError, match="no ISO 9660 image that can be read"):
        read_iso(io.BytesIO(damaged), len(damaged))
