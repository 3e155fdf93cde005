"""The protocol of a TFTP server's port."""

from typing import Any

from attrs import define
from twisted.internet.defer import inlineCallbacks, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IReactorUDP
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log
from twisted.python.context import call
from twisted.python.failure import Failure

from tftp import session as sessions
from tftp.bootstrap import RemoteOriginReadSession, RemoteOriginWriteSession, TFTPBootstrap
from tftp.datagram import (
    ERR_ACCESS_VIOLATION,
    ERR_FILE_EXISTS,
    ERR_FILE_NOT_FOUND,
    ERR_ILLEGAL_OP,
    ERR_NOT_DEFINED,
    OP_RRQ,
    OP_WRQ,
    ERRORDatagram,
    RQDatagram,
    RRQDatagram,
    WRQDatagram,
    split_opcode,
)
from tftp.errors import (
    AccessViolation,
    BackendError,
    FileExists,
    FileNotFound,
    OptionsDecodeError,
    PayloadDecodeError,
    Unsupported,
    WireProtocolError,
)
from tftp.netascii import NetasciiReceiverProxy, NetasciiSenderProxy

_REQUESTS: dict[int, type[RQDatagram]] = {OP_RRQ: RRQDatagram, OP_WRQ: WRQDatagram}

_RESTART_SILENCE = 1.0
"""Seconds of silence after which a copy of the request of a running transfer means that the client has started again.

A duplicate on the wire arrives milliseconds late; a client that reuses its port has rebooted."""


def _request(opcode: int, payload: bytes) -> RQDatagram:
    """Parse a request as leniently as real clients need it: some pad theirs with NULs.

    :raise WireProtocolError: it has no file name or no mode.
    """
    kind = _REQUESTS[opcode]
    try:
        return kind.from_wire(payload)
    except OptionsDecodeError:
        filename, mode, *rest = payload.split(b"\0")
        options: dict[bytes, bytes] = {}
        for name, value in zip(rest[::2], rest[1::2], strict=False):
            if name:
                options.setdefault(name, value)
        return kind(filename, mode, options)


@define(eq=False)
class _Served:
    """A request that is being served."""

    raw: bytes
    session: TFTPBootstrap | None = None
    """None: the backend has not answered."""

    def repeated(self, now: float) -> bool:
        """Take a copy of the request. False: the client has started again."""
        if self.session is None:
            return True
        idle_since = self.session.session.idle_since
        if idle_since is not None and now - idle_since >= _RESTART_SILENCE:
            return False
        if idle_since is None:
            self.session.session.repeat_opening()
        return True


