"""What a plugin gave back: the value itself, or something that will bring it."""

import errno
import os
import traceback
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred

from bootfw.errors import AccessViolation, DiskFull, FileMissing, TransferError


def as_deferred(answer: Any) -> "Deferred[Any] | None":
    """A Deferred if *answer* is one or a coroutine; None: it is the value itself."""
    if isinstance(answer, Deferred):
        return answer
    if iscoroutine(answer):
        return Deferred.fromCoroutine(answer)
    return None


def checked_bytes(answer: Any, length: int, reader: Any) -> bytes:
    """What ``reader.read()`` returned, as bytes.

    :param length: how many bytes it may return.
    :raise TransferError: it returned something else. The detail names the reader, and what would be right.
    """
    if not isinstance(answer, bytes | bytearray | memoryview):
        wrong = f"returned {type(answer).__name__} instead of bytes"
    elif len(answer) > length:
        wrong = f"returned {len(answer)} bytes where {length} are the most"
    else:
        return bytes(answer)
    kind = type(reader)
    raise TransferError("Internal error", f"read() of {kind.__module__}.{kind.__qualname__} {wrong}")


_BY_ERRNO: dict[int | None, type[TransferError]] = {
    errno.ENOENT: FileMissing,
    errno.ENOTDIR: FileMissing,
    errno.EACCES: AccessViolation,
    errno.EPERM: AccessViolation,
    errno.EROFS: AccessViolation,
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
}


def transfer_error(error: BaseException) -> TransferError | None:
    """What the peer is told of *error*; None: it is nobody's doing but a bug's, and the log needs its traceback."""
    if isinstance(error, TransferError):
        return error
    if isinstance(error, OSError):
        kind = _BY_ERRNO.get(error.errno)
        return kind() if kind is not None else TransferError(os.strerror(error.errno) if error.errno else "")
    return None


def traceback_of(error: BaseException) -> str:
    """The whole traceback, for a PluginFailed event."""
    return "".join(traceback.format_exception(error))
