"""``bootfw receive``: its arguments, and the command as one file; tests/interop/test_receive.py receives images."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bootfw.cli.imagereceiver import Output, Transmission
from bootfw.cli.main import main
from bootfw.frisbee.digests import Digests
from bootfw.wire.frisbee import CHUNK_SIZE

ARGUMENTS = ["disk.img", "-o", "out", "--server", "127.0.0.1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name an image, and where to write it: IMAGE -o FILE"),
        (["disk.img", "--server", "127.0.0.1"], "name an image, and where to write it: IMAGE -o FILE"),
        (["disk.img", "-o", "out"], "say where the image comes from: --server or --group"),
        ([*ARGUMENTS, "--group", "239.1.2.3:4"], "say where the image comes from: --server or --group"),
        ([*ARGUMENTS, "--resume"], "--resume needs --digests, to find what FILE has"),
        ([*ARGUMENTS, "--digests", "none"], "none: No such file or directory"),
        ([*ARGUMENTS, "--digests", "text"], "this is no file of digests: Expecting value: line 1 column 1 (char 0)"),
        ([*ARGUMENTS[:-1], "127.0.0.1:0"], '"0" is no port: 1 to 65535'),
        (
            [*ARGUMENTS[:3], "--group", "group:4"],
            '--group is an address and a port, such as 239.192.1.2:1283, not "group:4"',
        ),
        ([*ARGUMENTS[:3], "--group", "239.1.2.3"], '"239.1.2.3" is no port: 1 to 65535'),
        (["disk.img", "-o", "away/out", "--server", "127.0.0.1"], "away/out: No such file or directory"),
        (["disk.img", "-o", "/dev/nosuch0", "--server", "127.0.0.1"], "there is no device /dev/nosuch0"),
        ([ARGUMENTS[0] * 40, *ARGUMENTS[1:]], "a name of 320 bytes; it may have 256"),
    ],
)
def test_invalid_arguments_are_errors(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text").write_text("no digests")
    assert main(["receive", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_script_needs_only_python(tmp_path: Path) -> None:
    script = tmp_path / "receive.pyz"
    assert main(["receive", "--write-script", str(script)]) == 0
    assert script.stat().st_mode & 0o777 == 0o755
    with zipfile.ZipFile(script) as archive:
        assert {each.compress_type for each in archive.infolist()} == {zipfile.ZIP_STORED}
    command = [sys.executable, "-I", "-S", str(script), "disk.img", "-o", "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "receive: say where the image comes from: --server or --group\n")


def test_output_finds_the_chunks_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"x" * CHUNK_SIZE + b"y" * CHUNK_SIZE + b"end")
    with path.open("rb") as file:
        digests = Digests.of(file.read)
    output = Output(str(path))
    output.write(1, b"z")
    assert list(output.stored(digests)) == [0, 2]
    output.write(1, b"y" * CHUNK_SIZE)
    output.fit(3)
    output.flush()
    output.close()
    assert path.read_bytes() == b"xxx"


def test_only_multicast_addresses_are_joined() -> None:
    addresses = ("239.192.1.2", "10.0.0.1", "10.0.0.255")
    assert [Transmission(address, 1).is_group for address in addresses] == [True, False, False]
