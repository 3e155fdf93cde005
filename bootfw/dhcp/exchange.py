"""Decide the answer to one DHCPv4 message: RFC 2131 section 4.3, case by case."""

from collections.abc import Callable, Collection, Mapping, Sequence

from attrs import define

from bootfw.dhcp.answer import Answer, Arrival, NoReply, NoReplyReason
from bootfw.dhcp.hostclass import HostClass
from bootfw.dhcp.identity import Client, is_firmware
from bootfw.dhcp.leasebook import QUARANTINE_SECONDS, LeaseBook
from bootfw.dhcp.offerallocator import OfferAllocator
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

_LONGEST_HOST_NAME = 255
"""Bytes of a host name that a lease keeps (RFC 1035 section 2.3.4). Several options together may have a longer one."""

Result = Answer | NoReply

Admit = Callable[[Message, Arrival, float, Callable[[], int]], bool]
"""Return whether an unknown client may get an address. The arguments are the message, its arrival, the time in seconds,
and a function that returns about how many addresses are free."""


@define(eq=False)
class ServerPolicy:
    """The settings that all exchanges of a server share."""

    authoritative: bool
    classes: Sequence[HostClass]
    admit: Admit
    probes: bool
    """Addresses are probed before they are offered (conflict detection)."""
    own_addresses: Collection[str]
    """Our addresses, as far as messages have shown them, and those of the nodes in whose place we may decide."""


