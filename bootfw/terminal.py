"""The standard streams of a process, whose encoding may not have the characters of a client's name."""

import io
import sys


def escape_unencodable() -> None:
    """Have the standard streams write escapes for what their encoding does not have: an error would lose the line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
