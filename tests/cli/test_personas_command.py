"""``bootfw personas`` as an operator uses it."""

import json
from pathlib import Path

import pytest

from bootfw.cli.main import main
from bootfw.personas.table import read, stock


@pytest.fixture
def config(tmp_path: Path) -> str:
    """The path of a configuration with a new persona and a changed one."""
    path = tmp_path / "bootfw.toml"
    path.write_text(
        '[[persona]]\nname = "old-rom"\noui = ["00:a0:c9"]\nrefuse-options = ["blksize"]\n'
        '[[persona]]\nname = "uefi"\nlike = "uefi"\noffer = "file"\n'
    )
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``bootfw personas`` prints."""
    assert main(["personas", *arguments]) == 0
    return capsys.readouterr().out


def test_personas_are_listed_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    head, *lines = output(capsys).splitlines()

    assert head.split() == ["PERSONA", "RECOGNIZED", "BY", "TREATMENT"]
    assert [line.split()[0] for line in lines] == [rule.name for rule in stock().rules]
    [grub] = [line for line in lines if line.startswith("grub ")]
    assert "tftp-options: blksize=1024 tsize=0, blksize=512 tsize=0" in grub
    assert "empty-when-missing: command.lst, crypto.lst" in grub
    assert "as usual" in next(line for line in lines if line.startswith("shim "))


def test_personas_of_a_configuration_are_tried_in_their_order(capsys: pytest.CaptureFixture[str], config: str) -> None:
    lines = output(capsys, "-c", config).splitlines()

    assert lines[1].startswith("old-rom*")
    assert any(line.startswith("uefi*") and "offer: file" in line for line in lines)
    assert lines[-1] == "* from the configuration"


def test_one_persona_is_shown_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "raspberry-pi-3")

    assert "oui                  b8:27:eb\n" in text
    assert "Seen: raspberrypi/documentation" in text


def test_json_has_all_personas_and_can_be_read_again(capsys: pytest.CaptureFixture[str], config: str) -> None:
    records = json.loads(output(capsys, "--json"))

    assert {record.pop("from") for record in records} == {"bootfw"}
    assert read({"persona": records}).rules == stock().rules
    origins = {record["name"]: record["from"] for record in json.loads(output(capsys, "--json", "-c", config))}
    assert (origins["old-rom"], origins["uefi"], origins["ipxe"]) == ("configuration", "configuration", "bootfw")


def test_unknown_persona_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["personas", "rasberry-pi"]) == 1
    assert capsys.readouterr().err == 'bootfw: there is no persona "rasberry-pi"; did you mean "raspberry-pi"?\n'


def test_invalid_configuration_is_an_error(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text('[[persona]]\nname = "x"\n')

    assert main(["personas", "-c", str(path)]) == 1
    assert capsys.readouterr().err == f"bootfw: {path}: persona[0]: has no condition, and would match every client\n"
