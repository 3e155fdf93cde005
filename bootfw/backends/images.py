"""Finds the images to boot in a directory: kernels with their initial RAM disks, EFI programs, disks, iPXE scripts."""

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from attrs import define, field, frozen

from bootfw.backends.distribution import ALIASES, PROGRAMS
from bootfw.backends.executables import Executable, read_disk, read_executable
from bootfw.backends.imagelibrary.library import arguments_beside
from bootfw.backends.imagelibrary.plannedboot import PlannedBoot

ENTRIES = 20_000
"""Most directory entries of one scan; images beyond them are left out of the menu."""

DEPTH = 6
"""Levels of directories below the root that are scanned."""

IMAGES = 200
"""Most entries of a menu. A longer one does not help to find an image."""

_NAMED_KERNEL = re.compile(r"^(vmlinu[xz]|bzimage|[bz]?image|linux|kernel|memtest.*?)([-._].*)?$|\.efi$", re.IGNORECASE)
"""Names of kernels and EFI programs. A file with another name counts as a kernel if its content is certainly one."""

_KERNEL_WORDS = tuple(
    re.compile(rf"(?:^|(?<=[-._])){word}(?=\d*(?:[-._]|$))", re.IGNORECASE)
    for word in ("vmlinu[xz]", "bzimage", "kernel", "[bz]?image", "linux")
)
_RAMDISK_WORDS = (re.compile(r"(?:^|(?<=[-._]))(?:initrd|initramfs)(?=\d*(?:[-._]|$))", re.IGNORECASE),)
_PACKED = re.compile(r"\.(img|gz|xz|zst|lz4|cpio|efi)(?![^.-])")
_SEPARATORS = re.compile(r"[-._]+")

_DISKS = (".iso", ".img")

# Boot loaders are no entries of the menu: each would load this menu again.
_LOADERS = frozenset(
    name.casefold() for name in (*PROGRAMS, *ALIASES, "bootx64.efi", "bootia32.efi", "bootaa64.efi", "bootarm.efi")
) | {"snponly-i386.efi", "fbx64.efi", "fbaa64.efi", "grub.efi", "core.efi", "grubia32.efi"}

_NO_KERNELS = re.compile(r"(memdisk|wimboot)\Z|\.(lkrn|exe)\Z", re.IGNORECASE)
"""Boot programs that have the header of a Linux kernel, to be started as one."""

_SCRIPTS = frozenset(("boot.ipxe", "autoexec.ipxe"))

OPERATING_SYSTEMS = "Operating systems"
"""The part of the menu for images of operating systems."""


@frozen
class Image:
    """An image that can be booted: an entry of the menu."""

    kind: str
    """ "linux", "efi", "disk" or "script"; of an image of an operating system also "mboot" or "wimboot"."""
    path: str
    """The path that clients request."""
    label: str
    """Text of the entry, in ASCII."""
    size: int
    """Bytes, those of the initial RAM disk included; 0: not known."""
    runs: Executable = field(factory=Executable)
    initrds: tuple[str, ...] = ()
    """Paths of the initial RAM disks."""
    arguments: str = ""
    """Arguments of the kernel."""
    planned: PlannedBoot | None = None
    """How an image of an operating system is booted; None: it is none."""

    @property
    def section(self) -> str:
        """The part of the menu that it is in: the directory; "": the root."""
        return OPERATING_SYSTEMS if self.planned is not None else self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        """The path without the version of an image of an operating system: ``images/debian-12``; of others the path."""
        return self.path if self.planned is None else self.planned.name

    @property
    def named(self) -> Mapping[str, str]:
        """Name for the kernel -> path: other files that it is given."""
        planned = self.planned
        return {} if planned is None else {name: planned.path(path) for name, path in planned.plan.named.items()}

    def arguments_at(self, http: str, answers: str = "") -> str:
        """Return the arguments of the kernel.

        :param http: URL of this server, without a slash at the end; "": it serves no HTTP.
        :param answers: path of the answers for an unattended installation; "": there are none.
        """
        return (
            self.arguments
            if self.planned is None
            else f"{self.planned.arguments(http, answers)} {self.arguments}".strip()
        )

    def loads_by(self, loader: str, http: str) -> bool:
        """Return whether a *loader*, "ipxe", "grub" or "pxelinux", can boot it.

        :param http: as above.
        """
        return self.planned is None or self.planned.loads_by(loader, http)

    def runs_on(self, platform: str, cpu: str) -> bool:
        """Return whether firmware of a *platform*, "pcbios" or "efi", can start it on *cpu*, such as "x86_64"."""
        if self.kind == "script":
            return True
        if platform == "efi":
            return self.runs.efi in (cpu, "any")
        return self.runs.bios == cpu or (self.runs.bios == "i386" and cpu == "x86_64")


