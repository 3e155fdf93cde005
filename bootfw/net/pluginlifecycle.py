"""Starts and closes the plugins of a service, and opens the control socket for those with operator commands."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from bootfw.boot.onceper import START_SECONDS
from bootfw.errors import StateError
from bootfw.events import Event, PluginBlocked
from bootfw.interfaces import IOperable, IStandbyOperable, IStartable
from bootfw.net.control import ControlError, NoUnixSockets, Operation, listen_control
from bootfw.net.listening import finish_closing


class PluginLifecycle:
    """Starts and closes the plugins that are IStartable, and serves the control socket.

    :param reactor: for listen() IReactorUNIX.
    :param plugins: (name, plugin).
    :param publish: takes the events of the plugins.
    :param kind: "resolver", "backend" or "observer", for the log.
    :param admit: called before each operation of a plugin; raises ControlError if the operation must not run. Then the
        one of the same name of an IStandbyOperable runs instead, if there is one.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        plugins: Sequence[tuple[str, Any]],
        publish: Callable[[Event], None],
        kind: str = "resolver",
        admit: Callable[[], None] | None = None,
    ) -> None:
        self._reactor = reactor
        self._plugins = plugins
        self._publish = publish
        self._kind = kind
        self._admit = admit
        self._started: list[Any] = []
        self._offered: dict[str, Operation] = {}
        """The operations that the control socket offers. ControlFactory has the same object, so a change takes
        effect."""
        self._port: Any = None
        """The port of the control socket; None: it is closed."""
        self._closing_port: Any = None
        """The port that the latest close() has closed: its socket is open until the next turn of the reactor."""

    def start(self) -> None:
        """Start the plugins that are IStartable and not started.

        :raise StateError: from IStartable.start(); the plugins before that one stay started until close().
        """
        self._start([plugin for plugin in self._plugins if not any(each is plugin[1] for each in self._started)])

    def start_new(self, plugins: Sequence[tuple[str, Any]]) -> None:
        """Start those of *plugins* that are new. replace() then uses them in place of the present ones.

        :raise StateError: from IStartable.start(); then none of them is started.
        """
        try:
            self._start([plugin for plugin in plugins if not _contains(self._plugins, plugin[1])])
        except BaseException:
            self.drop_new(plugins)
            raise

    def drop_new(self, plugins: Sequence[tuple[str, Any]]) -> None:
        """Undo start_new()."""
        for _, plugin in plugins:
            if not _contains(self._plugins, plugin):
                self.retire(plugin)

    def replace(self, plugins: Sequence[tuple[str, Any]]) -> Sequence[Callable[[], object]]:
        """Use *plugins* in place of the present ones.

        :return: functions that close the plugins which are no longer used; call them when nothing needs these any more.
        """
        operations = self.operations()
        before, self._plugins = self._plugins, plugins
        self.offer(self.operations(), operations)
        return [partial(self.retire, plugin) for _, plugin in before if not _contains(plugins, plugin)]

    def offer(self, operations: Mapping[str, Operation], before: Iterable[str]) -> None:
        """Have the control socket offer *operations* in place of those that are named in *before*."""
        for name in before:
            self._offered.pop(name, None)
        self._offered.update(operations)

    def retire(self, plugin: Any) -> None:
        """Close a plugin that is not used any more, if it was started."""
        # By identity, here and in _contains(): two equal plugins may be two objects, and each has to be closed.
        if any(each is plugin for each in self._started):
            self._started = [each for each in self._started if each is not plugin]
            maybeDeferred(plugin.close).addErrback(
                lambda failure: self._log.failure(
                    "{kind} {plugin} can't be closed", failure, kind=self._kind, plugin=plugin
                )
            )

    def _start(self, plugins: Sequence[tuple[str, Any]]) -> None:
        seconds = self._reactor.seconds
        for name, plugin in plugins:
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
            # Its socket would answer the probe of listen_control(), as that of another server does.
            finish_closing(self._closing_port)
            self._port = listen_control(self._reactor, path, operations)
            self._offered = operations
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
        standby_operations: dict[str, Operation] = {}
        for _, plugin in self._plugins:
            if IOperable.providedBy(plugin):
                operations.update(plugin.operations())
            if IStandbyOperable.providedBy(plugin):
                standby_operations.update(plugin.standby_operations())
        admit = self._admit
        if admit is None:
            return operations
        return {
            name: partial(_run_admitted, admit, each, standby_operations.get(name)) for name, each in operations.items()
        }

    def close_plugins(self) -> "Deferred[Any]":
        """Close the plugins that were started; start() starts them again.

        :return: fires when all of them are closed.
        """
        closing = [maybeDeferred(plugin.close) for plugin in self._started]
        self._started = []
        return DeferredList(closing, consumeErrors=True)

    def close(self) -> "Deferred[Any]":
        """Close the control socket and the plugins that were started.

        :return: fires when all of them are closed.
        """
        closing = [self.close_plugins()]
        self._offered = {}
        if self._port is not None:
            closing.append(maybeDeferred(self._port.stopListening))
            self._port, self._closing_port = None, self._port
        return DeferredList(closing, consumeErrors=True)


def _run_admitted(
    admit: Callable[[], None], operation: Operation, standby_operation: Operation | None, arguments: Mapping[str, Any]
) -> Any:
    try:
        admit()
    except ControlError:
        if standby_operation is None:
            raise
        return standby_operation(arguments)
    return operation(arguments)


def _contains(plugins: Sequence[tuple[str, Any]], plugin: Any) -> bool:
    return any(each is plugin for _, each in plugins)
