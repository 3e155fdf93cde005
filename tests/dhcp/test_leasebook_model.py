"""Both servers against one model of a lease book: whatever clients send, no address belongs to two of them at once."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from attrs import define, evolve
from firmware6 import LINUX, OVMF
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from leasing import BEGIN, ROM, SERVER, Machine

from bootfw.dhcp.answer import Answer, Answer6, Arrival6, NoReply, NoReplyReason
from bootfw.dhcp.hostclass import HostClass, HostClass6
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.wire.dhcp4 import MessageType as Type4
from bootfw.wire.dhcp6 import MessageType as Type6
from bootfw.wire.options6 import IAAddress, Option, first, ia_address, ia_address_bytes, identity_association
from bootfw.wire.options6 import options_bytes as bytes6

POOL = (100, 101, 103, 104)
"""Last parts of addresses, without .102, which is excluded."""
RESERVED = {5: 104, 6: 20}
"""Machine -> its address, in the pool or not."""
EXCLUDED, OUR_ADDRESS, ELSEWHERE = 102, 1, 0
ADDRESSES = (*POOL, 20, EXCLUDED, OUR_ADDRESS, ELSEWHERE)

Key = tuple[int, bool]
"""A client: its machine, and whether that is another client while its firmware runs."""


def mac(machine: int) -> str:
    return f"02:00:00:00:00:{machine:02}"


@define
class Reply:
    """An answer as the client understands it, the same for both protocols."""

    kind: str
    """ "offer", "ack", "nak", or "" when there is no answer or one without an address."""
    address: str = ""
    commit: Sequence[Lease] = ()
    seconds: int = 0
    """The lease time that the client is told."""
    reason: NoReplyReason | None = None


class DHCP4:
    """Clients of DHCPv4. A machine is one client; an offer is kept for it."""

    offers = True
    one_address_per_client = True
    network, elsewhere = "10.77.0.{}", "10.78.0.5"
    subnet = Subnet(
        network="10.77.0.0/24",
        pool=["10.77.0.100-10.77.0.104"],
        exclude=["10.77.0.102"],
        hosts=[Host(address=f"10.77.0.{address}", mac=mac(machine)) for machine, address in RESERVED.items()],
    )

    def __init__(
        self,
        leases: Sequence[Lease],
        reservations: Sequence[Reservation],
        authoritative: bool,
        members: Mapping[int, Sequence[int]],
    ) -> None:
        classes = [
            HostClass(mac=[mac(machine) for machine in machines], pool=[f"10.77.0.{address}"])
            for address, machines in members.items()
        ]
        self.server = AddressServer([self.subnet], leases, reservations, authoritative=authoritative, classes=classes)

    def key(self, machine: int, rom: bool) -> Key:
        return machine, False

    def client(self, machine: int, rom: bool, now: float) -> Machine:
        return Machine(machine, self.server, now=now, options=ROM if rom else {})

    def discovers(self, machine: int, rom: bool, now: float, requested: str) -> Reply:
        return self.reply_from(self.client(machine, rom, now).discovers(requested))

    def selects(self, machine: int, rom: bool, now: float, requested: str) -> Reply:
        return self.reply_from(self.client(machine, rom, now).selects(requested))

    def reuses_address(self, machine: int, rom: bool, now: float, requested: str, message: str) -> Reply:
        return self.reply_from(getattr(self.client(machine, rom, now), message)(requested))

    def releases(self, machine: int, rom: bool, now: float, address: str) -> Reply:
        return self.reply_from(self.client(machine, rom, now).releases(address))

    def declines(self, machine: int, rom: bool, now: float, address: str) -> Reply:
        return self.reply_from(self.client(machine, rom, now).declines(address))

    def reply_from(self, answer: Answer | NoReply) -> Reply:
        if isinstance(answer, NoReply):
            return Reply("", commit=answer.commit, reason=answer.reason)
        kinds = {Type4.OFFER: "offer", Type4.ACK: "ack", Type4.NAK: "nak"}
        seconds = int.from_bytes(answer.options.get(51, b""), "big")
        assert answer.kind is not None
        return Reply(kinds[answer.kind], answer.address, answer.commit, seconds)


class DHCP6:
    """Clients of DHCPv6. The firmware and the system of a machine are two clients; nothing is kept by an offer."""

    offers = False
    one_address_per_client = False
    network, elsewhere = "fd77::{}", "fd78::5"
    duid = b"\0\3\0\1RT\0\0\0\1"
    subnet = Subnet6(
        network="fd77::/64",
        pool=["fd77::100-fd77::104"],
        exclude=["fd77::102"],
        hosts=[Host6(address=f"fd77::{address}", mac=mac(machine)) for machine, address in RESERVED.items()],
    )

    def __init__(
        self,
        leases: Sequence[Lease],
        reservations: Sequence[Reservation],
        authoritative: bool,
        members: Mapping[int, Sequence[int]],
    ) -> None:
        classes = [
            HostClass6(mac=[mac(machine) for machine in machines], pool=[f"fd77::{address}"])
            for address, machines in members.items()
        ]
        self.server = AddressServer6([self.subnet], self.duid, classes=classes)
        for lease in leases:
            assert self.server.restore(lease)
        for reservation in reservations:
            self.server.reserve(reservation)

    def key(self, machine: int, rom: bool) -> Key:
        return machine, rom

    def discovers(self, machine: int, rom: bool, now: float, requested: str) -> Reply:
        reply = self.send(Type6.SOLICIT, machine, rom, now, requested)
        assert reply.commit == ()
        assert reply == self.send(Type6.SOLICIT, machine, rom, now, requested), "nothing has changed"
        return reply

    def selects(self, machine: int, rom: bool, now: float, requested: str) -> Reply:
        return self.send(Type6.REQUEST, machine, rom, now, requested)

    def reuses_address(self, machine: int, rom: bool, now: float, requested: str, message: str) -> Reply:
        return self.send(Type6.RENEW if message == "renews" else Type6.REBIND, machine, rom, now, requested)

    def releases(self, machine: int, rom: bool, now: float, address: str) -> Reply:
        return self.send(Type6.RELEASE, machine, rom, now, address)

    def declines(self, machine: int, rom: bool, now: float, address: str) -> Reply:
        return self.send(Type6.DECLINE, machine, rom, now, address)

    def send(self, kind: Type6, machine: int, rom: bool, now: float, address: str) -> Reply:
        client = (OVMF if rom else LINUX).changed({1: b"rom %d" % machine if rom else b"system %d" % machine})
        server_id = () if kind in (Type6.SOLICIT, Type6.REBIND) else ((Option.SERVER_ID, self.duid),)
        ia_addresses = bytes6([(5, ia_address_bytes(IAAddress(address)))]) if address else b""
        arrival = Arrival6((self.network.format(OUR_ADDRESS),), (), mac(machine))
        answer = self.server.handle(client.message(kind, *server_id, ia=ia_addresses), arrival, now)
        if isinstance(answer, NoReply):
            return Reply("", commit=answer.commit, reason=answer.reason)
        if not answer.address:
            return Reply("nak" if self.is_withdrawn(answer) else "", commit=answer.commit, reason=answer.reason)
        kinds = {Type6.ADVERTISE: "offer", Type6.REPLY: "ack"}
        return Reply(kinds[answer.kind], answer.address, answer.commit, self.lifetime(answer))

    def lifetime(self, answer: Answer6) -> int:
        options = identity_association(first(answer.options, Option.IA_NA) or b"").options
        return ia_address(first(options, Option.IA_ADDRESS) or b"").valid

    def is_withdrawn(self, answer: Answer6) -> bool:
        """Whether the client has to stop using its address."""
        raw = first(answer.options, Option.IA_NA)
        return raw is not None and first(identity_association(raw).options, Option.IA_ADDRESS) is not None


machines = st.integers(1, 7)
addresses = st.sampled_from(ADDRESSES)
seconds = st.sampled_from([0, 1, 60, 119, 120, 601, 1800, 3599, 3600, 3601, 86400])


@define
class AddressState:
    """What the model knows of an address."""

    holder: Key | None = None
    """The client that was told that it has it."""
    until: float = 0.0
    """End of the lease or of the quarantine; no other client may have it before."""
    leased: bool = False
    """It has been leased before, or is leased now."""
    offered_to: Key | None = None
    offered_until: float = 0.0
    quarantined: bool = False
    tried_from: float = 0.0
    """For an address in quarantine: the time from which it may be leased if no other is left."""

    def busy_until(self) -> float:
        return max(self.until, self.offered_until)


class Clients(RuleBasedStateMachine):
    """The rules for clients of either protocol, and the model of the addresses."""

    protocol: ClassVar[type[DHCP4 | DHCP6]]
    authoritative = False
    members: ClassVar[Mapping[int, Sequence[int]]] = {}
    """Address of the pool of a class -> the machines in the class."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.store: dict[str, Lease] = {}
        self.reserved = {self.address_text(address): machine for machine, address in RESERVED.items()}
        self.pool = [self.address_text(address) for address in POOL]
        self.class_members = {self.address_text(address): machines for address, machines in self.members.items()}
        self.extra_reservations: list[Reservation] = []
        self.states = {self.address_text(address): AddressState() for address in ADDRESSES}
        self.dhcp = self.new_server()
        self.order_unknown = False
        """The model no longer knows the order in which the server will assign free addresses."""

    def address_text(self, address: int) -> str:
        return self.protocol.network.format(address) if address else self.protocol.elsewhere

    def new_server(self) -> Any:
        return self.protocol(list(self.store.values()), self.extra_reservations, self.authoritative, self.members)

    # The model

    def leased_to(self, key: Key) -> list[str]:
        """The addresses with a current lease of the client."""
        return [a for a, s in self.states.items() if s.holder == key and s.until > self.now and not s.quarantined]

    def is_blocked(self, address: str, machine: int) -> bool:
        """Whether a lease or an offer of another machine or a quarantine keeps the machine from the address."""
        state = self.states[address]
        if state.until > self.now and (state.quarantined or (state.holder is not None and state.holder[0] != machine)):
            return True
        return state.offered_until > self.now and state.offered_to is not None and state.offered_to[0] != machine

    def can_assign(self, machine: int, address: str) -> bool:
        """Whether the address is reserved for the machine, or in its pool and not reserved for another one."""
        owner = self.reserved.get(address)
        return owner == machine if owner is not None else address in self.pool_of(machine)

    def pool_of(self, machine: int) -> list[str]:
        """The addresses that the machine may have without a reservation."""
        return [address for address in self.pool if machine in self.class_members.get(address, (machine,))]

    def end_offers(self, key: Key, except_for: str = "") -> None:
        """End the offers to the client, but not that of the address *except_for*."""
        for address, state in self.states.items():
            if state.offered_to == key and address != except_for:
                state.offered_to, state.offered_until = None, min(state.offered_until, self.now)

    def next_free(self, machine: int) -> set[str]:
        """The addresses of which the machine gets one if it has no claim to any: those of its class first."""
        own_pool = self.pool_of(machine)
        of_class = [address for address in own_pool if address in self.class_members]
        return self.oldest_of(of_class) or self.oldest_of([address for address in own_pool if address not in of_class])

    def oldest_of(self, pool: Sequence[str]) -> set[str]:
        """The free addresses that were never leased, or else those that became free first."""
        states = {a: self.states[a] for a in pool if a not in self.reserved}
        free_states = {a: s for a, s in states.items() if s.busy_until() <= self.now}
        never_leased = {a for a, s in free_states.items() if not s.leased}
        oldest = min((s.busy_until() for s in free_states.values()), default=0.0)
        return never_leased or {a for a, s in free_states.items() if s.busy_until() == oldest}

    def last_resort(self, machine: int, address: str) -> bool:
        """Whether the address may be leased in its quarantine, because no other is left."""
        state = self.states[address]
        return not self.next_free(machine) and state.tried_from <= self.now and state.offered_until <= self.now

    # How answers change the model

    def note_reply(self, key: Key, reply: Reply, requested: str = "") -> None:
        """Check a reply, and enter it in the model and the store."""
        for lease in reply.commit:
            self.store[lease.address] = lease
        if reply.kind == "offer":
            self.note_offer(key, reply.address)
        elif reply.kind == "ack" and reply.address:
            if self.protocol.offers:
                assert reply.address == requested
            self.note_ack(key, reply)

    def check_address(self, key: Key, address: str) -> None:
        """Check that the address may be leased or offered to the client."""
        assert self.can_assign(key[0], address)
        state = self.states[address]
        if state.quarantined and state.until > self.now:
            assert state.offered_to == key or self.last_resort(key[0], address)
        else:
            assert not self.is_blocked(address, key[0])

    def note_offer(self, key: Key, address: str) -> None:
        self.check_address(key, address)
        reserved = next((a for a, machine in self.reserved.items() if machine == key[0]), None)
        if reserved is not None and not self.is_blocked(reserved, key[0]):
            assert address == reserved
        if self.protocol.offers:
            self.end_offers(key, except_for=address)
            self.states[address].offered_to, self.states[address].offered_until = key, self.now + 120

    def note_ack(self, key: Key, reply: Reply) -> None:
        self.check_address(key, reply.address)
        lease = reply.commit[0]
        assert (lease.address, lease.state) == (reply.address, LeaseState.ACTIVE)
        assert lease.expires >= self.now + reply.seconds > self.now
        if self.protocol.one_address_per_client:
            for other in self.leased_to(key):
                if other != reply.address:
                    self.states[other].until = self.now
        else:
            assert len(reply.commit) == 1
        self.end_offers(key, except_for=reply.address)
        self.states[reply.address] = AddressState(key, lease.expires, leased=True)

    # What clients do

    @rule(machine=machines, requested=st.none() | addresses, rom=st.booleans())
    def discovers(self, machine: int, requested: int | None, rom: bool) -> None:
        key, now = self.dhcp.key(machine, rom), self.now
        leased = self.leased_to(key)
        of_machine = [s for s in self.states.values() if any(k and k[0] == machine for k in (s.holder, s.offered_to))]
        reserved = machine in self.reserved.values()
        next_addresses = self.next_free(machine) if not of_machine and requested is None and not reserved else None
        reply = self.dhcp.discovers(machine, rom, now, "" if requested is None else self.address_text(requested))
        if not reply.kind:
            assert reply.reason is NoReplyReason.EXHAUSTED
            assert not any(self.can_assign(machine, address) for address in leased)
            assert not self.next_free(machine)
            assert not any(
                self.last_resort(machine, a) for a, s in self.states.items()
                if s.quarantined and a in self.pool_of(machine) and a not in self.reserved
            )  # fmt: skip
            return
        if next_addresses and not self.order_unknown:
            assert reply.address in next_addresses
        if len(leased) == 1 and not reserved and self.can_assign(machine, leased[0]):
            offered = [a for a, s in self.states.items() if s.offered_to == key and s.offered_until > now]
            assert reply.address in leased + offered
        self.note_reply(key, reply)

    @rule(machine=machines, requested=addresses, rom=st.booleans())
    def selects(self, machine: int, requested: int, rom: bool) -> None:
        key = self.dhcp.key(machine, rom)
        self.note_reply(
            key, self.dhcp.selects(machine, rom, self.now, self.address_text(requested)), self.address_text(requested)
        )

    @rule(machine=machines, rom=st.booleans())
    def discovers_and_selects(self, machine: int, rom: bool) -> None:
        key = self.dhcp.key(machine, rom)
        offer = self.dhcp.discovers(machine, rom, self.now, "")
        self.note_reply(key, offer)
        if offer.kind:
            reply = self.dhcp.selects(machine, rom, self.now, offer.address)
            assert (reply.kind, reply.address) == ("ack", offer.address)
            self.note_reply(key, reply, offer.address)

    @rule(
        machine=machines,
        requested=addresses,
        message=st.sampled_from(["restarts_with", "renews", "rebinds"]),
        rom=st.booleans(),
    )
    def reuses_address(self, machine: int, requested: int, message: str, rom: bool) -> None:
        if message == "renews" and requested == ELSEWHERE:
            return  # It would come from elsewhere.
        key, address = self.dhcp.key(machine, rom), self.address_text(requested)
        reserved = machine in self.reserved.values()
        has_lease = self.leased_to(key) == [address] and self.can_assign(machine, address) and not reserved
        reply = self.dhcp.reuses_address(machine, rom, self.now, address, message)
        if has_lease:
            assert (reply.kind, reply.address) == ("ack", address)
        self.note_reply(key, reply, address)

    @rule(machine=machines, last_part=addresses, rom=st.booleans())
    def releases(self, machine: int, last_part: int, rom: bool) -> None:
        key, address = self.dhcp.key(machine, rom), self.address_text(last_part)
        reply = self.dhcp.releases(machine, rom, self.now, address)
        self.note_reply(key, reply)
        if reply.commit:
            assert self.states[address].holder == key
            self.states[address].until = min(self.now, self.states[address].until)
        elif self.protocol.one_address_per_client:
            assert address not in self.leased_to(key)

    @rule(machine=machines, last_part=addresses, rom=st.booleans())
    def declines(self, machine: int, last_part: int, rom: bool) -> None:
        key, address = self.dhcp.key(machine, rom), self.address_text(last_part)
        state = self.states[address]
        reply = self.dhcp.declines(machine, rom, self.now, address)
        self.note_reply(key, reply)
        if reply.commit:
            assert key in (state.holder, state.offered_to)
            self.begins_quarantine(address, self.now)
            for lease in reply.commit[1:]:
                ended = self.states[lease.address]
                ended.until, ended.quarantined = min(self.now, ended.until), False
        declined = [a for a, each in self.store.items() if each.state is LeaseState.DECLINED and declined_by(each, key)]
        assert len(declined) <= 3

    def begins_quarantine(self, address: str, tried_from: float) -> None:
        until = self.now + 3600
        self.states[address] = AddressState(until=until, leased=True, quarantined=True, tried_from=tried_from)

    # What else happens

    @rule(elapsed=seconds)
    def time_passes(self, elapsed: float) -> None:
        self.now += elapsed

    @rule()
    def server_restarts(self) -> None:
        self.dhcp = self.new_server()
        self.order_unknown = True
        for state in self.states.values():
            state.offered_to, state.offered_until = None, 0.0

    @precondition(lambda self: not self.extra_reservations)
    @rule(machine=st.integers(1, 4), address=st.sampled_from(POOL[:3]))
    def operator_reserves(self, machine: int, address: int) -> None:
        reservation = Reservation(address=self.address_text(address), mac=mac(machine))
        self.extra_reservations.append(reservation)
        self.dhcp.server.reserve(reservation)
        self.reserved[reservation.address] = machine
        assert reservation in list(self.dhcp.server.reservations())

    @precondition(lambda self: self.extra_reservations)
    @rule()
    def operator_unreserves(self) -> None:
        reservation = self.extra_reservations.pop()
        self.dhcp.server.unreserve(evolve(reservation))
        del self.reserved[reservation.address]
        assert reservation not in list(self.dhcp.server.reservations())
        self.order_unknown = True

    @rule(address=addresses)
    def operator_releases(self, address: int) -> None:
        for lease in self.dhcp.server.release(self.address_text(address), self.now):
            self.store[lease.address] = lease
            state = self.states[lease.address]
            state.until, state.quarantined = min(self.now, state.until), False

    @invariant()
    def stored_leases_are_those_of_the_server(self) -> None:
        assert {lease.address: lease for lease in self.dhcp.server.leases()} == self.store

    @invariant()
    def own_address_is_not_leased(self) -> None:
        assert self.address_text(OUR_ADDRESS) not in self.store

    @invariant()
    def free_addresses_are_counted(self) -> None:
        (book,) = self.dhcp.server.books
        busy = sum(self.states[address].busy_until() > self.now for address in self.pool)
        assert 0 <= book.free() <= len(self.pool) - busy


