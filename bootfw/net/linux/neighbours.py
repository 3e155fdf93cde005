"""Telling the kernel the hardware address of a client that can't be asked yet: it does not know its address."""

import errno
import fcntl
import socket
import struct
from typing import Any

_SIOCSARP = 0x8955
_ATF_COM = 2  # the entry is complete
_ARPHRD_ETHER = 1
_REQUEST = struct.Struct("@H2x4s8xH14si16x16s")  # struct arpreq of arp(7)
_NOT_ALLOWED = (errno.EPERM, errno.EACCES, errno.ENOTTY, errno.EOPNOTSUPP)


class Neighbours:
    """The kernel's ARP table, as far as we may write it: with CAP_NET_ADMIN, on Linux.

    :param sock: any IPv4 socket; None: there is no kernel.
    """

    def __init__(self, sock: Any) -> None:
        self._socket = sock

    def tell(self, address: str, hardware: bytes, interface: str) -> bool:
        """Have datagrams to *address* leave for *hardware*, six octets.

        :return: false: it can't be done, so broadcast.
        """
        if self._socket is None or not interface:
            return False
        entry = _REQUEST.pack(
            socket.AF_INET, socket.inet_aton(address), _ARPHRD_ETHER, hardware, _ATF_COM, interface.encode()
        )
        try:
            fcntl.ioctl(self._socket, _SIOCSARP, entry)
        except OSError as error:
            if error.errno in _NOT_ALLOWED:
                self._socket = None
            return False
        return True
