"""The reception of an image: each cell of its table, and a simulation together with the session that sends."""

import hashlib
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from bootfw.frisbee.digests import Digests, DigestsError
from bootfw.frisbee.pace import Pace
from bootfw.frisbee.reception import (
    JOIN_INTERVAL,
    LONGEST_QUIET,
    OPEN_CHUNKS,
    OVERHEARD_FOR,
    QUIET,
    TABLE,
    Input,
    Reception,
    State,
)
from bootfw.frisbee.session import Input as SessionInput
from bootfw.frisbee.session import Reply, Session
from bootfw.table import IllegalInput, illegal
from bootfw.wire import frisbee
from bootfw.wire.frisbee import BLOCK_SIZE, CHUNK_SIZE, Block, Join, Join2Reply, Leave, PartialRequest, Request

SERVER, RECEIVER, OTHER_RECEIVER = "10.0.0.1", "10.0.0.11", "10.0.0.12"
CLIENT = 7
TIMEOUT = 60.0
SIZE = CHUNK_SIZE + 2 * BLOCK_SIZE + 5
"""Two chunks; the second one has three blocks, of which the last has five bytes."""


def block(chunk: int, number: int) -> Block:
    return Block(SERVER, chunk, number, bytes([chunk & 0xFF, number & 0xFF]) * (BLOCK_SIZE // 2))


def joining(stored_chunks: frozenset[int] = frozenset()) -> Reception:
    reception = Reception(RECEIVER, CLIENT, TIMEOUT, lambda order: order.reverse(), 0.0, stored_chunks)
    assert take_packets(reception) == [Join(RECEIVER, CLIENT, 2)]
    return reception


def receiving(size: int = SIZE) -> Reception:
    """The chunks are requested in ascending order."""
    reception = joining()
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, size), 1.0)
    assert reception.state is State.RECEIVING
    return reception


def complete() -> Reception:
    reception = joining()
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, 0), 1.0)
    assert reception.state is State.COMPLETE
    return reception


def failed() -> Reception:
    reception = joining()
    reception.handle(Input.TICK, None, TIMEOUT)
    assert reception.state is State.FAILED
    return reception


def take_packets(reception: Reception) -> list[Any]:
    packets = reception.out[:]
    reception.out.clear()
    return packets


def test_joining_tick_repeats_the_join_until_patience_ends() -> None:
    reception = joining()
    reception.handle(Input.TICK, None, JOIN_INTERVAL / 2)
    assert take_packets(reception) == []
    reception.handle(Input.TICK, None, JOIN_INTERVAL)
    assert (take_packets(reception), reception.deadline) == ([Join(RECEIVER, CLIENT, 2)], 2 * JOIN_INTERVAL)
    reception.handle(Input.TICK, None, TIMEOUT)
    assert (reception.state, reception.detail, reception.deadline) == (
        State.FAILED,
        "no server has answered for 60 s",
        None,
    )


def test_joining_reply_requests_the_first_chunks() -> None:
    reception = receiving()
    assert take_packets(reception) == [Request(RECEIVER, 0, 0, 1024), Request(RECEIVER, 1, 0, 3)]
    assert (reception.size, reception.chunks, reception.stored, reception.deadline) == (SIZE, 2, 0, 1.0 + QUIET)


def test_joining_reply_requests_no_chunk_that_is_stored() -> None:
    reception = joining(frozenset([0]))
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 1.0)
    assert (take_packets(reception), reception.stored) == ([Request(RECEIVER, 1, 0, 3)], 1)


def test_joining_reply_when_every_chunk_is_stored_completes() -> None:
    reception = joining(frozenset([0, 1]))
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 2.5)
    assert (reception.state, take_packets(reception), reception.deadline) == (
        State.COMPLETE,
        [Leave(RECEIVER, CLIENT, 2)],
        None,
    )


@pytest.mark.parametrize("reply", [Join2Reply(SERVER, CLIENT, 1, 512), Join2Reply(SERVER, CLIENT, 1, 1024, 4096)])
def test_joining_reply_with_another_layout_fails(reply: Join2Reply) -> None:
    reception = joining()
    reception.handle(Input.REPLY, reply, 1.0)
    assert reception.state is State.FAILED
    assert reception.detail.startswith("the server sends chunks of ")


@pytest.mark.parametrize("event", [Input.BLOCK, Input.OVERHEARD])
def test_joining_block_and_overheard_are_ignored(event: Input) -> None:
    reception = joining()
    reception.handle(event, block(0, 0), 0.1)
    assert (reception.state, reception.deadline) == (State.JOINING, JOIN_INTERVAL)


