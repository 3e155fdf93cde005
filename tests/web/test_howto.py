"""docs/howto/web.md: what it prints, done."""

import json
from pathlib import Path
from typing import Any

from howtos import blocks
from turning import Alongside, Result
from twisted.internet.epollreactor import EPollReactor

from bootfw.config.configuration import load_config
from bootfw.config.settings import DHCPSettings, Settings, TFTPSettings, WebSettings
from bootfw.testing import MemoryNetwork
from bootfw.web import WebSite

from .test_site import fetch
from .visiting import Visitor

PAGE = "web.md"


def settings_of(text: str, directory: Path) -> WebSettings:
    path = directory / "bootfw.toml"
    path.write_text(text)
    return load_config(path, {}).settings.web


def test_the_configuration_of_the_web_howto(tmp_path: Path) -> None:
    elsewhere, writable = (settings_of(text, tmp_path) for text in blocks(PAGE, "toml"))
    assert elsewhere.listen == (("127.0.0.1", 8067), ("10.77.0.1", 8067))
    assert elsewhere.hosts == ("boot.example.org",)
    assert len(writable.token) == 16
    assert WebSettings().listen == elsewhere.listen[:1]


def program() -> dict[str, Any]:
    """What the block of Python on the page defines."""
    (code,) = blocks(PAGE, "python")
    defined: dict[str, Any] = {}
    exec(code.replace(":8067", ":0"), defined)
    return defined


def test_the_service_of_the_web_howto(private_reactor: EPollReactor, alongside: Alongside, result: Result) -> None:
    quiet = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))
    service = program()["service_with_pages"](private_reactor, settings=quiet)
    service.startService()
    (row,) = service.summary()
    assert alongside(fetch, row.address[1], "/") == 200
    result(service.stopService())


def test_the_probe_of_the_web_howto() -> None:
    tunnel, probe = blocks(PAGE, "console")
    assert "8067:127.0.0.1:8067" in tunnel
    network = MemoryNetwork()
    quiet = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))
    service = program()["BootService"](network.host("10.0.0.1"), settings=quiet)
    service.startService()
    command, answer = probe.splitlines()
    target = command.partition("127.0.0.1:8067")[2]
    assert Visitor(WebSite(network.clock, service), network.clock).json(target) == json.loads(answer)
