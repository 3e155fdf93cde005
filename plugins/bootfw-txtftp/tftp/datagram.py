"""Datagrams of TFTP (RFC 1350, RFC 2347) as objects. Names, values and texts are bytes."""

import struct
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self

from tftp.errors import (
    InvalidErrorcodeError,
    InvalidOpcodeError,
    OptionsDecodeError,
    PayloadDecodeError,
    WireProtocolError,
)

OP_RRQ = 1
OP_WRQ = 2
OP_DATA = 3
OP_ACK = 4
OP_ERROR = 5
OP_OACK = 6

ERR_NOT_DEFINED = 0
ERR_FILE_NOT_FOUND = 1
ERR_ACCESS_VIOLATION = 2
ERR_DISK_FULL = 3
ERR_ILLEGAL_OP = 4
ERR_TID_UNKNOWN = 5
ERR_FILE_EXISTS = 6
ERR_NO_SUCH_USER = 7
ERR_TERM_OPTION = 8

errors = {
    ERR_NOT_DEFINED: b"",
    ERR_FILE_NOT_FOUND: b"File not found",
    ERR_ACCESS_VIOLATION: b"Access violation",
    ERR_DISK_FULL: b"Disk full or allocation exceeded",
    ERR_ILLEGAL_OP: b"Illegal TFTP operation",
    ERR_TID_UNKNOWN: b"Unknown transfer ID",
    ERR_FILE_EXISTS: b"File already exists",
    ERR_NO_SUCH_USER: b"No such user",
    ERR_TERM_OPTION: b"Terminate transfer due to option negotiation",
}
"""Code -> text of an ERROR without one (RFC 1350 appendix, RFC 2347)."""

_SHORT = struct.Struct("!H")
_HEADER = struct.Struct("!HH")

Options = Mapping[bytes, bytes]
"""Name -> value, in the order and spelling of the wire."""


def split_opcode(datagram: bytes) -> tuple[int, bytes]:
    """Return the opcode and what follows it.

    :raise WireProtocolError: it has less than two bytes.
    """
    if len(datagram) < 2:
        raise WireProtocolError(f"A datagram of {len(datagram)} bytes has no opcode")
    return _SHORT.unpack_from(datagram)[0], datagram[2:]


class TFTPDatagram:
    """Base class of the datagrams."""

    opcode: int

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """Parse what follows the opcode.

        :raise WireProtocolError: it is malformed.
        """
        raise NotImplementedError

    def to_wire(self) -> bytes:
        """Return the whole datagram."""
        raise NotImplementedError


def _fields(payload: bytes) -> list[bytes]:
    fields = payload.split(b"\0")
    # The last NUL ends a field and begins none. Where it is missing, the field ends with the datagram.
    if not fields[-1]:
        fields.pop()
    return fields


