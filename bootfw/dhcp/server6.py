"""Who gets which IPv6 address, and what is said to it (RFC 8415 section 18.3). No clock, no socket, no store."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from ipaddress import IPv6Address

from attrs import define, field, frozen

from bootfw.dhcp import associations6 as ia
from bootfw.dhcp.answer import NoReply, NoReplyReason
from bootfw.dhcp.bindings6 import FIRMWARE, SYSTEM, Bindings, Holder
from bootfw.dhcp.classify import link_of
from bootfw.dhcp.hostclass import HostClass6
from bootfw.dhcp.identity import is_firmware6
from bootfw.dhcp.subnet6 import Host6, Subnet6
from bootfw.errors import WireError
from bootfw.lease import Lease, Reservation
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import UNSPECIFIED, Message, MessageType, Relay
from bootfw.wire.options6 import IdentityAssociation, Option, Options, Status, Values

_FOR_SERVER = frozenset((MessageType.REQUEST, MessageType.RENEW, MessageType.RELEASE, MessageType.DECLINE))
"""They name the server that they are for."""
_FOR_ANYBODY = frozenset((MessageType.SOLICIT, MessageType.CONFIRM, MessageType.REBIND))
"""They name none."""


@frozen
class Arrival6:
    """How a message reached us."""

    addresses: tuple[str, ...]
    """Ours on that wire."""
    relays: tuple[Relay, ...] = ()
    mac: str = ""
    """Of hardware_of()."""
    unicast: bool = False
    """It was sent to an address of ours."""
    wire: object = None
    """What tells this interface from others."""


@define(eq=False)
class Answer6:
    """There is an answer."""

    kind: MessageType
    options: Options
    """In order, without the identifiers of client and server."""
    told: Values = field(factory=dict)
    """What is configured and the client wants; what there is no room for is left out."""
    commit: tuple[Lease, ...] = ()
    """Must be durable before the answer leaves."""
    address: str = ""
    """The first that the client is given or offered; "": none."""
    granted: tuple[Lease, ...] = ()
    """Of *commit*, what the client did not have when it asked."""
    subnet: Subnet6 | None = None
    """Where the client is; None: it does not matter, or is not known."""
    cause: NoReplyReason | None = None
    """EXHAUSTED, UNKNOWN_CLIENT, RELEASED or DECLINED: for the operator to hear of, with the network or the address."""
    detail: str = ""


@define(eq=False)
class _Exchange:
    message: Message
    arrival: Arrival6
    now: float
    duid: bytes
    subnet: Subnet6
    bindings: Bindings

    def associations(self) -> Iterator[IdentityAssociation]:
        """Those that make sense."""
        for raw in self.message.every(Option.IA_NA)[: ia.MOST_ASSOCIATIONS]:
            try:
                yield codec.identity_association(raw)
            except WireError:
                continue

    def holder(self, association: IdentityAssociation) -> Holder:
        """Who it is for."""
        kind = FIRMWARE if is_firmware6(self.message) else SYSTEM
        return Holder(self.duid, association.iaid, self.arrival.mac, kind)


class AddressServer6:
    """Gives addresses of its subnets. Every lease that an answer brings has to be stored before the answer leaves.

    A SOLICIT changes nothing: what it is offered is chosen by what the machine is, so that the REQUEST gets the same
    without anything having been kept for it, unless somebody else was quicker.

    :param duid: ours.
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
        self._duid = duid
        self._admit = admit
        self._classes = tuple(classes)
        self._own: set[str] = set()
        self._bindings = [(subnet, Bindings(subnet, self._own)) for subnet in subnets]
        self._relays = {relay: pair for pair in self._bindings for relay in pair[0].relays}

    def handle(self, message: Message, arrival: Arrival6, now: float) -> Answer6 | NoReply:
        """What to do about *message*.

        :param now: seconds since the epoch.
        """
        kind = message.kind
        handle = _HANDLERS.get(kind)
        if handle is None:
            return NoReply(NoReplyReason.NOT_ASKED)
        server = message.first(Option.SERVER_ID)
        if server is not None and server != self._duid:
            return NoReply(
                NoReplyReason.OTHER_SERVER if kind is MessageType.REQUEST else NoReplyReason.NOT_ASKED, server.hex()
            )
        if (server is None and kind in _FOR_SERVER) or (server is not None and kind in _FOR_ANYBODY):
            return NoReply(
                NoReplyReason.MALFORMED, f"{kind.name} with{'out' if server is None else ''} a server identifier"
            )
        self._own.update(arrival.addresses)
        place = self._place(arrival)
        if kind is MessageType.INFORMATION_REQUEST:
            return self._inform(message, place, arrival.mac)
        duid = message.first(Option.CLIENT_ID)
        if not duid:
            return NoReply(NoReplyReason.MALFORMED, f"{kind.name} without a client identifier")
        if arrival.unicast and not arrival.relays and kind in _FOR_SERVER:
            return Answer6(MessageType.REPLY, (ia.status(Status.USE_MULTICAST, "not to this address"),))
        if place is None:
            return NoReply(NoReplyReason.ABSENT, link_of(arrival.relays))
        return handle(self, _Exchange(message, arrival, now, duid, *place))

    # For the operator

    def leases(self) -> Iterator[Lease]:
        """Every lease that is known, expired ones too, in no order."""
        for _, bindings in self._bindings:
            yield from bindings.leases()

    def restore(self, lease: Lease) -> bool:
        """Take over a lease that was granted before, over what is known of its address.

        :return: false: the address is of no subnet.
        """
        bindings = self._bindings_of(lease.address)
        if bindings is None:
            return False
        bindings.put(lease)
        return True

    def release(self, address: str, now: float) -> tuple[Lease, ...]:
        """Take the lease or the quarantine off *address*.

        :return: to be stored; empty: there was none.
        """
        bindings = self._bindings_of(address)
        lease = bindings.lease(address) if bindings is not None else None
        return () if bindings is None or lease is None else (bindings.release(lease, now),)

    def reservations(self) -> Iterator[Reservation]:
        """Everything that is reserved now, each once."""
        for _, bindings in self._bindings:
            yield from (host.reservation() for host in bindings.hosts())

    def serves(self, address: str) -> bool:
        """Whether *address* is in a subnet."""
        return self._bindings_of(address) is not None

    def reserve(self, reservation: Reservation) -> None:
        """Reserve from now on; what is reserved for the same client or the same address is replaced.

        A lease that somebody else has for the address ends when it is to be renewed.

        :raise ValueError: the address is of no subnet, or it is none for DHCPv6.
        """
        host, bindings = Host6.of(reservation), self._bindings_of(reservation.address)
        if bindings is None:
            raise ValueError(f"{reservation.address} is of no subnet")
        bindings.reserve(host)

    def unreserve(self, reservation: Reservation) -> None:
        """Reserve it no longer. A lease of it goes on until it ends."""
        bindings = self._bindings_of(reservation.address)
        if bindings is not None:
            gone = Host6.of(reservation)
            for host in [each for each in bindings.hosts() if each == gone]:
                bindings.unreserve(host)

    def _bindings_of(self, address: str) -> Bindings | None:
        if ":" not in address:
            return None
        return next((bindings for _, bindings in self._bindings if bindings.has(address)), None)

    def _place(self, arrival: Arrival6) -> tuple[Subnet6, Bindings] | None:
        """Where the client is."""
        link = link_of(arrival.relays)
        if link in self._relays:
            return self._relays[link]
        for address in (link,) if link != UNSPECIFIED else arrival.addresses:
            number = IPv6Address(address)
            for pair in self._bindings:
                if number in pair[0].network:
                    return pair
        return None

    def _inform(self, message: Message, place: tuple[Subnet6, Bindings] | None, mac: str) -> Answer6 | NoReply:
        if message.first(Option.IA_NA) is not None or message.first(Option.IA_TA) is not None:
            return NoReply(NoReplyReason.MALFORMED, "INFORMATION-REQUEST with an identity association")  # section 16.12
        if place is None:
            return Answer6(MessageType.REPLY, ())
        subnet, bindings = place
        host = bindings.host(message.first(Option.CLIENT_ID) or b"", mac)
        return Answer6(MessageType.REPLY, (), self._told(message, subnet, host), subnet=subnet)

    def _told_to(self, exchange: _Exchange) -> Values:
        return self._told(
            exchange.message, exchange.subnet, exchange.bindings.host(exchange.duid, exchange.arrival.mac)
        )

    def _told(self, message: Message, subnet: Subnet6, host: Host6 | None) -> Values:
        """What is configured and asked for; all of it when the client does not say what it wants."""
        told = subnet.told
        if self._classes or host is not None:
            told = dict(told)
            for host_class in self._classes:
                if host_class.has(message):
                    told.update(host_class.options)
            if host is not None:
                told.update(host.options)
        raw = message.first(Option.OPTION_REQUEST)
        try:
            wanted = None if raw is None else codec.uint16s(raw)
        except WireError:
            wanted = None
        return told if wanted is None else {key: value for key, value in told.items() if codec.code_of(key) in wanted}

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
        bindings, now = exchange.bindings, exchange.now
        answered: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        granted: list[Lease] = []
        given: list[str] = []
        cause = NoReplyReason.EXHAUSTED
        for association in exchange.associations():
            holder, wanted = exchange.holder(association), ia.wanted(association)
            if exchange.message.kind is MessageType.REQUEST and any(not bindings.has(each) for each in wanted):
                # Section 18.3.2: it has moved, and is to begin anew.
                answered.append(ia.refused(association, Status.NOT_ON_LINK, "not an address of this link"))
                continue
            address = bindings.choose(holder, now, wanted[0] if wanted else "", given)
            if not address:
                cause = NoReplyReason.EXHAUSTED if bindings.serves(holder) else NoReplyReason.UNKNOWN_CLIENT
                why = "no address left" if cause is NoReplyReason.EXHAUSTED else "for known clients only"
                answered.append(ia.refused(association, Status.NO_ADDRESSES, why))
                continue
            if kind is MessageType.REPLY:
                if bindings.held_by(holder) is None and not self._admit(exchange.arrival.wire, now):
                    return NoReply(NoReplyReason.LIMITED, str(exchange.subnet.network), tuple(commit))
                lease, new = bindings.grant(holder, address, now)
                commit.append(lease)
                granted += [lease] if new else []
            given.append(address)
            answered.append(
                ia.given(association, exchange.subnet, address, [each for each in wanted if each != address])
            )
        answered += ia.no_prefixes(exchange.message)
        exhausted = bool(answered) and not given
        return Answer6(
            kind,
            tuple(answered),
            self._told_to(exchange),
            tuple(commit),
            given[0] if given else "",
            tuple(granted),
            exchange.subnet,
            cause if exhausted and kind is MessageType.ADVERTISE else None,
            str(exchange.subnet.network),
        )

    def _renew(self, exchange: _Exchange) -> Answer6 | NoReply:
        """RENEW and REBIND (sections 18.3.4 and 18.3.5)."""
        bindings, now = exchange.bindings, exchange.now
        rebinds = exchange.message.kind is MessageType.REBIND
        answered: list[tuple[int, bytes]] = []
        commit: list[Lease] = []
        first = ""
        for association in exchange.associations():
            holder, wanted = exchange.holder(association), ia.wanted(association)
            lease = bindings.held_by(holder)
            address = ""
            if lease is not None and bindings.choose(holder, now) == lease.address:
                address = lease.address
            elif lease is None:
                # We have forgotten it, or somebody else has given it.
                address = next((each for each in wanted if bindings.grantable(holder, each, now)), "")
            if address:
                commit.append(bindings.grant(holder, address, now)[0])
                first = first or address
                gone = [each for each in wanted if each != address]
                answered.append(ia.given(association, exchange.subnet, address, gone))
            elif gone := [each for each in wanted if not rebinds or bindings.denies(holder, each)]:
                if lease is not None or rebinds:
                    answered.append(ia.ended(association, gone))
                else:
                    answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
            elif not rebinds:
                answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
        if not answered and rebinds:
            return NoReply(NoReplyReason.UNKNOWN)
        told = self._told_to(exchange)
        return Answer6(MessageType.REPLY, tuple(answered), told, tuple(commit), first, subnet=exchange.subnet)

    def _confirm(self, exchange: _Exchange) -> Answer6 | NoReply:
        addresses = [each for association in exchange.associations() for each in ia.wanted(association)]
        if not addresses:
            return NoReply(NoReplyReason.NOT_ASKED)
        if all(map(exchange.bindings.has, addresses)):
            return Answer6(MessageType.REPLY, (ia.status(Status.SUCCESS, "all on this link"),))
        return Answer6(MessageType.REPLY, (ia.status(Status.NOT_ON_LINK, "not all on this link"),))

    def _give_back(self, exchange: _Exchange) -> Answer6 | NoReply:
        """RELEASE and DECLINE: only of what the client has (sections 18.3.7 and 18.3.8)."""
        declines = exchange.message.kind is MessageType.DECLINE
        bindings = exchange.bindings
        answered: list[tuple[int, bytes]] = [ia.status(Status.SUCCESS, "done")]
        commit: list[Lease] = []
        for association in exchange.associations():
            lease = bindings.held_by(exchange.holder(association))
            if lease is None:
                answered.append(ia.refused(association, Status.NO_BINDING, "not known here"))
            elif lease.address in ia.wanted(association):
                commit += (
                    bindings.decline(lease, exchange.now) if declines else (bindings.release(lease, exchange.now),)
                )
        cause = (NoReplyReason.DECLINED if declines else NoReplyReason.RELEASED) if commit else None
        detail = commit[0].address if commit else ""
        return Answer6(MessageType.REPLY, tuple(answered), commit=tuple(commit), cause=cause, detail=detail)


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
