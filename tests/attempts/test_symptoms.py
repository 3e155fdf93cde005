"""The table of symptoms: each row is reached by a boot that shows it, and by no boot that does not."""

from pathlib import Path

import pytest
from attrs import evolve
from boots import ADDRESS, GRUB, IPXE, IPXE_ROM, MAC, UEFI, Machine
from hypothesis import given, settings
from hypothesis import strategies as st

from bootfw.attempts.attempt import StageKind, Verdict
from bootfw.attempts.attempttext import stage_line
from bootfw.attempts.symptoms import SYMPTOMS, judge
from bootfw.cli.bootclient import machine_uuid
from bootfw.events import (
    AddressRefused,
    AddressTaken,
    Event,
    FileWithheld,
    HandshakeFailed,
    InstallationReported,
    LeasesNotKept,
    LoopBroken,
    OfferMade,
    OfferWithheld,
    OtherBootServerSeen,
    OtherServerSeen,
    PluginFailed,
    PoolExhausted,
    RequestIgnored,
    ResolverPassedOver,
    ResolverUnavailable,
)
from bootfw.values import OACK_UNANSWERED, Agreed, BootMenu, BootMenuItem, Client, Outcome
from bootfw.wire.executable import machine_of


def fails(machine: Machine, key: str, *words: str, verdict: str = "failed") -> None:
    """It ends with this cause, whose sentence has these words."""
    assert machine.verdict == (verdict, key)
    cause = machine.ended[-1].cause
    assert cause is not None
    for word in words:
        assert word in cause.sentence
    assert "?" not in cause.sentence
    assert cause.remedy


def boots(machine: Machine) -> None:
    assert machine.verdict == ("booted", "")


def started() -> Machine:
    """Its boot program is loaded."""
    machine = Machine()
    machine.gets_address()
    machine.probes_size("boot.efi")
    machine.loads("boot.efi")
    return machine


# DHCP


def test_no_request_after_an_offer() -> None:
    machine = Machine()
    for gap in (4, 8, 16, 32):
        machine.asks()
        machine.is_offered("boot.efi", ADDRESS)
        machine.wait(gap)
    fails(machine, "offer-not-accepted", "after the OFFER")


@pytest.mark.parametrize("phases", [("discover",), ("discover", "boot-server")])
def test_a_probe_is_no_failed_boot(phases: tuple[str, ...]) -> None:
    """Its transfers come from the address of its host, which another record has."""
    uuid = str(machine_uuid(bytes.fromhex(MAC.replace(":", ""))))
    machine = Machine(evolve(UEFI, uuid=uuid))
    for phase in phases:
        machine.asks(phase)
        machine.is_offered("boot.efi", ADDRESS, phase=phase)
    fails(machine, "probe", "bootfw probe", verdict="nothing to boot")


def test_probe_that_gets_no_address_shows_what_a_machine_would_meet() -> None:
    uuid = str(machine_uuid(bytes.fromhex(MAC.replace(":", ""))))
    machine = Machine(evolve(UEFI, uuid=uuid))
    machine.asks()
    machine.add(PoolExhausted(machine.now, "10.77.0.0/24", MAC, machine.request))
    fails(machine, "pool-exhausted")


def test_no_request_after_the_offer_of_a_proxy() -> None:
    machine = Machine()
    for gap in (4, 8, 16, 32):
        machine.asks()
        machine.is_offered(None)
        machine.wait(gap)
    fails(machine, "offer-not-accepted")


def test_4011_is_never_requested() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered(None)
    fails(machine, "boot-server-not-requested", "port 4011")


def test_4011_is_answered_and_the_file_never_requested() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered(None)
    machine.wait(4)
    for gap in (1, 2, 3):
        machine.asks("boot-server")
        machine.is_offered("boot.efi", message="ACK", phase="boot-server")
        machine.wait(gap)
    fails(machine, "file-not-requested", '"boot.efi"')


def test_an_address_is_taken_and_the_file_never_requested() -> None:
    machine = Machine()
    machine.gets_address()
    fails(machine, "file-not-requested")


def test_another_server_assigns_the_address() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("boot.efi", ADDRESS)
    machine.add(OtherServerSeen(machine.now, "10.77.0.9", "eth0", MAC))
    fails(machine, "other-server", "10.77.0.9")


