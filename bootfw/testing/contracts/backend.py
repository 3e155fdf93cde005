"""IBackend, IReader, IWritableBackend and IWriter."""

import gc
import os
from collections.abc import Mapping
from contextlib import suppress
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.ability import provides
from bootfw.errors import FileAlreadyExists, FileMissing, TransferError
from bootfw.interfaces import IBackend, IReader, IShareableReader, IWritableBackend, IWriter
from bootfw.testing.contracts.answers import Answers
from bootfw.values import TransferRequest

MISSING_PATHS = (
    "",
    "..",
    "no-such-file",
    "no-such-directory/no-such-file",
    "../../../../../../../../etc/passwd",
    "..\\..\\..\\..\\..\\..\\etc\\passwd",
    "proc/self/fd/0",
    "dev/zero",
    "nul\0inside",
    "x" * 300,
    "x/" * 3000,
    "\udcff\udcfe",
    "%s%n{}",
)
"""Paths that no backend has."""


def _descriptors() -> set[tuple[str, str]]:
    """(number, what it is) of each that is open. Garbage is collected first: it may own some, of earlier tests too."""
    gc.collect()
    found = set()
    for number in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else ():
        with suppress(OSError):  # the one of this listing is closed by now
            found.add((number, os.readlink(f"/proc/self/fd/{number}")))
    return found


