"""The ``images`` backend: the files in the images of a directory."""

import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    FileMissing,
    FileReader,
    IBackend,
    IImageBackend,
    IReader,
    ISelfChecking,
    IStartable,
    IStaticBackend,
    IVersionedBackend,
    MemoryReader,
    MountTable,
    PluginContext,
    boot_plugin,
)
from bootfw.backends.archive.backend import ArchiveBackend
from bootfw.backends.detached import Threads
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.imagelibrary.imageentry import (
    DIGESTS,
    DISKS,
    Change,
    ImageEntry,
    image_entries,
    open_entry,
    version_of,
)
from bootfw.backends.imagelibrary.library import Library
from bootfw.backends.imagelibrary.plannedboot import PREFIX
from bootfw.backends.oserrors import as_transfer_errors
from bootfw.backends.paths import lexical
from bootfw.images.bootcfg import for_network, is_boot_cfg
from bootfw.images.catalogue import Catalogue, read_families, stock

SECONDS = 2.0
"""How long it may take until a new image is served."""

KEPT = 3600.0
"""Seconds for which a version of an image is served after it was replaced or removed: longer than a boot takes from its
script to its last file."""

_VERSIONED = re.compile(r"(?P<name>.+)~(?P<version>[0-9a-f]{8})(?P<suffix>\.[a-z0-9.]+)?")
"""The directory of the files of one version; with a suffix the image itself."""

_TEXT_MAX = 65536


@define
class _ImageMounts(MountTable):
    """The mount points of file systems that can hang, for an image that is served from its descriptor.

    The path in /proc says nothing about the file system of the image, so the path of the image is looked up.
    """

    image: Path = field(default=Path(), kw_only=True)

    def on_the_way_to(self, root: Path, name: bytes = b"", ignore_case: bool = False) -> bytes | None:
        """See MountTable. *root* is the path of the descriptor in /proc, and not used."""
        return super().on_the_way_to(self.image, name, ignore_case)


@define(eq=False)
class _OpenImage:
    """A version of an image. It is served from its descriptor, even when the file is renamed, replaced or removed."""

    name: str
    version: str
    suffix: str
    descriptor: int
    digests: int | None
    """The descriptor of the digests of a disk image; None: there are none."""
    files: Any
    """The backend of the files in it; None: it has none that can be read."""
    replaced: float | None = None
    """When it was replaced or removed; None: it is the present version."""

    def whole(self) -> IReader:
        """Return a reader of the image itself."""
        return _reader(self.descriptor)

    def chunks(self) -> IReader:
        """Return a reader of the digests of its chunks.

        :raise FileMissing: there are none.
        """
        if self.digests is None:
            raise FileMissing(detail=f"{self.name} has no digests: bootfw images add makes them")
        return _reader(self.digests)

    def use(self, digests: int | None) -> None:
        """Replace the descriptor of the digests, which this object owns from now on."""
        if self.digests is not None:
            os.close(self.digests)
        self.digests = digests

    def close(self) -> None:
        """Close the descriptor. Running transfers continue: they have descriptors of their own."""
        if isinstance(self.files, ArchiveBackend):
            self.files.close()
        os.close(self.descriptor)
        self.use(None)


@frozen
class _NewVersion:
    """A version of an image that a scan has found and opened."""

    entry: ImageEntry
    descriptor: int
    version: str
    digests: int | None


def _open_digests(entry: ImageEntry) -> int | None:
    if entry.digests:
        with suppress(OSError):
            return open_entry(entry.path.with_name(f"{entry.path.name}{DIGESTS}"))
    return None


def _reader(descriptor: int) -> IReader:
    with as_transfer_errors:
        return FileReader(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC))


