"""The clock of the machine is set while the server runs; libfaketime does that to one process."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twistd import TWISTD, clean, free_port

from .lab import need

pytestmark = pytest.mark.interop

LIBRARY = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
SECONDS = 60


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def set_clock(tmp_path: Path, port: int) -> Iterator[Callable[[str], None]]:
    """A server of a file on *port*, whose clock is then off by as many seconds as is said."""
    need(LIBRARY)
    offset, configuration = tmp_path / "offset", tmp_path / "bootfw.toml"

    def set_to(seconds: str) -> None:
        (tmp_path / "new").write_text(seconds)
        os.replace(tmp_path / "new", offset)

    set_to("+0")
    configuration.write_text(
        f'[bootfw]\nstate-dir = "state"\nworkers = 1\n[tftp]\nlisten = ["127.0.0.1:{port}"]\n[dhcp]\nmode = "off"\n'
        '[[backend]]\nuse = "memory"\nfiles = { motd = "hello" }\n'
    )
    fake_clock = {"LD_PRELOAD": LIBRARY, "FAKETIME_TIMESTAMP_FILE": str(offset), "FAKETIME_NO_CACHE": "1"}
    real_monotonic_clock = {"DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    command = [str(TWISTD), "--nodaemon", "--pidfile=", "bootfw", "-c", str(configuration)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env={**clean(), **fake_clock, **real_monotonic_clock}, stdout=log, stderr=log
        )
    try:
        yield set_to
    finally:
        process.terminate()
        process.wait(SECONDS)


def client_with_open_transfer(port: int) -> socket.socket:
    """A client that has got the first block and has not acknowledged it."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(0.2)
    deadline = time.monotonic() + SECONDS
    while True:
        client.sendto(b"\0\1motd\0octet\0", ("127.0.0.1", port))
        try:
            assert client.recv(600) == b"\0\3\0\1hello"
        except OSError:  # the server has not started yet
            assert time.monotonic() < deadline
            continue
        client.settimeout(SECONDS)
        return client


@pytest.mark.parametrize("step", ["-3600", "-86400", "+86400"])
def test_lost_packets_are_retransmitted_whatever_happens_to_the_clock(
    set_clock: Callable[[str], None], port: int, step: str
) -> None:
    with client_with_open_transfer(port) as client:
        set_clock(step)
        assert client.recv(600) == b"\0\3\0\1hello"
