"""The session that receives: every cell of its table has a test that is named after it."""

import pytest
from cellnames import cells_without_test
from driving import OACK, Waits, Writing, numbered

from bootfw.errors import DiskFull, TransferError
from bootfw.table import IllegalInput
from bootfw.tftp import write
from bootfw.tftp.write import Input, State, Store, WriteSession
from bootfw.values import Agreed, Outcome
from bootfw.wire.tftp import Ack, Error, OptionAck

CONTENT = numbered(20)
BLOCK = {1: CONTENT[:8], 2: CONTENT[8:16], 3: CONTENT[16:]}


def negotiating(windowsize: int = 1, oack: bool = True, lazy: bool = False) -> Writing:
    writing = Writing(Agreed(8, windowsize, acknowledged=OACK if oack else ()), lazy=lazy)
    assert writing.session.state is State.NEGOTIATING
    assert writing.take() == [OptionAck(OACK) if oack else Ack(0)]
    return writing


def receiving(blocks: int = 1, windowsize: int = 1) -> Writing:
    """That many blocks are stored."""
    writing = negotiating(windowsize)
    for block in range(1, blocks + 1):
        writing.data(block, BLOCK[block])
    assert writing.session.state is State.RECEIVING
    return writing


def storing(windowsize: int = 1) -> Writing:
    """Block 1 is with the writer."""
    writing = negotiating(windowsize, lazy=True)
    assert writing.data(1, BLOCK[1]) == []
    assert writing.session.state is State.STORING
    return writing


def lingering(**timeout: int) -> Writing:
    writing = Writing(Agreed(8, acknowledged=OACK, **timeout))
    for block, payload in BLOCK.items():
        writing.data(block, payload)
    assert writing.session.state is State.LINGERING
    writing.take()
    return writing


def closed() -> Writing:
    writing = lingering()
    writing.tick()
    assert writing.session.state is State.CLOSED
    return writing


def outcome_of(writing: Writing) -> Outcome | None:
    assert writing.session.state is State.CLOSED
    assert writing.session.out == []
    return writing.session.outcome


# NEGOTIATING


@pytest.mark.parametrize("oack", [True, False])
def test_negotiating_data_1_is_stored_and_acknowledged(oack: bool) -> None:
    writing = negotiating(oack=oack)
    assert writing.data(1, BLOCK[1], at=0.25) == [Ack(1)]
    assert writing.content == BLOCK[1]
    assert writing.session.deadline == 1.25
    assert writing.watchdog.samples == [0.25]
    assert writing.session.last_heard == 0.25


def test_negotiating_data_1_short_is_the_whole_file() -> None:
    writing = negotiating()
    assert writing.data(1, b"tiny") == [Ack(1)]
    assert writing.session.outcome is Outcome.COMPLETE
    assert writing.finished


@pytest.mark.parametrize("number", [0, 2, 3, 65535])
def test_negotiating_data_of_another_number_is_ignored(number: int) -> None:
    writing = negotiating()
    assert writing.data(number, BLOCK[1]) == []
    assert writing.session.state is State.NEGOTIATING


def test_negotiating_data_behind_a_lost_block_1_requests_it_once() -> None:
    writing = negotiating(windowsize=4)
    assert [writing.data(number, BLOCK[2]) for number in (3, 2, 4)] == [[Ack(0)], [], []]
    assert writing.session.state is State.RECEIVING
    assert writing.data(0, BLOCK[2]) == [], "a DATA 0 is no repeated block"
    assert writing.data(1, BLOCK[1]) == []
    assert writing.watchdog.samples == [None], "the OACK and ACK 0: it can be the answer to either"


def test_negotiating_data_too_long_is_refused() -> None:
    writing = negotiating()
    assert writing.data(1, b"123456789") == [Error(4, "Block is longer than agreed")]
    assert outcome_of(writing) is Outcome.FAILED
    assert writing.session.detail == "the client sent a block of 9 bytes, 8 were agreed"
    assert writing.content == b""


def test_negotiating_stored_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        negotiating().give(Input.STORED)


