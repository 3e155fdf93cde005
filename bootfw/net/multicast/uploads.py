"""Images that clients upload: the replies of the master server to their PUTs, and the TCP port of each upload."""

import time
from collections.abc import Callable
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.boot.pluginresult import as_deferred, reported_error
from bootfw.config.settings import MulticastSettings, may_write, port_range
from bootfw.errors import (
    AccessViolation,
    DiskFull,
    FileAlreadyExists,
    FileMissing,
    IllegalOperation,
    TransferError,
)
from bootfw.events import Event, TransferBegun, TransferEnded, TransferRefused
from bootfw.frisbee.digests import DISKS, SUFFIX, ChunkDigests
from bootfw.frisbee.upload import Input, Part, State, UploadSession
from bootfw.interfaces import IReader, IWriter
from bootfw.net.admission import Admission
from bootfw.net.alarm import Alarm
from bootfw.net.multicast.channel import mtime_of, request_for
from bootfw.net.udp.quietport import quiet_port
from bootfw.values import Address, Agreed, TransferReport, TransferRequest
from bootfw.wire.frisbee import blocks_of
from bootfw.wire.frisbeemaster import Error, PutReply, PutRequest

SERVICE = "multicast-upload"
"""The name of the service, in events."""

_THE_CLIENT = "0.0.0.0"
"""The host in a PUT for an upload by the client that sends the PUT."""

_BACKLOG = 4
"""The backlog of the port of an upload, of which one connection is accepted."""

_ERRORS: tuple[tuple[type[TransferError], Error], ...] = (
    (AccessViolation, Error.NO_ACCESS),
    (FileAlreadyExists, Error.INVALID),
    (IllegalOperation, Error.INVALID),
    (DiskFull, Error.TOO_BIG),
)


class _PutRefused(TransferError):
    """A PUT is refused with an error of frisbee's protocol."""

    def __init__(self, error: Error, message: str) -> None:
        self.error = error
        super().__init__(message)


@define(eq=False)
class Services:
    """What the uploads of a server share.

    :param open_file: the open() of the backends.
    :param replace_file: their replace().
    :param is_sending: whether the image of a path is being sent.
    :param wall: seconds since the epoch.
    """

    reactor: Any
    settings: MulticastSettings
    publish: Callable[[Event], None]
    open_file: Callable[[str, TransferRequest], Any]
    replace_file: Callable[[str, TransferRequest], Any]
    is_sending: Callable[[str], bool]
    admission: Admission
    wall: Callable[[], float] = time.time
    alarm: "Alarm[Any]" = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.alarm = Alarm(self.reactor, lambda owner, now: owner.ring(now))


class _Connection(Protocol):
    """The connection of a client that uploads."""

    def __init__(self, upload: "Upload") -> None:
        self._upload = upload

    def connectionMade(self) -> None:
        """See IProtocol."""
        self._upload.handle(Input.CONNECTED)

    def dataReceived(self, data: bytes) -> None:
        """See IProtocol."""
        self._upload.handle(Input.DATA, data)

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """See IProtocol."""
        self._upload.handle(Input.END if reason.check(ConnectionDone) else Input.LOST)


