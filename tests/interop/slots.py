"""How many machines may run at once, counted over all processes of a test run.

A machine needs a core for about a third of its time, and waits for timers of its firmware otherwise. So four machines
run on two cores, and leave some of them to the other tests. With many more, firmware would reach timeouts of its own,
which it counts in seconds.
"""

import fcntl
import os
import tempfile
import time
from pathlib import Path

SLOTS = (os.cpu_count() or 1) * 2


class Slot:
    """One of the slots: taken when it is first needed, and given back at the end."""

    def __init__(self) -> None:
        self.waited = 0.0
        """Seconds until it was there."""
        self._file: int | None = None

    @property
    def taken(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Wait for a free one. The kernel frees those of processes that were killed."""
        began = time.monotonic()
        while not self.taken:
            for number in range(SLOTS):
                if self._lock(Path(tempfile.gettempdir(), f"bootfw-machine-{number}.lock")):
                    break
            else:
                time.sleep(0.1)
        self.waited = time.monotonic() - began

    def give_back(self) -> None:
        """So that another one gets it. Nothing happens when it was not taken."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, path: Path) -> bool:
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(opened)
            return False
        self._file = opened
        return True
