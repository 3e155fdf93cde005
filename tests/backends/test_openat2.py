"""Finding files below a root: the kernel's way and ours are the same way."""

import ctypes
import errno
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from descriptors import open_descriptors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from narrowing import present

from bootfw.backends import openat2 as module
from bootfw.backends.openat2 import Resolve, openat2, resolve, walk

WAYS: list[Resolve] = [openat2, walk]


@pytest.fixture(params=WAYS, ids=["openat2", "walk"])
def way(request: pytest.FixtureRequest) -> Resolve:
    way: Resolve = request.param
    return way


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A root, a secret beside it, and links of every kind."""
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "file").write_text("file")
    (root / "sub" / "inner").write_text("inner")
    for link, target in {
        "relative": "sub/inner",
        "absolute": "/sub/inner",
        "dir": "sub",
        "sub/up": "../file",
        "escape": "../secret",
        "sub/far": "../../../../secret",
        "host": str(tmp_path / "secret"),
        "loop": "loop",
        "dangling": "nowhere",
        "slashed": "file/",
        "dotted": "sub/.//../file",
    }.items():
        (root / link).symlink_to(target)
    return root


def look(way: Resolve, root: Path | str, path: bytes) -> str:
    """Content of the file; "dir"; or the errno's name."""
    fd = os.open(root, os.O_PATH)
    try:
        found = way(fd, path)
    except OSError as error:
        return errno.errorcode[present(error.errno)]
    finally:
        os.close(fd)
    try:
        if stat.S_ISDIR(os.fstat(found).st_mode):
            return "dir"
        with open(f"/proc/self/fd/{found}") as file:
            return file.read()
    finally:
        os.close(found)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("file", "file"),
        ("/file", "file"),
        ("sub/inner", "inner"),
        ("relative", "inner"),
        ("absolute", "inner"),
        ("dir/inner", "inner"),
        ("sub/up", "file"),
        ("dotted", "file"),
        ("../file", "file"),
        ("../../../../file", "file"),
        ("sub/../../file", "file"),
        ("dir/../file", "file"),
        ("", "dir"),
        (".", "dir"),
        ("..", "dir"),
        ("sub/", "dir"),
        ("escape", "ENOENT"),
        ("sub/far", "ENOENT"),
        ("host", "ENOENT"),
        ("../secret", "ENOENT"),
        ("missing", "ENOENT"),
        ("missing/../file", "ENOENT"),
        ("dangling", "ENOENT"),
        ("loop", "ELOOP"),
        ("file/", "ENOTDIR"),
        ("file/x", "ENOTDIR"),
        ("file/.", "ENOTDIR"),
        ("file/..", "ENOTDIR"),
        ("slashed", "ENOTDIR"),
        ("x" * 256, "ENAMETOOLONG"),
    ],
)
def test_look_up(way: Resolve, tree: Path, path: str, expected: str) -> None:
    assert look(way, tree, path.encode()) == expected


def test_forty_links_are_followed_and_one_more_is_not(way: Resolve, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("end")
    for number in range(1, 42):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    assert look(way, tmp_path, b"40") == "end"
    assert look(way, tmp_path, b"41") == "ELOOP"


def test_all_descriptors_are_closed(way: Resolve, tree: Path) -> None:
    before = open_descriptors()
    for path in (b"dir/../sub/up", b"absolute", b"loop", b"file/x", b"missing/a/b", b"..", b"sub/far"):
        look(way, tree, path)
    assert open_descriptors() == before


NAMES = st.sampled_from(["a", "b", "c"])
PATHS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", ""]), min_size=1, max_size=5).map("/".join)
NODES = st.dictionaries(
    st.lists(NAMES, min_size=1, max_size=3).map("/".join),
    st.one_of(st.just("file"), st.just("dir"), PATHS.filter(bool).map(lambda target: "-> " + target)),
    max_size=6,
)


def build(root: str, nodes: Mapping[str, str]) -> None:
    for path, kind in sorted(nodes.items()):
        where = os.path.join(root, path)
        try:
            if kind == "dir":
                os.makedirs(where, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(where), exist_ok=True)
                if kind == "file":
                    with open(where, "x") as file:
                        file.write(path)
                else:
                    os.symlink(kind.removeprefix("-> "), where)
        except OSError:
            pass  # this name is something else already


@settings(max_examples=150, deadline=None)
@given(NODES, PATHS)
@example({"a/b": "-> /c/../a/c", "a/c": "file"}, "a/b")
def test_both_ways_agree_on_any_tree(nodes: dict[str, str], path: str) -> None:
    with tempfile.TemporaryDirectory() as outside:
        # A file of each name lies beside the root, so that a way out would find something.
        for name in "abc":
            with open(os.path.join(outside, name), "w") as file:
                file.write("outside")
        root = os.path.join(outside, "root")
        os.mkdir(root)
        build(root, nodes)
        by_kernel, by_hand = (look(way, root, path.encode()) for way in WAYS)
        assert by_kernel == by_hand != "outside"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_walks_where_the_kernel_can_not(monkeypatch: pytest.MonkeyPatch, tree: Path, number: int) -> None:
    def refuse(root: int, path: bytes) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(module, "openat2", refuse)
    assert look(resolve, tree, b"sub/up") == "file"
    assert look(resolve, tree, b"host") == "ENOENT"


def test_other_errors_are_not_walked_around(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    def refuse(root: int, path: bytes) -> None:
        raise OSError(errno.EACCES, "")

    monkeypatch.setattr(module, "openat2", refuse)
    assert look(resolve, tree, b"file") == "EACCES"


def test_the_system_call_is_repeated_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    calls: list[tuple[int | bytes, ...]] = []

    def busy(*arguments: int | bytes) -> int:
        calls.append(arguments)
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(module, "_syscall", busy)
    assert look(openat2, tree, b"file") == "EAGAIN"
    assert len(calls) == 16
    assert look(resolve, tree, b"file") == "file"


def test_magic_links_are_not_followed() -> None:
    with tempfile.TemporaryFile("w+") as secret:
        for way in WAYS:
            assert look(way, "/proc", f"self/fd/{secret.fileno()}".encode()) in ("ELOOP", "ENOENT")
