"""The pages in a real browser: a server, a tab, and what axe-core says of it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

AXE = Path(__file__).parents[2] / ".clients/axe/node_modules/axe-core/axe.min.js"

RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOR_RULES = ("color-contrast", "link-in-text-block")
"""Those of the RULES that look at colors."""

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class ShowingProcess:
    """A process that runs showing.py: a server of the pages with recorded boots."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        assert process.stdout
        self.port = int(process.stdout.readline())

    def send_command(self, command: str) -> None:
        """Send it a command; showing.py has them."""
        assert self._process.stdin
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()

    def stop(self) -> None:
        """End it; more than once is no error."""
        assert self._process.stdin
        assert self._process.stdout
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(20)
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()


class Tab:
    """A tab on the pages of one server."""

    def __init__(self, context: Any, port: int) -> None:
        self.context = context
        self.origin = f"http://127.0.0.1:{port}"
        self.page = context.new_page()
        self.complaints: list[str] = []
        """Errors of scripts, violations of the policy, and requests to other hosts."""
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._on_console)
        self.page.on("request", self._on_request)

    def _on_console(self, message: Any) -> None:
        # An error response that the page shows in words is an error for the console, too.
        if message.type in ("error", "warning") and "the server responded with a status of" not in message.text:
            self.complaints.append(message.text)

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith(self.origin + "/"):
            self.complaints.append(f"requested {request.url}")

    def open_view(self, route: str) -> None:
        """Open a view, and wait until the page has the status of the server."""
        self.page.goto(f"{self.origin}/{route}")
        self.page.locator("#ready", has_text="eady").wait_for()

    def row(self, text: str) -> Any:
        """The row of a table that has *text*."""
        return self.page.get_by_role("row").filter(has_text=text)

    def violations(self, rules: Sequence[str] = RULES) -> list[str]:
        """What axe-core finds, each with the element."""
        if not AXE.exists():
            pytest.skip("needs axe-core: tools/install-clients")
        # As a script of the page it would be against the policy. A route is no new document, so it stays.
        if self.page.evaluate("typeof axe") == "undefined":
            self.page.evaluate(AXE.read_text())
        report = self.page.evaluate(
            "(rules) => axe.run(document, {resultTypes: ['violations'], runOnly: rules})", list(rules)
        )
        return [
            f"{each['id']}: {node['target']}: {node['failureSummary']}"
            for each in report["violations"]
            for node in each["nodes"]
        ]

    def focused(self) -> str:
        """The label, id or text of the element that has the focus."""
        return str(
            self.page.evaluate(
                "() => (document.activeElement.getAttribute('aria-label') || document.activeElement.id"
                " || document.activeElement.textContent).trim()"
            )
        )

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def overflow(self) -> int:
        """How many pixels the content is wider than the window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - innerWidth"))
