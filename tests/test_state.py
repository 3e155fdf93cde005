"""The path of the state directory."""

from pathlib import Path

import pytest

from bootfw.config.state import state_directory


@pytest.mark.parametrize(
    ("user", "xdg", "configured", "expected"),
    [
        (0, "", "", "/var/lib/bootfw"),
        (0, "/home/me/state", "", "/var/lib/bootfw"),
        (1000, "", "", "/home/me/.local/state/bootfw"),
        (1000, "/home/me/state", "", "/home/me/state/bootfw"),
        (1000, "state", "", "/home/me/.local/state/bootfw"),
        (1000, "/home/me/state", "/srv/state", "/srv/state"),
        (0, "", "/srv/state", "/srv/state"),
    ],
)
def test_the_state_directory(
    monkeypatch: pytest.MonkeyPatch, user: int, xdg: str, configured: str, expected: str
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("XDG_STATE_HOME", xdg)
    assert state_directory(configured) == Path(expected)
