"""LayeredBackend: backends that are searched in order."""

import traceback
from typing import Any

import pytest
from attrs import define, field
from narrowing import of_type, present
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer, implementer_only
from zope.interface.verify import verifyObject

from bootfw.boot.backends import LayeredBackend
from bootfw.boot.secondstage import SecondStageFinder
from bootfw.errors import AccessViolation, DiskFull, FileMissing
from bootfw.events import Event, PluginBlocked
from bootfw.interfaces import (
    IBackend,
    IReplacingBackend,
    IShareableReader,
    IUniformBackend,
    IVersionedBackend,
    IWritableBackend,
    IWriter,
)
from bootfw.readers import MemoryReader
from bootfw.values import TransferRequest


@implementer(IBackend)
@define
class Backend:
    """Has the same answer for every call. An exception is raised, and a function is called, for its result."""

    answer: object
    calls: list[tuple[str, TransferRequest]] = field(factory=list)

    def open(self, path: str, request: TransferRequest) -> Any:
        self.calls.append((path, request))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer() if callable(self.answer) else self.answer


@implementer(IWritableBackend)
class Writable(Backend):
    create = Backend.open


@implementer(IReplacingBackend)
class Replacing(Writable):
    replace = create = Backend.open


@implementer(IWriter)
class Writer:
    def write(self, offset: int, data: bytes) -> None:
        """Store."""

    def finish(self) -> None:
        """Be complete."""

    def cancel(self) -> None:
        """Forget it."""


READER, WRITER = MemoryReader(b"content"), Writer()


def layers(*backends: Any) -> LayeredBackend:
    return LayeredBackend([(f"backend[{number}]", backend) for number, backend in enumerate(backends)])


REQUEST = TransferRequest("path", "path", ("192.0.2.7", 1024))


def result_of(deferred: Deferred["MemoryReader | SharedReader"]) -> "MemoryReader | Failure | SharedReader":
    results: list[MemoryReader | Failure | SharedReader] = []
    deferred.addBoth(results.append)
    assert len(results) == 1
    return results[0]


def test_provides_the_interface() -> None:
    verifyObject(IWritableBackend, layers())


def test_first_backend_with_the_file_answers_at_once() -> None:
    first, second, third = Backend(FileMissing()), Backend(READER), Backend("never")
    assert layers(first, second, third).open("path", REQUEST) is READER
    assert first.calls == second.calls == [("path", REQUEST)]
    assert third.calls == []


@pytest.mark.parametrize("backends", [(), (Backend(FileMissing()), Backend(FileMissing()))])
def test_file_missing_in_every_backend_raises(backends: tuple[Backend, ...]) -> None:
    with pytest.raises(FileMissing):
        layers(*backends).open("path", REQUEST)


@pytest.mark.parametrize("error", [AccessViolation(), OSError(5, "I/O"), ZeroDivisionError()])
def test_other_errors_stop_the_search(error: AccessViolation | OSError | ZeroDivisionError) -> None:
    last = Backend("never")
    with pytest.raises(type(error)) as caught:
        layers(Backend(FileMissing()), Backend(error), last).open("path", REQUEST)
    assert caught.value is error
    assert last.calls == []
    assert "The backend was backend[1]." in "".join(traceback.format_exception(caught.value))


def test_asynchronous_backends_are_tried_in_order() -> None:
    slow: Deferred[MemoryReader] = Deferred()
    waiting: Deferred[MemoryReader] = Deferred()
    answer = layers(Backend(lambda: slow), Backend(lambda: waiting), Backend(READER)).open("path", REQUEST)
    assert isinstance(answer, Deferred)
    slow.errback(FileMissing())
    assert not answer.called or answer.paused
    waiting.errback(FileMissing())
    assert result_of(answer) is READER


def test_coroutine_backend_is_awaited() -> None:
    async def missing() -> None:
        raise FileMissing

    async def found() -> MemoryReader:
        return await succeed(READER)

    assert result_of(layers(Backend(missing), Backend(found)).open("path", REQUEST)) is READER


