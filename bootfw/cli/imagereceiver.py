"""Receives an image by frisbee's protocol and writes it, with blocking sockets.

It also runs on machines without bootfw (receivescript.py), so it imports no part of the server.
"""

import errno
import os
import secrets
import select
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from ipaddress import IPv4Address
from math import inf
from random import shuffle

from attrs import frozen

from bootfw.errors import BootfwError, WireError
from bootfw.frisbee.digests import Digests
from bootfw.frisbee.reception import Input, Reception, State
from bootfw.wire import frisbee, frisbeemaster
from bootfw.wire.frisbee import CHUNK_SIZE
from bootfw.wire.frisbeemaster import Error, Method

TTL = 5
"""Of packets to the group, as by Emulab's client."""
_BUFFER = 8 << 20
"""Bytes of the socket's receive buffer, for packets that arrive while a chunk is written."""
_SO_RCVBUFFORCE = 33
_LARGEST = 2048
"""Bytes; more than the largest packet of frisbee."""
_BATCH = 512
"""Packets that are read before a complete chunk is written."""
_MOST_REJECTED = 3
"""Times that the same chunk does not match its digest until the reception fails."""
_MASTER_TIMEOUT = 30.0
"""Seconds. Emulab's server answers after two."""
_TRY_AGAIN = 1.0
"""Seconds until a server that is busy is asked again."""

_REASONS = {
    Error.FAILED: "it refuses this machine",
    Error.NO_HOST: "it does not know this machine",
    Error.NO_IMAGE: "it has no such image",
    Error.NO_ACCESS: "this machine may not have the image",
    Error.NO_METHOD: "it does not send by multicast",
    Error.INVALID: "it takes the name for invalid",
}


class ReceiveError(BootfwError):
    """The image can't be received. The message says why, in a sentence without a full stop."""


@frozen
class Transmission:
    """Where an image is sent."""

    address: str
    """A multicast group, a broadcast address, or the server's own."""
    port: int
    server: str = ""
    """The address that blocks come from; "": not known before the reply to the JOIN."""

    @property
    def is_group(self) -> bool:
        """Whether it has to be joined."""
        return IPv4Address(self.address).is_multicast


def find_transmission(server: str, port: int, image: str, patience: float = inf) -> Transmission:
    """Have the master server *server* send an image; return where it sends it.

    :param port: TCP port of the master server.
    :param image: the name of the image on the server.
    :param patience: seconds after which the request of a busy server is given up.
    :raise ReceiveError: the server does not send it, or can't be reached.
    """
    until = time.monotonic() + patience
    while True:
        reply = _master_reply(server, port, image)
        if reply.error == Error.NONE:
            return Transmission(reply.address, reply.port, reply.server)
        if reply.error != Error.TRY_AGAIN or time.monotonic() >= until:
            reason = _REASONS.get(Error(reply.error) if reply.error in set(Error) else Error.FAILED, "")
            raise ReceiveError(f"{server} does not send {image}: {reason or f'error {reply.error}'}")
        time.sleep(_TRY_AGAIN)


def _master_reply(server: str, port: int, image: str) -> frisbeemaster.GetReply:
    try:
        request = frisbeemaster.pack(frisbeemaster.GetRequest(image, Method.MULTICAST))
        with socket.create_connection((server, port), _MASTER_TIMEOUT) as connection:
            connection.sendall(request)
            data = b""
            while len(data) < frisbeemaster.GET_REPLY_SIZE:
                part = connection.recv(frisbeemaster.GET_REPLY_SIZE - len(data))
                if not part:
                    break
                data += part
        return frisbeemaster.parse_get_reply(data)
    except ValueError as error:
        raise ReceiveError(f"{image}: {error}") from None
    except WireError as error:
        raise ReceiveError(f"{server} port {port} is no master server of frisbee: {error}") from None
    except OSError as error:
        raise ReceiveError(f"{server} can't be reached at port {port}: {error.strerror or error}") from None


