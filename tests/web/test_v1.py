"""The API of other programs: tokens and their scopes, the machines, and the description of all of it."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from net.webclient import Response, parse
from twisted.logger import capturedLogs
from zope.interface import implementer

from bootfw.api import DHCPSettings, Settings, StateError, TFTPSettings
from bootfw.attempts.attempt import BootAttempt, Verdict
from bootfw.attempts.record import attempt_record
from bootfw.backends.memory import MemoryBackend
from bootfw.config.settings import APIToken, WebSettings
from bootfw.interfaces import IImageBackend
from bootfw.resolvers.next_boot import NextBoot
from bootfw.service import BootService
from bootfw.stores.memory import MemoryStore
from bootfw.testing import MemoryNetwork
from bootfw.web import WebSite
from bootfw.web.v1 import OPERATIONS, Operation, description

from .visiting import Visitor

READER, WRITER = APIToken("reader", "reads-0123456789"), APIToken("writer", "write-0123456789", ["read", "write"])
MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
BOOT = BootAttempt("1", 100.0, 130.0, MAC, addresses=("10.0.0.9",), verdict=Verdict.BOOTED)
MACHINE = f"/api/v1/machines/{MAC}"


@implementer(IImageBackend)
class WithImages(MemoryBackend):
    """It has two images by their names."""

    def image_names(self) -> list[str]:
        return ["rescue", "debian-12"]


class API(Visitor):
    """That of a service with a store that has one boot, and with a file to boot."""

    def __init__(self, *tokens: APIToken) -> None:
        network = MemoryNetwork()
        self.store = MemoryStore()
        self.store.save_attempts([BOOT], 10, 0.0)
        self.service = BootService(
            network.host("10.0.0.1"),
            settings=Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off")),
            backend=WithImages({"install.ipxe": b"#!ipxe\n"}),
            attempts=self.store,
            orders=self.store,
            store=self.store,
        )
        orders = NextBoot(self.store)
        orders.start(lambda event: None)
        self.service.add_operations(orders.operations())
        self.service.startService()
        super().__init__(WebSite(network.clock, self.service, api_tokens=tokens), network.clock)

    def request(
        self, method: str, target: str, value: Any = None, token: str = WRITER.token, **headers: str
    ) -> Response:
        """The response to a request with a JSON body, if there is one."""
        body = b"" if value is None else json.dumps(value).encode()
        kind = {"Content_Type": "application/json"} if body else {}
        wire = self.send(method, target, body, **{"Authorization": f"Bearer {token}", **kind, **headers})
        self.clock.advance(0)
        return parse(wire.value(), head=method == "HEAD")[0]


@pytest.fixture
def api() -> API:
    return API(READER, WRITER)


def error(response: Response) -> str:
    found: str = json.loads(response.body)["error"]
    return found


def test_without_tokens_it_is_off() -> None:
    without_tokens = API()
    for target in (MACHINE, "/api/v1/openapi.json", "/api/v1"):
        response = without_tokens.request("GET", target)
        assert (response.status, error(response)) == (
            404,
            "this API is off: set [[web.api-token]] to switch it on",
        )
    without_tokens.site.use(WebSettings(api_tokens=[READER]))
    assert without_tokens.request("GET", MACHINE, token=READER.token).status == 200


def test_reading_needs_a_token_with_that_scope(api: API) -> None:
    assert api.request("GET", MACHINE, token=READER.token).status == 200
    missing = api.get(MACHINE)
    assert (missing.status, missing.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert api.request("GET", MACHINE, token="wrong").status == 401
    assert api.request("GET", MACHINE, Authorization=f"Basic {READER.token}").status == 401
    api.site.use(WebSettings(api_tokens=[APIToken("only", READER.token, ["write"])]))
    response = api.request("GET", MACHINE, token=READER.token)
    assert (response.status, error(response)) == (403, 'the token of only does not have the scope "read"')


@pytest.mark.parametrize("each", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_no_change_is_made_by_a_token_that_only_reads(api: API, each: Any) -> None:
    target = "/api/v1" + each.path.replace("{mac}", MAC)
    assert api.request(each.method, target, {}, READER.token).status == (200 if each.method == "GET" else 403)
    assert api.request(each.method, target, {}, "wrong-0123456789").status == 401


def test_the_token_of_the_pages_is_none_of_the_api() -> None:
    api = API(READER)
    api.site.use(WebSettings(token="pages-0123456789", api_tokens=[READER]))
    assert api.request("GET", MACHINE, token="pages-0123456789").status == 401


def test_a_machine_is_named_found_and_forgotten(api: API) -> None:
    with capturedLogs() as logged:
        changed = api.request("PATCH", MACHINE, {"name": "web1", "tags": ["rack1"], "image": "debian-12"})
    machine = json.loads(changed.body)
    assert changed.status == 200
    assert [machine[key] for key in ("name", "tags", "image", "boots")] == ["web1", ["rack1"], "debian-12", 1]
    assert [each["who"] for each in logged if "who" in each] == ["writer"]
    assert (
        json.loads(api.request("GET", MACHINE.upper().replace("/API/V1/MACHINES", "/api/v1/machines")).body) == machine
    )
    assert json.loads(api.request("GET", "/api/v1/machines?tag=rack1").body) == {"records": [machine], "more": False}
    assert json.loads(api.request("GET", "/api/v1/machines?verdict=failed").body) == {"records": [], "more": False}
    assert json.loads(api.request("DELETE", MACHINE).body) == machine
    gone = api.request("DELETE", MACHINE)
    assert (gone.status, error(gone)) == (404, "nothing is set for this machine")
    assert json.loads(api.request("GET", MACHINE).body)["name"] == ""


def test_a_list_says_whether_there_are_more(api: API) -> None:
    api.request("PATCH", f"/api/v1/machines/{OTHER}", {"name": "web2"})
    listed = json.loads(api.request("GET", "/api/v1/machines?limit=1").body)
    assert ([each["mac"] for each in listed["records"]], listed["more"]) == ([MAC], True)


def test_the_boots_of_a_machine_have_their_stages(api: API) -> None:
    assert json.loads(api.request("GET", f"{MACHINE}/boots").body)["records"] == [
        json.loads(json.dumps(attempt_record(BOOT)))
    ]
    assert json.loads(api.request("GET", f"/api/v1/machines/{OTHER}/boots").body)["records"] == []


def test_an_image_that_does_not_exist_is_refused(api: API) -> None:
    missing = api.request("PATCH", MACHINE, {"name": "web1", "image": "debian-13"})
    assert (missing.status, error(missing)) == (422, "there is no image debian-13; known: debian-12, rescue")
    assert json.loads(api.request("GET", MACHINE).body)["name"] == ""
    assert api.request("PATCH", MACHINE, {"image": ""}).status == 200


def test_a_file_is_booted_once_if_it_exists(api: API) -> None:
    ordered = api.request("PUT", f"{MACHINE}/next", {"file": "install.ipxe"})
    assert (ordered.status, json.loads(ordered.body)["file"]) == (200, "install.ipxe")
    assert json.loads(api.request("GET", MACHINE).body)["next"] == "install.ipxe"
    missing = api.request("PUT", f"{MACHINE}/next", {"file": "instal.ipxe"})
    assert (missing.status, error(missing)) == (422, "no backend has instal.ipxe; similar: install.ipxe")
    assert api.request("PUT", f"{MACHINE}/next", {"file": "http://192.0.2.1/x.ipxe"}).status == 200
    assert api.request("DELETE", f"{MACHINE}/next").status == 200
    assert api.request("DELETE", f"{MACHINE}/next").status == 404


@pytest.mark.parametrize(
    ("method", "target", "value", "status", "why"),
    [
        ("GET", "/api/v1/machines/52:54", None, 400, "the machine in the path must be a MAC address"),
        ("GET", "/api/v1/machines?limit=0", None, 400, "limit must be from 1 to 1000"),
        ("GET", "/api/v1/machines?limit=1&limit=2", None, 400, "limit is given 2 times"),
        ("GET", "/api/v1/machines?name=x", None, 400, 'unknown parameter "name"; known: limit, tag, verdict'),
        ("GET", f"{MACHINE}?limit=1", None, 400, 'unknown parameter "limit", and none is known here'),
        ("GET", "/api/v1/machines?verdict=bad", None, 400, "verdict must be one of in progress, booted"),
        ("GET", f"/api/v1/machines/{OTHER}", None, 404, "no boot of this machine is recorded"),
        ("GET", "/api/v1/machine", None, 404, "there is nothing at this path"),
        ("POST", MACHINE, {}, 405, "only DELETE, GET, HEAD, PATCH can be used here"),
        (
            "PATCH",
            MACHINE,
            {"nmae": "x"},
            400,
            "the body must be a JSON object with name, tags, image and no other keys",
        ),
        ("PATCH", MACHINE, {"mac": OTHER}, 400, "the body must be a JSON object with name, tags, image"),
        ("PATCH", MACHINE, [], 400, "the body must be a JSON object"),
        ("PATCH", MACHINE, {"name": None}, 400, "name must be a text, not None"),
        ("PATCH", MACHINE, {"name": "taken"}, 409, f"taken is the name of {OTHER} already"),
        ("PUT", f"{MACHINE}/next", {}, 400, "the body must be a JSON object with file"),
        ("PUT", f"{MACHINE}/next", {"file": 1}, 400, "file must be a path or a URL"),
        ("PUT", f"{MACHINE}/next", {"file": "{htp}/x"}, 400, "file must be a path or a URL"),
    ],
)
def test_a_mistake_is_named(api: API, method: str, target: str, value: Any, status: int, why: str) -> None:
    api.request("PATCH", f"/api/v1/machines/{OTHER}", {"name": "taken"})
    api.request("DELETE", f"/api/v1/machines/{OTHER}") if "recorded" in why else None
    response = api.request(method, target, value)
    assert response.status == status
    assert error(response).startswith(why)


def test_a_body_that_is_not_json_is_refused(api: API) -> None:
    response = api.request("PATCH", MACHINE, {}, Content_Type="text/plain")
    assert (response.status, error(response)) == (415, "the body must be JSON, with Content-Type: application/json")


def test_a_store_that_fails_is_not_the_fault_of_the_request(api: API, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: object, *arguments: object) -> None:
        raise StateError("the disk is full")

    monkeypatch.setattr(MemoryStore, "save_orders", refuse)
    response = api.request("PATCH", MACHINE, {"name": "web1"})
    assert (response.status, error(response)) == (503, "the disk is full")


# The description.


class Application:
    """The API as WSGI, for schemathesis: each request is a connection in memory."""

    def __init__(self, api: API) -> None:
        self.api = api

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> Iterator[bytes]:
        target = environ["PATH_INFO"].encode("latin-1")
        quoted = "".join(chr(byte) if chr(byte) in _PLAIN else f"%{byte:02X}" for byte in target)
        query = f"?{environ['QUERY_STRING']}" if environ.get("QUERY_STRING") else ""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        headers = {"Authorization": environ.get("HTTP_AUTHORIZATION"), "Content_Type": environ.get("CONTENT_TYPE")}
        headers["Connection"] = "close"
        wire = self.api.send(environ["REQUEST_METHOD"], quoted + query, body, **headers)
        self.api.clock.advance(0)
        response, _ = parse(wire.value(), head=environ["REQUEST_METHOD"] == "HEAD")
        start_response(f"{response.status} X", [(name, value) for name, value in response.headers.items()])
        yield response.body


_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/:._-"


@pytest.mark.parametrize("negative", [False, True], ids=["valid", "invalid"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: f"{each.method} {each.path}")
def test_responses_are_those_of_the_description(operation: Operation, negative: bool) -> None:
    """To requests that the description allows, and to others."""
    # Here only: to import it takes a second, and all processes of pytest-xdist import this module.
    import schemathesis
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    authorization = {"Authorization": f"Bearer {WRITER.token}"}
    application = Application(API(READER, WRITER))
    schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", application, headers=authorization)
    mode = schemathesis.GenerationMode.NEGATIVE if negative else schemathesis.GenerationMode.POSITIVE

    @settings(
        max_examples=25,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schema[operation.path][operation.method].as_strategy(generation_mode=mode))
    def responses(case: Any) -> None:
        # The description allows the name of any image, of which most don't exist.
        case.call_and_validate(headers=authorization, excluded_checks=[positive_data_acceptance])

    try:
        responses()
    except Unsatisfiable:
        assert negative  # nothing that it takes could be invalid


def test_the_description_has_every_operation() -> None:
    described = description()
    assert described["openapi"] == "3.1.0"
    described_operations = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    assert described_operations == {(each.method, each.path) for each in OPERATIONS}
    names = [entry["operationId"] for methods in described["paths"].values() for entry in methods.values()]
    assert len(set(names)) == len(OPERATIONS)
