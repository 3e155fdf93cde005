"""``twistd tftp`` as a process, and the client tftp-hpa."""

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tftp.tap import Options
from twisted.python.usage import UsageError

TWISTD = Path(sys.executable).parent / "twistd"
CONTENT = bytes(range(256)) * 400


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    (root / "kernel").write_bytes(CONTENT)
    return root


@pytest.fixture
def port(root: Path, tmp_path: Path) -> Iterator[int]:
    port = free_port()
    command = [str(TWISTD), "--nodaemon", "--pidfile=", "tftp", "-r", "-w", "-p", str(port), "-d", str(root)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert any("TFTP Listener started" in line for line in process.stdout)
            yield port
        finally:
            process.terminate()


def run_tftp_client(port: int, *command: str | Path) -> str:
    if shutil.which("tftp") is None:
        pytest.skip("tftp-hpa is not installed")
    arguments = ["tftp", "-m", "binary", "127.0.0.1", str(port), "-c", *map(str, command)]
    result = subprocess.run(arguments, text=True, capture_output=True, timeout=60, check=False)
    return result.stdout + result.stderr


def test_tftp_hpa_reads_and_writes(port: int, root: Path, tmp_path: Path) -> None:
    assert run_tftp_client(port, "get", "kernel", tmp_path / "got") == ""
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert run_tftp_client(port, "put", tmp_path / "got", "new/copy") == ""
    assert (root / "new" / "copy").read_bytes() == CONTENT
    assert [path.name for path in (root / "new").iterdir()] == ["copy"]
    assert "File already exists" in run_tftp_client(port, "put", tmp_path / "got", "kernel")
    assert "File not found" in run_tftp_client(port, "get", "missing", tmp_path / "none")


def test_a_client_that_waits_for_the_last_oack_gets_its_file(port: int) -> None:
    """That one comes after 4 s. Launchpad bug 1155556: then python-tx-tftp raised, and the client hung."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        sock.sendto(b"\0\1kernel\0octet\0tsize\0000\0blksize\0001408\0", ("127.0.0.1", port))
        for _ in range(3):
            oack, peer = sock.recvfrom(2000)
            assert oack == b"\0\6tsize\000%d\0blksize\0001408\0" % len(CONTENT)
        sock.sendto(b"\0\4\0\0", peer)
        assert sock.recvfrom(2000) == (b"\0\3\0\1" + CONTENT[:1408], peer)
        sock.sendto(b"\0\5\0\0enough\0", peer)


def test_a_directory_is_needed() -> None:
    with pytest.raises(UsageError, match="root directory"):
        Options().parseOptions(["-r"])  # type: ignore[no-untyped-call]
