"""What a file is for, by its name."""

import pytest

from bootfw.attempts.filekinds import is_optional, is_payload, is_program, last_part


@pytest.mark.parametrize(
    "path",
    [
        *(
            "vmlinuz",
            "debian/linux",
            "kernel",
            "kernel8.img",
            "boot/bzImage",
            "initrd",
            "initrd.gz",
            "initrd.img-6.1.0",
        ),
        *("initramfs-6.1.img", "Image", "uImage", "live/filesystem.squashfs", "sources/boot.wim", "debian.iso"),
        *("vmlinuz-6.1.0-13-amd64", "pc/initrd.img", "rootfs.cpio.gz", "board.itb", "kernel.img?mac=1", "memdisk.iso"),
    ],
)
def test_kernels_and_images_are_payload(path: str) -> None:
    assert is_payload(path)


@pytest.mark.parametrize("path", ["boot.ipxe", "grub.cfg", "pxelinux.0", "grubx64.efi", "menu.c32", "linux.cfg", "BCD"])
def test_boot_files_are_not_payload(path: str) -> None:
    assert not is_payload(path)


@pytest.mark.parametrize(
    "path",
    [
        *("pxelinux.0", "undionly.kpxe", "snponly.efi", "grub/core.0", "Boot/x64/wdsnbp.com", "pxeboot.n12"),
        *("shimx64.efi.signed", "grubnetx64.efi.signed", "ipxe.lkrn", "grubx64"),
    ],
)
def test_boot_programs_are_recognized(path: str) -> None:
    assert is_program(path)


@pytest.mark.parametrize("path", ["boot.ipxe", "pxelinux.cfg/default", "vmlinuz", "initrd.gz", "proof.txt"])
def test_other_files_are_not_boot_programs(path: str) -> None:
    assert not is_program(path)


@pytest.mark.parametrize(
    "path",
    [
        *("pxelinux.cfg/01-52-54-00-12-34-56", "pxelinux.cfg/0A4D0014", "boot/pxelinux.cfg/default-x86"),
        *(
            "grub/x86_64-efi/command.lst",
            "grub.cfg-01-52-54-00-12-34-56",
            "revocations_sbat.efi",
            "autoexec.ipxe",
            "dtb",
        ),
        *(
            "shim_certificate_0.efi",
            "boot/grub/fonts/unicode.pf2",
            "boot/grub/locale/de.gmo",
            "grub/x86_64-efi/fat.mod",
        ),
    ],
)
def test_optional_files_of_loaders_are_recognized(path: str) -> None:
    assert is_optional(path)


@pytest.mark.parametrize(
    "path", ["pxelinux.cfg/default", "grub.cfg", "vmlinuz", "grubx64.efi", "boot.ipxe", "x86_64-efi/normal.mod"]
)
def test_required_files_of_loaders_are_recognized(path: str) -> None:
    assert not is_optional(path)


@pytest.mark.parametrize(
    ("path", "name"),
    [("\\Boot\\BCD", "bcd"), ("a/b/c.efi?x=y/z", "c.efi"), ("vmlinuz", "vmlinuz"), ("", ""), ("a/", "a")],
)
def test_last_part_of_a_path_or_url(path: str, name: str) -> None:
    assert last_part(path) == name
