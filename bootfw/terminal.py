"""Formats output for a terminal: tables, times, and text that the encoding of the standard streams supports."""

import io
import sys
from collections.abc import Sequence
from datetime import datetime


def escape_unencodable() -> None:
    """Make the standard streams escape characters that their encoding lacks; otherwise printing one would raise."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Format *rows* as lines, in columns that are as wide as their longest cell."""
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in shown)


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
