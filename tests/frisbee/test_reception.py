"""The session that receives an image: each cell of its table, and a model with the session that sends."""

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
from bootfw.frisbee.session import Input as Sending
from bootfw.frisbee.session import Reply, Session
from bootfw.table import IllegalInput, illegal
from bootfw.wire import frisbee
from bootfw.wire.frisbee import BLOCK_SIZE, CHUNK_SIZE, Block, Join, Join2Reply, Leave, PartialRequest, Request

SERVER, OWN, OTHER = "10.0.0.1", "10.0.0.11", "10.0.0.12"
CLIENT = 7
PATIENCE = 60.0
SIZE = CHUNK_SIZE + 2 * BLOCK_SIZE + 5
"""Two chunks; the second one has three blocks, of which the last has five bytes."""


def block(chunk: int, number: int) -> Block:
    return Block(SERVER, chunk, number, bytes([chunk & 0xFF, number & 0xFF]) * (BLOCK_SIZE // 2))


def joining(have: frozenset[int] = frozenset()) -> Reception:
    made = Reception(OWN, CLIENT, PATIENCE, lambda order: order.reverse(), 0.0, have)
    assert taken(made) == [Join(OWN, CLIENT, 2)]
    return made


def receiving(size: int = SIZE) -> Reception:
    """The chunks are requested in ascending order."""
    made = joining()
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, size), 1.0)
    assert made.state is State.RECEIVING
    return made


def complete() -> Reception:
    made = joining()
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, 0), 1.0)
    assert made.state is State.COMPLETE
    return made


def failed() -> Reception:
    made = joining()
    made.handle(Input.TICK, None, PATIENCE)
    assert made.state is State.FAILED
    return made


def taken(reception: Reception) -> list[Any]:
    out = reception.out[:]
    reception.out.clear()
    return out


def test_joining_tick_repeats_the_join_until_patience_ends() -> None:
    made = joining()
    made.handle(Input.TICK, None, JOIN_INTERVAL / 2)
    assert taken(made) == []
    made.handle(Input.TICK, None, JOIN_INTERVAL)
    assert (taken(made), made.deadline) == ([Join(OWN, CLIENT, 2)], 2 * JOIN_INTERVAL)
    made.handle(Input.TICK, None, PATIENCE)
    assert (made.state, made.detail, made.deadline) == (State.FAILED, "no server has answered for 60 s", None)


def test_joining_reply_requests_the_first_chunks() -> None:
    made = receiving()
    assert taken(made) == [Request(OWN, 0, 0, 1024), Request(OWN, 1, 0, 3)]
    assert (made.size, made.chunks, made.stored, made.deadline) == (SIZE, 2, 0, 1.0 + QUIET)


def test_joining_reply_leaves_out_what_is_there() -> None:
    made = joining(frozenset([0]))
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 1.0)
    assert (taken(made), made.stored) == ([Request(OWN, 1, 0, 3)], 1)


def test_joining_reply_when_everything_is_there_ends_it() -> None:
    made = joining(frozenset([0, 1]))
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 2.5)
    assert (made.state, taken(made), made.deadline) == (State.COMPLETE, [Leave(OWN, CLIENT, 2)], None)


@pytest.mark.parametrize("reply", [Join2Reply(SERVER, CLIENT, 1, 512), Join2Reply(SERVER, CLIENT, 1, 1024, 4096)])
def test_joining_reply_with_another_layout_fails(reply: Join2Reply) -> None:
    made = joining()
    made.handle(Input.REPLY, reply, 1.0)
    assert made.state is State.FAILED
    assert made.detail.startswith("the server sends chunks of ")


@pytest.mark.parametrize("event", [Input.BLOCK, Input.OVERHEARD])
def test_joining_block_and_overheard_are_ignored(event: Input) -> None:
    made = joining()
    made.handle(event, block(0, 0), 0.1)
    assert (made.state, made.deadline) == (State.JOINING, JOIN_INTERVAL)


def test_receiving_reply_is_ignored() -> None:
    made = receiving()
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, 1), 1.05)
    assert (made.size, made.deadline) == (SIZE, 1.0 + QUIET)


