"""Images that clients upload: the replies to a PUT, the port of an upload, and what is stored."""

import errno
import hashlib
from typing import Any

import pytest
from attrs import define, evolve, field
from frisbeecaptures import REQUESTS
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from bootfw.backends.memory import MemoryBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.config.settings import MulticastSettings, networks
from bootfw.errors import DiskFull, FileMissing
from bootfw.events import Event, PluginFailed, RequestsDropped, TransferBegun, TransferEnded, TransferRefused
from bootfw.frisbee.digests import Digests
from bootfw.net.admission import Admission
from bootfw.net.multicast.uploads import Services, Upload, Uploads
from bootfw.values import Outcome, TransferRequest
from bootfw.wire.frisbee import CHUNK_SIZE
from bootfw.wire.frisbeemaster import Error, PutReply, PutRequest

SERVER, CLIENT = "10.9.0.1", "10.9.0.11"
PEER = (CLIENT, 40000)
WALL_TIME = 1_795_917_936.0
MAX_UPLOAD = 4 * CHUNK_SIZE
WRITABLE = MulticastSettings(
    ((SERVER, 64494),), ports="21700-21702", writable=True, max_upload=MAX_UPLOAD, upload_seconds=600.0
)


class Files(MemoryBackend):
    """Files in memory, with the requests for uploads."""

    def __init__(self, **content: bytes) -> None:
        super().__init__({name.replace("_", "."): data for name, data in content.items()}, writable=True)
        self.requests: list[TransferRequest] = []
        self.answer: Any = None
        """What the next replace() returns or raises; None: it returns a writer."""

    def replace(self, path: str, request: TransferRequest) -> Any:
        self.requests.append(request)
        answer, self.answer = self.answer, None
        if isinstance(answer, Exception):
            raise answer
        return answer or super().replace(path, request)


@define(eq=False)
class Scene:
    """The uploads, their backend and their events."""

    settings: MulticastSettings = WRITABLE
    backend: Files = field(factory=Files)
    sent: set[str] = field(factory=set)
    """Paths of images that are being sent."""
    reactor: Any = field(factory=MemoryReactorClock)
    events: list[Event] = field(factory=list)
    uploads: Uploads = field(init=False)

    def __attrs_post_init__(self) -> None:
        layers = LayeredBackend([("files", self.backend)])
        admission = Admission(self.reactor, self.events.append)
        services = Services(
            self.reactor,
            self.settings,
            self.events.append,
            layers.open,
            layers.replace,
            lambda path: path in self.sent,
            admission,
            lambda: WALL_TIME,
        )
        self.uploads = Uploads(services)

    def put(self, request: PutRequest, peer: tuple[str, int] = PEER) -> PutReply:
        replies: list[PutReply] = []
        self.uploads.put(request, peer, SERVER).addCallback(replies.append)
        (reply,) = replies
        return reply

    def connect(self, host: str = CLIENT, index: int = -1) -> "Client | None":
        _, factory, _, interface = self.reactor.tcpServers[index]
        assert interface == SERVER
        assert isinstance(factory, Upload)
        protocol = factory.buildProtocol(IPv4Address("TCP", host, 50000))
        return None if protocol is None else Client(protocol)

    def upload(self, request: PutRequest) -> "Client":
        """The connection of an accepted upload."""
        assert self.put(request).error == Error.NONE
        client = self.connect()
        assert client is not None
        return client

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if type(event) is kind]

    def outcome(self) -> tuple[Outcome, str]:
        """The outcome and the detail of the only upload that has ended; it has left no timer."""
        (event,) = self.of(TransferEnded)
        assert not self.reactor.getDelayedCalls()
        return event.report.outcome, event.report.detail


class Client:
    """A connection of frisupload."""

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self.transport = StringTransport()
        protocol.makeConnection(self.transport)

    @property
    def paused(self) -> bool:
        return self.transport.producerState == "paused"

    def send(self, *parts: bytes) -> "Client":
        for part in parts:
            self.protocol.dataReceived(part)
        return self

    def close(self, reason: type[Exception] = ConnectionDone) -> None:
        self.protocol.connectionLost(Failure(reason()))


