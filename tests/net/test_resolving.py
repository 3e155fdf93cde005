"""The chain of resolvers: their order, their time limits, and broken plugins."""

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest
from attrs import define, evolve, field
from narrowing import of_type, present
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock, deferLater
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.boot.resolverchain import ResolverChain
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.errors import BootRefused
from bootfw.events import Event, PluginFailed, ResolverAnswered, ResolverPassedOver
from bootfw.interfaces import IBootFileResolver
from bootfw.values import BootFile, BootRequest

_E = TypeVar("_E", bound=Event)

REQUEST = BootRequest(mac="52:54:00:12:34:56", phase="discover", persona="uefi", architecture="x86_64-uefi")
FILE, OTHER = BootFile("one"), BootFile("two")


@implementer(IBootFileResolver)
class Scripted:
    """A resolver that answers with *answer*, or with what that returns if it is callable."""

    def __init__(self, answer: object = None) -> None:
        self.answer = answer
        self.requests: list[BootRequest] = []

    def resolve(self, request: BootRequest) -> Any:
        self.requests.append(request)
        return self.answer() if callable(self.answer) else self.answer


@define
class Chain:
    """A ResolverChain of Scripted resolvers called r0, r1, ... with its events and asynchronous results."""

    clock: Clock = field(factory=Clock)
    events: list[Event] = field(factory=list)
    results: list[Any] = field(factory=list)
    resolver_chain: ResolverChain | None = None

    def resolve(self, *resolvers: Scripted, seconds: float = 0.9, **options: Any) -> BootFile | Deferred[Any] | None:
        named_resolvers = [(f"r{number}", resolver) for number, resolver in enumerate(resolvers)]
        self.resolver_chain = ResolverChain(self.clock, named_resolvers, self.events.append, seconds)
        found: BootFile | Deferred[Any] | None = self.resolver_chain.resolve(REQUEST, **options)
        if isinstance(found, Deferred):
            found.addBoth(self.results.append)
        return found

    def events_of(self, kind: type[_E]) -> list[_E]:
        return [event for event in self.events if isinstance(event, kind)]

    @property
    def error(self) -> BaseException:
        failure: Failure
        [failure] = self.results
        return present(failure.value)


class Uncancellable(Deferred[BootFile]):
    """A Deferred that ignores cancel()."""

    def cancel(self) -> None:
        pass


@pytest.fixture
def chain() -> Iterator[Chain]:
    chain = Chain()
    yield chain
    assert not chain.clock.getDelayedCalls()


def raising(error: Exception) -> Callable[[], None]:
    def call() -> None:
        raise error

    return call


# Answers at once


def test_the_first_answer_counts_and_later_resolvers_are_not_called(chain: Chain) -> None:
    first, second, third = Scripted(None), Scripted(FILE), Scripted(OTHER)

    assert chain.resolve(first, second, third) == FILE

    assert (first.requests, second.requests, third.requests) == ([REQUEST], [REQUEST], [])
    assert [(event.resolver, event.answer) for event in chain.events_of(ResolverAnswered)] == [
        ("r0", None),
        ("r1", FILE),
    ]


def test_no_answer_if_every_resolver_declines(chain: Chain) -> None:
    assert chain.resolve(Scripted(None), Scripted(None)) is None


def test_empty_chain_gives_no_answer(chain: Chain) -> None:
    assert chain.resolve() is None


def test_a_refusal_stops_the_chain(chain: Chain) -> None:
    last = Scripted(FILE)

    with pytest.raises(BootRefused, match="not today"):
        chain.resolve(Scripted(raising(BootRefused("not today"))), last)

    assert last.requests == []


# Answers later


async def _coroutine() -> BootFile:
    return FILE


@pytest.mark.parametrize("answer", [lambda: succeed(FILE), _coroutine], ids=["a fired Deferred", "a coroutine"])
def test_fired_deferred_or_coroutine_is_answered_at_once(chain: Chain, answer: Callable[..., Any]) -> None:
    assert chain.resolve(Scripted(None), Scripted(answer)) == FILE


def test_asynchronous_none_result_calls_the_next_resolver(chain: Chain) -> None:
    waiting: Deferred[BootFile | None] = Deferred()
    last = Scripted(FILE)
    chain.resolve(Scripted(waiting), last)
    assert last.requests == []

    chain.clock.advance(0.25)
    waiting.callback(None)

    assert chain.results == [FILE]
    assert [event.seconds for event in chain.events_of(ResolverAnswered)] == [0.25, 0]


