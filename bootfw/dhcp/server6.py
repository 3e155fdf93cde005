"""The DHCPv6 address server, without sockets and store: it decides which client gets which address (RFC 8415 section
18.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import define, evolve

from bootfw.dhcp import associations6 as ia
from bootfw.dhcp.answer import Answer6, Arrival6, NoReply, NoReplyReason
from bootfw.dhcp.classify import link_address
from bootfw.dhcp.hashedallocator import FIRMWARE, SYSTEM, ClientIA, HashedAllocator
from bootfw.dhcp.hostclass import HostClass6
from bootfw.dhcp.identity import is_firmware6
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook, LeaseBooks
from bootfw.dhcp.pool import Binding
from bootfw.dhcp.ranges import number_of
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import WireError
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import UNSPECIFIED, Message, MessageType
from bootfw.wire.options6 import IdentityAssociation, Option, Status, Values

_NAMES_SERVER = frozenset((MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE))
"""Messages that must have a server identifier (RFC 8415 section 16)."""
_NAMES_NO_SERVER = frozenset((MessageType.SOLICIT, MessageType.CONFIRM, MessageType.REBIND))
"""Messages that must not have a server identifier."""


@define(eq=False)
class _Exchange:
    """One message with its client, and the subnet and lease book of the client's link."""

    message: Message
    arrival: Arrival6
    now: float
    duid: bytes
    book: LeaseBook[Subnet6, HashedAllocator]
    subnet: Subnet6
    classes: Sequence[HostClass6]
    """Those of the client's classes that have pools."""

    def associations(self) -> Iterator[IdentityAssociation]:
        """Yield the IA_NA options; malformed ones are skipped."""
        for raw in self.message.every(Option.IA_NA)[: ia.MAX_ASSOCIATIONS]:
            try:
                yield codec.identity_association(raw)
            except WireError:
                continue

    def client_ia(self, association: IdentityAssociation) -> ClientIA:
        """Return the owner of the leases of an association."""
        kind = FIRMWARE if is_firmware6(self.message) else SYSTEM
        return ClientIA(self.duid, association.iaid, self.arrival.mac, kind, self.classes)


