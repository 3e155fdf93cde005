"""Optional interfaces: what a plugin declares is verified at the start, and what it should declare is named."""

import os
import re
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface import Interface, directlyProvides, implementer
from zope.interface.interface import InterfaceClass
from zope.interface.verify import verifyObject

import bootfw.interfaces
from bootfw.ability import abilities_of
from bootfw.api import (
    FileReader,
    IAdaptiveWatchdog,
    IBackend,
    IBatchObserver,
    IBootObserver,
    ICacheableReader,
    IFileReader,
    ILearningWatchdog,
    IListableBackend,
    IPerClientBackend,
    IReader,
    IShareableReader,
    IUniformBackend,
    IWatchdog,
    IWatchdogPolicy,
    IWriter,
    MemoryReader,
    PluginError,
    TransferError,
    TransferRequest,
)
from bootfw.boot.backends import LayeredBackend
from bootfw.plugins import PluginContext, boot_plugin, configure, list_plugins, load, verify

REQUEST = TransferRequest("a", "a", ("192.0.2.7", 1024))
INTERFACES = [
    interface
    for interface in vars(bootfw.interfaces).values()
    if isinstance(interface, InterfaceClass) and interface is not Interface
]


@implementer(IBackend)
class Files:
    def open(self, path: str, request: TransferRequest) -> IReader:
        return MemoryReader(b"")


@implementer(IListableBackend)
class MisspelledNames(Files):  # type: ignore[misc]  # on purpose
    def has(self, path: str) -> bool:
        return False

    def nams(self) -> list[str]:
        return []


class Undeclared(Files):
    same_for_all = True


class UndeclaredOfObject(Files):
    def __init__(self) -> None:
        self.same_for_all = True


@implementer(IUniformBackend, IPerClientBackend)
class Contradicting(Files):
    """Its files can't be the same for every client and depend on it."""


class NoBackendButFiles(Files):
    """Its attribute is named like a member of IBatchObserver, which is no interface of backends."""

    observe_many = True


@implementer(IBootObserver)
class Observer:
    def observe(self, event: object) -> None:
        """Observe."""

    def observe_many(self, events: object) -> None:
        """Observe."""


@implementer(IBatchObserver)
class Misspelled:  # type: ignore[misc]  # on purpose
    def observe(self, event: object) -> None:
        """Observe."""

    def observe_mny(self, events: object) -> None:
        """Observe."""


@implementer(IWatchdog)
class Watchdog:
    def wait(self, attempt: int) -> float | None:
        return None


class WithTimeout(Watchdog):
    honours_timeout = True


@implementer(IAdaptiveWatchdog)
class Learning(Watchdog):
    unremarkable = 1.0

    def progressed(self, seconds: float | None) -> None:
        """Learn."""


@implementer(ILearningWatchdog)
class HalfLearning(Watchdog):  # type: ignore[misc]  # on purpose
    unremarkable = 1.0

    def progressed(self, seconds: float | None) -> None:
        """Learn."""


@implementer(IWatchdogPolicy)
class Policy:
    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def begin(self, agreed: object) -> Any:
        return self._make()


def never() -> None:
    raise ValueError("no watchdog today")


