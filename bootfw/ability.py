"""Optional abilities of plugins: finds out which of them an object has.

An ability is an interface that promises something about a method: that the result of ``open`` depends only on the path,
or that ``fileno()`` leads to the bytes that ``read`` returns. With zope.interface alone, a subclass that overrides such
a method would inherit the declaration, and a wrapper would delegate it, although the promise no longer holds. Therefore
an ability counts only if the class that declares it also defines the method, or inherits the method that is used.

A subclass that overrides the method and keeps the promise declares the ability again with ``implementer_only``, since
``implementer`` drops interfaces that are inherited.
"""

from functools import lru_cache
from typing import Any, TypeGuard, TypeVar

from zope.interface import directlyProvidedBy, implementedBy
from zope.interface.interface import InterfaceClass

Ability = TypeVar("Ability")


def provides(plugin: object, ability: type[Ability]) -> TypeGuard[Ability]:
    """Return whether *plugin* has *ability*, one of the optional interfaces of bootfw.interfaces.

    A declaration that ``__getattr__`` delegates does not count. Neither does that of the class if the instance itself
    has an attribute with the name of the method. A declaration of the instance (``directlyProvides``) counts.
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
    """Return the interfaces that *plugin* or its class declares, to verify them."""
    return [*directlyProvidedBy(plugin), *_implemented(type(plugin))]


@lru_cache(4096)
def _declared(kind: Any, ability: Any) -> tuple[bool, tuple[str, ...], bool]:
    """Return (instances have the ability, the methods that it is about, instances have a ``__dict__``)."""
    methods: tuple[str, ...] = ability.queryTaggedValue("describes", ())
    classes, has_dict = kind.__mro__, kind.__dictoffset__ != 0
    if not _implemented(kind).isOrExtends(ability):
        return False, methods, has_dict
    declares = next(index for index, one in enumerate(classes) if _extends(_implemented(one).declared, ability))
    return all(declares <= _definition(classes, method) for method in methods), methods, has_dict


def _implemented(kind: Any) -> Any:
    return implementedBy(kind)  # type: ignore[no-untyped-call]


def _extends(declared: Any, ability: Any) -> bool:
    return any(one.isOrExtends(ability) for one in declared)


def _definition(classes: Any, method: str) -> int:
    """Return the position in *classes* of the class that defines *method*; an abstract method is no definition."""
    for index, one in enumerate(classes):
        if method in vars(one) and not getattr(vars(one)[method], "__isabstractmethod__", False):
            return index
    return len(classes)
