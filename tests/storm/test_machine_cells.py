"""SimulatedMachine: every cell of its table has a test that is named after it, or is a parameter of the last tests."""

from typing import Any

import pytest
from attrs import evolve

from bootfw.storm import machine as module
from bootfw.storm.machine import (
    Abandon,
    Broadcast,
    Datagram,
    Download,
    Input,
    SimulatedMachine,
    State,
    ToBootServer,
    UseAddress,
)
from bootfw.storm.messages import Identity
from bootfw.storm.program import Boot, Program, Step
from bootfw.table import IllegalInput
from bootfw.wire import dhcp4, pxe, tftp
from bootfw.wire.dhcp4 import BOOTREPLY, Message, MessageType
from bootfw.wire.options import Option, address_bytes

SERVER = ("10.77.0.1", 69)
TRANSFER = ("10.77.0.1", 2000)
STRANGER = ("10.77.0.9", 2000)

ROM = Program(
    "rom",
    vendor_class="PXEClient",
    discover=(4.0, 8.0),
    selection="slot",
    request=(1.0, 2.0),
    boot_server=(1.0, 2.0),
    options=(("tsize", "0"), ("blksize", "1000")),
    open=(4.0, 4.0),
    ack=(2.0, 3.0),
    http_patience=30.0,
)
BOOTS = Boot("test", (Step("dhcp", "rom"), Step("load", "rom", ("{file}",)), Step("pause", "rom", seconds=1.5)))


def machine_in(state: State, *steps: Step, program: Program = ROM, **fields: Any) -> SimulatedMachine:
    """A machine that has got to *state* by the usual inputs, at time 0."""
    boot = Boot("test", steps) if steps else BOOTS
    machine = SimulatedMachine(Identity(bytes(6), str(_UUID)), boot, {"rom": program}, **fields)
    if state is State.OFF:
        return machine
    for event, argument in _INPUTS_TO[state]:
        machine.handle(event, argument(machine) if callable(argument) else argument)
        machine.out.clear()
    assert machine.state is state
    return machine


_UUID = "12345678-1234-4234-8234-123456789abc"


def reply(
    machine: SimulatedMachine,
    kind: MessageType = MessageType.OFFER,
    *,
    yiaddr: str = "10.77.1.5",
    file: bytes = b"boot.0",
) -> Message:
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((kind,)),
        Option.SERVER_IDENTIFIER: address_bytes("10.77.0.1"),
    }
    return Message(
        op=BOOTREPLY, xid=machine.xid, chaddr=bytes(6), yiaddr=yiaddr, siaddr="10.77.0.1", file=file, options=options
    )


def boot_server_offer(machine: SimulatedMachine) -> Message:
    """A boot server answers with "PXEClient" and no file: go to port 4011."""
    options: dict[int, bytes] = {
        Option.MESSAGE_TYPE: bytes((MessageType.OFFER,)),
        Option.SERVER_IDENTIFIER: address_bytes("10.77.0.2"),
        Option.VENDOR_CLASS_IDENTIFIER: b"PXEClient",
    }
    return Message(op=BOOTREPLY, xid=machine.xid, chaddr=bytes(6), options=options)


def ack(machine: SimulatedMachine) -> Message:
    return reply(machine, MessageType.ACK)


OACK = tftp.OptionAck((("tsize", "2500"), ("blksize", "1000")))

_POWERED: list[tuple[Input, Any]] = [(Input.POWER_ON, None)]
_OFFERED = [*_POWERED, (Input.OFFER, reply), (Input.TIMER, None)]
_LEASED = [*_OFFERED, (Input.ACK, ack)]
_INPUTS_TO: dict[State, list[tuple[Input, Any]]] = {
    State.SELECTING: _POWERED,
    State.REQUESTING: _OFFERED,
    State.BOOT_SERVER: [
        *_POWERED,
        (Input.OFFER, lambda machine: reply(machine, file=b"")),
        (Input.OFFER, boot_server_offer),
        (Input.TIMER, None),
        (Input.ACK, ack),
    ],
    State.OPENING: _LEASED,
    State.READING: [*_LEASED, (Input.OACK, (TRANSFER, OACK))],
    State.PAUSING: [*_LEASED, (Input.OACK, (TRANSFER, OACK)), (Input.DATA, (TRANSFER, 1, 10))],
    State.BOOTED: [
        *_LEASED,
        (Input.OACK, (TRANSFER, OACK)),
        (Input.DATA, (TRANSFER, 1, 10)),
        (Input.TIMER, None),
    ],
    State.FAILED: [*_LEASED, (Input.ERROR, (TRANSFER, 1))],
}
_LOAD_HTTP = Step("load", "rom", ("http://10.77.0.1/a",))


