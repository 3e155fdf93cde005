"""Reads dnsmasq's lease file: a line for each lease with its end, client, address, name and identifier (lease.c)."""

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from bootfw.cli.leaseimport import Identify, ImportedLeases, ipv6_lease
from bootfw.lease import NEVER, Lease, LeaseState
from bootfw.wire.dhcp4 import ETHERNET

_HEX = r"(?:[0-9a-f]{2}:)*[0-9a-f]{2}"
_LINE = re.compile(
    rf"(?P<expires>\d+) (?:(?P<hardware>[0-9a-f]{{2}})-)?(?P<mac>{_HEX}|\*|) "
    rf"(?P<address>[\d.]+) (?P<name>\S+) (?P<id>{_HEX}|\*)",
    re.IGNORECASE,
)
_LINE6 = re.compile(
    rf"(?P<expires>\d+) (?P<temporary>T?)(?P<iaid>\d+) "
    rf"(?P<address>[\da-f:.]*:[\da-f:.]*) (?P<name>\S+) (?P<id>{_HEX}|\*)",
    re.IGNORECASE,
)

_NOT_KEPT = ("duid ", "agent-info ", "vendorclass ")
"""Prefixes of lines that are not leases: the server's DUID, and data for DHCPLEASEQUERY."""

_EARLIEST = 10 * 365 * 86400.0
"""An end before 1980 is a duration: without a real-time clock dnsmasq writes the seconds that a lease lasts."""


def is_dnsmasq(text: str) -> bool:
    """Return whether *text* is a lease file of dnsmasq."""
    return any(
        _LINE.fullmatch(line) or _LINE6.fullmatch(line) or line.startswith("duid ")
        for line in map(str.rstrip, text.split("\n"))
    )


def read_dnsmasq(text: str, now: float, identify: Identify) -> ImportedLeases:
    """Read the leases of both address families.

    :param now: becomes the time when each lease was granted, since the file does not contain it.
    """
    found = _Leases(now, identify)
    for number, line in enumerate(text.split("\n"), 1):
        line = line.rstrip()
        if line and not line.startswith(_NOT_KEPT):
            try:
                found.add(number, line)
            except (OSError, ValueError):
                found.left_out.append(f"line {number} is not a lease: {line[:60]}")
    return ImportedLeases(found.leases, (), tuple(found.left_out))


class _Leases:
    """The leases of the lines that have been read."""

    def __init__(self, now: float, identify: Identify) -> None:
        self._now = now
        self._identify = identify
        self._lines: dict[str, int] = {}
        self.leases: dict[str, Lease] = {}
        self.left_out: list[str] = []

    def add(self, number: int, line: str) -> None:
        """Read one line.

        :raise OSError, ValueError: it is not a lease.
        """
        four, six = _LINE.fullmatch(line), _LINE6.fullmatch(line)
        if four is not None:
            lease = self._ipv4(four)
        elif six is not None:
            lease = self._ipv6(six)
        else:
            raise ValueError
        if isinstance(lease, str):
            self.left_out.append(f"line {number}: {lease}")
            return
        if lease.address in self.leases:
            before = self._lines[lease.address]
            self.left_out.append(f"line {before}: {lease.address} is repeated on line {number}, which is used instead")
        self.leases[lease.address] = lease
        self._lines[lease.address] = number

    def _ipv4(self, found: "re.Match[str]") -> Lease | str:
        address = inet_ntop(AF_INET, inet_pton(AF_INET, found["address"]))
        mac = b"" if found["mac"] in ("*", "") else _bytes(found["mac"])
        client_id = _bytes(found["id"])
        hardware = int(found["hardware"], 16) if found["hardware"] else ETHERNET
        client = self._identify(hardware, mac, client_id)
        if not client:
            return f"{address} has no client: no hardware address and no client identifier"
        return Lease(
            address,
            client,
            mac.hex(":"),
            LeaseState.ACTIVE,
            self._now,
            self._end(found),
            client_id,
            hostname=_name(found),
            kind="system",
        )

    def _ipv6(self, found: "re.Match[str]") -> Lease | str:
        address = inet_ntop(AF_INET6, inet_pton(AF_INET6, found["address"]))
        duid, iaid = _bytes(found["id"]), int(found["iaid"])
        if found["temporary"]:
            return f"{address} is a temporary address (IA_TA), and bootfw gives none"
        if not duid:
            return f"{address} has no client: no DUID"
        return ipv6_lease(address, duid, iaid, self._now, self._end(found), _name(found))

    def _end(self, found: "re.Match[str]") -> float:
        end = float(found["expires"])
        if not end:
            return NEVER
        return min(end if end > _EARLIEST else self._now + end, NEVER)


def _bytes(text: str) -> bytes:
    return b"" if text == "*" else bytes.fromhex(text.replace(":", ""))


def _name(found: "re.Match[str]") -> str:
    return "" if found["name"] == "*" else found["name"]
