"""Files arrive intact over a cable that drops, repeats and reorders datagrams, each with 5% of them, both ways."""

import re
from pathlib import Path

import pytest

from .clients import ATFTP, ATFTP_WINDOW, FILES, HPA, Client
from .lab import Lab, need
from .service import start_bootfw

pytestmark = pytest.mark.interop

SECONDS = 120
SEED = 7440


@pytest.mark.parametrize(
    ("client", "names"),
    [
        pytest.param(HPA, ["empty", "one-block", "1MB"], id="windowsize 1, no options"),
        pytest.param(ATFTP, ["empty", "one-block", "1MB"], id="windowsize 1"),
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
        [[backend]]
        use = "directory"
        root = "{served}"
    """
    start_bootfw(lab.host("server", "10.77.0.1/24"), lab.directory, configuration, 69)
    station, cable = lab.host_on_bad_cable("station", "10.77.0.9/24", seed=SEED)
    for name in names:
        done = station.run(*client.get(("10.77.0.1", 69), name, tmp_path / name), seconds=SECONDS)
        assert done.exit_code == 0, done.output
        assert (tmp_path / name).read_bytes() == (served / name).read_bytes()
    cable.stop()
    damage = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", cable.output)}
    assert min(damage["dropped"], damage["repeated"], damage["overtaken"]) > 0.02 * damage["datagrams"]
