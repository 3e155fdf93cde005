"""The defects of python-tx-tftp, by their names: LP #1155556 and D1 to D8.

Their parts that need an adapter (sockets, logs, several sessions) are tested with the adapters. D2, uploads of more
than 65535 blocks, is case 11 in test_cases.py.
"""

from typing import Any

import pytest
from driving import OACK, Reading, Writing, numbered

from bootfw.errors import WireError
from bootfw.tftp import read, write
from bootfw.tftp.negotiation import Limits, negotiate
from bootfw.tftp.read import Input, State
from bootfw.values import Agreed, Mode, Outcome
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.watchdogs.exponential import Exponential
from bootfw.watchdogs.fixed import Fixed
from bootfw.watchdogs.hpa import HPA
from bootfw.wire import tftp as wire
from bootfw.wire.tftp import Ack, Data, OptionAck

POLICIES = [(Fixed([1, 3, 7]), 11.0), (HPA(), 6.0), (Exponential(), 60.0), (Adaptive(), 63.0)]
AGREED = Agreed(8, acknowledged=OACK)
CONTENT = numbered(20)


def silent_until(policy: Any, at: float) -> Reading:
    """The OACK has been sent, and its client sends nothing before *at*."""
    reading = Reading(CONTENT, AGREED, policy.begin(AGREED))
    assert reading.take() == [OptionAck(OACK)]
    while reading.session.deadline is not None and reading.session.deadline <= at:
        reading.tick()
    return reading


@pytest.mark.parametrize("at", [0.5, 2.5, 4.5, 4.78, 5.99, 6.0, 10.5, 50.0])
@pytest.mark.parametrize(("policy", "patience"), POLICIES, ids=["fixed", "hpa", "exponential", "adaptive"])
def test_lp_1155556_oack_answered_late(policy: Any, patience: float, at: float) -> None:
    reading = silent_until(policy, at)
    if at < patience:
        assert reading.ack(0, at=at) == [Data(1, CONTENT[:8])]
        assert reading.ack(1) == [Data(2, CONTENT[8:16])]
        assert reading.ack(2) == [Data(3, CONTENT[16:])]
        reading.ack(3)
        assert reading.session.outcome is Outcome.COMPLETE
        assert reading.session.bytes_transferred == len(CONTENT)
    else:
        assert reading.session.outcome is Outcome.TIMED_OUT
        assert reading.ack(0, at=at) == []


@pytest.mark.parametrize(("policy", "patience"), POLICIES, ids=["fixed", "hpa", "exponential", "adaptive"])
def test_lp_1155556_nothing_is_sent_after_giving_up(policy: Any, patience: float) -> None:
    reading = silent_until(policy, 1e3)
    assert reading.now == patience
    assert reading.session.state is State.CLOSED
    assert reading.session.outcome is Outcome.TIMED_OUT
    reading.take()
    for event, argument in [
        (Input.ACK, 0),
        (Input.ACK, 1),
        (Input.TICK, None),
        (Input.REQUESTED, None),
        (Input.PEER_ERROR, (0, "")),
        (Input.CANCEL, "stop"),
        (Input.REPLACED, None),
        (Input.FETCHED, 8),
    ]:
        assert reading.give(event, argument, at=patience + 1) == []
        assert reading.session.outcome is Outcome.TIMED_OUT
    assert silent_until(policy, 0.5).ack(0, at=0.5) == [Data(1, CONTENT[:8])], "a new request works"


def test_lp_1155556_answer_and_deadline_at_the_same_time() -> None:
    for first in (Input.ACK, Input.TICK):
        reading = silent_until(Fixed([1, 3, 7]), 10.9)
        assert reading.session.deadline == 11.0
        reading.give(first, 0 if first is Input.ACK else None, at=11.0)
        outcome = reading.session.outcome
        reading.give(Input.ACK, 0, at=11.0)
        reading.give(Input.TICK, at=11.0)
        assert reading.session.outcome is outcome
        assert outcome is (None if first is Input.ACK else Outcome.TIMED_OUT)