def test_receiving_reply_is_ignored() -> None:
    reception = receiving()
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, 1), 1.05)
    assert (reception.size, reception.deadline) == (SIZE, 1.0 + QUIET)


def test_receiving_block_completes_the_chunk_without_the_padding_behind_the_image() -> None:
    reception = receiving()
    for number in (1, 0, 2):
        reception.handle(Input.BLOCK, block(1, number), 1.0)
    content = b"".join(block(1, number).data for number in range(3))
    assert reception.complete == [(1, content[: SIZE - CHUNK_SIZE])]
    assert (reception.received, reception.stored) == (3, 0)


def test_receiving_block_behind_lost_ones_requests_the_lost_ones() -> None:
    reception = receiving()
    take_packets(reception)
    reception.handle(Input.BLOCK, block(1, 2), 1.05)
    assert take_packets(reception) == [PartialRequest(RECEIVER, 1, 1, 0b011)]
    assert reception.deadline == 1.05 + QUIET
    # Then the last one of these.
    reception.handle(Input.BLOCK, block(1, 1), 1.06)
    assert take_packets(reception) == [PartialRequest(RECEIVER, 1, 1, 0b001)]


def test_receiving_block_that_only_others_have_requested_is_kept() -> None:
    reception = receiving(10 * CHUNK_SIZE)
    take_packets(reception)
    reception.handle(Input.BLOCK, block(7, 1000), 1.0)
    assert (reception.received, take_packets(reception)) == (1, [])
    reception.handle(Input.BLOCK, block(7, 1023), 1.0)
    [request] = take_packets(reception)
    # It has not been requested before, so nothing is lost.
    assert (request.chunk, request.retries, request.block_map.bit_count()) == (7, 0, 1022)


@pytest.mark.parametrize("late", [block(1, 2), block(1, 5), block(2, 0), block(1 << 20, 0)])
def test_receiving_block_of_no_use_is_counted(late: Block) -> None:
    reception = receiving()
    reception.handle(Input.BLOCK, block(1, 2), 1.0)
    reception.handle(Input.BLOCK, late, 1.05)
    assert (reception.received, reception.repeated, reception.deadline) == (1, 1, 1.0 + QUIET)


def test_receiving_block_of_a_chunk_beyond_the_limit_of_open_chunks_is_left_out() -> None:
    reception = receiving(100 * CHUNK_SIZE)
    for chunk in range(50, 50 + OPEN_CHUNKS):
        reception.handle(Input.BLOCK, block(chunk, 0), 1.0)
    assert (reception.received, reception.repeated) == (OPEN_CHUNKS - 2, 2)


def test_receiving_block_of_a_chunk_that_is_not_stored_yet_is_of_no_use() -> None:
    reception = receiving()
    for number in (0, 1, 2, 0):
        reception.handle(Input.BLOCK, block(1, number), 1.0)
    assert (reception.received, reception.repeated, len(reception.complete)) == (3, 1, 1)


def test_receiving_block_ends_the_long_pauses() -> None:
    reception = receiving()
    for _ in range(3):
        reception.handle(Input.TICK, None, reception.deadline or 0.0)
    now = reception.deadline or 0.0
    reception.handle(Input.BLOCK, block(0, 0), now)
    assert reception.deadline == now + QUIET


def test_receiving_overheard_request_replaces_the_own_one() -> None:
    reception = receiving(4 * CHUNK_SIZE)
    take_packets(reception)
    reception.handle(Input.OVERHEARD, Request(OTHER_RECEIVER, 2, 0, 1024), 1.05)
    assert reception.deadline == 1.05 + QUIET
    for number in range(1024):
        reception.handle(Input.BLOCK, block(0, number), 1.1)
    assert take_packets(reception) == [Request(RECEIVER, 3, 0, 1024)]
    for number in range(1024):
        reception.handle(Input.BLOCK, block(1, number), 1.1 + OVERHEARD_FOR)
    assert take_packets(reception) == [Request(RECEIVER, 2, 0, 1024)]


def test_receiving_overheard_request_for_a_stored_or_invalid_chunk_changes_nothing() -> None:
    reception = receiving()
    for number in range(3):
        reception.handle(Input.BLOCK, block(1, number), 1.0)
    reception.complete.clear()
    reception.handle(Input.STORED, 1, 1.0)
    for chunk in (1, 2):
        reception.handle(Input.OVERHEARD, PartialRequest(OTHER_RECEIVER, chunk, 1, 1), 1.05)
    assert reception.deadline == 1.0 + QUIET


