"""Real firmware shows the menu, boots what is chosen in it or what its timeout chooses, and runs what templates make.

That a machine booted is shown by a marker on its console: random, and nowhere but in what it had to fetch.
"""

import os
import secrets
import shutil
from pathlib import Path

import pytest
from bootable import arm64
from osimages import TREES

from .firmware.files import Served, foreign_grub
from .firmware.servers import start_address_server, start_router
from .lab import Lab, Program, need
from .machines.bios import start_bios_machine
from .machines.disks import cd, disk
from .machines.linux import busybox, initramfs, linux_kernel
from .machines.screen import COLUMNS, Screen
from .machines.uefi import start_uefi_machine
from .qemu import SECONDS, Card, start_machine
from .service import BOOTFW, OWN_STATE, start_bootfw

pytestmark = pytest.mark.interop

DOWN, ENTER = "\x1b[B", "\r"
KERNEL = "debian/vmlinuz"


@pytest.fixture
def marker() -> str:
    return f"marker-{secrets.token_hex(8)}"


@pytest.fixture
def root(tmp_path: Path, marker: str) -> Path:
    return boot_directory(tmp_path, marker)


def boot_directory(scratch: Path, marker: str, architecture: str = "amd64", console: str = "ttyS0") -> Path:
    """With a Linux system in it, that prints the marker and switches the machine off."""
    path = scratch / "boot"
    (path / "debian").mkdir(parents=True)
    shutil.copy(linux_kernel(architecture), path / KERNEL)
    (path / "debian/initrd.gz").write_bytes(initramfs(scratch, marker, busybox(architecture)))
    (path / "debian/cmdline").write_text(f"# for QEMU\nconsole={console} panic=-1\n")
    return path


def serve(lab: Lab, root: Path, files: dict[str, str], *backends: str) -> Program:
    """bootfw gives addresses and boot files; *backends* come between the directory and the distribution."""
    boot_files = "\n".join(f'"{name}" = "{file}"' for name, file in files.items())
    configuration = f"""
        [bootfw]
        state-dir = "{lab.directory / "state"}"
        [http]
        listen = ["0.0.0.0:8069"]
        [dhcp]
        mode = "server"
        [[dhcp.subnet]]
        network = "10.77.0.0/24"
        pool = ["10.77.0.100-10.77.0.200"]
        [[backend]]
        use = "directory"
        root = "{root}"
        {"".join(backends)}
        [[backend]]
        use = "distribution"
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        {boot_files}
    """
    start_router(lab)
    return start_bootfw(lab.host("bootfw", "10.77.0.1/24"), lab.directory, configuration, 67, 69)


def menu_backend(root: Path, **options: str | int) -> str:
    settings = "\n".join(f"{key.replace('_', '-')} = {value!r}" for key, value in options.items())
    return f'\n[[backend]]\nuse = "menu"\nroot = "{root}"\n{settings}\n'


def template_backend(tmp_path: Path, templates: dict[str, str], files: str = "{}") -> str:
    for name, text in templates.items():
        path = tmp_path / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "hosts").mkdir()
    (tmp_path / "hosts/web1.toml").write_text('mac = "52:54:00:aa:00:01"\nrole = "web"\n')
    directories = f'root = "{tmp_path}/templates"\nhosts = "{tmp_path}/hosts"'
    return f'\n[[backend]]\nuse = "template"\n{directories}\nfiles = {files}\n'


def test_without_a_configuration_there_is_a_menu_of_the_boot_directory(lab: Lab, root: Path, marker: str) -> None:
    """Beside a server that gives the addresses. The second entry is chosen by hand: the first is the local disk."""
    start_address_server(lab)
    start_router(lab)
    host = lab.host("bootfw", "10.77.0.1/24")
    mounts = f"mount -t tmpfs none /srv; mkdir /srv/boot; mount --bind {root} /srv/boot; {OWN_STATE}"
    server = host.start(*BOOTFW, name="bootfw", setup_command=mounts)
    server.wait_until_bound(67, 69, 4011)
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Boot from the local disk", SECONDS)
    console.wait_for("vmlinuz (6", SECONDS)
    console.type(DOWN)
    console.type(ENTER)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


