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
from itertools import accumulate
from struct import Struct
from typing import Any, TypeVar

Peer = TypeVar("Peer")
Info = TypeVar("Info")

BATCH = 64
"""Datagrams in one call. More gains nothing that can be measured, and the first answer would wait for them."""

LARGEST = 65535
"""Bytes. The length field of UDP has 16 bits (RFC 768), so no datagram is ever truncated."""

SLOT = 2048
"""Bytes of a datagram in an Outbox, at most: more than an Ethernet frame carries."""

_LARGEST_SLOT = 65536  # bytes: room for the largest datagram, and a multiple of the words in which heads() reads
_SOCKADDR_IN = 16
_LENGTHS = [Struct(f"!{count}I") for count in range(BATCH + 1)]
_NAME = 32  # room for a name: sockaddr_in6 takes 28
_CONTROL = 64  # room for control messages: in6_pktinfo and its cmsghdr take 40, UDP_SEGMENT and its cmsghdr 24
_INFO = socket.CMSG_LEN(0)  # offset of the payload in a control message


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


# A _Message, quicker than by its fields. "0P" pads as the compiler does: a msghdr and a mmsghdr end where a pointer may
# begin.
_message = Struct("@PIPNPNi0PI0P").pack

# An array of messages is read and written as one array of unsigned ints (_INTS for each message), or of size_t
# (_SIZES), which is an unsigned long on Linux. A slice with a step then gets one field of all messages in one
# operation. _LENGTH and _CONTROL_LENGTH are the indexes of two fields in their first message.
_SIZE = ctypes.sizeof(_Message)
_INTS = _SIZE // ctypes.sizeof(ctypes.c_uint)
_SIZES = _SIZE // ctypes.sizeof(ctypes.c_size_t)
_LENGTH = _Message.length.offset // ctypes.sizeof(ctypes.c_uint)
_CONTROL_LENGTH = _Header.control_length.offset // ctypes.sizeof(ctypes.c_size_t)
_VECTOR_SIZES = ctypes.sizeof(_Vector) // ctypes.sizeof(ctypes.c_size_t)
_PREPARED_NAME = ctypes.sizeof(_Vector)  # where the name begins in the memory of a PreparedMessage


