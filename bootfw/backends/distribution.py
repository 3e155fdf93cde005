"""The ``distribution`` backend: boot programs installed by packages of the operating system."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.interfaces import IReactorThreads
from zope.interface import implementer

from bootfw.api import (
    FileMissing,
    FileReader,
    IBackend,
    IListableBackend,
    IStaticBackend,
    MountTable,
    PluginContext,
    boot_plugin,
)
from bootfw.backends.detached import DetachedReader, Threads
from bootfw.backends.oserrors import as_transfer_errors
from bootfw.backends.paths import lexical

# Paths from the file lists of the packages: Debian 12 (ipxe, pxelinux, syslinux-common, syslinux-efi,
# grub-efi-*-bin, grub-efi-*-signed, shim-signed, shim-helpers-*), Fedora 43 (ipxe.spec, syslinux.spec; shim and GRUB
# are only in the EFI system partition), Arch (ipxe, syslinux; its GRUB package has no image for network boot).
PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "undionly.kpxe": ("/usr/lib/ipxe/undionly.kpxe", "/usr/share/ipxe/undionly.kpxe"),
    "ipxe.pxe": ("/usr/lib/ipxe/ipxe.pxe", "/usr/share/ipxe/ipxe.pxe"),
    "ipxe.lkrn": ("/usr/lib/ipxe/ipxe.lkrn", "/usr/share/ipxe/ipxe.lkrn"),
    "ipxe.efi": (
        "/usr/lib/ipxe/ipxe.efi",
        "/usr/share/ipxe/ipxe-x86_64.efi",
        "/usr/share/ipxe/x86_64/ipxe.efi",
    ),
    "snponly.efi": ("/usr/lib/ipxe/snponly.efi", "/usr/share/ipxe/ipxe-snponly-x86_64.efi"),
    "ipxe-i386.efi": ("/usr/share/ipxe/ipxe-i386.efi",),
    "ipxe-arm64.efi": ("/usr/share/ipxe/arm64-efi/ipxe.efi",),
    "snponly-arm64.efi": ("/usr/share/ipxe/arm64-efi/snponly.efi",),
    "pxelinux.0": (
        "/usr/lib/PXELINUX/pxelinux.0",
        "/usr/share/syslinux/pxelinux.0",
        "/usr/lib/syslinux/bios/pxelinux.0",
    ),
    "lpxelinux.0": (
        "/usr/lib/PXELINUX/lpxelinux.0",
        "/usr/share/syslinux/lpxelinux.0",
        "/usr/lib/syslinux/bios/lpxelinux.0",
    ),
    "memdisk": ("/usr/lib/syslinux/memdisk", "/usr/share/syslinux/memdisk", "/usr/lib/syslinux/bios/memdisk"),
    "syslinux.efi": (
        "/usr/lib/SYSLINUX.EFI/efi64/syslinux.efi",
        "/usr/share/syslinux/efi64/syslinux.efi",
        "/usr/lib/syslinux/efi64/syslinux.efi",
    ),
    "syslinux32.efi": ("/usr/lib/SYSLINUX.EFI/efi32/syslinux.efi", "/usr/lib/syslinux/efi32/syslinux.efi"),
    "shimx64.efi": ("/usr/lib/shim/shimx64.efi.signed", "/boot/efi/EFI/fedora/shimx64.efi"),
    "shimaa64.efi": ("/usr/lib/shim/shimaa64.efi.signed", "/boot/efi/EFI/fedora/shimaa64.efi"),
    # MokManager; shim loads it when a key is to be enrolled.
    "mmx64.efi": ("/usr/lib/shim/mmx64.efi.signed", "/boot/efi/EFI/fedora/mmx64.efi"),
    "mmaa64.efi": ("/usr/lib/shim/mmaa64.efi.signed", "/boot/efi/EFI/fedora/mmaa64.efi"),
    "grubnetia32.efi": ("/usr/lib/grub/i386-efi/monolithic/grubnetia32.efi",),
    "grubnetx64.efi": (
        "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed",
        "/usr/lib/grub/x86_64-efi/monolithic/grubnetx64.efi",
        "/boot/efi/EFI/fedora/grubx64.efi",
    ),
    "grubnetaa64.efi": (
        "/usr/lib/grub/arm64-efi-signed/grubnetaa64.efi.signed",
        "/usr/lib/grub/arm64-efi/monolithic/grubnetaa64.efi",
        "/boot/efi/EFI/fedora/grubaa64.efi",
    ),
}
"""Name that clients request -> paths on this host; the first that exists is served."""

ALIASES: Mapping[str, str] = {
    # shim loads "grub<arch>.efi" from its own directory. Debian's file of that name can't boot from the network.
    "grubx64.efi": "grubnetx64.efi",
    "grubaa64.efi": "grubnetaa64.efi",
    # Beside the modules that they load from their own directory.
    "bios/pxelinux.0": "pxelinux.0",
    "bios/lpxelinux.0": "lpxelinux.0",
    "efi32/syslinux.efi": "syslinux32.efi",
    "efi64/syslinux.efi": "syslinux.efi",
}

_BIOS = ("/usr/lib/syslinux/modules/bios", "/usr/share/syslinux", "/usr/lib/syslinux/bios")
_EFI32 = ("/usr/lib/syslinux/modules/efi32", "/usr/lib/syslinux/efi32")
_EFI64 = ("/usr/lib/syslinux/modules/efi64", "/usr/share/syslinux/efi64", "/usr/lib/syslinux/efi64")

MODULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("", ".c32", _BIOS),
    ("", ".e32", _EFI32),
    ("", ".e64", _EFI64),
    ("bios/", ".c32", _BIOS),
    ("efi32/", ".c32", _EFI32),
    ("efi32/", ".e32", _EFI32),
    ("efi64/", ".c32", _EFI64),
    ("efi64/", ".e64", _EFI64),
)
"""(prefix, suffix, directories) of SYSLINUX modules. The same names exist for BIOS and UEFI: without a prefix they are
the modules of pxelinux.0. The core module of syslinux.efi (``ldlinux.e64``) has its own suffix and needs no prefix."""


@implementer(IStaticBackend, IListableBackend)
@define(eq=False)
class DistributionBackend:
    """Boot programs installed by the operating system's packages: iPXE, PXELINUX, SYSLINUX, GRUB and shim.

    Each has the same name, such as ``undionly.kpxe`` or ``pxelinux.0``, wherever a distribution installs it. No other
    file is served.

    :param root: prefix of the paths in PROGRAMS and MODULES.
    :param reactor: files on a file system that can hang are read in its threads; None: in the calling thread.
    """

    root: Path = field(default=Path("/"), converter=Path)
    _reactor: Any = None
    _mounts: MountTable = field(factory=MountTable)
    _threads: Threads | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None

    @classmethod
    def configured(cls, context: PluginContext) -> "DistributionBackend":
        """Called by boot_plugin. There are no options."""
        return cls(reactor=context.reactor if IReactorThreads.providedBy(context.reactor) else None)

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        name = lexical(path)
        mount = self._mount(name) if self._threads is not None else None
        if mount is None or self._threads is None:
            return self._first(name)
        opening = self._threads.call(mount, lambda: self._first(name), FileReader.close)
        return opening.addCallback(DetachedReader, self._threads, mount)

    def _mount(self, name: str) -> bytes | None:
        """Return the mount point of a file system on the paths of *name* that can hang; None: there is none."""
        if not self._mounts.hanging():
            return None
        mounts = (self._mounts.on_the_way_to(self._below(candidate)) for candidate in _candidates(name))
        return next(filter(None, mounts), None)

    def _first(self, name: str) -> FileReader:
        """Open the first path of *name* that exists."""
        for candidate in _candidates(name):
            try:
                with as_transfer_errors:
                    return self._opened(candidate)
            except FileMissing:
                continue
        raise FileMissing()

    def has(self, path: str) -> bool:
        """See IListableBackend."""
        return any(os.path.isfile(self._below(candidate)) for candidate in _candidates(path))

    def names(self) -> list[str]:
        """See IListableBackend."""
        return sorted(self.available())

    def available(self) -> dict[str, str]:
        """Return name -> path of the installed programs and modules."""
        names = [*PROGRAMS, *ALIASES]
        for prefix, suffix, directories in MODULES:
            for directory in directories:
                names += [f"{prefix}{found.name}" for found in self._below(directory).glob(f"*{suffix}")]
        found = {
            name: next(filter(os.path.isfile, map(self._below, _candidates(name))), None) for name in sorted(names)
        }
        return {name: str(path) for name, path in found.items() if path is not None}

    def _opened(self, candidate: str) -> FileReader:
        fd = os.open(self._below(candidate), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return FileReader(fd)
        os.close(fd)
        raise FileMissing()

    def _below(self, candidate: str) -> Path:
        return self.root / candidate.removeprefix("/")


def _candidates(name: str) -> Iterator[str]:
    """Yield the paths where a distribution may have installed the file *name*, the best first."""
    yield from PROGRAMS.get(ALIASES.get(name, name), ())
    prefix, slash, last = name.rpartition("/")
    for module_prefix, suffix, directories in MODULES:
        if module_prefix == prefix + slash and last.endswith(suffix) and last.isascii() and "\0" not in last:
            yield from (f"{directory}/{last}" for directory in directories)


plugin = boot_plugin(IBackend, DistributionBackend)