def test_each_resolver_has_its_own_timing(chain: Chain) -> None:
    def slow() -> None:
        chain.clock.advance(0.05)

    assert chain.resolve(Scripted(slow), Scripted(FILE)) == FILE
    assert [event.seconds for event in chain.events_of(ResolverAnswered)] == [pytest.approx(0.05), 0]


@pytest.mark.parametrize("refuse", [lambda: fail(BootRefused("no")), lambda: raising(BootRefused("no"))()])
def test_refusal_may_be_raised_or_the_failure_of_a_deferred(chain: Chain, refuse: Callable[..., Any]) -> None:
    with pytest.raises(BootRefused):
        chain.resolve(Scripted(refuse), Scripted(FILE))


def test_asynchronous_refusal_stops_the_chain(chain: Chain) -> None:
    waiting: Deferred[BootFile | None] = Deferred()
    last = Scripted(FILE)
    chain.resolve(Scripted(waiting), last)

    waiting.errback(BootRefused("no"))

    assert isinstance(chain.error, BootRefused)
    assert last.requests == []


def test_coroutine_resolver_is_awaited(chain: Chain) -> None:
    async def resolve() -> BootFile:
        await deferLater(chain.clock, 0.1)
        return FILE

    chain.resolve(Scripted(resolve))
    chain.clock.advance(0.1)

    assert chain.results == [FILE]


# Late answers


def test_slow_resolver_is_cancelled_and_the_next_called(chain: Chain) -> None:
    cancelled: list[Deferred[None]] = []
    waiting: Deferred[None] = Deferred(cancelled.append)
    chain.resolve(Scripted(waiting), Scripted(None), Scripted(FILE), seconds=0.9)

    chain.clock.advance(0.29)
    assert chain.results == []
    chain.clock.advance(0.02)

    assert chain.results == [FILE]
    assert cancelled == [waiting]
    [event] = chain.events_of(ResolverPassedOver)
    assert (event.resolver, event.request) == ("r0", REQUEST)
    assert event.seconds == pytest.approx(0.31)


def test_remaining_time_is_shared_among_resolvers(chain: Chain) -> None:
    chain.resolve(Scripted(Deferred), Scripted(Deferred), Scripted(Deferred), seconds=0.9)
    times: list[float] = []
    for _ in range(90):
        before = len(chain.events_of(ResolverPassedOver))
        chain.clock.advance(0.01)
        times += [round(chain.clock.seconds(), 2)] * (len(chain.events_of(ResolverPassedOver)) - before)

    # The steps of the clock round each time up a little.
    assert times == pytest.approx([0.3, 0.6, 0.9], abs=0.02)
    assert chain.results == [None]


def test_unused_time_goes_to_later_resolvers(chain: Chain) -> None:
    quick: Deferred[None] = Deferred()
    chain.resolve(Scripted(quick), Scripted(Deferred), seconds=1.0)
    chain.clock.advance(0.2)
    quick.callback(None)

    chain.clock.advance(0.79)
    assert chain.results == []
    chain.clock.advance(0.02)
    assert chain.results == [None]


def test_last_resolver_gets_all_remaining_time(chain: Chain) -> None:
    last: Deferred[BootFile] = Deferred()
    chain.resolve(Scripted(None), Scripted(last), seconds=0.8)

    chain.clock.advance(0.79)
    last.callback(FILE)

    assert chain.results == [FILE]


def test_late_answer_is_dropped(chain: Chain) -> None:
    late = Uncancellable()
    second: Deferred[BootFile] = Deferred()
    chain.resolve(Scripted(late), Scripted(second), seconds=0.8)
    chain.clock.advance(0.41)

    late.callback(OTHER)
    assert chain.results == []
    second.callback(FILE)

    assert chain.results == [FILE]
    assert OTHER not in [event.answer for event in chain.events_of(ResolverAnswered)]


def test_answer_during_cancellation_is_late(chain: Chain) -> None:
    chain.resolve(Scripted(Deferred(lambda waiting: waiting.callback(OTHER))), Scripted(FILE), seconds=0.8)

    chain.clock.advance(0.4)

    assert chain.results == [FILE]


def test_a_failure_after_the_deadline_is_ignored(chain: Chain) -> None:
    late = Uncancellable()
    chain.resolve(Scripted(late), seconds=0.8)
    chain.clock.advance(0.8)

    late.errback(ZeroDivisionError())

    assert chain.results == [None]
    assert chain.events_of(PluginFailed) == []


