"""The server: a BaseServer makes a handler for each request."""

import collections
import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from fbtftp import constants
from fbtftp.loop import Loop


class ServerStats:
    """Counters of a server. Each method is atomic, so that threads can use it.

    :param server_addr: the address of the server, for the user's own use.
    :param interval: seconds between two calls of the callback.
    """

    def __init__(self, server_addr: str | None = None, interval: float | None = None) -> None:
        self.server_addr = server_addr
        self.interval = interval
        self.start_time = time.time()
        self._counters: collections.Counter[str] = collections.Counter()
        self._counters_lock = threading.Lock()

    def get_all_counters(self) -> dict[str, int]:
        """Return all counters by name."""
        with self._counters_lock:
            return dict(self._counters)

    def get_and_reset_all_counters(self) -> dict[str, int]:
        """Return all counters by name, and begin at 0."""
        with self._counters_lock:
            counters = dict(self._counters)
            self._counters.clear()
            return counters

    def get_counter(self, name: str) -> int:
        """Return a counter."""
        return self._counters[name]

    def set_counter(self, name: str, value: int) -> None:
        """Set a counter."""
        with self._counters_lock:
            self._counters[name] = value

    def increment_counter(self, name: str, increment: int = 1) -> None:
        """Add *increment*, which may be negative, to a counter."""
        with self._counters_lock:
            self._counters[name] += increment

    def reset_counter(self, name: str) -> None:
        """Set a counter to 0."""
        self.set_counter(name, 0)

    def get_and_reset_counter(self, name: str) -> int:
        """Return a counter, and set it to 0."""
        with self._counters_lock:
            value = self._counters[name]
            self._counters[name] = 0
            return value

    def reset_all_counters(self) -> None:
        """Set all counters to 0."""
        with self._counters_lock:
            self._counters.clear()

    def duration(self) -> float:
        """Return the seconds since the server was made."""
        return time.time() - self.start_time


class BaseServer:
    """A TFTP server. Subclasses override ``get_handler``.

    The port is bound here, so that a program may drop root before run().

    :param address: IPv4 or IPv6; "::" takes both.
    :param port: 0: the kernel chooses.
    :param retries: a packet that is not answered is sent once more at each timeout, ``retries + 1`` times.
    :param timeout: seconds; a client may request another one (RFC 2349).
    :param server_stats_callback: called in a thread with the ServerStats, every *stats_interval_seconds*.
    :raise OSError: the port can't be bound.
    """

    max_threads = 20
    """Threads that handlers run in. Requests wait while all are busy; transfers take one only to read."""
    max_blksize = 1468
    """The largest block size that is agreed to, in bytes: on an Ethernet, larger ones are sent in fragments."""
    max_windowsize = 64
    """The largest window that is agreed to, in blocks (RFC 7440)."""

    def __init__(
        self,
        address: str,
        port: int,
        retries: int,
        timeout: float,
        server_stats_callback: Callable[[ServerStats], object] | None = None,
        stats_interval_seconds: float = constants.DATAPOINTS_INTERVAL_SECONDS,
    ) -> None:
        self._address = address
        self._port = port
        self._retries = retries
        self._timeout = timeout
        self._server_stats_callback = server_stats_callback
        self._family = socket.AF_INET if ipaddress.ip_address(address).version == 4 else socket.AF_INET6
        self._listener = socket.socket(self._family, socket.SOCK_DGRAM)
        self._listener.setblocking(False)
        try:
            self._listener.bind((address, port))
        except OSError:
            self._listener.close()
            raise
        self._should_stop = False
        self._server_stats = ServerStats(address, stats_interval_seconds)
        self._metrics_timer: threading.Timer | None = None
        self._loop: Loop | None = None
        """None until it is needed: a program may fork before run()."""

    def get_handler(self, server_addr: Any, peer: Any, path: str, options: dict[str, Any]) -> Any:
        """Return a BaseHandler for a request; None: it is refused. Called in a thread, so it may block.

        :param server_addr: (address, port) as given to the constructor.
        :param peer: (address, port) of the client.
        :param path: the file name as the client sent it, in Latin-1.
        :param options: ``mode``, ``default_timeout`` and ``retries``; then what the client requests, names in lower
            case and values as text.
        """
        raise NotImplementedError

    def run(self, run_once: bool = False) -> None:
        """Serve until close() is called.

        :param run_once: stop after the first thing that happens.
        :raise KeyboardInterrupt: SIGINT came; everything is closed.
        """
        self.restart_stats_timer(run_once)
        with self._interruptible() as interrupted:
            try:
                while not self._should_stop:
                    self.run_once()
                    if run_once:
                        break
            finally:
                if self._loop is not None:
                    self._loop.close()
                self._listener.close()
                if self._metrics_timer is not None:
                    self._metrics_timer.cancel()
        if interrupted:
            raise KeyboardInterrupt

    @contextmanager
    def _interruptible(self) -> Iterator[list[int]]:
        """Stop at SIGINT. As an exception, it could come up anywhere, such as in the loop, which would log it."""
        interrupted: list[int] = []
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield interrupted
            return

        def interrupt(number: int, frame: Any) -> None:
            interrupted.append(number)
            self.close()

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield interrupted
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def run_once(self) -> None:
        """Wait until something happens, and handle it. For programs that have a loop around it."""
        self._get_loop().turn()

    def on_new_data(self) -> None:
        """Take a datagram from the socket. Called when there is one."""
        try:
            data, peer = self._listener.recvfrom(65535)
        except BlockingIOError:
            return
        self._get_loop().datagram_received(data, peer[:2])

    def close(self) -> None:
        """Have run() return. May be called from any thread, and from a signal handler."""
        self._should_stop = True
        if self._loop is not None:
            self._loop.wake()

    def _get_loop(self) -> Loop:
        if self._loop is None:
            self._loop = Loop(self)
        return self._loop

    def restart_stats_timer(self, run_once: bool = False) -> None:
        """Call the callback after the interval, and again, unless *run_once*."""
        if self._server_stats_callback is None:
            return
        interval = self._server_stats.interval
        assert interval is not None
        self._metrics_timer = threading.Timer(interval, self._metrics_callback_wrapper, [run_once])
        self._metrics_timer.daemon = True
        self._metrics_timer.start()

    def _metrics_callback_wrapper(self, run_once: bool = False) -> None:
        assert self._server_stats_callback is not None
        try:
            self._server_stats_callback(self._server_stats)
        except Exception:
            logging.exception("The callback for the statistics of the server raised an exception")
        if not run_once and not self._should_stop:
            self.restart_stats_timer()
