"""TFTP packets: RFC 1350 with the options of RFC 2347.

``parse()`` raises WireError and nothing else, on any input. It is lenient where real clients are sloppy and strict
where a guess could corrupt a file. Text is UTF-8 with surrogateescape, so that every byte of a file name survives.
"""

import enum
import struct
from collections.abc import Iterable
from functools import lru_cache

from attrs import frozen

from bootfw.errors import WireError

Options = tuple[tuple[str, str], ...]
"""(name, value) in wire order and spelling."""


class Opcode(enum.IntEnum):
    """RFC 1350 section 5, RFC 2347."""

    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(enum.IntEnum):
    """RFC 1350 appendix, RFC 2347."""

    NOT_DEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    DISK_FULL = 3
    ILLEGAL_OPERATION = 4
    UNKNOWN_TID = 5
    FILE_EXISTS = 6
    NO_SUCH_USER = 7
    OPTION_NEGOTIATION = 8


@frozen
class Request:
    """RRQ or WRQ."""

    write: bool
    filename: str
    mode: str
    """Lower-case."""
    options: Options = ()
    """Names are compared without case; of a repeated one the first counts."""


@frozen
class Data:
    """One block; ``block`` is the 16-bit number on the wire."""

    block: int
    payload: bytes


@frozen
class Ack:
    """``block`` is the 16-bit number on the wire."""

    block: int


@frozen
class Error:
    """``code`` need not be an ErrorCode."""

    code: int
    message: str


@frozen
class OptionAck:
    """OACK."""

    options: Options


Packet = Request | Data | Ack | Error | OptionAck

MAX_ERROR_TEXT = 507
"""Bytes: an ERROR never exceeds the 512 bytes that every client can receive (RFC 2347)."""

MAX_REQUEST = 4096
"""Bytes of a request. RFC 2347 limits it to 512. Longer ones are accepted, but not without bound: file names are
remembered and logged."""

_HEADER = struct.Struct("!HH")
_IN_TRANSFER = tuple(opcode.to_bytes(2, "big") for opcode in (Opcode.DATA, Opcode.ACK, Opcode.ERROR, Opcode.OACK))


def is_datagram(data: bytes) -> bool:
    """Return whether *data* could belong to a transfer: it is a DATA, ACK, ERROR or OACK that is long enough."""
    return len(data) >= 4 and data.startswith(_IN_TRANSFER)


def parse(data: bytes) -> Packet:
    """Parse the packet in one datagram.

    :raise WireError: it is not a TFTP packet.
    """
    if len(data) < 2:
        raise WireError(f"{len(data)} bytes are no TFTP packet")
    opcode = int.from_bytes(data[:2], "big")
    if opcode in (Opcode.RRQ, Opcode.WRQ):
        return _parse_request(opcode == Opcode.WRQ, data[2:])
    if opcode == Opcode.OACK:
        return OptionAck(_parse_options(_split(data[2:])))
    if opcode not in (Opcode.DATA, Opcode.ACK, Opcode.ERROR):
        raise WireError(f"unknown opcode {opcode}")
    if len(data) < 4:
        raise WireError(f"{Opcode(opcode).name} of {len(data)} bytes")
    number = int.from_bytes(data[2:4], "big")
    if opcode == Opcode.DATA:
        return Data(number, data[4:])
    if opcode == Opcode.ACK:
        # Bytes may follow: with "msftwindow" Windows sends five (wireshark, packet-tftp.c).
        return Ack(number)
    return Error(number, data[4:].partition(b"\0")[0].decode("utf-8", "surrogateescape"))


def _parse_request(write: bool, body: bytes) -> Request:
    if len(body) > MAX_REQUEST - 2:
        raise WireError(f"a request of {len(body) + 2} bytes; it may have {MAX_REQUEST}")
    fields = _split(body)
    if len(fields) < 2:
        raise WireError("request without a mode")
    filename, mode, *option_fields = fields
    return Request(write, filename, mode.lower(), _parse_options(option_fields))


def _split(body: bytes) -> list[str]:
    fields = body.decode("utf-8", "surrogateescape").split("\0")
    # The last NUL ends a field and begins none. Where it is missing, the field ends with the datagram.
    if not fields[-1]:
        fields.pop()
    return fields


def _parse_options(fields: list[str]) -> Options:
    seen: set[str] = set()
    options: list[tuple[str, str]] = []
    # zip() drops a last name without value. Nameless options are padding behind the request.
    for name, value in zip(fields[::2], fields[1::2], strict=False):
        key = name.lower()
        if name and key not in seen:
            seen.add(key)
            options.append((name, value))
    return tuple(options)


def request(write: bool, filename: str, mode: str, options: Iterable[tuple[str, str]] = ()) -> bytes:
    """Encode an RRQ or WRQ."""
    opcode = Opcode.WRQ if write else Opcode.RRQ
    return opcode.to_bytes(2, "big") + _fields([filename, mode, *(text for option in options for text in option)])


def data(block: int, payload: bytes) -> bytes:
    """Encode a DATA; *block* is the 16-bit number."""
    return _HEADER.pack(Opcode.DATA, block) + payload


def ack(block: int) -> bytes:
    """Encode an ACK; *block* is the 16-bit number."""
    return _HEADER.pack(Opcode.ACK, block)


@lru_cache(256)
def error(code: int, message: str) -> bytes:
    """Encode an ERROR. A message that is too long is cut; characters that can't be encoded become ``?``."""
    text = message.encode("utf-8", "replace").partition(b"\0")[0][:MAX_ERROR_TEXT]
    return _HEADER.pack(Opcode.ERROR, code) + text + b"\0"


def option_ack(options: Iterable[tuple[str, str]]) -> bytes:
    """Encode an OACK."""
    return Opcode.OACK.to_bytes(2, "big") + _fields([text for option in options for text in option])


def _fields(texts: list[str]) -> bytes:
    if any("\0" in text for text in texts):
        raise ValueError("NUL within a field")
    return b"".join(text.encode("utf-8", "surrogateescape") + b"\0" for text in texts)
