"""What a command can't do."""

from bootfw.errors import BootfwError


class CommandError(BootfwError):
    """The message is for the user who gave the command."""
