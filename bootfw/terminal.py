"""Formats output for a terminal: tables, times, and text that the encoding of the standard streams supports."""

import io
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import datetime


def escape_unencodable() -> None:
    """Make the standard streams escape characters that their encoding lacks; otherwise printing one would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Format *rows* as lines, in columns that are as wide as their longest cell."""
    printable_rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*printable_rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in printable_rows)


def printable(text: str) -> str:
    """Escape control characters in *text*, and characters that the standard output can't show.

    Text from clients, such as a host name, may contain control sequences of the terminal.
    """
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "ascii"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def moment(seconds: float | None) -> str:
    """Format seconds since the epoch as local time; None as "never"."""
    if seconds is None:
        return "never"
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f}"


class StatusLine:
    """A line on the terminal that is written again and again, on the standard error; without a terminal, nothing."""

    _INTERVAL = 0.2
    """Seconds between two texts at least."""

    def __init__(self) -> None:
        self._shown_at = 0.0

    def show(self, text: str) -> None:
        """Put *text* into the line, a few times a second."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._shown_at < self._INTERVAL:
            return
        self._shown_at = now
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r{printable(text)[:width]}\x1b[K")
        sys.stderr.flush()

    def clear(self) -> None:
        """Remove the line, as before other output."""
        if sys.stderr.isatty() and self._shown_at:
            self._shown_at = 0.0
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