def test_file_missing_in_every_asynchronous_backend_fails() -> None:
    slow: Deferred[MemoryReader] = Deferred()
    answer = layers(Backend(FileMissing()), Backend(lambda: slow)).open("path", REQUEST)
    slow.errback(FileMissing())
    assert of_type(Failure, result_of(answer)).check(FileMissing)


def test_error_of_an_asynchronous_backend_stops_the_search() -> None:
    slow: Deferred[MemoryReader] = Deferred()
    last = Backend("never")
    answer = layers(Backend(lambda: slow), last).open("path", REQUEST)
    slow.errback(ZeroDivisionError())
    failure = result_of(answer)
    assert isinstance(failure, Failure)
    assert failure.check(ZeroDivisionError)
    assert present(failure.value).__notes__ == ["The backend was backend[0]."]
    assert last.calls == []


def test_cancelling_reaches_the_pending_backend() -> None:
    cancelled: list[Deferred[MemoryReader]] = []
    slow: Deferred[MemoryReader] = Deferred()
    second: Deferred[MemoryReader] = Deferred(cancelled.append)
    answer = layers(Backend(lambda: slow), Backend(lambda: second)).open("path", REQUEST)
    slow.errback(FileMissing())
    answer.cancel()
    assert cancelled == [second]
    assert of_type(Failure, result_of(answer)).check(CancelledError)


def test_uploads_go_to_the_first_writable_backend_that_takes_them() -> None:
    readonly, first, second = Backend("never"), Writable(FileMissing()), Writable(WRITER)
    assert layers(readonly, first, second).create("path", REQUEST) is WRITER
    assert readonly.calls == []
    with pytest.raises(DiskFull):
        layers(Writable(DiskFull()), second).create("path", REQUEST)


def test_replacing_uploads_go_to_the_first_replacing_backend_that_takes_them() -> None:
    readonly, second = Backend("never"), Replacing(WRITER)
    assert layers(readonly, Writable("never"), Replacing(FileMissing()), second).replace("path", REQUEST) is WRITER
    assert readonly.calls == []
    with pytest.raises(AccessViolation):
        layers(readonly, Writable(WRITER)).replace("path", REQUEST)


@pytest.mark.parametrize("backends", [(), (Backend("never"),), (Writable(FileMissing()),)])
def test_upload_without_a_writable_backend_is_refused(backends: tuple[Backend | Writable, ...]) -> None:
    with pytest.raises(AccessViolation):
        layers(*backends).create("path", REQUEST)


@implementer(IUniformBackend)
@define
class Uniform(Backend):
    """A backend whose files are the same for every client."""


def request_of(ignore_case: bool = False, write: bool = False) -> TransferRequest:
    return TransferRequest("path", "path", ("192.0.2.7", 1024), ignore_case=ignore_case, write=write)


def open_or_none(layered: LayeredBackend, path: str, request: TransferRequest) -> MemoryReader | None:
    """The reader, or None if the file is missing."""
    try:
        found: MemoryReader = layered.open(path, request)
    except FileMissing:
        return None
    return found


def test_a_file_missing_for_one_request_is_not_looked_up_for_the_others() -> None:
    first, second = Uniform(FileMissing()), Uniform(FileMissing())
    layered = layers(first, second)
    layered.begin_batch()
    assert [open_or_none(layered, path, request_of()) for path in ("a", "b", "a", "a")] == [None] * 4
    assert [path for path, _ in first.calls] == [path for path, _ in second.calls] == ["a", "b"]


def test_a_later_request_looks_the_file_up_again() -> None:
    backend = Uniform(FileMissing())
    layered = layers(backend)
    for _ in range(2):
        layered.begin_batch()
        open_or_none(layered, "a", request_of())
        layered.end_batch()
    open_or_none(layered, "a", request_of())
    open_or_none(layered, "a", request_of())
    assert len(backend.calls) == 4


def test_an_existing_file_is_opened_for_each_request() -> None:
    backend = Uniform(lambda: MemoryReader(b""))
    layered = layers(Uniform(FileMissing()), backend)
    layered.begin_batch()
    assert layered.open("a", request_of()) is not layered.open("a", request_of())
    assert len(backend.calls) == 2