def downloading(**fields: Any) -> SimulatedMachine:
    machine = SimulatedMachine(Identity(bytes(6), _UUID), Boot("test", (_LOAD_HTTP,)), {"rom": ROM}, **fields)
    machine.handle(Input.POWER_ON)
    assert machine.out == [Download("GET", "http://10.77.0.1/a", "")]
    machine.out.clear()
    return machine


def hesitating() -> SimulatedMachine:
    step = Step("load", "rom", ("a",), hesitates=4.8)
    machine = SimulatedMachine(Identity(bytes(6), _UUID), Boot("test", (step,)), {"rom": ROM}, "10.77.0.1")
    machine.handle(Input.POWER_ON)
    machine.handle(Input.OACK, (TRANSFER, OACK), 10.0)
    assert (machine.state, machine.deadline) == (State.HESITATING, 14.8)
    machine.out.clear()
    return machine


def kind_of(packet: Broadcast | ToBootServer) -> MessageType | None:
    return dhcp4.parse(packet.data).message_type


# OFF


def test_off_power_on_begins_the_first_step() -> None:
    machine = machine_in(State.OFF)
    machine.handle(Input.POWER_ON, None, 100.0)
    assert (machine.state, machine.deadline) == (State.SELECTING, 104.0)
    assert [kind_of(out) for out in machine.out] == [MessageType.DISCOVER]


# SELECTING


def test_selecting_timer_sends_discover_again_then_gives_up() -> None:
    machine = machine_in(State.SELECTING)
    machine.handle(Input.TIMER, None, 4.0)
    assert (machine.state, machine.deadline, machine.stages[-1].retries) == (State.SELECTING, 12.0, 1)
    assert [dhcp4.parse(out.data).secs for out in machine.out] == [4]
    machine.handle(Input.TIMER, None, 12.0)
    assert (machine.state, machine.deadline, machine.failure) == (State.FAILED, None, "rom: dhcp: no offer")


def test_selecting_timer_chooses_when_the_slot_is_over() -> None:
    machine = machine_in(State.SELECTING)
    machine.handle(Input.OFFER, reply(machine))
    machine.handle(Input.TIMER, None, 4.0)
    assert (machine.state, machine.deadline) == (State.REQUESTING, 5.0)
    assert [kind_of(out) for out in machine.out] == [MessageType.REQUEST]


def test_selecting_timer_gives_up_offers_that_it_can_not_use() -> None:
    machine = machine_in(State.SELECTING)
    machine.handle(Input.OFFER, reply(machine, file=b""))
    machine.handle(Input.TIMER, None, 4.0)
    machine.handle(Input.TIMER, None, 12.0)
    assert machine.failure == "rom: dhcp: no offer that it can boot from"
    assert machine.stages[-1].retries == 0


def test_selecting_offer_is_kept_until_the_slot_is_over() -> None:
    machine = machine_in(State.SELECTING)
    machine.handle(Input.OFFER, reply(machine))
    assert (machine.state, machine.out) == (State.SELECTING, [])


def test_selecting_offer_is_taken_at_once_where_the_firmware_does_so() -> None:
    first = Program("rom", discover=(4.0,), request=(1.0,), selection="first")
    machine = machine_in(State.SELECTING, *BOOTS.steps, program=first)
    machine.handle(Input.OFFER, reply(machine))
    assert machine.state is State.REQUESTING


def test_selecting_offer_of_an_address_waits_for_one_of_a_proxy() -> None:
    ipxe = Program("rom", discover=(1.0, 2.0), request=(1.0,), selection="proxy-window", proxy_window=2.0)
    machine = machine_in(State.SELECTING, *BOOTS.steps, program=ipxe)
    machine.handle(Input.OFFER, reply(machine), 0.1)
    machine.handle(Input.TIMER, None, 1.0)
    assert (machine.state, machine.stages[-1].retries) == (State.SELECTING, 0)
    machine.handle(Input.TIMER, None, 3.0)
    assert [kind_of(out) for out in machine.out] == [MessageType.DISCOVER, MessageType.REQUEST]


# REQUESTING


