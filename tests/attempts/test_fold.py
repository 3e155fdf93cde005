"""Events become attempts: which machine and which boot each belongs to. Verdicts are in test_symptoms.py."""

import sys
from typing import Any

import pytest
from attrs import evolve
from boots import ADDRESS, GRUB, IPXE, IPXE_ROM, MAC, SYSTEM, UEFI, UUID, WALL, Machine, kinds, of_kind

from bootfw.attempts.attempt import StageKind, Verdict
from bootfw.attempts.fold import ADDRESSES, ATTEMPTS, FILES, LONGEST_NAME, REMEMBERED, STAGES
from bootfw.events import (
    AddressesGranted,
    BackendProblem,
    BootReported,
    EventsDropped,
    LoopBroken,
    PoolExhausted,
    RequestClassified,
    RequestIgnored,
)
from bootfw.lease import Lease, LeaseState
from bootfw.values import Address, Agreed, BootRequest, Client, Outcome

OTHER = "52:54:00:00:00:99"


def booted(machine: Machine) -> None:
    """A boot by UEFI to a kernel."""
    machine.gets_address()
    machine.probes_size("boot.efi")
    machine.loads("boot.efi")
    machine.misses("grub.cfg-01-52-54-00-12-34-56")
    machine.loads("grub.cfg", size=300)
    machine.loads("vmlinuz", size=8_000_000)
    machine.loads("initrd.img", size=30_000_000)


def test_a_boot_is_one_attempt_with_its_stages_in_order() -> None:
    machine = Machine()
    booted(machine)
    assert machine.ended == []
    machine.wait(31)
    (attempt,) = machine.ended
    assert kinds(attempt) == [
        *("discover", "resolver*2", "offer", "request", "ack"),
        *("transfer", "transfer", "refused", "transfer", "transfer", "transfer"),
    ]
    assert (attempt.mac, attempt.uuid, attempt.addresses) == (MAC, UUID, (ADDRESS,))
    assert (attempt.persona, attempt.architecture, attempt.interface) == ("uefi", "x86_64-uefi", "eth0")
    assert attempt.files == ("boot.efi", "grub.cfg", "vmlinuz", "initrd.img")
    assert attempt.bytes == 38_100_300
    assert attempt.verdict is Verdict.BOOTED


def test_times_are_seconds_since_the_epoch() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(31)
    (attempt,) = machine.ended
    assert attempt.began == WALL + 100.0
    assert attempt.stages[0].at == WALL + 100.0
    last = attempt.stages[-1]
    assert (last.at, last.until) == (WALL + 104.5 + 0.01, WALL + 105.0 + 0.01)
    assert attempt.ended is not None
    assert attempt.ended == pytest.approx(last.until + 30, abs=1.1)


def test_a_repeated_message_is_counted() -> None:
    machine = Machine()
    for gap in (4, 8, 16):
        machine.asks()
        machine.is_offered(None)
        machine.wait(gap)
    (attempt,) = machine.fold.running()
    assert kinds(attempt) == ["discover*3", "offer*3"]
    assert attempt.retries == {"discover": 2, "offer": 2}
    assert attempt.stages[0].until == WALL + 112.0


def test_stage_of_a_transfer_has_its_data() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi", Outcome.TIMED_OUT, 8.0, bytes_transferred=1468, blocks=1, retransmitted=5, detail="why")
    (attempt,) = machine.fold.running()
    assert of_kind(attempt, StageKind.TRANSFER) == {
        "protocol": "tftp",
        "file": "boot.efi",
        "peer": ADDRESS,
        "outcome": "timed_out",
        "bytes": 1468,
        "seconds": 8.0,
        "size": 100_000,
        "blksize": 1468,
        "windowsize": 4,
        "blocks": 1,
        "oack": True,
        "retransmitted": 5,
        "detail": "why",
    }


def test_changes_of_several_events_are_published_once() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered()
    (attempt,) = machine.fold.changes()
    assert kinds(attempt) == ["discover", "resolver", "offer"]
    assert machine.fold.changes() == []
    assert not machine.fold.idle


def test_there_is_nothing_to_do_while_no_machine_boots() -> None:
    machine = Machine()
    assert machine.fold.idle
    booted(machine)
    machine.wait(31)
    assert machine.fold.idle


