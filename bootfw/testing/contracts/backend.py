"""IBackend with its readers, IWritableBackend with its writers, and the abilities that a backend may declare beside."""

import gc
import os
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from inspect import iscoroutine
from pathlib import Path
from typing import TypeVar

from attrs import evolve
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.ability import abilities_of, provides
from bootfw.errors import FileAlreadyExists, FileMissing, TransferError
from bootfw.interfaces import (
    IBackend,
    IDirectoryBackend,
    IFileReader,
    IListableBackend,
    IPerClientBackend,
    IReader,
    IReplacingBackend,
    IShareableReader,
    IStaticBackend,
    IUniformBackend,
    IVerifiableReader,
    IVersionedBackend,
    IWritableBackend,
    IWriter,
)
from bootfw.testing.contracts.answers import Answers
from bootfw.values import Client, Mode, TransferRequest

_T = TypeVar("_T")

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

CLIENTS = (
    Client("192.0.2.10", "52:54:00:12:34:56", None, "x86-bios", "pxe-bios", "PXEClient:Arch:00000:UNDI:002001"),
    Client("192.0.2.11", "52:54:00:12:34:57", "00000000-0000-0000-0000-000000000001", "x86_64-uefi", "ipxe", ipxe=True),
    Client("2001:db8::9", "", None, "arm64-uefi-http", "uefi-http", "HTTPClient:Arch:00019", http=True),
    Client("192.0.2.12"),  # DHCP has not seen it
)
"""One of each kind of client."""