def test_another_boot_server_answers() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered(None)
    machine.add(OtherBootServerSeen(machine.now, "10.77.0.4", "eth0", MAC, "other.efi"))
    fails(machine, "other-boot-server", "10.77.0.4")
    assert stage_line(machine.ended[-1].stages[-1]) == '10.77.0.4 answers as well: load "other.efi"'


def test_another_boot_server_answers_and_ours_is_used() -> None:
    machine = Machine()
    machine.asks()
    machine.add(OtherBootServerSeen(machine.now, "10.77.0.4", "eth0", MAC, ""))
    machine.is_offered("boot.efi", ADDRESS)
    machine.loads("boot.efi")
    boots(machine)
    lines = [stage_line(stage) for stage in machine.ended[-1].stages]
    assert "10.77.0.4 answers as well: request its port 4011" in lines


def test_another_boot_server_of_a_machine_that_no_offer_reaches() -> None:
    machine = Machine()
    for gap in (4, 8, 16, 32):
        machine.asks()
        machine.add(OtherBootServerSeen(machine.now, "10.77.0.4", "eth0", MAC, ""))
        machine.is_offered(None)
        machine.wait(gap)
    fails(machine, "offer-not-accepted", "10.77.0.4")


def test_the_pool_is_exhausted() -> None:
    machine = Machine()
    machine.add(PoolExhausted(machine.now, "10.77.0.0/24", MAC, UEFI))
    machine.wait(4)
    machine.add(PoolExhausted(machine.now, "10.77.0.0/24", MAC, UEFI))
    fails(machine, "pool-exhausted", "10.77.0.0/24")


def test_exhausted_pool_is_no_cause_after_a_later_lease() -> None:
    machine = Machine()
    machine.add(PoolExhausted(machine.now, "10.77.0.0/24", MAC, UEFI))
    machine.wait(4)
    machine.gets_address()
    machine.loads("boot.efi")
    boots(machine)


def test_the_address_is_refused() -> None:
    machine = Machine()
    machine.asks()
    machine.add(AddressRefused(machine.now, "10.0.0.9", MAC))
    fails(machine, "address-refused", "10.0.0.9")


def test_the_address_is_declined() -> None:
    machine = Machine()
    machine.gets_address()
    machine.add(AddressTaken(machine.now, ADDRESS, MAC, True))
    fails(machine, "address-declined", ADDRESS)


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (AddressRefused(101.0, "10.9.0.5", MAC), "address-refused"),
        (AddressTaken(101.0, ADDRESS, MAC, True), "address-declined"),
        (OtherServerSeen(101.0, "10.77.0.9", "eth0", MAC), "other-server"),
    ],
)
def test_reason_for_no_address_is_no_cause_once_it_has_one(event: Event, key: str) -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("boot.efi", ADDRESS)
    machine.now = 101.0
    machine.add(event)
    machine.wait(1)
    machine.gets_address()
    fails(machine, "file-not-requested", '"boot.efi"')


def test_addresses_are_refused_again_and_again() -> None:
    machine = Machine()
    for _ in range(4):
        machine.gets_offer_and_nak("10.9.0.5")
        machine.wait(4)
    machine.asks()
    machine.is_offered("boot.efi", ADDRESS)
    fails(machine, "address-refused", "10.9.0.5")


def test_its_network_is_not_served() -> None:
    machine = Machine()
    for gap in (4, 8, 16, 32):
        request = evolve(UEFI, relay_address="10.9.9.1")
        reason = "no subnet is configured for its link: 10.9.9.1"
        machine.add(RequestIgnored(machine.now, MAC, reason, request))
        machine.wait(gap)
    fails(machine, "no-address", "10.9.9.1", verdict="nothing to boot")
    lines = [stage_line(stage) for stage in machine.ended[-1].stages]
    assert lines == [
        "DISCOVER by uefi, x86_64-uefi, through the relay 10.9.9.1, 4 times",
        "no address: no subnet is configured for its link: 10.9.9.1, 4 times",
    ]


def test_the_lease_is_not_stored() -> None:
    machine = Machine()
    machine.asks()
    machine.is_offered("boot.efi", ADDRESS)
    machine.asks("request")
    machine.add(LeasesNotKept(machine.now, 1, "database or disk is full", (MAC,)))
    fails(machine, "lease-not-stored", "disk is full")


