"""The port of the DHCPv6 server: addresses and boot files in one exchange."""

from collections.abc import Callable
from functools import partial
from ipaddress import IPv6Address

from bootfw.boot.resolverchain import Answer
from bootfw.dhcp.answer import Answer6, Arrival6, NoReply, NoReplyReason
from bootfw.dhcp.associations6 import limit_lifetimes
from bootfw.dhcp.classify import Ignored, link_address
from bootfw.dhcp.reply6 import server_reply6
from bootfw.dhcp.server6 import AddressServer6
from bootfw.events import FileWithheld, OfferMade, RequestIgnored
from bootfw.lease import Lease
from bootfw.net.dhcp.ipv6 import TOO_LONG, IPv6
from bootfw.net.dhcp.journal import STORE_HANGS, Batch, Journal
from bootfw.net.dhcp.noreply import RECORDED, NoReplyReports
from bootfw.net.dhcp.port import DHCPPort, Query
from bootfw.net.dhcp.services import DHCPServices
from bootfw.net.nodes.leadership import Leadership
from bootfw.values import BootFile, BootRequest
from bootfw.wire.dhcp6 import UNSPECIFIED, Message, MessageType
from bootfw.wire.options6 import Option, code_of


class Server6(DHCPPort):
    """Gives addresses to all clients, and their boot files to those that boot.

    :param addresses: decides which client gets which address.
    :param journal: commits the leases of *addresses*.
    :param renewable_seconds: see Leasing.
    """

    family: IPv6

    def __init__(
        self,
        services: DHCPServices,
        family: IPv6,
        addresses: AddressServer6,
        journal: Journal,
        *,
        renewable_seconds: Callable[[Lease, float], int] = lambda lease, now: 0,
    ) -> None:
        super().__init__(services, family, family.service)
        self._addresses = addresses
        self._journal = journal
        self._renewable_seconds = renewable_seconds
        self.after_batch = journal.flush
        self._no_reply = NoReplyReports(services.publish, self.malformed)

    def use_addresses(self, addresses: AddressServer6) -> None:
        """Replace the address server after a reload."""
        self._addresses = addresses

    def close(self) -> None:
        """See DHCPPort. Granted leases are committed; pending replies are dropped."""
        super().close()
        self._journal.close()

    def answers(self, leadership: Leadership) -> bool:
        """See DHCPPort."""
        return leadership.decides or leadership.renews

    def handle(self, query: Query, now: float) -> None:
        """See DHCPPort."""
        if self._journal.full:
            self.drop(STORE_HANGS, query.peer, now)
            return
        result = self._addresses.handle(query.message, self._arrival(query), now)
        leadership = self.services.leadership
        if leadership is not None and leadership.renews:
            self._renew(result, query, now, leadership)
            return
        batch = None
        if result.commit:
            batch = self._journal.put(result.commit, result.granted if isinstance(result, Answer6) else ())
        unserved = result.reason in RECORDED
        if result.reason is not None:
            boots = self._boot_request(query) if unserved else None
            self._report(result.reason, result.detail, query, now, boots)
        if isinstance(result, NoReply):
            return
        # A client ignores an ADVERTISE without an address (RFC 8415 section 18.2.9), so it needs no boot file.
        request = None if unserved else self._boot_request(query, result)
        if request is None:
            self._answer(result, query, batch, None, None)
            return
        address = result.address if result.kind is MessageType.REPLY else ""
        done = partial(self._answer_boot_client, result, query, batch, request)
        self.resolve(query, request, now, done, address)

    def _renew(self, result: Answer6 | NoReply, query: Query, now: float, leadership: Leadership) -> None:
        """Acknowledge leases up to the end that is stored: the store can't be reached."""
        if isinstance(result, Answer6) and result.kind is MessageType.REPLY and result.commit:
            # The earliest end is that of all of them, and one that is not stored is acknowledged by none.
            seconds = min(self._renewable_seconds(lease, now) for lease in result.commit)
            if seconds:
                result.options = tuple(limit_lifetimes(code, data, seconds) for code, data in result.options)
                self._answer(result, query, None, None, None)
                return
        leadership.dropped += 1

    def _arrival(self, query: Query) -> Arrival6:
        ingress, relays = query.ingress, query.relays
        ours = tuple(address.address for address in ingress.addresses) or ((ingress.server,) if ingress.server else ())
        port = relays[-1].first(Option.INTERFACE_ID) if relays else None
        return Arrival6(ours, relays, query.mac, ingress.unicast, ((ingress.interface, link_address(relays)), port))

    def _boot_request(self, query: Query, answer: Answer6 | None = None) -> BootRequest | None:
        """Return the boot request; None: the client does not boot, or there is no resolver.

        :param answer: None: the client gets no address.
        """
        if not self.services.chain.resolvers:
            return None
        ingress, subnet = query.ingress, None if answer is None else answer.subnet
        server = ingress.server
        if subnet is not None and not ingress.fixed:
            # With several networks on a link, use our address in the network of the client's lease.
            addresses = (
                address.address for address in ingress.addresses if IPv6Address(address.address) in subnet.network
            )
            server = next(addresses, server)
        found = self.family.classify(query, self.services, server, assigns_addresses=True)
        if isinstance(found, Ignored):
            return None
        # An installed system gets the boot file of the subnet's options.
        configured = answer is None or Option.BOOTFILE_URL in map(code_of, answer.configured)
        return None if found.may_be_system and configured else found

    def _answer_boot_client(
        self, answer: Answer6, query: Query, batch: Batch | None, request: BootRequest, file: Answer | None, reason: str
    ) -> None:
        if file is None:
            self.publish(FileWithheld(self.seconds(), request, reason))
        assert file is None or isinstance(file, BootFile)
        self._answer(answer, query, batch, request, file)

    def _answer(
        self, answer: Answer6, query: Query, batch: Batch | None, request: BootRequest | None, file: BootFile | None
    ) -> None:
        family = self.family
        reply = server_reply6(query.message, answer, family.duid, request, file, query.relays, family.limit(query))
        if batch is not None:
            batch.then(self._send_answer, reply, answer, query, request, file)
        else:
            self._send_answer(reply, answer, query, request, file)

    def _send_answer(
        self, reply: Message, answer: Answer6, query: Query, request: BootRequest | None, file: BootFile | None
    ) -> None:
        data = self.family.pack_reply(query, reply)
        if data is None:
            self.publish(RequestIgnored(self.seconds(), self.family.client(query), TOO_LONG))
            return
        to = self.family.reply_address(query)
        self.send(data, to, query.via)
        if request is not None and file is not None:
            self.publish(OfferMade(self.seconds(), request, reply.kind.name, file, to, answer.address))

    def _report(
        self, reason: NoReplyReason, detail: str, query: Query, now: float, request: BootRequest | None
    ) -> None:
        """Publish why the client gets no reply or no address, or that it released or declined one.

        :param request: see NoReplyReports.report().
        """
        if reason is NoReplyReason.OTHER_SERVER:
            detail = f"DUID {detail}"
        elif reason is NoReplyReason.NO_SUBNET and detail == UNSPECIFIED:
            detail = ", ".join(address.address for address in query.ingress.addresses)
        client, interface = self.family.client(query), query.ingress.interface
        self._no_reply.report(reason, detail, client, query.peer, interface, now, request)
