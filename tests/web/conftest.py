"""A browser, and servers with recorded boots for it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forks import SHOWING, Fork
from twistd import clean

from .browsing import FLAGS, Showing, Tab


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
    process = Fork([str(SHOWING), state], env=clean(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
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
