"""Real firmware boots over IPv6 alone, by ``twistd bootfw`` as proxy, which gives no addresses.

That a machine booted is shown by a marker on its console: random, and nowhere but in the last file that it fetched.
"""

import secrets
import subprocess
from pathlib import Path

import pytest

from .lab import Lab, Program, need
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS, Card
from .service import start_bootfw

pytestmark = pytest.mark.interop

GRUB = Path("/usr/lib/grub/x86_64-efi")


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture
def root(tmp_path: Path, marker: str) -> Path:
    """With ``says.efi``, a GRUB that says the marker and does no more."""
    need("grub-mkimage")
    need(str(GRUB / "echo.mod"))
    path = tmp_path / "served"
    path.mkdir()
    script = tmp_path / "says.cfg"
    script.write_text(f"echo {marker}\nsleep 600\n")
    subprocess.run(
        ["grub-mkimage", "-O", "x86_64-efi", "-p", "/", "-c", script, "-o", path / "says.efi", "echo", "sleep"],
        check=True,
    )
    return path


def start_router(lab: Lab, *options: str) -> Program:
    """Who advertises the network, and gives addresses if *options* say so."""
    need("dnsmasq")
    host = lab.host("router", "fd77::2/64", "10.77.0.2/24")
    return host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", f"--dhcp-leasefile={lab.directory / 'leases'}"),
        *("--interface=eth0", "--enable-ra", *options),
    )


def start_proxy(lab: Lab, root: Path, files: dict[str, str], *ports: int) -> Program:
    boot_files = "\n".join(f'"{architecture}" = "{name}"' for architecture, name in files.items())
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [dhcp]
        mode = "off"
        [dhcp6]
        mode = "proxy"
        [http]
        listen = ["[::]:80"]
        [[backend]]
        use = "directory"
        root = "{root}"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        {boot_files}
    """
    return start_bootfw(lab.host("bootfw", "fd77::1/64"), lab.directory, configuration, 547, 4011, 69)


@pytest.mark.firmware  # the same: test_howto.test_ipv6_beside_a_dhcpv6_server
def test_uefi_boots_by_the_proxy_beside_a_dhcpv6_server(lab: Lab, root: Path, marker: str) -> None:
    start_router(lab, "--dhcp-range=fd77::100,fd77::200,64,1h")
    uuid, card = "52420077-1234-4abc-9def-0123456789ab", Card("virtio-net-pci", "romfile=", mac="52:54:00:77:07:07")
    # What tells the machine is in its DUID and in the address that it asks from.
    bootfw = start_proxy(lab, root, {"x86_64-uefi": "{mac}/{uuid}.efi"})
    (root / card.mac).mkdir()
    (root / "says.efi").rename(root / card.mac / f"{uuid}.efi")
    console = start_uefi_machine(lab, pxe4=False, pxe6=True, uuid=uuid, cards=(card,))
    console.wait_until(lambda: marker in console.output, SECONDS, "GRUB's marker on the console")
    assert "boot-server: REPLY" in bootfw.output


@pytest.mark.firmware  # 40 s; by PXE: test_howto; the URL: tests/dhcp, and a ROM's: test_http_boot
def test_uefi_boots_by_http(lab: Lab, root: Path, marker: str) -> None:
    """EDK2 tries HTTP over IPv4 before: for a minute without any answer, for seconds with an address and no URL."""
    start_router(lab, "--dhcp-range=fd77::100,fd77::200,64,1h", "--dhcp-range=10.77.0.100,10.77.0.200,1h", "--no-ping")
    start_proxy(lab, root, {"x86_64-uefi-http": "says.efi"})
    console = start_uefi_machine(lab, pxe4=False, pxe6=False)
    console.wait_until(lambda: marker in console.output, SECONDS, "GRUB's marker on the console")
