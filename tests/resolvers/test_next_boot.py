"""One-shot next boots: who gets the file, when it is used up, and that a restart changes nothing."""

import sqlite3
import time
from pathlib import Path

import pytest
from attrs import evolve
from booting import Machine, Site
from firmware import BIOS_ROM, IPXE_ROM, MAC_TEXT, OVMF, OVMF_HTTP, SNPONLY, ipxe_features
from twisted.logger import capturedLogs

from bootfw.backends.memory import MemoryBackend
from bootfw.errors import StateError
from bootfw.events import NextBootTaken, PluginFailed, TransferEnded
from bootfw.plugins import PluginContext, configure, load
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.next_boot import NextBoot
from bootfw.stores.orders import Orders
from bootfw.testing import ResolverContract
from bootfw.testing.contracts.resolver import REQUESTS
from bootfw.values import Address, Agreed, BootRequest, Client, Outcome, TransferReport, TransferRequest

OTHER = "52:54:00:00:00:01"
SCRIPT = "next/52-54-00-12-34-56.ipxe"
FILES = {
    "undionly.kpxe": "iPXE",
    "snponly.efi": "iPXE",
    "boot.ipxe": "as always",
    "install.ipxe": "install",
    "pxelinux.0": "pxelinux",
}


@pytest.fixture
def kept(tmp_path: Path) -> Orders:
    return Orders(tmp_path / "next-boot.sqlite")


ADDRESSES = {MAC_TEXT: "10.0.0.9", OTHER: "10.0.0.8"}


def client_at(peer: Address) -> Client:
    return Client(peer[0], next((mac for mac, address in ADDRESSES.items() if address == peer[0]), ""))


def resolver(kept: Orders) -> NextBoot:
    """As a start of bootfw makes it."""
    made = configure(load("next-boot", "bootfw.resolvers"), {}, PluginContext(None, Path("/"), kept.path.parent))
    assert isinstance(made, NextBoot)
    made.set_client_lookup(client_at)
    return made


class Restartable(Site):
    """With iPXE for everybody, and the same state directory for each start."""

    def __init__(self, kept: Orders, **options) -> None:
        self.kept = kept
        super().__init__([], [MemoryBackend(FILES)], **options)
        self.start()

    def start(self) -> None:
        files = {"x86-bios": "undionly.kpxe", "x86_64-uefi": "snponly.efi", "ipxe": "boot.ipxe"}
        self.resolvers = [resolver(self.kept), ByArchitecture(files)]
        super().start()


@pytest.fixture
def site(kept, failures):
    made = Restartable(kept)
    yield made
    made.stop()
    assert made.said(PluginFailed) == []


# Who gets it

BIOS = BootRequest(MAC_TEXT, "discover", "pxe-bios", "x86-bios", server="10.0.0.1")
IPXE = evolve(BIOS, persona="ipxe", ipxe=True)
HTTP = evolve(BIOS, persona="uefi-http", architecture="x86_64-uefi-http", http=True, http_url="http://10.0.0.1:8069")


def chains_to(kept, request) -> str | None:
    """What the script says that it is told of, or the name of the file itself."""
    found = resolver(kept).resolve(request)
    if found is None or found.content is None:
        return found and found.name
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
def test_who_can_load_it_is_told_of_it(kept, file, bios, ipxe, http):
    kept.order(MAC_TEXT, file)
    assert [chains_to(kept, request) for request in (BIOS, IPXE, HTTP)] == [bios, ipxe, http]
    assert chains_to(kept, evolve(BIOS, mac=OTHER)) is None


def test_ipxe_gets_its_script_by_http_where_it_can(kept):
    kept.order(MAC_TEXT, "install.ipxe")
    can, can_not = ipxe_features(0x13), ipxe_features(0x15)
    asks = evolve(IPXE, http_url="http://10.0.0.1:8069")
    assert resolver(kept).resolve(evolve(asks, options={175: can})).name == f"http://10.0.0.1:8069/{SCRIPT}"
    assert resolver(kept).resolve(evolve(asks, options={175: can_not})).name == SCRIPT


@pytest.mark.parametrize(
    ("file", "reason"), [("https://10.0.0.9/x", "its iPXE has no HTTPS"), ("{uuid}.ipxe", "this client does not tell")]
)
def test_what_this_ipxe_can_not_load_stays_ordered_and_is_told_of(kept, file, reason):
    kept.order(MAC_TEXT, file)
    with capturedLogs() as logs:
        assert resolver(kept).resolve(evolve(IPXE, options={175: ipxe_features(0x15)})) is None
    assert reason in logs[0]["log_format"].format(**logs[0])
    assert kept.read()


# When it is used up


