"""Describes an error of a plugin on one line for its author: where the code failed, or what the class lacks."""

import os
import traceback
from collections.abc import Iterable
from typing import Any

from zope.interface import providedBy
from zope.interface.exceptions import (  # type: ignore[attr-defined]
    BrokenImplementation,
    BrokenMethodImplementation,
    DoesNotImplement,
    Invalid,
    MultipleInvalid,
)

from bootfw.errors import nearest

_SITE = os.sep + "site-packages" + os.sep
_OWN = os.path.dirname(os.path.abspath(__file__))


def failure(error: BaseException) -> str:
    """Describe an exception with its location: ``KeyError: 'rack' (/srv/by_rack.py, line 12)``."""
    text = one_line(error)
    if isinstance(error, SyntaxError):
        return text  # its message contains file and line
    location = _location(error)
    return f"{text} ({location})" if location else text


def one_line(error: BaseException) -> str:
    """Describe an exception: ``KeyError: 'rack'``."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}" if str(error).strip() else type(error).__name__


def _location(error: BaseException) -> str:
    """Return the innermost line of the traceback that is most likely in the plugin: in code that is not installed, or
    else in an installed package, but not in bootfw or the standard library."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if os.path.isfile(frame.filename)]
    outside = [frame for frame in frames if not frame.filename.startswith(_OWN + os.sep)]
    installed = [frame for frame in outside if not _is_standard(frame.filename)]
    own = [frame for frame in installed if _SITE not in frame.filename]
    found = own or installed or outside
    return f"{found[-1].filename}, line {found[-1].lineno}" if found else ""


def _is_standard(path: str) -> bool:
    return path.startswith(os.path.dirname(os.__file__) + os.sep) and _SITE not in path


def cannot_import(error: BaseException, reference: str) -> str:
    """Describe why the module of a plugin can't be imported, and the remedy.

    :param reference: ``package.module:attribute``.
    """
    module, _, attribute = reference.partition(":")
    if isinstance(error, ModuleNotFoundError) and error.name:
        if module.endswith(".py"):
            return f'"{module}" is a file; name the module: "{module.removesuffix(".py")}:{attribute}"'
        if module == error.name or module.startswith(error.name + "."):
            return f'no module "{error.name}": install it, or name its directory (PYTHONPATH=. for this one)'
        return f'it imports "{error.name}" ({_location(error)}), which is not installed'
    return failure(error)


def no_attribute(module: Any, attribute: str) -> str:
    """Return the message for a module without that attribute."""
    names = [name for name in vars(module) if not name.startswith("_")]
    near = nearest(attribute, names)
    return f'{module.__name__} has no "{attribute}"{near or "; a module names its plugin: plugin = boot_plugin(...)"}'


def not_a_plugin(named: Any, interface: Any) -> str:
    """Return the message for an object that the configuration names as a plugin and that is not a plugin.

    :param interface: the interface of the objects that such a plugin creates.
    """
    if isinstance(named, type):
        return f"is a class, not a plugin; name boot_plugin({interface.__name__}, {named.__name__}) instead"
    kind = type(named).__name__
    if list(providedBy(named)) or hasattr(named, next(iter(interface.names(all=True)))):
        makes = f"boot_plugin({interface.__name__}, {kind})"
        return f"is an instance, not a plugin; name {makes}, which makes the instances"
    return f'is not a plugin, but {kind} "{named}"; name the result of boot_plugin({interface.__name__}, YourClass)'


def lacking(interface: Any, instance: Any, error: Invalid) -> str:
    """Describe why an object that a plugin created does not provide its interface."""
    name, kind = interface.__name__, type(instance).__name__
    return f"the plugin made an object that does not provide {name}: {'; '.join(_lacks(interface, kind, error))}"


def _lacks(interface: Any, kind: str, error: Invalid) -> Iterable[str]:
    if isinstance(error, MultipleInvalid):
        parts = [part for exception in error.exceptions for part in _lacks(interface, kind, exception)]
        return dict.fromkeys(parts)
    if isinstance(error, DoesNotImplement):
        return [f"add @implementer({interface.__name__}) above the class {kind}"]
    if isinstance(error, BrokenImplementation):
        attribute = error.name if isinstance(error.name, str) else error.name.__name__
        declared = interface.get(attribute)
        signature = declared.getSignatureString() if hasattr(declared, "getSignatureString") else ""
        return [f"the class {kind} has no {attribute}{signature}"]
    if isinstance(error, BrokenMethodImplementation):
        method = error.method if isinstance(error.method, str) else error.method.__name__
        signature = interface[method].getSignatureString()
        return [f"{kind}.{method} must be called as {method}{signature}: {error.mess}"]
    return [one_line(error)]
