"""The port of the DHCPv4 server: addresses and boot files in one exchange."""

from collections.abc import Callable
from functools import partial
from socket import inet_aton, inet_ntoa

from attrs import evolve

from bootfw.boot.resolverchain import Answer as BootChoice
from bootfw.dhcp.answer import Answer, NoReply
from bootfw.dhcp.classify import Ignored
from bootfw.dhcp.identity import is_firmware
from bootfw.dhcp.reply import server_reply
from bootfw.dhcp.replycache import ReplyCache
from bootfw.dhcp.routing import BROADCAST, is_renewal, server_destination
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.storedends import limited
from bootfw.errors import WireError
from bootfw.events import AddressRefused, AddressTaken, FileWithheld, OfferMade, RequestIgnored
from bootfw.lease import Lease
from bootfw.net.dhcp.conflict import ArpProbe, Done, IcmpProbe
from bootfw.net.dhcp.ipv4 import IPv4
from bootfw.net.dhcp.journal import STORE_HANGS, Batch, Journal
from bootfw.net.dhcp.noreply import RECORDED, NoReplyReports
from bootfw.net.dhcp.port import DHCPPort, Query
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.nodes.leadership import Leadership
from bootfw.values import BootRequest, Via
from bootfw.wire.dhcp4 import UNSPECIFIED, Message, MessageType, pack, reply_size
from bootfw.wire.options import Option

_MASK = 1
_RAPID_COMMIT = Option.RAPID_COMMIT
_PARAMETERS, _BOOTFILE_NAME = Option.PARAMETER_REQUEST_LIST, Option.BOOTFILE_NAME
_NAK, _OFFER = MessageType.NAK, MessageType.OFFER
_IDENTIFYING = frozenset(
    (
        Option.VENDOR_CLASS_IDENTIFIER,
        Option.USER_CLASS,
        Option.CLIENT_SYSTEM_ARCHITECTURE,
        Option.IPXE_ENCAPSULATED,
    )
)
"""Options that identify a boot client; without them classify() need not be called."""