def test_a_resolver_fails() -> None:
    machine = Machine()
    machine.add(PluginFailed(machine.now, "boot-api", "resolve", "Traceback", MAC))
    machine.gets_no_file("no resolver has a boot file for it")
    machine.add(PluginFailed(machine.now, "boot-api", "resolve", "Traceback", MAC))
    fails(machine, "resolver-failed", "boot-api")


def test_a_resolver_is_too_slow() -> None:
    machine = Machine()
    machine.add(ResolverPassedOver(machine.now, machine.asks(), "boot-api", 3.0))
    machine.gets_no_file("no resolver has a boot file for it")
    fails(machine, "resolver-too-slow", "boot-api", "3.0 s")


def test_a_slow_resolver_after_which_another_answers() -> None:
    machine = Machine()
    machine.add(ResolverPassedOver(machine.now, machine.asks(), "boot-api", 3.0))
    machine.gets_address()
    machine.loads("boot.efi")
    boots(machine)


@pytest.mark.parametrize("refused", [False, True])
def test_failing_resolver_api_is_the_cause(refused: bool) -> None:
    machine = Machine(IPXE_ROM)
    reason = "it has not answered in time"
    for gap in (1, 2, 4):
        machine.add(ResolverUnavailable(machine.now, machine.asks(), "callout", reason))
        machine.add((OfferWithheld if refused else FileWithheld)(machine.now, machine.request, "no boot file"))
        machine.wait(gap)
    fails(machine, "resolver-unavailable", "callout", reason)
    assert "resolver callout could not decide" in stage_line(machine.ended[-1].stages[1])


def test_failing_api_is_no_cause_if_another_resolver_answers() -> None:
    machine = Machine(IPXE_ROM)
    machine.add(ResolverUnavailable(machine.now, machine.asks(), "callout", "it answers 500"))
    machine.is_offered("boot.ipxe", ADDRESS)
    fails(machine, "offer-not-accepted")


def test_it_is_answered_nothing() -> None:
    machine = Machine()
    machine.asks()
    fails(machine, "no-answer")


@pytest.mark.parametrize("address", [True, False])
def test_it_boots_nothing_by_configuration(address: bool) -> None:
    machine = Machine()
    (machine.gets_no_file if address else machine.gets_no_answer)("it shall boot its own disk: reason")
    fails(machine, "no-boot-file", "its own disk", verdict="nothing to boot")


def test_local_disk_chosen_in_a_menu_is_not_a_failure() -> None:
    machine = Machine()
    request = machine.asks()
    menu = BootMenu((BootMenuItem("local disk"),))
    machine.add(OfferMade(machine.now, request, "OFFER", menu, ("255.255.255.255", 68)))
    fails(machine, "menu-not-used", verdict="nothing to boot")


def test_a_loop_is_broken() -> None:
    machine = started()
    machine.wait(10)
    request = machine.asks(xid=8)
    machine.add(LoopBroken(machine.now, request, ("boot.efi",), 5, 900.0))
    machine.gets_no_file("it shall boot its own disk: a loop")
    machine.wait(90)
    assert [(each.verdict, each.cause.key if each.cause else "") for each in machine.ended] == [
        (Verdict.FAILED, "program-returned"),
        (Verdict.NOTHING_TO_BOOT, "loop-broken"),
    ]


@pytest.mark.parametrize("named", [{"server": "10.77.0.9"}, {"file": "http://boot.example/boot.efi"}])
def test_the_file_is_on_another_server(named: dict[str, str]) -> None:
    machine = Machine()
    machine.gets_address(**named)
    assert machine.verdict == ("sent to another server", "")


# Files


@pytest.mark.parametrize("file", ["vmlinuz-6.1", "boot/grub/grub.cfg", "pxelinux.cfg/default", "grubx64.efi"])
def test_a_loader_misses_a_file(file: str) -> None:
    machine = started()
    for _ in range(2):
        machine.misses(file)
    fails(machine, "missing-file", file, "nothing like it exists")


def test_the_initrd_is_missing() -> None:
    machine = started()
    machine.loads("vmlinuz")
    machine.misses("initrd.gz", 404, protocol="http")
    fails(machine, "missing-file", "initrd.gz")


def test_the_boot_program_is_missing() -> None:
    machine = Machine()
    machine.gets_address()
    machine.misses("boot.efi")
    fails(machine, "missing-file", "boot.efi")


