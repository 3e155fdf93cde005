"""Several backends as one."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, repeat
from typing import Any
from weakref import WeakKeyDictionary

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.ability import ability, declares
from bootfw.boot.onceper import BLOCKED_SECONDS, BlockingCalls
from bootfw.boot.opened import objection
from bootfw.boot.pluginresult import later
from bootfw.boot.secondstage import Loader, Loaders
from bootfw.errors import AccessViolation, FileMissing, TransferError
from bootfw.events import Event, SecondStageFound
from bootfw.interfaces import IWritableBackend

_Place = tuple[int, str]
"""(position of a backend, the path to ask it for)."""
_NOBODY = {"open": FileMissing, "create": AccessViolation}
"""What is raised when no backend has answered. "File not found" would be no answer to an upload."""
_UNKNOWN = object()


@define(eq=False)
class _Search:
    """One request on its way through the backends, once it waits for one of them."""

    method: str
    places: Iterator[_Place]
    """That have not been looked at yet."""
    path: str
    request: Any
    detail: str = ""
    """The first reason of a backend why it does not serve what is there."""
    backend: str = ""
    """The name of the one that was asked last, of those that answer later."""


@implementer(IWritableBackend)
@define(eq=False)
class LayeredBackend:
    """Asks backends in order until one does not raise FileMissing.

    A backend that answers at once is answered with at once; a Deferred comes out only where one went in.

    What a client asks for in the wrong place is looked for beside the boot program that it got last, once the backend
    that had that program, and those before it, have been asked as the client asked.

    :param backends: (name, backend). The name is put into the traceback of what a backend raises by mistake.
    :param loaders: what clients have got; None: nobody remembers.
    :param publish: is given a SecondStageFound and a PluginBlocked; must not raise.
    :param seconds: the clock that backends are timed by.
    """

    backends: Sequence[tuple[str, Any]]
    loaders: Loaders | None = None
    publish: Callable[[Event], None] | None = None
    seconds: Callable[[], float] = time.monotonic
    _alike: Sequence[bool] = field(init=False)
    """Which backends are ``same_for_all``."""
    _all_alike: bool = field(init=False)
    _nothing_known: Sequence[dict[str, Any] | None] = field(init=False)
    _known: Sequence[dict[str, Any] | None] = field(init=False)
    """Of each of these, while several requests are dealt with that had all arrived before: path -> a reader that can be
    shared, or None: it is not there. Of other backends, and else, None."""
    _searches: "WeakKeyDictionary[Deferred[Any], _Search]" = field(factory=WeakKeyDictionary, init=False)
    """Those that wait for a backend."""
    _blocking: BlockingCalls | None = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._alike = [bool(ability(backend, "same_for_all", "open", default=False)) for _, backend in self.backends]
        self._all_alike = bool(self._alike) and all(self._alike)
        self._known = self._nothing_known = [None] * len(self.backends)
        clock = self.loaders.seconds if self.loaders is not None else self.seconds
        self._blocking = BlockingCalls(self.publish, clock) if self.publish is not None else None

    def together(self, begins: bool) -> None:
        """Whether what is asked from now on had all arrived before.

        What one of these requests misses need not be looked for again for the others, and what it gets is opened once.
        """
        known, self._known = self._known, self._nothing_known
        with ExitStack() as readers:
            for reader in chain.from_iterable(found.values() for found in known if found):
                if reader is not None:
                    readers.callback(reader.close)
        if begins:
            self._known = [{} if alike else None for alike in self._alike]

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        loaders = self.loaders
        loader = loaders.of(request.peer[0], path) if loaders is not None else None
        if loader is not None:
            return self._ask("open", self._places(path, loader), path, request)
        # The short way of what a rack misses: where the last one is known to lack it, those before it have been asked.
        last = self._known[-1] if self._all_alike else None
        if last and last.get(path, _UNKNOWN) is None and not request.ignore_case:
            raise FileMissing()
        return self._ask("open", enumerate(repeat(path, len(self.backends))), path, request)

    def create(self, path: str, request: Any) -> Any:
        """See IWritableBackend. Backends that take no uploads are not asked.

        :raise AccessViolation: nobody takes it.
        """
        writable = [n for n, (_, backend) in enumerate(self.backends) if IWritableBackend.providedBy(backend)]
        return self._ask("create", zip(writable, repeat(path)), path, request)

    def _places(self, path: str, loader: Loader) -> Iterator[_Place]:
        every = range(len(self.backends))
        yield from ((position, path) for position in every[: loader.backend + 1])
        assert self.loaders is not None
        for place in loader.places(path, self.loaders.seconds()):
            yield from ((position, place) for position in every)
        yield from ((position, path) for position in every[loader.backend + 1 :])

    def backend_of(self, answer: "Deferred[Any]") -> str:
        """The name of the backend that open() or create() waits for, when it has answered with this Deferred."""
        search = self._searches.get(answer)
        return f"backend {search.backend}" if search is not None else "the backend"

    def _ask(
        self, method: str, places: Iterator[_Place], path: str, request: Any, search: "_Search | None" = None
    ) -> Any:
        """Try the backends at *places*, in order.

        :param search: of these same arguments; None: no backend has answered later yet. Most do not, and then the
            request needs no such object.
        """
        detail = search.detail if search is not None else ""
        alike = method == "open" and not getattr(request, "ignore_case", False)
        every = self._known if alike else self._nothing_known
        seconds = self.seconds
        for position, place in places:
            known = every[position]
            if known is not None:
                reader = known.get(place, _UNKNOWN)
                if reader is None:
                    continue
                if reader is not _UNKNOWN:
                    self._found(place, position, path, request)
                    return reader.share()
            name, backend = self.backends[position]
            began = seconds()
            try:
                answer = getattr(backend, method)(place, request)
            except FileMissing as error:
                if error.detail:
                    detail = detail or error.detail
                elif known is not None:
                    known[place] = None
                continue
            except Exception as error:
                error.add_note(f"The backend was {name}.")
                raise
            finally:
                took = seconds() - began
                if took > BLOCKED_SECONDS and self._blocking is not None:
                    self._blocking.report(f"backend {name}", f"{method}({place!r})", took)
            waiting = later(answer)
            if waiting is None:
                self._check(answer, name, method)
                self._found(place, position, path, request)
                if known is not None and declares(answer, "share", "read"):
                    known[place] = answer.share()
                return answer
            if search is None:
                search = _Search(method, places, path, request)
            search.detail, search.backend = detail, name
            return self._await(waiting, position, place, search)
        raise _NOBODY[method](detail=detail)

    def _await(self, waiting: "Deferred[Any]", position: int, place: str, search: "_Search") -> "Deferred[Any]":
        """What the backend at *position* answers later, or those after it."""
        name = self.backends[position][0]
        self._searches[waiting] = search

        def came(answer: Any) -> Any:
            self._check(answer, name, search.method)
            self._found(place, position, search.path, search.request)
            return answer

        def failed(failure: Failure) -> Any:
            error: Any = failure.value
            if isinstance(error, FileMissing):
                search.detail = search.detail or error.detail
                return self._ask(search.method, search.places, search.path, search.request, search)
            error.add_note(f"The backend was {name}.")
            return failure

        return waiting.addCallbacks(came, failed)

    def _check(self, answer: Any, name: str, method: str) -> None:
        """:raise TransferError: it is no reader or writer."""
        wrong = objection(answer, method == "create")
        if wrong:
            raise TransferError("Internal error", f"{method}() of backend {name}: {wrong}")

    def _found(self, place: str, position: int, path: str, request: Any) -> None:
        if self.loaders is None or request.write:
            return
        self.loaders.got(request.peer[0], place, position)
        if place != path and self.publish is not None:
            self.publish(SecondStageFound(self.loaders.seconds(), request, place))
