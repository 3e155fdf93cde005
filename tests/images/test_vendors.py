"""The boot files that are made for each image, compared with what the vendor documents.

``DOCUMENTED`` has the files and arguments of the vendor's own example, with our places for the vendor's. Where the boot
files differ from it, the reason is named.
"""

import re
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

import pytest
from archives import make_iso
from attrs import field, frozen
from osimages import TREES

from bootfw.api import PluginContext, TransferRequest
from bootfw.backends.menu import MenuBackend
from bootfw.backends.menu import plugin as menu_plugin
from bootfw.plugins import configure

HTTP = "http://10.0.0.1:8069"
ANSWERS = f"{HTTP}/answers/file"


@frozen
class Documented:
    """What a vendor documents for images of a family."""

    family: str
    source: str
    files: Sequence[str]
    """The kernel and the initial RAM disks, as they are named in the image."""
    arguments: str
    """CONTENT and IMAGE stand for the URLs of the files in the image and of the image, ANSWERS for that of the
    answers."""
    omitted: Mapping[str, str] = field(factory=dict)
    """An argument of the documentation that is not given -> why."""
    additional: Mapping[str, str] = field(factory=dict)
    """An argument that is given, but not documented there -> why."""
    loaders: Sequence[str] = ("ipxe", "grub", "pxelinux")


_CARDS = "all network cards are tried"
_FIRST_CARD = {"ip=dhcp": "the kernel's and the initial RAM disk's default is no network"}
_CASPER = "casper's initial RAM disk is an initramfs, not a block device"
_QUIET = "the messages of a boot over the network help to find its mistakes"