def _parsed_options(fields: list[bytes]) -> dict[bytes, bytes]:
    if len(fields) % 2:
        raise OptionsDecodeError(f"Option {fields[-1]!r} has no value")
    options: dict[bytes, bytes] = {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name in options:
            raise OptionsDecodeError(f"Option {name!r} is there twice")
        options[name] = value
    return options


def _checked_options(options: Options) -> Options:
    for name, value in options.items():
        if not (isinstance(name, bytes) and isinstance(value, bytes)):
            raise TypeError(f"An option is two byte strings, not {name!r} and {value!r}")
    return options


def _joined(*fields: bytes) -> bytes:
    return b"".join(field + b"\0" for field in fields)


class RQDatagram(TFTPDatagram):
    """A request: the base class of RRQ and WRQ.

    :param mode: compared without case; stored in lower case.
    """

    def __init__(self, filename: bytes, mode: bytes, options: Options) -> None:
        self.filename = filename
        self.mode = mode.lower()
        self.options: Any = _checked_options(options)

    def __repr__(self) -> str:
        options = f", options={dict(self.options)}" if self.options else ""
        return f"<{type(self).__name__}(filename={self.filename!r}, mode={self.mode!r}{options})>"

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """See TFTPDatagram."""
        fields = _fields(payload)
        if len(fields) < 2:
            raise PayloadDecodeError("A request needs a file name and a mode")
        return cls(fields[0], fields[1], _parsed_options(fields[2:]))

    def to_wire(self) -> bytes:
        """See TFTPDatagram."""
        options = (text for option in self.options.items() for text in option)
        return _SHORT.pack(self.opcode) + _joined(self.filename, self.mode, *options)


class RRQDatagram(RQDatagram):
    """A request to read a file."""

    opcode = OP_RRQ


class WRQDatagram(RQDatagram):
    """A request to write a file."""

    opcode = OP_WRQ


class OACKDatagram(TFTPDatagram):
    """Acknowledges options (RFC 2347)."""

    opcode = OP_OACK

    def __init__(self, options: Options) -> None:
        self.options: Any = _checked_options(options)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(options={dict(self.options)})>"

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """See TFTPDatagram."""
        return cls(_parsed_options(_fields(payload)))

    def to_wire(self) -> bytes:
        """See TFTPDatagram."""
        return _SHORT.pack(self.opcode) + _joined(*(text for option in self.options.items() for text in option))


class DATADatagram(TFTPDatagram):
    """A block of a file.

    :param blocknum: the 16-bit number on the wire.
    """

    opcode = OP_DATA

    def __init__(self, blocknum: int, data: bytes) -> None:
        self.blocknum = blocknum
        self.data = data

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(blocknum={self.blocknum}, {len(self.data)} bytes of data)>"

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """See TFTPDatagram."""
        if len(payload) < 2:
            raise PayloadDecodeError("DATA has no block number")
        return cls(_SHORT.unpack_from(payload)[0], payload[2:])

    def to_wire(self) -> bytes:
        """See TFTPDatagram."""
        return _HEADER.pack(self.opcode, self.blocknum) + self.data


class ACKDatagram(TFTPDatagram):
    """Acknowledges a block, whose 16-bit number on the wire is *blocknum*."""

    opcode = OP_ACK

    def __init__(self, blocknum: int) -> None:
        self.blocknum = blocknum

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(blocknum={self.blocknum})>"

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """See TFTPDatagram."""
        if len(payload) != 2:
            raise PayloadDecodeError(f"The block number of an ACK has 2 bytes, not {len(payload)}")
        return cls(_SHORT.unpack(payload)[0])

    def to_wire(self) -> bytes:
        """See TFTPDatagram."""
        return _HEADER.pack(self.opcode, self.blocknum)


class ERRORDatagram(TFTPDatagram):
    """Ends a transfer.

    :param errorcode: one of ``errors``.
    """

    opcode = OP_ERROR

    def __init__(self, errorcode: int, errmsg: bytes) -> None:
        self.errorcode = errorcode
        self.errmsg = errmsg

    def __repr__(self) -> str:
        return f"<{type(self).__name__}(errorcode={self.errorcode}, errmsg={self.errmsg!r})>"

    @classmethod
    def from_wire(cls, payload: bytes) -> Self:
        """See TFTPDatagram. An ERROR without a text gets that of its code.

        :raise InvalidErrorcodeError: its code is not in ``errors``.
        """
        if len(payload) < 2:
            raise PayloadDecodeError("ERROR has no code")
        text = payload[2:].partition(b"\0")[0]
        return cls.from_code(_SHORT.unpack_from(payload)[0], text or None)

    @classmethod
    def from_code(cls, errorcode: int, errmsg: bytes | None = None) -> Self:
        """Return an ERROR with this text; None: with that of its code.

        :raise InvalidErrorcodeError: the code is not in ``errors``.
        """
        if errorcode not in errors:
            raise InvalidErrorcodeError(errorcode)
        return cls(errorcode, errors[errorcode] if errmsg is None else errmsg)

    def to_wire(self) -> bytes:
        """See TFTPDatagram."""
        return _HEADER.pack(self.opcode, self.errorcode) + _joined(self.errmsg)


class _TFTPDatagramFactory:
    """Makes datagrams of what is on the wire."""

    _classes: ClassVar[dict[int, Callable[[bytes], TFTPDatagram]]] = {
        OP_RRQ: RRQDatagram.from_wire,
        OP_WRQ: WRQDatagram.from_wire,
        OP_DATA: DATADatagram.from_wire,
        OP_ACK: ACKDatagram.from_wire,
        OP_ERROR: ERRORDatagram.from_wire,
        OP_OACK: OACKDatagram.from_wire,
    }

    def __call__(self, opcode: int, payload: bytes) -> Any:
        """Return the datagram with *opcode* and what follows it.

        :raise WireProtocolError: it is malformed; an InvalidOpcodeError if there is no such opcode.
        """
        from_wire = self._classes.get(opcode)
        if from_wire is None:
            raise InvalidOpcodeError(opcode)
        return from_wire(payload)


TFTPDatagramFactory = _TFTPDatagramFactory()