def test_failing_canceller_is_reported(chain: Chain) -> None:
    def canceller(_: Deferred[Any]) -> None:
        raise ZeroDivisionError

    chain.resolve(Scripted(Deferred(canceller)), Scripted(FILE), seconds=0.8)
    chain.clock.advance(0.4)

    assert chain.results == [FILE]
    assert "ZeroDivisionError" in chain.events_of(PluginFailed)[0].traceback


# Broken plugins


@pytest.mark.parametrize(
    ("answer", "traceback"),
    [
        (raising(ZeroDivisionError("oops")), "ZeroDivisionError: oops"),
        (lambda: fail(ZeroDivisionError("oops")), "ZeroDivisionError: oops"),
        ("pxelinux.0", "TypeError: the answer is a str"),
        (lambda: succeed(False), "TypeError: the answer is a bool"),
    ],
)
def test_a_failing_resolver_is_reported_and_the_next_is_called(
    chain: Chain, answer: str | Callable[..., Any], traceback: str
) -> None:
    assert chain.resolve(Scripted(answer), Scripted(FILE)) == FILE

    [event] = chain.events_of(PluginFailed)
    assert event.plugin == "r0"
    assert "52:54:00:12:34:56" in event.doing
    assert traceback in event.traceback


def test_a_late_failure_within_time_is_reported(chain: Chain) -> None:
    waiting: Deferred[BootFile] = Deferred()
    chain.resolve(Scripted(waiting), Scripted(FILE))

    waiting.errback(ZeroDivisionError())

    assert chain.results == [FILE]
    assert len(chain.events_of(PluginFailed)) == 1


# Unsuitable answers


def reject_file(file: BootFile, request: BootRequest) -> Unsuitable | BootFile:
    return Unsuitable("another file is needed") if file == FILE else file


def test_unsuitable_answer_calls_the_next_resolver(chain: Chain) -> None:
    assert chain.resolve(Scripted(FILE), Scripted(OTHER), fit=reject_file) == OTHER
    assert [event.answer for event in chain.events_of(ResolverAnswered)] == [FILE, OTHER]


def test_if_no_answer_is_suitable_the_refusal_has_the_first_reason(chain: Chain) -> None:
    with pytest.raises(BootRefused, match="one is not for us"):
        chain.resolve(
            Scripted(FILE),
            Scripted(OTHER),
            Scripted(None),
            fit=lambda file, _: Unsuitable(f"{file.name} is not for us"),
        )


def test_adapted_file_is_returned(chain: Chain) -> None:
    assert chain.resolve(Scripted(FILE), fit=lambda file, request: OTHER) == OTHER


def test_invalid_boot_file_is_a_failure_of_the_resolver(chain: Chain) -> None:
    def fit(file: BootFile, request: BootRequest) -> BootFile:
        return BootFile(file.name.upper())

    invalid = BootFile(5)  # type: ignore[arg-type]
    assert chain.resolve(Scripted(invalid), Scripted(FILE), fit=fit) == BootFile("ONE")
    assert len(chain.events_of(PluginFailed)) == 1


# Cancellation


def test_cancel_all_cancels_the_pending_resolver(chain: Chain) -> None:
    cancelled: list[Deferred[None]] = []
    chain.resolve(Scripted(Deferred(cancelled.append)), Scripted(FILE))

    present(chain.resolver_chain).cancel_all()

    assert isinstance(chain.error, CancelledError)
    assert len(cancelled) == 1
    present(chain.resolver_chain).cancel_all()


def test_caller_can_cancel_a_resolution(chain: Chain) -> None:
    last = Scripted(FILE)
    found = chain.resolve(Scripted(Deferred), last)

    of_type(Deferred, found).cancel()

    assert isinstance(chain.error, CancelledError)
    assert last.requests == []


def test_cancelled_resolution_does_not_get_a_result_set_by_another_one(chain: Chain) -> None:
    """The result of the first cancellation must not answer the second request."""
    waiting: list[Deferred[BootFile]] = [Deferred(), Deferred()]
    answers = iter(waiting)
    resolver_chain = ResolverChain(chain.clock, [("r0", Scripted(lambda: next(answers)))], chain.events.append, 0.8)
    results: list[list[object]] = [[], []]
    found = [resolver_chain.resolve(REQUEST), resolver_chain.resolve(REQUEST)]
    for number, other, result in ((0, 1, results[0]), (1, 0, results[1])):
        found[number].addBoth(lambda outcome, other=other: _answer(waiting[other], outcome)).addBoth(result.append)

    resolver_chain.cancel_all()

    assert all(len(result) == 1 for result in results)


