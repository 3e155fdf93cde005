"""The error of a command."""

from bootfw.errors import BootfwError


class CommandError(BootfwError):
    """A command failed. The message is for its user."""
