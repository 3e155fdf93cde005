"""The configuration of a command, with its plugins and the values of its machines."""

from functools import cached_property
from typing import TYPE_CHECKING

from bootfw.config.configuration import Configuration

if TYPE_CHECKING:
    from bootfw.build import Parts
    from bootfw.cli.hostvalues import HostFiles


class Assembly:
    """A configuration. Its plugins are created when a command first needs them: importing them takes a while."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    @property
    def source(self) -> str:
        """The name of the configuration in messages: its file, or "the defaults"."""
        return str(self.configuration.source or "the defaults")

    @cached_property
    def parts(self) -> "Parts":
        """The plugins.

        :raise ConfigErrors: they are configured wrongly.
        """
        from bootfw.build import assemble  # with all that a server needs, which takes a while to import

        return assemble(self.configuration, None)

    @cached_property
    def host_files(self) -> "HostFiles":
        """The values of its machines."""
        from bootfw.cli.hostvalues import HostFiles

        return HostFiles(self.parts)
