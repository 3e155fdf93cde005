"""The examples do what their docstrings say."""

import ast
import importlib
import tomllib
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from twisted.internet.task import Clock

from bootfw.api import BootFile, PluginContext
from bootfw.build import assemble
from bootfw.config.configuration import load_config
from bootfw.config.sections import PLUGIN_LISTS, PLUGIN_TABLES, SECTIONS, keys_of
from bootfw.config.settings import Settings
from bootfw.plugins import configure, load
from bootfw.testing import BackendContract, MemoryNetwork, ResolverContract, TFTPClient, WatchdogContract
from bootfw.testing.contracts.resolver import REQUESTS

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_examples_are_short_and_import_only_the_public_api(path: Path) -> None:
    source = path.read_text()
    assert len(source.splitlines()) <= 40
    imports = {node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)}
    assert {name for name in imports if name and name.startswith("bootfw")} <= {"bootfw.api", "bootfw.backends.memory"}


def test_embed_serves_and_leaves_nothing_behind() -> None:
    network = MemoryNetwork()
    program = importlib.import_module("embed").application(network.host("10.0.0.1"))
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 10069))
    for _ in range(2):
        program.privilegedStartService()
        program.startService()
        assert network.result_of(client.download("motd")).data == b"Hello from inside.\n"
        network.result_of(program.stopService())
        network.advance(0)
        assert network.leaks() == []


def documented_options(name: str) -> tuple[str, dict[str, Any]]:
    """The section and the options in the example's docstring."""
    doc = importlib.import_module(name).__doc__ or ""
    ((section, tables),) = tomllib.loads("\n".join(doc.split("\n\n")[1].split("\n"))).items()
    options = tables[0] if isinstance(tables, list) else tables
    return section, options


def configured_plugin(name: str) -> Any:
    """The plugin that bootfw makes of the lines in the example's docstring."""
    section, options = documented_options(name)
    plugin = load(options.pop("use"), f"bootfw.{section}s")
    return configure(plugin, options, PluginContext(Clock(), EXAMPLES))


class TestBackend(BackendContract):
    files = {
        "boot.ipxe": b"#!ipxe\nkernel http://10.77.0.1/vmlinuz console=ttyS0 client=192.0.2.9\nboot\n",
    }

    def make_backend(self) -> Any:
        return configured_plugin("custom_backend")


class TestResolver(ResolverContract):
    requests = (*REQUESTS, evolve(REQUESTS[0], mac="00:11:22:33:44:55"))

    def make_resolver(self) -> Any:
        return configured_plugin("custom_resolver")

    def test_example_resolver_answers_for_its_rack_only(self) -> None:
        answers = [self.resolve(configured_plugin("custom_resolver"), request) for request in self.requests]
        assert answers[0] == BootFile("racks/blue.ipxe")
        assert answers[-1] is None


class TestWatchdog(WatchdogContract):
    def make_policy(self) -> Any:
        return configured_plugin("custom_watchdog")

    def test_example_watchdog_doubles_its_waits(self) -> None:
        watchdog = configured_plugin("custom_watchdog")
        assert [watchdog.wait(attempt) for attempt in range(1, 14)] == [0.25, 0.5, 1, 2, 4, *[8] * 7, None]


def test_the_full_configuration_is_valid() -> None:
    parts = assemble(load_config(EXAMPLES / "bootfw.toml", {}), Clock())
    assert [name for name, _ in parts.backends] == ["directory", "menu", "distribution", "memory"]
    assert [name for name, _ in parts.resolvers] == ["next-boot", "loop-breaker", "by-client", "by-architecture"]


def test_the_full_configuration_shows_every_section_and_the_defaults() -> None:
    text = (EXAMPLES / "bootfw.toml").read_text()
    document = tomllib.loads(text)
    assert {*PLUGIN_LISTS, *PLUGIN_TABLES, "bootfw", "tftp", "dhcp"} <= set(document)
    assert load_config(EXAMPLES / "bootfw.toml", {}).settings == Settings()
    for section in SECTIONS:
        for key in keys_of(section):
            assert key.path[-1] in text
