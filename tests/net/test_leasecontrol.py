"""The operations on leases and reservations: each changes the running server and its store."""

from typing import Any

import pytest
from attrs import evolve
from narrowing import present
from twisted.internet.defer import Deferred, fail
from twisted.internet.task import Clock

from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import StateError
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.net.control import ControlError
from bootfw.net.dhcp.leasecontrol import LeaseControl
from bootfw.records import reservation_record
from bootfw.stores.memory import MemoryStore

NOW = 1_763_640_000.0
MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
LEASE = Lease("10.0.0.10", b"h\1\x52\x54\x00\x12\x34\x56", MAC, LeaseState.ACTIVE, NOW - 10, NOW + 3600, hostname="Pc")
EXPIRED = evolve(LEASE, address="10.0.0.11", client=b"h\1RT\0\0\0\1", mac=OTHER, expires=NOW - 1, hostname="")
RELEASED = evolve(EXPIRED, address="10.0.0.12", client=b"i1", mac="", client_id=b"1", state=LeaseState.RELEASED)
CONFIGURED = Reservation("10.0.0.5", mac=OTHER)
ADDED = Reservation("10.0.0.6", mac=MAC)


class Scene:
    """A server with leases, its store and its operations."""

    def __init__(self, *added: Reservation) -> None:
        clock = Clock()
        clock.advance(NOW)
        self.store = MemoryStore()
        self.store.save_reservations(added)
        subnet = Subnet(network="10.0.0.0/24", pool=["10.0.0.10-10.0.0.20"], hosts=[CONFIGURED])
        self.server = AddressServer([subnet], [LEASE, EXPIRED, RELEASED], added)
        self.control = LeaseControl(clock, self.server, self.store, self.store.reservations())

    def call(self, name: str, **arguments: Any) -> list[dict[str, object]]:
        """Call an operation, and return its records."""
        answer = self.control.operations()[name](arguments)
        if isinstance(answer, Deferred):
            results: list[Any] = []
            answer.addBoth(results.append)
            (answer,) = results
            if hasattr(answer, "raiseException"):
                answer.raiseException()
        return list(answer)

    def reserved(self) -> set[str]:
        """The addresses of all reservations."""
        return {reservation.address for reservation in self.server.reservations()}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def refusal(scene: Scene, name: str, **arguments: Any) -> str:
    """The message of the refused operation."""
    with pytest.raises(ControlError) as caught:
        scene.call(name, **arguments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("selection", "addresses"),
    [
        ({}, {"10.0.0.10", "10.0.0.11", "10.0.0.12"}),
        ({"who": "10.0.0.11"}, {"10.0.0.11"}),
        ({"who": "5254.0012.3456"}, {"10.0.0.10"}),
        ({"who": "pC"}, {"10.0.0.10"}),
        ({"who": "0x31"}, {"10.0.0.12"}),
        ({"who": "0x32"}, set()),
        ({"state": "active"}, {"10.0.0.10"}),
        ({"state": "expired"}, {"10.0.0.11"}),
        ({"state": "released"}, {"10.0.0.12"}),
        ({"network": "10.0.0.8/30"}, {"10.0.0.10", "10.0.0.11"}),
        ({"network": "10.0.1.0/24"}, set()),
        ({"network": "10.0.0.8/30", "state": "expired", "who": OTHER}, {"10.0.0.11"}),
    ],
)
def test_leases_are_selected(scene: Scene, selection: dict[str, str], addresses: set[str]) -> None:
    assert {record["address"] for record in scene.call("leases", **selection)} == addresses


def test_lease_record_has_every_field(scene: Scene) -> None:
    assert scene.call("leases", who="10.0.0.10") == [
        {
            "address": "10.0.0.10",
            "state": "active",
            "mac": MAC,
            "client_id": "",
            "uuid": "",
            "hostname": "Pc",
            "kind": "",
            "granted": NOW - 10,
            "expires": NOW + 3600,
            "client": "6801525400123456",
        }
    ]


@pytest.mark.parametrize(
    "selection", [{"state": "gone"}, {"network": "10"}, {"who": "0x3"}, {"whom": "x"}, {"who": 1}, {"who": ["x"]}]
)
def test_invalid_selection_is_refused(scene: Scene, selection: dict[str, str | int]) -> None:
    assert refusal(scene, "leases", **selection)


def test_the_refusal_names_the_field_and_what_it_must_be(scene: Scene) -> None:
    assert refusal(scene, "leases", who=["x"]) == "who must be a text, not list"


