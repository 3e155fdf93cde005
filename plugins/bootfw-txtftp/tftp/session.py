"""The transfer of one file: connects a session of bootfw, which decides everything, to a port, a timer and a file.

The sessions are ``ReadSession`` and ``WriteSession`` of ``bootfw.api``. As in python-tx-tftp, "read" means that this
side reads the file and sends it.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.error import MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.python import log
from twisted.python.failure import Failure

from bootfw.api import Agreed, DiskFull, TransferError, frame_blocks
from bootfw.api import ReadSession as SendingSession
from bootfw.api import WriteSession as ReceivingSession
from tftp.datagram import (
    ERR_ILLEGAL_OP,
    OP_ACK,
    OP_DATA,
    OP_ERROR,
    ACKDatagram,
    ERRORDatagram,
)

MAX_BLOCK_SIZE = 8192
"""The largest block size that is agreed to, in bytes."""

MAX_WINDOW_SIZE = 64
"""The largest window that is agreed to, in blocks."""

_BEHIND = 0x8000
"""Differences of block numbers from here on, modulo 65536, mean an earlier block."""


_MOST_WAITS = 20
"""``timeout`` may be endless. So many waits of it count where only their sum matters."""


class _Waits:
    """An IWatchdog by the ``timeout`` of a session: that of the handshake until the transfer has started."""

    honours_timeout = True

    def __init__(self, session: "_Session", handshake: Iterable[float]) -> None:
        self._session = session
        self._handshake = handshake

    def wait(self, attempt: int) -> float | None:
        """See IWatchdog."""
        waits = self._session.timeout if self._session.started else self._handshake
        return next(islice(waits, attempt - 1, None), None)


class _Session(DatagramProtocol):
    """The part that both directions share.

    ``block_size``, ``windowsize`` and ``blocknum`` may be set until the transfer begins.

    :param _clock: an IReactorTime; None: the global reactor.
    """

    block_size = 512
    windowsize = 1
    timeout: Iterable[float] = (1, 3, 7)
    """Seconds after each sending of a packet that is not answered. The packet is sent once more after each of them but
    the last one, after which the transfer has failed."""
    tsize: int | None = None
    """The size that the client has announced, in bytes."""
    transport: Any = None
    noisy = False

    def __init__(self, _clock: Any = None) -> None:
        if _clock is None:
            from twisted.internet import reactor as _clock
        self._clock = _clock
        self.started = False
        """The peer has acknowledged the options, or there are none."""
        self._machine: Any = None
        """The session of bootfw; None: the transfer has not begun."""
        self._began = 0.0
        self._blocknum = 0
        self._pending: Deferred[Any] | None = None
        """The pending result of the reader or writer."""
        self._timer: Any = None
        self._released = False

    @property
    def blocknum(self) -> int:
        """The number on the wire of the last block that was sent or stored."""
        return (self._blocknum if self._machine is None else self._latest()) & 0xFFFF

    @blocknum.setter
    def blocknum(self, value: int) -> None:
        self._blocknum = value

    @property
    def idle_since(self) -> float | None:
        """When the peer was heard last; None: it has sent nothing but its request."""
        machine = self._machine
        return machine.last_heard if machine is not None and machine.last_heard > self._began else None

    def startProtocol(self) -> None:
        """The transfer may begin."""
        self.started = True

    def negotiate(self, options: Mapping[bytes, bytes], handshake: Iterable[float]) -> None:
        """Begin with an OACK of *options*, or ACK 0 if there are none, and wait for the peer.

        :param handshake: the waits for its answer, see ``timeout``.
        """
        acknowledged = tuple((_text(name), _text(value)) for name, value in options.items())
        self._begin(options, acknowledged, handshake)
        self._advance()

    def _begin(
        self, options: Mapping[bytes, bytes], acknowledged: tuple[tuple[str, str], ...], handshake: Iterable[float]
    ) -> None:
        numbers = {name.lower(): value for name, value in options.items()}
        agreed = Agreed(
            blksize=int(numbers.get(b"blksize", self.block_size)),
            windowsize=int(numbers.get(b"windowsize", self.windowsize)),
            timeout=int(numbers[b"timeout"]) if b"timeout" in numbers else None,
            tsize=int(numbers[b"tsize"]) if b"tsize" in numbers else None,
            acknowledged=acknowledged,
        )
        self._began = self._clock.seconds()
        self._machine = self._make_machine(agreed, _Waits(self, handshake))

    def repeat_opening(self) -> None:
        """Answer a copy of the request."""
        if self._machine is not None:
            self._handle(self._machine.Input.REQUESTED, None)

    def replace(self) -> None:
        """End without an ERROR: the peer has begun another transfer from the same port."""
        if self._machine is not None:
            self._handle(self._machine.Input.REPLACED, None)
        else:
            self.cancel()

    def cancel(self) -> None:
        """End, and close the port. A peer that does not know yet gets an ERROR."""
        machine = self._machine
        if machine is not None and machine.outcome is None:
            machine.handle(machine.Input.CANCEL, "The transfer was cancelled", self._clock.seconds())
            self._send_out()
        self.release()
        if self.transport is not None:
            self.transport.stopListening()

    def release(self) -> None:
        """Let go of the file and the timer, once. The port has been closed, or is about to be."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._released:
            self._released = True
            self._close_file()

    def datagramReceived(  # type: ignore[override]
        self, datagram: Any, addr: Any = None
    ) -> "Deferred[Any] | None":
        """Take a datagram, as an object of ``tftp.datagram``.

        :return: fires when the file has answered; None: it has already, or is not needed.
        """
        if datagram.opcode != OP_ERROR:
            return self._block_received(datagram)
        log.msg(f"The peer ends a transfer: {datagram}")
        if self._machine is not None:
            return self._handle(self._machine.Input.PEER_ERROR, (datagram.errorcode, _text(datagram.errmsg)))
        self.cancel()
        return None

    def _handle(self, event: Any, argument: Any) -> "Deferred[Any] | None":
        self._machine.handle(event, argument, self._clock.seconds())
        return self._advance()

    def _advance(self) -> "Deferred[Any] | None":
        """Do what the session of bootfw publishes. Returns what the file has not answered yet."""
        machine = self._machine
        self._send_out()
        while self._pending is None and self._use_file():
            self._send_out()
        if machine.outcome is not None and machine.deadline is None:
            if not self._released:
                self._ended()
        else:
            self._arm()
        return self._pending

    def _await_file(self, method: Callable[..., Any], *arguments: Any) -> None:
        """Call a method of the reader or writer, which may answer later."""
        self._pending = answer = maybeDeferred(method, *arguments)
        answer.addCallback(self._answered).addErrback(self._failed)
        # If it has answered, the caller goes on by itself: so blocks do not nest.
        if self._pending is not None:
            answer.addCallback(lambda _: self._advance())

    def _answered(self, answer: Any) -> None:
        self._pending = None
        if not self._released:
            self._take_answer(answer)

    def _failed(self, failure: Failure) -> None:
        self._pending = None
        if self._released:
            return
        # A disk or a server behind the file is no defect of the program, anything else is one.
        if failure.check(OSError):
            log.msg(f"A transfer fails: {failure.getErrorMessage()}")
        else:
            log.err(failure, "A transfer fails")
        self._machine.handle(self._machine.Input.FAILED, self._failure(), self._clock.seconds())

    def _send_out(self) -> None:
        out = self._machine.out
        for item in out:
            if isinstance(item, bytes):
                self._write(item)
            else:
                size = self._machine.agreed.blksize + 4
                frames = self._frames(item)
                for start in range(0, len(frames), size):
                    self._write(frames[start : start + size])
        out.clear()

    def _write(self, datagram: bytes) -> None:
        try:
            self.transport.write(datagram)
        except (OSError, MessageLengthError):
            return  # It counts as lost on the wire.

    def _deadline(self) -> float | None:
        deadline: float | None = self._machine.deadline
        return deadline

    def _arm(self) -> None:
        deadline = self._deadline()
        if deadline is None:
            return
        delay = max(0.0, deadline - self._clock.seconds())
        if self._timer is None:
            self._timer = self._clock.callLater(delay, self._ring)
        elif self._timer.getTime() > deadline:
            self._timer.reset(delay)

    def _ring(self) -> None:
        self._timer = None
        # Deadlines move later with each packet, and the timer stays: then the session ignores this one.
        self._handle(self._machine.Input.TICK, None)

    def _ended(self) -> None:
        machine = self._machine
        if machine.detail:
            log.msg(f"A transfer has ended: {machine.outcome.value}, {machine.detail}")
        self.cancel()

    # What differs.

    def _latest(self) -> int:
        """The last block that was sent or stored, an absolute number."""
        raise NotImplementedError

    def _make_machine(self, agreed: Agreed, waits: _Waits) -> Any:
        raise NotImplementedError

    def _block_received(self, datagram: Any) -> "Deferred[Any] | None":
        raise NotImplementedError

    def _use_file(self) -> bool:
        """Take the next step with the file, see _await_file(); false: there is none."""
        raise NotImplementedError

    def _take_answer(self, answer: Any) -> None:
        raise NotImplementedError

    def _failure(self) -> TransferError:
        """The ERROR for the peer if the file fails."""
        raise NotImplementedError

    def _frames(self, blocks: Any) -> bytes:
        """The DATA datagrams of these blocks, one after the other."""
        raise NotImplementedError

    def _close_file(self) -> None:
        raise NotImplementedError


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