def test_negotiating_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        negotiating().give(Input.FAILED, TransferError())


@pytest.mark.parametrize("code", [0, 5, 8])
def test_negotiating_peer_error_stops_it(code: int) -> None:
    writing = negotiating()
    assert writing.give(Input.PEER_ERROR, (code, "why")) == []
    assert outcome_of(writing) is Outcome.STOPPED_BY_PEER
    assert writing.session.detail == f"error {code}: 'why'"


@pytest.mark.parametrize("oack", [True, False])
def test_negotiating_requested_repeats_the_opening_and_not_the_deadline(oack: bool) -> None:
    writing = negotiating(oack=oack)
    opening = [OptionAck(OACK) if oack else Ack(0)]
    assert [writing.give(Input.REQUESTED, at=at) for at in (0.2, 0.4)] == [opening, opening]
    assert writing.session.deadline == 1.0
    assert writing.session.retransmitted == 2
    writing.data(1, BLOCK[1], at=0.5)
    assert writing.watchdog.samples == [None]


def test_negotiating_tick_repeats_the_opening_and_then_gives_up() -> None:
    writing = negotiating()
    assert [writing.tick() for _ in range(2)] == [[OptionAck(OACK)]] * 2
    assert writing.session.deadline == 11.0
    assert writing.tick() == []
    assert outcome_of(writing) is Outcome.TIMED_OUT
    assert writing.session.detail == "no DATA came"


def test_negotiating_tick_too_early_does_nothing() -> None:
    assert negotiating().give(Input.TICK, at=0.999) == []


def test_negotiating_cancel_sends_an_error() -> None:
    writing = negotiating()
    assert writing.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(writing) is Outcome.CANCELLED


def test_negotiating_replaced_sends_nothing() -> None:
    writing = negotiating()
    assert writing.give(Input.REPLACED) == []
    assert outcome_of(writing) is Outcome.CANCELLED


# RECEIVING


def test_receiving_data_in_order_is_stored_and_acknowledged() -> None:
    writing = receiving()
    assert writing.data(2, BLOCK[2]) == [Ack(2)]
    assert writing.content == CONTENT[:16]
    assert (writing.session.stored, writing.session.acked, writing.session.bytes_transferred) == (2, 2, 16)


def test_receiving_data_of_a_window_gets_one_ack() -> None:
    writing = negotiating(windowsize=2)
    assert [writing.data(block, BLOCK[1]) for block in (1, 2, 3, 4)] == [[], [Ack(2)], [], [Ack(4)]]


def test_receiving_data_that_is_the_last_is_acknowledged_within_a_window() -> None:
    writing = negotiating(windowsize=16)
    assert [writing.data(block, payload) for block, payload in BLOCK.items()] == [[], [], [Ack(3)]]
    assert writing.session.outcome is Outcome.COMPLETE
    assert writing.content == CONTENT
    assert writing.finished


def test_receiving_data_behind_a_gap_gets_the_last_good_block_acknowledged_once() -> None:
    writing = receiving(windowsize=8)
    assert [writing.data(number, BLOCK[2]) for number in (3, 4, 5)] == [[Ack(1)], [], []]
    assert writing.content == BLOCK[1]
    assert [writing.data(number, BLOCK[2]) for number in (2, 4)] == [[], [Ack(2)]], "the next gap is another one"


def test_receiving_data_beyond_the_window_is_ignored() -> None:
    writing = receiving(windowsize=4)
    assert writing.data(5, BLOCK[2]) == []
    assert writing.session._reported_missing == 0


def test_receiving_data_repeated_gets_its_ack_again() -> None:
    writing = receiving(blocks=2)
    assert writing.data(2, BLOCK[2]) == [Ack(2)]
    assert writing.session.deadline == 1.0
    assert writing.session.retransmitted == 1
    assert writing.content == CONTENT[:16]
    writing.data(3, BLOCK[3])
    assert writing.watchdog.samples[-1] is None, "the ACK was sent twice"