def test_install_once_then_as_always(site):
    """A BIOS that has to become iPXE first."""
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "install.ipxe")
    assert machine.boots(BIOS_ROM) == b"iPXE"
    assert machine.boots(IPXE_ROM) == b"#!ipxe\nchain --autofree --replace /install.ipxe\n"
    assert machine.gets("install.ipxe") == b"install"
    assert [(event.mac, event.file) for event in site.said(NextBootTaken)] == [(MAC_TEXT, "install.ipxe")]
    assert site.kept.read() == {}
    for _ in range(2):
        assert machine.boots(BIOS_ROM) == b"iPXE"
        assert machine.boots(IPXE_ROM) == b"as always"


def test_a_program_is_loaded_by_the_firmware_itself(site):
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "pxelinux.0")
    assert machine.boots(BIOS_ROM) == b"pxelinux"
    assert site.said(NextBootTaken)
    assert machine.boots(BIOS_ROM) == b"iPXE"


def test_offers_do_not_use_it_up(site):
    """A DISCOVER repeated, an offer lost, a machine switched off in the middle: the file was not loaded."""
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "install.ipxe")
    for _ in range(3):
        assert machine.asks(BIOS_ROM) == "undionly.kpxe"
        for _ in range(4):
            assert machine.asks(IPXE_ROM, xid=7) == SCRIPT
    assert machine.gets(SCRIPT)
    assert site.kept.read() == {}


def test_the_detour_to_port_4011_gets_the_same(site):
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "pxelinux.0")
    assert machine.asks(OVMF) == ""
    assert machine.asks_boot_server(OVMF) == "pxelinux.0"
    assert machine.asks_boot_server(OVMF) == "pxelinux.0"
    assert machine.gets("pxelinux.0") == b"pxelinux"
    assert machine.asks_boot_server(OVMF) == "snponly.efi"


@pytest.mark.parametrize("outcome", [o for o in Outcome if o not in (Outcome.COMPLETE, Outcome.UNCONFIRMED)])
def test_only_the_whole_file_uses_it_up(kept, outcome):
    """A size probe of UEFI is one of the others."""
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    made.resolve(BIOS)

    def ended(outcome, **about):
        request = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.9", 1))
        return TransferEnded(0, TransferReport(evolve(request, **about), Agreed(), outcome, "", 1, 1, 0, 0, 0))

    made.observe(ended(outcome))
    made.observe(ended(Outcome.COMPLETE, write=True))
    made.observe(ended(Outcome.COMPLETE, path="other"))
    made.observe(ended(Outcome.COMPLETE, peer=("10.0.0.8", 1)))
    assert kept.read()
    made.observe(ended(Outcome.UNCONFIRMED))
    assert not kept.read()
    assert made.resolve(BIOS) is None


def test_of_several_with_the_same_file_each_uses_up_its_own(site):
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    site.kept.order(MAC_TEXT, "pxelinux.0")
    site.kept.order(OTHER, "pxelinux.0")
    assert first.asks(BIOS_ROM) == second.asks(BIOS_ROM) == "pxelinux.0"
    assert second.gets("pxelinux.0")
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER]
    assert first.boots(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER, MAC_TEXT]


def test_behind_a_router_nobody_installs_for_ever(kept, failures):
    """There a proxy does not learn whose address it is. Scripts have their own names; else who waits longest has it."""
    site = Restartable(kept, known=False)
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    kept.order(MAC_TEXT, "install.ipxe")
    kept.order(OTHER, "pxelinux.0")
    assert second.boots(BIOS_ROM) == b"pxelinux"
    assert [event.mac for event in site.said(NextBootTaken)] == [OTHER]
    assert first.boots(SNPONLY).startswith(b"#!ipxe\nchain")
    assert kept.read() == {}
    site.stop()


def test_a_system_that_requests_a_boot_file_uses_nothing_up(kept):
    """The reply to its DHCP request names the file, but it loads nothing."""
    kept.order(OTHER, "pxelinux.0")
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    made.resolve(evolve(BIOS, mac=OTHER, persona="plain", architecture="unknown", may_be_system=True))
    made.resolve(BIOS)
    behind_a_router = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.254", 1))
    made.observe(TransferEnded(0, TransferReport(behind_a_router, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))

    assert list(kept.read()) == [OTHER]


def test_a_board_that_only_requests_a_boot_file_uses_its_order_up(kept):
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    board = evolve(BIOS, persona="plain", architecture="unknown", may_be_system=True)
    assert made.resolve(board).name == "pxelinux.0"
    request = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.9", 1))
    made.observe(TransferEnded(0, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))

    assert made.resolve(board) is None


def test_uefi_gets_ipxe_and_then_the_script(site):
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "install.ipxe")
    assert machine.asks_boot_server(OVMF) == "snponly.efi"
    assert machine.gets("snponly.efi") == b"iPXE"
    assert machine.boots(SNPONLY).endswith(b"/install.ipxe\n")
    assert machine.asks(OVMF_HTTP) is None


# It survives restarts


