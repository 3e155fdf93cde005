"""The fast path: an ACK for everything in flight is answered from framed memory, before the protocol sees it.

It must equal what the table does with that ACK: ReadSession._acked, then _send_next, for a whole window. In order,

* ``acked`` becomes ``sent``, which becomes the end of the next window; ``heard_at`` and ``sent_at`` become now;
* the watchdog learns nothing, because the round trip lies within ``unremarkable``; it is the latest one;
* the deadline becomes now + ``wait``, which is the usual wait, as ``ReadSession.steady`` demands.

FastPath.first_look() has this inlined for whole windows of full blocks, and Flow.send_tail() for the short block behind
them, of a transfer without windows. Nothing else is decided here. The state is the session's own Flight, of
which ``acked``, ``heard_at`` and ``deadline`` follow from the other fields while it is open: they are not written here.
``tests/net/test_fastpath.py`` compares a port with and without it over random sequences.

Every other datagram is left to the protocol; the table then closes the fast path (``Flight.limit``), and the transfer
opens it again when the session is steady.
"""

from collections.abc import Callable
from struct import Struct
from typing import Any

from bootfw.net.tftp.framecache import Chunk
from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import Destination, control_message
from bootfw.net.udp.sender import LARGEST_RUN, NOT_SEGMENTED, SEGMENTATION, SEGMENTS, Controls, Sender
from bootfw.tftp.flight import CLOSED, Flight
from bootfw.tftp.read import ReadSession
from bootfw.values import Address, Via

TakeACK = Callable[[int, float], bool]
"""Called with (first four bytes of a datagram, big-endian, now). Returns False if the transfer can't use it."""

_ACK = 4 << 16  # the opcode, where the first four bytes of a datagram are one number
_MIN_ROUND_TRIP = 1e-9  # seconds; the second of two ACKs in one batch cannot answer what the first made us send

_MOST_UNUSED = 1024  # prepared messages that are kept for later transfers, about 500 bytes each

_segment = Struct("@H").pack


class Flow:
    """One transfer on the fast path: the prepared message to its peer, and the frames that it sends from.

    :param prepared: the message to use; no other flow uses it.
    :param flight: the state of the session, shared with it.
    :param take: called with an ACK that the fast path leaves to the session.
    :param blksize: bytes of a block.
    """

    __slots__ = (
        "_controls",
        "_destination",
        "_segmented",
        "chunk",
        "flight",
        "frame_base",
        "header",
        "key",
        "last_full",
        "prepared",
        "stride",
        "take",
        "vector",
    )

    def __init__(
        self,
        prepared: mmsg.PreparedMessage,
        destination: Destination,
        controls: Controls,
        flight: Flight,
        take: TakeACK,
        blksize: int,
    ) -> None:
        self.stride = blksize + 4
        windowsize = flight.windowsize
        control = controls[1]
        if windowsize > 1:
            control += control_message(*SEGMENTATION, _segment(self.stride))
        prepared.use(destination.raw, control)
        # sendmmsg(2) reads the address and length of the data from `vector` during the call. These two words are all
        # that changes from one window to the next, so a window costs no allocation.
        self.prepared, self.header, self.vector = prepared, prepared.header, prepared.vector
        self.vector[1] = self.stride * windowsize
        self.key = destination.key
        self.flight = flight
        self.take = take
        self._destination = destination
        self._controls = controls
        self._segmented = windowsize <= SEGMENTS and self.stride * windowsize <= LARGEST_RUN
        """A whole window can leave as one message."""
        self.chunk: Chunk | None = None
        """The chunk to send from. The reference keeps the memory alive that ``frame_base`` points into."""
        self.frame_base = 0
        """Where frame 1 would be if the chunk began there: frame n + 1 is at ``frame_base + n * stride``."""
        self.last_full = -1
        """The last full block, if the short block behind it may be sent on the fast path, too; -1: it may not."""

    def use(self, chunk: Chunk | None) -> None:
        """Send from *chunk* from now on. The fast path stays closed until open()."""
        # Close first: the limit of the old chunk with the frame base of the new one would send memory outside of the
        # chunk to the client.
        self.flight.close()
        self.chunk, self.last_full = chunk, -1
        if chunk is not None:
            self.frame_base = chunk.address - (chunk.first - 1) * self.stride

    def open(self, session: ReadSession) -> None:
        """Answer ACKs from now on, up to the last whole window of full blocks in the chunk. *session* is steady."""
        chunk, flight = self.chunk, self.flight
        if chunk is None or not self._segmented:
            return
        # The highest `sent` behind which the chunk still has a whole window of full blocks.
        limit = chunk.last_full - flight.windowsize
        if chunk.first - 1 <= flight.sent <= limit:
            min_round_trip, flight.max_round_trip = session.ignored_round_trips
            flight.min_round_trip = max(min_round_trip, _MIN_ROUND_TRIP)
            flight.limit = limit
            if flight.windowsize == 1 and chunk.last > chunk.last_full:
                self.last_full = chunk.last_full

    def send_tail(self, now: float) -> bool:
        """Prepare the short last block, in answer to the ACK of all full blocks. Returns False if the session must take
        that ACK, as the watchdog has to learn its round trip."""
        flight, chunk = self.flight, self.chunk
        waited = now - flight.sent_at
        if flight.limit == CLOSED or not flight.min_round_trip <= waited <= flight.max_round_trip:
            return False
        assert chunk is not None
        # The length is not set back: this is the last datagram of the file, and the next flow of the message sets its
        # own.
        self.vector[0] = self.frame_base + flight.sent * self.stride
        self.vector[1] = len(chunk.view) - (chunk.last - chunk.first) * self.stride
        flight.sent = chunk.last
        flight.sent_at = now
        flight.round_trip = waited
        return True

    def send_unsegmented(self, sender: Sender) -> None:
        """Send the latest window block by block, since the kernel can't send it as one message; do so from now on."""
        flight, chunk = self.flight, self.chunk
        flight.close()
        self._segmented = False
        assert chunk is not None
        run = chunk.frames(flight.acked + 1, flight.sent)
        sender.send_run(run, self._destination, self._controls, self.stride)


