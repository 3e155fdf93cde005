"""A simulated machine, from power-on to its last file: a state table, without clock or socket.

It publishes the packets to send in ``out``, and one ``deadline``. The driver parses what a server sends, and passes it
as an input; the blocks of a file are counted, not kept.
"""

import random
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urljoin

from attrs import define, field, frozen

from bootfw.storm import messages
from bootfw.storm.messages import Identity
from bootfw.storm.offers import BootSource, OfferChoice, boot_source, choose, server_of
from bootfw.storm.program import Boot, Program, Step
from bootfw.table import STAY, Key, Machine, Table, check, goes, ignore, illegal
from bootfw.wire import tftp
from bootfw.wire.dhcp4 import Message

PORTS = 16
"""Ports that a machine sends read requests from, in turn, so that a late packet of one file is not taken for one of the
next. No boot in boots.toml has more transfers."""

TFTP_PORT = 69


class State(Key):
    """What a machine is doing."""

    OFF = "off"
    SELECTING = "selecting"
    REQUESTING = "requesting"
    BOOT_SERVER = "boot server"
    OPENING = "opening"
    HESITATING = "hesitating"
    READING = "reading"
    DOWNLOADING = "downloading"
    PAUSING = "pausing"
    BOOTED = "booted"
    FAILED = "failed"


class Input(Key):
    """What can happen to a machine."""

    POWER_ON = "power on"
    TIMER = "timer"
    """The deadline is over."""
    OFFER = "offer"
    """A Message of type OFFER for the machine's transaction, from port 67."""
    ACK = "ack"
    """The same of type ACK."""
    NAK = "nak"
    BOOT_REPLY = "boot reply"
    """A Message that answers the request to port 4011."""
    OACK = "oack"
    """(server's address, OptionAck)"""
    DATA = "data"
    """(server's address, 16-bit block number, bytes of file in it)"""
    ERROR = "error"
    """(server's address, error code)"""
    PROGRESS = "progress"
    """More of a download has come: bytes so far."""
    DOWNLOADED = "downloaded"
    """(HTTP status, bytes)"""
    DISCONNECTED = "disconnected"
    """A download ended before its end; the reason."""


@frozen
class Broadcast:
    """A DHCP message to port 67 of every server."""

    data: bytes


@frozen
class ToBootServer:
    """A DHCP message to port 4011 of *server*."""

    data: bytes
    server: str
    port: int
    """Where it comes from."""


@frozen
class Datagram:
    """A TFTP packet."""

    data: bytes
    peer: tuple[str, int]
    port: int
    """0 to PORTS - 1: which of the machine's ports it leaves from."""


@frozen
class Download:
    """Begin an HTTP request; its end is an input."""

    method: str
    url: str
    user_agent: str


@frozen
class Abandon:
    """Close the connection of the current download."""


@frozen
class UseAddress:
    """The machine has *address* from now on."""

    address: str


Out = Broadcast | ToBootServer | Datagram | Download | Abandon | UseAddress


@define
class Stage:
    """A part of a boot, and how it went. Times are in seconds, as the inputs have them."""

    name: str
    """The program and what it does, such as "uefi: dhcp" or "grub: grub.cfg"."""
    began: float
    ended: float | None = None
    retries: int = 0
    """Packets that were sent again because no answer came. A DISCOVER that is repeated while offers are collected (iPXE
    waits for the offer of a proxy) does not count."""
    bytes: int = 0
    """Of file that came."""


