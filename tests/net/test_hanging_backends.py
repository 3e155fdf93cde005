"""Archives, templates, host files, menus and installed programs on a file system that hangs: real FUSE."""

import io
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from descriptors import open_descriptors
from hangingfs import HangingFileSystem, mounted, threads
from turning import Result, TurnUntil
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import capturedLogs
from twisted.python.threadpool import ThreadPool

from bootfw.api import FileMissing, PluginContext, TransferRequest
from bootfw.backends.archive.backend import ArchiveBackend
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.distribution import DistributionBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.backends.menu import MenuBackend
from bootfw.backends.menu import plugin as menu
from bootfw.backends.template import TemplateBackend
from bootfw.backends.template import plugin as template
from bootfw.config import defaults
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.interfaces import ICacheableReader
from bootfw.net.linux import mounts
from bootfw.plugins import configure
from bootfw.service import BootService

from .webservice import Curl

CONTENT = bytes(range(256)) * 1000


def tar() -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = len(CONTENT)
        archive.addfile(member, io.BytesIO(CONTENT))
    return output.getvalue()


@pytest.fixture
def pool(private_reactor: EPollReactor) -> Iterator[ThreadPool]:
    pool = private_reactor.getThreadPool()
    pool.start()
    yield pool
    pool.stop()


