"""Leases and reservations as plain data for JSON, and the selection of some of them.

This is what ``bootfw leases --json`` prints and what goes over the control socket.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv6Network, ip_network
from socket import AF_INET6, inet_aton, inet_ntop, inet_pton
from typing import Any

from attrs import frozen

from bootfw.lease import NEVER, Lease, LeaseState, Reservation, hexadecimal, mac_text, uuid_text

Record = dict[str, Any]

_IPV6 = 1 << 32

STATES = ("active", "expired", "released", "declined")


def number(address: str) -> int:
    """An address as an integer, to sort and compare by: that of IPv6 is above all of IPv4."""
    if ":" in address:
        return _IPV6 + int.from_bytes(inet_pton(AF_INET6, address))
    return int.from_bytes(inet_aton(address))


def shown_state(lease: Lease, now: float) -> str:
    """One of STATES; *now* in seconds since the epoch."""
    if lease.expires <= now and lease.state in (LeaseState.ACTIVE, LeaseState.DECLINED):
        return "expired"
    return lease.state.value


def lease_record(lease: Lease, now: float) -> Record:
    """*lease* with its state at *now*; bytes in hexadecimal; ``expires`` None: never."""
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
    """The lease that lease_record() made *record* of.

    :raise ValueError, KeyError, TypeError, OverflowError: it did not.
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
    """*reservation*; bytes in hexadecimal, the options by their codes."""
    return {
        "address": reservation.address,
        "mac": reservation.mac,
        "other_macs": list(reservation.other_macs),
        "client_id": reservation.client_id.hex(),
        "uuid": reservation.uuid,
        "circuit_id": reservation.circuit_id.hex(),
        "hostname": reservation.hostname,
        "options": {str(code): value.hex() for code, value in sorted(reservation.options.items())},
    }


def reservation_of(record: Mapping[str, Any]) -> Reservation:
    """The reservation that reservation_record() made *record* of. What is left out is not given.

    :raise ValueError, KeyError, TypeError: it did not.
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
    )


def clashing(reservation: Reservation, others: Iterable[Reservation]) -> str:
    """A sentence about the first of *others* that has the same address, or names the same client; "" if none does.

    :param others: of the same family: a client may have one of each.
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
    """The reservation of an address, or of a client by anything that it is known by.

    :raise ValueError: there is one for each family, so it takes the address.
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
                f"{who} has {found.address or 'one without an address'} and {reservation.address}: say which"
            )
        found = found or reservation
    return found


def _names(who: str) -> set[str | bytes]:
    """Every spelling under which a lease may have it."""
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
    """Selects leases: those that match every field."""

    who: str = ""
    """An address, MAC, UUID, client id ("0x" and hexadecimal digits) or host name; "": any client."""
    state: str = ""
    """One of STATES; "": any."""
    network: str = ""
    """``"10.77.0.0/24"`` or ``"fd77::/64"``; "": anywhere."""

    def __attrs_post_init__(self) -> None:
        if self.state and self.state not in STATES:
            raise ValueError(f'the state must be one of {", ".join(STATES)}, not "{self.state}"')
        self._bounds()
        _names(self.who)

    def leases(self, leases: Iterable[Lease], now: float) -> Iterator[Lease]:
        """The leases that match; *now* in seconds since the epoch."""
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