class TFTP(DatagramProtocol):
    """Serves the files of *backend*, an IBackend. Each transfer has a port of its own.

    :param _clock: an IReactorTime; None: the global reactor. One that provides IReactorUDP opens the ports, too.
    """

    noisy = False

    def __init__(self, backend: Any, _clock: Any = None) -> None:
        if _clock is None:
            from twisted.internet import reactor as _clock
        self.backend = backend
        self._clock = _clock
        self._served: dict[Any, _Served] = {}
        """By the address of the client."""

    def startProtocol(self) -> None:
        """The port is open."""
        host = self.transport.getHost()  # type: ignore[union-attr]
        log.msg(f"TFTP Listener started at {host.host}:{host.port}")

    def datagramReceived(self, datagram: bytes, addr: Any) -> None:
        """Take a datagram. Only requests are answered; a copy of one that is being served begins nothing."""
        try:
            opcode, payload = split_opcode(datagram)
            if opcode not in _REQUESTS:
                return
            request = _request(opcode, payload)
        except WireProtocolError as error:
            log.msg(f"A malformed request of {addr[0]}: {error}")
            if isinstance(error, PayloadDecodeError):
                reply = ERRORDatagram.from_code(ERR_ILLEGAL_OP, b"Malformed request")
                # The source may be forged, so that the reply may not be much larger than the request.
                if len(reply.to_wire()) <= 4 * len(datagram):
                    self._refuse(addr, reply)
            return
        if request.mode not in (b"netascii", b"octet"):
            mode = request.mode[:20].decode("ascii", "replace").encode("ascii", "replace")
            text = b"Unknown transfer mode '%s': expected 'netascii' or 'octet'" % mode
            self._refuse(addr, ERRORDatagram.from_code(ERR_ILLEGAL_OP, text))
            return
        previous = self._served.get(addr)
        if previous is not None:
            if previous.raw == datagram and previous.repeated(self._clock.seconds()):
                return
            self._forget(addr, previous)
            if previous.session is not None:
                previous.session.session.replace()
        log.msg(f"{request!r} of {addr[0]}")
        self._served[addr] = served = _Served(datagram)
        self._clock.callLater(0, self._serve, served, request, addr)

    def _serve(self, served: _Served, request: RQDatagram, addr: Any) -> None:
        start = maybeDeferred(self._startSession, request, addr, request.mode)
        start.addCallbacks(
            self._started,
            self._not_started,
            callbackArgs=(served, addr),
            errbackArgs=(served, addr),
        )

    def _started(self, session: Any, served: _Served, addr: Any) -> None:
        """*session*: what _startSession() gives; a subclass may give anything."""
        if not isinstance(session, TFTPBootstrap):
            self._forget(addr, served)
        elif self._served.get(addr) is not served:
            session.session.replace()
        else:
            served.session = session
            session.ended.addCallback(lambda _: self._forget(addr, served))

    def _not_started(self, failure: Failure, served: _Served, addr: Any) -> None:
        self._forget(addr, served)
        log.err(failure, f"A request of {addr[0]} fails")
        self._refuse(addr, ERRORDatagram.from_code(ERR_NOT_DEFINED, b"Internal error"))

    def _forget(self, addr: Any, served: _Served) -> None:
        if self._served.get(addr) is served:
            del self._served[addr]

    def _refuse(self, addr: Any, error: ERRORDatagram) -> None:
        if self.transport is not None:
            self.transport.write(error.to_wire(), addr)

    @inlineCallbacks
    def _startSession(self, datagram: RQDatagram, addr: Any, mode: bytes) -> Any:
        """Open the file and the port of a transfer.

        Subclasses change what is requested before they call this, and what it results in after that.

        :return: a Deferred of the protocol of that port; of None: the request is refused.
        :raise Exception: what the backend raises, if it is none of ``tftp.errors``.
        """
        context = {}
        if self.transport is not None:
            local = self.transport.getHost()
            context = {"local": (local.host, local.port), "remote": addr}
        write = datagram.opcode == OP_WRQ
        method = self.backend.get_writer if write else self.backend.get_reader
        try:
            file = yield call(context, method, datagram.filename)
        except BackendError as error:
            self._refuse(addr, _refusal(error))
            return None
        session: TFTPBootstrap
        if write:
            file = NetasciiReceiverProxy(file) if mode == b"netascii" else file
            session = RemoteOriginWriteSession(addr, file, datagram.options, _clock=self._clock)
        else:
            file = NetasciiSenderProxy(file) if mode == b"netascii" else file
            session = RemoteOriginReadSession(addr, file, datagram.options, _clock=self._clock)
        try:
            self._listen(session, addr)
        except CannotListenError as error:
            log.msg(f"There is no port for a transfer to {addr[0]}: {error.socketError}")
            session.session.release()
            self._refuse(addr, ERRORDatagram.from_code(ERR_NOT_DEFINED, b"No port for the transfer"))
            return None
        return session

    def _listen(self, session: TFTPBootstrap, addr: Any) -> None:
        """Open a port with the address of this one: the file is sent from the address that the request was sent to."""
        reactor: Any = self._clock
        if not IReactorUDP.providedBy(reactor):
            from twisted.internet import reactor
        local = self.transport.getHost().host if self.transport is not None else ""
        if local in ("", "0.0.0.0", "::"):
            local = "::" if ":" in addr[0] else ""
        reactor.listenUDP(0, session, local, maxPacketSize=sessions.MAX_BLOCK_SIZE + 4)


def _refusal(error: BackendError) -> ERRORDatagram:
    match error:
        case AccessViolation():
            return ERRORDatagram.from_code(ERR_ACCESS_VIOLATION)
        case FileExists():
            return ERRORDatagram.from_code(ERR_FILE_EXISTS)
        case FileNotFound():
            return ERRORDatagram.from_code(ERR_FILE_NOT_FOUND)
    code = ERR_ILLEGAL_OP if isinstance(error, Unsupported) else ERR_NOT_DEFINED
    return ERRORDatagram.from_code(code, str(error).encode("ascii", "replace"))
