"""The socket of a service manager, for tests: what a service sends to it."""

import select
import socket
import time
from pathlib import Path


class ServiceManager:
    """Receives what sd_notify(3) sends. ``name`` is what NOTIFY_SOCKET has to be."""

    def __init__(self, directory: Path) -> None:
        self.name = str(directory / "notify")
        self.messages: list[str] = []
        """All that has arrived, but the watchdog's."""
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

    def until(self, wanted: str, seconds: float = 90) -> None:
        """Receive until a message contains *wanted*."""
        end = time.monotonic() + seconds
        while wanted not in self.receive(end - time.monotonic()):
            assert time.monotonic() < end, f"no {wanted!r} among {self.messages}"
