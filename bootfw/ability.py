"""Optional abilities of plugins: which of them an object has.

An ability is an interface that makes a statement about a method: that what ``open`` returns depends on the path only,
that ``fileno()`` leads to the bytes that ``read`` returns. zope.interface lets a subclass inherit the declaration even
when it overrides that method, and a wrapper delegate it, although the statement is no longer true. So an ability counts
only where the class that declares it also defines the method, or inherits the one that is in use.

A subclass that overrides the method and for which the statement still holds declares it with ``implementer_only``:
zope.interface drops from ``implementer`` what is inherited.
"""

from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

from zope.interface import directlyProvidedBy, implementedBy
from zope.interface.interface import InterfaceClass

Ability = TypeVar("Ability")


def provides(plugin: object, ability: type[Ability]) -> TypeGuard[Ability]:
    """Whether *plugin* has *ability*: one of the optional interfaces of bootfw.interfaces.

    What ``__getattr__`` delegates does not count, nor what is inherited where the object itself has the method. What
    one object provides and its class does not (``directlyProvides``) does.
    """
    by_class, methods, has_dict = _declared(type(plugin), ability)  # type: ignore[arg-type]
    if has_dict:
        own = plugin.__dict__
        if by_class:
            return not any(method in own for method in methods)
        if "__provides__" in own:
            return _extends(directlyProvidedBy(plugin), ability)
    return by_class


def abilities_of(plugin: object) -> list[InterfaceClass]:
    """The interfaces that the class of *plugin*, or the object itself, declares: to be verified."""
    return [*directlyProvidedBy(plugin), *_implemented(type(plugin))]


@lru_cache(4096)
def _declared(kind: Any, ability: Any) -> tuple[bool, tuple[str, ...], bool]:
    """(instances have the ability, the methods that it describes, instances have a ``__dict__``)."""
    methods: tuple[str, ...] = ability.queryTaggedValue("describes", ())
    order, has_dict = kind.__mro__, kind.__dictoffset__ != 0
    if not _implemented(kind).isOrExtends(ability):
        return False, methods, has_dict
    declares = next(index for index, one in enumerate(order) if _extends(_implemented(one).declared, ability))
    return all(declares <= _definition(order, method) for method in methods), methods, has_dict


def _implemented(kind: Any) -> Any:
    return implementedBy(kind)  # type: ignore[no-untyped-call]


def _extends(declared: Any, ability: Any) -> bool:
    return any(one.isOrExtends(ability) for one in declared)


def _definition(order: Any, method: str) -> int:
    """The place of the class that defines *method*; abstract methods are no definition."""
    for index, one in enumerate(order):
        if method in vars(one) and not getattr(vars(one)[method], "__isabstractmethod__", False):
            return index
    return len(order)
