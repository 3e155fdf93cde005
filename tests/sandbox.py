"""Run a command that can't create sockets of some address families, as systemd's RestrictAddressFamilies= does.

usage: sandbox.py FAMILY[,FAMILY...] COMMAND...    such as AF_UNIX,AF_NETLINK
"""

import ctypes
import errno
import os
import socket
import struct
import sys

SYSCALL = {"x86_64": 41, "aarch64": 198}
"""Machine -> number of socket(2)."""

_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_NUMBER, _FIRST_ARGUMENT = 0, 16


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid(families: list[int]) -> None:
    """Let socket(2) fail with EAFNOSUPPORT for these, here and in all children."""
    rows = [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, len(families) + 1, SYSCALL[os.uname().machine])]
    rows.append((_LOAD, 0, 0, _FIRST_ARGUMENT))
    rows += [(_EQUAL, len(families) - index, 0, family) for index, family in enumerate(families)]
    rows += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL | errno.EAFNOSUPPORT)]
    buffer = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *row) for row in rows))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(_Program(len(rows), ctypes.addressof(buffer)))):
        raise OSError(ctypes.get_errno(), "the kernel takes no filter")


if __name__ == "__main__":
    forbid([int(getattr(socket, name)) for name in sys.argv[1].split(",")])
    os.execvp(sys.argv[2], sys.argv[2:])