class Output:
    """The file or block device that an image is written to.

    :raise ReceiveError: there is no such device, or it is in use.
    :raise OSError: it can't be opened.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        exists = os.path.exists(path)
        if not exists and os.path.dirname(os.path.abspath(path)) == "/dev":
            raise ReceiveError(f"there is no device {path}")  # a file there would be one in memory
        # On a block device O_EXCL means that nothing else uses it (open(2)).
        is_device = exists and stat.S_ISBLK(os.stat(path).st_mode)
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_EXCL if is_device else os.O_CREAT), 0o644)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            raise ReceiveError(
                f"{path} is in use: it or a part of it is mounted, or belongs to swap, RAID or LVM"
            ) from None
        self._is_device = is_device

    def fit(self, size: int) -> None:
        """Make room for an image of *size* bytes: a file gets this size.

        :raise ReceiveError: the device is too small.
        """
        if not self._is_device:
            os.truncate(self._file, size)
            return
        room = os.lseek(self._file, 0, os.SEEK_END)
        if room < size:
            raise ReceiveError(f"{self.path} has {room} bytes, and the image has {size}")

    def chunk(self, number: int, length: int = CHUNK_SIZE) -> bytes:
        """Return the bytes at the place of a chunk."""
        return os.pread(self._file, length, number * CHUNK_SIZE)

    def write(self, number: int, content: bytes) -> None:
        """Write a chunk."""
        view, offset = memoryview(content), number * CHUNK_SIZE
        while view:
            count = os.pwrite(self._file, view, offset)
            view, offset = view[count:], offset + count

    def stored(self, digests: Digests) -> Iterator[int]:
        """Yield the numbers of the chunks that it has already."""
        for number in range(len(digests.chunks)):
            if digests.matches(number, self.chunk(number, min(CHUNK_SIZE, digests.size - number * CHUNK_SIZE))):
                yield number

    def flush(self) -> None:
        """Wait until everything is on the medium."""
        try:
            os.fsync(self._file)
        except OSError as error:
            if error.errno != errno.EINVAL:  # /dev/null has nothing to flush
                raise

    def close(self) -> None:
        """Close the file or device."""
        os.close(self._file)


def receive(
    transmission: Transmission,
    output: Output,
    digests: Digests | None = None,
    have: frozenset[int] = frozenset(),
    patience: float = 60.0,
    show: Callable[[Reception], None] = lambda reception: None,
) -> Reception:
    """Receive an image, and write each chunk as soon as it is complete.

    :param digests: of the chunks, which are verified by them; None: they are not verified.
    :param have: numbers of the chunks that the output has already.
    :param patience: seconds without a packet of the server after which the reception fails.
    :param show: called after each batch of packets and at each tick, to show the progress.
    :return: the complete reception, with its counters.
    :raise ReceiveError: the image can't be received.
    :raise OSError: it can't be written.
    """
    with closing(_open_socket(transmission)) as sock:
        source = _source(transmission)
        reception = Reception(source, secrets.randbits(32), patience, shuffle, time.monotonic(), have)
        return _Receiver(sock, transmission, output, digests, reception, show).run()


class _Receiver:
    """One call of receive()."""

    def __init__(
        self,
        sock: socket.socket,
        transmission: Transmission,
        output: Output,
        digests: Digests | None,
        reception: Reception,
        show: Callable[[Reception], None],
    ) -> None:
        self._sock = sock
        self._destination = transmission.address, transmission.port
        self._server = transmission.server
        self._output = output
        self._digests = digests
        self._reception = reception
        self._show = show
        self._rejected: dict[int, int] = {}

    def run(self) -> Reception:
        reception = self._reception
        while True:
            self._send()
            self._store()
            self._send()
            self._show(reception)
            if reception.state is State.FAILED:
                raise ReceiveError(reception.detail)
            if reception.state is State.COMPLETE:
                return reception
            if not self._read():
                reception.handle(Input.TICK, None, time.monotonic())

    def _send(self) -> None:
        out = self._reception.out
        while out:
            with suppress(OSError):  # counts as lost on the way; the session repeats its requests
                self._sock.sendto(frisbee.pack(out.pop(0)), self._destination)

    def _store(self) -> None:
        reception = self._reception
        while reception.complete:
            number, content = reception.complete.pop(0)
            if self._digests is None or self._digests.matches(number, content):
                self._output.write(number, content)
                reception.handle(Input.STORED, number, time.monotonic())
                continue
            self._rejected[number] = count = self._rejected.get(number, 0) + 1
            if count == _MOST_REJECTED:
                raise ReceiveError(f"chunk {number} of the server is not that of the digests: has the image changed?")
            reception.handle(Input.REJECTED, number, time.monotonic())

    def _read(self) -> bool:
        """Read the packets that have arrived, _BATCH at most, or wait for one until the deadline.

        :return: False: the deadline has passed.
        """
        reception = self._reception
        assert reception.deadline is not None
        ready, _, _ = select.select([self._sock], [], [], max(0.0, reception.deadline - time.monotonic()))
        if not ready:
            return False
        now = time.monotonic()
        for _ in range(_BATCH):
            try:
                data, (host, port) = self._sock.recvfrom(_LARGEST)
            except BlockingIOError:
                break
            except OSError:  # an ICMP error of an earlier packet
                continue
            if port == self._destination[1]:
                self._handle_packet(data, host, now)
            if reception.complete or reception.deadline is None:
                break
        # Useless packets, such as requests of many other clients, must not delay the deadline for ever.
        return reception.deadline is None or now < reception.deadline

    def _handle_packet(self, data: bytes, host: str, now: float) -> None:
        reception = self._reception
        try:
            packet = frisbee.parse(data)
        except WireError:
            return
        if packet.source != host or host == reception.source:
            return
        match packet:
            case frisbee.Block() if host == self._server:
                reception.handle(Input.BLOCK, packet, now)
            case frisbee.Request() | frisbee.PartialRequest():
                reception.handle(Input.OVERHEARD, packet, now)
            case frisbee.Join2Reply(client=reception.client) if self._server in ("", host):
                self._joined(packet, host, now)

    def _joined(self, reply: frisbee.Join2Reply, host: str, now: float) -> None:
        if self._reception.state is not State.JOINING:
            return
        self._server = host
        if self._digests is not None and self._digests.size != reply.size:
            raise ReceiveError(f"the image has {reply.size} bytes, and its digests are those of {self._digests.size}")
        self._output.fit(reply.size)
        self._reception.handle(Input.REPLY, reply, now)


def _source(transmission: Transmission) -> str:
    """Return the address of this machine on the route to the server.

    :raise ReceiveError: there is no route.
    """
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        try:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            probe.connect((transmission.server or transmission.address, transmission.port))
        except OSError as error:
            raise ReceiveError(f"there is no route to {transmission.address}: {error.strerror}") from None
        address: str = probe.getsockname()[0]
        return address


def _open_socket(transmission: Transmission) -> socket.socket:
    """Return a socket at the port of the transmission, in its group.

    :raise ReceiveError: another program has the port, or there is no route to the group.
    """
    source = _source(transmission)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        try:
            sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        is_unicast = transmission.address == transmission.server
        sock.bind((source if is_unicast else "", transmission.port))
        if transmission.is_group:
            packed = socket.inet_aton(source)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, packed)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, TTL)
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            membership = socket.inet_aton(transmission.address) + packed
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError as error:
        sock.close()
        destination = f"{transmission.address} port {transmission.port}"
        raise ReceiveError(f"{destination} can't be received: {error.strerror}") from None
    sock.setblocking(False)
    return sock
