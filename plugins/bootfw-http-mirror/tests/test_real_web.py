"""With a real web server: what the fakes of the other tests take for granted."""

import subprocess
import sys
from pathlib import Path


def test_fetched_then_confirmed_then_served_as_stored(tmp_path: Path) -> None:
    script = Path(__file__).with_name("real_web.py")
    result = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], text=True, capture_output=True, timeout=60, check=False
    )
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "/deep/kernel 200",
        "True",
        "/deep/kernel 304",
        "True",
        "/absent 404",
        "missing",
        "True",
    ]
