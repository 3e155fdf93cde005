"""The waits of the ``timeout`` tuple, and Launchpad bug 1155556: a client that answers the OACK late."""

from typing import Any

import pytest
from tftp.bootstrap import RemoteOriginReadSession, RemoteOriginWriteSession
from tftp.session import ReadSession, WriteSession

from bootfw.testing import TransferFailed

from .serving import Files, Reader, Served, Writer, failures, log_events

OACK, DATA, ACK = b"\0\6", b"\0\3", b"\0\4"


@pytest.mark.parametrize("pause", [0.5, 2.5, 4.5, 4.8, 10.5])
def test_a_client_that_answers_the_oack_late_gets_its_file(pause: float) -> None:
    """The OACK leaves at 0, 1 and 4 s, and the transfer is given up at 11 s. python-tx-tftp lost it after 4 s."""
    reader = Reader(b"kernel" * 1000)
    served = Served(Files(file=reader))
    with log_events() as events:
        result = served.download({"blksize": 1408, "tsize": 0}, pause=lambda block: 0 if block else pause)
    assert result.data == b"kernel" * 1000
    assert failures(events) == []
    assert reader.finished == 1
    served.close()


def test_a_client_that_answers_later_than_all_waits_gets_nothing() -> None:
    reader = Reader(b"kernel")
    served = Served(Files(file=reader))
    with log_events() as events, pytest.raises(TransferFailed):
        served.download({"tsize": 0}, pause=lambda block: 11.5, retry=30.0, attempts=1)
    assert failures(events) == []
    assert reader.finished == 1
    served.close()


def times_of(served: Served, peer: Any, opcode: bytes) -> list[float]:
    served.network.advance(60)
    return [round(each.at - peer.began, 1) for each in peer.take() if each.data[:2] == opcode]


def silent_peer(served: Served, *fields: bytes, opcode: bytes = b"\0\1") -> Any:
    peer: Any = served.peer()
    peer.began = served.network.clock.seconds()
    served.request(peer, b"file", b"octet", *fields, opcode=opcode)
    return peer


def test_an_oack_leaves_three_times() -> None:
    served = Served(Files(file=Reader(b"x")))
    assert times_of(served, silent_peer(served, b"tsize", b"0"), OACK) == [0, 1, 4]
    served.close()


def test_a_block_leaves_three_times() -> None:
    reader = Reader(b"x")
    served = Served(Files(file=reader))
    assert times_of(served, silent_peer(served), DATA) == [0, 1, 4]
    assert reader.reads == 1
    assert reader.finished == 1
    served.close()


def test_the_acknowledgement_of_a_write_request_leaves_three_times() -> None:
    writer = Writer()
    served = Served(Files(file=writer))
    assert times_of(served, silent_peer(served, opcode=b"\0\2"), ACK) == [0, 1, 4]
    assert writer.calls == ["cancelled"]
    served.close()


@pytest.mark.parametrize("kind", [RemoteOriginReadSession, RemoteOriginWriteSession])
def test_the_waits_of_the_handshake_may_be_changed(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "timeout", (2, 2, 2))
    write = kind is RemoteOriginWriteSession
    served = Served(Files(file=Writer() if write else Reader(b"x")))
    peer = silent_peer(served, b"tsize", b"0", opcode=b"\0\2" if write else b"\0\1")
    assert times_of(served, peer, OACK) == [0, 2, 4]
    served.close()


def test_the_waits_of_the_transfer_may_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReadSession, "timeout", (5, 6, 7))
    served = Served(Files(file=Reader(b"x")))
    assert times_of(served, silent_peer(served), DATA) == [0, 5, 11]
    served.close()


def test_the_timeout_that_a_client_requests_is_each_wait_of_its_transfer() -> None:
    served = Served(Files(file=Reader(b"x")))
    peer = silent_peer(served, b"timeout", b"3")
    served.network.advance(0.5)
    [oack] = peer.take()
    peer.began = served.network.clock.seconds()
    peer.send(b"\0\4\0\0", oack.peer)
    assert times_of(served, peer, DATA) == [0, 3, 6]
    served.close()


def test_the_port_of_a_finished_upload_stays_as_long_as_the_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WriteSession, "timeout", (1, 2))
    served = Served(Files(file=Writer()))
    peer = silent_peer(served, opcode=b"\0\2")
    served.network.advance(0.5)
    [first] = peer.take()
    for pause in (0.1, 2.0, 1.5):
        peer.send(b"\0\3\0\1all of it", first.peer)
        served.network.advance(pause)
    assert [each.data for each in peer.take()] == [b"\0\4\0\1"] * 2
    served.close()
