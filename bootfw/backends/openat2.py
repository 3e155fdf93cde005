"""Resolves a path below a directory. No symbolic link and no ``..`` can lead out of it.

``openat2`` does this in the kernel (Linux 5.6). If it is missing or a sandbox forbids it, ``walk`` returns the same
results, component by component: absolute symbolic links start at the root directory, and ``..`` stops there.
"""

import ctypes
import errno
import os
import stat
from collections.abc import Callable

_SYSCALL = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_IN_ROOT = 0x10
_ATTEMPTS = 16
_MAX_SYMLINKS = 40  # the kernel's own limit, path_resolution(7)

Resolve = Callable[[int, bytes], int]
"""(descriptor of the root, path) -> an O_PATH descriptor. A symbolic link in the last component is followed too. Raises
OSError. O_PATH does not open the file itself: a FIFO does not block, and a device is not activated."""


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_syscall.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t]
_HOW = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
_WITHOUT_LINKS = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_SYMLINKS)
_WITHOUT_LINKS_AT = ctypes.addressof(_WITHOUT_LINKS)
_HOW_AT = ctypes.addressof(_HOW)
_UNLINKED = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_NO_SYMLINKS)
_UNLINKED_AT = ctypes.addressof(_UNLINKED)
_AT_FDCWD = -100
_HOW_SIZE = ctypes.sizeof(_HOW)


def resolve(root: int, path: bytes) -> int:
    """Resolve *path* by openat2(), or by walk() if the kernel does not allow that."""
    try:
        return openat2(root, path)
    except OSError as error:
        # With O_PATH openat2 itself never returns EPERM: it comes from a seccomp filter that predates the call.
        if error.errno not in (errno.ENOSYS, errno.EPERM, errno.EAGAIN):
            raise
    return walk(root, path)


def openat2(root: int, path: bytes) -> int:
    """Resolve *path* in the kernel.

    :raise OSError: ENOSYS or EPERM: openat2 can't be used. EAGAIN: directories are being renamed all the time while
        ``..`` is resolved. Others are about the file.
    """
    for _ in range(_ATTEMPTS):
        fd: int = _syscall(_SYSCALL, root, path or b".", _HOW_AT, _HOW_SIZE)
        if fd >= 0:
            return fd
        if ctypes.get_errno() not in (errno.EAGAIN, errno.EINTR):
            break
    raise _error(ctypes.get_errno())


def without_links(path: bytes) -> int:
    """Return an O_PATH descriptor of the file at *path* of this host, no part of which may be a symbolic link.

    :raise OSError: ELOOP: a part is a link; ENOSYS or EPERM: openat2() can't be used. Others are about the file.
    """
    fd: int = _syscall(_SYSCALL, _AT_FDCWD, path, _UNLINKED_AT, _HOW_SIZE)
    if fd < 0:
        raise _error(ctypes.get_errno())
    return fd


def may_have_link(root: int, path: bytes) -> bool:
    """Return whether *path* may be missing because of a symbolic link. Costs one system call."""
    fd: int = _syscall(_SYSCALL, root, path or b".", _WITHOUT_LINKS_AT, _HOW_SIZE)
    if fd >= 0:
        os.close(fd)  # the file was created meanwhile
        return False
    return ctypes.get_errno() not in (errno.ENOENT, errno.ENOTDIR)


def walk(root: int, path: bytes) -> int:
    """Resolve *path* component by component.

    The kernel never follows a link here (O_NOFOLLOW), and ``..`` is never looked up: so renames at the same time can't
    lead out of the root.
    """
    pending = path.split(b"/")[::-1]
    directories = [os.dup(root)]  # from the root to the present directory; ".." pops the last one
    links = 0
    try:
        while pending:
            name = pending.pop()
            if not stat.S_ISDIR(os.fstat(directories[-1]).st_mode):
                raise _error(errno.ENOTDIR)
            if name in (b"", b"."):
                continue
            if name == b"..":
                if len(directories) > 1:
                    os.close(directories.pop())
                continue
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directories[-1])
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                directories.append(fd)
                continue
            try:
                target = os.readlink(b"", dir_fd=fd)
            finally:
                os.close(fd)
            links += 1
            if links > _MAX_SYMLINKS:
                raise _error(errno.ELOOP)
            if target.startswith(b"/"):
                while len(directories) > 1:
                    os.close(directories.pop())
            pending += target.split(b"/")[::-1]
        return directories.pop()
    finally:
        for fd in directories:
            os.close(fd)


def _error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
