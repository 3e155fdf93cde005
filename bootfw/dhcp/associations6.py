"""The options of an answer for each identity association of a message (RFC 8415 section 21.4)."""

from collections.abc import Iterable, Iterator, Sequence

from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import WireError
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import Message
from bootfw.wire.options6 import IAAddress, IdentityAssociation, Option, Status

MOST_ASSOCIATIONS = 16
"""Identity associations of one message that are answered; later ones are ignored."""


def wanted(association: IdentityAssociation) -> list[str]:
    """The addresses that the client names in an association."""
    found = []
    for code, raw in association.options:
        if code == Option.IA_ADDRESS:
            try:
                found.append(codec.ia_address(raw).address)
            except WireError:
                continue
    return found


def given(association: IdentityAssociation, subnet: Subnet6, address: str, gone: Sequence[str]) -> tuple[int, bytes]:
    """The association has *address*.

    :param gone: addresses that the client named and has to stop using. They come last: iPXE reads the first one only.
    """
    valid = subnet.lease_seconds
    preferred = valid * 3 // 4
    addresses = [IAAddress(address, preferred, valid), *map(IAAddress, gone)]
    return _association(association.iaid, *subnet.times, map(_ia_address, addresses))


def ended(association: IdentityAssociation, gone: Sequence[str]) -> tuple[int, bytes]:
    """The client has to stop using all addresses of the association."""
    return _association(association.iaid, 0, 0, map(_ia_address, map(IAAddress, gone)))


def refused(association: IdentityAssociation, code: Status, why: str) -> tuple[int, bytes]:
    """The association gets no address.

    :param why: for people who read a capture.
    """
    return _association(association.iaid, 0, 0, [status(code, why)])


def _association(iaid: int, t1: int, t2: int, options: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    return int(Option.IA_NA), codec.identity_association_bytes(IdentityAssociation(iaid, t1, t2, tuple(options)))


def _ia_address(address: IAAddress) -> tuple[int, bytes]:
    return int(Option.IA_ADDRESS), codec.ia_address_bytes(address)


def status(code: Status, why: str) -> tuple[int, bytes]:
    """The status of a message, or of the association that it is inside."""
    return int(Option.STATUS_CODE), codec.status_bytes(code, why)


def no_prefixes(message: Message) -> Iterator[tuple[int, bytes]]:
    """NoPrefixAvail for each prefix delegation that the client requests."""
    for raw in message.every(Option.IA_PD)[:MOST_ASSOCIATIONS]:
        try:
            iaid = codec.identity_association(raw).iaid
        except WireError:
            continue
        body = IdentityAssociation(iaid, 0, 0, (status(Status.NO_PREFIXES, "no prefixes here"),))
        yield int(Option.IA_PD), codec.identity_association_bytes(body)
