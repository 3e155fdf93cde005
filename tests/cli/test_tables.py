"""Tables and live views: drawn by rich on a terminal, and plain text elsewhere."""

import os

import pytest

from bootfw.cli import main as command
from bootfw.cli.tables import is_rich, table, watch
from bootfw.terminal import aligned

ROWS = [("SERVICE", "STATE"), ("tftp", "bound"), ("dhcp\x1b[2J", "waiting")]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The output goes to a terminal of 80 columns."""
    pytest.importorskip("rich", reason="needs the extra rich")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((80, 24)))


def test_table_without_a_terminal_is_plain() -> None:
    assert table(ROWS) == aligned(ROWS)


@pytest.mark.usefixtures("terminal")
def test_states_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_rich()
    text = table(ROWS)
    assert "\x1b[32mbound" in text
    assert "\\x1b[2J" in text  # what a client sends does not reach the terminal as it is
    monkeypatch.setenv("NO_COLOR", "1")
    assert table(ROWS) == aligned(ROWS)


@pytest.mark.usefixtures("terminal")
def test_table_without_rich_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.cli.tables.find_spec", lambda name: None)
    assert table(ROWS) == aligned(ROWS)


def test_watch_prints_the_table_again(capsys: pytest.CaptureFixture[str]) -> None:
    tables = iter(["one", "two"])
    pauses: list[float] = []
    with pytest.raises(StopIteration):
        watch(lambda: next(tables), 1.0, pauses.append)
    assert (capsys.readouterr().out, pauses) == ("one\ntwo\n", [1.0, 1.0])


def test_interrupt_prints_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(path: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bootfw.cli.status.configuration_in_use", interrupted)
    assert command.main(["status"]) == 130
    assert capsys.readouterr() == ("", "")