class Server4(DHCPPort):
    """Gives addresses to all clients, and their boot files to those that boot.

    :param addresses: decides which client gets which address.
    :param journal: commits the leases of *addresses*.
    :param probe: detects conflicts on our own links; None: addresses are offered there without a check.
    :param ping: detects conflicts behind relays; None: addresses are offered there without a check.
    :param renewable_seconds: see Leasing.
    """

    family: IPv4

    def __init__(
        self,
        services: DHCPServices,
        family: IPv4,
        addresses: AddressServer,
        journal: Journal,
        *,
        probe: ArpProbe | None = None,
        ping: IcmpProbe | None = None,
        renewable_seconds: Callable[[Lease, float], int] = lambda lease, now: 0,
    ) -> None:
        super().__init__(services, family, family.service)
        self._addresses = addresses
        self._journal = journal
        self.after_batch = journal.flush
        self._reply_cache = ReplyCache(subnet for book in addresses.books for subnet in book.subnets)
        self._probe = probe
        self._ping = ping
        self._renewable_seconds = renewable_seconds
        self._probing: dict[str, Query] = {}
        """Address -> the latest request of the client whose OFFER waits for the probe of that address."""
        self._no_reply = NoReplyReports(services.publish, self.malformed)

    def use_addresses(self, addresses: AddressServer) -> None:
        """Replace the address server after a reload; requests that wait for a probe use the new one too."""
        self._addresses = addresses
        self._reply_cache = ReplyCache(subnet for book in addresses.books for subnet in book.subnets)

    def close(self) -> None:
        """See DHCPPort. Granted leases are committed; pending replies are dropped."""
        super().close()
        self._probing.clear()
        self._journal.close()

    def answers(self, leadership: Leadership) -> bool:
        """See DHCPPort."""
        return leadership.decides or leadership.renews

    def handle(self, query: Query, now: float) -> None:
        """See DHCPPort."""
        if self._journal.full:
            self.drop(STORE_HANGS, query.peer, now)
            return
        message, ingress = query.message, query.ingress
        if not ingress.server:
            reason = f"interface {ingress.interface or '(unknown)'} has no IPv4 address to answer from"
            self.publish(RequestIgnored(now, message.mac, reason))
            return
        assert ingress.arrival is not None
        result = self._addresses.handle(message, ingress.arrival, now)
        leadership = self.services.leadership
        if leadership is not None and leadership.renews:
            # Nothing of *result* is committed: the store can't be reached.
            self._renew(result, query, now, leadership)
            return
        if isinstance(result, NoReply):
            if result.commit:
                self._journal.put(result.commit)
            boots = self._unanswered_boot_request(query) if result.reason in RECORDED else None
            self._no_reply.report(result.reason, result.detail, message.mac, query.peer, ingress.interface, now, boots)
            return
        batch = self._journal.put(result.commit, result.commit[:1] if result.new else ()) if result.commit else None
        if result.probe:
            if self._starts_probe(result, query):
                return
            if _RAPID_COMMIT in message.options:
                # The address can't be probed here. When it counts as unused, it can be leased at once.
                self._addresses.probe_finished(result.address, False, now)
                self.handle(query, now)
                return
        if result.kind is _NAK:
            self.publish(AddressRefused(now, _requested_address(message), message.mac))
        request = None if result.kind is _NAK else self._boot_request(query, result)
        if request is not None:
            persona = self.services.persona_by_name[request.persona]
            if result.kind is _OFFER and persona.takes_offer and is_firmware(message):
                # The client uses the address without a REQUEST.
                batch = self._lease_at_once(result, query, now)
            # An installed system that renews its lease boots nothing; it gets the boot file of the subnet's options.
            if self.services.chain.resolvers and not (
                request.may_be_system and (is_renewal(message) or _BOOTFILE_NAME in result.options)
            ):
                self.resolve(query, request, now, partial(self._answer, result, query, batch, request), result.address)
                return
        self._answer(result, query, batch)

    def _renew(self, result: Answer | NoReply, query: Query, now: float, leadership: Leadership) -> None:
        """Acknowledge a lease up to the end that is stored: the store can't be reached."""
        if isinstance(result, Answer) and result.kind is MessageType.ACK and len(result.commit) == 1:
            seconds = self._renewable_seconds(result.commit[0], now)
            if seconds:
                result.options = limited(result.options, seconds)
                self._answer(result, query, None)
                return
        leadership.dropped += 1

    # Conflict detection

    def _starts_probe(self, answer: Answer, query: Query) -> bool:
        """Start the probe of the offered address; return False if it can't be probed here."""
        address, message, interface = answer.address, query.message, query.ingress.interface
        probe: Callable[[str, Done], None]
        if message.giaddr != UNSPECIFIED:
            if self._ping is None:
                return False
            probe = self._ping.start
        elif self._probe is None or not interface:
            return False
        else:
            probe = partial(self._probe.start, interface=interface, server=answer.server, client=message.chaddr)
        # A client that repeats its DISCOVER meanwhile is answered once, by the xid of its latest one.
        pending = address in self._probing
        self._probing[address] = query
        if not pending:
            probe(address, partial(self._probed, address))
        return True

    def _probed(self, address: str, user: str | None) -> None:
        """Handle the request that waits for the probe of *address* again.

        :param user: see conflict.Done.
        """
        query = self._probing.pop(address, None)
        if query is None:
            return
        now = self.seconds()
        changed = self._addresses.probe_finished(address, user is not None, now)
        if changed:
            self._journal.put(changed)
        if user is not None:
            self.publish(AddressTaken(now, address, user, False))
        self.handle(query, now)
        # A timer or another socket has called this: no batch of requests, at whose end the journal is flushed.
        self._journal.flush()

    # Boot files

    def _boot_request(self, query: Query, answer: Answer) -> BootRequest | None:
        """Return the boot request; None: the client does not boot."""
        options, services = query.message.options, self.services
        if _IDENTIFYING.isdisjoint(options) and not (
            services.chain.resolvers
            and services.personas.may_be_plain(options.get(_PARAMETERS, b""), answer.kind is None)
        ):
            return None
        try:
            found = self.family.classify(query, services, answer.server, assigns_addresses=True)
        except WireError:
            return None
        return None if isinstance(found, Ignored) else found

    def _unanswered_boot_request(self, query: Query) -> BootRequest | None:
        """Return the boot request in a message that gets no reply; None: the client does not boot."""
        if _IDENTIFYING.isdisjoint(query.message.options):
            return None
        try:
            found = self.family.classify(query, self.services, query.ingress.server, assigns_addresses=True)
        except WireError:
            return None
        return None if isinstance(found, Ignored) or found.may_be_system else found

    def _lease_at_once(self, offer: Answer, query: Query, now: float) -> Batch | None:
        """Lease the offered address: this client uses it without a REQUEST. None: it can't be leased."""
        selects: dict[int, bytes] = {
            Option.MESSAGE_TYPE: bytes((MessageType.REQUEST,)),
            Option.REQUESTED_IP_ADDRESS: inet_aton(offer.address),
            Option.SERVER_IDENTIFIER: inet_aton(offer.identifier),
        }
        message = evolve(query.message, options={**query.message.options, **selects})
        assert query.ingress.arrival is not None
        result = self._addresses.handle(message, query.ingress.arrival, now)
        new = isinstance(result, Answer) and result.new
        return self._journal.put(result.commit, result.commit[:1] if new else ()) if result.commit else None

    # Replies

    def _answer(
        self,
        answer: Answer,
        query: Query,
        batch: Batch | None,
        request: BootRequest | None = None,
        file: BootChoice | None = None,
        reason: str = "",
    ) -> None:
        """Build the reply, and send it when *batch* is durable.

        :param batch: the leases that it acknowledges; None: it acknowledges none.
        :param request: the boot request; None: the client does not boot.
        :param file: the boot file; None: there is none, and *reason* says why, "" if that is not to be reported.
        """
        message = query.message
        if reason and file is None and request is not None:
            self.publish(FileWithheld(self.seconds(), request, reason))
        try:
            data = self._reply_cache.reply(message, answer) if request is None else None
            if data is None:
                size = reply_size(message)
                if request is None:
                    reply = server_reply(message, answer, size=size)
                else:
                    persona = self.services.persona_by_name[request.persona]
                    reply = server_reply(message, answer, request, file, persona, size)
                data = pack(reply, size)
        except ValueError as error:
            if request is None or file is None:
                self.publish(RequestIgnored(self.seconds(), message.mac, f"no answer can be sent: {error}"))
            else:
                self._answer(answer, query, batch, request, None, f"the reply can't name it: {error}")
            return
        if batch is not None:
            batch.then(self._send_answer, data, answer, query, request, file)
        else:
            self._send_answer(data, answer, query, request, file)

    def _send_answer(
        self, data: bytes, answer: Answer, query: Query, request: BootRequest | None, file: BootChoice | None
    ) -> None:
        settings, message = self.family.settings, query.message
        to, lacks_arp = server_destination(
            message, answer, query.peer, server_port=settings.server_port, client_port=settings.client_port
        )
        # The client has no address yet, so it answers no ARP request for it: the kernel gets the entry from us.
        if lacks_arp and not (_is_on_link(answer) and self._set_neighbour(answer.address, message.chaddr, query.via)):
            to = BROADCAST, settings.client_port
        self.send(data, to, query.via)
        clients = self.services.clients
        # The ACK of an INFORM has no address.
        if clients.shares_leases and request is None and answer.kind is MessageType.ACK and answer.address:
            clients.lease(message.mac, answer.address)
        if request is not None and file is not None:
            kind = "BOOTP reply" if answer.kind is None else answer.kind.name
            self.publish(OfferMade(self.seconds(), request, kind, file, to, answer.address))

    def _set_neighbour(self, address: str, hardware: bytes, via: Via | None) -> bool:
        """See Interfaces.set_neighbour(); returns False on a port that is not a socket of this host."""
        interfaces, sock = self.services.interfaces, self.family.socket
        return sock is not None and via is not None and interfaces.set_neighbour(address, hardware, via)


def _requested_address(message: Message) -> str:
    """Return the address in option 50, else ciaddr."""
    requested = message.options.get(Option.REQUESTED_IP_ADDRESS, b"")
    return inet_ntoa(requested) if len(requested) == 4 else message.ciaddr


def _is_on_link(answer: Answer) -> bool:
    """Return whether the client's address and ours are in one network; otherwise the kernel would route the reply."""
    mask = answer.options.get(_MASK)
    if mask is None:
        return False
    bits = int.from_bytes(mask, "big")
    return _number(answer.server) & bits == _number(answer.address) & bits


def _number(address: str) -> int:
    return int.from_bytes(inet_aton(address), "big")
