"""``/api/v1``: the machines for other programs, with tokens. docs/howto/machines.md has examples.

The table OPERATIONS says what each method of each path does; requests are answered by it, and the OpenAPI description
at ``/api/v1/openapi.json`` is generated from it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from attrs import field, frozen
from twisted.internet.defer import maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from bootfw import __version__
from bootfw.attempts.attempt import Verdict
from bootfw.errors import StateError
from bootfw.inventory import HOST_NAME, IMAGE, MOST_TAGS, TAG, NameTaken, NoSuchImage, change
from bootfw.lease import mac_text
from bootfw.net.control import ControlError
from bootfw.service import BootService
from bootfw.web.access import Access
from bootfw.web.api import NoSuchFile, check_file
from bootfw.web.replies import as_json, refusal

READ, WRITE = "read", "write"
"""Scopes of tokens."""

LIMIT = 1000
"""Most records in a response; a request may set a lower limit."""

_FILE = r"(\{https?\})?[!-z|~]{1,1000}"
_MAC = r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}"

log = Logger(namespace="bootfw.web")

Schema = Mapping[str, Any]


def _object(properties: Mapping[str, Schema], required: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(required),
        "additionalProperties": False,
    }


def _list_of(item: Schema) -> Schema:
    return _object({"records": {"type": "array", "items": item}, "more": {"type": "boolean"}}, ["records", "more"])


_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "number", "description": "seconds since the epoch"}
_NAME: Schema = {"type": "string", "pattern": f"^({HOST_NAME})?$", "maxLength": 253}
_TAGS: Schema = {"type": "array", "items": {"type": "string", "pattern": f"^{TAG}$"}, "maxItems": MOST_TAGS}
_IMAGE: Schema = {"type": "string", "pattern": f"^({IMAGE})?$"}
_VERDICT: Schema = {"type": "string", "enum": [each.value for each in Verdict]}
_LAST_BOOT: Schema = _object(
    {"id": _TEXT, "began": _TIME, "verdict": _VERDICT, "outcome": _TEXT}, ["id", "began", "verdict", "outcome"]
)
_MACHINE_KEYS: Mapping[str, Schema] = {
    "machine": {**_TEXT, "description": "its MAC address; its UUID or an IP address where no MAC is known"},
    "mac": _TEXT,
    "uuid": _TEXT,
    "name": {**_TEXT, "description": "that was set, or of the host file, the reservation or the lease"},
    "tags": {"type": "array", "items": _TEXT},
    "image": {**_TEXT, "description": "that was set, or of the host file"},
    "host": {**_TEXT, "description": "the name of its host file"},
    "addresses": {"type": "array", "items": _TEXT},
    "persona": {**_TEXT, "description": "the kind of its firmware"},
    "architecture": _TEXT,
    "boots": {"type": "integer", "description": "recorded boots"},
    "failed": {"type": "integer", "description": "how many of them failed"},
    "last": {"anyOf": [_LAST_BOOT, {"type": "null"}], "description": "the latest boot"},
    "next": {"type": ["string", "null"], "description": "the file that it boots next, once"},
}
_MACHINE: Schema = {"$ref": "#/components/schemas/Machine"}
_BOOT: Schema = {
    "type": "object",
    "properties": {"id": _TEXT, "mac": _TEXT, "began": _TIME, "verdict": _VERDICT, "stages": {"type": "array"}},
    "required": ["id", "mac", "began", "verdict", "stages"],
}
_ORDER: Schema = _object({"mac": _TEXT, "file": _TEXT, "ordered": _TIME}, ["mac", "file", "ordered"])
_ERROR: Schema = _object({"error": {**_TEXT, "description": "what was wrong, and what would be right"}}, ["error"])


@frozen
class Operation:
    """What one method of one path does."""

    method: str
    path: str
    """Below /api/v1; ``{mac}`` stands for the MAC address of a machine."""
    service_operation: str
    """The name of the operation on the control socket."""
    summary: str
    response: Schema
    scope: str = READ
    query: Mapping[str, Schema] = field(factory=dict)
    body: Schema | None = None
    """Of a JSON object; None: there is no body."""
    missing: str = ""
    """The error (status 404) when the operation returns no record. "": the response is a list, which may be empty."""
    mac_parameter: str = "mac"
    """The parameter of the service's operation that the MAC address is passed as."""
    refused_status: int = 400
    """The status when the service refuses a request that has passed the checks here."""

    @property
    def is_list(self) -> bool:
        """Whether the response is a list of records, not one."""
        return not self.missing