def test_requesting_timer_sends_request_again_then_gives_up() -> None:
    machine = machine_in(State.REQUESTING)
    machine.handle(Input.TIMER, None, 1.0)
    assert (machine.state, machine.deadline, machine.stages[-1].retries) == (State.REQUESTING, 3.0, 1)
    machine.handle(Input.TIMER, None, 3.0)
    assert (machine.state, machine.failure) == (State.FAILED, "rom: dhcp: no ACK")


def test_requesting_ack_takes_the_address_and_loads_the_file() -> None:
    machine = machine_in(State.REQUESTING)
    machine.handle(Input.ACK, ack(machine), 5.0)
    request = tftp.request(False, "boot.0", "octet", ROM.options)
    assert (machine.state, machine.deadline, machine.stages[0].ended) == (State.OPENING, 9.0, 5.0)
    assert machine.out == [UseAddress("10.77.1.5"), Datagram(request, SERVER, machine.port)]


def test_requesting_ack_of_another_address_is_not_its_own() -> None:
    machine = machine_in(State.REQUESTING)
    machine.handle(Input.ACK, reply(machine, MessageType.ACK, yiaddr="10.77.1.6"))
    assert (machine.state, machine.out, machine.address) == (State.REQUESTING, [], "")


def test_requesting_ack_leads_to_port_4011_if_the_offers_say_so() -> None:
    machine = machine_in(State.BOOT_SERVER)
    assert (machine.address, [stage.name for stage in machine.stages]) == ("10.77.1.5", ["rom: dhcp", "rom: port 4011"])


def test_requesting_ack_leads_to_port_4011_for_an_item_of_a_menu() -> None:
    machine = machine_in(State.SELECTING)
    options = pxe.VendorOptions(menu=(pxe.MenuItem(5, "Boot"),), prompt=pxe.MenuPrompt(0, "PXE"))
    offer = boot_server_offer(machine)
    machine.handle(Input.OFFER, reply(machine, file=b""))
    menu = {**offer.options, Option.VENDOR_SPECIFIC: pxe.pack(options)}
    machine.handle(Input.OFFER, evolve(offer, options=menu))
    machine.handle(Input.TIMER, None, 4.0)
    machine.out.clear()
    machine.handle(Input.ACK, ack(machine), 5.0)
    _, request = machine.out
    assert (machine.state, request.server) == (State.BOOT_SERVER, "10.77.0.2")
    assert pxe.boot_item(dhcp4.parse(request.data).options[Option.VENDOR_SPECIFIC]) == pxe.BootItem(5)


def test_requesting_ack_without_a_file_fails() -> None:
    first = Program("rom", discover=(4.0,), request=(1.0,), selection="first")
    machine = machine_in(State.SELECTING, *BOOTS.steps, program=first)
    machine.handle(Input.OFFER, reply(machine, file=b""))
    machine.handle(Input.ACK, reply(machine, MessageType.ACK, file=b""))
    assert (machine.state, machine.failure) == (State.FAILED, "rom: dhcp: no reply names a boot file")


def test_requesting_nak_begins_again() -> None:
    machine = machine_in(State.REQUESTING)
    machine.handle(Input.NAK, reply(machine, MessageType.NAK), 5.0)
    assert (machine.state, machine.deadline) == (State.SELECTING, 9.0)
    assert [kind_of(out) for out in machine.out] == [MessageType.DISCOVER]
    machine.out.clear()
    machine.handle(Input.TIMER, None, 9.0)  # the offers of before are forgotten
    assert machine.state is State.SELECTING


# BOOT_SERVER


def test_boot_server_timer_retries_then_gives_up() -> None:
    machine = machine_in(State.BOOT_SERVER)
    machine.handle(Input.TIMER, None, 1.0)
    (out,) = machine.out
    assert (machine.state, out.server, out.port) == (State.BOOT_SERVER, "10.77.0.2", 68)
    assert dhcp4.parse(out.data).ciaddr == "10.77.1.5"
    machine.handle(Input.TIMER, None, 3.0)
    assert (machine.state, machine.failure) == (State.FAILED, "rom: port 4011: no answer")


def test_boot_server_boot_reply_names_the_file() -> None:
    machine = machine_in(State.BOOT_SERVER)
    machine.handle(Input.BOOT_REPLY, reply(machine, MessageType.ACK, yiaddr="0.0.0.0", file=b"other.0"))
    assert (machine.state, machine.file) == (State.OPENING, "other.0")


