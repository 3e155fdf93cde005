"""The memory backend."""

from pathlib import Path

import pytest
from narrowing import of_type

from bootfw.api import (
    ConfigError,
    FileAlreadyExists,
    FileMissing,
    IllegalOperation,
    MemoryReader,
    PluginContext,
)
from bootfw.backends.memory import MemoryBackend, plugin


def fetch(backend: MemoryBackend, path: str) -> bytes:
    return of_type(bytes, backend.open(path, None).read(0, 100))


def test_text_is_encoded_as_utf_8_and_bytes_are_served_unchanged() -> None:
    backend = MemoryBackend({"boot.ipxe": "#!ipxe\n# ü", "raw": b"\xff"})
    assert fetch(backend, "boot.ipxe") == b"#!ipxe\n# \xc3\xbc"
    assert fetch(backend, "raw") == b"\xff"


@pytest.mark.parametrize("configured", ["a/b", "/a/b", "a\\b", "a//./b"])
@pytest.mark.parametrize("requested", ["a/b", "\\a\\b", "../a/b", "../../a/b", "a/x/../b", "//a/b"])
def test_spellings_of_one_file(configured: str, requested: str) -> None:
    assert fetch(MemoryBackend({configured: "x"}), requested) == b"x"


@pytest.mark.parametrize("path", ["", "..", "a", "A/B", "a/b/c", "a/b/..", "b"])
def test_other_paths_are_missing(path: str) -> None:
    with pytest.raises(FileMissing):
        MemoryBackend({"a/b": "x"}).open(path, None)


def test_reader_keeps_what_it_opened() -> None:
    backend = MemoryBackend({"a": "old"})
    reader = backend.open("a", None)
    backend.files["a"] = b"new"
    assert (reader.size, reader.read(1, 9), reader.read(3, 9)) == (3, b"ld", b"")


def test_uploads_are_left_to_other_backends_by_default() -> None:
    with pytest.raises(FileMissing):
        MemoryBackend({}).create("x", None)


def test_upload_appears_when_it_is_finished() -> None:
    backend = MemoryBackend(writable=True)
    writer = backend.create("/a\\b", None)
    writer.write(0, b"one")
    writer.write(3, b"two")
    with pytest.raises(FileMissing):
        backend.open("a/b", None)
    writer.finish()
    assert fetch(backend, "a/b") == b"onetwo"


def test_cancelled_upload_leaves_nothing() -> None:
    backend = MemoryBackend(writable=True)
    writer = backend.create("x", None)
    writer.write(0, b"one")
    writer.cancel()
    assert backend.files == {}


def test_upload_does_not_replace_a_file() -> None:
    backend = MemoryBackend({"x": "old"}, writable=True)
    with pytest.raises(FileAlreadyExists):
        backend.create("y/../x", None)
    first, second = backend.create("z", None), backend.create("z", None)
    first.finish()
    with pytest.raises(FileAlreadyExists):
        second.finish()
    with pytest.raises(IllegalOperation):
        backend.create("..", None)


def test_options_are_configured(tmp_path: Path) -> None:
    context = PluginContext(reactor=None, directory=tmp_path)
    backend = of_type(MemoryBackend, plugin.configure({"files": {"a": "text"}, "writable": True}, context))
    assert (backend.files, backend.writable) == ({"a": b"text"}, True)
    invalid: list[tuple[dict[str, object], tuple[str, ...]]] = [
        ({}, ()),
        ({"files": ["a"]}, ("files",)),
        ({"files": {"a": 1}}, ("files", "a")),
        ({"files": {}, "writable": 1}, ("writable",)),
    ]
    for options, path in invalid:
        with pytest.raises(ConfigError) as caught:
            plugin.configure(options, context)
        assert caught.value.path == path


def test_memory_reader_is_public() -> None:
    assert MemoryReader(b"abc").read(1, 1) == b"b"
