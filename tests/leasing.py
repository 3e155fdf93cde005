"""Clients of an AddressServer, without a network between."""

from socket import inet_aton
from typing import Any

from attrs import define, evolve, field

from bootfw.dhcp.answer import Answer, Arrival, NoReply
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType

SERVER = "10.77.0.1"
HERE = Arrival(SERVER)
TO_US = Arrival(SERVER, unicast=True)
BEGIN = 1_700_000_000.0
LEASE, FIRMWARE_LEASE = 3600.0, 600.0

OFFER, ACK, NAK = MessageType.OFFER, MessageType.ACK, MessageType.NAK
ROM = {60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"}
"""What tells boot firmware from a system."""


def subnet(**changed: Any) -> Subnet:
    """10.77.0.0/24 with a pool of .100 to .109."""
    fields = {"network": "10.77.0.0/24", "pool": ["10.77.0.100-10.77.0.109"], "router": "10.77.0.1"}
    return Subnet(**{**fields, **changed})


def server(*subnets: Subnet, **rules: Any) -> AddressServer:
    return AddressServer(subnets or (subnet(),), **rules)


def pool(count: int) -> Subnet:
    """10.77.0.0/24 with *count* addresses to give, .100 and up."""
    return subnet(pool=[f"10.77.0.100-10.77.0.{99 + count}"])


def address(answer: Answer | NoReply, kind: MessageType | None = ACK) -> str:
    """yiaddr of what has to be an answer of that kind."""
    assert isinstance(answer, Answer), answer
    assert answer.kind is kind, answer
    return answer.address


@define
class Machine:
    """One network interface, and what it says."""

    number: int
    server: AddressServer
    options: dict[int, bytes] = field(factory=dict)
    """In every message."""
    arrival: Arrival = HERE
    giaddr: str = "0.0.0.0"
    now: float = BEGIN

    def says(self, kind: int | None, options: dict[int, bytes] | None = None, **header: Any) -> Answer | NoReply:
        return self.server.handle(self.message(kind, options, **header), self.arrival, self.now)

    def message(self, kind: int | None, options: dict[int, bytes] | None = None, **header: Any) -> Message:
        fields = {"op": BOOTREQUEST, "xid": self.number, "chaddr": self.chaddr, "giaddr": self.giaddr}
        told = {} if kind is None else {53: bytes((kind,))}
        return Message(**{**fields, **header}, options={**told, **self.options, **(options or {})})

    @property
    def chaddr(self) -> bytes:
        return b"\x02\x00" + self.number.to_bytes(4, "big")

    @property
    def mac(self) -> str:
        return self.chaddr.hex(":")

    def discovers(self, wanted: str = "") -> Answer | NoReply:
        return self.says(1, {50: inet_aton(wanted)} if wanted else None)

    def selects(self, wanted: str, chosen: str = SERVER) -> Answer | NoReply:
        return self.says(3, {50: inet_aton(wanted), 54: inet_aton(chosen)})

    def restarts_with(self, wanted: str) -> Answer | NoReply:
        """INIT-REBOOT."""
        return self.says(3, {50: inet_aton(wanted)})

    def renews(self, held: str) -> Answer | NoReply:
        return self.reached_by(TO_US).says(3, ciaddr=held)

    def rebinds(self, held: str) -> Answer | NoReply:
        return self.says(3, ciaddr=held)

    def declines(self, held: str, chosen: str = SERVER) -> Answer | NoReply:
        return self.says(4, {50: inet_aton(held), 54: inet_aton(chosen)})

    def releases(self, held: str, chosen: str = SERVER) -> Answer | NoReply:
        return self.reached_by(TO_US).says(7, {54: inet_aton(chosen)}, ciaddr=held)

    def informs(self, held: str) -> Answer | NoReply:
        return self.says(8, ciaddr=held)

    def boots(self) -> str:
        """DISCOVER to ACK; the address."""
        offered = address(self.discovers(), OFFER)
        assert address(self.selects(offered)) == offered
        return offered

    def boots_and_declines(self) -> str:
        """Finds that another machine uses what it gets; the address."""
        held = self.boots()
        assert isinstance(self.declines(held), NoReply)
        return held

    def reached_by(self, arrival: Arrival) -> "Machine":
        return evolve(self, arrival=arrival)

    def after(self, seconds: float) -> "Machine":
        """The same, so much later."""
        return evolve(self, now=self.now + seconds)

    def sending(self, options: dict[int, bytes]) -> "Machine":
        """The same with other software on it."""
        return evolve(self, options=options)
