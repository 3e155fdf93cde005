"""Calls the resolvers in the order of the configuration until one has the boot file of a request."""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from bootfw.boot.generated import GeneratedFiles
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls
from bootfw.boot.pluginresult import as_deferred, traceback_of
from bootfw.boot.resolutionstates import Do, Input, ResolutionStates, State
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.errors import BootRefused
from bootfw.events import Event, PluginFailed, ResolverAnswered, ResolverPassedOver
from bootfw.interfaces import IBootFileResolver
from bootfw.values import BootFile, BootMenu, BootRequest

Answer = BootFile | BootMenu

Fit = Callable[[Answer, BootRequest], Answer | Unsuitable]
"""Adapts a resolver's answer to what the client can use."""

Verdict = Answer | Unsuitable | BootRefused | None
"""The result of a resolver: an answer, one that can't be used, a refusal; None: it has no answer, or has failed."""


class ResolverChain:
    """Calls resolvers in their order until one has a boot file.

    The timeout of a resolver that returns a Deferred is the remaining time, divided by the number of resolvers that
    have not answered, itself included. After it the Deferred is cancelled, and the next resolver is called.

    :param reactor: an IReactorTime.
    :param resolvers: (name, resolver).
    :param publish: takes an event about the result of each resolver; must not raise.
    :param within_seconds: timeout of all resolvers together.
    :param generated: stores the files whose content a resolver returns; None: a store of its own.
    """

    def __init__(
        self,
        reactor: Any,
        resolvers: Sequence[tuple[str, IBootFileResolver]],
        publish: Callable[[Event], None],
        within_seconds: float,
        generated: GeneratedFiles | None = None,
    ) -> None:
        self.reactor = reactor
        self.resolvers = tuple(resolvers)
        self.publish = publish
        self.within_seconds = within_seconds
        self.generated = GeneratedFiles() if generated is None else generated
        self._pending: set[_PendingResolution] = set()
        self._blocking = BlockingCalls(publish, reactor.seconds)

    def resolve(self, request: BootRequest, fit: Fit = lambda file, request: file) -> Any:
        """Return the boot file or menu for *request*, None if no resolver has one, or a Deferred of either.

        A Deferred is returned only if a resolver has returned one that has not fired. An answer that the client can't
        use is skipped; if no later resolver has a usable one, the boot is refused with the first reason.

        :param fit: adapts an answer to the client, or returns why it can't use the answer.
        :raise BootRefused: a resolver refuses, or no answer can be used. A Deferred fails with it.
        """
        seconds = self.reactor.seconds
        began = seconds()
        ends = began + self.within_seconds
        unusable = ""
        for number in range(len(self.resolvers)):
            if number:
                began = seconds()
            verdict = self.call(number, request, fit, began)
            if verdict is None:
                continue
            if isinstance(verdict, _Call):
                # Most resolvers return a value: only now are a state machine and a timer worth their cost.
                states = ResolutionStates(len(self.resolvers), ends, number, unusable)
                pending = _PendingResolution(self, request, fit, states, verdict)
                self._pending.add(pending)
                pending.handle(Input.WAIT)
                return pending.result
            if isinstance(verdict, Unsuitable):
                unusable = unusable or verdict.reason
                continue
            if isinstance(verdict, BootRefused):
                raise verdict
            return verdict
        if unusable:
            raise BootRefused(unusable)
        return None

    @property
    def is_busy(self) -> bool:
        """Whether a resolution is pending."""
        return bool(self._pending)

    def cancel_all(self) -> None:
        """Cancel every pending resolution: their Deferreds fail with CancelledError, and no timer is left."""
        for pending in list(self._pending):
            pending.handle(Input.CANCEL)

    # Called by _PendingResolution

    def call(self, number: int, request: BootRequest, fit: Fit, began: float) -> "Verdict | _Call":
        """Call the resolver at position *number*.

        :param began: now, in seconds of the clock.
        """
        name, resolver = self.resolvers[number]
        try:
            answer: Any = resolver.resolve(request)
            # Fast path: most resolvers return a BootFile, which needs no further checks.
            deferred = None if type(answer) is BootFile else as_deferred(answer)
        except Exception as error:
            answer, deferred = Failure(error), None
        now = self.reactor.seconds()
        took = now - began
        if took > BLOCKED_SECONDS:
            doing = f"resolve() for {request.mac or request.client_address}"
            self._blocking.report(f"resolver {name}", doing, took)
        if deferred is None:
            return self.verdict(number, request, fit, answer, began, now)
        call = _Call(number, began, deferred)
        deferred.addBoth(call.fired)
        return call if call.result is _PENDING else self.verdict(number, request, fit, call.result, began, now)

    def verdict(self, number: int, request: BootRequest, fit: Fit, result: Any, began: float, now: float) -> Verdict:
        """Publish the result of the resolver at position *number*, and return it as a Verdict.

        :param result: what the resolver returned, or a Failure.
        :param began: when the resolver was called, in seconds of the clock.
        :param now: when it returned or fired.
        """
        if isinstance(result, Failure):
            if isinstance(result.value, BootRefused):
                return result.value
            self.report_failure(number, request, result.value)
            return None
        if result is not None and not isinstance(result, Answer):
            wrong = f"the answer is a {type(result).__name__}; it has to be a BootFile, a BootMenu or None"
            self.report_failure(number, request, TypeError(wrong))
            return None
        self.publish(ResolverAnswered(now, request, self.resolvers[number][0], result, now - began))
        if result is None:
            return None
        try:
            fitted = fit(result, request)
            if isinstance(fitted, BootFile) and fitted.content is not None:
                self.generated.keep(fitted.name, fitted.content)
        except Exception as error:  # the fields of the answer have other types than BootFile declares
            self.report_failure(number, request, error)
            return None
        return fitted

    def report_failure(self, number: int, request: BootRequest, error: BaseException | None) -> None:
        """Publish that the resolver at position *number* failed with *error*."""
        assert error is not None
        doing = f"resolve the boot file of {request.mac}"
        name = self.resolvers[number][0]
        self.publish(PluginFailed(self.reactor.seconds(), name, doing, traceback_of(error), request.mac))

    def forget(self, pending: "_PendingResolution") -> None:
        """Drop a resolution that is over."""
        self._pending.discard(pending)


