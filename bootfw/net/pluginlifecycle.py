"""Starts and closes the plugins of a service, and opens the control socket for those with operator commands."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from bootfw.boot.onceper import START_SECONDS
from bootfw.errors import StateError
from bootfw.events import Event, PluginBlocked
from bootfw.interfaces import IOperable, IStartable
from bootfw.net.control import NoUnixSockets, Operation, listen_control
from bootfw.net.listening import finish_closing


class PluginLifecycle:
    """Starts and closes the plugins that are IStartable, and serves the control socket.

    :param reactor: for listen() IReactorUNIX.
    :param plugins: (name, plugin).
    :param publish: takes the events of the plugins.
    :param kind: "resolver", "backend" or "observer", for the log.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        plugins: Sequence[tuple[str, Any]],
        publish: Callable[[Event], None],
        kind: str = "resolver",
    ) -> None:
        self._reactor = reactor
        self._plugins = plugins
        self._publish = publish
        self._kind = kind
        self._started: list[Any] = []
        self._port: Any = None
        """Of the control socket."""
        self._closing: Any = None
        """That of the latest stop, which may not have closed its socket."""

    def start(self) -> None:
        """Start the plugins that are IStartable, once.

        :raise StateError: from IStartable.start(); the plugins before that one stay started until close().
        """
        if self._started:
            return
        seconds = self._reactor.seconds
        for name, plugin in self._plugins:
            if not IStartable.providedBy(plugin):
                continue
            began = seconds()
            plugin.start(self._publish)
            self._started.append(plugin)
            took = seconds() - began
            if took > START_SECONDS:
                self._publish(PluginBlocked(seconds(), f"{self._kind} {name}", "start()", took))

    def listen(
        self,
        path: Path,
        more: Mapping[str, Operation] | None = None,
        optional: Mapping[str, Operation] = MappingProxyType({}),
    ) -> None:
        """Open the control socket, if there is an operation to serve.

        :param more: operations in addition to those of the plugins. With them the socket is required, unless this
            process may not use UNIX sockets at all; without them its absence is only logged.
        :param optional: more operations, for which the socket is not required.
        :raise StateError: a required socket can't be opened.
        """
        operations = {**optional, **(more or {}), **self.operations()}
        if not operations:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            finish_closing(self._closing)
            self._port = listen_control(self._reactor, path, operations)
        except (CannotListenError, OSError, NoUnixSockets) as error:
            reason = getattr(error, "socketError", error)
            if more is not None and not isinstance(error, NoUnixSockets):
                raise StateError(f"the control socket {path} can't be opened: {reason}") from error
            self._log.warn(
                "no control socket at {path}, so the bootfw command can't reach this server: {reason}",
                path=path,
                reason=reason,
            )

    def operations(self) -> dict[str, Operation]:
        """Return the operations of the plugins that are IOperable."""
        operations: dict[str, Operation] = {}
        for _, plugin in self._plugins:
            if IOperable.providedBy(plugin):
                operations.update(plugin.operations())
        return operations

    def close(self) -> "Deferred[Any]":
        """Close the control socket and the plugins that were started.

        :return: fires when all of them are closed.
        """
        closing = [maybeDeferred(plugin.close) for plugin in self._started]
        self._started = []
        if self._port is not None:
            closing.append(maybeDeferred(self._port.stopListening))
            self._port, self._closing = None, self._port
        return DeferredList(closing, consumeErrors=True)
