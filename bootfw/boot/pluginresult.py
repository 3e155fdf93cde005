"""Handles the result of a plugin call: a value, a Deferred, a coroutine, or an exception."""

import errno
import os
import traceback
from collections.abc import Callable
from inspect import iscoroutine
from typing import Any

from twisted.internet.defer import Deferred

from bootfw.errors import AccessViolation, DiskFull, FileMissing, TransferError
from bootfw.events import Event, PluginFailed


def as_deferred(answer: Any) -> "Deferred[Any] | None":
    """Return a Deferred or a coroutine as a Deferred, or None if *answer* is a plain value."""
    if isinstance(answer, Deferred):
        return answer
    if iscoroutine(answer):
        return Deferred.fromCoroutine(answer)
    return None


def checked_bytes(answer: Any, length: int, reader: Any) -> bytes:
    """Return *answer*, the result of ``reader.read()``, as bytes.

    :param length: how many bytes were requested.
    :raise TransferError: *answer* is not bytes, or is longer. The detail names the reader.
    """
    if not isinstance(answer, bytes | bytearray | memoryview):
        wrong = f"returned {type(answer).__name__} instead of bytes"
    elif len(answer) > length:
        wrong = f"returned {len(answer)} bytes; at most {length} were requested"
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
    """Return the error to send to the client, or None if *error* is a bug, whose traceback belongs in the log."""
    if isinstance(error, TransferError):
        return error
    if isinstance(error, OSError):
        kind = _BY_ERRNO.get(error.errno)
        return kind() if kind is not None else TransferError(os.strerror(error.errno) if error.errno else "")
    return None


def reported_error(
    error: BaseException, publish: Callable[[Event], None], now: float, plugin: str, operation: str
) -> TransferError:
    """Return the error for the client. A bug of *plugin* in *operation* is published, and is internal to the client."""
    expected = transfer_error(error)
    if expected is None:
        publish(PluginFailed(now, plugin, operation, traceback_of(error)))
        return TransferError("Internal error")
    return expected


def traceback_of(error: BaseException) -> str:
    """Format the whole traceback, for a PluginFailed event."""
    return "".join(traceback.format_exception(error))
