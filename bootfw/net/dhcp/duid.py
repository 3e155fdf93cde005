"""Who we are by DHCPv6."""

import fcntl
import socket
import struct
import uuid

from bootfw.wire.options6 import DUIDType

_SIOCGIFHWADDR = 0x8927
_REQUEST = struct.Struct("@16sH6s16x")  # struct ifreq with a struct sockaddr
_ARPHRD_ETHER = 1
_LOCALLY_ADMINISTERED = 0x02


def own_duid() -> bytes:
    """A DUID that stays the same without being kept: of the network card that has been there longest (DUID-LL).

    A card with an address from its maker is preferred to virtual ones, whose addresses are new with each start of the
    machine. When it changes all the same, clients renew in vain once, and then rebind with whoever is there.
    """
    cards: list[tuple[int, int, bytes]] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for index, name in socket.if_nameindex():
            try:
                told = fcntl.ioctl(sock, _SIOCGIFHWADDR, _REQUEST.pack(name.encode(), 0, b""))
            except OSError:
                continue  # it has just gone
            _, kind, address = _REQUEST.unpack(told)
            if kind == _ARPHRD_ETHER and any(address):
                cards.append((address[0] & _LOCALLY_ADMINISTERED, index, address))
    if cards:
        kind_and_hardware = struct.pack("!HH", DUIDType.LINK_LAYER, _ARPHRD_ETHER)
        return kind_and_hardware + min(cards)[2]
    return DUIDType.UUID.to_bytes(2, "big") + uuid.uuid5(uuid.NAMESPACE_DNS, socket.gethostname()).bytes