def test_the_local_disk_is_next_without_a_choice(lab: Lab, root: Path) -> None:
    serve(lab, root, {"ipxe": "boot.ipxe"}, menu_backend(root, timeout_seconds=2))
    console = start_bios_machine(lab, "e1000")
    console.wait_for("vmlinuz (6", SECONDS)
    console.wait_for("No bootable device", SECONDS, "the machine tries its own disk")


@pytest.mark.firmware  # UEFI: test_howto.test_readme_without_a_configuration; the menu: ..._of_the_boot_directory
def test_uefi_boots_the_default_entry_by_ipxe(lab: Lab, root: Path, marker: str) -> None:
    need("/usr/lib/ipxe/snponly.efi")
    files = {"x86_64-uefi": "snponly.efi", "ipxe": "{http}/boot.ipxe"}
    serve(lab, root, files, menu_backend(root, timeout_seconds=2, default=KERNEL))
    console = start_uefi_machine(lab)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


@pytest.mark.firmware  # the menu: ..._a_disk_by_memdisk; PXELINUX with Linux: bios-pxelinux-linux
def test_pxelinux_boots_the_default_entry(lab: Lab, root: Path, marker: str) -> None:
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/modules/bios/menu.c32")
    serve(lab, root, {"x86-bios": "pxelinux.0"}, menu_backend(root, timeout_seconds=2, default=KERNEL, title="Rack 7"))
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Rack 7", SECONDS)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


@pytest.mark.firmware  # its menu: ..._goes_on_to_the_local_disk; GRUB of UEFI with Linux: uefi-grub-linux
def test_grub_boots_the_default_entry(lab: Lab, root: Path, marker: str) -> None:
    grub = "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi"
    need(grub)
    shutil.copy(grub, root / "grubx64.efi")
    serve(lab, root, {"x86_64-uefi": "grubx64.efi"}, menu_backend(root, timeout_seconds=2, default=KERNEL))
    console = start_uefi_machine(lab, memory=1024)
    console.wait_for("Boot from the local disk", SECONDS)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


@pytest.mark.parametrize("name", ["tool.img", "install.iso"])
def test_pxelinux_boots_a_disk_by_memdisk(lab: Lab, tmp_path: Path, marker: str, name: str) -> None:
    need("/usr/lib/PXELINUX/pxelinux.0")
    need("/usr/lib/syslinux/memdisk")
    root = tmp_path / "boot"
    root.mkdir()
    (root / name).write_bytes(disk(marker) if name.endswith(".img") else cd(tmp_path, marker))
    need("/usr/lib/syslinux/modules/bios/menu.c32")
    serve(lab, root, {"x86-bios": "pxelinux.0"}, menu_backend(root, timeout_seconds=2, default=name, title="Rack 7"))
    console = start_bios_machine(lab, "e1000")
    console.wait_for("Rack 7", SECONDS)
    console.wait_for(marker, SECONDS)


def grub(root: Path, platform: str, marker: str, debian_architecture: str = "") -> str:
    """GRUB as grub-mknetdir makes it, of this architecture or another, without a menu; the name of its image."""
    image = Served(root, marker).grub(
        platform, foreign_grub(debian_architecture, platform) if debian_architecture else None
    )
    (root / "grub/grub.cfg").unlink()
    return image


@pytest.mark.firmware  # its menu: ..._goes_on_to_the_local_disk; GRUB with Linux: uefi-grub-linux
def test_grub_on_a_bios_boots_the_default_entry(lab: Lab, root: Path, marker: str) -> None:
    image = grub(root, "i386-pc", marker)
    serve(lab, root, {"x86-bios": image}, menu_backend(root, timeout_seconds=2, default=KERNEL))
    console = start_bios_machine(lab, "e1000", memory=512)
    console.wait_for("Boot from the local disk", SECONDS)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


def test_grub_on_a_bios_boots_the_local_disk_after_the_timeout(lab: Lab, root: Path, marker: str) -> None:
    image = grub(root, "i386-pc", marker)
    serve(lab, root, {"x86-bios": image}, menu_backend(root, timeout_seconds=2))
    console = start_bios_machine(lab, "e1000", memory=512)
    console.wait_for("vmlinuz (6", SECONDS)
    console.wait_for("No bootable device", SECONDS, "the machine tries its own disk")


