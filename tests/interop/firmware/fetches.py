"""Files that TFTP clients fetch, one at a time and sixteen at once, with packet loss or without."""

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import TimeoutExpired

from attrs import frozen

from ..clients import ATFTP_65464, ATFTP_LOCK_STEP, ATFTP_WINDOW, BUSYBOX, CURL, HPA, TFTPY, Client
from ..lab import Host, Lab, need
from ..service import start_bootfw
from .files import SERVER
from .servers import start_dnsmasq
from .trial import Failed

_SIZES = {"1.2MB": 1_200_000, "8MB": 8_000_000}
_SECONDS = {"1.2MB": 20, "8MB": 120}
"""How long a fetch may take, with a loss of 5 % or without."""


@frozen
class Fetch:
    """A TFTP client that fetches a file, once or sixteen times at once."""

    name: str
    client: Client
    size: int
    """Bytes."""
    at_once: int
    """How many clients there are."""
    seconds: float
    """How long it may take."""


def try_fetch(
    fetch: Fetch, start_server: Callable[[Lab, Host, Path], None], lab: Lab, scratch: Path, loss: int
) -> float:
    """Seconds until all clients have the file.

    :param scratch: takes what is served and what is fetched.
    :param loss: percent of the frames, in either direction.
    :raises Failed: when one of them has not, or has another file.
    """
    need(fetch.client.program)
    root = scratch / "served"
    root.mkdir()
    content = random.randbytes(fetch.size)
    (root / "file").write_bytes(content)
    start_server(lab, lab.host("server", f"{SERVER}/24"), root)
    station = lab.host("station", "10.77.0.9/24")
    _wait_until_server_answers(station)
    if loss:
        lab.lose(loss)
    began = time.monotonic()
    paths = [scratch / f"fetched-{number}" for number in range(fetch.at_once)]
    programs = [station.start(*fetch.client.get((SERVER, 69), "file", path)) for path in paths]
    for program in programs:
        try:
            program.wait(max(0.1, began + fetch.seconds - time.monotonic()))
        except TimeoutExpired:
            break
    seconds = time.monotonic() - began
    fetched = sum(
        program.exit_code == 0 and path.exists() and path.read_bytes() == content
        for program, path in zip(programs, paths, strict=True)
    )
    if fetched < fetch.at_once:
        output = next((program.output.strip() for program in programs if program.exit_code), "")
        raise Failed(f"{fetched} of {fetch.at_once} fetched within {seconds:.0f} s {output[-100:]}")
    return seconds


def _wait_until_server_answers(station: Host) -> None:
    """A port is open a moment before its server reads from it, and longer on a busy machine: until then requests and
    their repeats only queue, and atftp ends when it gets an answer to each."""
    with station.udp_socket() as client:
        client.settimeout(1)
        for _ in range(20):
            client.sendto(b"\0\1no-such-file\0octet\0", (SERVER, 69))
            with contextlib.suppress(TimeoutError):
                client.recv(600)
                return
    raise Failed("the server does not answer")


def bootfw(lab: Lab, host: Host, root: Path) -> None:
    # One process, which is complete from the start: what is lost here shall be lost on the wire.
    configuration = f"""
        [bootfw]
        workers = 1
        [dhcp]
        mode = "off"
        [tftp]
        listen = ["0.0.0.0:69"]
        [[backend]]
        use = "directory"
        root = "{root}"
    """
    start_bootfw(host, lab.directory, configuration, 69)


def dnsmasq(lab: Lab, host: Host, root: Path) -> None:
    start_dnsmasq(lab, host, "--enable-tftp", f"--tftp-root={root}").wait_until_bound(69)


TFTP_SERVERS: dict[str, Callable[[Lab, Host, Path], None]] = {"bootfw": bootfw, "dnsmasq": dnsmasq}

FETCHES = tuple(
    Fetch(f"{client.name}-{size}{'-x16' if at_once > 1 else ''}", client, _SIZES[size], at_once, _SECONDS[size])
    for client in (HPA, ATFTP_LOCK_STEP, ATFTP_WINDOW, ATFTP_65464, CURL, BUSYBOX, TFTPY)
    for size in _SIZES
    for at_once in (1, 16)
)
