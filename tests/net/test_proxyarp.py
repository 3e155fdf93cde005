"""Which answers to ARP probes prove that an address is in use."""

from typing import Any

from bootfw.net.dhcp.proxyarp import MIN_ADDRESSES, ProxyARP

ROUTER, HOST = b"\2\0\0\0\0\1", b"\2\0\0\0\0\2"


class Link:
    """The replies to ARP probes on one interface."""

    def __init__(
        self, interface: str = "eth0", found: list[Any] | None = None, proxies: ProxyARP | None = None
    ) -> None:
        self.found = [] if found is None else found
        self.proxies = proxies or ProxyARP(lambda *report: self.found.append(report))
        self.interface = interface
        self.now = 0.0

    def reply(self, hardware: bytes, *addresses: str) -> list[bool]:
        """*hardware* replies for each of *addresses*. Returns whether that proves that the address is in use."""
        return [self.proxies.reply_received(self.interface, hardware, address, self.now) for address in addresses]


def addresses(count: int) -> list[str]:
    return [f"10.77.0.{100 + number}" for number in range(count)]


def test_fourth_answer_in_a_row_is_recognized_as_proxy_arp() -> None:
    link = Link()
    assert link.reply(ROUTER, *addresses(6)) == [True] * (MIN_ADDRESSES - 1) + [False] * 3
    assert link.found == [("eth0", "02:00:00:00:00:01", tuple(addresses(MIN_ADDRESSES)))]


def test_many_replies_for_one_address_are_no_proxy_arp() -> None:
    link = Link()
    assert all(link.reply(HOST, *addresses(1) * 10))
    assert link.found == []


def test_another_machine_or_an_unanswered_probe_restarts_the_count() -> None:
    link = Link()
    assert all(link.reply(ROUTER, *addresses(3)))
    assert all(link.reply(HOST, "10.77.0.200"))
    assert all(link.reply(ROUTER, *addresses(3)))
    link.proxies.probe_timed_out("eth0")
    assert all(link.reply(ROUTER, *addresses(3)))
    assert link.found == []


def test_answers_are_counted_per_interface() -> None:
    first = Link("eth0")
    second = Link("eth1", first.found, first.proxies)
    first.reply(ROUTER, *addresses(3))
    assert all(second.reply(ROUTER, *addresses(3)))
    first.proxies.probe_timed_out("eth1")
    assert first.reply(ROUTER, "10.77.0.9") == [False]
    assert second.reply(ROUTER, "10.77.0.9") == [True]


def test_device_is_forgotten_after_an_hour_without_an_answer() -> None:
    link = Link()
    link.reply(ROUTER, *addresses(4))
    link.now = 3599.0
    assert link.reply(ROUTER, "10.77.0.9") == [False]
    link.now = 3599.0 + 3600.0
    assert link.reply(ROUTER, "10.77.0.9") == [True]


def test_the_number_of_remembered_devices_is_bounded() -> None:
    link = Link()
    for number in range(300):
        link.reply(number.to_bytes(6, "big"), *addresses(4))
    assert len(link.proxies._proxies) == 256