def test_an_image_is_stored_as_the_real_client_sends_it() -> None:
    (request,) = [request for request in REQUESTS.values() if isinstance(request, PutRequest)]
    content = bytes(range(250)) * 10_000 + b"x" * 123
    assert len(content) == request.size
    scene = Scene()
    assert scene.put(request) == PutReply(address=SERVER, port=21700, most=MAX_UPLOAD)
    client = scene.connect()
    assert client is not None
    client.send(*(content[start : start + 65536] for start in range(0, len(content), 65536)))
    assert scene.backend.files == {}
    client.close()
    assert scene.backend.files == {"up.bin": content}
    assert client.transport.disconnecting
    (begun,), (ended,) = scene.of(TransferBegun), scene.of(TransferEnded)
    assert begun.request == ended.report.request == scene.backend.requests[0]
    recorded = begun.request
    assert (recorded.path, recorded.peer, recorded.local, recorded.write, recorded.protocol) == (
        "up.bin",
        PEER,
        SERVER,
        True,
        "frisbee",
    )
    assert dict(recorded.options) == {"tsize": "2500123", "mtime": str(request.mtime)}
    assert begun.agreed.tsize == request.size
    assert (ended.report.outcome, ended.report.detail) == (Outcome.COMPLETE, "")
    assert (ended.report.bytes_transferred, ended.report.blocks) == (len(content), 2442)
    assert not scene.reactor.getDelayedCalls()
    assert len(scene.events) == 2


def test_uploads_are_listed_for_the_operator() -> None:
    scene = Scene()
    assert scene.uploads.records() == []
    scene.upload(PutRequest("disk.bin", 5)).send(b"afte")
    client = scene.upload(PutRequest("other.bin"))
    first = {"image": "disk.bin", "client": CLIENT, "state": "receiving", "received": 4, "size": 5}
    second = {"image": "other.bin", "client": CLIENT, "state": "receiving", "received": 0, "size": 0}
    assert scene.uploads.records() == [first, second]
    client.send(b"b").close()
    assert scene.uploads.records() == [first]
    scene.backend.answer = Deferred()
    scene.uploads.put(PutRequest("third.bin", 1), PEER, SERVER)
    assert scene.uploads.records() == [first], "the backend has not opened it yet"


def test_a_file_is_replaced_when_the_upload_is_complete() -> None:
    scene = Scene(backend=Files(disk_bin=b"before"))
    client = scene.upload(PutRequest("disk.bin", 5))
    client.send(b"afte")
    assert scene.backend.files == {"disk.bin": b"before"}
    client.send(b"r").close()
    assert scene.backend.files == {"disk.bin": b"after"}


@pytest.mark.parametrize("name", ["disk.img", "disk.raw", "DISK.IMG"])
def test_a_disk_image_gets_its_digests(name: str) -> None:
    scene = Scene()
    content = b"a" * CHUNK_SIZE + b"bc"
    scene.upload(PutRequest(name)).send(content[:7], content[7:]).close()
    assert scene.backend.files[name] == content
    found = Digests.parse(scene.backend.files[f"{name}.chunks"])
    assert found == Digests(len(content), tuple(hashlib.sha256(c).digest() for c in (content[:CHUNK_SIZE], b"bc")))
    assert [request.path for request in scene.backend.requests] == [name, f"{name}.chunks"]
    assert dict(scene.backend.requests[1].options) == {"tsize": str(len(found.dump()))}


def test_an_image_whose_digests_can_not_be_stored_is_not_replaced() -> None:
    scene = Scene(backend=Files(disk_img=b"before"))
    client = scene.upload(PutRequest("disk.img", 5)).send(b"after")
    scene.backend.answer = DiskFull(detail="no space")
    client.close()
    assert scene.backend.files == {"disk.img": b"before"}
    assert scene.outcome() == (Outcome.FAILED, "Disk full or allocation exceeded: no space")


def test_digests_are_cancelled_when_the_image_can_not_be_finished() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.img", 3))
    image, digests = SlowWriter(), SlowWriter()
    upload: Any = client.protocol._upload
    upload._writer = image
    client.send(b"abc").close()
    scene.backend.answer = digests
    image.answer()
    digests.answer()
    assert (image.calls, digests.calls) == (["finish"], [])
    image.answer(DiskFull())
    assert (image.calls, digests.calls) == (["finish", "cancel"], ["cancel"])
    assert scene.outcome()[0] is Outcome.FAILED


