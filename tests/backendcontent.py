"""What a backend has under a name, whether it answers at once or from a thread."""

from contextlib import closing
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from bootfw.api import FileMissing, TransferError


def content(backend: Any, path: str) -> bytes | str:
    """What is got; "missing" or the message when there is nothing.

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
