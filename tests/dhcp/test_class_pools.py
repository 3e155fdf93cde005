"""Pools of client classes, for DHCPv4 and DHCPv6."""

from typing import Any

import pytest
from firmware6 import LINUX, MAC
from leasing import NAK, ROM, Machine, address, no_reply_reason, server, subnet
from narrowing import of_type
from test_server6 import OUR_SERVER_ID, Server, association, ia_address_options, status_in
from test_server6 import subnet as subnet6

from bootfw.config.settings import DHCP6Settings, DHCPSettings
from bootfw.dhcp.answer import Answer, NoReply, NoReplyReason
from bootfw.dhcp.hostclass import HostClass, HostClass6
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import ConfigError
from bootfw.wire.dhcp6 import MessageType
from bootfw.wire.options6 import Status

PHONE = {60: b"AcmePhone 7"}
PHONES = HostClass(vendor_class="AcmePhone", pool=["10.77.0.105-10.77.0.106"])
FIRST = "02:00:00:00:00:01"


def test_clients_of_a_class_get_other_addresses_when_the_pool_of_the_class_is_used_up() -> None:
    dhcp = server(subnet(pool=["10.77.0.104-10.77.0.107"]), classes=[PHONES])
    phones = [Machine(number, dhcp, PHONE).get_lease() for number in (1, 2, 3)]
    assert phones == ["10.77.0.105", "10.77.0.106", "10.77.0.104"]
    assert Machine(4, dhcp).get_lease() == "10.77.0.107"
    assert no_reply_reason(Machine(5, dhcp).discovers()) is no_reply_reason(Machine(6, dhcp, PHONE).discovers())
    assert no_reply_reason(Machine(5, dhcp).discovers("10.77.0.105")) is NoReplyReason.EXHAUSTED


def test_addresses_of_a_class_need_not_be_in_the_pool_of_the_subnet() -> None:
    dhcp = server(subnet(pool=[], exclude=["10.77.0.105"]), classes=[PHONES])
    assert Machine(1, dhcp, PHONE).get_lease() == "10.77.0.106"
    assert no_reply_reason(Machine(2, dhcp, PHONE).discovers()) is NoReplyReason.EXHAUSTED
    no_reply = Machine(3, dhcp).discovers()
    assert no_reply_reason(no_reply) is NoReplyReason.NO_POOL
    assert isinstance(no_reply, NoReply)
    assert no_reply.detail == "10.77.0.0/24"


def test_a_client_that_is_no_longer_in_the_class_gets_a_nak_and_another_address() -> None:
    dhcp = server(subnet(), classes=[PHONES])
    machine = Machine(1, dhcp, PHONE)
    leased = machine.get_lease()
    outside_of_class = machine.sending({})
    assert address(outside_of_class.renews(leased), NAK) == ""
    assert outside_of_class.get_lease() == "10.77.0.100"
    assert address(outside_of_class.restarts_with("10.77.0.106"), NAK) == ""


def test_a_reservation_counts_more_than_the_pool_of_a_class() -> None:
    dhcp = server(subnet(hosts=[Host(mac=FIRST, address="10.77.0.105")]), classes=[PHONES])
    assert Machine(1, dhcp).get_lease() == "10.77.0.105"
    assert Machine(2, dhcp, PHONE).get_lease() == "10.77.0.106"


def test_an_address_in_quarantine_stays_with_its_class() -> None:
    dhcp = server(subnet(pool=["10.77.0.100"]), classes=[HostClass(user_class="x", pool=["10.77.0.105"])])
    member = {77: b"x"}
    Machine(1, dhcp, member).get_lease_and_decline()
    Machine(2, dhcp).get_lease()
    assert no_reply_reason(Machine(3, dhcp).after(120).discovers()) is NoReplyReason.EXHAUSTED
    assert Machine(4, dhcp, member).after(120).get_lease() == "10.77.0.105"


@pytest.mark.parametrize(
    ("conditions", "first", "second"),
    [
        ({"known": True}, "10.77.0.109", "10.77.0.100"),
        ({"known": False}, "10.77.0.100", "10.77.0.109"),
        ({"mac": [FIRST]}, "10.77.0.109", "10.77.0.100"),
        ({"mac": ["02-00-00-00-00"]}, "10.77.0.109", "10.77.0.100"),
        ({"mac": ["02:00:00:00:00:02"], "vendor_class": "PXEClient"}, "10.77.0.100", "10.77.0.101"),
        ({"mac": ["02:00:00:00:00:02"], "known": False}, "10.77.0.100", "10.77.0.109"),
    ],
)
def test_conditions_of_a_class(conditions: dict[str, Any], first: str, second: str) -> None:
    dhcp = server(subnet(hosts=[Host(mac=FIRST)]), classes=[HostClass(pool=["10.77.0.109"], **conditions)])
    assert (Machine(1, dhcp).get_lease(), Machine(2, dhcp).get_lease()) == (first, second)


