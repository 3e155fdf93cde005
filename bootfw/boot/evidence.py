"""Looks for the cause of a failed boot in the boot files: names similar to a missing one, and the architecture of a
boot program.

All of it reads the disk and may block, so it runs in a thread, once for each failed boot.
"""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from twisted.internet.defer import Deferred, succeed

from bootfw.ability import provides
from bootfw.boot.pluginresult import as_deferred
from bootfw.errors import FileMissing
from bootfw.interfaces import IDirectoryBackend, IListableBackend
from bootfw.tftp.path import relative
from bootfw.values import Client, TransferRequest
from bootfw.wire.executable import machine_of

NAMES = 2000
"""Most names of each backend that are compared."""

NEAREST = 3
"""Most names in a result."""

_MIN_SIMILARITY = 0.6
"""Cutoff for difflib.get_close_matches(); 1 would be equal."""

_HEAD = 4096
"""Bytes from the beginning of a boot program that machine_of() needs."""


def nearest_names(backends: Sequence[tuple[str, Any]], path: str) -> list[str]:
    """Return up to NEAREST paths of existing files that are similar to *path*, the best first.

    The order: the same file name in another directory, a similar name in the same directory, any similar path.
    """
    missing = PurePosixPath(path)
    names: dict[str, None] = {}
    for _, backend in backends:
        names |= dict.fromkeys(islice(_names(backend, str(missing.parent)), NAMES))
    names.pop(path, None)
    same = [name for name in names if PurePosixPath(name).name.lower() == missing.name.lower()]
    beside = {PurePosixPath(name).name: name for name in names if PurePosixPath(name).parent == missing.parent}
    alike = [beside[name] for name in difflib.get_close_matches(missing.name, beside, NEAREST, _MIN_SIMILARITY)]
    anywhere = difflib.get_close_matches(path, names, NEAREST, _MIN_SIMILARITY)
    return list(dict.fromkeys([*same, *alike, *anywhere]))[:NEAREST]


def missing_file(backends: Sequence[tuple[str, Any]], name: str, mac: str) -> "Deferred[str]":
    """Find out whether a machine could load a file that an operator names.

    A file that is made for the machine counts as existing. A URL, or a name with a placeholder, is not looked for.

    :param name: as a resolver would name it.
    :return: fires with the reason why it can't, with similar names; "" if it could.
    """
    name = re.sub(r"^\{https?\}/", "", name)
    if "://" in name or "{" in name:
        return succeed("")
    path = relative(name)
    request = TransferRequest(filename=name, path=path, peer=("", 0), client=Client(mac=mac))
    return Deferred.fromCoroutine(_why_missing(backends, request))


async def _why_missing(backends: Sequence[tuple[str, Any]], request: TransferRequest) -> str:
    for _, backend in backends:
        try:
            opening = backend.open(request.path, request)
            pending = as_deferred(opening)
            reader = opening if pending is None else await pending
        except FileMissing:
            continue
        except Exception:  # it exists, and what is wrong with it is reported when a machine requests it
            return ""
        closing = as_deferred(reader.close())
        if closing is not None:
            await closing
        return ""
    nearest = nearest_names(backends, request.path)
    like = f"; similar: {', '.join(nearest)}" if nearest else ""
    return f"no backend has {request.path}{like}"


def program_machine(backends: Sequence[tuple[str, Any]], path: str) -> str | None:
    """Return the architecture of the boot program at *path*, as machine_of() names it; None: it can't be read."""
    for _, backend in backends:
        if provides(backend, IDirectoryBackend):
            root = Path(backend.root)
            with suppress(OSError, ValueError):
                found = (root / path).resolve(strict=True)
                if found.is_relative_to(root.resolve()):
                    with found.open("rb") as file:
                        return machine_of(file.read(_HEAD))
    return None


def _names(backend: Any, directory: str) -> Iterator[str]:
    with suppress(OSError, ValueError):
        if provides(backend, IDirectoryBackend):
            root = Path(backend.root)
            # The requested directory first, since the number of names is limited.
            for top in dict.fromkeys((root / directory, root)):
                if top.resolve().is_relative_to(root.resolve()):
                    yield from _walk(root, top)
        elif provides(backend, IListableBackend):
            yield from backend.names()


def _walk(root: Path, top: Path) -> Iterator[str]:
    for directory, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(files):
            yield str(PurePosixPath(Path(directory, name).relative_to(root)))
