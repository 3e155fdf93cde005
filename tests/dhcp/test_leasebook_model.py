"""Both servers against one model of a lease book: clients do what they like, and no address is two clients' at once."""

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
EXCLUDED, OURS, ELSEWHERE = 102, 1, 0
ADDRESSES = (*POOL, 20, EXCLUDED, OURS, ELSEWHERE)

Key = tuple[int, bool]
"""A client: its machine, and whether that is another client while its firmware runs."""


def mac(machine: int) -> str:
    return f"02:00:00:00:00:{machine:02}"


@define
class Reply:
    """What a client makes of an answer."""

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

    def discovers(self, machine: int, rom: bool, now: float, wanted: str) -> Reply:
        return self.made_of(self.client(machine, rom, now).discovers(wanted))

    def selects(self, machine: int, rom: bool, now: float, wanted: str) -> Reply:
        return self.made_of(self.client(machine, rom, now).selects(wanted))

    def comes_back(self, machine: int, rom: bool, now: float, wanted: str, way: str) -> Reply:
        return self.made_of(getattr(self.client(machine, rom, now), way)(wanted))

    def releases(self, machine: int, rom: bool, now: float, held: str) -> Reply:
        return self.made_of(self.client(machine, rom, now).releases(held))

    def declines(self, machine: int, rom: bool, now: float, held: str) -> Reply:
        return self.made_of(self.client(machine, rom, now).declines(held))

    def made_of(self, answer: Answer | NoReply) -> Reply:
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

    def discovers(self, machine: int, rom: bool, now: float, wanted: str) -> Reply:
        reply = self.says(Type6.SOLICIT, machine, rom, now, wanted)
        assert reply.commit == ()
        assert reply == self.says(Type6.SOLICIT, machine, rom, now, wanted), "nothing has changed"
        return reply

    def selects(self, machine: int, rom: bool, now: float, wanted: str) -> Reply:
        return self.says(Type6.REQUEST, machine, rom, now, wanted)

    def comes_back(self, machine: int, rom: bool, now: float, wanted: str, way: str) -> Reply:
        return self.says(Type6.RENEW if way == "renews" else Type6.REBIND, machine, rom, now, wanted)

    def releases(self, machine: int, rom: bool, now: float, held: str) -> Reply:
        return self.says(Type6.RELEASE, machine, rom, now, held)

    def declines(self, machine: int, rom: bool, now: float, held: str) -> Reply:
        return self.says(Type6.DECLINE, machine, rom, now, held)

    def says(self, kind: Type6, machine: int, rom: bool, now: float, address: str) -> Reply:
        client = (OVMF if rom else LINUX).changed({1: b"rom %d" % machine if rom else b"system %d" % machine})
        to = () if kind in (Type6.SOLICIT, Type6.REBIND) else ((Option.SERVER_ID, self.duid),)
        named = bytes6([(5, ia_address_bytes(IAAddress(address)))]) if address else b""
        arrival = Arrival6((self.network.format(OURS),), (), mac(machine))
        answer = self.server.handle(client.message(kind, *to, ia=named), arrival, now)
        if isinstance(answer, NoReply):
            return Reply("", commit=answer.commit, reason=answer.reason)
        if not answer.address:
            return Reply("nak" if self.ends(answer) else "", commit=answer.commit, reason=answer.reason)
        kinds = {Type6.ADVERTISE: "offer", Type6.REPLY: "ack"}
        return Reply(kinds[answer.kind], answer.address, answer.commit, self.lifetime(answer))

    def lifetime(self, answer: Answer6) -> int:
        options = identity_association(first(answer.options, Option.IA_NA) or b"").options
        return ia_address(first(options, Option.IA_ADDRESS) or b"").valid

    def ends(self, answer: Answer6) -> bool:
        """The client is to stop using its address."""
        raw = first(answer.options, Option.IA_NA)
        return raw is not None and first(identity_association(raw).options, Option.IA_ADDRESS) is not None


machines = st.integers(1, 7)
addresses = st.sampled_from(ADDRESSES)
seconds = st.sampled_from([0, 1, 60, 119, 120, 601, 1800, 3599, 3600, 3601, 86400])


@define
class Fate:
    """What the model knows of an address."""

    holder: Key | None = None
    """The client that was told that it has it."""
    until: float = 0.0
    """End of the lease or of the quarantine; no other client may have it before."""
    leased: bool = False
    """It has been once."""
    offered_to: Key | None = None
    offered_until: float = 0.0
    quarantined: bool = False
    tried_from: float = 0.0
    """Of one in quarantine: when it may be given all the same if no other is left."""

    def busy_until(self) -> float:
        return max(self.until, self.offered_until)


