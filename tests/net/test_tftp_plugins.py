"""Plugins that answer later, too late, never or with an exception: the service continues, and no resource is left
open."""

import errno
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
from attrs import define
from tftpserver import (
    Files,
    Peer,
    Pending,
    Raising,
    Serve,
    Served,
    at_once,
    coroutine,
    failed,
    numbered,
)
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import DatagramProtocol

from bootfw.errors import AccessViolation, DiskFull, FileMissing
from bootfw.events import InternalError, PluginFailed
from bootfw.values import Agreed
from bootfw.wire import tftp

# These tests run on one kind of port only: plugins do not depend on it.
SECRET = "in /srv/secret/place"
INTERNAL = tftp.Error(0, "Internal error")
BEHAVIOURS = [at_once, failed, coroutine]


def plugin_failure(served: Served, doing: str) -> PluginFailed:
    """The only PluginFailed of *served*. It has the traceback, and no other event has the secret in it."""
    event: PluginFailed
    [event] = served.of(PluginFailed)
    assert event.doing.startswith(doing)
    if tuple(map(int, version("twisted").split(".")[:2])) >= (24, 10):  # before, a Deferred takes it from its exception
        assert event.traceback.startswith("Traceback")
    assert SECRET in event.traceback
    other_events = [other for other in served.events if other is not event]
    assert SECRET not in str(other_events)
    return event


def still_serves(served: Served) -> None:
    served.backend.behaviours.clear()
    served.backend.files["fine"] = numbered(600)
    assert served.peer().download("fine") == numbered(600)


# Exceptions


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_exception_in_open_is_an_error_to_the_client(serve: Serve, behaviour: Callable[..., Any]) -> None:
    served = serve(Files({"file": b"x"}, {"open": Raising(ValueError(SECRET), behaviour)}))
    assert served.peer().request("file", tsize=0) == [INTERNAL]
    plugin_failure(served, "open 'file'")
    assert served.refused == [(0, "Internal error")]
    still_serves(served)


def test_exception_in_size_is_an_error_to_the_client(serve: Serve) -> None:
    served = serve(Files({"file": b"x"}, {"size": Raising(ValueError(SECRET))}))
    assert served.peer().request("file", tsize=0) == [INTERNAL]
    plugin_failure(served, "open 'file'")
    still_serves(served)


@pytest.mark.parametrize("after", range(4))
def test_size_that_raises_later_is_a_failure_of_the_backend(serve: Serve, after: int) -> None:
    served = serve(Files({"file": numbered(600)}, {"size": Raising(ValueError(SECRET), after=after)}))
    peer = served.peer()
    if peer.request("file", tsize=0) == [INTERNAL]:
        plugin_failure(served, "open 'file'")
    else:
        peer.send(tftp.ack(0))
    assert served.of(InternalError) == []
    still_serves(served)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("mode", ["octet", "netascii"])
def test_exception_in_read_ends_the_transfer(serve: Serve, behaviour: Callable[..., Any], mode: str) -> None:
    served = serve(Files({"file": numbered(600)}, {"read": Raising(ValueError(SECRET), behaviour, after=1)}))
    peer = served.peer()
    peer.request("file", mode)
    assert peer.send(tftp.ack(1)) == [INTERNAL]
    plugin_failure(served, "go on with 'file'")
    assert served.outcomes == ["FAILED"]
    still_serves(served)


@pytest.mark.parametrize("answer", [None, "text", 7, b"x" * 600])
@pytest.mark.parametrize("mode", ["octet", "netascii"])
def test_invalid_result_of_read_ends_the_transfer(serve: Serve, answer: str | int | bytes | None, mode: str) -> None:
    served = serve(Files({"file": numbered(512)}, {"read": lambda call: answer}))
    assert served.peer().request("file", mode) == [INTERNAL]
    [report] = served.reports
    kind = "NoneType" if answer is None else "600 bytes;" if isinstance(answer, bytes) else type(answer).__name__
    assert report.detail.startswith(f"Internal error: read() of tftpserver.Reader returned {kind}")
    assert served.of(PluginFailed) == []
    still_serves(served)


def test_invalid_result_of_open_is_an_error(serve: Serve) -> None:
    served = serve(Files({"file": b""}, {"open": lambda call: None, "create": lambda call: None}))
    assert served.peer().request("file") == [INTERNAL]
    peer = served.peer()
    peer.put("new")
    assert peer.send(tftp.data(1, b"x")) == [INTERNAL]
    assert len(served.of(PluginFailed)) == 2
    still_serves(served)


