"""The session that sends to a multicast group: every cell of its table has a test that is named after it."""

from collections.abc import Callable
from typing import cast

import pytest
from driving import Waits
from multicasting import ADDRESS, Multicasting, oack

from bootfw.errors import TransferError
from bootfw.table import IllegalInput
from bootfw.tftp.multicast import MASTER_SILENCE, MOST_SILENCES, Input, Member, MulticastSession, State
from bootfw.tftp.retransmit import CLIENT_TIMEOUT
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import Data, Error

DATA = {number: Data(number, Multicasting().content[8 * number - 8 : 8 * number]) for number in (1, 2, 3)}
"""The file has three blocks, the last of four bytes."""

StateFactory = Callable[[], tuple[Multicasting, Member, Member]]

LONG_WAITS = Waits((5.0, 5.0, 5.0, 5.0))
"""Longer than MASTER_SILENCE."""


def appointing(lazy: bool = False) -> tuple[Multicasting, Member, Member]:
    """Two clients have joined, and the first one is to be the master."""
    group = Multicasting(lazy=lazy)
    first, sent = group.join("first")
    assert sent == [("first", oack(1))]
    second, sent = group.join("second")
    assert sent == [("second", oack(0))]
    assert group.session.state is State.APPOINTING
    return group, first, second


def awaiting_ack() -> tuple[Multicasting, Member, Member]:
    """Block 1 is sent, at 0.25."""
    group, first, second = appointing()
    assert group.ack(first, 0, at=0.25) == [("group", DATA[1])]
    assert group.session.state is State.AWAITING_ACK
    return group, first, second


def fetching() -> tuple[Multicasting, Member, Member]:
    """Block 1 is being read."""
    group, first, second = appointing(lazy=True)
    assert group.ack(first, 0) == []
    assert group.session.state is State.FETCHING
    assert group.session.wanted == (0, 8)
    return group, first, second


def idle() -> tuple[Multicasting, Member, Member]:
    """Both have the file."""
    group, first, second = appointing()
    group.ack(first, 3)
    group.ack(second, 3)
    assert group.session.state is State.IDLE
    return group, first, second


def one_client() -> tuple[Multicasting, Member]:
    group = Multicasting()
    return group, group.join("first")[0]


def samples(member: Member) -> list[float | None]:
    """The round trips that the client's watchdog has learned."""
    return cast(Waits, member.watchdog).samples


ANY_STATE = pytest.mark.parametrize("new_group", [appointing, fetching, awaiting_ack])


# IDLE


def test_idle_joined_makes_the_client_the_master() -> None:
    group = Multicasting()
    member, sent = group.join("first")
    assert sent == [("first", oack(1))]
    assert member.is_master
    assert group.session.deadline == 1.0


@pytest.mark.parametrize("event", [Input.ACK, Input.PEER_ERROR, Input.REQUESTED, Input.CANCEL, Input.REPLACED])
def test_idle_inputs_of_a_client_that_has_left_are_ignored(event: Input) -> None:
    group, member, _ = idle()
    assert group.give(event, member, 1) == []
    assert member.outcome is Outcome.COMPLETE


def test_idle_tick_is_ignored() -> None:
    group, _, _ = idle()
    assert group.give(Input.TICK, None) == []


@pytest.mark.parametrize("event", [Input.FETCHED, Input.FAILED])
@pytest.mark.parametrize("new_group", [idle, appointing, awaiting_ack])
def test_idle_appointing_awaiting_ack_fetched_and_failed_are_illegal(new_group: StateFactory, event: Input) -> None:
    group = new_group()[0]
    with pytest.raises(IllegalInput):
        group.session.handle(event, (None, None), 0.0)


# JOINED


@ANY_STATE
def test_appointing_fetching_awaiting_ack_joined_adds_a_client_that_is_not_the_master(new_group: StateFactory) -> None:
    group = new_group()[0]
    state_before = group.session.state
    third, sent = group.join("third")
    assert sent == [("third", oack(0))]
    assert (group.session.state, list(group.session.members)[-1]) == (state_before, third)


# ACK


