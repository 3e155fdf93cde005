"""Entity tags of files, on nodes with copies that were changed at different times."""

import time

import pytest
from attrs import frozen
from zope.interface import implementer

from bootfw.boot.etag import SETTLED, etag_of, has_etag
from bootfw.interfaces import ICacheableReader

MODIFIED = 1_700_000_000.25
SIZE = 1000


@implementer(ICacheableReader)
@frozen
class File:
    """A reader with the attributes that a tag is made of."""

    age: float
    """Seconds since its last change."""
    modified: float | None = MODIFIED
    etag: str | None = None
    size: int = SIZE

    @property
    def changed(self) -> float:
        return time.time() - self.age

    def read(self, offset: int, length: int) -> bytes:
        return b""

    def close(self) -> None:
        pass


FRESH, OLD = File(SETTLED / 2), File(60.0)


@pytest.mark.parametrize(
    ("remote", "local", "same"),
    [
        (FRESH, FRESH, True),
        (OLD, OLD, True),
        pytest.param(FRESH, OLD, True, id="it settles between the request and its continuation"),
        pytest.param(OLD, FRESH, False, id="a file that has just changed here may be another one"),
        (FRESH, File(60.0, modified=MODIFIED + 0.5), False),
        (OLD, File(60.0, modified=MODIFIED + 0.5), True),
        (FRESH, File(60.0, size=SIZE + 1), False),
        (OLD, File(60.0, modified=MODIFIED + 1), False),
        (FRESH, File(60.0, modified=None), False),
        (FRESH, File(60.0, etag="its-own"), False),
        (File(60.0, etag="its-own"), File(1.0, etag="its-own"), True),
    ],
)
def test_a_copy_has_the_tag_of_the_file_on_another_node(remote: File, local: File, same: bool) -> None:
    assert has_etag(local, local.size, etag_of(remote, remote.size)) is same


def test_a_file_without_a_tag_is_not_the_same_as_another_one() -> None:
    assert not has_etag(File(60.0, modified=None), SIZE, "")
    assert not has_etag(OLD, None, etag_of(OLD, SIZE))
