"""The subnet of a client: on the server's link, behind a relay, among several subnets."""

from typing import Any

import pytest
from attrs import evolve
from leasing import BEGIN, LEASE, NAK, OFFER, SERVER, Machine, address, server, subnet
from narrowing import of_type

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Host, Subnet, check_subnets
from bootfw.errors import ConfigError

FAR: dict[str, Any] = {"network": "10.78.0.0/24", "pool": ["10.78.0.100-10.78.0.101"], "router": "10.78.0.1"}


def far(**changed: Any) -> Subnet:
    """10.78.0.0/24, which is reached by a relay."""
    return Subnet(**{**FAR, **changed})


@pytest.fixture
def dhcp() -> AddressServer:
    return server(subnet(), far(relays=["192.168.9.1"]))


def behind(dhcp: AddressServer, giaddr: str, options: dict[int, bytes] | None = None, number: int = 1) -> Machine:
    return Machine(number, dhcp, options or {}, Arrival(SERVER, unicast=True), giaddr)


def agent(**suboptions: bytes) -> dict[int, bytes]:
    """The relay agent option with these sub-options: circuit, link, override."""
    codes = {"circuit": 1, "link": 5, "override": 11}
    return {82: b"".join(bytes((codes[name], len(raw))) + raw for name, raw in suboptions.items())}


def test_client_behind_a_relay_is_in_the_subnet_of_the_relay(dhcp: AddressServer) -> None:
    machine = behind(dhcp, "10.78.0.1")

    offer = machine.discovers()

    assert address(offer, OFFER) == "10.78.0.100"
    assert isinstance(offer, Answer)
    assert offer.options[3] == bytes((10, 78, 0, 1))
    assert machine.get_lease() == "10.78.0.100"


def test_a_relay_may_have_an_address_of_its_own(dhcp: AddressServer) -> None:
    assert behind(dhcp, "192.168.9.1").get_lease() == "10.78.0.100"


def test_a_relay_may_select_the_link(dhcp: AddressServer) -> None:
    """RFC 3527."""
    assert behind(dhcp, SERVER, agent(link=bytes((10, 78, 0, 0)))).get_lease() == "10.78.0.100"
    assert behind(dhcp, "10.78.0.1", agent(link=b"\x0a"), 2).get_lease() == "10.78.0.101"


def test_relay_in_no_subnet_is_not_answered(dhcp: AddressServer) -> None:
    answer = behind(dhcp, "172.16.0.1").discovers()

    assert isinstance(answer, NoReply)
    assert (answer.reason, answer.detail) == (NoReplyReason.NO_SUBNET, "172.16.0.1")


def test_client_on_a_link_without_a_subnet_is_not_answered(dhcp: AddressServer) -> None:
    answer = Machine(1, dhcp, arrival=Arrival("192.0.2.1")).discovers()

    assert isinstance(answer, NoReply)
    assert (answer.reason, answer.detail) == (NoReplyReason.NO_SUBNET, "192.0.2.1")


def test_truncated_relay_option_counts_as_absent(dhcp: AddressServer) -> None:
    assert address(behind(dhcp, "10.78.0.1", {82: b"\1\x09x"}).discovers(), OFFER) == "10.78.0.100"


def test_relay_may_override_the_server_identifier(dhcp: AddressServer) -> None:
    """RFC 5107: renewals then go through the relay."""
    machine = behind(dhcp, "10.78.0.1", agent(override=bytes((10, 78, 0, 1))))

    offer = machine.discovers()

    assert isinstance(offer, Answer)
    assert (offer.identifier, offer.server) == ("10.78.0.1", SERVER)
    assert address(machine.selects(offer.address, server_id="10.78.0.1")) == offer.address


def test_a_client_that_moves_has_a_lease_in_each_network(dhcp: AddressServer) -> None:
    near, away = Machine(1, dhcp), behind(dhcp, "10.78.0.1")
    leased = near.get_lease()

    assert address(away.restarts_with(leased), NAK) == ""
    leased_away = away.get_lease()
    assert address(near.restarts_with(leased_away), NAK) == ""
    assert address(near.restarts_with(leased)) == leased


# Shared networks


def test_subnets_of_a_shared_network_are_used_in_order() -> None:
    dhcp = server(subnet(pool=["10.77.0.100"], shared_network="lab"), far(shared_network="lab", pool=["10.78.0.100"]))
    first, second, third = (Machine(number, dhcp) for number in (1, 2, 3))

    assert first.get_lease() == "10.77.0.100"
    ack = second.selects(address(second.discovers(), OFFER))
    assert address(ack) == "10.78.0.100"
    assert isinstance(ack, Answer)
    assert ack.options[3] == bytes((10, 78, 0, 1)), "with the router of its subnet"
    answer = third.discovers()
    assert isinstance(answer, NoReply)
    assert (answer.reason, answer.detail) == (NoReplyReason.EXHAUSTED, "lab")


