"""Many datagrams in one system call: recvmmsg(2) and sendmmsg(2), which Python's socket module lacks.

Everything the kernel reads or writes lies in memory that is laid out once. What changes from call to call (lengths,
names) is written through memoryviews, which is several times faster than through the fields of ctypes structures.
"""

import ctypes
import errno
import mmap
import os
import socket
import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, TypeVar

Peer = TypeVar("Peer")
Info = TypeVar("Info")

BATCH = 64
"""Datagrams in one call. More gains nothing that can be measured, and the first answer would wait for them."""

LARGEST = 65535
"""Octets. The length field of UDP can't tell more (RFC 768), so nothing that arrives is ever cut."""

SLOT = 2048
"""Octets that an Outbox takes as one datagram: more than an Ethernet frame carries."""

_LARGEST_SLOT = 65536  # room for the largest datagram, and a multiple of what the slots are looked at by
_SOCKADDR_IN = 16
_FOUR_OCTETS = [Struct(f"!{count}I") for count in range(BATCH + 1)]
_NAME = 32  # room for a name: sockaddr_in6 takes 28
_CONTROL = 64  # room for control messages: in6_pktinfo and its cmsghdr take 40
_INFO = socket.CMSG_LEN(0)  # where the payload of a control message begins


class _Vector(ctypes.Structure):
    """struct iovec"""

    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class _Header(ctypes.Structure):
    """struct msghdr"""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class _Message(ctypes.Structure):
    """struct mmsghdr"""

    _fields_ = [("header", _Header), ("length", ctypes.c_uint)]


# Places in an array of messages, seen as unsigned ints and as size_t, which is an unsigned long on Linux.
_INTS = ctypes.sizeof(_Message) // ctypes.sizeof(ctypes.c_uint)
_SIZES = ctypes.sizeof(_Message) // ctypes.sizeof(ctypes.c_size_t)
_LENGTH = _Message.length.offset // ctypes.sizeof(ctypes.c_uint)
_CONTROL_LENGTH = _Header.control_length.offset // ctypes.sizeof(ctypes.c_size_t)
_CONTROL_POINTER = _Header.control.offset // ctypes.sizeof(ctypes.c_size_t)
_VECTOR_SIZES = ctypes.sizeof(_Vector) // ctypes.sizeof(ctypes.c_size_t)


def _function(name: str, *more: Any) -> Any:
    """A function of the C library, or None."""
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, *more]
    function.restype = ctypes.c_int
    return function


_recvmmsg = _function("recvmmsg", ctypes.c_void_p)
_sendmmsg = _function("sendmmsg")

AVAILABLE = _recvmmsg is not None and _sendmmsg is not None
"""Whether this C library has both calls."""


class _Messages:
    """BATCH message headers, each with its own memory for data, name and control.

    :param size: octets of data in each.
    :param name_length: octets of a sockaddr of the socket's family.
    """

    def __init__(self, size: int, name_length: int) -> None:
        # Anonymous pages come into being when they are used: room for 64 of the largest datagrams costs next to none.
        data = (ctypes.c_char * (size * BATCH)).from_buffer(mmap.mmap(-1, size * BATCH))
        names = (ctypes.c_char * (_NAME * BATCH))()
        controls = (ctypes.c_char * (_CONTROL * BATCH))()
        vectors = (_Vector * BATCH)()
        messages = (_Message * BATCH)()
        for i in range(BATCH):
            vectors[i].base = ctypes.addressof(data) + size * i
            vectors[i].length = size
            header = messages[i].header
            header.name = ctypes.addressof(names) + _NAME * i
            header.name_length = name_length
            header.vectors = ctypes.addressof(vectors) + ctypes.sizeof(_Vector) * i
            header.vector_count = 1
            header.control = ctypes.addressof(controls) + _CONTROL * i
            header.control_length = _CONTROL
        # Each memoryview keeps its memory alive.
        self.data = memoryview(data).cast("B")
        self.names = memoryview(names).cast("B")
        self.controls = memoryview(controls).cast("B")
        self.vector_sizes = memoryview(vectors).cast("B").cast("L")
        self.ints = memoryview(messages).cast("B").cast("I")
        self.sizes = memoryview(messages).cast("B").cast("L")
        self.address = ctypes.addressof(messages)


