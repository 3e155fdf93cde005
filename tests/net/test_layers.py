"""Backends in layers."""

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
    """Answers every call with *answer*: raised when it is an exception, called when it can be."""

    answer: object
    asked: list[tuple[str, TransferRequest]] = field(factory=list)

    def open(self, path: str, request: TransferRequest) -> Any:
        self.asked.append((path, request))
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


def result_of(deferred: Deferred["MemoryReader | Sharing"]) -> "MemoryReader | Failure | Sharing":
    results: list[MemoryReader | Failure | Sharing] = []
    deferred.addBoth(results.append)
    assert len(results) == 1
    return results[0]


def test_provides_the_interface() -> None:
    verifyObject(IWritableBackend, layers())


def test_first_backend_with_the_file_answers_at_once() -> None:
    first, second, third = Backend(FileMissing()), Backend(READER), Backend("never")
    assert layers(first, second, third).open("path", REQUEST) is READER
    assert first.asked == second.asked == [("path", REQUEST)]
    assert third.asked == []


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
    assert last.asked == []
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
    assert last.asked == []


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
    assert readonly.asked == []
    with pytest.raises(DiskFull):
        layers(Writable(DiskFull()), second).create("path", REQUEST)


def test_uploads_that_replace_go_to_the_first_backend_that_can_and_takes_them() -> None:
    others, second = Backend("never"), Replacing(WRITER)
    assert layers(others, Writable("never"), Replacing(FileMissing()), second).replace("path", REQUEST) is WRITER
    assert others.asked == []
    with pytest.raises(AccessViolation):
        layers(others, Writable(WRITER)).replace("path", REQUEST)


@pytest.mark.parametrize("backends", [(), (Backend("never"),), (Writable(FileMissing()),)])
def test_upload_without_a_writable_backend_is_refused(backends: tuple[Backend | Writable, ...]) -> None:
    with pytest.raises(AccessViolation):
        layers(*backends).create("path", REQUEST)


@implementer(IUniformBackend)
@define
class Alike(Backend):
    """Gives everybody the same."""


def asking(ignore_case: bool = False, write: bool = False) -> TransferRequest:
    return TransferRequest("path", "path", ("192.0.2.7", 1024), ignore_case=ignore_case, write=write)


def missed(layered: LayeredBackend, path: str, request: TransferRequest) -> MemoryReader | None:
    try:
        found: MemoryReader = layered.open(path, request)
    except FileMissing:
        return None
    return found


def test_a_file_missing_for_one_request_is_not_looked_up_for_the_others() -> None:
    first, second = Alike(FileMissing()), Alike(FileMissing())
    layered = layers(first, second)
    layered.begin_batch()
    assert [missed(layered, path, asking()) for path in ("a", "b", "a", "a")] == [None] * 4
    assert [path for path, _ in first.asked] == [path for path, _ in second.asked] == ["a", "b"]


def test_a_later_request_looks_the_file_up_again() -> None:
    backend = Alike(FileMissing())
    layered = layers(backend)
    for _ in range(2):
        layered.begin_batch()
        missed(layered, "a", asking())
        layered.end_batch()
    missed(layered, "a", asking())
    missed(layered, "a", asking())
    assert len(backend.asked) == 4


def test_an_existing_file_is_opened_for_each_request() -> None:
    backend = Alike(lambda: MemoryReader(b""))
    layered = layers(Alike(FileMissing()), backend)
    layered.begin_batch()
    assert layered.open("a", asking()) is not layered.open("a", asking())
    assert len(backend.asked) == 2


@implementer(IShareableReader)
@define
class Sharing:
    """A reader that counts its users."""

    users: int = 1
    size = 0

    def read(self, offset: int, length: int) -> bytes:
        return b""

    def share(self) -> "Sharing":
        self.users += 1
        return self

    def close(self) -> None:
        self.users -= 1


def test_a_shared_file_is_opened_once_and_stays_open_for_the_others() -> None:
    backend = Alike(Sharing)
    layered = layers(Alike(FileMissing()), backend)
    layered.begin_batch()
    reader = layered.open("a", asking())
    reader.close()
    assert layered.open("a", asking()) is reader
    assert layered.open("b", asking()) is not reader
    assert [path for path, _ in backend.asked] == ["a", "b"]
    layered.end_batch()
    assert reader.users == 1
    assert layered.open("a", asking()) is not reader
    reader.close()
    assert reader.users == 0