def test_receiving_data_repeated_for_an_ack_that_was_repeated_is_ignored() -> None:
    """One is ignored for each repeated ACK: two were sent by the timer, one for a repeated block."""
    writing = receiving()
    assert [writing.tick(), writing.tick(), writing.data(1, BLOCK[1])] == [[Ack(1)]] * 3
    assert [writing.data(2, BLOCK[2]) for _ in range(5)] == [[Ack(2)], [], [], [], [Ack(2)]]
    assert [writing.data(3, BLOCK[3]) for _ in range(3)] == [[Ack(3)]] * 3, "the last one always has its ACK"


def test_receiving_data_repeated_for_an_opening_that_was_repeated_is_ignored() -> None:
    writing = Writing(Agreed(8))
    assert [writing.take(), writing.tick()] == [[Ack(0)]] * 2
    assert [writing.data(1, BLOCK[1]) for _ in range(3)] == [[Ack(1)], [], [Ack(1)]]


def test_receiving_data_older_than_the_last_is_ignored() -> None:
    writing = receiving(blocks=2)
    assert [writing.data(number, BLOCK[1]) for number in (1, 0, 65535)] == [[], [], []]


@pytest.mark.parametrize("blocks", [1, 2])
def test_receiving_data_repeated_is_ignored_with_windows(blocks: int) -> None:
    writing = receiving(blocks, windowsize=2)
    assert writing.data(blocks, BLOCK[blocks]) == []
    assert writing.content == CONTENT[: 8 * blocks]


def test_receiving_data_too_long_is_refused() -> None:
    writing = receiving()
    assert writing.data(2, b"123456789") == [Error(4, "Block is longer than agreed")]
    assert outcome_of(writing) is Outcome.FAILED


def test_receiving_stored_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        receiving().give(Input.STORED)


def test_receiving_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        receiving().give(Input.FAILED, TransferError())


def test_receiving_peer_error_stops_it() -> None:
    writing = receiving()
    assert writing.give(Input.PEER_ERROR, (0, "")) == []
    assert outcome_of(writing) is Outcome.STOPPED_BY_PEER


def test_receiving_peer_error_5_is_ignored() -> None:
    writing = receiving()
    assert writing.give(Input.PEER_ERROR, (5, "Unknown transfer ID")) == []
    assert writing.data(2, BLOCK[2]) == [Ack(2)]


def test_receiving_requested_is_ignored() -> None:
    writing = receiving()
    assert writing.give(Input.REQUESTED) == []
    assert writing.session.state is State.RECEIVING


def test_receiving_tick_repeats_the_last_ack_and_then_gives_up() -> None:
    writing = receiving()
    assert [writing.tick() for _ in range(2)] == [[Ack(1)], [Ack(1)]]
    assert writing.session.deadline == 11.0
    assert writing.session.retransmitted == 2
    assert writing.tick() == []
    assert outcome_of(writing) is Outcome.TIMED_OUT
    assert writing.session.detail == "no DATA after block 1"


def test_receiving_tick_acknowledges_a_part_of_a_window() -> None:
    writing = receiving(blocks=2, windowsize=8)
    assert writing.session.acked == 0
    assert writing.tick() == [Ack(2)]
    assert (writing.session.acked, writing.session.retransmitted) == (2, 0)


def test_receiving_tick_has_a_gap_reported_again() -> None:
    writing = receiving(windowsize=8)
    assert writing.data(3, BLOCK[2]) == [Ack(1)]
    assert writing.tick() == [Ack(1)]
    assert writing.data(3, BLOCK[2]) == [Ack(1)]


def test_receiving_tick_too_early_does_nothing() -> None:
    writing = receiving()
    assert writing.give(Input.TICK, at=0.999) == []
    assert writing.session.state is State.RECEIVING


def test_receiving_cancel_sends_an_error() -> None:
    writing = receiving()
    assert writing.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(writing) is Outcome.CANCELLED


def test_receiving_replaced_sends_nothing() -> None:
    writing = receiving()
    assert writing.give(Input.REPLACED) == []
    assert outcome_of(writing) is Outcome.CANCELLED


# STORING


