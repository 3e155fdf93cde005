"""One message of a DHCPv4 client and the answer to it: RFC 2131 section 4.3, case by case."""

from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.identity import Client, is_firmware
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook
from bootfw.dhcp.offers import Offers
from bootfw.dhcp.pool import Binding
from bootfw.dhcp.ranges import number_of, text_of
from bootfw.dhcp.subnet import Subnet
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.wire import options as codec
from bootfw.wire.dhcp4 import UNSPECIFIED, Message, MessageType
from bootfw.wire.options import Option

_HOST_NAME = Option.HOST_NAME
_REQUESTED = Option.REQUESTED_IP_ADDRESS
_SERVER_IDENTIFIER = Option.SERVER_IDENTIFIER
_RAPID_COMMIT = Option.RAPID_COMMIT
_OFFER, _ACK = MessageType.OFFER, MessageType.ACK
_ACTIVE = LeaseState.ACTIVE

Result = Answer | NoReply

Admit = Callable[[Message, Arrival, float, Callable[[], int]], bool]
"""Whether an unknown client is given an address: called with the time in seconds, and with what counts the addresses of
the network that are free, about."""


@define(eq=False)
class Rules:
    """What is the same for every message."""

    authoritative: bool
    classes: Sequence[HostClass]
    admit: Admit
    own: Collection[str]
    """Our addresses, as far as they have been seen."""


