"""The fake client and network with the real TFTP server: files of a real directory over a lossy network."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bootfw.api import TFTPSettings
from bootfw.backends.directory import DirectoryBackend
from bootfw.events import Event
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.testing import LossyLink, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.testing.network import MemoryHost
from bootfw.watchdogs.adaptive import Adaptive


@pytest.fixture(params=[False, True], ids=["stock", "rich"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[MemoryNetwork, MemoryHost, Path]]:
    network = MemoryNetwork()
    host = network.host("10.0.0.1", "fd00::1", rich=request.param)
    events: list[Event] = []
    settings = TFTPSettings(writable=True)
    for interface in ("", "::"):
        protocol = TFTPProtocol(host, DirectoryBackend(tmp_path), Adaptive(), events.append, settings=settings)
        host.listenUDP(69, protocol, interface, maxPacketSize=65536)
    yield network, network.host("10.0.0.9", "fd00::9"), tmp_path
    for port in list(host.ports):
        port.stopListening()
    network.advance(0)
    assert network.leaks() == []


@pytest.mark.parametrize("server", ["10.0.0.1", "fd00::1"])
@pytest.mark.parametrize("windowsize", [1, 16])
def test_files_arrive_over_a_bad_network(
    served: tuple[MemoryNetwork, MemoryHost, Path], windowsize: int, server: str
) -> None:
    network, host, root = served
    data = bytes(number * number % 251 for number in range(200_001))
    (root / "file").write_bytes(data)
    network.link = LossyLink(windowsize)
    client = TFTPClient(host, (server, 69), {"tsize": 0, "blksize": 1408, "windowsize": windowsize}, retry=0.3)
    result = network.result_of(client.download("/file"), 600)
    assert result.data == data
    assert dict(result.accepted) == {"tsize": "200001", "blksize": "1408", "windowsize": str(windowsize)}
    client.options = {"blksize": 1408, "windowsize": windowsize, "tsize": len(data)}
    network.result_of(client.upload("new/copy", data), 600)
    network.advance(120)
    assert (root / "new" / "copy").read_bytes() == data
    assert network.link.dropped


def test_refusals_arrive(served: tuple[MemoryNetwork, MemoryHost, Path]) -> None:
    network, host, root = served
    (root / "taken").write_bytes(b"")
    client = TFTPClient(host, ("10.0.0.1", 69))
    for transfer, code in [(client.download("missing"), 1), (client.upload("taken", b"x"), 6)]:
        with pytest.raises(TransferFailed) as caught:
            network.result_of(transfer)
        assert caught.value.code == code
