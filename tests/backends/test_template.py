"""The template backend: the template for a path, its variables, and the reports of mistakes."""

import threading
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from observers import EventList
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from bootfw.api import (
    BootService,
    Client,
    ConfigError,
    FileMissing,
    PluginContext,
    Settings,
    TFTPSettings,
    TransferError,
    TransferRefused,
    TransferRequest,
)
from bootfw.backends.memory import MemoryBackend
from bootfw.backends.template import plugin
from bootfw.backends.variables import LONGEST, plain
from bootfw.plugins import configure
from bootfw.testing import MemoryNetwork, TFTPClient
from bootfw.testing.tftp import TransferFailed

MAC = "52:54:00:00:00:01"
CLIENT = Client(
    "10.0.0.9", MAC, "52420077-1234-4abc-9def-0123456789ab", "x86_64-uefi", "ipxe", "PXEClient:Arch:00007", True
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "templates"
    path.mkdir()
    return path


def request(path: str, client: Client = CLIENT, **request_fields: Any) -> TransferRequest:
    return TransferRequest(path, path, (client.address, 2070), local="10.0.0.1", client=client, **request_fields)


def rendered(backend: Any, path: str, client: Client = CLIENT, **request_fields: Any) -> str:
    reader = backend.open(path, request(path, client, **request_fields))
    data: bytes = reader.read(0, 1_000_000)
    assert reader.size == len(data)
    return data.decode()


def backend(root: Path, templates: dict[str, str], context: Any = None, **options: Any) -> Any:
    for name, text in templates.items():
        path = root / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    return configure(plugin, {"root": str(root), **options}, context or PluginContext(None, root.parent))


EVERYTHING = """\
{{ client.mac }} {{ client.uuid }} {{ client.address }} {{ client.architecture }} {{ client.persona }}
{{ client.vendor_class }} {{ client.ipxe }} {{ client.http }}
{{ server.address }} {{ server.tftp }} {{ server.http or "" }} {{ path }} {{ protocol }} {{ host.name }}
"""


def test_variables_of_a_template(root: Path) -> None:
    text = rendered(backend(root, {"all.j2": EVERYTHING}), "all", http_url="http://10.0.0.1:8069")
    assert text == (
        f"{MAC} 52420077-1234-4abc-9def-0123456789ab 10.0.0.9 x86_64-uefi ipxe\n"
        "PXEClient:Arch:00007 true false\n"
        "10.0.0.1 tftp://10.0.0.1 http://10.0.0.1:8069 all tftp \n"
    )


def test_all_variables_are_defined_for_an_unknown_client(root: Path) -> None:
    transfer_request = TransferRequest(
        "all", "all", ("2001:db8::9", 2070, 0, 0), local="2001:db8::1", client=Client("2001:db8::9")
    )
    data = backend(root, {"all.j2": EVERYTHING}).open("all", transfer_request).read(0, 1000)
    assert data == b"  2001:db8::9 unknown \n false false\n2001:db8::1 tftp://[2001:db8::1]  all tftp \n"


@pytest.mark.parametrize(
    "line",
    [
        "kernel {{ server.http }}/vmlinuz",
        "{% set base = server.http %}kernel {{ base }}/vmlinuz",
        'kernel {{ server.http ~ "/vmlinuz" }}',
        'kernel {{ server.http + "/vmlinuz" }}',
        'kernel {{ [server.http, "vmlinuz"]|join("/") }}',
        "{% if true %}kernel {{ server['http'] }}/vmlinuz{% endif %}",
        "set base {{ server.http }}",
        "{% macro url(base) %}{{ base }}/vmlinuz{% endmacro %}kernel {{ url(server.http) }}",
    ],
)
def test_a_url_of_http_that_is_not_served_is_an_error(root: Path, line: str) -> None:
    template_backend = backend(root, {"boot.ipxe.j2": f"#!ipxe\n{line}\n"})
    with pytest.raises(TransferError) as caught:
        rendered(template_backend, "boot.ipxe")
    assert caught.value.detail.startswith("boot.ipxe.j2:2: server.http is empty: no HTTP is served")
    assert "http://10.0.0.1:8069" in rendered(template_backend, "boot.ipxe", http_url="http://10.0.0.1:8069")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{{ server.http or server.tftp }}/x", "tftp://10.0.0.1/x"),
        ("{% if server.http %}{{ server.http }}/x{% else %}none{% endif %}", "none"),
        ('{{ server.http|default("none", true) }}/x', "none/x"),
        ('{{ server.http == "" }}', "true"),
        ("{{ client.uuid }}/x", "52420077-1234-4abc-9def-0123456789ab/x"),
        ("{{ host.name }}/x {{ [host.name, path]|join('/') }}", "/x /f"),
    ],
)
def test_a_template_may_allow_for_empty_values(root: Path, line: str, text: str) -> None:
    assert rendered(backend(root, {"f.j2": line}), "f") == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("boot.ipxe", "root"),
        ("pxelinux.cfg/default", "default"),
        ("a/../boot.ipxe", "root"),
        ("../../boot.ipxe", "root"),
        ("menu.cfg", "any *.cfg"),
        ("pxelinux.cfg/01-52-54-00-00-00-02", "52:54:00:00:00:02 any pxelinux.cfg/01-*"),
        ("m/52-54-00-00-00-03", "52:54:00:00:00:03 for m/{mac}"),
    ],
)
def test_template_is_selected_by_path(root: Path, path: str, text: str) -> None:
    templates = {
        "boot.ipxe.j2": "root",
        "pxelinux.cfg/default.j2": "default",
        "cfg.j2": "any *.cfg",
        "menu.cfg.j2": "never",
        "sub/mac": "{{ client.mac }} any pxelinux.cfg/01-*",
        "m.j2": "{{ client.mac }} for m/{mac}",
    }
    files = {"*.cfg": "cfg.j2", "pxelinux.cfg/01-*": "sub/mac", "m/{mac}": "m.j2"}
    assert rendered(backend(root, templates, files=files), path) == text


