"""The lease book of one network: every address that is known, and what may happen to it next.

An address, a number, has one :class:`~bootfw.dhcp.pool.Binding`. It is

* free: in a pool, without a lease or an offer that goes on. The :class:`~bootfw.dhcp.pool.Pool` knows the order;
* offered, by DHCPv4 only: ``offered_to`` may take it until ``offered_until``;
* leased: ``lease`` is ACTIVE, and its client's until ``expires`` and, if no other client needs the address, after that;
* released: the same with its end in the past;
* in quarantine: ``lease`` is DECLINED. Another machine uses the address; no client gets it until ``expires``, unless no
  other address is left;
* reserved, beside any of these: only the client of ``reservation`` may have it.

Leases are also found by the key of their client, reservations by each thing that identifies their client.

What DHCPv4 and DHCPv6 do differently is in a :class:`Choice`: which reservation is the client's, which addresses it
should have rather than others, which free one it gets else, and when an active lease passes to another client because
both are the same machine. Nothing here is a scan over leases, and choosing changes nothing but the pool's own order.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from math import inf
from typing import Any, Generic, Protocol, TypeVar

from attrs import evolve

from bootfw.dhcp.pool import Binding, Pool, S
from bootfw.dhcp.quarantine import Quarantine
from bootfw.dhcp.ranges import number_of, text_of
from bootfw.lease import Lease, LeaseState, Reservation, known_by

QUARANTINE_SECONDS = 3600.0
"""How long an address is in quarantine."""

PROBED_AGAIN = 60.0
"""Seconds after which an address where a probe was answered may be tried again when no other is left. An address that
a client declined may be tried at once: that is the word of one client."""

_CANDIDATES = 64
"""Addresses in quarantine that are looked at for one client; a few are reserved or have left the pool."""

_ACTIVE, _DECLINED, _RELEASED = LeaseState.ACTIVE, LeaseState.DECLINED, LeaseState.RELEASED


class Choice(Protocol):
    """How a client's address is chosen. A client is what the implementation takes for one; it has a ``key``."""

    one_address: bool
    """A client that is granted an address uses its earlier one no longer."""

    def reservation(self, client: Any) -> Reservation | None:
        """What is reserved for *client*."""

    def candidates(self, client: Any, reservation: Reservation | None) -> Iterable[Binding[Any] | None]:
        """Addresses that *client* should have rather than others, the best first; None stands for none."""

    def passes_on(self, binding: Binding[Any], client: Any, reservation: Reservation | None) -> bool:
        """The address is leased to the same machine under another key, and goes to *client* without waiting."""

    def next(self, client: Any, known: bool, subnet: Any, now: float, besides: Collection[int]) -> Binding[Any] | None:
        """A free address for *client*; None: there is none left.

        :param known: it has a reservation.
        :param subnet: where it is.
        :param besides: addresses that are taken already.
        """

    def replaced(self, binding: Binding[Any], before: Lease | None, now: float) -> None:
        """The lease of *binding* is another one than *before*."""


C = TypeVar("C", bound=Choice)


