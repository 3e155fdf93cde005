"""The backend of a directory."""

import os
from pathlib import Path
from typing import Any

import pytest
from tftp.backend import FilesystemReader, FilesystemSynchronousBackend, FilesystemWriter, IBackend, IReader, IWriter
from tftp.errors import AccessViolation, FileExists, FileNotFound, Unsupported
from twisted.internet.defer import Deferred
from twisted.python.filepath import FilePath
from zope.interface.verify import verifyObject


def result_of(deferred: "Deferred[Any]") -> Any:
    results: list[Any] = []
    deferred.addBoth(results.append)
    [result] = results
    return result


def path_of(path: Path) -> Any:
    return FilePath(str(path))


def test_the_interfaces_are_kept(tmp_path: Path) -> None:
    backend = FilesystemSynchronousBackend(str(tmp_path))
    verifyObject(IBackend, backend)
    writer = result_of(backend.get_writer(b"new/file"))
    verifyObject(IWriter, writer)
    writer.write(b"content")
    writer.finish()
    reader = result_of(backend.get_reader(b"/new/file/"))
    verifyObject(IReader, reader)
    assert (reader.size, reader.read(7), reader.read(7), reader.read(7), reader.size) == (7, b"content", b"", b"", None)


@pytest.mark.parametrize("base", [str, os.fsencode, path_of], ids=["text", "bytes", "FilePath"])
@pytest.mark.parametrize("name", [b"../file", b"/../../etc/passwd", b"a/../../file", b"a\0b"])
def test_path_outside_of_the_root_is_refused(base: Any, name: bytes, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").touch()
    backend = FilesystemSynchronousBackend(base(tmp_path / "root"))
    for answer in (backend.get_reader(name), backend.get_writer(name)):
        assert result_of(answer).check(AccessViolation)


def test_symbolic_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "root" / "link").symlink_to("../file")
    assert result_of(FilesystemSynchronousBackend(tmp_path / "root").get_reader(b"link")).read(7) == b"content"


def test_either_direction_can_be_refused(tmp_path: Path) -> None:
    backend = FilesystemSynchronousBackend(tmp_path, can_read=False, can_write=False)
    for answer in (backend.get_reader(b"file"), backend.get_writer(b"file")):
        assert result_of(answer).check(Unsupported)


def test_special_file_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("directory", "pipe", "missing"):
        with pytest.raises(FileNotFound):
            FilesystemReader(path_of(tmp_path / name))


def test_an_upload_is_seen_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    writer = FilesystemWriter(path_of(path))
    writer.write(b"whole")
    assert path.read_bytes() == b""
    with pytest.raises(FileExists):
        FilesystemWriter(path_of(path))
    writer.finish()
    assert path.read_bytes() == b"whole"
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    writer.cancel()
    assert path.read_bytes() == b"whole"


def test_an_upload_that_fails_leaves_nothing(tmp_path: Path) -> None:
    writer = FilesystemWriter(path_of(tmp_path / "file"))
    writer.write(b"half")
    writer.cancel()
    writer.finish()
    assert list(tmp_path.iterdir()) == []
