"""Whole transfers; some on every kind of port, from one port and with a port for each transfer."""

from collections.abc import Callable
from typing import Any

import pytest
from tftpserver import Files, Serve, Wire, coroutine, fired, numbered

from bootfw.events import TransferBegun, TransferEnded, TransferRefused
from bootfw.values import Agreed, Mode, Outcome, TransferReport
from bootfw.wire import tftp

SIZES = [0, 1, 511, 512, 513, 1024, 5000]

BEHAVIOURS = [None, fired, coroutine]
"""A backend returns the result itself, a Deferred that has fired, or a coroutine."""


def all_methods(behaviour: Callable[..., Any] | None) -> dict[str, Callable[..., Any]]:
    """The argument *behaviours* of Files, with one behaviour for all methods."""
    methods = ("open", "read", "create", "write", "finish")
    return dict.fromkeys(methods, behaviour) if behaviour is not None else {}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"windowsize": 4}, {"blksize": 64, "tsize": 0, "windowsize": 3}])
def test_file_is_downloaded(serve: Serve, size: int, options: dict[str, Any]) -> None:
    content = numbered(size)
    served = serve({"a/file": content})
    assert served.peer().download("a/file", **options) == content
    assert served.outcomes == ["COMPLETE"]
    assert served.reports[0].bytes_transferred == size


@pytest.mark.every_port
def test_any_size_and_window_is_transferred_in_both_directions(serve: Serve) -> None:
    """Whole and short last blocks, in windows that fill a batch and in ones that don't."""
    served = serve()
    choices: list[dict[str, Any]] = [
        {},
        {"windowsize": 4},
        {"blksize": 64, "windowsize": 3},
        {"blksize": 1408, "windowsize": 64},
    ]
    for options in choices:
        for size in (*SIZES, 100_000):
            served.peer().upload("file", numbered(size), **options)
            assert served.backend.files.pop("file") == numbered(size), (size, options)
            served.backend.files["copy"] = numbered(size)
            assert served.peer().download("copy", **options) == numbered(size), (size, options)
    assert set(served.outcomes) == {"COMPLETE"}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("options", [{}, {"windowsize": 4}])
def test_download_from_synchronous_and_asynchronous_backends(
    serve: Serve, behaviour: Callable[..., Any] | None, options: dict[str, Any]
) -> None:
    served = serve(Files({"file": numbered(5000)}, all_methods(behaviour)))
    assert served.peer().download("file", **options) == numbered(5000)
    assert served.outcomes == ["COMPLETE"]


@pytest.mark.parametrize("size", SIZES)
def test_file_of_unknown_size_is_downloaded(serve: Serve, size: int) -> None:
    """The short read ends it, and tsize is not acknowledged."""
    backend = Files({"file": numbered(size)}, {"size": lambda call: None})
    served = serve(backend)
    assert served.peer().download("file", tsize=0) == numbered(size)
    assert served.peer().download("file", windowsize=4) == numbered(size)
    assert served.outcomes == ["COMPLETE"] * 2
    assert [report.agreed.acknowledged for report in served.reports] == [(), (("windowsize", "4"),)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{}, {"windowsize": 4}, {"blksize": 64, "tsize": 5000, "windowsize": 3}])
def test_file_is_uploaded(serve: Serve, size: int, options: dict[str, Any]) -> None:
    served = serve()
    served.peer().upload("a/file", numbered(size), **options)
    assert served.backend.files == {"a/file": numbered(size)}
    assert served.outcomes == ["COMPLETE"]
    assert served.reports[0].bytes_transferred == size


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("options", [{}, {"windowsize": 4}])
def test_upload_to_synchronous_and_asynchronous_backends(
    serve: Serve, behaviour: Callable[..., Any] | None, options: dict[str, Any]
) -> None:
    served = serve(Files({}, all_methods(behaviour)))
    served.peer().upload("file", numbered(5000), **options)
    assert served.backend.files == {"file": numbered(5000)}


@pytest.mark.every_port
def test_lost_last_ack_of_an_upload_is_repeated(serve: Serve) -> None:
    """RFC 1350 section 6: the transfer is complete and reported, but waits for a copy of the client's last block."""
    served = serve()
    peer = served.peer()
    peer.upload("file", b"content")
    assert served.outcomes == ["COMPLETE"]
    assert peer.send(tftp.data(1, b"content")) == [tftp.Ack(1)]
    served.advance(20)
    assert served.protocol.transfers == 0
    assert served.outcomes == ["COMPLETE"]


