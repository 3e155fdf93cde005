"""A machine boots an image, once: an installer on an empty disk, and what Debian has to boot in the end."""

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest
from twistd import TWISTD

from .firmware.files import Served, foreign_grub
from .firmware.servers import start_router
from .lab import Host, Lab, Program, need
from .machines.bios import start_bios_machine
from .machines.disks import boot_sector
from .machines.installer import FAMILY, IMAGES, KERNEL, small_installer
from .machines.linux import foreign_file
from .machines.livesystem import live_image
from .machines.uefi import start_uefi_machine
from .machines.windows import windows_setup
from .qemu import SECONDS, Card
from .service import start_bootfw

pytestmark = pytest.mark.interop

MAC = "52:54:00:16:00:01"

COMMAND = str(TWISTD.with_name("bootfw"))


class Site:
    """A server of images, as an operator has it: answers, host files, boot programs."""

    def __init__(self, lab: Lab, directory: Path, answers: str = "", host_file: str = "", default: str = "") -> None:
        for name in ("answers", "hosts", "boot/images"):
            (directory / name).mkdir(parents=True)
        (directory / "answers/answers.j2").write_text(answers)
        (directory / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nanswers = "answers"\n{host_file}')
        (directory / "families.toml").write_text(FAMILY)
        self.images = directory / "boot/images"
        self.configuration = directory / "bootfw.toml"
        self.configuration.write_text(f"""
            [bootfw]
            state-dir = "{lab.directory / "state"}"
            [http]
            listen = ["0.0.0.0:8069"]
            [dhcp]
            mode = "server"
            [[dhcp.subnet]]
            network = "10.77.0.0/24"
            pool = ["10.77.0.100-10.77.0.200"]
            router = "10.77.0.1"
            dns = ["10.77.0.1"]
            [[backend]]
            use = "template"
            root = "{directory}/answers"
            hosts = "{directory}/hosts"
            [[backend]]
            use = "directory"
            root = "{directory}/boot"
            [[backend]]
            use = "images"
            root = "{self.images}"
            families = "{directory}/families.toml"
            [[backend]]
            use = "menu"
            root = "{directory}/boot"
            images = "{self.images}"
            families = "{directory}/families.toml"
            timeout-seconds = 1
            default = "{default}"
            [[backend]]
            use = "distribution"
            [[resolver]]
            use = "next-boot"
            [[resolver]]
            use = "by-architecture"
            [resolver.files]
            "x86_64-uefi" = "snponly.efi"
            "arm64-uefi" = "grub/arm64-efi/core.efi"
            "ipxe" = "{{http}}/boot.ipxe"
        """)
        self._host: Host = lab.host("bootfw", "10.77.0.1/24")
        self._lab = lab

    def serve(self) -> Program:
        start_router(self._lab)
        return start_bootfw(self._host, self.configuration.parent, self.configuration.read_text(), 67, 69)

    def start(self, *arguments: str | Path) -> Program:
        """The command ``bootfw``, which goes on."""
        return self._host.start(COMMAND, *arguments, "-c", self.configuration)

    def run(self, *arguments: str | Path) -> str:
        """What the command prints."""
        program = self.start(*arguments)
        assert program.wait(SECONDS) == 0, program.output
        return program.output


def start(
    lab: Lab, firmware: str, memory: int, usb_disk: Path | None = None, display: bool = False, model: str = "e1000"
) -> Program:
    """*display*: whether an UEFI machine has a graphics card. *model*: of a BIOS machine's network card."""
    if firmware == "bios":
        card = Card(model, "bootindex=1", mac=MAC)
        return start_bios_machine(lab, cards=(card,), memory=memory, usb_disk=usb_disk)
    need("/usr/lib/ipxe/snponly.efi")
    card = Card("virtio-net-pci", "romfile=,bootindex=1", mac=MAC)
    return start_uefi_machine(lab, cards=(card,), memory=memory, usb_disk=usb_disk, display=display)


INSTALLS = {
    "bios": 'wget -q -O /dev/sda "$content/disk"',
    "uefi": """
        mkdosfs /dev/sda
        mount -t vfat /dev/sda /mnt
        mkdir -p /mnt/EFI/BOOT
        wget -q -O /mnt/EFI/BOOT/BOOTX64.EFI "$content/disk"
        umount /mnt
    """,
}

ANSWERS = """
echo "{{ host.name }} installs itself"
%s
sync
wget -q -O /dev/null "{{ server.http }}/bootfw/up?mac={{ client.mac }}"
reboot -f
sleep 60
"""


@pytest.mark.parametrize("firmware", ["bios", pytest.param("uefi", marks=pytest.mark.firmware)])
def test_machine_installs_itself_once(lab: Lab, tmp_path: Path, firmware: str) -> None:
    """Its disk is empty. Its boots: the installer, then the disk; bootfw shows the first one until it is up."""
    site = Site(lab, tmp_path, ANSWERS % INSTALLS[firmware], 'image = "small"\n')
    marker = f"{firmware}-is-installed"
    if firmware == "bios":
        content = boot_sector(marker)
    else:
        program = Served(tmp_path / "boot", marker).grub_with_marker("x86_64-efi")
        content = (tmp_path / "boot" / program).read_bytes()
        (tmp_path / "boot" / program).unlink()
    small_installer(tmp_path, site.images / "small", content)
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"")
    os.truncate(disk, 64 << 20)  # busybox makes FAT32, which UEFI takes for such by the number of its clusters
    server = site.serve()
    install = site.start("install", MAC)
    install.wait_for("A small installer (small) next, once", SECONDS)
    console = start(lab, firmware, 512, disk)
    console.wait_for("web1 installs itself", SECONDS)
    assert install.wait(SECONDS) == 0, install.output
    assert "  up after " in install.output
    console.wait_for(marker, SECONDS, "the disk that was installed")
    assert console.output.count("web1 installs itself") == 1
    assert server.output.count("one-time boot 'install/small/answers.ipxe' served") == 1
    assert site.run("boots", "--mac", MAC, "--verdict", "up").count(MAC) == 1


