"""The programs in the how-tos run as they are printed."""

import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from twisted.application.service import MultiService

from bootfw.api import BootFile, BootService, Settings, TFTPSettings
from bootfw.backends.memory import MemoryBackend
from bootfw.testing import MemoryNetwork, ResolverContract

HOWTO = Path(__file__).parent.parent / "docs" / "howto"


def programs(page: str) -> list[str]:
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", (HOWTO / page).read_text(), re.MULTILINE | re.DOTALL)
    return [textwrap.dedent(block) for block in blocks]


def test_the_plugin_of_the_howto() -> None:
    names: dict[str, Any] = {}
    resolver, configured, contract = programs("plugins.md")
    exec(resolver, names)
    assert names["plugin"].summary == "Gives one file to all machines whose MAC begins alike."
    assert "def configured(cls, context, root: str)" in configured
    exec(contract, names)
    kit = names["TestByRack"]()
    assert isinstance(kit, ResolverContract)
    assert kit.resolve(kit.make_resolver(), kit.requests[0]) == BootFile("boot.ipxe")
    kit.test_answers_every_client_with_a_file_or_none_or_a_refusal()


def test_the_service_of_the_howto() -> None:
    network = MemoryNetwork()
    application = MultiService()
    exec(programs("embedding.md")[0], {"reactor": network.host("192.0.2.1"), "application": application})
    application.startService()
    (boot,) = application
    assert [(row.service, row.address) for row in boot.summary()] == [("tftp", ("192.0.2.1", 69))]
    network.result_of(application.stopService())
    assert network.leaks() == []


def test_the_configuration_of_the_howto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bootfw.toml").write_text('[dhcp]\nmode = "off"\n[tftp]\nlisten = ["0.0.0.0:69"]\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"reactor": MemoryNetwork().host("192.0.2.1"), "os": __import__("os")}
    exec(programs("embedding.md")[1], names)
    assert isinstance(names["boot"], BootService)


def test_the_test_of_the_howto() -> None:
    names = {
        "BootService": BootService,
        "settings": Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),))),
        "backend": MemoryBackend({"pxelinux.0": b"x" * 3000}),
    }
    exec(programs("embedding.md")[2].replace("== ...", "== b'x' * 3000"), names)


@pytest.mark.parametrize("page", ["plugins.md", "embedding.md"])
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (HOWTO / page).read_text())
    assert links
    assert [link for link in links if not (HOWTO / link).exists()] == []