def test_the_nearest_names_are_shown() -> None:
    machine = started()
    machine.misses("vmlinuz-6.1")
    machine.wait(60)
    names = ["vmlinuz-6.10", "vmlinuz", "vmlinux"]
    machine.fold.amend(machine.ended[-1].id, StageKind.REFUSED, "vmlinuz-6.1", {"nearest": names})
    machine.settle()
    fails(machine, "missing-file", '"vmlinuz-6.10", "vmlinuz" and "vmlinux"')


def test_a_file_is_refused() -> None:
    machine = started()
    machine.misses("../etc/passwd", 2, "Access violation")
    fails(machine, "file-refused", "Access violation")


@pytest.mark.parametrize(("code", "detail"), [(0, "Input/output error"), (1, "stale handle"), (503, "")])
def test_the_backend_fails_to_open(code: int, detail: str) -> None:
    machine = started()
    machine.misses("vmlinuz", code, "it failed", detail=detail)
    fails(machine, "backend-failed", "vmlinuz", detail or "it failed")


def test_the_backend_fails_to_read() -> None:
    machine = started()
    machine.loads("vmlinuz", Outcome.FAILED, detail="Input/output error")
    fails(machine, "backend-failed", "Input/output error")


def test_the_first_full_block_is_never_acknowledged() -> None:
    machine = Machine()
    machine.gets_address()
    machine.probes_size("boot.efi")
    for _ in range(2):
        machine.loads("boot.efi", Outcome.TIMED_OUT, 24, detail="no ACK after block 0", retransmitted=6)
    fails(machine, "path-mtu", '"boot.efi"', "1500 bytes")


@pytest.mark.parametrize(
    ("agreed", "detail"),
    [
        (Agreed(1468, 4, None, 100_000, (("blksize", "1468"),)), OACK_UNANSWERED),
        (Agreed(), "no ACK after block 0"),
        (Agreed(512, 1, None, 100_000, (("tsize", "100000"),)), "no ACK after block 0"),
    ],
)
def test_no_block_is_acknowledged(agreed: Agreed, detail: str) -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi", Outcome.TIMED_OUT, 24, detail=detail, agreed=agreed)
    fails(machine, "no-transfer", '"boot.efi"')


def test_a_transfer_stops_in_the_middle() -> None:
    machine = started()
    machine.loads("vmlinuz", Outcome.TIMED_OUT, 24, bytes_transferred=14_680, blocks=10, retransmitted=10, size=100_000)
    fails(machine, "transfer-timed-out", "14680 of 100000 bytes", "50 %")


def test_the_client_stops_it() -> None:
    machine = started()
    machine.loads("vmlinuz", Outcome.STOPPED_BY_PEER, bytes_transferred=4711, detail="error 3: 'out of memory'")
    fails(machine, "client-stopped", "4711 of 100000 bytes", "out of memory")


@pytest.mark.parametrize("protocol", ["tftp", "http"])
def test_a_size_and_no_read(protocol: str) -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi", Outcome.SIZE_PROBE, protocol=protocol)
    fails(machine, "size-probe-only", "boot.efi")


def test_the_disk_is_full_at_the_end_of_an_upload() -> None:
    machine = Machine()
    machine.loads("dump", Outcome.FAILED, write=True, detail="No space left on device")
    fails(machine, "disk-full", "dump")


def test_the_disk_is_full_at_the_beginning_of_an_upload() -> None:
    machine = Machine()
    machine.misses("dump", 3, "Disk full or allocation exceeded", write=True)
    fails(machine, "disk-full", "dump")


def test_an_upload_is_not_allowed() -> None:
    machine = Machine()
    machine.misses("dump", 2, "Access violation", write=True)
    fails(machine, "upload-failed", "dump", "Access violation")


@pytest.mark.parametrize(
    ("reason", "key"),
    [
        ("it does not trust the issuer of the certificate (tlsv1 alert unknown ca)", "tls-refused"),
        ("sslv3 alert certificate revoked", "certificate-revoked"),
        ("it takes the certificate for expired; is its clock right (certificate expired)", "certificate-expired"),
    ],
)
def test_tls_is_refused(reason: str, key: str) -> None:
    machine = Machine()
    machine.gets_address("https://10.77.0.1/boot.efi")
    machine.add(HandshakeFailed(machine.now, (ADDRESS, 1), reason))
    fails(machine, key, reason)


