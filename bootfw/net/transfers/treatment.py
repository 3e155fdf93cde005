"""What is done otherwise for clients that need it; see bootfw.values.Treatment. The others don't come here."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from attrs import evolve
from twisted.python.failure import Failure

from bootfw.errors import FileMissing
from bootfw.interfaces import IBackend
from bootfw.net.answers import later
from bootfw.personas.table import legible
from bootfw.readers import MemoryReader
from bootfw.tftp.negotiation import Limits
from bootfw.tftp.path import relative
from bootfw.values import TransferRequest, Treatment


def wanted(options: tuple[tuple[str, str], ...], treatment: Treatment) -> tuple[tuple[str, str], ...]:
    """*options* without those that the client must not get."""
    return tuple(option for option in options if option[0].lower() not in treatment.refuse_options)


def capped(limits: Limits, treatment: Treatment) -> Limits:
    """*limits*, and no more than the client can do."""
    return Limits(
        min(limits.max_blksize, treatment.max_blksize or limits.max_blksize),
        min(limits.max_windowsize, treatment.max_windowsize or limits.max_windowsize),
    )


def open_treated(backend: IBackend, request: TransferRequest, treatment: Treatment) -> Any:
    """What IBackend.open answers; where it has no such file, what stands in its place.

    :raise FileMissing: nothing does.
    """
    return _first(backend, [request.path, *_instead(request.path, treatment)], request, treatment)


def _first(backend: IBackend, paths: list[str], request: TransferRequest, treatment: Treatment) -> Any:
    for position, path in enumerate(paths):
        try:
            # The request says the same as the path: some backends go by it.
            answer = backend.open(path, request if path == request.path else evolve(request, path=path))
        except FileMissing:
            continue
        waiting = later(answer)
        if waiting is None:
            return answer

        def failed(failure: Failure, rest: list[str] = paths[position + 1 :]) -> Any:
            if not isinstance(failure.value, FileMissing):
                return failure
            return _first(backend, rest, request, treatment)

        return waiting.addErrback(failed)
    path = legible(request.path)
    if any(fnmatchcase(path, pattern) for pattern in treatment.empty_when_missing):
        return MemoryReader(b"")
    raise FileMissing()


def _instead(path: str, treatment: Treatment) -> Iterator[str]:
    shown = legible(path)
    if treatment.cut_names and "\ufffd" in shown:
        path = shown = relative(shown.partition("\ufffd")[0])
        yield path
    for pattern, others in treatment.instead.items():
        if fnmatchcase(shown, pattern):
            for other in others:
                yield relative(other.replace("{path}", path).replace("{name}", path.rpartition("/")[2]))
