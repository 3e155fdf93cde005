"""Which requests are served: lists of addresses, rate limits, and the slots for transfers that clients share."""

from math import inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from bootfw.config.settings import Settings
from bootfw.events import RequestsDropped
from bootfw.net.admission import (
    ALONE,
    BURST_SECONDS,
    DENIED,
    DHCP_PER_SECOND,
    NETWORK_SHARE,
    NOT_ALLOWED,
    REMEMBERED,
    REPORT_SECONDS,
    Admission,
)
from bootfw.net.shares import FEW, Shares
from bootfw.values import Address

CLIENT = ("10.0.0.9", 1000)
OTHER = ("127.0.0.9", 1000)


class Gate:
    """An Admission on a clock, and the events of the requests that it dropped."""

    def __init__(self, **settings: Any) -> None:
        self.clock = Clock()
        self.dropped: list[Any] = []
        self.admission = Admission(self.clock, self.dropped.append, Settings(**settings))

    def admits(self, peer: Address = CLIENT, *, alone: bool = False) -> bool:
        """Whether a request of *peer* is served. Another client sends one before it, unless the client is *alone*."""
        if not alone:
            self.admission.admits("tftp", OTHER, self.clock.seconds())
        return self.admission.admits("tftp", peer, self.clock.seconds())

    def admits_dhcp(self, address: str, mac: bytes = b"\2\0\0\0\0\1") -> bool:
        return self.admission.admits_dhcp("dhcp", (address, 68), mac, self.clock.seconds())

    def burst(self, count: int, address: str = "10.0.0.9") -> int:

        return sum(self.admits((address, port)) for port in range(count))


@pytest.mark.parametrize(
    ("address", "allow", "deny", "served"),
    [
        ("10.0.0.9", [], [], True),
        ("10.0.0.9", ["10.0.0.0/8"], [], True),
        ("10.0.0.9", ["10.0.0.9"], [], True),
        ("10.0.0.9", ["10.0.0.8", "fd77::/64"], [], False),
        ("10.0.0.9", [], ["10.0.0.0/24"], False),
        ("10.0.0.9", ["10.0.0.0/8"], ["10.0.0.9"], False),
        ("10.0.0.9", [], ["10.0.0.8"], True),
        ("fd77::9", ["fd77::/64"], [], True),
        ("fd77::9", ["10.0.0.0/8"], [], False),
        ("fe80::9%eth0", [], ["fe80::/10"], False),
        ("127.0.0.1", ["10.0.0.0/8"], [], False),
        ("", ["10.0.0.0/8"], [], True),  # a UNIX socket
    ],
)
def test_allow_and_deny_lists_match_addresses(address: str, allow: list[str], deny: list[str], served: bool) -> None:
    gate = Gate(allow=allow, deny=deny)
    peer = (address, 1000)
    assert gate.admits(peer, alone=True) is served
    assert gate.admission.serves("http", peer, 0.0) is served
    assert {event.reason for event in gate.dropped} <= {DENIED, NOT_ALLOWED}
    assert {event.service for event in gate.dropped} == (set() if served else {"tftp", "http"})


def test_lists_match_relays_and_not_clients_without_an_address() -> None:
    gate = Gate(allow=["10.0.0.0/8"], deny=["10.66.0.1", "fe80::/10", "0.0.0.0"])
    addresses = ("0.0.0.0", "fe80::1", "10.1.0.1", "10.66.0.1", "192.168.0.1")
    assert [gate.admits_dhcp(address) for address in addresses] == [True, True, True, False, False]


def test_changed_lists_apply_to_later_requests() -> None:
    gate = Gate(deny=["10.0.0.9"])
    assert not gate.admits()
    gate.admission.use(Settings())
    assert gate.admits()
    gate.admission.use(Settings(allow=["10.1.0.0/16"]))
    assert not gate.admits()


def test_one_client_gets_its_rate_and_others_lose_nothing() -> None:
    gate = Gate(requests_per_second=10)
    most = 10 * BURST_SECONDS
    assert gate.burst(100) == most
    assert gate.burst(100, "10.0.1.9") == most
    gate.clock.advance(1)
    assert gate.burst(100) == 10
    gate.clock.advance(100)
    assert gate.burst(100) == most