class LeaseBook(Generic[S, C]):
    """The leases, offers and reservations of one network, which has one subnet, or several that share a wire.

    :param own: addresses of the server itself, which no client gets; may grow.
    :param choice: makes the Choice of this book.
    """

    def __init__(self, subnets: Sequence[S], own: Collection[str], choice: "Callable[[LeaseBook[S, C]], C]") -> None:
        self.subnets = tuple(subnets)
        self.name = subnets[0].wire
        self.bindings: dict[int, Binding[S]] = {}
        """Addresses with a lease, an offer or a reservation, and those that had one."""
        self.leased: dict[bytes, Binding[S]] = {}
        """Key of a client -> the address that it has or had last."""
        self.reserved: dict[str, Binding[S]] = {}
        """Address of a reservation -> its Binding."""
        self.hosts: dict[tuple[str, str | bytes], Reservation] = {}
        """Each pair of known_by() -> its reservation."""
        self._quarantine = Quarantine()
        self._own = own
        self._masks = [(int(s.network.netmask), int(s.network.network_address), s) for s in subnets]
        pools = {subnet: Pool(subnet, self.bindings, own) for subnet in subnets}
        self.pools = {
            subnet: (first, *(pool for pool in pools.values() if pool is not first)) for subnet, first in pools.items()
        }
        """Subnet -> all pools, that of the subnet first."""
        self.serves_unknown = not all(subnet.known_clients_only for subnet in subnets)
        """There are addresses for clients without a reservation."""
        self.choice = choice(self)
        for subnet in subnets:
            for reservation in subnet.reservations():
                self.reserve(reservation)

    def __contains__(self, number: int) -> bool:
        return self._subnet_of(number) is not None

    # Reservations

    def reserve(self, reservation: Reservation) -> None:
        """Add *reservation*, in place of what was reserved for the same client or the same address."""
        for identifier in known_by(reservation):
            if identifier in self.hosts:
                self.unreserve(self.hosts[identifier])
            self.hosts[identifier] = reservation
        if reservation.address:
            number = number_of(reservation.address)
            binding = self.bindings.get(number) or self._new(number, anywhere=True)
            if binding is not None:
                binding.reservation = reservation
                self.bindings[binding.number] = self.reserved[reservation.address] = binding

    def unreserve(self, reservation: Reservation) -> None:
        """Remove *reservation*, if it is there."""
        for identifier in known_by(reservation):
            if self.hosts.get(identifier) == reservation:
                del self.hosts[identifier]
        binding = self.reserved.get(reservation.address)
        if binding is None or binding.reservation != reservation:
            return
        del self.reserved[reservation.address]
        binding.reservation = None
        if binding.pool is not None:
            binding.pool.unreserve(binding)
        elif binding.lease is None:
            del self.bindings[binding.number]

    def reservations(self) -> Iterator[Reservation]:
        """All of them; one is repeated for each thing that it is known by."""
        yield from self.hosts.values()

    # Which address a client may have

    def find(self, number: int) -> Binding[S] | None:
        """What is known of an address; None: it is neither in a pool nor known."""
        return self.bindings.get(number) or self._new(number, anywhere=False)

    def allowed(self, binding: Binding[S], reservation: Reservation | None) -> bool:
        """The configuration lets a client have the address, apart from leases and offers.

        :param reservation: the client's.
        """
        if binding.reservation is not None:
            return binding.reservation is reservation
        if binding.subnet.known_clients_only and reservation is None:
            return False
        return binding.pool is not None and binding.address not in self._own

    def may_have(self, binding: Binding[S], client: Any, reservation: Reservation | None, now: float) -> bool:
        """*client* may have the address now."""
        return self.allowed(binding, reservation) and (
            binding.free_for(client.key, now) or self.choice.passes_on(binding, client, reservation)
        )

    def preferred(
        self,
        client: Any,
        reservation: Reservation | None,
        wanted: int | None,
        now: float,
        besides: Collection[int] = (),
    ) -> Binding[S] | None:
        """The address that *client* has or should have; None: any will do.

        :param wanted: what it requests; it gets that if it should have no other.
        :param besides: addresses that are taken already.
        """
        for binding in self.choice.candidates(client, reservation):
            if (
                binding is not None
                and binding.number not in besides
                and self.may_have(binding, client, reservation, now)
            ):
                return binding
        if wanted is None or wanted in besides:
            return None
        binding = self.find(wanted)
        return binding if binding is not None and self.may_have(binding, client, reservation, now) else None

    def choose(
        self,
        client: Any,
        reservation: Reservation | None,
        wanted: int | None,
        subnet: S,
        now: float,
        besides: Collection[int] = (),
    ) -> Binding[S] | None:
        """The address for *client*; None: there is none left. See preferred() and any_free()."""
        return self.preferred(client, reservation, wanted, now, besides) or self.any_free(
            client, reservation, subnet, now, besides
        )

    def any_free(
        self, client: Any, reservation: Reservation | None, subnet: S, now: float, besides: Collection[int] = ()
    ) -> Binding[S] | None:
        """The address for *client*, for which any will do; None: there is none left.

        An address in quarantine is chosen before a client gets none.

        :param subnet: where the client is.
        """
        known = reservation is not None
        return self.choice.next(client, known, subnet, now, besides) or self._quarantined(known, now, besides)

    def free(self) -> int:
        """How many addresses of the pools are free; one whose lease has just expired may not be counted."""
        free = 0
        for first, *_ in self.pools.values():
            free += first.size - first.queued
        return free

    # What happens to leases

    def grant(self, binding: Binding[S], lease: Lease) -> tuple[Lease, ...]:
        """Lease the address of *binding*.

        :return: every lease that changed by that, *lease* first.
        """
        earlier = self.leased.get(lease.client)
        self._replace(binding, lease, lease.granted)
        self.leased[lease.client] = binding
        if (
            earlier is None
            or earlier is binding
            or not self.choice.one_address
            or earlier.lease is None
            or earlier.lease.expires <= lease.granted
        ):
            return (lease,)
        return lease, self.release(earlier, lease.granted)

    def release(self, binding: Binding[S], now: float) -> Lease:
        """End the lease or the quarantine of *binding*.

        The client of a lease keeps its claim until another client needs the address. One that declined it has none.
        """
        lease = binding.lease
        assert lease is not None
        client = b"" if lease.state is _DECLINED else lease.client
        released = evolve(lease, client=client, state=_RELEASED, expires=min(now, lease.expires))
        self._replace(binding, released, now)
        return released

    def quarantine(self, binding: Binding[S], declined: Lease) -> tuple[Lease, ...]:
        """Begin a quarantine.

        :param declined: a DECLINED lease; who declined it is its ``client``, or else its ``client_id``.
        :return: every lease that changed by that: when the client has declined too many, the earliest is released.
        """
        self._replace(binding, declined, declined.granted)
        earliest = self._quarantine.add(binding.number, declined.client or declined.client_id)
        if earliest is None:
            return (declined,)
        return declined, self.release(self.bindings[earliest], declined.granted)

    def restore(self, lease: Lease) -> None:
        """Enter a lease that was granted before, in place of what is known of its address."""
        number = number_of(lease.address)
        binding = self.bindings.get(number) or self._new(number, anywhere=True)
        if binding is None:
            return
        self._replace(binding, lease, 0.0)
        if lease.state is _DECLINED:
            self._quarantine.add(number, lease.client or lease.client_id)
        elif lease.client:
            other = self.leased.get(lease.client)
            if other is None or other.lease is None or other.lease.expires < lease.expires:
                self.leased[lease.client] = binding

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too."""
        return (binding.lease for binding in self.bindings.values() if binding.lease is not None)

    def enter(self, binding: Binding[S], now: float) -> None:
        """The lease or offer of *binding* has changed."""
        self.bindings[binding.number] = binding
        if binding.pool is not None:
            binding.pool.enter(binding, now)

    def _replace(self, binding: Binding[S], lease: Lease, now: float) -> None:
        before = binding.lease
        binding.lease = lease
        if before is not None:
            client = before.client
            if (client != lease.client or lease.state is _DECLINED) and self.leased.get(client) is binding:
                del self.leased[client]
            if before.state is _DECLINED:
                self._quarantine.discard(binding.number)
        self.choice.replaced(binding, before, now)
        self.enter(binding, now)

    def _quarantined(self, known: bool, now: float, besides: Collection[int]) -> Binding[S] | None:
        """An address in quarantine that may be tried all the same, the earliest first."""
        for numbers, before in ((self._quarantine.declined, inf), (self._quarantine.probed, now - PROBED_AGAIN)):
            for number in islice(numbers, _CANDIDATES):
                binding = self.bindings[number]
                if binding.lease is None or binding.lease.granted > before:
                    break
                if binding.subnet.known_clients_only and not known:
                    continue
                pool = binding.pool
                if pool is not None and binding.offered_until <= now and number not in besides and pool.gives(binding):
                    return binding
        return None

    def _new(self, number: int, *, anywhere: bool) -> Binding[S] | None:
        """A Binding for an address that is not known.

        :param anywhere: of a subnet; else of a pool only.
        """
        subnet = self._subnet_of(number)
        if subnet is None:
            return None
        pool = None
        for first, last in subnet.free:
            if first <= number <= last:
                pool = self.pools[subnet][0]
                break
        if pool is None and not anywhere:
            return None
        return Binding(number, text_of(number, subnet.network.version), subnet, pool)

    def _subnet_of(self, number: int) -> S | None:
        for mask, first, subnet in self._masks:
            if number & mask == first:
                return subnet
        return None


class LeaseBooks(Generic[S, C]):
    """The lease books of all networks of a server, and what an operator may see of them and change.

    :param subnets: must not overlap.
    :param choice: makes the Choice of a book.
    """

    def __init__(self, subnets: Sequence[S], choice: Callable[[LeaseBook[S, C]], C]) -> None:
        self.own: set[str] = set()
        """Addresses of the server itself, as far as messages have shown them."""
        wires: dict[str, list[S]] = {}
        for subnet in subnets:
            wires.setdefault(subnet.wire, []).append(subnet)
        self.books = tuple(LeaseBook(listed, self.own, choice) for listed in wires.values())
        places = [(book, subnet) for book in self.books for subnet in book.subnets]
        self.relays = {relay: (book, subnet) for book, subnet in places for relay in subnet.relays}
        """Address of a relay -> where its clients are."""
        self._places = sorted(places, key=lambda place: int(place[1].network[0]))
        self._starts = [int(subnet.network[0]) for _, subnet in self._places]
        self._ends = [int(subnet.network[-1]) for _, subnet in self._places]

    def place_of(self, address: str) -> tuple[LeaseBook[S, C], S] | None:
        """The subnet that *address* is in, with its book; None also for what is no address."""
        try:
            number = number_of(address)
        except OSError:
            return None
        index = bisect_right(self._starts, number) - 1
        return self._places[index] if index >= 0 and number <= self._ends[index] else None

    def counts(self, now: float) -> dict[tuple[str, str], int]:
        """(network of a subnet, "active", "expired", "released" or "declined") -> addresses of it in that state."""
        found = {
            (str(subnet.network), state): 0
            for book in self.books
            for subnet in book.subnets
            for state in ("active", "expired", "released", "declined")
        }
        names = {id(subnet): str(subnet.network) for book in self.books for subnet in book.subnets}
        for book in self.books:
            for binding in book.bindings.values():
                lease = binding.lease
                if lease is not None:
                    expired = lease.state is _ACTIVE and lease.expires <= now
                    found[names[id(binding.subnet)], "expired" if expired else lease.state.value] += 1
        return found

    def free(self) -> dict[tuple[str], int]:
        """(network of a subnet,) -> free addresses of its pool; one whose lease has just expired may not be counted."""
        return {
            (str(subnet.network),): pools[0].size - pools[0].queued
            for book in self.books
            for subnet, pools in book.pools.items()
        }

    def serves(self, address: str) -> bool:
        """Whether *address* is in a subnet; "": whether there is any subnet."""
        return self.place_of(address) is not None if address else bool(self.books)

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too, in no order."""
        for book in self.books:
            yield from book.leases()

    def lease(self, address: str) -> Lease | None:
        """The latest lease of *address*."""
        found = self.known(address)
        return None if found is None else found[1].lease

    def restore(self, lease: Lease) -> bool:
        """Enter a lease that was granted elsewhere or before, in place of what is known of its address.

        :return: false: the address is in no subnet.
        """
        place = self.place_of(lease.address)
        if place is None:
            return False
        place[0].restore(lease)
        return True

    def take_over(self, before: "LeaseBooks[S, C]", now: float) -> list[Lease]:
        """Enter the leases of another server, and its own addresses.

        :return: the leases of addresses that are in no subnet here.
        """
        self.own.update(before.own)
        return [lease for lease in before.leases() if not self.restore(lease)]

    def release(self, address: str, now: float) -> tuple[Lease, ...]:
        """End the lease or the quarantine of *address*.

        :return: to be stored; empty: there was none.
        """
        found = self.known(address)
        return () if found is None or found[1].lease is None else (found[0].release(found[1], now),)

    def reservations(self) -> Iterator[Reservation]:
        """Everything that is reserved now, each once."""
        yield from dict.fromkeys(found for book in self.books for found in book.reservations())

    def reserve(self, reservation: Reservation) -> None:
        """Add a reservation, in place of what is reserved for the same client or the same address.

        A lease of the address that another client has ends when that client renews it.

        :raise ValueError: the address is in no subnet.
        """
        if not reservation.address:
            for book in self.books:
                book.reserve(reservation)
            return
        place = self.place_of(reservation.address)
        if place is None:
            raise ValueError(f"{reservation.address} is of no subnet")
        place[0].reserve(reservation)

    def unreserve(self, reservation: Reservation) -> None:
        """Remove a reservation. A lease of its address goes on until it ends."""
        for book in self.books:
            book.unreserve(reservation)

    def known(self, address: str) -> tuple[LeaseBook[S, C], Binding[S]] | None:
        """The book and the Binding of *address*; None: it is neither in a pool nor known."""
        place = self.place_of(address)
        binding = place[0].find(number_of(address)) if place is not None else None
        return None if place is None or binding is None else (place[0], binding)
