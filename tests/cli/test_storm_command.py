"""``bootfw storm`` as far as it sends no packet; tests/interop/test_storm.py has the rest."""

import json

import pytest

from bootfw.cli.main import main


def test_built_in_boots_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storm", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.split()[0] == "emulab"]

    assert main(["storm", "--list", "--json"]) == 0
    boots = json.loads(capsys.readouterr().out)
    assert [f"{boot['name']:18} {boot['about']}" for boot in boots] == lines
