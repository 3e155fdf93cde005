"""The template variables of the boot menus: the images that each kind of machine can run."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from attrs import field, frozen

from bootfw.api import IPXE_LOCAL_BOOT
from bootfw.backends.imagelibrary.plannedboot import image_path
from bootfw.backends.images import Image
from bootfw.backends.sandbox import Facts
from bootfw.backends.variables import plain

MACHINES: Sequence[tuple[str, str, str, str]] = (
    ("pcbios", "x86_64", "x86_64", "x86_64"),
    ("pcbios", "i386", "i386", "i386"),
    ("efi", "x86_64", "x86_64", "x86_64"),
    ("efi", "i386", "i386", "i386"),
    ("efi", "arm64", "arm64", "arm64"),
    ("efi", "arm32", "arm32", "arm"),
    ("efi", "riscv64", "riscv64", "riscv64"),
    ("efi", "loongarch64", "loong64", "loongarch64"),
)
"""(platform, cpu, its name in iPXE: ${buildarch}, its name in GRUB: $grub_cpu)."""

WIDTH = 66
"""Columns of a line: 80, without the frames of the menus and the countdown of iPXE."""

MEMDISK_MAX = 512_000_000
"""Largest disk image in bytes that memdisk is used for: it loads the image into memory."""

_IN_A_WORD = re.compile(r"([^A-Za-z0-9_./:=,@%+~-])")
_UNUSABLE_FOR_PXELINUX = re.compile(r"[^!-+\--~]")

_UNITS = ("B", "kB", "MB", "GB", "TB")


@frozen
class MenuContents:
    """The result of a scan of the boot directories.

    :param programs: existing files that menus use: "memdisk", "menu.c32", "vesamenu.c32", and the name of the iPXE
        script, if a file with that name exists.
    :param disks: the ways to install images of disks, which are in no menu.
    """

    images: Sequence[Image] = ()
    programs: frozenset[str] = frozenset()
    disks: Sequence[Image] = ()
    _ids: Mapping[Image, str] = field(init=False, repr=False)

    @_ids.default
    def _numbered(self) -> Mapping[Image, str]:
        return {image: f"i{number}" for number, image in enumerate((*self.images, *self.disks), 1)}

    def for_ipxe(self, base: str, by_http: bool, default: str, http: str = "") -> dict[str, Any]:
        """Return the variables of ipxe.j2.

        :param base: prefix of the paths: a URL without a path, or "" for the server that the script was loaded from.
        :param by_http: the images are loaded by HTTP, so iPXE can attach one as a disk (sanboot).
        :param default: path of the default image; "": the local disk.
        :param http: the URL at which systems fetch files of their image; "": no HTTP is served.
        """
        memdisk = "memdisk" in self.programs

        def can(image: Image, platform: str) -> bool:
            if not image.loads_by("ipxe", http) or (image.kind == "wimboot" and "wimboot" not in self.programs):
                return False
            return image.kind != "disk" or by_http or (memdisk and platform == "pcbios" and image.size <= MEMDISK_MAX)

        images = [image for image in self.images if any(can(image, platform) for platform in ("pcbios", "efi"))]
        return {
            "machines": self._machines(can, default),
            "images": [self._for_ipxe(image, base, by_http, http) for image in images],
            "memdisk_url": f"{base}/memdisk",
            "local_boot": IPXE_LOCAL_BOOT,
        }

    def for_install(self, name: str, answers: str, base: str, by_http: bool, http: str) -> dict[str, Any] | None:
        """Return the variables of install.j2; None: there is no such image that iPXE can boot.

        :param name: of an image of an operating system.
        :param answers: path of the answers for an unattended installation; "": none.
        :param base: see for_ipxe(); *by_http* and *http* too.
        """
        images = [
            image
            for image in (*self.images, *self.disks)
            if image.planned is not None and image.name == image_path(name) and image.loads_by("ipxe", http)
        ]
        if answers:
            images = [
                image for image in images if http and image.planned is not None and image.planned.plan.takes_answers
            ]
        if not images:
            return None
        machines = []
        for platform, cpu, ipxe_cpu, _ in MACHINES:
            image = next((image for image in images if image.runs_on(platform, cpu)), None)
            if image is not None:
                machines.append({"platform": platform, "cpu": ipxe_cpu, "image": self._ids[image]})
        return {
            "name": plain(name),
            "machines": machines,
            "images": [self._for_ipxe(image, base, by_http, http, answers) for image in images],
            "memdisk_url": f"{base}/memdisk",
            "local_boot": IPXE_LOCAL_BOOT,
        }

    def _for_ipxe(self, image: Image, base: str, by_http: bool, http: str, answers: str = "") -> dict[str, Any]:
        beside = image.planned.plan.recipe.beside if image.planned is not None and answers else ()
        files = {**image.named, **{name: str(PurePosixPath(answers).with_name(name)) for name in beside}}
        return {
            **self._variables(image, http, answers),
            "url": f"{base}/{quote(image.path)}",
            "initrd_urls": [f"{base}/{quote(path)}" for path in image.initrds],
            "named_urls": {name: f"{base}/{quote(path)}" for name, path in files.items()},
            "memdisk": not by_http,
        }

    def for_grub(self, default: str, http: str = "") -> dict[str, Any]:
        """Return the variables of grub.j2; see for_ipxe()."""

        def can(image: Image, platform: str) -> bool:
            return image.kind in _of_grub(platform) and image.loads_by("grub", http)

        return {"machines": self._machines(can, default, http), "default": self._default(self.images, default)}

    def for_pxelinux(self, default: str, http: str = "") -> dict[str, Any]:
        """Return the variables of pxelinux.j2, with the images that a BIOS can start; see for_ipxe()."""
        memdisk = "memdisk" in self.programs
        images = [
            image
            for image in self.images
            if (image.kind in ("linux", "mboot") or (image.kind == "disk" and memdisk and image.size <= MEMDISK_MAX))
            and image.runs_on("pcbios", "x86_64")
            and image.loads_by("pxelinux", http)
            and not _UNUSABLE_FOR_PXELINUX.search(image.path + "".join(image.initrds))
        ]
        return {
            "sections": self._sections(images, http, by_tftp=("mboot",)),
            "default": self._default(images, default),
            "menu_module": next((name for name in ("menu.c32", "vesamenu.c32") if name in self.programs), ""),
            "memdisk": "memdisk",
        }

    def _machines(self, can: Callable[[Image, str], bool], default: str, http: str = "") -> list[Facts]:
        machines = []
        for platform, cpu, ipxe_cpu, grub_cpu in MACHINES:
            images = [image for image in self.images if image.runs_on(platform, cpu) and can(image, platform)]
            if images:
                machine = {
                    "platform": platform,
                    "cpu": ipxe_cpu,
                    "grub_cpu": grub_cpu,
                    "sections": self._sections(images, http),
                    "default": self._default(images, default),
                }
                machines.append(Facts("machine", machine))
        return machines

    def _sections(self, images: Iterable[Image], http: str, by_tftp: Sequence[str] = ()) -> list[Facts]:
        """Return the parts of a menu.

        :param by_tftp: kinds of images whose boot program loads all files by TFTP, also when HTTP is served.
        """

        def facts(image: Image) -> Facts:
            return Facts("image", self._variables(image, "" if image.kind in by_tftp else http))

        sections = groupby(images, lambda image: image.section)
        return [
            Facts("section", {"name": plain(name) or "Images", "images": [facts(image) for image in members]})
            for name, members in sections
        ]

    def _default(self, images: Iterable[Image], default: str) -> str:
        return next((self._ids[image] for image in images if default in (image.path, image.name)), "local")

    def _variables(self, image: Image, http: str, answers: str = "") -> dict[str, Any]:
        grub_files = [grub_words(f"/{path}", " ") for path in image.initrds]
        grub_files += [f"newc:{name}:{grub_words(f'/{path}', ' ')}" for name, path in image.named.items()]
        return {
            "id": self._ids[image],
            "kind": image.kind,
            "line": line(image.label, image.size),
            "path": image.path,
            "initrds": image.initrds,
            "arguments": image.arguments_at(http, answers),
            "bootif": image.planned is not None and image.planned.plan.recipe.bootif,
            "label": plain(image.label),
            "is_cd": image.path.casefold().endswith(".iso"),
            "is_com32": image.path.casefold().endswith(".c32"),
            "grub_path": grub_words(f"/{image.path}", " "),
            "grub_initrds": grub_files,
        }


def line(label: str, size: int) -> str:
    """Return the text of a menu entry: the label and the size of the download; 0: it is not known."""
    if not size:
        return plain(label)[:WIDTH]
    end = amount(size)
    label = plain(label)[: WIDTH - len(end) - 5]
    return f"{label} {'.' * (WIDTH - len(label) - len(end) - 2)} {end}"


def amount(size: int) -> str:
    """Format a size in bytes: ``38 MB``, ``1.4 GB``, with at least two digits, in powers of 1000."""
    value, unit = float(size), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit and value < 9.95 else f"{value:.0f} {_UNITS[unit]}"


def grub_words(text: str, also: str = "") -> str:
    """Escape *text* for GRUB. Blanks separate words, unless *also* is a blank."""
    return _IN_A_WORD.sub(lambda found: found[0] if found[0] == " " != also else f"\\{found[0]}", text)


def _of_grub(platform: str) -> tuple[str, ...]:
    return ("linux", "efi") if platform == "efi" else ("linux",)