@implementer(IShareableReader)
@define
class SharedReader:
    """A reader that counts its users."""

    users: int = 1
    size = 0

    def read(self, offset: int, length: int) -> bytes:
        return b""

    def share(self) -> "SharedReader":
        self.users += 1
        return self

    def close(self) -> None:
        self.users -= 1


def test_a_shared_file_is_opened_once_and_stays_open_for_the_others() -> None:
    backend = Uniform(SharedReader)
    layered = layers(Uniform(FileMissing()), backend)
    layered.begin_batch()
    reader = layered.open("a", request_of())
    reader.close()
    assert layered.open("a", request_of()) is reader
    assert layered.open("b", request_of()) is not reader
    assert [path for path, _ in backend.calls] == ["a", "b"]
    layered.end_batch()
    assert reader.users == 1
    assert layered.open("a", request_of()) is not reader
    reader.close()
    assert reader.users == 0


def test_a_reader_that_can_not_be_closed_does_not_keep_others_open() -> None:
    class Broken(SharedReader):
        def close(self) -> None:
            super().close()
            raise OSError("not closed")

    readers: list[Broken] = []

    def open_reader() -> Broken:
        readers.append(Broken())
        return readers[-1]

    layered = layers(Uniform(open_reader))
    layered.begin_batch()
    for path in "abc":
        layered.open(path, request_of())
    with pytest.raises(OSError, match="not closed"):
        layered.end_batch()
    assert [reader.users for reader in readers] == [1, 1, 1]


def test_backends_that_depend_on_the_client_do_not_share_readers() -> None:
    last = Backend(SharedReader)
    layered = layers(Uniform(FileMissing()), last)
    layered.begin_batch()
    assert layered.open("a", request_of()) is not layered.open("a", request_of())
    uniform = layers(Uniform(SharedReader))
    uniform.begin_batch()
    reader = uniform.open("a", request_of())
    assert uniform.open("a", request_of(ignore_case=True)) is not reader
    assert uniform.open("a", request_of()) is reader


def test_a_backend_that_depends_on_the_client_is_called_each_time() -> None:
    first, by_client, last = Uniform(FileMissing()), Backend(FileMissing()), Uniform(SharedReader)
    layered = layers(first, by_client, last)
    layered.begin_batch()
    assert layered.open("a", request_of()) is layered.open("a", request_of())
    assert [len(backend.calls) for backend in (first, by_client, last)] == [1, 2, 1]


def test_a_backend_that_depends_on_the_client_is_called_even_if_later_ones_lack_the_file() -> None:
    by_client, last = Backend(FileMissing()), Uniform(FileMissing())
    layered = layers(by_client, last)
    layered.begin_batch()
    assert [open_or_none(layered, "a", request_of()) for _ in range(2)] == [None, None]
    assert [len(backend.calls) for backend in (by_client, last)] == [2, 1]


def test_a_missing_file_can_be_created() -> None:
    @implementer(IWritableBackend)
    class WritableUniform(Uniform):
        def create(self, path: str, request: TransferRequest) -> Writer:
            return WRITER

    layered = layers(WritableUniform(FileMissing()))
    layered.begin_batch()
    assert open_or_none(layered, "a", request_of()) is None
    assert layered.create("a", request_of(write=True)) is WRITER


def test_deferred_readers_are_not_shared() -> None:
    first, second = Uniform(lambda: fail(FileMissing())), Uniform(lambda: succeed(SharedReader()))
    layered = layers(first, second)
    layered.begin_batch()
    assert result_of(layered.open("a", request_of())) is not result_of(layered.open("a", request_of()))
    assert [len(backend.calls) for backend in (first, second)] == [2, 2]


def test_missing_file_is_looked_up_again_if_case_is_ignored() -> None:
    @implementer_only(IUniformBackend)
    @define
    class CaseIgnoring(Uniform):
        def open(self, path: str, request: TransferRequest) -> MemoryReader:
            if not request.ignore_case:
                raise FileMissing()
            return READER

    layered = layers(CaseIgnoring(None))
    layered.begin_batch()
    assert open_or_none(layered, "A", request_of()) is None
    assert open_or_none(layered, "A", request_of(ignore_case=True)) is READER
    assert open_or_none(layered, "A", request_of()) is None


