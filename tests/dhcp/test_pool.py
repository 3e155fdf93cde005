"""The order in which a pool assigns its addresses."""

from typing import Any

import pytest
from calls import calls_of
from hypothesis import example, given
from hypothesis import strategies as st
from leasing import BEGIN, Machine, address, pool, server, subnet
from narrowing import present

from bootfw.dhcp.identity import identify
from bootfw.dhcp.pool import Binding, Pool
from bootfw.dhcp.ranges import text_of
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import Lease, LeaseState
from bootfw.wire.dhcp4 import MessageType

OFFER = MessageType.OFFER


class PoolWithBook(Pool[Subnet]):
    """A pool that records each chosen address at once, as the lease book does."""

    def __init__(self, subnet: Subnet) -> None:
        self.bindings: dict[int, Binding[Subnet]] = {}
        super().__init__(subnet, subnet.assignable, self.bindings, ())

    def take(self, now: float) -> Binding[Subnet] | None:
        binding = self.next(now)
        if binding is not None:
            self.bindings[binding.number] = binding
            binding.free_entry = None
        return binding


def addresses_of(changed: dict[str, Any]) -> list[str]:
    """All addresses of a pool, in the order in which it assigns them."""
    found = []
    tested_pool = PoolWithBook(subnet(**changed))
    while (binding := tested_pool.take(0.0)) is not None:
        found.append(binding.address)
    assert [text_of(number, 4) for number in tested_pool.bindings] == found
    return found


def test_addresses_come_in_the_order_of_the_pool() -> None:
    assert addresses_of({"pool": ["10.77.0.20-10.77.0.21", "10.77.0.5", "10.77.0.8/31"]}) == [
        "10.77.0.20",
        "10.77.0.21",
        "10.77.0.5",
        "10.77.0.8",
        "10.77.0.9",
    ]


@pytest.mark.parametrize("index", range(5))
def test_the_search_may_begin_anywhere_in_the_pool(index: int) -> None:
    changed = {"pool": ["10.77.0.20-10.77.0.21", "10.77.0.5", "10.77.0.8/31"]}
    tested_pool = PoolWithBook(subnet(**changed))
    tested_pool.begin_at(index)
    found = [tested_pool.take(0.0) for _ in range(tested_pool.size)]
    all_addresses = addresses_of(changed)
    assert [each and each.address for each in found] == all_addresses[index:] + all_addresses[:index]
    assert tested_pool.take(0.0) is None


def test_no_client_gets_a_router_an_excluded_or_an_invalid_address() -> None:
    changed: dict[str, Any] = {
        "pool": ["10.77.0.0/29", "10.77.0.254-10.77.0.255"],
        "router": "10.77.0.1",
        "exclude": ["10.77.0.3-10.77.0.4"],
    }

    assert addresses_of(changed) == ["10.77.0.2", "10.77.0.5", "10.77.0.6", "10.77.0.7", "10.77.0.254"]


def test_a_pair_of_addresses_are_both_hosts() -> None:
    """RFC 3021."""
    assert addresses_of({"network": "10.77.0.2/31", "pool": ["10.77.0.2/31"]}) == ["10.77.0.2", "10.77.0.3"]


def test_pool_of_a_whole_network_is_created_lazily() -> None:
    tested_pool = PoolWithBook(subnet(network="10.0.0.0/8", pool=["10.0.0.0/8"], router=()))

    assert present(tested_pool.take(0.0)).address == "10.0.0.1"


def test_never_leased_addresses_come_first() -> None:
    dhcp = server(pool(3))
    first, second, third = (Machine(number, dhcp) for number in (1, 2, 3))
    leased = first.get_lease()
    offered = address(second.discovers(), OFFER)

    later = third.after(4000)

    assert address(later.discovers(), OFFER) == offered
    assert address(Machine(4, dhcp, now=later.now).discovers(), OFFER) not in (leased, offered)
    assert address(Machine(5, dhcp, now=later.now).discovers(), OFFER) == leased


def test_earliest_expired_address_is_assigned_first() -> None:
    dhcp = server(pool(4))
    machines = [Machine(number, dhcp).after(10 * number) for number in range(4)]
    leased = [machine.get_lease() for machine in machines]
    machines[0].after(100).renews(leased[0])
    machines[2].after(200).releases(leased[2])

    strangers = [Machine(number, dhcp, now=machines[0].now + 10000) for number in range(10, 14)]

    assert [address(stranger.discovers(), OFFER) for stranger in strangers] == [leased[n] for n in (2, 1, 3, 0)]


def test_client_that_returns_after_expiry_keeps_its_position_in_the_pool() -> None:
    dhcp = server(pool(2))
    first, second = Machine(1, dhcp), Machine(2, dhcp).after(1)
    leased = [first.get_lease(), second.get_lease()]
    stranger = Machine(3, dhcp).after(3602)
    assert address(stranger.discovers(), OFFER) == leased[0]
    stranger.selects("192.0.2.9", server_id="192.0.2.1")
    first.after(4000).get_lease()

    strangers = [Machine(number, dhcp).after(9000) for number in (4, 5)]

    assert [address(stranger.discovers(), OFFER) for stranger in strangers] == [leased[1], leased[0]]


