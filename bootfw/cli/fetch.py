"""Fetches a boot file as firmware does, by TFTP or HTTP, with blocking sockets."""

import http.client
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import closing
from math import inf
from urllib.parse import urlsplit

from attrs import define, field

from bootfw.errors import WireError
from bootfw.wire import tftp

TFTP_PORT = 69

_WAITS = (1.0, 2.0, 4.0, 4.0)
"""Seconds to wait before each retransmission, and before giving up."""

_LARGEST = 65536
"""Largest datagram in bytes."""
_SAMPLE = 4096
"""Bytes from the beginning of a file that are stored, to determine its kind."""


class FetchError(Exception):
    """The file can't be fetched. The message says why, in a sentence without a full stop."""


@define
class Fetched:
    """A file that was fetched."""

    size: int = 0
    """Bytes."""
    seconds: float = 0.0
    retries: int = 0
    """Number of retransmitted packets."""
    announced: int | None = None
    """The size that the server announced; None: it announced none."""
    options: tuple[tuple[str, str], ...] = ()
    """TFTP: the options of the OACK."""
    begin: bytes = b""
    """The first bytes."""
    status: int = 0
    """HTTP: the status code."""
    notes: list[str] = field(factory=list)
    """Problems that did not prevent the transfer, a sentence each."""

    def add(self, data: bytes) -> None:
        """Add the next bytes of the file."""
        self.size += len(data)
        if len(self.begin) < _SAMPLE:
            self.begin += data[: _SAMPLE - len(self.begin)]


