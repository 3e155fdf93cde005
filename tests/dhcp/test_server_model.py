"""The server against a model: clients do what they like, and no address is ever two clients' at once."""

from typing import Any

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from leasing import ACK, BEGIN, NAK, OFFER, ROM, SERVER, Machine

from bootfw.dhcp.answer import Answer, NoReply, NoReplyReason
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.subnet import Host, Subnet
from bootfw.lease import Lease, LeaseState, Reservation

POOL = [f"10.77.0.{number}" for number in (100, 101, 103, 104)]
"""Without .102, which is excluded."""
RESERVED = {5: "10.77.0.104", 6: "10.77.0.20"}
"""Client -> its address, in the pool or not."""
HOSTS = [Host(address=address, mac=f"02:00:00:00:00:{client:02}") for client, address in RESERVED.items()]
SUBNET = Subnet(
    network="10.77.0.0/24",
    pool=["10.77.0.100-10.77.0.104"],
    exclude=["10.77.0.102"],
    hosts=HOSTS,
)
ADDRESSES = [*POOL, *RESERVED.values(), "10.77.0.102", "10.77.0.1", "10.78.0.5"]

clients = st.integers(1, 7)
addresses = st.sampled_from(ADDRESSES)
seconds = st.sampled_from([0, 1, 60, 119, 120, 601, 1800, 3599, 3600, 3601, 86400])


@define
class Fate:
    """What the model knows of an address."""

    holder: int = 0
    """Who was told that it has it."""
    until: float = 0.0
    """For so long nobody else may have it: end of the lease or of the quarantine."""
    leased: bool = False
    """It has been once."""
    offered_to: int = 0
    offered_until: float = 0.0
    resting: bool = False
    tried_from: float = 0.0
    """Of one that rests: when it may be given all the same if there is no other."""

    def busy_until(self) -> float:
        return max(self.until, self.offered_until)


@define
class Model:
    fates: dict[str, Fate] = field(factory=lambda: {address: Fate() for address in ADDRESSES})

    def holds(self, client: int, now: float) -> list[str]:
        return [a for a, f in self.fates.items() if f.holder == client and f.until > now and not f.resting]

    def barred(self, address: str, client: int, now: float) -> bool:
        """Somebody else's lease or offer, or a quarantine, is in the way."""
        fate = self.fates[address]
        if fate.until > now and (fate.resting or fate.holder != client):
            return True
        return fate.offered_until > now and fate.offered_to != client

    def end_offers(self, client: int, now: float, but: str = "") -> None:
        for address, fate in self.fates.items():
            if fate.offered_to == client and address != but:
                fate.offered_to, fate.offered_until = 0, min(fate.offered_until, now)


