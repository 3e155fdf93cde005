"""One-shot next boots: who gets the file, when it is used up, and that a restart changes nothing."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from booting import Machine, Site
from firmware import BIOS_ROM, IPXE_ROM, MAC_TEXT, OVMF, OVMF_HTTP, SNPONLY, ipxe_features
from narrowing import present
from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.epollreactor import EPollReactor
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from bootfw.backends.memory import MemoryBackend
from bootfw.cli.offline import OfflineOrders
from bootfw.errors import StateError
from bootfw.events import BootFileUsed, Event, NextBootTaken, PluginFailed, TransferEnded
from bootfw.plugins import PluginContext, configure, load
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.next_boot import ORDERS, NextBoot, Order, save_next_boot
from bootfw.stores.memory import MemoryStore
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import ResolverContract
from bootfw.testing.contracts.resolver import REQUESTS
from bootfw.values import Address, Agreed, BootFile, BootRequest, Client, Outcome, TransferReport, TransferRequest

OTHER = "52:54:00:00:00:01"
SCRIPT = "next/52-54-00-12-34-56.ipxe"
FILES = {
    "undionly.kpxe": "iPXE",
    "snponly.efi": "iPXE",
    "boot.ipxe": "as always",
    "install.ipxe": "install",
    "pxelinux.0": "pxelinux",
}


class State:
    """A state directory, and the orders in it as a program that is not the server sees them."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, reactor: EPollReactor | None = None) -> SqliteStore:
        return SqliteStore(self.path, reactor)

    def order(self, mac: str, file: str) -> None:
        OfflineOrders(self.store()).order(mac, file)

    def read(self) -> dict[str, str]:
        return {order["mac"]: order["file"] for order in OfflineOrders(self.store()).next_boots()}


@pytest.fixture
def kept(tmp_path: Path) -> State:
    return State(tmp_path / "bootfw.sqlite")


ADDRESSES = {MAC_TEXT: "10.0.0.9", OTHER: "10.0.0.8"}


def client_at(peer: Address) -> Client:
    return Client(peer[0], next((mac for mac, address in ADDRESSES.items() if address == peer[0]), ""))


def resolver(kept: State, reactor: EPollReactor | None = None) -> NextBoot:
    """As a start of bootfw makes it."""
    context = PluginContext(reactor, Path("/"), kept.path.parent, kept.store(reactor))
    made = configure(load("next-boot", "bootfw.resolvers"), {}, context)
    assert isinstance(made, NextBoot)
    made.set_client_lookup(client_at)
    return made


@pytest.fixture
def started(kept: State) -> Iterator[Callable[[], NextBoot]]:
    """Makes resolvers that have started, and closes them."""
    made: list[NextBoot] = []

    def started() -> NextBoot:
        made.append(resolver(kept))
        made[-1].start(lambda event: None)
        return made[-1]

    yield started
    for each in made:
        each.close()


def ended(mac: str = MAC_TEXT, outcome: Outcome = Outcome.COMPLETE, **about: Any) -> TransferEnded:
    """A client has got pxelinux.0, or what *about* says."""
    request = TransferRequest("pxelinux.0", "pxelinux.0", (ADDRESSES[mac], 1))
    return TransferEnded(0, TransferReport(evolve(request, **about), Agreed(), outcome, "", 1, 1, 0, 0, 0))


class Restartable(Site):
    """With iPXE for everybody, and the same state directory for each start."""

    def __init__(self, kept: State, **options: Any) -> None:
        self.kept = kept
        super().__init__([], [MemoryBackend(FILES)], **options)
        self.start()

    def start(self) -> None:
        files: dict[str, str | dict[str, Any]] = {
            "x86-bios": "undionly.kpxe",
            "x86_64-uefi": "snponly.efi",
            "ipxe": "boot.ipxe",
        }
        self.next_boot = resolver(self.kept)
        self.resolvers = [self.next_boot, ByArchitecture(files)]
        super().start()

    def order(self, mac: str, file: str) -> None:
        self.network.result_of(self.next_boot.operations()["order"]({"mac": mac, "file": file}))

    def left(self) -> list[str]:
        return [order["mac"] for order in self.next_boot.operations()["next"]({})]