def test_storing_data_in_order_is_kept_for_later() -> None:
    writing = storing(windowsize=3)
    assert [writing.data(block, BLOCK[block]) for block in (2, 3)] == [[], []]
    assert writing.session.stores == Store(0, BLOCK[1], final=False)
    assert writing.store() == []
    assert writing.session.stores == Store(8, BLOCK[2], final=False)
    assert writing.store() == []
    assert writing.session.stores == Store(16, BLOCK[3], final=True)
    assert writing.store() == [Ack(3)]
    assert writing.content == CONTENT


def test_storing_data_that_is_repeated_is_not_acknowledged() -> None:
    writing = storing(windowsize=3)
    assert [writing.data(number, BLOCK[1]) for number in (1, 0, 2, 2, 1, 65535)] == [[]] * 6
    writing.store()
    writing.store()
    assert writing.content == BLOCK[1] * 2


def test_storing_data_beyond_the_window_is_not_kept() -> None:
    writing = storing()
    assert writing.data(2, BLOCK[2]) == []
    assert writing.store() == [Ack(1)]
    assert writing.session.state is State.RECEIVING


def test_storing_data_behind_a_gap_is_reported_when_all_is_stored() -> None:
    writing = storing(windowsize=8)
    assert [writing.data(number, BLOCK[2]) for number in (2, 4, 5)] == [[], [], []]
    assert writing.store() == []
    assert writing.store() == [Ack(2)]
    assert writing.data(4, BLOCK[2]) == [], "the gap has been reported"


def test_storing_data_that_came_too_early_is_requested_when_all_is_stored() -> None:
    writing = storing(windowsize=8)
    assert [writing.data(number, BLOCK[2]) for number in (3, 2)] == [[], []]
    assert writing.store() == []
    assert writing.store() == [Ack(2)], "block 3 is gone"


def test_storing_data_behind_the_last_block_is_ignored() -> None:
    writing = negotiating(windowsize=8, lazy=True)
    writing.data(1, b"short")
    assert writing.data(2, BLOCK[2]) == []
    assert writing.store() == [Ack(1)]
    assert writing.session.state is State.LINGERING


def test_storing_data_behind_a_last_block_that_waits_is_ignored() -> None:
    writing = storing(windowsize=8)
    writing.data(2, b"short")
    assert writing.data(3, BLOCK[2]) == []
    writing.store()
    assert writing.store() == [Ack(2)]
    assert writing.session.state is State.LINGERING


def test_storing_data_too_long_is_refused() -> None:
    writing = storing(windowsize=8)
    assert writing.data(2, b"123456789") == [Error(4, "Block is longer than agreed")]
    assert outcome_of(writing) is Outcome.FAILED


def test_storing_stored_acknowledges() -> None:
    writing = storing()
    writing.now = 5.0
    assert writing.store() == [Ack(1)]
    assert writing.session.deadline == 6.0


def test_storing_failed_sends_an_error_and_no_ack() -> None:
    writing = storing()
    assert writing.give(Input.FAILED, DiskFull()) == [Error(3, "Disk full or allocation exceeded")]
    assert outcome_of(writing) is Outcome.FAILED
    assert (writing.session.acked, writing.session.bytes_transferred) == (0, 0)


def test_storing_peer_error_stops_it() -> None:
    writing = storing()
    assert writing.give(Input.PEER_ERROR, (0, "")) == []
    assert outcome_of(writing) is Outcome.STOPPED_BY_PEER


def test_storing_peer_error_5_is_ignored() -> None:
    writing = storing()
    assert writing.give(Input.PEER_ERROR, (5, "")) == []
    assert writing.store() == [Ack(1)]


def test_storing_requested_is_ignored() -> None:
    writing = storing()
    assert writing.give(Input.REQUESTED) == []
    assert writing.store() == [Ack(1)]


def test_storing_tick_is_ignored() -> None:
    writing = storing()
    assert writing.give(Input.TICK, at=1e9) == []
    assert writing.session.state is State.STORING


def test_storing_cancel_sends_an_error() -> None:
    writing = storing()
    assert writing.give(Input.CANCEL, "stop") == [Error(0, "stop")]
    assert outcome_of(writing) is Outcome.CANCELLED