@define(eq=False)
class Exchange:
    """One message with its client, and the subnet and lease book of the client's link."""

    policy: ServerPolicy
    message: Message
    arrival: Arrival
    now: float
    client: Client
    book: LeaseBook[Subnet, OfferAllocator]
    subnet: Subnet
    identifier_override: str
    """The server identifier (option 54) that the relay requires (RFC 5107), or that the client has selected; "": our
    address."""
    reservation: Reservation | None
    """The reservation for the client."""

    def discover(self) -> Result:
        """Answer a DISCOVER: offer an address, and keep the offer for OFFER_SECONDS."""
        binding = self._allocate(self._requested_address())
        if isinstance(binding, NoReply):
            return binding
        self.book.allocator.offer(binding, self.client, self.now)
        subnet, has_lease = binding.subnet, self._has_lease(binding)
        needs_probe = self.policy.probes and self._needs_probe(binding, has_lease)
        if subnet.rapid_commit and _RAPID_COMMIT in self.message.options and not needs_probe:
            answer = self._ack(binding)
            answer.options = {**answer.options, _RAPID_COMMIT: b""}
            return answer
        _, _, configured = self._terms(subnet)
        return self._answer(_OFFER, subnet, configured, binding.address, (), not has_lease, needs_probe)

    def request(self) -> Result:
        """Answer a REQUEST in SELECTING, INIT-REBOOT, RENEWING or REBINDING; RFC 2131 section 4.3.2 tells them
        apart."""
        message = self.message
        chosen = codec.first_address(message.options.get(_SERVER_IDENTIFIER))
        if chosen is not None and chosen != self.identifier_override and chosen not in self.policy.own_addresses:
            self.book.allocator.withdraw(self.client, self.now)
            return NoReply(NoReplyReason.OTHER_SERVER, chosen)
        # It may be another of our addresses, or that of the former leader, and clients ignore any other server.
        self.identifier_override = self.identifier_override or chosen or ""
        requested = self._requested_address()
        # A client that selects an offer sends both; some fill in ciaddr too, with the address that they had before.
        selecting = chosen is not None and requested is not None
        renewing = message.ciaddr != UNSPECIFIED and not selecting
        if renewing:
            requested = number_of(message.ciaddr)
        if requested is None:
            # The option may be malformed: take the address that the client has or was offered.
            expected = self.book.preferred(self.client, self.reservation, None, self.now)
            if expected is None:
                return NoReply(NoReplyReason.MALFORMED, "a REQUEST that names no address")
            requested = expected.number
        # A client that chose us, or sends to us only, has the address from us even if we have no record of it any more.
        is_our_client = chosen is not None or (renewing and self.arrival.unicast)
        return self._answer_request(requested, is_our_client)

    def release(self) -> NoReply:
        """Take a RELEASE."""
        binding = self.book.find(number_of(self.message.ciaddr))
        if binding is None or not self._has_lease(binding):
            return NoReply(NoReplyReason.UNKNOWN, self.message.ciaddr)
        return NoReply(NoReplyReason.RELEASED, binding.address, (self.book.release(binding, self.now),))

    def decline(self) -> NoReply:
        """Take a DECLINE: another machine uses the address, so it goes into quarantine."""
        requested = self._requested_address()
        binding = self.book.find(requested) if requested is not None else None
        client, now = self.client, self.now
        # Only the client that has the address may decline it: a quarantine is long.
        if binding is None or not (self._has_lease(binding) or binding.offered_to == client.key):
            return NoReply(NoReplyReason.UNKNOWN, "" if requested is None else text_of(requested, 4))
        lease = Lease(binding.address, client.key, client.mac, LeaseState.DECLINED, now, now + QUARANTINE_SECONDS)
        return NoReply(NoReplyReason.DECLINED, binding.address, self.book.quarantine(binding, lease))

    def inform(self) -> Result:
        """Answer an INFORM with all options but no address (RFC 2131 section 4.3.5)."""
        return self._answer(_ACK, self.subnet, self.subnet.reply_options)

    def bootp(self) -> Result:
        """Answer a BOOTP request: the lease never expires (RFC 1534 section 2), and there is no other state."""
        reservation = self.reservation
        if not self.subnet.bootp and not (reservation and reservation.address):
            return NoReply(NoReplyReason.UNRESERVED)
        binding = self._allocate(None)
        if isinstance(binding, NoReply):
            return binding
        if not self.subnet.bootp and reservation and binding.address != reservation.address:
            return NoReply(NoReplyReason.UNRESERVED, f"{reservation.address} is in use")
        new = not self._has_lease(binding)
        commit = self.book.grant(binding, self._new_lease(binding, NEVER, "bootp"))
        return self._answer(None, binding.subnet, binding.subnet.reply_options, binding.address, commit, new)

    # Decisions

    def _allocate(self, requested: int | None) -> Binding[Subnet] | NoReply:
        book, client, reservation, now = self.book, self.client, self.reservation, self.now
        if reservation is None and not book.serves_unknown_clients:
            return NoReply(NoReplyReason.UNKNOWN_CLIENT, book.name)
        known = reservation is not None or book.allocator.knows(client)
        if not known and not self.policy.admit(self.message, self.arrival, now, book.free):
            return NoReply(NoReplyReason.LIMITED, book.name)
        # A client without history that requests no address has no preferred one: skip the lookup.
        found = book.preferred(client, reservation, requested, now) if known or requested is not None else None
        found = found or book.choose_free(client, reservation, self.subnet, now)
        if found is not None:
            return found
        reason = NoReplyReason.EXHAUSTED if book.has_pool_for(client) else NoReplyReason.NO_POOL
        return NoReply(reason, book.name)

    def _answer_request(self, requested: int, is_our_client: bool) -> Result:
        """Answer a REQUEST: ACK if the client may have *requested*, NAK if it must not, no reply if we can't know.

        :param is_our_client: the client selected this server, or sends to it only.
        """
        book, client, reservation, now = self.book, self.client, self.reservation, self.now
        key = client.key
        binding = book.find(requested)
        has_authority = is_our_client or self.policy.authoritative
        if binding is None:
            address = text_of(requested, 4)
            if requested not in book:
                return self._nak(f"{address} is not of this network")
            # Another server may give addresses of the same network.
            return (
                self._nak(f"{address} is not given here") if has_authority else NoReply(NoReplyReason.UNKNOWN, address)
            )
        address = binding.address
        lease = binding.lease
        has_record = lease is not None and lease.client == key and lease.state is not LeaseState.DECLINED
        held_by_same_machine = book.allocator.held_by_same_machine(binding, client, reservation)
        if not held_by_same_machine and not book.is_allowed(binding, client, reservation):
            must_not_use = has_record or has_authority or binding.pool is not None
            return (
                self._nak(f"{address} is kept for others") if must_not_use else NoReply(NoReplyReason.UNKNOWN, address)
            )
        if not held_by_same_machine and not binding.free_for(key, now):
            return self._nak(f"{address} is in use")
        if reservation is not None and self._should_move(binding, reservation):
            return self._nak(f"{reservation.address} is reserved for it")
        if not has_record and not held_by_same_machine and binding.offered_to != key:
            leased = book.leased.get(key)
            if leased is not None and leased is not binding and self._has_current_lease(leased):
                return self._nak(f"it has {leased.address}")
            if not has_authority:
                return NoReply(NoReplyReason.UNKNOWN, address)
            known = reservation is not None or book.allocator.knows(client)
            if not known and not self.policy.admit(self.message, self.arrival, now, book.free):
                return NoReply(NoReplyReason.LIMITED, book.name)
        return self._ack(binding)

    def _should_move(self, binding: Binding[Subnet], reservation: Reservation) -> bool:
        """Return whether another address than *binding* is reserved for the client and free."""
        reserved = self.book.reserved.get(reservation.address)
        return reserved is not None and reserved is not binding and reserved.free_for(self.client.key, self.now)

    def _ack(self, binding: Binding[Subnet]) -> Answer:
        subnet = binding.subnet
        kind, seconds, configured = self._terms(subnet)
        expires = self.now + seconds
        new = not self._has_lease(binding)
        lease = binding.lease
        if lease is not None and not new and lease.expires > expires:
            # The lease of the system goes on while its machine restarts.
            kind, expires = lease.kind, lease.expires
        commit = self.book.grant(binding, self._new_lease(binding, expires, kind))
        return self._answer(_ACK, subnet, configured, binding.address, commit, new)

    def _terms(self, subnet: Subnet) -> tuple[str, int, Mapping[int, bytes]]:
        """Return the kind of the lease, its time in seconds, and the options of the subnet with that time."""
        reservation = self.reservation
        reserved_seconds = reservation.lease_seconds if reservation is not None else 0
        if is_firmware(self.message):
            if not 0 < reserved_seconds < subnet.firmware_lease_seconds:
                return "firmware", subnet.firmware_lease_seconds, subnet.firmware_options
            kind = "firmware"
        elif not reserved_seconds:
            return "system", subnet.lease_seconds, subnet.system_options
        else:
            kind = "system"
        return kind, reserved_seconds, {**subnet.times(reserved_seconds), **subnet.reply_options}

    def _nak(self, text: str) -> Answer:
        server = self._server_address(self.subnet)
        return Answer(MessageType.NAK, server, self.identifier_override or server, message=text)

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
        """Build the answer to a client of *subnet*: its *configured* options with those of classes and the
        reservation."""
        arrival, reservation = self.arrival, self.reservation
        server = self._server_address(subnet) if arrival.addresses else arrival.server
        if self.policy.classes or reservation is not None:
            configured = self._with_overrides(configured)
        identifier = "" if kind is None else self.identifier_override or server
        return Answer(kind, server, identifier, address, configured, commit, new, probe, reservation)

    def _server_address(self, subnet: Subnet) -> str:
        """Return our address for the client: of several on its link the one in its subnet."""
        arrival = self.arrival
        if arrival.addresses:
            for address in arrival.addresses:
                if subnet.contains(address):
                    return address
        return arrival.server

    def _new_lease(self, binding: Binding[Subnet], expires: float, kind: str) -> Lease:
        client = self.client
        client_id, uuid = client.client_id, client.uuid
        name = self.message.options.get(_HOST_NAME)
        hostname = "" if name is None else codec.text(name[:_LONGEST_HOST_NAME])
        before = binding.lease
        if before is not None and before.client == client.key:
            # The ROM sends its UUID, and the system its name.
            client_id, uuid = client_id or before.client_id, uuid or before.uuid
            hostname = hostname or before.hostname
        return Lease(
            binding.address, client.key, client.mac, _ACTIVE, self.now, expires,
            client_id, uuid, hostname, kind,
        )  # fmt: skip

    def _with_overrides(self, configured: Mapping[int, bytes]) -> Mapping[int, bytes]:
        """Return *configured* with the options of matching classes over it, and those of the reservation over these."""
        reservation = self.reservation
        options = dict(configured)
        for host_class in self.policy.classes:
            if host_class.matches(self.message, self.client.mac, reservation is not None):
                options.update(host_class.options)
        if reservation is not None:
            if reservation.hostname:
                options[Option.HOST_NAME] = codec.text_bytes(reservation.hostname)
            options.update(reservation.options)
        return options

    def _has_lease(self, binding: Binding[Subnet]) -> bool:
        """Return whether the latest lease of the address is the client's, expired or not."""
        lease = binding.lease
        return lease is not None and lease.client == self.client.key and lease.state is _ACTIVE

    def _has_current_lease(self, binding: Binding[Subnet]) -> bool:
        """Return whether the client has a lease of the address that has not expired."""
        lease = binding.lease
        return lease is not None and self._has_lease(binding) and lease.expires > self.now

    def _needs_probe(self, binding: Binding[Subnet], has_lease: bool) -> bool:
        """Return whether to probe the address before it is offered (conflict detection).

        On our own link the reply to a probe shows whose it is. Behind a relay it does not, and the client itself may
        reply: a client has to stop when its lease has ended (RFC 2131 section 4.4.5), but a system goes on that got its
        address from a boot program, or had the same one before it used DHCP. A probe of the address that was its own
        last, or is reserved for it, would take that address away from it, with what depends on it: a root by NFS or
        iSCSI. So behind a relay only addresses that are new to the client are probed; ISC dhcpd does the same with
        reserved ones.

        :param has_lease: the result of _has_lease().
        """
        lease, reservation = binding.lease, self.reservation
        if binding.probed or (has_lease and lease is not None and lease.expires > self.now):
            return False
        if reservation is not None and self.book.allocator.held_by_same_machine(binding, self.client, reservation):
            return False
        if self.message.giaddr == UNSPECIFIED:
            return True
        return not has_lease and (reservation is None or reservation.address != binding.address)

    def _requested_address(self) -> int | None:
        """Return the address in option 50. If it is sent twice it has eight bytes (RFC 3396); the first address
        counts."""
        raw = self.message.options.get(_REQUESTED)
        return int.from_bytes(raw[:4], "big") if raw is not None and len(raw) >= 4 else None