def fetch_tftp(
    host: str,
    name: str,
    options: Sequence[tuple[str, str]] = (),
    *,
    port: int = TFTP_PORT,
    whole: bool = True,
    waits: Sequence[float] = _WAITS,
    within: float = inf,
) -> Fetched:
    """Fetch a file by TFTP.

    :param options: the options of the request.
    :param whole: false: the transfer is aborted after the first block.
    :param within: seconds that all of it may take.
    :raise FetchError: the file can't be fetched.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise FetchError(f"the server {host} can't be found: {error.strerror}") from error
    with closing(socket.socket(family, socket.SOCK_DGRAM)) as sock:
        return _TFTPDownload(sock, address, host, name, options, whole, waits, within).run()


class _TFTPDownload:
    """A TFTP download. If no answer comes, the last packet is sent again."""

    def __init__(
        self,
        sock: socket.socket,
        server: tuple[object, ...],
        host: str,
        name: str,
        options: Sequence[tuple[str, str]],
        whole: bool,
        waits: Sequence[float],
        within: float,
    ) -> None:
        self._sock = sock
        self._server = server
        self._host = host
        self._peer: tuple[object, ...] | None = None
        self._whole = whole
        self._waits = waits
        self._within = within
        self._deadline = inf
        self._last = tftp.request(False, name, "octet", options)
        self._blksize, self._windowsize = 512, 1
        self._block = 0
        """The last block that was received in order; never wraps."""
        self._unacknowledged = 0
        self._fetched = Fetched()

    def run(self) -> Fetched:
        began = time.monotonic()
        self._deadline = began + self._within
        self._send(self._last)
        while not self._take(self._received()):
            pass
        self._fetched.seconds = time.monotonic() - began
        return self._fetched

    def _send(self, packet: bytes) -> None:
        self._last = packet
        self._sock.sendto(packet, self._peer or self._server)

    def _received(self) -> tftp.Packet:
        """Return the next packet of the server.

        :raise FetchError: the server does not answer.
        """
        for number, wait in enumerate(self._waits):
            until = min(time.monotonic() + wait, self._deadline)
            while True:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._sock.settimeout(left)
                try:
                    data, peer = self._sock.recvfrom(_LARGEST)
                    packet = tftp.parse(data)
                except TimeoutError:
                    break
                except (ConnectionError, WireError):
                    continue
                if peer[0] != self._server[0] or self._peer not in (None, peer):
                    continue
                self._peer = peer
                return packet
            if time.monotonic() >= self._deadline:
                break
            if number + 1 < len(self._waits):
                self._fetched.retries += 1
                self._send(self._last)
        if self._peer is not None and time.monotonic() >= self._deadline:
            raise FetchError(f"only {self._fetched.size} bytes have come within {self._within:g} s")
        if self._peer is None:
            raise FetchError(
                f"TFTP server {self._host} does not answer: it does not run, or a firewall drops UDP port "
                f"{self._server[1]} or its answers, which may come from another port"
            )
        raise FetchError(
            f"the transfer from {self._host} stops after {self._fetched.size} bytes: packets of {self._blksize} bytes "
            "and more do not arrive (MTU), or a firewall drops what follows the first packet"
        )

    def _take(self, packet: tftp.Packet) -> bool:
        """Take a packet of the server.

        :return: whether the transfer is over.
        """
        if isinstance(packet, tftp.Error):
            raise FetchError(f'TFTP server {self._host} refuses: error {packet.code}, "{packet.message}"')
        if isinstance(packet, tftp.OptionAck):
            if self._block == 0:
                self._agree(packet.options)
                self._send(tftp.ack(0))
        elif isinstance(packet, tftp.Data):
            return self._take_data(packet)
        return False

    def _agree(self, options: tuple[tuple[str, str], ...]) -> None:
        self._fetched.options = options
        values = {name.lower(): value for name, value in options}
        try:
            self._blksize = int(values.get("blksize", 512))
            self._windowsize = int(values.get("windowsize", 1))
            self._fetched.announced = int(values["tsize"]) if "tsize" in values else None
        except ValueError:
            raise FetchError(f"TFTP server {self._host} acknowledges options that are no numbers: {options}") from None

    def _take_data(self, packet: tftp.Data) -> bool:
        ahead = (packet.block - self._block) & 0xFFFF
        if ahead != 1:
            if self._unacknowledged:  # request the window again from the last block in order (RFC 7440)
                self._unacknowledged = 0
                # A number far outside the window is not lost data: bootfw sends one to verify the client's address.
                self._fetched.retries += ahead <= self._windowsize
                self._send(tftp.ack(self._block & 0xFFFF))
            return False
        self._block += 1
        self._unacknowledged += 1
        self._fetched.add(packet.payload)
        last = len(packet.payload) < self._blksize
        if not last and not self._whole:
            self._send(tftp.error(tftp.ErrorCode.NOT_DEFINED, "enough"))
            return True
        if last or self._unacknowledged >= self._windowsize:
            self._unacknowledged = 0
            self._send(tftp.ack(self._block & 0xFFFF))
        if last and self._fetched.announced not in (None, self._fetched.size):
            self._fetched.notes.append(
                f"the server announced {self._fetched.announced} bytes and sent {self._fetched.size}"
            )
        return last


def fetch_http(url: str, *, whole: bool = True, timeout: float = 10.0) -> Fetched:
    """Fetch a file by HTTP or HTTPS.

    :param whole: false: only the beginning.
    :raise FetchError: the file can't be fetched.
    """
    fetched, began = Fetched(), time.monotonic()
    try:
        try:
            _get(url, fetched, whole, timeout, ssl.create_default_context())
        except ssl.SSLCertVerificationError as error:
            fetched.notes.append(
                f"its certificate is not trusted here ({error.verify_message}); firmware trusts what is enrolled in it"
            )
            _get(url, fetched, whole, timeout, ssl._create_unverified_context())
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FetchError(f"{url} can't be fetched: {reason}") from error
    if fetched.status != http.HTTPStatus.OK:
        raise FetchError(f"{url}: the server answers {fetched.status} {http.client.responses.get(fetched.status, '')}")
    fetched.seconds = time.monotonic() - began
    if whole and fetched.announced not in (None, fetched.size):
        fetched.notes.append(f"the server announced {fetched.announced} bytes and sent {fetched.size}")
    return fetched


def _get(url: str, fetched: Fetched, whole: bool, timeout: float, context: ssl.SSLContext) -> None:
    parts = urlsplit(url)
    assert parts.hostname is not None
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
    with closing(connection):
        connection.request("GET", f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}")
        response = connection.getresponse()
        fetched.status, fetched.announced = response.status, response.length
        while response.status == http.HTTPStatus.OK:
            data = response.read(1 << 16)
            if not data:
                return
            fetched.add(data)
            if not whole:
                return


def kind_of(begin: bytes) -> str:
    """Return the kind of a file by its first bytes, such as "an iPXE script"; "": unknown."""
    if begin.startswith(b"MZ"):
        return "a UEFI program"
    if begin.startswith(b"#!ipxe"):
        return "an iPXE script"
    if begin.lstrip()[:1] == b"<":
        return "a page of HTML"
    return ""
