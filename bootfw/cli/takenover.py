"""The result of an import from another server: what was imported, and what was left out."""

from attrs import define, field

from bootfw.lease import Lease, Reservation


@define
class TakenOver:
    """What was imported from another server."""

    leases: list[Lease] = field(factory=list)
    reservations: list[Reservation] = field(factory=list)
    ours: int = 0
    """Number of addresses that were leased here already, and were not imported."""
    left_out: list[str] = field(factory=list)
    """A line for each omission, for the operator."""


def shown_reservation(reservation: Reservation) -> str:
    """Return the address of a reservation, or else the identifier of its client."""
    identifier = reservation.client_id or reservation.circuit_id
    return reservation.address or reservation.mac or reservation.uuid or f"0x{identifier.hex()}"
