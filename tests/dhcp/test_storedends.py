"""StoredEnds: a lower bound of what the store may hold, whatever was written and whether it was stored."""

from math import inf

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.dhcp.storedends import CLOCK_DIFFERENCE, StoredEnds, extended, limited
from bootfw.lease import NEVER, Lease, LeaseState

LEASE = Lease("10.0.0.1", b"a", "", LeaseState.ACTIVE, 0.0, 100.0)
TIME, T1, T2, MASK = 51, 58, 59, 1


def test_loaded_and_stored_leases_set_the_end() -> None:
    ends = StoredEnds()
    ends.load([LEASE, evolve(LEASE, address="10.0.0.2", state=LeaseState.RELEASED)])
    assert ends.end("10.0.0.1", b"a") == 100.0
    assert ends.end("10.0.0.1", b"b") == ends.end("10.0.0.2", b"a") == ends.end("10.0.0.3", b"a") == -inf
    longer = evolve(LEASE, expires=200.0)
    ends.begin([longer])
    assert ends.end("10.0.0.1", b"a") == 100.0
    ends.finish([longer], stored=True)
    assert ends.end("10.0.0.1", b"a") == 200.0


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(-CLOCK_DIFFERENCE / 2, CLOCK_DIFFERENCE / 2))
def test_a_client_loses_its_address_before_any_clock_reaches_the_stored_end(
    outage: float, now: float, behind: float
) -> None:
    """The clocks differ by as much as they may: this one is half of that behind, another one half of it ahead."""
    ends = StoredEnds()
    ends.load([stored := extended(LEASE, outage)])
    end = now + ends.seconds("10.0.0.1", b"a", now - behind)
    assert end <= now or end + CLOCK_DIFFERENCE / 2 <= stored.expires + 1e-6
    assert ends.seconds("10.0.0.1", b"a", LEASE.expires) == int(outage)


def test_permanent_and_released_leases_are_stored_unchanged() -> None:
    for lease in (evolve(LEASE, expires=NEVER), evolve(LEASE, state=LeaseState.RELEASED)):
        assert extended(lease, 60.0) is lease


def test_a_renewal_that_may_not_be_stored_leaves_the_earlier_end() -> None:
    ends = StoredEnds()
    ends.load([LEASE])
    for expires, end in ((200.0, 100.0), (50.0, 50.0)):
        ends.begin([written := evolve(LEASE, expires=expires)])
        ends.finish([written], stored=False)
        assert ends.end("10.0.0.1", b"a") == end


def test_of_two_writes_the_later_one_counts() -> None:
    ends = StoredEnds()
    first, second = evolve(LEASE, expires=200.0), evolve(LEASE, client=b"b")
    ends.begin([first])
    ends.begin([second])
    ends.finish([first], stored=True)
    assert ends.end("10.0.0.1", b"a") == -inf  # it may be the other one's already
    ends.finish([second], stored=False)
    assert ends.end("10.0.0.1", b"a") == ends.end("10.0.0.1", b"b") == -inf


WRITES = st.lists(
    st.tuples(
        st.sampled_from([b"a", b"b"]),
        st.sampled_from([LeaseState.ACTIVE, LeaseState.ACTIVE, LeaseState.RELEASED, LeaseState.DECLINED]),
        st.integers(1, 300).map(float),
        st.sampled_from(["stored", "failed", "stored and failed"]),
        st.booleans(),
    ),
    max_size=12,
)


@given(WRITES)
def test_the_end_is_never_later_than_that_in_the_store(
    writes: list[tuple[bytes, LeaseState, float, str, bool]],
) -> None:
    """A write may be stored although it failed. Answers come in the order of the writes, at once or later."""
    ends = StoredEnds()
    stored: Lease | None = None
    unanswered: list[tuple[Lease, bool]] = []
    for client, state, expires, outcome, at_once in writes:
        lease = evolve(LEASE, client=client, state=state, expires=expires)
        ends.begin([lease])
        if outcome != "failed":
            stored = lease
        unanswered.append((lease, outcome == "stored"))
        if at_once:
            for written, answer in unanswered:
                ends.finish([written], stored=answer)
            unanswered.clear()
        for client_id in (b"a", b"b"):
            active = stored is not None and stored.client == client_id and stored.state is LeaseState.ACTIVE
            assert ends.end(LEASE.address, client_id) <= (stored.expires if active and stored is not None else -inf)


def test_the_times_of_an_answer_are_limited() -> None:
    options = {
        MASK: b"mask",
        TIME: (3600).to_bytes(4, "big"),
        T1: (600).to_bytes(4, "big"),
        T2: (900).to_bytes(4, "big"),
    }
    assert limited(options, 3600) is options
    assert limited(options, 700) == {MASK: b"mask", TIME: (700).to_bytes(4, "big"), T1: (600).to_bytes(4, "big")}
    assert limited(options, 600) == {MASK: b"mask", TIME: (600).to_bytes(4, "big")}
    assert limited({MASK: b"mask"}, 600) == {MASK: b"mask"}