def test_unrelated_events_are_ignored() -> None:
    machine = Machine()
    machine.add(BackendProblem(1.0, "directory", "missing"))
    assert machine.fold.idle


# One boot, several clients of DHCP.


def test_ipxe_after_the_firmware_is_the_same_boot() -> None:
    machine = Machine()
    machine.gets_address("snponly.efi")
    machine.loads("snponly.efi")
    machine.wait(4)
    machine.request = IPXE
    machine.gets_address("boot.ipxe")
    machine.loads("boot.ipxe", size=100)
    machine.loads("vmlinuz", protocol="http")
    machine.wait(31)
    (attempt,) = machine.ended
    assert attempt.files == ("snponly.efi", "boot.ipxe", "vmlinuz")
    assert (attempt.persona, attempt.architecture) == ("uefi", "x86_64-uefi")


def test_ipxe_that_an_ipxe_rom_loads_is_the_same_boot() -> None:
    machine = Machine(IPXE_ROM)
    machine.gets_address("undionly.kpxe")
    machine.loads("undionly.kpxe")
    machine.wait(2)
    machine.request = evolve(IPXE_ROM, xid=8)
    machine.gets_address("boot.ipxe")
    machine.loads("boot.ipxe", size=100)
    machine.loads("vmlinuz")
    machine.wait(31)
    assert [attempt.files for attempt in machine.ended] == [("undionly.kpxe", "boot.ipxe", "vmlinuz")]


def test_dhcp_request_of_grub_belongs_to_the_same_boot() -> None:
    machine = Machine()
    machine.gets_address("grubx64.efi")
    machine.loads("grubx64.efi")
    machine.wait(1.5)
    machine.request = GRUB
    machine.gets_address("grubx64.efi")
    machine.loads("grub.cfg", size=100)
    machine.wait(31)
    assert [attempt.files for attempt in machine.ended] == [("grubx64.efi", "grub.cfg")]


def test_the_next_way_to_boot_is_the_same_boot() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered(None)
    machine.wait(14)
    machine.request = evolve(UEFI, http=True, vendor_class="HTTPClient:Arch:00016", xid=9, options={55: b"\1\2\4"})
    machine.gets_address("http://10.77.0.1/boot.efi")
    machine.loads("boot.efi", protocol="http")
    machine.wait(41)
    (attempt,) = machine.ended
    assert [stage.data["stack"] for stage in attempt.stages if stage.kind is StageKind.DISCOVER] == ["pxe", "http"]
    assert "server" not in [stage for stage in attempt.stages if stage.kind is StageKind.ACK][-1].data


def test_u_boot_runs_dhcp_for_each_file() -> None:
    machine = Machine(evolve(UEFI, persona="u-boot", vendor_class="U-Boot.armv8"))
    for xid, file in enumerate(("boot.scr.uimg", "Image", "initrd.img")):
        machine.request = evolve(machine.request, xid=xid)
        machine.gets_address(file)
        machine.loads(file)
        machine.wait(0.2)
    machine.wait(31)
    assert [attempt.files for attempt in machine.ended] == [("boot.scr.uimg", "Image", "initrd.img")]


# Another boot.


@pytest.mark.parametrize("pause", [3, 31, 3600])
@pytest.mark.parametrize("firmware", [UEFI, IPXE_ROM], ids=["uefi", "ipxe"])
def test_the_same_firmware_after_a_kernel_begins_another_boot(firmware: BootRequest, pause: float) -> None:
    machine = Machine(firmware)
    booted(machine)
    machine.wait(pause)
    machine.request = evolve(firmware, xid=99)
    booted(machine)
    machine.wait(31)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED] * 2
    assert len({attempt.id for attempt in machine.ended}) == 2


def test_ipxe_rom_with_only_a_script_begins_a_new_boot_after_a_pause() -> None:
    machine = Machine(IPXE_ROM)
    for xid in (1, 2):
        machine.request = evolve(IPXE_ROM, xid=xid)
        machine.gets_address("boot.ipxe")
        machine.loads("boot.ipxe")
        machine.wait(31)
    assert len({attempt.id for attempt in machine.ended}) == 2


def test_firmware_that_tries_again_before_it_has_loaded_anything_is_one_attempt() -> None:
    machine = Machine()
    for xid in range(5):
        machine.request = evolve(UEFI, xid=xid)
        machine.asks()
        machine.is_offered(None)
        machine.wait(45)
    assert len({attempt.id for attempt in machine.ended}) == 1
    machine.gets_address()
    machine.loads("boot.efi")
    machine.wait(31)
    assert len({attempt.id for attempt in machine.ended}) == 1
    assert machine.ended[-1].verdict is Verdict.BOOTED


