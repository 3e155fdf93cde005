"""Tables and live views for a terminal: with rich if it is installed, else plain text."""

import io
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from bootfw.terminal import aligned, printable

_CLEAR = "\x1b[H\x1b[2J"


def is_rich() -> bool:
    """Return whether rich is installed and the output is a terminal with colours and UTF-8."""
    if not sys.stdout.isatty() or "NO_COLOR" in os.environ or "utf" not in (sys.stdout.encoding or "").lower():
        return False
    return find_spec("rich") is not None


def table(rows: Sequence[Sequence[str]]) -> str:
    """Format *rows* as a table; the first row has the names of the columns."""
    if not is_rich():
        return aligned(rows)
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    head, *body = rows
    grid = Table(*head, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for row in body:
        grid.add_row(*(Text(printable(cell), style=_STYLES.get(cell, "")) for cell in row))
    out = io.StringIO()
    Console(file=out, force_terminal=True, width=os.get_terminal_size().columns).print(grid)
    return out.getvalue().strip("\n")


_STYLES = {
    "bound": "green",
    "serving": "green",
    "active": "green",
    "waiting": "yellow",
    "silent": "red",
    "failed": "red",
    "held": "red",
    "declined": "red",
}
"""State -> colour."""


def watch(show: Callable[[], str], seconds: float = 1.0, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print the result of *show* every *seconds*, until the operator interrupts or *show* raises."""
    if not is_rich():
        while True:
            sys.stdout.write(f"{_CLEAR if sys.stdout.isatty() else ''}{show()}\n")
            sys.stdout.flush()
            sleep(seconds)
    from rich.live import Live
    from rich.text import Text

    with Live(Text.from_ansi(show()), auto_refresh=False, screen=True) as live:
        while True:
            sleep(seconds)
            live.update(Text.from_ansi(show()), refresh=True)
