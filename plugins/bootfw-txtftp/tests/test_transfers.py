"""Whole transfers, and what happens when either side misbehaves."""

from typing import Any

import pytest
from tftp.datagram import ACKDatagram, DATADatagram
from tftp.errors import AccessViolation, BackendError, FileExists, Unsupported
from tftp.protocol import TFTP
from tftp.session import ReadSession, WriteSession
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from bootfw.testing import TransferFailed

from .serving import ADDRESS, Files, Reader, Served, Writer, failures, log_events

CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 10240])
@pytest.mark.parametrize("options", [{}, {"blksize": 512, "tsize": 0}, {"blksize": 100, "windowsize": 8}], ids=str)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_file_arrives(size: int, options: Any, asynchronous: bool) -> None:
    served = Served(Files())
    reader = Reader(CONTENT[:size], served.host if asynchronous else None, 0.05)
    served.backend.files["file"] = reader
    assert served.download(options).data == CONTENT[:size]
    assert reader.finished == 1
    served.close()


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 10240])
@pytest.mark.parametrize("options", [{}, {"blksize": 512, "tsize": 5}, {"blksize": 100, "windowsize": 8}], ids=str)
def test_an_upload_arrives(size: int, options: Any) -> None:
    writer = Writer()
    served = Served(Files(file=writer))
    served.upload(CONTENT[:size], options)
    assert (bytes(writer.content), writer.calls) == (CONTENT[:size], ["finished"])
    served.close()


def test_options_that_are_known_are_acknowledged_in_their_spelling() -> None:
    served = Served(Files(file=Reader(CONTENT)))
    result = served.download([("BlkSize", 1428), ("unknown", 1), ("tsize", 0), ("windowsize", 100)])
    assert result.accepted == (("BlkSize", "1428"), ("tsize", str(len(CONTENT))), ("windowsize", "64"))
    assert result.data == CONTENT
    served.close()


def test_unknown_options_alone_get_no_oack() -> None:
    served = Served(Files(file=Reader(b"x")))
    peer = served.peer()
    served.request(peer, b"file", b"octet", b"unknown", b"1")
    served.network.advance(0.5)
    assert [each.data for each in peer.take()] == [b"\0\3\0\1x"]
    served.close()


def test_an_upload_with_the_largest_blocks_is_stored_whole() -> None:
    """python-tx-tftp cut each of them to 8188 bytes, and took the first for the last one."""
    writer = Writer()
    served = Served(Files(file=writer))
    assert served.upload(CONTENT * 3, {"blksize": 65464}).accepted == (("blksize", "8192"),)
    assert writer.content == CONTENT * 3
    served.close()


class RecordingTransport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.datagrams: list[bytes] = []

    def write(self, datagram: bytes) -> None:
        self.datagrams.append(datagram)

    def stopListening(self) -> None:
        """Nothing is open."""


def test_block_numbers_of_an_upload_begin_again_after_65535() -> None:
    """python-tx-tftp acknowledged these blocks and stored nothing."""
    session: Any = WriteSession(Writer(), _clock=Clock())
    session.transport = RecordingTransport()
    session.block_size = 8
    session.datagramReceived(DATADatagram(1, b"00000001"))
    session._machine.stored = session._machine.acked = 65534
    for block in (65535, 65536, 65537):
        session.datagramReceived(DATADatagram(block & 0xFFFF, b"%08d" % block))
    assert session.transport.datagrams[-3:] == [b"\0\4\xff\xff", b"\0\4\0\0", b"\0\4\0\1"]
    assert session.writer.content == b"00000001000655350006553600065537"
    session.cancel()


def test_block_numbers_of_a_download_begin_again_after_65535() -> None:
    """A late copy of ACK 65535 ended the transfer in python-tx-tftp."""
    session: Any = ReadSession(Reader(CONTENT), _clock=Clock())
    session.transport = transport = RecordingTransport()
    session.begin(65534)
    for block in (65535, 65535, 0, 65535, 1):
        session.datagramReceived(ACKDatagram(block))
    assert [datagram[:4] for datagram in transport.datagrams] == [
        b"\0\3\xff\xff",
        b"\0\3\0\0",
        b"\0\3\0\1",
        b"\0\3\0\2",
    ]
    session.cancel()


def test_old_and_unexpected_blocks_of_an_upload_change_nothing() -> None:
    """Each ACK of an old block makes curl send its latest one again, so there is one only."""
    session: Any = WriteSession(Writer(), _clock=Clock())
    session.transport = transport = RecordingTransport()
    session.block_size = 8
    for block in (1, 2, 1, 1, 4, 3, 1):
        session.datagramReceived(DATADatagram(block, b"%08d" % block))
    acks = [datagram[3] for datagram in transport.datagrams if datagram[:2] == b"\0\4"]
    errors = [datagram for datagram in transport.datagrams if datagram[:2] == b"\0\5"]
    assert (acks, errors) == ([1, 2, 1, 3, 1], [b"\0\5\0\4Block number mismatch\0"])
    assert session.writer.content == b"000000010000000200000003"
    session.cancel()