def test_d1_an_upload_with_large_blocks_is_not_cut_off() -> None:
    agreed = negotiate([("blksize", "8192")], write=True, mode=Mode.OCTET, size=None, limits=Limits(8192, 1))
    writing = Writing(agreed)
    assert writing.take() == [OptionAck((("blksize", "8192"),))]
    assert writing.data(1, b"x" * 8192) == [Ack(1)]
    assert not writing.finished, "a full block is not the last"
    assert writing.data(2, b"y") == [Ack(2)]
    assert writing.content == b"x" * 8192 + b"y"


def test_d3_a_repeated_ack_just_after_the_roll_over_is_ignored() -> None:
    content = bytes(8 * 65_537)
    reading = Reading(content, Agreed(8), resumed=65_500)
    for block in range(65_501, 65_537):
        reading.ack(block % 65_536)
    assert reading.session.acked == 65_536
    assert [reading.ack(65_535) for _ in range(3)] == [[], [], []]
    assert reading.session.state is State.AWAITING_ACK
    reading.ack(1)
    reading.ack(2)
    assert reading.session.outcome is Outcome.COMPLETE


def test_d4_unknown_options_alone_bring_no_empty_oack() -> None:
    options = (("multicast", ""), ("unknown", "1"))
    agreed = negotiate(options, write=False, mode=Mode.OCTET, size=20, limits=Limits(1468, 64))
    assert Reading(b"all", agreed).take() == [Data(1, b"all")]
    agreed = negotiate(options, write=True, mode=Mode.OCTET, size=None, limits=Limits(1468, 64))
    assert Writing(agreed).take() == [Ack(0)]


def test_d5_an_error_while_a_read_is_in_flight() -> None:
    reading = Reading(CONTENT, Agreed(8), lazy=True)
    assert reading.give(Input.PEER_ERROR, (0, "gone")) == []
    assert reading.session.wants is None
    assert reading.give(Input.FETCHED, 8) == [], "the reader answers all the same"
    assert reading.session.outcome is Outcome.STOPPED_BY_PEER


def test_d5_an_error_while_a_write_is_in_flight() -> None:
    writing = Writing(Agreed(8), lazy=True)
    writing.data(1, CONTENT[:8])
    writing.take()
    assert writing.give(write.Input.PEER_ERROR, (0, "gone")) == []
    assert writing.session.stores is None
    assert writing.give(write.Input.STORED) == []
    assert writing.session.outcome is Outcome.STOPPED_BY_PEER


def test_d6_the_same_request_twice_is_one_transfer() -> None:
    for agreed, opening in ((AGREED, OptionAck(OACK)), (Agreed(8), Data(1, CONTENT[:8]))):
        reading = Reading(CONTENT, agreed)
        assert reading.take() == [opening]
        assert reading.give(read.Input.REQUESTED) == [opening]


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0\0", b"\0\1", b"\0\1f\0", b"\0\x09rest", b"\0\3\0", b"\xff" * 40, b"\0\1noterminator"]
)
def test_d7_a_malformed_packet_raises_a_wire_error(data: bytes) -> None:
    with pytest.raises(WireError):
        wire.parse(data)


def test_d7_a_request_with_a_repeated_option_and_an_odd_field_is_parsed() -> None:
    packet = wire.parse(b"\0\1f\0octet\0blksize\x00600\0blksize\x00700\0odd\0")
    assert packet == wire.Request(False, "f", "octet", (("blksize", "600"),))


def test_d8_the_last_ack_is_not_repeated_by_a_timer() -> None:
    writing = Writing(Agreed(8))
    writing.take()
    assert writing.data(1, b"end") == [Ack(1)]
    while writing.session.deadline is not None:
        assert writing.tick() == []
    assert writing.session.outcome is Outcome.COMPLETE
    assert writing.session.retransmitted == 0