class Upload(Factory):
    """One upload: its port takes one connection, of the client that has requested it.

    :param writer: takes the image.
    :param on_ended: called once when it has ended.
    """

    noisy = False
    _log = Logger()

    def __init__(
        self,
        services: Services,
        request: TransferRequest,
        session: UploadSession,
        writer: IWriter,
        on_ended: Callable[[], object],
    ) -> None:
        self.request = request
        self.session = session
        self.port: Any = None
        """The port that listens; None once the client has connected."""
        self._services = services
        self._writer: IWriter | None = writer
        self._on_ended = on_ended
        self._began = services.reactor.seconds()
        self._agreed = Agreed(tsize=session.announced or None)
        self._connection: _Connection | None = None
        self._digests = ChunkDigests() if request.path.casefold().endswith(DISKS) else None
        self._is_writing = False
        """Whether the writer has not answered yet."""

    @property
    def deadline(self) -> float | None:
        """When ring() is due."""
        return self.session.deadline

    def begin(self, port: Any) -> None:
        """Accept the connection of the client at *port*, whose number is in the reply to its PUT."""
        self.port = port
        self._services.publish(TransferBegun(self._began, self.request, self._agreed))
        self._services.alarm.watch(self)

    def ring(self, now: float) -> float | None:
        """Act on the deadline of the session, and return the next one."""
        self.handle(Input.TICK)
        return self.session.deadline

    def buildProtocol(self, addr: Any) -> Any:
        """See IProtocolFactory. None: it is another client, or a second connection."""
        expected, services = self.request.peer[0], self._services
        if addr.host != expected:
            reason = f"{self.request.path}: this port is for the upload of {expected}"
            services.admission.drop(SERVICE, reason, (addr.host, addr.port), services.reactor.seconds())
            return None
        if self._connection is not None:
            return None
        self._connection = _Connection(self)
        self._stop_listening()
        return self._connection

    def handle(self, event: Input, argument: Any = None) -> None:
        """Give the session an input, and do what it publishes."""
        session = self.session
        if self._has_ended():
            return
        session.handle(event, argument, self._services.reactor.seconds())
        if event is Input.DATA and self._digests is not None:
            self._digests.update(argument)
        self._services.alarm.watch(self)
        if self._has_ended():
            self._end()
        elif not self._is_writing and session.wants is not None:
            self._run(self._store(session.wants), Input.STORED)
        elif not self._is_writing and session.state is State.FINISHING:
            self._run(self._finish(), Input.FINISHED)

    def record(self) -> dict[str, Any]:
        """Return its state for the operator; a ``size`` of 0: the client has not announced it."""
        session = self.session
        return {
            "image": self.request.path,
            "client": self.request.peer[0],
            "state": session.state.value,
            "received": session.received,
            "size": session.announced,
        }

    def _has_ended(self) -> bool:
        return self.session.state is State.ENDED

    def _run(self, work: Any, event: Input) -> None:
        self._is_writing = True
        self._pause_or_resume()
        running: Deferred[None] = Deferred.fromCoroutine(work)
        running.addCallbacks(self._done, self._failed, callbackArgs=(event,))

    def _done(self, answer: None, event: Input) -> None:
        self._is_writing = False
        self.handle(event)
        self._pause_or_resume()

    def _failed(self, failure: Failure) -> None:
        self._is_writing = False
        error = failure.value
        assert error is not None
        services, operation = self._services, f"store {self.request.path}"
        now = services.reactor.seconds()
        reported = reported_error(error, services.publish, now, "the writer of an upload", operation)
        self.handle(Input.FAILED, reported.reason)

    async def _store(self, part: Part) -> None:
        assert self._writer is not None
        await _answer(self._writer.write(part.offset, part.content))

    async def _finish(self) -> None:
        """Have the file get its name, and then its digests. If these can't be stored, the file is as it was."""
        writer = self._writer
        assert writer is not None
        if self._digests is None:
            await _answer(writer.finish())
            self._writer = None
            return
        content = self._digests.result().dump()
        path = self.request.path + SUFFIX
        request = evolve(self.request, filename=path, path=path, options=(("tsize", str(len(content))),))
        digests = await _answer(self._services.replace_file(path, request))
        try:
            await _answer(digests.write(0, content))
            await _answer(writer.finish())
        except BaseException:
            digests.cancel()
            raise
        self._writer = None
        # The digests get their name last: those that are older than their image do not count (ImageEntry.digests).
        await _answer(digests.finish())

    def _pause_or_resume(self) -> None:
        """Read from the connection only while nothing is being stored.

        So a client is not faster than the disk, and what waits is in the buffers of the kernel.
        """
        connection = self._connection
        transport: Any = connection.transport if connection is not None else None
        if transport is None or self.session.state not in (State.RECEIVING, State.STORING):
            return
        if self._is_writing:
            transport.pauseProducing()
        else:
            transport.resumeProducing()

    def _stop_listening(self) -> None:
        port, self.port = self.port, None
        if port is not None:
            port.stopListening()

    def _end(self) -> None:
        services, session, request = self._services, self.session, self.request
        services.alarm.forget(self)
        self._stop_listening()
        connection = self._connection
        if connection is not None and connection.transport is not None:
            connection.transport.abortConnection()  # type: ignore[attr-defined]
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.cancel()
        assert session.outcome is not None
        now = services.reactor.seconds()
        report = TransferReport(
            request,
            self._agreed,
            session.outcome,
            session.detail,
            session.stored,
            blocks_of(session.stored),
            0,
            self._began,
            now,
        )
        services.publish(TransferEnded(now, report))
        self._on_ended()


