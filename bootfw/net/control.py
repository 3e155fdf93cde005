"""The control socket: an operator's program sends one request as a line of JSON, and gets lines of JSON back.

The request is ``{"do": NAME, "with": {...}}``. The response is any number of ``{"record": {...}}`` and a last line,
``{"done": COUNT}`` or ``{"error": TEXT, ...}``. There is no authentication beside the mode of the socket, which only
its owner can open.
"""

import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IAddress, IPullProducer
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.errors import BootfwError, StateError
from bootfw.net.controlstates import ControlStates, Do, Input
from bootfw.net.udp.quietport import quiet_port

Operation = Callable[[Mapping[str, Any]], Any]
"""Called with the value of ``with``. Returns an iterable of records, or a Deferred of one."""

_AT_ONCE = 100
"""Records that are written in one turn of the reactor: about a millisecond of work."""

_LONGEST_PATH = 107
"""Bytes in the path of a UNIX socket on Linux (unix(7))."""


class NoUnixSockets(BootfwError):
    """This process can't create UNIX sockets; the message says why."""


class ControlError(BootfwError):
    """A request can't be fulfilled. The message goes to the operator.

    :param more: other keys of the last line, for the program that sent the request.
    """

    def __init__(self, message: str, **more: object) -> None:
        super().__init__(message)
        self.more = more


@implementer(IPullProducer)
class ControlProtocol(LineOnlyReceiver):
    """A connection of the control socket, for one request. ControlStates has its states.

    It is a pull producer of its records: an operator's program may read slowly, and there may be many leases.
    """

    delimiter = b"\n"
    transport: Any
    log = Logger(namespace="bootfw.control")

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        self._states = ControlStates()
        self._records: Iterator[Mapping[str, Any]] = iter(())
        self._count = 0
        self._actions = {
            Do.CALL: self._call,
            Do.SEND: lambda: self.transport.registerProducer(self, False),
            Do.SEND_MORE: self._send_more,
            Do.STOP_SENDING: lambda: self.transport.unregisterProducer(),
            Do.CLOSE: self._close,
            Do.RELEASE: self._release,
        }

    def lineReceived(self, line: bytes) -> None:
        """See LineOnlyReceiver."""
        self._handle(Input.LINE, line)

    def lineLengthExceeded(self, line: bytes) -> None:
        """See LineOnlyReceiver."""
        self._handle(Input.TOO_LONG)

    def connectionLost(self, reason: Any = None) -> None:
        """See IProtocol."""
        self._handle(Input.LOST)

    def resumeProducing(self) -> None:
        """See IPullProducer."""
        self._handle(Input.PULL)

    def stopProducing(self) -> None:
        """See IProducer."""
        self._handle(Input.LOST)

    def _handle(self, event: Input, argument: Any = None) -> None:
        """Give the table one input, and carry out its actions."""
        self._states.run(self._actions, event, argument)

    def _call(self) -> None:
        answer = maybeDeferred(self._run, self._states.request)
        answer.addCallback(self._returned)
        answer.addErrback(self._failed)

    def _run(self, line: bytes) -> Any:
        try:
            request = json.loads(line)
            name, arguments = request["do"], request.get("with", {})
            operation = self._operations.get(name)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ControlError("this server does not understand the request; is it of another version?") from None
        if operation is None:
            raise ControlError(
                f'this server has no operation "{name}": its configuration has nothing to do with it, '
                "or it is of another version"
            )
        if not isinstance(arguments, dict):
            raise ControlError(f'"with" must be an object, not {arguments!r}')
        return operation(arguments)

    def _returned(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._records = iter(records)
        self._handle(Input.RECORDS)

    def _failed(self, failure: Failure) -> None:
        if failure.check(ControlError, StateError):
            line = {"error": str(failure.value), **getattr(failure.value, "more", {})}
        else:
            self.log.failure("A request of {program} failed", failure, program="the bootfw command")
            line = {"error": "it failed in the server; its log has more"}
        self._handle(Input.REFUSED, line)

    def _send_more(self) -> None:
        try:
            records = list(islice(self._records, _AT_ONCE))
        except Exception:
            self._failed(Failure())
            return
        self._count += len(records)
        self._send(*({"record": record} for record in records))
        if len(records) < _AT_ONCE:
            self._handle(Input.LAST, self._count)

    def _close(self) -> None:
        self._send(self._states.last_line)
        self.transport.loseConnection()

    def _release(self) -> None:
        self._records = iter(())

    def _send(self, *messages: Mapping[str, Any]) -> None:
        self.transport.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))


class ControlFactory(Factory):
    """Makes a ControlProtocol for each connection."""

    noisy = False

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    def buildProtocol(self, addr: "IAddress | None") -> ControlProtocol:
        """See IProtocolFactory."""
        return ControlProtocol(self._operations)


def listen_control(reactor: Any, path: Path, operations: Mapping[str, Operation]) -> Any:
    """Listen on a UNIX socket that only the owner of its directory can open. The directory must exist.

    A socket that no process listens on any more is replaced.

    :param reactor: IReactorUNIX.
    :return: IListeningPort.
    :raise CannotListenError: the socket can't be created, or another process listens on it.
    :raise NoUnixSockets: a sandbox forbids them.
    """
    # Not Twisted's wantPID: its lock counts as held while there is a process with the number in it, and in a container
    # every bootfw is number 1.
    if len(os.fsencode(path)) > _LONGEST_PATH:
        raise _can_not(path, errno.ENAMETOOLONG)
    try:
        probe = socket.socket(socket.AF_UNIX)
    except OSError as error:
        raise NoUnixSockets(f"this process may not use UNIX sockets (AF_UNIX): {error.strerror}") from error
    with probe:
        try:
            probe.connect(os.fspath(path))
        except ConnectionRefusedError:
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(path.stat().st_mode):
                    path.unlink()
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise _can_not(path, error.errno) from error
        else:
            raise _can_not(path, errno.EADDRINUSE)
    port = quiet_port(reactor.listenUNIX, os.fspath(path), ControlFactory(operations), mode=0o600)
    if os.geteuid() == 0:
        # "twistd --uid" gives root up after this. The owner of the directory is the account of the server's operator.
        owner = path.parent.stat()
        # That account could put a symbolic link in place of the socket, to become the owner of the link's target.
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    return port


def _can_not(path: Path, code: int | None) -> CannotListenError:
    os_error = OSError(code, os.strerror(code or 0))
    return CannotListenError(None, os.fspath(path), os_error)


def done(answer: "Deferred[Any]", *records: Mapping[str, Any]) -> "Deferred[Any]":
    """Return a Deferred of *records* that fires with *answer*."""
    return answer.addCallback(lambda _: records)
