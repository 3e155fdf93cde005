"""`make run`, the README's first command, as a newcomer gives it: no configuration, and none of root's privileges."""

import re
from pathlib import Path

import pytest

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
    own_state = ("sh", "-c", 'mount -t tmpfs none /var/lib && exec "$@"', "sh")
    run = host.start(*own_state, "setpriv", "--bounding-set=-all", "--inh-caps=-all", "make", "-C", PROJECT, "run")
    run.wait_until_bound(10067, 10069, 4011, seconds=SECONDS)
    run.wait_until(lambda: "try it: " in run.output, 10, "it says how to try it")
    for service in ("dhcp", "tftp", "boot-server"):
        assert re.search(rf"^\t{service} ", run.output, re.MULTILINE), "a table of what is bound where"
    tried = re.search(r"try it: (curl -O (\S+)/(\S+))$", run.output, re.MULTILINE)
    assert tried
    done = host.run("env", "-C", tmp_path, *tried[1].split(), seconds=20)
    assert done.exit_code == 0, done.output
    assert (tmp_path / tried[3]).stat().st_size > 0
    run.stop()
    assert "Server Shut Down" in run.output