def declined_by(lease: Lease, key: Key) -> bool:
    machine, rom = key
    return lease.client_id == (b"rom %d" if rom else b"system %d") % machine or lease.mac == mac(machine) != ""


class Clients4(Clients):
    """The rules that only DHCPv4 has: offers are kept and probed."""

    protocol = DHCP4

    @rule(machine=machines, rom=st.booleans())
    def selects_what_it_was_offered(self, machine: int, rom: bool) -> None:
        key = (machine, False)
        for address, state in self.states.items():
            if state.offered_to == key and state.offered_until > self.now:
                reply = self.dhcp.selects(machine, rom, self.now, address)
                if self.can_assign(machine, address) and machine not in self.reserved.values():
                    assert reply.kind == "ack"
                self.note_reply(key, reply, address)
                return

    @rule(machine=machines)
    def selects_another_server(self, machine: int) -> None:
        answer = self.dhcp.client(machine, False, self.now).selects("192.0.2.9", server_id="192.0.2.1")
        assert isinstance(answer, NoReply)
        assert answer.commit == ()
        self.end_offers((machine, False))

    @rule(machine=machines)
    def is_probed_and_another_machine_replies(self, machine: int) -> None:
        for address, state in self.states.items():
            if state.offered_to == (machine, False) and state.offered_until > self.now:
                for lease in self.dhcp.server.probe_finished(address, True, self.now):
                    self.store[lease.address] = lease
                self.begins_quarantine(address, self.now + 60)
                return


