"""Storms in virtual time: simulated machines boot from a BootService on a MemoryNetwork, for hours in seconds.

Machines load by DHCP and TFTP. A MemoryNetwork has no TCP.
"""

from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, field

from bootfw.errors import WireError
from bootfw.storm.machine import Broadcast, Datagram, Input, SimulatedMachine, State, ToBootServer, UseAddress
from bootfw.storm.messages import Identity
from bootfw.storm.program import Boot, Program
from bootfw.testing import MemoryNetwork
from bootfw.testing.network import MemoryHost
from bootfw.testing.port import BROADCAST
from bootfw.wire import dhcp4, tftp
from bootfw.wire.dhcp4 import MessageType

_KINDS = {MessageType.OFFER: Input.OFFER, MessageType.ACK: Input.ACK, MessageType.NAK: Input.NAK}
_FIRST_PORT = 40_000
"""Of TFTP; a machine has several, see bootfw.storm.machine.PORTS."""


class _Port:
    """The receiver of datagrams to one port of the machines."""

    def __init__(self, host: "VirtualStorm", address: str, port: int) -> None:
        self.host = host
        self._to = address, port

    def arrive(self, data: bytes, source: tuple[str, int], via: Any) -> None:
        self.host.arrived(data, source, *self._to)


@define(eq=False)
class _Slot:
    machine: SimulatedMachine
    over: Callable[[SimulatedMachine], None]
    timer: float | None = None


class VirtualStorm(MemoryHost):
    """All machines, as one host with all their addresses.

    :param programs: by name.
    """

    def __init__(self, network: MemoryNetwork, programs: Mapping[str, Program]) -> None:
        super().__init__(network, [], "machines", False, True)
        self._programs = programs
        self._by_mac: dict[bytes, _Slot] = {}
        self._by_address: dict[str, _Slot] = {}
        network.hosts.append(self)

    @property
    def booting(self) -> int:
        """How many machines are booting."""
        return len(self._by_mac)

    def power_on(self, identity: Identity, boot: Boot, seed: int, over: Callable[[SimulatedMachine], None]) -> None:
        """Boot a machine now, unless it is booting.

        :param over: called with it when it has booted or failed.
        """
        if identity.mac not in self._by_mac:
            slot = self._by_mac[identity.mac] = _Slot(SimulatedMachine(identity, boot, self._programs, seed=seed), over)
            self._handle(slot, Input.POWER_ON)

    # The network

    def port_for(self, address: str, port: int) -> Any:
        """See MemoryHost."""
        return _Port(self, address, port) if address == BROADCAST or address in self._by_address else None

    def arrived(self, data: bytes, source: tuple[str, int], address: str, port: int) -> None:
        """Give a datagram to the machine that it is for."""
        if port in (68, 4011):
            self._dhcp(data, source)
        elif port >= _FIRST_PORT:
            slot = self._by_address[address]
            if slot.machine.port == port - _FIRST_PORT and not slot.machine.over:
                self._tftp(slot, data, source)

    def _dhcp(self, data: bytes, source: tuple[str, int]) -> None:
        try:
            message = dhcp4.parse(data)
        except WireError:
            return
        slot = self._by_mac.get(message.chaddr)
        if slot is None or message.op != dhcp4.BOOTREPLY or message.xid != slot.machine.xid:
            return
        event = _KINDS.get(message.message_type) if message.message_type is not None else None
        if slot.machine.state is State.BOOT_SERVER and source[1] == 4011:
            event = Input.BOOT_REPLY
        if event is not None:
            self._handle(slot, event, message)

    def _tftp(self, slot: _Slot, data: bytes, source: tuple[str, int]) -> None:
        packet = tftp.parse(data)
        if isinstance(packet, tftp.Data):
            self._handle(slot, Input.DATA, (source, packet.block, len(packet.payload)))
        elif isinstance(packet, tftp.OptionAck):
            self._handle(slot, Input.OACK, (source, packet))
        elif isinstance(packet, tftp.Error):
            self._handle(slot, Input.ERROR, (source, packet.code))

    # Machines

    def _handle(self, slot: _Slot, event: Input, argument: Any = None) -> None:
        machine = slot.machine
        machine.handle(event, argument, self.seconds())
        while machine.out:
            self._do(slot, machine.out.pop(0))
        if machine.over:
            if self._by_mac.pop(machine.identity.mac, None) is not None:
                self._by_address.pop(machine.address, None)
                slot.over(machine)
        elif machine.deadline is not None and (slot.timer is None or machine.deadline < slot.timer):
            slot.timer = machine.deadline
            self.network.turn(self._timer, slot, machine.deadline, delay=machine.deadline - self.seconds())

    def _timer(self, slot: _Slot, due: float) -> None:
        machine = slot.machine
        if slot.timer != due or machine.over:
            return
        slot.timer = None
        if machine.deadline is not None and machine.deadline > due:
            slot.timer = machine.deadline
            self.network.turn(self._timer, slot, machine.deadline, delay=machine.deadline - self.seconds())
        elif machine.deadline is not None:
            self._handle(slot, Input.TIMER)

    def _do(self, slot: _Slot, out: Any) -> None:
        machine = slot.machine
        if isinstance(out, Datagram):
            self.transmit(out.data, (machine.address, _FIRST_PORT + out.port), out.peer)
        elif isinstance(out, Broadcast):
            self.transmit(out.data, ("0.0.0.0", 68), (BROADCAST, 67))
        elif isinstance(out, ToBootServer):
            self.transmit(out.data, (machine.address, out.port), (out.server, 4011))
        elif isinstance(out, UseAddress):
            self.addresses = [*(each for each in self._by_address), out.address]
            self._by_address[out.address] = slot


@define
class Tally:
    """Counts the machines that have booted, and keeps the failures of the others."""

    booted: int = 0
    failures: list[str] = field(factory=list)

    def __call__(self, machine: SimulatedMachine) -> None:
        """Count a machine that has booted or failed."""
        if machine.state is State.BOOTED:
            self.booted += 1
        else:
            self.failures.append(machine.failure)
