"""Mistakes of operators and of authors of plugins, and the error line for each; all are reported at once."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from bootfw.build import load_parts
from bootfw.config.configuration import ConfigErrors

ALL_MISTAKES = """
tfpt = 1

[bootfw]
interfaces = ["eth 0", "a-name-that-is-too-long"]
workers = 65
interface = "eth0"

[tftp]
listen = ["::69", "0.0.0.0:69", "0.0.0.0:69"]
ports = "30999-30000"
max-blksize = "1468"

[dhcp]
mode = "server"
probe-seconds = 9
ports = { server = 0, bootserver = 4011 }

[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.200-10.77.0.100", "10.78.0.1-10.78.0.9"]
router = "10.79.0.1"
dns = ["10.77.0.1", "dns"]
lease-seconds = 5
options = { ntp-server = "10.77.0.1", "6" = { uint99 = 1 } }

[[dhcp.subnet.host]]
mac = "52:54:00:12:34"
address = "10.80.0.5"

[[dhcp.subnet]]
network = "10.81.0.0/24"
router = ["10.81.0.1", "10.82.0.1"]

[dhcp6]
mode = "server"

[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::9-fd77::1", "fd78::1"]

[http]
listen = ["*:80"]
https-listen = "0.0.0.0:8443"

[[persona]]
name = "x"
architectures = ["x86_64-eufi"]

[[backend]]
use = "directroy"

[[backend]]
use = "static"

[[backend]]
use = "directory"
rot = "/srv"

[[backend]]
root = "/srv"

[[resolver]]
use = "static"
file = "{mak}.ipxe"
server = "boot"

[[resolver]]
use = "by-architecture"
[resolver.files]
"x86_64-eufi" = "a"
"x86-bios" = "{htp}/b"
"ipxe" = { fille = "c", server = "d" }

[[resolver]]
use = "by-client"
clients = [{ mac = "1", file = "a" }, { file = "{x}" }]

[watchdog]
use = "fixed"
seconds = [1, "x"]

[[observer]]
use = "bootfw.backends.memory:plugin"

[store]
use = "sqlite3"
"""

LINES = """
tfpt: unknown key; known:
bootfw.interface: unknown key; known: interfaces, except-interfaces, allow, deny, requests-per-second,
bootfw.interfaces[0]: "eth 0" can't be the name of an interface
bootfw.interfaces[1]: "a-name-that-is-too-long" can't be the name of an interface
bootfw.workers: must be from 0 to 64 processes, not 65
tftp.listen[0]: must be an address and a port
tftp.listen[2]: 0.0.0.0 port 69 is given twice
tftp.ports: is reversed: write "30000-30999"
tftp.max-blksize: must be an integer, not "1468"
dhcp.ports.bootserver: unknown key; known: server, client, boot-server; did you mean "boot-server"?
dhcp.ports.server: must be from 1 to 65535 (a UDP port), not 0
dhcp.probe-seconds: must be from 0 to 5 seconds, not 9
dhcp.subnet[0].pool[0]: is reversed: write "10.77.0.100-10.77.0.200"
dhcp.subnet[0].pool[1]: is not inside 10.77.0.0/24
dhcp.subnet[0].router: 10.79.0.1 is not inside 10.77.0.0/24: its clients could not reach that router
dhcp.subnet[0].dns[1]: must be an IPv4 address, such as "10.77.0.10", not "dns"
dhcp.subnet[0].lease-seconds: must be from 60 to 31536000 seconds, not 5
dhcp.subnet[0].options.ntp-server: unknown option; did you mean "ntp-servers"?
dhcp.subnet[0].options.6:
dhcp.subnet[0].host[0].mac: must be a MAC address
dhcp.subnet[0].host[0].address: 10.80.0.5 is not inside 10.77.0.0/24
dhcp.subnet[1].router[1]: 10.82.0.1 is not inside 10.81.0.0/24
dhcp6.subnet[0].pool[0]: is reversed: write "fd77::1-fd77::9"
dhcp6.subnet[0].pool[1]: is not inside fd77::/64
http.listen[0]: must be an address and a port
http.https-listen: must be a list of strings, not "0.0.0.0:8443"
persona[0].architectures
backend[0].use: no plugin "directroy"
backend[1].use: "static" is a plugin of the kind resolver: write it under [[resolver]]
backend[2].rot: unknown key; known: root, ignore-case; did you mean "root"?
backend[3]: "use" is missing: it names the plugin
resolver[0].file: unknown placeholder {mak}
resolver[0].server: must be an IPv4 address, not "boot"
resolver[1].files.x86_64-eufi: no such architecture; near to it: "x86_64-uefi"
resolver[1].files.x86-bios: unknown placeholder {htp}
resolver[1].files.ipxe.fille: unknown key; known: file,
resolver[1].files.ipxe: "file" is missing
resolver[2].clients[0].mac: must be a MAC address
resolver[2].clients[1]: needs at least one of mac, uuid, network, relay, circuit-id, persona, architecture
resolver[2].clients[1].file: unknown placeholder {x}
watchdog.seconds[1]: must be a number, not "x"
observer[0].use: "bootfw.backends.memory:plugin" makes IWritableBackend, but observer needs IBootObserver
store.use: no plugin "sqlite3"; known: memory, sqlite; did you mean "sqlite"?
"""


def error_lines(path: Path) -> list[str]:
    """The error lines for a file, without its name."""
    with pytest.raises(ConfigErrors) as caught:
        load_parts(path, {}, Clock())
    return [line.removeprefix(f"{path}: ") for line in caught.value.lines]


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text(ALL_MISTAKES)
    expected, found = LINES.strip().splitlines(), error_lines(path)
    missing = [line for line in expected if not any(each.startswith(line) for each in found)]
    surplus = [each for each in found if not any(each.startswith(line) for line in expected)]
    assert (missing, surplus) == ([], [])
    assert len(found) == len(expected)


PRELUDE = """
from zope.interface import implementer
from bootfw.api import IBackend, IBootFileResolver, boot_plugin
"""

RESOLVER = (
    PRELUDE
    + """
@implementer(IBootFileResolver)
class Acme:
    def __init__(self, racks: dict = {}):
        self.first = racks["first"]
    def resolve(self, request): ...
"""
)
PLUGIN = "plugin = boot_plugin(IBootFileResolver, Acme)\n"


@pytest.fixture
def error_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], str]]:
    """Returns the error line for a section that names a module with this source, with DIR for the directory."""
    modules = set(sys.modules)
    monkeypatch.syspath_prepend(str(tmp_path))

    def error_line(source: str, use: str, section: str = "[[resolver]]") -> str:
        (tmp_path / "acme_boot.py").write_text(source)
        path = tmp_path / "bootfw.toml"
        path.write_text(f"{section}\nuse = {use}\n")
        (line,) = error_lines(path)
        return line.replace(str(tmp_path), "DIR")

    yield error_line
    for name in set(sys.modules) - modules:
        if name.startswith("acme"):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "use", "section", "line"),
    [
        # the name
        ("", '"statik"', "[[resolver]]", 'did you mean "static"?'),
        ("", '"acme_boot.plugin"', "[[resolver]]", 'one in a module is written "acme_boot:plugin"'),
        ("", '"acme_boot.py:plugin"', "[[resolver]]", '"acme_boot.py" is a file; name the module: "acme_boot:plugin"'),
        ("", '"acme_boot:"', "[[resolver]]", '"acme_boot:" names no plugin: write it as "package.module:attribute"'),
        ("", '"acme-boot:plugin"', "[[resolver]]", 'names no plugin: write it as "package.module:attribute"'),
        (
            "",
            '"acme_absent:plugin"',
            "[[resolver]]",
            'no module "acme_absent": install it, or name its directory (PYTHON',
        ),
        ("", '"acme_boot.x:plugin"', "[[resolver]]", 'no module "acme_boot.x": install it'),
        ("", "5", "[[resolver]]", "resolver[0].use: must be a string, not 5"),
        # the module
        (
            "import acme_db",
            '"acme_boot:plugin"',
            "[[resolver]]",
            'it imports "acme_db" (DIR/acme_boot.py, line 1), which',
        ),
        ("from os import no", '"acme_boot:plugin"', "[[resolver]]", "(DIR/acme_boot.py, line 1)"),
        (
            "\n\n{}['rack']",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "can't be loaded: KeyError: 'rack' (DIR/acme_boot.py, line 3)",
        ),
        ("def (", '"acme_boot:plugin"', "[[resolver]]", "SyntaxError: invalid syntax (acme_boot.py, line 1)"),
        (
            "import sys\nsys.exit(3)",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "can't be loaded: SystemExit: 3 (DIR/acme_boot.py, l",
        ),
        (
            RESOLVER + PLUGIN,
            '"acme_boot:plugins"',
            "[[resolver]]",
            'acme_boot has no "plugins"; did you mean "plugin"?',
        ),
        (
            "",
            '"acme_boot:x"',
            "[[resolver]]",
            'acme_boot has no "x"; a module names its plugin: plugin = boot_plugin(...)',
        ),
        # the object that it names
        (
            RESOLVER,
            '"acme_boot:Acme"',
            "[[resolver]]",
            "is a class, not a plugin; name boot_plugin(IBootFileResolver, Acme)",
        ),
        (
            RESOLVER + "plugin = Acme({'first': 1})",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "is an instance, not a plugin; name boot_plugin(IBootFileResolver, Acme), which makes the instances",
        ),
        (
            "plugin = 5",
            '"acme_boot:plugin"',
            "[[resolver]]",
            'is not a plugin, but int "5"; name the result of boot_plugin(IBootFileRes',
        ),
        (
            RESOLVER + PLUGIN,
            '"acme_boot:plugin"',
            "[[backend]]",
            "but backend needs IBackend: write it under [[resolver]]",
        ),
        (
            RESOLVER + "plugin = boot_plugin(Acme, IBackend)",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "takes an interface and a cl",
        ),
        ("", '"static"', "[[backend]]", '"static" is a plugin of the kind resolver: write it under [[resolver]]'),
        ("", '"fixed"', "[[observer]]", '"fixed" is a plugin of the kind watchdog: write it under [watchdog]'),
        ("", '"directory"', "[watchdog]", '"directory" is a plugin of the kind backend: write it under [[backend]]'),
        # the instance that it creates
        (
            RESOLVER + PLUGIN,
            '"acme_boot:plugin"',
            "[[resolver]]",
            "the plugin failed: KeyError: 'first' (DIR/acme_boot.py, line 8)",
        ),
        (
            PRELUDE + "class A:\n    def resolve(self, request): ...\nplugin = boot_plugin(IBootFileResolver, A)",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "that does not provide IBootFileResolver: add @implementer(IBootFileResolver) above the class A",
        ),
        (
            PRELUDE + "@implementer(IBootFileResolver)\nclass A: ...\nplugin = boot_plugin(IBootFileResolver, A)",
            '"acme_boot:plugin"',
            "[[resolver]]",
            "the class A has no resolve(request)",
        ),
        (
            PRELUDE
            + "@implementer(IBackend)\nclass A:\n    def open(self, path): ...\nplugin = boot_plugin(IBackend, A)",
            '"acme_boot:plugin"',
            "[[backend]]",
            "A.open must be called as open(path, request): ",
        ),
        # its options
        (
            RESOLVER + PLUGIN,
            '"acme_boot:plugin"\nrakcs = {}',
            "[[resolver]]",
            'unknown key; known: racks; did you mean "racks"?',
        ),
        (
            RESOLVER + PLUGIN,
            '"acme_boot:plugin"\nracks = 3',
            "[[resolver]]",
            "resolver[0].racks: must be a table, not 3",
        ),
    ],
)
def test_a_mistake_with_a_plugin(
    error_line: Callable[[str, str, str], str], source: str, use: str, section: str, line: str
) -> None:
    assert line in error_line(source, use, section)


def test_consequential_mistakes_are_not_reported(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text('[http]\nlisten = ["*:80"]\n[[resolver]]\nuse = "static"\nfile = "{http}/a"\n')
    (line,) = error_lines(path)
    assert line.startswith("http.listen[0]: must be an address and a port")