@pytest.mark.parametrize(
    "path", ["nope", "boot.ipxe.j2", "_part", ".secret", "_dir/x", "pxelinux.cfg", "", "a\0b", "x" * 300, "\udcff"]
)
def test_paths_without_a_template_are_missing(root: Path, path: str) -> None:
    templates = {"boot.ipxe.j2": "", "_part.j2": "", ".secret.j2": "", "_dir/x.j2": "", "pxelinux.cfg/default.j2": ""}
    with pytest.raises(FileMissing):
        rendered(backend(root, templates), path)


def test_declined_file_is_looked_up_in_the_next_backend(root: Path) -> None:
    with pytest.raises(FileMissing):
        rendered(backend(root, {"boot.ipxe.j2": "{% if not host.name %}{{ decline() }}{% endif %}"}), "boot.ipxe")


def test_template_uses_the_host_file_of_its_client(root: Path) -> None:
    hosts = root.parent / "hosts"
    hosts.mkdir()
    (hosts / "web1.toml").write_text(f'mac = "{MAC}"\nrole = "web"\n')
    (hosts / "defaults.toml").write_text('role = "none"\n')
    templates = {"boot.ipxe.j2": "{{ host.name }} {{ host.role }}"}
    template_backend = backend(
        root, templates, files={"h/{name}": "boot.ipxe.j2", "p/*": "boot.ipxe.j2"}, hosts="hosts"
    )
    assert rendered(template_backend, "boot.ipxe") == "web1 web"
    assert rendered(template_backend, "boot.ipxe", Client("10.0.0.8")) == " none"
    assert rendered(template_backend, "h/web1", Client("10.0.0.8")) == "web1 web"
    assert (
        rendered(template_backend, "p/01-52-54-00-00-00-01", Client("10.0.0.8")) == " none"
    )  # no name that firmware asks for
    assert rendered(template_backend, "h/web2", Client("10.0.0.8")) == " none"


def test_the_requested_name_selects_the_host_file(root: Path) -> None:
    hosts = root.parent / "hosts"
    hosts.mkdir()
    (hosts / "web1.toml").write_text(f'mac = "{MAC}"\n')
    template_backend = backend(root, {"x.j2": "{{ host.name }} {{ client.mac }}"}, files={"*/*": "x.j2"}, hosts="hosts")
    stranger = Client("10.0.0.8", "52:54:00:00:00:99")
    assert rendered(template_backend, "pxelinux.cfg/01-52-54-00-00-00-01", stranger) == f"web1 {MAC}"


