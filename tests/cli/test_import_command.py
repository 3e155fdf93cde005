"""``bootfw import`` as an operator uses it."""

import json
import tomllib
from pathlib import Path

import pytest

from bootfw.cli.main import main

CLEAN = "enable-tftp\ntftp-root=/srv/tftp\nport=0\n"


def run(*arguments: str | Path) -> int:
    """Run ``bootfw import``, and return its exit code."""
    return main(["import", *map(str, arguments)])


def test_complete_import_exits_with_0(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "dnsmasq.conf").write_text(CLEAN)
    assert run("dnsmasq.conf") == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["backend"] == [{"use": "directory", "root": "/srv/tftp"}]
    assert err == "lines: 2 expressed, 1 not needed\n"


def test_import_that_leaves_lines_out_exits_with_3(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "dnsmasq.conf").write_text(CLEAN + "dhcp-script=/bin/x\n")
    assert run("dnsmasq.conf", "-o", "new.toml", "--report", "report") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("left out: dnsmasq.conf:4: dhcp-script=/bin/x\n    bootfw runs no scripts")
    report = (cwd / "report").read_text()
    assert "expressed: dnsmasq.conf:1: enable-tftp\n" in report
    assert "not needed: dnsmasq.conf:3: port=0\n" in report
    assert tomllib.loads((cwd / "new.toml").read_text())["dhcp"] == {"mode": "off"}


def test_json_has_the_configuration_and_each_line(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "dnsmasq.conf").write_text(CLEAN)
    assert run("--json", "dnsmasq.conf") == 0
    result = json.loads(capsys.readouterr().out)
    assert tomllib.loads(result["configuration"])["dhcp"] == {"mode": "off"}
    assert result["lines"][0] == {
        "file": "dnsmasq.conf",
        "line": 1,
        "text": "enable-tftp",
        "fate": "expressed",
        "reason": "[tftp]",
    }
    assert result["counts"] == {"expressed": 2, "assumed": 0, "not needed": 1, "left out": 0}


def test_directory_and_files_of_several_formats_are_imported(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "d").mkdir()
    (cwd / "d" / "proxy.conf").write_text("dhcp-range=10.77.0.0,proxy,255.255.255.0\nport=0\ndhcp-boot=a\n")
    (cwd / "d" / "old.conf.dpkg-old").write_text("nonsense")
    (cwd / "tftpd-hpa").write_text('TFTP_DIRECTORY="/srv/tftp"\n')
    assert run("d", "tftpd-hpa") == 0
    found = tomllib.loads(capsys.readouterr().out)
    assert found["dhcp"] == {"mode": "proxy"}
    assert found["backend"] == [{"use": "directory", "root": "/srv/tftp"}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"what is this\n", "old: its format is not recognized; --from says it: "),
        (b"enable-tftp\0\n", "old: it has NUL bytes, and is no configuration"),
        (None, "old: No such file or directory"),
    ],
)
def test_unreadable_file_is_an_error(
    content: bytes | None, message: str, cwd: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (cwd / "old").write_bytes(content)
    assert run("old") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"bootfw: {message}")


def test_empty_directory_is_an_error(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "d").mkdir()
    assert run("d") == 2
    assert "there is no file in it" in capsys.readouterr().err


def test_configuration_that_the_check_refuses_is_reported(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "old").write_text(
        "port=0\ndhcp-range=10.77.0.10,10.77.0.20,255.255.255.0\ndhcp-option=3,10.9.9.9\ndhcp-option=6,10.77.0.1\n"
    )
    assert run("old") == 3
    assert "bootfw run --check refuses the result: dhcp.subnet[0].router[0]: 10.9.9.9" in capsys.readouterr().err


def test_bytes_that_are_not_utf_8_are_reported(cwd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cwd / "old").write_bytes(b"enable-tftp\ntftp-root=/srv/\xe4\ndhcp-script=\xe4\n")
    assert run("old", "--report", "report", "-o", "new.toml") == 3
    assert "not UTF-8" in capsys.readouterr().err
    assert "\\udce4" in (cwd / "report").read_text()
    tomllib.loads((cwd / "new.toml").read_text())