DOCUMENTED = (
    Documented(
        "debian-netboot",
        "https://www.debian.org/releases/bookworm/amd64/apbs02.en.html, B.2.2 to B.2.4: parameters, auto mode, aliases",
        ["debian-installer/amd64/linux", "debian-installer/amd64/initrd.gz"],
        "auto=true url=ANSWERS priority=critical interface=auto",
    ),
    Documented(
        "ubuntu-server",
        "https://documentation.ubuntu.com/server/how-to/installation/how-to-netboot-the-server-installer-on-amd64/ and "
        "https://canonical-subiquity.readthedocs-hosted.com/en/latest/howto/autoinstall-quickstart.html",
        ["casper/vmlinuz", "casper/initrd"],
        "root=/dev/ram0 ramdisk_size=1500000 ip=dhcp cloud-config-url=/dev/null url=IMAGE "
        f"autoinstall ds=nocloud-net;s={HTTP}/answers/",
        omitted={"root=/dev/ram0": _CASPER, "ramdisk_size=1500000": _CASPER},
    ),
    Documented(
        "proxmox",
        "grub.cfg of the image, the entry of the graphical installer",
        ["boot/linux26", "boot/initrd.img"],
        "ro ramdisk_size=16777216 rw quiet splash=silent",
        omitted={"ro": "the last one of ro and rw counts"},
        loaders=["ipxe", "grub"],
    ),
    Documented(
        "proxmox-automated",
        "grub.cfg of the image, the entry that it has if there is auto-installer-mode.toml; "
        "https://pve.proxmox.com/wiki/Automated_Installation",
        ["boot/linux26", "boot/initrd.img"],
        "ro ramdisk_size=16777216 rw quiet splash=silent proxmox-start-auto-installer",
        omitted={"ro": "the last one of ro and rw counts"},
        loaders=["ipxe", "grub"],
    ),
    Documented(
        "clonezilla",
        "https://github.com/netbootxyz/netboot.xyz, clonezilla.ipxe.j2, after https://clonezilla.org/livepxe.php",
        ["live/vmlinuz", "live/initrd.img"],
        "boot=live username=user union=overlay config components noswap edd=on nomodeset ocs_live_run=ocs-live-general "
        "ocs_live_batch=no net.ifnames=0 nosplash noprompt fetch=CONTENT/live/filesystem.squashfs",
        additional={"ocs_live_extra_param=": "the entries of the image itself have it"},
    ),
    Documented(
        "gparted",
        "https://github.com/netbootxyz/netboot.xyz, gparted.ipxe.j2, after https://gparted.org/livepxe.php",
        ["live/vmlinuz", "live/initrd.img"],
        "boot=live fetch=CONTENT/live/filesystem.squashfs union=overlay username=user vga=788",
        omitted={"vga=788": "a mode of a BIOS, and the kernel sets one by itself"},
        additional=dict.fromkeys(
            ["config", "components", "noswap", "noeject"], "the entries of the image itself have it"
        ),
    ),
    Documented(
        "debian-live",
        "live-boot(7): boot=live, fetch=; live-config(7): components",
        ["live/vmlinuz-6.1.0-15-amd64", "live/initrd.img-6.1.0-15-amd64"],
        "boot=live components fetch=CONTENT/live/filesystem.squashfs",
    ),
    Documented(
        "coreos",
        "https://docs.fedoraproject.org/en-US/fedora-coreos/live-booting/, Booting via iPXE",
        ["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"],
        "coreos.live.rootfs_url=CONTENT/images/pxeboot/rootfs.img ignition.firstboot ignition.platform.id=metal "
        "ignition.config.url=ANSWERS",
    ),
    Documented(
        "redhat-dvd",
        "https://anaconda-installer.readthedocs.io/en/latest/user-guide/boot-options.html: inst.repo, inst.ks, ip",
        ["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"],
        "ip=dhcp inst.repo=CONTENT inst.ks=ANSWERS",
    ),
    Documented(
        "redhat-boot",
        "https://anaconda-installer.readthedocs.io/en/latest/user-guide/boot-options.html: inst.stage2, inst.ks, ip",
        ["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"],
        "ip=dhcp inst.stage2=CONTENT inst.ks=ANSWERS",
    ),
    Documented(
        "fedora-live",
        "dracut.cmdline(7), Booting live images: root=live:URL, rd.live.image",
        ["images/pxeboot/vmlinuz", "images/pxeboot/initrd.img"],
        "root=live:CONTENT/LiveOS/squashfs.img rd.live.image",
        additional=_FIRST_CARD,
    ),
    Documented(
        "agama",
        "https://agama-project.github.io/docs/user/guides/network and /unattended/working-with-profiles",
        ["boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"],
        "root=live:CONTENT/LiveOS/squashfs.img ip=dhcp rd.neednet=1 inst.install_url=CONTENT/install inst.auto=ANSWERS",
    ),
    Documented(
        "suse",
        "https://documentation.suse.com/sles/15-SP6/html/SLES-all/cha-boot-parameters.html: install, autoyast, ifcfg; "
        "https://github.com/netbootxyz/netboot.xyz, opensuse.ipxe.j2",
        ["boot/x86_64/loader/linux", "boot/x86_64/loader/initrd"],
        "netsetup=dhcp install=CONTENT autoyast=ANSWERS",
        omitted={"netsetup=dhcp": "the older name of ifcfg=*=dhcp"},
        additional={"ifcfg=*=dhcp": _CARDS},
    ),
    Documented(
        "arch",
        "https://github.com/archlinux/mkinitcpio-archiso, docs/README.bootparams: archiso_pxe_common, archiso_pxe_http",
        ["arch/boot/x86_64/vmlinuz-linux", "arch/boot/amd-ucode.img", "arch/boot/x86_64/initramfs-linux.img"],
        "archisobasedir=arch archiso_http_srv=CONTENT/ ip=dhcp",
    ),
    Documented(
        "systemrescue",
        "https://www.system-rescue.org/manual/PXE_network_booting/",
        ["sysresccd/boot/x86_64/vmlinuz", "sysresccd/boot/intel_ucode.img", "sysresccd/boot/x86_64/sysresccd.img"],
        "archisobasedir=sysresccd ip=dhcp archiso_http_srv=CONTENT/ checksum",
    ),
    Documented(
        "alpine",
        "https://wiki.alpinelinux.org/wiki/PXE_boot: ip, apkovl, alpine_repo, modloop",
        ["boot/vmlinuz-lts", "boot/initramfs-lts"],
        "ip=dhcp apkovl=ANSWERS alpine_repo=CONTENT/apks modloop=CONTENT/boot/modloop-lts",
        additional={"modules=loop,squashfs,sd-mod,usb-storage": "the entries of the image itself have it"},
    ),
    Documented(
        "nixos-netboot",
        "https://github.com/NixOS/nixpkgs, nixos/modules/installer/netboot/netboot.nix: netboot.ipxe",
        ["bzImage", "initrd"],
        "init=/nix/store/abc/init loglevel=4",
    ),
    Documented(
        "talos",
        "https://www.talos.dev/latest/reference/kernel/ and https://github.com/siderolabs/talos, "
        "pkg/imager/imager_test.go: the command line of metal images",
        ["boot/vmlinuz", "boot/initramfs.xz"],
        "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge pti=on consoleblank=0 "
        "nvme_core.io_timeout=4294967295 printk.devkmsg=on talos.config=ANSWERS",
    ),
    Documented(
        "flatcar-files",
        "https://www.flatcar.org/docs/latest/installing/bare-metal/booting-with-ipxe/",
        ["flatcar_production_pxe.vmlinuz", "flatcar_production_pxe_image.cpio.gz"],
        "flatcar.first_boot=1 ignition.config.url=ANSWERS",
    ),
    Documented(
        "memtest86-plus",
        "https://github.com/memtest86plus/memtest86plus, README.md: as a Linux kernel without an initial RAM disk",
        ["EFI/BOOT/bootx64.efi"],
        "",
    ),
)