@pytest.fixture
def site(kept: State, failures: list[BaseException]) -> Iterator[Restartable]:
    made = Restartable(kept)
    yield made
    made.stop()
    assert made.said(PluginFailed) == []


# Who gets it

BIOS = BootRequest(MAC_TEXT, "discover", "pxe-bios", "x86-bios", server="10.0.0.1")
IPXE = evolve(BIOS, persona="ipxe", ipxe=True)
HTTP = evolve(BIOS, persona="uefi-http", architecture="x86_64-uefi-http", http=True, http_url="http://10.0.0.1:8069")


def chains_to(kept: State, request: BootRequest) -> str | None:
    """What the script says that it is told of, or the name of the file itself."""
    made = resolver(kept)
    made.start(lambda event: None)
    found = made.resolve(request)
    made.close()
    if found is None or found.content is None:
        return found.name if found else None
    assert found.name.endswith(SCRIPT)
    return found.content.decode().removeprefix("#!ipxe\nchain --autofree --replace ").rstrip("\n")


@pytest.mark.parametrize(
    ("file", "bios", "ipxe", "http"),
    [
        ("pxelinux.0", "pxelinux.0", "/pxelinux.0", "pxelinux.0"),
        ("a\\b.efi", "a\\b.efi", "/a/b.efi", "a\\b.efi"),
        # A script is for iPXE, which all of these become first.
        ("debian/install.ipxe", None, "/debian/install.ipxe", None),
        ("INSTALL.IPXE", None, "/INSTALL.IPXE", None),
        ("http://10.0.0.9/x.php?mac={mac}", None, f"http://10.0.0.9/x.php?mac={MAC_TEXT}", None),
        ("http://10.0.0.9/${serial}.ipxe", None, "http://10.0.0.9/${serial}.ipxe", None),
        # That a firmware has got a URL shows only if it is ours.
        ("http://10.0.0.1:8069/grub.efi", None, "http://10.0.0.1:8069/grub.efi", "http://10.0.0.1:8069/grub.efi"),
        ("http://10.0.0.9/grub.efi", None, "http://10.0.0.9/grub.efi", None),
        ("{http}/grub.efi", None, None, "http://10.0.0.1:8069/grub.efi"),
    ],
)
def test_a_client_that_can_load_it_is_offered_it(
    kept: State, file: str, bios: str | None, ipxe: str | None, http: str | None
) -> None:
    kept.order(MAC_TEXT, file)
    assert [chains_to(kept, request) for request in (BIOS, IPXE, HTTP)] == [bios, ipxe, http]
    assert chains_to(kept, evolve(BIOS, mac=OTHER)) is None


def test_ipxe_gets_its_script_by_http_where_it_can(kept: State, started: Callable[[], NextBoot]) -> None:
    kept.order(MAC_TEXT, "install.ipxe")
    made = started()
    can, can_not = ipxe_features(0x13), ipxe_features(0x15)
    asks = evolve(IPXE, http_url="http://10.0.0.1:8069")
    assert present(made.resolve(evolve(asks, options={175: can}))).name == f"http://10.0.0.1:8069/{SCRIPT}"
    assert present(made.resolve(evolve(asks, options={175: can_not}))).name == SCRIPT


@pytest.mark.parametrize(
    ("file", "reason"), [("https://10.0.0.9/x", "its iPXE has no HTTPS"), ("{uuid}.ipxe", "this client does not send")]
)
def test_one_time_boot_that_ipxe_cannot_load_is_kept_and_logged(
    kept: State, started: Callable[[], NextBoot], file: str, reason: str
) -> None:
    kept.order(MAC_TEXT, file)
    made = started()
    with capturedLogs() as logs:
        assert made.resolve(evolve(IPXE, options={175: ipxe_features(0x15)})) is None
    assert reason in logs[0]["log_format"].format(**logs[0])
    assert len(made.operations()["next"]({})) == 1


# When it is used up