def test_long_pause_ends_an_attempt_without_transfers() -> None:
    machine = Machine()
    machine.asks()
    machine.wait(700)
    machine.asks()
    machine.wait(90)
    assert len({attempt.id for attempt in machine.ended}) == 2


def test_another_machine_is_another_attempt() -> None:
    machine = Machine()
    machine.gets_address()
    machine.request, machine.address = evolve(UEFI, mac="52:54:00:00:00:02", uuid="other"), "10.77.0.21"
    machine.gets_address()
    machine.loads("boot.efi")
    files = {attempt.mac: attempt.files for attempt in machine.fold.running()}
    assert files == {MAC: (), "52:54:00:00:00:02": ("boot.efi",)}


def test_two_cards_with_one_uuid_are_two_attempts() -> None:
    machine = Machine()
    machine.asks()
    machine.asks(mac="52:54:00:00:00:02")
    assert [attempt.mac for attempt in machine.fold.running()] == [MAC, "52:54:00:00:00:02"]


def test_dhcpv6_without_a_mac_is_joined_by_uuid() -> None:
    machine = Machine(evolve(UEFI, mac="", family=6, client_address="fe80::1"), "fd77::20")
    machine.gets_address()
    machine.loads("boot.efi")
    (attempt,) = machine.fold.running()
    assert (attempt.mac, attempt.uuid, attempt.addresses) == ("", UUID, ("fe80::1", "fd77::20"))
    assert attempt.files == ("boot.efi",)
    assert attempt.id.startswith(UUID)


def test_transfer_is_joined_by_the_mac_in_the_neighbour_table() -> None:
    machine = Machine(clients={ADDRESS: Client(ADDRESS, MAC)})
    machine.asks()
    machine.is_offered()  # of a proxy: the address is not known
    machine.loads("boot.efi")
    (attempt,) = machine.fold.running()
    assert (attempt.files, attempt.addresses) == (("boot.efi",), (ADDRESS,))


def test_a_transfer_of_an_unknown_client_is_joined_by_the_file_that_a_proxy_named() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("boot.efi")
    machine.loads("boot.efi")
    machine.loads("grub.cfg")
    (attempt,) = machine.fold.running()
    assert (attempt.mac, attempt.files) == (MAC, ("boot.efi", "grub.cfg"))


def test_edk2_loads_by_ipv6_from_another_address_than_it_had_on_port_4011() -> None:
    machine = Machine(address="fd77::11e")
    machine.asks()
    machine.is_offered("tftp://[fd77::1]/boot.efi")
    machine.asks("boot-server", client_address="fd77::11e")
    machine.is_offered("tftp://[fd77::1]/boot.efi", message="ACK", phase="boot-server")
    machine.address = "fd77::1ab"
    machine.probes_size("boot.efi")
    machine.loads("boot.efi")
    machine.wait(31)
    assert [(each.mac, each.verdict) for each in machine.ended] == [(MAC, Verdict.BOOTED)]


def test_ambiguous_ipv6_transfer_is_joined_to_no_machine() -> None:
    machine = Machine(address="fd77::11e")
    for mac, address in ((MAC, "fd77::11e"), (OTHER, "fd77::11f")):
        machine.request = evolve(UEFI, mac=mac, uuid=None)
        machine.asks()
        machine.asks("boot-server", client_address=address)
        machine.is_offered("tftp://[fd77::1]/boot.efi", message="ACK", phase="boot-server")
    machine.address = "fd77::1ab"
    machine.loads("boot.efi")
    machine.wait(31)
    assert [each.client for each in machine.ended] == ["fd77::1ab"]


def loads_before_the_kernel_knows_it(machine: Machine, mac: str) -> None:
    """The kernel learns the MAC with the server's first packet to the address."""
    begun = machine._begins("boot.efi", Agreed(1468, 4, None, 100_000), "tftp", False)
    assert [each.client for each in machine.fold.running()][-1] == machine.address
    machine.clients[machine.address] = Client(machine.address, mac)
    machine.wait(0.5)
    machine._ends(begun, Outcome.COMPLETE, 100_000)


