"""Sending datagrams, also on kernels and devices without segmentation offload (UDP_SEGMENT)."""

import ctypes
import errno
import socket
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from bootfw.net.udp import mmsg
from bootfw.net.udp.packetinfo import IPV4, Cache, control_message
from bootfw.net.udp.sender import Counters, Sender
from bootfw.values import Via

UDP_SEGMENT = 103


class FaultySocket:
    """A real socket that can fail, and records the calls of sendmsg().

    :param error: errno for messages with UDP_SEGMENT; 0: they are sent.
    :param knows_segments: whether the kernel has UDP_SEGMENT.
    :param plain_error: errno for sendto(); 0: it sends.
    """

    def __init__(self, real: socket.socket, error: int = 0, knows_segments: bool = True, plain_error: int = 0) -> None:
        self.real = real
        self.error = error
        self.plain_error = plain_error
        self.knows_segments = knows_segments
        self.segmented: list[int] = []
        """Lengths of the messages with UDP_SEGMENT."""
        self.message_count = 0

    def getsockopt(self, level: int, option: int) -> int:
        if not self.knows_segments:
            raise OSError(errno.ENOPROTOOPT, "no such option")
        return self.real.getsockopt(level, option)

    def sendmsg(
        self,
        buffers: Sequence[memoryview | bytes],
        ancillary: Sequence[tuple[int, int, bytes]] = (),
        flags: int = 0,
        address: tuple[str, int] | None = None,
    ) -> int:
        self.message_count += 1
        if any(kind == UDP_SEGMENT for _, kind, _ in ancillary):
            self.segmented.append(len(buffers[0]))
            if self.error:
                raise OSError(self.error, "of the test")
        return self.real.sendmsg(buffers, ancillary, flags, address)

    def sendto(self, data: bytes | memoryview, address: tuple[str, int]) -> int:
        if self.plain_error:
            raise OSError(self.plain_error, "of the test")
        return self.real.sendto(data, address)

    def fileno(self) -> int:
        return self.real.fileno()

    def getsockname(self) -> tuple[str, int]:
        address: tuple[str, int] = self.real.getsockname()
        return address


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """A sending and a receiving socket."""
    pair = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    for sock in pair:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(10)
    pair[1].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    yield pair
    for sock in pair:
        sock.close()


def sender_on(sock: FaultySocket | socket.socket) -> Sender:
    return Sender(cast(socket.socket, sock), IPV4, Counters(), lambda: None)


def window(count: int, segment: int, last: int) -> tuple[list[bytes], bytes]:
    """*count* blocks of *segment* bytes, the last one of *last* bytes; and all of them in one string."""
    blocks = [bytes([n % 256]) * segment for n in range(count - 1)] + [b"z" * last]
    return blocks, b"".join(blocks)