_PENDING: Any = object()
"""The Deferred has not fired."""


@define(eq=False)
class _Call:
    """A call of a resolver that returned a Deferred."""

    number: int
    """Position of the resolver."""
    began: float
    """When it was called, in seconds of the clock."""
    deferred: "Deferred[Any]"
    result: Any = field(default=_PENDING, init=False)
    """The result, if the Deferred fired before a resolution waited for it."""
    waiting: "_PendingResolution | None" = field(default=None, init=False)
    """The resolution to pass the result to; None: there is none yet, or the call was withdrawn."""

    def fired(self, result: Any) -> None:
        """Take the result of the Deferred, or a Failure, and keep it until a resolution waits for it."""
        if self.waiting is None:
            self.result = result
        else:
            self.waiting.fired(result)


@define(eq=False)
class _PendingResolution:
    """Drives the ResolutionStates of one request: does its actions, and holds its timer."""

    _chain: ResolverChain
    _request: BootRequest
    _fit: Fit
    _states: ResolutionStates
    _call: _Call | None
    """The pending call; None: its result has arrived, or it was withdrawn."""
    result: "Deferred[Answer | None]" = field(init=False)
    """Fires with the outcome. Cancelling it cancels the resolution."""
    _timer: "IDelayedCall | None" = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.result = Deferred(lambda _: self.handle(Input.CANCEL))
        if self._call is not None:
            self._call.waiting = self

    def handle(self, event: Input, argument: Any = None) -> None:
        """Give an input to the state machine, and do its actions, which may result in further inputs."""
        states, seconds = self._states, self._chain.reactor.seconds
        # A queue instead of recursion: each resolver that returns a value gives another input at once.
        inputs: list[tuple[Input, Any]] = [(event, argument)]
        while inputs:
            states.handle(*inputs.pop(), seconds())
            while states.out:
                output = states.out.pop(0)
                if output is Do.CALL:
                    inputs.append(self._call_next())
                elif output is Do.WITHDRAW:
                    self._withdraw()
                elif output is Do.REPORT_LATE:
                    self._report_late()
                else:
                    self._finish()
        self._set_timer()

    def fired(self, result: Any) -> None:
        """Take the result of the pending call, or a Failure."""
        call = self._release_call()
        assert call is not None
        now = self._chain.reactor.seconds()
        verdict = self._chain.verdict(call.number, self._request, self._fit, result, call.began, now)
        self.handle(*_input_of(verdict))

    def _call_next(self) -> tuple[Input, Any]:
        verdict = self._chain.call(self._states.number, self._request, self._fit, self._chain.reactor.seconds())
        if not isinstance(verdict, _Call):
            return _input_of(verdict)
        self._call, verdict.waiting = verdict, self
        return Input.WAIT, None

    def _release_call(self) -> _Call | None:
        call, self._call = self._call, None
        if call is not None:
            call.waiting = None
        return call

    def _withdraw(self) -> None:
        call = self._release_call()
        if call is None:
            return
        try:
            call.deferred.cancel()
        except Exception as error:  # from the canceller of the plugin's Deferred
            self._chain.report_failure(call.number, self._request, error)

    def _report_late(self) -> None:
        assert self._call is not None
        now = self._chain.reactor.seconds()
        name = self._chain.resolvers[self._call.number][0]
        self._chain.publish(ResolverPassedOver(now, self._request, name, now - self._call.began))

    def _finish(self) -> None:
        # First of all: a callback may stop the service, which must leave no resolution and no timer behind.
        self._chain.forget(self)
        self._set_timer()
        states = self._states
        if states.state is State.CANCELLED:
            self.result.errback(CancelledError())
        elif states.state is State.REFUSED:
            self.result.errback(states.outcome)
        else:
            self.result.callback(states.outcome)

    def _set_timer(self) -> None:
        """Schedule the delayed call for the deadline, or cancel it if there is none."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._states.deadline
        if deadline is not None:
            reactor = self._chain.reactor
            self._timer = reactor.callLater(max(0.0, deadline - reactor.seconds()), self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.handle(Input.TICK)


def _input_of(verdict: Verdict) -> tuple[Input, Any]:
    if verdict is None:
        return Input.PASSED, ""
    if isinstance(verdict, Unsuitable):
        return Input.PASSED, verdict.reason
    if isinstance(verdict, BootRefused):
        return Input.REFUSED, verdict
    return Input.FOUND, verdict