_LIMIT_QUERY: Mapping[str, Schema] = {"limit": {"type": "integer", "minimum": 1, "maximum": LIMIT}}
_NOTHING_KNOWN = "no boot of this machine is recorded, and nothing is set for it"

OPERATIONS = (
    Operation(
        "GET",
        "/machines",
        "machines",
        "List the machines that have booted, or for which something is set; the one that booted last first",
        _list_of(_MACHINE),
        query={**_LIMIT_QUERY, "tag": {"type": "string", "pattern": f"^{TAG}$"}, "verdict": _VERDICT},
    ),
    Operation(
        "GET", "/machines/{mac}", "machines", "Get a machine", _MACHINE, missing=_NOTHING_KNOWN, mac_parameter="machine"
    ),
    Operation(
        "PATCH",
        "/machines/{mac}",
        "set-machine",
        "Set the name, the tags or the image of a machine; the others stay as they are, an empty one is removed",
        _MACHINE,
        WRITE,
        body=_object({"name": _NAME, "tags": _TAGS, "image": _IMAGE}),
        missing=_NOTHING_KNOWN,
        refused_status=503,
    ),
    Operation(
        "DELETE",
        "/machines/{mac}",
        "forget-machine",
        "Remove the name, the tags and the image that are set for a machine; its boots stay",
        _MACHINE,
        WRITE,
        missing="nothing is set for this machine",
        refused_status=503,
    ),
    Operation(
        "GET",
        "/machines/{mac}/boots",
        "boot",
        "List the boots of a machine with their stages, the latest first",
        _list_of(_BOOT),
        query=_LIMIT_QUERY,
        mac_parameter="machine",
    ),
    Operation(
        "PUT",
        "/machines/{mac}/next",
        "order",
        "Have a machine boot a file once: a path or a URL",
        _ORDER,
        WRITE,
        body=_object({"file": {"type": "string", "pattern": f"^{_FILE}$"}}, ["file"]),
        missing="it was not stored",
    ),
    Operation(
        "DELETE",
        "/machines/{mac}/next",
        "cancel",
        "Cancel what a machine boots once",
        _ORDER,
        WRITE,
        missing="this machine has no one-time boot",
    ),
)