@define(eq=False)
class Exchange:
    """A message, its sender, and where that is."""

    rules: Rules
    message: Message
    arrival: Arrival
    now: float
    client: Client
    book: LeaseBook[Subnet, Offers]
    subnet: Subnet
    override: str
    """The server identifier (option 54) that the relay wants; "" when it is our address."""
    reservation: Reservation | None
    """The client's."""

    def discover(self) -> Result:
        """INIT: an offer, which is kept for the client for a while."""
        binding = self._address(self._requested())
        if isinstance(binding, NoReply):
            return binding
        self.book.choice.offer(binding, self.client, self.now)
        subnet, has_lease = binding.subnet, self._has(binding)
        doubtful = self._doubts(binding, has_lease)
        if subnet.rapid_commit and _RAPID_COMMIT in self.message.options and not doubtful:
            answer = self._acked(binding)
            answer.options = {**answer.options, _RAPID_COMMIT: b""}
            return answer
        configured = subnet.firmware_options if is_firmware(self.message) else subnet.system_options
        return self._answer(_OFFER, subnet, configured, binding.address, (), not has_lease, doubtful)

    def request(self) -> Result:
        """SELECTING, INIT-REBOOT, RENEWING or REBINDING: distinguished as RFC 2131 section 4.3.2 has it."""
        message = self.message
        chosen = codec.first_address(message.options.get(_SERVER_IDENTIFIER))
        if chosen is not None and chosen != self.override and chosen not in self.rules.own:
            self.book.choice.withdraw(self.client, self.now)
            return NoReply(NoReplyReason.OTHER_SERVER, chosen)
        wanted = self._requested()
        # A client that selects an offer sends both; some fill in ciaddr too, with the address that they had before.
        selecting = chosen is not None and wanted is not None
        renewing = message.ciaddr != UNSPECIFIED and not selecting
        if renewing:
            wanted = number_of(message.ciaddr)
        if wanted is None:
            # It can only mean what we have for it: the option may be broken.
            due = self.book.preferred(self.client, self.reservation, None, self.now)
            if due is None:
                return NoReply(NoReplyReason.MALFORMED, "a REQUEST that names no address")
            wanted = due.number
        # A client that chose us, or sends to us only, has the address from us even if we have no record of it any more.
        ours = chosen is not None or (renewing and self.arrival.unicast)
        return self._judged(wanted, ours)

    def release(self) -> NoReply:
        """The address is given back."""
        binding = self.book.find(number_of(self.message.ciaddr))
        if binding is None or not self._has(binding):
            return NoReply(NoReplyReason.UNKNOWN, self.message.ciaddr)
        return NoReply(NoReplyReason.RELEASED, binding.address, (self.book.release(binding, self.now),))

    def decline(self) -> NoReply:
        """Another machine uses the address."""
        wanted = self._requested()
        binding = self.book.find(wanted) if wanted is not None else None
        client, now = self.client, self.now
        # Only the client that has the address may decline it: a quarantine is long.
        if binding is None or not (self._has(binding) or binding.offered_to == client.key):
            return NoReply(NoReplyReason.UNKNOWN, "" if wanted is None else text_of(wanted, 4))
        lease = Lease(binding.address, client.key, client.mac, LeaseState.DECLINED, now, now + QUARANTINE_SECONDS)
        return NoReply(NoReplyReason.DECLINED, binding.address, self.book.quarantine(binding, lease))

    def inform(self) -> Result:
        """Everything but an address (RFC 2131 section 4.3.5)."""
        return self._answer(_ACK, self.subnet, self.subnet.reply_options)

    def bootp(self) -> Result:
        """BOOTP: an address for ever (RFC 1534 section 2), and no state but that."""
        reservation = self.reservation
        if not self.subnet.bootp and not (reservation and reservation.address):
            return NoReply(NoReplyReason.UNRESERVED)
        binding = self._address(None)
        if isinstance(binding, NoReply):
            return binding
        if not self.subnet.bootp and reservation and binding.address != reservation.address:
            return NoReply(NoReplyReason.UNRESERVED, f"{reservation.address} is in use")
        new = not self._has(binding)
        commit = self.book.grant(binding, self._lease(binding, NEVER, "bootp"))
        return self._answer(None, binding.subnet, binding.subnet.reply_options, binding.address, commit, new)

    # Decisions

    def _address(self, wanted: int | None) -> Binding[Subnet] | NoReply:
        book, client, reservation, now = self.book, self.client, self.reservation, self.now
        if reservation is None and not book.serves_unknown:
            return NoReply(NoReplyReason.UNKNOWN_CLIENT, book.name)
        known = reservation is not None or book.choice.knows(client)
        if not known and not self.rules.admit(self.message, self.arrival, now, book.free):
            return NoReply(NoReplyReason.LIMITED, book.name)
        # A client that is not known and requests no address has none that it should have rather than others.
        found = book.preferred(client, reservation, wanted, now) if known or wanted is not None else None
        found = found or book.any_free(client, reservation, self.subnet, now)
        return found or NoReply(NoReplyReason.EXHAUSTED, book.name)

    def _judged(self, wanted: int, ours: bool) -> Result:
        """An ACK if the client may have *wanted*, a NAK if it surely may not, or else nothing.

        :param ours: the client takes us for the server that gave it the address.
        """
        book, client, reservation, now = self.book, self.client, self.reservation, self.now
        key = client.key
        binding = book.find(wanted)
        authority = ours or self.rules.authoritative
        if binding is None:
            address = text_of(wanted, 4)
            if wanted not in book:
                return self._nak(f"{address} is not of this network")
            # Another server may give addresses of the same network.
            return self._nak(f"{address} is not given here") if authority else NoReply(NoReplyReason.UNKNOWN, address)
        address = binding.address
        lease = binding.lease
        record = lease is not None and lease.client == key and lease.state is not LeaseState.DECLINED
        passes_on = book.choice.passes_on(binding, client, reservation)
        if not passes_on and not book.allowed(binding, reservation):
            known_bad = record or authority or binding.pool is not None
            return self._nak(f"{address} is kept for others") if known_bad else NoReply(NoReplyReason.UNKNOWN, address)
        if not passes_on and not binding.free_for(key, now):
            return self._nak(f"{address} is in use")
        if reservation is not None and self._should_move(binding, reservation):
            return self._nak(f"{reservation.address} is reserved for it")
        if not record and not passes_on and binding.offered_to != key:
            holds = book.leased.get(key)
            if holds is not None and holds is not binding and self._uses(holds):
                return self._nak(f"it has {holds.address}")
            if not authority:
                return NoReply(NoReplyReason.UNKNOWN, address)
            known = reservation is not None or book.choice.knows(client)
            if not known and not self.rules.admit(self.message, self.arrival, now, book.free):
                return NoReply(NoReplyReason.LIMITED, book.name)
        return self._acked(binding)

    def _should_move(self, binding: Binding[Subnet], reservation: Reservation) -> bool:
        """The address that is reserved for the client is another one than *binding*, and is free."""
        reserved = self.book.reserved.get(reservation.address)
        return reserved is not None and reserved is not binding and reserved.free_for(self.client.key, self.now)

    def _acked(self, binding: Binding[Subnet]) -> Answer:
        now, subnet = self.now, binding.subnet
        if is_firmware(self.message):
            kind, expires, configured = "firmware", now + subnet.firmware_lease_seconds, subnet.firmware_options
        else:
            kind, expires, configured = "system", now + subnet.lease_seconds, subnet.system_options
        new = not self._has(binding)
        lease = binding.lease
        if lease is not None and not new and lease.expires > expires:
            # The lease of the system goes on while its machine restarts.
            kind, expires = lease.kind, lease.expires
        commit = self.book.grant(binding, self._lease(binding, expires, kind))
        return self._answer(_ACK, subnet, configured, binding.address, commit, new)

    def _nak(self, why: str) -> Answer:
        server = self._server(self.subnet)
        return Answer(MessageType.NAK, server, self.override or server, message=why)

    # Parts

    def _answer(
        self,
        kind: MessageType | None,
        subnet: Subnet,
        configured: Mapping[int, bytes],
        address: str = "",
        commit: tuple[Lease, ...] = (),
        new: bool = False,
        probe: bool = False,
    ) -> Answer:
        """The answer to a client of *subnet*, with the options that are *configured* there, and those of classes and of
        its reservation."""
        arrival, reservation = self.arrival, self.reservation
        server = self._server(subnet) if arrival.addresses else arrival.server
        if self.rules.classes or reservation is not None:
            configured = self._overridden(configured)
        identifier = "" if kind is None else self.override or server
        return Answer(kind, server, identifier, address, configured, commit, new, probe, reservation)

    def _server(self, subnet: Subnet) -> str:
        """Our address for the client: of several on its wire the one that is in its subnet."""
        arrival = self.arrival
        if arrival.addresses:
            for address in arrival.addresses:
                if subnet.contains(address):
                    return address
        return arrival.server

    def _lease(self, binding: Binding[Subnet], expires: float, kind: str) -> Lease:
        client = self.client
        client_id, uuid = client.client_id, client.uuid
        name = self.message.options.get(_HOST_NAME)
        hostname = "" if name is None else codec.text(name)
        before = binding.lease
        if before is not None and before.client == client.key:
            # The ROM sends its UUID, and the system its name.
            client_id, uuid = client_id or before.client_id, uuid or before.uuid
            hostname = hostname or before.hostname
        return Lease(
            binding.address, client.key, client.mac, _ACTIVE, self.now, expires,
            client_id, uuid, hostname, kind,
        )  # fmt: skip

    def _overridden(self, configured: Mapping[int, bytes]) -> Mapping[int, bytes]:
        """*configured*, overridden by the options of classes, and these by those of the reservation."""
        reservation = self.reservation
        options = dict(configured)
        for host_class in self.rules.classes:
            if host_class.has(self.message):
                options.update(host_class.options)
        if reservation is not None:
            if reservation.hostname:
                options[Option.HOST_NAME] = codec.text_bytes(reservation.hostname)
            options.update(reservation.options)
        return options

    def _has(self, binding: Binding[Subnet]) -> bool:
        """The address is leased to the client, or was and is not leased to another since."""
        lease = binding.lease
        return lease is not None and lease.client == self.client.key and lease.state is _ACTIVE

    def _uses(self, binding: Binding[Subnet]) -> bool:
        """The address is leased to the client now."""
        lease = binding.lease
        return lease is not None and self._has(binding) and lease.expires > self.now

    def _doubts(self, binding: Binding[Subnet], has_lease: bool) -> bool:
        """Whether to probe the address before it is offered (conflict detection).

        On our wire the reply to a probe shows whose it is. Behind a relay it does not, and the client itself may reply:
        a client has to stop when its lease has ended (RFC 2131 section 4.4.5), but a system goes on that got its
        address from a boot program, or had the same one before it used DHCP. A probe of the address that was its own
        last, or is reserved for it, would take that address away from it, with what depends on it: a root by NFS or
        iSCSI. So behind a relay only addresses that are new to the client are probed; ISC dhcpd does the same with
        reserved ones.

        :param has_lease: of _has().
        """
        lease, reservation = binding.lease, self.reservation
        if binding.probed or (has_lease and lease is not None and lease.expires > self.now):
            return False
        if reservation is not None and self.book.choice.passes_on(binding, self.client, reservation):
            return False
        if self.message.giaddr == UNSPECIFIED:
            return True
        return not has_lease and (reservation is None or reservation.address != binding.address)

    def _requested(self) -> int | None:
        """Option 50. One that is sent twice has eight bytes (RFC 3396), and means its first address."""
        raw = self.message.options.get(_REQUESTED)
        return int.from_bytes(raw[:4], "big") if raw is not None and len(raw) >= 4 else None
