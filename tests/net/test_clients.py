"""Lookup of the client at an address, from DHCP and from the kernel."""

from collections.abc import Callable
from typing import Any, cast

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import fail, maybeDeferred
from twisted.internet.interfaces import IUDPTransport
from twisted.internet.task import Clock
from zope.interface import implementer

from bootfw.backends.memory import MemoryBackend
from bootfw.boot import clients as module
from bootfw.boot.backends import LayeredBackend
from bootfw.boot.clients import Clients
from bootfw.errors import FileMissing
from bootfw.interfaces import IBackend, IPerClientBackend
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.values import Address, BootRequest, Client, TransferRequest
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp

MAC, OTHER_MAC = "52:54:00:00:00:01", "52:54:00:00:00:09"
UUID = "00112233-4455-6677-8899-aabbccddeeff"
FIRMWARE = BootRequest(
    MAC, "discover", "uefi", "x86_64-uefi", uuid=UUID, vendor_class="PXEClient:Arch:00007:UNDI:003000"
)
PEER = ("10.77.0.100", 2070)


def neighbours(macs: dict[Address, str]) -> Callable[[Address], str]:
    """The kernel's neighbour table, as a function that returns the MAC of a peer."""
    return lambda peer: macs.get(peer, "")


def test_client_is_found_by_its_new_address() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER) == Client(
        "10.77.0.100", MAC, UUID, "x86_64-uefi", "uefi", "PXEClient:Arch:00007:UNDI:003000", leased=True
    )


def test_a_machine_is_identified_by_its_source_address() -> None:
    clients = Clients()
    clients.remember(evolve(FIRMWARE, phase="boot-server", client_address="10.77.0.100"))
    assert clients.lookup(PEER).mac == MAC


def test_unspecified_address_has_no_client() -> None:
    clients = Clients()
    clients.remember(FIRMWARE)
    assert clients.lookup(("0.0.0.0", 68)) == Client("0.0.0.0")


def test_neighbour_table_identifies_clients_of_other_servers() -> None:
    clients = Clients(neighbours({PEER: MAC}))
    clients.remember(FIRMWARE)
    assert clients.lookup(PEER).architecture == "x86_64-uefi"
    assert clients.lookup(PEER).address == "10.77.0.100"


def test_mac_of_the_kernel_precedes_that_of_an_older_packet() -> None:
    other_mac = "52:54:00:00:00:02"
    clients = Clients(neighbours({PEER: other_mac}))
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER) == Client("10.77.0.100", other_mac, leased=True)


def test_mac_that_the_kernel_has_is_looked_up_once_a_second() -> None:
    lookups = list[Address]()
    macs: dict[Address, str] = {PEER: ""}
    clock = Clock()

    def hardware_address(peer: Address) -> str:
        lookups.append(peer)
        return macs[peer]

    clients = Clients(hardware_address, None, clock.seconds)
    assert [clients.lookup(PEER).mac for _ in range(3)] == [""] * 3
    assert len(lookups) == 3, "the kernel may learn it at any time"
    macs[PEER] = MAC
    assert [clients.lookup(PEER).mac for _ in range(3)] == [MAC] * 3
    assert len(lookups) == 4
    macs[PEER] = "52:54:00:00:00:02"
    clock.advance(0.9)
    assert clients.lookup(PEER).mac == MAC
    clock.advance(0.1)
    assert clients.lookup(PEER).mac == "52:54:00:00:00:02"


def test_same_link_local_address_on_two_links_has_two_macs() -> None:
    first, second = ("fe80::1", 2070, 0, 2), ("fe80::1", 2071, 0, 3)
    clients = Clients(neighbours({first: MAC, second: "52:54:00:00:00:02"}))
    assert [clients.lookup(peer).mac for peer in (first, second, first)] == [MAC, "52:54:00:00:00:02", MAC]


def test_number_of_reported_macs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MACHINES", 5)
    clients = Clients(lambda peer: MAC)
    for number in range(20):
        assert clients.lookup((f"10.77.0.{number}", 2070)).mac == MAC
        assert len(clients._kernel_macs) <= 5


def test_client_behind_a_router_is_known_from_dhcp() -> None:
    clients = Clients(lambda peer: "")
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER).mac == MAC