def test_exception_in_close_is_reported(serve: Serve) -> None:
    """The transfer is complete nevertheless, and is forgotten."""
    served = serve(Files({"file": b"x"}, {"close": Raising(ValueError(SECRET))}))
    assert served.peer().download("file") == b"x"
    plugin_failure(served, "give back 'file'")
    assert served.outcomes == ["COMPLETE"]
    assert served.protocol.transfers == 0
    still_serves(served)


def test_exception_in_close_does_not_stop_the_shutdown(serve: Serve) -> None:
    served = serve(Files({"file": b"x"}, {"close": Raising(ValueError(SECRET)), "cancel": Raising(ValueError())}))
    peers = [served.peer() for _ in range(4)]
    for peer in peers[:2]:
        peer.request("file")
    for peer in peers[2:]:
        peer.put("new")
    served.stop()
    assert [peer.take() for peer in peers] == [[tftp.Error(0, "the server is stopping")]] * 4
    assert len(served.of(PluginFailed)) == 4


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_exception_in_create_is_an_error_to_the_client(serve: Serve, behaviour: Callable[..., Any]) -> None:
    served = serve(Files({}, {"create": Raising(ValueError(SECRET), behaviour)}))
    assert served.peer().put("file") == [INTERNAL]
    plugin_failure(served, "open 'file'")
    still_serves(served)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("mode", ["octet", "netascii"])
def test_exception_in_write_ends_the_transfer(serve: Serve, behaviour: Callable[..., Any], mode: str) -> None:
    served = serve(Files({}, {"write": Raising(ValueError(SECRET), behaviour, after=1)}))
    peer = served.peer()
    peer.put("file", mode)
    assert peer.send(tftp.data(1, numbered(512))) == [tftp.Ack(1)]
    assert peer.send(tftp.data(2, b"x")) == [INTERNAL]
    plugin_failure(served, "go on with 'file'")
    assert served.outcomes == ["FAILED"]
    assert served.backend.writers[0].cancelled == 1
    still_serves(served)


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_exception_in_finish_ends_the_transfer(serve: Serve, behaviour: Callable[..., Any]) -> None:
    served = serve(Files({}, {"finish": Raising(ValueError(SECRET), behaviour)}))
    peer = served.peer()
    peer.put("file")
    assert peer.send(tftp.data(1, b"x")) == [INTERNAL]
    plugin_failure(served, "go on with 'file'")
    assert served.outcomes == ["FAILED"]
    assert served.backend.writers[0].cancelled == 1
    still_serves(served)


REFUSALS = [
    (FileMissing(), 1, "File not found"),
    (AccessViolation("Not for you"), 2, "Not for you"),
    (DiskFull(), 3, "Disk full or allocation exceeded"),
    (FileNotFoundError(errno.ENOENT, SECRET), 1, "File not found"),
    (PermissionError(errno.EACCES, SECRET), 2, "Access violation"),
]


@pytest.mark.parametrize(("error", "code", "message"), REFUSALS)
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
@pytest.mark.parametrize("method", ["open", "read", "create", "write", "finish"])
def test_transfer_error_of_a_backend_is_not_a_plugin_failure(
    serve: Serve, error: Exception, code: int, message: str, behaviour: Callable[..., Any], method: str
) -> None:
    served = serve(Files({"file": numbered(600)}, {method: Raising(error, behaviour)}))
    peer = served.peer()
    writes = method not in ("open", "read")
    replies = peer.request("new" if writes else "file", write=writes)
    if method in ("write", "finish"):
        replies = peer.send(tftp.data(1, b"x"))
    assert replies == [tftp.Error(code, message)]
    assert served.of(PluginFailed) == []
    assert (served.refused, served.outcomes) in (([(code, message)], []), ([], ["FAILED"]))


