"""``bootfw images add`` and ``remove``."""

import hashlib
import io
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from archives import make_iso
from attrs import define, field
from osimages import TREES
from webservers import WebServer

from bootfw.attempts.attempt import BootAttempt, Stage, StageKind, Verdict
from bootfw.attempts.record import attempt_record
from bootfw.cli import addimage, images
from bootfw.cli import main as command
from bootfw.cli.addimage import add_image, checksum_in, remove_image, remove_old_directories
from bootfw.cli.failure import CommandError
from bootfw.cli.running import ServerEnded
from bootfw.frisbee.digests import Digests
from bootfw.terminal import StatusLine
from bootfw.wire.frisbee import CHUNK_SIZE

FILES = dict(next(tree for tree in TREES if tree.family == "debian-netboot").files)


@pytest.fixture
def root(cwd: Path) -> Path:
    """The directory of the images; it does not exist yet."""
    (cwd / "bootfw.toml").write_text('[[backend]]\nuse = "images"\nroot = "images"\n')
    return cwd / "images"


@pytest.fixture
def iso(cwd: Path) -> Path:
    """An image in another directory."""
    path = cwd / "away/debian-12.iso"
    path.parent.mkdir()
    make_iso(path, FILES)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs ``bootfw images``, and returns its exit code, output and errors."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        code = command.main(["images", *map(str, arguments), "-c", "bootfw.toml"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def url(iso: Path) -> Iterator[str]:
    """The URL of a web server that serves the directory of the image."""

    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(iso.parent))

    server = WebServer(Files)
    yield server.url
    server.stop()


def checksum_line(path: Path, algorithm: str = "sha256") -> str:
    """The line of a file such as SHA256SUMS."""
    return f"{hashlib.new(algorithm, path.read_bytes()).hexdigest()}  {path.name}\n"


def entries(root: Path) -> list[str]:
    return sorted(os.listdir(root)) if root.exists() else []


def test_file_is_added(root: Path, iso: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    assert run("add", iso) == (
        0,
        "there is no checksum beside it, so it was not verified\n"
        f"{root}/debian-12.iso: Debian 12 installer, for BIOS x86_64, UEFI x86_64\n",
        "",
    )
    assert (root / "debian-12.iso").read_bytes() == iso.read_bytes()
    assert (root / "debian-12.iso").stat().st_mode & 0o777 == 0o644
    assert entries(root) == ["debian-12.iso"]


def test_download_is_verified(root: Path, iso: Path, url: str, run: Callable[..., tuple[int, str, str]]) -> None:
    (iso.parent / "SHA512SUMS").write_text(f"{'0' * 128}  other.iso\n")
    (iso.parent / "SHA256SUMS").write_text(checksum_line(iso))
    code, out, err = run("add", f"{url}/debian-12.iso", "--name", "debian")
    assert (code, err) == (0, "")
    assert out.startswith("its sha256 is that of SHA256SUMS\n")
    assert (root / "debian.iso").read_bytes() == iso.read_bytes()


@pytest.mark.parametrize("by_url", [False, True])
def test_wrong_checksum_changes_nothing(root: Path, iso: Path, url: str, by_url: bool, run: Any) -> None:
    assert run("add", iso)[0] == 0
    old = (root / "debian-12.iso").read_bytes()
    (iso.parent / "debian-12.iso.sha256").write_text("0" * 64 + "\n")
    iso.write_bytes(iso.read_bytes() + bytes(2048))
    code, out, err = run("add", f"{url}/debian-12.iso" if by_url else iso)
    assert (code, out) == (1, "")
    assert "its sha256 is " in err
    assert f"debian-12.iso.sha256 has {'0' * 64}" in err
    assert (root / "debian-12.iso").read_bytes() == old
    assert entries(root) == ["debian-12.iso"]


def test_new_version_replaces_the_old_one_atomically(root: Path, iso: Path) -> None:
    path = add_image(str(iso), root)
    with open(path, "rb") as old:
        old_content = old.read()
        iso.write_bytes(old_content + bytes(2048))
        assert add_image(str(iso), root) == path
        old.seek(0)
        assert old.read() == old_content
    assert path.read_bytes() == iso.read_bytes()


def test_unknown_system_is_added_and_reported(root: Path, iso: Path, run: Any) -> None:
    make_iso(iso, {"readme": b""})
    code, out, _ = run("add", iso)
    assert code == 0
    assert out.endswith(
        f"{root}/debian-12.iso: can't be booted: it is not recognized; a CD that boots is in the menu as such\n"
    )


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("none.iso", "none.iso: No such file or directory"),
        ("bootfw.toml", "bootfw.toml: is no image by its name; known: .iso"),
        ("ftp://h/a.iso", "ftp://h/a.iso: only files, and http and https URLs, can be added"),
        ("away/a b.iso", '"a b": give it another name with --name'),
        ("http://127.0.0.1:1/a.iso", "http://127.0.0.1:1/a.iso: "),
        ("away/dir.iso", "away/dir.iso: is a directory"),
    ],
)
def test_invalid_sources_are_errors(root: Path, iso: Path, source: str, error: str, run: Any) -> None:
    (iso.parent / "dir.iso").mkdir()
    shutil.copy(iso, iso.with_name("a b.iso"))
    code, out, err = run("add", source)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {error}")
    assert entries(root) == []


