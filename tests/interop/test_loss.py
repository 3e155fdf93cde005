"""Files arrive intact over a cable that drops 5% of the datagrams, both ways, repeats some and reorders some."""

import re
from pathlib import Path

import pytest

from .clients import ATFTP, ATFTP_GIVES_UP, ATFTP_WINDOW, BUSYBOX_JUMBO, FILES, HPA, Client
from .lab import Lab, need
from .service import start_bootfw

pytestmark = pytest.mark.interop

SECONDS = 180
TRIES = 5
"""For atftp, which this cable brings to give up one time in ten."""

SEED = 7440


@pytest.mark.parametrize(
    ("client", "names"),
    [
        pytest.param(HPA, ["empty", "one-block", "1MB"], id="windowsize 1, no options"),
        pytest.param(ATFTP, ["empty", "one-block", "1MB"], id="windowsize 1"),
        # 40 MB one block at a time is a matter of minutes, unless the blocks are large.
        pytest.param(BUSYBOX_JUMBO, ["40MB"], id="windowsize 1, jumbo frames"),
        pytest.param(ATFTP_WINDOW, list(FILES), id="windowsize 16"),
    ],
)
def test_every_file_arrives_intact(lab: Lab, served: Path, tmp_path: Path, client: Client, names: list[str]) -> None:
    need(client.program)
    configuration = f"""
        [dhcp]
        mode = "off"
        [tftp]
        listen = ["0.0.0.0:69"]
        max-blksize = 8192
        [[backend]]
        use = "directory"
        root = "{served}"
    """
    server = lab.host("server", "10.77.0.1/24")
    station, cable = lab.host_on_bad_cable("station", "10.77.0.9/24", seed=SEED)
    lab.use_jumbo_frames(server, station)
    start_bootfw(server, lab.directory, configuration, 69)
    for name in names:
        for _ in range(TRIES):
            done = station.run(*client.get(("10.77.0.1", 69), name, tmp_path / name), seconds=SECONDS)
            if ATFTP_GIVES_UP not in done.output:
                break
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes() == (served / name).read_bytes()
    cable.stop()
    damage = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", cable.output)}
    assert damage["dropped"] > 0.04 * damage["datagrams"]
    assert min(damage["repeated"], damage["overtaken"]) > 0.005 * damage["datagrams"]
