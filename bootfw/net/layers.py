"""Several backends as one."""

from collections.abc import Sequence
from typing import Any

from attrs import frozen
from twisted.python.failure import Failure
from zope.interface import implementer

from bootfw.errors import AccessViolation, FileMissing
from bootfw.interfaces import IWritableBackend
from bootfw.net.answers import later


@implementer(IWritableBackend)
@frozen(eq=False)
class LayeredBackend:
    """Asks backends in order until one does not raise FileMissing.

    A backend that answers at once is answered with at once; a Deferred comes out only where one went in.

    :param backends: (name, backend). The name is put into the traceback of what a backend raises by mistake.
    """

    backends: Sequence[tuple[str, Any]]

    def open(self, path: str, request: Any) -> Any:
        """See IBackend."""
        return _ask(self.backends, "open", path, request, FileMissing())

    def create(self, path: str, request: Any) -> Any:
        """See IWritableBackend. Backends that take no uploads are not asked.

        :raise AccessViolation: nobody takes it. "File not found" would be no answer to an upload.
        """
        writable = [entry for entry in self.backends if IWritableBackend.providedBy(entry[1])]
        return _ask(writable, "create", path, request, AccessViolation())


def _ask(backends: Sequence[tuple[str, Any]], method: str, path: str, request: Any, nobody: Exception) -> Any:
    for position, (name, backend) in enumerate(backends):
        try:
            answer = getattr(backend, method)(path, request)
        except FileMissing:
            continue
        except Exception as error:
            error.add_note(f"The backend was {name}.")
            raise
        waiting = later(answer)
        if waiting is None:
            return answer

        def failed(failure: Failure, rest: Any = backends[position + 1 :], name: str = name) -> Any:
            error: Any = failure.value
            if isinstance(error, FileMissing):
                return _ask(rest, method, path, request, nobody)
            error.add_note(f"The backend was {name}.")
            return failure

        return waiting.addErrback(failed)
    raise nobody