class Clients(RuleBasedStateMachine):
    """What every client of either protocol does."""

    protocol: ClassVar[type[DHCP4 | DHCP6]]
    authoritative = False
    members: ClassVar[Mapping[int, Sequence[int]]] = {}
    """Address of the pool of a class -> the machines in the class."""

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.store: dict[str, Lease] = {}
        self.reserved = {self.text(address): machine for machine, address in RESERVED.items()}
        self.pool = [self.text(address) for address in POOL]
        self.only_for = {self.text(address): machines for address, machines in self.members.items()}
        self.extra: list[Reservation] = []
        self.fates = {self.text(address): Fate() for address in ADDRESSES}
        self.dhcp = self.started()
        self.disordered = False
        """The order in which addresses became free is not the model's any more."""

    def text(self, address: int) -> str:
        return self.protocol.network.format(address) if address else self.protocol.elsewhere

    def started(self) -> Any:
        return self.protocol(list(self.store.values()), self.extra, self.authoritative, self.members)

    # The model

    def holds(self, key: Key) -> list[str]:
        return [a for a, f in self.fates.items() if f.holder == key and f.until > self.now and not f.quarantined]

    def barred(self, address: str, machine: int) -> bool:
        """The lease or offer of another machine, or a quarantine, is in the way."""
        fate = self.fates[address]
        if fate.until > self.now and (fate.quarantined or (fate.holder is not None and fate.holder[0] != machine)):
            return True
        return fate.offered_until > self.now and fate.offered_to is not None and fate.offered_to[0] != machine

    def can_assign(self, machine: int, address: str) -> bool:
        owner = self.reserved.get(address)
        return owner == machine if owner is not None else address in self.pool_of(machine)

    def pool_of(self, machine: int) -> list[str]:
        """The addresses that the machine may have without a reservation."""
        return [address for address in self.pool if machine in self.only_for.get(address, (machine,))]

    def end_offers(self, key: Key, but: str = "") -> None:
        for address, fate in self.fates.items():
            if fate.offered_to == key and address != but:
                fate.offered_to, fate.offered_until = None, min(fate.offered_until, self.now)

    def next_free(self, machine: int) -> set[str]:
        """The addresses of which the machine gets one if it has no claim to any: those of its class first."""
        mine = self.pool_of(machine)
        of_class = [address for address in mine if address in self.only_for]
        return self.oldest_of(of_class) or self.oldest_of([address for address in mine if address not in of_class])

    def oldest_of(self, pool: Sequence[str]) -> set[str]:
        fates = {a: self.fates[a] for a in pool if a not in self.reserved}
        free = {a: f for a, f in fates.items() if f.busy_until() <= self.now}
        never = {a for a, f in free.items() if not f.leased}
        oldest = min((f.busy_until() for f in free.values()), default=0.0)
        return never or {a for a, f in free.items() if f.busy_until() == oldest}

    def last_resort(self, machine: int, address: str) -> bool:
        """It is in quarantine, and given because no address is left."""
        fate = self.fates[address]
        return not self.next_free(machine) and fate.tried_from <= self.now and fate.offered_until <= self.now

    # What the model makes of answers

    def sees(self, key: Key, reply: Reply, wanted: str = "") -> None:
        for lease in reply.commit:
            self.store[lease.address] = lease
        if reply.kind == "offer":
            self.sees_offer(key, reply.address)
        elif reply.kind == "ack" and reply.address:
            if self.protocol.offers:
                assert reply.address == wanted
            self.sees_ack(key, reply)

    def sees_address(self, key: Key, address: str) -> None:
        """It is given or offered."""
        assert self.can_assign(key[0], address)
        fate = self.fates[address]
        if fate.quarantined and fate.until > self.now:
            assert fate.offered_to == key or self.last_resort(key[0], address)
        else:
            assert not self.barred(address, key[0])

    def sees_offer(self, key: Key, address: str) -> None:
        self.sees_address(key, address)
        mine = next((a for a, machine in self.reserved.items() if machine == key[0]), None)
        if mine is not None and not self.barred(mine, key[0]):
            assert address == mine
        if self.protocol.offers:
            self.end_offers(key, but=address)
            self.fates[address].offered_to, self.fates[address].offered_until = key, self.now + 120

    def sees_ack(self, key: Key, reply: Reply) -> None:
        self.sees_address(key, reply.address)
        lease = reply.commit[0]
        assert (lease.address, lease.state) == (reply.address, LeaseState.ACTIVE)
        assert lease.expires >= self.now + reply.seconds > self.now
        if self.protocol.one_address_per_client:
            for other in self.holds(key):
                if other != reply.address:
                    self.fates[other].until = self.now
        else:
            assert len(reply.commit) == 1
        self.end_offers(key, but=reply.address)
        self.fates[reply.address] = Fate(key, lease.expires, leased=True)

    # What clients do

    @rule(machine=machines, wanted=st.none() | addresses, rom=st.booleans())
    def discovers(self, machine: int, wanted: int | None, rom: bool) -> None:
        key, now = self.dhcp.key(machine, rom), self.now
        has = self.holds(key)
        of_machine = [f for f in self.fates.values() if any(k and k[0] == machine for k in (f.holder, f.offered_to))]
        reserved = machine in self.reserved.values()
        due = self.next_free(machine) if not of_machine and wanted is None and not reserved else None
        reply = self.dhcp.discovers(machine, rom, now, "" if wanted is None else self.text(wanted))
        if not reply.kind:
            assert reply.reason is NoReplyReason.EXHAUSTED
            assert not any(self.can_assign(machine, address) for address in has)
            assert not self.next_free(machine)
            assert not any(
                self.last_resort(machine, a) for a, f in self.fates.items()
                if f.quarantined and a in self.pool_of(machine) and a not in self.reserved
            )  # fmt: skip
            return
        if due and not self.disordered:
            assert reply.address in due
        if len(has) == 1 and not reserved and self.can_assign(machine, has[0]):
            offered = [a for a, f in self.fates.items() if f.offered_to == key and f.offered_until > now]
            assert reply.address in has + offered
        self.sees(key, reply)

    @rule(machine=machines, wanted=addresses, rom=st.booleans())
    def selects(self, machine: int, wanted: int, rom: bool) -> None:
        key = self.dhcp.key(machine, rom)
        self.sees(key, self.dhcp.selects(machine, rom, self.now, self.text(wanted)), self.text(wanted))

    @rule(machine=machines, rom=st.booleans())
    def discovers_and_selects(self, machine: int, rom: bool) -> None:
        key = self.dhcp.key(machine, rom)
        offer = self.dhcp.discovers(machine, rom, self.now, "")
        self.sees(key, offer)
        if offer.kind:
            reply = self.dhcp.selects(machine, rom, self.now, offer.address)
            assert (reply.kind, reply.address) == ("ack", offer.address)
            self.sees(key, reply, offer.address)

    @rule(
        machine=machines,
        wanted=addresses,
        way=st.sampled_from(["restarts_with", "renews", "rebinds"]),
        rom=st.booleans(),
    )
    def comes_back(self, machine: int, wanted: int, way: str, rom: bool) -> None:
        if way == "renews" and wanted == ELSEWHERE:
            return  # It would come from elsewhere.
        key, address = self.dhcp.key(machine, rom), self.text(wanted)
        reserved = machine in self.reserved.values()
        holds = self.holds(key) == [address] and self.can_assign(machine, address) and not reserved
        reply = self.dhcp.comes_back(machine, rom, self.now, address, way)
        if holds:
            assert (reply.kind, reply.address) == ("ack", address)
        self.sees(key, reply, address)

    @rule(machine=machines, held=addresses, rom=st.booleans())
    def releases(self, machine: int, held: int, rom: bool) -> None:
        key, address = self.dhcp.key(machine, rom), self.text(held)
        reply = self.dhcp.releases(machine, rom, self.now, address)
        self.sees(key, reply)
        if reply.commit:
            assert self.fates[address].holder == key
            self.fates[address].until = min(self.now, self.fates[address].until)
        elif self.protocol.one_address_per_client:
            assert address not in self.holds(key)

    @rule(machine=machines, held=addresses, rom=st.booleans())
    def declines(self, machine: int, held: int, rom: bool) -> None:
        key, address = self.dhcp.key(machine, rom), self.text(held)
        fate = self.fates[address]
        reply = self.dhcp.declines(machine, rom, self.now, address)
        self.sees(key, reply)
        if reply.commit:
            assert key in (fate.holder, fate.offered_to)
            self.begins_quarantine(address, self.now)
            for lease in reply.commit[1:]:
                ended = self.fates[lease.address]
                ended.until, ended.quarantined = min(self.now, ended.until), False
        mine = [a for a, each in self.store.items() if each.state is LeaseState.DECLINED and declined_by(each, key)]
        assert len(mine) <= 3

    def begins_quarantine(self, address: str, tried_from: float) -> None:
        until = self.now + 3600
        self.fates[address] = Fate(until=until, leased=True, quarantined=True, tried_from=tried_from)

    # What else happens

    @rule(later=seconds)
    def time_passes(self, later: float) -> None:
        self.now += later

    @rule()
    def server_restarts(self) -> None:
        self.dhcp = self.started()
        self.disordered = True
        for fate in self.fates.values():
            fate.offered_to, fate.offered_until = None, 0.0

    @precondition(lambda self: not self.extra)
    @rule(machine=st.integers(1, 4), address=st.sampled_from(POOL[:3]))
    def operator_reserves(self, machine: int, address: int) -> None:
        reservation = Reservation(address=self.text(address), mac=mac(machine))
        self.extra.append(reservation)
        self.dhcp.server.reserve(reservation)
        self.reserved[reservation.address] = machine
        assert reservation in list(self.dhcp.server.reservations())

    @precondition(lambda self: self.extra)
    @rule()
    def operator_unreserves(self) -> None:
        reservation = self.extra.pop()
        self.dhcp.server.unreserve(evolve(reservation))
        del self.reserved[reservation.address]
        assert reservation not in list(self.dhcp.server.reservations())
        self.disordered = True

    @rule(address=addresses)
    def operator_releases(self, address: int) -> None:
        for lease in self.dhcp.server.release(self.text(address), self.now):
            self.store[lease.address] = lease
            fate = self.fates[lease.address]
            fate.until, fate.quarantined = min(self.now, fate.until), False

    @invariant()
    def what_is_stored_is_what_is_known(self) -> None:
        assert {lease.address: lease for lease in self.dhcp.server.leases()} == self.store

    @invariant()
    def our_own_address_is_no_clients(self) -> None:
        assert self.text(OURS) not in self.store

    @invariant()
    def free_addresses_are_counted(self) -> None:
        (book,) = self.dhcp.server.books
        busy = sum(self.fates[address].busy_until() > self.now for address in self.pool)
        assert 0 <= book.free() <= len(self.pool) - busy


