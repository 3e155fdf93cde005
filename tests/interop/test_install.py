"""A machine boots Debian's installer out of an image, once, and the installer reads its answers."""

import subprocess
from pathlib import Path

import pytest

from .firmware.servers import start_router
from .lab import Lab, need
from .machines.bios import start_bios_machine
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS, Card
from .service import BOOTFW, start_bootfw

pytestmark = [pytest.mark.interop, pytest.mark.firmware]

INSTALLER = Path("/usr/lib/debian-installer/images/12/amd64/text")

MAC = "52:54:00:16:00:01"

ANSWERS = """
d-i debian-installer/locale string en_US.UTF-8
d-i keyboard-configuration/xkb-keymap select us
d-i netcfg/get_hostname string {{ host.name }}
d-i preseed/early_command string echo "answers of {{ host.name }} for {{ client.mac }}" >/dev/ttyS0; \\
    wget -q -O /dev/null "{{ server.http }}/bootfw/up?mac={{ client.mac }}"
"""
"""The installer runs the command as soon as it has read them."""


@pytest.mark.parametrize("firmware", ["bios", "uefi"])
def test_debian_installer_reads_its_answers(lab: Lab, tmp_path: Path, firmware: str) -> None:
    """The image is a compressed archive, as Debian has it; it is added and ordered as an operator does."""
    need(str(INSTALLER / "debian-installer/amd64/linux"))
    for name in ("answers", "hosts", "boot"):
        (tmp_path / name).mkdir()
    (tmp_path / "answers/preseed.cfg.j2").write_text(ANSWERS)
    (tmp_path / "hosts/web1.toml").write_text(f'mac = "{MAC}"\nimage = "debian-12"\nanswers = "preseed.cfg"\n')
    subprocess.run(["tar", "-czf", tmp_path / "netboot.tar.gz", "-C", INSTALLER, "."], check=True)
    configuration = tmp_path / "bootfw.toml"
    text = f"""
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
        root = "{tmp_path}/answers"
        hosts = "{tmp_path}/hosts"
        [[backend]]
        use = "images"
        root = "{tmp_path}/boot/images"
        [[backend]]
        use = "menu"
        root = "{tmp_path}/boot"
        images = "{tmp_path}/boot/images"
        [[backend]]
        use = "distribution"
        [[resolver]]
        use = "next-boot"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        "x86_64-uefi" = "snponly.efi"
        "ipxe" = "{{http}}/boot.ipxe"
    """
    configuration.write_text(text)
    start_router(lab)
    host = lab.host("bootfw", "10.77.0.1/24")
    server = start_bootfw(host, tmp_path, text, 67, 69)
    (tmp_path / "boot/images").mkdir()
    command = [str(Path(BOOTFW[0]).with_name("bootfw"))]
    for words in (["images", "add", tmp_path / "netboot.tar.gz", "--name", "debian-12"], ["install", MAC]):
        done = host.run(*command, *words, "-c", configuration, seconds=60)
        assert done.exit_code == 0, done.output
    (tmp_path / "boot/images/debian-12.cmdline").write_text("console=ttyS0")
    if firmware == "bios":
        console = start_bios_machine(lab, cards=(Card("e1000", mac=MAC),), memory=1024)
    else:
        need("/usr/lib/ipxe/snponly.efi")
        console = start_uefi_machine(lab, cards=(Card("virtio-net-pci", "romfile=", mac=MAC),), memory=1024)
    console.wait_for(f"answers of web1 for {MAC}", 4 * SECONDS)
    server.wait_for("one-time boot 'install/debian-12/preseed.cfg.ipxe' served", SECONDS)
    done = host.run(*command, "show", MAC, "-c", configuration, seconds=60)
    assert ": up" in done.output