def test_listed_leases_are_those_at_the_time_of_the_request(scene: Scene) -> None:
    answer = scene.control.leases({})
    scene.call("release", address="10.0.0.10")
    assert {record["address"]: record["state"] for record in answer}["10.0.0.10"] == "active"


def test_released_lease_is_written_to_the_store(scene: Scene) -> None:
    (record,) = scene.call("release", address="10.0.0.10")
    assert (record["address"], record["state"]) == ("10.0.0.10", "released")
    assert present(scene.server.lease("10.0.0.10")).state is LeaseState.RELEASED
    assert [lease.state for lease in scene.store.load()] == [LeaseState.RELEASED]


@pytest.mark.parametrize("address", ["10.0.0.13", "10.9.9.9", "none", "", None])
def test_an_address_without_a_lease_can_not_be_released(scene: Scene, address: str | None) -> None:
    assert refusal(scene, "release", address=address) == f"{address} is not leased"


def test_reservations_are_listed_with_their_origin() -> None:
    scene = Scene(ADDED)
    origins = {record["address"]: record["origin"] for record in scene.call("reservations")}
    assert origins == {"10.0.0.5": "configuration", "10.0.0.6": "command"}


def test_reservation_is_valid_at_once_and_stored(scene: Scene) -> None:
    assert scene.call("reserve", **reservation_record(ADDED)) == [reservation_record(ADDED)]
    assert scene.reserved() == {"10.0.0.5", "10.0.0.6"}
    assert list(scene.store.reservations()) == [ADDED]


@pytest.mark.parametrize(
    ("reservation", "message"),
    [
        ({"address": "10.0.0.5", "mac": MAC}, "address 10.0.0.5 is reserved already; remove that reservation first"),
        ({"address": "10.0.0.6", "mac": OTHER}, f"mac {OTHER} is reserved already; remove that reservation first"),
        ({"address": "10.0.1.6", "mac": MAC}, "10.0.1.6 is in no subnet"),
        ({"address": "10.0.0.6"}, "needs at least one of mac, client-id, uuid, circuit-id"),
        ({"address": "10.0.0", "mac": MAC}, 'must be an IPv4 address, such as "10.77.0.10", not "10.0.0"'),
    ],
)
def test_invalid_reservation_is_refused(scene: Scene, reservation: dict[str, str], message: str) -> None:
    assert refusal(scene, "reserve", **reservation) == message
    assert scene.reserved() == {"10.0.0.5"}
    assert list(scene.store.reservations()) == []


def test_reservation_that_cannot_be_stored_is_not_valid(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryStore, "save_reservations", lambda store, all: fail(StateError("disk full")))
    with pytest.raises(StateError, match="disk full"):
        scene.call("reserve", **reservation_record(ADDED))
    assert scene.reserved() == {"10.0.0.5"}


