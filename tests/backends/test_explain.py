"""Files that exist and are not served: the reason is in the log, and not in the answer to the client."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootfw.api import AccessViolation, FileMissing, TransferRequest
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.openat2 import openat2, walk


@pytest.fixture(params=[openat2, walk], ids=["openat2", "walk"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> DirectoryBackend:
    root = tmp_path / "root"
    (root / "directory").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    (tmp_path / "outside").write_bytes(b"content")
    return DirectoryBackend(root, resolve=request.param)


def refusal_detail(
    backend: DirectoryBackend, path: str, kind: type[FileMissing] | type[AccessViolation] = FileMissing
) -> str:
    with pytest.raises(kind) as caught:
        backend.open(path, None)
    assert caught.value.message == kind.summary
    return caught.value.detail


@pytest.mark.parametrize(
    ("link", "target", "path"),
    [
        ("linked", "../outside", "linked"),
        ("linked", "/srv/elsewhere/file", "linked"),
        ("directory/linked", "../../outside", "directory/linked"),
        ("linked", "/srv/elsewhere", "linked/below/file"),
        ("linked", "directory/../../../elsewhere", "linked/file"),
    ],
)
def test_link_outside_of_the_root_is_explained(backend: DirectoryBackend, link: str, target: str, path: str) -> None:
    (backend.root / link).symlink_to(target)
    detail = refusal_detail(backend, path)
    assert detail.startswith(f"{backend.root / link} -> {target} leads out of {backend.root}; ")
    assert "[[backend]]" in detail


def test_a_link_behind_a_link(backend: DirectoryBackend) -> None:
    (backend.root / "first").symlink_to("second")
    (backend.root / "second").symlink_to("/srv/elsewhere")
    assert refusal_detail(backend, "first").startswith(f"{backend.root}/second -> /srv/elsewhere leads out of")


def test_an_absolute_link_to_a_file_inside(backend: DirectoryBackend) -> None:
    (backend.root / "linked").symlink_to(backend.root / "file")
    assert refusal_detail(backend, "linked").endswith("make it a relative one")


def test_dangling_link_is_explained(backend: DirectoryBackend) -> None:
    (backend.root / "linked").symlink_to("missing")
    assert refusal_detail(backend, "linked") == f"{backend.root}/linked -> missing: its target does not exist"


def test_circular_links_are_explained(backend: DirectoryBackend) -> None:
    (backend.root / "one").symlink_to("two")
    (backend.root / "two").symlink_to("one")
    assert refusal_detail(backend, "one").endswith(": links lead in a circle")


@pytest.mark.parametrize("path", ["missing", "missing/file", "file/below", "directory", "../../missing", ""])
def test_missing_file_has_no_explanation(backend: DirectoryBackend, path: str) -> None:
    (backend.root / "linked").symlink_to("/srv/elsewhere")
    assert refusal_detail(backend, path) == ""


def test_fifo_is_explained(backend: DirectoryBackend) -> None:
    os.mkfifo(backend.root / "fifo")
    assert refusal_detail(backend, "fifo") == f"{backend.root}/fifo is a FIFO, and no regular file"


@pytest.fixture(params=[openat2, walk], ids=["openat2", "walk"])
def backend_of_another_user(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DirectoryBackend]:
    """The files belong to root, and the test runs as another user.

    The path is relative, because that user may not enter the directories above.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    root = tmp_path / "root"
    (root / "directory").mkdir(parents=True)
    (root / "file").write_bytes(b"content")
    (root / "file").chmod(0o600)
    (root / "directory").chmod(0o700)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    os.setegid(65534)
    os.seteuid(65534)
    yield DirectoryBackend(Path("root"), resolve=request.param)
    os.seteuid(0)
    os.setegid(0)


def test_unreadable_file_is_explained(backend_of_another_user: DirectoryBackend) -> None:
    detail = refusal_detail(backend_of_another_user, "file", AccessViolation)
    assert detail == "root/file: permission denied for uid 65534, gid 65534: mode 0600, owner uid 0, gid 0"


def test_inaccessible_directory_is_explained(backend_of_another_user: DirectoryBackend) -> None:
    detail = refusal_detail(backend_of_another_user, "directory/file", AccessViolation)
    assert detail.startswith("root/directory: permission denied for uid 65534")


def test_refused_upload_is_explained(backend_of_another_user: DirectoryBackend) -> None:
    request = TransferRequest("new", "new", ("192.0.2.7", 2070), write=True)
    with pytest.raises(AccessViolation) as caught:
        backend_of_another_user.create("new", request)
    assert caught.value.detail == "root/new can't be created: permission denied for uid 65534"
