"""Sends datagrams: one by one, collected into one system call, or as a run that the kernel cuts into segments."""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Any

from attrs import define

from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import Cache, Destination, Family, control_message
from bootfw.values import Address, Via

# UDP_SEGMENT (udp(7)): at most 64 segments (newer kernels take more), and what fits into an IPv4 packet.
_UDP_SEGMENT = 103
SEGMENTATION = socket.IPPROTO_UDP, _UDP_SEGMENT
SEGMENTS = 64
LARGEST_RUN = 65507
NOT_SEGMENTED = (errno.EMSGSIZE, errno.EINVAL, errno.EIO)
"""More than this path's MTU; and how the kernel and the device say that they can't."""

_UNSIGNED_SHORT = struct.Struct("@H")

Ancillary = list[tuple[int, int, bytes]]
"""Control messages as socket.sendmsg() takes them."""
Controls = tuple[Ancillary, bytes]
"""(control messages for sendmsg(), the same packed for an Outbox)."""

_NOTHING: Controls = ([], b"")


@define
class Counters:
    """Counters of a port since it was created, in datagrams unless stated otherwise."""

    received: int = 0
    batches: int = 0
    """Deliveries to the protocol."""
    sent: int = 0
    send_errors: int = 0
    """Datagrams that the kernel did not accept. They count as lost on the wire."""
    receive_errors: int = 0
    """Errors that a read returned instead of a datagram."""


