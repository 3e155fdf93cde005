"""Loads the plugins that the configuration names, and makes plugins from classes (boot_plugin).

A name is that of an entry point in the group of its kind, or ``package.module:attribute``. Plugins that the
configuration does not name are not imported.
"""

import importlib
import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.interfaces import IReactorTime
from zope.interface import Interface, implementer
from zope.interface.exceptions import Invalid
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

from bootfw.ability import abilities_of, provides
from bootfw.config.state import state_directory
from bootfw.config.tables import Key, options_of, read_table
from bootfw.diagnosis import cannot_import, failure, lacking, no_attribute, not_a_plugin
from bootfw.errors import ConfigError, PluginError, nearest
from bootfw.interfaces import (
    IBackend,
    IBatchObserver,
    IBootFileResolver,
    IBootObserver,
    IBootPlugin,
    ILearningWatchdog,
    ILeaseStore,
    IOrderStore,
    IPerClientBackend,
    IPower,
    IReservationStore,
    ISelfChecking,
    ITimeoutWatchdog,
    IUniformBackend,
    IWatchdog,
    IWatchdogPolicy,
)
from bootfw.values import Agreed

Named = tuple[str, Any]
"""(name for the log, plugin)."""

GROUPS: Mapping[str, Any] = {
    "bootfw.backends": IBackend,
    "bootfw.resolvers": IBootFileResolver,
    "bootfw.watchdogs": IWatchdogPolicy,
    "bootfw.stores": ILeaseStore,
    "bootfw.observers": IBootObserver,
    "bootfw.power": IPower,
}
"""Entry point group -> the interface of the objects that its plugins create."""

_COMPANIONS: Mapping[Any, tuple[Any, ...]] = {ILeaseStore: (IReservationStore,)}
"""Interface -> interfaces that have to be provided together with it."""


@frozen
class PluginContext:
    """The environment of a plugin: reactor, directories, and the store for orders."""

    reactor: "IReactorTime | None"
    """That of a process provides more, such as IReactorTCP. None: nothing runs, and calls may block."""
    directory: Path
    """The directory of the configuration file, for relative paths."""
    state_directory: Path = field(factory=state_directory)
    """Directory for state that outlives the process; created when it is needed."""
    orders: "IOrderStore | None" = None
    """The store for orders of resolvers; None: orders are lost when the process ends."""
    machines: tuple[Mapping[str, Any], ...] = ()
    """The ``[[machine]]`` tables, each with its ``name``. A class that uses them has the class attribute
    ``reads_machines = True``: at a reload an instance is created again if they have changed."""


@frozen
class PluginRow:
    """One line of ``--list-plugins``."""

    kind: str
    name: str
    distribution: str
    """Name and version of what installed it."""
    summary: str
    error: str = ""
    """Why it can't be used, or ""."""


def boot_plugin(provides: Any, cls: type, summary: str | None = None) -> IBootPlugin:
    """Return a plugin that creates instances of *cls*.

    The attrs fields of *cls* are the options: ``_`` in a name is written ``-``, a field without a default is required,
    and annotations, converters and validators check the values. A ValueError or TypeError from these becomes a
    ConfigError that names the field. A ConfigError is passed on; its path begins at the plugin's table.

    A class that needs the PluginContext has a classmethod ``configured(context, **options)``, which is called instead
    of the class. Options that are parameters of it are checked against its annotations.

    :param provides: the interface of the instances, such as IBackend.
    :param summary: for ``--list-plugins``; default: the first line of the docstring.
    """
    if not isinstance(provides, InterfaceClass) or not isinstance(cls, type):
        raise TypeError("boot_plugin() takes an interface and a class, such as boot_plugin(IBackend, YourClass)")
    return _ClassPlugin(provides, cls, summary or (inspect.getdoc(cls) or "").partition("\n")[0])


def configure(plugin: IBootPlugin, options: Mapping[str, Any], context: PluginContext) -> Any:
    """Return the object that *plugin* creates from *options*, after its interfaces have been verified.

    :raise ConfigError: the options are wrong; the path begins at the plugin's table.
    :raise PluginError: the plugin is broken.
    """
    try:
        instance = plugin.configure(dict(options), context)
    except ConfigError:
        raise
    except Exception as error:
        raise PluginError(f"the plugin failed: {failure(error)}") from error
    verify(plugin.provides, instance)
    return instance