def test_appointing_ack_0_sends_block_1_to_the_group() -> None:
    group, first, _ = appointing()
    assert group.ack(first, 0, at=0.5) == [("group", DATA[1])]
    assert samples(first) == [0.5]
    assert first.last_heard == 0.5


def test_appointing_ack_requests_the_block_that_follows() -> None:
    group, first, _ = appointing()
    assert group.ack(first, 2) == [("group", DATA[3])]
    assert (first.acked, first.bytes_transferred) == (2, 16)


def test_appointing_ack_after_a_repeated_oack_measures_no_round_trip() -> None:
    group, first, _ = appointing()
    group.tick()
    group.ack(first, 0)
    assert samples(first) == [None]


def test_appointing_ack_of_the_last_block_passes_the_mastership_on() -> None:
    group, first, second = appointing()
    assert group.ack(first, 3) == [("second", oack(1))]
    assert (first.outcome, first.bytes_transferred) == (Outcome.COMPLETE, 20)
    assert second.is_master
    assert group.session.ended == [first]


def test_appointing_ack_of_the_last_block_by_the_last_client_ends_it() -> None:
    group, first = one_client()
    assert group.ack(first, 3) == []
    assert (group.session.state, first.outcome) == (State.IDLE, Outcome.COMPLETE)


@pytest.mark.parametrize("number", [4, 0xFFFF])
@ANY_STATE
def test_appointing_fetching_awaiting_ack_ack_beyond_the_file_is_ignored(new_group: StateFactory, number: int) -> None:
    group, first, second = new_group()
    assert group.ack(first, number) == group.ack(second, number) == []
    assert (first.acked, second.acked, first.last_heard <= 0.25) == (0, 0, True)


@ANY_STATE
def test_appointing_fetching_awaiting_ack_ack_of_the_last_block_by_another_client(new_group: StateFactory) -> None:
    group, first, second = new_group()
    state_before = group.session.state
    assert group.ack(second, 3) == []
    assert (second.outcome, group.session.state, group.session.master) == (Outcome.COMPLETE, state_before, first)


@ANY_STATE
def test_appointing_fetching_awaiting_ack_ack_of_another_client_gets_an_oack_once_a_second(
    new_group: StateFactory,
) -> None:
    group, _, second = new_group()
    assert group.ack(second, 1) == [("second", oack(0))]
    assert group.ack(second, 1, at=group.now + CLIENT_TIMEOUT / 2) == []
    assert group.ack(second, 2, at=group.now + CLIENT_TIMEOUT) == [("second", oack(0))]
    assert second.acked == 2


def test_appointing_ack_0_of_another_client_is_not_answered() -> None:
    # It may answer the OACK that was sent before.
    group, _, second = appointing()
    assert group.ack(second, 0) == []


def test_fetching_ack_of_the_master_is_ignored() -> None:
    group, first, _ = fetching()
    assert group.ack(first, 0) == group.ack(first, 1) == []
    assert group.fetch() == [("group", DATA[1])]


def test_fetching_ack_of_the_last_block_ends_the_fetch_of_the_master() -> None:
    group, first, second = fetching()
    assert group.ack(first, 3) == [("second", oack(1))]
    assert (group.session.state, group.session.wants, second.is_master) == (State.APPOINTING, None, True)


def test_awaiting_ack_ack_sends_the_block_that_follows() -> None:
    group, first, _ = awaiting_ack()
    assert group.ack(first, 1, at=0.5) == [("group", DATA[2])]
    assert samples(first) == [0.25, 0.25]
    assert group.session.deadline == 1.5


def test_awaiting_ack_ack_skips_what_the_client_has() -> None:
    group, first, _ = awaiting_ack()
    assert group.ack(first, 2) == [("group", DATA[3])]


def test_awaiting_ack_ack_repeated_within_a_second_is_ignored() -> None:
    group, first, _ = awaiting_ack()
    assert group.ack(first, 0, at=0.25 + CLIENT_TIMEOUT / 2) == []
    assert group.ack(first, 1) == [("group", DATA[2])]
    # A late copy, of a block that has been sent.
    assert group.ack(first, 0) == group.ack(first, 1) == []


