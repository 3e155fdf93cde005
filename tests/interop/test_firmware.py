"""Real firmware boots by ``twistd bootfw`` alone, or beside a server that gives out addresses.

That a machine booted is shown by a marker on its console: random, and nowhere but in the last file that it had to
fetch. ``make firmware`` tries the same on a link that loses packets, and compares with dnsmasq.
"""

from pathlib import Path

import pytest
from attrs import evolve

from .firmware.boots import BOOTS, Boot
from .firmware.servers import bootfw
from .firmware.trial import try_boot
from .lab import Lab

pytestmark = pytest.mark.interop


@pytest.mark.parametrize(
    "boot", [pytest.param(boot, id=boot.name, marks=() if boot.quick else pytest.mark.firmware) for boot in BOOTS]
)
def test_it_boots(lab: Lab, tmp_path: Path, boot: Boot) -> None:
    # Other tests run beside it: three times as long as `make firmware`, which has the machine to itself, waits for it.
    try_boot(evolve(boot, seconds=3 * boot.seconds), bootfw, lab, tmp_path, loss=0)