def test_receiving_stored_ends_it_after_the_last_chunk() -> None:
    reception = joining(frozenset([0]))
    reception.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 1.0)
    for number in range(3):
        reception.handle(Input.BLOCK, block(1, number), 1.0)
    take_packets(reception)
    reception.handle(Input.STORED, 1, 3.0)
    assert (reception.state, reception.stored, take_packets(reception)) == (
        State.COMPLETE,
        2,
        [Leave(RECEIVER, CLIENT, 3)],
    )


def test_receiving_rejected_requests_the_chunk_again() -> None:
    reception = receiving()
    for number in range(3):
        reception.handle(Input.BLOCK, block(1, number), 1.0)
    take_packets(reception)
    reception.handle(Input.REJECTED, 1, 1.05)
    assert (take_packets(reception), reception.deadline) == ([Request(RECEIVER, 1, 0, 3)], 1.05 + QUIET)


def test_receiving_tick_requests_what_is_missing_later_each_time() -> None:
    reception = receiving()
    reception.handle(Input.BLOCK, block(1, 0), 1.0)
    take_packets(reception)
    reception.handle(Input.TICK, None, 1.05)
    assert take_packets(reception) == []
    reception.handle(Input.TICK, None, 1.0 + QUIET)
    assert take_packets(reception) == [
        PartialRequest(RECEIVER, 0, 1, (1 << 1024) - 1),
        PartialRequest(RECEIVER, 1, 1, 0b110),
    ]
    pauses = []
    while reception.state is State.RECEIVING:
        assert reception.deadline is not None
        deadline = reception.deadline
        reception.handle(Input.TICK, None, deadline)
        pauses.append((reception.deadline or deadline) - deadline)
    assert pauses[0] == pytest.approx(3 * QUIET)
    assert max(pauses) == pytest.approx(LONGEST_QUIET)
    assert reception.detail == "the server has sent nothing for 60 s"


@pytest.mark.parametrize("new_reception", [complete, failed])
@pytest.mark.parametrize("event", Input)
def test_complete_and_failed_ignore_what_comes(new_reception: Any, event: Input) -> None:
    reception = new_reception()
    state = reception.state
    if TABLE[state][event] is illegal:
        with pytest.raises(IllegalInput):
            reception.handle(event, None, 100.0)
    else:
        reception.handle(event, None, 100.0)
    assert (reception.state, reception.deadline) == (state, None)


@pytest.mark.parametrize("event", [Input.STORED, Input.REJECTED])
def test_joining_stored_and_rejected_are_illegal(event: Input) -> None:
    with pytest.raises(IllegalInput):
        joining().handle(event, 0, 0.1)


# With the session that sends