@define(eq=False)
class SimulatedMachine(Machine):
    """One machine.

    :param identity: its MAC and UUID.
    :param boot: what it does, in steps.
    :param programs: by name; of each step.
    :param server: the TFTP server, for a boot without DHCP; "": DHCP names it.
    :param address: the machine's address, for a boot without DHCP.
    :param file: the boot file, for a boot without DHCP.
    :param seed: of its transaction numbers.
    """

    table: ClassVar[Table] = {}
    """TABLE, which is defined below the transitions."""

    identity: Identity
    boot: Boot
    programs: Mapping[str, Program]
    server: str = ""
    address: str = ""
    file: str = ""
    seed: int = 0
    state: State = field(default=State.OFF, init=False)
    deadline: float | None = field(default=None, init=False)
    stages: list[Stage] = field(factory=list, init=False)
    failure: str = field(default="", init=False)
    """Why it has failed, in words; "": it has not."""
    xid: int = field(default=0, init=False)
    """Transaction id (xid) of the current DHCP exchange."""
    port: int = field(default=0, init=False)
    """Number of the port that the current transfer uses, 0 to PORTS - 1."""
    _random: random.Random = field(init=False)
    _step_index: int = field(default=-1, init=False)
    _file_index: int = field(default=0, init=False)
    """Index of the file of the step that is being loaded."""
    _sent_count: int = field(default=0, init=False)
    _packet: Any = field(default=None, init=False)
    """The packet to retransmit if there is no answer."""
    _waits: tuple[float, ...] = field(default=(), init=False)
    """Seconds after each sending of ``_packet`` until the next one; after the last of them the program gives up."""
    _dhcp_began: float = field(default=0.0, init=False)
    _offers: list[Message] = field(factory=list, init=False)
    _choice: OfferChoice | None = field(default=None, init=False)
    _base: str = field(default="", init=False)
    """URL of the latest file that came by HTTP."""
    _peer: tuple[str, int] | None = field(default=None, init=False)
    """Address of the transfer's other end; None: no answer has come."""
    _blksize: int = field(default=512, init=False)
    _windowsize: int = field(default=1, init=False)
    _received: int = field(default=0, init=False)
    """The latest block that came in order."""
    _acked: int = field(default=0, init=False)
    _gap: bool = field(default=False, init=False)
    """A block of the window was missing, and the block before it was acknowledged for that (RFC 7440)."""
    _probing: bool = field(default=False, init=False)
    """The current request only finds out the size of the file: TFTP with tsize, or HEAD."""

    @_random.default
    def _seeded(self) -> random.Random:
        return random.Random(self.seed)

    @property
    def over(self) -> bool:
        """Whether it has booted or failed."""
        return self.state in (State.BOOTED, State.FAILED)

    @property
    def step(self) -> Step:
        """The current step."""
        return self.boot.steps[self._step_index]

    @property
    def program(self) -> Program:
        """The program of the current step."""
        return self.programs[self.step.program]

    # Parts of transitions

    def begin_stage(self, name: str, now: float) -> None:
        """Begin the stage *name*, which retries and bytes are counted for from now on."""
        self.stages.append(Stage(name, now))

    def end_stage(self, now: float) -> None:
        """End the current stage."""
        self.stages[-1].ended = now

    def send(self, packet: Any, waits: tuple[float, ...], now: float) -> None:
        """Send *packet*, and again after each of *waits* but the last; after that one the program gives up."""
        self._packet, self._waits, self._sent_count = packet, waits, 1
        self.out.append(packet)
        self.deadline = now + waits[0]

    def send_again(self, now: float, packet: Any = None) -> bool:
        """Send the latest packet again. Return False if all its waits are over.

        :param packet: sent in its place, such as a DISCOVER with another ``secs``.
        """
        if self._sent_count >= len(self._waits):
            return False
        self._packet = packet or self._packet
        self.out.append(self._packet)
        self.deadline = now + self._waits[self._sent_count]
        self._sent_count += 1
        if not self._offers or self.state is not State.SELECTING:
            self.stages[-1].retries += 1
        return True

    def fail(self, reason: str) -> State:
        """Give up."""
        self.failure = f"{self.stages[-1].name}: {reason}" if self.stages else reason
        self.deadline = None
        return State.FAILED

    def next_step(self, now: float) -> State:
        """Begin the next step, or end the boot."""
        self._step_index += 1
        self._file_index = 0
        if self._step_index == len(self.boot.steps):
            self.deadline = None
            return State.BOOTED
        if self.step.do == "dhcp":
            return self.begin_dhcp(now)
        if self.step.do == "load":
            return self.begin_load(now)
        self.begin_stage("pause" if not self.step.program else f"{self.step.program}: starts", now)
        self.deadline = now + self.step.seconds
        return State.PAUSING

    def begin_dhcp(self, now: float) -> State:
        """Send the first DISCOVER."""
        self.begin_stage(f"{self.program.name}: dhcp", now)
        self.xid = self._random.getrandbits(32)
        self._dhcp_began = now
        self._offers, self._choice, self._base = [], None, ""
        self.send(Broadcast(self.discover(now)), self.program.discover, now)
        return State.SELECTING

    def discover(self, now: float) -> bytes:
        """Return a DISCOVER with the ``secs`` at *now*."""
        return messages.discover(self.program, self.identity, self.xid, round(now - self._dhcp_began))

    def choose(self, now: float) -> State | None:
        """Choose an offer and send the REQUEST. Return None if the program can't boot from the offers so far."""
        awaited = now - self._dhcp_began < self.program.proxy_window
        choice = choose(self.program, self._offers, awaited)
        if choice is None:
            return None
        self._choice = choice
        server, secs = server_of(choice.lease), round(now - self._dhcp_began)
        packet = messages.request(self.program, self.identity, self.xid, secs, choice.lease.yiaddr, server)
        self.send(Broadcast(packet), self.program.request, now)
        return State.REQUESTING

    def use_source(self, source: BootSource | None, now: float) -> State:
        """End DHCP, and take *source* as the boot file for the next step."""
        self.end_stage(now)
        if source is None:
            return self.fail("no reply names a boot file")
        self.file, self.server = source.file, source.server
        return self.next_step(now)

    def name(self, template: str) -> str:
        """Return the name of a file, with the placeholders of *template* filled in (see Step.files)."""
        mac = self.identity.mac.hex(":")
        packed = b"" if not self.address else bytes(map(int, self.address.split(".")))
        return (
            template.replace("{file}", self.file)
            .replace("{mac}", mac)
            .replace("{mac-dashes}", mac.replace(":", "-"))
            .replace("{uuid}", self.identity.uuid)
            .replace("{address-hex}", packed.hex().upper())
            .replace("{address}", self.address)
        )

    def begin_load(self, now: float) -> State:
        """Request the file of the step that is next."""
        template = self.step.files[self._file_index]
        self.begin_stage(f"{self.program.name}: {template}", now)
        name = self.name(template)
        if self._base and "://" not in name:
            name = urljoin(self._base, name)
        if name.startswith(("http://", "https://")):
            self._base = name
            return self.begin_download("HEAD" if self.program.head else "GET", now)
        if name.startswith("tftp://"):
            host, _, name = name.removeprefix("tftp://").partition("/")
            self.server = host.partition(":")[0]
        self._probing = self.step.probe
        return self.open(name, now, probe=self.step.probe)

    def open(self, name: str, now: float, probe: bool = False) -> State:
        """Send a read request.

        :param probe: only for the size of the file; the transfer is aborted after the OACK.
        """
        self.port = (self.port + 1) % PORTS
        self._peer, self._blksize, self._windowsize = None, 512, 1
        self._received = self._acked = 0
        self._gap = False
        options = self.program.options
        if self.step.probe and not probe:
            options = tuple(option for option in options if option[0] != "tsize")
        packet = tftp.request(False, name, "octet", options)
        self.send(Datagram(packet, (self.server, TFTP_PORT), self.port), self.program.open, now)
        return State.OPENING

    def begin_download(self, method: str, now: float) -> State:
        """Begin an HTTP request."""
        self.out.append(Download(method, self._base, self.program.user_agent))
        self._probing = method == "HEAD"
        self.deadline = now + self.program.http_patience
        return State.DOWNLOADING

    def is_peer(self, sender: tuple[str, int]) -> bool:
        """Return whether *sender* is the other end of the transfer. The first answer of the server sets its port, which
        is its TID (RFC 1350 section 4)."""
        if self._peer is None and sender[0] == self.server:
            self._peer = sender
        return sender == self._peer

    def acknowledge(self, block: int, now: float) -> None:
        """Send an ACK."""
        assert self._peer is not None
        self._acked = self._received
        packet = Datagram(tftp.ack(block & 0xFFFF), self._peer, self.port)
        if self.program.repeats_ack:
            self.send(packet, self.program.ack, now)
        else:
            self.out.append(packet)
            self._waits, self._sent_count = (), 0
            self.deadline = now + sum(self.program.ack)

    def receive(self, number: int, length: int, now: float) -> State:
        """Count a block, or acknowledge again if it is not the next one.

        :param number: of the block, 16 bits.
        :param length: bytes of file in it.
        """
        expected = self._received + 1
        if number == expected & 0xFFFF:
            self._received = expected
            self._gap = False
            self.stages[-1].bytes += length
            if length < self._blksize:
                self.acknowledge(expected, now)
                return self.loaded(now)
            if expected - self._acked >= self._windowsize:
                self.acknowledge(expected, now)
            else:
                # The rest of the window is awaited as long as an answer to the ACK before it.
                self.deadline = now + (self.program.ack[0] if self.program.repeats_ack else sum(self.program.ack))
            return State.READING
        # Numbers wrap: a block counts as a later one if it is less than half of all numbers ahead, else as an old one.
        ahead = (number - expected) & 0xFFFF
        if ahead < 0x8000:
            if not self._gap and self._windowsize > 1:
                self._gap = True
                self.acknowledge(self._received, now)
        elif self.program.old_block == "ack-last":
            self.acknowledge(self._received, now)
        elif self.program.old_block == "ack-it":
            self.acknowledge(number, now)
        return State.READING

    def loaded(self, now: float) -> State:
        """Continue after a file that was loaded. A search ends with the first file that exists."""
        self.end_stage(now)

        if self.step.search:
            return self.next_step(now)
        return self.next_file(now)

    def missing(self, now: float, reason: str) -> State:
        """Continue after a file that the server does not have, or fail if the step needs it."""
        if not (self.step.search or self.step.may_be_missing):
            return self.fail(reason)
        self.end_stage(now)
        return self.next_file(now)

    def next_file(self, now: float) -> State:
        """Load the next file of the step, or begin the next step."""
        self._file_index += 1
        if self._file_index < len(self.step.files):
            return self.begin_load(now)
        return self.next_step(now)

    def abort(self, code: int, text: str) -> None:
        """Send an ERROR, which ends the transfer for the server."""
        assert self._peer is not None
        self.out.append(Datagram(tftp.error(code, text), self._peer, self.port))