def test_a_client_that_is_alone_has_no_limit() -> None:
    gate = Gate(requests_per_second=10)
    assert all(gate.admits(alone=True) for _ in range(100))
    assert gate.admission.most() == inf
    assert gate.admits()
    assert gate.admission.most() == 10
    assert not all(gate.admits(alone=True) for _ in range(100))
    gate.clock.advance(ALONE - 1)
    gate.burst(100)
    gate.clock.advance(ALONE)
    assert all(gate.admits(alone=True) for _ in range(100))


def test_dhcp_request_counts_as_another_client() -> None:
    """A machine that boots sends it before it requests a file."""
    gate = Gate(requests_per_second=10)
    assert gate.admits(alone=True)
    assert gate.admits_dhcp("0.0.0.0")
    assert not all(gate.admits(alone=True) for _ in range(100))


def test_the_clients_of_a_network_share_its_rate() -> None:
    gate = Gate(requests_per_second=10)
    most = 10 * BURST_SECONDS
    served = [gate.burst(100, f"10.0.0.{number}") for number in range(1, 9)]
    assert served == [most] * NETWORK_SHARE + [0] * (8 - NETWORK_SHARE)
    assert gate.burst(100, "10.0.1.1") == most
    ipv6_gate = Gate(requests_per_second=10)
    assert [ipv6_gate.burst(100, f"fd77::{number}") for number in (1, 2, 3, 4, 5)] == [most] * NETWORK_SHARE + [0]
    assert ipv6_gate.burst(100, "fd77:0:0:1::1") == most


@given(st.lists(st.floats(0, 1), max_size=100), st.integers(1, 10))
def test_never_more_than_the_rate_and_one_burst(pauses: list[float], rate: int) -> None:
    gate = Gate(requests_per_second=rate)
    served = 0
    for pause in pauses:
        gate.clock.advance(pause)
        served += gate.admits()
    assert served <= rate * (sum(pauses) + BURST_SECONDS) + 1


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1"])
def test_programs_of_this_host_are_not_limited(address: str) -> None:
    assert Gate(requests_per_second=1).burst(1000, address) == 1000


def test_zero_requests_per_second_means_no_limit() -> None:
    gate = Gate(requests_per_second=0)
    assert gate.burst(50_000) == 50_000
    assert all(gate.admits_dhcp("0.0.0.0") for _ in range(1000))


def test_network_card_that_repeats_its_dhcp_requests_does_not_delay_others() -> None:
    gate = Gate()
    assert sum(gate.admits_dhcp("0.0.0.0") for _ in range(1000)) == DHCP_PER_SECOND * BURST_SECONDS
    assert gate.admits_dhcp("0.0.0.0", b"\2\0\0\0\0\2")


def test_flood_of_addresses_is_bounded_in_memory_and_keeps_the_limits() -> None:
    gate = Gate(requests_per_second=10)
    for number in range(3 * REMEMBERED):
        gate.admits((f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 1))
        if number % 1000 == 0:
            gate.burst(100, "192.168.0.1")
    assert len(gate.admission._clients) <= REMEMBERED
    assert gate.burst(100, "192.168.0.1") == 0


def test_dropped_requests_are_reported_every_ten_seconds() -> None:
    gate = Gate(deny=["10.0.0.9"])
    for _ in range(300):
        gate.admits()
        gate.clock.advance(0.1)
    gate.admission.stop()
    assert 3 <= len(gate.dropped) <= 30 / REPORT_SECONDS + 2
    assert sum(event.count for event in gate.dropped) == 300
    assert gate.dropped[0] == RequestsDropped(0.0, "tftp", 1, DENIED, CLIENT)
    assert gate.clock.getDelayedCalls() == []


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans())), st.integers(FEW, 40))
def test_client_gets_slots_while_it_has_fewer_than_are_free(steps: list[tuple[str, bool]], most: int) -> None:
    shares, model = Shares(), {"a": 0, "b": 0, "c": 0}
    for client, takes_slot in steps:
        if takes_slot:
            free = most - sum(model.values())
            assert shares.allows(client, most) == (model[client] < max(free, FEW))
            if shares.allows(client, most) and free:
                shares.take(client)
                model[client] += 1
        elif model[client]:
            shares.give_back(client)
            model[client] -= 1
        assert shares.total == sum(model.values())


def test_one_client_gets_half_of_the_slots_and_leaves_no_entry() -> None:
    shares = Shares()
    while shares.allows("a", 100):
        shares.take("a")
    assert shares.total == 50
    assert shares.allows("b", 100)
    for _ in range(50):
        shares.give_back("a")
    assert (shares.total, shares._places) == (0, {})
