"""Files arrive intact over a cable that drops 5% of the datagrams, both ways, repeats some and reorders some."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clients import ATFTP_GIVES_UP, ATFTP_WINDOW, BUSYBOX, BUSYBOX_GIVES_UP, BUSYBOX_JUMBO, FILES, HPA, Client
from .firmware.fetches import FETCHES, Fetch, bootfw, try_fetch
from .lab import Host, Lab, need
from .service import start_bootfw

pytestmark = pytest.mark.interop

SERVER = "10.77.0.1"
SECONDS = 180
TRIES = 5
"""For atftp, which this cable brings to give up one time in ten."""

SEED = 7440

QUICK = ("curl-1.2MB", "atftp-windowsize-1.2MB", "tftpy-1.2MB")
"""Fetches that are a part of every run of the tests; ``make firmware`` has all."""


@pytest.fixture
def server(lab: Lab) -> Host:
    return lab.host("server", f"{SERVER}/24")


@pytest.fixture
def station(lab: Lab, server: Host) -> Iterator[Host]:
    """Where the client runs, at the end of a bad cable. When the test is over the cable must have been that."""
    host, cable = lab.host_on_bad_cable("station", "10.77.0.9/24", seed=SEED)
    lab.use_jumbo_frames(server, host)
    yield host
    cable.stop()
    damage = {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", cable.output)}
    assert damage["dropped"] > 0.04 * damage["datagrams"]
    assert min(damage["repeated"], damage["overtaken"]) > 0.005 * damage["datagrams"]


@pytest.mark.parametrize(
    "fetch",
    [
        pytest.param(fetch, id=fetch.name, marks=() if fetch.name in QUICK else pytest.mark.firmware)
        for fetch in FETCHES
    ],
)
def test_clients_fetch_through_5_percent_loss(lab: Lab, tmp_path: Path, fetch: Fetch) -> None:
    try_fetch(fetch, bootfw, lab, tmp_path, loss=5)


def start(lab: Lab, server: Host, root: Path, writable: str) -> None:
    configuration = f"""
        [dhcp]
        mode = "off"
        [tftp]
        listen = ["0.0.0.0:69"]
        max-blksize = 8192
        writable = {writable}
        [[backend]]
        use = "directory"
        root = "{root}"
    """
    start_bootfw(server, lab.directory, configuration, 69)


def run(host: Host, command: list[str]) -> None:
    for _ in range(TRIES):
        result = host.run(*command, seconds=SECONDS)
        if ATFTP_GIVES_UP not in result.output:
            break
    assert (result.exit_code, BUSYBOX_GIVES_UP in result.output) == (0, False), result.output


@pytest.mark.parametrize(
    ("client", "names"),
    [
        pytest.param(HPA, ["empty", "one-block", "1MB"], id="windowsize 1, no options"),
        # 34 MB one block at a time is a matter of many minutes, unless the blocks are large.
        pytest.param(BUSYBOX_JUMBO, list(FILES), id="windowsize 1"),
        pytest.param(ATFTP_WINDOW, list(FILES), id="windowsize 16"),
    ],
)
def test_every_file_arrives_intact(
    lab: Lab, server: Host, station: Host, served: Path, tmp_path: Path, client: Client, names: list[str]
) -> None:
    need(client.program)
    start(lab, server, served, writable="false")
    for name in names:
        run(station, client.get((SERVER, 69), name, tmp_path / name))
        assert (tmp_path / name).read_bytes() == (served / name).read_bytes()


@pytest.mark.parametrize(
    "client", [pytest.param(BUSYBOX, id="windowsize 1"), pytest.param(ATFTP_WINDOW, id="windowsize 16")]
)
def test_an_upload_is_stored_intact(
    lab: Lab, server: Host, station: Host, served: Path, tmp_path: Path, client: Client
) -> None:
    need(client.program)
    assert client.put is not None
    start(lab, server, tmp_path, writable="true")
    run(station, client.put((SERVER, 69), "upload", served / "1MB"))
    assert (tmp_path / "upload").read_bytes() == (served / "1MB").read_bytes()
