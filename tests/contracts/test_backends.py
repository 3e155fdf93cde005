"""The built-in backends keep the contract that the kit checks for strangers."""

import gc
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from archives import MAKERS
from threads import Threads
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock, deferLater
from zope.interface import implementer

from bootfw.api import IBackend, IReader, IWritableBackend, IWriter, MemoryReader
from bootfw.backends.archive.backend import ArchiveBackend
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.distribution import DistributionBackend
from bootfw.backends.imagelibrary.backend import ImagesBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.backends.menu import MenuBackend
from bootfw.backends.openat2 import walk
from bootfw.backends.template import TemplateBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.testing import (
    BackendContract,
    DirectoryBackendContract,
    LintableContract,
    ListableBackendContract,
    PerClientBackendContract,
    ReplacingBackendContract,
    SelfCheckingContract,
    StaticBackendContract,
    UniformBackendContract,
    VersionedBackendContract,
    WritableBackendContract,
)
from bootfw.values import TransferRequest


class TestMemory(ReplacingBackendContract, StaticBackendContract, ListableBackendContract):
    def make_backend(self) -> MemoryBackend:
        return MemoryBackend(self.files, writable=True)


class TestMemoryReadOnly(StaticBackendContract):
    def make_backend(self) -> MemoryBackend:
        return MemoryBackend(self.files)


@pytest.fixture(autouse=True, scope="module")
def _collect_garbage() -> Iterator[None]:
    """What has failed keeps its frames, and the archives in them, until it is collected."""
    yield
    gc.collect()


class InDirectories:
    """Gives each test directories of its own."""

    @pytest.fixture(autouse=True)
    def _directory(self, tmp_path: Path) -> None:
        self.directory = tmp_path

    def new_directory(self, files: Mapping[str, bytes]) -> Path:
        directory = Path(tempfile.mkdtemp(dir=self.directory))
        for path, data in files.items():
            file = directory / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        return directory


class TestDirectory(
    InDirectories,
    ReplacingBackendContract,
    DirectoryBackendContract,
    ListableBackendContract,
    VersionedBackendContract,
    SelfCheckingContract,
):
    def make_plugin(self) -> DirectoryBackend:
        return self.make_backend()

    def make_useless_plugin(self) -> DirectoryBackend:
        return DirectoryBackend(self.directory / "missing")

    def make_backend(self) -> DirectoryBackend:
        return DirectoryBackend(self.new_directory(self.files))


class TestDirectoryWithoutOpenat2(InDirectories, ReplacingBackendContract, DirectoryBackendContract):
    def make_backend(self) -> DirectoryBackend:
        return DirectoryBackend(self.new_directory(self.files), resolve=walk)


class TestDirectoryIgnoringCase(InDirectories, WritableBackendContract):
    def make_backend(self) -> DirectoryBackend:
        return DirectoryBackend(self.new_directory(self.files), ignore_case=True)


class TestDistribution(InDirectories, StaticBackendContract):
    files = {"pxelinux.0": b"pxelinux", "efi64/menu.c32": bytes(3000)}

    def make_backend(self) -> DistributionBackend:
        installed = {
            "usr/lib/PXELINUX/pxelinux.0": self.files["pxelinux.0"],
            "usr/lib/syslinux/modules/efi64/menu.c32": self.files["efi64/menu.c32"],
        }
        return DistributionBackend(self.new_directory(installed))


class InArchives(InDirectories):
    """Makes each test an archive."""

    files: Mapping[str, bytes]

    @pytest.fixture(autouse=True)
    def archive(self, request: pytest.FixtureRequest, _directory: None) -> None:
        self.path = self.directory / request.param
        # What plain ISO 9660 can spell.
        if request.param == "plain.iso":
            self.files = {path: data for path, data in self.files.items() if path.count(".") < 2}
        MAKERS[request.param](self.path, self.files)


@pytest.mark.parametrize("archive", MAKERS, indirect=True)
class TestArchive(InArchives, StaticBackendContract):
    def make_backend(self) -> ArchiveBackend:
        return ArchiveBackend(self.path)


@pytest.mark.parametrize("archive", ["rock-ridge.iso", "a.tar.gz", "deflated.zip"], indirect=True)
class TestArchiveInThreads(InArchives, UniformBackendContract):
    def make_backend(self) -> ArchiveBackend:
        self.threads = Threads()
        return ArchiveBackend(self.path, reactor=self.threads)

    def wait(self, deferred: Deferred[Any]) -> None:
        self.threads.work()


class InImages(InDirectories):
    """Makes each test an image, an archive or a directory."""

    files: Mapping[str, bytes] = {f"images/debian/{path}": data for path, data in StaticBackendContract.files.items()}

    @pytest.fixture(autouse=True)
    def image(self, request: pytest.FixtureRequest, _directory: None) -> None:
        files = {path.removeprefix("images/debian/"): data for path, data in self.files.items()}
        if request.param == "directory":
            self.new_directory(files).rename(self.directory / "debian")
        else:
            MAKERS[request.param](self.directory / f"debian{''.join(Path(request.param).suffixes)}", files)


@pytest.mark.parametrize("image", ["rock-ridge.iso", "a.tar.gz", "deflated.zip", "directory"], indirect=True)
class TestImages(InImages, StaticBackendContract, VersionedBackendContract):
    def make_backend(self) -> ImagesBackend:
        return ImagesBackend(self.directory)


