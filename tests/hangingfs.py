"""A file system that can hang: FUSE, by its protocol (linux/fuse.h), with files of one directory.

It stands for an NFS server that is gone. While it hangs, a thread that waits for its answer waits in the kernel.
"""

import ctypes
import errno
import os
import select
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

_HEADER = struct.Struct("<IIQQIIII")
_LOOKUP, _FORGET, _GETATTR, _OPEN, _READ, _RELEASE, _INIT, _INTERRUPT, _BATCH_FORGET = (
    *(1, 2, 3, 14, 15, 18, 26, 36, 42),
)
_ROOT = 1
_MNT_DETACH = 2

_LIMIT = 60
"""Seconds after which it answers again by itself: a process that waits for a thread of its own can't be killed."""


class HangingFileSystem:
    """A file system with *files*, mounted at *mount_point*; one thread answers for it.

    :param files: name -> content.
    """

    def __init__(self, mount_point: Path, files: Mapping[str, bytes]) -> None:
        self.mount_point = mount_point
        self._files = list(files.items())
        self._answers = threading.Event()
        self._answers.set()
        self._readable: int | None = None
        self._closed = False
        self._device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"fd={self._device},rootmode=40000,user_id=0,group_id=0"
        if libc.mount(b"hanging", os.fsencode(mount_point), b"fuse", 0, options.encode()):
            os.close(self._device)
            pytest.skip(f"no FUSE here: {os.strerror(ctypes.get_errno())}")
        self._unmount: Callable[[], object] = lambda: libc.umount2(os.fsencode(mount_point), _MNT_DETACH)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def hang(self) -> None:
        """Answer nothing from now on."""
        self._answers.clear()

    def answer(self) -> None:
        """Answer again."""
        self._answers.set()

    def fail_beyond(self, offset: int | None) -> None:
        """From now on each read beyond *offset* fails as on a bad disk; None: no read does."""
        self._readable = offset

    def close(self) -> None:
        """Unmount it. Threads that wait for it get an error."""
        self._closed = True
        self._answers.set()
        self._unmount()
        self._thread.join()
        os.close(self._device)

    def _serve(self) -> None:
        while not self._closed:
            if not self._answers.wait(_LIMIT):
                self._answers.set()
            select.select([self._device], [], [], 0.05)
            if not self._answers.is_set():
                continue
            try:
                request = os.read(self._device, 1 << 17)
            except BlockingIOError:
                continue
            except OSError:
                return
            _, opcode, unique, node, *_ = _HEADER.unpack_from(request)
            if opcode in (_FORGET, _INTERRUPT, _BATCH_FORGET):
                continue
            try:
                error, answer = 0, self._answer(opcode, node, request[_HEADER.size :])
            except OSError as failure:
                error, answer = failure.errno or errno.EIO, b""
            # ENOENT: the process that waited for it has been interrupted.
            with suppress(FileNotFoundError):
                os.write(self._device, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)

    def _answer(self, opcode: int, node: int, body: bytes) -> bytes:
        if opcode == _INIT:
            return struct.pack("<IIIIHHIIHH8I", 7, 31, 0, 0, 0, 0, 1 << 16, 1, 0, 0, *[0] * 8)
        if opcode == _LOOKUP:
            name = os.fsdecode(body.rstrip(b"\0"))
            names = [name for name, _ in self._files]
            if name not in names:
                raise OSError(errno.ENOENT, name)
            number = names.index(name) + 2
            return struct.pack("<QQQQII", number, 0, 0, 0, 0, 0) + self._attributes(number)
        if opcode == _GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self._attributes(node)
        if opcode == _OPEN:
            return struct.pack("<QII", 0, 0, 0)
        if opcode == _READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            if self._readable is not None and offset + size > self._readable:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return self._files[node - 2][1][offset : offset + size]
        if opcode == _RELEASE:
            return b""
        raise OSError(errno.ENOSYS, "")

    def _attributes(self, node: int) -> bytes:
        size = 0 if node == _ROOT else len(self._files[node - 2][1])
        mode = 0o40755 if node == _ROOT else 0o100644
        return struct.pack("<6Q10I", node, size, 0, *[1_000_000_000] * 3, *[0] * 3, mode, 1, 0, 0, 0, 4096, 0)


def mounted(mount_point: Path, files: Mapping[str, bytes], seconds: int = 30) -> HangingFileSystem:
    """A HangingFileSystem that answers. Skips the test if it can't be mounted here."""
    if os.geteuid() != 0 or not os.path.exists("/dev/fuse"):
        pytest.skip("a file system in user space needs root and /dev/fuse")
    file_system = HangingFileSystem(mount_point, files)
    deadline = time.monotonic() + seconds
    file = os.path.join(mount_point, next(iter(files)))
    while not os.access(file, os.R_OK):
        assert time.monotonic() < deadline
    # At the first close the kernel learns that there is no FLUSH, and never waits for one again. Else a process that
    # subprocess starts would wait for it when it closes its copies of open files, and this one would wait for that
    # process with Python's lock, which the thread needs that answers.
    os.close(os.open(file, os.O_RDONLY))
    return file_system


def threads() -> list[threading.Thread]:
    """The threads in which backends read files: those that hang are among them."""
    return [thread for thread in threading.enumerate() if thread.name == "bootfw files"]