@pytest.mark.parametrize("silence", [4, 50])
def test_transfer_is_joined_as_soon_as_the_kernel_knows_its_machine(silence: float) -> None:
    """No request with the address of the transfer has arrived."""
    machine = Machine(address="fd77::11e")
    for number, mac in enumerate((OTHER, MAC)):
        machine.request = evolve(UEFI, mac=mac, uuid=None, family=6, client_address=f"fe80::{number}")
        machine.asks()
        machine.is_offered("boot.efi")
    machine.wait(silence)
    loads_before_the_kernel_knows_it(machine, MAC)
    machine.loads("grub.cfg", size=300)
    machine.wait(60)
    last = {attempt.client: attempt for attempt in machine.ended}
    assert {client: attempt.verdict for client, attempt in last.items()} == {
        OTHER: Verdict.FAILED,
        MAC: Verdict.BOOTED,
    }
    joined = last[MAC]
    assert kinds(joined) == ["discover", "resolver", "offer", "transfer", "transfer"]
    assert (joined.files, joined.bytes) == (("boot.efi", "grub.cfg"), 100_300)
    assert joined.addresses == ("fe80::1", "fd77::11e")
    assert machine.fold.idle


def test_only_file_of_a_boot_is_joined_to_the_record_of_its_failure() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("other.efi")
    machine.wait(50)
    assert machine.ended[-1].verdict is Verdict.FAILED
    loads_before_the_kernel_knows_it(machine, MAC)
    machine.wait(31)
    assert [attempt.mac for attempt in machine.ended] == [MAC, MAC]
    assert (machine.ended[-1].verdict, machine.ended[-1].id) == (Verdict.BOOTED, machine.ended[0].id)


def test_files_of_a_whole_boot_are_joined_late() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("other.efi")
    machine.loads("boot.efi")
    machine.loads("vmlinuz", size=8_000_000)
    machine.clients[ADDRESS] = Client(ADDRESS, MAC)
    machine.wait(1)
    machine.misses("extra.cfg")
    machine.asks(**{name: getattr(SYSTEM, name) for name in ("persona", "may_be_system", "vendor_class", "options")})
    (attempt,) = machine.fold.running()
    assert kinds(attempt) == ["discover", "resolver", "offer", "transfer", "transfer", "refused", "system"]
    assert (attempt.mac, attempt.files, attempt.bytes) == (MAC, ("boot.efi", "vmlinuz"), 8_100_000)


def test_transfer_without_dhcp_gets_the_mac_that_the_kernel_learns() -> None:
    machine = Machine()
    loads_before_the_kernel_knows_it(machine, MAC)
    machine.wait(31)
    assert [(attempt.mac, attempt.verdict) for attempt in machine.ended] == [(MAC, Verdict.BOOTED)]
    machine.request = evolve(UEFI, xid=9)
    machine.asks()
    assert len(machine.fold.running()) == 1


def test_transfer_long_after_a_boot_is_not_joined_to_it() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(700)
    machine.address = "10.77.0.99"
    loads_before_the_kernel_knows_it(machine, MAC)
    machine.wait(31)
    assert [(attempt.mac, attempt.files) for attempt in machine.ended][1:] == [(MAC, ("boot.efi",))]


def test_reassigned_address_belongs_to_the_new_machine() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(31)
    machine.request = evolve(UEFI, mac="52:54:00:00:00:02", uuid="other")
    machine.asks()
    machine.is_offered()
    machine.clients[ADDRESS] = Client(ADDRESS, "52:54:00:00:00:02")
    machine.loads("boot.efi")
    (attempt,) = machine.fold.running()
    assert (attempt.mac, attempt.files) == ("52:54:00:00:00:02", ("boot.efi",))


def test_transfer_without_dhcp_begins_an_attempt() -> None:
    machine = Machine(clients={ADDRESS: Client(ADDRESS, MAC, UUID, "x86-bios", "pxe-bios")})
    machine.loads("pxelinux.0")
    (attempt,) = machine.fold.running()
    assert (attempt.mac, attempt.persona, attempt.architecture) == (MAC, "pxe-bios", "x86-bios")
    assert kinds(attempt) == ["transfer"]


# Systems that run.


def test_dhcp_of_an_installed_system_is_not_a_boot() -> None:
    machine = Machine(SYSTEM)
    machine.gets_address()
    machine.add(RequestIgnored(machine.now, MAC, "not a client that boots"))
    machine.wait(90)
    assert (machine.fold.running(), machine.changed, machine.ended) == ([], [], [])