@pytest.fixture
def remote(
    tmp_path: Path, pool: ThreadPool, private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[HangingFileSystem]:
    (tmp_path / "remote").mkdir()
    files = {"a.tar": tar(), "file.j2": b"made of {{ host.name }}.", "undionly.kpxe": CONTENT, "boot.ipxe": b"#!ipxe\n"}
    remote = mounted(tmp_path / "remote", files)
    yield remote
    remote.answer()
    for _ in range(3):
        turn_until(lambda: not threads())
        private_reactor.iterate(0)
    remote.close()


# Each function returns (a backend of the hanging file system, a path, its content); a menu's content is None.


def archive(root: Path, reactor: EPollReactor) -> tuple[ArchiveBackend, str, bytes]:
    return ArchiveBackend(root / "remote" / "a.tar", reactor=reactor), "file", CONTENT


def templates(root: Path, reactor: EPollReactor) -> tuple[TemplateBackend, str, bytes]:
    backend = configure(template, {"root": str(root / "remote")}, PluginContext(reactor, root))
    return backend, "file", b"made of ."


def hosts(root: Path, reactor: EPollReactor) -> tuple[TemplateBackend, str, bytes]:
    (root / "local").mkdir()
    (root / "local" / "file.j2").write_bytes(b"for {{ host.name }}.")
    options = {"root": str(root / "local"), "hosts": str(root / "remote")}
    return configure(template, options, PluginContext(reactor, root)), "file", b"for ."


def installed(root: Path, reactor: EPollReactor) -> tuple[DistributionBackend, str, bytes]:
    (root / "usr" / "lib").mkdir(parents=True)
    (root / "usr" / "lib" / "ipxe").symlink_to(root / "remote")
    return DistributionBackend(root, reactor=reactor), "undionly.kpxe", CONTENT


def images(root: Path, reactor: EPollReactor) -> tuple[MenuBackend, str, None]:
    (root / "local").mkdir()
    (root / "local" / "shell.ipxe").write_bytes(b"#!ipxe\n")
    options = {"root": [str(root / "remote"), str(root / "local")]}
    return configure(menu, options, PluginContext(reactor, root)), "boot.ipxe", None


every_backend = pytest.mark.parametrize("make", [archive, templates, hosts, installed, images])


def request(path: str) -> TransferRequest:
    return TransferRequest(path, path, ("192.0.2.9", 2070), local="192.0.2.1")


def content(reader: ICacheableReader, result: Result) -> bytes:
    data = b""
    while block := result(reader.read(len(data), 1000)):
        data += block
    reader.close()
    return data


@every_backend
def test_a_hanging_file_is_served_when_it_answers(
    tmp_path: Path, remote: HangingFileSystem, private_reactor: EPollReactor, result: Result, make: Callable[..., Any]
) -> None:
    backend, path, expected = make(tmp_path, private_reactor)
    remote.hang()
    assert getattr(backend, "problem", str)() == ""
    opening = [backend.open(path, request(path)) for _ in range(10)]
    private_reactor.iterate(0.01)
    assert not any(one.called for one in opening)
    remote.answer()
    for one in opening:
        data = content(result(one), result)
        assert data == expected if expected is not None else data.startswith(b"#!ipxe")


@every_backend
def test_a_second_open_is_waited_for_during_a_hang(
    tmp_path: Path, remote: HangingFileSystem, private_reactor: EPollReactor, result: Result, make: Callable[..., Any]
) -> None:
    """A file system may also hang after the backend has opened it."""
    backend, path, expected = make(tmp_path, private_reactor)
    content(result(backend.open(path, request(path))), result)
    remote.hang()
    opening = backend.open(path, request(path))
    if make is not images:  # its menu is rendered from the last scan
        assert not opening.called
    remote.answer()
    data = content(result(opening), result)
    assert data == expected if expected is not None else data.startswith(b"#!ipxe")


@every_backend
def test_cancelled_request_closes_its_file(
    tmp_path: Path,
    remote: HangingFileSystem,
    private_reactor: EPollReactor,
    result: Result,
    turn_until: TurnUntil,
    make: Callable[..., Any],
) -> None:
    backend, path, _ = make(tmp_path, private_reactor)
    content(result(backend.open(path, request(path))), result)
    turn_until(lambda: not threads())
    before = open_descriptors()
    remote.hang()
    for _ in range(10):
        opening = backend.open(path, request(path))
        if isinstance(opening, Deferred):
            opening.addErrback(lambda failure: failure.trap(CancelledError))
            opening.cancel()
    remote.answer()
    turn_until(lambda: not threads())
    private_reactor.iterate(0)
    turn_until(lambda: not threads())
    assert open_descriptors() == before


@pytest.mark.parametrize("make", [archive, templates, hosts, installed])
def test_missing_file_on_another_file_system_is_reported(
    tmp_path: Path, remote: HangingFileSystem, private_reactor: EPollReactor, result: Result, make: Callable[..., Any]
) -> None:
    backend, _, _ = make(tmp_path, private_reactor)
    for path in ("ipxe.pxe", "\udcff"):
        with pytest.raises(FileMissing):
            result(backend.open(path, request(path)))


@pytest.mark.parametrize("make", [archive, templates, installed])
def test_missing_file_of_a_hanging_file_system_is_reported_when_it_answers(
    tmp_path: Path, remote: HangingFileSystem, private_reactor: EPollReactor, result: Result, make: Callable[..., Any]
) -> None:
    backend, _, _ = make(tmp_path, private_reactor)
    remote.hang()
    opening = backend.open("ipxe.pxe", request("ipxe.pxe"))
    private_reactor.iterate(0.01)
    assert not opening.called
    remote.answer()
    with pytest.raises(FileMissing):
        result(opening)


def test_local_template_is_rendered_while_another_file_system_hangs(
    tmp_path: Path, remote: HangingFileSystem, private_reactor: EPollReactor, result: Result
) -> None:
    (tmp_path / "near.j2").write_bytes(b"near")
    (tmp_path / "far.j2").write_bytes(b"{% include 'remote/file.j2' %}")
    backend = configure(template, {"root": str(tmp_path)}, PluginContext(private_reactor, tmp_path))
    remote.hang()
    far = [backend.open(path, request(path)) for path in ("remote/file", "far")]
    assert content(result(backend.open("near", request("near"))), result) == b"near"
    assert not any(one.called for one in far)
    remote.answer()
    for one in far:
        assert content(result(one), result) == b"made of ."


@pytest.mark.parametrize("make", [archive, templates, hosts, installed])
def test_service_starts_and_serves_files_of_other_file_systems(
    tmp_path: Path,
    remote: HangingFileSystem,
    private_reactor: EPollReactor,
    turn_until: TurnUntil,
    curl: Curl,
    make: Callable[..., Any],
) -> None:
    backend, path, _ = make(tmp_path, private_reactor)
    any_port = (("127.0.0.1", 0),)
    settings = Settings(
        tftp=TFTPSettings(listen=any_port), http=HTTPSettings(listen=any_port), dhcp=DHCPSettings(mode="off")
    )
    remote.hang()
    backends = [("memory", MemoryBackend({"local": CONTENT})), ("remote", backend)]
    service = BootService(private_reactor, settings=settings, backends=backends)
    service.startService()
    try:
        for row in service.summary():
            url = f"{row.service}://127.0.0.1:{row.address[1]}"
            assert curl("--max-time", "0.3", f"{url}/{path}")[0] == 28, "it has to wait"
            assert curl(f"{url}/local") == (0, CONTENT)
    finally:
        remote.answer()
        stopped: list[None] = []
        service.stopService().addBoth(stopped.append)
        turn_until(lambda: stopped)


@pytest.mark.parametrize("roots", [["remote", "local"], ["."]], ids=["a root hangs", "a directory below the root"])
def test_menu_contains_images_of_other_file_systems(
    tmp_path: Path,
    remote: HangingFileSystem,
    private_reactor: EPollReactor,
    result: Result,
    roots: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "shell.ipxe").write_bytes(b"#!ipxe\n")
    options = {"root": [str(tmp_path / root) for root in roots]}
    backend = configure(menu, options, PluginContext(private_reactor, tmp_path))
    remote.hang()
    text = content(result(backend.open("boot.ipxe", request("boot.ipxe"))), result)
    assert b"shell.ipxe" in text
    assert [thread.name for thread in threading.enumerate()].count("bootfw probe") == 1
    monkeypatch.setattr(mounts, "PROBE_SECONDS", 60.0)
    began = time.monotonic()
    backend._scan()
    assert time.monotonic() - began < 30, "it is probed once, and not again while that probe is pending"
    remote.answer()


def test_hanging_default_root_does_not_block_the_defaults(
    tmp_path: Path, remote: HangingFileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "ipxe.efi").write_bytes(b"x")
    roots = [str(tmp_path / name) for name in ("remote", "local", "none")]
    monkeypatch.setattr(defaults, "ROOTS", roots)
    remote.hang()
    began = time.monotonic()
    chosen = defaults.backends()
    assert [options["root"] for name, options in chosen if name == "directory"] == roots[:2]
    backends = [("directory", DirectoryBackend(Path(root))) for root in roots[:2]]
    with capturedLogs() as logs:
        resolvers = defaults.resolvers(backends)
    assert resolvers[-1][1] == {"files": {"x86_64-uefi": "ipxe.efi"}}
    assert defaults.example(backends) == "ipxe.efi"
    assert time.monotonic() - began < 30, "the file system answers after 60 s"
    assert [event["root"] for event in logs] == [Path(roots[0])]
    remote.answer()
    # The call that hung returns in a thread of its own.
    deadline = time.monotonic() + 10
    while "x86-bios" not in (files := defaults.resolvers(backends)[-1][1]["files"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert files["x86-bios"] == "undionly.kpxe"
