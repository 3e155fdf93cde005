"""The ``template`` backend: renders files for each client from Jinja2 templates."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from attrs import define, field
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    ErrorCollector,
    FileMissing,
    Finding,
    IBackend,
    IHostBackend,
    ILintable,
    IListableBackend,
    IPerClientBackend,
    IReader,
    ISelfChecking,
    MemoryReader,
    MountTable,
    PluginContext,
    TransferRequest,
    boot_plugin,
)
from bootfw.backends.detached import Threads
from bootfw.backends.hosts import GROUPS, HostFileError, Hosts
from bootfw.backends.mistakes import mistake, mistakes, source_finding, template_findings
from bootfw.backends.names import Identifiers, Pattern, searched
from bootfw.backends.paths import lexical
from bootfw.backends.sandbox import Facts, Sandbox, templates_in
from bootfw.backends.variables import identified, template_variables

SUFFIX = ".j2"


def _patterns(files: Mapping[str, str]) -> dict[Pattern, str]:
    by_pattern, collector = {}, ErrorCollector()
    for text, template in files.items():
        with collector.under("files", text):
            if not template or lexical(template) != template:
                raise ValueError('must be the name of a template below "root"')
            by_pattern[Pattern(text)] = template
    collector.finish()
    return by_pattern


@implementer(IPerClientBackend, IListableBackend, IHostBackend, ISelfChecking, ILintable)
@define(eq=False)
class TemplateBackend:
    """Files that are rendered for each client, from Jinja2 templates.

    ``boot.ipxe`` is rendered from ``boot.ipxe.j2``, ``pxelinux.cfg/default`` from ``pxelinux.cfg/default.j2``, for any
    client. The variables are ``client``, ``server``, ``host``, ``path`` and ``protocol``: docs/howto/templates.md.

    :param root: the directory of the templates.
    :param files: pattern for paths -> the template below ``root``; tried in order, before the template of the same
        name. ``*`` matches any characters but ``/``; ``{mac}``, ``{uuid}`` and ``{name}`` identify the host file.
    :param hosts: the directory of the host files, TOML or YAML: ``web1.toml`` is the variable ``host`` for the machine
        with its ``mac``, ``uuid`` or ``address``. ``[[machine]]`` tables of the configuration count like host files.
    :param reactor: renders in its threads; None: in the calling thread.
    """

    reads_machines: ClassVar[bool] = True
    for_systems: ClassVar[bool] = True

    root: Path = field(converter=Path)
    files: Mapping[Pattern, str] = field(factory=dict, converter=_patterns)
    hosts: Hosts | None = None
    _reactor: Any = None
    _mounts: MountTable = field(factory=MountTable)
    _threads: Threads | None = field(init=False)
    _sandbox: Sandbox = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._threads = Threads(self._reactor) if self._reactor is not None else None
        self._sandbox = Sandbox(templates_in(self.root))
        self._sandbox.globals["decline"] = _decline

    @classmethod
    def configured(
        cls, context: PluginContext, root: str, files: dict[str, str] | None = None, hosts: str | None = None
    ) -> "TemplateBackend":
        """Called by boot_plugin. Relative paths are relative to the configuration file."""
        for key, path in (("root", root), ("hosts", hosts)):
            if path is not None and (not path or "\0" in path):
                raise ConfigError("must be the path of a directory", (key,))
        reactor: Any = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        site = None
        if hosts or context.machines:
            directory = context.directory / hosts if hosts else None
            site = Hosts(directory, reactor.seconds if reactor else None, context.machines)
        return cls(context.directory / root, files or {}, site, reactor)

    def problem(self) -> str:
        """See ISelfChecking: missing directories and templates, and mistakes in host files.

        File systems that can hang are not read, since that would block the start.
        """
        if self._reactor is not None and any(map(self._mount, ("", *self.files.values()))):
            return ""
        wrong = [] if os.path.isdir(self.root) else [f"{self.root}: there is no such directory"]
        absent = [name for name in self.files.values() if not self._exists(name)]
        wrong += [f"{self.root / name}: there is no such file" for name in absent]
        if self.hosts is not None:
            wrong += self.hosts.problems()
        return "; ".join(wrong)

    def lint(self) -> Iterator[Finding]:
        """See ILintable: the mistakes in the templates and the host files."""
        if not os.path.isdir(self.root):
            yield source_finding(str(self.root), "there is no such directory")
        absent = [name for name in self.files.values() if not self._exists(name)]
        yield from (source_finding(str(self.root / name), "there is no such file") for name in dict.fromkeys(absent))
        configured = {name for name in self.files.values() if self._exists(name)}
        below = {path.relative_to(self.root).as_posix() for path in self.root.rglob(f"*{SUFFIX}")}
        yield from template_findings(
            self._sandbox, self.root, configured | {name for name in below if self._exists(name)}
        )
        if self.hosts is not None:
            yield from self.hosts.lint()

    def host(self, mac: str, uuid: str) -> Mapping[str, object]:
        """See IHostBackend. A mistake in a host file is logged once; the machine then has no values."""
        try:
            found = self._host((Identifiers(mac, uuid),))
        except HostFileError:
            return {}
        return found if found["name"] else {}

    def names(self) -> list[str]:
        """See IListableBackend: the files of the templates in the root directory itself."""
        below = (path.name.removesuffix(SUFFIX) for path in self.root.glob(f"*{SUFFIX}"))
        return sorted(name for name in below if self.has(name))

    def has(self, path: str) -> bool:
        """See IListableBackend."""
        try:
            self._check_exists(*self._template_of(path))
        except FileMissing:
            return False
        return True

    def open(self, path: str, request: TransferRequest) -> Any:
        """See IBackend."""
        name = lexical(path)
        template, identifiers = self._template_of(name)
        threads = self._threads
        mount = self._mount(template) if threads is not None else None
        if mount is None:
            self._check_exists(template, identifiers)
        all_identifiers = identified(request.client, identifiers or Identifiers(), searched(name))
        variables = template_variables(name, request, all_identifiers)
        if threads is None:
            return self._render(template, all_identifiers, variables)
        if mount is None and not self._mounts.hanging():
            pool = self._reactor.getThreadPool()
            return deferToThreadPool(self._reactor, pool, self._render, template, all_identifiers, variables)

        def make() -> IReader:
            self._check_exists(template, identifiers)
            return self._render(template, all_identifiers, variables)

        # A template on a local file system may include one on a file system that hangs.
        return threads.call(mount or self.root, make)

    def _mount(self, template: str) -> bytes | None:
        """Return the mount point of a file system that can hang and has the template or host files; None: none."""
        try:
            mount = self._mounts.on_the_way_to(self.root, template.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise FileMissing() from None
        if mount is None and self.hosts is not None and self.hosts.directory is not None:
            mount = self._mounts.on_the_way_to(self.hosts.directory, GROUPS.encode())
        return mount

    def _template_of(self, path: str) -> tuple[str, Identifiers | None]:
        """Return (the template of *path*, which may not exist; the identifiers in the path, or None if no pattern of
        ``files`` matches).

        :raise FileMissing: *path* can't have a template.
        """
        for pattern, template in self.files.items():
            identifiers = pattern.match(path)
            if identifiers is not None:
                return template, identifiers
        # Names with "_" or "." in front are for templates that others include.
        hidden = any(part.startswith((".", "_")) for part in path.split("/"))
        if not path or hidden or "\0" in path:
            raise FileMissing()
        return path + SUFFIX, None

    def _check_exists(self, template: str, identifiers: Identifiers | None) -> None:
        """Check that the template exists, if no pattern of the configuration names it.

        :raise FileMissing: it does not.
        """
        if identifiers is None and not self._exists(template):
            raise FileMissing()

    def _exists(self, template: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(self.root / template).st_mode)
        except (OSError, ValueError):  # ValueError: there is a NUL in it
            return False

    def _render(self, template: str, identifiers: tuple[Identifiers, ...], variables: dict[str, Any]) -> IReader:
        try:
            variables["host"] = Facts("host", self._host(identifiers))
        except HostFileError as error:
            raise mistake(str(error)) from error
        with mistakes(template, [self.root]):
            return MemoryReader(self._sandbox.render(template, variables))

    def _host(self, identifiers: tuple[Identifiers, ...]) -> Mapping[str, Any]:
        if self.hosts is None:
            return {"name": ""}
        return self.hosts.find(identifiers)


def _decline() -> NoReturn:
    """The template function decline(): leave the file to the next backend."""
    raise FileMissing()


plugin = boot_plugin(IBackend, TemplateBackend)