def test_a_revoked_certificate() -> None:
    machine = Machine()
    machine.gets_address("https://10.77.0.1/boot.efi")
    machine.add(HandshakeFailed(machine.now, (ADDRESS, 1), "the client refuses the certificate: certificate revoked"))
    fails(machine, "certificate-revoked", "certificate revoked")


def test_failed_handshake_is_no_cause_after_a_successful_one() -> None:
    machine = Machine()
    machine.gets_address("https://10.77.0.1/boot.efi")
    machine.add(HandshakeFailed(machine.now, (ADDRESS, 1), "no shared cipher"))
    machine.loads("boot.efi", protocol="https")
    boots(machine)


def test_the_wrong_architecture() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi")
    machine.wait(90)
    found = {"architecture": "arm64-uefi", "client": "x86_64-uefi"}
    machine.fold.amend(machine.ended[-1].id, StageKind.PROGRAM, "boot.efi", found)
    machine.settle()
    fails(machine, "wrong-architecture", "arm64-uefi", "x86_64-uefi")


def test_file_that_is_not_a_uefi_program_is_the_cause() -> None:
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi")
    machine.wait(90)
    found = {"architecture": machine_of(b"\xea a BIOS program"), "client": "x86_64-uefi"}
    machine.fold.amend(machine.ended[-1].id, StageKind.PROGRAM, "boot.efi", found)
    machine.settle()
    fails(machine, "wrong-architecture", 'loaded "boot.efi", which is no UEFI program, and the machine is x86_64-uefi')
    assert stage_line(machine.ended[-1].stages[-1]) == '"boot.efi" is no UEFI program, and the machine is x86_64-uefi'


@pytest.mark.parametrize("file", ["boot.efi", "initrd.img", "menu"])
def test_the_last_file_is_empty(file: str) -> None:
    machine = Machine()
    machine.gets_address("menu" if file == "menu" else "boot.efi")
    if file == "initrd.img":
        machine.loads("boot.efi")
        machine.loads("vmlinuz")
    machine.loads(file, size=0)
    fails(machine, "empty-file", f'"{file}"')


@pytest.mark.parametrize("size", [36, None])
def test_file_of_one_block_whose_ack_is_lost_is_not_empty(size: int | None) -> None:
    """By iPXE, at 5 % loss: no byte of its script is acknowledged."""
    machine = started()
    machine.is_offered("boot.ipxe")
    machine.loads("boot.ipxe", Outcome.UNCONFIRMED, agreed=Agreed(1432, tsize=size), bytes_transferred=0)
    boots(machine)


def test_empty_file_whose_ack_is_lost_is_empty() -> None:
    machine = started()
    machine.loads("initrd.img", Outcome.UNCONFIRMED, size=0)
    fails(machine, "empty-file")


def test_empty_configuration_is_no_failure() -> None:
    machine = started()
    machine.loads("vmlinuz")
    machine.loads("custom.cfg", size=0)
    boots(machine)


def test_the_firmware_does_not_run_the_boot_program() -> None:
    machine = started()
    machine.wait(2)
    machine.request = evolve(UEFI, http=True, vendor_class="HTTPClient", xid=9, options={55: b"\1\2\4"})
    for gap in (4, 8, 16, 32):
        machine.asks()
        machine.wait(gap)
    fails(machine, "boot-program-rejected", "boot.efi")


def test_the_firmware_does_not_run_the_boot_program_by_http_either() -> None:
    machine = started()
    machine.wait(0.1)
    machine.request = evolve(UEFI, http=True, vendor_class="HTTPClient", xid=9, options={55: b"\1\2\4"})
    machine.gets_address("http://10.77.0.1/boot.efi")
    machine.loads("boot.efi", protocol="http")
    fails(machine, "boot-program-rejected", "boot.efi")


def test_the_firmware_runs_another_program_by_http() -> None:
    machine = started()
    machine.wait(0.1)
    machine.request = evolve(UEFI, http=True, vendor_class="HTTPClient", xid=9, options={55: b"\1\2\4"})
    machine.gets_address("http://10.77.0.1/signed.efi")
    machine.loads("signed.efi", protocol="http")
    boots(machine)


