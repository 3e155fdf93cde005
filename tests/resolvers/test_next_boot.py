"""One-time boots: which client gets the file, when the order is used up, and that a restart changes nothing."""

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


class StateDirectory:
    """A state directory, with the orders in it as the command reads and writes them while no server runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def store(self, reactor: EPollReactor | None = None) -> SqliteStore:
        return SqliteStore(self.path, reactor)

    def order(self, mac: str, file: str) -> None:
        OfflineOrders(self.store()).order(mac, file)

    def read(self) -> dict[str, str]:
        return {order["mac"]: order["file"] for order in OfflineOrders(self.store()).next_boots()}


@pytest.fixture
def state_directory(tmp_path: Path) -> StateDirectory:
    return StateDirectory(tmp_path / "bootfw.sqlite")


ADDRESSES = {MAC_TEXT: "10.0.0.9", OTHER: "10.0.0.8"}


def client_at(peer: Address) -> Client:
    return Client(peer[0], next((mac for mac, address in ADDRESSES.items() if address == peer[0]), ""))


def new_next_boot(state_directory: StateDirectory, reactor: EPollReactor | None = None) -> NextBoot:
    """The resolver as bootfw creates it at its start."""
    context = PluginContext(reactor, Path("/"), state_directory.path.parent, state_directory.store(reactor))
    next_boot = configure(load("next-boot", "bootfw.resolvers"), {}, context)
    assert isinstance(next_boot, NextBoot)
    next_boot.set_client_lookup(client_at)
    return next_boot


@pytest.fixture
def start_next_boot(state_directory: StateDirectory) -> Iterator[Callable[[], NextBoot]]:
    """Creates and starts resolvers, and closes them at the end."""
    started: list[NextBoot] = []

    def start() -> NextBoot:
        started.append(new_next_boot(state_directory))
        started[-1].start(lambda event: None)
        return started[-1]

    yield start
    for each in started:
        each.close()


def transfer_ended(mac: str = MAC_TEXT, outcome: Outcome = Outcome.COMPLETE, **changed: Any) -> TransferEnded:
    """The event that a client has loaded pxelinux.0; *changed* are other fields of its request."""
    request = TransferRequest("pxelinux.0", "pxelinux.0", (ADDRESSES[mac], 1))
    return TransferEnded(0, TransferReport(evolve(request, **changed), Agreed(), outcome, "", 1, 1, 0, 0, 0))


class Restartable(Site):
    """A site that sends iPXE to all firmware, and keeps its state directory when it is started again."""

    def __init__(self, state_directory: StateDirectory, **options: Any) -> None:
        self.state_directory = state_directory
        super().__init__([], [MemoryBackend(FILES)], **options)
        self.start()

    def start(self) -> None:
        files: dict[str, str | dict[str, Any]] = {
            "x86-bios": "undionly.kpxe",
            "x86_64-uefi": "snponly.efi",
            "ipxe": "boot.ipxe",
        }
        self.next_boot = new_next_boot(self.state_directory)
        self.resolvers = [self.next_boot, ByArchitecture(files)]
        super().start()

    def order(self, mac: str, file: str) -> None:
        self.network.result_of(self.next_boot.operations()["order"]({"mac": mac, "file": file}))

    def ordered_macs(self) -> list[str]:
        return [order["mac"] for order in self.next_boot.operations()["next"]({})]


@pytest.fixture
def site(state_directory: StateDirectory, failures: list[BaseException]) -> Iterator[Restartable]:
    next_boot = Restartable(state_directory)
    yield next_boot
    next_boot.stop()
    assert next_boot.events_of(PluginFailed) == []


# Which clients get the file

BIOS = BootRequest(MAC_TEXT, "discover", "pxe-bios", "x86-bios", server="10.0.0.1")
IPXE = evolve(BIOS, persona="ipxe", ipxe=True)
HTTP = evolve(BIOS, persona="uefi-http", architecture="x86_64-uefi-http", http=True, http_url="http://10.0.0.1:8069")


def chained_file(state_directory: StateDirectory, request: BootRequest) -> str | None:
    """The file that the script chains to, or the name of the file if it is offered directly."""
    next_boot = new_next_boot(state_directory)
    next_boot.start(lambda event: None)
    found = next_boot.resolve(request)
    next_boot.close()
    if found is None or found.content is None:
        return found.name if found else None
    assert found.name.endswith(SCRIPT)
    return found.content.decode().removeprefix("#!ipxe\nchain --autofree --replace ").rstrip("\n")


@pytest.mark.parametrize(
    ("file", "bios", "ipxe", "http"),
    [
        ("pxelinux.0", "pxelinux.0", "/pxelinux.0", "pxelinux.0"),
        ("a\\b.efi", "a\\b.efi", "/a/b.efi", "a\\b.efi"),
        # A script is for iPXE, which all of these load first.
        ("debian/install.ipxe", None, "/debian/install.ipxe", None),
        ("INSTALL.IPXE", None, "/INSTALL.IPXE", None),
        ("http://10.0.0.9/x.php?mac={mac}", None, f"http://10.0.0.9/x.php?mac={MAC_TEXT}", None),
        ("http://10.0.0.9/${serial}.ipxe", None, "http://10.0.0.9/${serial}.ipxe", None),
        # Only of its own URLs does the server notice that a firmware has loaded them.
        ("http://10.0.0.1:8069/grub.efi", None, "http://10.0.0.1:8069/grub.efi", "http://10.0.0.1:8069/grub.efi"),
        ("http://10.0.0.9/grub.efi", None, "http://10.0.0.9/grub.efi", None),
        ("{http}/grub.efi", None, None, "http://10.0.0.1:8069/grub.efi"),
    ],
)
def test_a_file_is_offered_to_clients_that_can_load_it(
    state_directory: StateDirectory, file: str, bios: str | None, ipxe: str | None, http: str | None
) -> None:
    state_directory.order(MAC_TEXT, file)
    assert [chained_file(state_directory, request) for request in (BIOS, IPXE, HTTP)] == [bios, ipxe, http]
    assert chained_file(state_directory, evolve(BIOS, mac=OTHER)) is None


def test_ipxe_gets_its_script_by_http_where_it_can(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "install.ipxe")
    next_boot = start_next_boot()
    http_features, tftp_features = ipxe_features(0x13), ipxe_features(0x15)
    request = evolve(IPXE, http_url="http://10.0.0.1:8069")
    assert (
        present(next_boot.resolve(evolve(request, options={175: http_features}))).name
        == f"http://10.0.0.1:8069/{SCRIPT}"
    )
    assert present(next_boot.resolve(evolve(request, options={175: tftp_features}))).name == SCRIPT


@pytest.mark.parametrize(
    ("file", "reason"), [("https://10.0.0.9/x", "its iPXE has no HTTPS"), ("{uuid}.ipxe", "this client does not send")]
)
def test_one_time_boot_that_ipxe_cannot_load_is_kept_and_logged(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot], file: str, reason: str
) -> None:
    state_directory.order(MAC_TEXT, file)
    next_boot = start_next_boot()
    with capturedLogs() as logs:
        assert next_boot.resolve(evolve(IPXE, options={175: ipxe_features(0x15)})) is None
    assert reason in logs[0]["log_format"].format(**logs[0])
    assert len(next_boot.operations()["next"]({})) == 1


# When the order is used up


def test_a_bios_machine_installs_once_and_then_boots_as_before(site: Restartable) -> None:
    """The BIOS has to load iPXE first."""
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    assert machine.boot(BIOS_ROM) == b"iPXE"
    assert machine.boot(IPXE_ROM) == b"#!ipxe\nchain --autofree --replace /install.ipxe\n"
    assert machine.fetch("install.ipxe") == b"install"
    assert [(event.mac, event.file) for event in site.events_of(NextBootTaken)] == [(MAC_TEXT, "install.ipxe")]
    assert site.ordered_macs() == []
    for _ in range(2):
        assert machine.boot(BIOS_ROM) == b"iPXE"
        assert machine.boot(IPXE_ROM) == b"as always"


def test_a_boot_program_is_loaded_by_the_firmware_itself(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    assert machine.boot(BIOS_ROM) == b"pxelinux"
    assert site.events_of(NextBootTaken)
    assert machine.boot(BIOS_ROM) == b"iPXE"


def test_offers_do_not_use_an_order_up(site: Restartable) -> None:
    """After a repeated DISCOVER, a lost offer or a machine that is switched off, the file was not loaded."""
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    for _ in range(3):
        assert machine.offered_file(BIOS_ROM) == "undionly.kpxe"
        for _ in range(4):
            assert machine.offered_file(IPXE_ROM, xid=7) == SCRIPT
    assert machine.fetch(SCRIPT)
    assert site.ordered_macs() == []


def test_the_boot_server_on_port_4011_sends_the_same_file(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    assert machine.offered_file(OVMF) == ""
    assert machine.boot_server_file(OVMF) == "pxelinux.0"
    assert machine.boot_server_file(OVMF) == "pxelinux.0"
    assert machine.fetch("pxelinux.0") == b"pxelinux"
    assert machine.boot_server_file(OVMF) == "snponly.efi"


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.COMPLETE, Outcome.UNCONFIRMED)])
def test_only_a_complete_transfer_uses_an_order_up(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot], outcome: Outcome
) -> None:
    """The size probes of UEFI have one of the other outcomes."""
    state_directory.order(MAC_TEXT, "pxelinux.0")
    next_boot = start_next_boot()
    next_boot.resolve(BIOS)
    next_boot.observe(transfer_ended(outcome=outcome))
    next_boot.observe(transfer_ended(write=True))
    next_boot.observe(transfer_ended(path="other"))
    next_boot.observe(transfer_ended(OTHER))
    assert next_boot.resolve(BIOS)
    next_boot.observe(transfer_ended(outcome=Outcome.UNCONFIRMED))
    assert next_boot.resolve(BIOS) is None
    next_boot.close()
    assert state_directory.read() == {}


def test_machines_with_the_same_file_each_use_their_own_entry(site: Restartable) -> None:
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    site.order(MAC_TEXT, "pxelinux.0")
    site.order(OTHER, "pxelinux.0")
    assert first.offered_file(BIOS_ROM) == second.offered_file(BIOS_ROM) == "pxelinux.0"
    assert second.fetch("pxelinux.0")
    assert [event.mac for event in site.events_of(NextBootTaken)] == [OTHER]
    assert first.boot(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.events_of(NextBootTaken)] == [OTHER, MAC_TEXT]


def test_machines_behind_a_router_install_once(state_directory: StateDirectory, failures: list[BaseException]) -> None:
    """Behind a router a proxy does not learn the MAC address for an IP address.

    Each machine's script has a name of its own; any other file counts for the machine that has waited longest.
    """
    site = Restartable(state_directory, knows_macs=False)
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    site.order(MAC_TEXT, "install.ipxe")
    site.order(OTHER, "pxelinux.0")
    assert second.boot(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.events_of(NextBootTaken)] == [OTHER]
    assert present(first.boot(SNPONLY)).startswith(b"#!ipxe\nchain")
    site.stop()
    assert state_directory.read() == {}


def test_a_system_that_requests_a_boot_file_uses_no_order_up(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    """The reply to its DHCP request names the file, but it loads nothing."""
    state_directory.order(OTHER, "pxelinux.0")
    state_directory.order(MAC_TEXT, "pxelinux.0")
    next_boot = start_next_boot()
    next_boot.resolve(evolve(BIOS, mac=OTHER, persona="plain", architecture="unknown", may_be_system=True))
    next_boot.resolve(BIOS)
    behind_a_router = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.254", 1))
    next_boot.observe(TransferEnded(0, TransferReport(behind_a_router, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))

    assert [order["mac"] for order in next_boot.operations()["next"]({})] == [OTHER]


def test_a_board_that_only_requests_a_boot_file_uses_its_order_up(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "pxelinux.0")
    next_boot = start_next_boot()
    board = evolve(BIOS, persona="plain", architecture="unknown", may_be_system=True)
    assert present(next_boot.resolve(board)).name == "pxelinux.0"
    next_boot.observe(transfer_ended())

    assert next_boot.resolve(board) is None


def test_uefi_gets_ipxe_and_then_the_script(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    assert machine.boot_server_file(OVMF) == "snponly.efi"
    assert machine.fetch("snponly.efi") == b"iPXE"
    assert present(machine.boot(SNPONLY)).endswith(b"/install.ipxe\n")
    assert machine.offered_file(OVMF_HTTP) is None


# Restarts


@pytest.mark.parametrize("moment", ["before", "asked", "chained"])
def test_a_one_time_boot_survives_a_restart(site: Restartable, moment: str) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "install.ipxe")
    if moment != "before":
        machine.boot(BIOS_ROM)
    if moment == "chained":
        machine.offered_file(IPXE_ROM)
    site.stop()
    site.start()
    assert present(machine.boot(IPXE_ROM)).endswith(b"/install.ipxe\n")
    site.stop()
    site.start()
    assert machine.boot(IPXE_ROM) == b"as always"


def test_one_time_boot_completed_before_the_stop_is_removed(site: Restartable) -> None:
    machine = Machine(site)
    site.order(MAC_TEXT, "pxelinux.0")
    name = machine.offered_file(BIOS_ROM)
    machine.fetch(present(name))
    site.stop()
    assert site.state_directory.read() == {}
    site.start()


def test_a_used_order_is_removed_in_a_thread_and_close_waits_for_it(
    state_directory: StateDirectory, private_reactor: EPollReactor
) -> None:
    state_directory.order(MAC_TEXT, "pxelinux.0")
    state_directory.order(OTHER, "pxelinux.0")
    next_boot, events = new_next_boot(state_directory, private_reactor), list[Event]()
    next_boot.start(events.append)
    for mac in (MAC_TEXT, OTHER):
        next_boot.resolve(evolve(BIOS, mac=mac))
        next_boot.observe(transfer_ended(mac))
        assert next_boot.resolve(evolve(BIOS, mac=mac)) is None
    closed = next_boot.close()
    deadline = time.monotonic() + 30
    while not closed.called:
        assert time.monotonic() < deadline
        private_reactor.iterate(0.01)
    private_reactor.iterate(0)
    assert state_directory.read() == {}
    assert len(events) == 2


def test_save_after_close_is_durable_at_once(state_directory: StateDirectory, private_reactor: EPollReactor) -> None:
    """The process may end before a thread has saved it."""
    state_directory.order(MAC_TEXT, "pxelinux.0")
    next_boot = new_next_boot(state_directory, private_reactor)
    next_boot.start(lambda event: None)
    next_boot.resolve(BIOS)
    assert next_boot.close().called
    next_boot.observe(transfer_ended())
    assert state_directory.read() == {}


# The operator's commands


def result_of(operation: Callable[[], Any]) -> list[Any]:
    """The records that an operation returns, at once or by a Deferred."""
    found: list[Any] = []
    maybeDeferred(operation).addCallback(found.extend)
    return found


def test_an_order_counts_at_once_and_is_stored(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    next_boot = start_next_boot()
    operations = next_boot.operations()
    assert next_boot.resolve(BIOS) is None
    for file in ("pxelinux.0", "memtest"):
        [record] = result_of(partial(operations["order"], {"mac": MAC_TEXT, "file": file}))
        assert (record["mac"], record["file"]) == (MAC_TEXT, file)
        assert record["ordered"] == pytest.approx(time.time(), abs=60)
        assert present(next_boot.resolve(BIOS)).name == file
    assert result_of(lambda: operations["next"]({})) == [record]
    next_boot.close()
    assert state_directory.read() == {MAC_TEXT: "memtest"}


def test_one_time_boot_can_be_cancelled(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "pxelinux.0")
    next_boot = start_next_boot()
    cancel = next_boot.operations()["cancel"]
    assert result_of(lambda: cancel({"mac": OTHER})) == []
    [record] = result_of(lambda: cancel({"mac": MAC_TEXT}))
    assert record["file"] == "pxelinux.0"
    assert next_boot.resolve(BIOS) is None
    next_boot.close()
    assert state_directory.read() == {}


@pytest.mark.parametrize("arguments", [{}, {"mac": MAC_TEXT, "file": "{nope}"}, {"mac": "host", "file": "x"}])
def test_invalid_one_time_boot_is_refused(start_next_boot: Callable[[], NextBoot], arguments: dict[str, str]) -> None:
    with pytest.raises(StateError):
        start_next_boot().operations()["order"](arguments)


# Errors


def test_a_damaged_file_keeps_bootfw_from_starting(state_directory: StateDirectory) -> None:
    state_directory.path.write_bytes(b"x" * 1000)
    with pytest.raises(StateError, match="is damaged"):
        new_next_boot(state_directory).start(lambda event: None)


@pytest.mark.parametrize("order", [{}, [], {"file": "x", "ordered": "yesterday"}])
def test_an_invalid_stored_order_keeps_bootfw_from_starting(order: Any) -> None:
    store = MemoryStore()
    store.save_orders(ORDERS, {MAC_TEXT: {"file": "x", "ordered": 1.0}, OTHER: order})
    with pytest.raises(StateError, match=f"the stored one-time boot of {OTHER} is invalid"):
        NextBoot(store).start(lambda event: None)


class FullStore(MemoryStore):
    """A store whose disk is full: it can't save anything."""

    def save_orders(self, kind: str, orders: Mapping[str, Any]) -> Deferred[None]:
        return fail(StateError("the disk is full"))


