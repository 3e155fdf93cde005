"""Real shim and GRUB, signed by Debian, in a directory of their own: files that they request elsewhere are found there.

What shows it is a marker on the machine's serial console that is in GRUB's configuration and nowhere else.
"""

import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

from .lab import Lab, Program, need
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS
from .service import start_bootfw

pytestmark = pytest.mark.interop


SHIM = "/usr/lib/shim/shimx64.efi.signed"
GRUB = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed"


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    need(SHIM)
    need(GRUB)
    path = tmp_path / "served"
    (path / "debian").mkdir(parents=True)
    shutil.copy(SHIM, path / "debian/shimx64.efi")
    shutil.copy(GRUB, path / "debian/grubx64.efi")
    return path


def start(lab: Lab, root: Path, loader: str, more_settings: str = "") -> Program:
    """bootfw gives addresses, and this loader to 64-bit UEFI machines."""
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [dhcp]
        mode = "server"
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        {more_settings}
        [[backend]]
        use = "directory"
        root = "{root}"
        [[resolver]]
        use = "by-architecture"
        files = {{ "x86_64-uefi" = "{loader}" }}
    """
    return start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69)


def wait_for_log(server: Program, text: str) -> None:
    """The log has it; what workers did gets there a moment later."""
    server.wait_until(lambda: text in server.output, 90, f"{text!r} in the log")


@pytest.mark.firmware  # GRUB: the next test
def test_grub_requests_files_from_its_built_in_directory(lab: Lab, root: Path, marker: str) -> None:
    """Debian's has the prefix /grub, whatever directory it comes from. Secure Boot is on, with Microsoft's keys."""
    (root / "debian/grub.cfg").write_text(f"echo {marker}\nhalt\n")
    server = start(lab, root, "debian/shimx64.efi")
    console = start_uefi_machine(lab, "x86_64-secure")
    console.wait_until(lambda: marker in console.output, SECONDS, "the marker of GRUB's configuration on the console")
    wait_for_log(server, "'debian/grubx64.efi': complete")
    wait_for_log(server, "requested '/grub/grub.cfg', which is missing, and gets 'debian/grub.cfg'")


def test_grub_finds_its_configuration_by_http(lab: Lab, root: Path, marker: str) -> None:
    """With a GRUB of our own, because Debian's knows no HTTP: so Secure Boot is off."""
    need("grub-mkimage")
    need("/usr/lib/grub/x86_64-efi/moddep.lst")
    embedded_config = lab.directory / "early.cfg"
    embedded_config.write_text("net_bootp\nconfigfile (http,10.77.0.1)/grub/grub.cfg\n")
    subprocess.run(
        [
            *(
                "grub-mkimage",
                "-O",
                "x86_64-efi",
                "-p",
                "/grub",
                "-c",
                embedded_config,
                "-o",
                root / "debian/grubx64.efi",
            ),
            *("efinet", "net", "http", "normal", "configfile", "echo", "halt"),
        ],
        check=True,
    )
    (root / "debian/grub.cfg").write_text(f"echo {marker}\nhalt\n")
    server = start(lab, root, "debian/shimx64.efi", '[http]\nlisten = ["0.0.0.0:80"]')
    console = start_uefi_machine(lab, pxe4=False)
    console.wait_until(lambda: marker in console.output, SECONDS, "the marker of GRUB's configuration on the console")
    wait_for_log(server, "got '/debian//grubx64.efi': complete")
    wait_for_log(server, "requested '/grub/grub.cfg', which is missing, and gets 'debian/grub.cfg'")


@pytest.mark.firmware  # the same by HTTP is above
def test_grub_finds_its_tree_in_a_subdirectory(lab: Lab, tmp_path: Path, marker: str) -> None:
    """GRUB has /boot/grub built in, and requests its modules, lists and configuration there."""
    need("grub-mknetdir")
    need("/usr/lib/grub/x86_64-efi/moddep.lst")
    tree = tmp_path / "served/site/grub"
    tree.mkdir(parents=True)
    subprocess.run(["grub-mknetdir", f"--net-directory={tree}", "--subdir=boot/grub"], check=True)
    (tree / "boot/grub/grub.cfg").write_text(f"insmod date\ndate\necho {marker}\nhalt\n")
    server = start(lab, tmp_path / "served", "site/grub/boot/grub/x86_64-efi/core.efi")
    console = start_uefi_machine(lab)
    console.wait_until(lambda: marker in console.output, SECONDS, "the marker of GRUB's configuration on the console")
    for name in ("x86_64-efi/normal.mod", "x86_64-efi/date.mod", "grub.cfg"):
        wait_for_log(server, f"requested '/boot/grub/{name}', which is missing")


@pytest.mark.firmware  # what shim requests: tests/personas
def test_shim_finds_grub_beside_itself(lab: Lab, root: Path, marker: str) -> None:
    """A DHCP server that names the file in option 67 only (rhboot/shim #710): shim reads the header's field."""
    need("dnsmasq")
    (root / "debian/grub").mkdir()
    (root / "debian/grub/grub.cfg").write_text(f"echo {marker}\nhalt\n")
    configuration = f"""
        [dhcp]
        mode = "off"
        [[backend]]
        use = "directory"
        root = "{root}"
    """
    host = lab.host("bootfw", "10.77.0.1/24")
    server = start_bootfw(host, lab.directory, configuration, 69)
    dhcp = host.start(
        *("dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root", "--pid-file="),
        *("--log-facility=-", "--log-dhcp", "--no-ping", f"--dhcp-leasefile={lab.directory / 'leases'}"),
        *("--interface=eth0", "--bind-interfaces", "--dhcp-range=10.77.0.100,10.77.0.200,1h"),
        *("--dhcp-option-force=66,10.77.0.1", "--dhcp-option-force=67,debian/shimx64.efi"),
    )
    dhcp.wait_until_bound(67)
    console = start_uefi_machine(lab)
    console.wait_until(lambda: marker in console.output, SECONDS, "the marker of GRUB's configuration on the console")
    wait_for_log(server, "grubx64.efi', which is missing, and gets 'debian/grubx64.efi'")
    wait_for_log(server, "revocations_sku.efi': ERROR 1")
