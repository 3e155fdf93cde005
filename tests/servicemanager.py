"""The socket of a service manager, for tests: it receives what a service sends."""

import select
import socket
import time
from pathlib import Path


class ServiceManager:
    """Receives the messages of sd_notify(3). ``name`` is the value for NOTIFY_SOCKET."""

    def __init__(self, directory: Path) -> None:
        self.name = str(directory / "notify")
        self.messages: list[str] = []
        """All that were received, but for those of the watchdog."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.name)

    def close(self) -> None:
        self._socket.close()

    def receive(self, seconds: float) -> str:
        """The next message; "" if none comes."""
        if not select.select([self._socket], [], [], max(0, seconds))[0]:
            return ""
        message = self._socket.recv(4096).decode()
        if message != "WATCHDOG=1":
            self.messages.append(message)
        return message

    def until(self, expected: str, seconds: float = 90) -> None:
        """Receive until a message contains *wanted*."""
        deadline = time.monotonic() + seconds
        while expected not in self.receive(deadline - time.monotonic()):
            assert time.monotonic() < deadline, f"no {expected!r} among {self.messages}"
