"""Reports to a service manager such as systemd, as sd_notify(3) and sd_watchdog_enabled(3) describe it."""

import errno
import os
import socket
import time
from collections.abc import MutableMapping

from attrs import define, field
from twisted.logger import Logger


@define(eq=False)
class NotifySocket:
    """The socket of the service manager, which takes messages about the state of this process.

    A message that can't be sent is logged, the first of them only, and the service goes on.
    """

    address: str
    """The address of a UNIX datagram socket: a path, or "@" and a name of the abstract namespace."""
    watchdog: float | None = None
    """Seconds without a message "WATCHDOG=1" after which the service manager kills this process; None: never."""
    _log: Logger = field(factory=lambda: Logger(namespace="bootfw"), init=False)
    _failed: bool = field(default=False, init=False)

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> "NotifySocket | None":
        """Return the socket that NOTIFY_SOCKET names; None: no service manager has started this process.

        The variables are removed, so that the processes that this one starts do not notify in its name.
        """
        address = environ.pop("NOTIFY_SOCKET", "")
        microseconds, process = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        if address[:1] not in ("/", "@"):
            return None
        # A process that has inherited the variables from the one that the service manager watches must ignore them.
        is_watched = not process or process == str(os.getpid())
        seconds = int(microseconds) / 1e6 if is_watched and microseconds.isdecimal() else 0
        return cls(address, seconds or None)

    def notify(self, **assignments: str) -> bool:
        """Send these assignments as one message.

        :return: false: the queue of the service manager is full, so try again later.
        """
        message = "\n".join(f"{name}={value}" for name, value in assignments.items())
        address = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message.encode(), address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                self._log.warn(
                    "the service manager can't be notified at {address}: {error}", address=self.address, error=error
                )
            return error.errno not in (errno.EAGAIN, errno.ENOBUFS)
        return True

    def ready(self) -> bool:
        """Report that the service serves, or serves again after reloading().

        :return: see notify().
        """
        # As a daemon, twistd has forked: the service manager knows another process as the main one.
        return self.notify(READY="1", MAINPID=str(os.getpid()))

    def reloading(self) -> None:
        """Report that the configuration is being reloaded, until ready()."""
        # The service manager compares the time with that of its reload command (systemd.service(5),
        # Type=notify-reload).
        self.notify(RELOADING="1", MONOTONIC_USEC=str(time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000))

    def stopping(self) -> None:
        """Report that the service is ending."""
        self.notify(STOPPING="1", STATUS="stopping")