TAKES_BOOTIF = {
    "debian-netboot",  # netcfg, netcfg-common.c: get_bootif()
    "ubuntu-server",  # initramfs-tools, scripts/functions: configure_networking()
    "clonezilla",  # live-boot, 9990-select-eth-device.sh: Device_from_bootif()
    "gparted",
    "debian-live",
    "coreos",  # dracut.cmdline(7), BOOTIF
    "fedora-live",
    "redhat-dvd",
    "redhat-boot",
    "agama",
    "suse",  # linuxrc, file.c: key_bootif
    "arch",  # mkinitcpio-archiso, hooks/archiso_pxe_common
    "systemrescue",
    "alpine",  # mkinitfs, initramfs-init: ip_choose_if()
}
"""Families whose systems take BOOTIF, and where."""

WITHOUT_A_KERNEL = {"esxi", "windows", "mfsbsd", "freedos", "netboot.xyz"}
"""Families whose boot files are compared by tests of their own: ESXi in test_esxi.py."""


@frozen
class Entry:
    """What a boot file has for an image."""

    files: Sequence[str]
    """Paths."""
    arguments: Sequence[str]


@pytest.fixture(scope="module")
def menu(tmp_path_factory: pytest.TempPathFactory) -> MenuBackend:
    """The menu of an image of each documented family, which has its name."""
    root = tmp_path_factory.mktemp("boot")
    (root / "images").mkdir()
    for family in {documented.family for documented in DOCUMENTED} | WITHOUT_A_KERNEL:
        tree = next(tree for tree in TREES if tree.family == family)
        make_iso(root / f"images/{family}.iso", dict(tree.files), volume=tree.volume)
    for program in ("wimboot", "memdisk", "menu.c32"):
        (root / program).write_bytes(b"x")
    menu: MenuBackend = configure(menu_plugin, {"root": str(root), "images": "images"}, PluginContext(None, root))
    return menu


def text(menu: MenuBackend, path: str) -> str:
    request = TransferRequest(path, path, ("10.0.0.9", 2070), local="10.0.0.1", http_url=HTTP)
    data: bytes = menu.open(path, request).read(0, 1 << 20)
    return data.decode("ascii")