class Uploads:
    """All images that clients upload.

    :param services: its settings are replaced by use().
    """

    _log = Logger(namespace="bootfw")

    def __init__(self, services: Services) -> None:
        self._services = services
        self._running: dict[str, Upload | None] = {}
        """Path -> its upload; None: it is being opened."""
        self._next = 0
        """The number of the port that is tried next: one that was in use lately is used last."""

    def use(self, settings: MulticastSettings) -> None:
        """Use other settings for the uploads that come from now on."""
        self._services.settings = settings

    def close(self) -> None:
        """End every upload, and refuse those that are being opened."""
        running, self._running = self._running, {}
        for upload in list(running.values()):
            if upload is not None:
                upload.handle(Input.CANCEL, "the server ends it")
        self._services.alarm.stop()

    def records(self) -> list[dict[str, Any]]:
        """Return the state of each upload, for the operator."""
        return [upload.record() for upload in self._running.values() if upload is not None]

    def put(self, request: PutRequest, peer: Address, local: str) -> "Deferred[PutReply]":
        """Return the reply to a PUT.

        :param local: our address that the request has come to.
        """
        return Deferred.fromCoroutine(self._put(request, peer, local))

    async def _put(self, request: PutRequest, peer: Address, local: str) -> PutReply:
        options = {"tsize": request.size, "mtime": request.mtime}
        transfer = evolve(
            request_for(request.image, peer, local),
            write=True,
            options=tuple((name, str(value)) for name, value in options.items() if value),
        )
        most, running = self._services.settings.max_upload, self._running
        try:
            self._check(request, transfer)
            found = await self._existing(transfer)
            if request.status_only:
                return evolve(found, most=most)
            port = await self._begin(request, transfer, local, running)
        except Exception as error:
            reply = self._refusal(error, request, transfer)
            return evolve(reply, most=most) if isinstance(error, _PutRefused) else reply
        return evolve(found, address=local, port=port, most=most)

    def _refusal(self, error: Exception, request: PutRequest, transfer: TransferRequest) -> PutReply:
        services = self._services
        now = services.reactor.seconds()
        reported = reported_error(error, services.publish, now, "the backend", f"replace {transfer.path}")
        if not request.status_only:
            services.publish(TransferRefused(now, transfer, reported.tftp_code, reported.message, reported.detail))
        if isinstance(reported, _PutRefused):
            return PutReply(reported.error)
        return PutReply(next((number for kind, number in _ERRORS if isinstance(reported, kind)), Error.FAILED))

    def _check(self, request: PutRequest, transfer: TransferRequest) -> None:
        """:raise TransferError: the client may not upload this now."""
        settings = self._services.settings
        if not may_write(settings, transfer.peer[0]):
            raise AccessViolation("Uploads are not allowed")
        if request.host not in (_THE_CLIENT, transfer.peer[0]):
            raise _PutRefused(Error.NO_ACCESS, f"Uploads are not allowed for another host, {request.host}")
        if request.size > settings.max_upload:
            raise _PutRefused(
                Error.TOO_BIG, f"{request.size} bytes are more than the {settings.max_upload} of [multicast] max-upload"
            )
        if request.mtime > self._services.wall():
            raise _PutRefused(Error.BAD_MTIME, f"The time of the file, {request.mtime}, is in the future")
        if transfer.path in self._running:
            raise _PutRefused(Error.TRY_AGAIN, "The image is being uploaded")
        if self._services.is_sending(transfer.path):
            raise _PutRefused(Error.TRY_AGAIN, "The image is being sent")

    async def _existing(self, transfer: TransferRequest) -> PutReply:
        """Return the reply with time and size of the image that exists."""
        try:
            reader: IReader = await _answer(
                self._services.open_file(transfer.path, evolve(transfer, write=False, options=()))
            )
        except FileMissing:
            return PutReply()
        try:
            return PutReply(exists=True, mtime=mtime_of(reader), size=reader.size or 0)
        finally:
            reader.close()

    async def _begin(
        self, request: PutRequest, transfer: TransferRequest, local: str, running: dict[str, Upload | None]
    ) -> int:
        """Return the port of a new upload.

        :param running: ``_running`` when the PUT came, which close() replaces.
        :raise Exception: it can't begin.
        """
        services = self._services
        settings, path = services.settings, transfer.path
        self._check_open(running)
        if len(running) >= settings.sessions:
            raise _PutRefused(
                Error.TRY_AGAIN, f"{settings.sessions} images are uploaded already ([multicast] sessions)"
            )
        # The path is taken before the backend answers: another PUT may come for it meanwhile.
        running[path] = None
        try:
            writer: IWriter = await _answer(services.replace_file(path, transfer))
        except BaseException:
            running.pop(path, None)
            raise
        try:
            self._check_open(running)
        except _PutRefused:
            writer.cancel()
            raise
        seconds = min(float(request.timeout) or settings.upload_seconds, settings.upload_seconds)
        session = UploadSession(request.size, settings.max_upload, seconds, services.reactor.seconds())
        upload = Upload(services, transfer, session, writer, lambda: running.pop(path))
        port = self._listen(upload, local)
        if port is None:
            del running[path]
            writer.cancel()
            raise _PutRefused(Error.TRY_AGAIN, f"No port of [multicast] ports, {settings.ports}, is free")
        running[path] = upload
        upload.begin(port)
        return int(port.getHost().port)

    def _check_open(self, running: dict[str, Upload | None]) -> None:
        """:raise TransferError: close() was called while a backend was answering."""
        if running is not self._running:
            raise _PutRefused(Error.TRY_AGAIN, "The server is stopping")

    def _listen(self, upload: Upload, local: str) -> Any:
        """Return a port that listens; None: none is free."""
        low, high = port_range(self._services.settings.ports)
        count = high - low + 1
        for _ in range(count):
            number = low + self._next % count
            self._next += 1
            try:
                return quiet_port(self._services.reactor.listenTCP, number, upload, _BACKLOG, local)
            except CannotListenError:
                continue
        return None


async def _answer(result: Any) -> Any:
    """Wait for the result of a plugin's method, if it comes later."""
    pending = as_deferred(result)
    return result if pending is None else await pending
