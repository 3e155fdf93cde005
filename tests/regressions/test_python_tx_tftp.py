"""What is wrong in python-tx-tftp, which this project replaces: D1 to D11 of our study of it, each by its number.

D3, a repeated ACK just behind the roll-over, is in case 11 of test_sharp_cases.py.
"""

from typing import Any

import pytest
from tftpserver import Direct, Files, MemoryWire, Pending, Serve, SocketWire, numbered
from twisted.internet.epollreactor import EPollReactor

from bootfw.config.settings import TFTPSettings
from bootfw.events import DatagramsMalformed, PluginFailed
from bootfw.net.tftp.listener import TFTPProtocol
from bootfw.watchdogs.fixed import Fixed
from bootfw.wire import tftp


@pytest.mark.every_port
def test_d1_large_blocks_are_not_cut_off(serve: Serve) -> None:
    """Twisted's port cuts at 8192 bytes by default; a block of 8192 then passed for a short last one."""
    content = numbered(3 * 8192 + 5)
    served = serve({}, max_blksize=65464)
    served.peer().upload("file", content, blksize=8192)
    assert served.backend.files["file"] == content


def test_d1_blocks_fit_the_port(private_reactor: EPollReactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """With Twisted's defaults nothing larger is agreed than it can take in."""
    backend = Files({"file": b""})
    settings = TFTPSettings(writable=True, max_blksize=65464)
    protocol = TFTPProtocol(private_reactor, backend, Fixed(), lambda event: None, settings=settings)
    port = private_reactor.listenUDP(0, protocol, "127.0.0.1")
    sent: list[tftp.Packet] = []
    monkeypatch.setattr(port, "write", lambda data, peer: sent.append(tftp.parse(data)))
    for write in (True, False):
        request = tftp.request(write, "new" if write else "file", "octet", [("blksize", "9000")])
        protocol.datagramReceived(request, ("127.0.0.1", 2000 + write))
    assert sent == [tftp.OptionAck((("blksize", "8188"),)), tftp.OptionAck((("blksize", "9000"),))]
    protocol.close()
    port.stopListening()
    private_reactor.iterate(0)


def test_d2_upload_continues_after_block_65535() -> None:
    last = 65_540
    files = Files()
    direct = Direct(files)
    direct.send(tftp.request(True, "file", "octet", [("blksize", "8")]))
    for number in range(1, last):
        assert direct.send(tftp.data(number & 0xFFFF, number.to_bytes(8, "big"))) == [tftp.ack(number & 0xFFFF)]
    assert direct.send(tftp.data(last & 0xFFFF, b"")) == [tftp.ack(last & 0xFFFF)]
    stored = files.files["file"]
    assert stored == b"".join(number.to_bytes(8, "big") for number in range(1, last))
    direct.protocol.close()


@pytest.mark.parametrize("options", [{"multicast": ""}, {"msftwindow": 31416}, {"rollover": 0, "nonsense": "x"}])
def test_d4_only_unknown_options_mean_no_oack(serve: Serve, options: dict[str, Any]) -> None:
    served = serve({"file": b"content"})
    assert served.peer().request("file", **options) == [tftp.Data(1, b"content")]
    assert served.peer().put("new", **options) == [tftp.Ack(0)]


@pytest.mark.every_port
@pytest.mark.parametrize("cancellable", [True, False])
def test_d5_error_of_the_client_while_a_read_is_in_flight(serve: Serve, cancellable: bool) -> None:
    pending = Pending(cancellable)
    served = serve(Files({"file": numbered(600)}, {"read": pending}))
    peer = served.peer()
    peer.request("file", tsize=0)
    assert peer.send(tftp.ack(0)) == []
    assert peer.send(tftp.error(0, "enough")) == []
    pending.fire()
    served.settle()
    assert peer.take() == []
    assert served.protocol.transfers == 0
    assert served.backend.readers[0].closed == 1
    assert served.of(PluginFailed) == []


@pytest.mark.every_port
@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("options", [{}, {"tsize": 0}])
def test_d6_same_request_twice_is_one_session(serve: Serve, write: bool, options: dict[str, Any]) -> None:
    served = serve({"file": numbered(600)})
    peer = served.peer()
    first = peer.request("new" if write else "file", write=write, **options)
    assert peer.request("new" if write else "file", write=write, **options) == first
    assert served.protocol.transfers == 1
    assert len(served.backend.readers) + len(served.backend.writers) == 1
    assert len(set(peer.sources)) == 1


MALFORMED = [b"", b"\0", b"\0\1", b"\0\1file", b"\0\1file\0", b"\0\2file\0", b"\0\0", b"\0\7", b"\0\3\0", b"\xff" * 600]


def test_d7_malformed_datagrams_cost_one_event(serve: Serve) -> None:
    """No traceback, and the requests among them are answered."""
    served = serve()
    peer = served.peer()
    for _ in range(20):
        answers = peer.send(*MALFORMED)
        assert answers == [tftp.Error(4, "Malformed request")] * 3, "a reply to two bytes would be too much"
    served.advance(3)
    found = served.of(DatagramsMalformed)
    assert [event.count for event in found] == [1, 199]
    assert found[1].at - found[0].at == pytest.approx(1)
    assert {event.peer for event in found} == {peer.address}


def test_d7_duplicate_option_and_odd_fields_are_served(serve: Serve) -> None:
    served = serve({"file": b"content"})
    request = b"\0\1file\0octet\0blksize\x001024\0BLKSIZE\x00512\0tsize"
    assert served.peer().send(request) == [tftp.OptionAck((("blksize", "1024"),))]


@pytest.mark.every_port
def test_d8_last_ack_of_an_upload_is_sent_once(serve: Serve) -> None:
    served = serve()
    peer = served.peer()
    peer.upload("file", b"content")
    served.advance(100)
    assert peer.take() == []


@pytest.mark.parametrize("number", [8, 9])
def test_d9_unknown_tid_gets_an_error_and_the_peer_does_not(start: Serve, number: int) -> None:
    """From another host with the same port, and from another port of the same host."""
    served = start({"file": numbered(1000)}, ports="ephemeral")
    peer = served.peer()
    peer.request("file")
    other_client = served.peer(number, peer.address[1] if number == 8 else 0)
    for datagram in (tftp.ack(1), tftp.data(1, b"x"), b"\0\1file\0octet\0"):
        assert other_client.send(datagram, to=peer.tid) == [tftp.Error(5, "Unknown transfer ID")]
    assert other_client.send(tftp.error(5, "no"), to=peer.tid) == []
    assert set(other_client.sources) == {peer.tid}
    assert peer.take() == []
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, numbered(1000)[512:])]