def test_http_download_alone_is_not_a_boot() -> None:
    machine = Machine()
    machine.loads("debian.iso", protocol="http")
    machine.misses("favicon.ico", 404, protocol="http")
    machine.wait(90)
    assert (machine.changed, machine.ended) == ([], [])


def test_upload_alone_is_not_a_boot() -> None:
    machine = Machine()
    machine.loads("switch-config", write=True)
    machine.wait(90)
    assert (machine.changed, machine.ended) == ([], [])


def test_the_system_that_was_booted_is_the_last_stage() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(5)
    machine.request = SYSTEM
    machine.asks()
    machine.asks()
    machine.add(RequestIgnored(machine.now, MAC, "not a client that boots"))
    machine.wait(90)
    assert [kinds(attempt)[-2:] for attempt in machine.ended] == [["transfer", "system"]]


def test_transfers_of_an_installed_system_do_not_change_the_verdict() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(60)
    machine.misses("preseed/late.sh", 404, protocol="http")
    machine.loads("pool/main/b/base-files.deb", protocol="http")
    machine.wait(60)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED]


def test_long_pause_in_a_menu_does_not_end_the_attempt() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi")
    machine.loads("grub.cfg", size=100)
    machine.wait(300)
    machine.loads("vmlinuz")
    machine.wait(31)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED] * 2
    assert {attempt.id for attempt in machine.ended} == {machine.ended[0].id}
    assert machine.ended[-1].files == ("boot.efi", "grub.cfg", "vmlinuz")


# The phone-home URL.


@pytest.mark.parametrize("pause", [1, 60, 3600])
def test_phone_home_makes_it_up(pause: float) -> None:
    machine = Machine()
    booted(machine)
    machine.wait(pause)
    assert machine.fold.up(machine.now, (ADDRESS, 4711), protocol="http")
    machine.settle()
    machine.wait(100)
    assert machine.ended[-1].verdict is Verdict.UP
    assert machine.ended[-1].stages[-1].data == {"protocol": "http"}
    assert machine.fold.idle


def test_phone_home_by_mac() -> None:
    machine = Machine()
    booted(machine)
    assert machine.fold.up(machine.now, ("192.0.2.1", 4711), MAC)
    assert not machine.fold.up(machine.now, (ADDRESS, 4711), "02:00:00:00:00:99")
    machine.settle()
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.UP]


def test_phone_home_of_an_unknown_machine() -> None:
    assert not Machine().fold.up(1.0, ("192.0.2.1", 4711))


# Bounds.


def test_a_long_transfer_keeps_it_open() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("image.iso", seconds=1800)
    assert machine.ended == []
    machine.wait(31)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED]


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.UNCONFIRMED])
def test_an_earlier_transfer_whose_last_ack_is_lost_does_not_keep_it_open(outcome: Outcome) -> None:
    machine = Machine()
    machine.gets_address()
    machine.abandons("boot.efi")
    machine.loads("grub.cfg", size=100)
    machine.wait(31)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED]
    machine.times_out("boot.efi", outcome=outcome)
    machine.wait(90)
    assert (len(machine.ended), machine.fold.running()) == (1, [])


def test_an_earlier_transfer_after_which_a_file_is_refused_does_not_keep_it_open() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi")
    machine.abandons("grub.cfg")
    machine.misses("vmlinuz")
    machine.wait(41)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.FAILED]


def test_long_names_are_cut() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("../" * 600 + "boot.efi")
    machine.misses("a" * 2000)
    machine.wait(41)
    (attempt,) = machine.ended
    names = [*attempt.files, *(stage.data["file"] for stage in attempt.stages if "file" in stage.data)]
    assert (len(names), max(map(len, names))) == (6, LONGEST_NAME + len("..."))


def test_the_latest_transfer_keeps_it_open_until_it_ends() -> None:
    machine = Machine()
    machine.gets_address()
    machine.abandons("boot.efi")
    machine.wait(60)
    assert machine.ended == []
    machine.times_out("boot.efi", 1, Outcome.UNCONFIRMED)
    machine.wait(31)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED]