def _descriptors() -> set[tuple[str, str]]:
    """Return (number, what it is) of each open descriptor. Garbage is collected first: it may own some, also of earlier
    tests."""
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

    def make_backend(self) -> IBackend:
        """Return a backend that serves ``files``."""
        raise NotImplementedError

    def request(self, path: str, write: bool = False) -> TransferRequest:
        """Return the request that open() and create() get."""
        return TransferRequest(path, path, ("192.0.2.9", 2070), local="192.0.2.1", write=write)

    def fetch(self, backend: IBackend, path: str) -> bytes:
        """Return the whole file, read as a client with small blocks does."""
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

    def test_readers_have_what_they_declare(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            reader = self.answer(backend.open(path, self.request(path)))
            for ability in abilities_of(reader):
                verifyObject(ability, reader)
            if provides(reader, IFileReader):
                found = os.pread(reader.fileno(), len(data), reader.start)
                assert found == data, f"{path}: the descriptor has something else than read() returns"
            if provides(reader, IVerifiableReader):
                reader.verify()
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
            result = reader.read(0, 512)
            reader.close()
            if isinstance(result, Deferred):
                result.addErrback(lambda _: None)  # the result is not needed any more
                result.cancel()
            elif iscoroutine(result):
                result.close()

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

    def make_backend(self) -> IWritableBackend:
        """Return a backend that serves ``files`` and accepts uploads."""
        raise NotImplementedError

    def upload(self, backend: IWritableBackend, path: str, *blocks: bytes) -> IWriter:
        """Return a writer that has got *blocks* and is not finished."""
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


class ReplacingBackendContract(WritableBackendContract):
    """The tests of a backend that can replace files."""

    def make_backend(self) -> IReplacingBackend:
        """Return a backend that serves ``files``, accepts uploads and replaces files."""
        raise NotImplementedError

    def replacement(self, backend: IReplacingBackend, path: str, content: bytes) -> IWriter:
        """Return a writer of *content* in the place of a file, which is not finished."""
        writer = self.answer(backend.replace(path, self.request(path, write=True)))
        self.answer(writer.write(0, content))
        return writer

    def test_provides_the_replacing_interface(self) -> None:
        backend = self.make_backend()
        verifyObject(IReplacingBackend, backend)
        writer = self.replacement(backend, "new", b"x")
        verifyObject(IWriter, writer)
        writer.cancel()

    def test_a_file_is_replaced_when_the_upload_is_finished_and_not_before(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            writer = self.replacement(backend, path, b"replaced")
            assert self.fetch(backend, path) == data, path
            self.answer(writer.finish())
            assert self.fetch(backend, path) == b"replaced", path

    def test_a_cancelled_replacement_leaves_the_file_as_it_was(self) -> None:
        backend = self.make_backend()
        for path, data in self.files.items():
            self.replacement(backend, path, b"replaced").cancel()
            assert self.fetch(backend, path) == data, path

    def test_a_replacement_may_be_a_new_file(self) -> None:
        backend = self.make_backend()
        self.answer(self.replacement(backend, "new", b"new").finish())
        assert self.fetch(backend, "new") == b"new"

    def test_the_replacement_that_is_finished_last_stays(self) -> None:
        backend = self.make_backend()
        first, second = self.replacement(backend, "new", b"first"), self.replacement(backend, "new", b"second")
        self.answer(second.finish())
        self.answer(first.finish())
        assert self.fetch(backend, "new") == b"first"

    def test_replacements_leave_nothing_open(self) -> None:
        backend = self.make_backend()
        before = _descriptors()
        for path in self.files:
            self.replacement(backend, path, b"x").cancel()
            self.answer(self.replacement(backend, path, b"x").finish())
        assert _descriptors() - before == set()


class UniformBackendContract(BackendContract):
    """The tests of a backend that gives every client the same."""

    def test_provides_the_uniform_interface(self) -> None:
        backend = self.make_backend()
        verifyObject(IUniformBackend, backend)
        assert not provides(backend, IPerClientBackend), "a backend is one of the two"

    def test_every_client_gets_the_same(self) -> None:
        backend = self.make_backend()
        for path in (*self.files, "no-such-file"):
            found = [self._fetched(backend, request) for request in self._requests(path)]
            assert found == [self.files.get(path)] * len(found), f"{path}: it depends on more than path and ignore_case"

    def _requests(self, path: str) -> Iterator[TransferRequest]:
        """Requests for one path that differ in all but ignore_case."""
        plain = self.request(path)
        yield plain
        yield evolve(plain, mode=Mode.NETASCII, options=(("blksize", "1468"), ("tsize", "0")))
        for client in CLIENTS:
            url = f"http://{plain.local}:8069"
            yield evolve(plain, peer=(client.address, 1024), client=client, protocol="http", http_url=url, local="")

    def _fetched(self, backend: IBackend, request: TransferRequest) -> bytes | None:
        try:
            reader = self.answer(backend.open(request.path, request))
        except FileMissing:
            return None
        try:
            return bytes(self.answer(reader.read(0, 1 << 20)))
        finally:
            reader.close()


class StaticBackendContract(UniformBackendContract):
    """The tests of a backend that ``bootfw lint`` reads. ``make_backend`` makes it without a reactor, as lint does."""

    def test_provides_the_static_interface(self) -> None:
        verifyObject(IStaticBackend, self.make_backend())

    def test_results_are_returned_directly(self) -> None:
        backend = self.make_backend()
        for path in self.files:
            opened = backend.open(path, self.request(path))
            reader = self._direct(opened, f"{path}: open() answers later, and lint has no reactor to wait with")
            self._direct(reader.read(0, 512), f"{path}: read() answers later")
            reader.close()

    def test_missing_files_are_reported_directly(self) -> None:
        try:
            answer = self.make_backend().open("no-such-file", self.request("no-such-file"))
        except FileMissing:
            return
        self._direct(answer, "FileMissing has to be raised by open() itself")

    @staticmethod
    def _direct(result: _T | Awaitable[_T], message: str) -> _T:
        if iscoroutine(result):
            result.close()  # or Python warns that it was never awaited
        assert not isinstance(result, Awaitable), message
        return result


class DirectoryBackendContract(StaticBackendContract):
    """The tests of a backend that serves the files of one directory under their own paths."""

    def make_backend(self) -> IDirectoryBackend:
        """Return a backend that serves ``files`` from a directory."""
        raise NotImplementedError

    def test_provides_the_directory_interface(self) -> None:
        backend = self.make_backend()
        verifyObject(IDirectoryBackend, backend)
        assert isinstance(backend.root, Path)

    def test_files_of_the_directory_are_served_under_their_own_paths(self) -> None:
        backend = self.make_backend()
        found = {path.relative_to(backend.root).as_posix(): path for path in backend.root.rglob("*") if path.is_file()}
        assert set(self.files) <= set(found), f"{backend.root} lacks files that the backend serves"
        for name, path in found.items():
            assert self.fetch(backend, name) == path.read_bytes()


class PerClientBackendContract(BackendContract):
    """The tests of a backend whose files depend on the client. ``files`` are those of a client unknown to DHCP."""

    clients: Sequence[Client] = CLIENTS
    """The clients that fetch its files. Add those for which the backend has other files."""

    def test_provides_the_interface_of_files_per_client(self) -> None:
        backend = self.make_backend()
        verifyObject(IPerClientBackend, backend)
        assert not provides(backend, IUniformBackend), "a backend is one of the two"

    def test_one_client_does_not_change_what_another_gets(self) -> None:
        for path in self.files:
            alone = [self._content(self.make_backend(), path, client) for client in self.clients]
            backend = self.make_backend()
            for _ in range(2):
                assert [self._content(backend, path, client) for client in self.clients] == alone, path

    def test_readers_of_several_clients_do_not_disturb_each_other(self) -> None:
        for path in self.files:
            alone = [self._content(self.make_backend(), path, client) for client in self.clients]
            backend = self.make_backend()
            readers = [self._opened(backend, path, client) for client in self.clients]
            found = [None if reader is None else bytes(self.answer(reader.read(0, 1 << 20))) for reader in readers]
            assert found == alone, path
            for reader in readers:
                if reader is not None:
                    reader.close()

    def _opened(self, backend: IBackend, path: str, client: Client) -> "IReader | None":
        """Return a reader; None: there is no such file for this client."""
        request = evolve(
            self.request(path), peer=(client.address, 1024), client=client, http_url="http://192.0.2.1:8069"
        )
        try:
            return self.answer(backend.open(path, request))
        except FileMissing:
            return None

    def _content(self, backend: IBackend, path: str, client: Client) -> bytes | None:
        reader = self._opened(backend, path, client)
        if reader is None:
            return None
        try:
            return bytes(self.answer(reader.read(0, 1 << 20)))
        finally:
            reader.close()


class ListableBackendContract(BackendContract):
    """The tests of a backend whose files can be listed without a client."""

    def make_backend(self) -> IListableBackend:
        """Return a backend that serves ``files``."""
        raise NotImplementedError

    def test_provides_the_listable_interface(self) -> None:
        verifyObject(IListableBackend, self.make_backend())

    def test_listed_files_can_be_fetched(self) -> None:
        backend = self.make_backend()
        for name in backend.names():
            assert backend.has(name), f"{name}: listed, but has() says no"
            self.fetch(backend, name)

    def test_what_it_has_not_is_missing(self) -> None:
        backend = self.make_backend()
        for path in MISSING_PATHS:
            if not backend.has(path):
                error = self.refusal(backend.open, path, self.request(path))
                assert isinstance(error, TransferError), f"{path!r}: has() says no, and open() opens it"


class VersionedBackendContract(BackendContract):
    """The tests of a backend that knows the version of a file without opening it."""

    def make_backend(self) -> IVersionedBackend:
        """Return a backend that serves ``files``."""
        raise NotImplementedError

    def test_provides_the_versioned_interface(self) -> None:
        verifyObject(IVersionedBackend, self.make_backend())

    def test_version_is_the_identity_of_the_reader(self) -> None:
        backend = self.make_backend()
        for path in self.files:
            version = backend.version(path, self.request(path))
            reader = self.answer(backend.open(path, self.request(path)))
            if version is not None:
                hash(version)
                assert getattr(reader, "identity", None) == version, f"{path}: open() returns another version"
            reader.close()

    def test_version_of_a_missing_file_is_none_or_it_is_missing(self) -> None:
        backend = self.make_backend()
        for path in ("no-such-file", "no-such-directory/no-such-file"):
            try:
                version = backend.version(path, self.request(path))
            except FileMissing:
                continue
            assert version is None, f"{path!r}: {version!r}"
