"""A watchdog with a list of waits, which the non-adaptive policies use."""

from collections.abc import Callable
from math import isfinite
from typing import Any

from attrs import frozen
from zope.interface import implementer

from bootfw.api import ConfigError, IWatchdog


@implementer(IWatchdog)
@frozen
class Schedule:
    """Waits the seconds of a list: after the first sending, after the second and so on. Then it gives up."""

    waits: tuple[float, ...]
    """Not empty."""

    def wait(self, attempt: int) -> float | None:
        """See IWatchdog."""
        return self.waits[attempt - 1] if attempt <= len(self.waits) else None


def repeated(seconds: float, patience: float) -> Schedule:
    """Return a Schedule with the same wait, until *patience* seconds are over."""
    return Schedule((float(seconds),) * -int(-patience // seconds))


def above(least: float, *, inclusive: bool = False) -> Callable[[Any, Any, float], None]:
    """Return a validator for a number of seconds or a factor: finite, and above *least* (or equal)."""

    def validate(policy: Any, attribute: Any, value: float) -> None:
        check(value, least, inclusive, attribute.name)

    return validate


def check(value: float, least: float, inclusive: bool, *path: str | int) -> None:
    """Check that *value* is a finite number above *least*.

    :raise ConfigError: with *path*, whose names are spelled as the configuration does.
    """
    if not (isfinite(value) and (value > least or (inclusive and value == least))):
        allowed = f"at least {least:g}" if inclusive else f"above {least:g}"
        where = tuple(part.replace("_", "-") if isinstance(part, str) else part for part in path)
        raise ConfigError(f"must be a finite number {allowed}, not {value}", where)
