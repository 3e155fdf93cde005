"""IBootPlugin."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from bootfw.errors import ConfigError
from bootfw.interfaces import IBootPlugin
from bootfw.plugins import GROUPS, PluginContext, verify
from bootfw.testing.contracts.answers import Answers


class PluginContract(Answers):
    """The tests of a plugin, which has a name in the configuration. Override ``plugin`` and, if needed, the options."""

    plugin: IBootPlugin
    options: Mapping[str, object] = {}
    """Options that it accepts."""
    mistakes: Mapping[str, object] = {}
    """Option -> a value for it that is wrong."""

    def context(self) -> PluginContext:
        """Return what the plugin is given beside its options."""
        directory = Path(tempfile.gettempdir())
        return PluginContext(Clock(), directory, directory)

    def configure(self, options: Mapping[str, object]) -> object:
        """Return the object that the plugin makes of *options*."""
        return self.plugin.configure(dict(options), self.context())

    def test_provides_the_interface(self) -> None:
        verifyObject(IBootPlugin, self.plugin)
        assert any(self.plugin.provides.isOrExtends(kind) for kind in GROUPS.values()), self.plugin.provides

    def test_has_a_summary_of_one_line(self) -> None:
        assert self.plugin.summary.strip(), "it is shown by --list-plugins; the docstring of the class has none"
        assert "\n" not in self.plugin.summary

    def test_makes_an_object_with_all_members_of_its_interfaces(self) -> None:
        verify(self.plugin.provides, self.configure(self.options))

    def test_each_use_in_a_configuration_makes_another_object(self) -> None:
        assert self.configure(self.options) is not self.configure(self.options)

    def test_unknown_options_are_refused(self) -> None:
        self._refused({**self.options, "no-such-option": 1})

    def test_wrong_options_are_refused(self) -> None:
        for name, value in self.mistakes.items():
            self._refused({**self.options, name: value})

    def _refused(self, options: Mapping[str, object]) -> None:
        error = self.refusal(self.configure, options)
        assert isinstance(error, ConfigError), f"{options}: {'accepted' if error is None else repr(error)}"
        assert error.message, f"{options}: an error without a message"