def test_an_order_that_cannot_be_stored_is_refused_and_has_no_effect() -> None:
    next_boot = NextBoot(FullStore())
    failures: list[Failure] = []
    next_boot.operations()["order"]({"mac": MAC_TEXT, "file": "x"}).addErrback(failures.append)
    assert str(failures[0].value) == "the disk is full"
    assert next_boot.resolve(BIOS) is None


def test_one_time_boot_is_used_once_even_if_it_cannot_be_removed() -> None:
    store = FullStore()
    MemoryStore.save_orders(store, ORDERS, {MAC_TEXT: {"file": "pxelinux.0", "ordered": 1.0}})
    next_boot = NextBoot(store)
    next_boot.set_client_lookup(client_at)
    next_boot.start(lambda event: None)
    assert present(next_boot.resolve(BIOS)).name == "pxelinux.0"
    with capturedLogs() as logs:
        next_boot.observe(transfer_ended())
    assert "is served again after a restart" in logs[0]["log_format"]
    assert next_boot.resolve(BIOS) is None
    assert result_of(lambda: next_boot.operations()["next"]({})) == []


@pytest.mark.parametrize("file", ["install.ipxe", "pxelinux.0", "http://{server}/x"])
class TestContract(ResolverContract):
    requests = tuple(evolve(request, mac=MAC_TEXT) for request in REQUESTS)

    @pytest.fixture(autouse=True)
    def _ordered(self, file: str) -> None:
        self.store = MemoryStore()
        save_next_boot(self.store, Order(MAC_TEXT, file, 1.0))

    def make_resolver(self) -> NextBoot:
        next_boot = NextBoot(self.store)
        next_boot.start(lambda event: None)
        return next_boot