def declined_by(lease: Lease, key: Key) -> bool:
    machine, rom = key
    return lease.client_id == (b"rom %d" if rom else b"system %d") % machine or lease.mac == mac(machine) != ""


class Clients4(Clients):
    """What DHCPv4 has beside that: offers are kept, and probed."""

    protocol = DHCP4

    @rule(machine=machines, rom=st.booleans())
    def selects_what_it_was_offered(self, machine: int, rom: bool) -> None:
        key = (machine, False)
        for address, fate in self.fates.items():
            if fate.offered_to == key and fate.offered_until > self.now:
                reply = self.dhcp.selects(machine, rom, self.now, address)
                if self.can_assign(machine, address) and machine not in self.reserved.values():
                    assert reply.kind == "ack"
                self.sees(key, reply, address)
                return

    @rule(machine=machines)
    def selects_another_server(self, machine: int) -> None:
        answer = self.dhcp.client(machine, False, self.now).selects("192.0.2.9", chosen="192.0.2.1")
        assert isinstance(answer, NoReply)
        assert answer.commit == ()
        self.end_offers((machine, False))

    @rule(machine=machines)
    def is_probed_and_another_machine_replies(self, machine: int) -> None:
        for address, fate in self.fates.items():
            if fate.offered_to == (machine, False) and fate.offered_until > self.now:
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
fewer: Any = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestClients4OfAClass = Clients4OfAClass.TestCase
TestClients4OfAClass.settings = fewer
TestClients6OfAClass = Clients6OfAClass.TestCase
TestClients6OfAClass.settings = fewer
assert Clients4.protocol.network.format(OURS) == SERVER