def test_nothing_is_read_while_a_part_is_being_stored() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.bin"))
    writer = SlowWriter()
    upload: Any = client.protocol._upload
    upload._writer = writer
    client.send(b"a" * (CHUNK_SIZE - 1))
    assert not client.paused
    client.send(b"bc")
    assert client.paused
    assert writer.written == [(0, CHUNK_SIZE + 1)]
    writer.answer()
    assert not client.paused
    client.send(b"d").close()
    assert writer.written[1:] == [(CHUNK_SIZE + 1, 1)]
    writer.answer()
    assert not scene.of(TransferEnded)
    writer.answer()
    assert scene.outcome() == (Outcome.COMPLETE, "")
    assert writer.calls == ["finish"]


class SlowWriter:
    """A writer that answers when the test says so."""

    def __init__(self) -> None:
        self.written: list[tuple[int, int]] = []
        self.calls: list[str] = []
        self._pending: list[Deferred[None]] = []

    def answer(self, error: Exception | None = None) -> None:
        pending = self._pending.pop()
        pending.errback(error) if error is not None else pending.callback(None)

    def write(self, offset: int, data: bytes) -> "Deferred[None]":
        self.written.append((offset, len(data)))
        self._pending.append(Deferred())
        return self._pending[-1]

    def finish(self) -> "Deferred[None]":
        self.calls.append("finish")
        self._pending.append(Deferred())
        return self._pending[-1]

    def cancel(self) -> None:
        self.calls.append("cancel")


@pytest.mark.parametrize(
    ("error", "detail", "reported"),
    [
        (DiskFull(), "Disk full or allocation exceeded", False),
        (OSError(errno.ENOSPC, "full"), "Disk full or allocation exceeded", False),
        (ValueError("a bug"), "Internal error", True),
    ],
)
def test_a_writer_that_fails_is_cancelled(error: Exception, detail: str, reported: bool) -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.bin"))
    writer = SlowWriter()
    upload: Any = client.protocol._upload
    upload._writer = writer
    client.send(bytes(CHUNK_SIZE))
    writer.answer(error)
    assert scene.outcome() == (Outcome.FAILED, detail)
    assert writer.calls == ["cancel"]
    assert client.transport.disconnecting
    assert bool(scene.of(PluginFailed)) is reported


def test_an_answer_that_comes_after_the_end_is_dropped() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.bin"))
    writer = SlowWriter()
    upload: Any = client.protocol._upload
    upload._writer = writer
    client.send(bytes(CHUNK_SIZE))
    scene.reactor.advance(600)
    client.close(ConnectionLost)
    writer.answer()
    assert scene.outcome()[0] is Outcome.TIMED_OUT
    assert writer.calls == ["cancel"]


@pytest.mark.parametrize("reason", [ConnectionDone, ConnectionLost])
def test_an_upload_that_is_cut_off_leaves_the_old_file(reason: type[Exception]) -> None:
    scene = Scene(backend=Files(disk_bin=b"before"))
    scene.upload(PutRequest("disk.bin", 2 * CHUNK_SIZE)).send(bytes(CHUNK_SIZE), b"x").close(reason)
    assert scene.backend.files == {"disk.bin": b"before"}
    outcome, detail = scene.outcome()
    assert outcome is Outcome.STOPPED_BY_PEER
    assert detail.endswith(f"after {CHUNK_SIZE + 1} of {2 * CHUNK_SIZE} bytes")
    assert scene.put(PutRequest("disk.bin", 1)).error == Error.NONE


def test_an_upload_without_a_size_is_whole_only_when_its_client_has_closed_the_connection() -> None:
    scene = Scene()
    scene.upload(PutRequest("disk.bin")).send(b"abc").close(ConnectionLost)
    assert scene.outcome() == (Outcome.STOPPED_BY_PEER, "the connection was lost after 3 bytes")
    assert scene.backend.files == {}


def test_the_largest_image_is_taken() -> None:
    assert Scene().put(PutRequest("disk.bin", MAX_UPLOAD)).error == Error.NONE


def test_an_upload_without_a_size_is_cut_off_where_it_is_too_large() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.bin")).send(*[bytes(CHUNK_SIZE)] * 4, b"x")
    assert scene.outcome() == (Outcome.FAILED, f"it is larger than {MAX_UPLOAD} bytes ([multicast] max-upload)")
    assert client.transport.disconnecting
    assert scene.backend.files == {}