def test_program_that_returns_to_the_firmware_is_recognized() -> None:
    machine = started()
    machine.wait(0.1)
    machine.request = IPXE
    machine.asks()
    machine.is_offered("boot.efi", ADDRESS)
    machine.request = evolve(UEFI, http=True, vendor_class="HTTPClient", xid=9, options={55: b"\1\2\4"})
    machine.gets_address("http://10.77.0.1/boot.efi")
    machine.loads("boot.efi", protocol="http")
    boots(machine)


@pytest.mark.parametrize("pause", [2, 25])
def test_the_firmware_starts_again_after_its_boot_program(pause: float) -> None:
    """Secure Boot refuses the program, and the firmware tries its boot order again."""
    machine = started()
    for xid in range(8, 11):
        machine.wait(pause)
        machine.request = evolve(UEFI, xid=xid)
        machine.gets_address()
        machine.loads("boot.efi")
    causes = [attempt.cause for attempt in machine.ended]
    assert [cause and cause.key for cause in causes] == ["program-returned"] * 3
    assert f'loaded "boot.efi", and its firmware started again {pause} s later' in {
        cause.sentence for cause in causes if cause
    }
    assert stage_line(machine.ended[0].stages[-1]) == "the firmware starts again"


def test_last_round_of_a_loop_of_restarts_has_the_cause_of_the_others() -> None:
    """The firmware runs out of retries, or the machine is switched off."""
    machine = started()
    for xid in (8, 9):
        machine.wait(5)
        machine.request = evolve(UEFI, xid=xid)
        machine.gets_address()
        machine.probes_size("boot.efi")
        machine.loads("boot.efi")
    machine.wait(90)
    found = [(attempt.verdict, attempt.cause and attempt.cause.key) for attempt in machine.ended]
    assert found == [(Verdict.FAILED, "program-returned")] * 3
    last = machine.ended[-1]
    assert last.cause is not None
    assert (
        last.cause.sentence == 'loaded "boot.efi", which had returned to the firmware the time before, and nothing else'
    )
    assert stage_line(last.stages[0]) == '"boot.efi" has returned to the firmware in the boot before'


def test_program_that_goes_on_the_second_time_has_booted() -> None:
    for goes_on in ("loads", "asks", "returns later"):
        machine = started()
        machine.wait(31 if goes_on == "returns later" else 5)
        machine.request = evolve(UEFI, xid=8)
        machine.gets_address()
        machine.loads("boot.efi")
        if goes_on == "loads":
            machine.loads("grub.cfg")
        elif goes_on == "asks":
            machine.wait(1)
            machine.request = IPXE
            machine.asks()
            machine.is_offered("http://10.0.0.9/boot.ipxe", ADDRESS)
        machine.wait(90)
        assert machine.ended[-1].verdict is Verdict.BOOTED, goes_on


@pytest.mark.parametrize(
    ("file", "pause", "architecture"),
    [
        ("vmlinuz", 5, "x86_64-uefi"),
        ("boot.efi", 40, "x86_64-uefi"),
        ("os.bin", 5, "network-gear"),
    ],
)
def test_machine_that_is_switched_on_again_has_booted(file: str, pause: float, architecture: str) -> None:
    machine = Machine(evolve(UEFI, architecture=architecture))
    machine.gets_address(file)
    machine.loads(file)
    machine.wait(pause)
    machine.request = evolve(machine.request, xid=8)
    machine.gets_address(file)
    assert machine.ended[0].verdict is Verdict.BOOTED


@pytest.mark.parametrize("named", ["boot.scr.uimg", "/boot.scr.uimg", "http://10.77.0.1/boot.scr.uimg"])
def test_a_missing_file_that_is_optional_elsewhere_but_was_named_here(named: str) -> None:
    machine = Machine()
    machine.gets_address(named)
    machine.misses("boot.scr.uimg")
    fails(machine, "missing-file", "boot.scr.uimg")


def test_ipxe_loading_ipxe_is_a_loop() -> None:
    machine = Machine(IPXE_ROM)
    for xid in range(5):
        machine.request = evolve(IPXE_ROM, xid=xid)
        machine.gets_address("undionly.kpxe")
        machine.loads("undionly.kpxe")
        machine.wait(2)
    fails(machine, "same-file-again", "undionly.kpxe", "5 times")


