"""Drops root: becomes another user, and keeps a few capabilities(7)."""

import ctypes
import os
import pwd

KEPT = ("CAP_NET_BIND_SERVICE", "CAP_NET_RAW")
"""CAP_NET_BIND_SERVICE: for ports below 1024 on interfaces and addresses that appear later. CAP_NET_RAW: for binding to
an interface that was deleted and created again, and for ARP probes."""

# linux/capability.h, linux/prctl.h
_NUMBERS = {"CAP_NET_BIND_SERVICE": 10, "CAP_NET_RAW": 13}
_VERSION_3 = 0x20080522
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def keep_capabilities() -> None:
    """Have the kernel keep this thread's permitted capabilities when it becomes another user (PR_SET_KEEPCAPS)."""
    ctypes.CDLL(None).prctl(_PR_SET_KEEPCAPS, 1, 0, 0, 0)


def become(user: pwd.struct_passwd) -> None:
    """Become *user*, with the groups of that account, and the capabilities that are KEPT.

    :raise OSError: the kernel does not allow it.
    """
    keep_capabilities()
    # The user last: the groups can be changed by root only.
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    restrict_capabilities()


def restrict_capabilities() -> None:
    """Give up every capability but those that are KEPT.

    After a setuid() a process has them as permitted ones only; this puts them into effect again. They are not
    inheritable, so processes that this one starts have none.

    :raise OSError: the kernel does not allow it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    bits = sum(1 << _NUMBERS[name] for name in KEPT)
    header = _Header(_VERSION_3, 0)
    sets = (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    # A unit may give fewer of them, and to take one that is not permitted is an error.
    bits &= sets[0].permitted
    sets[0] = _Sets(bits, bits, 0)
    sets[1] = _Sets(0, 0, 0)
    if libc.capset(ctypes.byref(header), sets):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def clear_ambient_capabilities() -> None:
    """Clear the capabilities that a unit gives by AmbientCapabilities=: workers and callouts would inherit them."""
    ctypes.CDLL(None).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def give_directory(path: str, user: pwd.struct_passwd) -> None:
    """Create a directory that only *user* can read, or give an existing one and all that is in it to that account.

    A directory that belongs to the account already is left as it is; StateDirectory= of a unit does the same.

    :raise OSError: it can't be created, or given away.
    """
    os.makedirs(path, mode=0o700, exist_ok=True)
    if os.stat(path).st_uid == user.pw_uid:
        return
    for directory, _, names in os.walk(path):  # symbolic links are not followed
        for name in names:
            os.chown(os.path.join(directory, name), user.pw_uid, user.pw_gid, follow_symlinks=False)
        os.chown(directory, user.pw_uid, user.pw_gid)
