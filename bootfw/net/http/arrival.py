"""The interface that a TCP connection came by."""

import socket
import struct
from typing import Any

from bootfw.values import Via

_IP_PKTINFO, _IP_PKTOPTIONS = 8, 9  # <linux/in.h>
_PACKET_INFO = struct.Struct("@i4s4s")
_LOOPBACK = 1  # the index of lo in every network namespace


def arrived_by(transport: Any) -> Via | None:
    """Return the interface that the SYN of a connection came by; None: it is not known, or the client is on this host.

    :param transport: the connection's, with TLS around it or without.
    """
    # With TLS the transport is a protocol whose own transport is the TCP connection.
    while hasattr(transport, "transport"):
        transport = transport.transport
    sock = getattr(transport, "socket", None)
    try:
        index = 0 if sock is None else _interface_of(sock)
    except OSError:
        return None
    return Via("", index, "") if index not in (0, _LOOPBACK) else None


def _interface_of(sock: socket.socket) -> int:
    # The kernel keeps the interface of the SYN where UDP sockets have the one for multicast (tcp_v4_syn_recv_sock).
    if sock.family == socket.AF_INET6:
        return sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF)
    # For IPv4, IP_MULTICAST_IF returns an address, which an interface need not have. IP_PKTOPTIONS returns the index,
    # and only to a socket that has IP_PKTINFO.
    sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
    size = socket.CMSG_SPACE(_PACKET_INFO.size)
    message = sock.getsockopt(socket.IPPROTO_IP, _IP_PKTOPTIONS, size)
    head = socket.CMSG_LEN(0)
    if len(message) < head + _PACKET_INFO.size:
        return 0
    index: int = _PACKET_INFO.unpack_from(message, head)[0]
    return index