class BackendContract(Answers):
    """The tests of every backend. Override ``make_backend``, and ``files`` when it can't serve just anything."""

    files: Mapping[str, bytes] = {
        "boot.ipxe": b"#!ipxe\nshell\n",
        "empty": b"",
        "deep/er/down.bin": bytes(range(256)) * 20,
    }
    """What the backend must have: path -> content."""

    def make_backend(self) -> Any:
        """A backend that serves ``files``."""
        raise NotImplementedError

    def request(self, path: str, write: bool = False) -> TransferRequest:
        """The request that open() and create() get."""
        return TransferRequest(path, path, ("192.0.2.9", 2070), local="192.0.2.1", write=write)

    def fetch(self, backend: Any, path: str) -> bytes:
        """The whole file, read as a client with small blocks does."""
        reader = self.answer(backend.open(path, self.request(path)))
        try:
            data = b""
            while block := self.answer(reader.read(len(data), 100)):
                data += block
            return data
        finally:
            reader.close()

    def test_provides_the_interface(self) -> None:
        verifyObject(IBackend, self.make_backend())

    def test_readers_provide_the_interface_and_know_their_size(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            reader = self.answer(backend.open(path, self.request(path)))
            verifyObject(IReader, reader)
            assert reader.size in (None, len(data)), f"{path}: size {reader.size} of {len(data)} bytes"
            reader.close()

    def test_reads_any_place_in_any_order_and_again(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            reader = self.answer(backend.open(path, self.request(path)))
            end = len(data)
            for offset in (0, end // 2, 0, end, max(end - 1, 0), 1, end // 2, end + 1000):
                for length in (1, 512, end + 1):
                    found = self.answer(reader.read(offset, length))
                    assert bytes(found) == data[offset : offset + length], f"{path}: {length} bytes from {offset}"
            reader.close()

    def test_two_readers_of_a_file_do_not_disturb_each_other(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            one, other = (self.answer(backend.open(path, self.request(path))) for _ in range(2))
            assert bytes(self.answer(one.read(0, 1))) == data[:1]
            one.close()
            assert bytes(self.answer(other.read(0, len(data) + 1))) == data
            other.close()

    def test_a_shared_reader_is_there_until_its_last_user_has_closed_it(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            reader = self.answer(backend.open(path, self.request(path)))
            if provides(reader, IShareableReader):
                other = reader.share()
                reader.close()
                reader = other
            assert bytes(self.answer(reader.read(0, len(data) + 1))) == data
            reader.close()

    def test_may_be_closed_while_a_read_is_outstanding(self) -> None:
        backend = self.make_backend()
        for path in self.files:
            reader = self.answer(backend.open(path, self.request(path)))
            given = reader.read(0, 512)
            reader.close()
            if isinstance(given, Deferred):
                given.addErrback(lambda _: None)  # the result is not needed any more
                given.cancel()
            elif iscoroutine(given):
                given.close()

    def test_missing_files_are_missing_files(self) -> None:
        """After another error the next backend would not be tried."""
        backend = self.make_backend()
        for path in ("no-such-file", "no-such-directory/no-such-file"):
            error = self.refusal(backend.open, path, self.request(path))
            assert isinstance(error, FileMissing), f"{path!r}: {error!r}"

    def test_paths_that_lead_nowhere_are_refused_as_transfers_are(self) -> None:
        backend = self.make_backend()
        for path in MISSING_PATHS:
            error = self.refusal(backend.open, path, self.request(path))
            assert isinstance(error, TransferError), f"{path!r}: {error!r}"

    def test_directories_are_no_files(self) -> None:
        backend = self.make_backend()
        for directory in {path.rpartition("/")[0] for path in self.files if "/" in path} - set(self.files):
            error = self.refusal(backend.open, directory, self.request(directory))
            assert isinstance(error, TransferError), f"{directory!r}: {error!r}"

    def test_dots_stop_at_the_root(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            try:
                found = self.fetch(backend, "../../../../" + path)
            except TransferError:
                continue
            assert found == data, f"../../../../{path} is another file"

    def test_messages_are_fit_for_the_peer(self) -> None:
        """They are sent in ERROR packets: short, and without a path of this host."""
        backend = self.make_backend()
        for path in MISSING_PATHS:
            error = self.refusal(backend.open, path, self.request(path))
            message = getattr(error, "message", "")
            assert 0 < len(message) <= 200, repr(message)
            assert os.getcwd() not in message
            assert "Errno" not in message

    def test_nothing_is_left_open(self) -> None:
        backend = self.make_backend()
        for path in self.files:
            self.fetch(backend, path)
        before = _descriptors()
        for path in (*self.files, *MISSING_PATHS):
            try:
                self.fetch(backend, path)
            except TransferError:
                continue
        assert _descriptors() - before == set()


class WritableBackendContract(BackendContract):
    """The tests of a backend that accepts uploads."""

    def upload(self, backend: Any, path: str, *blocks: bytes) -> Any:
        """A writer that has got *blocks* and is not finished."""
        writer = self.answer(backend.create(path, self.request(path, write=True)))
        offset = 0
        for block in blocks:
            self.answer(writer.write(offset, block))
            offset += len(block)
        return writer

    def test_provides_the_writable_interface(self) -> None:
        backend = self.make_backend()
        verifyObject(IWritableBackend, backend)
        writer = self.upload(backend, "new")
        verifyObject(IWriter, writer)
        writer.cancel()

    def test_upload_is_there_when_it_is_finished_and_not_before(self) -> None:
        backend = self.make_backend()
        writer = self.upload(backend, "new", b"a" * 512, b"b" * 512, b"c")
        assert isinstance(self.refusal(backend.open, "new", self.request("new")), FileMissing)
        self.answer(writer.finish())
        assert self.fetch(backend, "new") == b"a" * 512 + b"b" * 512 + b"c"

    def test_empty_upload(self) -> None:
        backend = self.make_backend()
        self.answer(self.upload(backend, "new").finish())
        assert self.fetch(backend, "new") == b""

    def test_cancelled_upload_leaves_the_name_free(self) -> None:
        backend = self.make_backend()
        self.upload(backend, "new", b"first").cancel()
        assert isinstance(self.refusal(backend.open, "new", self.request("new")), FileMissing)
        self.answer(self.upload(backend, "new", b"second").finish())
        assert self.fetch(backend, "new") == b"second"

    def test_files_are_not_replaced(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            error = self.refusal(backend.create, path, self.request(path, write=True))
            assert isinstance(error, FileAlreadyExists), f"{path!r}: {error!r}"
            assert self.fetch(backend, path) == data

    def test_of_two_uploads_of_a_name_one_wins(self) -> None:
        backend = self.make_backend()
        writer = self.upload(backend, "new", b"first")
        error = self.refusal(backend.create, "new", self.request("new", write=True))
        if error is None:
            self.answer(self.upload(backend, "new", b"second").finish())
            error = self.refusal(writer.finish)
            writer.cancel()
            expected = b"second"
        else:
            self.answer(writer.finish())
            expected = b"first"
        assert isinstance(error, FileAlreadyExists), repr(error)
        assert self.fetch(backend, "new") == expected

    def test_uploads_do_not_escape(self) -> None:
        for path in ("../escaped", "/escaped", "..\\..\\escaped"):
            backend = self.make_backend()
            try:
                writer = self.upload(backend, path, b"x")
            except TransferError:
                continue
            self.answer(writer.finish())
            assert self.fetch(backend, "escaped") == b"x", f"{path!r} went somewhere else"

    def test_names_that_can_not_be_written_are_refused_as_transfers_are(self) -> None:
        backend = self.make_backend()
        for path in ("", "..", "nul\0inside", "x" * 300):
            try:
                self.upload(backend, path).cancel()
            except TransferError:
                continue

    def test_uploads_leave_nothing_open(self) -> None:
        backend = self.make_backend()
        before = _descriptors()
        self.upload(backend, "one", b"x").cancel()
        self.answer(self.upload(backend, "two", b"x").finish())
        self.refusal(backend.create, "two", self.request("two", write=True))
        assert _descriptors() - before == set()
