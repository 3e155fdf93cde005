"""Several backends as one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import repeat
from typing import Any

from attrs import define, field
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.errors import AccessViolation, FileMissing
from bootfw.events import Event, SecondStageFound
from bootfw.interfaces import IWritableBackend
from bootfw.net.answers import later
from bootfw.net.files.loaders import Loader, Loaders

_Place = tuple[int, str]
"""(position of a backend, the path to ask it for)."""
_Shared = tuple[Any, int, str]
"""(a reader that can be shared, and the place where it was found)."""


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
    _same_for_all: bool = field(init=False)
    _known: dict[Any, _Shared | None] | None = field(default=None, init=False)
    """What requests have been answered with, while several are dealt with that had all arrived before; else None."""

    def __attrs_post_init__(self) -> None:
        self._same_for_all = all(getattr(backend, "same_for_all", False) for _, backend in self.backends)

    def together(self, begins: bool) -> None:
        """Whether what is asked from now on had all arrived before.

        What one of these requests misses need not be looked for again for the others, and what it gets is opened once.
        """
        known, self._known = self._known, {} if begins and self._same_for_all else None
        with ExitStack() as readers:
            for found in (known or {}).values():
                if found is not None:
                    readers.callback(found[0].close)

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        loaders = self.loaders
        loader = loaders.of(request.peer[0], path) if loaders is not None else None
        known = self._known
        if known is None or request.ignore_case or (loader is not None and loader.shim):
            return self._ask("open", self._places(path, loader), path, request, FileMissing)
        key = path if loader is None else (path, loader.path, loader.backend)
        if key not in known:
            return self._ask("open", self._places(path, loader), path, request, FileMissing, key)
        found = known[key]
        if found is None:
            raise FileMissing()
        reader, position, place = found
        self._found(place, position, path, request)
        return reader.share()

    def create(self, path: str, request: Any) -> Any:
        """See IWritableBackend. Backends that take no uploads are not asked.

        :raise AccessViolation: nobody takes it. "File not found" would be no answer to an upload.
        """
        writable = [n for n, (_, backend) in enumerate(self.backends) if IWritableBackend.providedBy(backend)]
        return self._ask("create", zip(writable, repeat(path)), path, request, AccessViolation)

    def _places(self, path: str, loader: Loader | None) -> Iterator[_Place]:
        every = range(len(self.backends))
        if loader is None:
            yield from ((position, path) for position in every)
            return
        yield from ((position, path) for position in every[: loader.backend + 1])
        assert self.loaders is not None
        for place in loader.places(path, self.loaders.seconds()):
            yield from ((position, place) for position in every)
        yield from ((position, path) for position in every[loader.backend + 1 :])

    def _ask(
        self,
        method: str,
        places: Iterator[_Place],
        path: str,
        request: Any,
        nobody: type[Exception],
        key: Any = None,
    ) -> Any:
        """:param key: what the answer is known by from now on, if it is to be."""
        for position, place in places:
            name, backend = self.backends[position]
            try:
                answer = getattr(backend, method)(place, request)
            except FileMissing:
                continue
            except Exception as error:
                error.add_note(f"The backend was {name}.")
                raise
            waiting = later(answer)
            if waiting is None:
                self._found(place, position, path, request)
                if (
                    key is not None
                    and self._known is not None
                    and (share := getattr(answer, "share", None)) is not None
                ):
                    self._known[key] = share(), position, place
                return answer

            def came(answer: Any, position: int = position, place: str = place) -> Any:
                self._found(place, position, path, request)
                return answer

            def failed(failure: Failure, name: str = name) -> Any:
                error: Any = failure.value
                if isinstance(error, FileMissing):
                    return self._ask(method, places, path, request, nobody)
                error.add_note(f"The backend was {name}.")
                return failure

            return waiting.addCallbacks(came, failed)
        if key is not None:
            self._note(key, None)
        raise nobody()

    def _note(self, key: Any, found: _Shared | None) -> None:
        assert self._known is not None
        self._known[key] = found

    def _found(self, place: str, position: int, path: str, request: Any) -> None:
        if self.loaders is None or request.write:
            return
        self.loaders.got(request.peer[0], place, position)
        if place != path and self.publish is not None:
            self.publish(SecondStageFound(self.loaders.seconds(), request, place))