class TestTemplate(InDirectories, PerClientBackendContract, ListableBackendContract, LintableContract):
    files = {"boot.ipxe": b"#!ipxe\nshell\n", "empty": b"", "deep/er/down": b"0 1 2 3 4 " * 20}

    def make_backend(self) -> TemplateBackend:
        templates = {
            "boot.ipxe.j2": b"#!ipxe\n{{ 'shell' }}\n",
            "empty.j2": b"{# nothing #}",
            "deep/er/down.j2": b"{% for _ in range(20) %}0 1 2 3 4 {% endfor %}",
        }
        return TemplateBackend(self.new_directory(templates))

    def make_plugin(self) -> TemplateBackend:
        return self.make_backend()

    def make_mistaken_plugin(self) -> TemplateBackend:
        return TemplateBackend(self.new_directory({"boot.ipxe.j2": b"{% if %}"}))


class TestTemplateOfTheClient(InDirectories, PerClientBackendContract):
    """Its content names the client, and one client has no such file."""

    files = {"boot.ipxe": b"#!ipxe\necho  unknown\n"}

    def make_backend(self) -> TemplateBackend:
        template = b"#!ipxe\n{% if client.ipxe %}{{ decline() }}{% endif %}"
        template += b"echo {{ client.mac }} {{ client.architecture }}\n"
        return TemplateBackend(self.new_directory({"boot.ipxe.j2": template}))


class TestMenu(InDirectories, PerClientBackendContract, ListableBackendContract):
    files: Mapping[str, bytes] = {}

    def make_backend(self) -> MenuBackend:
        return MenuBackend([self.new_directory({"tool.ipxe": b"#!ipxe\nshell\n"})])

    def test_clients_get_menus_of_their_own(self) -> None:
        backend = self.make_backend()
        assert b"tool.ipxe" in self.fetch(backend, "boot.ipxe")
        self.files = {"boot.ipxe": b"", "autoexec.ipxe": b""}
        self.test_one_client_does_not_change_what_another_gets()
        self.test_readers_of_several_clients_do_not_disturb_each_other()


class TestLayers(BackendContract):
    def make_backend(self) -> LayeredBackend:
        layers = [(name, MemoryBackend({name: data})) for name, data in self.files.items()]
        return LayeredBackend(layers)


@implementer(IReader)
class LateReader:
    """Answers in the other ways that a reader may."""

    def __init__(self, clock: Clock, data: bytes) -> None:
        self.clock, self.reader, self.size = clock, MemoryReader(data), None

    def read(self, offset: int, length: int) -> Any:
        if offset % 2:
            return self._read(offset, length)
        return deferLater(self.clock, 0.1, self.reader.read, offset, length)

    async def _read(self, offset: int, length: int) -> bytes:
        return self.reader.read(offset, length)

    def close(self) -> None:
        self.reader.close()


@implementer(IWriter)
class LateWriter:
    def __init__(self, clock: Clock, writer: IWriter) -> None:
        self.clock, self.writer = clock, writer

    def write(self, offset: int, data: bytes) -> Deferred[Any]:
        return deferLater(self.clock, 0.1, self.writer.write, offset, data)

    def finish(self) -> Deferred[Any]:
        return deferLater(self.clock, 0.1, self.writer.finish)

    def cancel(self) -> None:
        self.writer.cancel()


@implementer(IWritableBackend)
class LateBackend:
    def __init__(self, clock: Clock, backend: MemoryBackend) -> None:
        self.clock, self.backend = clock, backend

    async def open(self, path: str, request: TransferRequest) -> LateReader:
        await succeed(None)
        self.backend.open(path, request).close()
        return LateReader(self.clock, self.backend.files[path.removeprefix("../../../../")])

    def create(self, path: str, request: TransferRequest) -> Deferred[LateWriter]:
        deferred = deferLater(self.clock, 0.1, self.backend.create, path, request)
        return deferred.addCallback(lambda writer: LateWriter(self.clock, writer))


class TestLateAnswers(WritableBackendContract):
    """The kit itself waits for what comes later, and LayeredBackend passes it on."""

    def make_backend(self) -> LayeredBackend:
        self.clock = Clock()
        return LayeredBackend([("late", LateBackend(self.clock, MemoryBackend(self.files, writable=True)))])

    def wait(self, deferred: Deferred[Any]) -> None:
        self.clock.pump([0.1] * 10)


@implementer(IBackend)
class ClosingBackend:
    """What opens a file closes *other*, or leaves a descriptor open."""

    def __init__(self, backend: MemoryBackend, other: int | None = None) -> None:
        self.backend, self.other = backend, other
        self.descriptors: list[int | None] = []

    def open(self, path: str, request: TransferRequest) -> IReader:
        if self.other is None:
            self.descriptors.append(os.open("/dev/null", os.O_RDONLY))
        elif len(self.descriptors) == 3:  # the kit has fetched its three files, and has looked what is open
            os.close(self.other)
        self.descriptors += [None]
        return self.backend.open(path, request)


def test_descriptor_closed_by_another_test_is_not_a_leak() -> None:
    class Kit(BackendContract):
        def make_backend(self) -> ClosingBackend:
            return ClosingBackend(MemoryBackend(self.files), os.open("/dev/null", os.O_RDONLY))

    Kit().test_nothing_is_left_open()


def test_a_descriptor_that_is_left_open_is_a_leak() -> None:
    backends: list[ClosingBackend] = []

    class Kit(BackendContract):
        def make_backend(self) -> ClosingBackend:
            backends.append(ClosingBackend(MemoryBackend(self.files)))
            return backends[-1]

    try:
        with pytest.raises(AssertionError):
            Kit().test_nothing_is_left_open()
    finally:
        for number in backends[0].descriptors:
            if number is not None:
                os.close(number)
