"""The transfer that receives a file (WRQ)."""

from typing import Any

from attrs import define, field

from bootfw.boot.onceper import BLOCKED_SECONDS
from bootfw.boot.pluginresult import as_deferred
from bootfw.net.tftp.netascii import NetasciiWriter
from bootfw.net.tftp.transfer import LATE_COPY, Reached, Transfer
from bootfw.net.tftp.transferstates import State
from bootfw.tftp import write
from bootfw.tftp.blocks import advance, wire_number
from bootfw.values import Mode

_FINISHED = State.FINISHED
_LINGERING = write.State.LINGERING


@define(eq=False)
class WriteTransfer(Transfer):
    """Writes the blocks that a WriteSession gives it, and sends the session's ACKs."""

    _writer: Any = field(default=None, init=False)
    """An IWriter; None when it is finished or cancelled."""
    _plugin: Any = field(default=None, init=False)
    """The same, without the netascii translation around it."""
    _netascii: NetasciiWriter | None = field(default=None, init=False)
    """The netascii translation; None in octet mode."""
    _advancing: bool = field(default=False, init=False)

    @property
    def stored_block(self) -> int | None:
        """See Transfer."""
        session = self.session
        return wire_number(session.stored) if session is not None and session.state is _LINGERING else None

    def file_opened(self, file: Any) -> None:
        """See Transfer."""
        self._writer = self._plugin = file
        if self.request.mode is Mode.NETASCII:
            self._writer = self._netascii = NetasciiWriter(file)

    def discard_file(self, file: Any) -> None:
        """See Transfer."""
        file.cancel()

    def _reached(self) -> Reached:
        stored, windowsize = self.session.stored, self._agreed.windowsize
        return Reached(max(0, stored - windowsize), stored + windowsize, self._started_at)

    def _make_session(self, watchdog: Any, now: float) -> write.WriteSession:
        return write.WriteSession(self._agreed, watchdog, now)

    def datagram(self, data: bytes, now: float) -> None:
        """See Transfer."""
        opcode = data[:2]
        if opcode == b"\0\3" and len(data) >= 4:
            if self.packets_to_record:
                self._keep(data, now)
            number = data[2] << 8 | data[3]
            if self.session is not None and not (self.earlier is not None and self._goes_on(self.earlier, number, now)):
                self._handle(write.Input.DATA, (number, data[4:]), now)
        elif opcode == b"\0\5" and len(data) >= 4:
            self._error_received(data, now)
        else:
            self._context.on_stray(data, self.request.peer, now)

    def _goes_on(self, earlier: Reached, number: int, now: float) -> bool:
        """Return whether the client sends a block of the upload before this one: then it has not started again. What it
        had sent is gone, so it gets an ERROR."""
        if 1 <= number <= self._agreed.windowsize:
            self.earlier = None
            return False
        if advance(earlier.acked, number, earlier.sent - earlier.acked) is None:
            return False
        self.earlier = None
        self.cancel(LATE_COPY, now)
        return True

    def _advance(self, now: float) -> None:
        if self._advancing:
            # A Deferred had fired already: the loop further up the stack goes on, so queued blocks do not nest.
            return
        self._advancing = True
        session = self.session
        try:
            while self._states.state is not _FINISHED:
                for datagram in session.out:
                    self.send(datagram)
                session.out.clear()
                if session.stores is None or self._pending is not None:
                    break
                if self._write(now):
                    session.handle(write.Input.STORED, None, now)
        finally:
            self._advancing = False
        if self._states.state is not _FINISHED:
            self._settle(now)

    def _write(self, now: float) -> bool:
        """Write a block, and finish the file with the last one.

        :return: False if the writer answers later or has failed.
        """
        store = self.session.stores
        try:
            if self._netascii is not None:
                self._netascii.final = store.final
            if store.payload or self._netascii is not None:
                waiting = as_deferred(self._timed("write", store.offset, store.payload))
                if waiting is not None:
                    self.await_result(waiting, self._written, self._file_failed)
                    return False
            return not store.final or self._finish(now)
        except Exception as error:
            self._file_failed(error, now)
            return False

    def _written(self, answer: Any, now: float) -> None:
        try:
            done = not self.session.stores.final or self._finish(now)
        except Exception as error:
            self._file_failed(error, now)
            return
        if done:
            self._handle(write.Input.STORED, None, now)

    def _finish(self, now: float) -> bool:
        """Have the writer make the complete file visible.

        :return: False if it answers later.
        """
        waiting = as_deferred(self._timed("finish"))
        if waiting is None:
            self._writer = None
            return True
        self.await_result(waiting, self._finished, self._file_failed)
        return False

    def _finished(self, answer: Any, now: float) -> None:
        self._writer = None
        self._handle(write.Input.STORED, None, now)

    def _timed(self, method: str, *arguments: Any) -> Any:
        """Call *method* of the writer, and report it if it blocks."""
        writer, seconds = self._writer, self._context.reactor.seconds
        began = seconds()
        answer = getattr(writer, method)(*arguments)
        took = seconds() - began
        if took > BLOCKED_SECONDS:
            self._blocked("writer", self._plugin, f"{method}()", took)
        return answer

    def _release(self) -> None:
        if self._writer is not None:
            try:
                self._timed("cancel")
            finally:
                self._writer = None
