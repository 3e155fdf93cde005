"""The JSON API that the pages use; docs/web-api.md has each path. It calls operations of the control socket."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IPushProducer
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET
from zope.interface import implementer

from bootfw import __version__
from bootfw.boot.evidence import missing_file
from bootfw.errors import StateError
from bootfw.net.control import ControlError
from bootfw.service import BootService
from bootfw.web.access import Access
from bootfw.web.activity import Activity
from bootfw.web.replies import Page, as_json, refusal
from bootfw.web.throughput import SECONDS

LIMIT = 1000
"""Most records in a response, unless the request sets a limit."""

_TIMES = {"since", "before"}
"""Names of parameters in seconds since the epoch."""

_BATCH = 100
"""Records that are written in one turn of the reactor: packets wait for about a millisecond meanwhile."""

log = Logger(namespace="bootfw.web")


def status_record(boot: BootService, activity: Activity, access: Access, began: float, now: float) -> dict[str, Any]:
    """Return the state of the server, for ``/api/status``.

    :param began: when the site was created, in seconds since the epoch.
    :param now: likewise.
    """
    operations = boot.operations()
    features = {"boots": "boots", "machines": "machines", "leases": "leases", "orders": "next"}
    actions = {"order": "order", "cancel": "cancel", "release": "release", "machine": "set-machine"}
    return {
        "version": __version__,
        "pid": os.getpid(),
        "since": began,
        "now": now,
        **activity.sockets.readiness(),
        "sockets": activity.sockets.records(),
        "transfers": {"running": activity.running, "ended": activity.ended},
        "images": boot.images_sent(),
        "uploads": boot.images_uploaded(),
        "cluster": boot.cluster_record(),
        "has": [name for name, operation in features.items() if operation in operations],
        "can": [name for name, operation in actions.items() if operation in operations] if access.writable else [],
    }


def throughput_record(activity: Activity, now: float) -> dict[str, Any]:
    """Return the bytes of each second, for ``/api/throughput``; the last value is that of the second before *now*."""
    return {"until": int(now), "seconds": SECONDS, "bytes": list(activity.throughput.rates(now - 1))}


class ValuePage(Page):
    """A path that returns the result of a function as JSON."""

    def __init__(self, read: Callable[[], Any]) -> None:
        super().__init__()
        self._read = read

    def get(self, request: Any) -> bytes:
        """See Page."""
        return as_json(request, self._read())


class RecordsPage(Page):
    """A path that returns the records of an operation as ``{"records": [...], "more": BOOL}``.

    :param reactor: IReactorTime.
    :param operation: the name of the operation on the control socket.
    :param filters: parameters of the query that the operation takes.
    :param path: the parameter of the operation that the rest of the path is passed as; "": there must be no rest.
    :param limited: the operation has a limit of its own. It is called with one more than is shown, which shows whether
        there are more.
    """

    def __init__(
        self,
        reactor: Any,
        boot: BootService,
        operation: str,
        filters: Iterable[str] = (),
        path: str = "",
        *,
        limited: bool = False,
    ) -> None:
        super().__init__()
        self._reactor = reactor
        self._boot = boot
        self._operation = operation
        self._filters = frozenset(filters)
        self._path = path
        self._limited = limited

    def get(self, request: Any) -> Any:
        """See Page."""
        arguments: dict[str, Any] = {_text(name): _text(values[-1]) for name, values in request.args.items()}
        limit = arguments.pop("limit", str(LIMIT))
        if not limit.isascii() or not limit.isdigit() or not 0 < int(limit) <= LIMIT:
            return refusal(request, 400, f"limit must be from 1 to {LIMIT}")
        unknown = sorted(arguments.keys() - self._filters)
        if unknown:
            known = ", ".join(sorted({*self._filters, "limit"}))
            return refusal(request, 400, f'unknown parameter "{unknown[0]}"; known: {known}')
        for name in _TIMES & arguments.keys():
            try:
                arguments[name] = float(arguments[name])
            except ValueError:
                return refusal(request, 400, f'{name} must be seconds since the epoch, not "{arguments[name]}"')
        if self._limited:
            arguments["limit"] = int(limit) + 1
        if self._path:
            arguments[self._path] = _text(b"/".join(request.postpath))
        elif request.postpath:
            return refusal(request, 404, "there is nothing at this path")

        def send(records: Iterable[Mapping[str, Any]]) -> None:
            _RecordWriter(self._reactor, request, iter(records), int(limit)).start()

        return call_operation(self._boot, self._operation, arguments, request, send)


class MachinesPage(Page):
    """``/api/machines``: all machines; ``/api/machines/MACHINE``: the boots of one.

    :param machines: serves the machines.
    :param boots: serves the boots of the machine in the rest of the path.
    """

    def __init__(self, machines: RecordsPage, boots: RecordsPage) -> None:
        super().__init__()
        self._machines = machines
        self._boots = boots

    def get(self, request: Any) -> Any:
        """See Page."""
        return self._boots.get(request) if request.postpath else self._machines.get(request)


def _nothing_to_check(arguments: Mapping[str, Any]) -> "Deferred[None]":
    return succeed(None)


class ActionPage(Page):
    """A path where POST changes something; the response has the changed records.

    :param operation: the name of the operation on the control socket, which gets the JSON object of the body.
    :param keys: the required keys of this object; their values are strings.
    :param check: see call_operation().
    :param optional: keys that the object may have; the operation checks their values.
    """

    methods = "POST"

    def __init__(
        self,
        boot: BootService,
        access: Access,
        operation: str,
        keys: Iterable[str],
        check: "Callable[[Mapping[str, Any]], Deferred[None]]" = _nothing_to_check,
        optional: Iterable[str] = (),
    ) -> None:
        super().__init__()
        self._check = check
        self._optional = sorted(optional)
        self._boot = boot
        self._access = access
        self._operation = operation
        self._keys = sorted(keys)

    def post(self, request: Any) -> Any:
        """See Page."""
        refused = self._access.change_refusal(request)
        if refused is not None:
            return refusal(request, *refused)
        try:
            body = json.loads(request.content.getvalue())
        except (ValueError, RecursionError):
            body = None
        if not self._is_valid(body):
            may = f"; it may have {', '.join(self._optional)}" if self._optional else ""
            return refusal(request, 400, f"the body must be a JSON object of texts: {', '.join(self._keys)}{may}")

        def send(records: Iterable[Mapping[str, Any]]) -> None:
            changed = list(records)
            log.info(
                "web {peer}: {operation} {arguments}: {count} changed",
                peer=request.getClientAddress().host,
                operation=self._operation,
                arguments=json.dumps(body),
                count=len(changed),
            )
            request.write(as_json(request, {"records": changed}))
            request.finish()

        return call_operation(self._boot, self._operation, body, request, send, self._check)

    def _is_valid(self, body: Any) -> bool:
        if not isinstance(body, dict) or sorted(body.keys() - self._optional) != self._keys:
            return False
        return all(isinstance(body[key], str) for key in self._keys)


class NoSuchFile(StateError):
    """No backend has the file that a machine should boot once."""


def check_file(boot: BootService, arguments: Mapping[str, Any]) -> "Deferred[None]":
    """Check that a machine could load the file of an order.

    :param arguments: the parameters of the operation ``order``: ``mac`` and ``file``.
    :return: fails with NoSuchFile if it can't.
    """

    def checked(reason: str) -> None:
        if reason:
            raise NoSuchFile(reason)

    return missing_file(boot.backends, str(arguments.get("file")), str(arguments.get("mac"))).addCallback(checked)


def call_operation(
    boot: BootService,
    name: str,
    arguments: Mapping[str, Any],
    request: Any,
    send: Callable[[Iterable[Mapping[str, Any]]], None],
    check: "Callable[[Mapping[str, Any]], Deferred[None]]" = _nothing_to_check,
) -> Any:
    """Call an operation of the service for *request*, and *send* its records unless the client has disconnected.

    :param name: of the operation, on the control socket.
    :param arguments: its parameters.
    :param send: called with the records; it completes the response.
    :param check: called before the operation, with *arguments*. Its Deferred fails with StateError if the operation
        must not be called.
    """
    operation = boot.operations().get(name)
    if operation is None:
        return refusal(request, 404, f'this server has no "{name}": its configuration has nothing to do with it')
    # Twisted raises an error for a write to a request whose connection is lost. An operation may take long.
    gone: list[object] = []
    request.notifyFinish().addErrback(gone.append)

    def returned(records: Iterable[Mapping[str, Any]]) -> None:
        if not gone:
            send(records)

    def failed(failure: Failure) -> None:
        if failure.check(ControlError, StateError):
            status, reason = 400, str(failure.value)
        else:
            log.failure("the operation {name} failed for the web", failure, name=name)
            status, reason = 500, "it failed in the server; its log has more"
        if not gone:
            request.write(refusal(request, status, reason))
            request.finish()

    checked = check(arguments).addCallback(lambda _: maybeDeferred(operation, arguments))
    checked.addCallback(returned).addErrback(failed)
    return NOT_DONE_YET


@implementer(IPushProducer)
class _RecordWriter:
    """Writes ``{"records": [...], "more": BOOL}`` as fast as the client reads it.

    It writes _BATCH records in each turn of the reactor: there may be thousands, and packets must not wait for them.
    """

    def __init__(self, reactor: Any, request: Any, records: Iterator[Mapping[str, Any]], limit: int) -> None:
        self._reactor = reactor
        self._request = request
        self._records = records
        self._remaining = limit
        self._turn: Any = None
        """The scheduled call of _send(); None while paused, and in _send()."""
        self._paused = False
        self._separator = b'{"records":['
        """Goes before the next record."""

    def start(self) -> None:
        self._request.setHeader(b"Content-Type", b"application/json")
        self._request.registerProducer(self, True)
        self._send()

    def resumeProducing(self) -> None:
        """See IPushProducer."""
        self._paused = False
        if self._turn is None:
            self._turn = self._reactor.callLater(0, self._send)

    def pauseProducing(self) -> None:
        """See IPushProducer."""
        self._paused = True
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def stopProducing(self) -> None:
        """See IProducer."""
        self.pauseProducing()

    def _send(self) -> None:
        self._turn = None
        size = min(self._remaining, _BATCH)
        try:
            # An operation may return an iterator, which can fail at any record.
            batch = list(islice(self._records, size))
            self._remaining -= len(batch)
            last = len(batch) < size or not self._remaining
            more = last and not self._remaining and next(self._records, None) is not None
        except Exception:
            # Once a part is sent the status stays 200: only a reset connection shows that records are missing.
            log.failure("records for the web can't be read")
            self._request.transport.abortConnection()
            return
        for record in batch:
            self._request.write(self._separator + json.dumps(record, separators=(",", ":")).encode())
            self._separator = b",\n"
        if not last:
            # These writes may have called pauseProducing(); resumeProducing() goes on then.
            if not self._paused:
                self.resumeProducing()
            return
        start = b"" if self._separator == b",\n" else self._separator
        self._request.write(start + b'],"more":' + (b"true" if more else b"false") + b"}\n")
        self._request.unregisterProducer()
        self._request.finish()


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")