def test_storing_replaced_sends_nothing() -> None:
    writing = storing()
    assert writing.give(Input.REPLACED) == []
    assert outcome_of(writing) is Outcome.CANCELLED


# LINGERING


def test_lingering_data_of_the_last_block_is_acknowledged_again() -> None:
    writing = lingering()
    deadline = writing.session.deadline
    assert [writing.data(3, BLOCK[3], at=at) for at in (5.0, 10.0)] == [[Ack(3)], [Ack(3)]]
    assert writing.session.deadline == deadline, "it does not linger longer for that"
    assert writing.content == CONTENT


@pytest.mark.parametrize("number", [2, 4, 0])
def test_lingering_data_of_another_block_is_ignored(number: int) -> None:
    assert lingering().data(number, BLOCK[2]) == []


def test_lingering_stored_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        lingering().give(Input.STORED)


def test_lingering_failed_is_illegal() -> None:
    with pytest.raises(IllegalInput):
        lingering().give(Input.FAILED, TransferError())


def complete_after(event: Input, argument: object = None) -> bool:
    writing = lingering()
    assert writing.session.outcome is Outcome.COMPLETE
    assert writing.give(event, argument) == []
    return outcome_of(writing) is Outcome.COMPLETE and writing.session.bytes_transferred == 20


def test_lingering_peer_error_changes_nothing() -> None:
    assert complete_after(Input.PEER_ERROR, (0, "closed"))


def test_lingering_requested_is_ignored() -> None:
    writing = lingering()
    assert writing.give(Input.REQUESTED) == []
    assert writing.session.state is State.LINGERING


def test_lingering_tick_ends_it_and_sends_nothing() -> None:
    writing = lingering()
    assert writing.session.deadline == 12.0
    assert writing.give(Input.TICK, at=11.9) == []
    assert writing.session.state is State.LINGERING
    assert writing.tick() == []
    assert outcome_of(writing) is Outcome.COMPLETE


def test_lingering_tick_comes_after_two_repeats_of_the_agreed_timeout() -> None:
    assert lingering(timeout=20).session.deadline == 42.0


def test_lingering_cancel_changes_nothing() -> None:
    assert complete_after(Input.CANCEL, "the server is stopping")


def test_lingering_replaced_changes_nothing() -> None:
    assert complete_after(Input.REPLACED)


# CLOSED


def still_closed(event: Input, argument: object = None) -> bool:
    writing = closed()
    assert writing.give(event, argument, at=1e6) == []
    assert writing.content == CONTENT
    return outcome_of(writing) is Outcome.COMPLETE


def test_closed_data_is_ignored() -> None:
    assert all(still_closed(Input.DATA, (number, BLOCK[3])) for number in (0, 3, 4))


def test_closed_stored_is_ignored() -> None:
    assert still_closed(Input.STORED)


def test_closed_failed_is_ignored() -> None:
    assert still_closed(Input.FAILED, TransferError())


def test_closed_peer_error_is_ignored() -> None:
    assert still_closed(Input.PEER_ERROR, (0, ""))


def test_closed_requested_is_ignored() -> None:
    assert still_closed(Input.REQUESTED)


def test_closed_tick_is_ignored() -> None:
    assert still_closed(Input.TICK)


def test_closed_cancel_is_ignored() -> None:
    assert still_closed(Input.CANCEL, "stop")


def test_closed_replaced_is_ignored() -> None:
    assert still_closed(Input.REPLACED)


def test_every_cell_has_a_test_of_its_name() -> None:
    assert cells_without_test(globals(), State, Input) == []


def test_a_wait_of_none_after_the_first_sending_gives_up_at_once() -> None:
    writing = Writing(watchdog=Waits(()))
    assert writing.session.deadline == 0.0
    assert writing.take() == [Ack(0)]
    assert writing.tick() == []
    assert writing.session.outcome is Outcome.TIMED_OUT


def test_the_session_uses_the_table_of_its_module() -> None:
    assert WriteSession._table is write.TABLE
    assert WriteSession.Input is Input