def test_a_relay_in_a_shared_network_gets_addresses_of_its_own_subnet_first() -> None:
    dhcp = server(subnet(shared_network="lab"), far(shared_network="lab"))

    assert behind(dhcp, "10.78.0.1").get_lease() == "10.78.0.100"
    assert behind(dhcp, SERVER, number=2).get_lease() == "10.77.0.100"


def test_a_client_of_a_shared_network_keeps_its_address_of_either_subnet() -> None:
    dhcp = server(subnet(shared_network="lab"), far(shared_network="lab"))
    machine = Machine(1, dhcp)

    assert address(machine.discovers("10.78.0.101"), OFFER) == "10.78.0.101"
    assert address(machine.selects("10.78.0.101")) == "10.78.0.101"
    assert address(machine.restarts_with("10.78.0.101")) == "10.78.0.101"


def test_own_address_is_not_assigned() -> None:
    dhcp = server(subnet(pool=["10.77.0.1-10.77.0.3"], router=()))

    assert Machine(1, dhcp).get_lease() == "10.77.0.2"
    assert address(Machine(2, dhcp).discovers(SERVER), OFFER) == "10.77.0.3"
    assert address(Machine(2, dhcp).selects(SERVER), NAK) == ""


# Options


def test_classes_get_their_options() -> None:
    classes = [
        HostClass(vendor_class="PXEClient", options={"tftp-server-name": "a", "interface-mtu": 1400}),
        HostClass(vendor_class="PXEClient", user_class="iPXE", options={"tftp-server-name": "b"}),
        HostClass(user_class="lab", options={"224": {"uint8": 7}}),
    ]
    dhcp = server(subnet(options={"interface-mtu": 1500}), classes=classes)

    def options_for(options: dict[int, bytes]) -> tuple[bytes | None, bytes, bytes | None]:
        found = of_type(Answer, Machine(1, dhcp, options).discovers()).options
        return found.get(66), found[26], found.get(224)

    assert options_for({}) == (None, b"\5\xdc", None)
    assert options_for({60: b"PXEClient:Arch:00000"}) == (b"a", b"\5\x78", None)
    assert options_for({60: b"PXEClient:Arch:00000", 77: b"iPXE"}) == (b"b", b"\5\x78", None)
    assert options_for({77: b"\3lab"}) == (None, b"\5\xdc", b"\7")


def test_a_class_without_conditions_is_refused() -> None:
    with pytest.raises(ValueError, match="vendor-class, user-class"):
        HostClass(options={"interface-mtu": 1400})


def test_the_reply_to_one_client_changes_nothing_for_the_next() -> None:
    host = Host(mac="02:00:00:00:00:01", options={"router": "10.77.0.9"})
    dhcp = server(subnet(hosts=[host]))
    Machine(1, dhcp).discovers()

    assert of_type(Answer, Machine(2, dhcp).discovers()).options[3] == bytes((10, 77, 0, 1))


def test_lease_times_are_those_of_the_subnet() -> None:
    dhcp = server(subnet(lease_seconds=7200, firmware_lease_seconds=60))
    machine = Machine(1, dhcp)

    assert of_type(Answer, machine.discovers()).options[51] == bytes((0, 0, 28, 32))
    assert of_type(Answer, machine.sending({93: b"\0\7"}).discovers()).options[51] == bytes((0, 0, 0, 60))


def test_a_reply_has_all_options_of_its_subnet() -> None:
    configured = subnet(dns=["10.77.0.1", "10.77.0.2"], domain="lab.example", options={"ntp-servers": "10.77.0.3"})
    found = configured.reply_options

    assert found == {
        1: bytes((255, 255, 255, 0)),
        3: bytes((10, 77, 0, 1)),
        6: bytes((10, 77, 0, 1, 10, 77, 0, 2)),
        15: b"lab.example",
        42: bytes((10, 77, 0, 3)),
    }


# Probing

RESERVED = Host(mac="02:00:00:00:00:01", address="10.77.0.100")


@pytest.mark.parametrize("giaddr", ["0.0.0.0", "192.168.9.1"], ids=["our wire", "a relay"])
@pytest.mark.parametrize(
    ("hosts", "before", "probed"),
    [
        ([], None, "everywhere"),
        ([], 60, "nowhere"),
        ([], LEASE + 1, "on our wire"),
        ([RESERVED], None, "on our wire"),
        ([RESERVED], 60, "nowhere"),
        ([Host(mac="02:00:00:00:00:01", hostname="one")], None, "everywhere"),
        ([evolve(RESERVED, address="10.77.0.50")], None, "on our wire"),
    ],
    ids=[
        "new",
        "has it",
        "had it",
        "reserved",
        "reserved, has it",
        "reservation without an address",
        "out of the pool",
    ],
)
def test_only_new_addresses_are_probed_behind_a_relay(
    giaddr: str, hosts: list[Host], before: float | None, probed: str
) -> None:
    """*before*: how many seconds ago the client leased the address that it is offered; None if it never did."""
    machine = Machine(1, server(subnet(hosts=hosts, relays=["192.168.9.1"])), giaddr=giaddr)
    if before is not None:
        leased = machine.get_lease()
        machine = machine.after(before)
    offer = machine.discovers()

    assert before is None or address(offer, OFFER) == leased
    assert isinstance(offer, Answer)
    assert offer.probe == (probed == "everywhere" or (probed == "on our wire" and giaddr == "0.0.0.0"))