def _function(name: str, *more: Any) -> Any:
    """Return a function of the C library; None: it has no such function."""
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

    :param size: bytes of data in each.
    :param name_length: bytes of a sockaddr of the socket's family.
    """

    def __init__(self, size: int, name_length: int) -> None:
        # The kernel allocates anonymous pages when they are used, so room for 64 of the largest datagrams costs little.
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
        self.start = ctypes.addressof(data)
        """The address at which the memory for data begins."""
        self.vectors = memoryview(vectors).cast("B").cast("L")
        self.ints = memoryview(messages).cast("B").cast("I")
        self.sizes = memoryview(messages).cast("B").cast("L")
        self.address = ctypes.addressof(messages)


class Inbox:
    """Takes what a socket has received, up to BATCH datagrams in a call.

    :param name_length: bytes of a sockaddr of the socket's family.
    :param info_length: bytes in the payload of the one control message that the socket is set to receive.
    """

    def __init__(self, name_length: int, info_length: int) -> None:
        self._messages = _Messages(_LARGEST_SLOT, name_length)
        self._name_length = name_length
        self._info_end = _INFO + info_length
        self._control_lengths = memoryview(array("L", [_CONTROL] * BATCH))
        self._used = 0
        """Slots that the latest call has filled."""
        self._keys = self._messages.names.cast("Q")
        """The names in words of eight bytes: the first word of a sockaddr_in has all that matters."""
        self._data_words = self._messages.data.cast("I")
        """The data in words of four bytes."""

    def take(self, descriptor: int) -> int:
        """Receive what is there, without a wait, and return how many datagrams. They stay in their slots until the next
        call.

        :raise OSError: anything but EAGAIN and EINTR.
        """
        messages = self._messages
        used = self._used
        if used:
            # The kernel has overwritten the room for control messages with the bytes that it has used. It has
            # overwritten msg_namelen as well, but with the same value: all sources are of the socket's family.
            messages.sizes[_CONTROL_LENGTH : _SIZES * used : _SIZES] = self._control_lengths[:used]
            self._used = 0
        count: int = _recvmmsg(descriptor, messages.address, BATCH, socket.MSG_DONTWAIT, None)
        if count < 0:
            code = ctypes.get_errno()
            if code in (errno.EAGAIN, errno.EINTR):
                return 0
            raise OSError(code, os.strerror(code))
        self._used = count
        return count

    def heads(self, count: int) -> Iterator[tuple[int, bytes | int, int, int]]:
        """Return (slot, key of the source, length, first four bytes as a big-endian number) of the first *count* slots.

        Of a datagram of fewer than four bytes, the rest of the number is from an earlier one.
        """
        messages = self._messages
        keys: Iterable[bytes | int]
        if self._name_length == _SOCKADDR_IN:
            # Strided views read one word of each slot with a single call. The first eight bytes of a sockaddr_in are
            # its family, port and address; the rest is padding.
            keys = self._keys[: count * _NAME // 8 : _NAME // 8].tolist()
        else:
            names, length = messages.names, self._name_length
            keys = [bytes(names[start : start + length]) for start in range(0, count * _NAME, _NAME)]
        lengths = messages.ints[_LENGTH : count * _INTS : _INTS].tolist()
        raw = self._data_words[: count * _LARGEST_SLOT // 4 : _LARGEST_SLOT // 4].tobytes()
        return zip(range(count), keys, lengths, _LENGTHS[count].unpack(raw), strict=True)

    def datagrams(
        self, slots: Iterable[int], peers: Mapping[bytes, Peer], infos: Mapping[bytes, Info], unknown: Info
    ) -> list[tuple[bytes, Peer, Info]]:
        """Return the data, source and packet info of each of *slots*.

        :param peers: maps a raw source sockaddr to what is returned as the source.
        :param infos: maps the payload of the control message; a datagram without one gets *unknown*.
        """
        messages, found = self._messages, []
        for slot in slots:
            start = _NAME * slot
            peer = peers[bytes(messages.names[start : start + self._name_length])]
            info = unknown
            if messages.sizes[_SIZES * slot + _CONTROL_LENGTH]:
                start = _CONTROL * slot
                info = infos[bytes(messages.controls[start + _INFO : start + self._info_end])]
            start = _LARGEST_SLOT * slot
            data = bytes(messages.data[start : start + messages.ints[_INTS * slot + _LENGTH]])
            found.append((data, peer, info))
        return found


def source_key(raw: bytes) -> bytes | int:
    """Return the key by which Inbox.heads() identifies a source.

    :param raw: a sockaddr. Of IPv4 the key is its first eight bytes as a number, which costs no object per datagram.
    """
    return int.from_bytes(raw[:8], sys.byteorder) if len(raw) == _SOCKADDR_IN else raw


class PreparedMessage:
    """The header of a message, for many datagrams to the same peer: only the address of the data changes.

    It can be used again for another peer: to allocate its memory is most of what it costs.
    """

    __slots__ = ("_address", "_memory", "header", "vector")

    def __init__(self) -> None:
        memory = (ctypes.c_char * (_PREPARED_NAME + _NAME + _CONTROL))()
        self._memory = memoryview(memory).cast("B")  # keeps the memory alive
        self._address = ctypes.addressof(memory)
        self.header = b""
        """The struct mmsghdr, for BatchSender.send()."""
        self.vector = self._memory[:_PREPARED_NAME].cast("L")
        """Address of the data and its length in bytes; to be set before each sending."""

    def use(self, name: bytes, control: bytes) -> None:
        """Send to another peer from now on.

        :param name: raw destination sockaddr.
        :param control: packed control messages, at most _CONTROL bytes; may be empty.
        """
        memory, address = self._memory, self._address
        memory[_PREPARED_NAME : _PREPARED_NAME + len(name)] = name
        at = address + _PREPARED_NAME
        if control:
            memory[_PREPARED_NAME + _NAME : _PREPARED_NAME + _NAME + len(control)] = control
            self.header = _message(at, len(name), address, 1, at + _NAME, len(control), 0, 0)
        else:
            self.header = _message(at, len(name), address, 1, 0, 0, 0, 0)


class BatchSender:
    """Sends messages that were prepared, in one call."""

    def __init__(self) -> None:
        messages = (_Message * BATCH)()
        self._headers = memoryview(messages).cast("B")
        self._address = ctypes.addressof(messages)

    def send(self, descriptor: int, headers: list[bytes]) -> list[tuple[int, int]]:
        """Send messages in order; at most BATCH.

        :param headers: of PreparedMessages. The data that their vectors point to must not move until this returns.
        :return: (position, errno) of each message that was not sent.
        """
        raw = b"".join(headers)
        self._headers[: len(raw)] = raw
        return _transmit(descriptor, self._address, len(headers))


def _transmit(descriptor: int, address: int, count: int) -> list[tuple[int, int]]:
    """Call sendmmsg(2) until every message was sent or has failed; see BatchSender.send()."""
    first = 0
    failed: list[tuple[int, int]] = []
    while first < count:
        # After a partial success sendmmsg(2) returns a count, and the next call fails with the error of the datagram
        # that stopped it.
        sent = _sendmmsg(descriptor, address + _SIZE * first, count - first, socket.MSG_DONTWAIT)
        if sent < 0:
            code = ctypes.get_errno()
            if code == errno.EINTR:
                continue
            # The error is that of the first datagram. The next ones may have other destinations, so they are tried.
            failed.append((first, code))
            sent = 1
        first += sent
    return failed


class Outbox:
    """Collects datagrams and sends them in one call.

    :param name_length: bytes of a sockaddr of the socket's family.
    :param buffers: may be shared with others; None: it has its own.
    """

    def __init__(self, name_length: int, buffers: "Buffers | None" = None) -> None:
        self._name_length = name_length
        self._buffers = Buffers() if buffers is None else buffers
        self._waiting: list[tuple[Any, bytes, bytes]] = []

    def add(self, data: Any, name: bytes, control: bytes) -> bool:
        """Add a datagram, and return whether the outbox is full, so that flush() has to be called.

        :param data: bytes-like, at most SLOT bytes; copied by flush(), so it must not change until then.
        :param name: raw destination sockaddr.
        :param control: packed control messages; may be empty.
        """
        self._waiting.append((data, name, control))
        return len(self._waiting) == BATCH

    def flush(self, descriptor: int) -> tuple[int, list[int]]:
        """Send what was collected, in order. Return how many datagrams were sent, and an errno for each that was
        not."""
        count = len(self._waiting)
        if not count:
            return 0, []
        messages = self._buffers.outgoing(self._name_length)
        data, names, controls = zip(*self._waiting, strict=True)
        self._waiting.clear()
        # The data lie one after the other, whatever the length of each: one copy for all.
        lengths = array("L", map(len, data))
        starts = array("L", accumulate(lengths[:-1], initial=messages.start))
        messages.vectors[: _VECTOR_SIZES * count : _VECTOR_SIZES] = starts
        messages.vectors[1 : _VECTOR_SIZES * count : _VECTOR_SIZES] = lengths
        raw = b"".join(data)
        messages.data[: len(raw)] = raw
        messages.names[: _NAME * count] = b"".join([name.ljust(_NAME) for name in names])
        if any(controls):
            messages.controls[: _CONTROL * count] = b"".join([control.ljust(_CONTROL) for control in controls])
        messages.sizes[_CONTROL_LENGTH : _SIZES * count : _SIZES] = array("L", map(len, controls))
        failed = _transmit(descriptor, messages.address, count)
        return count - len(failed), [code for _, code in failed]


class Buffers:
    """Memory to receive into and to send from, allocated when it is needed.

    Ports of one thread can share it: nothing stays in it between two calls of a port.
    """

    def __init__(self) -> None:
        self._inboxes: dict[tuple[int, int], Inbox] = {}
        self._outgoing: dict[int, _Messages] = {}
        self._room: list[memoryview] = []

    def inbox(self, name_length: int, info_length: int) -> Inbox:
        """Return the Inbox for sockets of one family; arguments as of Inbox."""
        inbox = self._inboxes.get((name_length, info_length))
        if inbox is None:
            inbox = self._inboxes[name_length, info_length] = Inbox(name_length, info_length)
        return inbox

    def outgoing(self, name_length: int) -> _Messages:
        """Return the messages that an Outbox fills and sends."""
        messages = self._outgoing.get(name_length)
        if messages is None:
            messages = self._outgoing[name_length] = _Messages(SLOT, name_length)
        return messages

    def room(self) -> list[memoryview]:
        """Return room for one datagram, as recvmsg_into() takes it."""
        if not self._room:
            self._room.append(memoryview(bytearray(LARGEST)))
        return self._room
