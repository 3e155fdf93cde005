"""The README's first commands, as a newcomer gives them: no configuration, and none of root's privileges."""

import re
from pathlib import Path

import pytest
from howtos import README, blocks

from .lab import Lab, need
from .qemu import SECONDS

pytestmark = pytest.mark.interop

PROJECT = Path(__file__).parents[2]
"""The environment is made first where there is none."""


def test_without_privileges_it_serves_above_port_1024_and_logs_a_fetch_command(lab: Lab, tmp_path: Path) -> None:
    need("make")
    need("curl")
    host = lab.host("newcomer", "10.77.0.1/24")
    # Other tests may have a server with the state of this host at the same time.
    own_state = ("env", "-C", PROJECT, f"BOOTFW_STATE_DIR={tmp_path / 'state'}")
    run = host.start(*own_state, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "make", "-C", PROJECT, "run")
    run.wait_until_bound(10067, 10069, 4011, seconds=SECONDS)
    run.wait_until(lambda: "try it: " in run.output, 90, "it says how to try it")
    for service in ("dhcp", "tftp", "boot-server"):
        assert re.search(rf"^\t{service} ", run.output, re.MULTILINE), "a table of what is bound where"
    tried = re.search(r"try it: (curl -O (\S+)/(\S+))$", run.output, re.MULTILINE)
    assert tried
    done = host.run("env", "-C", tmp_path, *tried[1].split(), seconds=20)
    assert done.exit_code == 0, done.output
    assert (tmp_path / tried[3]).stat().st_size > 0
    make, status, probe = (
        line.removeprefix("$ ").split(" #")[0].split() for line in blocks(README, "console")[0].splitlines()
    )
    assert make == ["make", "run"]
    shown = host.run(*own_state, *status, seconds=20)
    assert shown.exit_code == 0, shown.output
    assert " is ready; " in shown.output
    shown = host.run(*own_state, *probe, seconds=20)
    assert "OFFER" in shown.output, shown.output
    run.stop()
    assert "Server Shut Down" in run.output