@pytest.mark.parametrize("error_number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_enospc_edquot_and_efbig_are_error_3(serve: Serve, error_number: int, behaviour: Callable[..., Any]) -> None:
    served = serve(Files({}, {"write": Raising(OSError(error_number, SECRET), behaviour, after=2)}))
    peer = served.peer()
    peer.put("file", windowsize=4)
    window = [tftp.data(block, numbered(512)) for block in range(1, 5)]
    assert peer.send(*window) == [tftp.Error(3, "Disk full or allocation exceeded")]
    assert served.reports[0].bytes_transferred == 1024
    assert served.reports[0].detail == "Disk full or allocation exceeded"


@define
class BrokenWatchdog:
    """Raises on the given attempt; None: when the client makes progress."""

    attempt: int | None = None

    def begin(self, agreed: Agreed) -> "BrokenWatchdog":
        return self

    def wait(self, attempt: int) -> float:
        if attempt == self.attempt:
            raise ValueError(SECRET)
        return 1.0

    def progressed(self, seconds: float) -> None:
        if self.attempt is None:
            raise ValueError(SECRET)


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("attempt", [1, 2, None])
def test_exception_in_a_watchdog_ends_the_transfer(serve: Serve, write: bool, attempt: int | None) -> None:
    """At the start, at the timeout, and on a packet of the client."""
    served = serve({"file": numbered(600)}, watchdog=BrokenWatchdog(attempt))
    peer = served.peer()
    replies = peer.request("new" if write else "file", write=write)
    if attempt == 2:
        served.advance(1.5)
        replies = peer.take()
    if attempt is None:
        replies = peer.send(tftp.data(1, b"x") if write else tftp.ack(1))
    assert replies == [INTERNAL]
    assert plugin_failure(served, "go on with").plugin == "watchdog"
    assert served.outcomes == ["FAILED"]
    assert served.protocol.transfers == 0


@pytest.mark.parametrize("write", [False, True])
def test_invalid_wait_of_a_watchdog_ends_the_transfer(serve: Serve, write: bool) -> None:
    class Policy:
        def begin(self, agreed: Agreed) -> "Policy":
            return self

        def wait(self, attempt: int) -> str:
            return SECRET

    served = serve({"file": b"x"}, watchdog=Policy())
    assert served.peer().request("new" if write else "file", write=write) == [INTERNAL]
    [event] = served.of(PluginFailed)
    assert event.plugin == "watchdog"
    assert "TypeError" in event.traceback
    assert served.outcomes == ["FAILED"]


@pytest.mark.parametrize("write", [False, True])
def test_exception_in_the_session_is_an_internal_error(serve: Serve, write: bool) -> None:
    """It is reported once, and ends the one transfer that it is in."""
    served = serve({"file": numbered(600)})
    peer, other = served.peer(), served.peer()
    for each in (peer, other):
        each.request("new" if write else "file", write=write)
    transfer = next(each for each in served.protocol._transfers.values() if each.request.peer[1] == peer.address[1])

    def handle(session: object, event: object, argument: object, now: float) -> None:
        raise ValueError(SECRET)

    kind = type(transfer.session)
    transfer.session.__class__ = type("Session", (kind,), {"__slots__": (), "handle": handle})
    assert peer.send(tftp.data(1, b"x") if write else tftp.ack(1)) == [INTERNAL]
    assert served.of(PluginFailed) == []
    [event] = served.of(InternalError)
    assert event.doing == f"go on with {'new' if write else 'file'!r}"
    assert event.traceback.count(SECRET) == 1
    assert served.outcomes == ["FAILED"]
    assert served.protocol.transfers == 1
    assert other.send(tftp.data(1, b"x") if write else tftp.ack(1)) != [INTERNAL]


def test_exception_in_a_policy_is_reported(serve: Serve) -> None:
    class Policy:
        def begin(self, agreed: Agreed) -> None:
            raise ValueError(SECRET)

    served = serve({"file": b"x"}, watchdog=Policy())
    assert served.peer().request("file") == [INTERNAL]
    plugin_failure(served, "open 'file'")


def test_failed_bind_of_a_transfer_port_is_an_error(start: Serve) -> None:
    """The backend has not failed: there is no traceback, and the next request is served."""
    served = start({"file": b"x"}, ports="ephemeral")
    listen, served.protocol._listen = served.protocol._listen, None

    def fail(protocol: DatagramProtocol, address: str) -> None:
        raise CannotListenError(address, 0, OSError(errno.EMFILE, SECRET))

    served.protocol._listen = fail
    assert served.peer().request("file") == [tftp.Error(0, "No port for the transfer: Too many open files")]
    assert served.of(PluginFailed) == []
    assert served.refused == [(0, "No port for the transfer: Too many open files")]
    served.protocol._listen = listen
    assert served.peer().download("file") == b"x"


# Asynchronous results


def test_request_waits_for_a_slow_open(serve: Serve) -> None:
    pending = Pending()
    served = serve(Files({"file": b"x"}, {"open": pending}))
    peer = served.peer()
    assert peer.request("file", tsize=0) == []
    served.advance(30)
    assert peer.request("file", tsize=0) == []  # a retry of the client: the backend is not called again
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.OptionAck((("tsize", "1"),))]
    assert len(served.backend.readers) == 1
    assert served.of(PluginFailed) == []


