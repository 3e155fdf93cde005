"""IStartable and IOperable."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from bootfw.errors import BootfwError
from bootfw.events import Event
from bootfw.interfaces import IOperable, IStartable
from bootfw.testing.contracts.answers import Answers

MISTAKES: Iterable[Mapping[str, object]] = (
    {},
    {"mac": None},
    {"mac": 1},
    {"mac": ["52:54:00:12:34:56"]},
    {"mac": {"mac": "52:54:00:12:34:56"}},
    {"mac": "no MAC", "file": 1},
    {"no-such-argument": "x"},
)
"""Arguments that an operator's program sends by mistake."""


class StartableContract(Answers):
    """The tests of a resolver, backend or observer that is started and stopped. Override ``make_plugin``.

    Beside these use the kit of what the plugin is, such as ResolverContract.
    """

    def make_plugin(self) -> IStartable:
        """Return a plugin as the configuration would make it."""
        raise NotImplementedError

    def test_provides_the_startable_interface(self) -> None:
        verifyObject(IStartable, self.make_plugin())

    def test_starts_again_after_each_stop(self) -> None:
        plugin = self.make_plugin()
        for _ in range(3):
            plugin.start(lambda event: None)
            self.answer(plugin.close())

    def test_what_it_publishes_at_the_start_are_events(self) -> None:
        plugin = self.make_plugin()
        published: list[object] = []
        plugin.start(published.append)
        self.answer(plugin.close())
        assert [each for each in published if not isinstance(each, Event)] == []


class OperableContract(Answers):
    """The tests of a resolver with commands for the control socket. Override ``make_resolver``.

    Beside these use ResolverContract.
    """

    def make_resolver(self) -> IOperable:
        """Return a resolver as the configuration would make it, started if it has to be."""
        raise NotImplementedError

    def test_provides_the_operable_interface(self) -> None:
        verifyObject(IOperable, self.make_resolver())

    def test_commands_have_names(self) -> None:
        operations = self.make_resolver().operations()
        assert operations, "it has no command"
        for name, operation in operations.items():
            assert isinstance(name, str), repr(name)
            assert name, "a command without a name"
            assert callable(operation), name

    def test_wrong_arguments_give_records_or_an_error_for_the_operator(self) -> None:
        """The message of a BootfwError is shown; any other exception is a mistake of the plugin, with a traceback."""
        operations = self.make_resolver().operations()
        for name, operation in operations.items():
            for arguments in MISTAKES:
                error = self.refusal(operation, arguments)
                if error is not None:
                    assert isinstance(error, BootfwError), f"{name}({arguments}): {error!r}"
                    assert str(error), f"{name}({arguments}): an error without a message"
                    continue
                records: Any = self.answer(operation(arguments))
                assert not isinstance(records, str | bytes | Mapping | Deferred), f"{name}({arguments}): {records!r}"
                for record in records:
                    assert isinstance(record, Mapping), f"{name}({arguments}): {record!r} is no mapping"
                    json.dumps(record)