def test_released_address_behind_a_relay_is_probed(dhcp: AddressServer) -> None:
    machine = behind(dhcp, "10.78.0.1")
    leased = machine.get_lease()
    machine.releases(leased)

    assert address(machine.discovers(), OFFER) == leased
    assert of_type(Answer, machine.discovers()).probe


def test_another_address_than_the_reserved_one_is_probed_behind_a_relay() -> None:
    dhcp = server(subnet(hosts=[RESERVED]))
    machine = behind(dhcp, "10.77.0.9")
    dhcp.probe_finished("10.77.0.100", True, BEGIN)

    assert address(machine.discovers(), OFFER) == "10.77.0.101"
    assert of_type(Answer, machine.discovers()).probe


# Contradictory subnets


@pytest.mark.parametrize(
    ("subnets", "path", "error"),
    [
        ([far(), subnet(), far(network="10.78.0.0/25")], ("subnet", 2, "network"), "overlaps 10.78.0.0/24"),
        ([far(network="10.0.0.0/8"), subnet()], ("subnet", 1, "network"), "10.77.0.0/24 overlaps 10.0.0.0/8"),
        (
            [far(relays=["192.168.9.1"]), subnet(relays=["192.168.9.2", "192.168.9.1"])],
            ("subnet", 1, "relays", 1),
            "another subnet",
        ),
        (
            [subnet(hosts=[Host(mac="02:00:00:00:00:01"), Host(uuid="0" * 32, mac="02-00-00-00-00-01")])],
            ("subnet", 0, "host", 1, "mac"),
            "the same one",
        ),
        (
            [
                subnet(shared_network="lab", hosts=[Host(client_id="a")]),
                far(shared_network="lab", hosts=[Host(client_id="a")]),
            ],
            ("subnet", 1, "host", 0, "client-id"),
            "the same one",
        ),
    ],
)
def test_overlapping_or_contradictory_subnets_are_errors(
    subnets: list[Subnet], path: tuple[str | int, ...], error: str
) -> None:
    with pytest.raises(ConfigError, match=error) as caught:
        check_subnets(subnets)

    assert caught.value.path == path


def test_a_client_may_have_an_address_in_each_of_several_networks() -> None:
    check_subnets([subnet(hosts=[Host(mac="02:00:00:00:00:01")]), far(hosts=[Host(mac="02:00:00:00:00:01")])])


# Several addresses of the server on one interface

BOTH = Arrival("192.168.1.1", addresses=("192.168.1.1", "10.77.0.1", "10.79.0.1"))


def test_own_address_in_the_subnet_of_the_client_is_used() -> None:
    machine = Machine(1, server(), arrival=BOTH)

    offer = machine.discovers()

    assert isinstance(offer, Answer)
    assert (offer.address, offer.server, offer.identifier) == ("10.77.0.100", SERVER, SERVER)
    ack = machine.selects(offer.address)
    assert isinstance(ack, Answer)
    assert (ack.address, ack.server, ack.identifier) == ("10.77.0.100", SERVER, SERVER)
    assert of_type(Answer, machine.informs("10.77.0.100")).identifier == SERVER
    assert of_type(Answer, machine.restarts_with("10.99.0.1")).identifier == SERVER


def test_server_identifier_on_a_shared_network_is_in_the_subnet_of_the_client() -> None:
    one = subnet(pool=["10.77.0.100"], shared_network="lab")
    other = Subnet(network="10.79.0.0/24", pool=["10.79.0.100"], shared_network="lab")
    dhcp = server(one, other)

    offers = [Machine(number, dhcp, arrival=BOTH).discovers() for number in (1, 2)]

    assert [(of_type(Answer, offer).address, of_type(Answer, offer).server) for offer in offers] == [
        ("10.77.0.100", "10.77.0.1"),
        ("10.79.0.100", "10.79.0.1"),
    ]
    assert address(Machine(2, dhcp, arrival=BOTH).selects("10.79.0.100", server_id="10.79.0.1")) == "10.79.0.100"


def test_other_own_addresses_are_not_assigned() -> None:
    dhcp = server(subnet(pool=["10.77.0.1-10.77.0.3"], router=()))
    arrival = Arrival("10.77.0.1", addresses=("10.77.0.1", "10.77.0.2"))

    assert of_type(Answer, Machine(1, dhcp, arrival=arrival).discovers()).address == "10.77.0.3"


def test_server_identifier_override_of_a_relay_is_used() -> None:
    agent = {82: bytes((11, 4, 10, 77, 0, 254))}
    dhcp = server()
    offer = Machine(1, dhcp, agent, Arrival(SERVER, unicast=True), "10.77.0.254").discovers()
    assert isinstance(offer, Answer)
    assert (offer.server, offer.identifier) == (SERVER, "10.77.0.254")
