"""The layered backend: looks a file up in all configured backends, in their order."""

import time
from collections.abc import Awaitable, Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, repeat
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, evolve, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.ability import provides
from bootfw.boot.filecontract import contract_violation
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls
from bootfw.boot.pluginresult import as_deferred
from bootfw.boot.secondstage import BootProgram, SecondStageFinder
from bootfw.errors import AccessViolation, FileMissing, TransferError
from bootfw.events import Event, SecondStageFound
from bootfw.interfaces import (
    IBackend,
    IBatchingBackend,
    IPerClientBackend,
    IReplacingBackend,
    IShareableReader,
    IUniformBackend,
    IVersionedBackend,
    IWritableBackend,
)
from bootfw.values import Address, Client, TransferRequest

_Candidate = tuple[int, str]
"""(position of a backend, path to look up in it)."""
_NOT_FOUND: dict[str, type[TransferError]] = {
    "open": FileMissing,
    "create": AccessViolation,
    "replace": AccessViolation,
}
"""Method -> the error if every backend declines. For an upload "File not found" would be wrong."""
_NOT_CACHED = object()
"""The path is not in a _Cache, where None says that the file is missing."""
_Cache = dict[str, "IShareableReader | None"]
"""Path -> a reader that can be shared, or None if the backend does not have the file."""


@define(eq=False)
class _Search:
    """The lookup of one request, once a backend has returned a Deferred."""

    method: str
    candidates: Iterator[_Candidate]
    """Backends and paths that have not been tried yet."""
    path: str
    request: TransferRequest
    detail: str = ""
    """The first reason that a backend gave for not serving a file that exists."""
    backend: str = ""
    """Name of the backend whose Deferred is pending."""


