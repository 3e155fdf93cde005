"""Each news fragment has a name that towncrier knows, so that none is left out of the changelog without a word."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FRAGMENTS = sorted(path for path in (ROOT / "newsfragments").iterdir() if path.name != "README.md")
TYPES = [
    kind["directory"] for kind in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
]
NAME = re.compile(rf"(\d+|\+[\w-]+)\.({'|'.join(TYPES)})(\.\d+)?\.md")


def words(text: str) -> str:
    return " ".join(text.split())


def test_each_fragment_is_named_as_the_readme_says() -> None:
    assert [path.name for path in FRAGMENTS if NAME.fullmatch(path.name) is None] == []


def test_each_fragment_is_in_the_changelog() -> None:
    pytest.importorskip("towncrier")
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1", "--dir", str(ROOT)]
    changelog = words(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    missing = [
        path.name for path in FRAGMENTS if ".misc." not in path.name and words(path.read_text()) not in changelog
    ]
    assert missing == []