def test_missing_file_at_a_url_is_an_error(root: Path, iso: Path, url: str, run: Any) -> None:
    assert run("add", f"{url}/none.iso")[2] == f"bootfw: {url}/none.iso: 404 File not found\n"


def test_an_image_of_another_kind_with_this_name_is_not_replaced(root: Path, iso: Path, run: Any) -> None:
    root.mkdir()
    (root / "debian-12").mkdir()
    assert f"{root}/debian-12 is the image debian-12 already: remove it first" in run("add", iso)[2]


def test_interrupted_download_leaves_no_file(root: Path, iso: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addimage, "_CHUNK", 1000)

    class InterruptedLine(StatusLine):
        def show(self, text: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr(addimage, "StatusLine", InterruptedLine)
    with pytest.raises(KeyboardInterrupt):
        add_image(f"{url}/debian-12.iso", root)
    assert entries(root) == []


def test_an_image_that_does_not_fit_is_refused_at_once(root: Path, iso: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(CommandError, match=f"{iso.stat().st_size - 10} bytes more are needed"):
        add_image(str(iso), root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{'a' * 64}  x.iso\n", "a" * 64),
        (f"{'A' * 64} *x.iso\n", "a" * 64),
        (f"{'a' * 64}  ./dir/x.iso\n", "a" * 64),
        (f"# x\nSHA256 (x.iso) = {'a' * 64}\n", "a" * 64),
        (f"{'a' * 64}\n", "a" * 64),
        (f"{'a' * 64}  y.iso\n{'b' * 64}  x.iso", "b" * 64),
        (f"{'a' * 128}  x.iso\n", None),
        (f"{'a' * 64}  xx.iso\n", None),
        ("", None),
    ],
)
def test_checksum_is_read_from_a_file_of_checksums(text: str, expected: str | None) -> None:
    assert checksum_in(text, "x.iso", "sha256") == expected


@pytest.fixture
def keyring(cwd: Path) -> Iterator[Path]:
    """The public key of a new key pair, whose secret key is in the directory gnupg."""
    if not all(map(shutil.which, ("gpg", "gpgv", "gpgconf"))):
        pytest.skip("needs gpg, gpgv and gpgconf")
    home = cwd / "gnupg"
    home.mkdir(mode=0o700)
    gpg(home, "--passphrase", "", "--quick-generate-key", "images@example.org", "ed25519", "sign", "never")
    path = cwd / "keys.gpg"
    path.write_bytes(gpg(home, "--export"))
    yield path
    # gpg has started its agent, which would run on.
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True, timeout=120)


def gpg(home: Path, *arguments: str | Path) -> bytes:
    command = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback", *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=120).stdout


def test_signatures_are_verified(root: Path, iso: Path, cwd: Path, keyring: Path, run: Any) -> None:
    """The signature of the file of checksums is verified, or that of the image if there is no such file."""
    path = iso.parent / "SHA256SUMS"
    path.write_text(checksum_line(iso))
    assert "there is no signature of it" in run("add", iso, "--keyring", keyring)[2]
    gpg(cwd / "gnupg", "--detach-sign", "--output", iso.parent / "SHA256SUMS.gpg", path)
    assert f"SHA256SUMS is signed by a key of {keyring}\n" in run("add", iso, "--keyring", keyring)[1]
    path.write_text(checksum_line(iso) + "\n")
    assert "the signature of SHA256SUMS is not good: gpgv: BAD signature" in run("add", iso, "--keyring", keyring)[2]
    path.unlink()
    gpg(cwd / "gnupg", "--armor", "--detach-sign", iso)
    assert f"it is signed by a key of {keyring}\n" in run("add", iso, "--keyring", keyring)[1]