class Inbox:
    """Takes what a socket has received, up to BATCH datagrams in a call.

    :param name_length: octets of a sockaddr of the socket's family.
    :param info_length: octets in the payload of the one control message that the socket asks for.
    """

    def __init__(self, name_length: int, info_length: int) -> None:
        self._messages = _Messages(_LARGEST_SLOT, name_length)
        self._name_length = name_length
        self._info_end = _INFO + info_length
        self._control_lengths = memoryview(array("L", [_CONTROL] * BATCH))

    def receive(
        self, descriptor: int, peers: Mapping[bytes, Peer], infos: Mapping[bytes, Info], unknown: Info
    ) -> list[tuple[bytes, Peer, Info]]:
        """The datagrams that are there, in order of arrival; an empty list when there is none.

        :param peers: asked for each datagram by its raw source sockaddr.
        :param infos: asked by the payload of the control message; a datagram without one gets *unknown*.
        :raise OSError: anything but EAGAIN and EINTR.
        """
        return [self.datagram(i, peers, infos, unknown) for i in range(self.take(descriptor))]

    def take(self, descriptor: int) -> int:
        """Take what is there: how many datagrams. They stay in their slots until the next call.

        :raise OSError: anything but EAGAIN and EINTR.
        """
        messages = self._messages
        # The kernel puts what it has used in the place of what there is.
        messages.sizes[_CONTROL_LENGTH::_SIZES] = self._control_lengths
        count: int = _recvmmsg(descriptor, messages.address, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(code, os.strerror(code))
        return count

    def heads(self, count: int) -> Iterator[tuple[bytes | int, int, int]]:
        """(key of the source, length, first four octets as a big-endian number) of the first *count* slots.

        The four octets mean nothing where fewer have come.
        """
        messages = self._messages
        keys: Iterable[bytes | int]
        if self._name_length == _SOCKADDR_IN:
            keys = messages.names.cast("Q")[: count * _NAME // 8 : _NAME // 8].tolist()
        else:
            names, length = messages.names, self._name_length
            keys = [bytes(names[start : start + length]) for start in range(0, count * _NAME, _NAME)]
        lengths = messages.ints[_LENGTH : count * _INTS : _INTS].tolist()
        octets = messages.data.cast("I")[: count * _LARGEST_SLOT // 4 : _LARGEST_SLOT // 4].tobytes()
        return zip(keys, lengths, _FOUR_OCTETS[count].unpack(octets), strict=True)

    def datagram(
        self, i: int, peers: Mapping[bytes, Peer], infos: Mapping[bytes, Info], unknown: Info
    ) -> tuple[bytes, Peer, Info]:
        """What is in slot *i*; see receive()."""
        messages = self._messages
        start = _NAME * i
        peer = peers[bytes(messages.names[start : start + self._name_length])]
        info = unknown
        if messages.sizes[_SIZES * i + _CONTROL_LENGTH]:
            start = _CONTROL * i
            info = infos[bytes(messages.controls[start + _INFO : start + self._info_end])]
        start = _LARGEST_SLOT * i
        return bytes(messages.data[start : start + messages.ints[_INTS * i + _LENGTH]]), peer, info


def source_key(raw: bytes) -> bytes | int:
    """What Inbox.heads() calls a raw sockaddr: of IPv4 the eight octets that count, as a number."""
    return int.from_bytes(raw[:8], sys.byteorder) if len(raw) == _SOCKADDR_IN else raw


class Fixed:
    """Octets at an address that does not change, for the kernel to read."""

    __slots__ = ("_memory", "address", "length")

    def __init__(self, octets: bytes) -> None:
        self._memory = (ctypes.c_char * len(octets)).from_buffer_copy(octets)
        self.address = ctypes.addressof(self._memory)
        self.length = len(octets)


class Outbox:
    """Collects datagrams and sends them in one call.

    :param name_length: octets of a sockaddr of the socket's family.
    """

    def __init__(self, name_length: int) -> None:
        self._messages = messages = _Messages(SLOT, name_length)
        self._places = [(messages.sizes[_SIZES * i], messages.vector_sizes[_VECTOR_SIZES * i]) for i in range(BATCH)]
        self._controls = [messages.sizes[_SIZES * i + _CONTROL_POINTER] for i in range(BATCH)]
        self.queue: list[tuple[tuple[int, int, int], int, int, Any, Any]] = []
        """((address of the raw destination sockaddr, address and length of packed control messages), address and length
        of the data, two things that keep all this in its place). add() appends, and so may anyone while there are less
        than BATCH: what is in its place is sent without being copied."""

    def add(self, data: Any, name: bytes, control: bytes) -> bool:
        """Copy a datagram into the next slot; True: this was the last one, flush.

        :param data: bytes-like, at most SLOT octets.
        :param name: raw destination sockaddr.
        :param control: packed control messages; may be empty.
        """
        messages, i = self._messages, len(self.queue)
        length = len(data)
        messages.data[SLOT * i : SLOT * i + length] = data
        start = _NAME * i
        messages.names[start : start + len(name)] = name
        if control:
            start = _CONTROL * i
            messages.controls[start : start + len(control)] = control
        name_address, data_address = self._places[i]
        self.queue.append(((name_address, self._controls[i], len(control)), data_address, length, None, None))
        return i + 1 == BATCH

    def flush(self, descriptor: int) -> tuple[int, list[int]]:
        """Send what was collected, in order: how many datagrams left, and an errno for each that did not."""
        count = len(self.queue)
        if not count:
            return 0, []
        sizes, vectors = self._messages.sizes, self._messages.vector_sizes
        places, addresses, lengths, *kept = zip(*self.queue, strict=True)
        names, controls, control_lengths = zip(*places, strict=True)
        end = _SIZES * count
        sizes[0:end:_SIZES] = array("L", names)
        sizes[_CONTROL_POINTER:end:_SIZES] = array("L", controls)
        sizes[_CONTROL_LENGTH:end:_SIZES] = array("L", control_lengths)
        vectors[0 : _VECTOR_SIZES * count : _VECTOR_SIZES] = array("L", addresses)
        vectors[1 : _VECTOR_SIZES * count : _VECTOR_SIZES] = array("L", lengths)
        self.queue.clear()
        first = 0
        errors: list[int] = []
        while first < count:
            address = self._messages.address + ctypes.sizeof(_Message) * first
            sent = _sendmmsg(descriptor, address, count - first, socket.MSG_DONTWAIT)
            if sent < 0:
                code = ctypes.get_errno()
                if code == errno.EINTR:
                    continue
                # The error is the first datagram's; those behind it may go elsewhere.
                errors.append(code)
                sent = 1
            first += sent
        del kept
        return count - len(errors), errors