def test_a_reader_that_can_not_be_closed_does_not_keep_others_open() -> None:
    class Broken(Sharing):
        def close(self) -> None:
            super().close()
            raise OSError("not closed")

    given: list[Broken] = []

    def give() -> Broken:
        given.append(Broken())
        return given[-1]

    layered = layers(Alike(give))
    layered.begin_batch()
    for path in "abc":
        layered.open(path, asking())
    with pytest.raises(OSError, match="not closed"):
        layered.end_batch()
    assert [reader.users for reader in given] == [1, 1, 1]


def test_backends_that_depend_on_the_client_do_not_share() -> None:
    last = Backend(Sharing)
    layered = layers(Alike(FileMissing()), last)
    layered.begin_batch()
    assert layered.open("a", asking()) is not layered.open("a", asking())
    alike = layers(Alike(Sharing))
    alike.begin_batch()
    reader = alike.open("a", asking())
    assert alike.open("a", asking(ignore_case=True)) is not reader
    assert alike.open("a", asking()) is reader


def test_a_backend_that_depends_on_the_client_is_called_each_time() -> None:
    first, looks, last = Alike(FileMissing()), Backend(FileMissing()), Alike(Sharing)
    layered = layers(first, looks, last)
    layered.begin_batch()
    assert layered.open("a", asking()) is layered.open("a", asking())
    assert [len(backend.asked) for backend in (first, looks, last)] == [1, 2, 1]


def test_a_backend_that_depends_on_the_client_is_called_though_later_ones_have_nothing() -> None:
    looks, last = Backend(FileMissing()), Alike(FileMissing())
    layered = layers(looks, last)
    layered.begin_batch()
    assert [missed(layered, "a", asking()) for _ in range(2)] == [None, None]
    assert [len(backend.asked) for backend in (looks, last)] == [2, 1]


def test_a_missing_file_can_be_created() -> None:
    @implementer(IWritableBackend)
    class Taking(Alike):
        def create(self, path: str, request: TransferRequest) -> Writer:
            return WRITER

    layered = layers(Taking(FileMissing()))
    layered.begin_batch()
    assert missed(layered, "a", asking()) is None
    assert layered.create("a", asking(write=True)) is WRITER


def test_deferred_readers_are_not_shared() -> None:
    first, second = Alike(lambda: fail(FileMissing())), Alike(lambda: succeed(Sharing()))
    layered = layers(first, second)
    layered.begin_batch()
    assert result_of(layered.open("a", asking())) is not result_of(layered.open("a", asking()))
    assert [len(backend.asked) for backend in (first, second)] == [2, 2]


def test_missing_file_is_looked_up_again_if_case_is_ignored() -> None:
    @implementer_only(IUniformBackend)
    @define
    class Lenient(Alike):
        def open(self, path: str, request: TransferRequest) -> MemoryReader:
            if not request.ignore_case:
                raise FileMissing()
            return READER

    layered = layers(Lenient(None))
    layered.begin_batch()
    assert missed(layered, "A", asking()) is None
    assert missed(layered, "A", asking(ignore_case=True)) is READER
    assert missed(layered, "A", asking()) is None


def test_the_reason_of_a_backend_before_a_deferred_and_of_one_after_it_is_kept() -> None:
    """A search begins without an object for it; what it knew by then must be in the object."""
    late: Deferred[MemoryReader] = Deferred()
    after = Backend(FileMissing(detail="third"))
    answer = layers(Backend(FileMissing(detail="first")), Backend(late), after).open("path", REQUEST)
    assert after.asked == []
    late.errback(FileMissing(detail="second"))
    assert after.asked == [("path", REQUEST)]
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
    assert first.asked == second.asked == [("path", REQUEST)]
    assert third.asked == []


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


def test_a_boot_program_whose_version_is_known_is_remembered_as_one_that_is_opened() -> None:
    for method in ("open", "version"):
        finder = SecondStageFinder(lambda: 7.0)
        backend = Versioned(READER)
        layered = LayeredBackend([("a", Versioned(FileMissing())), ("b", backend)], finder)
        request = TransferRequest("/x/shimx64.efi", "x/shimx64.efi", ("192.0.2.7", 1024))
        getattr(layered, method)(request.path, request)
        program = present(finder.last_program("192.0.2.7", ""))
        assert (program.path, program.backend) == ("x/shimx64.efi", 1)
        backend.asked.clear()
        getattr(layered, method)("grubx64.efi", REQUEST)
        assert [path for path, _ in backend.asked] == ["grubx64.efi"]


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