def test_asynchronous_failure_of_open_is_an_error(serve: Serve) -> None:
    pending = Pending()
    served = serve(Files({}, {"open": pending}))
    peer = served.peer()
    assert peer.request("file") == []
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Error(1, "File not found")]
    assert served.refused == [(1, "File not found")]


ENDINGS = ["ERROR", "another request", "stop"]


def end_transfer(served: Served, peer: Peer, ending: str) -> None:
    """End the transfer of *peer* by an ERROR, by another request of *peer*, or by a stop of the server."""
    if ending == "ERROR":
        assert peer.send(tftp.error(0, "enough")) == []
    elif ending == "another request":
        served.backend.files["other"] = b"other"
        behaviours, served.backend.behaviours = served.backend.behaviours, {}
        assert peer.download("other") == b"other"
        served.backend.behaviours = behaviours
    else:
        served.stop()


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_transfer_that_ends_during_open_closes_the_file(serve: Serve, write: bool, ending: str) -> None:
    """The Deferred of the backend is cancelled; no file is left open."""
    pending = Pending()
    served = serve(Files({"file": b"x"}, {"open": pending, "create": pending}))
    peer = served.peer()
    assert peer.request("new" if write else "file", write=write) == []
    end_transfer(served, peer, ending)
    assert pending.cancelled == 1
    assert served.protocol.transfers == 0
    assert served.backend.all_closed()


@pytest.mark.parametrize("write", [False, True])
def test_late_opened_file_is_closed(serve: Serve, write: bool) -> None:
    class OpensWhenCancelled(Pending):
        def _cancel(self, waiting: Deferred[Any]) -> None:
            super()._cancel(waiting)
            waiting.callback(self.waiting[0][1]())

    pending = OpensWhenCancelled()
    served = serve(Files({"file": b"x"}, {"open": pending, "create": pending}))
    served.peer().request("new" if write else "file", write=write)
    served.stop()
    files = served.backend.writers if write else served.backend.readers
    assert len(files) == 1
    assert served.backend.all_closed()


def test_exception_while_closing_a_late_file_is_reported(serve: Serve) -> None:
    pending = Pending()
    served = serve(Files({"file": b"x"}, {"open": pending, "close": Raising(ValueError(SECRET))}))
    peer = served.peer()
    peer.request("file")
    waiting, call = pending.waiting[0]
    waiting._canceller = lambda waiting: waiting.callback(call())
    peer.send(tftp.error(0, "enough"))
    plugin_failure(served, "give back 'file'")


def test_exception_in_a_canceller_is_reported(serve: Serve) -> None:
    def canceller(waiting: Deferred[Any]) -> None:
        raise ValueError(SECRET)

    served = serve(Files({"file": b"x"}, {"open": lambda call: Deferred(canceller)}))
    peer = served.peer()
    peer.request("file")
    assert peer.send(tftp.error(0, "enough")) == []
    plugin_failure(served, "give back 'file'")
    assert served.protocol.transfers == 0


