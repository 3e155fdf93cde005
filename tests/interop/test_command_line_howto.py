"""The page about the command line: each of its commands prints what stands below it."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from howtos import blocks

from .lab import Host, Lab, wait_until
from .service import start_bootfw

pytestmark = pytest.mark.interop

PAGE = "command-line.md"

_VARIABLE_PARTS = (
    (r" +\d+ ms", " N ms"),
    (r"\d+\.\d MB/s", "N MB/s"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "WHEN"),
    (r"has run for \d+ \w+", "has run for N s"),
    (r"bootfw \d+\.\d+[^ ]*", "bootfw N"),
    (r"pid \d+", "pid N"),
    (r"Python [\d.]+", "Python N"),
    (r"Twisted [\d.]+", "Twisted N"),
    (r"configuration \S+", "configuration FILE"),
    (r"(serving|starting|ready) +\d+", "STATE N"),
)
"""What differs from run to run."""


def normalize(text: str) -> list[str]:
    for pattern, word in _VARIABLE_PARTS:
        text = re.sub(pattern, word, text)
    return [line.rstrip() for line in text.splitlines() if not re.match(r"skipped +firewall", line)]


def commands_and_outputs(block: str) -> list[tuple[str, str]]:
    """(command, output) of each command of a block."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def output_of(host: Host, directory: Path, command: str) -> str:
    bootfw = shlex.quote(str(Path(sys.executable).with_name("bootfw")))
    line = f"cd {shlex.quote(str(directory))}; {re.sub('^bootfw', bootfw, command)}"
    return host.run("sh", "-c", line, seconds=60).output


def test_the_command_line_howto(lab: Lab, tmp_path: Path) -> None:
    """In its order, on the server; "bootfw probe" on another host."""
    server = lab.host("server", "10.77.0.1/24")
    client = lab.host("client", "10.77.0.9/24")
    server.ip("route", "add", "default", "via", "10.77.0.9")
    (configuration,) = blocks(PAGE, "toml")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/shimx64.efi").write_bytes(b"MZ" + bytes(199_998))
    (tmp_path / "boot/boot.ipxe").write_text("#!ipxe\n")
    (tmp_path / "bootfw.toml").write_text(configuration)
    explain_block, probe_block, check_block, status_block, _ = blocks(PAGE, "console")
    before_start = [(server, each) for each in commands_and_outputs(explain_block) + commands_and_outputs(check_block)]
    after_start = [(client, session) for session in commands_and_outputs(probe_block)] + [
        (server, session) for session in commands_and_outputs(status_block)
    ]
    different = {}

    def compare(host: Host, command: str, expected: str) -> None:
        output = output_of(host, tmp_path, command)
        # Whether this host's clock is synchronized says nothing about the page.
        output, warnings = re.subn(r"^warning  clock: .*\n( +-> .*\n)?", "", output, flags=re.MULTILINE)
        if warnings:
            output = output.replace("1 problem, 1 warning", "1 problem, no warnings")
        if normalize(output) != normalize(expected):
            different[command] = output

    for host, (command, expected) in before_start:
        compare(host, command, expected)
    bootfw = start_bootfw(server, tmp_path, configuration, 67, 69, 4011)
    bootfw.wait_for("what next:", 90)
    # The page shows a server whose workers serve, which they begin to do later than the main process.
    wait_until(
        lambda: "starting" not in output_of(server, tmp_path, "bootfw status -c bootfw.toml"), 60, "the workers serve"
    )
    for host, (command, expected) in after_start:
        compare(host, command, expected)
    assert different == {}