class ReadSession(_Session):
    """Sends a file that *reader*, an IReader, reads."""

    def __init__(self, reader: Any, _clock: Any = None) -> None:
        super().__init__(_clock)
        self.reader = reader
        self._held = b""
        """What was read and is not acknowledged: an IReader reads each byte once."""
        self._held_from = 1
        """The block that begins with it."""
        self._at_end = False

    @property
    def completed(self) -> bool:
        """Whether the last block has been sent."""
        machine = self._machine
        return machine is not None and machine.size is not None and machine.sent * self._blksize > machine.size

    def begin(self, acked: int = 0) -> "Deferred[Any] | None":
        """Begin with the block after *acked*, without a handshake."""
        self.started = True
        self._blocknum, self._held_from = acked, acked + 1
        self._begin({}, (), ())
        return self._advance()

    @property
    def _blksize(self) -> int:
        blksize: int = self._machine.agreed.blksize
        return blksize

    def _latest(self) -> int:
        sent: int = self._machine.sent
        return sent

    def _make_machine(self, agreed: Agreed, waits: _Waits) -> SendingSession:
        now, resumed = self._clock.seconds(), self._blocknum or None
        return SendingSession(agreed, None, waits, now=now, resumed=resumed, own_port=True)

    def _block_received(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode != OP_ACK:
            return None
        ahead = (datagram.blocknum - self.blocknum) & 0xFFFF
        if 0 < ahead < _BEHIND:
            self._write(ERRORDatagram.from_code(ERR_ILLEGAL_OP, b"Block number mismatch").to_wire())
            return None
        if self._machine is None:
            return None if ahead else self.begin(self._blocknum)
        return self._handle(self._machine.Input.ACK, datagram.blocknum)

    def _use_file(self) -> bool:
        machine, blksize = self._machine, self._blksize
        wants = machine.wants
        if wants is None:
            return False
        start = (wants.first - self._held_from) * blksize
        if len(self._held) < start + machine.wanted_bytes and not self._at_end:
            # One block at a time, as readers know it from python-tx-tftp, also where a window is wanted.
            self._await_file(self.reader.read, blksize)
            return True
        length = max(0, min(machine.wanted_bytes, len(self._held) - start))
        machine.handle(machine.Input.FETCHED, length, self._clock.seconds())
        return True

    def _take_answer(self, answer: Any) -> None:
        if not isinstance(answer, bytes | bytearray | memoryview):
            raise TypeError(f"{self.reader!r} has read {type(answer).__name__}, not bytes")
        if len(answer) > self._blksize:
            raise ValueError(f"{self.reader!r} has read {len(answer)} bytes, {self._blksize} were requested")
        self._at_end = len(answer) < self._blksize
        acknowledged = (self._machine.acked + 1 - self._held_from) * self._blksize
        if acknowledged > 0:
            self._held, self._held_from = self._held[acknowledged:], self._machine.acked + 1
        self._held += answer

    def _failure(self) -> TransferError:
        return TransferError("Read failed")

    def _frames(self, blocks: Any) -> bytes:
        start = (blocks.first - self._held_from) * self._blksize
        return frame_blocks(blocks, self._blksize, self._held[start : start + blocks.count * self._blksize])

    def _close_file(self) -> None:
        self.reader.finish()


class WriteSession(_Session):
    """Receives a file that *writer*, an IWriter, writes."""

    def __init__(self, writer: Any, _clock: Any = None) -> None:
        super().__init__(_clock)
        self.writer = writer
        self.completed = False
        """All of the file is written. Copies of the last block are still answered, until ``timeout`` is over."""
        self._closes_at = 0.0
        self._stale_acked = -1

    def expect(self) -> None:
        """Begin: block 1 is about to be taken, so nothing need be sent to get it."""
        self.started = True
        if self._machine is None:
            self._begin({}, (), ())
            machine: Any = self._machine
            machine.out.clear()

    def confirm(self, options: Mapping[bytes, bytes]) -> None:
        """Begin with ACK 0, the answer to an OACK of *options*."""
        self._begin(options, (), self.timeout)
        self._advance()

    def _latest(self) -> int:
        stored: int = self._machine.stored
        return stored

    def _make_machine(self, agreed: Agreed, waits: _Waits) -> ReceivingSession:
        return ReceivingSession(agreed, waits, now=self._clock.seconds())

    def _block_received(self, datagram: Any) -> "Deferred[Any] | None":
        if datagram.opcode != OP_DATA:
            return None
        number, latest = datagram.blocknum, self.blocknum
        ahead = (number - latest) & 0xFFFF
        if ahead >= _BEHIND:
            # Once for each block: a peer that sends its block again for each of these ACKs would never end.
            if self._stale_acked != latest:
                self._stale_acked = latest
                self._write(ACKDatagram(number).to_wire())
            return None
        if self.completed and ahead:
            self._write(ERRORDatagram.from_code(ERR_ILLEGAL_OP, b"Transfer already finished").to_wire())
            return None
        if ahead > self.windowsize:
            self._write(ERRORDatagram.from_code(ERR_ILLEGAL_OP, b"Block number mismatch").to_wire())
            return None
        self.expect()
        return self._handle(self._machine.Input.DATA, (number, datagram.data))

    def _use_file(self) -> bool:
        store = self._machine.stores
        if store is not None:
            self._await_file(self._store, store)
        return store is not None

    def _store(self, store: Any) -> "Deferred[Any]":
        written = maybeDeferred(self.writer.write, store.payload)
        return written.addCallback(lambda _: self.writer.finish()) if store.final else written

    def _take_answer(self, answer: Any) -> None:
        machine = self._machine
        if machine.stores is not None:
            now = self._clock.seconds()
            self.completed = machine.stores.final
            if self.completed:
                self._closes_at = now + sum(islice(self.timeout, _MOST_WAITS))
            machine.handle(machine.Input.STORED, None, now)

    def _deadline(self) -> float | None:
        return self._closes_at if self.completed else super()._deadline()

    def _ring(self) -> None:
        if not self.completed:
            super()._ring()
            return
        self._timer = None
        self._handle(self._machine.Input.CANCEL, "")

    def _failure(self) -> TransferError:
        return DiskFull()

    def _close_file(self) -> None:
        if not self.completed:
            self.writer.cancel()
