"""Clients of an AddressServer, which they call without a network."""

from socket import inet_aton
from typing import Any

from attrs import define, evolve, field

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Subnet
from bootfw.wire.dhcp4 import BOOTREQUEST, Message, MessageType

SERVER = "10.77.0.1"
BY_BROADCAST = Arrival(SERVER)
BY_UNICAST = Arrival(SERVER, unicast=True)
BEGIN = 1_700_000_000.0
LEASE, FIRMWARE_LEASE = 3600.0, 600.0

OFFER, ACK, NAK = MessageType.OFFER, MessageType.ACK, MessageType.NAK
ROM = {60: b"PXEClient:Arch:00000:UNDI:002001", 93: b"\0\0"}
"""Options by which boot firmware is told from an operating system."""


def subnet(**changed: Any) -> Subnet:
    """10.77.0.0/24 with a pool of .100 to .109."""
    fields = {"network": "10.77.0.0/24", "pool": ["10.77.0.100-10.77.0.109"], "router": "10.77.0.1"}
    return Subnet(**{**fields, **changed})


def server(*subnets: Subnet, **rules: Any) -> AddressServer:
    return AddressServer(subnets or (subnet(),), **rules)


def pool(count: int) -> Subnet:
    """10.77.0.0/24 with a pool of *count* addresses, .100 and up."""
    return subnet(pool=[f"10.77.0.100-10.77.0.{99 + count}"])


def no_reply_reason(answer: object) -> NoReplyReason:
    """Why a message got no reply, of which *answer* is the decision."""
    assert isinstance(answer, NoReply), answer
    return answer.reason


def address(answer: Answer | NoReply, kind: MessageType | None = ACK) -> str:
    """yiaddr of an answer, which must be of that kind."""
    assert isinstance(answer, Answer), answer
    assert answer.kind is kind, answer
    return answer.address


@define
class Machine:
    """A DHCP client: one network interface, and the messages that it sends."""

    number: int
    server: AddressServer
    options: dict[int, bytes] = field(factory=dict)
    """Those of every message."""
    arrival: Arrival = BY_BROADCAST
    giaddr: str = "0.0.0.0"
    now: float = BEGIN

    def send(self, kind: int | None, options: dict[int, bytes] | None = None, **header: Any) -> Answer | NoReply:
        return self.server.handle(self.message(kind, options, **header), self.arrival, self.now)

    def message(self, kind: int | None, options: dict[int, bytes] | None = None, **header: Any) -> Message:
        fields = {"op": BOOTREQUEST, "xid": self.number, "chaddr": self.chaddr, "giaddr": self.giaddr}
        message_type = {} if kind is None else {53: bytes((kind,))}
        return Message(**{**fields, **header}, options={**message_type, **self.options, **(options or {})})

    @property
    def chaddr(self) -> bytes:
        return b"\x02\x00" + self.number.to_bytes(4, "big")

    @property
    def mac(self) -> str:
        return self.chaddr.hex(":")

    def discovers(self, requested: str = "") -> Answer | NoReply:
        return self.send(1, {50: inet_aton(requested)} if requested else None)

    def selects(self, requested: str, server_id: str = SERVER) -> Answer | NoReply:
        return self.send(3, {50: inet_aton(requested), 54: inet_aton(server_id)})

    def restarts_with(self, requested: str) -> Answer | NoReply:
        """Send the REQUEST of a client in INIT-REBOOT."""
        return self.send(3, {50: inet_aton(requested)})

    def renews(self, leased: str) -> Answer | NoReply:
        return self.reached_by(BY_UNICAST).send(3, ciaddr=leased)

    def rebinds(self, leased: str) -> Answer | NoReply:
        return self.send(3, ciaddr=leased)

    def declines(self, leased: str, server_id: str = SERVER) -> Answer | NoReply:
        return self.send(4, {50: inet_aton(leased), 54: inet_aton(server_id)})

    def releases(self, leased: str, server_id: str = SERVER) -> Answer | NoReply:
        return self.reached_by(BY_UNICAST).send(7, {54: inet_aton(server_id)}, ciaddr=leased)

    def informs(self, leased: str) -> Answer | NoReply:
        return self.send(8, ciaddr=leased)

    def get_lease(self) -> str:
        """Get a lease, from DISCOVER to ACK; its address."""
        offered = address(self.discovers(), OFFER)
        assert address(self.selects(offered)) == offered
        return offered

    def get_lease_and_decline(self) -> str:
        """Get a lease, and find its address in use by another machine; the address."""
        leased = self.get_lease()
        assert isinstance(self.declines(leased), NoReply)
        return leased

    def reached_by(self, arrival: Arrival) -> "Machine":
        return evolve(self, arrival=arrival)

    def after(self, seconds: float) -> "Machine":
        """The same machine, some seconds later."""
        return evolve(self, now=self.now + seconds)

    def sending(self, options: dict[int, bytes]) -> "Machine":
        """The same machine with other software on it."""
        return evolve(self, options=options)
