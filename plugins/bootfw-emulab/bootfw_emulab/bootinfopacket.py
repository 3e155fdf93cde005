"""The packets of bootinfo: bytes to values and back. All numbers are little-endian, as on the machines that boot."""

import enum
import struct

from attrs import frozen

from bootfw_emulab.bootwhat import BootWhat

SIZE = 520
"""Bytes of each packet, in both directions."""

REQUEST_PORT = 6969
ORDER_PORT = 6970
CLIENT_PORT = 9696

_HEADER = struct.Struct("<hhi")
_KEY = 129
"""Bytes of a key, with its NUL."""


class Opcode(enum.IntEnum):
    """The type of a packet."""

    REQUEST = 1
    REPLY = 2
    ACK = 3
    ORDER = 4
    INFO_REQUEST = 5
    KEYED_REQUEST = 6


@frozen
class BootinfoRequest:
    """A request of a node."""

    version: int
    key: str = ""
    """Identifies the node in place of its address; "": the node has sent none."""


def parse(data: bytes) -> BootinfoRequest | None:
    """Parse a request; None: it is not a request, and gets no reply.

    Each client sends 520 bytes, as many as a reply has. A shorter datagram is not answered: with a forged source
    address the server would amplify it.
    """
    if len(data) < SIZE:
        return None
    version, opcode, _ = _HEADER.unpack_from(data)
    if opcode in (Opcode.REQUEST, Opcode.INFO_REQUEST):
        return BootinfoRequest(version)
    if opcode == Opcode.KEYED_REQUEST:
        key = data[_HEADER.size : _HEADER.size + _KEY].partition(b"\0")[0]
        return BootinfoRequest(version, key.decode("latin-1"))
    return None


def reply(version: int, boot: BootWhat | None, server: str) -> bytes:
    """Return the reply to a request.

    :param version: of the request.
    :param boot: None: there is nothing for the node, which then boots its own default.
    :param server: IPv4 address of this server, see BootWhat.pack().
    """
    header = _HEADER.pack(version, Opcode.REPLY, 0 if boot is not None else 1)
    return (header + (boot.pack(server) if boot is not None else b"")).ljust(SIZE, b"\0")


def order(boot: BootWhat, server: str) -> bytes:
    """Return the packet that has a waiting node boot *boot*; *server* as of reply()."""
    return (_HEADER.pack(1, Opcode.ORDER, 0) + boot.pack(server)).ljust(SIZE, b"\0")
