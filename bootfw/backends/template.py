"""The ``template`` backend: files that are made for each client."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from attrs import define, field
from twisted.internet.interfaces import IReactorThreads
from twisted.internet.threads import deferToThreadPool
from zope.interface import implementer

from bootfw.api import (
    ConfigError,
    ErrorCollector,
    FileMissing,
    IBackend,
    IListableBackend,
    IReader,
    ISelfChecking,
    MemoryReader,
    PluginContext,
    TransferRequest,
    boot_plugin,
)
from bootfw.backends.detached import Threads
from bootfw.backends.facts import facts, identified
from bootfw.backends.hosts import GROUPS, HostFileError, Hosts
from bootfw.backends.mistakes import Problem, mistake, mistakes, template_problems
from bootfw.backends.mounts import Mounts
from bootfw.backends.names import Identifiers, Pattern, searched
from bootfw.backends.paths import lexical
from bootfw.backends.sandbox import Facts, Sandbox, templates_in

SUFFIX = ".j2"


def _patterns(files: Mapping[str, str]) -> dict[Pattern, str]:
    made, collector = {}, ErrorCollector()
    for text, template in files.items():
        with collector.under("files", text):
            if not template or lexical(template) != template:
                raise ValueError('must be the name of a template below "root"')
            made[Pattern(text)] = template
    collector.finish()
    return made


@implementer(IListableBackend, ISelfChecking)
@define(eq=False)
class TemplateBackend:
    """Files that are made for each client, from Jinja2 templates.

    ``boot.ipxe.j2`` makes ``boot.ipxe``, ``pxelinux.cfg/default.j2`` makes ``pxelinux.cfg/default``, whoever asks.
    Templates know ``client``, ``server``, ``host``, ``path`` and ``protocol``; docs/howto/templates.md tells more.

    :param root: the directory of the templates.
    :param files: pattern of paths -> the template below ``root`` that makes them; asked in order, before the template
        of the same name. ``*`` stands for anything but ``/``; ``{mac}``, ``{uuid}`` and ``{name}`` say whose host file
        it is.
    :param hosts: the directory of the host files, TOML or YAML: ``web1.toml`` is what templates know as ``host`` when
        the machine with its ``mac``, ``uuid`` or ``address`` asks.
    :param reactor: makes files in its threads; None: in the caller's.
    """

    root: Path = field(converter=Path)
    files: Mapping[Pattern, str] = field(factory=dict, converter=_patterns)
    hosts: Hosts | None = None
    _reactor: Any = None
    _mounts: Mounts = field(factory=Mounts)
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
        """What boot_plugin calls. Relative paths are relative to the configuration file."""
        for key, path in (("root", root), ("hosts", hosts)):
            if path is not None and (not path or "\0" in path):
                raise ConfigError("must be the path of a directory", (key,))
        reactor: Any = context.reactor if IReactorThreads.providedBy(context.reactor) else None
        site = Hosts(context.directory / hosts, reactor.seconds if reactor else None) if hosts else None
        return cls(context.directory / root, files or {}, site, reactor)

    def problem(self) -> str:
        """What is wrong with the directories, the templates that are named and the host files; "" when all is well.

        Nothing is looked at on a file system that can hang.
        """
        if self._reactor is not None and any(map(self._place, ("", *self.files.values()))):
            return ""
        wrong = [] if os.path.isdir(self.root) else [f"{self.root}: there is no such directory"]
        absent = [name for name in self.files.values() if not self._is_there(name)]
        wrong += [f"{self.root / name}: there is no such file" for name in absent]
        if self.hosts is not None:
            wrong += self.hosts.problems()
        return "; ".join(wrong)

    def file_problems(self) -> Iterator[Problem]:
        """What is wrong with the templates and the host files, each with its file and line."""
        if not os.path.isdir(self.root):
            yield Problem(str(self.root), "there is no such directory")
        absent = [name for name in self.files.values() if not self._is_there(name)]
        yield from (Problem(str(self.root / name), "there is no such file") for name in dict.fromkeys(absent))
        named = {name for name in self.files.values() if self._is_there(name)}
        below = {path.relative_to(self.root).as_posix() for path in self.root.rglob(f"*{SUFFIX}")}
        yield from template_problems(self._sandbox, self.root, named | {name for name in below if self._is_there(name)})
        if self.hosts is not None:
            yield from self.hosts.file_problems()

    def names(self) -> list[str]:
        """See IListableBackend: what the templates at the top make."""
        below = (path.name.removesuffix(SUFFIX) for path in self.root.glob(f"*{SUFFIX}"))
        return sorted(name for name in below if self.has(name))

    def has(self, path: str) -> bool:
        """See IListableBackend."""
        try:
            self._check_is_there(*self._named(path))
        except FileMissing:
            return False
        return True

    def open(self, path: str, request: TransferRequest) -> Any:
        """See IBackend."""
        name = lexical(path)
        template, told = self._named(name)
        threads = self._threads
        place = self._place(template) if threads is not None else None
        if place is None:
            self._check_is_there(template, told)
        client = request.client
        whose = identified(client, told or Identifiers(), searched(name))
        variables = facts(name, request, client, whose)
        if threads is None:
            return self._made(template, whose, variables)
        if place is None and not self._mounts.hanging():
            pool = self._reactor.getThreadPool()
            return deferToThreadPool(self._reactor, pool, self._made, template, whose, variables)

        def make() -> IReader:
            self._check_is_there(template, told)
            return self._made(template, whose, variables)

        # It may include a template of a file system that hangs, even when it is not there itself.
        return threads.call(place or self.root, make)

    def _place(self, template: str) -> bytes | None:
        """Where the file system is mounted that making this has to wait for; None: none that can hang."""
        try:
            place = self._mounts.on_the_way_to(self.root, template.encode("utf-8", "surrogateescape"))
        except UnicodeEncodeError:
            raise FileMissing() from None
        if place is None and self.hosts is not None:
            place = self._mounts.on_the_way_to(self.hosts.directory, GROUPS.encode())
        return place

    def _named(self, path: str) -> tuple[str, Identifiers | None]:
        """(template that makes *path* if it is there, what the pattern found in the path; None: none matches)."""
        for pattern, template in self.files.items():
            told = pattern.match(path)
            if told is not None:
                return template, told
        hidden = any(part.startswith((".", "_")) for part in path.split("/"))
        if not path or hidden or "\0" in path:
            raise FileMissing()
        return path + SUFFIX, None

    def _check_is_there(self, template: str, told: Identifiers | None) -> None:
        """:raise FileMissing: there is no such template, and no pattern of the configuration names it."""
        if told is None and not self._is_there(template):
            raise FileMissing()

    def _is_there(self, template: str) -> bool:
        try:
            return stat.S_ISREG(os.stat(self.root / template).st_mode)
        except (OSError, ValueError):  # ValueError: there is a NUL in it
            return False

    def _made(self, template: str, whose: tuple[Identifiers, ...], variables: dict[str, Any]) -> IReader:
        try:
            variables["host"] = Facts("host", self._host(whose))
        except HostFileError as error:
            raise mistake(str(error)) from error
        with mistakes(template, [self.root]):
            return MemoryReader(self._sandbox.render(template, variables))

    def _host(self, whose: tuple[Identifiers, ...]) -> Mapping[str, Any]:
        if self.hosts is None:
            return {"name": ""}
        return self.hosts.find(whose)


def _decline() -> NoReturn:
    """For templates: the file is not mine, ask the next backend."""
    raise FileMissing()


plugin = boot_plugin(IBackend, TemplateBackend)