def test_boot_server_boot_reply_without_a_file_is_ignored() -> None:
    machine = machine_in(State.BOOT_SERVER)
    machine.handle(Input.BOOT_REPLY, reply(machine, MessageType.ACK, file=b""))
    assert (machine.state, machine.out) == (State.BOOT_SERVER, [])


# OPENING


def test_opening_timer_sends_the_request_again_then_gives_up() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.TIMER, None, 4.0)
    assert (machine.state, machine.deadline, len(machine.out)) == (State.OPENING, 8.0, 1)
    machine.handle(Input.TIMER, None, 8.0)
    assert (machine.state, machine.failure) == (State.FAILED, "rom: {file}: no answer to the read request")


def test_opening_oack_is_acknowledged() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.OACK, (TRANSFER, OACK), 1.0)
    assert (machine.state, machine.deadline) == (State.READING, 3.0)
    assert machine.out == [Datagram(tftp.ack(0), TRANSFER, machine.port)]


def test_opening_oack_of_another_host_is_ignored() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.OACK, (STRANGER, OACK))
    assert (machine.state, machine.out) == (State.OPENING, [])


def test_opening_oack_ends_a_probe_and_the_file_is_requested_without_tsize() -> None:
    machine = machine_in(State.OPENING, Step("dhcp", "rom"), Step("load", "rom", probe=True))
    port = machine.port
    machine.handle(Input.OACK, (TRANSFER, OACK))
    error, request = machine.out
    assert (machine.state, error) == (
        State.OPENING,
        Datagram(tftp.error(8, "User aborted the transfer"), TRANSFER, port),
    )
    assert request.data == tftp.request(False, "boot.0", "octet", (("blksize", "1000"),))
    assert request.port == machine.port != port


def test_opening_oack_ends_a_stat_without_a_word() -> None:
    machine = machine_in(State.OPENING, Step("dhcp", "rom"), Step("load", "rom", stat=True))
    machine.handle(Input.OACK, (TRANSFER, OACK))
    assert (machine.state, machine.out) == (State.BOOTED, [])


def test_opening_data_is_the_first_block_of_a_server_without_options() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.DATA, (TRANSFER, 1, 512))
    assert (machine.state, machine.out) == (State.READING, [Datagram(tftp.ack(1), TRANSFER, machine.port)])


def test_opening_data_of_a_later_block_is_ignored() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.DATA, (TRANSFER, 2, 512))
    assert (machine.state, machine.out) == (State.OPENING, [])


def test_opening_error_fails_or_leads_to_the_next_file() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.ERROR, (STRANGER, 1))
    assert machine.state is State.OPENING
    machine.handle(Input.ERROR, (TRANSFER, 1))
    assert (machine.state, machine.failure) == (State.FAILED, "rom: {file}: error 1")
    steps = Step("dhcp", "rom"), Step("load", "rom", ("a", "b"), may_be_missing=True)
    machine = machine_in(State.OPENING, *steps)
    machine.handle(Input.ERROR, (TRANSFER, 1))
    assert machine.state is State.OPENING
    machine.handle(Input.ERROR, (TRANSFER, 1))
    assert (machine.state, [stage.name for stage in machine.stages]) == (
        State.BOOTED,
        ["rom: dhcp", "rom: a", "rom: b"],
    )


def test_opening_error_goes_on_with_a_search_that_the_first_file_found_ends() -> None:
    machine = machine_in(State.OPENING, Step("dhcp", "rom"), Step("load", "rom", ("a", "b", "c"), search=True))
    machine.handle(Input.ERROR, (TRANSFER, 1))
    machine.handle(Input.DATA, (TRANSFER, 1, 10))
    assert (machine.state, machine.stages[-1].name) == (State.BOOTED, "rom: b")


# HESITATING


def test_hesitating_timer_acknowledges_the_options() -> None:
    machine = hesitating()
    machine.handle(Input.TIMER, None, 14.8)
    assert (machine.state, machine.out) == (State.READING, [Datagram(tftp.ack(0), TRANSFER, machine.port)])


def test_hesitating_error_fails() -> None:
    machine = hesitating()
    machine.handle(Input.ERROR, (STRANGER, 0))
    assert machine.state is State.HESITATING
    machine.handle(Input.ERROR, (TRANSFER, 0))
    assert (machine.state, machine.failure) == (State.FAILED, "rom: a: error 0 in the transfer")


# READING