def description(operations: Sequence[Operation] = OPERATIONS) -> dict[str, Any]:
    """Return the OpenAPI description of *operations*."""
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        in_path = {"name": "mac", "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{_MAC}$"}}
        parameters = [in_path] if "{mac}" in each.path else []
        parameters += [{"name": name, "in": "query", "schema": schema} for name, schema in each.query.items()]
        statuses = {"400": "a mistake in the request", "401": "the token is missing or wrong"}
        statuses |= {"403": "the token does not have the scope", "404": each.missing or "the server has no records"}
        statuses |= {"503": "the server can't do it now"}
        if each.body is not None:
            statuses |= {"409": "another machine has the name", "415": "the body is not JSON"}
            statuses |= {"422": "the server does not have the image or the file; the error names what it has"}
        entry: dict[str, Any] = {
            "operationId": f"{each.service_operation}-{each.method.lower()}"
            if each.service_operation == "machines" and not each.is_list
            else each.service_operation,
            "summary": each.summary,
            "description": f'Needs a token with the scope "{each.scope}".',
            "security": [{"token": []}],
            "parameters": parameters,
            "responses": {
                "200": {"description": "done", "content": {"application/json": {"schema": each.response}}},
                **{status: {"description": why, "content": _ERRORS} for status, why in statuses.items()},
            },
        }
        if each.body is not None:
            entry["requestBody"] = {"required": True, "content": {"application/json": {"schema": each.body}}}
        paths.setdefault(each.path, {})[each.method.lower()] = entry
    return {
        "openapi": "3.1.0",
        "info": {"title": "bootfw", "version": __version__},
        "servers": [{"url": "/api/v1"}],
        "paths": paths,
        "components": {
            "schemas": {"Machine": _object(_MACHINE_KEYS, _MACHINE_KEYS)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


_ERRORS = {"application/json": {"schema": _ERROR}}


class Version1(Resource):
    """Everything below ``/api/v1``."""

    isLeaf = True

    def __init__(self, boot: BootService, access: Access) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._boot = boot
        self._access = access

    def render(self, request: Any) -> Any:
        """See IResource."""
        request.setHeader(b"Server", b"bootfw")  # replace the type that twisted.web has set
        if not self._access.has_api:
            return refusal(request, 404, "this API is off: set [[web.api-token]] to switch it on")
        method = "GET" if request.method == b"HEAD" else request.method.decode("ascii", "replace")
        path = "/" + b"/".join(request.postpath).decode("utf-8", "replace")
        if path == "/openapi.json":
            return as_json(request, description()) if method == "GET" else _not_allowed(request, ["GET"])
        found = {each.method: each for each in OPERATIONS if _matches(each.path, path)}
        if not found:
            return refusal(request, 404, "there is nothing at this path; /api/v1/openapi.json has all of them")
        if method not in found:
            return _not_allowed(request, list(found))
        operation = found[method]
        refused = self._access.api_refusal(request, operation.scope)
        if refused is not None:
            return refusal(request, *refused)
        try:
            arguments = _query(operation, request)
            body = _body(operation, request)
            if "{mac}" in operation.path:
                arguments[operation.mac_parameter] = _mac(path.split("/")[2])
            if operation.service_operation == "set-machine":
                # Checks the values, so that a mistake in them has status 400: what fails later here is status 503.
                change({}, {**arguments, **body})
        except StateError as error:
            return refusal(request, 400, str(error))
        except _NotJSON as error:
            return refusal(request, 415, str(error))
        self._call(operation, {**arguments, **body}, request)
        return NOT_DONE_YET

    def _call(self, operation: Operation, arguments: dict[str, Any], request: Any) -> None:
        function = self._boot.operations().get(operation.service_operation)
        if function is None:
            reason = f'this server has no "{operation.service_operation}": its configuration has nothing to do with it'
            request.write(refusal(request, 404, reason))
            request.finish()
            return
        limit = int(arguments.get("limit", LIMIT))
        if operation.is_list:
            arguments["limit"] = limit + 1  # to see whether there are more
        gone: list[object] = []
        request.notifyFinish().addErrback(gone.append)

        def respond(body: bytes) -> None:
            if not gone:
                request.write(body)
                request.finish()

        def returned(records: Iterable[Mapping[str, Any]]) -> None:
            found = list(islice(records, limit + 1))
            if operation.scope == WRITE:
                token_name = self._access.token_name(request)
                log.info(
                    "web {peer}: {method} {path} by {who}: {count} changed",
                    peer=request.getClientAddress().host,
                    method=operation.method,
                    path=operation.path.replace("{mac}", arguments.get("mac", "")),
                    who=token_name,
                    count=len(found),
                )
            if operation.is_list:
                respond(as_json(request, {"records": found[:limit], "more": len(found) > limit}))
            elif found:
                respond(as_json(request, found[0]))
            else:
                respond(refusal(request, 404, operation.missing))

        def failed(failure: Failure) -> None:
            if failure.check(NameTaken):
                respond(refusal(request, 409, str(failure.value)))
            elif failure.check(NoSuchFile, NoSuchImage):
                respond(refusal(request, 422, str(failure.value)))
            elif failure.check(ControlError, StateError):
                respond(refusal(request, operation.refused_status, str(failure.value)))
            else:
                log.failure("the operation {name} failed for the web", failure, name=operation.service_operation)
                respond(refusal(request, 500, "it failed in the server; its log has more"))

        checked = check_file(self._boot, arguments) if operation.service_operation == "order" else succeed(None)
        checked.addCallback(lambda _: maybeDeferred(function, arguments)).addCallback(returned).addErrback(failed)


class _NotJSON(Exception):
    """The body is not JSON by its Content-Type."""


def _matches(pattern: str, path: str) -> bool:
    parts, expected = path.split("/"), pattern.split("/")
    return len(parts) == len(expected) and all(
        one in ("{mac}", part) for one, part in zip(expected, parts, strict=True)
    )


def _not_allowed(request: Any, methods: Sequence[str]) -> bytes:
    allowed = ", ".join(sorted({*methods, *(["HEAD"] if "GET" in methods else [])}))
    request.setHeader(b"Allow", allowed.encode())
    return refusal(request, 405, f"only {allowed} can be used here")


def _mac(text: str) -> str:
    try:
        return mac_text(text)
    except ValueError as error:
        raise StateError(f"the machine in the path {error}") from error


def _query(operation: Operation, request: Any) -> dict[str, Any]:
    """Return the parameters of the query.

    :raise StateError: one is unknown, or its value is invalid.
    """
    arguments: dict[str, Any] = {}
    for name, values in request.args.items():
        key, value = name.decode("utf-8", "replace"), values[-1].decode("utf-8", "replace")
        if key not in operation.query:
            known = f"; known: {', '.join(operation.query)}" if operation.query else ", and none is known here"
            raise StateError(f'unknown parameter "{key}"{known}')
        if len(values) > 1:
            raise StateError(f"{key} is given {len(values)} times; give it once")
        arguments[key] = _CHECKS[key](value)
    return arguments


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 0 < int(text) <= LIMIT:
        raise StateError(f"limit must be from 1 to {LIMIT}")
    return int(text)


def _tag(text: str) -> str:
    change({}, {"mac": "00:00:00:00:00:00", "tags": [text]})
    return text


def _verdict(text: str) -> str:
    known = [each.value for each in Verdict]
    if text not in known:
        raise StateError(f'verdict must be one of {", ".join(known)}, not "{text}"')
    return text


_CHECKS: Mapping[str, Callable[[str], Any]] = {"limit": _limit, "tag": _tag, "verdict": _verdict}


def _body(operation: Operation, request: Any) -> dict[str, Any]:
    """Return the JSON object in the body; empty if the operation has none.

    :raise _NotJSON: its Content-Type is another one.
    :raise StateError: it is no JSON object, its keys are not those of the schema, or its ``file`` is invalid.
    """
    if operation.body is None:
        return {}
    kind = (request.getHeader(b"content-type") or b"").partition(b";")[0].strip().lower()
    if kind != b"application/json":
        raise _NotJSON("the body must be JSON, with Content-Type: application/json")
    try:
        body = json.loads(request.content.getvalue())
    except (ValueError, RecursionError):
        body = None
    known, required = operation.body["properties"], operation.body["required"]
    if not isinstance(body, dict) or not body.keys() <= known.keys() or not body.keys() >= set(required):
        raise StateError(f"the body must be a JSON object with {', '.join(known)} and no other keys")
    if "file" in body and not (isinstance(body["file"], str) and re.fullmatch(_FILE, body["file"])):
        raise StateError("file must be a path or a URL of ASCII characters without blanks; it may begin with {http}")
    return body
