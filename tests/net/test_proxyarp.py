"""Which answers to ARP probes prove that an address is in use."""

from typing import Any

from bootfw.net.dhcp.proxyarp import MIN_ADDRESSES, ProxyARP

ROUTER, HOST = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


class Wire:
    def __init__(
        self, interface: str = "eth0", found: list[Any] | None = None, proxies: ProxyARP | None = None
    ) -> None:
        self.found = [] if found is None else found
        self.proxies = proxies or ProxyARP(lambda *seen: self.found.append(seen))
        self.interface = interface
        self.now = 0.0

    def answers(self, hardware: bytes, *addresses: str) -> list[bool]:
        return [self.proxies.reply_received(self.interface, hardware, address, self.now) for address in addresses]


def numbered(count: int) -> list[str]:
    return [f"10.77.0.{100 + number}" for number in range(count)]


def test_fourth_answer_in_a_row_is_recognized_as_proxy_arp() -> None:
    wire = Wire()
    assert wire.answers(ROUTER, *numbered(6)) == [True] * (MIN_ADDRESSES - 1) + [False] * 3
    assert wire.found == [("eth0", "02:00:00:00:00:01", tuple(numbered(MIN_ADDRESSES)))]


def test_many_replies_for_one_address_are_no_proxy_arp() -> None:
    wire = Wire()
    assert all(wire.answers(HOST, *numbered(1) * 10))
    assert wire.found == []


def test_another_machine_or_an_unanswered_probe_restarts_the_count() -> None:
    wire = Wire()
    assert all(wire.answers(ROUTER, *numbered(3)))
    assert all(wire.answers(HOST, "10.77.0.200"))
    assert all(wire.answers(ROUTER, *numbered(3)))
    wire.proxies.probe_timed_out("eth0")
    assert all(wire.answers(ROUTER, *numbered(3)))
    assert wire.found == []


def test_answers_are_counted_per_interface() -> None:
    one = Wire("eth0")
    other = Wire("eth1", one.found, one.proxies)
    one.answers(ROUTER, *numbered(3))
    assert all(other.answers(ROUTER, *numbered(3)))
    one.proxies.probe_timed_out("eth1")
    assert one.answers(ROUTER, "10.77.0.9") == [False]
    assert other.answers(ROUTER, "10.77.0.9") == [True]


def test_device_is_forgotten_after_an_hour_without_an_answer() -> None:
    wire = Wire()
    wire.answers(ROUTER, *numbered(4))
    wire.now = 3599.0
    assert wire.answers(ROUTER, "10.77.0.9") == [False]
    wire.now = 3599.0 + 3600.0
    assert wire.answers(ROUTER, "10.77.0.9") == [True]


def test_the_number_of_remembered_devices_is_bounded() -> None:
    wire = Wire()
    for number in range(300):
        wire.answers(number.to_bytes(6, "big"), *numbered(4))
    assert len(wire.proxies._proxies) == 256