PRESEED = """
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/get_hostname string {{ host.name }}
d-i preseed/early_command string grep preseed /var/log/syslog >/dev/ttyS0; \\
    echo "answers of {{ host.name }} for {{ client.mac }}" >/dev/ttyS0; \\
    wget -q -O /dev/null "{{ server.http }}/bootfw/up?mac={{ client.mac }}"
"""
"""The installer runs the command as soon as it has read them."""


@pytest.mark.firmware
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_debian_installer_reads_its_answers(lab: Lab, tmp_path: Path, firmware: str) -> None:
    """The image is a compressed archive, as Debian has it; it is added and ordered as an operator does."""
    need(str(KERNEL))
    site = Site(lab, tmp_path, PRESEED, 'image = "debian-12"\n')
    subprocess.run(["tar", "-czf", tmp_path / "netboot.tar.gz", "-C", IMAGES, "."], check=True)
    server = site.serve()
    site.run("images", "add", tmp_path / "netboot.tar.gz", "--name", "debian-12")
    (site.images / "debian-12.cmdline").write_text("console=ttyS0 DEBIAN_FRONTEND=text")
    install = site.start("install", MAC)
    install.wait_for("next, once with the answers answers", SECONDS)
    console = start(lab, firmware, 1024)
    console.wait_for(f"answers of web1 for {MAC}", 4 * SECONDS)
    server.wait_for("one-time boot 'install/debian-12/answers.ipxe' served", SECONDS)
    assert "successfully loaded preseed file from http://10.77.0.1:8069/answers" in console.output
    assert install.wait(SECONDS) == 0, install.output


@pytest.mark.firmware
def test_debian_installer_reads_its_answers_on_arm64(lab: Lab, tmp_path: Path) -> None:
    """By GRUB, since Debian 12 has no iPXE for it: the default of the menu, with the answers in its arguments."""
    netboot = foreign_file("arm64", "usr/lib/debian-installer/images/12/arm64/text")
    site = Site(lab, tmp_path, PRESEED.replace("ttyS0", "ttyAMA0"), default="images/debian-12")
    Served(tmp_path / "boot", "").grub("arm64-efi", foreign_grub("arm64", "arm64-efi"))
    (tmp_path / "boot/grub/grub.cfg").unlink()  # the menu takes its place
    subprocess.run(["tar", "-czf", tmp_path / "netboot.tar.gz", "-C", netboot, "."], check=True)
    server = site.serve()
    site.run("images", "add", tmp_path / "netboot.tar.gz", "--name", "debian-12")
    (site.images / "debian-12.cmdline").write_text(
        "auto=true priority=critical interface=auto url=http://10.77.0.1:8069/answers "
        "console=ttyAMA0 DEBIAN_FRONTEND=text"
    )
    assert "UEFI arm64" in site.run("images")
    card = Card("virtio-net-pci", "romfile=,bootindex=1", mac=MAC)
    console = start_uefi_machine(lab, "arm64", cards=(card,), memory=1024)
    console.wait_for("Debian 12 installer (debian-12)", SECONDS, "the menu")
    console.wait_for(f"answers of web1 for {MAC}", 4 * SECONDS)
    assert "successfully loaded preseed file from http://10.77.0.1:8069/answers" in console.output
    server.wait_until(lambda: MAC in site.run("boots", "--mac", MAC, "--verdict", "up"), SECONDS, "it is up")


