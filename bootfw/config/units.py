"""Sizes and times as the configuration spells them: ``"256 MiB"``, ``"90 s"``, or a plain number.

As an annotation of an option, Size and Seconds say what TOML may hold; the option gets the number.
"""

import re
from typing import Any, Self

_SIZES = {"B": 1, **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMGT", 1)}}
_SIZES |= {"kB": 1000, "MB": 1000**2, "GB": 1000**3, "TB": 1000**4}
_TIMES = {"ms": 0.001, "s": 1, "min": 60, "h": 3600, "d": 86400}

_LARGEST = 1e18
"""About an exbibyte, or the age of the universe in seconds: what is larger is a mistake."""

_SPELLED = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", re.ASCII)


class Size(int):
    """A number of bytes: ``"256 MiB"`` or ``268435456``."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """The size that TOML spells as *value*.

        :raise ValueError: it is none.
        """
        number = _number(value, _SIZES)
        if number is None or number != int(number):
            raise ValueError('must be a size, such as "256 MiB" or 268435456 (bytes)')
        return cls(number)


class Seconds(float):
    """A time in seconds: ``"90 s"``, ``"200 ms"`` or ``90``."""

    @classmethod
    def read(cls, value: Any) -> Self:
        """The time that TOML spells as *value*.

        :raise ValueError: it is none.
        """
        number = _number(value, _TIMES)
        if number is None:
            raise ValueError('must be a time, such as "90 s", "200 ms" or 90 (seconds)')
        return cls(number)


def _number(value: Any, units: dict[str, Any]) -> float | None:
    """*value* in bytes or seconds; None: it is neither a number nor one of *units* behind a number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if 0 <= value <= _LARGEST else None
    if not isinstance(value, str) or (found := _SPELLED.fullmatch(value.strip())) is None or found[2] not in units:
        return None
    # The nearest of the floats: "200 ms" is 0.2, not 0.2 and a bit.
    number = round(float(found[1]) * units[found[2]], 9)
    return number if number <= _LARGEST else None


def size_text(size: int) -> str:
    """``256 MiB`` of 268435456: with the largest unit that leaves a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size and size % _SIZES[unit] == 0:
            return f"{size // _SIZES[unit]} {unit}"
    return f"{size} B"


def seconds_text(seconds: float) -> str:
    """``90 s`` of 90, ``200 ms`` of 0.2."""
    return f"{seconds:g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:g} ms"
