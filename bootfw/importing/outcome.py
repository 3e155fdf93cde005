"""What became of each line of another server's configuration."""

from enum import Enum

from attrs import field, frozen


class Fate(Enum):
    """What became of a line."""

    EXPRESSED = "expressed"
    """The configuration of bootfw says the same."""
    ASSUMED = "assumed"
    """It says the same if an assumption holds, which the operator has to check."""
    UNNEEDED = "not needed"
    """It has no effect on what bootfw serves, or bootfw does so anyway."""
    LEFT_OUT = "left out"
    """bootfw can't do this."""


CLEAN = (Fate.EXPRESSED, Fate.UNNEEDED)
"""The fates that the operator need not look at."""


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
    """What became of a line, and why."""

    line: Line
    fate: Fate
    reason: str = ""
    """Of what is expressed: how. Else why it is not, and what to do instead."""

    @property
    def record(self) -> dict[str, str | int]:
        """The outcome as JSON has it."""
        return {
            "file": self.line.file,
            "line": self.line.number,
            "text": self.line.text,
            "fate": self.fate.value,
            "reason": self.reason,
        }


class UnreadableConfiguration(ValueError):
    """A configuration can't be read; the message says where and why."""
