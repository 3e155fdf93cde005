"""What a node knows of the transfers of other nodes: whose they are, how far they are, and what it forgets."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.events import TransferBegun
from bootfw.net.nodes.elsewhere import FORGET_AFTER, MOST, TransfersElsewhere
from bootfw.values import Agreed, TransferRequest

PEER = ("10.0.0.9", 2000)
SIZE = 8 * 200_000
BEGUN = TransferBegun(0.0, TransferRequest("file", "file", PEER), Agreed(8), "etag")


@given(
    st.lists(st.tuples(st.floats(0.05, 0.5), st.integers(1, 60_000)), min_size=2, max_size=30),
    st.lists(st.sampled_from([0.002, 0.01, 1.0, 5.0]), min_size=30, max_size=30),
    st.lists(st.booleans(), min_size=30, max_size=30),
    st.floats(0, 60),
    st.floats(0, 1.5),
    st.integers(-1_000_000, 1_000_000),
)
def test_no_client_gets_another_block(
    steps: list[tuple[float, int]],
    delays: list[float],
    arrives: list[bool],
    silent: float,
    faster: float,
    clock: int,
) -> None:
    """However late announcements come, and though some get lost: a client that is not faster than it was goes on at its
    own block, or begins anew."""
    known, at, block, arrived = TransfersElsewhere(), 0.0, 0, 0.0
    known.note_begun("node", BEGUN, 0.0)
    speeds = []
    # One that has come at once tells how far the clocks are apart.
    known.note_moved("node", PEER, 0, clock + 0.001, 0.001)
    for (seconds, blocks), delay, there in zip(steps, delays, arrives, strict=False):
        at, block = at + seconds, block + blocks
        if block > 190_000:
            break
        if there:
            arrived = max(arrived, at + delay)  # those of a node come in their order
            known.note_moved("node", PEER, block, clock + at, arrived)
            speeds.append(blocks / seconds)
    if not speeds:
        return
    now = max(arrived, at + silent)
    (transfer,) = known.all()
    # The client moves on at the speed that is known, times as much as may be.
    truth = int(transfer.position + min(faster, 1.5) * transfer._speed * (now - transfer._positioned))
    found = transfer.block(truth & 0xFFFF, 8 * (truth + 100_000), now)
    assert found in (truth, None)


def test_the_number_says_all_of_a_short_file() -> None:
    known = TransfersElsewhere()
    known.note_begun("node", BEGUN, 0.0)
    transfer = known.take(PEER, 100.0)
    assert transfer is not None
    assert transfer.block(65_535, 8 * 65_534, 100.0) == 65_535
    assert transfer.block(0, 8 * 65_534, 100.0) == 0
    assert transfer.block(101, 8 * 99, 100.0) is None  # the file has 100 blocks


def test_a_client_that_goes_on_soon_goes_on_in_a_long_file() -> None:
    known = TransfersElsewhere()
    known.note_begun("node", BEGUN, 0.0)
    known.note_moved("node", PEER, 70_000, 10.0, 10.0)
    known.note_moved("node", PEER, 71_000, 10.25, 10.25)
    transfer = known.take(PEER, 11.0)
    assert transfer is not None
    assert transfer.block(72_000 & 0xFFFF, SIZE, 11.0) == 72_000
    assert transfer.block(70_990 & 0xFFFF, SIZE, 11.0) is None  # an old duplicate
    assert transfer.block(72_000 & 0xFFFF, SIZE, 21.0) is None


def test_only_its_node_ends_or_moves_a_transfer() -> None:
    known = TransfersElsewhere()
    known.note_begun("one", BEGUN, 0.0)
    known.note_begun("two", evolve(BEGUN, at=1.0, acked=3), 1.0)
    known.note_ended("one", PEER)
    known.note_moved("one", PEER, 2, 1.0, 1.0)
    (transfer,) = known.all()
    assert (transfer.node, transfer.position) == ("two", 3)
    known.note_ended("two", PEER)
    assert known.all() == []


def test_a_repeated_announcement_of_an_older_transfer_is_ignored() -> None:
    known = TransfersElsewhere()
    known.note_begun("two", evolve(BEGUN, at=1.0, acked=3), 1.0)
    known.note_running("one", BEGUN, 2.0)
    (transfer,) = known.all()
    assert transfer.node == "two"
    known.note_running("one", evolve(BEGUN, at=3.0), 3.0)
    (transfer,) = known.all()
    assert transfer.node == "one"


def test_a_repeated_announcement_keeps_the_position_and_the_transfer() -> None:
    known = TransfersElsewhere()
    known.note_begun("one", BEGUN, 0.0)
    known.note_moved("one", PEER, 9, 1.0, 1.0)
    known.note_running("one", evolve(BEGUN, acked=8), FORGET_AFTER - 1)
    found = known.take(PEER, FORGET_AFTER + 1)
    assert found is not None
    assert found.position == 9
    assert known.take(PEER, FORGET_AFTER + 1) is None


def test_they_are_bounded() -> None:
    known = TransfersElsewhere()
    for number in range(MOST + 1):
        request = evolve(BEGUN.request, peer=("10.0.0.9", number))
        known.note_begun("one", evolve(BEGUN, request=request), 0.0)
    assert len(known) == MOST
    assert known.take(("10.0.0.9", 0), 0.0) is None
    known.note_begun("one", BEGUN, FORGET_AFTER)
    assert len(known) == 1


def test_another_process_has_another_clock() -> None:
    known, other = TransfersElsewhere(), TransfersElsewhere()
    known.note_begun("one", BEGUN, 10.0)
    other.remember(known.all(), 1000.0)
    (transfer,) = other.all()
    assert transfer.heard == 1010.0


def test_a_link_local_address_is_the_same_on_every_host() -> None:
    known = TransfersElsewhere()
    request = evolve(BEGUN.request, peer=("fe80::9%eth0", 2000, 0, 2))
    known.note_begun("one", evolve(BEGUN, request=request), 0.0)
    assert known.take(("fe80::9%ens3", 2000, 0, 7), 0.0) is not None


def test_a_position_that_comes_late_is_known_to_be_old() -> None:
    """The store was slow. The clock of the other node is far ahead of ours."""
    known, clock = TransfersElsewhere(), 1_000_000.0
    known.note_begun("node", BEGUN, 0.0)
    known.note_moved("node", PEER, 10_000, clock + 1.0, 1.01)
    known.note_moved("node", PEER, 20_000, clock + 2.0, 7.01)
    transfer = known.take(PEER, 7.02)
    assert transfer is not None
    assert transfer.block(20_001, SIZE, 7.02) is None
    known.note_begun("node", BEGUN, 7.0)
    known.note_moved("node", PEER, 10_000, clock + 8.0, 8.01)
    known.note_moved("node", PEER, 20_000, clock + 9.0, 9.01)
    transfer = known.take(PEER, 9.02)
    assert transfer is not None
    assert transfer.block(20_001, SIZE, 9.02) == 20_001