def test_image_is_removed(root: Path, iso: Path, run: Any) -> None:
    run("add", iso)
    assert run("remove", "debian-12") == (0, "", "")
    assert entries(root) == []
    assert run("remove", "debian-12")[2] == f"bootfw: there is no image debian-12 in {root}\n"


@define
class FakeServer:
    """Answers each request for "boots" with the next list of boots; it ends after the last one."""

    answers: list[list[BootAttempt]]
    current: list[BootAttempt] = field(factory=list)

    def call(self, name: str, **arguments: Any) -> list[dict[str, Any]]:
        if name == "boots":
            if not self.answers:
                raise ServerEnded("ended")
            self.current = self.answers.pop(0)
            return [attempt_record(attempt, stages=False) for attempt in self.current]
        return [attempt_record(attempt) for attempt in self.current if attempt.client == arguments["machine"]]


def boot_attempt(number: int, *files: str, verdict: Verdict = Verdict.IN_PROGRESS) -> BootAttempt:
    """A boot in which a machine has fetched *files*."""
    stages = tuple(Stage(1.0, StageKind.TRANSFER, {"protocol": "http", "file": file}) for file in files)
    return BootAttempt(str(number), 1.0, mac=f"52:54:00:00:00:0{number}", stages=stages, verdict=verdict)


def test_removal_waits_for_the_boots_that_have_begun(capsys: pytest.CaptureFixture[str]) -> None:
    loads_kernel = boot_attempt(1, "images/debian~0123abcd/linux")
    loads_iso = boot_attempt(2, "boot.ipxe", "images/debian~0123abcd.iso")
    unrelated = [
        boot_attempt(3, "images/debian.old~0123abcd/linux"),
        boot_attempt(4, "images/debian-12/linux"),
        boot_attempt(5),
    ]
    booted = boot_attempt(6, "images/debian/linux", verdict=Verdict.BOOTED)
    server: Any = FakeServer(
        [
            [loads_kernel, loads_iso, *unrelated],
            [loads_kernel, loads_iso],
            [loads_iso],
            [*unrelated, booted],
            [loads_kernel],
        ]
    )
    waits: list[float] = []
    images._wait(server, "debian", waits.append)
    assert len(server.answers) == 1
    assert len(waits) == 3
    assert capsys.readouterr().out == (
        "waiting for 52:54:00:00:00:01, 52:54:00:00:00:02\nwaiting for 52:54:00:00:00:02\n"
    )


def test_removal_does_not_wait_for_a_server_that_has_ended() -> None:
    server: Any = FakeServer([])
    images._wait(server, "debian", lambda seconds: pytest.fail("it waits"))


def test_files_of_a_removed_directory_are_kept_for_an_hour(root: Path) -> None:
    (root / "debian").mkdir(parents=True)
    (root / "debian/vmlinuz").write_text("x")
    descriptor = os.open(root / "debian", os.O_RDONLY)
    try:
        assert remove_image("debian", root)
        assert not remove_image("debian", root)
        remove_old_directories(root, 3600)
        assert os.listdir(descriptor) == ["vmlinuz"]
        remove_old_directories(root, 0)
        assert entries(root) == []
    finally:
        os.close(descriptor)


def test_disk_image_has_digests_of_its_chunks(root: Path, tmp_path: Path, run: Any) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(CHUNK_SIZE) + b"end")
    digests = root / "disk.img.chunks"

    assert run("add", str(disk))[0] == 0
    assert Digests.parse(digests.read_bytes()) == Digests.of(io.BytesIO(disk.read_bytes()).read)
    disk.write_bytes(b"other")
    assert run("add", str(disk))[0] == 0
    assert Digests.parse(digests.read_bytes()).size == 5
    assert run("remove", "disk")[0] == 0
    assert entries(root) == []
