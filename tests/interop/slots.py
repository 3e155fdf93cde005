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
        self.waited_seconds = 0.0
        """Seconds that take() has waited."""
        self._file: int | None = None

    @property
    def is_taken(self) -> bool:
        return self._file is not None

    def take(self) -> None:
        """Wait for a free slot, and lock it. The kernel frees the slots of processes that were killed."""
        began = time.monotonic()
        while not self.is_taken:
            for number in range(SLOTS):
                if self._lock(Path(tempfile.gettempdir(), f"bootfw-machine-{number}.lock")):
                    break
            else:
                time.sleep(0.1)
        self.waited_seconds = time.monotonic() - began

    def give_back(self) -> None:
        """Free the slot for another process. Nothing happens when it was not taken."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _lock(self, path: Path) -> bool:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._file = descriptor
        return True