def test_awaiting_ack_ack_repeated_by_the_timer_of_the_client_sends_the_block_again() -> None:
    group, first, _ = awaiting_ack()
    assert group.ack(first, 0, at=0.25 + CLIENT_TIMEOUT) == [("group", DATA[1])]
    assert first.retransmitted == 1
    group.ack(first, 1)
    assert samples(first) == [0.25, None]


def test_awaiting_ack_ack_goes_back_when_the_client_has_been_silent() -> None:
    group, first, _ = awaiting_ack()
    group.ack(first, 1, at=0.5)
    assert group.ack(first, 0, at=0.5 + CLIENT_TIMEOUT) == [("group", DATA[1])]
    # The ACK does not answer a block that is in flight, so it measures no round trip.
    assert samples(first) == [0.25, 0.25, None]
    assert first.acked == 1


def test_awaiting_ack_ack_goes_back_at_once_to_a_block_that_was_not_sent_since_it_is_the_master() -> None:
    group, first, second = awaiting_ack()
    group.ack(first, 3)
    assert group.ack(second, 1) == [("group", DATA[2])]
    assert group.ack(second, 0) == [("group", DATA[1])]


def test_awaiting_ack_ack_of_the_last_block_passes_the_mastership_on() -> None:
    group, first, second = awaiting_ack()
    assert group.ack(first, 3, at=0.5) == [("second", oack(1))]
    assert group.session.deadline == 1.5
    assert group.ack(second, 3) == []
    assert group.session.ended == [first, second]


# FETCHED and FAILED


def test_fetching_fetched_sends_the_block() -> None:
    group, _, _ = fetching()
    assert group.fetch() == [("group", DATA[1])]
    assert group.session.state is State.AWAITING_ACK


@pytest.mark.parametrize("content", [b"", b"1234567", b"123456789"])
def test_fetching_fetched_another_length_fails_for_all(content: bytes) -> None:
    group, first, second = fetching()
    failed = Error(0, "file changed while being sent")
    assert group.give(Input.FETCHED, first, content) == [("first", failed), ("second", failed)]
    assert first.outcome is second.outcome is Outcome.FAILED
    assert group.session.state is State.IDLE


def test_fetching_failed_ends_it_for_all() -> None:
    group, first, second = fetching()
    failed = Error(0, "no")
    sent = group.give(Input.FAILED, first, TransferError("no", "disk"))
    assert sent == [("first", failed), ("second", failed)]
    assert (first.detail, second.detail) == ("no: disk", "no: disk")
    assert group.session.state is State.IDLE


def test_an_empty_file_is_one_empty_block() -> None:
    group = Multicasting(b"")
    member, _ = group.join("first")
    assert group.ack(member, 0) == [("group", Data(1, b""))]
    assert group.ack(member, 1) == []
    assert (member.outcome, member.bytes_transferred) == (Outcome.COMPLETE, 0)


# PEER_ERROR, CANCEL and REPLACED


@pytest.mark.parametrize(
    ("event", "argument", "outcome"),
    [
        (Input.PEER_ERROR, (0, "enough"), Outcome.STOPPED_BY_PEER),
        (Input.CANCEL, "stopping", Outcome.CANCELLED),
        (Input.REPLACED, None, Outcome.CANCELLED),
    ],
)
@ANY_STATE
def test_appointing_fetching_awaiting_ack_peer_error_cancel_and_replaced(
    new_group: StateFactory, event: Input, argument: object, outcome: Outcome
) -> None:
    cancelled = [Error(0, "stopping")] if event is Input.CANCEL else []
    group, first, second = new_group()
    state_before = group.session.state
    assert group.give(event, second, argument) == [("second", packet) for packet in cancelled]
    assert (second.outcome, group.session.state, group.session.master) == (outcome, state_before, first)
    group, first, second = new_group()
    sent = group.give(event, first, argument)
    assert sent == [*(("first", packet) for packet in cancelled), ("second", oack(1))]
    assert (first.outcome, group.session.state) == (outcome, State.APPOINTING)


