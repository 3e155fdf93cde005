"""The chain of resolvers: who is asked, for how long, and what becomes of the answers."""

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.python.failure import Failure

from bootfw.boot.generated import GeneratedFiles
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls
from bootfw.boot.pluginresult import as_deferred, traceback_of
from bootfw.dhcp.bootfile import Unsuitable
from bootfw.errors import BootRefused
from bootfw.events import Event, PluginFailed, ResolverAnswered, ResolverPassedOver
from bootfw.interfaces import IBootFileResolver
from bootfw.values import BootFile, BootMenu, BootRequest

Answer = BootFile | BootMenu

Fit = Callable[[Answer, BootRequest], Answer | Unsuitable]
"""What a client can make of a resolver's answer."""


class ResolverChain:
    """Asks resolvers in their order until one has a boot file.

    A resolver that answers later gets its share of the time that is left: that time divided by the number of those
    not asked yet, itself included. Who is late is cancelled and passed over.

    :param reactor: an IReactorTime.
    :param resolvers: (name, resolver).
    :param publish: is given what each resolver did.
    :param within_seconds: for all of them together.
    :param generated: is given the files that resolvers answer with; None: nobody serves them.
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
        self._waiting: set[_Resolution] = set()
        self._blocking = BlockingCalls(publish, reactor.seconds)

    def resolve(self, request: BootRequest, fit: Fit = lambda file, request: file) -> Any:
        """What *request* is told, or None: nobody has a file. A Deferred of it when a resolver answers later.

        An answer that does not fit is taken for "not mine"; if nothing better comes, the first one's reason is the
        refusal.

        :raise BootRefused: a resolver said so, or no answer fits; or the Deferred fails with it.
        """
        resolution = _Resolution(self, request, fit)
        resolution.ask()
        if not resolution.ended:
            self._waiting.add(resolution)
            return resolution.later().addBoth(self._ended, resolution)
        if isinstance(resolution.outcome, BootRefused):
            raise resolution.outcome
        return resolution.outcome

    def cancel_all(self) -> None:
        """Cancel what is outstanding: the Deferreds fail with CancelledError, and no timer is left."""
        for resolution in list(self._waiting):
            resolution.cancel()

    def note(self, name: str, request: BootRequest, began: float) -> None:
        """A call of the resolver *name* is over that *began* then; say so if nothing else was answered for long."""
        took = self.reactor.seconds() - began
        if took > BLOCKED_SECONDS:
            doing = f"resolve() for {request.mac or request.client_address}"
            self._blocking.report(f"resolver {name}", doing, took)

    def _ended(self, result: Any, resolution: "_Resolution") -> Any:
        self._waiting.discard(resolution)
        return result


@define(eq=False)
class _Resolution:
    """One request on its way along the chain."""

    chain: ResolverChain
    request: BootRequest
    fit: Fit
    ended: bool = field(default=False, init=False)
    outcome: Answer | BootRefused | None = field(default=None, init=False)
    _deadline: float = field(init=False)
    _asked: int = field(default=0, init=False)
    """Number of resolvers; its answers are known from late ones by it."""
    _began: float = field(default=0.0, init=False)
    _pending: "Deferred[Any] | None" = field(default=None, init=False)
    _timer: IDelayedCall | None = field(default=None, init=False)
    _objection: str = field(default="", init=False)
    _result: "Deferred[Answer | None] | None" = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._deadline = self.chain.reactor.seconds() + self.chain.within_seconds

    def ask(self) -> None:
        """Ask the next resolver, and the next, until one has answered or has to be waited for."""
        resolvers = self.chain.resolvers
        while not self.ended and self._pending is None:
            if self._asked == len(resolvers):
                self._end(BootRefused(self._objection) if self._objection else None)
                return
            resolver = resolvers[self._asked][1]
            self._asked += 1
            self._began = self.chain.reactor.seconds()
            try:
                answer = resolver.resolve(self.request)
            except Exception as error:
                self._failed(error)
                continue
            finally:
                self.chain.note(resolvers[self._asked - 1][0], self.request, self._began)
            waiting = as_deferred(answer)
            if waiting is None:
                self._answered(answer)
            else:
                self._wait(waiting)

    def later(self) -> "Deferred[Answer | None]":
        """What the outcome will come by, since ask() could not bring it."""
        self._result = Deferred(lambda _: self.cancel())
        return self._result

    def cancel(self) -> None:
        """Ask no further; the result fails with CancelledError."""
        if self.ended:
            return
        self.ended = True
        self._give_up(self._stop_waiting())
        if self._result is not None:
            self._result.errback(CancelledError())

    def _wait(self, waiting: "Deferred[Any]") -> None:
        number = self._asked
        self._pending = waiting
        waiting.addCallbacks(self._came, self._came, callbackArgs=(number,), errbackArgs=(number,))
        if self._pending is waiting:
            left = max(0.0, self._deadline - self._began)
            share = left / (len(self.chain.resolvers) - number + 1)
            self._timer = self.chain.reactor.callLater(share, self._passed_over)

    def _came(self, result: Any, number: int) -> None:
        if self._pending is None or number != self._asked:
            return  # Too late: somebody else was asked, or nobody waits any more.
        asking = self._timer is not None
        self._stop_waiting()
        if isinstance(result, Failure):
            assert result.value is not None
            self._failed(result.value)
        else:
            self._answered(result)
        if asking:  # Otherwise ask() is still running further up the stack.
            self.ask()

    def _answered(self, answer: Any) -> None:
        now = self.chain.reactor.seconds()
        if answer is not None and not isinstance(answer, Answer):
            self._failed(TypeError(f"the answer is a {type(answer).__name__}, and no BootFile, BootMenu or None"))
            return
        self.chain.publish(ResolverAnswered(now, self.request, self._name, answer, now - self._began))
        if answer is None:
            return
        try:
            found = self.fit(answer, self.request)
            if isinstance(found, BootFile) and found.content is not None:
                self.chain.generated.keep(found.name, found.content)
        except Exception as error:  # what it holds is not of the types that BootFile promises
            self._complain(error)
            return
        if isinstance(found, Unsuitable):
            self._objection = self._objection or found.reason
        else:
            self._end(found)

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, BootRefused):
            self._end(error)
        else:
            self._complain(error)

    def _complain(self, error: BaseException) -> None:
        now = self.chain.reactor.seconds()
        doing = f"resolve the boot file of {self.request.mac}"
        self.chain.publish(PluginFailed(now, self._name, doing, traceback_of(error)))

    def _passed_over(self) -> None:
        self._timer = None
        waiting = self._stop_waiting()
        now = self.chain.reactor.seconds()
        self.chain.publish(ResolverPassedOver(now, self.request, self._name, now - self._began))
        self._give_up(waiting)
        self.ask()

    def _give_up(self, waiting: "Deferred[Any] | None") -> None:
        if waiting is None:
            return
        try:
            waiting.cancel()
        except Exception as error:  # out of the canceller of the plugin's own Deferred
            self._complain(error)

    def _stop_waiting(self) -> "Deferred[Any] | None":
        waiting, self._pending = self._pending, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return waiting

    def _end(self, outcome: Answer | BootRefused | None) -> None:
        self.ended = True
        self.outcome = outcome
        if self._result is None:
            return
        if isinstance(outcome, BootRefused):
            self._result.errback(outcome)
        else:
            self._result.callback(outcome)

    @property
    def _name(self) -> str:
        return self.chain.resolvers[self._asked - 1][0]