class Sender:
    """The sending half of a port. A datagram that the kernel does not accept is counted, and nothing is raised.

    Between collect() and release() small datagrams wait in the outbox, so that one system call sends them all. A run of
    frames flushes the outbox first: datagrams leave in the order in which they were sent.

    :param sock: bound.
    :param buffers: see Outbox.
    :param refused: called when the kernel reports that a connected peer is gone (ECONNREFUSED).
    """

    def __init__(
        self,
        sock: socket.socket,
        family: Family,
        counters: Counters,
        refused: Callable[[], None],
        buffers: mmsg.Buffers | None = None,
    ) -> None:
        self.descriptor = sock.fileno()
        self._socket = sock
        self._family = family
        self.counters = counters
        self._refused = refused
        self._bound_to = sock.getsockname()[0]
        self._segmentation = _has_segmentation(sock)
        self._outbox = mmsg.Outbox(family.name_length, buffers)
        self.collecting = False
        """Whether small datagrams go to the outbox."""
        # Destinations and control messages are computed once, for each peer and for each Via by which requests arrive.
        self._destinations = Cache(family.destination)
        self._sources = Cache(self._from_source)
        self._interfaces = Cache(self._from_interface)

    def route(self, peer: Address, via: Via | None) -> tuple[Destination, Controls]:
        """Return what send_run() needs to send to *peer*, once for many datagrams; arguments as for send()."""
        destination = self._destinations[peer]
        if via is None:
            return destination, _NOTHING
        return destination, (self._interfaces if destination.needs_interface else self._sources)[via]

    def destination(self, peer: Address) -> Destination:
        """Return *peer* as the system calls need it.

        :raise InvalidAddressError: it isn't a numeric address of the port's family.
        """
        return self._destinations[peer]

    def collect(self) -> None:
        """Collect what is sent until release()."""
        self.collecting = mmsg.AVAILABLE

    def release(self) -> None:
        """Send what has been collected, in order."""
        self.collecting = False
        self.flush()

    def send(self, data: Any, peer: Address, via: Via | None, segment: int = 0) -> None:
        """See IViaTransport.write_via."""
        destination = self._destinations[peer]  # route(), inlined: this runs for each datagram
        controls = _NOTHING
        if via is not None:
            controls = (self._interfaces if destination.needs_interface else self._sources)[via]
        if 0 < segment < len(data):
            self.send_run(memoryview(data), destination, controls, segment)
        elif self.collecting:
            self._collect(data, destination, controls)
        else:
            self._send(data, destination, controls)

    def _send(self, data: Any, destination: Destination, controls: Controls) -> None:
        ancillary, _ = controls
        try:
            # Without control messages sendto() is enough, which is the cheaper call.
            if ancillary:
                self._socket.sendmsg([data], ancillary, 0, destination.address)
            else:
                self._socket.sendto(data, destination.address)
        except OSError as error:
            self.lost(error.errno)
        else:
            self.counters.sent += 1

    def _collect(self, data: Any, destination: Destination, controls: Controls) -> None:
        if len(data) > mmsg.SLOT:
            # First what was collected before: datagrams to one peer leave in the order of the calls.
            self.flush()
            self._send(data, destination, controls)
            return
        if self._outbox.add(data, destination.raw, controls[1]):
            self.flush()

    def flush(self) -> None:
        """Send what has been collected so far."""
        sent, errors = self._outbox.flush(self.descriptor)
        self.counters.sent += sent
        for code in errors:
            self.lost(code)

    def lost(self, code: int | None, count: int = 1) -> None:
        """Count datagrams that the kernel did not accept."""
        self.counters.send_errors += count
        if code == errno.ECONNREFUSED:
            self._refused()

    def send_run(self, data: memoryview, destination: Destination, controls: Controls, segment: int) -> None:
        """Send a run of datagrams: by UDP_SEGMENT where kernel and path support it, else one by one.

        :param destination, controls: of route().
        """
        self.flush()  # what was collected before leaves first
        at_once = segment * max(1, min(SEGMENTS, LARGEST_RUN // segment))
        for start in range(0, len(data), at_once):
            run = data[start : start + at_once]
            if self._segmentation and len(run) > segment:
                self._send_segmented(run, destination, controls, segment)
            else:
                self._send_each(run, destination, controls, segment)

    def _send_segmented(self, run: memoryview, destination: Destination, controls: Controls, segment: int) -> None:
        count = -(-len(run) // segment)
        ancillary = [*controls[0], (*SEGMENTATION, _UNSIGNED_SHORT.pack(segment))]
        try:
            self._socket.sendmsg([run], ancillary, 0, destination.address)
        except OSError as error:
            if error.errno not in NOT_SEGMENTED:
                self.lost(error.errno, count)
                return
            lost_before = self.counters.send_errors
            self._send_each(run, destination, controls, segment)
            # If the same datagrams pass one by one, kernel or device do not support it: don't try again. EMSGSIZE is
            # about the MTU of this path, and says nothing about others.
            if error.errno != errno.EMSGSIZE and self.counters.send_errors == lost_before:
                self._segmentation = False
        else:
            self.counters.sent += count

    def _send_each(self, run: memoryview, destination: Destination, controls: Controls, segment: int) -> None:
        # Also outside of a delivery: the whole run leaves in one call of sendmmsg(2).
        send = self._collect if mmsg.AVAILABLE else self._send
        for start in range(0, len(run), segment):
            send(run[start : start + segment], destination, controls)
        self.flush()

    def _from_source(self, via: Via) -> Controls:
        """Return control messages to send from the address that the request came to; the kernel looks up the route.

        To set the interface as well would break asymmetric routing.
        """
        # The socket has this source address anyway, and a datagram with a control message costs more.
        if via.local == self._bound_to:
            return _NOTHING
        return self._controls(self._family.info(via, False))

    def _from_interface(self, via: Via) -> Controls:
        """Return control messages to send from the address and on the interface that the request came to."""
        return self._controls(self._family.info(via, True))

    def _controls(self, info: bytes) -> Controls:
        if not info:
            return _NOTHING
        level, kind = self._family.level, self._family.type
        return [(level, kind, info)], control_message(level, kind, info)


def _has_segmentation(sock: socket.socket) -> bool:
    """Return whether the kernel has UDP_SEGMENT. Without it (before 4.18) a run would leave as one datagram."""
    try:
        sock.getsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT)
    except OSError:
        return False
    return True