def test_reading_timer_acknowledges_again_then_gives_up() -> None:
    machine = machine_in(State.READING)
    machine.handle(Input.DATA, (TRANSFER, 1, 1000), 1.0)
    machine.out.clear()
    machine.handle(Input.TIMER, None, 3.0)
    assert (machine.state, machine.deadline, machine.stages[-1].retries) == (State.READING, 6.0, 1)
    assert machine.out == [Datagram(tftp.ack(1), TRANSFER, machine.port)]
    machine.handle(Input.TIMER, None, 6.0)
    assert (machine.state, machine.failure) == (State.FAILED, "rom: {file}: the transfer stopped")


def test_reading_timer_acknowledges_a_part_of_a_window() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.OACK, (TRANSFER, tftp.OptionAck((("blksize", "1000"), ("windowsize", "4")))))
    machine.handle(Input.DATA, (TRANSFER, 1, 1000))
    machine.handle(Input.DATA, (TRANSFER, 2, 1000))
    machine.out.clear()
    machine.handle(Input.TIMER, None, 3.0)
    assert (machine.out, machine.stages[-1].retries) == ([Datagram(tftp.ack(2), TRANSFER, machine.port)], 1)


def test_reading_timer_of_a_program_that_never_repeats_an_ack_gives_up() -> None:
    grub = Program("rom", discover=(4.0,), request=(1.0,), open=(4.0,), ack=(34.0,), repeats_ack=False)
    machine = machine_in(State.SELECTING, *BOOTS.steps, program=grub)
    machine.handle(Input.OFFER, reply(machine))
    machine.handle(Input.ACK, ack(machine))
    machine.handle(Input.OACK, (TRANSFER, OACK), 1.0)
    assert machine.deadline == 35.0
    machine.out.clear()
    machine.handle(Input.TIMER, None, 35.0)
    assert (machine.state, machine.out) == (State.FAILED, [])


def test_reading_oack_again_is_acknowledged_until_a_block_has_come() -> None:
    machine = machine_in(State.READING)
    machine.handle(Input.OACK, (STRANGER, OACK))
    assert machine.out == []
    machine.handle(Input.OACK, (TRANSFER, OACK))
    assert machine.out == [Datagram(tftp.ack(0), TRANSFER, machine.port)]
    machine.handle(Input.DATA, (TRANSFER, 1, 1000))
    machine.out.clear()
    machine.handle(Input.OACK, (TRANSFER, OACK))
    assert machine.out == []


def test_reading_data_in_order_is_counted_and_acknowledged() -> None:
    machine = machine_in(State.READING)
    machine.handle(Input.DATA, (TRANSFER, 1, 1000))
    machine.handle(Input.DATA, (TRANSFER, 2, 400), 7.0)
    assert [out.data for out in machine.out] == [tftp.ack(1), tftp.ack(2)]
    assert (machine.state, machine.stages[1].bytes, machine.stages[1].ended) == (State.PAUSING, 1400, 7.0)


def test_reading_data_of_another_port_is_ignored() -> None:
    machine = machine_in(State.READING)
    machine.handle(Input.DATA, (STRANGER, 1, 1000))
    assert machine.out == []


@pytest.mark.parametrize(("quirk", "acks"), [("ack-last", [tftp.ack(2)]), ("ack-it", [tftp.ack(1)]), ("silent", [])])
def test_reading_data_of_an_old_block_is_answered_as_the_program_does(quirk: Any, acks: list[bytes]) -> None:
    program = Program("rom", discover=(4.0,), request=(1.0,), open=(4.0,), ack=(9.0,), old_block=quirk)
    machine = machine_in(State.SELECTING, *BOOTS.steps, program=program)
    machine.handle(Input.OFFER, reply(machine))
    machine.handle(Input.ACK, ack(machine))
    machine.handle(Input.OACK, (TRANSFER, OACK))
    for block in 1, 2:
        machine.handle(Input.DATA, (TRANSFER, block, 1000))
    machine.out.clear()
    machine.handle(Input.DATA, (TRANSFER, 1, 1000))
    assert [out.data for out in machine.out] == acks


def test_reading_data_behind_a_gap_is_answered_once() -> None:
    machine = machine_in(State.OPENING)
    machine.handle(Input.OACK, (TRANSFER, tftp.OptionAck((("blksize", "1000"), ("windowsize", "4")))))
    machine.handle(Input.DATA, (TRANSFER, 1, 1000))
    machine.out.clear()
    for block in 3, 4:
        machine.handle(Input.DATA, (TRANSFER, block, 1000))
    assert [out.data for out in machine.out] == [tftp.ack(1)]
    machine.out.clear()
    for block in 2, 3, 4, 5:
        machine.handle(Input.DATA, (TRANSFER, block, 1000))
    assert [out.data for out in machine.out] == [tftp.ack(5)]