def ipxe_entry(script: str) -> Entry:
    """The entry of a script that boots one image."""
    kernel = re.search(r"^kernel (?:--name linux )?(\S+)(.*) \|\| goto \S+$", script, re.MULTILINE)
    assert kernel is not None
    initrds = re.findall(r"^initrd --name initrd\d* (\S+) \|\|", script, re.MULTILINE)
    arguments = [argument for argument in kernel[2].split() if not argument.startswith("initrd=")]
    return Entry([urlsplit(url).path.lstrip("/") for url in (kernel[1], *initrds)], arguments)


def grub_entry(config: str, family: str) -> Entry:
    found = re.search(rf"\({re.escape(family)}\) \..*\n    linux (.*)\n(?:    initrd (.*)\n)?", config)
    assert found is not None
    kernel, *arguments = found[1].replace("\\", "").split()
    initrds = [path for path in (found[2] or "").split() if not path.startswith("newc:")]
    return Entry([path.lstrip("/") for path in (kernel, *initrds)], arguments)


def pxelinux_entry(config: str, family: str) -> Entry:
    pattern = rf"\({re.escape(family)}\) \..*\nMENU INDENT 1\nLINUX (.*)\n(?:INITRD (.*)\n)?(?:APPEND (.*)\n)?"
    found = re.search(pattern, config)
    assert found is not None
    files = [found[1], *filter(None, (found[2] or "").split(","))]
    return Entry([path.removeprefix("::") for path in files], (found[3] or "").split())


def version(menu: MenuBackend, family: str) -> str:
    return next(image.version for image in menu.library.scan() if image.name == family)


def documented_entry(menu: MenuBackend, documented: Documented, *, answers: bool) -> Entry:
    content = f"images/{documented.family}~{version(menu, documented.family)}"
    urls = {"CONTENT": f"{HTTP}/{content}", "IMAGE": f"{HTTP}/{content}.iso", "ANSWERS": ANSWERS}
    line = re.sub("CONTENT|IMAGE|ANSWERS", lambda found: urls[found[0]], documented.arguments)
    arguments = [argument for argument in line.split() if argument not in documented.omitted]
    if not answers:
        answer_prefixes = ("auto=", "priority=", "interface=", "autoinstall", "ds=")
        arguments = [
            argument
            for argument in arguments
            if "/answers/" not in argument and not argument.startswith(answer_prefixes)
        ]
    return Entry([f"{content}/{file}" for file in documented.files], [*arguments, *documented.additional])


def assert_same_entry(actual: Entry, expected: Entry) -> None:
    assert (list(actual.files), sorted(actual.arguments)) == (list(expected.files), sorted(expected.arguments))


def with_bootif(documented: Documented, entry: Entry, argument: str) -> Entry:
    """What is expected of a boot program that tells the system the network card by *argument*."""
    return Entry(entry.files, [*entry.arguments, argument] if documented.family in TAKES_BOOTIF else entry.arguments)


@pytest.mark.parametrize("documented", DOCUMENTED, ids=lambda documented: documented.family)
def test_script_of_ipxe_is_as_documented(menu: MenuBackend, documented: Documented) -> None:
    answers = (
        ANSWERS.removeprefix(HTTP) if "/answers/" in documented.arguments or "ANSWERS" in documented.arguments else ""
    )
    script = text(menu, f"install/{documented.family}{answers}.ipxe")
    expected_entry = documented_entry(menu, documented, answers=True)
    assert_same_entry(ipxe_entry(script), with_bootif(documented, expected_entry, "BOOTIF=01-${netX/mac:hexhyp}"))


@pytest.mark.parametrize(
    "documented",
    [documented for documented in DOCUMENTED if "grub" in documented.loaders],
    ids=lambda documented: documented.family,
)
def test_menu_of_grub_is_as_documented(menu: MenuBackend, documented: Documented) -> None:
    expected_entry = documented_entry(menu, documented, answers=False)
    assert_same_entry(
        grub_entry(text(menu, "grub.cfg"), documented.family),
        with_bootif(documented, expected_entry, "BOOTIF=01-$net_default_mac"),
    )


