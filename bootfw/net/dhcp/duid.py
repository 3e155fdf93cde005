"""The identity of this server in DHCPv6."""

import socket
import struct
import uuid
from contextlib import closing, suppress

from bootfw.net.linux.netlink import Netlink
from bootfw.wire.options6 import DUIDType

_ARPHRD_ETHER = 1
_LOCALLY_ADMINISTERED = 0x02


def own_duid() -> bytes:
    """A DUID that stays the same without being stored: of the network card with the lowest index (DUID-LL).

    A card with a globally unique address is preferred to virtual ones, whose addresses change at each boot of the host.
    If it changes anyway, each client's next renewal fails, and it rebinds with any server.
    """
    cards: list[tuple[int, int, bytes]] = []
    with closing(Netlink()) as kernel, suppress(OSError):
        for index, link in kernel.links().items():
            if link.kind == _ARPHRD_ETHER and any(link.hardware):
                cards.append((link.hardware[0] & _LOCALLY_ADMINISTERED, index, link.hardware))
    if cards:
        kind_and_hardware = struct.pack("!HH", DUIDType.LINK_LAYER, _ARPHRD_ETHER)
        return kind_and_hardware + min(cards)[2]
    return DUIDType.UUID.to_bytes(2, "big") + uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()).bytes
