"""The first packet of each kind gets lost, and firmware boots all the same: either side repeats itself."""

from pathlib import Path

import pytest

from .firmware.boots import BOOTS
from .firmware.files import SERVER
from .firmware.servers import bootfw
from .firmware.trial import try_boot
from .lab import Lab

pytestmark = pytest.mark.interop

FROM_SERVER = f"ip saddr {SERVER}"


@pytest.mark.parametrize(
    ("name", "lost_packet"),
    [
        pytest.param("bios-ipxe-proxy", f"{FROM_SERVER} udp sport 67", id="iPXE, the proxy's OFFER"),
        pytest.param("bios-ipxe", f"{FROM_SERVER} udp sport 67", id="iPXE, the OFFER"),
        pytest.param("bios-ipxe", "udp dport 67", id="iPXE, the DISCOVER"),
        pytest.param("bios-ipxe", f"{FROM_SERVER} udp sport 69", id="iPXE, the OACK"),
        pytest.param(
            "uefi-ipxe-proxy",
            f"{FROM_SERVER} udp sport 4011",
            id="EDK2, the boot server's ACK",
            marks=pytest.mark.firmware,
        ),
        pytest.param(
            "uefi-ipxe-proxy", "udp dport 4011", id="EDK2, the request to the boot server", marks=pytest.mark.firmware
        ),
        pytest.param(
            "uefi-ipxe-proxy", f"{FROM_SERVER} udp sport 67", id="EDK2, the proxy's OFFER", marks=pytest.mark.firmware
        ),
    ],
)
def test_firmware_boots_although_one_of_its_packets_is_lost(
    lab: Lab, tmp_path: Path, name: str, lost_packet: str
) -> None:
    (boot,) = (boot for boot in BOOTS if boot.name == name)
    lab.lose_first(lost_packet)
    try_boot(boot, bootfw, lab, tmp_path, loss=0)