@pytest.mark.parametrize(
    "documented",
    [documented for documented in DOCUMENTED if "pxelinux" in documented.loaders],
    ids=lambda documented: documented.family,
)
def test_menu_of_pxelinux_is_as_documented(menu: MenuBackend, documented: Documented) -> None:
    config = text(menu, "pxelinux.cfg/default")
    assert_same_entry(pxelinux_entry(config, documented.family), documented_entry(menu, documented, answers=False))
    entry = config[config.index(f"({documented.family})") :].partition("\nLABEL ")[0]
    assert ("\nIPAPPEND 2\n" in entry) == (documented.family in TAKES_BOOTIF)


def test_every_family_that_can_be_booted_is_compared() -> None:
    same_as = {
        "flatcar": "flatcar-files",
        "talos-files": "talos",
        "fedora-dvd": "redhat-dvd",
        "agama-online": "agama",
        "alpine-netboot": "alpine",
        "ubuntu-desktop": "ubuntu-server",
    }
    bootable = {tree.family for tree in TREES if tree.arguments} - {"receiver"}  # its vendor is bootfw
    assert bootable == {documented.family for documented in DOCUMENTED} | WITHOUT_A_KERNEL | set(same_as)


def test_windows_is_booted_as_wimboot_documents(menu: MenuBackend) -> None:
    """https://ipxe.org/howto/winpe, and https://ipxe.org/appnote/wimboot_architecture on the two names of each file."""
    script = text(menu, "install/windows.ipxe")
    directory = f"{HTTP}/images/windows~{version(menu, 'windows')}"
    files = {"bootmgr": "bootmgr", "BCD": "boot/bcd", "boot.sdi": "boot/boot.sdi", "boot.wim": "sources/boot.wim"}
    expected_lines = [f"kernel {HTTP}/wimboot"]
    expected_lines += [f"initrd --name {name} {directory}/{path} {name}" for name, path in files.items()]
    assert lines_from(script, expected_lines[0], len(expected_lines) + 1) == [*expected_lines, "boot"]
    # https://github.com/ipxe/wimboot, commit 7f42b27: "initrd /cgi-bin/winpeshl.ini winpeshl.ini", for one.
    script = text(menu, "install/windows/windows/unattend.xml.ipxe")
    names = ("winpeshl.ini", "startnet.cmd", "unattend.xml")
    expected_lines += [f"initrd --name {name} {HTTP}/windows/{name} {name}" for name in names]
    assert lines_from(script, expected_lines[0], len(expected_lines) + 1) == [*expected_lines, "boot"]


def lines_from(script: str, first: str, count: int) -> list[str]:
    """The lines of a script from *first* on, without what they do after a failure."""
    lines = [line.removesuffix(" || goto failed") for line in script.splitlines()]
    return lines[lines.index(first) :][:count]


@pytest.mark.parametrize(("family", "arguments"), [("freedos", "iso raw"), ("mfsbsd", "iso raw")])
def test_disks_are_booted_as_memdisk_documents(menu: MenuBackend, family: str, arguments: str) -> None:
    """https://wiki.syslinux.org/wiki/index.php?title=MEMDISK: LINUX memdisk, INITRD the image, APPEND iso raw."""
    path = f"images/{family}~{version(menu, family)}.iso"
    assert f"LINUX ::memdisk\nINITRD ::{path}\nAPPEND {arguments}\n" in text(menu, "pxelinux.cfg/default")
    assert f"sanboot --no-describe {HTTP}/{path} || goto failed\n" in text(menu, f"install/{family}.ipxe")


def test_netboot_xyz_is_chained_as_it_documents(menu: MenuBackend) -> None:
    """https://netboot.xyz/docs/booting/ipxe/: netboot.xyz.lkrn is started as a kernel."""
    path = f"images/netboot.xyz~{version(menu, 'netboot.xyz')}/netboot.xyz.lkrn"
    assert ipxe_entry(text(menu, "install/netboot.xyz.ipxe")) == Entry([path], [])