# Values from clients.


def test_client_values_cannot_inject_script_lines(root: Path) -> None:
    evil = 'x"\nkernel http://evil/\r\n${net0/mac} `id` $(id) {{ 1 }} %s \\ ; && | \x1b[2J'
    template_backend = backend(root, {"s.j2": "set vendor {{ client.vendor_class }}\n"})
    text = rendered(template_backend, "s", evolve(CLIENT, vendor_class=evil))
    assert text.count("\n") == 1
    assert not set(text) & set("\"'`$\\{}\r;&|<>%\x1b")


def test_requested_name_cannot_inject_script_lines(root: Path) -> None:
    template_backend = backend(root, {"s.j2": "{{ path }}"}, files={"x/*": "s.j2"})
    assert rendered(template_backend, "x/a\nboot ${b}") == "x/a_boot __b_"


def test_client_values_are_truncated() -> None:
    assert plain("x" * 1000) == "x" * LONGEST
    assert plain("PXEClient:Arch:00007:UNDI:003010") == "PXEClient:Arch:00007:UNDI:003010"


def test_rendering_is_deterministic(root: Path) -> None:
    """UEFI requests the size first, in a transfer of its own."""
    template_backend = backend(root, {"s.j2": EVERYTHING + "{{ {'b': 1, 'a': 2}|tojson }}"})
    assert len({rendered(template_backend, "s") for _ in range(5)}) == 1


# Mistakes.


@pytest.mark.parametrize(
    ("template", "detail"),
    [
        (
            "a\n{{ server.http }}\n",
            "t.j2:2: server.http is empty: no HTTP is served where this client could reach it. Set",
        ),
        ("#!ipxe\n\n{{ client.serial }}\n", 't.j2:3: client has no "serial"; it has mac, uuid, address'),
        ("#!ipxe\n{{ nope }}\n", "t.j2:2: 'nope' is undefined"),
        ("a\n{% if %}\n", "t.j2:2: Expected an expression"),
        ("a\n{% endfor %}\n", "t.j2:2: Encountered unknown tag 'endfor'"),
        ("a\n{{ 1|random }}\n", "t.j2:2: No filter named 'random'"),
        ("a\n\n{{ 1 / 0 }}", "t.j2:3: division by zero"),
        ("a\n{{ 'a' + 1 }}", "t.j2:2: can only concatenate str"),
        ("a\n{% include 'part' %}\n", "part:2: 'nope' is undefined"),
        ("a\n{% include 'none' %}\n", "t.j2:2: there is no template none"),
        ("a\n{% include 'bad' %}\n", "bad:1: unexpected '}'"),
        ("a\n{% include 'latin' %}\n", "must be UTF-8"),
        ("{% include 't.j2' %}", "t.j2: it includes or calls itself without end"),
        ("a\n{% for i in range(10 ** 9) %}{% endfor %}", "t.j2:2: Range too big"),
        ("{% macro m() %}\n\n{{ x.y }}{% endmacro %}\n{{ m() }}", "t.j2:3: 'x' is undefined"),
    ],
)
def test_a_mistake_is_reported_with_template_and_line(root: Path, template: str, detail: str) -> None:
    template_backend = backend(root, {"t.j2": template, "part": "\n{{ nope }}", "bad": "{{ } }}"})
    (root / "latin").write_bytes(b"\xff")
    with pytest.raises(TransferError) as caught:
        rendered(template_backend, "t")
    assert detail in caught.value.detail
    assert str(root) not in caught.value.detail
    assert caught.value.message == "This file could not be made; the log of the server says why"
    assert caught.value.tftp_code == 0


def test_byte_order_marks_of_templates_do_not_reach_the_client(root: Path) -> None:
    template_backend = backend(root, {"t.ipxe.j2": "\ufeff#!ipxe\n{% include 'part' %}\n", "part": "\ufeffboot"})
    assert rendered(template_backend, "t.ipxe") == "#!ipxe\nboot"


