"""The names of the tests of a table's cells."""

from collections.abc import Collection, Iterable, Mapping
from itertools import product
from typing import Any

from bootfw.table import Key


def cells_without_test(
    module: Mapping[str, Any], states: Iterable[Key], inputs: Iterable[Key], others: Collection[tuple[Key, Key]] = ()
) -> list[str]:
    """Return the cells that no test of a module is named after: test_STATE_INPUT, and what it shows.

    :param module: its globals().
    :param others: cells that other tests cover.
    """
    tests = [f"{name}_" for name in module if name.startswith("test_")]
    cells = [(state, event) for state, event in product(states, inputs) if (state, event) not in others]
    names = [f"test_{state.name}_{event.name}_".lower() for state, event in cells]
    return [name for name in names if not any(test.startswith(name) for test in tests)]
