"""A kit that nothing can fail would be worth nothing: each promise is broken once, and the kit says so."""

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import define
from kitfailures import failures
from narrowing import of_type, present
from zope.interface import implementer

from bootfw.api import (
    Address,
    Agreed,
    BootFile,
    BootRefused,
    BootRequest,
    Client,
    Event,
    FileMissing,
    IAdaptiveWatchdog,
    IBackend,
    IBootFileResolver,
    IBootObserver,
    IClientAware,
    IDirectoryBackend,
    IPerClientBackend,
    IReader,
    IWatchdog,
    IWatchdogPolicy,
    IWritableBackend,
    IWriter,
    MemoryReader,
    TransferBegun,
    TransferError,
    TransferRequest,
)
from bootfw.backends.memory import MemoryBackend
from bootfw.testing import (
    BackendContract,
    ClientAwareContract,
    DirectoryBackendContract,
    PerClientBackendContract,
    ReplacingBackendContract,
    ResolverContract,
    StaticBackendContract,
    WatchdogContract,
    WritableBackendContract,
)


class GoodBackend(MemoryBackend):
    """A good one to be broken by subclasses."""


@implementer(IReader)
class Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def close(self) -> None:
        pass


class BackendWithReader(GoodBackend):
    reader: Callable[[bytes], IReader] = Reader

    def open(self, path: str, request: TransferRequest) -> IReader:
        reader = super().open(path, request)
        return self.reader(of_type(bytes, reader.read(0, present(reader.size))))


class Sequential(Reader):
    position = 0

    def read(self, offset: int, length: int) -> bytes:
        self.position += length
        return self.data[self.position - length : self.position]


class WrongSize(Reader):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.size += 1


class ReaderWithoutClose:
    def __init__(self, data: bytes) -> None:
        self.read = Reader(data).read
        self.size = len(data)


class Leaky(Reader):
    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.fd = os.open("/dev/null", os.O_RDONLY)
        LEAKED.append(self.fd)


LEAKED: list[int] = []


@pytest.fixture(autouse=True)
def _close_leaked() -> Iterator[None]:
    yield
    while LEAKED:
        os.close(LEAKED.pop())


class RaisesKeyError(GoodBackend):
    def open(self, path: str, request: TransferRequest) -> IReader:
        return MemoryReader(self.files[path])


class SaysTheHostPath(GoodBackend):
    def open(self, path: str, request: TransferRequest) -> IReader:
        with suppress(FileMissing):
            return super().open(path, request)
        raise FileMissing(f"[Errno 2] No such file: {os.getcwd()}/{path[:10]}")


class ServesDirectories(GoodBackend):
    def open(self, path: str, request: TransferRequest) -> IReader:
        if path and any(name.startswith(path + "/") for name in self.files):
            return MemoryReader(b"listing")
        return super().open(path, request)


class Escapes(GoodBackend):
    def open(self, path: str, request: TransferRequest) -> IReader:
        if path.startswith("../"):
            return MemoryReader(b"root:x:0:0")
        return super().open(path, request)


class SharesReader(GoodBackend):
    shared: dict[str, IReader] = {}

    def open(self, path: str, request: TransferRequest) -> IReader:
        reader = super().open(path, request)
        return self.shared.setdefault(path, Closing(of_type(bytes, reader.read(0, 9999))))


class Closing(Reader):
    def close(self) -> None:
        self.data = b""


