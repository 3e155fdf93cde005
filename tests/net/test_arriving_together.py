"""Requests that arrive together, on a real port: one look tells all of them what is not there."""

import socket

import pytest
from byhand import Unused, read
from twisted.internet.task import Clock

from bootfw.backends.directory import DirectoryBackend
from bootfw.net.datagram import DatagramPort
from bootfw.net.files.layers import LayeredBackend
from bootfw.net.tftp import TFTPProtocol
from bootfw.watchdogs.adaptive import Adaptive
from bootfw.wire import tftp

MISSING = tftp.error(1, "File not found")


class Counted(DirectoryBackend):
    """Notes what it is asked for."""

    def __init__(self, root):
        super().__init__(root)
        self.asked = []

    def open(self, path, request):
        self.asked.append(path)
        return super().open(path, request)


class Served:
    """Clients, and a directory that is served to them."""

    def __init__(self, root):
        self.directory = Counted(root)
        backend = LayeredBackend([("directory", self.directory)])
        self.protocol = TFTPProtocol(Clock(), backend, Adaptive(), lambda event: None)
        self.port = DatagramPort(Unused(), self.protocol, "127.0.0.1", 0)
        self.port.startListening()
        self.sockets = []

    def ask(self, *names):
        """One client for each name, all at once; gives what each gets."""
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in names]
        self.sockets += clients
        for client, name in zip(clients, names, strict=True):
            client.sendto(tftp.request(False, name, "octet", []), ("127.0.0.1", self.port.getHost().port))
        read(self.port, len(names))
        return [client.recv(600) for client in clients]

    def close(self):
        self.protocol.close()
        self.port.connectionLost()
        for client in self.sockets:
            client.close()


@pytest.fixture
def served(tmp_path):
    served = Served(tmp_path)
    yield served
    served.close()


def test_one_look_for_all(served):
    assert served.ask(*["pxelinux.cfg/default"] * 20, "other") == [MISSING] * 21
    assert served.directory.asked == ["pxelinux.cfg/default", "other"]


def test_what_appears_is_there_for_the_next(served, tmp_path):
    assert served.ask("a", "a") == [MISSING] * 2
    (tmp_path / "a").write_bytes(b"now")
    assert served.ask("a", "a") == [b"\0\3\0\1now"] * 2
    (tmp_path / "a").unlink()
    assert served.ask("a") == [MISSING]
    (tmp_path / "a").write_bytes(b"again")
    assert served.ask("a") == [b"\0\3\0\1again"]


def test_one_that_can_be_opened_is_opened_for_each(served, tmp_path):
    (tmp_path / "a").write_bytes(b"now")
    assert served.ask("a", "missing", "a", "missing") == [b"\0\3\0\1now", MISSING] * 2
    assert served.directory.asked == ["a", "missing", "a"]
