"""Boot requests that wait for resolvers."""

from collections.abc import Callable, Collection, Hashable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from bootfw.boot.resolverchain import Answer, ResolverChain
from bootfw.dhcp.bootfile import Unsuitable, http_architecture
from bootfw.errors import BootRefused
from bootfw.values import BootRequest

MOST_PENDING = 4096
"""Requests of one port that wait at once. They wait for a second at most, so 3,000 machines at once pass."""

Adapted = TypeVar("Adapted", bound=Answer)


class PendingResolutions(Generic[Adapted]):
    """Calls the resolver chain, once for all repetitions of a request.

    :param adapt: adapts a resolver's answer to the client, or returns why the client can't use it.
    :param optional_architectures: architectures whose clients request a boot file but need none.
    """

    _log = Logger()

    def __init__(
        self,
        chain: ResolverChain,
        adapt: Callable[[Answer, BootRequest], Adapted | Unsuitable],
        optional_architectures: Collection[str] = (),
    ) -> None:
        self._chain = chain
        self._adapt = adapt
        self._optional_architectures = optional_architectures
        self._resolving: dict[Hashable, Deferred[Any]] = {}

    def resolve(self, key: Hashable, request: BootRequest, done: Callable[[Adapted | None, str], None]) -> bool:
        """Find the boot file for *request*.

        :param key: the same for the repetitions of one request.
        :param done: called with the file, or with None and the reason; not called for a repetition while the first
            request is pending. The reason is "" if no resolver has a file for a client that needs none.
        :return: false if MOST_PENDING requests wait already; then the resolvers are not called.
        """
        if len(self._resolving) >= MOST_PENDING:
            return False
        if key in self._resolving:
            return True  # A repetition: the reply to the pending request will follow.
        try:
            found = self._chain.resolve(request, self._adapt)
        except BootRefused as refused:
            done(None, refused.reason)
            return True
        if not isinstance(found, Deferred):
            done(found, "" if found else self._no_file(request))
            return True
        # The key is removed first: from then on the request is resolved anew, also when *done* raises.
        self._resolving[key] = found
        found.addBoth(self._resolved, key)
        found.addCallback(lambda file: done(file, "" if file else self._no_file(request)))
        found.addErrback(self._failed, done)
        return True

    def use(self, chain: ResolverChain) -> None:
        """Call *chain* for later requests."""
        self._chain = chain

    def close(self) -> None:
        """Cancel the pending resolutions; their callbacks are not called."""
        # cancel() calls _resolved(), which removes keys.
        resolving, self._resolving = self._resolving, {}
        for waiting in resolving.values():
            waiting.cancel()

    def _resolved(self, result: Any, key: Hashable) -> Any:
        self._resolving.pop(key, None)
        return result

    def _failed(self, failure: Failure, done: Callable[[Adapted | None, str], None]) -> None:
        error = failure.value
        if isinstance(error, BootRefused):
            done(None, error.reason)
        elif not isinstance(error, CancelledError):
            self._log.failure("Failed to answer a boot client.", failure)

    def _no_file(self, request: BootRequest) -> str:
        if request.architecture in self._optional_architectures:
            return ""
        if not self._chain.resolvers:
            return 'there is no resolver; add a [[resolver]], such as use = "by-architecture"'
        key = "ipxe" if request.ipxe else http_architecture(request) if request.http else request.architecture
        return f'no resolver has a file for it; with by-architecture that is [resolver.files] "{key}" = "..."'
