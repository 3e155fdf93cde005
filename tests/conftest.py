"""A private reactor, TFTP servers on each kind of port, the failures that are logged, and the tests CI may not skip."""

import configparser
import contextlib
import fcntl
import gc
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest
from tftpserver import KINDS, PORTS, MemoryWire, Serve, Served, SocketWire, Wire
from turning import Alongside, Result, RunReactor, TurnUntil
from twisted.internet.defer import Deferred
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.tftp import read

pytest_plugins = ["schedule"]
_T = TypeVar("_T")
_R = TypeVar("_R", bound=PosixReactorBase)

# How fast examples come says how busy the machine is, not whether the code is right.
hypothesis.settings.register_profile("bootfw", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("bootfw")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--record-pictures`` writes the pictures of the documentation anew."""
    parser.addoption(
        "--record-pictures", action="store_true", help="write docs/pictures as browser and machines show it now"
    )


def pytest_configure(config: pytest.Config) -> None:
    """An editable installation keeps the entry points of the day it was made; without the new ones much fails."""
    declared = configparser.ConfigParser()
    declared.read(Path(__file__).parent.parent / "setup.cfg")
    missing = [group for group in declared["options.entry_points"] if not entry_points(group=group)]
    if missing:
        raise pytest.UsageError(
            f"bootfw is installed without {', '.join(missing)}: run make {Path(sys.prefix).name}/installed-test"
        )


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Long bytes by the name of their argument: gzip's hold the time, and all processes have to agree on names."""
    return argname if isinstance(val, bytes) and len(val) > 16 else None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Behaviour is tested on the first kind of port; tests marked ``every_port`` show that the others do the same."""
    chosen_by_the_test: set[str] = set()
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0]
        chosen_by_the_test.update(re.split(r"\s*,\s*", names) if isinstance(names, str) else names)
    everywhere = metafunc.definition.get_closest_marker("every_port") is not None
    for fixture, values in (("wire", KINDS), ("serve", PORTS)):
        if fixture in metafunc.fixturenames and fixture not in chosen_by_the_test:
            metafunc.parametrize(fixture, values if everywhere else values[:1], indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Let one process of pytest-xdist compile the test modules; the others wait for it and load what it compiled.

    All of them collect all tests. In a fresh clone, each process would compile everything, 10 s of CPU time each, and
    collect the constants in bootfw's source for Hypothesis, 4 s each.
    The garbage collector waits: almost all that is created stays, and it would look at it again and again.
    """
    first = "PYTEST_XDIST_WORKER" in os.environ
    with open(__file__) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            first = False
            fcntl.flock(lock, fcntl.LOCK_SH)
            fcntl.flock(lock, fcntl.LOCK_UN)
        gc.disable()
        try:
            result = yield
            if first:
                _any_text()
            return result
        finally:
            gc.enable()


@hypothesis.settings(database=None)
@hypothesis.given(hypothesis.strategies.text())
def _any_text(text: str) -> None:
    """For this, Hypothesis collects data about Unicode and the imported modules, and keeps them in files."""


def pytest_collection_finish() -> None:
    """Hide the modules and the collected tests from the garbage collector: they are needed until the end.

    A full collection would look at a million objects, which takes 0.2 s, and hundreds of tests need one.
    """
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Real clients, firmware and namespaces may be missing on a machine, but not in CI."""
    report = yield
    if report.skipped and os.environ.get("CI") == "true" and item.get_closest_marker("interop"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"skipped, which in CI is a failure: {reason}"
    return report


@contextlib.contextmanager
def _running(reactor: _R) -> Iterator[_R]:
    reactor.startRunning(installSignalHandlers=False)
    try:
        yield reactor
    finally:
        for reader in reactor.removeAll():
            reader.connectionLost(None)  # type: ignore[arg-type]  # nobody looks at the reason
        for reader in list(reactor._internalReaders):
            reactor._internalReaders.discard(reader)
            reactor.removeReader(reader)
            reader.connectionLost(None)
        for call in reactor.getDelayedCalls():
            call.cancel()


@pytest.fixture
def private_reactor() -> Iterator[EPollReactor]:
    """A reactor that is not the global one. It runs when the test calls iterate()."""
    with _running(EPollReactor()) as reactor:
        yield reactor
        poller = reactor._poller
        if reactor.threadpool is not None and not reactor.threadpool.joined:
            # Names are resolved in threads; the process would wait for them at its end.
            reactor.threadpool.stop()
    poller.close()


@pytest.fixture
def turn_until(private_reactor: EPollReactor) -> TurnUntil:
    """Run the private reactor until a condition holds; fail after some *seconds*."""

    def turn(condition: Callable[[], object], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "the condition did not become true"
            private_reactor.iterate(0.01)

    return turn


@pytest.fixture
def result(turn_until: TurnUntil) -> Result:
    """What a call returned, once its Deferred has fired; a failure is raised."""

    def result(value: Any) -> Any:
        if not isinstance(value, Deferred):
            return value
        results: list[Any] = []
        value.addBoth(results.append)
        turn_until(lambda: results)
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]

    return result


@pytest.fixture
def alongside(turn_until: TurnUntil) -> Alongside:
    """Runs a function that blocks in a thread, while the reactor runs."""

    def run(function: Callable[..., _T], *arguments: Any) -> _T:
        results: list[_T] = []
        errors: list[Exception] = []

        def work() -> None:
            try:
                results.append(function(*arguments))
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        turn_until(lambda: not thread.is_alive(), 60)
        for error in errors:
            raise error
        return results[0]

    return run


@pytest.fixture
def run_reactor() -> RunReactor:
    """A context manager that starts a given reactor and cleans up behind it."""
    return _running


@implementer(ILogObserver)
class _Failures:
    def __init__(self) -> None:
        self.found: list[BaseException] = []

    def __call__(self, event: LogEvent) -> None:
        if "log_failure" in event:
            self.found.append(event["log_failure"].value)


@pytest.fixture
def failures() -> Iterator[list[BaseException]]:
    """Every failure in Twisted's log. A test that causes one removes it from the list."""
    observer = _Failures()
    globalLogPublisher.addObserver(observer)
    yield observer.found
    globalLogPublisher.removeObserver(observer)
    assert observer.found == []


@pytest.fixture
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    """A network with one of the KINDS of port."""
    if request.param.startswith("memory"):
        yield MemoryWire(rich=request.param == "memory-rich")
        return
    socket_wire = SocketWire(request.getfixturevalue("private_reactor"), rich=request.param == "socket-own")
    yield socket_wire
    socket_wire.close()


@pytest.fixture
def start(wire: Wire, failures: list[BaseException]) -> Iterator[Serve]:
    """Starts a Served on the wire. After the test it is stopped, and has to leave nothing behind."""
    started: list[Served] = []

    def begin(*arguments: Any, **options: Any) -> Served:
        started.append(Served(wire, *arguments, **options))
        return started[-1]

    yield begin
    for served in started:
        served.stop()


@pytest.fixture
def serve(request: pytest.FixtureRequest, start: Serve) -> Serve:
    """The same, with one of the choices of PORTS."""
    return lambda *arguments, **options: start(*arguments, ports=request.param, **options)


@pytest.fixture
def proven_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take peers with windows for proven, for a test of what comes after the proof."""
    monkeypatch.setattr(read, "Proof", lambda *arguments: None)