NETASCII = [
    (b"", b""),
    (b"one\ntwo\n", b"one\r\ntwo\r\n"),
    (b"a\rb", b"a\r\0b"),
    (b"x" * 511 + b"\n", b"x" * 511 + b"\r\n"),
    (b"x" * 511 + b"\rz", b"x" * 511 + b"\r\0z"),
    (b"x" * 510 + b"\r", b"x" * 510 + b"\r\0"),
    (b"\n" * 700, b"\r\n" * 700),
    (b"\r" * 256, b"\r\0" * 256),
]
"""(in the file, on the wire); in some of them CR is the last octet of a block."""


@pytest.mark.parametrize(("content", "wire_content"), NETASCII)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_netascii_download(
    serve: Serve, content: bytes, wire_content: bytes, behaviour: Callable[..., Any] | None
) -> None:
    served = serve(Files({"file": content}, all_methods(behaviour)))
    assert served.peer().download("file", "netascii", tsize=0) == wire_content
    assert served.reports[0].request.mode is Mode.NETASCII


@pytest.mark.parametrize(("content", "wire_content"), NETASCII)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_netascii_upload(
    serve: Serve, content: bytes, wire_content: bytes, behaviour: Callable[..., Any] | None
) -> None:
    served = serve(Files({}, all_methods(behaviour)))
    served.peer().upload("file", wire_content, "netascii")
    assert served.backend.files == {"file": content}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_netascii_upload_that_ends_in_the_middle_of_a_pair(serve: Serve, behaviour: Callable[..., Any] | None) -> None:
    """Against the rules, but no octet gets lost: neither in a last block nor before an empty one."""
    served = serve(Files({}, all_methods(behaviour)))
    for name, content in (("short", b"abc\r"), ("full", b"x" * 511 + b"\r")):
        served.peer().upload(name, content, "netascii")
        assert served.backend.files[name] == content


@pytest.mark.parametrize("kind", [bytearray, memoryview])
@pytest.mark.parametrize("mode", ["octet", "netascii"])
def test_reader_may_answer_with_any_bytes(serve: Serve, kind: type[bytearray] | type[memoryview], mode: str) -> None:
    served = serve(Files({"file": b"ab\0cd"}, {"read": lambda call: kind(call())}))
    assert served.peer().download("file", mode) == b"ab\0cd"


@pytest.mark.every_port
def test_a_block_is_read_again_for_a_retransmission(serve: Serve) -> None:
    served = serve({"file": numbered(600)})
    peer = served.peer()
    peer.request("file")
    [second] = peer.send(tftp.ack(1))
    served.advance(1.5)
    assert peer.take() == [second] == [tftp.Data(2, numbered(600)[512:])]
    assert peer.send(tftp.ack(2)) == []
    assert served.reports[0].retransmitted == 1


@pytest.mark.every_port
def test_events_of_a_transfer_are_exact(serve: Serve, wire: Wire) -> None:
    served = serve({"boot/x.efi": numbered(100)})
    peer = served.peer()
    peer.download("/boot\\x.efi", blksize=64, tsize=0, Nonsense="1")
    peer.request("missing")
    began, ended, refused = served.events
    assert isinstance(began, TransferBegun)
    assert isinstance(ended, TransferEnded)
    assert isinstance(refused, TransferRefused)
    request = began.request
    assert began == TransferBegun(began.at, request, ended.report.agreed)
    assert (request.filename, request.path) == ("/boot\\x.efi", "boot/x.efi")
    assert (request.peer, request.write, request.mode) == (peer.address, False, Mode.OCTET)
    assert request.local == (wire.address(1) if wire.rich else "")
    assert request.options == (("blksize", "64"), ("tsize", "0"), ("Nonsense", "1"))
    agreed = Agreed(64, 1, None, 100, (("blksize", "64"), ("tsize", "100")))
    assert ended.report == TransferReport(
        request, agreed, Outcome.COMPLETE, "", 100, 2, 0, began.at, ended.at, persona="windows-paths"
    )
    assert began.at < ended.at < served.now
    assert refused == TransferRefused(refused.at, refused.request, 1, "File not found")
    assert refused.request.filename == "missing"


@pytest.mark.every_port
@pytest.mark.parametrize("error", [(8, "User aborted the transfer"), (0, "TFTP Aborted")])
def test_size_probe_has_its_own_outcome(serve: Serve, error: tuple[int, str]) -> None:
    """EDK2 sends ERROR 8, iPXE ERROR 0."""
    served = serve({"file": numbered(5000)})
    peer = served.peer()
    assert peer.request("file", tsize=0, blksize=1468) == [tftp.OptionAck((("tsize", "5000"), ("blksize", "1468")))]
    assert peer.send(tftp.error(*error)) == []
    assert served.outcomes == ["SIZE_PROBE"]
    assert peer.download("file", blksize=1468) == numbered(5000)
    assert served.outcomes == ["SIZE_PROBE", "COMPLETE"]


