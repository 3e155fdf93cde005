"""Read and build IA_NA options, the identity associations of DHCPv6 (RFC 8415 section 21.4)."""

from collections.abc import Iterable, Iterator, Sequence

from bootfw.dhcp.subnet6 import Subnet6
from bootfw.errors import WireError
from bootfw.wire import options6 as codec
from bootfw.wire.dhcp6 import Message
from bootfw.wire.options6 import IAAddress, IdentityAssociation, Option, Status

MAX_ASSOCIATIONS = 16
"""Number of identity associations of a message that are answered; later ones are ignored."""


def requested_addresses(association: IdentityAssociation) -> list[str]:
    """Return the addresses in an association of a client's message; malformed ones are skipped."""
    found = []
    for code, raw in association.options:
        if code == Option.IA_ADDRESS:
            try:
                found.append(codec.ia_address(raw).address)
            except WireError:
                continue
    return found


def assign(
    association: IdentityAssociation, subnet: Subnet6, address: str, withdrawn: Sequence[str], valid: int
) -> tuple[int, bytes]:
    """Build the option that assigns *address* to an association.

    :param valid: the lease time in seconds.
    :param withdrawn: addresses that the client has to stop using (lifetime 0). They come last: iPXE reads the first one
        only.
    """
    preferred = valid * 3 // 4
    addresses = [IAAddress(address, preferred, valid), *map(IAAddress, withdrawn)]
    times = subnet.times if valid == subnet.lease_seconds else subnet.times_of(valid)
    return _association(association.iaid, *times, map(_ia_address, addresses))


def limit_lifetimes(code: int, data: bytes, seconds: int) -> tuple[int, bytes]:
    """Return an option of our reply; in an IA_NA no time is longer than *seconds*."""
    if code != Option.IA_NA:
        return code, data
    found = codec.identity_association(data)
    options = [
        _ia_address(_limited(codec.ia_address(raw), seconds)) if inner == Option.IA_ADDRESS else (inner, raw)
        for inner, raw in found.options
    ]
    return _association(found.iaid, min(found.t1, seconds), min(found.t2, seconds), options)


def _limited(address: IAAddress, seconds: int) -> IAAddress:
    return IAAddress(address.address, min(address.preferred, seconds), min(address.valid, seconds))


def withdraw(association: IdentityAssociation, withdrawn: Sequence[str]) -> tuple[int, bytes]:
    """Build the option that withdraws the addresses of an association: each has lifetime 0."""
    return _association(association.iaid, 0, 0, map(_ia_address, map(IAAddress, withdrawn)))


def refuse(association: IdentityAssociation, code: Status, text: str) -> tuple[int, bytes]:
    """Build the option that refuses an address for an association.

    :param text: the text of the status code, for people who read a packet capture.
    """
    return _association(association.iaid, 0, 0, [status_option(code, text)])


def _association(iaid: int, t1: int, t2: int, options: Iterable[tuple[int, bytes]]) -> tuple[int, bytes]:
    return int(Option.IA_NA), codec.identity_association_bytes(IdentityAssociation(iaid, t1, t2, tuple(options)))


def _ia_address(address: IAAddress) -> tuple[int, bytes]:
    return int(Option.IA_ADDRESS), codec.ia_address_bytes(address)


def status_option(code: Status, text: str) -> tuple[int, bytes]:
    """Build a status code option (RFC 8415 section 21.13). It is about the message, or the association around it."""
    return int(Option.STATUS_CODE), codec.status_bytes(code, text)


def refuse_prefixes(message: Message) -> Iterator[tuple[int, bytes]]:
    """Build an IA_PD option with NoPrefixAvail for each prefix delegation that the client requests."""
    for raw in message.every(Option.IA_PD)[:MAX_ASSOCIATIONS]:
        try:
            iaid = codec.identity_association(raw).iaid
        except WireError:
            continue
        body = IdentityAssociation(iaid, 0, 0, (status_option(Status.NO_PREFIXES, "no prefixes here"),))
        yield int(Option.IA_PD), codec.identity_association_bytes(body)