@implementer(IReplacingBackend, IBatchingBackend, IVersionedBackend)
@define(eq=False)
class LayeredBackend:
    """Tries backends in order until one does not raise FileMissing.

    A reader or writer is returned as it is; the result is a Deferred only if a backend returned one.

    A file that is missing at the requested path is also looked up beside the boot program that the client loaded last,
    after the requested path has been tried in the backend that had that program and in those before it.

    :param backends: (name, backend). The name is added to the traceback of an unexpected exception.
    :param second_stage: remembers the last boot program of each client; None disables the lookups beside it.
    :param publish: gets SecondStageFound and PluginBlocked events; must not raise.
    :param seconds: a monotonic clock, to time the calls of backends.
    :param client_at: looks up the client at an address, for backends that provide IPerClientBackend; None: only the
        address of the client is filled in.
    :param own_urls: maps a local address to our (HTTP, HTTPS) URLs there, for the same backends; None: there are none.
    """

    backends: Sequence[tuple[str, IBackend]]
    second_stage: SecondStageFinder | None = None
    publish: Callable[[Event], None] | None = None
    seconds: Callable[[], float] = time.monotonic
    client_at: Callable[[Address], Client] | None = None
    own_urls: Callable[[str], tuple[str, str]] | None = None
    _uniform: Sequence[bool] = field(init=False)
    """Which backends are an IUniformBackend."""
    _all_uniform: bool = field(init=False)
    _per_client: Sequence[bool] = field(init=False)
    """Which backends are an IPerClientBackend."""
    _version_methods: Sequence[Callable[[str, TransferRequest], Hashable | None] | None] = field(init=False)
    """By position of the backend: its version() if it is an IVersionedBackend, else None."""
    _no_caches: Sequence[_Cache | None] = field(init=False)
    _caches: Sequence[_Cache | None] = field(init=False)
    """By position of the backend: a cache for the current batch if the backend is uniform, else None."""
    _searches: "WeakKeyDictionary[Deferred[Any], _Search]" = field(factory=WeakKeyDictionary, init=False)
    """Pending Deferred -> its search, for pending_backend(). Weak, since a caller may drop a pending Deferred."""
    _verified: set[type] = field(factory=set, init=False)
    """Classes of readers and writers whose interfaces have been verified."""
    _blocking: BlockingCalls | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._uniform = [provides(backend, IUniformBackend) for _, backend in self.backends]
        self._all_uniform = bool(self._uniform) and all(self._uniform)
        self._per_client = [provides(backend, IPerClientBackend) for _, backend in self.backends]
        self._version_methods = [b.version if provides(b, IVersionedBackend) else None for _, b in self.backends]
        self._caches = self._no_caches = [None] * len(self.backends)
        clock = self.second_stage.seconds if self.second_stage is not None else self.seconds
        self._blocking = BlockingCalls(self.publish, clock) if self.publish is not None else None

    def begin_batch(self) -> None:
        """See IBatchingBackend."""
        self.end_batch()
        self._caches = [{} if uniform else None for uniform in self._uniform]

    def end_batch(self) -> None:
        """See IBatchingBackend."""
        # Nothing is cached between batches, when files may change.
        caches, self._caches = self._caches, self._no_caches
        # Each reader is closed, even if the close() of another one raises.
        with ExitStack() as readers:
            for reader in chain.from_iterable(cache.values() for cache in caches if cache):
                if reader is not None:
                    readers.callback(reader.close)

    def open(self, path: str, request: TransferRequest) -> Any:
        """See IBackend."""
        finder = self.second_stage
        program = finder.last_program(request.peer[0], path) if finder is not None else None
        if program is not None:
            return self._try("open", self._candidates(path, program), path, request)
        # Negative cache: backends are tried in order, so if all are uniform and the last one is known to miss this
        # path, the others have missed it in this batch too.
        last = self._caches[-1] if self._all_uniform else None
        if last and last.get(path, _NOT_CACHED) is None and not request.ignore_case:
            raise FileMissing()
        return self._try("open", enumerate(repeat(path, len(self.backends))), path, request)

    def open_directory(self, path: str, request: TransferRequest) -> Any:
        """Open a name that can only be that of a directory; otherwise see IBackend.

        Only backends whose attribute ``names_directories`` is true have content for it: the tree of Ec2's metadata.
        """
        those = [named for named in self.backends if getattr(named[1], "names_directories", False)]
        if not those:
            raise FileMissing()
        return evolve(self, backends=those).open(path, request)

    def version(self, path: str, request: TransferRequest) -> Hashable | None:
        """See IVersionedBackend. None also if a backend without versions is tried before the one with the file."""
        finder = self.second_stage
        program = finder.last_program(request.peer[0], path) if finder is not None else None
        candidates: Iterator[_Candidate] = (
            enumerate(repeat(path, len(self.backends))) if program is None else self._candidates(path, program)
        )
        seconds = self.seconds
        for position, candidate in candidates:
            version = self._version_methods[position]
            if version is None:
                return None
            began = seconds()
            try:
                found = version(candidate, request)
            except FileMissing:
                continue
            except Exception:
                return None  # open() reports it
            finally:
                took = seconds() - began
                if took > BLOCKED_SECONDS and self._blocking is not None:
                    self._blocking.report(f"backend {self.backends[position][0]}", f"version({candidate!r})", took)
            if found is not None:
                self._note_found(candidate, position, path, request)
            return found
        return None

    def create(self, path: str, request: TransferRequest) -> Any:
        """See IWritableBackend. Only writable backends are tried.

        :raise AccessViolation: none of them takes the upload.
        """
        writable = [n for n, (_, backend) in enumerate(self.backends) if IWritableBackend.providedBy(backend)]
        return self._try("create", zip(writable, repeat(path)), path, request)

    def replace(self, path: str, request: TransferRequest) -> Any:
        """See IReplacingBackend. Only backends that provide it are tried.

        :raise AccessViolation: none of them takes the upload.
        """
        replacing = [n for n, (_, backend) in enumerate(self.backends) if provides(backend, IReplacingBackend)]
        return self._try("replace", zip(replacing, repeat(path)), path, request)

    def _candidates(self, path: str, program: BootProgram) -> Iterator[_Candidate]:
        """Yield *path* and the paths beside *program*, each with its backend, in the order of the lookup.

        A file beside the boot program wins over a file of the requested name in a later backend: that one may belong
        to another version of the program.
        """
        every = range(len(self.backends))
        yield from ((position, path) for position in every[: program.backend + 1])
        assert self.second_stage is not None
        for candidate in program.candidates(path, self.second_stage.seconds()):
            yield from ((position, candidate) for position in every)
        yield from ((position, path) for position in every[program.backend + 1 :])

    def pending_backend(self, answer: Awaitable[object]) -> str:
        """See IBatchingBackend."""
        search = self._searches.get(answer) if isinstance(answer, Deferred) else None
        return f"backend {search.backend}" if search is not None else "the backend"

    def _try(
        self,
        method: str,
        candidates: Iterator[_Candidate],
        path: str,
        request: TransferRequest,
        search: _Search | None = None,
    ) -> Any:
        """Try the backends at *candidates*, in order.

        :param search: the same arguments as an object; None until a backend returns a Deferred, since most requests
            are answered without one.
        """
        detail = search.detail if search is not None else ""
        caches = self._caches if method == "open" and not request.ignore_case else self._no_caches
        seconds = self.seconds
        for position, candidate in candidates:
            cache = caches[position]
            if cache is not None:  # the backend is uniform: its answer does not depend on the client
                reader: Any = cache.get(candidate, _NOT_CACHED)
                if reader is None:
                    continue
                if reader is not _NOT_CACHED:
                    self._note_found(candidate, position, path, request)
                    return reader.share()
            elif self._per_client[position]:
                request = self._with_client(request)
            name, backend = self.backends[position]
            began = seconds()
            try:
                answer = getattr(backend, method)(candidate, request)
            except FileMissing as error:
                if error.detail:
                    detail = detail or error.detail
                elif cache is not None:  # a miss with a reason is not cached, so that each request reports the reason
                    cache[candidate] = None
                continue
            except Exception as error:
                error.add_note(f"The backend was {name}.")
                raise
            finally:
                took = seconds() - began
                if took > BLOCKED_SECONDS and self._blocking is not None:
                    self._blocking.report(f"backend {name}", f"{method}({candidate!r})", took)
            pending = as_deferred(answer)
            if pending is None:
                self._check(answer, name, method)
                self._note_found(candidate, position, path, request)
                if cache is not None and provides(answer, IShareableReader):
                    # The caller closes its reader; the cache keeps another one until end_batch().
                    cache[candidate] = answer.share()  # type: ignore[assignment]
                return answer
            if search is None:
                search = _Search(method, candidates, path, request)
            search.detail, search.backend = detail, name
            return self._await(pending, position, candidate, search)
        raise _NOT_FOUND[method](detail=detail)

    def _await(self, pending: "Deferred[Any]", position: int, candidate: str, search: _Search) -> "Deferred[Any]":
        """Return the *pending* result of the backend at *position*; if it misses the file, continue with the others."""
        name = self.backends[position][0]
        self._searches[pending] = search

        def succeeded(answer: Any) -> Any:
            self._check(answer, name, search.method)
            self._note_found(candidate, position, search.path, search.request)
            return answer

        def failed(failure: Failure) -> Any:
            error: Any = failure.value
            if isinstance(error, FileMissing):
                search.detail = search.detail or error.detail
                # The iterator of the candidates goes on behind the backend that has just missed the file.
                return self._try(search.method, search.candidates, search.path, search.request, search)
            error.add_note(f"The backend was {name}.")
            return failure

        return pending.addCallbacks(succeeded, failed)

    def _with_client(self, request: TransferRequest) -> TransferRequest:
        """Return *request* with its client and our HTTP URL filled in, unless they are already."""
        if request.client.address:
            return request
        client = self.client_at(request.peer) if self.client_at is not None else Client(request.peer[0])
        return evolve(request, client=client, http_url=self.own_urls(request.local)[0] if self.own_urls else "")

    def _check(self, answer: Any, name: str, method: str) -> None:
        """:raise TransferError: *answer* is not a reader or writer."""
        wrong = contract_violation(answer, method != "open", self._verified)
        if wrong:
            raise TransferError("Internal error", f"{method}() of backend {name}: {wrong}")

    def _note_found(self, candidate: str, position: int, path: str, request: TransferRequest) -> None:
        """Remember the file if it is a boot program, and report if it was found at another path than requested."""
        if self.second_stage is None or request.write:
            return
        self.second_stage.remember(request.peer[0], candidate, position)
        if candidate != path and self.publish is not None:
            self.publish(SecondStageFound(self.second_stage.seconds(), request, candidate))


def with_client_lookup(backend: IBackend, client_at: Callable[[Address], Client] | None) -> IBackend:
    """Return *backend*, wrapped in a LayeredBackend that fills in the client if it provides IPerClientBackend."""
    if not provides(backend, IPerClientBackend):
        return backend
    return LayeredBackend([(type(backend).__name__, backend)], client_at=client_at)
