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
    """What a packet is."""

    REQUEST = 1
    REPLY = 2
    ACK = 3
    ORDER = 4
    INFO_REQUEST = 5
    KEYED_REQUEST = 6


@frozen
class BootinfoRequest:
    """What a node sends."""

    version: int
    key: str = ""
    """It identifies the node instead of its address; "": it sent none."""


def parse(data: bytes) -> BootinfoRequest | None:
    """Read a request. None: it is none, and is not answered.

    Each client sends 520 bytes, as much as a reply has: a shorter datagram with a forged address would make more of it.
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
    """The reply to a request.

    :param boot: None: there is nothing for the node, which then boots its own default.
    :param server: IPv4 address of this server, as BootWhat.pack() needs it.
    """
    header = _HEADER.pack(version, Opcode.REPLY, 0 if boot is not None else 1)
    return (header + (boot.pack(server) if boot is not None else b"")).ljust(SIZE, b"\0")


def order(boot: BootWhat, server: str) -> bytes:
    """What the server sends to a node that waits."""
    return (_HEADER.pack(1, Opcode.ORDER, 0) + boot.pack(server)).ljust(SIZE, b"\0")
