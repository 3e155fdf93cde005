"""A kit that nothing can fail would be worth nothing: each promise is broken once, and the kit says so."""

import os
from contextlib import suppress

import pytest
from attrs import define
from zope.interface import directlyProvides, implementer

from bootfw.api import (
    BootFile,
    BootRefused,
    FileMissing,
    IAdaptiveWatchdog,
    IBackend,
    IBootFileResolver,
    IReader,
    IWatchdog,
    IWatchdogPolicy,
    IWritableBackend,
    IWriter,
    MemoryReader,
    TransferError,
)
from bootfw.backends.memory import MemoryBackend
from bootfw.testing import (
    BackendContract,
    ResolverContract,
    WatchdogContract,
    WritableBackendContract,
)


def failures(kit):
    """Names of the kit's tests that fail."""
    failed = set()
    for name in dir(kit):
        if name.startswith("test_"):
            try:
                getattr(kit, name)()
            except Exception:
                failed.add(name.removeprefix("test_"))
    return failed


class Kept(MemoryBackend):
    """A good one to be broken by subclasses."""


@implementer(IReader)
class Reader:
    def __init__(self, data):
        self.data, self.size = data, len(data)

    def read(self, offset, length):
        return self.data[offset : offset + length]

    def close(self):
        pass


class OwnReader(Kept):
    reader = Reader

    def open(self, path, request):
        reader = super().open(path, request)
        return self.reader(reader.read(0, reader.size))


class Sequential(Reader):
    at = 0

    def read(self, offset, length):
        self.at += length
        return self.data[self.at - length : self.at]


class WrongSize(Reader):
    def __init__(self, data):
        super().__init__(data)
        self.size += 1


class ReaderWithoutClose:
    def __init__(self, data):
        self.read = Reader(data).read
        self.size = len(data)


class Leaky(Reader):
    def __init__(self, data):
        super().__init__(data)
        self.fd = os.open("/dev/null", os.O_RDONLY)
        LEAKED.append(self.fd)


LEAKED = []


@pytest.fixture(autouse=True)
def _close_leaked():
    yield
    while LEAKED:
        os.close(LEAKED.pop())


class RaisesKeyError(Kept):
    def open(self, path, request):
        return MemoryReader(self.files[path])


class SaysTheHostPath(Kept):
    def open(self, path, request):
        with suppress(FileMissing):
            return super().open(path, request)
        raise FileMissing(f"[Errno 2] No such file: {os.getcwd()}/{path[:10]}")


class ServesDirectories(Kept):
    def open(self, path, request):
        if path and any(name.startswith(path + "/") for name in self.files):
            return MemoryReader(b"listing")
        return super().open(path, request)


class Escapes(Kept):
    def open(self, path, request):
        if path.startswith("../"):
            return MemoryReader(b"root:x:0:0")
        return super().open(path, request)


class SharesReader(Kept):
    shared = {}

    def open(self, path, request):
        reader = super().open(path, request)
        return self.shared.setdefault(path, Closing(reader.read(0, 9999)))


class Closing(Reader):
    def close(self):
        self.data = b""


def own(reader):
    return type("Own", (OwnReader,), {"reader": reader})


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Kept, set()),
        (own(Reader), set()),
        (own(Sequential), {"reads_any_place_in_any_order_and_again"}),
        (own(WrongSize), {"readers_provide_the_interface_and_know_their_size"}),
        (own(ReaderWithoutClose), {"readers_provide_the_interface_and_know_their_size"}),
        (own(Leaky), {"nothing_is_left_open"}),
        (RaisesKeyError, {"missing_files_are_missing_files", "paths_that_lead_nowhere_are_refused_as_transfers_are"}),
        (SaysTheHostPath, {"messages_are_fit_for_the_peer"}),
        (ServesDirectories, {"directories_are_no_files"}),
        (Escapes, {"dots_stop_at_the_root"}),
        (SharesReader, {"two_readers_of_a_file_do_not_disturb_each_other"}),
    ],
)
def test_backend_kit(broken, found):
    class Kit(BackendContract):
        def make_backend(self):
            return broken(self.files)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_backend_kit_asks_for_the_interface():
    class NoBackend:
        pass

    @implementer(IBackend)
    class NoOpen:
        pass

    for broken in (NoBackend, NoOpen):
        kit = BackendContract()
        kit.make_backend = broken
        assert "provides_the_interface" in failures(kit)


@implementer(IWriter)
class AtOnce:
    """Stores under the name from the first block on."""

    def __init__(self, files, name):
        self.files, self.name = files, name
        files[name] = b""

    def write(self, offset, data):
        self.files[self.name] = self.files[self.name][:offset] + data

    def finish(self):
        pass

    def cancel(self):
        pass


class VisibleAtOnce(Kept):
    def create(self, path, request):
        super().create(path, request)
        return AtOnce(self.files, path)


class Replaces(Kept):
    def create(self, path, request):
        writer = super().create("replacement-" + path, request)
        self.files[path] = b"replaced"
        return writer