def test_receiving_block_completes_the_chunk_without_what_follows_the_image() -> None:
    made = receiving()
    for number in (1, 0, 2):
        made.handle(Input.BLOCK, block(1, number), 1.0)
    content = b"".join(block(1, number).data for number in range(3))
    assert made.complete == [(1, content[: SIZE - CHUNK_SIZE])]
    assert (made.received, made.stored) == (3, 0)


def test_receiving_block_after_which_others_are_lost_requests_these() -> None:
    made = receiving()
    taken(made)
    made.handle(Input.BLOCK, block(1, 2), 1.05)
    assert taken(made) == [PartialRequest(OWN, 1, 1, 0b011)]
    assert made.deadline == 1.05 + QUIET
    # Of these the last one.
    made.handle(Input.BLOCK, block(1, 1), 1.06)
    assert taken(made) == [PartialRequest(OWN, 1, 1, 0b001)]


def test_receiving_block_that_only_others_have_requested_is_kept() -> None:
    made = receiving(10 * CHUNK_SIZE)
    taken(made)
    made.handle(Input.BLOCK, block(7, 1000), 1.0)
    assert (made.received, taken(made)) == (1, [])
    made.handle(Input.BLOCK, block(7, 1023), 1.0)
    [request] = taken(made)
    # It has not been requested before, so nothing is lost.
    assert (request.chunk, request.retries, request.block_map.bit_count()) == (7, 0, 1022)


@pytest.mark.parametrize("late", [block(1, 2), block(1, 5), block(2, 0), block(1 << 20, 0)])
def test_receiving_block_of_no_use_is_counted(late: Block) -> None:
    made = receiving()
    made.handle(Input.BLOCK, block(1, 2), 1.0)
    made.handle(Input.BLOCK, late, 1.05)
    assert (made.received, made.repeated, made.deadline) == (1, 1, 1.0 + QUIET)


def test_receiving_block_of_more_chunks_than_it_collects_is_left_out() -> None:
    made = receiving(100 * CHUNK_SIZE)
    for chunk in range(50, 50 + OPEN_CHUNKS):
        made.handle(Input.BLOCK, block(chunk, 0), 1.0)
    assert (made.received, made.repeated) == (OPEN_CHUNKS - 2, 2)


def test_receiving_block_of_a_chunk_that_is_not_stored_yet_is_of_no_use() -> None:
    made = receiving()
    for number in (0, 1, 2, 0):
        made.handle(Input.BLOCK, block(1, number), 1.0)
    assert (made.received, made.repeated, len(made.complete)) == (3, 1, 1)


def test_receiving_block_ends_the_long_pauses() -> None:
    made = receiving()
    for _ in range(3):
        made.handle(Input.TICK, None, made.deadline or 0.0)
    now = made.deadline or 0.0
    made.handle(Input.BLOCK, block(0, 0), now)
    assert made.deadline == now + QUIET


def test_receiving_overheard_request_stands_for_our_own() -> None:
    made = receiving(4 * CHUNK_SIZE)
    taken(made)
    made.handle(Input.OVERHEARD, Request(OTHER, 2, 0, 1024), 1.05)
    assert made.deadline == 1.05 + QUIET
    for number in range(1024):
        made.handle(Input.BLOCK, block(0, number), 1.1)
    assert taken(made) == [Request(OWN, 3, 0, 1024)]
    for number in range(1024):
        made.handle(Input.BLOCK, block(1, number), 1.1 + OVERHEARD_FOR)
    assert taken(made) == [Request(OWN, 2, 0, 1024)]


def test_receiving_overheard_request_for_what_is_stored_or_not_there_changes_nothing() -> None:
    made = receiving()
    for number in range(3):
        made.handle(Input.BLOCK, block(1, number), 1.0)
    made.complete.clear()
    made.handle(Input.STORED, 1, 1.0)
    for chunk in (1, 2):
        made.handle(Input.OVERHEARD, PartialRequest(OTHER, chunk, 1, 1), 1.05)
    assert made.deadline == 1.0 + QUIET


