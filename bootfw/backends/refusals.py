"""What a client is told when the file system says no."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

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


@contextmanager
def refusals() -> Iterator[None]:
    """OSErrors that are about the request become TransferErrors; what is wrong with the disk stays what it is."""
    try:
        yield
    except OSError as error:
        if error.errno not in _BY_ERRNO:
            raise
        raise _BY_ERRNO[error.errno]() from error