def test_reassigned_address_identifies_the_new_machine() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(evolve(FIRMWARE, mac="52:54:00:00:00:02", persona="ipxe", ipxe=True), "10.77.0.100")
    assert (clients.lookup(PEER).mac, clients.lookup(PEER).ipxe) == ("52:54:00:00:00:02", True)


def test_later_request_with_fewer_options_removes_nothing() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(BootRequest(MAC, "request", "ipxe", "unknown", ipxe=True))
    client = clients.lookup(PEER)
    assert (client.uuid, client.architecture, client.persona, client.ipxe) == (UUID, "x86_64-uefi", "ipxe", True)


def test_unknown_client_has_only_its_address() -> None:
    assert Clients().lookup(("fd77::9", 2070, 0, 0)) == Client("fd77::9")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_number_of_remembered_clients_is_bounded(leases: list[tuple[int, int]]) -> None:
    """Compared with a model: an address belongs to its latest machine, and only the latest addresses and machines are
    stored."""
    machines, addresses = list[str](), dict[str, str]()
    before, module.MACHINES = module.MACHINES, 5
    try:
        clients = Clients()
        for machine, address in leases:
            mac, ip = f"52:54:00:00:00:{machine:02x}", f"10.77.0.{address}"
            clients.remember(evolve(FIRMWARE, mac=mac), ip)
            machines = [*(machine_mac for machine_mac in machines if machine_mac != mac), mac][-5:]
            addresses.pop(ip, None)
            addresses[ip] = mac
            addresses = dict(list(addresses.items())[-5:])
        for address in range(10):
            ip = f"10.77.0.{address}"
            found = clients.lookup((ip, 2070))
            mac = addresses.get(ip, "")
            assert (found.mac, found.architecture) == (mac, "x86_64-uefi" if mac in machines else "unknown")
    finally:
        module.MACHINES = before


def test_known_clients_can_be_sent_to_another_process() -> None:
    """All of them at once, or each when it is remembered."""
    sent: list[Client] = []
    clients = Clients(broadcast=sent.append)
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(evolve(FIRMWARE, mac="52:54:00:00:00:02", uuid=None))
    clients.remember(evolve(FIRMWARE, persona="ipxe"), "10.77.0.101")
    from_all, from_broadcasts = Clients(), Clients()
    for client in clients.all():
        from_all.on_message(client)
    for client in sent:
        from_broadcasts.on_message(client)
    for receiver in (from_all, from_broadcasts):
        for address in ("10.77.0.100", "10.77.0.101", "10.77.0.102"):
            assert receiver.lookup((address, 2070)) == clients.lookup((address, 2070))
    assert Clients(neighbours({PEER: "52:54:00:00:00:02"})).lookup(PEER).persona == ""
    assert len(sent) == 3


@implementer(IBackend)
class Files:
    """Records the requests and has no file; if it is *late*, it fails by a Deferred."""

    def __init__(self, late: bool = False) -> None:
        self.requests: list[TransferRequest] = []
        self.late = late

    def open(self, path: str, request: TransferRequest) -> Any:
        self.requests.append(request)
        if self.late:
            return fail(FileMissing())
        raise FileMissing


class Transport:
    """A transport that sends nothing."""

    def write(self, data: bytes, peer: Address) -> None:
        pass


@implementer(IPerClientBackend)
class PerClientFiles(Files):
    """A backend that needs to know the client."""


def own_urls(local: str) -> tuple[str, str]:
    return f"http://{local}:8069", f"https://{local}:8443"


@pytest.mark.parametrize("late", [False, True])
def test_the_client_is_looked_up_once_and_for_the_backends_that_need_it_only(late: bool) -> None:
    first, second, third, last = Files(), PerClientFiles(late), PerClientFiles(), Files()
    layers = [("first", first), ("second", second), ("third", third), ("last", last)]
    looked_up: list[Address] = []

    def client_at(peer: Address) -> Client:
        looked_up.append(peer)
        return Client(peer[0], MAC)

    layered = LayeredBackend(layers, client_at=client_at, own_urls=own_urls)
    request = TransferRequest("a", "a", PEER, local="10.77.0.1")
    opening = maybeDeferred(layered.open, "a", request)
    opening.addErrback(lambda failure: failure.trap(FileMissing))
    assert opening.called
    assert first.requests == [request]
    assert looked_up == [PEER]
    filled = evolve(request, client=Client("10.77.0.100", MAC), http_url="http://10.77.0.1:8069")
    assert second.requests == third.requests == [filled]