@pytest.mark.parametrize(
    ("request_", "silent", "seconds"), [(UEFI, 60.0, 60), (UEFI, 5.0, 5), (IPXE_ROM, 60.0, 20), (IPXE_ROM, 5.0, 5)]
)
def test_silence_longer_than_the_pauses_of_the_firmware_is_a_failure(
    request_: BootRequest, silent: float, seconds: int
) -> None:
    machine = Machine(request_, settings={"silent": silent})
    machine.gets_address()
    machine.wait(seconds - 1)
    assert machine.ended == []
    machine.wait(2)
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.FAILED]


def test_transfer_without_an_end_event_is_closed() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi", seconds=8000)
    assert [attempt.verdict for attempt in machine.ended][:1] == [Verdict.FAILED]


def test_stages_are_bounded_and_the_first_and_the_latest_stay() -> None:
    machine = Machine()
    machine.gets_address()
    for number in range(3 * STAGES):
        machine.misses(f"file-{number}")
    (attempt,) = machine.fold.running()
    assert (len(attempt.stages), attempt.omitted) == (STAGES, 3 * STAGES + 5 - STAGES)
    assert attempt.stages[0].kind is StageKind.DISCOVER
    assert attempt.stages[-1].data["file"] == f"file-{3 * STAGES - 1}"


def test_names_of_files_are_bounded() -> None:
    machine = Machine()
    machine.gets_address()
    for number in range(FILES + 5):
        machine.loads(f"file-{number}", seconds=0)
    assert len(machine.fold.running()[0].files) == FILES


def test_attempts_are_bounded_and_those_with_a_verdict_go_first() -> None:
    machine = Machine()
    machine.asks(mac="02:00:00:00:00:01", uuid=None)
    machine.wait(90)
    for number in range(ATTEMPTS):
        machine.add(RequestClassified(machine.now, evolve(UEFI, mac=f"m{number}", uuid=None)))
    running = machine.fold.running()
    assert (len(running), running[0].mac) == (ATTEMPTS, "m0")
    machine.asks(mac="one more", uuid=None)
    running = machine.fold.running()
    assert (len(running), running[0].mac) == (ATTEMPTS, "m1")


