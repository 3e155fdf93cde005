"""The error that a client gets for an error of the file system."""

import errno
import os
import resource

from bootfw.api import (
    AccessViolation,
    DiskFull,
    FileAlreadyExists,
    FileMissing,
    TemporarilyUnavailable,
    TransferError,
)

_BY_ERRNO: dict[int | None, type[TransferError]] = {
    errno.ENOENT: FileMissing,
    errno.ENOTDIR: FileMissing,
    errno.ENAMETOOLONG: FileMissing,
    errno.ELOOP: FileMissing,
    errno.EACCES: AccessViolation,
    errno.EPERM: AccessViolation,
    errno.EROFS: AccessViolation,
    errno.EEXIST: FileAlreadyExists,
    errno.ENOSPC: DiskFull,
    errno.EDQUOT: DiskFull,
    errno.EFBIG: DiskFull,
    errno.EMFILE: TemporarilyUnavailable,
    errno.ENFILE: TemporarilyUnavailable,
}


class _TransferErrors:
    """In its context an OSError about the request becomes a TransferError. Errors of the disk stay OSErrors."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.errno in _BY_ERRNO:
            raise _BY_ERRNO[error.errno](detail=_detail(error)) from error


def _detail(error: OSError) -> str:
    """The path and user of a denied access, or the limit that was reached; "" for a missing file or a full disk, which
    explain themselves."""
    if error.errno == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"the limit of {limit} open files is reached: raise LimitNOFILE= of the unit, or ulimit -n"
    if error.errno == errno.ENFILE:
        return "the system's limit of open files is reached: raise the sysctl fs.file-max"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or error.filename is None:
        return ""
    return f"{os.fsdecode(error.filename)}: {error.strerror} for uid {os.geteuid()}"


as_transfer_errors = _TransferErrors()
"""Turns an OSError about the request into a TransferError, as a context manager.

It has no state, so it is one object for all: requests for missing files are frequent, and contextlib's cost more.
"""
