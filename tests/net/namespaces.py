"""Network namespaces, which stand for hosts."""

import contextlib
import ctypes
import subprocess
from collections.abc import Iterator

from attrs import frozen

_CLONE_NEWNET = 0x40000000  # <sched.h>; Python has os.setns() from 3.12 on


@frozen
class Host:
    """A network namespace that has a name."""

    name: str

    def ip(self, *arguments: str) -> None:
        """Run ip(8) in it."""
        subprocess.run(["ip", "-n", self.name, *arguments], check=True, capture_output=True, text=True)

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Meanwhile, this thread is in the namespace, so the sockets that it opens belong to it."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as before, open(f"/run/netns/{self.name}") as namespace:
            if libc.setns(namespace.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
            try:
                yield
            finally:
                libc.setns(before.fileno(), _CLONE_NEWNET)