def backend_with(reader: Callable[[bytes], object]) -> type[BackendWithReader]:
    return type("Own", (BackendWithReader,), {"reader": reader})


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (GoodBackend, set()),
        (backend_with(Reader), set()),
        (backend_with(Sequential), {"reads_any_place_in_any_order_and_again"}),
        (backend_with(WrongSize), {"readers_provide_the_interface_and_know_their_size"}),
        (backend_with(ReaderWithoutClose), {"readers_provide_the_interface_and_know_their_size"}),
        (backend_with(Leaky), {"nothing_is_left_open"}),
        (RaisesKeyError, {"missing_files_are_missing_files", "paths_that_lead_nowhere_are_refused_as_transfers_are"}),
        (SaysTheHostPath, {"messages_are_fit_for_the_peer"}),
        (ServesDirectories, {"directories_are_no_files"}),
        (Escapes, {"dots_stop_at_the_root"}),
        (SharesReader, {"two_readers_of_a_file_do_not_disturb_each_other"}),
    ],
)
def test_backend_kit(broken: type[MemoryBackend], found: set[str]) -> None:
    class Kit(BackendContract):
        def make_backend(self) -> MemoryBackend:
            return broken(self.files)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_backend_kit_requires_the_interface() -> None:
    class NoBackend:
        pass

    @implementer(IBackend)
    class NoOpen:  # type: ignore[misc]  # on purpose
        pass

    class Kit(BackendContract):
        broken: type[object]

        def make_backend(self) -> object:  # type: ignore[override]  # on purpose
            return self.broken()

    for broken in (NoBackend, NoOpen):
        kit = Kit()
        kit.broken = broken
        assert "provides_the_interface" in failures(kit)


class DependsOnClient(GoodBackend):
    """Gives one client something else."""

    def open(self, path: str, request: TransferRequest) -> IReader:
        if request.client.ipxe and path in self.files:
            return MemoryReader(b"for iPXE")
        return super().open(path, request)


class MissingForOneClient(GoodBackend):
    """Has another file for one client only."""

    def open(self, path: str, request: TransferRequest) -> IReader:
        return MemoryReader(b"") if request.http_url else super().open(path, request)


class AsynchronousOpen(GoodBackend):
    async def open(self, path: str, request: TransferRequest) -> IReader:  # type: ignore[override]  # on purpose
        return super().open(path, request)


class AsynchronousRead(BackendWithReader):
    @implementer(IReader)
    class reader(Reader):
        async def read(self, offset: int, length: int) -> bytes:  # type: ignore[override]  # on purpose
            return super().read(offset, length)


@implementer(IPerClientBackend)
class DeclaresBoth(GoodBackend):
    """Declares two interfaces that exclude each other."""


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (GoodBackend, set()),
        (DependsOnClient, {"every_client_gets_the_same"}),
        (MissingForOneClient, {"every_client_gets_the_same"}),
        (AsynchronousOpen, {"results_are_returned_directly", "missing_files_are_reported_directly"}),
        (AsynchronousRead, {"results_are_returned_directly"}),
        (DeclaresBoth, {"provides_the_uniform_interface"}),
    ],
)
def test_static_backend_kit(broken: type[MemoryBackend], found: set[str]) -> None:
    class Kit(StaticBackendContract):
        def make_backend(self) -> MemoryBackend:
            return broken(self.files)

    assert failures(Kit()) == found


@implementer(IDirectoryBackend)
class DirectoryOfFiles(GoodBackend):
    """The files lie in a directory, and are served out of memory."""

    def __init__(self, files: Mapping[str, bytes], root: Path, moved: str = "", lost: str = "") -> None:
        super().__init__({moved + name: data for name, data in files.items()})
        self.root = root
        for name, data in files.items():
            if name != lost:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(data)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, False),
        ({"moved": "below/"}, True),
        ({"lost": "empty"}, True),
    ],
)
def test_directory_backend_kit(changes: dict[str, str], found: bool, tmp_path: Path) -> None:
    class Kit(DirectoryBackendContract):
        def make_backend(self) -> DirectoryOfFiles:
            return DirectoryOfFiles(self.files, tmp_path, **changes)

    assert ("files_of_the_directory_are_served_under_their_own_paths" in failures(Kit())) is found


def test_directory_backend_kit_needs_a_path() -> None:
    class Kit(DirectoryBackendContract):
        def make_backend(self) -> MemoryBackend:  # type: ignore[override]  # on purpose
            return MemoryBackend(self.files)

    assert "provides_the_directory_interface" in failures(Kit())