def test_the_reason_of_a_backend_before_a_deferred_and_of_one_after_it_is_kept() -> None:
    """A search is an object only from the first Deferred on; that must have the reason of the backends before."""
    late: Deferred[MemoryReader] = Deferred()
    after = Backend(FileMissing(detail="third"))
    answer = layers(Backend(FileMissing(detail="first")), Backend(late), after).open("path", REQUEST)
    assert after.calls == []
    late.errback(FileMissing(detail="second"))
    assert after.calls == [("path", REQUEST)]
    assert of_type(FileMissing, of_type(Failure, result_of(answer)).value).detail == "first"
    late = Deferred()
    answer = layers(Backend(FileMissing()), Backend(late), Backend(FileMissing(detail="third"))).open("path", REQUEST)
    late.errback(FileMissing())
    assert of_type(FileMissing, of_type(Failure, result_of(answer)).value).detail == "third"


# Versions


@implementer(IVersionedBackend)
class Versioned(Backend):
    version = Backend.open


def test_the_version_is_that_of_the_backend_that_has_the_file() -> None:
    first, second, third = Versioned(FileMissing()), Versioned("two"), Versioned("never")
    layered = layers(first, second, third)
    verifyObject(IVersionedBackend, layered)
    assert layered.version("path", REQUEST) == "two"
    assert first.calls == second.calls == [("path", REQUEST)]
    assert third.calls == []


@pytest.mark.parametrize(
    "backends",
    [
        (),
        (Versioned(FileMissing()),),
        (Versioned(None), Versioned("another file")),
        (Backend(FileMissing()), Versioned("perhaps another file")),
        (Versioned(AccessViolation()), Versioned("another file")),
        (Versioned(ZeroDivisionError()), Versioned("another file")),
    ],
)
def test_version_is_unknown_if_an_earlier_backend_cannot_tell(backends: tuple[Backend, ...]) -> None:
    assert layers(*backends).version("path", REQUEST) is None


def test_a_boot_program_is_remembered_when_it_is_opened_or_its_version_is_looked_up() -> None:
    for method in ("open", "version"):
        finder = SecondStageFinder(lambda: 7.0)
        backend = Versioned(READER)
        layered = LayeredBackend([("a", Versioned(FileMissing())), ("b", backend)], finder)
        request = TransferRequest("/x/shimx64.efi", "x/shimx64.efi", ("192.0.2.7", 1024))
        getattr(layered, method)(request.path, request)
        program = present(finder.last_program("192.0.2.7", ""))
        assert (program.path, program.backend) == ("x/shimx64.efi", 1)
        backend.calls.clear()
        getattr(layered, method)("grubx64.efi", REQUEST)
        assert [path for path, _ in backend.calls] == ["grubx64.efi"]


def test_second_stage_file_has_the_version_of_the_found_file() -> None:
    found = {"x/shimx64.efi": "1", "x/grubx64.efi": "2"}

    @implementer(IVersionedBackend)
    class Files:
        def open(self, path: str, request: TransferRequest) -> Any:
            raise NotImplementedError

        def version(self, path: str, request: TransferRequest) -> Any:
            if path not in found:
                raise FileMissing()
            return found[path]

    layered = LayeredBackend([("files", Files())], SecondStageFinder(lambda: 7.0))
    assert [layered.version(path, REQUEST) for path in ("grubx64.efi", "x/shimx64.efi", "grubx64.efi")] == [
        None,
        "1",
        "2",
    ]


def test_a_version_that_blocks_is_reported() -> None:
    now, events = [0.0], list[Event]()

    def slow() -> str:
        now[0] += 0.5
        return "one"

    layered = LayeredBackend([("slow one", Versioned(slow))], publish=events.append, seconds=lambda: now[0])
    assert layered.version("path", REQUEST) == "one"
    (event,) = events
    assert of_type(PluginBlocked, event).plugin == "backend slow one"