@pytest.mark.parametrize("segment", [1460, 1472])
@pytest.mark.parametrize("count", [2, 44, 45, 64, 65, 200])
def test_a_window_is_sent_in_few_calls_and_arrives_as_datagrams(
    sockets: list[socket.socket], count: int, segment: int
) -> None:
    """44 blocks of these sizes fit into 65,507 bytes."""
    sock = FaultySocket(sockets[0])
    sender = sender_on(sock)
    blocks, data = window(count, segment, 10)
    sender.send(data, sockets[1].getsockname(), None, segment)
    assert [sockets[1].recv(2000) for _ in range(count)] == blocks
    assert sender.counters.sent == count
    assert len(sock.segmented) == -(-count // 44) - (count % 44 == 1)
    assert max(sock.segmented) <= 65507


def test_small_segments_are_at_most_64_in_a_call(sockets: list[socket.socket]) -> None:
    sock = FaultySocket(sockets[0])
    sender = sender_on(sock)
    blocks, data = window(130, 12, 12)
    sender.send(data, sockets[1].getsockname(), None, 12)
    assert [sockets[1].recv(2000) for _ in range(130)] == blocks
    assert sock.segmented == [64 * 12, 64 * 12, 2 * 12]


def test_a_single_datagram_is_not_segmented(sockets: list[socket.socket]) -> None:
    sock = FaultySocket(sockets[0])
    sender = sender_on(sock)
    for data in (b"short", b"exactly12345"):
        sender.send(data, sockets[1].getsockname(), None, 12)
        assert sockets[1].recv(100) == data
    assert sock.segmented == []


@pytest.mark.parametrize("error", [errno.EIO, errno.EINVAL])
def test_segmentation_is_not_tried_again_on_a_device_without_it(sockets: list[socket.socket], error: int) -> None:
    sock = FaultySocket(sockets[0], error)
    sender = sender_on(sock)
    blocks, data = window(5, 1000, 1)
    for _ in range(3):
        sender.send(data, sockets[1].getsockname(), None, 1000)
        assert [sockets[1].recv(2000) for _ in range(5)] == blocks
    assert len(sock.segmented) == 1
    assert sender.counters.sent == 15


def test_small_path_mtu_does_not_disable_segmentation(sockets: list[socket.socket]) -> None:
    sock = FaultySocket(sockets[0], errno.EMSGSIZE)
    sender = sender_on(sock)
    blocks, data = window(5, 1000, 1)
    for _ in range(2):
        sender.send(data, sockets[1].getsockname(), None, 1000)
        assert [sockets[1].recv(2000) for _ in range(5)] == blocks
    assert len(sock.segmented) == 2


def test_unreachable_peer_does_not_disable_segmentation(sockets: list[socket.socket]) -> None:
    """Port 0 is EINVAL too: a forged source must not cost everyone the fast path."""
    sock = FaultySocket(sockets[0])
    sender = sender_on(sock)
    blocks, data = window(5, 1000, 1)
    sender.send(data, ("127.0.0.1", 0), None, 1000)
    assert sender.counters.send_errors == 5
    sender.send(data, sockets[1].getsockname(), None, 1000)
    assert [sockets[1].recv(2000) for _ in range(5)] == blocks
    assert len(sock.segmented) == 2


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.EAGAIN, errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_window_that_is_lost_is_counted(sockets: list[socket.socket], error: int) -> None:
    sender = sender_on(FaultySocket(sockets[0], error))
    _, data = window(5, 1000, 1)
    sender.send(data, sockets[1].getsockname(), None, 1000)
    assert sender.counters.send_errors == 5
    assert sender.counters.sent == 0


@pytest.mark.parametrize("error", [errno.ENOBUFS, errno.EAGAIN, errno.EPERM, errno.ENETUNREACH, errno.EHOSTUNREACH])
def test_a_datagram_that_is_lost_is_counted(sockets: list[socket.socket], error: int) -> None:
    sender = sender_on(FaultySocket(sockets[0], plain_error=error))
    sender.send(b"x", sockets[1].getsockname(), None, 0)
    assert sender.counters.send_errors == 1
    assert sender.counters.sent == 0


def test_segmentation_is_never_tried_on_a_kernel_without_it(sockets: list[socket.socket]) -> None:
    sock = FaultySocket(sockets[0], knows_segments=False)
    sender = sender_on(sock)
    blocks, data = window(5, 1000, 1)
    sender.send(data, sockets[1].getsockname(), None, 1000)
    assert [sockets[1].recv(2000) for _ in range(5)] == blocks
    assert sock.segmented == []


def test_blocks_of_which_one_fits_into_a_call_are_sent_one_by_one(sockets: list[socket.socket]) -> None:
    """blksize 65464 (RFC 2348) makes datagrams of 65,468 bytes: only one fits into a call."""
    sock = FaultySocket(sockets[0])
    sender = sender_on(sock)
    blocks, data = window(2, 65468, 7)
    sender.send(data, sockets[1].getsockname(), None, 65468)
    assert [sockets[1].recv(65535) for _ in range(2)] == blocks
    assert sock.segmented == []


@pytest.mark.parametrize(("local", "message_count"), [("127.0.0.1", 0), ("127.0.0.2", 1), ("", 0)])
def test_packet_info_is_added_only_if_the_kernel_would_choose_another_source(
    sockets: list[socket.socket], local: str, message_count: int
) -> None:
    sock = FaultySocket(sockets[0])
    sender_on(sock).send(b"x", sockets[1].getsockname(), Via(local, 1, local), 0)
    data, source = sockets[1].recvfrom(10)
    assert (data, source[0]) == (b"x", local or "127.0.0.1")
    assert sock.message_count == message_count


def test_oversized_segments_count_as_lost(sockets: list[socket.socket]) -> None:
    sender = sender_on(sockets[0])
    sender.send(bytes(140_000), sockets[1].getsockname(), None, 66_000)
    assert sender.counters.send_errors == 2
    assert sender.counters.sent == 1  # the last, short one
    assert len(sockets[1].recv(65535)) == 8_000


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_collected_datagrams_wait_for_release(sockets: list[socket.socket]) -> None:
    sender = sender_on(sockets[0])
    sender.collect()
    sender.send(b"one", sockets[1].getsockname(), None, 0)
    sender.send(b"two", sockets[1].getsockname(), None, 0)
    assert sender.counters.sent == 0
    sender.release()
    assert sender.counters.sent == 2
    assert [sockets[1].recv(10), sockets[1].recv(10)] == [b"one", b"two"]


def test_reused_slot_has_nothing_of_the_previous_datagram(sockets: list[socket.socket]) -> None:
    """Neither bytes nor control messages."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", 0))
    with sock:
        sender = sender_on(sock)
        for data, via in ((b"a long one" * 10, Via("127.0.0.2", 0, "")), (b"short", None)):
            sender.collect()
            sender.send(data, sockets[1].getsockname(), via, 0)
            sender.release()
        (first, from_first), (second, from_second) = (sockets[1].recvfrom(200) for _ in range(2))
    assert (first, from_first[0]) == (b"a long one" * 10, "127.0.0.2")
    assert (second, from_second[0]) == (b"short", "127.0.0.1")


def test_error_for_one_datagram_does_not_stop_the_batch(sockets: list[socket.socket]) -> None:
    outbox = mmsg.Outbox(IPV4.name_length)
    reachable = IPV4.destination(sockets[1].getsockname()).raw
    port_zero = IPV4.destination(("127.0.0.1", 0)).raw
    for n, name in enumerate([port_zero, reachable, reachable, port_zero, port_zero, reachable]):
        outbox.add(b"%d" % n, name, b"")
    assert outbox.flush(sockets[0].fileno()) == (3, [errno.EINVAL] * 3)
    assert [sockets[1].recv(10) for _ in range(3)] == [b"1", b"2", b"5"]
    assert outbox.flush(sockets[0].fileno()) == (0, [])


def test_a_prepared_message_can_be_used_for_another_peer(sockets: list[socket.socket]) -> None:
    prepared, batch_sender = mmsg.PreparedMessage(), mmsg.BatchSender()
    memory = ctypes.create_string_buffer(b"data")
    prepared.vector[0], prepared.vector[1] = ctypes.addressof(memory), 4
    local = control_message(IPV4.level, IPV4.type, IPV4.info(Via("127.0.0.2", 0, ""), False))
    received: list[tuple[bytes, str]] = []
    for peer, control in ((1, local), (0, b""), (1, b"")):
        prepared.use(IPV4.destination(sockets[peer].getsockname()).raw, control)
        assert batch_sender.send(sockets[0].fileno(), [prepared.header]) == []
        data, (source, _) = sockets[peer].recvfrom(10)
        received.append((data, source))
    assert received == [(b"data", "127.0.0.2"), (b"data", "127.0.0.1"), (b"data", "127.0.0.1")]


def test_full_outbox_is_reported(sockets: list[socket.socket]) -> None:
    outbox = mmsg.Outbox(IPV4.name_length)
    destination = IPV4.destination(sockets[1].getsockname()).raw
    assert [outbox.add(b"x", destination, b"") for _ in range(mmsg.BATCH)] == [False] * (mmsg.BATCH - 1) + [True]
    assert outbox.flush(sockets[0].fileno()) == (mmsg.BATCH, [])


def test_inbox_raises_errors_except_eagain(sockets: list[socket.socket]) -> None:
    inbox = mmsg.Inbox(IPV4.name_length, IPV4.info_length)
    assert inbox.take(sockets[0].fileno()) == 0
    with pytest.raises(OSError, match="Bad file descriptor") as caught:
        inbox.take(-1)
    assert caught.value.errno == errno.EBADF


def test_inbox_without_packet_info_returns_an_unknown_via(sockets: list[socket.socket]) -> None:
    inbox = mmsg.Inbox(IPV4.name_length, IPV4.info_length)
    peers = {IPV4.destination(sockets[0].getsockname()).raw: "peer"}
    for enabled, expected in ((0, "unknown"), (1, "127.0.0.1"), (0, "unknown")):
        sockets[1].setsockopt(IPV4.level, IPV4.type, enabled)
        sockets[0].sendto(b"x", sockets[1].getsockname())
        infos: Cache[bytes, str] = Cache(lambda info: IPV4.read_info(info).local)
        assert inbox.take(sockets[1].fileno()) == 1
        assert inbox.datagrams([0], peers, infos, "unknown") == [(b"x", "peer", expected)]
