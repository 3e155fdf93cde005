"""What a client is told when the file system says no."""

import errno
import os

from bootfw.api import AccessViolation, DiskFull, FileAlreadyExists, FileMissing, TransferError

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
}


class Refusals:
    """In its context OSErrors that are about the request become TransferErrors; what is wrong with the disk stays."""

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, OSError) and error.errno in _BY_ERRNO:
            raise _BY_ERRNO[error.errno](detail=_detail(error)) from error


def _detail(error: OSError) -> str:
    """What was refused to us. That a file is not there needs no reason, and neither does a full disk."""
    if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS) or error.filename is None:
        return ""
    return f"{os.fsdecode(error.filename)}: {error.strerror} for uid {os.geteuid()}"


_refusals = Refusals()


def refusals() -> Refusals:
    """Not made by contextlib: requests for files that are not there are as frequent as others."""
    return _refusals
