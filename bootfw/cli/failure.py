"""The error of a command."""

from bootfw.errors import BootfwError


class CommandError(BootfwError):
    """The message is for the user who gave the command."""
