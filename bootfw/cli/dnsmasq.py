"""dnsmasq's lease file: a line for each lease, with its end, MAC, address, name and client identifier (lease.c)."""

import re
from socket import AF_INET, inet_pton

from bootfw.cli.foreign import Foreign, Identify
from bootfw.lease import NEVER, Lease, LeaseState
from bootfw.wire.dhcp4 import ETHERNET

_LINE = re.compile(
    r"(?P<expires>\d+) (?:(?P<hardware>[0-9a-f]{2})-)?(?P<mac>(?:[0-9a-f]{2}:)*[0-9a-f]{2}|\*|) "
    r"(?P<address>[\d.]+) (?P<name>\S+) (?P<id>(?:[0-9a-f]{2}:)*[0-9a-f]{2}|\*)",
    re.IGNORECASE,
)


def is_dnsmasq(text: str) -> bool:
    """*text* looks like it."""
    first = text.lstrip().partition("\n")[0].rstrip()
    return bool(_LINE.fullmatch(first)) or first.startswith("duid ")


def read_dnsmasq(text: str, now: float, identify: Identify) -> Foreign:
    """The IPv4 leases.

    It has no times of granting: *now* is taken.
    """
    leases, left_out = {}, []
    for count, line in enumerate(text.splitlines(), 1):
        if line.startswith("duid "):  # what follows is DHCPv6
            break
        found = _LINE.fullmatch(line.rstrip())
        try:
            if found is None:
                raise ValueError
            inet_pton(AF_INET, found["address"])
        except (OSError, ValueError):
            if line.strip():
                left_out.append(f"line {count} is no lease: {line.strip()[:60]}")
            continue
        mac = b"" if found["mac"] in ("*", "") else bytes.fromhex(found["mac"].replace(":", ""))
        client_id = b"" if found["id"] == "*" else bytes.fromhex(found["id"].replace(":", ""))
        hardware = int(found["hardware"], 16) if found["hardware"] else ETHERNET
        client = identify(hardware, mac, client_id)
        if not client:
            left_out.append(f"line {count}: nothing tells whose lease it is")
            continue
        leases[found["address"]] = Lease(
            found["address"],
            client,
            mac.hex(":"),
            LeaseState.ACTIVE,
            now,
            float(found["expires"]) or NEVER,
            client_id,
            hostname="" if found["name"] == "*" else found["name"],
            kind="system",
        )
    return Foreign(leases, (), tuple(left_out))