def test_room_for_an_attempt_is_made_without_a_search() -> None:
    """Else a flood of invented clients costs a search of all attempts for each."""
    machine = Machine()
    for number in range(ATTEMPTS):
        machine.add(RequestClassified(machine.now, evolve(UEFI, mac=f"m{number}", uuid=None)))
    lines = 0

    def count(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        machine.asks(mac="one more", uuid=None)
    finally:
        sys.settrace(before)
    assert 0 < lines < ATTEMPTS / 5


def test_old_attempts_are_forgotten() -> None:
    machine = Machine()
    booted(machine)
    machine.wait(REMEMBERED + 120)
    assert not machine.fold.up(machine.now, (ADDRESS, 1))


def test_lost_events_leave_no_verdict() -> None:
    machine = Machine()
    machine.gets_address()
    machine.add(EventsDropped(machine.now, 100))
    machine.wait(90)
    assert machine.ended == []


def test_a_stop_interrupts_what_has_not_booted() -> None:
    machine = Machine()
    machine.gets_address()
    machine.fold.stop(machine.now)
    assert [(attempt.verdict, attempt.cause) for attempt in machine.fold.out] == [(Verdict.INTERRUPTED, None)]
    assert (machine.fold.running(), machine.fold.idle) == ([], True)


def test_two_attempts_of_one_moment_have_two_names() -> None:
    machine = Machine()
    machine.request = evolve(UEFI, mac="", uuid=None)
    machine.asks(client_address="fe80::1")
    machine.asks(client_address="fe80::2")
    assert len({attempt.id for attempt in machine.fold.running()}) == 2


# What else is said about a machine.


def test_an_exhausted_pool_is_not_a_boot_of_a_client_that_does_not_boot() -> None:
    machine = Machine()
    machine.add(PoolExhausted(machine.now, "10.77.0.0/24", MAC))
    machine.wait(90)
    assert machine.ended == []


def test_lease_adds_the_address() -> None:
    machine = Machine()
    machine.asks()
    lease = Lease(ADDRESS, b"", MAC, LeaseState.ACTIVE, 0.0, 1.0)
    machine.add(AddressesGranted(machine.now, (lease,)))
    machine.loads("boot.efi")
    assert machine.fold.running()[0].files == ("boot.efi",)


def test_a_loop() -> None:
    machine = Machine()
    machine.add(LoopBroken(machine.now, machine.asks(), ("a", "b"), 5, 900.0))
    assert of_kind(machine.fold.running()[0], StageKind.LOOP) == {"files": ["a", "b"], "times": 5}


def test_verdict_is_updated_by_later_findings() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi")
    machine.misses("vmlinuz-6.1")
    assert machine.verdict == ("failed", "missing-file")
    attempt = machine.ended[-1]
    machine.fold.amend(attempt.id, StageKind.REFUSED, "vmlinuz-6.1", {"nearest": ["vmlinuz-6.10"]})
    machine.settle()
    better = machine.ended[-1]
    assert (better.id, better.ended) == (attempt.id, attempt.ended)
    assert better.cause is not None
    assert "vmlinuz-6.10" in better.cause.sentence
    machine.fold.amend("unknown", StageKind.REFUSED, "", {})
    assert machine.fold.out == []


def test_a_client_that_takes_one_address_after_another_fills_no_memory() -> None:
    machine = Machine()
    for number in range(20 * ADDRESSES):
        machine.asks(client_address=f"10.1.{number >> 8}.{number & 255}")
    (attempt,) = machine.fold.running()
    assert len(attempt.addresses) == ADDRESSES
    assert attempt.addresses[-1] == f"10.1.{(20 * ADDRESSES - 1) >> 8}.{(20 * ADDRESSES - 1) & 255}"
    assert len(machine.fold._index) <= ADDRESSES + 2


@pytest.mark.parametrize("ended", [False, True], ids=["open", "ended"])
def test_many_files_of_one_client_cause_few_lookups(ended: bool) -> None:
    """A lookup costs system calls."""
    machine = Machine()
    if ended:
        booted(machine)
        machine.wait(31)
    else:
        machine.loads("first.cfg", size=300)
    lookups = list[float]()

    def client_at(peer: Address) -> Client:
        lookups.append(machine.now)
        return Client(peer[0])

    machine.fold.client_at = client_at
    began = machine.now
    for _ in range(1000):
        machine.loads("module.bin", size=30_000, seconds=0.01)
    assert 10 <= len(lookups) <= 25
    assert max(b - a for a, b in zip([began, *lookups], [*lookups, machine.now], strict=True)) < 1.1


# Protocols of plugins


def reported(machine: Machine, what: str, *, mac: str = MAC, by_system: bool = False) -> BootReported:
    return BootReported(machine.now, (machine.address, 9696), mac, "bootinfo", what, by_system)


def test_report_of_a_boot_program_belongs_to_the_boot_that_loaded_it() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("pxeboot")
    for what in ("PXEBOOTING", "PXEBOOTING", "partition:2"):
        machine.add(reported(machine, what, mac=""))
    machine.wait(1)
    machine.add(reported(machine, "TBSETUP", by_system=True))
    (attempt,) = machine.fold.running()
    assert kinds(attempt)[-3:] == ["report*2", "report", "report"]
    assert [stage.data for stage in attempt.stages[-2:]] == [
        {"protocol": "bootinfo", "what": "partition:2"},
        {"protocol": "bootinfo", "what": "TBSETUP", "by_system": True},
    ]


def test_a_boot_program_of_another_server_begins_an_attempt() -> None:
    machine = Machine()
    machine.add(reported(machine, "PXEBOOTING"))
    (attempt,) = machine.fold.running()
    assert (attempt.mac, attempt.addresses) == (MAC, (ADDRESS,))
    assert kinds(attempt) == ["report"]


def test_a_boot_program_after_a_long_pause_is_another_boot() -> None:
    machine = Machine()
    machine.add(reported(machine, "PXEBOOTING"))
    machine.wait(700)
    machine.add(reported(machine, "PXEBOOTING"))
    (attempt,) = machine.fold.running()
    assert attempt.began == WALL + 800


def test_a_report_of_a_system_whose_boot_was_not_seen_is_no_boot() -> None:
    machine = Machine()
    machine.add(reported(machine, "ISUP", by_system=True))
    assert machine.fold.running() == []
    assert machine.fold.idle


def test_a_system_that_reports_was_booted_whatever_was_missing_before() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("pxeboot")
    machine.misses("boot/loader.rc")
    machine.add(reported(machine, "TBSETUP", by_system=True))
    assert machine.verdict == ("booted", "")