def test_install_once_then_as_always(site: Restartable) -> None:
    """A BIOS that has to become iPXE first."""
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    assert machine.boots(BIOS_ROM) == b"iPXE"
    assert machine.boots(IPXE_ROM) == b"#!ipxe\nchain --autofree --replace /install.ipxe\n"
    assert machine.gets("install.ipxe") == b"install"
    assert [(event.mac, event.file) for event in site.said(NextBootTaken)] == [(MAC_TEXT, "install.ipxe")]
    assert site.left() == []
    for _ in range(2):
        assert machine.boots(BIOS_ROM) == b"iPXE"
        assert machine.boots(IPXE_ROM) == b"as always"


def test_a_program_is_loaded_by_the_firmware_itself(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    assert machine.boots(BIOS_ROM) == b"pxelinux"
    assert site.said(NextBootTaken)
    assert machine.boots(BIOS_ROM) == b"iPXE"


def test_offers_do_not_use_it_up(site: Restartable) -> None:
    """A DISCOVER repeated, an offer lost, a machine switched off in the middle: the file was not loaded."""
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    for _ in range(3):
        assert machine.asks(BIOS_ROM) == "undionly.kpxe"
        for _ in range(4):
            assert machine.asks(IPXE_ROM, xid=7) == SCRIPT
    assert machine.gets(SCRIPT)
    assert site.left() == []


def test_the_detour_to_port_4011_gets_the_same(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    assert machine.asks(OVMF) == ""
    assert machine.asks_boot_server(OVMF) == "pxelinux.0"
    assert machine.asks_boot_server(OVMF) == "pxelinux.0"
    assert machine.gets("pxelinux.0") == b"pxelinux"
    assert machine.asks_boot_server(OVMF) == "snponly.efi"


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.COMPLETE, Outcome.UNCONFIRMED)])
def test_only_the_whole_file_uses_it_up(kept: State, started: Callable[[], NextBoot], outcome: Outcome) -> None:
    """A size probe of UEFI is one of the others."""
    kept.order(MAC_TEXT, "pxelinux.0")
    made = started()
    made.resolve(BIOS)
    made.observe(ended(outcome=outcome))
    made.observe(ended(write=True))
    made.observe(ended(path="other"))
    made.observe(ended(OTHER))
    assert made.resolve(BIOS)
    made.observe(ended(outcome=Outcome.UNCONFIRMED))
    assert made.resolve(BIOS) is None
    made.close()
    assert kept.read() == {}


def test_machines_with_the_same_file_each_use_their_own_entry(site: Restartable) -> None:
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    site.order(MAC_TEXT, "pxelinux.0")
    site.order(OTHER, "pxelinux.0")
    assert first.asks(BIOS_ROM) == second.asks(BIOS_ROM) == "pxelinux.0"
    assert second.gets("pxelinux.0")
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER]
    assert first.boots(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER, MAC_TEXT]


def test_machines_behind_a_router_install_once(kept: State, failures: list[BaseException]) -> None:
    """There a proxy does not learn whose address it is. Scripts have their own names; else who waits longest has it."""
    site = Restartable(kept, known=False)
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    site.order(MAC_TEXT, "install.ipxe")
    site.order(OTHER, "pxelinux.0")
    assert second.boots(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER]
    assert present(first.boots(SNPONLY)).startswith(b"#!ipxe\nchain")
    site.stop()
    assert kept.read() == {}