@implementer(IStaticBackend, IImageBackend, IVersionedBackend, ISelfChecking, IStartable)
@define(eq=False)
class ImagesBackend:
    """The files in images of operating systems: ISO images, archives and directories that are put into one directory.

    A file in ``debian-12.iso`` is at ``images/debian-12/vmlinuz``. The menu, whose `images` has the same directory,
    names it with the version of the image, ``images/debian-12~5ac0ed11/vmlinuz``, so that a machine gets all files of
    one version: an image that is replaced or removed is served under its version for an hour. A new image is served
    within two seconds.

    Put it before a ``directory`` backend that has the images too: ``boot.cfg`` of ESXi is changed for the network.

    :param root: the directory of the images; it need not exist.
    :param families: a file with kinds of images to recognize, in addition to the built-in ones: docs/howto/images.md.
    """

    root: Path = field(converter=Path)
    families: Path | None = None
    _reactor: Any = None
    _mounts: MountTable = field(factory=MountTable)
    _threads: Threads | None = field(init=False)
    _open: dict[tuple[str, str], _OpenImage] = field(factory=dict, init=False)
    """By name and version."""
    _current: dict[str, tuple[Change, str]] = field(factory=dict, init=False)
    """Name of an image -> (its Change at the last scan, its version), for images that are in the directory."""
    _scanned_at: float | None = field(default=None, init=False)
    _waiting: "list[Deferred[None]] | None" = field(default=None, init=False)
    """Requests that wait for a scan in a thread; None: none is running."""
    _problems: tuple[str, ...] = field(default=(), init=False)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None

    @classmethod
    def configured(cls, context: PluginContext, root: str, families: str | None = None) -> "ImagesBackend":
        """Called by boot_plugin. Relative paths are relative to the configuration file."""
        if not root or "\0" in root:
            raise ConfigError("must be the path of a directory", ("root",))
        own_families = context.directory / families if families else None
        catalogue_of(own_families)
        reactor = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        return cls(context.directory / root, own_families, reactor)

    @property
    def library(self) -> Library:
        """A new Library of the images, with an empty cache."""
        return Library([self.root], catalogue_of(self.families))

    def image_names(self) -> list[str]:
        """See IImageBackend."""
        try:
            return [entry.name for entry in image_entries(self.root) if isinstance(entry, ImageEntry)]
        except OSError:
            return []

    def problem(self) -> str:
        """See ISelfChecking."""
        if self._mount() is not None:
            return ""
        try:
            os.close(os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except FileNotFoundError:
            return ""
        except OSError as error:
            return f"{self.root}: {error.strerror}"
        return ""

    def start(self, publish: Any) -> None:
        """See IStartable. Images are opened now, so that one is served that is replaced before its first request."""
        if self._mount() is None:
            self._scan()

    def close(self) -> None:
        """See IStartable."""
        for image in self._open.values():
            image.close()
        self._open.clear()
        self._current.clear()
        self._scanned_at = None

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        top, _, inside = lexical(path).partition("/")
        entry, _, inside = inside.partition("/")
        if top != PREFIX or not entry:
            raise FileMissing()
        if not self._is_due():
            return self._open_inside(entry, inside, request)
        mount = self._mount()
        if mount is None or self._threads is None:
            self._scan()
            return self._open_inside(entry, inside, request)
        return self._scan_at(mount).addCallback(lambda _: self._open_inside(entry, inside, request))

    def version(self, path: str, request: Any) -> None:
        """See IVersionedBackend: files of backends after this one keep their versions, those in images have none."""
        if lexical(path).partition("/")[0] != PREFIX:
            raise FileMissing()

    def _open_inside(self, entry: str, inside: str, request: Any) -> Any:
        """Open a file in an image, or the image itself.

        :param entry: the part of the path after PREFIX: the name, with or without version and suffix.
        :param inside: the path in the image; "": the image itself.
        """
        match = _VERSIONED.fullmatch(entry)
        name, version, suffix = (match["name"], match["version"], match["suffix"] or "") if match else (entry, "", "")
        if not version:
            version = self._current.get(name, ((), ""))[1]
        image = self._open.get((name, version))
        if image is None:
            raise FileMissing()
        if not inside:
            if not suffix or suffix.removesuffix(DIGESTS) != image.suffix:
                raise FileMissing()
            return image.chunks() if suffix.endswith(DIGESTS) else image.whole()
        if suffix or image.files is None:
            raise FileMissing()
        reader = image.files.open(inside, request)
        if inside.rpartition("/")[2].casefold() == "boot.cfg":
            root = "../" * inside.count("/")
            # From a path without version it leads to the one with it, so that all files are of the same version.
            if match is None:
                root += f"../{name}~{version}/"
            return reader.addCallback(_boot_cfg, root) if isinstance(reader, Deferred) else _boot_cfg(reader, root)
        return reader

    # The scan of the directory.

    def _is_due(self) -> bool:
        now = self._seconds()
        return self._scanned_at is None or now is None or not 0 <= now - self._scanned_at < SECONDS

    def _seconds(self) -> float | None:
        return None if self._reactor is None else float(self._reactor.seconds())

    def _mount(self) -> bytes | None:
        return None if self._threads is None else self._mounts.on_the_way_to(self.root)

    def _scan_at(self, mount: bytes) -> "Deferred[None]":
        """Scan in a thread, since the file system may hang. All requests that come meanwhile wait for it."""
        waiter: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
            return waiter
        self._waiting = [waiter]
        assert self._threads is not None

        def scanned(result: Any) -> None:
            waiting, self._waiting = self._waiting or [], None
            if isinstance(result, tuple):
                self._apply(*result)
            for each in waiting:
                each.callback(None)

        self._threads.call(mount, self._find_images, must_run=True).addBoth(scanned)
        return waiter

    def _scan(self) -> None:
        self._apply(*self._find_images())

    def _find_images(self) -> tuple[list[ImageEntry], list[_NewVersion], list[str]]:
        """Return (all images, new versions, problems). It may run in any thread: it opens files, but changes no
        state."""
        images: list[ImageEntry] = []
        new: list[_NewVersion] = []
        problems: list[str] = []
        try:
            entries = list(image_entries(self.root))
        except FileNotFoundError:
            return images, new, problems
        except OSError as error:
            return images, new, [f"{self.root}: {error.strerror}"]
        for entry in entries:
            if isinstance(entry, str):
                problems.append(entry)
                continue
            current = self._current.get(entry.name)
            if current is None or current[0] != entry.change:
                try:
                    descriptor = open_entry(entry.path)
                except OSError as error:
                    problems.append(f"{entry.path}: {error.strerror}")
                    continue
                try:
                    new.append(_NewVersion(entry, descriptor, version_of(descriptor), _open_digests(entry)))
                except OSError as error:
                    os.close(descriptor)
                    problems.append(f"{entry.path}: {error.strerror}")
                    continue
            images.append(entry)
        return images, new, problems

    def _apply(self, images: list[ImageEntry], new: list[_NewVersion], problems: list[str]) -> None:
        """Apply the result of _find_images(): serve new versions, and close those that were replaced KEPT seconds
        ago."""
        now = self._seconds()
        self._scanned_at = now
        for found in new:
            entry, descriptor, version = found.entry, found.descriptor, found.version
            self._current[entry.name] = entry.change, version
            opened = self._open.get((entry.name, version))
            # The same file: it was renamed and put back, or only its digests have changed. Unpacked files stay valid.
            if opened is not None and os.path.sameopenfile(opened.descriptor, descriptor):
                os.close(descriptor)
                opened.replaced = None
                opened.use(found.digests)
            else:
                if opened is not None:
                    opened.close()
                self._open[entry.name, version] = self._opened(found)
        names = {entry.name for entry in images}
        for name in [name for name in self._current if name not in names]:
            del self._current[name]
        for key, image in list(self._open.items()):
            if self._current.get(image.name, ((), ""))[1] == image.version:
                continue
            if image.replaced is None:
                image.replaced = now or 0.0
            elif now is None or now - image.replaced >= KEPT:
                del self._open[key]
                image.close()
        for problem in problems:
            if problem not in self._problems:
                self._log.warn("backend images: {problem}", problem=problem)
        self._problems = tuple(problems)

    def _opened(self, new: _NewVersion) -> _OpenImage:
        entry, descriptor = new.entry, new.descriptor
        # Case is ignored, since where an unpacked CD has B.B00, its boot program requests b.b00.
        at = Path(f"/proc/self/fd/{descriptor}")
        mounts = _ImageMounts(image=entry.path)
        files: Any = None
        if entry.is_directory:
            files = DirectoryBackend(at, ignore_case=True, reactor=self._reactor, mounts=mounts)
        elif entry.suffix not in DISKS:
            files = ArchiveBackend(at, ignore_case=True, reactor=self._reactor, mounts=mounts, shown=entry.path)
        return _OpenImage(entry.name, new.version, entry.suffix, descriptor, new.digests, files)


def catalogue_of(families: Path | None) -> Catalogue:
    """Return the built-in families and those of the file *families*.

    :raise ConfigError: the file *families* is wrong; the path begins at the plugin's table.
    """
    if families is None:
        return stock()
    try:
        return stock().with_own(read_families(families))
    except OSError as error:
        raise ConfigError(f"{families}: {error.strerror}", ("families",)) from error
    except ConfigError as error:
        raise error.under("families") from error


def _boot_cfg(reader: Any, root: str) -> Any:
    """Return *reader*, or if it reads the boot.cfg of an ESXi installer, a reader of what its boot program needs.

    :param root: the way from its directory to the files of the same version of the image.
    """
    data = reader.read(0, _TEXT_MAX)
    if isinstance(data, Deferred):
        return data.addCallback(partial(_rewritten, reader, root))
    return _rewritten(reader, root, data)


def _rewritten(reader: Any, root: str, data: bytes) -> Any:
    text = data.decode("utf-8", "surrogateescape")
    if not is_boot_cfg(text):
        return reader
    reader.close()
    return MemoryReader(for_network(text, root).encode("utf-8", "surrogateescape"))


plugin = boot_plugin(IBackend, ImagesBackend)