class LastOneWins(Kept):
    def create(self, path, request):
        writer = super().create(path, request)

        class Writer:
            write, cancel = writer.write, writer.cancel

            def finish(_):
                self.files.pop(path, None)
                writer.finish()

        return implementer(IWriter)(Writer)()


class LeaksDescriptors(Kept):
    def create(self, path, request):
        LEAKED.append(os.open("/dev/null", os.O_RDONLY))
        return super().create(path, request)


class RaisesValueError(Kept):
    def create(self, path, request):
        try:
            return super().create(path, request)
        except TransferError as error:
            raise ValueError from error


class PutsItElsewhere(Kept):
    def create(self, path, request):
        return super().create("away/" + path if ".." in path else path, request)


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Kept, set()),
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
def test_writable_backend_kit(broken, found):
    class Kit(WritableBackendContract):
        def make_backend(self):
            return broken(self.files, writable=True)

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_writable_backend_kit_asks_for_the_interface():
    @implementer(IBackend)
    class ReadOnly:
        open = None

    kit = WritableBackendContract()
    kit.make_backend = ReadOnly
    assert {"provides_the_writable_interface", "uploads_do_not_escape"} <= failures(kit)
    assert not IWritableBackend.implementedBy(ReadOnly)


@implementer(IBootFileResolver)
class Resolver:
    def __init__(self):
        self.asked = 0

    def resolve(self, request):
        self.asked += 1
        return self.decide(request)

    def decide(self, request):
        return None


def resolver(decide):
    return type("Broken", (Resolver,), {"decide": decide})


def refuse(reason):
    def decide(self, request):
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
        (resolver(lambda self, request: BootFile(None)), {"files_have_names_that_can_be_filled_in"}),
        (
            resolver(lambda self, request: BootFile(request.uuid.upper())),
            {"answers_every_client_with_a_file_or_none_or_a_refusal"},
        ),
        (
            resolver(lambda self, request: BootFile(str(self.asked))),
            {"one_client_does_not_change_the_answer_to_another"},
        ),
    ],
)
def test_resolver_kit(broken, found):
    kit = ResolverContract()
    kit.make_resolver = broken
    failed = failures(kit)
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_resolver_kit_waits():
    class Slow(Resolver):
        async def resolve(self, request):
            return BootFile("file")

    kit = ResolverContract()
    kit.make_resolver = Slow
    assert failures(kit) == set()


@implementer(IWatchdog)
class Dog:
    def __init__(self, waits=(1.0, 2.0), agreed=None):
        self.waits = waits

    def wait(self, attempt):
        return self.waits[attempt - 1] if attempt <= len(self.waits) else None


class Endless(Dog):
    def wait(self, attempt):
        return 1.0


class Wakes(Dog):
    def wait(self, attempt):
        return None if attempt == 3 else 1.0


class Counts(Dog):
    calls = 0

    def wait(self, attempt):
        self.calls += 1
        return 1.0 if self.calls < 5 else None


@implementer(IAdaptiveWatchdog)
class Learns(Dog):
    def progressed(self, seconds):
        if seconds is not None:
            self.waits = (seconds,)


@implementer(IWatchdogPolicy)
@define
class Policy:
    make: object

    def begin(self, agreed):
        return self.make()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (Dog, set()),
        (lambda: Dog(()), {"first_wait_is_never_none", "it_begins_anew_after_progress"}),
        (lambda: Dog((0.0,)), {"waits_are_seconds"}),
        (lambda: Dog((1.0, -1.0)), {"waits_are_seconds"}),
        (lambda: Dog((float("inf"),)), {"waits_are_seconds", "it_gives_up_in_finite_time"}),
        (lambda: Dog((10_000.0, 10_000.0)), {"it_gives_up_in_finite_time"}),
        (Endless, {"it_gives_up_in_finite_time", "given_up_is_given_up"}),
        (Wakes, {"given_up_is_given_up"}),
        (Counts, {"asking_changes_nothing"}),
        (Learns, {"waits_are_seconds"}),
        (object, {"provides_the_interfaces"}),
    ],
)
def test_watchdog_kit(make, found):
    kit = WatchdogContract()
    kit.make_policy = lambda: Policy(make)
    failed = failures(kit)
    assert found <= failed
    assert bool(found) == bool(failed), failed


def test_watchdog_kit_tries_the_client_s_wishes():
    class Obeys:
        def begin(self, agreed):
            return Dog((float(agreed.timeout or 1),) * 100)

    kit = WatchdogContract()
    kit.make_policy = implementer(IWatchdogPolicy)(Obeys)
    assert failures(kit) == {"it_gives_up_in_finite_time"}


def test_watchdog_kit_tells_what_watchdogs_share():
    class Common:
        """One transfer learns, and all get the lesson."""

        def __init__(self):
            self.waits = [1.0, 2.0]

        def begin(self, agreed):
            watchdog = Dog(self.waits)
            watchdog.progressed = lambda seconds: self.waits.append(4.0) if len(self.waits) < 3 else None
            directlyProvides(watchdog, IAdaptiveWatchdog)
            return watchdog

    kit = WatchdogContract()
    kit.make_policy = implementer(IWatchdogPolicy)(Common)
    assert failures(kit) == {"watchdogs_of_one_policy_are_independent"}
