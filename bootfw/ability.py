"""Optional attributes of plugins, and whether they are meant for the methods that are in use.

Such an attribute says something about a method: that what ``open`` gives depends on the path only, that ``fileno()``
reads what ``read`` does. A subclass that overrides the method inherits the attribute all the same, and a wrapper may
delegate it, although it is no longer true. So it counts only where a class that declares it also defines the method, or
inherits the method that is in use.
"""

from functools import lru_cache
from typing import Any


def ability(plugin: Any, name: str, *methods: str, default: Any = None) -> Any:
    """The attribute *name* of *plugin*; *default* where there is none that is meant for all of these methods.

    An attribute that the object has, not its class, is meant for a method that only one class defines. What
    ``__getattr__`` delegates never counts.

    :param methods: what the attribute says something about.
    """
    return getattr(plugin, name) if declares(plugin, name, *methods) else default


def declares(plugin: Any, name: str, *methods: str) -> bool:
    """Whether ability() would find one."""
    kind: Any = type(plugin)
    by_class, by_object, has_dict = _declared(kind, name, methods)
    if has_dict:
        own = plugin.__dict__
        replaced = [method for method in methods if method in own]
        if replaced:
            return name in own and len(replaced) == len(methods)
        if name in own:
            return by_object
    return by_class


@lru_cache(4096)
def _declared(kind: Any, name: str, methods: tuple[str, ...]) -> tuple[bool, bool, bool]:
    """(the class attribute counts, one of the object would, objects have a ``__dict__``)."""
    declared = _positions(kind, name)
    defined = [_positions(kind, method) for method in methods]
    by_class = bool(declared) and all(declared[0] <= places[0] for places in defined if places)
    by_object = by_class or all(len(places) <= 1 for places in defined)
    return by_class, by_object, kind.__dictoffset__ != 0


def _positions(kind: type, name: str) -> list[int]:
    """Which classes define *name*, as positions in the order in which they are searched; abstract methods are none."""
    return [
        position
        for position, one in enumerate(kind.__mro__)
        if name in vars(one) and not getattr(vars(one)[name], "__isabstractmethod__", False)
    ]