@pytest.mark.firmware  # the same, and uefi-arm64-grub
def test_grub_on_arm64_boots_the_default_entry(lab: Lab, tmp_path: Path, marker: str) -> None:
    root = boot_directory(tmp_path, marker, "arm64", "ttyAMA0")
    image = grub(root, "arm64-efi", marker, "arm64")
    serve(lab, root, {"arm64-uefi": image}, menu_backend(root, timeout_seconds=2, default=KERNEL))
    console = start_uefi_machine(lab, "arm64", memory=1024)
    console.wait_for("Boot from the local disk", SECONDS)
    assert console.wait(SECONDS) == 0
    assert marker in console.output


@pytest.mark.parametrize(
    ("kind", "debian_architecture", "loader"),
    [
        pytest.param("x86_64", "", "EFI/debian/grubx64.efi", marks=pytest.mark.firmware),
        ("arm64", "arm64", "EFI/BOOT/BOOTAA64.EFI"),
    ],
)
def test_grub_on_uefi_boots_the_local_disk_after_the_timeout(
    lab: Lab, tmp_path: Path, marker: str, kind: str, debian_architecture: str, loader: str
) -> None:
    """Of what is installed there, as of a removable one. GRUB can't have the firmware do that."""
    platform = f"{kind}-efi"
    root = boot_directory(
        tmp_path, marker, debian_architecture or "amd64", "ttyAMA0" if debian_architecture else "ttyS0"
    )
    image = grub(root, platform, marker, debian_architecture)
    loader_path = tmp_path / "disk" / loader
    loader_path.parent.mkdir(parents=True)
    program = Served(root, marker).grub_with_marker(
        platform, foreign_grub(debian_architecture, platform) if debian_architecture else None
    )
    (root / program).rename(loader_path)
    serve(lab, root, {f"{kind}-uefi": image}, menu_backend(root, timeout_seconds=2))
    card = Card("virtio-net-pci", "romfile=,bootindex=1")
    console = start_uefi_machine(lab, kind, cards=(card,), memory=1024, disk=tmp_path / "disk")
    console.wait_for("Boot from the local disk", SECONDS)
    console.wait_for(marker, SECONDS, "what is on the disk")


def test_autoexec_breaks_the_loop_when_dhcp_always_names_ipxe(lab: Lab, root: Path, marker: str) -> None:
    """As if the script were what DHCP names: iPXE of Debian 12 does not request it by itself yet."""
    (root / "boot.ipxe").write_text(f"#!ipxe\necho {marker}\n")
    serve(lab, root, {"ipxe": "autoexec.ipxe"}, menu_backend(root))
    console = start_bios_machine(lab, "e1000")
    console.wait_for(marker, SECONDS)


CARD = Card("e1000", mac="52:54:00:aa:00:01")


def test_a_script_is_generated_for_the_requesting_machine(lab: Lab, root: Path, tmp_path: Path, marker: str) -> None:
    script = f"#!ipxe\necho {{{{ host.name }}}} {{{{ host.role }}}} {{{{ client.architecture }}}} {marker}\n"
    serve(lab, root, {"ipxe": "boot.ipxe"}, template_backend(tmp_path, {"boot.ipxe.j2": script}))
    console = start_bios_machine(lab, cards=(CARD,))
    console.wait_for(f"web1 web x86-bios {marker}", SECONDS)


def test_a_mistake_in_a_template_is_reported_to_the_operator(lab: Lab, root: Path, tmp_path: Path) -> None:
    server = serve(
        lab, root, {"ipxe": "boot.ipxe"}, template_backend(tmp_path, {"boot.ipxe.j2": "#!ipxe\n\n{{ nope }}\n"})
    )
    start_bios_machine(lab, cards=(CARD,))
    server.wait_for("boot.ipxe.j2:3: 'nope' is undefined", SECONDS)
    assert "Traceback" not in server.output


def test_pxelinux_gets_its_host_configuration_by_uuid(lab: Lab, root: Path, tmp_path: Path, marker: str) -> None:
    need("/usr/lib/PXELINUX/pxelinux.0")
    config = f"SAY {{{{ host.name }}}} {{{{ path }}}} {marker}\n"
    backend = template_backend(tmp_path, {"pxelinux.j2": config}, '{"pxelinux.cfg/*" = "pxelinux.j2"}')
    serve(lab, root, {"x86-bios": "pxelinux.0"}, backend)
    console = start_bios_machine(lab, cards=(CARD,), uuid="52420077-1234-4abc-9def-0123456789ab")
    console.wait_for(f"web1 pxelinux.cfg/77004252-3412-bc4a-9def-0123456789ab {marker}", SECONDS)


