"""The DHCPv6 server without its sockets and its store: which client gets which address (RFC 8415 section 18.3)."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from attrs import define, evolve

from bootfw.dhcp import associations6 as ia
from bootfw.dhcp.answer import Answer6, Arrival6, NoReply, NoReplyReason
from bootfw.dhcp.classify import link_of
from bootfw.dhcp.computedchoice import FIRMWARE, SYSTEM, ComputedChoice, Holder
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

_FOR_SERVER = frozenset((MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE))
"""Messages that name the server that they are for."""
_FOR_ANY_SERVER = frozenset((MessageType.SOLICIT, MessageType.CONFIRM, MessageType.REBIND))
"""Messages that name no server."""


@define(eq=False)
class _Exchange:
    message: Message
    arrival: Arrival6
    now: float
    duid: bytes
    book: LeaseBook[Subnet6, ComputedChoice]
    subnet: Subnet6

    def associations(self) -> Iterator[IdentityAssociation]:
        """Those that are well formed."""
        for raw in self.message.every(Option.IA_NA)[: ia.MOST_ASSOCIATIONS]:
            try:
                yield codec.identity_association(raw)
            except WireError:
                continue

    def holder(self, association: IdentityAssociation) -> Holder:
        """What an address for it is leased to."""
        kind = FIRMWARE if is_firmware6(self.message) else SYSTEM
        return Holder(self.duid, association.iaid, self.arrival.mac, kind)


class AddressServer6(LeaseBooks[Subnet6, ComputedChoice]):
    """Gives addresses by DHCPv6. Every lease that an answer brings has to be stored before the answer leaves.

    A SOLICIT changes nothing: the address that it is offered is computed from the identity of the machine, so that the
    REQUEST gets the same although nothing was remembered, unless another client was quicker.

    :param duid: that of this server.
    :param admit: whether one more unknown client is given an address now: called with its wire and the time.
    :param classes: options for kinds of clients, the later ones over the earlier.
    """

    def __init__(
        self,
        subnets: Sequence[Subnet6],
        duid: bytes,
        admit: Callable[[object, float], bool] = lambda wire, now: True,
        classes: Sequence[HostClass6] = (),
    ) -> None:
        super().__init__(subnets, ComputedChoice)
        self._duid = duid
        self._admit = admit
        self._classes = tuple(classes)

    def handle(self, message: Message, arrival: Arrival6, now: float) -> Answer6 | NoReply:
        """What to do about *message*.

        :param now: seconds since the epoch.
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
        if (server is None and kind in _FOR_SERVER) or (server is not None and kind in _FOR_ANY_SERVER):
            return NoReply(
                NoReplyReason.MALFORMED, f"{kind.name} with{'out' if server is None else ''} a server identifier"
            )
        self.own.update(arrival.addresses)
        place = self._place(arrival)
        if kind is MessageType.INFORMATION_REQUEST:
            return self._inform(message, place, arrival.mac)
        duid = message.first(Option.CLIENT_ID)
        if not duid:
            return NoReply(NoReplyReason.MALFORMED, f"{kind.name} without a client identifier")
        if arrival.unicast and not arrival.relays and kind in _FOR_SERVER:
            return Answer6(MessageType.REPLY, (ia.status(Status.USE_MULTICAST, "not to this address"),))
        if place is None:
            return NoReply(NoReplyReason.NO_SUBNET, link_of(arrival.relays))
        return handle(self, _Exchange(message, arrival, now, duid, *place))

    def reserve(self, reservation: Reservation) -> None:
        """See LeaseBooks.

        :raise ValueError: the address is in no subnet, or it is not for DHCPv6.
        """
        super().reserve(Host6.of(reservation).reservation())

    def unreserve(self, reservation: Reservation) -> None:
        """See LeaseBooks."""
        super().unreserve(Host6.of(reservation).reservation())

    def _place(self, arrival: Arrival6) -> tuple[LeaseBook[Subnet6, ComputedChoice], Subnet6] | None:
        """Where the client is."""
        link = link_of(arrival.relays)
        if link in self.relays:
            return self.relays[link]
        places = map(self.place_of, (link,) if link != UNSPECIFIED else arrival.addresses)
        return next(filter(None, places), None)

    def _inform(
        self, message: Message, place: tuple[LeaseBook[Subnet6, ComputedChoice], Subnet6] | None, mac: str
    ) -> Answer6 | NoReply:
        if message.first(Option.IA_NA) is not None or message.first(Option.IA_TA) is not None:
            return NoReply(NoReplyReason.MALFORMED, "INFORMATION-REQUEST with an identity association")  # section 16.12
        if place is None:
            return Answer6(MessageType.REPLY, ())
        book, subnet = place
        reservation = book.choice.reserved_for(message.first(Option.CLIENT_ID) or b"", mac)
        return Answer6(MessageType.REPLY, (), self._configured(message, subnet, reservation), subnet=subnet)

    def _configured_for(self, exchange: _Exchange) -> Values:
        reservation = exchange.book.choice.reserved_for(exchange.duid, exchange.arrival.mac)
        return self._configured(exchange.message, exchange.subnet, reservation)

    def _configured(self, message: Message, subnet: Subnet6, reservation: Reservation | None) -> Values:
        """The configured options that the client requests; all of them when it has no option 6."""
        configured = subnet.reply_options
        if self._classes or reservation is not None:
            configured = dict(configured)
            for host_class in self._classes:
                if host_class.has(message):
                    configured.update(host_class.options)
            if reservation is not None:
                configured.update(reservation.options)
        raw = message.first(Option.OPTION_REQUEST)
        try:
            wanted = None if raw is None else codec.uint16s(raw)
        except WireError:
            wanted = None
        return (
            configured
            if wanted is None
            else {key: value for key, value in configured.items() if codec.code_of(key) in wanted}
        )

    def _solicit(self, exchange: _Exchange) -> Answer6 | NoReply:
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
        answered: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        granted: list[Lease] = []
        given: dict[int, str] = {}
        reason = NoReplyReason.EXHAUSTED
        for association in exchange.associations():
            holder, wanted = exchange.holder(association), ia.wanted(association)
            numbers = [number_of(each) for each in wanted]
            if exchange.message.kind is MessageType.REQUEST and any(each not in book for each in numbers):
                # Section 18.3.2: the client has moved, and has to start over.
                answered.append(ia.refused(association, Status.NOT_ON_LINK, "not an address of this link"))
                continue
            reservation = book.choice.reservation(holder)
            first = numbers[0] if numbers else None
            binding = book.choose(holder, reservation, first, exchange.subnet, now, given)
            if binding is None:
                serves = reservation is not None or book.serves_unknown
                reason = NoReplyReason.EXHAUSTED if serves else NoReplyReason.UNKNOWN_CLIENT
                why = "no address left" if serves else "for known clients only"
                answered.append(ia.refused(association, Status.NO_ADDRESSES, why))
                continue
            if kind is MessageType.REPLY:
                if holder.key not in book.leased and not self._admit(exchange.arrival.wire, now):
                    return NoReply(NoReplyReason.LIMITED, book.name, tuple(commit))
                new = not _has(holder, binding.lease, now)
                lease = _lease(holder, binding, now)
                commit += book.grant(binding, lease)
                granted += [lease] if new else []
            address = given[binding.number] = binding.address
            answered.append(
                ia.given(association, exchange.subnet, address, [each for each in wanted if each != address])
            )
        answered += ia.no_prefixes(exchange.message)
        exhausted = bool(answered) and not given
        return Answer6(
            kind,
            tuple(answered),
            self._configured_for(exchange),
            tuple(commit),
            next(iter(given.values()), ""),
            tuple(granted),
            exchange.subnet,
            reason if exhausted and kind is MessageType.ADVERTISE else None,
            book.name,
        )

    def _renew(self, exchange: _Exchange) -> Answer6 | NoReply:
        """RENEW and REBIND (sections 18.3.4 and 18.3.5)."""
        book, now = exchange.book, exchange.now
        rebinds = exchange.message.kind is MessageType.REBIND
        answered: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        first = ""
        for association in exchange.associations():
            holder, wanted = exchange.holder(association), ia.wanted(association)
            reservation = book.choice.reservation(holder)
            held = book.leased.get(holder.key)
            binding = None
            if held is not None:
                if book.preferred(holder, reservation, None, now) is held:
                    binding = held
            else:
                # Our record of it is lost, or another server has given it.
                found = (book.find(number_of(each)) for each in wanted)
                may_have = (each for each in found if each and book.may_have(each, holder, reservation, now))
                binding = next(may_have, None)
            if binding is not None:
                commit += book.grant(binding, _lease(holder, binding, now))
                address = binding.address
                first = first or address
                gone = [each for each in wanted if each != address]
                answered.append(ia.given(association, exchange.subnet, address, gone))
            elif gone := [each for each in wanted if not rebinds or _is_wrong(book, holder, each)]:
                if held is not None or rebinds:
                    answered.append(ia.ended(association, gone))
                else:
                    answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
            elif not rebinds:
                answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
        if not answered and rebinds:
            return NoReply(NoReplyReason.UNKNOWN)
        configured = self._configured_for(exchange)
        return Answer6(MessageType.REPLY, tuple(answered), configured, tuple(commit), first, subnet=exchange.subnet)

    def _confirm(self, exchange: _Exchange) -> Answer6 | NoReply:
        addresses = [each for association in exchange.associations() for each in ia.wanted(association)]
        if not addresses:
            return NoReply(NoReplyReason.NOT_FOR_SERVER)
        if all(number_of(each) in exchange.book for each in addresses):
            return Answer6(MessageType.REPLY, (ia.status(Status.SUCCESS, "all on this link"),))
        return Answer6(MessageType.REPLY, (ia.status(Status.NOT_ON_LINK, "not all on this link"),))

    def _give_back(self, exchange: _Exchange) -> Answer6 | NoReply:
        """RELEASE and DECLINE: only of what the client has (sections 18.3.7 and 18.3.8)."""
        declines = exchange.message.kind is MessageType.DECLINE
        book, now = exchange.book, exchange.now
        answered: list[tuple[int, bytes]] = [ia.status(Status.SUCCESS, "done")]
        commit: list[Lease] = []
        for association in exchange.associations():
            binding = book.leased.get(exchange.holder(association).key)
            if binding is None or binding.lease is None:
                answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
            elif binding.address in ia.wanted(association):
                if declines:
                    # The DUID has declined it: a client has as many identity associations as it likes.
                    end = now + QUARANTINE_SECONDS
                    lease = evolve(binding.lease, client=b"", state=LeaseState.DECLINED, granted=now, expires=end)
                    commit += book.quarantine(binding, lease)
                else:
                    commit.append(book.release(binding, now))
        reason = (NoReplyReason.DECLINED if declines else NoReplyReason.RELEASED) if commit else None
        detail = commit[0].address if commit else ""
        return Answer6(MessageType.REPLY, tuple(answered), commit=tuple(commit), reason=reason, detail=detail)


