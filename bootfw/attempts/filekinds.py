"""What a file is for, by its name: boot programs, payloads (what a loader loads last), and optional files."""

import re
from functools import lru_cache

_PAYLOAD = re.compile(
    r"""(?:.*[-_.])?(?:vmlinu[xz]|linux|linux26|bz?image|zimage|uimage|image|kernel\w*|xen|initrd|initramfs|inst?rd
        |ramdisk|rootfs|miniroot)(?:[-_\d.](?!cfg$|conf$|ipxe$).*)?
        |.*\.(?:wim|squashfs|sqsh|iso|img|cpio|itb|ipxe\.lkrn|ks|kpart)(?:\.\w+)?""",
    re.VERBOSE,
)
_PROGRAM = re.compile(
    r".*\.(?:efi|kk?pxe|kkkpxe|0|pxe|n12|com|lkrn|mod|i386|bin|elf)(?:\.signed)?|core\.\w+|shim.*|grub[^.]*"
)
_OPTIONAL = re.compile(
    # Each is requested by every boot of its loader, and most are missing. shim (shim.c: load_revocations, load_certs);
    # GRUB (normal/{main,crypto,autofs,term}.c, net/net.c: grub_net_search_config_file); PXELINUX (core/fs/pxe/pxe.c:
    # pxe_load_config); iPXE (usr/autoboot.c: autoexec.ipxe); U-Boot (cmd/pxe.c); fonts and translations of GRUB.
    r"""revocations(?:_\w+)?\.efi|shim_certificate.*|.*\.lst|.*\.[gm]?mo|.*\.pf2|.*\.sig|autoexec\.ipxe
        |grub\.cfg-.*|(?!normal\.).*\.mod|dtb|.*\.dtbo?|.*\.scr(?:\.uimg)?|boot\.cfg|.*\.hash|.*sum""",
    re.VERBOSE,
)
_CONFIG_DIRECTORY = re.compile(r"(?:.*/)?(?:pxelinux|zpxelinux|s390x|tftpboot)\.cfg/(?!default$)[^/]*", re.IGNORECASE)


@lru_cache(1024)
def last_part(path: str) -> str:
    """Return the name without directories and query, lower-case."""
    return path.partition("?")[0].replace("\\", "/").rstrip("/").rpartition("/")[2].lower()


@lru_cache(1024)
def is_payload(path: str) -> bool:
    """Return whether it is a kernel, a RAM disk or an image: the last files that a loader loads."""
    return _PAYLOAD.fullmatch(last_part(path)) is not None


@lru_cache(1024)
def is_program(path: str) -> bool:
    """Return whether it is a boot program, which loads further files."""
    return _PROGRAM.fullmatch(last_part(path)) is not None


@lru_cache(1024)
def is_optional(path: str) -> bool:
    """Return whether loaders request it in every boot, and continue if it is missing."""
    return _OPTIONAL.fullmatch(last_part(path)) is not None or _CONFIG_DIRECTORY.fullmatch(path) is not None
