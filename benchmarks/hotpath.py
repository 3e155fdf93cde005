"""What one packet of a lock-step read costs the server, in microseconds of its CPU.

``python -P benchmarks/hotpath.py`` drives the real port, protocol, session, backend and watchdog in this process,
without a reactor: only the port's doRead() is measured, so that neither the load nor what else the machine does is in
the figures; of all rounds the lower decile is shown. "kernel" is what no server can save: the system calls for the same
datagrams, with nothing between.
"""

import argparse
import os
import socket
import statistics
import sys
import tempfile
import time
from typing import Any

from twisted.internet.task import Clock

from bootfw.backends.directory import DirectoryBackend
from bootfw.net.tftp.framecache import FrameCache
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp import mmsg
from bootfw.net.udp.port import DatagramPort
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

BLKSIZE = 1408
SIZE = 60_000_000


class Reactor(Clock):
    """The port is read by hand."""

    def seconds(self) -> float:
        """The real time, as the reactor's."""
        return time.monotonic()

    def addReader(self, reader: Any) -> None:
        """Nothing waits."""

    removeReader = addReader


class Client:
    """A socket in the middle of a transfer."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.connect(server)
        self.block = 0
        self.socket.send(tftp.request(False, "file", "octet", [("blksize", str(BLKSIZE))]))

    def ack(self) -> None:
        """Take what has come, and acknowledge it."""
        data = self.socket.recv(2048)
        if data[1] == 3:
            self.block += 1
            assert data[2:4] == (self.block & 0xFFFF).to_bytes(2, "big"), data[:4]
        self.socket.send(b"\0\4" + (self.block & 0xFFFF).to_bytes(2, "big"))


def measure(read_all: Any, clients: list[Client], rounds: int) -> list[float]:
    """Seconds of CPU per packet in each round."""
    figures = []
    for _ in range(rounds):
        for client in clients:
            client.ack()
        began = time.thread_time()
        read_all()
        figures.append((time.thread_time() - began) / len(clients))
    return figures


def kernel(at_once: int, rounds: int) -> list[float]:
    """The same datagrams in the same calls."""
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 0))
    server.setsockopt(socket.IPPROTO_IP, 8, 1)
    peers = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(at_once)]
    for peer in peers:
        peer.bind(("127.0.0.1", 0))
        peer.connect(server.getsockname())
    block = bytes(BLKSIZE + 4)
    inbox, outbox = mmsg._Messages(mmsg.LARGEST, 16), mmsg._Messages(2048, 16)
    for index in range(mmsg.BATCH):
        outbox.vectors[2 * index + 1] = len(block)
        outbox.sizes[mmsg._SIZES * index + mmsg._CONTROL_LENGTH] = 0
    figures = []
    for _ in range(rounds):
        for peer in peers:
            peer.send(b"\0\4\0\0")
        began = time.thread_time()
        if at_once == 1:
            _, _, _, peer_name = server.recvmsg(2048, 64)
            server.sendto(block, peer_name)
        else:
            remaining = at_once
            while remaining:
                count = mmsg._recvmmsg(server.fileno(), inbox.address, mmsg.BATCH, socket.MSG_DONTWAIT, None)
                outbox.names[: 32 * count] = inbox.names[: 32 * count]
                mmsg._sendmmsg(server.fileno(), outbox.address, count, socket.MSG_DONTWAIT)
                remaining -= count
        figures.append((time.thread_time() - began) / at_once)
        for peer in peers:
            peer.recv(2048)
    return figures


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--rounds", type=int, default=200)
    options.add_argument("--profile", action="store_true", help="show where the time goes, by cProfile")
    options.add_argument("--plain", action="store_true", help="without a frame cache, so without the fast path")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as root:
        with open(os.path.join(root, "file"), "wb") as file:
            file.truncate(SIZE)
        time.sleep(2.1)  # what has just changed is not kept
        sys.stdout.write(f"{'at once':>8} {'bootfw':>8} {'kernel':>8}   microseconds of CPU per packet\n")
        for at_once in (1, 4, 16, 64, 200):
            reactor = Reactor()
            frame_cache = FrameCache(0 if arguments.plain else 1 << 28)
            protocol = TFTPProtocol(
                reactor, DirectoryBackend(root), Adaptive(), lambda event: None, frame_cache=frame_cache
            )
            port = DatagramPort(reactor, protocol, "127.0.0.1", 0)
            port.startListening()
            clients = [Client(port._socket.getsockname()) for _ in range(at_once)]
            read_all = drain(port, at_once)
            read_all()
            rounds = max(arguments.rounds, 3000 // at_once)
            measure(read_all, clients, rounds // 4)
            figures = measure(read_all, clients, rounds)
            kernel_figures = kernel(at_once, rounds)
            columns = [f"{statistics.quantiles(values, n=10)[0] * 1e6:8.2f}" for values in (figures, kernel_figures)]
            sys.stdout.write(f"{at_once:8} {' '.join(columns)}\n")
            if arguments.profile:
                import cProfile

                profile = cProfile.Profile()
                profile.enable()
                measure(read_all, clients, rounds)
                profile.disable()
                profile.print_stats("tottime")
            protocol.close()
            port.connectionLost()
            for client in clients:
                client.socket.close()
    return 0


def drain(port: DatagramPort, count: int) -> Any:
    """What reads *count* datagrams as the reactor would, which comes back only while there are any."""

    def read_all() -> None:
        target = port.counters.received + count
        while port.counters.received < target:
            port.doRead()

    return read_all


if __name__ == "__main__":
    raise SystemExit(main())