@pytest.mark.every_port
@pytest.mark.parametrize("number", [8, 9])
def test_d9_unknown_tid_on_the_single_port_is_ignored(start: Serve, number: int) -> None:
    """There a forged sender address must not be told anything: it would be a reflector."""
    served = start({"file": numbered(1000)})
    peer = served.peer()
    peer.request("file")
    other_client = served.peer(number, peer.address[1] if number == 8 else 0)
    for datagram in (tftp.ack(1), tftp.data(1, b"x"), tftp.error(5, "no")):
        assert other_client.send(datagram) == []
    assert peer.take() == []
    assert peer.send(tftp.ack(1)) == [tftp.Data(2, numbered(1000)[512:])]


@pytest.mark.every_port
@pytest.mark.parametrize("wire", ["memory-rich", "socket-own"], indirect=True)
def test_d10_reply_leaves_from_the_requested_address(serve: Serve, wire: MemoryWire | SocketWire) -> None:
    served = serve({"file": numbered(1000)})
    served.address = (wire.address(2), served.address[1])
    peer = served.peer()
    assert peer.download("file", tsize=0) == numbered(1000)
    peer.request("missing")
    peer.upload("new", b"x")
    assert {host for host, _ in peer.sources} == {wire.address(2)}
    assert served.reports[0].request.local == wire.address(2)


@pytest.mark.parametrize(
    ("mtu", "max_blksize", "agreed"),
    [
        (1500, 1468, 1468),
        (1400, 1468, 1368),
        (1280, 1400, 1248),
        (68, 1468, 512),
        (None, 1468, 1468),
        (1500, 8192, 8192),
    ],
)
@pytest.mark.parametrize("wire", ["memory-rich", "socket-own"], indirect=True)
def test_d11_blksize_fits_the_interface(serve: Serve, mtu: int | None, max_blksize: int, agreed: int) -> None:
    """Unless more was set on purpose."""
    served = serve({"file": b""}, mtu=lambda via: mtu, max_blksize=max_blksize)
    assert served.peer().request("file", blksize=65464) == [tftp.OptionAck((("blksize", str(agreed)),))]