@pytest.mark.parametrize("cancellable", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_transfer_that_ends_during_read_closes_the_reader(serve: Serve, cancellable: bool, ending: str) -> None:
    pending = Pending(cancellable)
    behaviours = iter([at_once])
    served = serve(Files({"file": numbered(600)}, {"read": lambda call: next(behaviours, pending)(call)}))
    peer = served.peer()
    peer.request("file")
    assert peer.send(tftp.ack(1)) == []
    end_transfer(served, peer, ending)
    assert served.backend.readers[0].closed == 1
    pending.fire()
    assert served.backend.readers[0].closed == 1
    assert served.outcomes[0] == ("STOPPED_BY_PEER" if ending == "ERROR" else "CANCELLED")


@pytest.mark.parametrize("cancellable", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_transfer_that_ends_during_write_cancels_the_writer(serve: Serve, cancellable: bool, ending: str) -> None:
    pending = Pending(cancellable)
    served = serve(Files({}, {"write": pending}))
    peer = served.peer()
    peer.put("file")
    assert peer.send(tftp.data(1, numbered(512))) == []
    end_transfer(served, peer, ending)
    assert served.backend.writers[0].cancelled == 1
    assert served.backend.all_closed()
    assert served.reports[0].bytes_transferred == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_transfer_that_ends_during_finish_cancels_the_writer(serve: Serve, ending: str) -> None:
    pending = Pending()
    served = serve(Files({}, {"finish": pending}))
    peer = served.peer()
    peer.put("file")
    assert peer.send(tftp.data(1, b"x")) == []
    end_transfer(served, peer, ending)
    assert (served.backend.writers[0].finished, served.backend.writers[0].cancelled) == (1, 1)
    assert "COMPLETE" not in served.outcomes[:1]


def test_nothing_is_sent_before_a_slow_read_returns(serve: Serve) -> None:
    """And nothing expires; the block is read once."""
    pending = Pending()
    served = serve(Files({"boot/the-file": numbered(600)}, {"read": pending}))
    peer = served.peer()
    assert peer.request("boot/the-file") == []
    served.advance(50)
    assert peer.request("boot/the-file") == []
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Data(1, numbered(512))]
    served.advance(1.2)
    assert peer.take() == [tftp.Data(1, numbered(512))]
    assert served.backend.readers[0].reads == [(0, 512)]
    assert peer.send(tftp.ack(1)) == []
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Data(2, numbered(600)[512:])]
    assert peer.send(tftp.ack(2)) == []
    assert served.outcomes == ["COMPLETE"]


def test_slow_write_acknowledges_nothing_before_it_is_stored(serve: Serve) -> None:
    pending = Pending()
    served = serve(Files({}, {"write": pending, "finish": pending}))
    peer = served.peer()
    peer.put("file")
    for _ in range(3):
        assert peer.send(tftp.data(1, numbered(512))) == []
    assert len(pending.waiting) == 1
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Ack(1)]
    assert peer.send(tftp.data(2, b"end")) == []
    pending.fire()
    served.settle()
    assert peer.take() == []  # the block is written, but the file is not finished
    assert "file" not in served.backend.files
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Ack(2)]
    assert served.backend.files["file"] == numbered(512) + b"end"


@pytest.mark.parametrize("window", [64, 500])
def test_queued_window_is_written_after_a_slow_write_without_recursion(serve: Serve, window: int) -> None:
    """The other writes have their results at once, and their callbacks do not nest."""
    pending = Pending()
    behaviours = iter([pending])
    served = serve(Files({}, {"write": lambda call: next(behaviours, coroutine)(call)}), max_windowsize=1000)
    peer = served.peer()
    peer.put("file", windowsize=window, blksize=8)
    content = numbered(8 * window)
    datagrams = [tftp.data(number + 1, content[8 * number : 8 * number + 8]) for number in range(window)]
    assert peer.send(*datagrams) == []
    pending.fire()
    served.settle()
    assert peer.take() == [tftp.Ack(window)]
    assert peer.send(tftp.data(window + 1, b"")) == [tftp.Ack(window + 1)]
    assert served.backend.files["file"] == content
    assert served.of(PluginFailed) == []


@pytest.mark.parametrize("write", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_stop_while_opening_with_a_deferred_that_ignores_cancel(serve: Serve, write: bool, ending: str) -> None:
    """As that of deferToThread(): the file is opened although its transfer has ended, and is closed."""
    pending = Pending(cancellable=False)
    served = serve(Files({"file": b"x"}, {"open": pending, "create": pending}))
    peer = served.peer()
    peer.request("new" if write else "file", write=write)
    end_transfer(served, peer, ending)
    assert served.protocol.transfers == 0
    files = served.backend.writers if write else served.backend.readers
    before = len(files)
    pending.fire()
    assert len(files) == before + 1
    assert served.backend.all_closed()


@pytest.mark.parametrize("call", ["open", "read"])
def test_backend_timeout_ends_the_transfer(serve: Serve, call: str) -> None:
    """The client gets an ERROR after a minute, and no resource is left open."""
    pending = Pending()
    served = serve(Files({"file": b"x"}, {call: pending}))
    peer = served.peer()
    assert peer.request("file") == []
    served.advance(59)
    assert peer.take() == []
    assert served.protocol.transfers == 1
    served.advance(2)
    [error] = peer.take()
    assert isinstance(error, tftp.Error)
    assert "within 60 s" in error.message
    assert pending.cancelled == 1
    assert served.protocol.transfers == 0
    assert served.backend.all_closed()
