"""Which machines are in a boot loop, which are not, and how a loop ends."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from booting import Machine, Site
from firmware import BIOS_ROM, IPXE_ROM, MAC_TEXT, OVMF, SNPONLY
from narrowing import present
from twisted.internet.defer import fail
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from bootfw.backends.memory import MemoryBackend
from bootfw.errors import ConfigError, StateError
from bootfw.events import LoopBroken, NextBootTaken, OfferMade, OfferWithheld, PluginFailed
from bootfw.observe.log import LogObserver
from bootfw.plugins import PluginContext, configure, load
from bootfw.resolvers import loop_breaker
from bootfw.resolvers.by_architecture import ByArchitecture
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.stores.memory import MemoryStore
from bootfw.testing import ResolverContract
from bootfw.values import BootFile, BootRequest

OTHER = "52:54:00:00:00:01"
FILES = {
    "undionly.kpxe": "iPXE",
    "snponly.efi": "iPXE",
    "boot.ipxe": "#!ipxe",
    "vmlinuz": "k" * 5000,
    "initrd": "i" * 9000,
}
FILES_BY_ARCHITECTURE = {"x86-bios": "undionly.kpxe", "x86_64-uefi": "snponly.efi", "ipxe": "boot.ipxe"}
LOCAL_SCRIPT = "local/52-54-00-12-34-56.ipxe"
POST = 40.0
"""Seconds that a firmware needs from reset to its DISCOVER."""


class Store(MemoryStore):
    """A MemoryStore without slots: its methods can be replaced."""


class LoopBreakerSite(Site):
    """A site whose first resolver is a loop breaker."""

    def __init__(self, files: Mapping[str, str | dict[str, Any]] = FILES_BY_ARCHITECTURE, **options: Any) -> None:
        super().__init__([], [MemoryBackend(dict(FILES))])
        self.store = Store()
        self.breaker = LoopBreaker(**options, reactor=self.network.clock, store=self.store)
        self.resolvers = [self.breaker, ByArchitecture(dict(files))]
        self.start()

    def pass_time(self, seconds: float) -> None:
        self.network.advance(seconds)


@pytest.fixture
def site(failures: list[BaseException]) -> Iterator[LoopBreakerSite]:
    breaker = LoopBreakerSite()
    yield breaker
    breaker.stop()
    assert breaker.events_of(PluginFailed) == []
    breaker.network.advance(0)
    assert [leak for leak in breaker.network.leaks() if "server" in leak] == []


def whole_boot(machine: Machine, *files: str, uptime: float = POST) -> bytes | None:
    """A boot of a BIOS machine, up to its next reset; the content of the last boot file that it loaded, or None."""
    content = machine.boot(BIOS_ROM)
    if content == b"iPXE":
        content = machine.boot(IPXE_ROM)
        if b"echo bootfw" not in present(content):
            for name in files:
                machine.fetch(name)
    machine.site.network.advance(uptime)
    return content


# Loops


def test_repeated_script_requests_of_ipxe_are_a_loop(site: LoopBreakerSite) -> None:
    """iPXE loads its script again each second, without a reset in between."""
    machine = Machine(site)
    assert machine.boot(BIOS_ROM) == b"iPXE"
    for _ in range(6):  # the first one belongs to a round with the firmware's file in it
        assert machine.boot(IPXE_ROM) == b"#!ipxe"
        site.pass_time(1)
    with capturedLogs() as logs:
        script = machine.boot(IPXE_ROM)
        [event] = site.events_of(LoopBroken)
        LogObserver().observe(event)
    assert script is not None
    assert script.splitlines()[-2:] == [b"iseq ${platform} efi && exit 1 ||", b"exit 0"]
    assert b"echo bootfw: it loaded the same files 5 times in a row and came back: boot.ipxe" in script
    assert (event.request.mac, event.files, event.times) == (MAC_TEXT, ("boot.ipxe",), 5)
    assert "bootfw next --forgive 52:54:00:12:34:56" in logs[-1]["log_format"].format(**logs[-1])
    assert machine.offered_file(IPXE_ROM) == LOCAL_SCRIPT
    assert len(site.events_of(LoopBroken)) == 1


def test_crashing_kernel_is_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(5):
        assert whole_boot(machine, "vmlinuz", "initrd") == b"#!ipxe"
    # Without an answer the firmware goes on to the next device in its boot order.
    assert whole_boot(machine) is None
    [event] = site.events_of(LoopBroken)
    assert event.files == ("undionly.kpxe", "boot.ipxe", "vmlinuz", "initrd")
    assert "it shall boot its own disk: it loaded the same files 5 times" in site.events_of(OfferWithheld)[-1].reason


def test_crashing_loader_on_uefi_is_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(5):
        assert machine.offered_file(OVMF) == ""
        assert machine.fetch(present(machine.boot_server_file(OVMF))) == b"iPXE"
        site.pass_time(POST)
    assert machine.offered_file(OVMF) is None
    assert len(site.events_of(LoopBroken)) == 1


def test_an_installer_that_fails_each_hour_is_in_a_loop_with_a_longer_limit(failures: list[BaseException]) -> None:
    site = LoopBreakerSite(repeats=2, within_seconds=7200)
    machine = Machine(site)
    for _ in range(2):
        assert whole_boot(machine, "vmlinuz", "initrd", uptime=3600) == b"#!ipxe"
    assert whole_boot(machine) is None
    site.stop()


def test_a_firmware_that_uses_one_xid_for_all_boots_is_in_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(5):
        machine.fetch(present(machine.offered_file(BIOS_ROM, xid=7)))
        site.pass_time(POST)
    assert machine.offered_file(BIOS_ROM, xid=7) is None


@pytest.mark.parametrize("file", ["http://10.0.0.7/x.ipxe", "elsewhere"])
def test_files_of_other_servers_count_when_offered(failures: list[BaseException], file: str) -> None:
    site = LoopBreakerSite({"ipxe": file})
    if file == "elsewhere":
        site.stop()
        site.resolvers = [site.breaker, ByArchitecture({"ipxe": file}, "10.0.0.7")]
        site.start()
    machine = Machine(site)
    for number in range(5):
        for _ in range(4):
            assert machine.offered_file(IPXE_ROM, xid=number + 1) == file
        site.pass_time(3)
    assert machine.offered_file(IPXE_ROM) == LOCAL_SCRIPT
    site.stop()


# No loops


def test_daily_boots_of_a_diskless_machine_are_not_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(30):
        assert whole_boot(machine, "vmlinuz", "initrd", uptime=24 * 3600) == b"#!ipxe"
    assert site.events_of(LoopBroken) == []


def test_a_machine_that_is_reset_every_few_minutes_is_not_in_a_loop(site: LoopBreakerSite) -> None:
    """A test rig does so all day."""
    machine = Machine(site)
    for _ in range(60):
        assert whole_boot(machine, "vmlinuz", "initrd", uptime=310) == b"#!ipxe"
    assert site.events_of(LoopBroken) == []


def test_a_few_resets_by_hand_are_not_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(3):
        for _ in range(5):
            assert whole_boot(machine, "vmlinuz", "initrd") == b"#!ipxe"
        site.pass_time(600)
    assert site.events_of(LoopBroken) == []


def test_boots_with_a_changed_script_are_not_a_loop(site: LoopBreakerSite) -> None:
    """The script changes before each reset."""
    machine = Machine(site)
    for version in range(20):
        site.backends[0].files["boot.ipxe"] = b"#!ipxe" + b"\n" * version
        assert present(whole_boot(machine, "vmlinuz")).startswith(b"#!ipxe")
    assert site.events_of(LoopBroken) == []


def test_retries_with_one_xid_are_not_a_loop(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    machine.boot(BIOS_ROM)
    for _ in range(20):
        assert machine.offered_file(IPXE_ROM, xid=5) == "boot.ipxe"
    assert machine.fetch("boot.ipxe")


def test_boots_without_a_completed_file_are_not_a_loop(site: LoopBreakerSite) -> None:
    """Something blocks the transfers; withholding the offer would not help the machine."""
    machine = Machine(site)
    for _ in range(20):
        assert machine.offered_file(BIOS_ROM) == "undionly.kpxe"
        assert machine.fetch("missing") is None
        site.pass_time(30)


def test_size_probes_do_not_count_as_loaded_files(site: LoopBreakerSite) -> None:
    """A UEFI machine probes the size, and then is switched off; a probe does not count as a boot."""
    machine = Machine(site)
    for _ in range(10):
        assert machine.boot_server_file(OVMF) == "snponly.efi"
        machine.probe("snponly.efi")
        site.pass_time(30)
    assert site.events_of(LoopBroken) == []


def test_progress_restarts_the_count(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(4):
        whole_boot(machine, "vmlinuz")
    whole_boot(machine, "vmlinuz", "initrd")
    for _ in range(5):
        assert whole_boot(machine, "vmlinuz") == b"#!ipxe"
    assert whole_boot(machine) is None


def test_boots_of_other_machines_are_counted_separately(site: LoopBreakerSite) -> None:
    first, second = Machine(site), Machine(site, OTHER, "10.0.0.8")
    for _ in range(3):
        whole_boot(first, "vmlinuz")
        whole_boot(second, "vmlinuz")
    assert site.events_of(LoopBroken) == []


# The end of a loop


def machine_in_loop(site: LoopBreakerSite) -> Machine:
    """A machine after so many equal boots that its loop is broken."""
    machine = Machine(site)
    for _ in range(6):
        whole_boot(machine)
    assert len(site.events_of(LoopBroken)) == 1
    return machine


def test_loop_ends_after_local_seconds(site: LoopBreakerSite) -> None:
    machine = machine_in_loop(site)
    site.pass_time(500)
    assert machine.offered_file(BIOS_ROM) is None
    site.pass_time(61)
    for _ in range(5):
        assert whole_boot(machine) == b"#!ipxe"
    assert whole_boot(machine) is None
    assert len(site.events_of(LoopBroken)) == 2


def test_operator_ends_a_loop(site: LoopBreakerSite) -> None:
    machine = machine_in_loop(site)
    operations = site.breaker.operations()
    [record] = operations["looping"]({})
    assert record == {
        "mac": MAC_TEXT,
        "files": ["undionly.kpxe", "boot.ipxe"],
        "times": 5,
        "seconds": pytest.approx(560, abs=1),
    }
    assert operations["forgive"]({"mac": OTHER}) == ()
    assert [record["mac"] for record in operations["forgive"]({"mac": MAC_TEXT})] == [MAC_TEXT]
    assert list(operations["looping"]({})) == []
    assert operations["forgive"]({}) == ()
    assert machine.boot(BIOS_ROM) == b"iPXE"


def test_one_time_boot_ends_a_loop(site: LoopBreakerSite) -> None:
    machine = machine_in_loop(site)
    site.breaker.observe(NextBootTaken(0, MAC_TEXT, "rescue.ipxe"))
    assert machine.boot(BIOS_ROM) == b"iPXE"


def test_a_restart_does_not_end_a_loop(site: LoopBreakerSite) -> None:
    machine = machine_in_loop(site)
    site.stop()
    site.start()
    assert machine.offered_file(BIOS_ROM) is None
    [record] = site.breaker.operations()["looping"]({})
    assert (record["mac"], record["files"], record["times"]) == (MAC_TEXT, ["undionly.kpxe", "boot.ipxe"], 5)
    assert record["seconds"] == pytest.approx(600, abs=60)  # the system's clock has not moved with the test's


@pytest.mark.parametrize("ended_by", ["by the operator", "by another next boot", "by time"])
def test_end_of_a_loop_is_stored(site: LoopBreakerSite, ended_by: str) -> None:
    machine = machine_in_loop(site)
    if ended_by == "by the operator":
        site.breaker.operations()["forgive"]({"mac": MAC_TEXT})
    elif ended_by == "by another next boot":
        site.breaker.observe(NextBootTaken(0, MAC_TEXT, "rescue.ipxe"))
    else:
        site.pass_time(600)
        machine.offered_file(BIOS_ROM)
    assert site.store.load_orders(loop_breaker.LOOPS) == {}


def test_a_loop_that_was_over_before_the_start_is_removed() -> None:
    store = MemoryStore()
    store.save_orders(loop_breaker.LOOPS, {MAC_TEXT: {"files": ["x"], "times": 5, "until": 1.0}})
    breaker = LoopBreaker(reactor=Clock(), store=store)
    breaker.start(lambda event: None)
    assert list(breaker.operations()["looping"]({})) == []
    assert store.load_orders(loop_breaker.LOOPS) == {}


@pytest.mark.parametrize("order", [{}, [], {"files": ["x"], "times": "often", "until": 1.0}])
def test_an_invalid_stored_loop_keeps_bootfw_from_starting(order: Any) -> None:
    store = MemoryStore()
    store.save_orders(loop_breaker.LOOPS, {OTHER: order})
    with pytest.raises(StateError, match=f"the stored loop of {OTHER} is invalid"):
        LoopBreaker(reactor=Clock(), store=store).start(lambda event: None)


def test_loop_is_broken_even_if_it_cannot_be_stored(site: LoopBreakerSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.store, "save_orders", lambda kind, orders: fail(StateError("the disk is full")))
    with capturedLogs() as logs:
        machine = machine_in_loop(site)
    assert machine.offered_file(BIOS_ROM) is None
    assert [event["why"].args for event in logs if "a restart forgets" in event["log_format"]] == [
        ("the disk is full",)
    ]


# Bounds and options


def test_machines_are_forgotten_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_breaker, "MACHINES", 3)
    breaker = LoopBreaker(reactor=Clock())
    for number in (1, 2, 3, 1, 4):
        breaker.resolve(BootRequest(f"02:00:00:00:00:0{number}", "discover", "ipxe", "x86-bios"))
    assert [mac[-1] for mac in breaker._machines] == ["3", "1", "4"]


def test_machine_with_an_unknown_mac_is_not_counted() -> None:
    breaker = LoopBreaker(reactor=Clock())
    for _ in range(50):
        assert breaker.resolve(BootRequest("", "discover", "uefi-v6", "x86_64-uefi", family=6)) is None


def test_the_recorded_files_of_a_round_are_bounded(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for number in range(100):
        site.backends[0].files[f"package{number}"] = b"x"
    for _ in range(5):
        machine.boot(BIOS_ROM)
        for number in range(100):
            machine.fetch(f"package{number}")
        site.pass_time(POST)
    assert machine.offered_file(BIOS_ROM) is None
    [event] = site.events_of(LoopBroken)
    assert len(event.files) == loop_breaker.TRAIL


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"repeats": 1}, "repeats: must be >= 2"),
        ({"within-seconds": 0.0}, "within-seconds: must be > 0"),
        ({"local-seconds": -1}, "local-seconds: must be > 0"),
        ({"repeat": 3}, 'did you mean "repeats"'),
        ({"repeats": "3"}, "repeats: must be an integer"),
    ],
)
def test_invalid_options_are_errors(options: dict[str, float | str], error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        configure(load("loop-breaker", "bootfw.resolvers"), options, PluginContext(Clock(), Path("/")))
    assert error in str(caught.value)


def test_offers_without_a_file_are_not_counted() -> None:
    breaker = LoopBreaker(reactor=Clock())
    request = BootRequest(MAC_TEXT, "discover", "ipxe", "x86-bios", ipxe=True)
    breaker.observe(OfferMade(0, request, "OFFER", BootFile("http://10.0.0.7/x"), ("", 68)))
    breaker.resolve(request)
    breaker.observe(OfferMade(0, request, "OFFER", None, ("", 68)))
    assert breaker.resolve(evolve(request, xid=2)) is None


class TestContract(ResolverContract):
    def make_resolver(self) -> LoopBreaker:
        return LoopBreaker(reactor=Clock())


def test_ipxe_on_uefi_exits_with_an_error_so_that_firmware_boots_the_next_device(site: LoopBreakerSite) -> None:
    machine = Machine(site)
    for _ in range(6):
        script = machine.boot(SNPONLY)
    assert b"exit 1" in present(script)


def test_a_system_that_requests_a_boot_file_is_not_in_a_loop() -> None:
    """The system of a diskless machine requests its address again, seconds after the firmware has loaded it."""
    breaker = LoopBreaker(reactor=Clock())
    system = BootRequest(MAC_TEXT, "discover", "plain", "unknown", may_be_system=True)
    for xid in range(20):
        assert breaker.resolve(evolve(system, xid=xid)) is None
        breaker.observe(OfferMade(0.0, evolve(system, xid=xid), "OFFER", BootFile("http://elsewhere/x"), ("", 68)))
    assert breaker._machines == {}


def test_requests_of_a_boot_program_begin_no_round(site: LoopBreakerSite) -> None:
    """In each boot it sends its request soon after the firmware has loaded it."""
    machine = Machine(site)
    for _ in range(8):
        assert machine.boot(BIOS_ROM) == b"iPXE"
        assert site.breaker.resolve(BootRequest(MAC_TEXT, "bootinfo", "", "unknown")) is None
        site.pass_time(3600)
    assert site.events_of(LoopBroken) == []