@pytest.mark.parametrize(("timeout", "seconds"), [(0, 600.0), (20, 20.0), (601, 600.0)])
def test_the_timeout_of_the_client_is_limited_by_ours(timeout: int, seconds: float) -> None:
    scene = Scene()
    client = scene.upload(PutRequest("disk.bin", 9, timeout=timeout))
    scene.reactor.advance(seconds - 0.1)
    assert not scene.of(TransferEnded)
    scene.reactor.advance(0.2)
    assert scene.outcome() == (Outcome.TIMED_OUT, f"not complete within {seconds:g} s, after 0 of 9 bytes")
    assert client.transport.disconnecting


def test_a_client_that_does_not_connect_gives_the_port_back() -> None:
    scene = Scene()
    scene.put(PutRequest("disk.bin", 9))
    scene.reactor.advance(31)
    assert scene.outcome()[0] is Outcome.TIMED_OUT
    assert scene.put(PutRequest("disk.bin", 9)).port == 21701


def test_only_the_client_that_requested_the_upload_may_connect_and_only_once() -> None:
    scene = Scene()
    scene.put(PutRequest("disk.bin", 9))
    assert scene.connect("10.9.0.12") is None
    assert scene.connect() is not None
    assert scene.connect() is None
    scene.reactor.advance(20)
    (dropped,) = scene.of(RequestsDropped)
    assert "this port is for the upload of 10.9.0.11" in dropped.reason


READ_ONLY = MulticastSettings(((SERVER, 64494),))
SOME_HOSTS = evolve(WRITABLE, writable_by=networks(["10.9.0.12", "10.9.1.0/24"]))


@pytest.mark.parametrize(
    ("settings", "request_", "reply", "code", "message"),
    [
        (READ_ONLY, PutRequest("a", 1), PutReply(Error.NO_ACCESS), 2, "Uploads are not allowed"),
        (SOME_HOSTS, PutRequest("a", 1), PutReply(Error.NO_ACCESS), 2, "Uploads are not allowed"),
        (
            WRITABLE,
            PutRequest("a", 1, host="10.9.0.12"),
            PutReply(Error.NO_ACCESS, most=MAX_UPLOAD),
            0,
            "Uploads are not allowed for another host, 10.9.0.12",
        ),
        (
            WRITABLE,
            PutRequest("a", MAX_UPLOAD + 1),
            PutReply(Error.TOO_BIG, most=MAX_UPLOAD),
            0,
            "4194305 bytes are more than the 4194304 of [multicast] max-upload",
        ),
        (
            WRITABLE,
            PutRequest("a", 1, mtime=int(WALL_TIME) + 1),
            PutReply(Error.BAD_MTIME, most=MAX_UPLOAD),
            0,
            "The time of the file, 1795917937, is in the future",
        ),
        (WRITABLE, PutRequest("sent", 1), PutReply(Error.TRY_AGAIN, most=MAX_UPLOAD), 0, "The image is being sent"),
        (WRITABLE, PutRequest("", 1), PutReply(Error.INVALID), 4, "Illegal TFTP operation"),
    ],
)
def test_an_upload_that_is_not_allowed_is_refused(
    settings: MulticastSettings, request_: PutRequest, reply: PutReply, code: int, message: str
) -> None:
    scene = Scene(settings, sent={"sent"})
    assert scene.put(request_) == reply
    (event,) = scene.events
    assert isinstance(event, TransferRefused)
    assert (event.code, event.message, event.request.write) == (code, message, True)
    assert not scene.reactor.tcpServers
    scene.events.clear()
    # A request for the status publishes no event. Whether the backend would refuse the upload is not known then.
    if request_.image:
        assert scene.put(evolve(request_, status_only=True)) == reply
    assert not scene.events


def test_a_host_of_the_networks_may_upload() -> None:
    assert Scene(SOME_HOSTS).put(PutRequest("a", 1), ("10.9.1.77", 40000)).error == Error.NONE