@implementer(IPerClientBackend)
class PerClientBackend:
    """Makes its files of the client; *remembers* whether the first client decides for all."""

    def __init__(self, files: Mapping[str, bytes], remembers: bool) -> None:
        self.files, self.remembers = files, remembers
        self.first: str | None = None

    def open(self, path: str, request: TransferRequest) -> IReader:
        files = MemoryBackend(self.files)
        if self.first is None or not self.remembers:
            self.first = request.client.mac
        return MemoryReader(self.first.encode()) if self.first else files.open(path, request)


@pytest.mark.parametrize(
    ("remembers", "found"),
    [
        (False, set()),
        (
            True,
            {
                "one_client_does_not_change_what_another_gets",
                "readers_of_several_clients_do_not_disturb_each_other",
            },
        ),
    ],
)
def test_per_client_backend_kit(remembers: bool, found: set[str]) -> None:
    class Kit(PerClientBackendContract):
        def make_backend(self) -> PerClientBackend:
            return PerClientBackend(self.files, remembers)

    assert failures(Kit()) == found


def test_per_client_backend_kit_needs_the_interface() -> None:
    class Kit(PerClientBackendContract):
        def make_backend(self) -> MemoryBackend:
            return MemoryBackend(self.files)

    assert failures(Kit()) == {"provides_the_interface_of_files_per_client"}


@implementer(IBootObserver, IClientAware)
class LooksUpPeer:
    """Looks up the peer of a transfer."""

    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        self.lookup = lookup

    def observe(self, event: Event) -> None:
        if isinstance(event, TransferBegun):
            self.use(self.lookup(event.request.peer))

    def use(self, client: Client) -> None:
        pass


class LooksUpAtOnce(LooksUpPeer):
    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        lookup(("192.0.2.9", 2070))
        super().set_client_lookup(lookup)


class NeedsUUID(LooksUpPeer):
    def use(self, client: Client) -> None:
        present(client.uuid).upper()


class OtherPort(LooksUpPeer):
    def observe(self, event: Event) -> None:
        if isinstance(event, TransferBegun):
            self.lookup((event.request.peer[0], 0))


@implementer(IClientAware)
class NoObserver:
    def set_client_lookup(self, lookup: Callable[[Address], Client]) -> None:
        pass


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (LooksUpPeer, set()),
        (LooksUpAtOnce, {"nothing_is_looked_up_before_the_first_event"}),
        (NeedsUUID, {"a_client_of_whom_only_the_address_is_known_is_no_error"}),
        (OtherPort, {"a_client_of_whom_only_the_address_is_known_is_no_error"}),
        (NoObserver, {"provides_the_client_aware_interface"}),
    ],
)
def test_client_aware_kit(broken: type[object], found: set[str]) -> None:
    class Kit(ClientAwareContract):
        def make_plugin(self) -> object:  # type: ignore[override]  # on purpose
            return broken()

    assert failures(Kit()) == found


@implementer(IWriter)
class ImmediateWriter:
    """Stores under the name from the first block on."""

    def __init__(self, files: dict[str, bytes], name: str) -> None:
        self.files, self.name = files, name
        files[name] = b""

    def write(self, offset: int, data: bytes) -> None:
        self.files[self.name] = self.files[self.name][:offset] + data

    def finish(self) -> None:
        pass

    def cancel(self) -> None:
        pass


