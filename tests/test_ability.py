"""An optional interface of a plugin counts only for the methods that it was declared for."""

from abc import ABC, abstractmethod
from typing import Any

import pytest
from attrs import define
from zope.interface import Interface, directlyProvides, implementer, implementer_only, taggedValue

from bootfw.ability import provides


class IOpen(Interface):
    def open() -> None:
        """Open."""


class IUniform(IOpen):
    taggedValue("describes", ("open",))


class IUniformAndMore(IUniform):
    """An ability that extends another one describes the same."""


class IOther(IOpen):
    taggedValue("describes", ("open",))


class IBoth(IOpen):
    taggedValue("describes", ("open", "create"))


class IOfNoMethod(IOpen):
    """Says nothing about a method."""


@implementer(IUniform, IBoth, IOfNoMethod)
class Declares:
    def open(self) -> None:
        """Open."""


@implementer(IUniformAndMore)
class DeclaresMore(Declares):
    """Nothing is overridden."""


@implementer(IUniform)
@define
class Slotted:
    def open(self) -> None:
        """Open."""


class Abstract(ABC):
    @abstractmethod
    def open(self) -> None:
        """Open."""


@implementer(IUniform)
class OfAbstract(Abstract):
    """Declares what a mixin behind it defines."""


class Defines(OfAbstract):
    def open(self) -> None:
        """Open."""


@implementer(IUniform)
class DefinesAndDeclares(Abstract):
    def open(self) -> None:
        """Open."""


class Overrides(Declares):
    def open(self) -> None:
        """Open otherwise."""


@implementer_only(IUniform)
class DeclaresAgain(Overrides):
    """It declares the ability for its own method, too."""


@implementer(IUniform)
class DeclaresInherited(Overrides):
    """zope.interface does not see this declaration."""


class OverridesAfterwards(DeclaresAgain):
    def open(self) -> None:
        """Open otherwise."""


class OverridesSlotted(Slotted):
    def open(self) -> None:
        """Open otherwise."""


class OverridesOther(Declares):
    def create(self) -> None:
        """Create."""


@implementer(IOpen)
class Delegates:
    def __init__(self, inner: Declares | None) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def open(self) -> None:
        """Open otherwise."""


class DelegatesAll:
    """Does not even declare the basic interface."""

    def __init__(self, inner: Declares) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class DelegatesWithoutDictionary(Delegates):
    __slots__ = ()


@pytest.mark.parametrize(
    ("plugin", "ability", "counts"),
    [
        (Declares(), IUniform, True),
        (Declares(), IBoth, True),
        (DeclaresMore(), IUniform, True),
        (DeclaresMore(), IUniformAndMore, True),
        (Slotted(), IUniform, True),
        (DefinesAndDeclares(), IUniform, True),
        (DeclaresAgain(), IUniform, True),
        (type("Renamed", (Declares,), {})(), IUniform, True),
        (Overrides(), IOfNoMethod, True),
        (Overrides(), IUniform, False),
        (Overrides(), IBoth, False),
        (DeclaresAgain(), IBoth, False),
        (DeclaresAgain(), IOfNoMethod, False),
        (DeclaresInherited(), IUniform, False),
        (Defines(), IUniform, False),
        (OverridesAfterwards(), IUniform, False),
        (OverridesSlotted(), IUniform, False),
        (OverridesOther(), IUniform, True),
        (OverridesOther(), IBoth, False),
        (Delegates(Declares()), IUniform, False),
        (DelegatesAll(Declares()), IUniform, False),
        (DelegatesWithoutDictionary(Declares()), IUniform, False),
        (Declares(), IOther, False),
        (object(), IUniform, False),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type(IOpen)) else type(value).__name__,
)
def test_ability_counts_if_it_is_declared_for_the_method_in_use(plugin: object, ability: Any, counts: bool) -> None:
    assert provides(plugin, ability) is counts


def test_a_declaration_of_the_class_is_not_for_a_method_of_the_object(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Declares()
    monkeypatch.setattr(plugin, "open", lambda: None)
    assert not provides(plugin, IUniform)
    assert provides(plugin, IOfNoMethod)


def test_instance_may_declare_an_ability_that_its_class_lacks() -> None:
    plugin = Delegates(None)
    directlyProvides(plugin, IUniformAndMore)
    assert provides(plugin, IUniform)
    assert not provides(plugin, IOther)
    assert not provides(Delegates(None), IUniform)