def test_nothing_is_looked_up_for_backends_that_do_not_need_the_client() -> None:
    def client_at(peer: Address) -> Client:
        raise AssertionError("the lookup costs a system call")

    layered = LayeredBackend([("files", Files()), ("memory", MemoryBackend({"b": b"x"}))], client_at=client_at)
    layered.begin_batch()
    layered.open("b", TransferRequest("b", "b", PEER)).close()
    layered.end_batch()
    with pytest.raises(FileMissing):
        layered.open("a", TransferRequest("a", "a", PEER))


def test_subclass_of_a_per_client_backend_gets_the_client() -> None:
    class Sub(PerClientFiles):
        def open(self, path: str, request: TransferRequest) -> Any:
            return super().open(path, request)

    files = Sub()
    with pytest.raises(FileMissing):
        LayeredBackend([("files", files)], client_at=lambda peer: Client(peer[0], MAC)).open(
            "a", TransferRequest("a", "a", PEER)
        )
    assert files.requests[0].client.mac == MAC


def test_without_a_lookup_only_the_address_is_filled_in() -> None:
    files = PerClientFiles()
    with pytest.raises(FileMissing):
        LayeredBackend([("files", files)]).open("a", TransferRequest("a", "a", PEER))
    assert (files.requests[0].client, files.requests[0].http_url) == (Client("10.77.0.100"), "")


def test_listener_looks_up_the_client_for_its_own_backend() -> None:
    """A program may use a protocol with one backend, without a BootService."""
    files, clients = PerClientFiles(), Clients(neighbours({PEER: MAC}))
    protocol = TFTPProtocol(Clock(), files, Fixed(), lambda event: None, clients=clients)
    protocol.makeConnection(cast(IUDPTransport, Transport()))
    protocol.datagramReceived(tftp.request(False, "a", "octet"), PEER)
    assert [request.client.mac for request in files.requests] == [MAC]
    protocol.close()


def test_a_lease_and_the_kernel_connect_an_address_with_its_machine() -> None:
    kernel = {"10.0.0.3": OTHER_MAC, "10.0.0.4": OTHER_MAC}
    leases = {"10.0.0.1": MAC, "10.0.0.4": MAC}
    clients = Clients(lambda peer: kernel.get(peer[0], ""), leased_to=lambda address: leases.get(address, ""))
    assert [clients.lookup((f"10.0.0.{n}", 1)) for n in (1, 2, 3, 4)] == [
        Client("10.0.0.1", MAC, leased=True),
        Client("10.0.0.2"),
        Client("10.0.0.3", OTHER_MAC, leased=True),
        Client("10.0.0.4", OTHER_MAC, leased=True),
    ]
    del leases["10.0.0.1"]  # it has expired
    assert clients.lookup(("10.0.0.1", 1)) == Client("10.0.0.1")


def test_processes_that_have_files_for_systems_learn_their_leases() -> None:
    sent: list[Client] = []
    clients = Clients(broadcast=sent.append)
    clients.lease(MAC, "10.0.0.1")
    assert sent == []
    clients.shares_leases = True
    clients.lease(MAC, "10.0.0.1")
    clients.lease(MAC, "10.0.0.1")
    assert sent == [Client("10.0.0.1", MAC, leased=True)]
    worker = Clients()
    for client in clients.all():
        worker.on_message(client)
    assert worker.lookup(("10.0.0.1", 1)) == Client("10.0.0.1", MAC, leased=True)


def test_address_that_a_client_claims_is_no_lease_and_ends_none() -> None:
    clients = Clients()
    clients.on_message(Client("10.0.0.1", MAC, leased=True))
    for address in ("10.0.0.1", "10.0.0.2"):
        clients.on_message(Client(address, OTHER_MAC))
    found = [clients.lookup((address, 1)) for address in ("10.0.0.1", "10.0.0.2")]
    assert [(each.mac, each.leased) for each in found] == [(MAC, True), (OTHER_MAC, False)]
