"""The ``menu`` backend: a boot menu of the images in the boot directory."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorThreads
from twisted.logger import Logger
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    FileMissing,
    Finding,
    IBackend,
    ILintable,
    IListableBackend,
    IPerClientBackend,
    IReader,
    MemoryReader,
    MountProbe,
    PluginContext,
    TransferRequest,
    boot_plugin,
)
from bootfw.backends.detached import Threads
from bootfw.backends.distribution import PROGRAMS, DistributionBackend
from bootfw.backends.imagelibrary.backend import catalogue_of
from bootfw.backends.imagelibrary.library import Library, OSImage
from bootfw.backends.imagelibrary.menuimages import WIMBOOT, disk_images, menu_images
from bootfw.backends.images import IMAGES, Image, Kernels, scan
from bootfw.backends.menucontents import MenuContents, grub_words
from bootfw.backends.mistakes import mistakes, source_finding, template_findings
from bootfw.backends.paths import lexical
from bootfw.backends.sandbox import Facts, Sandbox, templates_in
from bootfw.backends.variables import plain, server

SECONDS = 10.0
"""How long the result of a scan is cached, so that all clients of a kind get the same bytes meanwhile."""

_TEMPLATES = Path(__file__).with_name("menus")

_PROGRAMS = ("memdisk", "menu.c32", "vesamenu.c32", WIMBOOT)

_KINDS = ("ipxe", "install", "pxelinux", "grub", "autoexec")

_INSTALL = re.compile(r"install/(?P<image>[^/]+?)(?:/(?P<answers>.+))?\.ipxe")
"""Scripts that boot one image, which ``bootfw install`` orders."""

_NO_ARCHITECTURE = ("unknown", "")


@implementer(IPerClientBackend, IListableBackend, ILintable)
@define(eq=False)
class MenuBackend:
    """A boot menu of the images in the boot directory, for iPXE, PXELINUX and GRUB; local boot is its default.

    The entries are Linux kernels of any name, with the ``initrd`` or ``initramfs`` of the same version beside them and
    the arguments in ``KERNEL.cmdline`` or ``cmdline``; EFI programs; disks and CDs (``*.img``, ``*.iso``); and iPXE
    scripts. Each machine is shown the images that it can run, by the content of the files. If there is no image, there
    is no menu. The images themselves are served by a ``directory`` backend. Images on a network file system that does
    not respond within a second are left out until it does.

    Images of operating systems, such as ISO images of installers, are those of the ``images`` backend, which serves the
    files in them. ``install/debian-12.ipxe`` boots one of them, and ``install/debian-12/preseed.cfg.ipxe`` one with the
    answers at ``preseed.cfg``: ``bootfw install`` orders these scripts. They have disk images too, which
    no menu shows: the receiver among the images writes one to the disk of the machine, without a question.

    :param root: the directory, or a list of directories, relative to the configuration file.
    :param images: the directory of images of operating systems, or a list of directories: the ``root`` of each
        ``images`` backend.
    :param families: as in the ``images`` backend.
    :param title: the title of the menu.
    :param timeout_seconds: seconds until the default is booted.
    :param default: the path of the default image, such as "images/debian-12"; "": the local disk.
    :param script: the file name of the menu for iPXE. ``autoexec.ipxe``, which iPXE requests by itself, boots what DHCP
        names; if DHCP names nothing, or iPXE again, it chains to this menu.
    :param templates: a directory with templates that replace the built-in ones: ``ipxe.j2``, ``install.j2``,
        ``pxelinux.j2``, ``grub.j2`` or ``autoexec.j2``.
    """

    roots: Sequence[Path]
    title: str = "Network boot"
    timeout_seconds: int = 20
    default: str = ""
    script: str = "boot.ipxe"
    templates: Path | None = None
    library: Library = field(factory=lambda: Library([]))
    _reactor: Any = None
    _distribution: DistributionBackend = field(factory=DistributionBackend)
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _kernels: Kernels = field(factory=Kernels, init=False)
    _probe: MountProbe = field(factory=MountProbe, init=False)
    _directories: Sequence[Path] = field(init=False)
    _sandbox: Sandbox = field(init=False)
    _threads: Threads | None = field(init=False)
    _contents: MenuContents | None = field(default=None, init=False)
    _scanned_at: float = field(default=0.0, init=False)
    _waiting: "list[Deferred[MenuContents]] | None" = field(default=None, init=False)
    """Requests that wait for the current scan; None: no scan is running. Machines that are switched on together request
    the menu at the same time, so all of them share one scan."""
    _menus: dict[tuple[str, ...], bytes] = field(factory=dict, init=False)
    """Menus that were rendered from ``_contents``, by kind and variant."""

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None
        self._directories = [self.templates, _TEMPLATES] if self.templates is not None else [_TEMPLATES]
        self._sandbox = Sandbox(templates_in(self._directories))
        self._sandbox.filters["grub"] = grub_words

    @classmethod
    def configured(
        cls,
        context: PluginContext,
        root: str | list[str],
        title: str = "Network boot",
        timeout_seconds: int = 20,
        default: str = "",
        script: str = "boot.ipxe",
        templates: str | None = None,
        images: str | list[str] = [],  # noqa: B006  it is only read
        families: str | None = None,
    ) -> "MenuBackend":
        """Called by boot_plugin."""
        names = [root] if isinstance(root, str) else root
        image_names = [images] if isinstance(images, str) else images
        for key, paths in (("root", names), ("images", image_names)):
            if (key == "root" and not paths) or any(not name or "\0" in name for name in paths):
                raise ConfigError("must be the path of a directory, or a list of them", (key,))
        if not 0 < timeout_seconds <= 3600:
            raise ConfigError("must be from 1 to 3600", ("timeout-seconds",))
        for key, name in (("default", default), ("script", script)):
            if lexical(name) != name or (key == "script" and not name):
                raise ConfigError("must be the path of a file, as clients request it", (key,))
        reactor = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        own_templates = context.directory / templates if templates else None
        roots = [context.directory / name for name in names]
        catalogue = catalogue_of(context.directory / families if families else None)
        library = Library([context.directory / name for name in image_names], catalogue)
        return cls(roots, plain(title), timeout_seconds, default, script, own_templates, library, reactor)

    def lint(self) -> Iterator[Finding]:
        """See ILintable: the mistakes in the site's own templates, and a default that does not exist."""
        if self.templates is not None:
            if not os.path.isdir(self.templates):
                yield source_finding(str(self.templates), "there is no such directory")
            own_templates = [f"{kind}.j2" for kind in _KINDS if os.path.isfile(self.templates / f"{kind}.j2")]
            yield from template_findings(self._sandbox, self.templates, own_templates)
        if self.default and not any(self.default in (image.path, image.name) for image in self._scan().images):
            yield source_finding(
                "[[backend]] menu, default", f"it names {self.default}, which is none of the menu's images"
            )

    def has(self, path: str) -> bool:
        """See IListableBackend. Only the iPXE script: a resolver may name it as a boot file."""
        return path == self.script

    def names(self) -> list[str]:
        """See IListableBackend."""
        return [self.script]

    def open(self, path: str, request: TransferRequest | None) -> Any:
        """See IBackend. *request* None: the menu for an unknown client."""
        render = self._renderer(lexical(path), request or TransferRequest(path, path, ("", 0)))
        if self._reactor is None:
            return render(self._updated(self._scan()))
        if self._contents is not None and 0 <= self._reactor.seconds() - self._scanned_at < SECONDS:
            return render(self._contents)
        return self._scan_later().addCallback(render)

    def _renderer(self, path: str, request: TransferRequest) -> Callable[[MenuContents], IReader]:
        """Return the function that renders the menu at *path*.

        :raise FileMissing: there is no menu at *path*.
        """
        directory, _, name = path.rpartition("/")
        if path == self.script:
            return lambda contents: self._ipxe(contents, request)
        if name == "autoexec.ipxe":
            return lambda contents: self._autoexec(contents, request)
        if name == "grub.cfg":
            http = request.http_url
            return lambda contents: self._menu(contents, "grub", lambda: contents.for_grub(self.default, http), http)
        if name == "default" and directory.endswith("pxelinux.cfg"):
            # SYSLINUX for UEFI, and U-Boot, request the same name.
            of_bios = request.client.architecture in (*_NO_ARCHITECTURE, "x86-bios")
            if of_bios and not directory.startswith(("efi32/", "efi64/")):
                url = request.http_url
                return lambda contents: self._menu(
                    contents, "pxelinux", lambda: contents.for_pxelinux(self.default, url), url
                )
        if (found := _INSTALL.fullmatch(path)) is not None:
            image, answers = found["image"], found["answers"] or ""
            return lambda contents: self._install(contents, request, image, answers)
        raise FileMissing()

    def _install(self, contents: MenuContents, request: TransferRequest, image: str, answers: str) -> IReader:
        base = request.http_url if request.protocol == "tftp" else ""
        by_http = bool(base) or request.protocol != "tftp"
        variables = contents.for_install(image, answers, base, by_http, request.http_url)
        if variables is None:
            raise FileMissing(
                detail=f"there is no image {image} that iPXE can boot{' with answers' if answers else ''}"
            )
        return MemoryReader(self._rendered("install", variables))

    def _ipxe(self, contents: MenuContents, request: TransferRequest) -> IReader:
        # A request by HTTP may have come through a proxy or NAT, so its paths stay relative to the URL it used.
        base = request.http_url if request.protocol == "tftp" else ""
        by_http = bool(base) or request.protocol != "tftp"
        variables = partial(contents.for_ipxe, base, by_http, self.default, request.http_url)
        return self._menu(contents, "ipxe", variables, request.http_url, request.protocol)

    def _autoexec(self, contents: MenuContents, request: TransferRequest) -> IReader:
        if not request.local or not (contents.images or self.script in contents.programs):
            raise FileMissing()
        programs = ["autoexec.ipxe", *(name for name in PROGRAMS if name.startswith(("ipxe", "snponly", "undionly")))]
        variables = {"server": Facts("server", server(request)), "script": self.script, "programs": programs}
        return MemoryReader(self._rendered("autoexec", variables))

    def _menu(self, contents: MenuContents, kind: str, content: Callable[[], Mapping[str, Any]], *more: str) -> IReader:
        if not contents.images:
            raise FileMissing()
        data = self._menus.get((kind, *more))
        if data is None:
            variables = {"title": self.title, "timeout_seconds": self.timeout_seconds, **content()}
            data = self._menus[kind, *more] = self._rendered(kind, variables)
        return MemoryReader(data)

    def _rendered(self, kind: str, variables: Mapping[str, Any]) -> bytes:
        with mistakes(f"{kind}.j2", self._directories):
            return self._sandbox.render(f"{kind}.j2", variables)

    # The scan of the directories.

    def _scan(self) -> MenuContents:
        """Scan the directories, without those on file systems that hang. May block."""
        systems = [image for image in self.library.scan(self._probe.hangs) if image.ways]
        images = self._images(systems)
        roots = [root for root in self.roots if not self._probe.hangs(root)]
        # Modules such as menu.c32 work only with a PXELINUX of the same build: beside a PXELINUX of the site, those of
        # the distribution are not used.
        with_pxelinux = [
            root for root in roots if any(os.path.isfile(root / name) for name in ("pxelinux.0", "lpxelinux.0"))
        ]
        installed = {} if with_pxelinux else self._distribution.available()
        available = [
            name
            for name in (*_PROGRAMS, self.script)
            if name in installed or any(os.path.isfile(root / name) for root in roots)
        ]
        return MenuContents(images, frozenset(available), tuple(disk_images(systems)))

    def _images(self, systems: Sequence[OSImage]) -> tuple[Image, ...]:
        system_paths = {image.path for image in systems if not image.is_disk}
        others = scan(self.roots, self._kernels, lambda path: path in system_paths or self._probe.hangs(path))
        return (*menu_images(systems), *others)

    def _updated(self, contents: MenuContents) -> MenuContents:
        """Store the result of a scan, and drop the rendered menus if it is another one than before."""
        if contents != self._contents:
            if len(contents.images) == IMAGES:
                self._log.warn("the boot menu is limited to {count} entries; there may be more images", count=IMAGES)
            self._menus.clear()
            self._contents = contents
        return contents

    def _scan_later(self) -> "Deferred[MenuContents]":
        """Return a Deferred of the next scan, which all waiting requests share."""
        waiter: Deferred[MenuContents] = Deferred()
        if self._waiting is not None:
            self._waiting.append(waiter)
            return waiter
        self._waiting = [waiter]
        assert self._threads is not None
        # Not in the reactor's thread pool: a file system that hangs would occupy a thread of it, and the reactor
        # waits for its threads when it stops.
        self._threads.call("menu", self._scan).addBoth(self._scanned)
        return waiter

    def _scanned(self, result: Any) -> None:
        if isinstance(result, MenuContents):
            self._updated(result)
            self._scanned_at = self._reactor.seconds()
        waiting, self._waiting = self._waiting or [], None
        for waiter in waiting:
            waiter.callback(result)


plugin = boot_plugin(IBackend, MenuBackend)
