"""Files that resolvers have generated, served under the names in the replies."""

import pytest
from narrowing import of_type, present

from bootfw.boot.generated import GeneratedFiles
from bootfw.errors import FileMissing


def content(generated: GeneratedFiles, path: str) -> bytes | None:
    try:
        reader = generated.open(path, None)
    except FileMissing:
        return None
    return of_type(bytes, reader.read(0, present(reader.size)))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("next/a.ipxe", "next/a.ipxe"),
        ("/next//./a.ipxe", "next/a.ipxe"),
        ("http://10.0.0.1:8069/next/a%20b.ipxe?mac=1#x", "next/a b.ipxe"),
        ("next/100%25.ipxe", "next/100%25.ipxe"),
    ],
)
def test_generated_file_is_found_by_the_requested_path(name: str, path: str) -> None:
    generated = GeneratedFiles()
    generated.keep(name, b"#!ipxe")
    assert content(generated, path) == b"#!ipxe"
    assert content(generated, "next") is None


def test_latest_generated_file_of_a_name_is_served() -> None:
    generated = GeneratedFiles()
    generated.keep("a", b"one")
    generated.keep("a", b"two")
    assert content(generated, "a") == b"two"


def test_the_oldest_generated_file_is_dropped_first() -> None:
    generated = GeneratedFiles(limit=330)
    for name in ("a", "b", "c", "a"):
        generated.keep(name, b"12345")
    generated.keep("d", b"12345")
    assert [content(generated, name) for name in "abcd"] == [b"12345", None, b"12345", b"12345"]
    for _ in range(1000):  # what is replaced does not count twice
        generated.keep("a", b"12345")
    assert [content(generated, name) for name in "acd"] == [b"12345"] * 3


def test_a_generated_file_beyond_the_limit_is_an_error() -> None:
    with pytest.raises(ValueError, match='the content of "a" has 400 bytes; there is room for 330'):
        GeneratedFiles(limit=330).keep("a", bytes(400))
