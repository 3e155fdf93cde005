"""Finding files below a root: openat2() of the kernel and the walk in Python find the same files."""

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

LOOKUPS: list[Resolve] = [openat2, walk]


@pytest.fixture(params=LOOKUPS, ids=["openat2", "walk"])
def lookup(request: pytest.FixtureRequest) -> Resolve:
    lookup: Resolve = request.param
    return lookup


@pytest.fixture
def root_with_links(tmp_path: Path) -> Path:
    """A root with links of every kind, and a secret file beside it."""
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


def content_at(lookup: Resolve, root: Path | str, path: bytes) -> str:
    """The content of the file, "dir" for a directory, or the name of the errno."""
    fd = os.open(root, os.O_PATH)
    try:
        descriptor = lookup(fd, path)
    except OSError as error:
        return errno.errorcode[present(error.errno)]
    finally:
        os.close(fd)
    try:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            return "dir"
        with open(f"/proc/self/fd/{descriptor}") as file:
            return file.read()
    finally:
        os.close(descriptor)


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
def test_look_up(lookup: Resolve, root_with_links: Path, path: str, expected: str) -> None:
    assert content_at(lookup, root_with_links, path.encode()) == expected


def test_forty_links_are_followed_and_one_more_is_not(lookup: Resolve, tmp_path: Path) -> None:
    (tmp_path / "0").write_text("end")
    for number in range(1, 42):
        (tmp_path / str(number)).symlink_to(str(number - 1))
    assert content_at(lookup, tmp_path, b"40") == "end"
    assert content_at(lookup, tmp_path, b"41") == "ELOOP"


def test_all_descriptors_are_closed(lookup: Resolve, root_with_links: Path) -> None:
    before = open_descriptors()
    for path in (b"dir/../sub/up", b"absolute", b"loop", b"file/x", b"missing/a/b", b"..", b"sub/far"):
        content_at(lookup, root_with_links, path)
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
        full_path = os.path.join(root, path)
        try:
            if kind == "dir":
                os.makedirs(full_path, exist_ok=True)
            else:
                os.makedirs(os.path.dirname(full_path), exist_ok=True)
                if kind == "file":
                    with open(full_path, "x") as file:
                        file.write(path)
                else:
                    os.symlink(kind.removeprefix("-> "), full_path)
        except OSError:
            pass  # this name exists already


@settings(max_examples=150, deadline=None)
@given(NODES, PATHS)
@example({"a/b": "-> /c/../a/c", "a/c": "file"}, "a/b")
def test_both_lookups_agree_on_any_tree(nodes: dict[str, str], path: str) -> None:
    with tempfile.TemporaryDirectory() as outside:
        # A file of each name is beside the root, so that a lookup that leaves the root finds something.
        for name in "abc":
            with open(os.path.join(outside, name), "w") as file:
                file.write("outside")
        root = os.path.join(outside, "root")
        os.mkdir(root)
        build(root, nodes)
        by_kernel, by_hand = (content_at(lookup, root, path.encode()) for lookup in LOOKUPS)
        assert by_kernel == by_hand != "outside"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EAGAIN])
def test_the_walk_is_used_where_the_kernel_lacks_openat2(
    monkeypatch: pytest.MonkeyPatch, root_with_links: Path, number: int
) -> None:
    def refuse(root: int, path: bytes) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(module, "openat2", refuse)
    assert content_at(resolve, root_with_links, b"sub/up") == "file"
    assert content_at(resolve, root_with_links, b"host") == "ENOENT"


def test_other_errors_do_not_cause_a_walk(monkeypatch: pytest.MonkeyPatch, root_with_links: Path) -> None:
    def refuse(root: int, path: bytes) -> None:
        raise OSError(errno.EACCES, "")

    monkeypatch.setattr(module, "openat2", refuse)
    assert content_at(resolve, root_with_links, b"file") == "EACCES"


def test_the_system_call_is_repeated_a_bounded_number_of_times(
    monkeypatch: pytest.MonkeyPatch, root_with_links: Path
) -> None:
    calls: list[tuple[int | bytes, ...]] = []

    def busy(*arguments: int | bytes) -> int:
        calls.append(arguments)
        ctypes.set_errno(errno.EAGAIN)
        return -1

    monkeypatch.setattr(module, "_syscall", busy)
    assert content_at(openat2, root_with_links, b"file") == "EAGAIN"
    assert len(calls) == 16
    assert content_at(resolve, root_with_links, b"file") == "file"


def test_magic_links_are_not_followed() -> None:
    with tempfile.TemporaryFile("w+") as secret:
        for lookup in LOOKUPS:
            assert content_at(lookup, "/proc", f"self/fd/{secret.fileno()}".encode()) in ("ELOOP", "ENOENT")
