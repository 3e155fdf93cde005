"""Sizes and times with units in the configuration: ``"256 MiB"``, ``"90 s"``, or a plain number.

A plugin annotates an option with Size or Seconds; it gets the number of bytes or seconds.
"""

import re
from typing import Any, Self

_SIZES = {"B": 1, **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}}
_SIZES |= {"kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_TIMES = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}

_LARGEST = 1e18
"""Largest number: about an exbibyte, or more seconds than the age of the universe. A larger one is a mistake."""

_SPELLED = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)


class Size(int):
    """A number of bytes: ``"256 MiB"`` or ``268435456``."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """Convert a TOML *value* to a size.

        :raise ValueError: *value* is not a size.
        """
        number = _number(value, _SIZES)
        if number is None or number != int(number):
            raise ValueError('must be a size, such as "256 MiB" or 268435456 (bytes)')
        return cls(number)


class Seconds(float):
    """A time in seconds: ``"90 s"``, ``"200 ms"`` or ``90``."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """Convert a TOML *value* to a time.

        :raise ValueError: *value* is not a time.
        """
        number = _number(value, _TIMES)
        if number is None:
            raise ValueError('must be a time, such as "90 s", "200 ms" or 90 (seconds)')
        return cls(number)


def _number(value: Any, units: dict[str, Any]) -> float | None:
    """Return *value* in bytes or seconds; None: it is neither a number, nor a number with one of *units*."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if 0 <= value <= _LARGEST else None
    if not isinstance(value, str) or (found := _SPELLED.fullmatch(value.strip())) is None or found[2] not in units:
        return None
    # Rounded, so that "200 ms" is exactly the float 0.2.
    number = round(float(found[1]) * units[found[2]], 9)
    return number if number <= _LARGEST else None


def size_text(size: int) -> str:
    """Format 268435456 as ``256 MiB``: with the largest unit that gives a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]} {unit}"
    return f"{size} B"


def seconds_text(seconds: float) -> str:
    """Format 90 as ``90 s``, 0.2 as ``200 ms``."""
    return f"{seconds:g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:g} ms"