def test_netascii_is_translated_both_ways() -> None:
    writer = Writer()
    served = Served(Files(text=Reader(b"a\nb\rc\n" * 200), upload=writer))
    result = served.download({"tsize": 0}, name="text", mode="netascii")
    assert result.data == b"a\r\nb\r\0c\r\n" * 200
    assert result.accepted == ()  # the size is not known before it is translated
    served.upload(b"a\r\nb\r\0c\r", name="upload", mode="netascii")
    assert (bytes(writer.content), writer.calls) == (b"a\nb\rc\r", ["finished"])
    served.close()


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (None, 1, "File not found"),
        (AccessViolation("no"), 2, "Access violation"),
        (FileExists(b"file"), 6, "File already exists"),
        (Unsupported("not here"), 4, "not here"),
        (BackendError("it is broken"), 0, "it is broken"),
        (ZeroDivisionError("a defect"), 0, "Internal error"),
    ],
    ids=str,
)
@pytest.mark.parametrize("write", [False, True])
def test_an_error_of_the_backend_reaches_the_client(error: Any, code: int, text: str, write: bool) -> None:
    served = Served(Files(file=error))
    with log_events() as events, pytest.raises(TransferFailed) as raised:
        served.upload(b"x") if write else served.download()
    assert (raised.value.code, raised.value.message) == (code, text)
    assert failures(events) == ([error] if isinstance(error, ZeroDivisionError) else [])
    served.close()


@pytest.mark.parametrize(
    ("answer", "logged"),
    [(OSError("the disk"), []), (ZeroDivisionError("x"), ["x"]), (None, None), ("text", None), (bytes(513), None)],
    ids=lambda value: str(value)[:20],
)
def test_a_reader_that_fails_ends_its_transfer(answer: Any, logged: list[str] | None) -> None:
    reader = Reader(b"")

    def read(size: int) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    reader.read = read  # type: ignore[method-assign]
    served = Served(Files(file=reader))
    with log_events() as events, pytest.raises(TransferFailed) as raised:
        served.download()
    assert (raised.value.code, raised.value.message) == (0, "Read failed")
    assert logged is None or [str(each) for each in failures(events)] == logged
    assert reader.finished == 1
    served.close()


def test_a_writer_that_fails_ends_its_transfer() -> None:
    writer = Writer()

    def write(data: bytes) -> None:
        raise OSError("full")

    writer.write = write  # type: ignore[method-assign]
    served = Served(Files(file=writer))
    with pytest.raises(TransferFailed) as raised:
        served.upload(CONTENT)
    assert raised.value.code == 3
    assert writer.calls == ["cancelled"]
    served.close()


def test_the_last_block_is_acknowledged_when_the_file_is_finished() -> None:
    finished: Deferred[None] = Deferred()
    writer = Writer()
    writer.finish = lambda: finished  # type: ignore[assignment, method-assign]
    served = Served(Files(file=writer))
    peer = served.peer()
    served.request(peer, b"file", b"octet", opcode=b"\0\2")
    served.network.advance(0.5)
    [first] = peer.take()
    peer.send(b"\0\3\0\1all", first.peer)
    served.network.advance(0.5)
    assert peer.take() == []
    finished.callback(None)
    served.network.advance(0.5)
    assert [each.data for each in peer.take()] == [b"\0\4\0\1"]
    served.close()


def test_a_client_that_leaves_while_the_file_is_read_leaves_nothing_behind() -> None:
    served = Served(Files())
    reader = served.backend.files["file"] = Reader(CONTENT, served.host, 1.0)
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(1.5)
    [first] = peer.take()
    peer.send(b"\0\4\0\1", first.peer)
    served.network.advance(0.1)
    peer.send(b"\0\5\0\0bye\0", first.peer)
    with log_events() as events:
        served.network.advance(5)
    assert failures(events) == []
    assert reader.finished == 1
    served.close()


def test_a_copy_of_a_request_begins_nothing() -> None:
    opening: Deferred[Any] = Deferred()
    served = Served(Files(file=opening))
    peer = served.peer()
    for _ in range(3):
        served.request(peer, b"file", b"octet", b"tsize", b"0")
        served.network.advance(0.1)
    opening.callback(Reader(b"x"))
    served.request(peer, b"file", b"octet", b"tsize", b"0")
    served.network.advance(0.1)
    assert len(served.backend.requests) == 1
    assert {each.peer for each in peer.take()} == {(ADDRESS, 32768)}
    served.close()


def test_another_request_from_the_same_port_replaces_the_transfer() -> None:
    reader, other_reader = Reader(CONTENT), Reader(b"other")
    served = Served(Files(file=reader, other=other_reader))
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    served.request(peer, b"other", b"octet")
    served.network.advance(0.1)
    assert reader.finished == 1
    assert [each.data[4:] for each in peer.take()] == [CONTENT[:512], b"other"]
    served.close()


def test_another_request_while_the_file_is_opened_replaces_it() -> None:
    opening: Deferred[Any] = Deferred()
    reader = Reader(CONTENT)
    served = Served(Files(file=opening, other=Reader(b"other")))
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    served.request(peer, b"other", b"octet")
    served.network.advance(0.1)
    opening.callback(reader)
    served.network.advance(0.1)
    assert reader.finished == 1
    served.close()