def test_free_address_is_found_behind_renewed_ones() -> None:
    dhcp = server(pool(30))
    machines = [Machine(number, dhcp).after(number) for number in range(30)]
    leased = [machine.get_lease() for machine in machines]
    for machine, address_of_machine in zip(machines[:-1], leased, strict=False):
        machine.after(3500).renews(address_of_machine)

    assert address(Machine(99, dhcp).after(3700).discovers(), OFFER) == leased[-1]


def test_each_renewal_moves_its_own_entry() -> None:
    """So that the next client that needs an address does not wait until thousands of entries are moved."""
    dhcp = server(pool(30))
    machines = [Machine(number, dhcp) for number in range(30)]
    leased = [machine.get_lease() for machine in machines]
    for seconds in (3000, 6000):
        for machine, address_of_machine in zip(machines, leased, strict=True):
            machine.after(seconds).renews(address_of_machine)

    ((subnet_pool,),) = dhcp.books[0].pools.values()
    assert subnet_pool._queue[0][0] > machines[0].now + 6000


def test_the_cost_of_an_exchange_does_not_depend_on_the_number_of_leases() -> None:
    def cost(leases: int) -> list[int]:
        dhcp = server(subnet(network="10.77.0.0/16", pool=["10.77.0.10-10.77.255.250"]))
        for number in range(leases):
            Machine(number, dhcp).get_lease()
        machine = Machine(99999, dhcp)
        identity = present(identify(machine.message(1), {})).key
        return [
            calls_of(machine.discovers),
            calls_of(machine.get_lease),
            calls_of(lambda: machine.after(9).renews(dhcp.books[0].leased[identity].address)),
        ]

    assert cost(3000) == cost(30)


moves = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["lease", "offer", "renew", "release", "withdraw", "take"]),
        st.sampled_from([1, 5, 50, 500]),
        st.sampled_from([0, 0, 1, 10, 100]),
    ),
    max_size=40,
)


@example([(0, "take", 1, 1), (2, "lease", 1, 0), (2, "release", 1, 0)], 0)
@example([(0, "renew", 1, 1), (2, "lease", 1, 0), (2, "release", 1, 0)], 0)
@given(moves, st.integers(0, 700))
def test_free_addresses_come_in_the_order_in_which_they_became_free(
    steps: list[tuple[int, str, int, int]], later: int
) -> None:
    """Whatever happened to the addresses before."""
    tested_pool, now = PoolWithBook(pool(5)), 100.0
    bindings = [present(tested_pool.take(now)) for _ in range(5)]
    for binding in bindings:
        lease(binding, now, 1.0)
        tested_pool.requeue(binding, now)
    for index, move, duration, elapsed in steps:
        binding = bindings[index]
        free_at_before = binding.free_at()
        now += elapsed
        if move == "take":
            next_binding = tested_pool.take(now)
            if next_binding is not None:
                next_binding.offered_until = now + duration
                tested_pool.requeue(next_binding, now)
            continue
        if move == "offer":
            binding.offered_until = max(binding.offered_until, now + duration)
        elif move == "withdraw":
            binding.offered_until = min(binding.offered_until, now)
        elif move == "release":
            lease(binding, now, min(0.0, present(binding.lease).expires - now))
        elif move == "lease" or present(binding.lease).expires > now:
            lease(binding, now, duration)
        if binding.free_at() != free_at_before:
            tested_pool.requeue(binding, now)
    now += later

    free = sorted((b for b in bindings if b.free_at() <= now), key=lambda b: b.free_at())
    taken = list(iter(lambda: tested_pool.take(now), None))
    assert [b.free_at() for b in taken] == [b.free_at() for b in free]
    assert {b.address for b in taken} == {b.address for b in free}


def lease(binding: Binding[Subnet], now: float, seconds: float) -> None:
    binding.lease = Lease(binding.address, b"x", "", LeaseState.ACTIVE, now, now + seconds)


def test_repeated_allocation_and_release_does_not_grow_the_pool() -> None:
    tested_pool, now = PoolWithBook(pool(10)), 0.0
    for _ in range(2000):
        now += 0.1
        binding = present(tested_pool.take(now))
        for seconds in (3600.0, 0.0):
            lease(binding, now, seconds)
            tested_pool.requeue(binding, now)

    assert len(tested_pool.bindings) == 10
    assert len(tested_pool._queue) + len(tested_pool._expired) < 100


def test_free_addresses_are_counted() -> None:
    dhcp = server()
    book = dhcp.books[0]
    assert book.free() == 10
    leased = Machine(1, dhcp).get_lease()
    Machine(2, dhcp).discovers()
    assert book.free() == 8
    Machine(1, dhcp).releases(leased)
    # The offered and the released address count again as soon as the pool has been searched.
    for number in range(3, 7):
        Machine(number, dhcp, now=BEGIN + 1000).discovers()
    assert book.free() == 6