def test_reading_data_goes_on_past_65535() -> None:
    machine = machine_in(State.READING)
    for block in range(1, 65538):
        machine.handle(Input.DATA, (TRANSFER, block & 0xFFFF, 1000))
    assert machine.out[-1].data == tftp.ack(1)
    assert machine.stages[-1].bytes == 65537 * 1000


def test_reading_error_fails() -> None:
    machine = machine_in(State.READING)
    machine.handle(Input.ERROR, (STRANGER, 0))
    assert machine.state is State.READING
    machine.handle(Input.ERROR, (TRANSFER, 0))
    assert (machine.state, machine.failure) == (State.FAILED, "rom: {file}: error 0 in the transfer")


# DOWNLOADING


def test_downloading_timer_gives_up() -> None:
    machine = downloading()
    machine.handle(Input.TIMER, None, 30.0)
    assert (machine.state, machine.out, machine.deadline) == (State.FAILED, [Abandon()], None)


def test_downloading_progress_is_waited_for() -> None:
    machine = downloading()
    machine.handle(Input.PROGRESS, 100, 20.0)
    assert (machine.state, machine.deadline) == (State.DOWNLOADING, 50.0)


def test_downloading_downloaded_is_the_end_of_the_file() -> None:
    machine = downloading()
    machine.handle(Input.DOWNLOADED, (200, 5000), 3.0)
    assert (machine.state, machine.stages[-1].bytes, machine.stages[-1].ended) == (State.BOOTED, 5000, 3.0)
    machine = downloading()
    machine.handle(Input.DOWNLOADED, (404, 10))
    assert (machine.state, machine.failure) == (State.FAILED, "rom: http://10.77.0.1/a: HTTP status 404")


def test_downloading_downloaded_head_is_followed_by_get() -> None:
    program = Program("rom", head=True)
    machine = SimulatedMachine(Identity(bytes(6), _UUID), Boot("test", (_LOAD_HTTP,)), {"rom": program})
    machine.handle(Input.POWER_ON)
    machine.handle(Input.DOWNLOADED, (200, 0))
    assert [out.method for out in machine.out] == ["HEAD", "GET"]
    machine.handle(Input.DOWNLOADED, (200, 70))
    assert (machine.state, machine.stages[-1].bytes) == (State.BOOTED, 70)


def test_downloading_disconnected_fails() -> None:
    machine = downloading()
    machine.handle(Input.DISCONNECTED, "the connection ended early")
    assert (machine.state, machine.failure) == (State.FAILED, "rom: http://10.77.0.1/a: the connection ended early")


# PAUSING


def test_pausing_timer_goes_on() -> None:
    machine = machine_in(State.PAUSING)
    due = machine.deadline
    machine.handle(Input.TIMER, None, 1.5)
    assert (due, machine.state, machine.deadline, machine.over) == (1.5, State.BOOTED, None, True)


# All other cells

_SERVERS = (Input.OFFER, Input.ACK, Input.NAK, Input.BOOT_REPLY, Input.OACK, Input.DATA, Input.ERROR)
_DRIVER = (Input.POWER_ON, Input.TIMER, Input.PROGRESS, Input.DOWNLOADED, Input.DISCONNECTED)


def has_test(state: State, event: Input) -> bool:
    start = f"test_{state.name}_{event.name}_".lower()
    return any(name.startswith(start) for name in globals())


def machine_at(state: State) -> SimulatedMachine:
    if state is State.HESITATING:
        return hesitating()
    return downloading() if state is State.DOWNLOADING else machine_in(state)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in State for event in _SERVERS if not has_test(state, event)]
)
def test_late_or_unsolicited_packets_are_ignored(state: State, event: Input) -> None:
    machine = machine_at(state)
    deadline = machine.deadline
    machine.handle(event, None, 99.0)
    assert (machine.state, machine.out, machine.deadline) == (state, [], deadline)


@pytest.mark.parametrize(
    ("state", "event"), [(state, event) for state in State for event in _DRIVER if not has_test(state, event)]
)
def test_impossible_inputs_are_illegal(state: State, event: Input) -> None:
    machine = machine_at(state)
    with pytest.raises(IllegalInput):
        machine.handle(event)
    assert machine.state is state


def test_it_is_run_by_the_table_of_its_module() -> None:
    assert SimulatedMachine.table is module.TABLE