def test_all_conditions_of_a_class_must_hold() -> None:
    rule = HostClass(pool=["10.77.0.109"], vendor_class="PXEClient", mac=["02:00"], known=False)
    assert Machine(2, server(subnet(), classes=[rule]), ROM).get_lease() == "10.77.0.109"
    for options, mac in (({}, "02:00"), (ROM, "52:54")):
        dhcp = server(subnet(), classes=[HostClass(pool=["10.77.0.109"], vendor_class="PXEClient", mac=[mac])])
        assert Machine(2, dhcp, options).get_lease() == "10.77.0.100"


def test_options_of_a_class_of_known_clients() -> None:
    rule = HostClass(known=True, options={"ntp-servers": "10.77.0.5"})
    dhcp = server(subnet(hosts=[Host(mac=FIRST)]), classes=[rule])
    assert [42 in of_type(Answer, Machine(number, dhcp).discovers()).options for number in (1, 2)] == [True, False]


def test_in_a_shared_network_the_pool_of_the_clients_subnet_comes_first() -> None:
    own = subnet(pool=["10.77.0.100"], shared_network="lab")
    other = Subnet(network="10.79.0.0/24", pool=["10.79.0.100"], shared_network="lab")
    dhcp = server(own, other, classes=[HostClass(user_class="x", pool=["10.79.0.200"])])
    assert [Machine(number, dhcp, {77: b"x"}).get_lease() for number in (1, 2, 3)] == [
        *("10.77.0.100", "10.79.0.200", "10.79.0.100"),
    ]


def test_free_addresses_are_counted_for_the_subnet() -> None:
    dhcp = server(subnet(), classes=[PHONES])
    assert dhcp.free() == {("10.77.0.0/24",): 10}
    Machine(1, dhcp, PHONE).get_lease()
    assert dhcp.free() == {("10.77.0.0/24",): 9}


def test_dhcpv6_has_pools_of_classes() -> None:
    dhcp = Server(subnet6(pool=[]), classes=[HostClass6(mac=[MAC[:8]], pool=["fd77::2000"])])
    assert dhcp.address_for(LINUX) == "fd77::2000"
    answer = dhcp.answer(LINUX.changed({1: b"another"}).message(), mac="02:00:00:00:00:07")
    assert (answer.address, status_in(association(answer).options)) == ("", Status.NO_ADDRESSES)
    assert answer.reason is NoReplyReason.NO_POOL
    renewal = dhcp.answer(LINUX.message(MessageType.RENEW, OUR_SERVER_ID, ia=ia_address_options("fd77::2000")))
    assert renewal.address == "fd77::2000"


def test_dhcpv6_clients_of_a_class_get_other_addresses_when_its_pool_is_used_up() -> None:
    dhcp = Server(subnet6(pool=["fd77::1000"]), classes=[HostClass6(known=False, pool=["fd77::2000"])])
    clients = [LINUX.changed({1: b"client %d" % number}) for number in range(3)]
    assert [dhcp.address_for(client, mac="") for client in clients[:2]] == ["fd77::2000", "fd77::1000"]
    assert dhcp.answer(clients[2].message(), mac="").reason is NoReplyReason.EXHAUSTED


@pytest.mark.parametrize(
    ("pools", "message"),
    [
        ([["10.77.0.105", "10.78.0.5"]], "class[0].pool[1]: is not inside the network of a subnet"),
        ([["10.77.0.0-10.77.1.255"]], "class[0].pool[0]: is not inside the network of a subnet"),
        ([["10.77.0.105-10.77.0.109"], ["10.77.0.109"]], "class[1].pool[0]: overlaps a pool of a class"),
        ([["10.77.0.105", "10.77.0.105"]], "class[0].pool[1]: overlaps a pool of a class"),
    ],
)
def test_pools_that_do_not_fit_are_errors(pools: list[list[str]], message: str) -> None:
    classes = [HostClass(known=True, pool=pool) for pool in pools]
    with pytest.raises(ConfigError) as raised:
        DHCPSettings(mode="server", subnets=[subnet()], classes=classes)
    assert [str(error) for error in raised.value.each] == [message]


def test_pools_of_classes_need_subnets() -> None:
    with pytest.raises(ConfigError, match="is not inside the network of a subnet"):
        DHCPSettings(classes=[PHONES])
    with pytest.raises(ConfigError, match="is not inside the network of a subnet"):
        DHCP6Settings(
            mode="server",
            subnets=[Subnet6(network="fd77::/64")],
            classes=[HostClass6(known=True, pool=["fd78::1"])],
        )