def test_appointing_peer_error_of_the_master_with_tsize_is_a_size_probe() -> None:
    group = Multicasting()
    member, _ = group.join("first", Agreed(8, tsize=20, acknowledged=(("tsize", "20"), ("multicast", ""))))
    group.give(Input.PEER_ERROR, member, (8, "thanks"))
    assert (member.outcome, member.detail) == (Outcome.SIZE_PROBE, "error 8: 'thanks'")


# REQUESTED


@pytest.mark.parametrize("new_group", [appointing, fetching, awaiting_ack])
def test_appointing_fetching_awaiting_ack_requested_repeats_the_oack(new_group: StateFactory) -> None:
    group, first, second = new_group()
    deadline = group.session.deadline
    assert group.give(Input.REQUESTED, first) == [("first", oack(1))]
    assert group.give(Input.REQUESTED, second) == [("second", oack(0))]
    assert group.session.deadline == deadline


# TICK


def test_appointing_tick_repeats_the_oack_and_then_appoints_the_next_client() -> None:
    group, first, second = appointing()
    assert group.tick() == [("first", oack(1))]
    assert (group.now, group.session.deadline) == (1.0, MASTER_SILENCE)
    assert group.tick() == [("second", oack(1)), ("first", oack(0))]
    assert list(group.session.members) == [second, first]
    assert first.outcome is None


def test_appointing_tick_before_its_time_is_ignored() -> None:
    group, _, _ = appointing()
    assert group.give(Input.TICK, None, at=0.5) == []
    assert group.session.deadline == 1.0


def test_appointing_tick_sends_three_oacks_to_the_only_client() -> None:
    group = Multicasting()
    member, _ = group.join("first", watchdog=Waits((1.0, 1.0, 1.0, 1.0, 1.0)))
    assert [group.tick() for _ in range(4)] == [[("first", oack(1))], [("first", oack(1))], [], []]
    assert group.tick() == []
    assert (member.outcome, group.session.state, group.now) == (Outcome.TIMED_OUT, State.IDLE, 5.0)


def test_appointing_tick_leaves_out_a_client_that_is_silent_again() -> None:
    group = Multicasting()
    first, _ = group.join("first", watchdog=LONG_WAITS)
    second, _ = group.join("second", watchdog=LONG_WAITS)
    silences = 0
    while first.outcome is None:
        group.tick()
        silences += 1
    assert (silences, first.outcome, second.outcome) == (2 * MOST_SILENCES - 1, Outcome.TIMED_OUT, None)
    assert second.is_master
    # The only client has as long as its watchdog waits.
    assert group.session.deadline == group.now + 5.0


def test_a_client_that_has_sent_an_ack_since_its_silence_is_not_left_out() -> None:
    group, first, second = appointing()
    while not second.is_master:
        group.tick()
    group.ack(first, 1)
    assert first.silences == 0
    while not first.is_master:
        group.tick()
    while not second.is_master:
        group.tick()
    assert first.outcome is None


def test_a_master_that_is_silent_now_and_then_is_not_left_out() -> None:
    group, first, second = appointing()
    for _ in range(MOST_SILENCES + 1):
        group.ack(first, 0)
        while not second.is_master:
            group.tick()
        group.ack(second, 0)
        while not first.is_master:
            group.tick()
    assert first.outcome is second.outcome is None


def test_a_client_that_has_confirmed_no_block_times_out_even_if_the_file_has_one_block() -> None:
    group = Multicasting(b"short")
    member, _ = group.join("first")
    group.ack(member, 0)
    while member.outcome is None:
        group.tick()
    assert (member.outcome, member.detail) == (Outcome.TIMED_OUT, "no ACK after block 0")


def sent_to_the_end() -> tuple[Multicasting, Member, Member, Member]:
    """The first client has the file; the second one has received all of it, the third one all but block 1."""
    group = Multicasting()
    first, _ = group.join("first")
    second, _ = group.join("second")
    group.ack(first, 0)
    third, _ = group.join("third")
    group.ack(first, 1)
    group.ack(first, 2)
    assert group.ack(first, 3) == [("third", oack(1))]
    assert first.outcome is Outcome.COMPLETE
    return group, first, second, third


def test_a_client_that_certainly_lacks_a_block_is_the_next_master() -> None:
    group, _, second, third = sent_to_the_end()
    assert third.is_master
    for number in range(3):
        group.ack(third, number)
    assert group.ack(third, 3) == [("second", oack(1))]
    assert second.is_master


