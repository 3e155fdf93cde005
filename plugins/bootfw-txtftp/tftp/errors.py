"""The exceptions of python-tx-tftp."""

from typing import Any


class TFTPError(Exception):
    """Base class of the exceptions of this package."""


class WireProtocolError(TFTPError):
    """A malformed datagram."""


class InvalidOpcodeError(WireProtocolError):
    """A datagram has an unknown opcode."""

    def __init__(self, opcode: int) -> None:
        super().__init__(f"Invalid opcode: {opcode}")


class PayloadDecodeError(WireProtocolError):
    """What follows the opcode is malformed."""


class OptionsDecodeError(PayloadDecodeError):
    """The options are malformed: one has no value, or is there twice."""


class InvalidErrorcodeError(PayloadDecodeError):
    """An ERROR has a code that no RFC defines, which is ``errorcode``."""

    def __init__(self, errorcode: int) -> None:
        self.errorcode = errorcode
        super().__init__(f"Unknown error code: {errorcode}")


class BackendError(TFTPError):
    """A backend can't serve or store a file. The client gets ERROR 0 with this text."""


class Unsupported(BackendError):
    """A backend does not read, or does not write. The client gets ERROR 4 with this text."""


class AccessViolation(BackendError):
    """A file may not be read or written. The client gets ERROR 2."""


class FileNotFound(BackendError):
    """There is no such file. The client gets ERROR 1.

    :param file_path: bytes or a FilePath.
    """

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path

    def __str__(self) -> str:
        return f"File not found: {self.file_path}"


class FileExists(BackendError):
    """A file to be written exists. The client gets ERROR 6.

    :param file_path: bytes or a FilePath.
    """

    def __init__(self, file_path: Any) -> None:
        self.file_path = file_path

    def __str__(self) -> str:
        return f"File already exists: {self.file_path}"
