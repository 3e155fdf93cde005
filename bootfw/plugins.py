"""Plugins: how a class becomes one, and how the configuration's names lead to them.

A name is an entry point in the group of its kind, or ``package.module:attribute``. Nothing is imported that the
configuration does not name.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import attrs
from attrs import field, frozen
from zope.interface import Interface, implementer
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from bootfw.errors import ConfigError, PluginError
from bootfw.interfaces import IBackend, IBootFileResolver, IBootObserver, IBootPlugin, ILeaseStore, IWatchdogPolicy
from bootfw.schema import mismatches, nearest, spelled, unknown_keys
from bootfw.state import state_directory

GROUPS: Mapping[str, Any] = {
    "bootfw.backends": IBackend,
    "bootfw.resolvers": IBootFileResolver,
    "bootfw.watchdogs": IWatchdogPolicy,
    "bootfw.leases": ILeaseStore,
    "bootfw.observers": IBootObserver,
}
"""Entry point group -> the interface of what its plugins make."""


@frozen
class PluginContext:
    """What a plugin may know about its surroundings."""

    reactor: Any
    directory: Path
    """Relative paths in the configuration are relative to it: where the configuration file is."""
    state_directory: Path = field(factory=state_directory)
    """Where to keep what must outlive the process; made when it is needed."""


@frozen
class Option:
    """One key that a plugin takes."""

    key: str
    """As the configuration spells it."""
    name: str
    """The parameter in Python."""
    annotation: Any
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        """There is no default."""
        return self.default is inspect.Parameter.empty


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
    """A plugin that makes instances of *cls*.

    The attrs fields of *cls* are the options: ``_`` in a name is spelled ``-``, a field without default is required,
    and annotations, converters and validators check the values. A ValueError or TypeError from these becomes a
    ConfigError that names the field. A ConfigError is passed on; its path is counted from the plugin's table.

    A class that needs the PluginContext has a classmethod ``configured(context, **options)``, which is called
    instead of the class. Options that it takes under their own names are checked against its annotations.

    :param provides: the interface of the instances, such as IBackend.
    :param summary: for ``--list-plugins``; the first line of the docstring when omitted.
    """
    return _ClassPlugin(provides, cls, summary or (inspect.getdoc(cls) or "").partition("\n")[0])


def configure(plugin: IBootPlugin, options: Mapping[str, Any], context: PluginContext) -> Any:
    """What *plugin* makes of *options*, verified to provide what the plugin promises.

    :raise ConfigError: the options are wrong; the path is counted from the plugin's table.
    :raise PluginError: the plugin is.
    """
    try:
        made = plugin.configure(dict(options), context)
    except ConfigError:
        raise
    except Exception as error:
        raise PluginError(f"the plugin failed: {_one_line(error)}") from error
    try:
        verifyObject(plugin.provides, made)
    except Invalid as error:
        raise PluginError(
            f"the plugin made something that is no {plugin.provides.__name__}: {_one_line(error)}"
        ) from error
    return made


def load(reference: str, group: str) -> IBootPlugin:
    """The plugin of that name.

    :param reference: the name of an entry point, or ``package.module:attribute``.
    :param group: one of GROUPS.
    :raise PluginError: it is missing, broken, there twice, or of another kind. The path is left to the caller.
    """
    if ":" in reference:
        found = [EntryPoint(reference, reference, group)]
    else:
        found = list(entry_points(group=group, name=reference))
    if not found:
        known = sorted(entry_points(group=group).names)
        if not known:
            raise PluginError(f'no plugin "{reference}": none is known at all; is the bootfw distribution installed?')
        raise PluginError(f'no plugin "{reference}"; known: {", ".join(known)}{nearest(reference, known)}')
    if len(found) > 1:
        owners = ", ".join(sorted(map(_distribution, found)))
        raise PluginError(
            f'"{reference}" is installed by several distributions: {owners}; write "module:attribute" instead'
        )
    return _loaded(found[0])


def list_plugins() -> list[PluginRow]:
    """Every installed plugin, the broken ones too; this imports them all."""
    rows = []
    for group in GROUPS:
        for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
            summary = error = ""
            try:
                summary = load(entry.name, group).summary
            except PluginError as broken:
                error = broken.message
            rows.append(PluginRow(kind_of(group), entry.name, _distribution(entry), summary, error))
    return rows


def kind_of(group: str) -> str:
    """``bootfw.backends`` holds plugins of the kind "backend": the section of the configuration that names them."""
    kind = group.removeprefix("bootfw.")
    return kind if kind == "leases" else kind.removesuffix("s")


def group_of(kind: str) -> str:
    """The group that holds plugins of this kind; the inverse of kind_of()."""
    return next(group for group in GROUPS if kind_of(group) == kind)


def options_of(cls: type) -> list[Option]:
    """The options of a class given to :func:`boot_plugin`, in order."""
    hook = getattr(cls, "configured", None)
    if hook is None:
        return list(_parameters(cls))
    named = list(_parameters(hook))[1:]
    if inspect.Parameter.VAR_KEYWORD not in {p.kind for p in inspect.signature(hook).parameters.values()}:
        return named
    return list({option.key: option for option in (*_parameters(cls), *named)}.values())


@implementer(IBootPlugin)
@frozen
class _ClassPlugin:
    provides: Any
    cls: type
    summary: str
    options: Sequence[Option] = field(init=False, repr=False)

    @options.default
    def _options(self) -> Sequence[Option]:
        return tuple(options_of(self.cls))

    def configure(self, options: Mapping[str, Any], context: PluginContext) -> Any:
        keys = [option.key for option in self.options]
        for error in unknown_keys(options, keys):
            raise error
        for option in self.options:
            if option.key in options:
                for error in mismatches(options[option.key], option.annotation, (option.key,)):
                    raise error
            elif option.required:
                raise ConfigError(f'"{option.key}" is missing', ())
        arguments = {option.name: options[option.key] for option in self.options if option.key in options}
        return self._make(arguments, context)

    def _make(self, arguments: Mapping[str, Any], context: PluginContext) -> Any:
        def make() -> Any:
            hook = getattr(self.cls, "configured", None)
            return hook(context, **arguments) if hook else self.cls(**arguments)

        for name, convert in self._converters():
            if name in arguments:
                with _blaming(name):
                    convert(arguments[name])
        try:
            return make()
        except (ValueError, TypeError) as error:
            # attrs does not say which field's validator it was; only now is it worth asking one by one.
            with attrs.validators.disabled():
                try:
                    instance = make()
                except (ValueError, TypeError):
                    raise ConfigError(_reason(error)) from error
            for attribute in attrs.fields(self.cls):
                if attribute.validator is not None:
                    with _blaming(attribute.alias):
                        attribute.validator(instance, attribute, getattr(instance, attribute.name))
            raise ConfigError(_reason(error)) from error

    def _converters(self) -> Iterator[tuple[str, Callable[[Any], Any]]]:
        # With a hook the fields hold what the hook makes of the options.
        if attrs.has(self.cls) and not hasattr(self.cls, "configured"):
            for attribute in attrs.fields(self.cls):
                if attribute.init and callable(attribute.converter):
                    yield attribute.alias, attribute.converter


class _blaming:
    """A ValueError or TypeError inside is the fault of the option *name*."""

    def __init__(self, name: str) -> None:
        self._key = spelled(name)

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, ConfigError):
            if not error.path:
                raise error.under(self._key) from error
        elif isinstance(error, ValueError | TypeError):
            raise ConfigError(_reason(error), (self._key,)) from error


def _parameters(call: Any) -> Iterator[Option]:
    """*call*'s parameters as options; attrs leaves a field's annotation out when an unannotated converter hides it."""
    code = inspect.unwrap(call if not isinstance(call, type) else getattr(call, "__init__"))  # noqa: B009
    if code is object.__init__:
        return
    try:
        hints = typing.get_type_hints(code)
    except NameError:  # a name that is only imported for type checkers
        hints = {}
    factories = {a.alias: a.default for a in attrs.fields(call)} if attrs.has(call) else {}
    for parameter in inspect.signature(call).parameters.values():
        if parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY):
            name, default = parameter.name, parameter.default
            if default is attrs.NOTHING:
                default = factories[name].factory()
            yield Option(spelled(name), name, hints.get(name, Any), default)


def _loaded(entry: EntryPoint) -> IBootPlugin:
    owner = _distribution(entry)
    origin = f'"{entry.name}"' + (f" (from {owner})" if owner else "")
    try:
        plugin = entry.load()
    except Exception as error:
        raise PluginError(f"{origin} can't be loaded: {_one_line(error)}") from error
    if isinstance(plugin, type) and not IBootPlugin.providedBy(plugin):
        wanted = GROUPS[entry.group].__name__
        raise PluginError(f"{origin} is a class, not a plugin; name boot_plugin({wanted}, {plugin.__name__}) instead")
    try:
        verifyObject(IBootPlugin, plugin)
    except Invalid as error:
        raise PluginError(f"{origin} is no IBootPlugin: {_one_line(error)}") from error
    _verify_kind(plugin, entry.group, origin)
    return typing.cast(IBootPlugin, plugin)


def _verify_kind(plugin: Any, group: str, origin: str) -> None:
    wanted, provided = GROUPS[group], plugin.provides
    if not (isinstance(provided, type(Interface)) and provided.isOrExtends(wanted)):
        name = getattr(provided, "__name__", repr(provided))
        raise PluginError(f"{origin} makes {name}, but {kind_of(group)} needs {wanted.__name__}")


def _distribution(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else ""


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}" if str(error).strip() else type(error).__name__


def _reason(error: BaseException) -> str:
    # The validators of attrs give the message, then the field and the value; the path names the field already.
    text = str(error.args[0]) if error.args else _one_line(error)
    if text.startswith("'"):
        text = text.split("' ", 1)[-1]
    return text