class AddressServer6(LeaseBooks[Subnet6, HashedAllocator]):
    """Assigns addresses by DHCPv6. All leases of an answer must be stored before it is sent.

    A SOLICIT changes no state: the offered address is a hash of the identity of the machine, so the REQUEST gets the
    same one, unless another client got it in between.

    :param duid: the DUID of this server.
    :param admit: called with the link (Arrival6.link) and the time before an unknown client gets an address; if it
        returns false, there is no reply.
    :param classes: client classes; the options of a later class override those of an earlier one.
    """

    def __init__(
        self,
        subnets: Sequence[Subnet6],
        duid: bytes,
        admit: Callable[[object, float], bool] = lambda link, now: True,
        classes: Sequence[HostClass6] = (),
    ) -> None:
        super().__init__(subnets, HashedAllocator, classes)
        self._pool_classes = tuple(each for each in classes if each.pool)
        self._duid = duid
        self._admit = admit
        self._classes = tuple(classes)

    def handle(self, message: Message, arrival: Arrival6, now: float) -> Answer6 | NoReply:
        """Answer *message*.

        :param now: the time, in seconds of the clock that leases have in memory.
        """
        kind = message.kind
        handle = _HANDLERS.get(kind)
        if handle is None:
            return NoReply(NoReplyReason.NOT_FOR_SERVER)
        server = message.first(Option.SERVER_ID)
        if server is not None and server != self._duid:
            return NoReply(
                NoReplyReason.OTHER_SERVER if kind is MessageType.REQUEST else NoReplyReason.NOT_FOR_SERVER,
                server.hex(),
            )
        if (server is None and kind in _NAMES_SERVER) or (server is not None and kind in _NAMES_NO_SERVER):
            return NoReply(
                NoReplyReason.MALFORMED, f"{kind.name} with{'out' if server is None else ''} a server identifier"
            )
        self.own_addresses.update(arrival.addresses)
        located = self._locate(arrival)
        if kind is MessageType.INFORMATION_REQUEST:
            return self._inform(message, located, arrival.mac)
        duid = message.first(Option.CLIENT_ID)
        if not duid:
            return NoReply(NoReplyReason.MALFORMED, f"{kind.name} without a client identifier")
        if arrival.unicast and not arrival.relays and kind in _NAMES_SERVER:
            return Answer6(MessageType.REPLY, (ia.status_option(Status.USE_MULTICAST, "not to this address"),))
        if located is None:
            return NoReply(NoReplyReason.NO_SUBNET, link_address(arrival.relays))
        classes = self._classes_with_pools(message, duid, arrival.mac, located[0]) if self._pool_classes else ()
        return handle(self, _Exchange(message, arrival, now, duid, *located, classes))

    def reserve(self, reservation: Reservation) -> None:
        """See LeaseBooks.

        :raise ValueError: the address is in no subnet, or it is not for DHCPv6.
        """
        super().reserve(Host6.of(reservation).reservation())

    def unreserve(self, reservation: Reservation) -> None:
        """See LeaseBooks."""
        super().unreserve(Host6.of(reservation).reservation())

    def _locate(self, arrival: Arrival6) -> tuple[LeaseBook[Subnet6, HashedAllocator], Subnet6] | None:
        """Return lease book and subnet of the client's link; None: there is no subnet for it."""
        link = link_address(arrival.relays)
        if link in self.relays:
            return self.relays[link]
        located = map(self.find_subnet, (link,) if link != UNSPECIFIED else arrival.addresses)
        return next(filter(None, located), None)

    def _classes_with_pools(
        self, message: Message, duid: bytes, mac: str, book: LeaseBook[Subnet6, HashedAllocator]
    ) -> Sequence[HostClass6]:
        known = book.allocator.reserved_for(duid, mac) is not None
        return [each for each in self._pool_classes if each.matches(message, mac, known)]

    def _inform(
        self, message: Message, located: tuple[LeaseBook[Subnet6, HashedAllocator], Subnet6] | None, mac: str
    ) -> Answer6 | NoReply:
        if message.first(Option.IA_NA) is not None or message.first(Option.IA_TA) is not None:
            return NoReply(NoReplyReason.MALFORMED, "INFORMATION-REQUEST with an identity association")  # section 16.12
        if located is None:
            return Answer6(MessageType.REPLY, ())
        book, subnet = located
        reservation = book.allocator.reserved_for(message.first(Option.CLIENT_ID) or b"", mac)
        return Answer6(MessageType.REPLY, (), self._configured(message, mac, subnet, reservation), subnet=subnet)

    def _configured_for(self, exchange: _Exchange) -> Values:
        reservation = exchange.book.allocator.reserved_for(exchange.duid, exchange.arrival.mac)
        return self._configured(exchange.message, exchange.arrival.mac, exchange.subnet, reservation)

    def _configured(self, message: Message, mac: str, subnet: Subnet6, reservation: Reservation | None) -> Values:
        """Return the configured options that the client requests (option 6); all of them if it has no option 6."""
        configured = subnet.reply_options
        if self._classes or reservation is not None:
            configured = dict(configured)
            for host_class in self._classes:
                if host_class.matches(message, mac, reservation is not None):
                    configured.update(host_class.options)
            if reservation is not None:
                configured.update(reservation.options)
        raw = message.first(Option.OPTION_REQUEST)
        try:
            requested = None if raw is None else codec.uint16s(raw)
        except WireError:
            requested = None
        return (
            configured
            if requested is None
            else {key: value for key, value in configured.items() if codec.code_of(key) in requested}
        )

    def _solicit(self, exchange: _Exchange) -> Answer6 | NoReply:
        # Without an address the client gets an ADVERTISE, as without rapid commit.
        if exchange.subnet.rapid_commit and exchange.message.first(Option.RAPID_COMMIT) is not None:
            answer = self._assign(exchange, MessageType.REPLY)
            if isinstance(answer, NoReply) or answer.address:
                if isinstance(answer, Answer6):
                    answer.options = ((int(Option.RAPID_COMMIT), b""), *answer.options)
                return answer
        return self._assign(exchange, MessageType.ADVERTISE)

    def _request(self, exchange: _Exchange) -> Answer6 | NoReply:
        return self._assign(exchange, MessageType.REPLY)

    def _assign(self, exchange: _Exchange, kind: MessageType) -> Answer6 | NoReply:
        book, now = exchange.book, exchange.now
        ia_options: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        granted: list[Lease] = []
        assigned: dict[int, str] = {}
        reason = NoReplyReason.EXHAUSTED
        for association in exchange.associations():
            client_ia, requested = exchange.client_ia(association), ia.requested_addresses(association)
            numbers = [number_of(each) for each in requested]
            if exchange.message.kind is MessageType.REQUEST and any(number not in book for number in numbers):
                # Section 18.3.2: the client has moved, and has to start over.
                ia_options.append(ia.refuse(association, Status.NOT_ON_LINK, "not an address of this link"))
                continue
            reservation = book.allocator.reservation(client_ia)
            first = numbers[0] if numbers else None
            binding = book.choose(client_ia, reservation, first, exchange.subnet, now, assigned)
            if binding is None:
                reason, text = _no_address_reason(book, client_ia, reservation)
                ia_options.append(ia.refuse(association, Status.NO_ADDRESSES, text))
                continue
            seconds = _lease_seconds(binding.subnet, reservation)
            if kind is MessageType.REPLY:
                if client_ia.key not in book.leased and not self._admit(exchange.arrival.link, now):
                    return NoReply(NoReplyReason.LIMITED, book.name, tuple(commit))
                new = not _has_current_lease(client_ia, binding.lease, now)
                lease = _new_lease(client_ia, binding, seconds, now)
                commit += book.grant(binding, lease)
                granted += [lease] if new else []
            address = assigned[binding.number] = binding.address
            ia_options.append(
                ia.assign(
                    association, exchange.subnet, address, [each for each in requested if each != address], seconds
                )
            )
        ia_options += ia.refuse_prefixes(exchange.message)
        exhausted = bool(ia_options) and not assigned
        return Answer6(
            kind,
            tuple(ia_options),
            self._configured_for(exchange),
            tuple(commit),
            next(iter(assigned.values()), ""),
            tuple(granted),
            exchange.subnet,
            reason if exhausted and kind is MessageType.ADVERTISE else None,
            book.name,
        )

    def _renew(self, exchange: _Exchange) -> Answer6 | NoReply:
        """Answer RENEW and REBIND (sections 18.3.4 and 18.3.5)."""
        book, now = exchange.book, exchange.now
        is_rebind = exchange.message.kind is MessageType.REBIND
        ia_options: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        first = ""
        for association in exchange.associations():
            client_ia, requested = exchange.client_ia(association), ia.requested_addresses(association)
            reservation = book.allocator.reservation(client_ia)
            leased = book.leased.get(client_ia.key)
            binding = None
            if leased is not None:
                if book.preferred(client_ia, reservation, None, now) is leased:
                    binding = leased
            else:
                # The lease is not in our store: it was lost, or another server has granted it.
                found = (book.find(number_of(each)) for each in requested)
                can_assign = (each for each in found if each and book.can_assign(each, client_ia, reservation, now))
                binding = next(can_assign, None)
            if binding is not None:
                seconds = _lease_seconds(binding.subnet, reservation)
                commit += book.grant(binding, _new_lease(client_ia, binding, seconds, now))
                address = binding.address
                first = first or address
                withdrawn = [each for each in requested if each != address]
                ia_options.append(ia.assign(association, exchange.subnet, address, withdrawn, seconds))
            # A REBIND is sent to all servers, and another one may renew an address: only those that the client must
            # stop using are withdrawn.
            elif withdrawn := [each for each in requested if not is_rebind or _must_stop_using(book, client_ia, each)]:
                if leased is not None or is_rebind:
                    ia_options.append(ia.withdraw(association, withdrawn))
                else:
                    ia_options.append(ia.refuse(association, Status.NO_BINDING, "not known here"))
            elif not is_rebind:
                ia_options.append(ia.refuse(association, Status.NO_BINDING, "not known here"))
        if not ia_options and is_rebind:
            return NoReply(NoReplyReason.UNKNOWN)
        configured = self._configured_for(exchange)
        return Answer6(MessageType.REPLY, tuple(ia_options), configured, tuple(commit), first, subnet=exchange.subnet)

    def _confirm(self, exchange: _Exchange) -> Answer6 | NoReply:
        addresses = [
            address for association in exchange.associations() for address in ia.requested_addresses(association)
        ]
        if not addresses:
            return NoReply(NoReplyReason.NOT_FOR_SERVER)
        if all(number_of(address) in exchange.book for address in addresses):
            return Answer6(MessageType.REPLY, (ia.status_option(Status.SUCCESS, "all on this link"),))
        return Answer6(MessageType.REPLY, (ia.status_option(Status.NOT_ON_LINK, "not all on this link"),))

    def _release_or_decline(self, exchange: _Exchange) -> Answer6 | NoReply:
        """Answer RELEASE and DECLINE; only leases of this client end (sections 18.3.7 and 18.3.8)."""
        is_decline = exchange.message.kind is MessageType.DECLINE
        book, now = exchange.book, exchange.now
        ia_options: list[tuple[int, bytes]] = [ia.status_option(Status.SUCCESS, "done")]
        commit: list[Lease] = []
        for association in exchange.associations():
            binding = book.leased.get(exchange.client_ia(association).key)
            if binding is None or binding.lease is None:
                ia_options.append(ia.refuse(association, Status.NO_BINDING, "not known here"))
            elif binding.address in ia.requested_addresses(association):
                if is_decline:
                    # Declines are counted by DUID (client_id): a client can invent any number of identity associations.
                    end = now + QUARANTINE_SECONDS
                    lease = evolve(binding.lease, client=b"", state=LeaseState.DECLINED, granted=now, expires=end)
                    commit += book.quarantine(binding, lease)
                else:
                    commit.append(book.release(binding, now))
        reason = (NoReplyReason.DECLINED if is_decline else NoReplyReason.RELEASED) if commit else None
        detail = commit[0].address if commit else ""
        return Answer6(MessageType.REPLY, tuple(ia_options), commit=tuple(commit), reason=reason, detail=detail)