@define(eq=False)
class Kernels:
    """Finds Linux kernels with any file name. The results are cached from one scan to the next."""

    _previous: dict[tuple[int, int, int, int], Executable] = field(factory=dict, init=False)
    """(device, inode, mtime, size) of a file -> the result of the previous scan."""
    _current: dict[tuple[int, int, int, int], Executable] = field(factory=dict, init=False)
    """The results of the current scan."""

    def read(self, path: Path, status: os.stat_result) -> Executable:
        """Examine the file at *path*. The result is a default Executable unless the file is certainly a kernel."""
        key = status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
        found = self._previous.get(key)
        if found is None:
            found = _read(path, read_executable)
            if not found.linux or not (found.version[:1].isdigit() or not found.version):
                found = Executable()  # a boot program that is started as a kernel has a name there, not a version
        self._current[key] = found
        return found

    def end(self) -> None:
        """End the scan: drop the results for files that it has not found."""
        self._previous, self._current = self._current, {}


@define
class _Scan:
    """One scan of the roots."""

    entries: int = 0
    seen: set[str] = field(factory=set)
    """Paths that were found. If several roots have a path, the first one counts, as with backends."""
    files: set[tuple[int, int]] = field(factory=set)
    """(device, inode) of the images: a link to an image is no second entry."""
    kernels: "Kernels" = field(factory=lambda: Kernels())
    hangs: Callable[[Path], bool] = lambda directory: False

    def directory(self, directory: Path, prefix: str) -> Iterator[Image]:
        """Yield the images in a directory and below it.

        :param prefix: the path that clients request for it, "" or with a slash at the end.
        """
        names: dict[str, os.stat_result] = {}
        below = []
        try:
            with os.scandir(directory) as entries:
                for entry in entries:
                    self.entries += 1
                    if self.entries > ENTRIES:
                        break
                    if entry.name.startswith(".") or not entry.name.isprintable():
                        continue
                    if self.hangs(directory / entry.name):
                        continue
                    status = _status(entry)
                    if status is None or stat.S_ISREG(status.st_mode):
                        names |= {entry.name: status} if status is not None else {}
                    elif entry.is_dir(follow_symlinks=False):  # a link might lead to a directory above
                        below.append(entry.name)
        except OSError:
            return
        yield from self._images(directory, prefix, names)
        for name in sorted(below) if prefix.count("/") < DEPTH else ():
            yield from self.directory(directory / name, f"{prefix}{name}/")

    def _images(self, directory: Path, prefix: str, names: Mapping[str, os.stat_result]) -> Iterator[Image]:
        # Longer names first: vmlinuz-6.1 is more specific than a link vmlinuz to it.
        kernels: dict[str, Executable] = {}
        for name in sorted(names, key=lambda name: (-len(name), name)):
            status = names[name]
            if prefix + name in self.seen or not status.st_size:
                continue
            self.seen.add(prefix + name)
            suffix = os.path.splitext(name)[1].casefold()
            if (status.st_dev, status.st_ino) in self.files:
                continue
            if suffix == ".ipxe":
                if name.casefold() not in _SCRIPTS:
                    yield Image("script", prefix + name, ascii_label(name), status.st_size)
            elif suffix in _DISKS and not _is_ramdisk(name) and (disk := _read(directory / name, read_disk)).starts:
                yield Image("disk", prefix + name, ascii_label(name), status.st_size, disk)
            elif suffix == ".iso":
                continue
            elif _NAMED_KERNEL.search(name):
                runs = _read(directory / name, read_executable)
                if runs.linux:
                    kernels[name] = runs
                elif runs.efi and name.casefold() not in _LOADERS:
                    yield Image("efi", prefix + name, ascii_label(name), status.st_size, runs)
                else:
                    continue
            elif not _NO_KERNELS.search(name) and (kernel := self.kernels.read(directory / name, status)).linux:
                kernels[name] = kernel
            else:
                continue
            self.files.add((status.st_dev, status.st_ino))
        ramdisks = paired(kernels, [name for name in names if _is_ramdisk(name) and names[name].st_size])
        for name, runs in kernels.items():
            ramdisk = ramdisks.get(name, "")
            yield Image(
                "linux",
                prefix + name,
                _linux_label(name, runs),
                names[name].st_size + (names[ramdisk].st_size if ramdisk else 0),
                runs,
                (prefix + ramdisk,) if ramdisk else (),
                arguments_beside(directory, name),
            )


