"""The fake TFTP client, against peers played by hand."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from narrowing import of_type

from bootfw.testing import FakePeer, MemoryNetwork, TFTPClient, TransferFailed
from bootfw.testing.peer import Received
from bootfw.wire import tftp

SERVER = ("10.0.0.1", 69)


class Played:
    """A network with a server that follows a script: a function from packet to replies."""

    def __init__(self, script: Callable[[tftp.Packet], list[bytes]], **options: Any) -> None:
        self.network = MemoryNetwork()
        self.script = script
        self.asked: list[tuple[float, tftp.Packet]] = []
        self.server = FakePeer(self.network.host("10.0.0.1"), 69, answer=self._answer)
        self.client = TFTPClient(self.network.host("10.0.0.9"), SERVER, **options)

    def _answer(self, received: Received) -> None:
        packet = tftp.parse(received.data)
        self.asked.append((round(received.at, 3), packet))
        for reply in self.script(packet):
            self.server.send(reply, received.peer)

    def packets(self) -> list[tftp.Packet]:
        return [packet for _, packet in self.asked]


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
def test_download(size: int, window: int) -> None:
    data = bytes(number % 251 for number in range(size))
    options = {"windowsize": window} if window > 1 else {}
    played = Played(blocks(data, 512, window), options=options)
    result = played.network.result_of(played.client.download("file"))
    assert result.data == data
    played.network.advance(1)
    assert played.packets()[0] == tftp.Request(False, "file", "octet", tuple((k, str(v)) for k, v in options.items()))
    last = size // 512 + 1
    expected = [*range(0, last, window), last] if window > 1 else list(range(1, last + 1))
    assert [of_type(tftp.Ack, packet).block for packet in played.packets()[1:]] == expected
    assert (result.accepted, result.received) == (
        of_type(tftp.Request, played.packets()[0]).options,
        last + (window > 1),
    )
    played.server.close()
    played.network.advance(0)
    assert played.network.leaks() == []


@pytest.mark.parametrize("size", [0, 1, 8, 100])
@pytest.mark.parametrize("window", [1, 4])
def test_upload(size: int, window: int) -> None:
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

    played = Played(script, options={"blksize": 8, "windowsize": window})
    result = played.network.result_of(played.client.upload("file", data))
    assert b"".join(stored) == data == result.data
    assert result.sent == 1 + size // 8 + 1


def test_block_numbers_wrap() -> None:
    data = bytes(8 * 65_540 + 3)
    window = 63
    played = Played(lambda packet: [], options={"blksize": 8, "windowsize": window})
    last = len(data) // 8 + 1

    numbers = iter(range(1, last + 1))

    def script(packet: tftp.Packet) -> list[bytes]:
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)]
        return [tftp.data(number & 0xFFFF, data[8 * number - 8 : 8 * number]) for number in islice(numbers, window)]

    played.script = script
    assert played.network.result_of(played.client.download("file"), 600).data == data


def test_lost_datagrams_are_requested_again() -> None:
    data = bytes(5000)
    played = Played(blocks(data, 512))
    count = iter(range(1000))
    played.network.link = lambda *_: () if next(count) % 3 == 2 else (0.001,)
    assert played.network.result_of(played.client.download("file")).data == data


def test_gap_in_a_window_is_complained_about_once() -> None:
    sent = []

    def script(packet: tftp.Packet) -> list[bytes]:
        sent.append(packet)
        if isinstance(packet, tftp.Request):
            return [tftp.option_ack(packet.options)]
        if len(sent) == 2:
            return [tftp.data(number, bytes(8)) for number in (2, 3, 4)]
        return []

    played = Played(script, options={"blksize": 8, "windowsize": 4})
    played.client.download("file").addErrback(lambda _: None)
    played.network.advance(1)
    assert [of_type(tftp.Ack, packet).block for packet in sent[1:]] == [0, 0]


def test_silent_peer_times_out() -> None:
    played = Played(lambda packet: [], retry=3, attempts=4)
    with pytest.raises(TransferFailed, match="no answer to 4 transmissions") as caught:
        played.network.result_of(played.client.download("file"))
    assert caught.value.code is None
    assert [at for at, _ in played.asked] == pytest.approx([0.001, 3.001, 6.001, 9.001])
    played.server.close()
    played.network.advance(0)
    assert played.network.leaks() == []


def test_error_of_the_server() -> None:
    played = Played(lambda packet: [tftp.error(1, "no such file")])
    with pytest.raises(TransferFailed, match="ERROR 1: no such file") as caught:
        played.network.result_of(played.client.download("file"))
    assert caught.value.code == 1


def test_client_ignores_packets_during_a_pause() -> None:
    played = Played(blocks(bytes(600), 512), options={"tsize": 0}, pause=lambda block: {0: 4.78, 1: 40}.get(block, 0))
    result = played.network.result_of(played.client.download("file"))
    assert len(result.data) == 600
    played.network.advance(1)
    assert [at for at, _ in played.asked] == pytest.approx([0.001, 4.783, 44.785, 44.787])


def test_only_the_requested_address_counts() -> None:
    played = Played(lambda packet: [])
    other = FakePeer(played.network.host("10.0.0.2"), 69)
    done = played.client.download("file")
    played.network.advance(0.5)
    [request] = played.server.take()
    other.send(tftp.data(1, b"wrong"), request.peer)
    played.network.advance(0.5)
    elsewhere = FakePeer(played.server.host, 7000)
    elsewhere.send(tftp.data(1, b"right"), request.peer)
    assert played.network.result_of(done).data == b"right"
    played.network.advance(0.5)
    assert [received.data for received in elsewhere.received] == [tftp.ack(1)]


def test_malformed_answer_is_a_failure() -> None:
    played = Played(lambda packet: [b"\0\x09"])
    with pytest.raises(TransferFailed, match="malformed"):
        played.network.result_of(played.client.download("file"))


def test_over_ipv6() -> None:
    network = MemoryNetwork()
    FakePeer(network.host("fd00::1"), 69, "::", answer=lambda received: tftp.data(1, b"six"))
    client = TFTPClient(network.host("fd00::9", rich=True), ("fd00::1", 69))
    assert network.result_of(client.download("file")).data == b"six"