_ANYWHERE = tuple(State)
"""States after a transition that can end a step: the next step may begin in any of them."""


@goes(*_ANYWHERE)
def begin(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Begin the first step."""
    return machine.next_step(now)


@goes(State.SELECTING, State.REQUESTING, State.FAILED)
def discover_again(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Choose among the offers that have come; without one that does, send the DISCOVER again or give up."""
    chosen = machine.choose(now)
    if chosen is not None:
        return chosen
    if machine.send_again(now, Broadcast(machine.discover(now))):
        return State.SELECTING
    return machine.fail("no offer that it can boot from" if machine._offers else "no offer")


@goes(State.SELECTING, State.REQUESTING)
def take_offer(machine: SimulatedMachine, argument: Message, now: float) -> State:
    """Keep the offer, and choose unless this firmware waits for more."""
    machine._offers.append(argument)
    if machine.program.selection == "slot":
        return State.SELECTING
    return machine.choose(now) or State.SELECTING


@goes(State.REQUESTING, State.FAILED)
def request_again(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Send the REQUEST again, or give up."""
    return State.REQUESTING if machine.send_again(now) else machine.fail("no ACK")


@goes(*_ANYWHERE)
def take_address(machine: SimulatedMachine, argument: Message, now: float) -> State:
    """Use the address; ask port 4011 for the boot file if the offers say so, else load it."""
    choice = machine._choice
    assert choice is not None
    if argument.yiaddr != choice.lease.yiaddr:
        return State.REQUESTING
    machine.address = argument.yiaddr
    machine.out.append(UseAddress(argument.yiaddr))
    if choice.boot_server and machine.program.boot_server:
        machine.end_stage(now)
        machine.begin_stage(f"{machine.program.name}: port 4011", now)
        machine.xid = machine._random.getrandbits(32)
        packet = messages.boot_server_request(
            machine.program, machine.identity, machine.xid, machine.address, choice.item
        )
        port = machine.program.boot_server_port
        machine.send(ToBootServer(packet, choice.boot_server, port), machine.program.boot_server, now)
        return State.BOOT_SERVER
    return machine.use_source(choice.source or boot_source(argument), now)


@goes(State.SELECTING)
def restart_dhcp(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Send a new DISCOVER: the server has refused the address."""
    machine.stages[-1].retries += 1
    machine._offers, machine._choice = [], None
    machine.send(Broadcast(machine.discover(now)), machine.program.discover, now)
    return State.SELECTING


@goes(*_ANYWHERE)
def ask_boot_server_again(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Send the request to port 4011 again; when nothing answers, go on with the file of the offers, or give up."""
    if machine.send_again(now):
        return State.BOOT_SERVER
    assert machine._choice is not None
    if machine._choice.source is not None:
        return machine.use_source(machine._choice.source, now)
    return machine.fail("no answer")


@goes(*_ANYWHERE)
def take_boot_reply(machine: SimulatedMachine, argument: Message, now: float) -> State:
    """Load the file that the boot server names."""
    source = boot_source(argument)
    return State.BOOT_SERVER if source is None else machine.use_source(source, now)


@goes(State.OPENING, State.FAILED)
def open_again(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Send the read request again, or give up."""
    return State.OPENING if machine.send_again(now) else machine.fail("no answer to the read request")


@goes(*_ANYWHERE)
def take_options(machine: SimulatedMachine, argument: tuple[tuple[str, int], tftp.OptionAck], now: float) -> State:
    """Read with the options that were agreed on; a probe or a stat() ends here."""
    sender, oack = argument
    if not machine.is_peer(sender):
        return State.OPENING
    options = {name.lower(): value for name, value in oack.options}
    machine._blksize = int(options.get("blksize", 512))
    machine._windowsize = int(options.get("windowsize", 1))
    if machine.step.stat:
        return machine.loaded(now)
    if machine._probing:
        machine._probing = False
        machine.abort(8, "User aborted the transfer")
        return machine.open(machine.name(machine.step.files[machine._file_index]), now)
    if machine.step.hesitates:
        machine.deadline = now + machine.step.hesitates
        return State.HESITATING
    machine.acknowledge(0, now)
    return State.READING


@goes(*_ANYWHERE)
def take_first_block(machine: SimulatedMachine, argument: tuple[tuple[str, int], int, int], now: float) -> State:
    """Read: the server takes no options, or this block has overtaken its OACK."""
    sender, number, length = argument
    if number != 1 or not machine.is_peer(sender):
        return State.OPENING
    if machine.step.stat:
        return machine.loaded(now)
    return machine.receive(number, length, now)


@goes(*_ANYWHERE)
def take_refusal(machine: SimulatedMachine, argument: tuple[tuple[str, int], int], now: float) -> State:
    """The file is missing, or can't be had."""
    sender, code = argument
    if not machine.is_peer(sender):
        return machine.state
    return machine.missing(now, f"error {code}")


@goes(State.READING)
def acknowledge_options(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Acknowledge the OACK at last."""
    machine.acknowledge(0, now)
    return State.READING


@goes(*_ANYWHERE)
def take_block(machine: SimulatedMachine, argument: tuple[tuple[str, int], int, int], now: float) -> State:
    """Count the block, and acknowledge it when its window is complete."""
    sender, number, length = argument
    return machine.receive(number, length, now) if sender == machine._peer else State.READING


@goes(State.READING)
def take_options_again(machine: SimulatedMachine, argument: tuple[Any, Any], now: float) -> State:
    """Acknowledge an OACK that comes again: the ACK 0 was lost."""
    if argument[0] == machine._peer and machine._received == 0:
        machine.acknowledge(0, now)
    return State.READING


@goes(State.READING, State.FAILED)
def acknowledge_again(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Send the latest ACK again, or give up."""
    if machine._received > machine._acked:  # a part of a window has come, and no more
        machine.stages[-1].retries += 1
        machine.acknowledge(machine._received, now)
        return State.READING
    return State.READING if machine.send_again(now) else machine.fail("the transfer stopped")


@goes(State.FAILED, STAY)
def take_error(machine: SimulatedMachine, argument: tuple[tuple[str, int], int], now: float) -> State:
    """The server has ended the transfer."""
    return machine.fail(f"error {argument[1]} in the transfer") if argument[0] == machine._peer else machine.state


@goes(State.DOWNLOADING)
def wait_on(machine: SimulatedMachine, argument: int, now: float) -> State:
    """Wait for more of the download."""
    machine.deadline = now + machine.program.http_patience
    return State.DOWNLOADING


@goes(*_ANYWHERE)
def take_download(machine: SimulatedMachine, argument: tuple[int, int], now: float) -> State:
    """The response is complete: the file is there, or it is missing."""
    status, size = argument
    if status != 200:
        return machine.missing(now, f"HTTP status {status}")
    if machine._probing:
        return machine.begin_download("GET", now)
    machine.stages[-1].bytes += size
    return machine.loaded(now)


@goes(State.FAILED)
def lose_download(machine: SimulatedMachine, argument: str, now: float) -> State:
    """Give up: the connection broke or could not be made."""
    return machine.fail(argument)


@goes(State.FAILED)
def give_download_up(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """Give up: nothing has come for long."""
    machine.out.append(Abandon())
    return machine.fail("the download stopped")


@goes(*_ANYWHERE)
def go_on(machine: SimulatedMachine, argument: Any, now: float) -> State:
    """The program has started: begin the next step."""
    machine.end_stage(now)
    return machine.next_step(now)


# Late and unrequested packets of a server are ignored. Inputs of the driver are illegal where they can't occur.
TABLE: Table = {
    State.OFF: {
        Input.POWER_ON: begin,
        Input.TIMER: illegal,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.SELECTING: {
        Input.POWER_ON: illegal,
        Input.TIMER: discover_again,
        Input.OFFER: take_offer,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.REQUESTING: {
        Input.POWER_ON: illegal,
        Input.TIMER: request_again,
        Input.OFFER: ignore,
        Input.ACK: take_address,
        Input.NAK: restart_dhcp,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.BOOT_SERVER: {
        Input.POWER_ON: illegal,
        Input.TIMER: ask_boot_server_again,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: take_boot_reply,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.OPENING: {
        Input.POWER_ON: illegal,
        Input.TIMER: open_again,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: take_options,
        Input.DATA: take_first_block,
        Input.ERROR: take_refusal,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.HESITATING: {
        Input.POWER_ON: illegal,
        Input.TIMER: acknowledge_options,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: take_error,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.READING: {
        Input.POWER_ON: illegal,
        Input.TIMER: acknowledge_again,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: take_options_again,
        Input.DATA: take_block,
        Input.ERROR: take_error,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.DOWNLOADING: {
        Input.POWER_ON: illegal,
        Input.TIMER: give_download_up,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: wait_on,
        Input.DOWNLOADED: take_download,
        Input.DISCONNECTED: lose_download,
    },
    State.PAUSING: {
        Input.POWER_ON: illegal,
        Input.TIMER: go_on,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.BOOTED: {
        Input.POWER_ON: illegal,
        Input.TIMER: illegal,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
    State.FAILED: {
        Input.POWER_ON: illegal,
        Input.TIMER: illegal,
        Input.OFFER: ignore,
        Input.ACK: ignore,
        Input.NAK: ignore,
        Input.BOOT_REPLY: ignore,
        Input.OACK: ignore,
        Input.DATA: ignore,
        Input.ERROR: ignore,
        Input.PROGRESS: illegal,
        Input.DOWNLOADED: illegal,
        Input.DISCONNECTED: illegal,
    },
}

check(TABLE, State, Input)
SimulatedMachine.table = TABLE