def scan(
    roots: Iterable[Path], kernels: Kernels | None = None, hangs: Callable[[Path], bool] = lambda directory: False
) -> tuple[Image, ...]:
    """Find the images below *roots*, sorted by directory and label. Reads the first bytes of each file.

    :param kernels: caches the kinds of files for the next scan.
    :param hangs: whether a path is to be left out, because its file system does not answer.
    """
    current = _Scan(kernels=kernels or Kernels(), hangs=hangs)
    try:
        return _scan_roots(current, roots)
    finally:
        current.kernels.end()


def _scan_roots(current: _Scan, roots: Iterable[Path]) -> tuple[Image, ...]:
    found: list[Image] = []
    for root in roots:
        if current.hangs(root):
            continue
        for image in current.directory(root, ""):
            found.append(image)
            if len(found) == IMAGES:
                return _sorted(found)
    return _sorted(found)


def paired(kernels: Iterable[str], ramdisks: Iterable[str]) -> dict[str, str]:
    """Return kernel -> initial RAM disk of the same version, by their names. A single pair in a directory matches
    without a version."""
    by_version: dict[str, str] = {}
    for name in sorted(ramdisks):
        by_version.setdefault(_version(_RAMDISK_WORDS, name), name)
    names = [name for name in kernels if not name.casefold().startswith("memtest")]
    pairs = {name: by_version[version] for name in names if (version := _version(_KERNEL_WORDS, name)) in by_version}
    if len(names) == 1 and not pairs and ("" in by_version or len(by_version) == 1):
        pairs[names[0]] = by_version.get("") or next(iter(by_version.values()))
    return pairs


def _is_ramdisk(name: str) -> bool:
    return _RAMDISK_WORDS[0].search(name) is not None and not name.casefold().endswith(".iso")


def _version(patterns: Sequence["re.Pattern[str]"], name: str) -> str:
    """Return the version in *name*: "6-1-0-18-amd64" for "initrd.img-6.1.0-18-amd64"."""
    name = _PACKED.sub("", name)
    for pattern in patterns:
        version, count = pattern.subn("", name, count=1)
        if count:
            return _SEPARATORS.sub("-", version).strip("-")
    return name


def _status(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:
        return None


def _read(path: Path, read: Callable[[BinaryIO], Executable]) -> Executable:
    try:
        # O_NONBLOCK: open() would wait for another process that has a lease (F_SETLEASE) on the file.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            return read(file)
    except OSError:
        return Executable()


def _linux_label(name: str, runs: Executable) -> str:
    if name.casefold().startswith("memtest") or not runs.version or runs.version in name:
        return ascii_label(name)
    return f"{ascii_label(name)} ({ascii_label(runs.version)})"


def ascii_label(name: str) -> str:
    """Return *name* as a label: what boot programs can't show is replaced."""
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in name)


def _sorted(images: Sequence[Image]) -> tuple[Image, ...]:
    return tuple(sorted(images, key=lambda image: (image.section.casefold(), image.label.casefold(), image.path)))
