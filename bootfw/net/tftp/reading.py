"""The transfer that sends a file (RRQ)."""

from typing import Any

from attrs import define, field

from bootfw.boot.etag import etag_of
from bootfw.boot.onceper import BLOCKED_SECONDS
from bootfw.boot.pluginresult import as_deferred, checked_bytes
from bootfw.events import TransferBegun
from bootfw.interfaces import IReader
from bootfw.net.tftp.fastpath import FastPath, Flow
from bootfw.net.tftp.framecache import Chunk, is_cacheable
from bootfw.net.tftp.handover import WRAP, Handover, has_changed
from bootfw.net.tftp.netascii import NetasciiReader
from bootfw.net.tftp.transfer import LATE_COPY, Reached, Transfer
from bootfw.net.tftp.transferstates import State
from bootfw.tftp import read
from bootfw.tftp.blocks import Blocks, advance, frame
from bootfw.tftp.position import Position
from bootfw.values import Agreed, Mode

_ACK = 4
_NEGOTIATING = read.State.NEGOTIATING
_FINISHED = State.FINISHED

_NOTHING_FETCHED: tuple[Blocks | None, bytes] = (None, b"")


@define(eq=False)
class ReadTransfer(Transfer):
    """Reads the blocks that a ReadSession wants, and sends what it publishes."""

    resumed: int | Position | None = field(default=None, init=False)
    """See ReadSession."""
    _reader: "IReader | None" = field(default=None, init=False)
    _size: int | None = field(default=None, init=False)
    _fetched_content: tuple[Blocks | None, bytes] = field(default=_NOTHING_FETCHED, init=False)
    """Blocks read last, with their content, until they are sent, or, of an asynchronous reader, until others are."""
    _asynchronous: bool = field(default=False, init=False)
    """The reader returns Deferreds, so its content is kept for a retransmission."""

    _cacheable: bool = field(default=False, init=False)
    """The file can be sent from the frame cache."""
    _chunk: Chunk | None = field(default=None, init=False)
    """The chunk that it sends from; it counts as held in the cache."""
    _fast_path: FastPath | None = field(default=None, init=False)
    _flow: Flow | None = field(default=None, init=False)
    """This transfer on the fast path; None: its port has none, or the file can't be framed."""

    @property
    def can_hand_over(self) -> bool:
        """See Transfer."""
        # Netascii has a translation state (such as a CR at the end of a block) that a Position does not have.
        if self.session is None or self._reader is None or self.request.mode is not Mode.OCTET:
            return False
        return not has_changed(self._reader, TransferBegun(self._started_at, self.request, self._agreed))

    @property
    def can_go_on_elsewhere(self) -> bool:
        """See Transfer."""
        if self.session is None or self._reader is None or self.request.mode is not Mode.OCTET:
            return False
        return bool(etag_of(self._reader, self._size)) and not self.is_reported

    @property
    def numbers_repeat(self) -> bool:
        """See Transfer."""
        session = self.session
        if session is None:
            return False
        size: int | None = session.size
        return session.acked > WRAP // 2 if size is None else size // self._agreed.blksize >= WRAP - 1

    @property
    def reader(self) -> IReader:
        """The open file."""
        assert self._reader is not None
        return self._reader

    @property
    def size(self) -> int | None:
        """Bytes of the open file, if known; of one in netascii they are not."""
        return self._size

    def detach_reader(self) -> IReader:
        """Return the open file, which another transfer goes on with, and which this one does not close then."""
        reader, self._reader = self.reader, None
        return reader

    def handover(self, port: int) -> Handover:
        """See Transfer."""
        return Handover(self.session.position(self._context.reactor.seconds()), self.raw, self.via, port)

    def file_opened(self, file: Any) -> None:
        """See Transfer."""
        self._reader = reader = NetasciiReader(file) if self.request.mode is Mode.NETASCII else file
        # Attributes of a plugin's reader may raise. Here the listener reports that as a failure of the backend.
        self._size = reader.size
        self._cacheable = bool(self._context.frame_cache.capacity) and is_cacheable(reader)

    def discard_file(self, file: Any) -> None:
        """See Transfer."""
        file.close()

    def _reached(self) -> Reached:
        session = self.session
        return Reached(session.acked, session.sent, self._started_at)

    def _make_session(self, watchdog: Any, now: float) -> read.ReadSession:
        # By position, as each transfer makes one: keywords are slower.
        return read.ReadSession(
            self._agreed,
            self._size,
            watchdog,
            now,
            self.resumed,
            len(self.raw),
            self.port_is_unguessable,
            self.quirks is not None and self.quirks.oack_once,
            self._context.randbelow,
        )

    def datagram(self, data: bytes, now: float) -> None:
        """See Transfer."""
        opcode = data[:2]
        if opcode == b"\0\4" and len(data) >= 4:
            if self.packets_to_record:
                self._keep(data, now)
            if self.session is not None:
                self._ack_received(data[2] << 8 | data[3], now)
        elif opcode == b"\0\5" and len(data) >= 4:
            self._error_received(data, now)
        else:
            self._context.on_stray(data, self.request.peer, now)

    def begin(self, agreed: Agreed, watchdog: Any, now: float) -> None:
        """See Transfer."""
        # The fast path looks at the packets of the listener's port only.
        if self.port is not None:
            self._cacheable = False
        super().begin(agreed, watchdog, now)
        # super().begin() may have ended the transfer, as when the first read fails.
        if self._cacheable and self._states.state is not _FINISHED:
            self._fast_path = fast_path = self._context.fast_path
            if fast_path is not None:
                request, flight = self.request, self.session.flight
                flow = self._flow = fast_path.add(request.peer, self.via, flight, self._take_ack, agreed.blksize)
                if self._chunk is not None:
                    flow.use(self._chunk)

    def _take_ack(self, head: int, now: float) -> bool:
        """Take an ACK that the fast path did not answer; see TakeACK."""
        if head >> 16 != _ACK or self._states.state is _FINISHED:
            return False
        if self.packets_to_record:
            self._keep(head.to_bytes(4), now)
        self._ack_received(head & 0xFFFF, now)
        return True

    def _ack_received(self, number: int, now: float) -> None:
        if self.earlier is not None and self._goes_on(self.earlier, number, now):
            return
        session = self.session
        # Not when the OACK is sent: a client that only wants to know the size ends the transfer after that.
        if session.state is _NEGOTIATING and self._chunk is None and self._cacheable and self._may_load(1):
            # With its frames at hand the session sends the first window at once, without FETCHING.
            self._load(1)
        self._handle(read.Input.ACK, number, now)

    def _goes_on(self, earlier: Reached, number: int, now: float) -> bool:
        """Return whether the client acknowledges a block of the transfer before this one.

        Then it has not started again: this transfer goes on from that block, or ends with an ERROR where it can't.
        A client repeats its request while a busy server does not answer, and the network may deliver the copy long
        after the client has gone on. Its ACKs are no answer to an OACK, so they would be ignored until it gives up.
        """
        first = 0 if self.session.state is _NEGOTIATING else 1
        block = advance(earlier.acked, number, earlier.sent - earlier.acked)
        if block is None or number == first == block:
            if number == first:
                self.earlier = None
            return False
        self.earlier = None
        assert self._reader is not None
        began = TransferBegun(earlier.began, self.request, self._agreed)
        # Where the number of a later block is that of the first one, either may be meant.
        if number == first or self.request.mode is not Mode.OCTET or has_changed(self._reader, began):
            self.cancel(LATE_COPY, now)
            return True
        self._abandon_pending()
        self._leave_fast_path()
        self.resumed = block
        self.begin(self._agreed, self.session.watchdog, now)
        return True

    def _chunk_of(self, first: int, last: int) -> Chunk | None:
        """Return the chunk with all of blocks *first* to *last*; None: the reader has to be called for them."""
        chunk = self._chunk
        if chunk is None or not chunk.first <= first <= chunk.last:
            if not self._cacheable or not self._may_load(first):
                return None
            chunk = self._load(first)
        return chunk if chunk is not None and last <= chunk.last else None

    def _may_load(self, block: int) -> bool:
        """Return whether the chunk with *block* may be read for this peer.

        Not for one that has only sent a request, which may be forged or a size probe, nor for one that has not proven
        that it receives what it is sent; unless the chunk is cached already.
        """
        session = self.session
        if not session.proven:
            return False
        has_acknowledged = block > 1 or bool(self._agreed.acknowledged)
        return has_acknowledged or self._context.frame_cache.contains(self._reader, self._agreed.blksize, block)

    def _load(self, block: int) -> Chunk | None:
        """Hold the chunk with *block* in place of the previous one."""
        frame_cache, seconds = self._context.frame_cache, self._context.reactor.seconds
        began = seconds()
        try:
            chunk = frame_cache.chunk(self._reader, self._agreed.blksize, block)
        except OSError:
            chunk = None  # read() of the reader meets the same error, and the peer gets an ERROR.
        except Exception as error:
            # Whatever else is raised is raised by the reader, a plugin.
            self._report_plugin_failure("backend", "read the descriptor of", error, seconds())
            chunk = None
        took = seconds() - began
        if took > BLOCKED_SECONDS:
            self._blocked("reader", self._reader, "reading the descriptor", took)
        # A file that has changed, or is too large for the cache, is not tried again for each block.
        self._cacheable = chunk is not None
        self._use_chunk(chunk)
        return chunk

    def _use_chunk(self, chunk: Chunk | None) -> None:
        frame_cache = self._context.frame_cache
        # Hold before releasing: it may be the same chunk, which must not count as unused in between.
        if chunk is not None:
            frame_cache.hold(chunk)
        if self._chunk is not None:
            frame_cache.release(self._chunk)
        self._chunk = chunk
        self.session.cached_through = chunk.last if chunk is not None else 0
        if self._flow is not None:
            self._flow.use(chunk)

    def _advance(self, now: float) -> None:
        # FETCHED may want the next blocks at once, when a window ends in another chunk or the peer has moved on
        # meanwhile.
        session = self.session
        while True:
            if session.out:
                self._send_out()
            wants = session.wants
            if wants is None or self._pending is not None:
                break
            length = session.wanted_bytes
            # Frames are made of the whole file as it was opened, so none of the wanted bytes is missing.
            if self._chunk_of(wants.first, wants.last) is not None:
                self._fetched_content = _NOTHING_FETCHED
            else:
                data = self._fetch(wants, now)
                if data is None:
                    break
                self._fetched_content = wants, data
                length = len(data)
            session.handle(read.Input.FETCHED, length, now)
        if self._states.state is not _FINISHED:
            self._settle(now)
            # handle() closed the fast path before the transition. Open it only if the next ACK needs no decision.
            if self._flow is not None and session.steady:
                self._flow.open(session)

    def _fetch(self, blocks: Blocks, now: float) -> bytes | None:
        """Return the content of *blocks*; None: it is pending, or the transfer has just failed."""
        fetched_blocks, data = self._fetched_content
        # A retransmission: an asynchronous reader must not be called again for content that we still have.
        if fetched_blocks == blocks:
            return data
        length = self.session.wanted_bytes
        if not length:
            return b""
        assert self._reader is not None
        seconds = self._context.reactor.seconds
        began = seconds()
        try:
            answer = self._reader.read((blocks.first - 1) * self._agreed.blksize, length)
            took = seconds() - began
            if took > BLOCKED_SECONDS:
                self._blocked("reader", self._reader, "read()", took)
            if type(answer) is bytes and len(answer) <= length:
                return answer
            waiting = as_deferred(answer)
            if waiting is None:
                return checked_bytes(answer, length, self._reader)
        except Exception as error:
            self._file_failed(error, now)
            return None
        self._asynchronous = True
        self.await_result(waiting, self._fetched, self._file_failed)
        return None

    def _fetched(self, answer: Any, now: float) -> None:
        try:
            data = checked_bytes(answer, self.session.wanted_bytes, self._reader)
        except Exception as error:
            self._file_failed(error, now)
            return
        self._fetched_content = self.session.wants, data
        self._handle(read.Input.FETCHED, len(data), now)

    def _send_out(self) -> None:
        out = self.session.out
        for item in out:
            if type(item) is Blocks:
                blksize = self._agreed.blksize
                blocks, content = self._fetched_content
                frames: Any
                if blocks is not None:
                    frames = frame(item, blksize, content)
                    # A synchronous reader is called again for a retransmission, so its content need not stay in memory.
                    if not self._asynchronous:
                        self._fetched_content = _NOTHING_FETCHED
                else:
                    last = item.last
                    chunk = self._chunk_of(item.first, last)
                    assert chunk is not None, "a session sends only what was fetched or is cached"
                    frames = chunk.frames(item.first, last)
                self.send(frames, blksize + 4 if item.count > 1 else 0)
            else:
                self.send(item)
        out.clear()

    def _leave_fast_path(self) -> None:
        if self._fast_path is not None and self._flow is not None:
            self._fast_path.remove(self._flow)
        self._fast_path = self._flow = None
        if self._chunk is not None:
            self._use_chunk(None)

    def _release(self) -> None:
        self._leave_fast_path()
        self._fetched_content = _NOTHING_FETCHED
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()
