"""Reloads the configuration of a running server without closing a socket or ending a transfer.

Plugins, and the settings in RELOADABLE, take effect for the requests that come from then on. Any other change needs a
restart: then it is refused as a whole, and the server goes on as before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
from attrs import define, evolve, field
from twisted.logger import Logger

from bootfw.build import Parts, load_parts
from bootfw.config.configuration import ConfigErrors, Configuration
from bootfw.config.sections import SECTIONS, keys_of
from bootfw.config.settings import Settings
from bootfw.errors import ConfigError, StateError
from bootfw.net.control import ControlError
from bootfw.net.workers.supervisor import Workers
from bootfw.service import BootService

RELOADABLE: Mapping[str, frozenset[str]] = {
    "tftp": frozenset(("writable", "max_blksize", "max_windowsize")),
    "dhcp": frozenset(("answer_within_seconds",)),
}
"""Section -> the settings that can change while the server runs."""

_FIXED = ("observer", "store")
"""The sections of plugins that can't change while the server runs."""

_RESTART = "was changed, which needs a restart"


@define(eq=False)
class Reload:
    """Loads the configuration again, and has the service use it.

    :param boot: a service of *parts*.
    :param path: the configuration file; None: there is none, only the environment.
    :param environ: the variables that win over the file.
    """

    _reactor: Any
    _boot: BootService
    _parts: Parts
    _path: Path | None
    _environ: Mapping[str, str]
    before: Callable[[], None] = field(default=lambda: None, init=False)
    """Called when a reload begins."""
    after: Callable[[], None] = field(default=lambda: None, init=False)
    """Called when it has ended, whether or not the configuration was applied."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)

    def run(self) -> Sequence[str]:
        """Reload. The result is logged.

        :return: a line for each error; with any, nothing was changed. Empty: the new configuration is in use.
        """
        self.before()
        try:
            self._apply()
        except ConfigErrors as error:
            for line in error.lines:
                self._log.error("not reloaded: {reason}", reason=line)
            return error.lines
        finally:
            self.after()
        self._log.info("reloaded the configuration{source}", source=f" {self._path}" if self._path else "")
        return ()

    def operation(self, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        """See Operation: no record.

        :raise ControlError: the configuration was not applied; a line for each error.
        """
        errors = self.run()
        if errors:
            raise ControlError("\n".join(errors))
        return ()

    def _apply(self) -> None:
        """:raise ConfigErrors: nothing was changed."""
        running, boot = self._parts, self._boot
        parts = load_parts(self._path, self._environ, self._reactor, running)
        parts.configuration.refuse(needing_restart(running, parts))
        settings = with_reloadable(running.settings, parts.settings)
        try:
            boot.reload(settings, parts.backends, parts.resolvers, parts.watchdog[1])
        except StateError as error:
            raise ConfigErrors([str(error)]) from error
        for child in boot:
            if isinstance(child, Workers):
                child.reload(evolve(parts.configuration, settings=settings))
        self._parts = evolve(parts, settings=settings)


def needing_restart(running: Parts, new: Parts) -> Iterator[ConfigError]:
    """An error for each difference that can't be applied while the server runs."""
    before, after = running.configuration, new.configuration
    for section in SECTIONS:
        old, wanted = _section(before, section), _section(after, section)
        for key in keys_of(section):
            if key.name in RELOADABLE.get(section, ()):
                continue
            if not _equal(getattr(old, key.name), getattr(wanted, key.name)):
                yield ConfigError(_RESTART, (section, *key.path))
    if not _equal(before.settings.persona, after.settings.persona):
        yield ConfigError(_RESTART, ("persona",))
    for name in _FIXED:
        if running.tables(name) != new.tables(name):
            yield ConfigError(_RESTART, (name,))
    dhcp, dhcp6 = after.settings.dhcp, after.settings.dhcp6
    if bool(running.resolvers) != bool(new.resolvers) and (dhcp.mode, dhcp6.mode) != ("off", "off"):
        opened = "opens" if new.resolvers else "closes"
        reason = f"the {'first' if new.resolvers else 'last'} resolver {opened} DHCP ports, which needs a restart"
        yield ConfigError(reason, ("resolver",))


def with_reloadable(running: Settings, new: Settings) -> Settings:
    """*running* with those settings of *new* that can change while the server runs."""
    changed = {
        section: evolve(getattr(running, section), **{name: getattr(getattr(new, section), name) for name in names})
        for section, names in RELOADABLE.items()
    }
    return evolve(running, **changed)


def _equal(one: Any, other: Any) -> bool:
    """Whether two settings were made of the same values. Subnets and classes are compared by their fields: as objects,
    each is equal to itself only."""
    if isinstance(one, tuple | list):
        return type(one) is type(other) and len(one) == len(other) and all(map(_equal, one, other))
    if attrs.has(type(one)):
        names = [each.name for each in attrs.fields(type(one)) if each.init]
        return type(one) is type(other) and all(_equal(getattr(one, name), getattr(other, name)) for name in names)
    return bool(one == other)


def _section(configuration: Configuration, section: str) -> Any:
    settings = configuration.settings
    return settings if section == "bootfw" else getattr(settings, section)