@pytest.mark.every_port
def test_client_error_after_data_is_not_a_size_probe(serve: Serve) -> None:
    served = serve({"file": numbered(5000)})
    peer = served.peer()
    peer.request("file", tsize=0)
    peer.send(tftp.ack(0))
    peer.send(tftp.ack(1))
    peer.send(tftp.ack(2))
    assert peer.send(tftp.error(3, "memory full")) == []
    assert served.outcomes == ["STOPPED_BY_PEER"]
    assert served.reports[0].detail == "error 3: 'memory full'"
    assert served.reports[0].bytes_transferred == 1024


def test_uploads_are_off_by_default(serve: Serve) -> None:
    served = serve({}, writable=False)
    assert served.peer().put("file") == [tftp.Error(2, "Uploads are not allowed")]
    assert served.refused == [(2, "Uploads are not allowed")]


@pytest.mark.every_port
def test_unknown_mode_is_refused(serve: Serve) -> None:
    served = serve({"file": b"x"})
    assert served.peer().request("file", "mail") == [tftp.Error(4, "Mode 'mail' is not served")]
    assert served.protocol.transfers == 0


@pytest.mark.every_port
def test_concurrent_transfers_do_not_mix(serve: Serve) -> None:
    served = serve({str(number): numbered(3000)[number:] for number in range(20)})
    peers = [served.peer() for _ in range(20)]
    replies = [peer.request(str(number)) for number, peer in enumerate(peers)]
    assert served.protocol.transfers == 20
    for block in range(1, 7):
        for number, peer in enumerate(peers):
            offset = number + 512 * (block - 1)
            assert replies[number] == [tftp.Data(block, numbered(3000)[offset : offset + 512])]
            replies[number] = peer.send(tftp.ack(block))
    assert served.outcomes == ["COMPLETE"] * 20


@pytest.mark.every_port
def test_a_port_for_each_transfer_or_one_for_all(serve: Serve) -> None:
    served = serve({"file": numbered(1000)})
    peers = [served.peer() for _ in range(3)]
    for peer in peers:
        peer.download("file")
    sources = [set(peer.sources) for peer in peers]
    if served.ports == "single":
        assert sources == [{served.address}] * 3
    else:
        assert all(len(source) == 1 for source in sources)
        assert len(set.union(*sources) | {served.address}) == 4


@pytest.mark.every_port
def test_stopping_sends_an_error_to_clients(serve: Serve) -> None:
    served = serve({"file": numbered(5000)})
    downloader, uploader, finished = served.peer(), served.peer(), served.peer()
    downloader.request("file")
    uploader.put("new")
    uploader.send(tftp.data(1, bytes(512)))
    finished.upload("small", b"")
    served.stop()
    for peer in (downloader, uploader):
        assert peer.take() == [tftp.Error(0, "the server is stopping")]
    assert finished.take() == []
    assert sorted(served.outcomes) == ["CANCELLED", "CANCELLED", "COMPLETE"]


@pytest.mark.every_port
def test_transfers_are_cancelled_when_the_port_of_the_server_is_closed(serve: Serve) -> None:
    served = serve({"file": numbered(5000)})
    served.peer().request("file")
    served.peer().put("new")
    served.stop(politely=False)
    assert served.outcomes == ["CANCELLED", "CANCELLED"]


@pytest.mark.every_port
def test_error_for_a_malformed_request_is_limited_by_its_length(serve: Serve) -> None:
    served = serve({})
    assert served.peer().send(b"\0\1") == []
    assert served.peer().send(b"\0\1file\0") == [tftp.Error(4, "Malformed request")]


@pytest.mark.every_port
def test_transfer_to_a_peer_that_falls_silent_sends_little_and_times_out(serve: Serve) -> None:
    served = serve({"file": numbered(500_000)})
    peer = served.peer()
    request = tftp.request(False, "file", "octet", [("blksize", "1408"), ("windowsize", "64")])
    replies = peer.send(request)
    replies += peer.send(tftp.ack(0))
    for _ in range(20):
        served.advance(1)
        replies += peer.take()
    blocks = [packet for packet in replies if isinstance(packet, tftp.Data) and packet.payload]
    # An ACK to the port of a transfer proves that its sender has the OACK: one that is forged can't name that port.
    assert (len(blocks) == 1) is (peer.tid == served.address)
    assert served.outcomes == ["TIMED_OUT"]
