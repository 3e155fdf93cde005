"""A pytest plugin that hides the tuned paths: ``PYTHONPATH=tests pytest -p portable``, or ``make test-portable``.

As on a system without recvmmsg(2) and sendmmsg(2), each datagram is read and sent by a call of its own, and each goes
to the session's table. Twisted's own port, which takes the place of ours elsewhere, is one of the fixtures' kinds.
"""

import pytest

from bootfw.net.tftp import listener
from bootfw.net.udp import mmsg

mmsg.AVAILABLE = False
vars(listener)["attach"] = lambda port, seconds: None

OF_THE_TUNED_PATHS = frozenset({"test_fastpath.py", "test_instructions.py", "test_walk.py"})
"""Modules with tests of the tuned paths."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the tests of the tuned paths."""
    hidden = [item for item in items if item.path.name in OF_THE_TUNED_PATHS]
    config.hook.pytest_deselected(items=hidden)
    items[:] = [item for item in items if item.path.name not in OF_THE_TUNED_PATHS]
