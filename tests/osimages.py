"""Trees with the file names of operating systems' images, and small contents.

The names are from images, or from the vendors' public file lists; the expected arguments are from the documentation
that ``source`` in images.toml names.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen
from bootable import arm64, bzimage

from bootfw.images.listing import Listing

CONFIG = """
[bootfw]
state-dir = "state"
[http]
listen = ["127.0.0.1:0"]
[[backend]]
use = "template"
root = "answers"
hosts = "hosts"
[[backend]]
use = "images"
root = "images"
[[backend]]
use = "menu"
root = "."
images = "images"
[[resolver]]
use = "next-boot"
"""
"""A server that installs systems: directories for answers, hosts and images."""

PC = bzimage("6.1.0", efi=0x8664)

_TREEINFO = b"""[checksums]
images/install.img = sha256:0
[general]
; WARNING.0 = This section provides compatibility with pre-productmd treeinfos.
arch = x86_64
family = %(family)s
name = %(family)s %(version)s
version = %(version)s
[header]
type = productmd.treeinfo
version = 1.2
"""

PXEBOOT = {"images/pxeboot/vmlinuz": PC, "images/pxeboot/initrd.img": b"x"}

ESXI_BOOT_CFG = b"""bootstate=0
title=Loading ESXi installer
timeout=5
prefix=
kernel=/b.b00
kernelopt=runweasel cdromBoot
modules=/jumpstrt.gz --- /useropts.gz --- /features.gz --- /k.b00
build=7.0.3-0.0.18644231
updated=0
"""


def treeinfo(family: str, version: str) -> bytes:
    return _TREEINFO % {b"family": family.encode(), b"version": version.encode()}


@frozen
class Tree:
    """The files of an image, and what should be found about it."""

    family: str
    title: str
    files: Mapping[str, bytes]
    volume: str = ""
    arguments: Sequence[str] = ()
    """The kernel arguments of each way to boot it, with the URLs of ``ARGUMENTS_AT``."""
    kernels: Sequence[str] = ()
    answers: str = ""
    """The arguments that point the first way to its answers."""
    needs_http: bool = True
    image_bytes: int = field(default=700_000_000)

    @property
    def listing(self) -> Listing:
        return listing(self.files, self.volume, self.image_bytes)


def listing(files: Mapping[str, bytes], volume: str = "", image_bytes: int = 0) -> Listing:
    sizes = {path: len(data) for path, data in files.items()}
    return Listing(sizes, lambda path, most: files[path][:most], volume, image_bytes)


SQUASHFS = {"live/vmlinuz": PC, "live/initrd.img": b"x", "live/filesystem.squashfs": bytes(5000)}

TREES = (
    Tree(
        "debian-netboot",
        "Debian 12 installer",
        {
            "debian-installer/amd64/linux": PC,
            "debian-installer/amd64/initrd.gz": b"x",
            "version.info": b"Debian version:  12 (bookworm)\nInstaller build: 20230607+deb12u15\n",
        },
        arguments=[""],
        kernels=["debian-installer/amd64/linux"],
        answers="auto=true priority=critical interface=auto url=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "debian-cd",
        "Debian 12.4.0 NETINST",
        {
            ".disk/info": b'Debian GNU/Linux 12.4.0 "Bookworm" - Official amd64 NETINST with firmware 20231210-17:57',
            "install.amd/vmlinuz": PC,
            "install.amd/initrd.gz": b"x",
            "dists/bookworm/Release": b"",
        },
        volume="Debian 12.4.0 amd64 n",
    ),
    Tree(
        "debian-live",
        "Debian 12.4.0 live",
        {
            ".disk/info": b'Debian GNU/Linux 12.4.0 "Bookworm" - Official Live Build for amd64 gnome 2023-12-10T11:40',
            "live/vmlinuz-6.1.0-15-amd64": PC,
            "live/initrd.img-6.1.0-15-amd64": b"x",
            "live/filesystem.squashfs": bytes(5000),
        },
        volume="d-live 12.4.0 gn amd64",
        arguments=["boot=live components fetch=http://s/content/live/filesystem.squashfs"],
        kernels=["live/vmlinuz-6.1.0-15-amd64"],
    ),
    Tree(
        "clonezilla",
        "Clonezilla live 3.1.2-9",
        {**SQUASHFS, "Clonezilla-Live-Version": b"clonezilla-live-3.1.2-9-amd64\n"},
        arguments=[
            "boot=live union=overlay username=user config components noswap edd=on nomodeset "
            "ocs_live_run=ocs-live-general ocs_live_extra_param= ocs_live_batch=no net.ifnames=0 nosplash noprompt "
            "fetch=http://s/content/live/filesystem.squashfs"
        ],
    ),
    Tree(
        "gparted",
        "GParted live 1.6.0-3",
        {**SQUASHFS, "GParted-Live-Version": b"1.6.0-3\n"},
        arguments=[
            "boot=live config components union=overlay username=user noswap noeject "
            "fetch=http://s/content/live/filesystem.squashfs"
        ],
    ),
    Tree(
        "ubuntu-server",
        "Ubuntu Server 24.04",
        {
            ".disk/info": b'Ubuntu-Server 24.04 LTS "Noble Numbat" - Release amd64 (20240423)',
            "casper/vmlinuz": PC,
            "casper/initrd": b"x",
            "casper/ubuntu-server-minimal.squashfs": b"x",
        },
        arguments=["ip=dhcp url=http://s/image.iso cloud-config-url=/dev/null"],
        answers="autoinstall ds=nocloud-net;s=http://s/",
    ),
    Tree(
        "ubuntu-desktop",
        "Ubuntu 24.04",
        {
            ".disk/info": b'Ubuntu 24.04 LTS "Noble Numbat" - Release amd64 (20240424)',
            "casper/vmlinuz": PC,
            "casper/initrd": b"x",
        },
        arguments=["ip=dhcp boot=casper url=http://s/image.iso"],
    ),
    Tree(
        "proxmox",
        "Proxmox pve 8.1",
        {
            ".cd-info": b"PRODUCT='pve'\nPRODUCTLONG='Proxmox VE'\nRELEASE='8.1'\n",
            "boot/linux26": PC,
            "boot/initrd.img": b"x",
        },
        arguments=["ramdisk_size=16777216 rw quiet splash=silent"],
        needs_http=False,
    ),
    Tree(
        "proxmox-automated",
        "Proxmox pve 9.0, unattended",
        {
            ".cd-info": b"PRODUCT='pve'\nPRODUCTLONG='Proxmox VE'\nRELEASE='9.0'\n",
            "auto-installer-mode.toml": b'mode = "http"\n',
            "boot/linux26": PC,
            "boot/initrd.img": b"x",
        },
        arguments=["ramdisk_size=16777216 rw quiet splash=silent proxmox-start-auto-installer"],
        needs_http=False,
    ),
    Tree(
        "redhat-dvd",
        "Red Hat Enterprise Linux 9.3",
        {
            ".treeinfo": treeinfo("Red Hat Enterprise Linux", "9.3"),
            **PXEBOOT,
            "images/install.img": bytes(900),
            "BaseOS/repodata/repomd.xml": b"",
        },
        volume="RHEL-9-3-0-BaseOS-x86_64",
        arguments=["ip=dhcp inst.repo=http://s/content"],
        answers="inst.ks=http://s/answers",
    ),
    Tree(
        "redhat-boot",
        "AlmaLinux 9.3 (packages from a mirror)",
        {".treeinfo": treeinfo("AlmaLinux", "9.3"), **PXEBOOT, "images/install.img": bytes(900)},
        arguments=["ip=dhcp inst.stage2=http://s/content"],
        answers="inst.ks=http://s/answers",
    ),
    Tree(
        "redhat-dvd",
        "Rocky Linux 9.3",
        {
            ".treeinfo": treeinfo("Rocky Linux", "9.3"),
            **PXEBOOT,
            "images/install.img": bytes(900),
            "AppStream/repodata/repomd.xml": b"",
        },
        arguments=["ip=dhcp inst.repo=http://s/content"],
    ),
    Tree(
        "fedora-dvd",
        "Fedora 39",
        {
            ".treeinfo": treeinfo("Fedora", "39"),
            **PXEBOOT,
            "images/install.img": bytes(900),
            "repodata/repomd.xml": b"",
        },
        arguments=["ip=dhcp inst.repo=http://s/content"],
    ),
    Tree(
        "fedora-live",
        "Fedora 39 live",
        {**PXEBOOT, "LiveOS/squashfs.img": bytes(9000)},
        volume="Fedora-WS-Live-39-1-5",
        arguments=["root=live:http://s/content/LiveOS/squashfs.img rd.live.image ip=dhcp"],
    ),
    Tree(
        "coreos",
        "fedora CoreOS 39.20231101.3.0 live",
        {**PXEBOOT, "images/pxeboot/rootfs.img": bytes(9000)},
        volume="fedora-coreos-39.20231101.3.0",
        arguments=[
            "coreos.live.rootfs_url=http://s/content/images/pxeboot/rootfs.img ignition.firstboot "
            "ignition.platform.id=metal"
        ],
        answers="ignition.config.url=http://s/answers",
    ),
    Tree(
        "suse",
        "openSUSE 15.5",
        {
            "media.1/products": b"/ openSUSE-Leap 15.5-1\n",
            "boot/x86_64/loader/linux": PC,
            "boot/x86_64/loader/initrd": b"x",
        },
        arguments=["ifcfg=*=dhcp install=http://s/content"],
        answers="autoyast=http://s/answers",
    ),
    Tree(
        "agama",
        "Leap 16.0 installer",
        {
            "LiveOS/squashfs.img": bytes(9000),
            "boot/x86_64/loader/linux": PC,
            "boot/x86_64/loader/initrd": b"x",
            "install/repodata/repomd.xml": b"",
        },
        volume="Install-Leap-16.0-x86_64",
        arguments=[
            "root=live:http://s/content/LiveOS/squashfs.img ip=dhcp rd.neednet=1 inst.install_url=http://s/content/install"
        ],
        answers="inst.auto=http://s/answers",
    ),
    Tree(
        "agama-online",
        "Leap 16.0 installer (packages from a mirror)",
        {
            "LiveOS/squashfs.img": bytes(9000),
            "boot/x86_64/loader/linux": PC,
            "boot/x86_64/loader/initrd": b"x",
        },
        volume="Install-Leap-16.0-x86_64",
        arguments=["root=live:http://s/content/LiveOS/squashfs.img ip=dhcp rd.neednet=1"],
        answers="inst.auto=http://s/answers",
    ),
    Tree(
        "arch",
        "Arch Linux 2024.01.01",
        {
            "arch/boot/x86_64/vmlinuz-linux": PC,
            "arch/boot/x86_64/initramfs-linux.img": b"x",
            "arch/boot/amd-ucode.img": b"x",
            "arch/x86_64/airootfs.sfs": bytes(7000),
            "arch/version": b"2024.01.01\n",
        },
        volume="ARCH_202401",
        arguments=["ip=dhcp archisobasedir=arch archiso_http_srv=http://s/content/"],
    ),
    Tree(
        "systemrescue",
        "SystemRescue 10.02",
        {
            "sysresccd/boot/x86_64/vmlinuz": PC,
            "sysresccd/boot/x86_64/sysresccd.img": b"x",
            "sysresccd/boot/intel_ucode.img": b"x",
            "sysresccd/x86_64/airootfs.sfs": bytes(7000),
            "sysresccd/VERSION": b"10.02\n",
        },
        arguments=["ip=dhcp archisobasedir=sysresccd archiso_http_srv=http://s/content/ checksum"],
    ),
    Tree(
        "alpine",
        "Alpine Linux 3.19.0",
        {
            ".alpine-release": b"alpine-standard-3.19.0 231207\n",
            "boot/vmlinuz-lts": PC,
            "boot/initramfs-lts": b"x",
            "boot/modloop-lts": bytes(800),
            "apks/x86_64/APKINDEX.tar.gz": b"x",
        },
        arguments=[
            "ip=dhcp modules=loop,squashfs,sd-mod,usb-storage modloop=http://s/content/boot/modloop-lts "
            "alpine_repo=http://s/content/apks"
        ],
        answers="apkovl=http://s/answers",
    ),
    Tree(
        "alpine-netboot",
        "Alpine Linux netboot",
        {"boot/vmlinuz-lts": PC, "boot/initramfs-lts": b"x", "boot/modloop-lts": bytes(800)},
        arguments=["ip=dhcp modules=loop,squashfs,sd-mod,usb-storage modloop=http://s/content/boot/modloop-lts"],
        answers="apkovl=http://s/answers",
    ),
    Tree(
        "nixos-netboot",
        "NixOS",
        {
            "bzImage": PC,
            "initrd": b"x",
            "netboot.ipxe": b"#!ipxe\nkernel bzImage init=/nix/store/abc/init initrd=initrd loglevel=4 ${cmdline}\n",
        },
        arguments=["init=/nix/store/abc/init loglevel=4"],
        kernels=["bzImage"],
        needs_http=False,
    ),
    Tree(
        "nixos-netboot",
        "NixOS",
        {
            "Image": arm64(),
            "initrd": b"x",
            "netboot.ipxe": b"#!ipxe\nkernel Image init=/nix/store/abc/init initrd=initrd console=ttyAMA0 ${cmdline}\n",
        },
        arguments=["init=/nix/store/abc/init console=ttyAMA0"],
        kernels=["Image"],
        needs_http=False,
    ),
    Tree(
        "nixos-cd",
        "NixOS 25.05",
        {
            "boot/nix/store/v8ksl5fd07s8j0zarmcysbjzfspsljla-linux-6.12.48/bzImage": PC,
            "boot/nix/store/5ab6vlsy-initrd-linux-6.12.48/initrd": b"x",
            "nix-store.squashfs": bytes(900),
        },
        volume="nixos-minimal-25.05-x86_64",
    ),
    Tree(
        "nixos-cd",
        "NixOS 23.11",
        {"boot/bzImage": PC, "boot/initrd": b"x", "nix-store.squashfs": bytes(900)},
        volume="nixos-minimal-23.11-x86_64",
    ),
    Tree(
        "talos",
        "Talos Linux 1.13.7",
        {"boot/vmlinuz": PC, "boot/initramfs.xz": b"x"},
        volume="TALOS_V1_13_7",
        arguments=[
            "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge pti=on consoleblank=0 "
            "nvme_core.io_timeout=4294967295 printk.devkmsg=on"
        ],
        answers="talos.config=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "talos-files",
        "Talos Linux",
        {
            "vmlinuz-amd64": PC,
            "initramfs-amd64.xz": b"x",
            "vmlinuz-arm64": arm64(),
            "initramfs-arm64.xz": b"x",
        },
        arguments=[
            "talos.platform=metal console=tty0 init_on_alloc=1 slab_nomerge pti=on consoleblank=0 "
            "nvme_core.io_timeout=4294967295 printk.devkmsg=on"
        ]
        * 2,
        kernels=["vmlinuz-amd64", "vmlinuz-arm64"],
        answers="talos.config=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "flatcar-files",
        "Flatcar Container Linux",
        {"flatcar_production_pxe.vmlinuz": PC, "flatcar_production_pxe_image.cpio.gz": b"x"},
        arguments=["flatcar.first_boot=1"],
        answers="ignition.config.url=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "flatcar",
        "Flatcar Container Linux",
        {"flatcar/vmlinuz": PC, "flatcar/cpio.gz": b"x"},
        arguments=["flatcar.first_boot=1 flatcar.autologin"],
        answers="ignition.config.url=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "esxi",
        "VMware ESXi 7.0.3",
        {
            "BOOT.CFG": ESXI_BOOT_CFG,
            "EFI/BOOT/BOOTX64.EFI": b"x",
            "MBOOT.C32": b"x",
            "B.B00": b"x",
        },
        volume="ESXI-7.0U3-18644231-STANDARD",
        arguments=["-c http://s/content/boot.cfg"] * 2,
        kernels=["EFI/BOOT/BOOTX64.EFI", "MBOOT.C32"],
        answers="ks=http://s/answers",
        needs_http=False,
    ),
    Tree(
        "windows",
        "Windows setup",
        {"bootmgr": b"x", "boot/bcd": b"x", "boot/boot.sdi": b"x", "sources/boot.wim": bytes(900)},
        volume="CCCOMA_X64FRE_EN-US_DV9",
        arguments=[""],
        needs_http=False,
    ),
    Tree(
        "freebsd",
        "FreeBSD 14.0 installer",
        {"boot/kernel/kernel": b"x", "boot/loader": b"x", "boot/loader.efi": b"x"},
        volume="14_0_RELEASE_AMD64_CD",
    ),
    Tree(
        "mfsbsd",
        "mfsBSD 14.0",
        {"mfsroot.gz": b"x", "boot/kernel/kernel.gz": b"x", "boot/loader": b"x"},
        volume="mfsBSD 14.0",
        arguments=[""],
        needs_http=False,
    ),
    Tree(
        "memtest86-plus",
        "Memtest86+",
        {"boot.catalog": b"x", "EFI/BOOT/bootx64.efi": bzimage("Memtest86+", efi=0x8664), "boot/floppy.img": b"x"},
        volume="MT86PLUS_64",
        arguments=[""],
        kernels=["EFI/BOOT/bootx64.efi"],
        needs_http=False,
    ),
    Tree(
        "receiver",
        "Receiver of disk images 0.1.0",
        {"vmlinuz": PC, "initrd.img": b"x", "receiver.txt": b"bootfw 0.1.0\nLinux 6.1.0\n"},
        arguments=["boot=bootfw ip=dhcp bootfw.image=http://s/image.iso"],
        kernels=["vmlinuz"],
    ),
    Tree("freedos", "FreeDOS 13", {"kernel.sys": b"x"}, volume="FD13LIVE", arguments=[""], needs_http=False),
    Tree(
        "netboot.xyz",
        "netboot.xyz",
        {"netboot.xyz.lkrn": bzimage("")},
        arguments=[""],
        needs_http=False,
    ),
)
