"""Reloads the configuration of a running server without ending a transfer.

It takes effect for the requests that come from then on; sockets that are wanted before and after stay open. Changes of
the keys whose fields have the metadata ``restart``, and a few more, need a restart: then the new configuration is
refused as a whole, and the server goes on as before.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, DeferredLock, inlineCallbacks
from twisted.logger import Logger

from bootfw.build import Parts, load_parts, settle
from bootfw.config.configuration import ConfigErrors, Configuration
from bootfw.config.sections import SECTIONS, keys_of
from bootfw.config.settings import Settings
from bootfw.config.tables import Key, same_values
from bootfw.errors import ConfigError, StateError
from bootfw.net.control import ControlError
from bootfw.net.workers.supervisor import Workers
from bootfw.service import BootService

_RESTART = "was changed, which needs a restart"


class RestartNeeded(ConfigErrors):
    """The configuration is right, and some of its changes can't be applied while the server runs."""


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
    applied: Callable[[Parts], None] = field(default=lambda parts: None, init=False)
    """Called with the new parts when they are in use."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _lock: DeferredLock = field(factory=DeferredLock, init=False)

    def run(self) -> "Deferred[Sequence[str]]":
        """Reload, after those that were begun before. The result is logged.

        :return: a line for each error; with any, nothing was changed. Empty: the new configuration is in use.
        """
        return self._lock.run(self._run).addCallback(lambda error: () if error is None else error.lines)

    @inlineCallbacks
    def _run(self) -> "Generator[Deferred[Any], Any, ConfigErrors | None]":
        self.before()
        try:
            yield self._apply()
        except ConfigErrors as error:
            for line in error.lines:
                self._log.error("not reloaded: {reason}", reason=line)
            return error
        except Exception:
            self._log.failure("The configuration can't be reloaded.")
            return ConfigErrors(["it failed in the server; its log has more"])
        finally:
            self.after()
        self._log.info("reloaded the configuration{source}", source=f" {self._path}" if self._path else "")
        return None

    def operation(self, arguments: Mapping[str, Any]) -> "Deferred[Sequence[Mapping[str, Any]]]":
        """See Operation: no record. It fails with a ControlError, a line for each error."""

        def ended(error: ConfigErrors | None) -> Sequence[Mapping[str, Any]]:
            if error is not None:
                raise ControlError(str(error), restart=isinstance(error, RestartNeeded))
            return ()

        return self._lock.run(self._run).addCallback(ended)

    @inlineCallbacks
    def _apply(self) -> "Generator[Deferred[Any], Any, None]":
        """:raise ConfigErrors: nothing was changed."""
        running, boot = self._parts, self._boot
        parts = load_parts(self._path, self._environ, self._reactor, running)
        restart = [parts.configuration.format_error(error) for error in needing_restart(running, parts)]
        if restart:
            raise RestartNeeded(restart)
        settings = running.settings
        if parts.configuration.source is not None:  # a reload without a file does not try the ports of this host again
            settings = with_fixed(running.settings, settle(parts.configuration)[0])
        sites = {
            "web": settings.web.listen,
            "metrics": settings.metrics.listen,
            "multicast-master": settings.multicast.listen,
        }
        workers = next((child for child in boot if isinstance(child, Workers)), None)
        if workers is not None:
            missing = yield workers.ready()
            if missing:
                raise ConfigErrors(missing)
        known = [] if workers is None else workers.ports
        try:
            prepared = boot.prepare(
                settings, parts.backends, parts.resolvers, parts.watchdog[1], sites, parts.observers
            )
            if workers is not None:
                errors = yield workers.check(evolve(parts.configuration, settings=settings), known)
                if errors:
                    boot.abandon(prepared)
                    yield workers.abandon()
                    raise ConfigErrors(errors)
            boot.commit(prepared)
        except StateError as error:
            raise ConfigErrors([str(error)]) from error
        if workers is not None:
            workers.use()
        self._parts = evolve(parts, settings=settings)
        self.applied(self._parts)


def needing_restart(running: Parts, new: Parts) -> Iterator[ConfigError]:
    """An error for each difference that can't be applied while the server runs."""
    before, after = running.configuration, new.configuration
    for section in SECTIONS:
        old, wanted = _section(before, section), _section(after, section)
        for key in keys_of(section):
            if _is_fixed(key) and not same_values(getattr(old, key.name), getattr(wanted, key.name)):
                yield ConfigError(_RESTART, (section, *key.path))
    if running.tables("store") != new.tables("store"):
        yield ConfigError(_RESTART, ("store",))


def with_fixed(running: Settings, new: Settings) -> Settings:
    """*new* with those settings of *running* that don't change while the server runs."""
    changed = {
        section: evolve(
            getattr(new, section),
            **{key.name: getattr(getattr(running, section), key.name) for key in keys_of(section) if _is_fixed(key)},
        )
        for section in SECTIONS
        if section != "bootfw"
    }
    own = {key.name: getattr(running, key.name) for key in keys_of("bootfw") if _is_fixed(key)}
    return evolve(new, **changed, **own)


def _is_fixed(key: Key) -> bool:
    return bool(key.metadata.get("restart"))


def _section(configuration: Configuration, section: str) -> Any:
    settings = configuration.settings
    return settings if section == "bootfw" else getattr(settings, section)
