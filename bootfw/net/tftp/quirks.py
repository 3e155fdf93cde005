"""Workarounds for clients with TFTPQuirks (bootfw.values). Requests of other clients never come here."""

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

from attrs import evolve
from twisted.python.failure import Failure

from bootfw.boot.pluginresult import as_deferred
from bootfw.errors import FileMissing
from bootfw.interfaces import IBackend
from bootfw.personas.table import legible
from bootfw.readers import MemoryReader
from bootfw.tftp.negotiation import Limits
from bootfw.tftp.path import relative
from bootfw.values import TFTPQuirks, TransferRequest

_NO_TEXT = re.compile("[\x01-\x1f\x7f\udc80-\udcff]")
"""Control characters, and bytes that are not UTF-8."""

_END_OPTION = "\udcff"


def allowed_options(options: tuple[tuple[str, str], ...], quirks: TFTPQuirks) -> tuple[tuple[str, str], ...]:
    """Return *options* without those that the server must refuse to this client."""
    if not quirks.refuse_options:
        return options
    return tuple(option for option in options if option[0].lower() not in quirks.refuse_options)


def capped_limits(limits: Limits, quirks: TFTPQuirks) -> Limits:
    """Return *limits*, lowered to what the client can do."""
    if quirks.max_blksize is None and quirks.max_windowsize is None:
        return limits
    return Limits(
        min(limits.max_blksize, quirks.max_blksize or limits.max_blksize),
        min(limits.max_windowsize, quirks.max_windowsize or limits.max_windowsize),
    )


def open_with_quirks(backend: IBackend, request: TransferRequest, quirks: TFTPQuirks) -> Any:
    """Open the file, or the first alternative that exists where it is missing.

    :raise FileMissing: neither exists.
    """
    if not (quirks.instead or quirks.empty_when_missing or quirks.cut_names):
        return backend.open(request.path, request)
    return _open_first(backend, [request.path, *_alternatives(request.path, quirks)], request, quirks)


def _open_first(
    backend: IBackend, paths: list[str], request: TransferRequest, quirks: TFTPQuirks, reason: str = ""
) -> Any:
    for position, path in enumerate(paths):
        try:
            # Some backends go by the path of the request, so it has to be the alternative, too.
            answer = backend.open(path, request if path == request.path else evolve(request, path=path))
        except FileMissing as missing:
            reason = reason or missing.detail
            continue
        waiting = as_deferred(answer)
        if waiting is None:
            return answer

        def failed(failure: Failure, remaining: list[str] = paths[position + 1 :], reason: str = reason) -> Any:
            if not isinstance(failure.value, FileMissing):
                return failure
            return _open_first(backend, remaining, request, quirks, reason or failure.value.detail)

        return waiting.addErrback(failed)
    path = legible(request.path)
    if any(fnmatchcase(path, pattern) for pattern in quirks.empty_when_missing):
        return MemoryReader(b"")
    raise FileMissing(detail=reason)


def _alternatives(path: str, quirks: TFTPQuirks) -> Iterator[str]:
    if quirks.cut_names:
        for cut in _without_tail(path):
            path = cut
            yield path
    legible_path = legible(path)
    for pattern, replacements in quirks.instead.items():
        if fnmatchcase(legible_path, pattern):
            for replacement in replacements:
                yield relative(replacement.replace("{path}", path).replace("{name}", path.rpartition("/")[2]))


def _without_tail(path: str) -> Iterator[str]:
    """Yield *path* without the DHCP option that the client took for a part of the name.

    The first byte that is no text is the code of that option, or its length: then the code is the byte before it.
    """
    found = _NO_TEXT.search(path)
    if found is None:
        return
    ends = (found.start(),) if found[0] == _END_OPTION else (found.start(), found.start() - 1)
    yield from (relative(path[: max(end, 0)]) for end in ends)