@pytest.mark.parametrize("answered", [False, True])
def test_refusing_ipxe_to_ipxe_is_explained(answered: bool) -> None:
    machine = started()
    machine.wait(2)
    machine.request = IPXE
    for gap in (1, 2):
        machine.gets_no_file("the client is iPXE already") if answered else machine.gets_no_answer("it is refused")
        machine.wait(gap)
    fails(machine, "nothing-after-program", '"boot.efi"', "iPXE already" if answered else "it is refused")


def test_a_program_whose_second_request_is_answered() -> None:
    machine = started()
    machine.request = IPXE
    machine.gets_no_file("the API has not answered")
    machine.wait(1)
    machine.gets_address("boot.ipxe")
    boots(machine)


def test_a_program_that_gets_no_file_and_needs_none() -> None:
    machine = started()
    machine.request = GRUB
    machine.gets_no_file("no resolver has one")
    machine.loads("grub.cfg", size=100)
    boots(machine)


# Boots that have nothing wrong with them.


def test_missing_optional_files_are_not_a_cause() -> None:
    machine = started()
    for file in ("revocations_sbat.efi", "grub.cfg-01-52-54-00-12-34-56", "x86_64-efi/command.lst"):
        machine.misses(file)
    machine.loads("grub.cfg", size=10)
    machine.misses("x86_64-efi/terminal.lst")
    boots(machine)


def test_a_missing_file_before_one_that_exists() -> None:
    machine = started()
    machine.misses("boot.cfg-not")
    machine.loads("grub.cfg")
    boots(machine)


def test_missing_file_after_a_kernel_is_not_a_cause() -> None:
    machine = started()
    machine.loads("vmlinuz")
    machine.loads("initrd")
    machine.misses("preseed.cfg", 404, protocol="http")
    machine.loads("firmware.deb", Outcome.TIMED_OUT, protocol="http")
    boots(machine)


def test_repeated_transfer_is_not_a_failure() -> None:
    """The client asks again from another port, and the first transfer times out long after the second has ended."""
    machine = Machine()
    machine.gets_address()
    machine.loads("boot.efi", Outcome.TIMED_OUT, detail=OACK_UNANSWERED)
    machine.loads("boot.efi")
    machine.loads("boot.efi", Outcome.TIMED_OUT, 8, detail=OACK_UNANSWERED)
    boots(machine)


def test_lost_last_ack_is_not_a_failure() -> None:
    machine = started()
    machine.loads("vmlinuz", Outcome.UNCONFIRMED)
    boots(machine)


def test_timeout_of_an_abandoned_transfer_is_not_a_cause() -> None:
    """The ERROR that ends it is lost, so this server goes on with it while the client loads what it wants."""
    machine = started()
    machine.abandons("normal.mod")
    machine.loads("grub.cfg", size=100)
    machine.times_out("normal.mod", 5, bytes_transferred=4096)
    boots(machine)


def test_an_abandoned_transfer_after_which_a_file_is_missing() -> None:
    machine = started()
    machine.loads("grub.cfg", size=100)
    machine.abandons("normal.mod")
    machine.misses("vmlinuz")
    machine.times_out("normal.mod", 5, bytes_transferred=4096)
    fails(machine, "missing-file", '"vmlinuz"')


def test_partial_http_read_is_not_a_failure() -> None:
    machine = started()
    machine.loads("image.bin", Outcome.STOPPED_BY_PEER, protocol="http", bytes_transferred=100)
    boots(machine)


def test_transfer_ended_by_the_server_is_explained() -> None:
    machine = started()
    machine.loads("vmlinuz", Outcome.CANCELLED)
    boots(machine)


