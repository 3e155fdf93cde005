"""A browser, and servers with recorded boots for it."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from forks import SHOWING, Fork
from twistd import clean

from .browsing import FLAGS, ShowingProcess, Tab


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
    with playwright.sync_playwright() as playwright_api:
        browser = playwright_api.chromium.launch(executable_path=program, args=FLAGS)
        yield browser
        browser.close()


def _start(state: str) -> ShowingProcess:
    process = Fork([str(SHOWING), state], env=clean(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    return ShowingProcess(process)


@pytest.fixture
def start_server() -> Iterator[Callable[[str], ShowingProcess]]:
    """Starts a server in a state of showing.py, for one test."""
    started: list[ShowingProcess] = []

    def start(state: str) -> ShowingProcess:
        started.append(_start(state))
        return started[-1]

    yield start
    for each in started:
        each.stop()


@pytest.fixture(scope="session")
def shared_server() -> Iterator[Callable[[str], ShowingProcess]]:
    """The server in a state of showing.py, shared by all tests that don't change it."""
    started: dict[str, ShowingProcess] = {}

    def server_in_state(state: str) -> ShowingProcess:
        if state not in started:
            started[state] = _start(state)
        return started[state]

    yield server_in_state
    for each in started.values():
        each.stop()


@pytest.fixture
def open_tab(chromium: Any) -> Iterator[Callable[..., Tab]]:
    """Opens the page of a server; at the end there must have been no error and no request to another host."""
    tabs: list[Tab] = []

    def open_tab(server: ShowingProcess, route: str = "#/boots", **options: Any) -> Tab:
        context = chromium.new_context(**{"viewport": {"width": 1200, "height": 800}, **options})
        tabs.append(Tab(context, server.port))
        tabs[-1].open_view(route)
        return tabs[-1]

    yield open_tab
    for tab in tabs:
        tab.context.close()
    assert [complaint for tab in tabs for complaint in tab.complaints] == []
