"""A browser, and servers with recorded boots for it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .browsing import FLAGS, Showing, Tab

TESTS = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A real one, without a window.

    For one module: as long as it runs, Playwright has a running asyncio loop in this thread, and tests of others need
    one, too.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def _start(state: str) -> Showing:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOOTFW_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "web.showing", state],
        cwd=TESTS,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return Showing(process)


@pytest.fixture
def showing() -> Iterator[Callable[[str], Showing]]:
    """Starts a server in a state of showing.py, for one test."""
    started: list[Showing] = []

    def start(state: str) -> Showing:
        started.append(_start(state))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def shown() -> Iterator[Callable[[str], Showing]]:
    """The server in a state of showing.py that all tests share which only look at it."""
    started: dict[str, Showing] = {}

    def of(state: str) -> Showing:
        if state not in started:
            started[state] = _start(state)
        return started[state]

    yield of
    for each in started.values():
        each.stop()


@pytest.fixture
def open_tab(chromium: Any) -> Iterator[Callable[..., Tab]]:
    """Opens the page of a server; at the end there must have been no error and no request to another host."""
    tabs: list[Tab] = []

    def open_tab(server: Showing, route: str = "#/boots", **options: Any) -> Tab:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        tabs.append(Tab(context, server.port))
        tabs[-1].go(route)
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
    assert [complaint for tab in tabs for complaint in tab.complaints] == []
