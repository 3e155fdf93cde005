"""The transfer that sends a file (RRQ)."""

from typing import Any

from attrs import define, field

from bootfw.boot.onceper import BLOCKED_SECONDS
from bootfw.boot.pluginresult import content, later
from bootfw.events import TransferBegun
from bootfw.interfaces import IReader
from bootfw.net.tftp.fastpath import Express, Lane
from bootfw.net.tftp.framecache import Piece, can_be_framed, last_together
from bootfw.net.tftp.handover import Handover, has_changed
from bootfw.net.tftp.netascii import NetasciiReader
from bootfw.net.tftp.transfer import Transfer
from bootfw.tftp import read
from bootfw.tftp.blocks import Blocks, frame
from bootfw.tftp.position import Position
from bootfw.values import Agreed, Mode

_ACK = 4

_NOTHING_HELD: tuple[Blocks | None, bytes] = (None, b"")


@define(eq=False)
class ReadTransfer(Transfer):
    """Does the reading that a ReadSession asks for, and sends its blocks."""

    resumed: int | Position | None = field(default=None, init=False)
    """See ReadSession."""
    _reader: IReader | None = field(default=None, init=False)
    _held: tuple[Blocks | None, bytes] = field(default=_NOTHING_HELD, init=False)
    """The blocks that were fetched last, until they are sent; of a reader that answers later, until others are."""
    _asynchronous: bool = field(default=False, init=False)
    """The reader answers later: asking it again for a retransmission is dear."""

    _express: Express | None = field(default=None, init=False)
    """Where the express way is open."""
    _lane: Lane | None = field(default=None, init=False)
    _piece: Piece | None = field(default=None, init=False)
    """What was found last by the express way, or wasn't."""
    _asked: int = field(default=0, init=False)
    """Up to this block there is no use in asking for a piece."""

    @property
    def movable(self) -> bool:
        """See Transfer."""
        if self.session is None or self._reader is None or self.request.mode is not Mode.OCTET:
            return False
        return not has_changed(self._reader, TransferBegun(self._began, self.request, self._agreed))

    def handover(self, port: int) -> Handover:
        """See Transfer."""
        self._catch_up()
        return Handover(self.session.leave(self._around.reactor.seconds()), self.raw, self.via, port)

    def has(self, file: Any) -> None:
        """See Transfer."""
        self._reader = NetasciiReader(file) if self.request.mode is Mode.NETASCII else file

    def give_back(self, file: Any) -> None:
        """See Transfer."""
        file.close()

    def _make_session(self, watchdog: Any, now: float) -> read.ReadSession:
        assert self._reader is not None
        # By position, as each transfer makes one: keywords are slower.
        return read.ReadSession(
            self._agreed,
            self._reader.size,
            watchdog,
            now,
            self.resumed,
            len(self.raw),
            self.port_is_secret,
            self.treatment is not None and self.treatment.oack_once,
            self._around.randbelow,
        )

    def datagram(self, data: bytes, now: float) -> None:
        """See Transfer."""
        opcode = data[:2]
        if opcode == b"\0\4" and len(data) >= 4:
            if self.session is not None:
                self._ack(data[2] << 8 | data[3], now)
        elif opcode == b"\0\5" and len(data) >= 4:
            self._peer_error(data, now)
        else:
            self._around.stray(data, self.request.peer, now)

    def _ack(self, number: int, now: float) -> None:
        self._step(read.Input.ACK, number, now)
        if self._express is not None:
            self._open_lane()

    def begin(self, agreed: Agreed, watchdog: Any, now: float) -> None:
        """See Transfer."""
        assert self._reader is not None
        if self.port is None and can_be_framed(self._reader):
            self._express = self._around.express()
        super().begin(agreed, watchdog, now)
        # Whoever asks for the size only shall not have anything read. What has been read for others is there.
        if self._express is not None:
            block = self.session.sent + 1
            if self._around.images.has(self._reader, agreed.blksize, block):
                self._open_lane()

    def ring(self, now: float) -> float | None:
        """See Transfer."""
        lane = self._lane
        if lane is not None and lane.has_sent():
            # The lane is left as it is: with a thousand transfers each is looked at every few round trips.
            deadline: float = self.session.due(lane.at)
            if now < deadline:
                return deadline
        return super().ring(now)

    def _open_lane(self) -> None:
        """Have the next ACKs take the express way, if there is one for them."""
        sent = self.session.in_flight
        if sent is None:
            return
        piece = self._piece
        windowsize = self._agreed.windowsize
        if piece is None or piece.view is None or sent + windowsize > piece.end:
            piece = self._next_piece()
            if piece is None:
                return
        lane = self._lane
        if lane is None:
            assert self._express is not None
            request, blksize = self.request, self._agreed.blksize
            lane = self._lane = self._express.lane(request.peer, self.via, self._acknowledged, blksize, windowsize)
        lane.open(piece, sent, self.session.sent_at, self.session.news)

    def _catch_up(self) -> None:
        lane = self._lane
        if lane is not None:
            windows = lane.account()
            if windows:
                self.session.proceeded(windows, lane.waited, lane.at)
                self.deadline = self.session.deadline

    def _acknowledged(self, head: int, now: float) -> bool:
        """The express way of an ACK that the lane has no answer to; see Take.

        What it can't do goes the other way, which comes to the same.
        """
        self._catch_up()
        if head >> 16 != _ACK or self._over:
            return False
        session, piece, lane = self.session, self._piece, self._lane
        try:
            first = session.proceed(head, piece.end, now) if piece is not None and piece.view is not None else 0
            if not first:
                piece = self._next_piece()
                first = session.proceed(head, piece.end, now) if piece is not None else 0
            if not first or piece is None:
                self._ack(head & 0xFFFF, now)
                return True
            assert lane is not None
            assert self._express is not None
            lane.send(self._express.sender, piece, first)
            self._open_lane()
            before = self.deadline
            deadline = self.deadline = session.deadline
            # A deadline that moves later needs no look: the alarm finds out by itself.
            if before is None or deadline < before:
                self._around.alarm.watch(self)
        except Exception as error:
            self._broken(error, now)
        return True

    def _next_piece(self) -> Piece | None:
        """The piece with the next window, if it is another one than before."""
        first = self.session.sent + 1
        if first <= self._asked:
            return None
        images, blksize = self._around.images, self._agreed.blksize
        self._asked = last_together(blksize, first)
        seconds = self._around.reactor.seconds
        began = seconds()
        try:
            self._piece = images.piece(self._reader, blksize, first)
        except OSError:
            # The other way will meet it as well, and tell the peer.
            self._piece = None
        took = seconds() - began
        if took > BLOCKED_SECONDS:
            self._blocked("reader", self._reader, "reading the descriptor", took)
        return self._piece

    def _go_on(self, now: float) -> None:
        session = self.session
        while True:
            if session.out:
                self._send_out()
            wants = session.wants
            if wants is None or self._awaited is not None:
                break
            data = self._fetch(wants, now)
            if data is None:
                break
            self._held = wants, data
            session.handle(read.Input.FETCHED, len(data), now)
        if not self._over:
            self._settle(now)

    def _fetch(self, wants: Blocks, now: float) -> bytes | None:
        """The content of *wants*; None: it comes later, or the transfer has just failed."""
        held, data = self._held
        if held == wants:
            return data
        octets = self.session.wants_octets
        if not octets:
            return b""
        assert self._reader is not None
        seconds = self._around.reactor.seconds
        began = seconds()
        try:
            answer = self._reader.read((wants.first - 1) * self._agreed.blksize, octets)
            took = seconds() - began
            if took > BLOCKED_SECONDS:
                self._blocked("reader", self._reader, "read()", took)
            if type(answer) is bytes and len(answer) <= octets:
                return answer
            waiting = later(answer)
            if waiting is None:
                return content(answer, octets, self._reader)
        except Exception as error:
            self._failed(error, now)
            return None
        self._asynchronous = True
        self.wait_for(waiting, self._fetched, self._failed)
        return None

    def _fetched(self, answer: Any, now: float) -> None:
        try:
            data = content(answer, self.session.wants_octets, self._reader)
        except Exception as error:
            self._failed(error, now)
            return
        self._held = self.session.wants, data
        self._step(read.Input.FETCHED, len(data), now)

    def _send_out(self) -> None:
        out = self.session.out
        for item in out:
            if type(item) is Blocks:
                blksize = self._agreed.blksize
                self.tell(frame(item, blksize, self._held[1]), blksize + 4 if item.count > 1 else 0)
                if not self._asynchronous:
                    self._held = _NOTHING_HELD
            else:
                self.tell(item)
        out.clear()

    def _release(self) -> None:
        if self._express is not None:
            if self._lane is not None:
                self._express.end(self._lane)
            self._express = self._lane = self._piece = None
        self._held = _NOTHING_HELD
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