def test_address_released_twice_keeps_its_position() -> None:
    state = Clients6()
    state.discovers_and_selects(machine=3, rom=False)
    state.operator_releases(address=103)
    state.discovers_and_selects(machine=1, rom=False)
    state.discovers_and_selects(machine=2, rom=False)
    state.time_passes(later=3600)
    state.operator_releases(address=103)
    state.declines(held=100, machine=1, rom=False)
    state.discovers(machine=1, rom=False, wanted=None)
    state.teardown()


def test_an_expired_lease_that_is_released_keeps_the_position_of_its_address() -> None:
    state = Clients6()
    state.selects(machine=3, rom=False, wanted=101)
    state.time_passes(later=3601)
    state.discovers_and_selects(machine=2, rom=False)
    state.operator_releases(address=103)
    state.operator_releases(address=101)
    state.discovers_and_selects(machine=1, rom=False)
    state.discovers(machine=4, rom=False, wanted=None)
    state.teardown()


def test_a_client_with_two_leases_keeps_the_other_one_when_the_later_one_is_released() -> None:
    state = Clients6()
    state.discovers_and_selects(machine=1, rom=True)
    state.operator_reserves(address=100, machine=1)
    state.discovers_and_selects(machine=1, rom=True)
    state.operator_unreserves()
    state.operator_releases(address=100)
    state.discovers(machine=1, rom=True, wanted=None)
    state.teardown()
