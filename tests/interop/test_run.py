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
    with_state = ("env", "-C", PROJECT, f"BOOTFW_STATE_DIR={tmp_path / 'state'}")
    server = host.start(*with_state, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "make", "-C", PROJECT, "run")
    server.wait_until_bound(10067, 10069, 4011, seconds=SECONDS)
    server.wait_until(lambda: "try it: " in server.output, 90, "it says how to try it")
    for service in ("dhcp", "tftp", "boot-server"):
        assert re.search(rf"^\t{service} ", server.output, re.MULTILINE), "a table of what is bound where"
    suggestion = re.search(r"try it: (curl -O (\S+)/(\S+))$", server.output, re.MULTILINE)
    assert suggestion
    result = host.run("env", "-C", tmp_path, *suggestion[1].split(), seconds=20)
    assert result.exit_code == 0, result.output
    assert (tmp_path / suggestion[3]).stat().st_size > 0
    make_command, status_arguments, probe_arguments = (
        line.removeprefix("$ ").split(" #")[0].split() for line in blocks(README, "console")[0].splitlines()
    )
    assert make_command == ["make", "run"]
    result = host.run(*with_state, *status_arguments, seconds=20)
    assert result.exit_code == 0, result.output
    assert " is ready; " in result.output
    result = host.run(*with_state, *probe_arguments, seconds=20)
    assert "OFFER" in result.output, result.output
    server.stop()
    assert "Server Shut Down" in server.output
