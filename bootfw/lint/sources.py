"""The files that backends make others from: templates, host files, what a menu names."""

from collections.abc import Iterator, Sequence
from typing import Any

from bootfw.lint.finding import Finding

_REMEDY = "correct it; bootfw render shows what a client gets"


def check_sources(backends: Sequence[tuple[str, Any]]) -> Iterator[Finding]:
    """What the backends find wrong with their own files: those that have ``file_problems()``."""
    for _, backend in backends:
        find = getattr(backend, "file_problems", None)
        if find is not None:
            yield from (Finding(problem.where, "source", problem.reason, _REMEDY) for problem in find())
