"""The cost of code in function calls, which is the same on any machine."""

import gc
import sys
from collections.abc import Callable


def calls_of(use: Callable[[], object]) -> int:
    """The number of function calls by *use*, in Python and in C."""
    count = 0

    def counting(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    gc.disable()  # Hypothesis and others register functions that the collector calls
    sys.setprofile(counting)
    try:
        use()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count
