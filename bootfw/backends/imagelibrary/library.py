"""Recognizes the images in a directory, and how each can be booted."""

import io
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from attrs import define, evolve, field, frozen

from bootfw.backends.archive.contents import ArchiveError
from bootfw.backends.executables import Executable, read_executable, read_partitions
from bootfw.backends.imagelibrary.imageentry import DISKS, Change, ImageEntry, image_entries, open_entry, version_of
from bootfw.backends.imagelibrary.listed import listing_of
from bootfw.images.catalogue import Catalogue, stock
from bootfw.images.family import Recognition
from bootfw.images.listing import Listing
from bootfw.images.recipe import Plan

_ARGUMENTS_MAX = 2048
"""Bytes of a kernel's arguments: as many as an x86 kernel accepts (COMMAND_LINE_SIZE)."""

_HEAD = 1 << 20
"""Bytes of a kernel that are read: its header, and its version beside it."""


DISK = "disk"
"""The family of images of disks, which are recognized by their partition tables."""


@frozen
class Way:
    """A way to boot an image: a plan, and the firmware and processors that it runs on."""

    plan: Plan
    runs: Executable
    system: "OSImage | None" = None
    """Of the way to install the image of a disk: the system that writes it."""


@frozen
class OSImage:
    """An image of an operating system."""

    name: str
    path: Path
    suffix: str
    """"": it is a directory."""
    version: str
    """See version_of()."""
    size: int
    """Bytes; 0: it is a directory."""
    title: str
    """The name of the system; "": unknown."""
    family: str
    """"": unknown."""
    release: str
    """The version of the system; "": unknown."""
    ways: tuple[Way, ...]
    reason: str
    """Why it can't be booted over the network; "": it can."""
    arguments: str = ""
    """Arguments that the operator has added for its kernels."""
    digests: bool = False
    """Whether the image of a disk has the digests of its chunks."""

    @property
    def is_disk(self) -> bool:
        """Whether it is the image of a disk, which is written to a machine's disk and can't be booted itself."""
        return self.family == DISK

    @property
    def is_receiver(self) -> bool:
        """Whether it is a system that writes images of disks."""
        return any(way.plan.recipe.kind == "receiver" and way.system is None for way in self.ways)


def arguments_beside(directory: Path, name: str) -> str:
    """Return the arguments in the file ``NAME.cmdline``, or in ``cmdline``, which is for everything in the directory;
    "": there is none. Lines that begin with ``#`` are comments."""
    for path in (directory / f"{name}.cmdline", directory / "cmdline"):
        try:
            with open(path, encoding="ascii", errors="replace", opener=_without_waiting) as file:
                text = file.read(_ARGUMENTS_MAX)
        except FileNotFoundError:
            continue
        except OSError:
            return ""
        lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
        return " ".join("".join(c if c.isascii() and c.isprintable() else " " for c in " ".join(lines)).split())
    return ""


