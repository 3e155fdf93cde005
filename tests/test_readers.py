"""The readers for backends."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from bootfw.interfaces import IReader
from bootfw.readers import FileReader, MemoryReader


@given(st.binary(max_size=200), st.integers(0, 250), st.integers(1, 250))
def test_both_read_what_a_slice_is(data, offset, length):
    fd = os.memfd_create("test")
    os.write(fd, data)
    from_file, from_memory = FileReader(fd), MemoryReader(data)
    try:
        for reader in (from_file, from_memory):
            verifyObject(IReader, reader)
            assert reader.size == len(data)
            assert reader.read(offset, length) == data[offset : offset + length]
    finally:
        from_file.close()
        from_memory.close()


def test_file_is_closed_once_and_never_somebody_else_s():
    reader = FileReader(os.memfd_create("test"))
    reader.close()
    other = os.memfd_create("other")  # has the same number now
    with pytest.raises(OSError, match="Bad file descriptor"):
        reader.close()
    os.close(other)


def test_a_shared_file_is_closed_with_its_last_user():
    fd = os.memfd_create("test")
    os.write(fd, b"abc")
    reader = FileReader(fd)
    others = [reader.share(), reader.share()]
    reader.close()
    others[1].close()
    assert others[0].read(1, 5) == b"bc"
    others[0].close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        others[0].close()