# Answers to a boot program in a protocol of its own

BOOTINFO = BootRequest(MAC_TEXT, "bootinfo", "", "unknown")


def test_a_one_time_boot_for_a_boot_program_is_not_offered_by_dhcp(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "bootinfo:partition:2")
    next_boot = start_next_boot()
    assert next_boot.resolve(BIOS) is next_boot.resolve(evolve(BOOTINFO, phase="another")) is None
    assert next_boot.resolve(BOOTINFO) == next_boot.resolve(BOOTINFO) == BootFile("bootinfo:partition:2")


def test_a_boot_file_for_dhcp_is_not_sent_to_a_boot_program(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "pxelinux.0")
    assert start_next_boot().resolve(BOOTINFO) is None


def test_a_boot_program_that_uses_its_answer_ends_the_one_time_boot(
    state_directory: StateDirectory, start_next_boot: Callable[[], NextBoot]
) -> None:
    state_directory.order(MAC_TEXT, "bootinfo:wait")
    next_boot = start_next_boot()
    next_boot.observe(BootFileUsed(1.0, MAC_TEXT, "bootinfo:reboot"))  # an earlier one, which was replaced
    next_boot.observe(BootFileUsed(1.0, OTHER, "bootinfo:wait"))
    assert next_boot.resolve(BOOTINFO)
    next_boot.observe(BootFileUsed(1.0, MAC_TEXT, "bootinfo:wait"))
    assert next_boot.resolve(BOOTINFO) is None
    next_boot.close()
    assert state_directory.read() == {}