def _without_waiting(path: str, flags: int) -> int:
    """Open a file; a FIFO has no content."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


@define(eq=False)
class Library:
    """The images in directories. The result for an image is cached until its file changes.

    :param roots: the directories; of two images with the same name the first one is used.
    """

    roots: Sequence[Path]
    catalogue: Catalogue = field(factory=stock)
    problems: tuple[str, ...] = field(default=(), init=False)
    """Sentences about entries of the last scan that can't be used."""
    _cache: dict[tuple[Path, Change], OSImage] = field(factory=dict, init=False)

    def scan(self, hangs: Callable[[Path], bool] = lambda root: False) -> tuple[OSImage, ...]:
        """Find the images, sorted by name. It may take seconds for each image that is new.

        :param hangs: returns whether to leave out a directory, because its file system does not answer.
        """
        problems: list[str] = []
        found: dict[str, OSImage] = {}
        cache: dict[tuple[Path, Change], OSImage] = {}
        for entry in self._entries(problems, hangs):
            if entry.name in found:
                problems.append(f"{entry.path}: {found[entry.name].path} is the image {entry.name} already")
                continue
            key = entry.path, entry.change
            # The Change of a directory says nothing about the files in it, so it is inspected at each scan.
            image = None if entry.is_directory else self._cache.get(key)
            if image is None:
                try:
                    image = self._inspected(entry)
                except OSError as error:
                    problems.append(f"{entry.path}: {error.strerror}")
                    continue
            cache[key] = image
            # Not cached with the image: the file with the arguments may change while the image does not.
            found[entry.name] = _with_arguments(image, arguments_beside(entry.path.parent, entry.name))
        self._cache, self.problems = cache, tuple(problems)
        images = [found[name] for name in sorted(found, key=str.casefold)]
        receivers = [image for image in images if image.is_receiver]
        return tuple(_with_receivers(image, receivers) if image.is_disk else image for image in images)

    def _entries(self, problems: list[str], hangs: Callable[[Path], bool]) -> Iterator[ImageEntry]:
        for root in self.roots:
            try:
                entries: Iterable[ImageEntry | str] = () if hangs(root) else list(image_entries(root))
            except FileNotFoundError:
                continue
            except OSError as error:
                problems.append(f"{root}: {error.strerror}")
                continue
            for entry in entries:
                if isinstance(entry, str):
                    problems.append(entry)
                else:
                    yield entry

    def _inspected(self, entry: ImageEntry) -> OSImage:
        descriptor = open_entry(entry.path)
        try:
            version, size = version_of(descriptor), 0 if entry.is_directory else os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
        recognition: Recognition | None = None
        ways: tuple[Way, ...] = ()
        try:
            with listing_of(entry.path) as listing:
                recognition = self.catalogue.recognize(listing)
                if recognition is not None:
                    ways = tuple(_ways(recognition, listing))
            reason = _unrecognized(entry) if recognition is None else recognition.reason
        except ArchiveError as error:
            reason = str(error)
        if recognition is None and entry.suffix in DISKS and (partitions := _partitions(entry.path)):
            title = f"Disk image, {partitions}"
            return OSImage(
                entry.name, entry.path, entry.suffix, version, size, title, DISK, "", (), "", digests=entry.digests
            )
        if recognition is None:
            return OSImage(entry.name, entry.path, entry.suffix, version, size, "", "", "", (), reason)
        if not ways and not reason:
            reason = "none of its kernels is for a known processor and firmware"
        return OSImage(
            entry.name,
            entry.path,
            entry.suffix,
            version,
            size,
            recognition.title,
            recognition.family.name,
            recognition.version,
            ways,
            "" if ways else reason,
        )


def _unrecognized(entry: ImageEntry) -> str:
    more = {".iso": "; a CD that boots is in the menu as such", ".img": "; a disk that boots is in the menu as such"}
    return f"it is not recognized{more.get(entry.suffix, '')}"


def _with_arguments(image: OSImage, arguments: str) -> OSImage:
    """Return the image with arguments of the operator, without the ways to boot it that need others."""
    names = {word.partition("=")[0] for word in arguments.split()}
    ways = tuple(way for way in image.ways if names.issuperset(way.plan.recipe.required))
    reason = image.reason
    if image.ways and not ways:
        lacking = {
            name: description
            for way in image.ways
            for name, description in way.plan.recipe.required.items()
            if name not in names
        }
        file = image.path.with_name(f"{image.name}.cmdline")
        reason = "; ".join(f"write {name}=... into {file}: {description}" for name, description in lacking.items())
    return evolve(image, arguments=arguments, ways=ways, reason=reason)


def _with_receivers(image: OSImage, receivers: Sequence[OSImage]) -> OSImage:
    """Return the image of a disk with the ways to install it, by the systems that write such images."""
    ways = tuple(
        Way(way.plan, way.runs, receiver)
        for receiver in receivers
        for way in receiver.ways
        if way.plan.recipe.kind == "receiver"
    )
    reason = f"no receiver is there: bootfw receive --write-system {image.path.parent}/receiver makes one"
    return evolve(image, ways=ways, reason="" if ways else reason)


def _partitions(path: Path) -> str:
    with open(open_entry(path), "rb") as file:
        return read_partitions(file)


def _ways(recognition: Recognition, listing: Listing) -> Iterator[Way]:
    for plan in recognition.plans:
        recipe = plan.recipe
        runs = Executable(recipe.cpu, recipe.cpu)
        if recipe.kind in ("linux", "receiver") and not recipe.cpu:
            try:
                runs = read_executable(io.BytesIO(listing.read(plan.kernel, _HEAD)))
            except OSError:
                continue
        bios = runs.bios if "bios" in recipe.firmware else ""
        efi = runs.efi if "efi" in recipe.firmware else ""
        if bios or efi:
            yield Way(plan, Executable(bios, efi, runs.linux, runs.version))