def test_ipxe_boots_a_cd_over_http(lab: Lab, root: Path) -> None:
    """The CD has iPXE on it, which requests the menu once more."""
    need("/usr/lib/ipxe/ipxe.iso")
    shutil.copy("/usr/lib/ipxe/ipxe.iso", root / "again.iso")
    server = serve(lab, root, {"ipxe": "{http}/boot.ipxe"}, menu_backend(root, timeout_seconds=2, default="again.iso"))
    start_bios_machine(lab, "e1000")
    server.wait_for("got '/again.iso'", SECONDS)
    log_line = "got '/boot.ipxe'"
    server.wait_until(lambda: server.output.count(log_line) > 1, SECONDS, "the CD's iPXE asks for the menu")


# Images of operating systems

PICTURES = Path(__file__).parents[2] / "docs/pictures"

SYSTEMS = {
    "debian-12": ("debian-netboot", {"linux": 8, "initrd.gz": 40}),
    "arch": ("arch", {"vmlinuz-linux": 13, "initramfs-linux.img": 150, "airootfs.sfs": 830}),
    "alma-9": ("redhat-boot", {"vmlinuz": 13, "initrd.img": 95, "install.img": 770}),
    "esxi-7": ("esxi", {}),
    "rescue": ("systemrescue", {"vmlinuz": 13, "sysresccd.img": 30, "airootfs.sfs": 760}),
}
"""Name of an image -> its tree, and the megabytes that some of its files have."""


def create_images(directory: Path) -> None:
    """Images as directories: the headers of kernels, and holes."""
    for name, (family, sizes) in SYSTEMS.items():
        for path, data in next(tree for tree in TREES if tree.family == family).files.items():
            file = directory / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            if megabytes := sizes.get(file.name):
                os.truncate(file, megabytes * 1_000_000)
    shutil.copytree(directory / "debian-12", directory / "for-arm")
    (directory / "for-arm/debian-installer/amd64/linux").write_bytes(arm64())


@pytest.mark.firmware
@pytest.mark.parametrize("loader", ["ipxe", "pxelinux", "grub"])
def test_menu_has_the_systems_that_the_machine_can_run(
    lab: Lab, tmp_path: Path, loader: str, request: pytest.FixtureRequest
) -> None:
    """`pytest --record-pictures` writes the pictures into the documentation."""
    root = tmp_path / "boot"
    root.mkdir()
    create_images(root / "images")
    boot_files_of_loaders = {"ipxe": {"ipxe": "boot.ipxe"}, "pxelinux": {"x86-bios": "pxelinux.0"}}
    if loader == "pxelinux":
        need("/usr/lib/PXELINUX/pxelinux.0")
        need("/usr/lib/syslinux/modules/bios/menu.c32")
    boot_files = (
        boot_files_of_loaders[loader] if loader in boot_files_of_loaders else {"x86-bios": grub(root, "i386-pc", "")}
    )
    serve(lab, root, boot_files, menu_backend(root, images=str(root / "images"), timeout_seconds=900))
    with Screen(tmp_path) as screen:
        options = ("-machine", "pc", "-boot", "n", *screen.options)
        machine = start_machine(lab, "qemu-system-x86_64", *options, cards=(Card("e1000"),), memory=512)
        last_line = {"ipxe": "Start again", "pxelinux": "is booted in", "grub": "Start again"}[loader]
        machine.wait_until(lambda: last_line in screen.text(), SECONDS, "the menu is shown as a whole")
        text = screen.text()
        directory = PICTURES if request.config.getoption("--record-pictures") else tmp_path
        screen.picture(directory / f"systems-{loader}.png")
    for title in (
        "Debian 12 installer (debian-12)",
        "Arch Linux 2024.01.01 (arch)",
        "AlmaLinux 9.3 (packages from a mirror) (alma-9)",
        "SystemRescue 10.02 (rescue)",
        *(["VMware ESXi 7.0.3 (esxi-7)"] if loader != "grub" else []),
    ):
        assert sum(title in line for line in text.splitlines()) == 1, text
    assert "for-arm" not in text
    assert loader != "grub" or "ESXi" not in text
    assert "48 MB" in next(line for line in text.splitlines() if "(debian-12)" in line)
    assert all(len(line) <= COLUMNS for line in text.splitlines())
    assert (directory / f"systems-{loader}.png").stat().st_size > 1000
