"""Real firmware boots by ``twistd bootfw`` as proxy, beside a DHCP server that knows nothing about booting.

Three namespaces on one segment: the DHCP server's, bootfw's, and the switch with the machine on it. That a machine
booted is shown by a marker on its console: random, and nowhere but in the last file that it had to fetch.
"""

import secrets
import shutil
from pathlib import Path

import pytest

from .lab import Lab, Program, need
from .machines.bios import start_bios_machine
from .machines.linux import initramfs, linux_kernel
from .machines.uefi import start_uefi_machine
from .service import BOOTFW, start_bootfw

pytestmark = pytest.mark.interop

SECONDS = 90


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "served"
    path.mkdir()
    return path


@pytest.fixture(autouse=True)
def dhcp_server(lab: Lab) -> Program:
    """It gives out plain addresses."""
    need("dnsmasq")
    host = lab.host("dhcp", "10.77.0.2/24", "fd77::2/64")
    server = host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", "--no-ping", f"--dhcp-leasefile={lab.directory / 'leases'}"),
        *("--interface=eth0", "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.200,1h"),
        # A router advertisement that promises nothing: iPXE waits 13 s for one before it goes on.
        *("--enable-ra", "--dhcp-range=fd77::,ra-only", "--ra-param=eth0,0,0"),
    )
    server.wait_until_bound(67)
    return server


def start_proxy(lab: Lab, root: Path, files: dict[str, str]) -> Program:
    choices = "\n".join(f'"{architecture}" = "{name}"' for architecture, name in files.items())
    configuration = f"""
        [dhcp]
        mode = "proxy"
        [[backend]]
        use = "directory"
        root = "{root}"
        [[backend]]
        use = "distribution"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        {choices}
    """
    return start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69, 4011)


@pytest.mark.parametrize("nic", ["e1000", "virtio-net-pci"])
def test_a_pxe_rom_runs_the_script_that_is_served(lab: Lab, root: Path, marker: str, nic: str) -> None:
    (root / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    start_proxy(lab, root, {"ipxe": "boot.ipxe"})
    console = start_bios_machine(lab, nic)
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")


def test_pxelinux_boots_a_linux_kernel(lab: Lab, root: Path, marker: str) -> None:
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/ldlinux.c32")
    shutil.copy(linux_kernel(), root / "kernel")
    (root / "initramfs").write_bytes(initramfs(root.parent, marker))
    (root / "pxelinux.cfg").mkdir()
    (root / "pxelinux.cfg/default").write_text(
        "SERIAL 0\nDEFAULT linux\nLABEL linux\nLINUX kernel\nINITRD initramfs\nAPPEND console=ttyS0 panic=-1\n"
    )
    start_proxy(lab, root, {"x86-bios": "pxelinux.0"})
    console = start_bios_machine(lab, "e1000")
    assert console.wait(SECONDS) == 0
    assert marker in console.output


def test_uefi_firmware_loads_ipxe_which_runs_its_script(lab: Lab, root: Path, marker: str) -> None:
    """By the detour to port 4011, and then once more as iPXE: a chain of two, not a loop."""
    need("/usr/lib/ipxe/snponly.efi")
    (root / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    start_proxy(lab, root, {"x86_64-uefi": "snponly.efi", "ipxe": "boot.ipxe"})
    console = start_uefi_machine(lab)
    console.wait_until(lambda: marker in console.output, SECONDS, "the script's marker on the console")


def test_without_a_configuration_a_machine_is_greeted_and_goes_on(lab: Lab) -> None:
    """On defaults, with no boot files of the operator's: the script that is built in."""
    host = lab.host("bootfw", "10.77.0.1/24")
    # "ip netns exec" has given the program a mount namespace of its own.
    hide = "for root in /srv /var/lib; do mount -t tmpfs none $root; done"
    server = host.start("sh", "-c", f'{hide}; exec "$@"', "sh", *BOOTFW, name="bootfw")
    server.wait_until_bound(67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_until(lambda: "bootfw is here" in console.output, SECONDS, "the greeting on the console")
    console.wait_until(lambda: "No bootable device" in console.output, SECONDS, "the machine tries its own disk")
