"""The control socket: an operator's program asks one thing in a line of JSON and is answered in lines of JSON.

The question is ``{"do": NAME, "with": {...}}``. The answer is any number of ``{"record": {...}}`` and a last line,
``{"done": COUNT}`` or ``{"error": TEXT}``. Who may open the socket may ask everything: it is for its owner only.
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
from bootfw.net.udp.quietport import quiet_port

SOCKET = "control.sock"
"""Its name in the state directory."""

Operation = Callable[[Mapping[str, Any]], Any]
"""What is ``with`` -> an iterable of records, or a Deferred of one."""

_AT_ONCE = 100
"""Records that are written before other things have their turn: about a millisecond of work."""

_LONGEST_PATH = 107
"""Octets in the path of a UNIX socket on Linux (unix(7))."""


class NoUnixSockets(BootfwError):
    """This process can't create UNIX sockets; the message says why."""


class ControlError(BootfwError):
    """What is asked can't be done; the message is for who asked."""


@implementer(IPullProducer)
class ControlProtocol(LineOnlyReceiver):
    """One connection: one question."""

    delimiter = b"\n"
    transport: Any
    log = Logger(namespace="bootfw.control")

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations
        self._asked = False
        self._records: Iterator[Mapping[str, Any]] = iter(())
        self._count = 0

    def lineReceived(self, line: bytes) -> None:
        """See LineOnlyReceiver."""
        if self._asked:
            return
        self._asked = True
        asked = maybeDeferred(self._do, line)
        asked.addCallback(self._begin)
        asked.addErrback(self._refuse)

    def lineLengthExceeded(self, line: bytes) -> None:
        """See LineOnlyReceiver."""
        self._end({"error": "that is too long"})

    def connectionLost(self, reason: Any = None) -> None:
        """See IProtocol."""
        self.stopProducing()

    def resumeProducing(self) -> None:
        """See IPullProducer."""
        try:
            records = list(islice(self._records, _AT_ONCE))
        except Exception:
            self.transport.unregisterProducer()
            self._refuse(Failure())
            return
        self._count += len(records)
        self._send(*({"record": record} for record in records))
        if len(records) < _AT_ONCE:
            self.transport.unregisterProducer()
            self._end({"done": self._count})

    def stopProducing(self) -> None:
        """See IProducer."""
        self._records = iter(())

    def _do(self, line: bytes) -> Any:
        try:
            question = json.loads(line)
            name, given = question["do"], question.get("with", {})
            operation = self._operations.get(name)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ControlError("this server does not know what is asked; is it of another version?") from None
        if operation is None:
            raise ControlError(
                f'this server does not answer "{name}": its configuration has nothing to do with it, '
                "or it is of another version"
            )
        return operation(given)

    def _begin(self, records: Iterable[Mapping[str, Any]]) -> None:
        self._records = iter(records)
        self.transport.registerProducer(self, False)

    def _refuse(self, failure: Failure) -> None:
        if failure.check(ControlError, StateError):
            self._end({"error": str(failure.value)})
        else:
            self.log.failure("A question of {program} failed", failure, program="the bootfw command")
            self._end({"error": "it failed in the server; its log has more"})

    def _send(self, *messages: Mapping[str, Any]) -> None:
        self.transport.write(b"".join(json.dumps(message).encode() + b"\n" for message in messages))

    def _end(self, message: Mapping[str, Any]) -> None:
        self._send(message)
        self.transport.loseConnection()


class ControlFactory(Factory):
    """Makes a ControlProtocol for each connection."""

    noisy = False

    def __init__(self, operations: Mapping[str, Operation]) -> None:
        self._operations = operations

    def buildProtocol(self, addr: IAddress | None) -> ControlProtocol:
        """See IProtocolFactory."""
        return ControlProtocol(self._operations)


def listen_control(reactor: Any, path: Path, operations: Mapping[str, Operation]) -> Any:
    """Listen on a UNIX socket that only the owner of its directory can open. The directory must be there.

    A socket that a killed process has left is replaced.

    :param reactor: IReactorUNIX.
    :return: IListeningPort.
    :raise CannotListenError: it can't be had, or another process answers there.
    :raise NoUnixSockets: a sandbox forbids them.
    """
    # Not Twisted's wantPID: it takes the process of its lock for alive when there is one of that number, and in a
    # container every bootfw is number 1.
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
        # "twistd --uid" gives root up after this, and who owns the directory is who looks after the server.
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)
    return port


def _can_not(path: Path, code: int | None) -> CannotListenError:
    fault = OSError(code, os.strerror(code or 0))
    return CannotListenError(None, os.fspath(path), fault)


def done(answer: "Deferred[Any]", *records: Mapping[str, Any]) -> "Deferred[Any]":
    """*records*, when *answer* has come."""
    return answer.addCallback(lambda _: records)
