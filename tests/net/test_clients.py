"""Who is behind an address, from what DHCP has told and what the kernel knows."""

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bootfw.boot import clients as module
from bootfw.boot.clients import Clients
from bootfw.values import BootRequest, Client, TransferRequest

MAC = "52:54:00:00:00:01"
UUID = "00112233-4455-6677-8899-aabbccddeeff"
FIRMWARE = BootRequest(
    MAC, "discover", "uefi", "x86_64-uefi", uuid=UUID, vendor_class="PXEClient:Arch:00007:UNDI:003000"
)
PEER = ("10.77.0.100", 2070)


def test_a_machine_is_known_by_the_address_it_gets_with_the_answer() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER) == Client(
        "10.77.0.100", MAC, UUID, "x86_64-uefi", "uefi", "PXEClient:Arch:00007:UNDI:003000"
    )


def test_a_machine_is_known_by_the_address_it_asks_with() -> None:
    clients = Clients()
    clients.remember(evolve(FIRMWARE, stage="boot-server", client_address="10.77.0.100"))
    assert clients.lookup(PEER).mac == MAC


def test_no_address_is_nobodys() -> None:
    clients = Clients()
    clients.remember(FIRMWARE)
    assert clients.lookup(("0.0.0.0", 68)) == Client("0.0.0.0")


def test_the_kernel_knows_whose_an_address_is_that_another_server_gave() -> None:
    clients = Clients({PEER: MAC}.get)
    clients.remember(FIRMWARE)
    assert clients.lookup(PEER).architecture == "x86_64-uefi"
    assert clients.lookup(PEER).address == "10.77.0.100"


def test_the_kernel_is_believed_before_an_older_packet() -> None:
    other = "52:54:00:00:00:02"
    clients = Clients({PEER: other}.get)
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER) == Client("10.77.0.100", other)


def test_behind_a_router_it_is_what_dhcp_told() -> None:
    clients = Clients(lambda peer: "")
    clients.remember(FIRMWARE, "10.77.0.100")
    assert clients.lookup(PEER).mac == MAC


def test_an_address_that_another_machine_gets_is_its_own() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(evolve(FIRMWARE, mac="52:54:00:00:00:02", persona="ipxe", ipxe=True), "10.77.0.100")
    assert (clients.lookup(PEER).mac, clients.lookup(PEER).ipxe) == ("52:54:00:00:00:02", True)


def test_a_later_stage_that_tells_less_takes_nothing_away() -> None:
    clients = Clients()
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(BootRequest(MAC, "request", "ipxe", "unknown", ipxe=True))
    known = clients.lookup(PEER)
    assert (known.uuid, known.architecture, known.persona, known.ipxe) == (UUID, "x86_64-uefi", "ipxe", True)


def test_who_was_never_seen_is_an_address() -> None:
    assert Clients().lookup(("fd77::9", 2070, 0, 0)) == Client("fd77::9")


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_the_latest_are_remembered(asked: list[tuple[int, int]]) -> None:
    """Against a model: the address is its latest machine's; of either only so many are kept, the latest."""
    machines, addresses = list[str](), dict[str, str]()
    before, module.MACHINES = module.MACHINES, 5
    try:
        clients = Clients()
        for machine, address in asked:
            mac, ip = f"52:54:00:00:00:{machine:02x}", f"10.77.0.{address}"
            clients.remember(evolve(FIRMWARE, mac=mac), ip)
            machines = [*(known for known in machines if known != mac), mac][-5:]
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


def test_what_one_has_heard_another_can_be_told() -> None:
    """All of it at once, or each as it comes."""
    told: list[Client] = []
    clients = Clients(broadcast=told.append)
    clients.remember(FIRMWARE, "10.77.0.100")
    clients.remember(evolve(FIRMWARE, mac="52:54:00:00:00:02", uuid=None))
    clients.remember(evolve(FIRMWARE, persona="ipxe"), "10.77.0.101")
    everything, each = Clients(), Clients()
    for client in clients.all():
        everything.on_message(client)
    for client in told:
        each.on_message(client)
    for other in (everything, each):
        for address in ("10.77.0.100", "10.77.0.101", "10.77.0.102"):
            assert other.lookup((address, 2070)) == clients.lookup((address, 2070))
    assert Clients({PEER: "52:54:00:00:00:02"}.get).lookup(PEER).persona == ""
    assert len(told) == 3


def test_a_request_looks_its_client_up_when_asked() -> None:
    looked = []

    def look(peer):
        looked.append(peer)
        return Client(peer[0], MAC)

    request = TransferRequest("a", "a", PEER, lookup=look)
    assert not looked
    assert request.client == Client("10.77.0.100", MAC)
    assert looked == [PEER]


def test_a_request_of_nobody_in_particular_has_an_address() -> None:
    assert TransferRequest("a", "a", PEER).client == Client("10.77.0.100")
