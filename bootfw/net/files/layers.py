"""Several backends as one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain, repeat
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.ability import ability, declares
from bootfw.errors import AccessViolation, FileMissing
from bootfw.events import Event, SecondStageFound
from bootfw.interfaces import IWritableBackend
from bootfw.net.answers import later
from bootfw.net.files.loaders import Loader, Loaders

_Place = tuple[int, str]
"""(position of a backend, the path to ask it for)."""
_NOBODY = {"open": FileMissing, "create": AccessViolation}
"""What is raised when no backend has answered. "File not found" would be no answer to an upload."""
_UNKNOWN = object()


@implementer(IWritableBackend)
@define(eq=False)
class LayeredBackend:
    """Asks backends in order until one does not raise FileMissing.

    A backend that answers at once is answered with at once; a Deferred comes out only where one went in.

    What a client asks for in the wrong place is looked for beside the boot program that it got last, once the backend
    that had that program, and those before it, have been asked as the client asked.

    :param backends: (name, backend). The name is put into the traceback of what a backend raises by mistake.
    :param loaders: what clients have got; None: nobody remembers.
    :param publish: is given a SecondStageFound; must not raise.
    """

    backends: Sequence[tuple[str, Any]]
    loaders: Loaders | None = None
    publish: Callable[[Event], None] | None = None
    _alike: Sequence[bool] = field(init=False)
    """Which backends are ``same_for_all``."""
    _all_alike: bool = field(init=False)
    _nothing_known: Sequence[dict[str, Any] | None] = field(init=False)
    _known: Sequence[dict[str, Any] | None] = field(init=False)
    """Of each of these, while several requests are dealt with that had all arrived before: path -> a reader that can be
    shared, or None: it is not there. Of other backends, and else, None."""

    def __attrs_post_init__(self) -> None:
        self._alike = [bool(ability(backend, "same_for_all", "open", default=False)) for _, backend in self.backends]
        self._all_alike = bool(self._alike) and all(self._alike)
        self._known = self._nothing_known = [None] * len(self.backends)

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

    def _ask(self, method: str, places: Iterator[_Place], path: str, request: Any) -> Any:
        alike = method == "open" and not getattr(request, "ignore_case", False)
        every = self._known if alike else self._nothing_known
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
            try:
                answer = getattr(backend, method)(place, request)
            except FileMissing:
                if known is not None:
                    known[place] = None
                continue
            except Exception as error:
                error.add_note(f"The backend was {name}.")
                raise
            waiting = later(answer)
            if waiting is None:
                self._found(place, position, path, request)
                if known is not None and declares(answer, "share", "read"):
                    known[place] = answer.share()
                return answer
            return self._await(waiting, position, place, method, places, path, request)
        raise _NOBODY[method]()

    def _await(
        self,
        waiting: "Deferred[Any]",
        position: int,
        place: str,
        method: str,
        places: Iterator[_Place],
        path: str,
        request: Any,
    ) -> "Deferred[Any]":
        """What the backend at *position* answers later, or those after it."""

        def came(answer: Any) -> Any:
            self._found(place, position, path, request)
            return answer

        def failed(failure: Failure) -> Any:
            error: Any = failure.value
            if isinstance(error, FileMissing):
                return self._ask(method, places, path, request)
            error.add_note(f"The backend was {self.backends[position][0]}.")
            return failure

        return waiting.addCallbacks(came, failed)

    def _found(self, place: str, position: int, path: str, request: Any) -> None:
        if self.loaders is None or request.write:
            return
        self.loaders.got(request.peer[0], place, position)
        if place != path and self.publish is not None:
            self.publish(SecondStageFound(self.loaders.seconds(), request, place))
