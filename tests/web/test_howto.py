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

from .test_site import status_of
from .visiting import Visitor

PAGE = "web.md"


def settings_of(text: str, directory: Path) -> WebSettings:
    path = directory / "bootfw.toml"
    path.write_text(text)
    return load_config(path, {}).settings.web


def test_the_configuration_of_the_web_howto(tmp_path: Path) -> None:
    listening, writable = (settings_of(text, tmp_path) for text in blocks(PAGE, "toml"))
    assert listening.listen == (("127.0.0.1", 8067), ("10.77.0.1", 8067))
    assert listening.hosts == ("boot.example.org",)
    assert len(writable.token) == 16
    assert WebSettings().listen == listening.listen[:1]


def definitions() -> dict[str, Any]:
    """What the block of Python on the page defines."""
    (code,) = blocks(PAGE, "python")
    defined: dict[str, Any] = {}
    exec(code.replace(":8067", ":0"), defined)
    return defined


def test_the_service_of_the_web_howto(private_reactor: EPollReactor, alongside: Alongside, result: Result) -> None:
    settings = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))
    service = definitions()["service_with_pages"](private_reactor, settings=settings)
    service.startService()
    (status,) = service.summary()
    assert alongside(status_of, status.address[1], "/") == 200
    result(service.stopService())


def test_the_probe_of_the_web_howto() -> None:
    tunnel, probe = blocks(PAGE, "console")
    assert "8067:127.0.0.1:8067" in tunnel
    network = MemoryNetwork()
    settings = Settings(tftp=TFTPSettings(listen=()), dhcp=DHCPSettings(mode="off"))
    service = definitions()["BootService"](network.host("10.0.0.1"), settings=settings)
    service.startService()
    command, answer = probe.splitlines()
    target = command.partition("127.0.0.1:8067")[2]
    assert Visitor(WebSite(network.clock, service), network.clock).json(target) == json.loads(answer)