def test_a_client_that_has_started_again_gets_its_file_anew() -> None:
    reader, other_reader = Reader(CONTENT), Reader(CONTENT)
    served = Served(Files(file=reader))
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    [first] = peer.take()
    peer.send(b"\0\4\0\1", first.peer)
    served.network.advance(3)
    served.backend.files["file"] = other_reader
    peer.take()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    assert reader.finished == 1
    assert [each.data for each in peer.take()] == [b"\0\3\0\1" + CONTENT[:512]]
    served.close()


@pytest.mark.parametrize(
    ("datagram", "reply"),
    [
        (b"", b""),
        (b"\0", b""),
        (b"\0\1", b""),
        (b"\0\1file\0", b"\0\5\0\4Malformed request\0"),
        (b"\0\1file\0mail\0", b"\0\5\0\4Unknown transfer mode 'mail': expected 'netascii' or 'octet'\0"),
        (b"\0\1file\0\xff\0", b"\0\5\0\4Unknown transfer mode '?': expected 'netascii' or 'octet'\0"),
        (b"\0\4\0\1", b""),
        (b"\0\x09", b""),
        (b"\0\1file\0octet\0tsize\0000\0tsize\0007\0", b"\0\6tsize\0001\0"),
        (b"\0\1file\0octet\0tsize\0", b"\0\3\0\1x"),
        (b"\0\1file\0octet\0" + bytes(50), b"\0\3\0\1x"),
    ],
    ids=repr,
)
def test_no_datagram_makes_a_traceback(datagram: bytes, reply: bytes) -> None:
    served = Served(Files(file=Reader(b"x")))
    peer = served.peer()
    with log_events() as events:
        peer.send(datagram, (ADDRESS, 69))
        served.network.advance(0.5)
    assert [each.data for each in peer.take()] == ([reply] if reply else [])
    assert failures(events) == []
    served.close()


@pytest.mark.parametrize("datagram", [b"", b"\0", b"\0\4", b"\0\4\0\1\0", b"\0\5\0", b"\0\x63", b"\0\3"], ids=repr)
def test_a_malformed_datagram_does_not_disturb_a_transfer(datagram: bytes) -> None:
    served = Served(Files(file=Reader(CONTENT)))
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    [first] = peer.take()
    with log_events() as events:
        peer.send(datagram, first.peer)
        peer.send(b"\0\4\0\1", first.peer)
        served.network.advance(0.1)
    assert [each.data[:4] for each in peer.take()] == [b"\0\3\0\2"]
    assert failures(events) == []
    served.close()


def test_an_error_with_an_unknown_code_ends_a_transfer() -> None:
    reader = Reader(CONTENT)
    served = Served(Files(file=reader))
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    peer.send(b"\0\5\0\x63what\0", peer.take()[0].peer)
    served.network.advance(0.1)
    assert reader.finished == 1
    served.close()


def test_a_backend_knows_both_addresses() -> None:
    served = Served(Files(file=Reader(b"x")), addresses=("10.0.0.2", ADDRESS), interface=ADDRESS)
    served.download()
    [(name, local, (host, port))] = served.backend.requests
    assert (name, local, host) == (b"file", (ADDRESS, 69), "10.0.0.9")
    assert port > 0
    served.close()


def test_a_file_comes_from_the_address_that_was_asked() -> None:
    """The first address of a host is the source of what is sent from a port that is bound to none."""
    served = Served(Files(file=Reader(b"x")), addresses=("10.0.0.2", ADDRESS), interface=ADDRESS)
    peer = served.peer()
    served.request(peer, b"file", b"octet")
    served.network.advance(0.1)
    assert [each.peer[0] for each in peer.take()] == [ADDRESS]
    served.close()


@pytest.mark.parametrize("interface", ["::", "fd77::1"])
def test_ipv6(interface: str) -> None:
    served = Served(Files(file=Reader(CONTENT)), addresses=(ADDRESS, "fd77::1"), interface=interface)
    assert served.download({"blksize": 1428}).data == CONTENT
    served.close()


class PatchedTFTP(TFTP):
    """What MAAS does: it limits an option, and replaces the method by which a session ends."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.ended_files: list[bytes] = []

    def _startSession(self, datagram: Any, addr: Any, mode: bytes) -> Any:
        datagram.options[b"blksize"] = b"1000"
        return super()._startSession(datagram, addr, mode).addCallback(self._watch, datagram)

    def _watch(self, session: Any, datagram: Any) -> Any:
        cancel = session.session.cancel

        def cancel_and_record() -> None:
            cancel()
            self.ended_files.append(datagram.filename)

        session.session.cancel = cancel_and_record
        return session


def test_a_subclass_changes_options_and_sees_the_end() -> None:
    served = Served(Files(file=Reader(CONTENT)), PatchedTFTP)
    result = served.download({"blksize": 1428})
    assert (result.data, result.accepted) == (CONTENT, (("blksize", "1000"),))
    served.network.advance(1)
    tftp: Any = served.tftp
    assert tftp.ended_files == [b"file"]
    served.close()
