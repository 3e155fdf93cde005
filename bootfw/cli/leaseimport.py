"""Leases and reservations to import, from lease files of other servers or from an export of bootfw."""

import json
from collections.abc import Callable, Mapping

from attrs import field, frozen

from bootfw.cli.failure import CommandError
from bootfw.dhcp.hashedallocator import SYSTEM, ClientIA
from bootfw.dhcp.identity import identify
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.records import lease_of, reservation_of
from bootfw.wire.dhcp4 import BOOTREQUEST, ETHERNET, Message
from bootfw.wire.options import Option
from bootfw.wire.options6 import duid_hardware


@frozen
class ImportedLeases:
    """The content of a lease file or export, and what was left out."""

    leases: Mapping[str, Lease] = field(factory=dict)
    """By address."""
    reservations: tuple[Reservation, ...] = ()
    left_out: tuple[str, ...] = ()
    """A line for each omission, for the operator."""
    configured: tuple[Reservation, ...] = ()
    """Reservations from the configuration file of the other server."""


Identify = Callable[[int, bytes, bytes], bytes]
"""(hardware type, hardware address, client identifier) -> the client's key; b"": unknown."""


def identity(by_client_id: bool) -> Identify:
    """Return the function that computes the key of a client, in the same way as the server.

    :param by_client_id: ``identify-by = "client-id"`` in [dhcp].
    """

    def key(hardware: int, address: bytes, client_id: bytes) -> bytes:
        options: dict[int, bytes] = {Option.CLIENT_IDENTIFIER: client_id} if client_id else {}
        message = Message(op=BOOTREQUEST, xid=0, htype=hardware, hlen=len(address), chaddr=address, options=options)
        client = identify(message, {}, by_client_id)
        return b"" if client is None else client.key

    return key


def ipv6_lease(
    address: str,
    duid: bytes,
    iaid: int,
    granted: float,
    expires: float,
    hostname: str = "",
    state: LeaseState = LeaseState.ACTIVE,
) -> Lease:
    """Return a DHCPv6 lease.

    :raise ValueError: *iaid* does not fit into 32 bits.
    """
    if not 0 <= iaid < 1 << 32:
        raise ValueError(f"{iaid} is not an IAID")
    kind, hardware = duid_hardware(duid)
    mac = hardware.hex(":") if kind == ETHERNET and len(hardware) == 6 else ""
    holder = ClientIA(duid, iaid, mac, SYSTEM)
    return Lease(address, holder.key, mac, state, granted, expires, duid, hostname=hostname, kind=SYSTEM)


def exported(text: str) -> ImportedLeases:
    """Read the output of ``bootfw leases export``.

    :raise CommandError: *text* is something else.
    """
    try:
        document = json.loads(text)
        leases = [lease_of(record) for record in document["leases"]]
        reservations: dict[str, list[Reservation]] = {"command": [], "configuration": []}
        for record in document["reservations"]:
            fields = {name: value for name, value in record.items() if name != "origin"}
            reservations[record["origin"]].append(reservation_of(fields))
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise CommandError(f"this is not an export of bootfw: {type(error).__name__}: {error}") from error
    return ImportedLeases(
        {lease.address: lease for lease in leases},
        tuple(reservations["command"]),
        configured=tuple(reservations["configuration"]),
    )