def test_a_system_that_requests_a_boot_file_uses_nothing_up(kept: State, started: Callable[[], NextBoot]) -> None:
    """The reply to its DHCP request names the file, but it loads nothing."""
    kept.order(OTHER, "pxelinux.0")
    kept.order(MAC_TEXT, "pxelinux.0")
    made = started()
    made.resolve(evolve(BIOS, mac=OTHER, persona="plain", architecture="unknown", may_be_system=True))
    made.resolve(BIOS)
    behind_a_router = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.254", 1))
    made.observe(TransferEnded(0, TransferReport(behind_a_router, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))

    assert [order["mac"] for order in made.operations()["next"]({})] == [OTHER]


def test_a_board_that_only_requests_a_boot_file_uses_its_order_up(kept: State, started: Callable[[], NextBoot]) -> None:
    kept.order(MAC_TEXT, "pxelinux.0")
    made = started()
    board = evolve(BIOS, persona="plain", architecture="unknown", may_be_system=True)
    assert present(made.resolve(board)).name == "pxelinux.0"
    made.observe(ended())

    assert made.resolve(board) is None


def test_uefi_gets_ipxe_and_then_the_script(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    assert machine.asks_boot_server(OVMF) == "snponly.efi"
    assert machine.gets("snponly.efi") == b"iPXE"
    assert present(machine.boots(SNPONLY)).endswith(b"/install.ipxe\n")
    assert machine.asks(OVMF_HTTP) is None


# It survives restarts


@pytest.mark.parametrize("moment", ["before", "asked", "chained"])
def test_it_survives_a_restart(site: Restartable, moment: str) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    if moment != "before":
        machine.boots(BIOS_ROM)
    if moment == "chained":
        machine.asks(IPXE_ROM)
    site.stop()
    site.start()
    assert present(machine.boots(IPXE_ROM)).endswith(b"/install.ipxe\n")
    site.stop()
    site.start()
    assert machine.boots(IPXE_ROM) == b"as always"


def test_one_time_boot_completed_before_the_stop_is_removed(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    name = machine.asks(BIOS_ROM)
    machine.gets(present(name))
    site.stop()
    assert site.kept.read() == {}
    site.start()


def test_it_is_used_up_in_a_thread_and_close_waits_for_it(kept: State, private_reactor: EPollReactor) -> None:
    kept.order(MAC_TEXT, "pxelinux.0")
    kept.order(OTHER, "pxelinux.0")
    made, events = resolver(kept, private_reactor), list[Event]()
    made.start(events.append)
    for mac in (MAC_TEXT, OTHER):
        made.resolve(evolve(BIOS, mac=mac))
        made.observe(ended(mac))
        assert made.resolve(evolve(BIOS, mac=mac)) is None
    closed = made.close()
    end = time.monotonic() + 30
    while not closed.called:
        assert time.monotonic() < end
        private_reactor.iterate(0.01)
    private_reactor.iterate(0)
    assert kept.read() == {}
    assert len(events) == 2


def test_save_after_close_is_durable_at_once(kept: State, private_reactor: EPollReactor) -> None:
    """The process may end before a thread would."""
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept, private_reactor)
    made.start(lambda event: None)
    made.resolve(BIOS)
    assert made.close().called
    made.observe(ended())
    assert kept.read() == {}


# What an operator does meanwhile


def answer(operation: Callable[[], Any]) -> list[Any]:
    found: list[Any] = []
    maybeDeferred(operation).addCallback(found.extend)
    return found


def test_an_order_counts_at_once_and_is_stored(kept: State, started: Callable[[], NextBoot]) -> None:
    made = started()
    operations = made.operations()
    assert made.resolve(BIOS) is None
    for file in ("pxelinux.0", "memtest"):
        [record] = answer(partial(operations["order"], {"mac": MAC_TEXT, "file": file}))
        assert (record["mac"], record["file"]) == (MAC_TEXT, file)
        assert record["ordered"] == pytest.approx(time.time(), abs=60)
        assert present(made.resolve(BIOS)).name == file
    assert answer(lambda: operations["next"]({})) == [record]
    made.close()
    assert kept.read() == {MAC_TEXT: "memtest"}


def test_one_time_boot_can_be_cancelled(kept: State, started: Callable[[], NextBoot]) -> None:
    kept.order(MAC_TEXT, "pxelinux.0")
    made = started()
    cancel = made.operations()["cancel"]
    assert answer(lambda: cancel({"mac": OTHER})) == []
    [record] = answer(lambda: cancel({"mac": MAC_TEXT}))
    assert record["file"] == "pxelinux.0"
    assert made.resolve(BIOS) is None
    made.close()
    assert kept.read() == {}


@pytest.mark.parametrize("given", [{}, {"mac": MAC_TEXT, "file": "{nope}"}, {"mac": "host", "file": "x"}])
def test_invalid_one_time_boot_is_refused(started: Callable[[], NextBoot], given: dict[str, str]) -> None:
    with pytest.raises(StateError):
        started().operations()["order"](given)


# What can go wrong


def test_a_damaged_file_keeps_bootfw_from_starting(kept: State) -> None:
    kept.path.write_bytes(b"x" * 1000)
    with pytest.raises(StateError, match="is damaged"):
        resolver(kept).start(lambda event: None)


@pytest.mark.parametrize("order", [{}, [], {"file": "x", "ordered": "yesterday"}])
def test_a_stored_order_that_makes_no_sense_keeps_bootfw_from_starting(order: Any) -> None:
    store = MemoryStore()
    store.save_orders(ORDERS, {MAC_TEXT: {"file": "x", "ordered": 1.0}, OTHER: order})
    with pytest.raises(StateError, match=f"the stored one-time boot of {OTHER} is invalid"):
        NextBoot(store).start(lambda event: None)


class Full(MemoryStore):
    """Has no room for changes."""

    def save_orders(self, kind: str, orders: Mapping[str, Any]) -> Deferred[None]:
        return fail(StateError("the disk is full"))


def test_an_order_that_can_not_be_stored_is_refused_and_not_obeyed() -> None:
    made = NextBoot(Full())
    failures: list[Failure] = []
    made.operations()["order"]({"mac": MAC_TEXT, "file": "x"}).addErrback(failures.append)
    assert str(failures[0].value) == "the disk is full"
    assert made.resolve(BIOS) is None


def test_one_time_boot_is_used_once_even_if_it_cannot_be_removed() -> None:
    store = Full()
    MemoryStore.save_orders(store, ORDERS, {MAC_TEXT: {"file": "pxelinux.0", "ordered": 1.0}})
    made = NextBoot(store)
    made.set_client_lookup(client_at)
    made.start(lambda event: None)
    assert present(made.resolve(BIOS)).name == "pxelinux.0"
    with capturedLogs() as logs:
        made.observe(ended())
    assert "is served again after a restart" in logs[0]["log_format"]
    assert made.resolve(BIOS) is None
    assert answer(lambda: made.operations()["next"]({})) == []


@pytest.mark.parametrize("file", ["install.ipxe", "pxelinux.0", "http://{server}/x"])
class TestContract(ResolverContract):
    requests = tuple(evolve(request, mac=MAC_TEXT) for request in REQUESTS)

    @pytest.fixture(autouse=True)
    def _ordered(self, file: str) -> None:
        self.store = MemoryStore()
        save_next_boot(self.store, Order(MAC_TEXT, file, 1.0))

    def make_resolver(self) -> NextBoot:
        made = NextBoot(self.store)
        made.start(lambda event: None)
        return made


# What a boot program is told by a protocol of its own

BOOTINFO = BootRequest(MAC_TEXT, "bootinfo", "", "unknown")


def test_a_one_time_boot_for_a_boot_program_is_not_offered_by_dhcp(
    kept: State, started: Callable[[], NextBoot]
) -> None:
    kept.order(MAC_TEXT, "bootinfo:partition:2")
    made = started()
    assert made.resolve(BIOS) is made.resolve(evolve(BOOTINFO, phase="another")) is None
    assert made.resolve(BOOTINFO) == made.resolve(BOOTINFO) == BootFile("bootinfo:partition:2")


def test_a_file_of_dhcp_is_nothing_for_a_boot_program(kept: State, started: Callable[[], NextBoot]) -> None:
    kept.order(MAC_TEXT, "pxelinux.0")
    assert started().resolve(BOOTINFO) is None


def test_a_boot_program_that_uses_its_answer_ends_the_one_time_boot(
    kept: State, started: Callable[[], NextBoot]
) -> None:
    kept.order(MAC_TEXT, "bootinfo:wait")
    made = started()
    made.observe(BootFileUsed(1.0, MAC_TEXT, "bootinfo:reboot"))  # an earlier one, which was replaced
    made.observe(BootFileUsed(1.0, OTHER, "bootinfo:wait"))
    assert made.resolve(BOOTINFO)
    made.observe(BootFileUsed(1.0, MAC_TEXT, "bootinfo:wait"))
    assert made.resolve(BOOTINFO) is None
    made.close()
    assert kept.read() == {}