@pytest.mark.parametrize("moment", ["before", "asked", "chained"])
def test_it_survives_a_restart(site, moment):
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "install.ipxe")
    if moment != "before":
        machine.boots(BIOS_ROM)
    if moment == "chained":
        machine.asks(IPXE_ROM)
    site.stop()
    site.start()
    assert machine.boots(IPXE_ROM).endswith(b"/install.ipxe\n")
    site.stop()
    site.start()
    assert machine.boots(IPXE_ROM) == b"as always"


def test_what_was_got_in_the_last_moment_is_used_up(site):
    machine = Machine(site)
    site.kept.order(MAC_TEXT, "pxelinux.0")
    name = machine.asks(BIOS_ROM)
    machine.gets(name)
    site.stop()
    assert site.kept.read() == {}
    site.start()


def test_it_is_used_up_in_a_thread_and_close_waits_for_it(kept, private_reactor):
    kept.order(MAC_TEXT, "pxelinux.0")
    kept.order(OTHER, "pxelinux.0")
    made = configure(
        load("next-boot", "bootfw.resolvers"), {}, PluginContext(private_reactor, Path("/"), kept.path.parent)
    )
    made.set_client_lookup(client_at)
    said = []
    made.start(said.append)
    for mac in (MAC_TEXT, OTHER):
        made.resolve(evolve(BIOS, mac=mac))
        request = TransferRequest("pxelinux.0", "pxelinux.0", (ADDRESSES[mac], 1))
        made.observe(TransferEnded(0, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))
        assert made.resolve(evolve(BIOS, mac=mac)) is None
    closed = made.close()
    end = time.monotonic() + 10
    while not closed.called:
        assert time.monotonic() < end
        private_reactor.iterate(0.01)
    assert kept.read() == {}
    assert len(said) == 2


def test_what_comes_after_close_is_on_disk_at_once(kept, private_reactor):
    """The process may end before a thread would."""
    kept.order(MAC_TEXT, "pxelinux.0")
    made = configure(
        load("next-boot", "bootfw.resolvers"), {}, PluginContext(private_reactor, Path("/"), kept.path.parent)
    )
    made.start([].append)
    made.resolve(BIOS)
    assert made.close().called
    request = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.9", 1))
    made.observe(TransferEnded(0, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))
    assert kept.read() == {}


# What can go wrong


def test_a_used_up_order_does_not_come_back_while_somebody_writes(kept):
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    made.start([].append)
    made.resolve(BIOS)
    request = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.9", 1))
    made.observe(TransferEnded(0, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))
    writer = sqlite3.connect(kept.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    assert made.resolve(BIOS) is None
    writer.execute("ROLLBACK")
    writer.close()


def test_a_damaged_file_keeps_bootfw_from_starting(kept):
    kept.path.write_bytes(b"x" * 1000)
    with pytest.raises(StateError, match="is damaged"):
        resolver(kept).start([].append)


def test_a_file_that_is_damaged_later_changes_nothing_and_is_told_of_once(kept):
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    assert made.resolve(BIOS)
    kept.path.write_bytes(b"x" * 1000)
    with capturedLogs() as logs:
        assert made.resolve(BIOS)
        assert made.resolve(BIOS)
    assert len(logs) == 1


def test_an_order_that_can_not_be_taken_out_is_used_up_all_the_same(kept):
    kept.order(MAC_TEXT, "pxelinux.0")
    made = resolver(kept)
    made.start([].append)
    made.resolve(BIOS)
    good = kept.path.read_bytes()
    kept.path.write_bytes(b"x" * 1000)
    with capturedLogs() as logs:
        request = TransferRequest("pxelinux.0", "pxelinux.0", ("10.0.0.9", 1))
        made.observe(TransferEnded(0, TransferReport(request, Agreed(), Outcome.COMPLETE, "", 1, 1, 0, 0, 0)))
        assert made.resolve(BIOS) is None
    assert "not for the next start" in logs[0]["log_format"]
    kept.path.write_bytes(good)
    assert made.resolve(BIOS) is None  # it stands there again, but this process knows better


def test_what_is_ordered_or_taken_back_while_it_runs_counts_at_once(kept):
    made = resolver(kept)
    made.start([].append)
    assert made.resolve(BIOS) is None
    kept.order(MAC_TEXT, "pxelinux.0")
    assert made.resolve(BIOS).name == "pxelinux.0"
    kept.order(MAC_TEXT, "memtest")
    assert made.resolve(BIOS).name == "memtest"
    kept.remove(kept.read().values())
    assert made.resolve(BIOS) is None


@pytest.mark.parametrize("file", ["install.ipxe", "pxelinux.0", "http://{server}/x"])
class TestContract(ResolverContract):
    requests = tuple(evolve(request, mac=MAC_TEXT) for request in REQUESTS)

    @pytest.fixture(autouse=True)
    def _ordered(self, kept, file):
        kept.order(MAC_TEXT, file)
        self.kept = kept

    def make_resolver(self):
        return resolver(self.kept)