@pytest.mark.parametrize(
    ("error", "reply_error"),
    [(DiskFull(), Error.TOO_BIG), (OSError(errno.EIO, "bad disk"), Error.FAILED), (ValueError(), Error.FAILED)],
)
def test_an_error_of_the_backend_refuses_the_upload(error: Exception, reply_error: Error) -> None:
    scene = Scene()
    scene.backend.answer = error
    assert scene.put(PutRequest("a", 1)).error == reply_error
    assert scene.of(TransferRefused)
    assert bool(scene.of(PluginFailed)) is isinstance(error, ValueError)
    assert scene.put(PutRequest("a", 1)).error == Error.NONE


def test_an_upload_without_a_writable_backend_is_refused() -> None:
    scene = Scene()
    scene.backend.writable = False
    assert scene.put(PutRequest("a", 1)) == PutReply(Error.NO_ACCESS)


def test_the_status_has_the_size_of_an_existing_file() -> None:
    scene = Scene(backend=Files(disk_bin=b"before"))
    assert scene.put(PutRequest("disk.bin", status_only=True)) == PutReply(exists=True, size=6, most=MAX_UPLOAD)
    assert scene.put(PutRequest("other.bin", status_only=True)) == PutReply(most=MAX_UPLOAD)
    assert scene.put(PutRequest("disk.bin", 1)) == PutReply(
        address=SERVER, port=21700, exists=True, size=6, most=MAX_UPLOAD
    )


def test_an_image_has_one_upload_at_a_time() -> None:
    scene = Scene()
    opening: Deferred[Any] = Deferred()
    scene.backend.answer = opening
    replies: list[PutReply] = []
    scene.uploads.put(PutRequest("a", 1), PEER, SERVER).addCallback(replies.append)
    assert scene.put(PutRequest("a", 1)).error == Error.TRY_AGAIN
    opening.callback(MemoryBackend(writable=True).replace("a", None))
    assert replies[0].error == Error.NONE
    assert scene.put(PutRequest("a", status_only=True)).error == Error.TRY_AGAIN
    assert scene.put(PutRequest("b", 1)).port == 21701


@pytest.mark.parametrize("method", ["open", "replace"])
def test_an_upload_that_is_opened_after_the_end_does_not_begin(method: str) -> None:
    scene = Scene()
    opening: Deferred[Any] = Deferred()
    services = scene.uploads._services
    setattr(services, f"{method}_file", lambda path, request: opening)
    replies: list[PutReply] = []
    scene.uploads.put(PutRequest("a", 1), PEER, SERVER).addCallback(replies.append)
    scene.uploads.close()
    writer = RecordingWriter()
    opening.callback(writer) if method == "replace" else opening.errback(FileMissing())
    assert ([reply.error for reply in replies], scene.reactor.tcpServers) == ([Error.TRY_AGAIN], [])
    assert writer.cancelled == (method == "replace")


class RecordingWriter:
    """A writer that records whether it was cancelled."""

    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


def test_uploads_are_bounded() -> None:
    scene = Scene(evolve(WRITABLE, sessions=1))
    scene.put(PutRequest("a", 1))
    assert scene.put(PutRequest("b", 1)).error == Error.TRY_AGAIN


def test_ports_in_use_are_skipped() -> None:
    scene = Scene()
    listen, in_use = scene.reactor.listenTCP, {21700, 21701}

    def refuse(port: int, *rest: Any) -> Any:
        if port in in_use:
            raise CannotListenError(SERVER, port, OSError(errno.EADDRINUSE, "in use"))
        return listen(port, *rest)

    scene.reactor.listenTCP = refuse
    assert scene.put(PutRequest("a", 1)).port == 21702
    in_use.add(21702)
    assert scene.put(PutRequest("b", 1)).error == Error.TRY_AGAIN
    in_use.clear()
    assert scene.put(PutRequest("b", 1)).error == Error.NONE


def test_close_ends_every_upload() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("a", 9)).send(b"x")
    scene.put(PutRequest("b", 9))
    scene.uploads.close()
    assert [event.report.outcome for event in scene.of(TransferEnded)] == [Outcome.CANCELLED] * 2
    assert client.transport.disconnecting
    assert not scene.reactor.getDelayedCalls()
    assert scene.backend.files == {}


def test_settings_of_a_reload_are_for_the_next_upload() -> None:
    scene = Scene()
    client = scene.upload(PutRequest("a", 9))
    scene.uploads.use(READ_ONLY)
    assert scene.put(PutRequest("b", 1)).error == Error.NO_ACCESS
    client.send(b"123456789").close()
    assert scene.backend.files == {"a": b"123456789"}
