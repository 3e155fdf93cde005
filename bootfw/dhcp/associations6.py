"""What stands in an answer for each identity association of a message (RFC 8415 section 21.4)."""

from collections.abc import Iterable, Iterator, Sequence

from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import WireError
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import Message
from bootfw.wire.options6 import IAAddress, IdentityAssociation, Option, Status

MOST_ASSOCIATIONS = 16
"""In one message; what comes after them is not answered."""


def wanted(association: IdentityAssociation) -> list[str]:
    """The addresses that the client names in it."""
    found = []
    for code, raw in association.options:
        if code == Option.IA_ADDRESS:
            try:
                found.append(codec.ia_address(raw).address)
            except WireError:
                continue
    return found


def given(association: IdentityAssociation, subnet: Subnet6, address: str, gone: Sequence[str]) -> tuple[int, bytes]:
    """It is to use *address*.

    :param gone: that the client named and is to use no longer; iPXE reads the first address only.
    """
    valid = subnet.lease_seconds
    preferred = valid * 3 // 4
    addresses = [IAAddress(address, preferred, valid), *map(IAAddress, gone)]
    return _association(association.iaid, *subnet.times, map(_ia_address, addresses))


def ended(association: IdentityAssociation, gone: Sequence[str]) -> tuple[int, bytes]:
    """It is to use none of its addresses any longer."""
    return _association(association.iaid, 0, 0, map(_ia_address, map(IAAddress, gone)))


def refused(association: IdentityAssociation, code: Status, why: str) -> tuple[int, bytes]:
    """It gets nothing."""
    return _association(association.iaid, 0, 0, [status(code, why)])


def _association(iaid: int, t1: int, t2: int, options: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    return int(Option.IA_NA), codec.identity_association_bytes(IdentityAssociation(iaid, t1, t2, tuple(options)))


def _ia_address(address: IAAddress) -> tuple[int, bytes]:
    return int(Option.IA_ADDRESS), codec.ia_address_bytes(address)


def status(code: Status, why: str) -> tuple[int, bytes]:
    """What became of the message, or of the association that it stands in."""
    return int(Option.STATUS_CODE), codec.status_bytes(code, why)


def no_prefixes(message: Message) -> Iterator[tuple[int, bytes]]:
    """There is no prefix delegation here, and a client that wants one is told so."""
    for raw in message.every(Option.IA_PD)[:MOST_ASSOCIATIONS]:
        try:
            iaid = codec.identity_association(raw).iaid
        except WireError:
            continue
        body = IdentityAssociation(iaid, 0, 0, (status(Status.NO_PREFIXES, "no prefixes here"),))
        yield int(Option.IA_PD), codec.identity_association_bytes(body)