def _answer(waiting: Deferred[BootFile], outcome: Failure | BootFile) -> BootFile | Failure:
    if not waiting.called:
        waiting.callback(FILE)
    return outcome


def test_a_request_that_is_answered_is_forgotten(chain: Chain) -> None:
    @implementer(IBootFileResolver)
    class Slow:
        def resolve(self, request: BootRequest) -> Deferred[BootFile]:
            return waiting

    request = evolve(REQUEST)
    waiting: Deferred[BootFile] = Deferred()
    resolver_chain = ResolverChain(chain.clock, [("r0", Slow())], lambda event: None, 0.8)
    resolver_chain.resolve(request)
    waiting.callback(FILE)
    reference = weakref.ref(request)
    del request
    gc.collect()

    assert reference() is None


def test_concurrent_resolutions_do_not_mix(chain: Chain) -> None:
    waiting: list[Deferred[BootFile]] = []

    def resolve() -> Deferred[BootFile]:
        waiting.append(Deferred())
        return waiting[-1]

    resolver_chain = ResolverChain(chain.clock, [("r0", Scripted(resolve))], chain.events.append, 0.8)
    results: list[list[object]] = [[] for _ in range(3)]
    for result in results:
        resolver_chain.resolve(REQUEST).addBoth(result.append)
    waiting[1].callback(OTHER)
    waiting[0].callback(FILE)
    chain.clock.advance(0.8)

    assert results == [[FILE], [OTHER], [None]]


@pytest.mark.parametrize("returns", [Deferred, lambda: FILE, lambda: None], ids=["a Deferred", "an answer", "nothing"])
def test_resolver_may_cancel_all_during_its_call(chain: Chain, returns: Callable[[], object]) -> None:
    """As a resolver does that stops the service. What it returns after that is cancelled or dropped."""
    cancelled: list[Failure] = []

    def stop() -> object:
        present(chain.resolver_chain).cancel_all()
        answer = returns()
        if isinstance(answer, Deferred):
            answer.addErrback(cancelled.append)
        return answer

    first: Deferred[None] = Deferred()
    last = Scripted(OTHER)
    chain.resolve(Scripted(first), Scripted(stop), last)
    first.callback(None)

    assert isinstance(chain.error, CancelledError)
    assert last.requests == []
    assert len(cancelled) == (returns is Deferred)


def test_canceller_may_cancel_all(chain: Chain) -> None:
    last = Scripted(OTHER)
    chain.resolve(Scripted(Deferred(lambda _: present(chain.resolver_chain).cancel_all())), last, seconds=0.8)

    chain.clock.advance(0.4)

    assert isinstance(chain.error, CancelledError)
    assert last.requests == []


def test_many_direct_answers_after_a_pending_resolver_do_not_recurse(chain: Chain) -> None:
    """Resolvers are called in a loop, not recursively."""
    first: Deferred[None] = Deferred()
    chain.resolve(Scripted(first), *[Scripted(None) for _ in range(2000)], Scripted(FILE))

    first.callback(None)

    assert chain.results == [FILE]


def test_a_late_resolver_and_its_canceller_are_reported_by_its_own_name(chain: Chain) -> None:
    def canceller(_: Deferred[Any]) -> None:
        raise ZeroDivisionError

    chain.resolve(Scripted(None), Scripted(Deferred(canceller)), Scripted(FILE), seconds=0.8)
    chain.clock.advance(0.4)

    assert [event.resolver for event in chain.events_of(ResolverPassedOver)] == ["r1"]
    assert [event.plugin for event in chain.events_of(PluginFailed)] == ["r1"]


# Files that come with the answer


def test_a_file_in_an_answer_is_served_under_the_name_in_the_reply(chain: Chain) -> None:
    def rename(file: BootFile, request: BootRequest) -> BootFile:
        return evolve(file, name="renamed")

    found = chain.resolve(Scripted(BootFile("one", content=b"#!ipxe")), fit=rename)
    assert found == BootFile("renamed", content=b"#!ipxe")
    assert present(chain.resolver_chain).generated.open("renamed", None).read(0, 100) == b"#!ipxe"


@pytest.mark.parametrize("content", ["text", bytes(65 << 20)], ids=["no bytes", "too many"])
def test_invalid_generated_content_is_a_failure_of_the_resolver(chain: Chain, content: str | bytes) -> None:
    invalid = BootFile("one", content=content)  # type: ignore[arg-type]
    assert chain.resolve(Scripted(invalid), Scripted(OTHER)) == OTHER
    [event] = chain.events_of(PluginFailed)
    assert event.plugin == "r0"
