"""The outcome of an import for each line of another server's configuration."""

from enum import Enum

from attrs import field, frozen


class Fate(Enum):
    """What an import has done with a line."""

    EXPRESSED = "expressed"
    """The configuration of bootfw has the same setting."""
    ASSUMED = "assumed"
    """It has the same setting if an assumption holds, which the operator has to check."""
    UNNEEDED = "not needed"
    """It has no effect on what bootfw serves, or bootfw does so anyway."""
    LEFT_OUT = "left out"
    """bootfw can't do this."""


CLEAN = (Fate.EXPRESSED, Fate.UNNEEDED)
"""The fates of lines that the operator need not check."""


@frozen(order=True)
class Line:
    """A line of a configuration."""

    file: str
    number: int
    """From 1; 0: the file as a whole."""
    text: str = field(default="", order=False, eq=False)

    def __str__(self) -> str:
        return f"{self.file}:{self.number}" if self.number else self.file


@frozen
class Outcome:
    """What an import has done with a line, and why."""

    line: Line
    fate: Fate
    reason: str = ""
    """Where the configuration has the setting. For other fates: why it is missing, and what to do instead."""

    @property
    def record(self) -> dict[str, str | int]:
        """The outcome as a JSON object."""
        return {
            "file": self.line.file,
            "line": self.line.number,
            "text": self.line.text,
            "fate": self.fate.value,
            "reason": self.reason,
        }


class UnreadableConfiguration(ValueError):
    """A configuration can't be read; the message says where and why."""