def test_receiving_stored_ends_it_after_the_last_chunk() -> None:
    made = joining(frozenset([0]))
    made.handle(Input.REPLY, Join2Reply(SERVER, CLIENT, SIZE), 1.0)
    for number in range(3):
        made.handle(Input.BLOCK, block(1, number), 1.0)
    taken(made)
    made.handle(Input.STORED, 1, 3.0)
    assert (made.state, made.stored, taken(made)) == (State.COMPLETE, 2, [Leave(OWN, CLIENT, 3)])


def test_receiving_rejected_requests_the_chunk_again() -> None:
    made = receiving()
    for number in range(3):
        made.handle(Input.BLOCK, block(1, number), 1.0)
    taken(made)
    made.handle(Input.REJECTED, 1, 1.05)
    assert (taken(made), made.deadline) == ([Request(OWN, 1, 0, 3)], 1.05 + QUIET)


def test_receiving_tick_requests_what_is_missing_later_each_time() -> None:
    made = receiving()
    made.handle(Input.BLOCK, block(1, 0), 1.0)
    taken(made)
    made.handle(Input.TICK, None, 1.05)
    assert taken(made) == []
    made.handle(Input.TICK, None, 1.0 + QUIET)
    assert taken(made) == [PartialRequest(OWN, 0, 1, (1 << 1024) - 1), PartialRequest(OWN, 1, 1, 0b110)]
    pauses = []
    while made.state is State.RECEIVING:
        assert made.deadline is not None
        before = made.deadline
        made.handle(Input.TICK, None, before)
        pauses.append((made.deadline or before) - before)
    assert pauses[0] == pytest.approx(3 * QUIET)
    assert max(pauses) == pytest.approx(LONGEST_QUIET)
    assert made.detail == "the server has sent nothing for 60 s"


@pytest.mark.parametrize("make", [complete, failed])
@pytest.mark.parametrize("event", Input)
def test_complete_and_failed_ignore_what_comes(make: Any, event: Input) -> None:
    made = make()
    state = made.state
    if TABLE[state][event] is illegal:
        with pytest.raises(IllegalInput):
            made.handle(event, None, 100.0)
    else:
        made.handle(event, None, 100.0)
    assert (made.state, made.deadline) == (state, None)


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
            Reception(f"10.0.1.{number}", number, PATIENCE, self.random.shuffle, 0.0) for number in range(receivers)
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
        before = reception.deadline
        reception.handle(event, argument, self.now)
        if reception.out or reception.complete or reception.deadline != before:
            self._after_receiver(reception)

    def _to_sender(self, packet: Any) -> None:
        match packet:
            case Join():
                self.session.handle(Sending.JOIN, packet, self.now)
                for out in self.session.out:
                    assert isinstance(out, Reply)
                    reception = next(each for each in self.receptions if each.source == out.peer)
                    reply = Join2Reply(SERVER, packet.client, len(self.content))
                    if self._arrives():
                        self._later(self.now + 0.0002, self._to_receiver, reception, Input.REPLY, reply)
                self.session.out.clear()
            case Leave():
                self.session.handle(Sending.LEAVE, packet, self.now)
            case _:
                self.session.handle(Sending.REQUEST, packet, self.now)
                self._tick_sender()

    def _tick_sender(self) -> None:
        session = self.session
        if session.deadline is not None and session.blocks_wanted and session.deadline <= self.now:
            session.handle(Sending.TICK, None, self.now)
            burst = session.wants
            assert burst is not None
            for number in burst.blocks:
                start = burst.chunk * CHUNK_SIZE + number * BLOCK_SIZE
                data = self.content[start : start + BLOCK_SIZE].ljust(BLOCK_SIZE, b"\0")
                packet = Block(SERVER, burst.chunk, number, data)
                for reception in self.receptions:
                    if self._arrives():
                        self._later(self.now + 0.0002, self._to_receiver, reception, Input.BLOCK, packet)
            session.handle(Sending.READ, None, self.now)
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
def test_what_is_no_file_of_digests(text: bytes) -> None:
    with pytest.raises(DigestsError):
        Digests.parse(text)


def test_digests_of_nothing() -> None:
    assert Digests.parse(Digests.of(lambda length: b"").dump()) == Digests(0, ())