MEMTEST = Path(__file__).parents[2] / ".clients/usr/lib/memtest86+/memtest86+x64.iso"
"""tools/install-clients unpacks it: where it is installed, this machine's boot menu has it."""


@pytest.mark.firmware
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_memtest_tests_the_memory(lab: Lab, tmp_path: Path, firmware: str) -> None:
    """As docs/howto/images/memtest86-plus.md says, with its display on the serial port too: UEFI has to have one."""
    need(str(MEMTEST))
    site = Site(lab, tmp_path)
    server = site.serve()
    site.run("images", "add", MEMTEST, "--name", "memtest")
    (site.images / "memtest.cmdline").write_text("console=ttyS0,115200")
    install = site.start("install", MAC, "memtest")
    install.wait_for("Memtest86+ (memtest) next, once", SECONDS)
    console = start(lab, firmware, 256, display=True)
    server.wait_for("one-time boot 'install/memtest.ipxe' served", SECONDS)
    console.wait_for("Memtest86+ v6", SECONDS)
    console.wait_for("Pass", SECONDS, "its display is drawn")
    assert install.wait(SECONDS) == 0, install.output


@pytest.fixture(scope="module")
def live_system(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An image, and what its system prints."""
    marker = f"marker-{secrets.token_hex(8)}"
    return live_image(tmp_path_factory.mktemp("live"), marker), marker


@pytest.mark.firmware
@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_live_system_is_loaded_into_memory(
    lab: Lab, tmp_path: Path, live_system: tuple[Path, str], firmware: str
) -> None:
    image, marker = live_system
    site = Site(lab, tmp_path)
    server = site.serve()
    site.run("images", "add", image, "--name", "live")
    (site.images / "live.cmdline").write_text("console=ttyS0")
    install = site.start("install", MAC, "live")
    install.wait_for("Debian 12 live (live) next, once", SECONDS)
    console = start(lab, firmware, 1024, model="virtio-net-pci")
    server.wait_for("one-time boot 'install/live.ipxe' served", SECONDS)
    console.wait_for(f"{marker} overlay / overlay", 2 * SECONDS)
    assert console.wait(SECONDS) == 0
    assert install.wait(SECONDS) == 0, install.output


@pytest.mark.firmware
@pytest.mark.skipif(not all(map(shutil.which, ("wimboot", "wimlib-imagex"))), reason="not on the PATH: wimboot, wimlib")
def test_wimboot_starts_windows_with_its_answers(lab: Lab, tmp_path: Path) -> None:
    """wimboot, which Debian does not package, makes a disk of the files. They are in each of its directories, and the
    answers are in its boot.wim too."""
    marker = "windows-is-shown"
    site = Site(lab, tmp_path, "", 'password = "secret"\n')
    shutil.copy(str(shutil.which("wimboot")), tmp_path / "boot/wimboot")
    shutil.copytree(Path(__file__).parents[2] / "examples/answers/windows", tmp_path / "answers/windows")
    size = windows_setup(tmp_path, site.images / "windows", marker)
    server = site.serve()
    install = site.start("install", MAC, "windows", "--answers", "windows/unattend.xml")
    install.wait_for("next, once with the answers windows/unattend.xml", SECONDS)
    console = start(lab, "uefi", 512)
    console.wait_for("Windows Imaging Format bootloader", SECONDS)
    server.wait_for("one-time boot 'install/windows/windows/unattend.xml.ipxe' served", SECONDS)
    console.wait_for(marker, SECONDS)
    assert "[LaunchApps]" in console.output
    assert r"net use Z: \\10.77.0.1\windows" in console.output
    sizes = {name: int(size) for size, name in re.findall(r"^(\d+) +(\S+)$", console.output, re.MULTILINE)}
    assert sizes.keys() > {"bootmgr", "BCD", "boot.sdi", "boot.wim", "winpeshl.ini", "startnet.cmd", "unattend.xml"}
    assert sizes["boot.wim"] > size
