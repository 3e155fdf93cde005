"""Converts OSErrors of a backend to the TransferErrors that clients get."""

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
    """A context manager that converts an OSError about the request to a TransferError. Errors of the disk stay."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError):
            raise_transfer_error(error)


def raise_transfer_error(error: OSError) -> None:
    """Raise the TransferError for an *error* about the request. Return if it is an error of the disk."""
    kind = _BY_ERRNO.get(error.errno)
    if kind is not None:
        raise kind(detail=_detail(error)) from error


def _detail(error: OSError) -> str:
    """Return the detail for the log: path and user of a denied access, or the limit that was reached; "": the error
    itself says enough."""
    if error.errno == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"the limit of {limit} open files is reached: raise LimitNOFILE= of the unit, or ulimit -n"
    if error.errno == errno.ENFILE:
        return "the system's limit of open files is reached: raise the sysctl fs.file-max"
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or error.filename is None:
        return ""
    return f"{os.fsdecode(error.filename)}: {error.strerror} for uid {os.geteuid()}"


as_transfer_errors = _TransferErrors()
"""Context manager that converts an OSError about the request to a TransferError.

It has no state, so one object serves all: requests for missing files are frequent, and contextlib.contextmanager would
create a generator for each.
"""