def verify(provided: Any, instance: Any) -> None:
    """Verify that *instance* provides *provided*, and every other interface that it declares.

    :raise PluginError: it does not, or it has a member of an optional interface without declaring the interface.
    """
    for interface in (provided, *_COMPANIONS.get(provided, ()), *abilities_of(instance)):
        try:
            verifyObject(interface, instance)
        except Invalid as error:
            raise PluginError(lacking(interface, instance, error)) from error
    members = {*dir(type(instance)), *getattr(instance, "__dict__", ())}
    for member, ability in _MEMBERS.items():
        basic: Any = ability.__bases__[0]
        if (
            member in members
            and (basic is Interface or basic.providedBy(instance))
            and not ability.providedBy(instance)
        ):
            raise PluginError(
                f"the class {type(instance).__name__} has {member}, which belongs to {ability.__name__}: "
                f"add @implementer({ability.__name__}) above the class"
            )
    if provides(instance, IUniformBackend) and provides(instance, IPerClientBackend):
        raise PluginError(
            f"the class {type(instance).__name__} is an IUniformBackend and an IPerClientBackend: declare one of them"
        )
    if IWatchdogPolicy.providedBy(instance):
        try:
            watchdog = instance.begin(Agreed())
        except Exception as error:
            raise PluginError(f"begin() failed: {failure(error)}") from error
        if watchdog is not instance:
            verify(IWatchdog, watchdog)


_MEMBERS: Mapping[str, InterfaceClass] = {
    "same_for_all": IUniformBackend,
    "problem": ISelfChecking,
    "observe_many": IBatchObserver,
    "unremarkable": ILearningWatchdog,
    "honours_timeout": ITimeoutWatchdog,
}
"""Name of a member -> the optional interface without which it has no effect."""


def load(reference: str, group: str) -> IBootPlugin:
    """Import and verify a plugin.

    :param reference: the name of an entry point, or ``package.module:attribute``.
    :param group: one of GROUPS.
    :raise PluginError: it is missing, broken, installed twice, or of another kind. The caller adds the path.
    """
    if ":" in reference:
        found = [EntryPoint(reference, reference, group)]
    else:
        found = list(_installed(group).select(name=reference))
        if not found:
            # It may have been installed a moment ago: a distribution's directory is older than the files in it.
            _entry_points.cache_clear()
            found = list(_installed(group).select(name=reference))
    if not found:
        raise PluginError(_unknown(reference, group))
    if len(found) > 1:
        owners = ", ".join(sorted(map(_distribution, found)))
        raise PluginError(
            f'"{reference}" is installed by several distributions: {owners}; write "module:attribute" instead'
        )
    return _loaded(found[0])


def _installed(group: str) -> EntryPoints:
    """Return the entry points of a group.

    To find them, the metadata of all distributions is read. It is read again when a directory of ``sys.path`` has
    changed since: a reload finds plugins that were installed while the server ran.
    """
    return _entry_points(tuple((path, _modified(path)) for path in sys.path))[group]


@lru_cache(maxsize=1)
def _entry_points(path: tuple[tuple[str, int], ...]) -> Mapping[str, EntryPoints]:
    found = entry_points()
    return {group: found.select(group=group) for group in GROUPS}


def _modified(path: str) -> int:
    """Return when a directory of ``sys.path`` was modified, in nanoseconds; -1: it is missing."""
    try:
        return os.stat(path or ".").st_mtime_ns
    except OSError:
        return -1