def test_reservation_that_is_removed_before_its_storing_fails(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    saves: list[Deferred[None]] = [Deferred(), Deferred()]
    pending = iter(saves)
    monkeypatch.setattr(MemoryStore, "save_reservations", lambda store, all: next(pending))
    operations = scene.control.operations()
    added = operations["reserve"](reservation_record(ADDED))
    operations["unreserve"]({"who": ADDED.address})
    errors: list[Any] = []
    assert isinstance(added, Deferred)
    added.addErrback(errors.append)
    saves[0].errback(StateError("disk full"))
    assert [error.type for error in errors] == [StateError]
    assert scene.reserved() == {"10.0.0.5"}


def test_reservation_whose_removal_cannot_be_stored_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.call("reserve", **reservation_record(ADDED))
    addresses = scene.reserved()
    pending: Deferred[None] = Deferred()
    monkeypatch.setattr(MemoryStore, "save_reservations", lambda store, all: pending)
    removed = scene.control.operations()["unreserve"]({"who": ADDED.address})
    errors: list[Any] = []
    assert isinstance(removed, Deferred)
    removed.addErrback(errors.append)
    assert scene.reserved() == addresses - {ADDED.address}
    pending.errback(StateError("disk full"))
    assert [error.type for error in errors] == [StateError]
    assert scene.reserved() == addresses
    monkeypatch.undo()
    assert scene.call("unreserve", who=ADDED.address) == [reservation_record(ADDED)]


def test_reservation_that_replaced_one_whose_removal_fails_stays(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.call("reserve", **reservation_record(ADDED))
    saves: list[Deferred[None]] = [Deferred(), Deferred()]
    pending = iter(saves)
    monkeypatch.setattr(MemoryStore, "save_reservations", lambda store, all: next(pending))
    operations = scene.control.operations()
    removed = operations["unreserve"]({"who": ADDED.address})
    operations["reserve"](reservation_record(evolve(ADDED, mac="52:54:00:00:00:77")))
    assert isinstance(removed, Deferred)
    removed.addErrback(lambda _: None)
    saves[0].errback(StateError("disk full"))
    monkeypatch.undo()
    assert scene.call("unreserve", who=ADDED.address)[0]["mac"] == "52:54:00:00:00:77"
    assert scene.reserved() == {"10.0.0.5"}


def test_reservations_of_the_families_are_separate() -> None:
    clock = Clock()
    clock.advance(NOW)
    store = MemoryStore()
    server4 = AddressServer([Subnet(network="10.0.0.0/24", hosts=[Host(address="10.0.0.5", mac=OTHER)])])
    hosts = [Host6(address="fd77::5", mac=OTHER), Host6(mac=MAC, options={"sol-max-rt": 60})]
    server6 = AddressServer6([Subnet6(network="fd77::/64", hosts=hosts)], b"\0\1us")
    control = LeaseControl(clock, server4, store, (), server6)

    def reserve(**arguments: str) -> list[tuple[dict[str, object]]]:
        results: list[tuple[dict[str, object]]] = []
        control.reserve(arguments).addCallback(results.append)
        return results

    with pytest.raises(ControlError, match=f"mac {MAC} is reserved already"):
        reserve(address="fd77::6", mac=MAC)
    assert reserve(address="10.0.0.6", mac=MAC)
    assert reserve(address="fd77::6", client_id="0001")
    assert list(store.reservations()) == [ADDED, Reservation("fd77::6", client_id=b"\0\1")]
    assert [(reservation["address"], reservation["origin"]) for reservation in control.reservations({})] == [
        ("10.0.0.5", "configuration"),
        ("10.0.0.6", "command"),
        ("fd77::5", "configuration"),
        ("", "configuration"),
        ("fd77::6", "command"),
    ]
    with pytest.raises(ControlError, match="the configuration file reserves it"):
        control.unreserve({"who": "fd77::5"})
    control.unreserve({"who": "0x0001"})
    assert [reservation.address for reservation in server6.reservations()] == ["fd77::5", ""]


def test_ipv6_reservation_without_a_dhcpv6_server_is_refused(scene: Scene) -> None:
    assert refusal(scene, "reserve", address="fd77::6", mac=MAC) == "fd77::6 is in no subnet"
    assert refusal(scene, "reserve", address="fd77::6", mac=OTHER) == "fd77::6 is in no subnet", "not of 10.0.0.5"


def test_address_outside_all_subnets_is_refused_for_every_client(scene: Scene) -> None:
    assert refusal(scene, "reserve", address="10.0.1.6", mac=OTHER) == "10.0.1.6 is in no subnet"


def test_ipv4_reservation_without_an_ipv4_subnet_is_refused() -> None:
    server6 = AddressServer6([Subnet6(network="fd77::/64")], b"\0\1us")
    control = LeaseControl(Clock(), AddressServer([]), MemoryStore(), (), server6)
    with pytest.raises(ControlError, match=r"^a reservation without an address is in no subnet$"):
        control.reserve({"mac": MAC})
    with pytest.raises(ControlError, match=r"^fd78::6 is in no subnet$"):
        control.reserve({"address": "fd78::6", "mac": MAC})


@pytest.mark.parametrize("who", ["10.0.0.6", MAC, MAC.upper().replace(":", "-")])
def test_reservation_can_be_removed(who: str) -> None:
    scene = Scene(ADDED)
    assert scene.call("unreserve", who=who) == [reservation_record(ADDED)]
    assert scene.reserved() == {"10.0.0.5"}
    assert list(scene.store.reservations()) == []


@pytest.mark.parametrize(
    ("who", "message"),
    [
        ("10.0.0.7", "10.0.0.7: nothing is reserved"),
        ("10.0.0.5", "10.0.0.5: the configuration file reserves it: remove it there"),
        ("", ": nothing is reserved"),
        ("0x1", 'must be text, or "0x" and pairs of hexadecimal digits, not "0x1"'),
    ],
)
def test_invalid_unreserve_is_refused(who: str, message: str) -> None:
    scene = Scene(ADDED)
    assert refusal(scene, "unreserve", who=who) == message
    assert scene.reserved() == {"10.0.0.5", "10.0.0.6"}
