"""The fake TFTP client, with servers that follow a script."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from narrowing import of_type

from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.testing.peer import Received
from bootfw.wire import tftp

SERVER = ("10.0.0.1", 69)


class ScriptedServer:
    """A network with a server that follows a script: a function from packet to replies."""

    def __init__(self, script: Callable[[tftp.Packet], list[bytes]], **options: Any) -> None:
        self.network = MemoryNetwork()
        self.script = script
        self.requests: list[tuple[float, tftp.Packet]] = []
        self.server = FakePeer(self.network.host("10.0.0.1"), 69, answer=self._answer)
        self.client = TFTPClient(self.network.host("10.0.0.9"), SERVER, **options)

    def _answer(self, received: Received) -> None:
        packet = tftp.parse(received.data)
        self.requests.append((round(received.at, 3), packet))
        for reply in self.script(packet):
            self.server.send(reply, received.peer)

    def packets(self) -> list[tftp.Packet]:
        return [packet for _, packet in self.requests]


def blocks(data: bytes, blksize: int, window: int = 1) -> Callable[[tftp.Packet], list[bytes]]:
    """A script that serves *data* after the request's options are acknowledged as they are."""

    def block(number: int) -> bytes:
        return tftp.data(number & 0xFFFF, data[(number - 1) * blksize : number * blksize])

    def script(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)] if packet.options else [block(1)]
        assert isinstance(packet, tftp.Ack)
        last = len(data) // blksize + 1
        return [block(number) for number in range(packet.block + 1, min(packet.block + window, last) + 1)]

    return script


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 5000])
@pytest.mark.parametrize("window", [1, 4])
def test_files_are_downloaded(size: int, window: int) -> None:
    data = bytes(number % 251 for number in range(size))
    options = {"windowsize": window} if window > 1 else {}
    scripted = ScriptedServer(blocks(data, 512, window), options=options)
    result = scripted.network.result_of(scripted.client.download("file"))
    assert result.data == data
    scripted.network.advance(1)
    assert scripted.packets()[0] == tftp.Request(False, "file", "octet", tuple((k, str(v)) for k, v in options.items()))
    last = size // 512 + 1
    expected = [*range(0, last, window), last] if window > 1 else list(range(1, last + 1))
    assert [of_type(tftp.Ack, packet).block for packet in scripted.packets()[1:]] == expected
    assert (result.accepted, result.received) == (
        of_type(tftp.Request, scripted.packets()[0]).options,
        last + (window > 1),
    )
    scripted.server.close()
    scripted.network.advance(0)
    assert scripted.network.leaks() == []


@pytest.mark.parametrize("size", [0, 1, 8, 100])
@pytest.mark.parametrize("window", [1, 4])
def test_files_are_uploaded(size: int, window: int) -> None:
    data = bytes(range(size))
    stored: list[bytes] = []

    def script(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)]
        assert isinstance(packet, tftp.Data)
        if packet.block == len(stored) + 1:
            stored.append(packet.payload)
        full = len(packet.payload) == 8 and len(stored) % window
        return [] if full else [tftp.ack(len(stored))]

    scripted = ScriptedServer(script, options={"blksize": 8, "windowsize": window})
    result = scripted.network.result_of(scripted.client.upload("file", data))
    assert b"".join(stored) == data == result.data
    assert result.sent == 1 + size // 8 + 1


def test_block_numbers_wrap() -> None:
    data = bytes(8 * 65_540 + 3)
    window = 63
    scripted = ScriptedServer(lambda packet: [], options={"blksize": 8, "windowsize": window})
    last = len(data) // 8 + 1

    numbers = iter(range(1, last + 1))

    def script(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)]
        return [tftp.data(number & 0xFFFF, data[8 * number - 8 : 8 * number]) for number in islice(numbers, window)]

    scripted.script = script
    assert scripted.network.result_of(scripted.client.download("file"), 600).data == data


def test_lost_datagrams_are_requested_again() -> None:
    data = bytes(5000)
    scripted = ScriptedServer(blocks(data, 512))
    count = iter(range(1000))
    scripted.network.link = lambda *_: () if next(count) % 3 == 2 else (0.001,)
    assert scripted.network.result_of(scripted.client.download("file")).data == data


def test_gap_in_a_window_is_reported_once() -> None:
    sent = []

    def script(packet: tftp.Packet) -> list[bytes]:
        sent.append(packet)
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)]
        if len(sent) == 2:
            return [tftp.data(number, bytes(8)) for number in (2, 3, 4)]
        return []

    scripted = ScriptedServer(script, options={"blksize": 8, "windowsize": 4})
    scripted.client.download("file").addErrback(lambda _: None)
    scripted.network.advance(1)
    assert [of_type(tftp.Ack, packet).block for packet in sent[1:]] == [0, 0]


def test_silent_peer_times_out() -> None:
    scripted = ScriptedServer(lambda packet: [], retry=3, attempts=4)
    with pytest.raises(TransferFailed, match="no answer to 4 transmissions") as caught:
        scripted.network.result_of(scripted.client.download("file"))
    assert caught.value.code is None
    assert [at for at, _ in scripted.requests] == pytest.approx([0.001, 3.001, 6.001, 9.001])
    scripted.server.close()
    scripted.network.advance(0)
    assert scripted.network.leaks() == []


def test_error_of_the_server_is_a_failure() -> None:
    scripted = ScriptedServer(lambda packet: [tftp.error(1, "no such file")])
    with pytest.raises(TransferFailed, match="ERROR 1: no such file") as caught:
        scripted.network.result_of(scripted.client.download("file"))
    assert caught.value.code == 1


def test_client_ignores_packets_during_a_pause() -> None:
    scripted = ScriptedServer(
        blocks(bytes(600), 512), options={"tsize": 0}, pause=lambda block: {0: 4.78, 1: 40}.get(block, 0)
    )
    result = scripted.network.result_of(scripted.client.download("file"))
    assert len(result.data) == 600
    scripted.network.advance(1)
    assert [at for at, _ in scripted.requests] == pytest.approx([0.001, 4.783, 44.785, 44.787])


def test_only_the_requested_address_counts() -> None:
    scripted = ScriptedServer(lambda packet: [])
    other = FakePeer(scripted.network.host("10.0.0.2"), 69)
    transfer = scripted.client.download("file")
    scripted.network.advance(0.5)
    [request] = scripted.server.take()
    other.send(tftp.data(1, b"wrong"), request.peer)
    scripted.network.advance(0.5)
    elsewhere = FakePeer(scripted.server.host, 7000)
    elsewhere.send(tftp.data(1, b"right"), request.peer)
    assert scripted.network.result_of(transfer).data == b"right"
    scripted.network.advance(0.5)
    assert [received.data for received in elsewhere.received] == [tftp.ack(1)]


def test_malformed_answer_is_a_failure() -> None:
    scripted = ScriptedServer(lambda packet: [b"\0\x09"])
    with pytest.raises(TransferFailed, match="malformed"):
        scripted.network.result_of(scripted.client.download("file"))


def test_files_are_downloaded_over_ipv6() -> None:
    network = MemoryNetwork()
    FakePeer(network.host("fd00::1"), 69, "::", answer=lambda received: tftp.data(1, b"six"))
    client = TFTPClient(network.host("fd00::9", rich=True), ("fd00::1", 69))
    assert network.result_of(client.download("file")).data == b"six"