@pytest.mark.parametrize(
    ("provided", "plugin", "message"),
    [
        (IBackend, MisspelledNames(), "does not provide IListableBackend: the class MisspelledNames has no names()"),
        (IBackend, Undeclared(), "the class Undeclared has same_for_all, which belongs to IUniformBackend: "),
        (IBackend, Contradicting(), "the class Contradicting is an IUniformBackend and an IPerClientBackend: "),
        (IBackend, UndeclaredOfObject(), "the class UndeclaredOfObject has same_for_all, which belongs to "),
        (IBootObserver, Observer(), "add @implementer(IBatchObserver) above the class"),
        (
            IBootObserver,
            Misspelled(),
            "IBatchObserver: the class Misspelled has no observe_many(events)",
        ),
        (
            IWatchdogPolicy,
            Policy(WithTimeout),
            "the class WithTimeout has honours_timeout, which belongs to ITime",
        ),
        (IWatchdogPolicy, Policy(Learning), "the class Learning has unremarkable, which belongs to ILearningWatchdog"),
        (IWatchdogPolicy, Policy(HalfLearning), "the class HalfLearning has no unremarkable_from"),
        (
            IWatchdogPolicy,
            Policy(object),
            "IWatchdog: add @implementer(IWatchdog) above the class object",
        ),
        (IWatchdogPolicy, Policy(never), "begin() failed: ValueError: no watchdog today"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_invalid_plugins_stop_the_start(provided: Any, plugin: Any, message: str) -> None:
    with pytest.raises(PluginError, match=re.escape(message)):
        verify(provided, plugin)


@pytest.mark.parametrize(
    ("provided", "plugin"),
    [(IBackend, Files()), (IWatchdogPolicy, Policy(Watchdog)), (IBackend, NoBackendButFiles())],
    ids=lambda value: type(value).__name__,
)
def test_valid_plugins_are_accepted(provided: Any, plugin: Any) -> None:
    verify(provided, plugin)


def test_an_object_that_declares_the_interface_may_have_its_member() -> None:
    plugin = UndeclaredOfObject()
    directlyProvides(plugin, IUniformBackend)
    verify(IBackend, plugin)


def test_a_plugin_is_verified_when_it_is_configured(tmp_path: Any) -> None:
    with pytest.raises(PluginError, match="same_for_all"):
        configure(boot_plugin(IBackend, Undeclared), {}, PluginContext(Clock(), tmp_path))


@pytest.mark.parametrize("interface", INTERFACES, ids=lambda interface: interface.__name__)
def test_an_interface_has_three_members_at_most(interface: Any) -> None:
    assert len(list(interface.names())) <= 3
    assert interface.__doc__


@pytest.mark.parametrize(
    "reader", [IFileReader, IShareableReader, ICacheableReader], ids=lambda interface: interface.__name__
)
def test_reader_without_a_declared_member_is_refused_by_name(reader: Any) -> None:
    closed = []

    @implementer(reader)
    class Lacking:
        size = 0

        def read(self, offset: int, length: int) -> bytes:
            return b""

        def close(self) -> None:
            closed.append(self)

    @implementer(IBackend)
    class Broken:
        def open(self, path: str, request: TransferRequest) -> Any:
            return Lacking()

    layered = LayeredBackend([("broken", Broken())])
    for _ in range(2):
        with pytest.raises(TransferError) as caught:
            layered.open("a", REQUEST)
        assert f"Lacking does not implement {reader.__name__}: it has no " in str(caught.value.detail)
    assert len(closed) == 2


def test_a_writer_is_verified_too() -> None:
    class IMore(IWriter):
        def more() -> None:
            """More."""

    @implementer(IMore)
    class Lacking:  # type: ignore[misc]  # on purpose
        def write(self, offset: int, data: bytes) -> None:
            """Store."""

        def finish(self) -> None:
            """End."""

        def cancel(self) -> None:
            """Forget."""

    @implementer(bootfw.interfaces.IWritableBackend)
    class Broken(Files):
        def create(self, path: str, request: TransferRequest) -> Any:
            return Lacking()

    with pytest.raises(TransferError) as caught:
        LayeredBackend([("broken", Broken())]).create("a", REQUEST)
    assert "Lacking does not implement IMore: it has no more" in str(caught.value.detail)


def test_readers_of_the_api_provide_their_interfaces(tmp_path: Any) -> None:
    (tmp_path / "a").write_bytes(b"a")
    for reader in (MemoryReader(b"a"), FileReader(os.open(tmp_path / "a", os.O_RDONLY))):
        for interface in abilities_of(reader):
            verifyObject(interface, reader)
        reader.close()


def test_each_built_in_plugin_is_listed_without_an_error() -> None:
    assert [row for row in list_plugins() if row.error] == []
    assert load("adaptive", "bootfw.watchdogs").provides is IWatchdogPolicy