class Clients4OfTheOnlyServer(Clients4):
    authoritative = True


class Clients6(Clients):
    protocol = DHCP6


class Clients4OfAClass(Clients4):
    members: ClassVar[Mapping[int, Sequence[int]]] = {103: (3, 4)}


class Clients6OfAClass(Clients6):
    members: ClassVar[Mapping[int, Sequence[int]]] = {103: (3, 4)}


limits: Any = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestClients4 = Clients4.TestCase
TestClients4.settings = limits
TestClients4OfTheOnlyServer = Clients4OfTheOnlyServer.TestCase
TestClients4OfTheOnlyServer.settings = limits
TestClients6 = Clients6.TestCase
TestClients6.settings = limits
fewer_examples: Any = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestClients4OfAClass = Clients4OfAClass.TestCase
TestClients4OfAClass.settings = fewer_examples
TestClients6OfAClass = Clients6OfAClass.TestCase
TestClients6OfAClass.settings = fewer_examples
assert Clients4.protocol.network.format(OUR_ADDRESS) == SERVER


def test_address_released_twice_keeps_its_position() -> None:
    state = Clients6()
    state.discovers_and_selects(machine=3, rom=False)
    state.operator_releases(address=103)
    state.discovers_and_selects(machine=1, rom=False)
    state.discovers_and_selects(machine=2, rom=False)
    state.time_passes(elapsed=3600)
    state.operator_releases(address=103)
    state.declines(last_part=100, machine=1, rom=False)
    state.discovers(machine=1, rom=False, requested=None)
    state.teardown()


def test_an_expired_lease_that_is_released_keeps_the_position_of_its_address() -> None:
    state = Clients6()
    state.selects(machine=3, rom=False, requested=101)
    state.time_passes(elapsed=3601)
    state.discovers_and_selects(machine=2, rom=False)
    state.operator_releases(address=103)
    state.operator_releases(address=101)
    state.discovers_and_selects(machine=1, rom=False)
    state.discovers(machine=4, rom=False, requested=None)
    state.teardown()


def test_a_client_with_two_leases_keeps_the_other_one_when_the_later_one_is_released() -> None:
    state = Clients6()
    state.discovers_and_selects(machine=1, rom=True)
    state.operator_reserves(address=100, machine=1)
    state.discovers_and_selects(machine=1, rom=True)
    state.operator_unreserves()
    state.operator_releases(address=100)
    state.discovers(machine=1, rom=True, requested=None)
    state.teardown()
