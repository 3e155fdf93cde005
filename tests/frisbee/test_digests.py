"""The digests of an image."""

from io import BytesIO

from hypothesis import given
from hypothesis import strategies as st

from bootfw.backends.imagelibrary import imageentry
from bootfw.frisbee.digests import DISKS, SUFFIX, ChunkDigests, Digests
from bootfw.wire.frisbee import CHUNK_SIZE

SIZES = st.sampled_from([0, 1, 65_536, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE])


@given(st.lists(SIZES, max_size=5))
def test_digests_of_bytes_as_they_come_are_those_of_the_file(sizes: list[int]) -> None:
    parts = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    digests = ChunkDigests()
    for part in parts:
        digests.update(part)
    assert digests.result() == Digests.of(BytesIO(b"".join(parts)).read)


def test_the_image_library_knows_the_same_names() -> None:
    """Backends import bootfw.api only, so the names are written down twice."""
    assert (imageentry.DISKS, imageentry.DIGESTS) == (DISKS, SUFFIX)
