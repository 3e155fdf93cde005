"""Requests that arrive in one batch, on a real port: for all of them, each file is looked up and opened once."""

import contextlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from twisted.internet.task import Clock
from zope.interface import implementer_only

from bootfw.api import IUniformBackend
from bootfw.backends.directory import DirectoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.net.udp import mmsg
from bootfw.net.udp.port import DatagramPort
from bootfw.readers import FileReader
from bootfw.values import TransferRequest, Via
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

from .byhand import UnusedReactor, read

MISSING = tftp.error(1, "File not found")


@implementer_only(IUniformBackend)
class RecordingBackend(DirectoryBackend):
    """Records the requested paths."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.paths: list[str] = []

    def open(self, path: str, request: TransferRequest) -> FileReader:
        self.paths.append(path)
        reader: FileReader = super().open(path, request)
        return reader


class Served:
    """A directory that is served by TFTP, and its clients."""

    def __init__(self, root: Path, mtu: Callable[[Via], int | None] | None = None) -> None:
        self.directory = RecordingBackend(root)
        backend = LayeredBackend([("directory", self.directory)])
        self.protocol = TFTPProtocol(Clock(), backend, Adaptive(), lambda event: None, mtu=mtu)
        self.port = DatagramPort(UnusedReactor(), self.protocol, "127.0.0.1", 0)
        self.port.startListening()
        self.clients: list[socket.socket] = []

    def first_replies(self, *names: str, options: Sequence[tuple[str, str]] = ()) -> list[bytes]:
        """Have a client for each name request it, all in one batch, and return the first reply to each."""
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in names]
        self.clients += clients
        for client, name in zip(clients, names, strict=True):
            client.sendto(tftp.request(False, name, "octet", options), ("127.0.0.1", self.port.getHost().port))
        read(self.port, len(names))
        return [client.recv(600) for client in clients]

    def acknowledge(self, client: socket.socket, block: int) -> bytes | None:
        """Send an ACK, and return the reply to it, if there is one."""
        client.sendto(tftp.ack(block), ("127.0.0.1", self.port.getHost().port))
        read(self.port, 1)
        with contextlib.suppress(BlockingIOError):
            return client.recv(600, socket.MSG_DONTWAIT)
        return None

    def close(self) -> None:
        self.protocol.close()
        self.port.connectionLost()
        for client in self.clients:
            client.close()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_a_missing_file_is_looked_up_once_for_a_batch(served: Served) -> None:
    assert served.first_replies(*["pxelinux.cfg/default"] * 20, "other") == [MISSING] * 21
    assert served.directory.paths == ["pxelinux.cfg/default", "other"]


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_the_mtu_is_looked_up_once_for_a_batch(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"now")
    sizes = iter([1000, 900])
    served = Served(tmp_path, lambda via: next(sizes))
    options = [("blksize", "1468")]
    assert served.first_replies("a", "a", "a", options=options) == [tftp.option_ack((("blksize", "968"),))] * 3
    assert served.first_replies("a", options=options) == [tftp.option_ack((("blksize", "868"),))], (
        "the MTU may have changed"
    )
    served.close()


def test_a_new_file_is_there_for_the_next_batch(served: Served, tmp_path: Path) -> None:
    assert served.first_replies("a", "a") == [MISSING] * 2
    (tmp_path / "a").write_bytes(b"now")
    assert served.first_replies("a", "a") == [b"\0\3\0\1now"] * 2
    (tmp_path / "a").unlink()
    assert served.first_replies("a") == [MISSING]
    (tmp_path / "a").write_bytes(b"again")
    assert served.first_replies("a") == [b"\0\3\0\1again"]


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_a_shared_file_is_opened_once_for_a_batch(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(1000))
    before = os.listdir("/proc/self/fd")
    first = b"\0\3\0\1" + bytes(512)
    assert served.first_replies("a", "missing", "a", "missing", "a") == [first, MISSING, first, MISSING, first]
    assert served.directory.paths == ["a", "missing"]
    clients = served.clients
    last = b"\0\3\0\2" + bytes(488)
    for client in (clients[4], clients[0], clients[2]):
        assert len(os.listdir("/proc/self/fd")) == len(before) + len(clients) + 1
        assert served.acknowledge(client, 1) == last
        served.acknowledge(client, 2)
    assert served.protocol.transfers == 0
    assert len(os.listdir("/proc/self/fd")) == len(before) + len(clients)


@pytest.mark.skipif(not mmsg.AVAILABLE, reason="datagrams are read and sent one by one")
def test_an_unused_reader_is_closed_at_the_end_of_the_batch(served: Served, tmp_path: Path) -> None:
    """The first transfer has ended when the second one begins."""
    (tmp_path / "a").write_bytes(b"now")
    before = len(os.listdir("/proc/self/fd"))
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    served.clients.append(client)
    address = "127.0.0.1", served.port.getHost().port
    client.sendto(tftp.request(False, "a", "octet", []), address)
    client.sendto(tftp.request(False, "a", "netascii", []), address)
    client.sendto(tftp.error(0, "no"), address)
    read(served.port, 3)
    assert served.directory.paths == ["a"]
    assert served.protocol.transfers == 0
    assert len(os.listdir("/proc/self/fd")) == before + 1


def test_a_replaced_file_is_opened_for_the_next_batch(served: Served, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"now")
    assert served.first_replies("a", "a") == [b"\0\3\0\1now"] * 2
    (tmp_path / "b").write_bytes(b"then")
    (tmp_path / "b").rename(tmp_path / "a")
    assert served.first_replies("a", "a") == [b"\0\3\0\1then"] * 2
