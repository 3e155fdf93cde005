"""The limit on unknown clients."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leasing import BEGIN, HERE, Machine, pool, server
from narrowing import of_type

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.net.dhcp.ratelimit import BUSY_PORTS, RateLimit
from bootfw.wire.dhcp4 import Message

ELSEWHERE = Arrival("10.78.0.1")
HUNDRED = pool(100)


def asked(machine: Machine) -> tuple[Message, Arrival, float, Callable[[], int]]:
    return machine.message(1), machine.arrival, machine.now, lambda: 0


def test_a_burst_is_limited_to_the_rate_of_one_second() -> None:
    admission, client = RateLimit(3), Machine(1, server())
    assert [admission.admit(*asked(client)) for _ in range(4)] == [True, True, True, False]
    assert not admission.admit(*asked(client.after(0.3)))
    assert admission.admit(*asked(client.after(0.34)))


@given(st.lists(st.floats(0, 2), max_size=200), st.integers(1, 20))
def test_rate_is_limited_with_a_burst_of_one_second(pauses: list[float], rate: int) -> None:
    admission, client = RateLimit(rate), Machine(1, server())
    admitted = 0
    for pause in pauses:
        client = client.after(pause)
        admitted += admission.admit(*asked(client))
    assert admitted <= rate * (sum(pauses) + 1) + 1e-6


@pytest.mark.parametrize(
    "other",
    [
        Machine(2, server(), arrival=ELSEWHERE),
        Machine(2, server(), giaddr="10.77.0.2"),
        Machine(2, server(), {82: b"\1\2ab"}, giaddr="10.77.0.3"),
    ],
    ids=["wire", "relay", "circuit"],
)
def test_flood_from_one_place_does_not_limit_others(other: Machine) -> None:
    admission, flood = RateLimit(1), Machine(1, server(), {82: b"\1\2xx"}, giaddr="10.77.0.3")
    assert admission.admit(*asked(flood))
    assert not admission.admit(*asked(flood))
    assert admission.admit(*asked(other))


def test_option_82_is_ignored_without_a_relay() -> None:
    admission = RateLimit(1)
    assert admission.admit(*asked(Machine(1, server(), {82: b"\1\2aa"})))
    assert not admission.admit(*asked(Machine(2, server(), {82: b"\1\2bb"})))


def flooded(free: int, giaddr: str = "0.0.0.0", agent: dict[int, bytes] | None = None) -> int:
    """How many of a thousand that come at once are admitted at a rate of 5."""
    admission, client = RateLimit(5), Machine(1, server(), agent or {}, giaddr=giaddr)
    return sum(admission.admit(client.message(1), client.arrival, client.now, lambda: free) for _ in range(1000))


@pytest.mark.parametrize(("free", "admitted"), [(0, 5), (20, 5), (24, 6), (400, 100), (4000, 1000)])
def test_quarter_of_the_free_addresses_may_be_given_in_a_second(free: int, admitted: int) -> None:
    assert flooded(free) == admitted
    assert flooded(free, "10.77.0.3") == admitted


def test_circuit_has_the_configured_rate_whatever_is_free() -> None:
    assert flooded(4000, "10.77.0.3", {82: b"\1\2xx"}) == 5


def test_a_flood_never_empties_a_pool_at_once() -> None:
    """Ten seconds of as many invented clients as it likes leave some addresses to others."""
    addresses = server(HUNDRED, admit=RateLimit(0.1).admit)
    numbers = iter(range(100_000))
    for second in range(10):
        for _ in range(500):
            Machine(next(numbers), addresses, now=BEGIN + second).discovers()
    network = addresses.books[0]
    assert network.free() == pytest.approx(100 * 0.75**10, abs=3)


def test_known_clients_are_served_whatever_the_flood() -> None:
    addresses = server(HUNDRED, admit=RateLimit(5).admit)
    known = Machine(0, addresses)
    held = known.boots()
    results = [Machine(number, addresses, now=BEGIN + 10).discovers() for number in range(1, 50)]

    limited = [result for result in results if isinstance(result, NoReply)]
    assert len(limited) == 25  # a quarter of the hundred has gone
    assert {result.reason for result in limited} == {NoReplyReason.LIMITED}
    assert of_type(Answer, known.after(10).renews(held)).address == held
    assert known.after(10).boots() == held


def test_number_of_buckets_is_bounded() -> None:
    admission, leasing = RateLimit(1), server()
    for number in range(5000):
        machine = Machine(number, leasing, giaddr=f"10.77.{number // 250}.{number % 250}")
        admission.admit(machine.message(1), HERE, BEGIN, lambda: 0)
    assert len(admission._buckets) == 4096


def test_infinite_rate_is_no_limit() -> None:
    admission = RateLimit(math.inf)
    assert all(admission.admit(*asked(Machine(1, server()))) for _ in range(1000))


def test_circuits_of_a_relay_share_the_rate_of_the_relay() -> None:
    admission = RateLimit(1)
    circuits = [Machine(number, server(), {82: b"\1\1" + bytes((number,))}, giaddr="10.77.0.3") for number in range(99)]
    assert sum(admission.admit(*asked(machine)) for machine in circuits) == BUSY_PORTS
    other = Machine(1, server(), {82: b"\1\1a"}, giaddr="10.77.0.4")
    assert admission.admit(*asked(other))
    links = [(("eth0", "fd77::5"), bytes((number,))) for number in range(99)]
    of_one = RateLimit(1)
    assert sum(of_one.admit6(link, 0.0) for link in links) == BUSY_PORTS
    assert of_one.admit6((("eth1", "::"), None), 0.0)
    assert not of_one.admit6((("eth1", "::"), None), 0.0)