def test_missing_configured_template_is_an_error(root: Path) -> None:
    template_backend = backend(root, {}, files={"x": "y.j2"})
    assert template_backend.problem() == f"{root}/y.j2: there is no such file"
    with pytest.raises(TransferError) as caught:
        rendered(template_backend, "x")
    assert caught.value.detail == "y.j2, named in the configuration: there is no template y.j2"


def test_a_broken_host_file_is_logged_and_affects_its_host_only(root: Path) -> None:
    hosts = root.parent / "hosts"
    hosts.mkdir()
    (hosts / "web1.toml").write_text(f'mac = "{MAC}"\nrole = \n')
    template_backend = backend(root, {"x.j2": "ok"}, hosts="hosts")
    assert f"{hosts}/web1.toml:2: " in template_backend.problem()
    with pytest.raises(TransferError) as caught:
        rendered(template_backend, "x")
    assert f"{hosts}/web1.toml:2: " in caught.value.detail
    assert rendered(template_backend, "x", Client("10.0.0.8", "52:54:00:00:00:02")) == "ok"


def test_changed_template_is_used(root: Path) -> None:
    template_backend = backend(root, {"x.j2": "{{ nope }}"})
    with pytest.raises(TransferError):
        rendered(template_backend, "x")
    backend(root, {"x.j2": "better"})
    assert rendered(template_backend, "x") == "better"


def test_missing_template_directory_renders_nothing(root: Path) -> None:
    template_backend = configure(plugin, {"root": "none"}, PluginContext(None, root))
    assert template_backend.problem() == f"{root}/none: there is no such directory"
    with pytest.raises(FileMissing):
        rendered(template_backend, "x")


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({}, (), "missing"),
        ({"root": ""}, ("root",), "path of a directory"),
        ({"root": "x", "hosts": ""}, ("hosts",), "path of a directory"),
        ({"root": "x", "files": {"{x}": "y"}}, ("files", "{x}"), "a pattern may have"),
        ({"root": "x", "files": {"x": "../y"}}, ("files", "x"), "template below"),
        ({"root": "x", "files": {"x": ""}}, ("files", "x"), "template below"),
        ({"root": "x", "files": {"x": 1}}, ("files", "x"), "string"),
    ],
)
def test_invalid_options_are_errors(tmp_path: Path, options: Any, path: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        configure(plugin, options, PluginContext(None, tmp_path))
    assert caught.value.path == path


# In a service.


def test_client_gets_a_short_error_and_observers_the_detail(root: Path) -> None:
    network, observer = MemoryNetwork(), EventList()
    service = BootService(
        network.host("10.0.0.1"),
        settings=Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),))),
        backends=[backend(root, {"x.j2": "\n{{ nope }}", "y.j2": "{{ decline() }}"}), MemoryBackend({"y": "static"})],
        observers=[observer],
    )
    service.startService()
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69))
    with pytest.raises(TransferFailed, match="ERROR 0: This file could not be made; the log of the server says why"):
        network.result_of(client.download("x"))
    assert network.result_of(client.download("y")).data == b"static"
    network.result_of(service.stopService())
    (refused,) = [event for event in observer.events if isinstance(event, TransferRefused)]
    assert refused.detail == "x.j2:2: 'nope' is undefined"


def test_rendering_runs_in_a_thread(root: Path, private_reactor: Any) -> None:
    """The reactor is not blocked meanwhile."""
    context = PluginContext(private_reactor, root.parent)
    template_backend = backend(root, {"x.j2": "{{ client.mac }}"}, context)
    pool: ThreadPool = private_reactor.getThreadPool()
    pool.start()
    threads: list[threading.Thread] = []

    def finalize(value: object) -> object:
        threads.append(threading.current_thread())
        return value

    template_backend._sandbox.finalize = finalize
    try:
        opening = template_backend.open("x", request("x"))
        assert isinstance(opening, Deferred)
        readers: list[Any] = []
        opening.addCallback(readers.append)
        while not readers:
            private_reactor.iterate(0.01)
        assert readers[0].read(0, 100) == MAC.encode()
        assert threading.current_thread() not in threads
        with pytest.raises(FileMissing):
            template_backend.open("nope", request("nope"))  # which needs no thread
    finally:
        pool.stop()
