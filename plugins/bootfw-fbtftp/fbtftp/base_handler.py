"""Handles one request: a BaseHandler returns the content, and receives the statistics."""

import io
import ipaddress
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fbtftp import constants


class ResponseData:
    """The content of a file. All methods are called in threads, one call at a time."""

    def read(self, n: int) -> bytes:
        """Return up to *n* bytes; it is called again for the rest, until nothing comes."""
        raise NotImplementedError

    def size(self) -> int | None:
        """Return the size in bytes; None: not known, then it is left out of the OACK."""
        raise NotImplementedError

    def close(self) -> None:
        """Release everything. Called once, when the transfer has ended."""
        raise NotImplementedError


class StringResponseData(ResponseData):
    """A text in Latin-1 as the content of a file."""

    def __init__(self, string: str) -> None:
        self._data = io.BytesIO(string.encode("latin-1"))

    def read(self, n: int) -> bytes:
        """See ResponseData."""
        return self._data.read(n)

    def size(self) -> int:
        """See ResponseData."""
        return len(self._data.getvalue())

    def close(self) -> None:
        """See ResponseData."""


class SessionStats:
    """The statistics of a transfer. They are complete when the callback of its handler gets them.

    :param server_addr: (address, port) of the server.
    :param peer: (address, port) of the client.
    """

    def __init__(self, server_addr: Any, peer: Any, file_path: str) -> None:
        self.peer = peer
        self.server_addr = server_addr
        self.file_path = file_path
        self.error: dict[str, Any] = {}
        """``error_code`` and ``error_message``; empty: it succeeded, or the client requested the size only."""
        self.options: dict[str, str] = {}
        """The options that were acknowledged."""
        self.options_in: dict[str, Any] = {}
        """The mode and the options that the client requested."""
        self.options_acked: dict[str, str] = {}
        """The same as ``options``."""
        self.start_time = time.time()
        self.packets_sent = 0
        """OACK and DATA, with those that were sent again. Of the window in flight when a transfer fails, one counts."""
        self.packets_acked = 0
        """OACK and DATA that were acknowledged."""
        self.bytes_sent = 0
        """Bytes of the file that were acknowledged."""
        self.retransmits = 0
        """Packets that were sent again."""
        self.blksize = constants.DEFAULT_BLKSIZE

    def duration(self) -> float:
        """Return the seconds since the request came."""
        return time.time() - self.start_time


class BaseHandler:
    """Handles one request. Subclasses override ``get_response_data``.

    It is created in a thread by ``BaseServer.get_handler``, and calls get_response_data at once. What a subclass needs
    for that is set before it calls this constructor.

    :param server_addr: (address, port) of the server.
    :param peer: (address, port) of the client.
    :param path: the file name as the client sent it, in Latin-1.
    :param options: what the client requests: see ``BaseServer.get_handler``.
    :param stats_callback: called in a thread with the SessionStats when the transfer has ended.
    """

    def __init__(
        self,
        server_addr: Any,
        peer: Any,
        path: str,
        options: Mapping[str, Any],
        stats_callback: Callable[[SessionStats], object],
    ) -> None:
        self._timeout = int(options["default_timeout"])
        self._retries = int(options["retries"])
        self._server_addr = server_addr
        self._peer = peer
        if isinstance(ipaddress.ip_address(server_addr[0]), ipaddress.IPv4Address):
            self._peer = (peer[0].removeprefix("::ffff:"), peer[1])
        self._path = path
        self._options = options
        self._stats_callback = stats_callback
        self._stats = SessionStats(server_addr, self._peer, path)
        self._response_data: Any = None
        self._refusal: Exception | None = None
        """What get_response_data raised."""
        try:
            self._response_data = self.get_response_data()
        except FileNotFoundError as error:
            logging.warning("%s is not found: %s", path, error)
            self._refuse(constants.ERR_FILE_NOT_FOUND, error)
        except Exception as error:
            logging.exception("The handler of %s raised an exception", path)
            self._refuse(constants.ERR_UNDEFINED, error)

    def _refuse(self, code: int, error: Exception) -> None:
        self._refusal = error
        self._stats.error = {"error_code": code, "error_message": str(error)}

    def get_response_data(self) -> Any:
        """Return the content, a ResponseData.

        :raise FileNotFoundError: there is no such file; the client gets ERROR 1.
        :raise Exception: the client gets ERROR 0.
        """
        raise NotImplementedError

    def _on_close(self) -> None:
        """Called in a thread when the transfer has ended: calls the callback. A subclass may do more."""
        self._stats_callback(self._stats)

    def _close(self) -> None:
        """End: report, and close the content."""
        try:
            self._on_close()
        except Exception:
            logging.exception("The callback for the statistics of %s raised an exception", self._path)
        if self._response_data is None:
            return
        try:
            self._response_data.close()
        except Exception:
            logging.exception("The content of %s could not be closed", self._path)