class Lan:
    """A sender and receivers on a segment that loses packets, in virtual time."""

    def __init__(self, content: bytes, receivers: int, loss: float, seed: int) -> None:
        self.content = content
        self.random = Random(seed)
        self.loss = loss
        self.now = 0.0
        self.session = Session(len(content), Pace(100e6), 1e9, 0.0)
        self.stored: list[dict[int, bytes]] = [{} for _ in range(receivers)]
        self.receptions = [
            Reception(f"10.0.1.{number}", number, TIMEOUT, self.random.shuffle, 0.0) for number in range(receivers)
        ]
        self._events: list[Any] = []
        self._number = count()

    def run(self) -> None:
        for reception in self.receptions:
            self._after_receiver(reception)
        self._later(0.0, self._tick_sender)
        while self._events and not all(each.deadline is None for each in self.receptions):
            self.now, _, call, arguments = heappop(self._events)
            call(*arguments)

    def _later(self, at: float, call: Any, *arguments: Any) -> None:
        heappush(self._events, (max(at, self.now), next(self._number), call, arguments))

    def _arrives(self) -> bool:
        return self.random.random() >= self.loss

    def _after_receiver(self, reception: Reception) -> None:
        stored = self.stored[self.receptions.index(reception)]
        while reception.complete:
            number, content = reception.complete.pop(0)
            stored[number] = content
            reception.handle(Input.STORED, number, self.now)
        for packet in reception.out:
            assert frisbee.parse(frisbee.pack(packet)) == packet
            if self._arrives():
                self._later(self.now + 0.0002, self._to_sender, packet)
            for other in self.receptions:
                if other is not reception and isinstance(packet, Request | PartialRequest) and self._arrives():
                    self._later(self.now + 0.0002, self._to_receiver, other, Input.OVERHEARD, packet)
        reception.out.clear()
        if reception.deadline is not None:
            self._later(reception.deadline, self._tick_receiver, reception, reception.deadline)

    def _tick_receiver(self, reception: Reception, deadline: float) -> None:
        if reception.deadline == deadline:
            self._to_receiver(reception, Input.TICK, None)

    def _to_receiver(self, reception: Reception, event: Input, argument: Any) -> None:
        deadline = reception.deadline
        reception.handle(event, argument, self.now)
        if reception.out or reception.complete or reception.deadline != deadline:
            self._after_receiver(reception)

    def _to_sender(self, packet: Any) -> None:
        match packet:
            case Join():
                self.session.handle(SessionInput.JOIN, packet, self.now)
                for out in self.session.out:
                    assert isinstance(out, Reply)
                    reception = next(each for each in self.receptions if each.source == out.peer)
                    reply = Join2Reply(SERVER, packet.client, len(self.content))
                    if self._arrives():
                        self._later(self.now + 0.0002, self._to_receiver, reception, Input.REPLY, reply)
                self.session.out.clear()
            case Leave():
                self.session.handle(SessionInput.LEAVE, packet, self.now)
            case _:
                self.session.handle(SessionInput.REQUEST, packet, self.now)
                self._tick_sender()

    def _tick_sender(self) -> None:
        session = self.session
        if session.deadline is not None and session.blocks_wanted and session.deadline <= self.now:
            session.handle(SessionInput.TICK, None, self.now)
            burst = session.wants
            assert burst is not None
            for number in burst.blocks:
                start = burst.chunk * CHUNK_SIZE + number * BLOCK_SIZE
                data = self.content[start : start + BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0")
                packet = Block(SERVER, burst.chunk, number, data)
                for reception in self.receptions:
                    if self._arrives():
                        self._later(self.now + 0.0002, self._to_receiver, reception, Input.BLOCK, packet)
            session.handle(SessionInput.READ, None, self.now)
        if session.deadline is not None and session.blocks_wanted:
            self._later(session.deadline, self._tick_sender)


@settings(max_examples=8, deadline=None, phases=[Phase.generate])
@given(
    seed=st.integers(0, 1 << 32),
    size=st.sampled_from([1, BLOCK_SIZE, CHUNK_SIZE - 1, CHUNK_SIZE, SIZE, 3 * CHUNK_SIZE + 1]),
    receivers=st.integers(1, 3),
    loss=st.sampled_from([0.0, 0.02, 0.2]),
)
def test_every_receiver_gets_the_image(seed: int, size: int, receivers: int, loss: float) -> None:
    lan = Lan(Random(seed).randbytes(size), receivers, loss, seed)
    lan.run()
    for reception, stored in zip(lan.receptions, lan.stored, strict=True):
        assert (reception.state, reception.detail) == (State.COMPLETE, "")
        assert b"".join(stored[number] for number in sorted(stored)) == lan.content
        assert reception.received == frisbee.blocks_of(size)
    if not loss:
        assert lan.session.blocks_sent == frisbee.blocks_of(size)


# Digests


def test_digests_of_a_file_are_those_of_its_chunks() -> None:
    content = bytes(CHUNK_SIZE) + b"end"
    parts = [content[:10], content[10:CHUNK_SIZE], content[CHUNK_SIZE:], b""]
    digests = Digests.of(lambda length: parts.pop(0) if parts else b"")
    assert digests.size == len(content)
    assert digests.chunks == (hashlib.sha256(bytes(CHUNK_SIZE)).digest(), hashlib.sha256(b"end").digest())
    assert Digests.parse(digests.dump()) == digests
    assert digests.matches(1, b"end")
    assert not digests.matches(0, b"end")
    assert not digests.matches(2, b"end")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"algorithm": "md5", "chunk-size": 1048576, "size": 0, "chunks": []}',
        b'{"algorithm": "sha256", "chunk-size": 1048576, "size": 1, "chunks": []}',
        b'{"algorithm": "sha256", "chunk-size": 1048576, "size": "1", "chunks": []}',
        b'{"algorithm": "sha256", "chunk-size": 1048576, "size": 1, "chunks": ["00"]}',
        b'{"algorithm": "sha256", "chunk-size": 1048576, "size": 1, "chunks": [7]}',
    ],
)
def test_invalid_files_of_digests_are_errors(text: bytes) -> None:
    with pytest.raises(DigestsError):
        Digests.parse(text)


def test_digests_of_nothing() -> None:
    assert Digests.parse(Digests.of(lambda length: b"").dump()) == Digests(0, ())
