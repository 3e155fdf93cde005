"""``bootfw render``: the file that a client would get, or the reason why it would get none."""

import subprocess
import sys
from pathlib import Path

import pytest

from bootfw.cli.main import main

MAC = "52:54:00:12:34:56"

CONFIG = """
[http]
listen = ["0.0.0.0:8069"]
[[backend]]
use = "template"
root = "templates"
hosts = "hosts"
[[backend]]
use = "directory"
root = "boot"
"""


@pytest.fixture(autouse=True)
def _configuration(cwd: Path) -> None:
    for name, text in {
        "bootfw.toml": CONFIG,
        "templates/boot.ipxe.j2": "{{ host.name }} {{ client.mac }} {{ client.architecture }} {{ server.http }}\n",
        "templates/bad.j2": "\n{{ host.role }}\n",
        "hosts/web1.toml": f'mac = "{MAC}"\n',
        "hosts/db1.toml": 'mac = "52:54:00:00:00:02"\nrole = \n',
        "boot/static": "exactly 16 bytes",
    }.items():
        path = cwd / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def render(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, str, str]:
    """Run ``bootfw render``, and return its exit code, output and errors."""
    code = main(["render", "-c", "bootfw.toml", *arguments])
    captured = capfdbinary.readouterr()
    return code, captured.out.decode(), captured.err.decode()


def test_file_is_rendered_for_the_client(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    options = ("--mac", MAC.upper(), "--arch", "x86_64-uefi", "--server", "10.0.0.1")
    code, out, err = render(capfdbinary, "/boot.ipxe", *options)
    assert (code, out, err) == (0, f"web1 {MAC} x86_64-uefi http://10.0.0.1:8069\n", "")


def test_output_names_the_backend_of_the_file(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert render(capfdbinary, "-v", "static") == (0, "exactly 16 bytes", "bootfw: 16 bytes from backend directory\n")


def test_template_error_names_template_and_line(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    code, out, err = render(capfdbinary, "bad", "--mac", MAC)
    assert (code, out) == (1, "")
    assert err.startswith('bootfw: backend template: bad.j2:2: host has no "role"; it has mac, name; the client gets')


def test_host_file_error_names_file_and_line(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    code, _, err = render(capfdbinary, "boot.ipxe", "--mac", "52:54:00:00:00:02")
    assert code == 1
    assert f"{tmp_path}/hosts/db1.toml:2: " in err


def test_missing_file_is_an_error(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert render(capfdbinary, "no\x1b[2J") == (3, "", 'bootfw: no backend has "no\\x1b[2J" for this client\n')


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "--mac", "52:54"), '--mac must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (("x", "--uuid", "1"), "--uuid 1: is not a UUID"),
    ],
)
def test_invalid_options_are_errors(
    capfdbinary: pytest.CaptureFixture[bytes], arguments: tuple[str, ...], message: str
) -> None:
    assert render(capfdbinary, *arguments) == (2, "", f"bootfw: {message}\n")


def test_invalid_configuration_is_an_error(capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text("[tftp]\nlisten = 1\n")
    code, out, err = render(capfdbinary, "x")
    assert (code, out) == (2, "")
    assert "tftp.listen" in err


def test_bootfw_render_writes_the_bytes_unchanged(tmp_path: Path) -> None:
    """The output is not decoded, and the command needs no reactor."""
    (tmp_path / "boot/binary").write_bytes(bytes(range(256)))
    command = [str(Path(sys.executable).with_name("bootfw")), "render", "-c", "bootfw.toml", "binary"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert done.stdout == bytes(range(256))
