"""Plugins that start and stop with the service, and the control socket, where an operator can reach them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.logger import Logger

from bootfw.boot.onceper import START_SECONDS
from bootfw.errors import StateError
from bootfw.events import Event, PluginBlocked
from bootfw.interfaces import IOperable, IStartable
from bootfw.net.control import NoUnixSockets, Operation, listen_control


class PluginLifecycle:
    """Starts and closes the plugins that are IStartable, and serves the control socket.

    :param reactor: for listen() IReactorUNIX.
    :param resolvers: (name, resolver), or the same of backends.
    :param publish: what they publish events by.
    :param kind: what the log calls them.
    """

    _log = Logger(namespace="bootfw")

    def __init__(
        self,
        reactor: Any,
        resolvers: Sequence[tuple[str, Any]],
        publish: Callable[[Event], None],
        kind: str = "resolver",
    ) -> None:
        self._reactor = reactor
        self._named = resolvers
        self._resolvers = [resolver for _, resolver in resolvers]
        self._publish = publish
        self._kind = kind
        self._started: list[Any] = []
        self._port: Any = None

    def start(self) -> None:
        """Start them; those that are started already stay so.

        :raise StateError: see IStartable; those before it are started.
        """
        if self._started:
            return
        seconds = self._reactor.seconds
        for name, resolver in self._named:
            if not IStartable.providedBy(resolver):
                continue
            began = seconds()
            resolver.start(self._publish)
            self._started.append(resolver)
            took = seconds() - began
            if took > START_SECONDS:
                self._publish(PluginBlocked(seconds(), f"{self._kind} {name}", "start()", took))

    def listen(self, path: Path, more: Mapping[str, Operation] | None = None) -> None:
        """Answer the operator, if there is anything to be asked.

        :param more: what may be asked beside what the resolvers answer. With it the socket has to be there, unless
            this process can have none at all; a proxy goes on without one, and says so.
        :raise StateError: it can't be had.
        """
        operations = dict(more or {})
        for resolver in filter(IOperable.providedBy, self._resolvers):
            operations.update(resolver.operations())
        if not operations:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
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

    def close(self) -> "Deferred[Any]":
        """Answer nobody any more, and close what was started."""
        closing = [maybeDeferred(resolver.close) for resolver in self._started]
        self._started = []
        if self._port is not None:
            closing.append(maybeDeferred(self._port.stopListening))
            self._port = None
        return DeferredList(closing, consumeErrors=True)
