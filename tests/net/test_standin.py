"""What serves a worker's sockets while it starts: it answers at once, and hands over what is under way."""

import time

import pytest
from tftpserver import Files, numbered
from twisted.internet.defer import Deferred

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.events import TransferBegun, TransferEnded
from bootfw.net.processes.standin import StandIn
from bootfw.net.tftp import TFTPProtocol
from bootfw.net.transfers.orphans import Orphan
from bootfw.net.transfers.transferport import opener
from bootfw.readers import MemoryReader
from bootfw.settings import TFTPSettings
from bootfw.testing import MemoryNetwork, TFTPClient
from bootfw.values import Outcome
from bootfw.watchdogs.fixed import Fixed

CONTENT = numbered(20_000)


class Server:
    """A port on a MemoryNetwork, served by a StandIn and then by a worker's protocol."""

    def __init__(self, backend, **more):
        self.network = MemoryNetwork()
        self.network.advance(time.time() + 60)  # files are older than any transfer
        self.host = self.network.host("10.0.0.1")
        self.events = []
        self._more = {"settings": TFTPSettings(writable=True), **more}
        self._backend = backend
        protocol = self._protocol()
        self.stand_in = StandIn([(protocol, self.host.listenUDP(69, protocol))])

    def _protocol(self):
        return TFTPProtocol(self.host, self._backend, Fixed(), self.events.append, **self._more)

    def hand_over(self):
        """The worker is ready."""
        positions = self.stand_in.leave()
        self.network.advance(0)
        worker = self._protocol()
        self.host.listenUDP(69, worker)
        begun = {event.request.peer: event for event in self.events if isinstance(event, TransferBegun)}
        worker.take_over([Orphan(begun[peer], position) for peer, position in positions])
        return positions

    def client(self, options=None):
        return TFTPClient(self.network.host("10.0.0.9"), ("10.0.0.1", 69), options or {})

    def received(self, download):
        """What the client has got; its last ACK has arrived, too."""
        data = self.network.result_of(download).data
        self.network.advance(0.1)
        return data

    def ends(self):
        return [event.report.outcome for event in self.events if isinstance(event, TransferEnded)]


@pytest.fixture
def directory(tmp_path):
    (tmp_path / "file").write_bytes(CONTENT)
    return DirectoryBackend(tmp_path)


def test_a_transfer_goes_on_where_it_was(directory):
    server = Server(directory)
    download = server.client().download("file")
    server.network.advance(0.02)
    assert not server.stand_in.busy
    ((_, position),) = server.hand_over()
    assert 0 < position < len(CONTENT) // 512
    assert server.received(download) == CONTENT
    assert server.ends() == [Outcome.COMPLETE]


@pytest.mark.parametrize("windowsize", ["4", "64"])
def test_so_does_one_with_a_window(directory, windowsize):
    server = Server(directory)
    download = server.client({"windowsize": windowsize}).download("file")
    server.network.advance(0.004)
    server.hand_over()
    assert server.received(download) == CONTENT
    assert server.ends() == [Outcome.COMPLETE]


def test_what_is_made_for_the_client_is_waited_for():
    """Another process would make it anew, and perhaps otherwise."""
    server = Server(MemoryBackend({"file": CONTENT}))
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.stand_in.busy
    assert server.received(download) == CONTENT
    assert not server.stand_in.busy


def test_an_answer_that_is_outstanding_is_waited_for():
    answer = Deferred()

    class Slow(MemoryBackend):
        def open(self, path, request):
            return answer

    server = Server(Slow({}))
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.stand_in.busy
    answer.callback(MemoryReader(b"late"))
    assert server.received(download) == b"late"
    assert not server.stand_in.busy


def test_while_it_is_drained_requests_are_left_to_the_worker(directory):
    server = Server(directory)
    server.stand_in.drain()
    download = server.client().download("file")
    server.network.advance(0.02)
    assert server.events == []
    server.hand_over()
    assert server.received(download) == CONTENT


def test_a_transfer_on_a_port_of_its_own_is_brought_to_its_end(directory):
    network_listen = {}

    def listen(protocol, local):
        return network_listen["open"](protocol, local)

    server = Server(directory, listen=listen)
    network_listen["open"] = opener(server.host, "0.0.0.0", "ephemeral")
    download = server.client().download("file")
    server.network.advance(0.02)
    assert not server.stand_in.busy
    assert server.hand_over() == []
    assert server.received(download) == CONTENT
    assert server.ends() == [Outcome.COMPLETE]


def test_when_the_service_stops_its_clients_are_told(directory):
    server = Server(directory)
    download = server.client().download("file")
    server.network.advance(0.02)
    server.stand_in.close()
    assert "server is stopping" in str(server.network.result_of(download.addErrback(lambda failure: failure.value)))
    server.network.advance(1)
    assert server.network.leaks() == []


def test_an_upload_is_waited_for_until_it_is_stored():
    server = Server(Files({}))
    upload = server.client().upload("new", CONTENT)
    server.network.advance(0.02)
    assert server.stand_in.busy
    server.network.result_of(upload)
    assert server.ends() == [Outcome.COMPLETE]
    ((protocol, _),) = server.stand_in._serving
    assert protocol.transfers == 1, "its last block may come again"
    assert not server.stand_in.busy
    assert server.hand_over() == []