def _has(holder: Holder, lease: Lease | None, now: float) -> bool:
    return lease is not None and lease.client == holder.key and lease.state is LeaseState.ACTIVE and lease.expires > now


def _lease(holder: Holder, binding: Binding[Subnet6], now: float) -> Lease:
    return Lease(
        address=binding.address,
        client=holder.key,
        mac=holder.mac,
        state=LeaseState.ACTIVE,
        granted=now,
        expires=now + binding.subnet.lease_seconds,
        client_id=holder.duid,
        kind=holder.kind,
    )


def _is_wrong(book: LeaseBook[Subnet6, ComputedChoice], holder: Holder, address: str) -> bool:
    """*holder*, which may not have the address, is surely wrong to use it: it is not of this network, or it is in
    quarantine, or we have leased it to another client."""
    number = number_of(address)
    binding = book.find(number)
    return number not in book or (
        binding is not None and binding.lease is not None and binding.lease.client != holder.key
    )


_HANDLERS: Mapping[MessageType, Callable[[AddressServer6, _Exchange], Answer6 | NoReply]] = {
    MessageType.SOLICIT: AddressServer6._solicit,
    MessageType.REQUEST: AddressServer6._request,
    MessageType.CONFIRM: AddressServer6._confirm,
    MessageType.RENEW: AddressServer6._renew,
    MessageType.REBIND: AddressServer6._renew,
    MessageType.RELEASE: AddressServer6._give_back,
    MessageType.DECLINE: AddressServer6._give_back,
    MessageType.INFORMATION_REQUEST: AddressServer6._request,  # handle() sees to it before
}
