"""``bootfw import`` as an operator uses it."""

import json
import tomllib
from pathlib import Path

import pytest

from bootfw.cli.main import main

CLEAN = "enable-tftp\ntftp-root=/srv/tftp\nport=0\n"


def run(*arguments: str | Path) -> int:
    return main(["import", *map(str, arguments)])


def test_nothing_needs_a_look(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "dnsmasq.conf").write_text(CLEAN)
    assert run("dnsmasq.conf") == 0
    out, err = capsys.readouterr()
    assert tomllib.loads(out)["backend"] == [{"use": "directory", "root": "/srv/tftp"}]
    assert err == "lines: 2 expressed, 1 not needed\n"


def test_some_lines_need_a_look(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "dnsmasq.conf").write_text(CLEAN + "dhcp-script=/bin/x\n")
    assert run("dnsmasq.conf", "-o", "new.toml", "--report", "report") == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("left out: dnsmasq.conf:4: dhcp-script=/bin/x\n    bootfw runs no scripts")
    report = (here / "report").read_text()
    assert "expressed: dnsmasq.conf:1: enable-tftp\n" in report
    assert "not needed: dnsmasq.conf:3: port=0\n" in report
    assert tomllib.loads((here / "new.toml").read_text())["dhcp"] == {"mode": "off"}


def test_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "dnsmasq.conf").write_text(CLEAN)
    assert run("--json", "dnsmasq.conf") == 0
    found = json.loads(capsys.readouterr().out)
    assert tomllib.loads(found["configuration"])["dhcp"] == {"mode": "off"}
    assert found["lines"][0] == {
        "file": "dnsmasq.conf",
        "line": 1,
        "text": "enable-tftp",
        "fate": "expressed",
        "reason": "[tftp]",
    }
    assert found["counts"] == {"expressed": 2, "assumed": 0, "not needed": 1, "left out": 0}


def test_a_directory_and_several_formats(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "d").mkdir()
    (here / "d" / "proxy.conf").write_text("dhcp-range=10.77.0.0,proxy,255.255.255.0\nport=0\ndhcp-boot=a\n")
    (here / "d" / "old.conf.dpkg-old").write_text("nonsense")
    (here / "tftpd-hpa").write_text('TFTP_DIRECTORY="/srv/tftp"\n')
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
def test_a_file_that_can_not_be_read(
    content: bytes | None, message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (here / "old").write_bytes(content)
    assert run("old") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"bootfw: {message}")


def test_an_empty_directory(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "d").mkdir()
    assert run("d") == 2
    assert "there is no file in it" in capsys.readouterr().err


def test_what_the_check_refuses_is_reported(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "old").write_text(
        "port=0\ndhcp-range=10.77.0.10,10.77.0.20,255.255.255.0\ndhcp-option=3,10.9.9.9\ndhcp-option=6,10.77.0.1\n"
    )
    assert run("old") == 3
    assert "bootfw run --check refuses the result: dhcp.subnet[0].router[0]: 10.9.9.9" in capsys.readouterr().err


def test_bytes_that_are_no_utf_8(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "old").write_bytes(b"enable-tftp\ntftp-root=/srv/\xe4\ndhcp-script=\xe4\n")
    assert run("old", "--report", "report", "-o", "new.toml") == 3
    assert "not UTF-8" in capsys.readouterr().err
    assert "\\udce4" in (here / "report").read_text()
    tomllib.loads((here / "new.toml").read_text())
