"""The content of a file of a backend, whether the backend answers at once or from a thread."""

from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.api import FileMissing, TransferError


def content(backend: Any, path: str) -> bytes | str:
    """The content of the file; "missing" if there is none, or the message of another error.

    :param backend: has a reactor of ``threads.Threads``, if it answers from a thread.
    """
    try:
        answer = backend.open(path, None)
        if isinstance(answer, Deferred):
            results: list[Any] = []
            answer.addBoth(results.append)
            backend._reactor.work()
            answer = results[0]
            if isinstance(answer, Failure):
                answer.raiseException()
        with closing(answer) as reader:
            data: bytes = reader.read(0, 1 << 20)
            return data
    except FileMissing:
        return "missing"
    except TransferError as error:
        return error.message
