"""The DHCPv6 server's port: addresses and boot files in one conversation."""

from functools import partial
from ipaddress import IPv6Address
from typing import Any

from attrs import evolve

from bootfw.dhcp.answer import Cause, Silence
from bootfw.dhcp.classify import NotOurs
from bootfw.dhcp.classify6 import NOWHERE, link_of
from bootfw.dhcp.reply6 import assignment6
from bootfw.dhcp.server6 import AddressServer6, Answer6, Arrival6
from bootfw.events import FileWithheld, OfferMade, RequestClassified, RequestIgnored
from bootfw.net.dhcp.journal import Batch, Ledger
from bootfw.net.dhcp.noreply import Causes
from bootfw.net.dhcp.proxy6 import TOO_LONG, Asked, DHCP6Protocol
from bootfw.values import Address, BootFile, BootRequest, Via
from bootfw.wire.dhcp6 import Message, MessageType
from bootfw.wire.options6 import Option, code_of


class Address6Protocol(DHCP6Protocol):
    """Gives addresses to all clients, and their boot files to those that boot.

    :param addresses: decides who gets which.
    :param ledger: of the store of *addresses*.
    """

    def __init__(self, *arguments: Any, addresses: AddressServer6, ledger: Ledger, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._addresses = addresses
        self._ledger = ledger
        self._causes = Causes(self._publish, self._malformed)

    def close(self) -> None:
        """See DHCP6Protocol. Leases that were granted are committed; nobody hears of them any more."""
        super().close()
        self._ledger.forget()

    def datagrams_received(self, batch: list[tuple[bytes, Address, Via]]) -> None:
        """See IBatchReceiver."""
        super().datagrams_received(batch)
        self._ledger.flush()

    def _handle(self, asked: Asked) -> None:
        now, message = self._reactor.seconds(), asked.message
        result = self._addresses.handle(message, self._arrival(asked), now)
        batch = None
        if result.commit:
            granted = result.granted if isinstance(result, Answer6) else ()
            first = [lease for lease in result.commit if lease in granted]
            rest = [lease for lease in result.commit if lease not in granted]
            batch = self._ledger.put([*first, *rest], bool(first))
        if result.cause is not None:
            self._tell(result.cause, result.detail, asked, now)
        if isinstance(result, Silence):
            return
        request = self._boot_request(asked, result)
        if request is None:
            self._answer_with(result, asked, batch, None, None)
            return
        if request.mac:
            self._clients.asked(request, result.address if result.kind is MessageType.REPLY else "")
        self._publish(RequestClassified(now, request))
        self._resolve(asked, request, partial(self._resolved_for, result, asked, batch, request))

    def _arrival(self, asked: Asked) -> Arrival6:
        place, relays = asked.place, asked.relays
        ours = tuple(each.address for each in place.addresses) or ((place.asked,) if place.asked else ())
        port = relays[-1].first(Option.INTERFACE_ID) if relays else None
        return Arrival6(ours, relays, asked.mac, place.unicast, (place.interface, link_of(relays), port))

    def _boot_request(self, asked: Asked, answer: Answer6) -> BootRequest | None:
        """Its request for a boot file; None: it makes none, or no resolver could answer it."""
        if not self._chain.resolvers:
            return None
        subnet = answer.subnet
        if subnet is not None:
            # Of several networks on this wire the client is on this one.
            here = [each for each in asked.place.addresses if IPv6Address(each.address) in subnet.network]
            asked = evolve(asked, place=evolve(asked.place, addresses=tuple(here) or asked.place.addresses))
        found = self._classified(asked, addresses=True)
        if isinstance(found, NotOurs):
            return None
        # An installed system keeps the file that is configured for it.
        return None if found.may_be_system and Option.BOOTFILE_URL in map(code_of, answer.told) else found

    def _resolved_for(
        self,
        answer: Answer6,
        asked: Asked,
        batch: Batch | None,
        request: BootRequest,
        file: BootFile | None,
        why: str,
    ) -> None:
        if file is not None and not request.server:
            file, why = None, self._has_no_address(asked)
        if file is None:
            self._publish(FileWithheld(self._reactor.seconds(), request, why))
        self._answer_with(answer, asked, batch, request, file)

    def _answer_with(
        self, answer: Answer6, asked: Asked, batch: Batch | None, request: BootRequest | None, file: BootFile | None
    ) -> None:
        reply = assignment6(asked.message, answer, self._duid, request, file, asked.relays, asked.limit())
        if batch is not None:
            batch.then(self._send_reply, reply, answer, asked, request, file)
        else:
            self._send_reply(reply, answer, asked, request, file)

    def _send_reply(
        self, reply: Message, answer: Answer6, asked: Asked, request: BootRequest | None, file: BootFile | None
    ) -> None:
        to = self._answer(asked, reply)
        now = self._reactor.seconds()
        if to is None:
            self._publish(RequestIgnored(now, asked.named(), TOO_LONG))
        elif request is not None and file is not None:
            self._publish(OfferMade(now, request, reply.kind.name, file, to, answer.address))

    def _tell(self, cause: Cause, detail: str, asked: Asked, now: float) -> None:
        """The operator, of what is behind an answer, or of why there is none."""
        if cause is Cause.OTHER_SERVER:
            detail = f"DUID {detail}"
        elif cause is Cause.ABSENT and detail == NOWHERE:
            detail = ", ".join(each.address for each in asked.place.addresses)
        self._causes.tell(cause, detail, asked.named(), asked.peer, asked.place.interface, now)
