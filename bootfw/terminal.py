"""Output for a terminal: tables, times, and text that the encoding of the standard streams can hold."""

import io
import sys
from collections.abc import Sequence
from datetime import datetime


def escape_unencodable() -> None:
    """Make the standard streams escape characters that their encoding lacks; an error would lose the whole line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """*rows* as lines, in columns that are as wide as their longest cell."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


def printable(text: str) -> str:
    """*text* with escapes for what the standard output can't show, and for control characters.

    The host name that a client sends may hold anything, also control sequences of a terminal.
    """
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    encoding = sys.stdout.encoding or "ascii"
    return safe.encode(encoding, "backslashreplace").decode(encoding)


def moment(seconds: float | None) -> str:
    """Seconds since the epoch in local time; None: "never"."""
    if seconds is None:
        return "never"
    try:
        return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, OSError, ValueError):
        return f"{seconds:.0f}"