def _unknown(reference: str, group: str) -> str:
    """Return the message for an unknown name, with similar names."""
    for other in GROUPS:
        if reference in _installed(other).names:
            return f'"{reference}" is a plugin of the kind {kind_of(other)}: write it under {_section(other)}'
    known = sorted(_installed(group).names)
    if not known and any(map(_installed, GROUPS)):
        return f'no plugin "{reference}": none of the kind {kind_of(group)} is installed, such as bootfw-redfish'
    if not known:
        return f'no plugin "{reference}": no plugin is installed at all; is the bootfw distribution installed?'
    module, dot, attribute = reference.rpartition(".")
    path = f'; one in a module is written "{module}:{attribute}"' if dot and module and attribute else ""
    return f'no plugin "{reference}"; known: {", ".join(known)}{nearest(reference, known)}{path}'


def _section(group: str) -> str:
    kind = kind_of(group)
    if group == "bootfw.power":
        return "[power] of a host file"
    return f"[{kind}]" if group in ("bootfw.watchdogs", "bootfw.stores") else f"[[{kind}]]"


def list_plugins() -> list[PluginRow]:
    """Import and list every installed plugin, broken ones included."""
    rows = []
    for group in GROUPS:
        for entry in sorted(_installed(group), key=lambda entry: entry.name):
            summary = error = ""
            try:
                summary = load(entry.name, group).summary
            except PluginError as broken:
                error = broken.message
            rows.append(PluginRow(kind_of(group), entry.name, _distribution(entry), summary, error))
    return rows


def kind_of(group: str) -> str:
    """Return the kind of the plugins of a group, which is the name of their section: "backend" for
    ``bootfw.backends``."""
    return group.removeprefix("bootfw.").removesuffix("s")


def group_of(kind: str) -> str:
    """Return the group of the plugins of a kind; the inverse of kind_of()."""
    return next(group for group in GROUPS if kind_of(group) == kind)


@implementer(IBootPlugin)
@frozen
class _ClassPlugin:
    provides: Any
    cls: type
    summary: str
    options: Sequence[Key] = field(init=False, repr=False)

    @options.default
    def _options(self) -> Sequence[Key]:
        return tuple(options_of(self.cls))

    def configure(self, options: Mapping[str, Any], context: PluginContext) -> Any:
        hook = getattr(self.cls, "configured", None)
        return read_table(options, self.options, partial(hook, context) if hook else self.cls, self.cls)


def _loaded(entry: EntryPoint) -> IBootPlugin:
    module, _, attribute = entry.value.partition(":")
    if not all(part.isidentifier() for part in f"{module.removesuffix('.py')}.{attribute}".split(".")):
        raise PluginError(f'{_origin(entry)} names no plugin: write it as "package.module:attribute"')
    try:
        plugin: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:
        raise PluginError(f"{_origin(entry)} can't be loaded: {cannot_import(error, entry.value)}") from error
    for name in attribute.split("."):
        if not hasattr(plugin, name):
            raise PluginError(f"{_origin(entry)} can't be loaded: {no_attribute(plugin, name)}")
        plugin = getattr(plugin, name)
    if not IBootPlugin.providedBy(plugin) or isinstance(plugin, type):
        raise PluginError(f"{_origin(entry)} {not_a_plugin(plugin, GROUPS[entry.group])}")
    try:
        verifyObject(IBootPlugin, plugin)
    except Invalid as error:
        raise PluginError(f"{_origin(entry)}: {lacking(IBootPlugin, plugin, error)}") from error
    _verify_kind(plugin, entry)
    return plugin


def _verify_kind(plugin: Any, entry: EntryPoint) -> None:
    group = entry.group
    required, provided = GROUPS[group], plugin.provides
    if not _is_kind_of(provided, required):
        name = getattr(provided, "__name__", repr(provided))
        meant = [_section(other) for other, makes in GROUPS.items() if _is_kind_of(provided, makes)]
        instead = f": write it under {meant[0]}" if meant else ""
        raise PluginError(f"{_origin(entry)} makes {name}, but {kind_of(group)} needs {required.__name__}{instead}")


def _is_kind_of(provided: Any, required: Any) -> bool:
    return isinstance(provided, InterfaceClass) and bool(provided.isOrExtends(required))


def _origin(entry: EntryPoint) -> str:
    """Return what the messages call a plugin."""
    owner = _distribution(entry)
    return f'"{entry.name}"' + (f" (from {owner})" if owner else "")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""
