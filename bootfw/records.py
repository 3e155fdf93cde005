"""Converts leases and reservations to JSON values and back, and selects leases.

The records are those of ``bootfw leases --json`` and of the control socket.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv6Network, ip_network
from socket import AF_INET6, inet_aton, inet_ntop, inet_pton
from typing import Any

from attrs import frozen

from bootfw.lease import NEVER, Lease, LeaseState, Reservation, hexadecimal, mac_text, uuid_text

Record = dict[str, Any]
"""A JSON object."""

_IPV6 = 1 << 32
"""Added to IPv6 addresses as integers, so that they sort after IPv4."""

STATES = ("active", "expired", "released", "declined")
"""The states of leases that are shown."""


def number(address: str) -> int:
    """Convert an address to an integer for sorting; IPv6 addresses sort after all IPv4 addresses."""
    if ":" in address:
        return _IPV6 + int.from_bytes(inet_pton(AF_INET6, address))
    return int.from_bytes(inet_aton(address))


def shown_state(lease: Lease, now: float) -> str:
    """Return the state of *lease* at *now*, in seconds since the epoch: one of STATES."""
    if lease.expires <= now and lease.state in (LeaseState.ACTIVE, LeaseState.DECLINED):
        return "expired"
    return lease.state.value


def lease_record(lease: Lease, now: float) -> Record:
    """Convert a lease, with its state at *now*; bytes become hexadecimal digits; ``expires`` is None: never."""
    return {
        "address": lease.address,
        "state": shown_state(lease, now),
        "mac": lease.mac,
        "client_id": lease.client_id.hex(),
        "uuid": lease.uuid,
        "hostname": lease.hostname,
        "kind": lease.kind,
        "granted": lease.granted,
        "expires": None if lease.expires >= NEVER else lease.expires,
        "client": lease.client.hex(),
    }


def lease_of(record: Mapping[str, Any]) -> Lease:
    """Convert a record of lease_record() back to a lease.

    :raise ValueError, KeyError, TypeError, OverflowError: the record is invalid.
    """
    return Lease(
        address=record["address"],
        client=bytes.fromhex(record["client"]),
        mac=record["mac"],
        state=LeaseState.ACTIVE if record["state"] == "expired" else LeaseState(record["state"]),
        granted=float(record["granted"]),
        expires=NEVER if record["expires"] is None else float(record["expires"]),
        client_id=bytes.fromhex(record["client_id"]),
        uuid=record["uuid"],
        hostname=record["hostname"],
        kind=record["kind"],
    )


def reservation_record(reservation: Reservation) -> Record:
    """Convert a reservation; bytes become hexadecimal digits, the keys of options are their codes."""
    return {
        "address": reservation.address,
        "mac": reservation.mac,
        "other_macs": list(reservation.other_macs),
        "client_id": reservation.client_id.hex(),
        "uuid": reservation.uuid,
        "circuit_id": reservation.circuit_id.hex(),
        "hostname": reservation.hostname,
        "lease_seconds": reservation.lease_seconds,
        "options": {str(code): value.hex() for code, value in sorted(reservation.options.items())},
    }


def reservation_of(record: Mapping[str, Any]) -> Reservation:
    """Convert a record of reservation_record() back to a reservation. A missing key has its default.

    :raise ValueError, KeyError, TypeError: the record is invalid.
    """
    return Reservation(
        address=record.get("address", ""),
        mac=record.get("mac", ""),
        client_id=bytes.fromhex(record.get("client_id", "")),
        uuid=record.get("uuid", ""),
        circuit_id=bytes.fromhex(record.get("circuit_id", "")),
        hostname=record.get("hostname", ""),
        options={int(code): bytes.fromhex(value) for code, value in record.get("options", {}).items()},
        other_macs=tuple(record.get("other_macs", ())),
        lease_seconds=record.get("lease_seconds", 0),
    )


def clashing(reservation: Reservation, others: Iterable[Reservation]) -> str:
    """Describe the first of *others* that has the same address or the same client as *reservation*; "": there is none.

    :param others: of the same address family, since a client may have a reservation of each.
    """
    for other in others:
        for mac in reservation.macs:
            if mac in other.macs:
                return f"mac {mac} is reserved already; remove that reservation first"
        for kind in ("address", "client_id", "uuid", "circuit_id"):
            value = getattr(reservation, kind)
            if value and value == getattr(other, kind):
                shown = f"0x{value.hex()}" if isinstance(value, bytes) else value
                return f"{kind.replace('_', '-')} {shown} is reserved already; remove that reservation first"
    return ""


def reserved_for(who: str, reservations: Iterable[Reservation]) -> Reservation | None:
    """Find the reservation of an address, or of a client by any of its identifiers.

    :raise ValueError: the client has a reservation of each address family, so *who* has to be an address.
    """
    names = _names(who)
    found: Reservation | None = None
    for reservation in reservations:
        known = {
            reservation.address,
            *reservation.macs,
            reservation.client_id,
            reservation.uuid,
            reservation.circuit_id,
            reservation.hostname.lower(),
        }
        if not names & known:
            continue
        if found is not None and found.family != reservation.family:
            raise ValueError(
                f"{who} has two reservations, {found.address or 'one without an address'} and {reservation.address}: "
                "give the address"
            )
        found = found or reservation
    return found


def _names(who: str) -> set[str | bytes]:
    """Return every notation of the address or identifier *who* in which a lease may contain it."""
    if not who:
        return set()  # empty values match no client
    names: set[str | bytes] = {who.lower()}
    for spelling in (mac_text, uuid_text):
        try:
            names.add(spelling(who))
        except ValueError:
            continue
    names.add(hexadecimal(who) or b"")
    if ":" in who:
        with suppress(OSError):
            names.add(inet_ntop(AF_INET6, inet_pton(AF_INET6, who)))
    return names - {b""}


@frozen
class Selection:
    """Selects the leases that match every field.

    :raise ValueError: a field is invalid.
    """

    who: str = ""
    """An address, MAC, UUID, client id ("0x" and hexadecimal digits) or host name; "": any client."""
    state: str = ""
    """One of STATES; "": any state."""
    network: str = ""
    """``"10.77.0.0/24"`` or ``"fd77::/64"``; "": any network."""

    def __attrs_post_init__(self) -> None:
        for name, value in (("who", self.who), ("state", self.state), ("network", self.network)):
            if not isinstance(value, str):
                raise ValueError(f"{name} must be a text, not {type(value).__name__}")
        if self.state and self.state not in STATES:
            raise ValueError(f'the state must be one of {", ".join(STATES)}, not "{self.state}"')
        self._bounds()
        _names(self.who)

    def leases(self, leases: Iterable[Lease], now: float) -> Iterator[Lease]:
        """Yield the leases that match; *now* in seconds since the epoch."""
        names = _names(self.who)
        first, last = self._bounds()
        for lease in leases:
            if self.state and shown_state(lease, now) != self.state:
                continue
            if self.network and not first <= number(lease.address) <= last:
                continue
            if names and names.isdisjoint(
                (lease.address, lease.mac, lease.uuid, lease.hostname.lower(), lease.client_id)
            ):
                continue
            yield lease

    def _bounds(self) -> tuple[int, int]:
        if not self.network:
            return 0, 0
        try:
            network = ip_network(self.network, strict=False)
        except ValueError:
            raise ValueError(f'must be a network, such as "10.77.0.0/24", not "{self.network}"') from None
        above = _IPV6 if isinstance(network, IPv6Network) else 0
        return above + int(network.network_address), above + int(network.broadcast_address)