class Clients(RuleBasedStateMachine):
    authoritative = False

    def __init__(self) -> None:
        super().__init__()
        self.now = BEGIN
        self.store: dict[str, Lease] = {}
        self.reserved = {address: client for client, address in RESERVED.items()}
        self.extra: list[Reservation] = []
        self.model = Model()
        self.server = self.started()
        self.disordered = False
        """The order in which addresses became free is not the model's any more."""

    def started(self) -> AddressServer:
        return AddressServer([SUBNET], self.store.values(), self.extra, authoritative=self.authoritative)

    def machine(self, client: int, rom: bool = False) -> Machine:
        return Machine(client, self.server, now=self.now, options=ROM if rom else {})

    # What the model makes of answers

    def sees(self, client: int, answer: Answer | NoReply, asked: str = "") -> None:
        for lease in answer.commit:
            self.store[lease.address] = lease
        if isinstance(answer, NoReply):
            return
        if answer.kind is OFFER:
            self.sees_offer(client, answer.address)
        elif answer.kind is ACK and answer.address:
            assert answer.address == asked
            self.sees_ack(client, answer)

    def sees_offer(self, client: int, address: str) -> None:
        assert self.may_have(client, address)
        fate = self.model.fates[address]
        if fate.resting and fate.until > self.now:
            untaken = self.next_free() == set() and fate.tried_from <= self.now and fate.offered_until <= self.now
            assert untaken or fate.offered_to == client
        else:
            assert not self.model.barred(address, client, self.now)
        mine = next((a for a, c in self.reserved.items() if c == client), None)
        if mine is not None and not self.model.barred(mine, client, self.now):
            assert address == mine
        self.model.end_offers(client, self.now, but=address)
        fate.offered_to, fate.offered_until = client, self.now + 120

    def sees_ack(self, client: int, answer: Answer) -> None:
        address = answer.address
        assert self.may_have(client, address)
        fate = self.model.fates[address]
        rests = fate.resting and fate.until > self.now
        assert fate.offered_to == client if rests else not self.model.barred(address, client, self.now)
        told = int.from_bytes(answer.options[51], "big")
        lease = answer.commit[0]
        assert (lease.address, lease.state) == (address, LeaseState.ACTIVE)
        assert lease.expires >= self.now + told
        for other in self.model.holds(client, self.now):
            if other != address:
                self.model.fates[other].until = self.now
        self.model.end_offers(client, self.now, but=address)
        self.model.fates[address] = Fate(client, lease.expires, leased=True)

    def may_have(self, client: int, address: str) -> bool:
        owner = self.reserved.get(address)
        return owner == client if owner is not None else address in POOL

    # What clients do

    @rule(client=clients, wanted=st.just("") | addresses, rom=st.booleans())
    def discovers(self, client: int, wanted: str, rom: bool) -> None:
        before = self.now
        has = self.model.holds(client, before)
        stranger = not any(fate.holder == client or (fate.offered_to == client) for fate in self.model.fates.values())
        due = self.next_free() if stranger and not wanted and client not in self.reserved.values() else None
        answer = self.machine(client, rom).discovers(wanted)
        if isinstance(answer, NoReply):
            assert answer.cause is NoReplyReason.EXHAUSTED
            assert not any(self.may_have(client, address) for address in has)
            assert self.next_free() == set()
            assert not any(
                fate.tried_from <= self.now and fate.offered_until <= self.now
                for address, fate in self.model.fates.items()
                if fate.resting and address in POOL and address not in self.reserved
            )
            return
        if due and not self.disordered:
            assert answer.address in due
        if len(has) == 1 and client not in self.reserved.values() and self.may_have(client, has[0]):
            offered = [a for a, f in self.model.fates.items() if f.offered_to == client and f.offered_until > self.now]
            assert answer.address in (has + offered)
        self.sees(client, answer)

    def next_free(self) -> set[str]:
        """The addresses that the next stranger may get."""
        fates = {a: self.model.fates[a] for a in POOL if a not in self.reserved}
        free = {a: f for a, f in fates.items() if f.busy_until() <= self.now}
        never = {a for a, f in free.items() if not f.leased}
        oldest = min((f.busy_until() for f in free.values()), default=0.0)
        return never or {a for a, f in free.items() if f.busy_until() == oldest}

    @rule(client=clients, wanted=addresses, rom=st.booleans())
    def selects(self, client: int, wanted: str, rom: bool) -> None:
        self.sees(client, self.machine(client, rom).selects(wanted), wanted)

    @rule(client=clients, rom=st.booleans())
    def selects_what_it_is_offered(self, client: int, rom: bool) -> None:
        for address, fate in self.model.fates.items():
            if fate.offered_to == client and fate.offered_until > self.now:
                answer = self.machine(client, rom).selects(address)
                if self.may_have(client, address) and client not in self.reserved.values():
                    assert isinstance(answer, Answer)
                    assert answer.kind is ACK
                self.sees(client, answer, address)
                return

    @rule(client=clients)
    def selects_another_server(self, client: int) -> None:
        answer = self.machine(client).selects("192.0.2.9", chosen="192.0.2.1")
        assert isinstance(answer, NoReply)
        assert answer.commit == ()
        self.model.end_offers(client, self.now)

    @rule(
        client=clients, wanted=addresses, way=st.sampled_from(["restarts_with", "renews", "rebinds"]), rom=st.booleans()
    )
    def comes_back(self, client: int, wanted: str, way: str, rom: bool) -> None:
        holds = wanted in self.model.holds(client, self.now)
        if way == "renews" and wanted == "10.78.0.5":
            return  # It would come from elsewhere.
        answer = getattr(self.machine(client, rom), way)(wanted)
        if holds and self.may_have(client, wanted) and client not in self.reserved.values():
            assert isinstance(answer, Answer)
            assert answer.kind is ACK
        if isinstance(answer, Answer) and answer.kind is NAK:
            assert not (holds and self.may_have(client, wanted)) or client in self.reserved.values()
        self.sees(client, answer, wanted)

    @rule(client=clients, held=addresses)
    def releases(self, client: int, held: str) -> None:
        fate = self.model.fates[held]
        answer = self.machine(client).releases(held)
        self.sees(client, answer)
        if answer.commit:
            assert fate.holder == client
            fate.until = self.now
        else:
            assert held not in self.model.holds(client, self.now)

    @rule(client=clients, held=addresses)
    def declines(self, client: int, held: str) -> None:
        fate = self.model.fates[held]
        answer = self.machine(client).declines(held)
        self.sees(client, answer)
        if answer.commit:
            assert client in (fate.holder, fate.offered_to)
            self.model.fates[held] = Fate(until=self.now + 3600, leased=True, resting=True, tried_from=self.now)
            for lease in answer.commit[1:]:
                ended = self.model.fates[lease.address]
                ended.until, ended.resting = self.now, False

    @rule(client=clients)
    def is_probed_and_there_is_somebody(self, client: int) -> None:
        for address, fate in self.model.fates.items():
            if fate.offered_to == client and fate.offered_until > self.now:
                for lease in self.server.probed(address, True, self.now):
                    self.store[lease.address] = lease
                self.model.fates[address] = Fate(
                    until=self.now + 3600, leased=True, resting=True, tried_from=self.now + 60
                )
                return

    # What else happens

    @rule(later=seconds)
    def time_passes(self, later: float) -> None:
        self.now += later

    @rule()
    def server_restarts(self) -> None:
        self.server = self.started()
        self.disordered = True
        for fate in self.model.fates.values():
            fate.offered_to, fate.offered_until = 0, 0.0

    @precondition(lambda self: not self.extra)
    @rule(client=st.integers(1, 4), address=st.sampled_from(POOL[:3]))
    def operator_reserves(self, client: int, address: str) -> None:
        reservation = Reservation(address=address, mac=f"02:00:00:00:00:{client:02}")
        self.extra.append(reservation)
        self.server.reserve(reservation)
        self.reserved[address] = client

    @precondition(lambda self: self.extra)
    @rule()
    def operator_unreserves(self) -> None:
        reservation = self.extra.pop()
        self.server.unreserve(reservation)
        del self.reserved[reservation.address]
        self.disordered = True

    @rule(address=addresses)
    def operator_releases(self, address: str) -> None:
        for lease in self.server.release(address, self.now):
            self.store[lease.address] = lease
            fate = self.model.fates[address]
            fate.until, fate.resting = self.now, False

    @invariant()
    def what_is_stored_is_what_is_known(self) -> None:
        assert {lease.address: lease for lease in self.server.leases()} == self.store

    @invariant()
    def our_own_address_is_nobodys(self) -> None:
        assert SERVER not in self.store


class ClientsOfTheOnlyServer(Clients):
    authoritative = True


limits: Any = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestClients = Clients.TestCase
TestClients.settings = limits
TestClientsOfTheOnlyServer = ClientsOfTheOnlyServer.TestCase
TestClientsOfTheOnlyServer.settings = limits
