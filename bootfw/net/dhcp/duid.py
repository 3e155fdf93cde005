"""The DUID of this server."""

import socket
import struct
import uuid
from contextlib import closing, suppress

from bootfw.leadershipstates import Standing
from bootfw.net.linux.netlink import Netlink
from bootfw.wire.options6 import DUIDType

_ARPHRD_ETHER = 1
_LOCALLY_ADMINISTERED = 0x02


def own_duid() -> bytes:
    """Return a DUID that is the same after a restart without being stored: DUID-LL of the first network card.

    Cards with a globally unique MAC address are preferred: those of virtual interfaces change when the host boots. If
    the DUID changes, renewals get no answer, and clients rebind (RFC 8415 section 18.2.5).
    """
    cards: list[tuple[int, int, bytes]] = []
    with closing(Netlink()) as kernel, suppress(OSError):
        for index, link in kernel.links().items():
            if link.kind == _ARPHRD_ETHER and any(link.hardware):
                cards.append((link.hardware[0] & _LOCALLY_ADMINISTERED, index, link.hardware))
    if cards:
        kind_and_hardware = struct.pack("!HH", DUIDType.LINK_LAYER, _ARPHRD_ETHER)
        return kind_and_hardware + min(cards)[2]
    return _duid_uuid(uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()))


def duid_of(standing: Standing | None) -> bytes:
    """Return the DUID of a server: the leader of a cluster, or one that is alone.

    All nodes of a cluster have the same one, a DUID-UUID (RFC 6355): a client goes on with the next leader.
    """
    return own_duid() if standing is None or standing.cluster is None else _duid_uuid(standing.cluster)


def _duid_uuid(value: uuid.UUID) -> bytes:
    return DUIDType.UUID.to_bytes(2, "big") + value.bytes