def _has_current_lease(client_ia: ClientIA, lease: Lease | None, now: float) -> bool:
    return (
        lease is not None and lease.client == client_ia.key and lease.state is LeaseState.ACTIVE and lease.expires > now
    )


def _no_address_reason(
    book: LeaseBook[Subnet6, HashedAllocator], client_ia: ClientIA, reservation: Reservation | None
) -> tuple[NoReplyReason, str]:
    """Return why a client gets no address, for the operator and as the text of the status."""
    if reservation is None and not book.serves_unknown_clients:
        return NoReplyReason.UNKNOWN_CLIENT, "for known clients only"
    if not book.has_pool_for(client_ia):
        return NoReplyReason.NO_POOL, "for other client classes"
    return NoReplyReason.EXHAUSTED, "no address left"


def _lease_seconds(subnet: Subnet6, reservation: Reservation | None) -> int:
    """Return how long a client gets an address for."""
    return (reservation.lease_seconds if reservation is not None else 0) or subnet.lease_seconds


def _new_lease(client_ia: ClientIA, binding: Binding[Subnet6], seconds: int, now: float) -> Lease:
    return Lease(
        address=binding.address,
        client=client_ia.key,
        mac=client_ia.mac,
        state=LeaseState.ACTIVE,
        granted=now,
        expires=now + seconds,
        client_id=client_ia.duid,
        kind=client_ia.kind,
    )


def _must_stop_using(book: LeaseBook[Subnet6, HashedAllocator], client_ia: ClientIA, address: str) -> bool:
    """Return whether a client that can't renew the address must stop using it: it is not in this link's subnets, or in
    quarantine, or leased to another client."""
    number = number_of(address)
    binding = book.find(number)
    return number not in book or (
        binding is not None and binding.lease is not None and binding.lease.client != client_ia.key
    )


_HANDLERS: Mapping[MessageType, Callable[[AddressServer6, _Exchange], Answer6 | NoReply]] = {
    MessageType.SOLICIT: AddressServer6._solicit,
    MessageType.REQUEST: AddressServer6._request,
    MessageType.CONFIRM: AddressServer6._confirm,
    MessageType.RENEW: AddressServer6._renew,
    MessageType.REBIND: AddressServer6._renew,
    MessageType.RELEASE: AddressServer6._release_or_decline,
    MessageType.DECLINE: AddressServer6._release_or_decline,
    MessageType.INFORMATION_REQUEST: AddressServer6._request,  # never called: handle() answers it before
}