class VisibleAtOnce(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        super().create(path, request)
        return ImmediateWriter(self.files, path)


class Replaces(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        writer = super().create("replacement-" + path, request)
        self.files[path] = b"replaced"
        return writer


class LastOneWins(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        writer = super().create(path, request)

        @implementer(IWriter)
        class Writer:
            def write(_, offset: int, data: bytes) -> Awaitable[object] | None:
                return writer.write(offset, data)

            def finish(_) -> None:
                self.files.pop(path, None)
                writer.finish()

            def cancel(_) -> None:
                writer.cancel()

        return Writer()


class LeaksDescriptors(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        LEAKED.append(os.open("/dev/null", os.O_RDONLY))
        return super().create(path, request)


class RaisesValueError(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        try:
            return super().create(path, request)
        except TransferError as error:
            raise ValueError from error


class PutsItElsewhere(GoodBackend):
    def create(self, path: str, request: TransferRequest) -> IWriter:
        return super().create("away/" + path if ".." in path else path, request)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (GoodBackend, set()),
        (
            VisibleAtOnce,
            {"upload_is_there_when_it_is_finished_and_not_before", "cancelled_upload_leaves_the_name_free"},
        ),
        (Replaces, {"files_are_not_replaced"}),
        (LastOneWins, {"of_two_uploads_of_a_name_one_wins"}),
        (LeaksDescriptors, {"uploads_leave_nothing_open"}),
        (RaisesValueError, {"files_are_not_replaced", "names_that_can_not_be_written_are_refused_as_transfers_are"}),
        (PutsItElsewhere, set()),
    ],
)
def test_writable_backend_kit(broken: type[MemoryBackend], found: set[str]) -> None:
    class Kit(WritableBackendContract):
        def make_backend(self) -> MemoryBackend:
            return broken(self.files, writable=True)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


class ReplacesAtOnce(MemoryBackend):
    def replace(self, path: str, request: Any) -> IWriter:
        self.files.pop(path, None)
        return super().replace(path, request)


class TakesNewFilesOnly(MemoryBackend):
    def replace(self, path: str, request: Any) -> IWriter:
        return self.create(path, request)


class KeepsTheFirst(MemoryBackend):
    def replace(self, path: str, request: Any) -> IWriter:
        return super().replace(path, request) if path in self.files else self.create(path, request)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (MemoryBackend, set()),
        (
            ReplacesAtOnce,
            {
                "a_file_is_replaced_when_the_upload_is_finished_and_not_before",
                "a_cancelled_replacement_leaves_the_file_as_it_was",
            },
        ),
        (TakesNewFilesOnly, {"a_file_is_replaced_when_the_upload_is_finished_and_not_before"}),
        (KeepsTheFirst, {"the_replacement_that_is_finished_last_stays"}),
    ],
)
def test_replacing_backend_kit(broken: type[MemoryBackend], found: set[str]) -> None:
    class Kit(ReplacingBackendContract):
        def make_backend(self) -> MemoryBackend:
            return broken(self.files, writable=True)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_writable_backend_kit_requires_the_interface() -> None:
    @implementer(IBackend)
    class ReadOnly:
        open = None

    class Kit(WritableBackendContract):
        def make_backend(self) -> ReadOnly:  # type: ignore[override]  # on purpose
            return ReadOnly()

    assert {"provides_the_writable_interface", "uploads_do_not_escape"} <= failures(Kit())
    assert not IWritableBackend.implementedBy(ReadOnly)


@implementer(IBootFileResolver)
class Resolver:
    def __init__(self) -> None:
        self.calls = 0

    def resolve(self, request: BootRequest) -> BootFile | Awaitable[BootFile] | None:
        self.calls += 1
        return self.decide(request)

    def decide(self, request: BootRequest) -> BootFile | None:
        return None


def resolver(decide: Callable[[Resolver, BootRequest], object]) -> type[Resolver]:
    return type("Broken", (Resolver,), {"decide": decide})


def refuse(reason: str) -> Callable[[Resolver, BootRequest], object]:
    def decide(self: Resolver, request: BootRequest) -> None:
        raise BootRefused(reason)

    return decide


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Resolver, set()),
        (resolver(lambda self, request: BootFile("http://{server}/{mac}/{uuid}.ipxe")), set()),
        (resolver(refuse("not today")), set()),
        (resolver(refuse("")), {"refusals_say_why"}),
        (resolver(lambda self, request: "pxelinux.0"), {"answers_every_client_with_a_file_or_none_or_a_refusal"}),
        (resolver(lambda self, request: BootFile("")), {"files_have_names_that_can_be_filled_in"}),
        (
            resolver(lambda self, request: BootFile(None)),  # type: ignore[arg-type]  # on purpose
            {"files_have_names_that_can_be_filled_in"},
        ),
        (
            resolver(lambda self, request: BootFile(request.uuid.upper())),  # type: ignore[union-attr]  # on purpose
            {"answers_every_client_with_a_file_or_none_or_a_refusal"},
        ),
        (
            resolver(lambda self, request: BootFile(str(self.calls))),
            {"one_client_does_not_change_the_answer_to_another"},
        ),
    ],
)
def test_resolver_kit(broken: type[Resolver], found: set[str]) -> None:
    class Kit(ResolverContract):
        def make_resolver(self) -> Resolver:
            return broken()

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_resolver_kit_waits() -> None:
    class Slow(Resolver):
        async def resolve(self, request: BootRequest) -> BootFile:
            return BootFile("file")

    class Kit(ResolverContract):
        def make_resolver(self) -> Slow:
            return Slow()

    assert failures(Kit()) == set()


