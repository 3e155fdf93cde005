"""The beginning of a transfer on a port of its own: which options it has, then the session takes over."""

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log

from tftp import session as sessions
from tftp.datagram import (
    ERR_TID_UNKNOWN,
    OP_ACK,
    OP_DATA,
    OP_ERROR,
    OP_OACK,
    ACKDatagram,
    ERRORDatagram,
    TFTPDatagramFactory,
    split_opcode,
)
from tftp.errors import InvalidErrorcodeError, WireProtocolError
from tftp.session import ReadSession, WriteSession


def _number(value: bytes, minimum: int, maximum: int | None = None) -> int | None:
    """Return the number in an option; None: it is none, or out of range."""
    if not value.isdigit() or len(value) > 20:
        return None
    number = int(value)
    return number if number >= minimum and (maximum is None or number <= maximum) else None


def _written(number: int | None) -> bytes | None:
    return None if number is None else b"%d" % number


class TFTPBootstrap(DatagramProtocol):
    """The protocol of a transfer's port: the base of those below.

    A subclass may change how an option is answered: ``option_NAME`` takes the value that the peer sent and returns the
    one that is agreed to, or None: then the option is left out.

    :param remote: the address of the peer.
    :param backend: the IReader or IWriter.
    :param options: what the client requests.
    :param _clock: an IReactorTime; None: the global reactor.
    """

    supported_options: Iterable[bytes] = (b"blksize", b"timeout", b"tsize", b"windowsize")
    session: Any
    transport: Any = None
    noisy = False

    def __init__(
        self, remote: Any, backend: Any, options: Mapping[bytes, bytes] | None = None, _clock: Any = None
    ) -> None:
        if _clock is None:
            from twisted.internet import reactor as _clock
        self.options: Any = {} if options is None else options
        self.resultant_options: dict[bytes, bytes] = {}
        """What is agreed."""
        self.remote = remote
        self.timeout_watchdog: Deferred[Any] = succeed(None)
        """Cancelled when the peer has answered; for transfers that begin here, see timedCaller."""
        self.backend = backend
        self.ended: Deferred[None] = Deferred()
        """Fires when the port has been closed."""
        self._clock = _clock

    def processOptions(self, options: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the options that are agreed to, spelled as they were. The others are left out (RFC 2347)."""
        agreed = {}
        for name, value in options.items():
            if name.lower() in self.supported_options:
                answer = getattr(self, "option_" + name.lower().decode("ascii"))(value)
                if answer is not None:
                    agreed[name] = answer
        return agreed

    def option_blksize(self, val: bytes) -> bytes | None:
        """Agree to 8 to 65464 bytes (RFC 2348), at most MAX_BLOCK_SIZE."""
        number = _number(val, 8, 65464)
        return None if number is None else _written(min(number, sessions.MAX_BLOCK_SIZE))

    def option_timeout(self, val: bytes) -> bytes | None:
        """Agree to 1 to 255 seconds (RFC 2349)."""
        return _written(_number(val, 1, 255))

    def option_tsize(self, val: bytes) -> bytes | None:
        """Take the size that the peer announces (RFC 2349)."""
        return _written(_number(val, 0))

    def option_windowsize(self, val: bytes) -> bytes | None:
        """Agree to 1 to 65535 blocks (RFC 7440), at most MAX_WINDOW_SIZE."""
        number = _number(val, 1, 65535)
        return None if number is None else _written(min(number, sessions.MAX_WINDOW_SIZE))

    def applyOptions(self, session: Any, options: Mapping[bytes, bytes]) -> None:
        """Set the attributes of *session* by what is agreed."""
        for name, value in options.items():
            match name.lower():
                case b"blksize":
                    session.block_size = int(value)
                case b"timeout":
                    session.timeout = (int(value),) * 3
                case b"tsize":
                    session.tsize = int(value)
                case b"windowsize":
                    session.windowsize = int(value)

    def startProtocol(self) -> None:
        """Receive from the peer only."""
        self.transport.connect(*self.remote[:2])
        self.session.transport = self.transport

    def stopProtocol(self) -> None:
        """Release everything: the port has been closed."""
        self.timeout_watchdog.cancel()
        self.session.release()
        if not self.ended.called:
            self.ended.callback(None)

    def datagramReceived(  # type: ignore[override]
        self, datagram: bytes, addr: Any
    ) -> "Deferred[Any] | None":
        """Take a datagram. One from another port gets ERROR 5 (RFC 1350 section 4), a malformed one nothing."""
        if addr[1] != self.remote[1]:
            self.transport.write(ERRORDatagram.from_code(ERR_TID_UNKNOWN).to_wire())
            return None
        try:
            parsed = TFTPDatagramFactory(*split_opcode(datagram))
        except InvalidErrorcodeError as error:
            parsed = ERRORDatagram(error.errorcode, b"")
        except WireProtocolError:
            return None
        return self.tftp_ERROR(parsed) if parsed.opcode == OP_ERROR else self._datagramReceived(parsed)

    def _datagramReceived(self, datagram: Any) -> "Deferred[Any] | None":
        raise NotImplementedError

    def tftp_ERROR(self, datagram: ERRORDatagram) -> "Deferred[Any] | None":
        """End: the peer does."""
        self.timeout_watchdog.cancel()
        self.session.transport = self.transport
        answer: Deferred[Any] | None = self.session.datagramReceived(datagram)
        return answer

    def cancel(self) -> None:
        """End, and close the port."""
        self.timeout_watchdog.cancel()
        self.session.transport = self.transport
        self.session.cancel()

    def timedOut(self) -> None:
        """End: the peer has not answered."""
        log.msg("Timed out during option negotiation")
        self.cancel()

    def _start(self) -> None:
        """The peer has answered, or need not."""
        self.timeout_watchdog.cancel()
        if not self.session.started:
            self.applyOptions(self.session, self.resultant_options)
            self.session.transport = self.transport
            self.session.startProtocol()


class LocalOriginWriteSession(TFTPBootstrap):
    """A file that this side has requested. It is received by a WriteSession."""

    session: WriteSession

    def __init__(
        self, remote: Any, writer: Any, options: Mapping[bytes, bytes] | None = None, _clock: Any = None
    ) -> None:
        super().__init__(remote, writer, options, _clock)
        self.session = WriteSession(writer, self._clock)

    def tftp_OACK(self, datagram: Any) -> None:
        """Confirm the options by ACK 0, again if need be. Until block 1 comes, the latest ones count."""
        if self.session.started:
            self.transport.write(ACKDatagram(0).to_wire())
            return
        self.timeout_watchdog.cancel()
        self.resultant_options = self.processOptions(datagram.options)
        self.session.confirm(self.resultant_options)

    def _datagramReceived(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode == OP_OACK:
            self.tftp_OACK(datagram)
            return None
        if datagram.opcode == OP_DATA and datagram.blocknum == 1:
            self._start()
        return self.session.datagramReceived(datagram) if self.session.started else None


class RemoteOriginWriteSession(TFTPBootstrap):
    """A file that a client sends (WRQ). It is received by a WriteSession."""

    timeout: Iterable[float] = (1, 3, 7)
    """The waits for an answer to the OACK or ACK 0, see WriteSession."""
    session: WriteSession

    def __init__(
        self, remote: Any, writer: Any, options: Mapping[bytes, bytes] | None = None, _clock: Any = None
    ) -> None:
        super().__init__(remote, writer, options, _clock)
        self.session = WriteSession(writer, self._clock)

    def option_blksize(self, val: bytes) -> bytes | None:
        """See TFTPBootstrap. A block that the port cuts off would pass for the last one of the file."""
        answer = super().option_blksize(val)
        largest = getattr(self.transport, "maxPacketSize", None)
        return answer if answer is None or largest is None else _written(min(int(answer), largest - 4))

    def startProtocol(self) -> None:
        """Send an OACK or ACK 0."""
        super().startProtocol()
        self.resultant_options = self.processOptions(self.options)
        self.session.negotiate(self.resultant_options, self.timeout)

    def _datagramReceived(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode == OP_DATA and not self.session.started:
            # Of a window, another block than the first may come first.
            if not 1 <= datagram.blocknum <= int(self.resultant_options.get(b"windowsize", b"1")):
                return None
            self._start()
        return self.session.datagramReceived(datagram) if self.session.started else None


class LocalOriginReadSession(TFTPBootstrap):
    """A file that this side writes to a server. It is sent by a ReadSession."""

    session: ReadSession

    def __init__(
        self, remote: Any, reader: Any, options: Mapping[bytes, bytes] | None = None, _clock: Any = None
    ) -> None:
        super().__init__(remote, reader, options, _clock)
        self.session = ReadSession(reader, self._clock)

    def tftp_OACK(self, datagram: Any) -> "Deferred[Any] | None":
        """Take the options and send the first block. Later copies are ignored."""
        if self.session.started:
            return None
        self.resultant_options = self.processOptions(datagram.options)
        self._start()
        return self.session.begin()

    def _datagramReceived(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode == OP_OACK:
            return self.tftp_OACK(datagram)
        if self.session.started:
            return self.session.datagramReceived(datagram)
        if datagram.opcode == OP_ACK and datagram.blocknum == 0:
            self._start()
            return self.session.begin()
        return None


class RemoteOriginReadSession(TFTPBootstrap):
    """A file that a client has requested (RRQ). It is sent by a ReadSession."""

    timeout: Iterable[float] = (1, 3, 7)
    """The waits for an answer to the OACK, see ReadSession."""
    session: ReadSession

    def __init__(
        self, remote: Any, reader: Any, options: Mapping[bytes, bytes] | None = None, _clock: Any = None
    ) -> None:
        super().__init__(remote, reader, options, _clock)
        self.session = ReadSession(reader, self._clock)

    def option_tsize(self, val: bytes) -> bytes | None:
        """Answer 0 with the size of the file, if it is known.

        An empty file gets none: curl 7.88 reports an illegal operation for an acknowledged 0.
        """
        answer = super().option_tsize(val)
        return answer if answer != b"0" else _written(self.session.reader.size or None)

    def startProtocol(self) -> "Deferred[Any] | None":  # type: ignore[override]
        """Send an OACK, or block 1 if there is nothing to agree to."""
        super().startProtocol()
        self.resultant_options = self.processOptions(self.options)
        if self.resultant_options:
            self.session.negotiate(self.resultant_options, self.timeout)
            return None
        self._start()
        return self.session.begin()

    def _datagramReceived(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode == OP_ACK and datagram.blocknum == 0 and not self.session.started:
            return self.tftp_ACK(datagram)
        return self.session.datagramReceived(datagram) if self.session.started else None

    def tftp_ACK(self, datagram: Any) -> "Deferred[Any] | None":
        """Take ACK 0, the answer to the OACK: send the first block."""
        self._start()
        return self.session.datagramReceived(datagram)
