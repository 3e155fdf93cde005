"""The requests whose boot file is not known yet, by either version of DHCP."""

from collections.abc import Callable, Collection, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.boot.resolverchain import Answer, ResolverChain
from bootfw.dhcp.bootfile import Unsuitable, http_architecture
from bootfw.errors import BootRefused
from bootfw.values import BootRequest

Fitted = TypeVar("Fitted", bound=Answer)


class PendingResolutions(Generic[Fitted]):
    """Asks the resolvers, and remembers for whom they have not answered yet.

    :param fit: what a client can make of a resolver's answer.
    :param needless: architectures that ask for a file whether there is one or not.
    """

    _log = Logger()

    def __init__(
        self,
        chain: ResolverChain,
        fit: Callable[[Answer, BootRequest], Fitted | Unsuitable],
        needless: Collection[str] = (),
    ) -> None:
        self._chain = chain
        self._fit = fit
        self._needless = needless
        self._resolving: dict[Hashable, Deferred[Any]] = {}

    def resolve(self, key: Hashable, request: BootRequest, told: Callable[[Fitted | None, str], None]) -> None:
        """Find the boot file for *request*.

        :param key: the same when a client repeats itself.
        :param told: called with it, or with None and the reason; not at all for a client that repeats itself.
            The reason is "" when nobody has a file, and the client is of those that need none.
        """
        if key in self._resolving:
            return  # The answer to the first of these is on its way.
        try:
            found = self._chain.resolve(request, self._fit)
        except BootRefused as refused:
            told(None, refused.reason)
            return
        if not isinstance(found, Deferred):
            told(found, "" if found else self._nobody_has_a_file(request))
            return
        self._resolving[key] = found
        found.addBoth(self._resolved, key)
        found.addCallback(lambda file: told(file, "" if file else self._nobody_has_a_file(request)))
        found.addErrback(self._unanswered, told)

    def close(self) -> None:
        """Tell nobody what is still being resolved."""
        resolving, self._resolving = self._resolving, {}
        for waiting in resolving.values():
            waiting.cancel()

    def _resolved(self, result: Any, key: Hashable) -> Any:
        self._resolving.pop(key, None)
        return result

    def _unanswered(self, failure: Failure, told: Callable[[Fitted | None, str], None]) -> None:
        error = failure.value
        if isinstance(error, BootRefused):
            told(None, error.reason)
        elif not isinstance(error, CancelledError):
            self._log.failure("Failed to answer a boot client.", failure)

    def _nobody_has_a_file(self, request: BootRequest) -> str:
        if request.architecture in self._needless:
            return ""
        if not self._chain.resolvers:
            return 'there is no resolver; add a [[resolver]], such as use = "by-architecture"'
        key = "ipxe" if request.ipxe else http_architecture(request) if request.http else request.architecture
        return f'no resolver has a file for it; with by-architecture that is [resolver.files] "{key}" = "..."'