def test_a_client_that_may_have_the_file_is_given_up_after_one_silence() -> None:
    """iPXE says nothing when it has the last block, and is not the master."""
    group, _, second, third = sent_to_the_end()
    group.ack(third, 3)
    fourth, _ = group.join("fourth")
    assert second.is_master
    while second.outcome is None:
        group.tick()
    assert second.silences == 1
    assert (second.outcome, second.detail) == (
        Outcome.UNCONFIRMED,
        "each block was sent to the group since it joined; it has requested none",
    )
    assert fourth.is_master


def test_the_last_client_that_may_have_the_file_is_unconfirmed() -> None:
    group, _, second, third = sent_to_the_end()
    group.ack(third, 3)
    while second.outcome is None:
        group.tick()
    assert second.outcome is Outcome.UNCONFIRMED


def test_a_client_that_certainly_lacks_a_block_is_appointed_twice_in_a_row() -> None:
    group, _, second, third = sent_to_the_end()
    sent = []
    while third.silences == 0:
        sent = group.tick()
    assert sent == [("third", oack(1))]
    while third.outcome is None:
        sent = group.tick()
    assert third.outcome is Outcome.TIMED_OUT
    assert sent == [("second", oack(1))]
    assert second.is_master


def test_a_client_that_has_requested_a_block_lacks_it() -> None:
    group, _, second, third = sent_to_the_end()
    group.ack(third, 3)
    group.ack(second, 1)
    while second.outcome is None:
        group.tick()
    assert (second.outcome, second.detail) == (Outcome.TIMED_OUT, "no ACK after block 1")


def test_awaiting_ack_tick_sends_the_block_again() -> None:
    group, first, _ = awaiting_ack()
    assert group.session.deadline == 1.25
    assert group.tick() == [("group", DATA[1])]
    assert group.session.deadline == 0.25 + MASTER_SILENCE
    assert first.retransmitted == 1


def test_awaiting_ack_tick_sends_no_more_than_seven_copies_without_an_ack() -> None:
    group = Multicasting()
    member, _ = group.join("first", watchdog=Waits((1.0,) * 20))
    group.ack(member, 0)
    copies = 0
    while member.outcome is None:
        copies += len(group.tick())
    assert copies == 7
    assert (member.outcome, member.detail) == (Outcome.TIMED_OUT, "no ACK after block 0")


def test_awaiting_ack_tick_passes_on_when_the_watchdog_gives_up_before() -> None:
    group = Multicasting()
    first, _ = group.join("first", watchdog=Waits((0.5,)))
    group.join("second")
    group.ack(first, 0)
    assert group.tick() == [("second", oack(1)), ("first", oack(0))]


def test_awaiting_ack_tick_gives_up_on_a_client_that_has_all_but_the_last_ack() -> None:
    group, first = one_client()
    group.ack(first, 2)
    while first.outcome is None:
        group.tick()
    assert (first.outcome, first.detail) == (Outcome.UNCONFIRMED, "no ACK after block 2 of 3")


def test_fetching_tick_is_ignored() -> None:
    group, _, _ = fetching()
    assert group.give(Input.TICK, None, at=100.0) == []
    assert group.session.state is State.FETCHING


def test_only_the_master_has_a_deadline_and_a_later_client_shortens_it() -> None:
    group = Multicasting()
    first, _ = group.join("first", watchdog=LONG_WAITS)
    assert first.deadline == 5.0
    second, _ = group.join("second")
    assert (first.deadline, second.deadline) == (MASTER_SILENCE, None)


def test_the_last_block_of_a_file_is_short() -> None:
    assert [MulticastSession(ADDRESS, size, 8).last_block for size in (0, 7, 8, 9)] == [1, 1, 2, 2]


def test_every_cell_has_a_test_of_its_name() -> None:
    for state in State:
        for event in Input:
            name, word = state.name.lower(), event.name.lower()
            assert any(
                test.startswith("test_") and name in test and (word in test or "inputs_of_a_client" in test)
                for test in globals()
            ), (state, event)
