"""bootfw.tftp.path."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.tftp.path import relative


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        ("undionly.kpxe", "undionly.kpxe"),
        ("/undionly.kpxe", "undionly.kpxe"),
        ("//boot//x86///a", "boot/x86/a"),
        (r"\Boot\BCD", "Boot/BCD"),
        (r"/boot\\fonts/x.ttf", "boot/fonts/x.ttf"),
        ("a/./b/.", "a/b"),
        ("./a", "a"),
        ("a/", "a"),
        ("../../etc/passwd", "../../etc/passwd"),
        (r"..\..\x", "../../x"),
        ("a/../b", "a/../b"),
        ("...", "..."),
        (".hidden/.x", ".hidden/.x"),
        ("", ""),
        ("/", ""),
        ("./", ""),
        ("with space", "with space"),
        ("gr\udcfc", "gr\udcfc"),
    ],
)
def test_relative(filename: str, path: str) -> None:
    assert relative(filename) == path


@given(st.text(alphabet="/\\.ab", max_size=30))
def test_relative_is_idempotent(filename: str) -> None:
    path = relative(filename)
    assert not path.startswith("/")
    assert "\\" not in path
    assert path == "" or not {"", "."} & set(path.split("/"))
    assert relative(path) == path
    # Nothing but separators and "." parts is lost.
    assert path.split("/").count("..") == filename.replace("\\", "/").split("/").count("..")
