"""Values of which a test knows more than their types say."""

from typing import TypeVar

_T = TypeVar("_T")


def present(value: _T | None) -> _T:
    """The value, which must not be None."""
    assert value is not None
    return value


def of_type(kind: type[_T], value: object) -> _T:
    """The value, which must be an instance of *kind*."""
    assert isinstance(value, kind), value
    return value
