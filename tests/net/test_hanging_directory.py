"""HTTP and TFTP from a directory of which a part hangs: real FUSE, real clients."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hangingfs import HangingFileSystem, mounted
from turning import TurnUntil
from twisted.internet.epollreactor import EPollReactor

from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import DHCPSettings, HTTPSettings, Settings, TFTPSettings
from bootfw.service import BootService

from .webservice import Curl

CONTENT = os.urandom(300_000)


@pytest.fixture
def hanging_service(
    tmp_path: Path, private_reactor: EPollReactor, turn_until: TurnUntil
) -> Iterator[tuple[HangingFileSystem, list[str]]]:
    """A service with files on a file system that can hang, as (file system, URLs)."""
    (tmp_path / "remote").mkdir()
    (tmp_path / "local").write_bytes(CONTENT)
    remote = mounted(tmp_path / "remote", {"file": CONTENT})
    any_port = (("127.0.0.1", 0),)
    settings = Settings(
        tftp=TFTPSettings(listen=any_port), http=HTTPSettings(listen=any_port), dhcp=DHCPSettings(mode="off")
    )
    backend = DirectoryBackend(tmp_path, reactor=private_reactor)
    service = BootService(private_reactor, settings=settings, backend=backend)
    service.startService()
    urls = [f"{row.service}://127.0.0.1:{row.address[1]}" for row in service.summary()]
    yield remote, urls
    stopped: list[None] = []
    service.stopService().addBoth(stopped.append)
    turn_until(lambda: stopped)
    remote.close()


def test_hanging_file_does_not_block_other_files(
    hanging_service: tuple[HangingFileSystem, list[str]], curl: Curl
) -> None:
    remote, urls = hanging_service
    assert [url.partition(":")[0] for url in urls] == ["tftp", "http"]
    for url in urls:
        assert curl(f"{url}/remote/file") == (0, CONTENT)
    remote.hang()
    for url in urls:
        code, _ = curl("--max-time", "0.3", f"{url}/remote/file")
        assert code == 28, "it has to wait"
        assert curl(f"{url}/local") == (0, CONTENT)
    remote.answer()
    for url in urls:
        assert curl(f"{url}/remote/file") == (0, CONTENT)


READABLE = 200_000
"""Bytes of CONTENT before the bad sector."""


@pytest.mark.parametrize("readable", [0, READABLE], ids=["at once", "in the middle"])
def test_a_file_on_a_disk_that_fails_is_never_passed_off_as_whole(
    hanging_service: tuple[HangingFileSystem, list[str]], curl: Curl, readable: int
) -> None:
    """Other files are served meanwhile, and this one when the disk can be read again."""
    remote, urls = hanging_service
    for url in urls:
        remote.fail_beyond(readable)
        code, received = curl(f"{url}/remote/file")
        assert code not in (0, 28), "an error at once, not a timeout"
        assert len(received) <= readable
        assert CONTENT.startswith(received)
        assert curl(f"{url}/local") == (0, CONTENT)
        remote.fail_beyond(None)
        assert curl(f"{url}/remote/file") == (0, CONTENT)