@implementer(IWatchdog)
class Watchdog:
    def __init__(self, waits: Sequence[float] = (1.0, 2.0), agreed: Agreed | None = None) -> None:
        self.waits = waits

    def wait(self, attempt: int) -> float | None:
        return self.waits[attempt - 1] if attempt <= len(self.waits) else None


class Endless(Watchdog):
    def wait(self, attempt: int) -> float | None:
        return 1.0


class WaitsAgain(Watchdog):
    def wait(self, attempt: int) -> float | None:
        return None if attempt == 3 else 1.0


class CountsCalls(Watchdog):
    calls = 0

    def wait(self, attempt: int) -> float | None:
        self.calls += 1
        return 1.0 if self.calls < 5 else None


@implementer(IAdaptiveWatchdog)
class LearnsFromProgress(Watchdog):
    def progressed(self, seconds: float | None) -> None:
        if seconds is not None:
            self.waits = (seconds,)


@implementer(IWatchdogPolicy)
@define
class Policy:
    make: Callable[[], Any]

    def begin(self, agreed: Agreed) -> Any:
        return self.make()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Watchdog, set()),
        (lambda: Watchdog(()), {"first_wait_is_never_none", "it_begins_anew_after_progress"}),
        (lambda: Watchdog((0.0,)), {"waits_are_seconds"}),
        (lambda: Watchdog((1.0, -1.0)), {"waits_are_seconds"}),
        (lambda: Watchdog((float("inf"),)), {"waits_are_seconds", "it_gives_up_in_finite_time"}),
        (lambda: Watchdog((10_000.0, 10_000.0)), {"it_gives_up_in_finite_time"}),
        (Endless, {"it_gives_up_in_finite_time", "given_up_is_given_up"}),
        (WaitsAgain, {"given_up_is_given_up"}),
        (CountsCalls, {"asking_changes_nothing"}),
        (LearnsFromProgress, {"waits_are_seconds"}),
        (object, {"provides_the_interfaces"}),
    ],
)
def test_watchdog_kit(make: Callable[[], Any], found: set[str]) -> None:
    class Kit(WatchdogContract):
        def make_policy(self) -> Policy:
            return Policy(make)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_watchdog_kit_tries_the_client_s_wishes() -> None:
    @implementer(IWatchdogPolicy)
    class ObeysClient:
        def begin(self, agreed: Agreed) -> Watchdog:
            return Watchdog((float(agreed.timeout or 1),) * 100)

    class Kit(WatchdogContract):
        def make_policy(self) -> ObeysClient:
            return ObeysClient()

    assert failures(Kit()) == {"it_gives_up_in_finite_time"}


def test_watchdog_kit_detects_shared_state() -> None:
    @implementer(IAdaptiveWatchdog)
    class SharingWatchdog(Watchdog):
        def __init__(self, shared_waits: list[float]) -> None:
            super().__init__(shared_waits)
            self.shared_waits = shared_waits

        def progressed(self, seconds: float | None) -> None:
            if len(self.shared_waits) < 3:
                self.shared_waits.append(4.0)

    @implementer(IWatchdogPolicy)
    class SharingPolicy:
        """One transfer learns, and all get the lesson."""

        def __init__(self) -> None:
            self.waits = [1.0, 2.0]

        def begin(self, agreed: Agreed) -> SharingWatchdog:
            return SharingWatchdog(self.waits)

    class Kit(WatchdogContract):
        def make_policy(self) -> SharingPolicy:
            return SharingPolicy()

    assert failures(Kit()) == {"watchdogs_of_one_policy_are_independent"}
