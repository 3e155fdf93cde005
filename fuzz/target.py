"""The definition of a fuzz target."""

import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from attrs import frozen

FOUND = Path(__file__).parent / "found"
"""Inputs that once broke a rule: FOUND/TARGET/NAME."""

LONGEST = 1.0
"""Seconds of CPU time that one input may take. The longest that was measured takes a tenth of it."""


@frozen
class Target:
    """One part of bootfw that reads what others write."""

    name: str
    check: Callable[[bytes], None]
    """Reads an input. It raises nothing unless a rule is broken: only the documented error comes out of the parser, an
    encoder gives back what was read, and so on."""
    seeds: Callable[[], Iterable[bytes]]
    """Valid inputs, those of real clients where there are some."""
    largest: int = 1500
    """Bytes of an input that the fuzzer tries."""

    def run(self, data: bytes) -> None:
        """Check an input, and that it takes no longer than LONGEST.

        :raise Exception: it breaks a rule.
        """
        began = time.thread_time()
        self.check(data)
        took = time.thread_time() - began
        if took > LONGEST:
            raise AssertionError(f"{self.name}: {len(data)} bytes took {took:.1f} s")

    def found(self) -> list[Path]:
        """The files of inputs that once broke a rule."""
        return sorted((FOUND / self.name).glob("*"))


def scratch() -> Path:
    """A directory for the files that targets read; it is removed when the process ends."""
    return Path(_scratch().name)


@cache
def _scratch() -> TemporaryDirectory[str]:
    return TemporaryDirectory(prefix="bootfw-fuzz-")