class FastPath:
    """Answers ACKs for the transfers of one port, before the protocol sees them. Set as the port's ``first_look``.

    :param seconds: the clock.
    :param sender: of the port.
    """

    def __init__(self, seconds: Callable[[], float], sender: Sender) -> None:
        self._seconds = seconds
        self._sender = sender
        self._flows: dict[bytes | int, Flow] = {}
        """By Destination.key of the peer: one dictionary lookup for each datagram that arrives."""
        self._batch_sender = mmsg.BatchSender()
        self._unused: list[mmsg.PreparedMessage] = []
        """Messages of transfers that have ended, for those that begin."""

    def __bool__(self) -> bool:
        """Whether a transfer may get an ACK soon, so that the port should poll for it."""
        return bool(self._flows)

    def add(self, peer: Address, via: Via | None, flight: Flight, take: TakeACK, blksize: int) -> Flow:
        """Add a transfer; *via* as for write_via()."""
        destination, controls = self._sender.route(peer, via)
        prepared = self._unused.pop() if self._unused else mmsg.PreparedMessage()
        flow = self._flows[destination.key] = Flow(prepared, destination, controls, flight, take, blksize)
        return flow

    def remove(self, flow: Flow) -> None:
        """Remove a transfer that has ended."""
        # A new request from the same port may have added another flow under this key already.
        if self._flows.get(flow.key) is flow:
            del self._flows[flow.key]
            if len(self._unused) < _MOST_UNUSED:
                self._unused.append(flow.prepared)

    def first_look(self, inbox: mmsg.Inbox, count: int) -> list[int]:
        """Answer what can be answered of the first *count* slots. Returns the other slots, in order."""
        now = self._seconds()
        find = self._flows.get
        headers: list[bytes] = []
        unhandled: list[tuple[int, bytes | int, Flow | None, int]] = []
        sent_blocks = 0
        for slot, key, length, head in inbox.heads(count):
            flow = find(key)
            if flow is None:
                unhandled.append((slot, key, None, head))
                continue
            flight = flow.flight
            sent = flight.sent
            # One comparison for opcode and block number: an ACK of everything in flight. A late, partial or repeated
            # ACK, an ERROR and a longer datagram are left to the table.
            if head == _ACK | sent & 0xFFFF and sent <= flight.limit and length == 4:
                waited = now - flight.sent_at
                # Another round trip would change the watchdog's wait, so the session has to see it. Within the bounds
                # the wait stays, and the deadline follows from sent_at.
                if flight.min_round_trip <= waited <= flight.max_round_trip:
                    # The cell (AWAITING_ACK, ACK), inlined; see the top of this module.
                    flow.vector[0] = flow.frame_base + sent * flow.stride
                    windowsize = flight.windowsize
                    flight.sent = sent + windowsize
                    flight.sent_at = now
                    flight.round_trip = waited
                    sent_blocks += windowsize
                    headers.append(flow.header)
                    continue
            elif sent == flow.last_full and head == _ACK | sent & 0xFFFF and length == 4 and flow.send_tail(now):
                sent_blocks += 1
                headers.append(flow.header)
                continue
            # Closed at once, so that a later ACK of the same peer in this batch does not overtake this datagram.
            flight.close()
            unhandled.append((slot, key, flow if length == 4 else None, head))
        if headers:
            counters = self._sender.counters
            counters.received += len(headers)
            counters.sent += sent_blocks
            # Each flow is in it at most once, so no vector is overwritten before sendmmsg(2) has read it: a second ACK
            # in this batch has a round trip of 0, less than _MIN_ROUND_TRIP.
            failed = self._batch_sender.send(self._sender.descriptor, headers)
            if failed:
                # Errors are rare, so the owners of the headers are looked up only now. Each flow has a header object of
                # its own.
                flows = [flow for _, key, _, _ in inbox.heads(count) if (flow := find(key)) is not None]
                owners = {id(flow.header): flow for flow in flows}
                for position, code in failed:
                    self._send_failed(owners[id(headers[position])], code)
        return self._dispatch(unhandled, now) if unhandled else []

    def _dispatch(self, unhandled: "list[tuple[int, bytes | int, Flow | None, int]]", now: float) -> list[int]:
        """Give ACKs to their transfers, without another lookup of the peer. Returns the slots for the protocol.

        Once a datagram of a peer goes to the protocol, so do those behind it: its datagrams stay in order.
        """
        slots: list[int] = []
        delivered: set[bytes | int] = set()
        for slot, key, flow, head in unhandled:
            if flow is not None and key not in delivered and flow.take(head, now):
                self._sender.counters.received += 1
            else:
                delivered.add(key)
                slots.append(slot)
        return slots

    def _send_failed(self, flow: Flow, code: int) -> None:
        windowsize = flow.flight.windowsize
        self._sender.counters.sent -= windowsize
        # No block of the window has left. Send them one by one now; the retransmission timer would take a second.
        if windowsize > 1 and code in NOT_SEGMENTED:
            flow.send_unsegmented(self._sender)
        else:
            self._sender.lost(code, windowsize)


def attach(port: Any, seconds: Callable[[], float]) -> FastPath | None:
    """Set the ``first_look`` of *port* and return it; None: the port has no such hook."""
    if not hasattr(port, "first_look"):
        return None
    fast_path = port.first_look = FastPath(seconds, port.sender)
    return fast_path
