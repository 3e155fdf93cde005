"""The limit on the addresses that unknown clients get in a second."""

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from leasing import BEGIN, BY_BROADCAST, Machine, pool, server
from narrowing import of_type

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.net.dhcp.ratelimit import BUSY_PORTS, RateLimit
from bootfw.wire.dhcp4 import Message

ON_ANOTHER_LINK = Arrival("10.78.0.1")
HUNDRED_ADDRESSES = pool(100)


def discover(machine: Machine) -> tuple[Message, Arrival, float, Callable[[], int]]:
    """The arguments of RateLimit.admit() for a DHCPDISCOVER of *machine*, with no free addresses."""
    return machine.message(1), machine.arrival, machine.now, lambda: 0


def test_a_burst_is_limited_to_the_rate_of_one_second() -> None:
    admission, client = RateLimit(3), Machine(1, server())
    assert [admission.admit(*discover(client)) for _ in range(4)] == [True, True, True, False]
    assert not admission.admit(*discover(client.after(0.3)))
    assert admission.admit(*discover(client.after(0.34)))


@given(st.lists(st.floats(0, 2), max_size=200), st.integers(1, 20))
def test_rate_is_limited_with_a_burst_of_one_second(pauses: list[float], rate: int) -> None:
    admission, client = RateLimit(rate), Machine(1, server())
    admitted = 0
    for pause in pauses:
        client = client.after(pause)
        admitted += admission.admit(*discover(client))
    assert admitted <= rate * (sum(pauses) + 1) + 1e-6


@pytest.mark.parametrize(
    "other",
    [
        Machine(2, server(), arrival=ON_ANOTHER_LINK),
        Machine(2, server(), giaddr="10.77.0.2"),
        Machine(2, server(), {82: b"\1\2ab"}, giaddr="10.77.0.3"),
    ],
    ids=["link", "relay", "circuit"],
)
def test_flood_from_one_source_does_not_limit_others(other: Machine) -> None:
    admission, flood = RateLimit(1), Machine(1, server(), {82: b"\1\2xx"}, giaddr="10.77.0.3")
    assert admission.admit(*discover(flood))
    assert not admission.admit(*discover(flood))
    assert admission.admit(*discover(other))


def test_option_82_is_ignored_without_a_relay() -> None:
    admission = RateLimit(1)
    assert admission.admit(*discover(Machine(1, server(), {82: b"\1\2aa"})))
    assert not admission.admit(*discover(Machine(2, server(), {82: b"\1\2bb"})))


def admitted_of_flood(free: int, giaddr: str = "0.0.0.0", agent: dict[int, bytes] | None = None) -> int:
    """How many of a thousand simultaneous requests are admitted at a rate of 5."""
    admission, client = RateLimit(5), Machine(1, server(), agent or {}, giaddr=giaddr)
    return sum(admission.admit(client.message(1), client.arrival, client.now, lambda: free) for _ in range(1000))


@pytest.mark.parametrize(("free", "admitted"), [(0, 5), (20, 5), (24, 6), (400, 100), (4000, 1000)])
def test_quarter_of_the_free_addresses_may_be_leased_in_a_second(free: int, admitted: int) -> None:
    assert admitted_of_flood(free) == admitted
    assert admitted_of_flood(free, "10.77.0.3") == admitted


def test_circuit_has_the_configured_rate_however_many_addresses_are_free() -> None:
    assert admitted_of_flood(4000, "10.77.0.3", {82: b"\1\2xx"}) == 5


def test_a_flood_never_empties_a_pool_at_once() -> None:
    """Ten seconds of invented clients, 500 a second, leave some addresses for others."""
    address_server = server(HUNDRED_ADDRESSES, admit=RateLimit(0.1).admit)
    numbers = iter(range(100_000))
    for second in range(10):
        for _ in range(500):
            Machine(next(numbers), address_server, now=BEGIN + second).discovers()
    book = address_server.books[0]
    assert book.free() == pytest.approx(100 * 0.75**10, abs=3)


def test_known_clients_are_served_during_a_flood() -> None:
    address_server = server(HUNDRED_ADDRESSES, admit=RateLimit(5).admit)
    known_client = Machine(0, address_server)
    leased = known_client.get_lease()
    results = [Machine(number, address_server, now=BEGIN + 10).discovers() for number in range(1, 50)]

    limited = [result for result in results if isinstance(result, NoReply)]
    assert len(limited) == 25  # a quarter of the hundred addresses is leased
    assert {result.reason for result in limited} == {NoReplyReason.LIMITED}
    assert of_type(Answer, known_client.after(10).renews(leased)).address == leased
    assert known_client.after(10).get_lease() == leased


def test_number_of_buckets_is_bounded() -> None:
    admission, address_server = RateLimit(1), server()
    for number in range(5000):
        machine = Machine(number, address_server, giaddr=f"10.77.{number // 250}.{number % 250}")
        admission.admit(machine.message(1), BY_BROADCAST, BEGIN, lambda: 0)
    assert len(admission._buckets) == 4096


def test_infinite_rate_is_no_limit() -> None:
    admission = RateLimit(math.inf)
    assert all(admission.admit(*discover(Machine(1, server()))) for _ in range(1000))


def test_circuits_of_a_relay_share_the_rate_of_the_relay() -> None:
    admission = RateLimit(1)
    circuits = [Machine(number, server(), {82: b"\1\1" + bytes((number,))}, giaddr="10.77.0.3") for number in range(99)]
    assert sum(admission.admit(*discover(machine)) for machine in circuits) == BUSY_PORTS
    other = Machine(1, server(), {82: b"\1\1a"}, giaddr="10.77.0.4")
    assert admission.admit(*discover(other))
    links = [(("eth0", "fd77::5"), bytes((number,))) for number in range(99)]
    admission6 = RateLimit(1)
    assert sum(admission6.admit6(link, 0.0) for link in links) == BUSY_PORTS
    assert admission6.admit6((("eth1", "::"), None), 0.0)
    assert not admission6.admit6((("eth1", "::"), None), 0.0)
