"""Backends whose methods return something invalid: the log says which backend, what it returned, and what is valid."""

from typing import Any

import pytest
from attrs import define
from narrowing import of_type
from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.boot.backends import LayeredBackend
from bootfw.errors import TransferError
from bootfw.interfaces import IWritableBackend
from bootfw.readers import MemoryReader
from bootfw.values import TransferRequest


@implementer(IWritableBackend)
@define
class Backend:
    """Its methods return *answer*."""

    answer: Any

    def open(self, path: str, request: TransferRequest) -> Any:
        return self.answer

    create = open


@define
class Sized:
    """Has all members of IReader, but does not declare it."""

    size: object
    closed: int = 0

    def read(self, offset: int, length: int) -> bytes:
        return b""

    def close(self) -> None:
        self.closed += 1


class Unsized:
    def read(self, offset: int, length: int) -> bytes:
        return b""

    def close(self) -> None:
        """See IReader."""


def request(write: bool = False) -> TransferRequest:
    return TransferRequest("file", "file", ("192.0.2.7", 2070), write=write)


def refusal(answer: object, method: str = "open") -> TransferError:
    """The error of a backend whose *method* returns *answer*."""
    layered = LayeredBackend([("mine", Backend(answer))])
    try:
        result = getattr(layered, method)("file", request(method == "create"))
    except TransferError as error:
        return error
    assert isinstance(result, Deferred)
    failures: list[Failure] = []
    result.addErrback(failures.append)
    return of_type(TransferError, failures[0].value)


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"content", 'returned bytes, not a reader such as MemoryReader(b"...")'),
        ("content", 'returned str, not a reader such as MemoryReader("...".encode())'),
        (None, "returned None; if there is no such file it has to raise FileMissing()"),
        (7, "returned a int, which has no read and no close(), so it is not a reader (IReader)"),
        (Unsized(), "test_wrong_answers.Unsized has no size; without a known one it has to be None"),
    ],
)
def test_result_of_open_that_is_not_a_reader_is_refused(answer: object, expected: str, asynchronous: bool) -> None:
    error = refusal(succeed(answer) if asynchronous else answer)
    assert (error.tftp_code, error.message) == (0, "Internal error")
    assert error.detail.startswith("open() of backend mine: ")
    assert expected in error.detail


@pytest.mark.parametrize("size", ["7", -1, 7.5])
def test_reader_with_an_invalid_size_is_closed(size: str | float) -> None:
    reader = Sized(size)
    assert f"the size of a {__name__}.Sized is" in refusal(reader).detail
    assert reader.closed == 1


def test_result_of_create_that_is_not_a_writer_is_refused() -> None:
    detail = refusal(MemoryReader(b""), "create").detail
    assert "returned a bootfw.readers.MemoryReader, which has no write and no" in detail


@pytest.mark.parametrize("size", [None, 0, 7])
def test_undeclared_reader_with_all_members_is_accepted(size: int | None) -> None:
    assert LayeredBackend([("mine", Backend(reader := Sized(size)))]).open("file", request()) is reader


def test_methods_that_are_attributes_of_the_instance_are_accepted() -> None:
    class Instance:
        size = None

        def __init__(self) -> None:
            self.read = lambda offset, length: b""
            self.close = lambda: None

    assert LayeredBackend([("mine", Backend(reader := Instance()))]).open("file", request()) is reader