def test_everything_repeated_as_on_a_lossy_link() -> None:
    machine = Machine()
    for gap in (1.0, 2.0, 4.0):
        machine.asks()
        machine.is_offered("snponly.efi", ADDRESS)
        machine.wait(gap)
    for gap in (0.3, 0.5, 1.0):
        machine.asks("request")
        machine.is_offered("snponly.efi", ADDRESS, "ACK")
        machine.wait(gap)
    machine.probes_size("snponly.efi")
    machine.probes_size("snponly.efi")
    machine.loads("snponly.efi", seconds=30, retransmitted=200)
    machine.wait(14)
    machine.request = IPXE
    machine.gets_address("boot.ipxe")
    machine.loads("boot.ipxe", Outcome.UNCONFIRMED, 5, size=100)
    machine.loads("vmlinuz", seconds=60, retransmitted=3000)
    boots(machine)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["missing", "again", "probe", "late"]), st.floats(0.0, 9.0)),
        max_size=8,
    ),
    st.booleans(),
)
def test_no_boot_that_ends_with_a_kernel_is_a_failure(noise: list[tuple[str, float]], proxy: bool) -> None:
    machine = Machine(clients={ADDRESS: Client(ADDRESS, MAC)} if proxy else {})
    if proxy:
        machine.asks()
        machine.is_offered(None)
        machine.wait(3)
        machine.asks("boot-server")
        machine.is_offered("boot.efi", message="ACK", phase="boot-server")
    else:
        machine.gets_address()
    machine.loads("boot.efi")
    for what, gap in noise:
        machine.wait(gap)
        if what == "missing":
            machine.misses("grub.cfg")
        elif what == "again":
            machine.loads("boot.efi", Outcome.STOPPED_BY_PEER)
        elif what == "probe":
            machine.probes_size("vmlinuz")
        else:
            machine.loads("boot.efi", Outcome.TIMED_OUT, 1.0, detail=OACK_UNANSWERED)
    machine.loads("vmlinuz")
    boots(machine)


def test_unexplained_failure_has_a_general_cause() -> None:
    machine = Machine()
    machine.asks("request")
    assert machine.verdict == ("failed", "unknown")


def test_phone_home_outweighs_every_symptom() -> None:
    machine = started()
    machine.misses("vmlinuz")
    assert machine.fold.up(machine.now, (ADDRESS, 1))
    machine.settle()
    assert judge(machine.ended[-1]) == (Verdict.UP, None)


# The table.


# Installations


def reports(machine: Machine, what: str, failed: bool = False) -> None:
    machine.add(InstallationReported(machine.now, (ADDRESS, 40000), MAC, what, failed))


def installing() -> Machine:
    machine = Machine()
    machine.gets_address()
    machine.loads("snponly.efi")
    machine.loads("images/receiver/vmlinuz")
    machine.loads("images/receiver/initrd.img")
    boots(machine)
    reports(machine, "10 % of 20 MB are on /dev/sda")
    return machine


def test_machine_that_installs_itself_has_not_booted_yet() -> None:
    machine = installing()
    for percent in (20, 90):
        machine.wait(100)
        reports(machine, f"{percent} % of 20 MB are on /dev/sda")
        (attempt,) = machine.fold.running()
        assert stage_line(attempt.stages[-1]) == f"the installer: {percent} % of 20 MB are on /dev/sda"
        assert [stage.kind for stage in attempt.stages].count(StageKind.INSTALLATION) == 1
    assert [attempt.verdict for attempt in machine.ended] == [Verdict.BOOTED]
    machine.fold.up(machine.now, (ADDRESS, 40000), MAC)
    assert machine.verdict == ("up", "")
    reports(machine, "100 % of 20 MB are on /dev/sda")
    assert machine.fold.running() == []


def test_installer_reports_why_it_has_failed() -> None:
    machine = installing()
    reports(machine, "/dev/sda has 1 bytes, and the image has 2", failed=True)
    fails(machine, "installation-failed", "could not be installed: /dev/sda has 1 bytes, and the image has 2")
    reports(machine, "/dev/sda has 1 bytes, and the image has 2", failed=True)
    assert machine.ended[-1].stages[-1].count == 2
    reports(machine, "5 % of 20 MB are on /dev/sdb")
    (attempt,) = machine.fold.running()
    assert [stage_line(stage) for stage in attempt.stages][-2:] == [
        "the installer has failed: /dev/sda has 1 bytes, and the image has 2, 2 times",
        "the installer: 5 % of 20 MB are on /dev/sdb",
    ]


def test_installer_that_falls_silent() -> None:
    machine = installing()
    machine.wait(130)
    fails(machine, "installation-silent", "nothing more of its installation: 10 % of 20 MB")


def test_report_of_an_unknown_machine_begins_no_boot() -> None:
    machine = Machine()
    reports(machine, "no disk", failed=True)
    assert machine.ended == []


def test_every_symptom_has_a_source_and_a_remedy() -> None:
    for symptom in SYMPTOMS:
        assert symptom.source
        assert symptom.remedy
        assert not symptom.sentence.endswith(".")


def test_every_row_has_a_test() -> None:
    text = Path(__file__).read_text()
    assert [symptom.key for symptom in SYMPTOMS if f'"{symptom.key}"' not in text] == []
