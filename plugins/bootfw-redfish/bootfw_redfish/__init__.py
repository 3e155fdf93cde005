"""Power for bootfw: machines are switched by the Redfish service of their BMCs."""

from collections.abc import Mapping
from importlib import import_module
from types import ModuleType

__version__ = "0.1.0"

_PROVIDES = "__provides__"


def _import_sushy() -> ModuleType:
    """Import sushy, which some of its classes would prevent where zope.interface has looked at another Mapping.

    While they are defined, these classes, which are Mappings, read each of their attributes that dir() names. One that
    zope.interface gives to Mapping and its bases, ``__provides__``, can be read at the class that has it only.
    """
    provided = [(base, vars(base)[_PROVIDES]) for base in Mapping.__mro__ if _PROVIDES in vars(base)]
    for base, _ in provided:
        delattr(base, _PROVIDES)
    try:
        return import_module("sushy")
    finally:
        for base, value in provided:
            setattr(base, _PROVIDES, value)


sushy = _import_sushy()
