"""A machine boots by ``twistd bootfw`` as a newcomer starts it. Boots of all firmware are in test_firmware.py."""

import pytest

from .firmware.servers import start_address_server, start_router
from .lab import Lab
from .machines.bios import start_bios_machine
from .qemu import SECONDS
from .service import BOOTFW, OWN_STATE

pytestmark = pytest.mark.interop


def test_without_a_configuration_ipxe_shows_the_default_script_and_boots_the_disk(lab: Lab) -> None:
    """On defaults, with no boot files of the operator's: the script that is built in."""
    start_address_server(lab)
    start_router(lab)
    host = lab.host("bootfw", "10.77.0.1/24")
    hide_directories = f"mount -t tmpfs none /srv; {OWN_STATE}"
    server = host.start(*BOOTFW, name="bootfw", setup_command=hide_directories)
    server.wait_until_bound(67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_until(lambda: "bootfw is here" in console.output, SECONDS, "the greeting on the console")
    assert "boots 'http://10.77.0.1:8069/boot.ipxe'" in server.output
    console.wait_until(lambda: "No bootable device" in console.output, SECONDS, "the machine tries its own disk")
