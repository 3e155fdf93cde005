"""The kits of optional abilities, observers and plugins: each promise is broken once, and the kit says so."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field, frozen
from kitfailures import failures
from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from bootfw.api import (
    Agreed,
    BootFile,
    BootRefused,
    BootRequest,
    Event,
    Finding,
    IBatchObserver,
    IBootFileResolver,
    IBootObserver,
    IFileReader,
    ILintable,
    IListableBackend,
    IListableResolver,
    IOperable,
    IReader,
    ISelfChecking,
    IStartable,
    ITimeoutWatchdog,
    IUniformResolver,
    IVersionedBackend,
    IWatchdogPolicy,
    ListedBootFile,
    MemoryReader,
    StateError,
    TransferBegun,
    TransferRequest,
    boot_plugin,
)
from bootfw.backends.memory import MemoryBackend
from bootfw.interfaces import IBootPlugin
from bootfw.stores.sqlite import SqliteStore
from bootfw.testing import (
    BackendContract,
    LintableContract,
    ListableBackendContract,
    ListableResolverContract,
    ObserverContract,
    OfflineStoreContract,
    OperableContract,
    PluginContract,
    SelfCheckingContract,
    StartableContract,
    UniformResolverContract,
    VersionedBackendContract,
    WatchdogContract,
)


@implementer(IBootObserver)
class Observer:
    def observe(self, event: Event) -> None:
        pass


class KnowsTransfersOnly(Observer):
    def observe(self, event: Event) -> None:
        if not isinstance(event, TransferBegun):
            raise NotImplementedError(event)


class RefusesLaterKinds(Observer):
    def observe(self, event: Event) -> None:
        if not type(event).__module__.endswith(".events"):
            raise TypeError(event)


class WritesASCII(Observer):
    def observe(self, event: Event) -> None:
        str(event).encode("ascii")


@implementer(IBatchObserver)
class OneByOne(Observer):
    def observe_many(self, events: Sequence[Event]) -> None:
        assert len(events) == 1


class BatchesOnly(OneByOne):
    def observe(self, event: Event) -> None:
        raise NotImplementedError

    def observe_many(self, events: Sequence[Event]) -> None:
        pass


@implementer(IBootObserver)
class Deaf:
    observe = None


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Observer, set()),
        (KnowsTransfersOnly, {"every_kind_of_event_is_accepted", "events_are_accepted_one_by_one"}),
        (RefusesLaterKinds, {"event_of_a_later_version_is_accepted"}),
        (WritesASCII, {"every_kind_of_event_is_accepted"}),
        (OneByOne, {"many_events_at_once_are_accepted"}),
        (BatchesOnly, {"events_are_accepted_one_by_one"}),
        (Deaf, {"provides_the_interface"}),
    ],
)
def test_observer_kit(broken: type[Any], found: set[str]) -> None:
    class Kit(ObserverContract):
        def make_observer(self) -> Any:
            return broken()

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


@implementer(IStartable)
class Starts:
    running = False

    def start(self, publish: Callable[[Event], None]) -> None:
        self.running = True

    def close(self) -> Deferred[None] | None:
        self.running = False
        return None


class StartsOnce(Starts):
    started = False

    def start(self, publish: Callable[[Event], None]) -> None:
        if self.started:
            raise StateError("started")
        self.started = True


class NeverCloses(Starts):
    def close(self) -> Deferred[None]:
        return Deferred()


class PublishesText(Starts):
    def start(self, publish: Callable[[Any], None]) -> None:
        publish("started")


@implementer(IStartable)
class StartsOnly(Starts):
    close = None  # type: ignore[assignment]  # on purpose


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (Starts, set()),
        (StartsOnce, {"starts_again_after_each_stop"}),
        (NeverCloses, {"starts_again_after_each_stop", "what_it_publishes_at_the_start_are_events"}),
        (PublishesText, {"what_it_publishes_at_the_start_are_events"}),
        (StartsOnly, {"provides_the_startable_interface"}),
    ],
)
def test_startable_kit(broken: type[Any], found: set[str]) -> None:
    class Kit(StartableContract):
        def make_plugin(self) -> Any:
            return broken()

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


def raising(error: BaseException) -> Callable[[Mapping[str, object]], object]:
    def operation(arguments: Mapping[str, object]) -> None:
        raise error

    return operation


@pytest.mark.parametrize(
    ("operations", "found"),
    [
        ({"list": lambda arguments: []}, set()),
        ({"list": lambda arguments: succeed([{"mac": "52:54:00:12:34:56"}])}, set()),
        ({"list": raising(StateError("no MAC"))}, set()),
        ({}, {"commands_have_names"}),
        ({"": lambda arguments: []}, {"commands_have_names"}),
        ({"list": None}, {"commands_have_names"}),
        ({"list": raising(KeyError("mac"))}, {"wrong_arguments_give_records_or_an_error_for_the_operator"}),
        ({"list": raising(StateError(""))}, {"wrong_arguments_give_records_or_an_error_for_the_operator"}),
        ({"list": lambda arguments: "none"}, {"wrong_arguments_give_records_or_an_error_for_the_operator"}),
        ({"list": lambda arguments: ["one"]}, {"wrong_arguments_give_records_or_an_error_for_the_operator"}),
        ({"list": lambda arguments: [{"data": b""}]}, {"wrong_arguments_give_records_or_an_error_for_the_operator"}),
    ],
)
def test_operable_kit(operations: Mapping[str, Any], found: set[str]) -> None:
    @implementer(IOperable)
    class Resolver:
        def operations(self) -> Mapping[str, Any]:
            return operations

    class Kit(OperableContract):
        def make_resolver(self) -> Resolver:
            return Resolver()

    failed = failures(Kit())
    assert found <= failed
    assert bool(found) == bool(failed), failed


@implementer(IBootFileResolver)
@frozen
class StaticResolver:
    """Gives every client the same file."""

    file: str
    blocks: int = field(default=1, validator=lambda resolver, attribute, value: value > 0 or raising(ValueError())({}))

    def resolve(self, request: BootRequest) -> BootFile:
        return BootFile(self.file)


@implementer(IBootPlugin)
@define
class TakesAnything:
    provides = IBootFileResolver
    summary: str = "Takes any option."
    plugin_object: object = None

    def configure(self, options: Mapping[str, object], context: object) -> object:
        return self.plugin_object or StaticResolver("boot.ipxe")


class Crashes(TakesAnything):
    def configure(self, options: Mapping[str, object], context: object) -> object:
        if "no-such-option" in options:
            raise KeyError("no-such-option")
        return super().configure(options, context)


class LacksResolve:
    pass


@pytest.mark.parametrize(
    ("plugin", "found"),
    [
        (boot_plugin(IBootFileResolver, StaticResolver), set()),
        (boot_plugin(IBootFileResolver, StaticResolver, " "), {"has_a_summary_of_one_line"}),
        (boot_plugin(IBootFileResolver, StaticResolver, "two\nlines"), {"has_a_summary_of_one_line"}),
        (
            boot_plugin(IReader, StaticResolver),
            {"provides_the_interface", "makes_an_object_with_all_members_of_its_interfaces"},
        ),
        (TakesAnything(), {"unknown_options_are_refused", "wrong_options_are_refused"}),
        (Crashes(), {"unknown_options_are_refused"}),
        (TakesAnything(plugin_object=StaticResolver("x")), {"each_use_in_a_configuration_makes_another_object"}),
        (TakesAnything(plugin_object=LacksResolve()), {"makes_an_object_with_all_members_of_its_interfaces"}),
    ],
)
def test_plugin_kit(plugin: Any, found: set[str]) -> None:
    class Kit(PluginContract):
        options = {"file": "boot.ipxe"}
        mistakes = {"file": 1, "blocks": 0}

    kit = Kit()
    kit.plugin = plugin
    failed = failures(kit)
    assert found <= failed
    assert bool(found) == bool(failed), failed


@implementer(ISelfChecking, ILintable)
@define
class CheckedPlugin:
    problems: Sequence[str] = ("",)
    findings: Sequence[Any] = ()
    calls: int = 0

    def problem(self) -> str:
        self.calls += 1
        return self.problems[min(self.calls, len(self.problems)) - 1]

    def lint(self) -> Iterable[Finding]:
        self.calls += 1
        return self.findings[self.calls - 1 :] if self.calls > 1 and len(self.findings) > 1 else self.findings


FINDING = Finding("/srv/boot/a.j2:3", "template", "the block does not end", "add {% endif %}")


@pytest.mark.parametrize(
    ("good", "useless", "found"),
    [
        (CheckedPlugin(), CheckedPlugin(("there is no /srv/boot",)), set()),
        (CheckedPlugin(("bad",)), CheckedPlugin(("bad",)), {"nothing_is_said_when_there_is_no_problem"}),
        (CheckedPlugin(), CheckedPlugin(), {"the_problem_is_one_line"}),
        (CheckedPlugin(), CheckedPlugin(("one\ntwo",)), {"the_problem_is_one_line"}),
        (CheckedPlugin(), CheckedPlugin(("bad", "bad", "")), {"the_problem_is_there_as_long_as_it_lasts"}),
    ],
)
def test_self_checking_kit(good: CheckedPlugin, useless: CheckedPlugin, found: set[str]) -> None:
    class Kit(SelfCheckingContract):
        def make_plugin(self) -> CheckedPlugin:
            return good

        def make_useless_plugin(self) -> CheckedPlugin:
            return useless

    assert failures(Kit()) == found


@pytest.mark.parametrize(
    ("good", "mistaken", "found"),
    [
        ((), (FINDING,), set()),
        ((FINDING,), (FINDING,), {"files_without_a_mistake_have_no_findings"}),
        ((), (), {"findings_say_where_what_and_what_would_be_right"}),
        ((), ("wrong",), {"findings_say_where_what_and_what_would_be_right"}),
        ((), (evolve(FINDING, remedy=""),), {"findings_say_where_what_and_what_would_be_right"}),
        ((), (evolve(FINDING, reason="one\ntwo"),), {"findings_say_where_what_and_what_would_be_right"}),
        ((), (FINDING, evolve(FINDING, rule="other")), {"findings_are_the_same_each_time"}),
    ],
)
def test_lintable_kit(good: Sequence[Any], mistaken: Sequence[Any], found: set[str]) -> None:
    class Kit(LintableContract):
        def make_plugin(self) -> CheckedPlugin:
            return CheckedPlugin(findings=good)

        def make_mistaken_plugin(self) -> CheckedPlugin:
            return CheckedPlugin(findings=mistaken)

    assert failures(Kit()) == found


@implementer(IListableBackend, IVersionedBackend)
class ListedBackend(MemoryBackend):
    more_names: Sequence[str] = ()
    denied: Sequence[str] = ()
    versions: Callable[[str], object] = staticmethod(lambda path: None)

    def names(self) -> list[str]:
        return [*super().names(), *self.more_names]

    def has(self, path: str) -> bool:
        return path not in self.denied and (super().has(path) or path in self.more_names)

    def version(self, path: str, request: TransferRequest) -> Any:
        return self.versions(path)


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({}, set()),
        ({"more_names": ["gone"]}, {"listed_files_can_be_fetched"}),
        ({"denied": ["empty"]}, {"listed_files_can_be_fetched"}),
        ({"names": None}, {"provides_the_listable_interface", "listed_files_can_be_fetched"}),
    ],
)
def test_listable_backend_kit(members: dict[str, Any], found: set[str]) -> None:
    class Kit(ListableBackendContract):
        def make_backend(self) -> Any:
            return type("Broken", (ListedBackend,), members)(self.files)

    assert failures(Kit()) == found


def test_listable_backend_kit_detects_what_is_opened_and_denied() -> None:
    class Opens(ListedBackend):
        def open(self, path: str, request: Any) -> IReader:
            return MemoryReader(b"") if path == "dev/zero" else super().open(path, request)

    class Kit(ListableBackendContract):
        def make_backend(self) -> Opens:
            return Opens(self.files)

    assert "what_it_has_not_is_missing" in failures(Kit())


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        (lambda path: None, set()),
        (
            lambda path: 1,
            {"version_is_the_identity_of_the_reader", "version_of_a_missing_file_is_none_or_it_is_missing"},
        ),
        (lambda path: [] if "such" not in path else None, {"version_is_the_identity_of_the_reader"}),
        (lambda path: path if "such" in path else None, {"version_of_a_missing_file_is_none_or_it_is_missing"}),
    ],
)
def test_versioned_backend_kit(versions: Callable[[str], object], found: set[str]) -> None:
    class Kit(VersionedBackendContract):
        def make_backend(self) -> Any:
            return type("Broken", (ListedBackend,), {"versions": staticmethod(versions)})(self.files)

    assert failures(Kit()) == found


@implementer(IFileReader)
@define
class DescriptorOfAnother:
    """read() and fileno() have different bytes."""

    data: bytes
    file_content: bytes
    identity: object = None
    start: int = 0
    file: int = field(init=False)

    @property
    def size(self) -> int:
        return len(self.data)

    @file.default
    def _opened(self) -> int:
        file = os.memfd_create("shown")
        os.pwrite(file, self.file_content, 0)
        return file

    def read(self, offset: int, length: int) -> bytes:
        return self.data[offset : offset + length]

    def fileno(self) -> int:
        return self.file

    def close(self) -> None:
        os.close(self.file)


@pytest.mark.parametrize(("file_content", "found"), [(b"0123", set()), (b"1234", {"readers_have_what_they_declare"})])
def test_backend_kit_reads_the_descriptor_of_a_reader(file_content: bytes, found: set[str]) -> None:
    class BackendOfDescriptors(MemoryBackend):
        def open(self, path: str, request: Any) -> Any:
            super().open(path, request).close()
            return DescriptorOfAnother(b"0123", file_content)

    class Kit(BackendContract):
        files = {"file": b"0123"}

        def make_backend(self) -> BackendOfDescriptors:
            return BackendOfDescriptors(self.files)

    assert failures(Kit()) == found


@implementer(IUniformResolver, IListableResolver)
@define
class ChoosingResolver:
    choose: Callable[[BootRequest], Any]
    more_names: Sequence[Any] = (ListedBootFile(BootFile("boot.ipxe")),)

    def resolve(self, request: BootRequest) -> Any:
        return self.choose(request)

    def boot_files(self) -> Iterable[ListedBootFile]:
        return self.more_names


def refuse_servers(request: BootRequest) -> BootFile:
    if request.server == "198.51.100.9":
        raise BootRefused("not here")
    return BootFile("boot.ipxe")


async def asynchronous(request: BootRequest) -> BootFile:
    return BootFile("boot.ipxe")


@pytest.mark.parametrize(
    ("choose", "found"),
    [
        (lambda request: BootFile("boot.ipxe"), set()),
        (lambda request: BootFile(f"{request.architecture}-{request.ipxe}-{request.http}"), set()),
        (lambda request: BootFile(f"{request.mac}."), {"clients_that_differ_in_nothing_else_get_the_same"}),
        (lambda request: BootFile(f"{request.persona}."), {"clients_that_differ_in_nothing_else_get_the_same"}),
        (refuse_servers, {"clients_that_differ_in_nothing_else_get_the_same"}),
        (asynchronous, {"answers_are_returned_directly"}),
        (lambda request: succeed(BootFile("boot.ipxe")), {"answers_are_returned_directly"}),
    ],
)
def test_uniform_resolver_kit(choose: Callable[[BootRequest], Any], found: set[str]) -> None:
    class Kit(UniformResolverContract):
        def make_resolver(self) -> ChoosingResolver:
            return ChoosingResolver(choose)

    assert failures(Kit()) == found


@pytest.mark.parametrize(
    ("file", "listed", "found"),
    [
        ("boot.ipxe", [ListedBootFile(BootFile("boot.ipxe"), "arm64-uefi")], set()),
        ("other", [ListedBootFile(BootFile("boot.ipxe"))], {"files_of_the_answers_are_listed"}),
        (
            "boot.ipxe",
            ["boot.ipxe"],
            {"listed_files_have_names_and_architectures", "files_of_the_answers_are_listed"},
        ),
        (
            "boot.ipxe",
            [ListedBootFile(BootFile("boot.ipxe"), "x64")],
            {"listed_files_have_names_and_architectures"},
        ),
    ],
)
def test_listable_resolver_kit(file: str, listed: Sequence[Any], found: set[str]) -> None:
    class Kit(ListableResolverContract):
        def make_resolver(self) -> ChoosingResolver:
            return ChoosingResolver(lambda request: BootFile(file), listed)

    assert failures(Kit()) == found


@pytest.mark.parametrize(
    ("seconds", "found"),
    [
        (lambda agreed: float(agreed.timeout or 1), set()),
        (lambda agreed: 1.5, {"a_timeout_that_is_honoured_is_each_wait"}),
    ],
)
def test_watchdog_kit_holds_a_policy_to_the_timeout_that_it_honours(
    seconds: Callable[[Agreed], float], found: set[str]
) -> None:
    @implementer(ITimeoutWatchdog)
    @define
    class Watchdog:
        seconds: float
        honours_timeout: bool = True

        def wait(self, attempt: int) -> float | None:
            return self.seconds if attempt < 4 else None

    @implementer(IWatchdogPolicy)
    class Policy:
        def begin(self, agreed: Agreed) -> Watchdog:
            return Watchdog(seconds(agreed))

    class Kit(WatchdogContract):
        def make_policy(self) -> Policy:
            return Policy()

    assert failures(Kit()) == found


def test_offline_store_kit(tmp_path: Path) -> None:
    class AlwaysThere(SqliteStore):
        def exists(self) -> bool:
            return True

    class Slow(SqliteStore):
        def commit(self, leases: Any) -> Deferred[None]:
            super().commit(leases)
            return Deferred()

    numbers = iter(range(1000))

    class Kit(OfflineStoreContract):
        kind: type[SqliteStore] = SqliteStore

        def make_store(self) -> SqliteStore:
            return self.kind(tmp_path / f"{next(numbers)}.sqlite", None)

    class ThereKit(Kit):
        kind = AlwaysThere

    class SlowKit(Kit):
        kind = Slow

    assert failures(ThereKit()) == {"exists_once_something_is_stored"}
    assert "exists_once_something_is_stored" in failures(SlowKit())
