"""Optional attributes of plugins count only for the methods that they were written for."""

from abc import ABC, abstractmethod

import pytest
from attrs import define, field

from bootfw.ability import ability, declares


class Declares:
    same = True

    def open(self):
        """Open."""


@define
class Slotted:
    identity: int = field(default=1, init=False)

    def read(self):
        """Read."""


class OfObject:
    def __init__(self):
        self.identity = 1

    def read(self):
        """Read."""


class Abstract(ABC):
    @abstractmethod
    def read(self):
        """Read."""


class OfConcreteObject(Abstract):
    def __init__(self):
        self.identity = 1

    def read(self):
        """Read."""


class Overrides(Declares):
    def open(self):
        """Open otherwise."""


class DeclaresAgain(Overrides):
    same = True


class OverridesAfterwards(DeclaresAgain):
    def open(self):
        """Open otherwise."""


class OverridesSlotted(Slotted):
    def read(self):
        """Read otherwise."""


class OverridesOfObject(OfObject):
    def read(self):
        """Read otherwise."""


class Delegates:
    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def open(self):
        """Open otherwise."""


class DelegatesWithoutDictionary(Delegates):
    __slots__ = ()


@pytest.mark.parametrize(
    ("plugin", "name", "method", "counts"),
    [
        (Declares(), "same", "open", True),
        (Slotted(), "identity", "read", True),
        (OfObject(), "identity", "read", True),
        (OfConcreteObject(), "identity", "read", True),
        (DeclaresAgain(), "same", "open", True),
        (type("Renamed", (Declares,), {})(), "same", "open", True),
        (Overrides(), "same", "open", False),
        (OverridesAfterwards(), "same", "open", False),
        (OverridesSlotted(), "identity", "read", False),
        (OverridesOfObject(), "identity", "read", False),
        (Delegates(Declares()), "same", "open", False),
        (DelegatesWithoutDictionary(Declares()), "same", "open", False),
        (Declares(), "other", "open", False),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "__dict__") or isinstance(value, Slotted) else str(value),
)
def test_it_counts_where_it_was_written_for_the_method_in_use(plugin, name, method, counts):
    assert declares(plugin, name, method) is counts
    assert ability(plugin, name, method, default="none") == (getattr(plugin, name) if counts else "none")


def test_a_method_of_the_object_needs_an_attribute_of_the_object():
    plugin = Declares()
    plugin.open = lambda: None
    assert not declares(plugin, "same", "open")
    plugin.same = True
    assert declares(plugin, "same", "open")


def test_it_is_meant_for_all_of_the_methods():
    class OverridesOne(Declares):
        def create(self):
            """Create."""

    assert declares(Declares(), "same", "open", "create")
    assert not declares(OverridesOne(), "same", "open", "create")
