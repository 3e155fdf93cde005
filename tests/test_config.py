"""The configuration file: every key, and the exact message for each kind of mistake."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.build import assemble
from bootfw.config.configuration import ConfigErrors, Configuration, PluginChoice, load_config
from bootfw.config.settings import (
    DHCPSettings,
    HTTPSettings,
    MetricsSettings,
    Settings,
    TFTPSettings,
    WebSettings,
    listen_address,
)

FULL = """
[bootfw]
interfaces = ["eth0", "br-boot"]
state-dir = "state"

[tftp]
listen = ["0.0.0.0:69", "[fd77::1]:1069"]
ports = "30000-30999"
writable = true
max-blksize = 8192
max-windowsize = 16

[dhcp]
mode = "off"
ports = { server = 10067, client = 10068, boot-server = 14011 }
answer-within-seconds = 2

[http]
listen = ["0.0.0.0:8069"]

[[backend]]
use = "directory"
root = "/srv/boot"

[[backend]]
use = "memory"
files = { "a" = "b" }

[[resolver]]
use = "by-architecture"
[resolver.files]
"x86-bios" = "undionly.kpxe"

[[resolver]]
use = "static"
file = "pxelinux.0"

[watchdog]
use = "fixed"
seconds = [1, 3, 7]

[[observer]]
use = "log"
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    """Loads a text as /…/bootfw.toml."""

    def load(text: str, **environ: str) -> Configuration:
        (tmp_path / "bootfw.toml").write_text(text)
        return load_config(tmp_path / "bootfw.toml", environ)

    return load


@pytest.fixture
def error_lines(load: Any, tmp_path: Path) -> Any:
    """The error lines for a text, without the directory of the file."""

    def error_lines(text: str, **environ: str) -> list[str]:
        with pytest.raises(ConfigErrors) as caught:
            load(text, **environ)
        assert str(caught.value) == "\n".join(caught.value.lines)
        return [line.removeprefix(f"{tmp_path}/") for line in caught.value.lines]

    return error_lines


def test_every_key_is_read(load: Any, tmp_path: Path) -> None:
    configuration = load(FULL)
    assert configuration.settings == Settings(
        interfaces=("eth0", "br-boot"),
        state_dir=str(tmp_path / "state"),
        tftp=TFTPSettings((("0.0.0.0", 69), ("fd77::1", 1069)), (30000, 30999), True, 8192, 16),
        dhcp=DHCPSettings("off", 10067, 10068, 14011, 2),
        http=HTTPSettings((("0.0.0.0", 8069),)),
    )
    assert configuration.plugins == {
        "backend": (
            PluginChoice("directory", {"root": "/srv/boot"}, ("backend", 0)),
            PluginChoice("memory", {"files": {"a": "b"}}, ("backend", 1)),
        ),
        "resolver": (
            PluginChoice("by-architecture", {"files": {"x86-bios": "undionly.kpxe"}}, ("resolver", 0)),
            PluginChoice("static", {"file": "pxelinux.0"}, ("resolver", 1)),
        ),
        "watchdog": (PluginChoice("fixed", {"seconds": [1, 3, 7]}, ("watchdog",)),),
        "observer": (PluginChoice("log", {}, ("observer", 0)),),
    }
    assert configuration.directory == tmp_path
    assert ("tftp", "listen") in configuration.explicit_keys


@pytest.mark.parametrize("text", ["", "[tftp]\n[dhcp]\n", "# nothing\n"])
def test_everything_has_a_default(load: Any, text: str) -> None:
    configuration = load(text)
    assert configuration.settings == Settings()
    assert configuration.plugins == {}
    assert configuration.explicit_keys == frozenset()


def test_no_file_means_default_settings() -> None:
    configuration = load_config(None, {"PATH": "/bin"})
    assert configuration.settings == Settings()
    assert configuration.source is None
    assert configuration.directory == Path.cwd()


def test_an_absolute_state_dir_stays(load: Any) -> None:
    assert load('[bootfw]\nstate-dir = "/var/lib/bootfw"').settings.state_dir == "/var/lib/bootfw"


SECTIONS = (
    "bootfw, tftp, dhcp, dhcp6, http, multicast, log, metrics, web, boots, persona, machine, "
    "backend, resolver, observer, watchdog, store"
)

TFTP_KEYS = (
    "listen, ports, writable, max-blksize, max-windowsize, cache-size, writable-by, multicast-groups, multicast-ttl"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # names
        ("[tfpt]", f'tfpt: unknown key; known: {SECTIONS}; did you mean "tftp"?'),
        ("zzz = 1", f"zzz: unknown key; known: {SECTIONS}"),
        (
            "[bootfw]\ninterface = []",
            "bootfw.interface: unknown key; known: interfaces, except-interfaces, allow, deny, "
            "requests-per-second, optional, state-dir, user, workers; "
            'did you mean "interfaces"?',
        ),
        ("[tftp]\nmax_blksize = 1", f'tftp.max_blksize: unknown key; known: {TFTP_KEYS}; did you mean "max-blksize"?'),
        ("[tftp]\nblksize = 1", f'tftp.blksize: unknown key; known: {TFTP_KEYS}; did you mean "max-blksize"?'),
        ("[tftp.x]", f"tftp.x: unknown key; known: {TFTP_KEYS}"),
        (
            "[dhcp]\nports = { bootserver = 1 }",
            'dhcp.ports.bootserver: unknown key; known: server, client, boot-server; did you mean "boot-server"?',
        ),
        # types
        ("tftp = 1", "tftp: must be a table, not 1"),
        ("[[tftp]]", "tftp: must be a table, not a list"),
        ("[dhcp]\nports = 67", "dhcp.ports: must be a table, not 67"),
        ('[bootfw]\ninterfaces = "eth0"', 'bootfw.interfaces: must be a list of strings, not "eth0"'),
        ("[bootfw]\ninterfaces = [1]", "bootfw.interfaces[0]: must be a string, not 1"),
        ("[bootfw]\nstate-dir = 2026-11-20", "bootfw.state-dir: must be a string, not a date"),
        (
            '[bootfw]\nallow = ["10.0.0.0/33"]',
            'bootfw.allow[0]: must be an address or a network, such as "10.0.0.0/8", not "10.0.0.0/33"',
        ),
        (
            '[bootfw]\ndeny = ["10.0.0.7/8"]',
            'bootfw.deny[0]: "10.0.0.7/8" has bits behind its prefix: write "10.0.0.0/8"',
        ),
        (
            '[bootfw]\nexcept-interfaces = ["a b"]',
            'bootfw.except-interfaces[0]: "a b" can\'t be the name of an interface',
        ),
        ('[tftp]\nwritable-by = ["10.0.0.1"]', "tftp.writable-by: no client may upload without writable = true"),
        ('[tftp]\nwritable = "yes"', 'tftp.writable: must be true or false, not "yes"'),
        ('[tftp]\nmax-blksize = "1468"', 'tftp.max-blksize: must be an integer, not "1468"'),
        ("[tftp]\nmax-blksize = true", "tftp.max-blksize: must be an integer, not true"),
        ("[tftp]\nlisten = [69]", "tftp.listen[0]: must be a string, not 69"),
        (
            '[dhcp]\nanswer-within-seconds = "1"',
            'dhcp.answer-within-seconds: must be a time, such as "90 s", "200 ms" or 90 (seconds), not "1"',
        ),
        # values
        (
            '[dhcp]\nanswer-within-seconds = "61 s"',
            "dhcp.answer-within-seconds: must be from 0.05 to 60 seconds, not 61.0",
        ),
        (
            '[tftp]\ncache-size = "2 TB"',
            "tftp.cache-size: must be from 0 to 1099511627776 bytes (1 TiB), not 2000000000000",
        ),
        (
            '[tftp]\ncache-size = "256 mib"',
            'tftp.cache-size: must be a size, such as "256 MiB" or 268435456 (bytes), not "256 mib"',
        ),
        ("[tftp]\ncache-octets = 1", 'tftp.cache-octets: is called "cache-size" now'),
        ("[tftp]\nmax-blksize = 7", "tftp.max-blksize: must be from 8 to 65464 bytes (RFC 2348), not 7"),
        ("[tftp]\nmax-blksize = 65465", "tftp.max-blksize: must be from 8 to 65464 bytes (RFC 2348), not 65465"),
        ("[tftp]\nmax-windowsize = 0", "tftp.max-windowsize: must be from 1 to 65535 blocks (RFC 7440), not 0"),
        (
            '[tftp]\nmulticast-groups = "10.0.0.1-10.0.0.9"',
            'tftp.multicast-groups: "10.0.0.1" is no multicast address; those for use inside a site begin with "239."',
        ),
        (
            '[tftp]\nmulticast-groups = "239.1.2.9-239.1.2.3"',
            'tftp.multicast-groups: is reversed: write "239.1.2.3-239.1.2.9"',
        ),
        (
            '[bootfw]\nworkers = 2\n[tftp]\nmulticast-groups = "239.255.77.1"',
            "bootfw.workers: must be 1 or left out with tftp.multicast-groups, not 2: one process sends to a group",
        ),
        (
            '[tftp]\nports = "30000-"',
            'tftp.ports: must be "single", "ephemeral" or a range such as "30000-30999", not "30000-"',
        ),
        ('[tftp]\nports = "30999-30000"', 'tftp.ports: is reversed: write "30000-30999"'),
        (
            '[tftp]\nlisten = ["::69"]',
            'tftp.listen[0]: must be an address and a port, such as "0.0.0.0:69" or "[::]:69", not "::69"',
        ),
        (
            '[tftp]\nlisten = ["fd77::1:69"]',
            'tftp.listen[0]: must be an address and a port, such as "0.0.0.0:69" or "[::]:69", not "fd77::1:69"',
        ),
        (
            '[tftp]\nlisten = ["[10.0.0.1]:69"]',
            'tftp.listen[0]: must be an address and a port, such as "0.0.0.0:69" or "[::]:69", not "[10.0.0.1]:69"',
        ),
        (
            '[tftp]\nlisten = ["boot.example.com:69"]',
            'tftp.listen[0]: must be an address and a port, such as "0.0.0.0:69" or "[::]:69", '
            'not "boot.example.com:69"',
        ),
        ('[tftp]\nlisten = ["0.0.0.0:69", "0.0.0.0:69"]', "tftp.listen[1]: 0.0.0.0 port 69 is given twice"),
        (
            '[http]\nlisten = ["*:80"]',
            'http.listen[0]: must be an address and a port, such as "0.0.0.0:69" or "[::]:69", not "*:80"',
        ),
        ('[bootfw]\ninterfaces = ["eth 0"]', 'bootfw.interfaces[0]: "eth 0" can\'t be the name of an interface'),
        ('[dhcp]\nmode = "on"', 'dhcp.mode: must be "off", "proxy" or "server", not "on"'),
        ("[dhcp]\nports = { server = 0 }", "dhcp.ports.server: must be from 1 to 65535 (a UDP port), not 0"),
        (
            "[dhcp]\nanswer-within-seconds = nan",
            'dhcp.answer-within-seconds: must be a time, such as "90 s", "200 ms" or 90 (seconds), not nan',
        ),
        # addresses
        ('[dhcp]\nmode = "serve"', 'dhcp.mode: must be "off", "proxy" or "server", not "serve"'),
        ('[dhcp]\nmode = "server"', 'dhcp.mode: "server" needs a [[dhcp.subnet]] to give addresses of'),
        (
            '[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"',
            'dhcp.subnet: no addresses are given with mode = "proxy"; that needs "server"',
        ),
        ("[dhcp.subnet]", "dhcp.subnet: must be a list of tables, not a table"),
        ('[dhcp]\nmode = "server"\nsubnet = [3]', "dhcp.subnet[0]: must be a table of values, not 3"),
        ('[dhcp]\nmode = "server"\n[[dhcp.subnet]]', 'dhcp.subnet[0]: "network" is missing'),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.9/24"',
            'dhcp.subnet[0].network: must be a network, such as "10.77.0.0/24": 10.77.0.9/24 has host bits set',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n'
            'pool = ["10.77.0.5", "10.77.0.9-10.77.0.8"]',
            'dhcp.subnet[0].pool[1]: is reversed: write "10.77.0.8-10.77.0.9"',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\nexclude = ["10.77.0.5", "10.78.0.1"]',
            "dhcp.subnet[0].exclude[1]: is not inside 10.77.0.0/24",
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\ndns = ["10.77.0.1", "dns"]',
            'dhcp.subnet[0].dns[1]: must be an IPv4 address, such as "10.77.0.10", not "dns"',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\nrouter = 3',
            "dhcp.subnet[0].router: must be a string or a list of strings, not 3",
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\nlease-seconds = 5',
            "dhcp.subnet[0].lease-seconds: must be from 60 to 31536000 seconds, not 5",
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\noptions = {ntp-server = "10.77.0.1"}',
            'dhcp.subnet[0].options.ntp-server: unknown option; did you mean "ntp-servers"?; others go by number',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n[[dhcp.subnet.host]]\nhostname = "x"',
            "dhcp.subnet[0].host[0]: needs at least one of mac, client-id, uuid, circuit-id",
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n[[dhcp.subnet.host]]\nuuid = "x"',
            'dhcp.subnet[0].host[0].uuid: must be a UUID, such as dmidecode shows, not "x"',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n'
            '[[dhcp.subnet.host]]\nadress = "10.77.0.5"',
            "dhcp.subnet[0].host[0].adress: unknown key; known: address, mac, client-id, uuid, circuit-id, hostname, "
            'other-macs, lease-seconds, options; did you mean "address"?',
        ),
        (
            '[dhcp]\nmode = "server"\n[[dhcp.subnet]]\nnetwork = "10.77.0.0/24"\n'
            '[[dhcp.subnet.host]]\nmac = "52:54:00:12:34:56"\naddress = "10.78.0.5"',
            "dhcp.subnet[0].host[0].address: 10.78.0.5 is not inside 10.77.0.0/24",
        ),
        ("[[dhcp.class]]\noptions = {}", "dhcp.class[0]: needs at least one of vendor-class, user-class, mac, known"),
        (
            '[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\noptions = {sntp-servers = "10.77.0.1"}',
            'dhcp6.subnet[0].options.sntp-servers: must be an IPv6 address, such as "fd77::1", not "10.77.0.1"',
        ),
        (
            '[[dhcp6.class]]\nuser-class = "iPXE"\noptions = {"65000" = 7}',
            "dhcp6.class[0].options.65000: must say its type, such as {uint16 = 7}; types: address, addresses, text, "
            "boolean, uint8, uint16, uint16s, uint32, int32, bytes, domains, domain, strings",
        ),
        (
            '[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\noptions.vendor-opts.9.1 = "x"',
            "dhcp6.subnet[0].options.vendor-opts.9.1: must say its type, such as {uint16 = 7}; types: address, "
            "addresses, text, boolean, uint8, uint16, uint16s, uint32, int32, bytes, domains, domain, strings",
        ),
        ('[dhcp]\nidentify-by = "mac"', 'dhcp.identify-by: must be "hardware" or "client-id", not "mac"'),
        # plugin tables
        ('[backend]\nuse = "directory"', "backend: must be a list of tables: write [[backend]]"),
        ('[[watchdog]]\nuse = "hpa"', "watchdog: there is only one: write [watchdog]"),
        ('[[resolver]]\nuse = "static"\n[[resolver]]', 'resolver[1]: "use" is missing: it names the plugin'),
        ('[[store]]\nuse = "memory"', "store: there is only one: write [store]"),
        ('[leases]\nuse = "memory"', 'leases: is called "store" now'),
        ("[watchdog]\nuse = 1", "watchdog.use: must be a string, not 1"),
        ("backend = [1]", "backend[0]: must be a table, not 1"),
    ],
)
def test_error_has_the_path_and_a_valid_value(error_lines: Any, text: str, message: str) -> None:
    assert error_lines(text) == [f"bootfw.toml: {message}"]


def test_all_mistakes_are_reported_at_once(error_lines: Any) -> None:
    assert error_lines('[tftp]\nwritable = 1\nports = ""\n[dhcp]\nmode = 1\n[[backend]]\n[watchdog]\n[x]') == [
        f"bootfw.toml: x: unknown key; known: {SECTIONS}",
        'bootfw.toml: tftp.ports: must be "single", "ephemeral" or a range such as "30000-30999", not ""',
        "bootfw.toml: tftp.writable: must be true or false, not 1",
        "bootfw.toml: dhcp.mode: must be a string, not 1",
        'bootfw.toml: backend[0]: "use" is missing: it names the plugin',
        'bootfw.toml: watchdog: "use" is missing: it names the plugin',
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[tftp]\nlisten = = 1", "bootfw.toml:2:10: Invalid value"),
        ("[tftp\n", "bootfw.toml:1:6: Expected ']' at the end of a table declaration"),
        ("[tftp]\nlisten = [", "bootfw.toml:2:11: Invalid value"),
        ("a = 1\na = 2", "bootfw.toml:2:6: Cannot overwrite a value"),
    ],
)
def test_broken_toml_is_reported_with_line_and_column(error_lines: Any, text: str, line: str) -> None:
    assert error_lines(text) == [line]


def test_file_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# one\n# \xfc\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config(tmp_path / "latin.toml", {})
    assert caught.value.lines == (f"{tmp_path}/latin.toml:2: must be UTF-8, as TOML is",)


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_bytes(b'\xef\xbb\xbf[dhcp]\r\nmode = "off"\r\n')
    assert load_config(path, {}).settings.dhcp.mode == "off"
    path.write_bytes(b'\xef\xbb\xbf[dhcp]\nmode = = "off"\n')
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, {})
    assert caught.value.lines == (f"{path}:2:8: Invalid value",)
    path.write_bytes('[dhcp]\nmode = "off"\n'.encode("utf-16"))
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, {})
    assert caught.value.lines == (f"{path}:1: must be UTF-8, as TOML is",)


def test_unreadable_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_config(tmp_path / "missing.toml", {})
    assert caught.value.lines == (f"{tmp_path}/missing.toml: can't be read: No such file or directory",)
    with pytest.raises(ConfigErrors) as caught:
        load_config(tmp_path, {})
    assert caught.value.lines == (f"{tmp_path}: can't be read: Is a directory",)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_listen_address_is_read(address: Any, port: int) -> None:
    text = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    assert listen_address(text) == (str(address), port)


def test_a_listen_address_may_have_a_scope() -> None:
    assert listen_address("[fe80::1%eth0]:69") == ("fe80::1%eth0", 69)


@given(st.text())
def test_any_text_is_a_listen_address_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        host, port = listen_address(text)
        assert 0 <= port <= 65535
        assert host


WORDS = (
    "bootfw tftp dhcp http backend resolver watchdog store observer use "
    "listen ports server mode interfaces state-dir subnet class network pool router host mac options x"
)

document = st.recursive(
    st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(WORDS.split()),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(letter):08x}" for letter in value) + '"'
    return str(value).lower()


@given(document.filter(lambda value: isinstance(value, dict)))
def test_any_document_is_read_or_refused_by_lines(tmp_path_factory: Any, value: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text("\n".join(f"{key} = {_toml(item)}" for key, item in value.items()))
    assert all(line.startswith(f"{path}: ") for line in errors_of(path, {}))


SERVER = """\
[dhcp]
mode = "server"
authoritative = true

[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.200", "10.77.0.240/29"]
exclude = ["10.77.0.150"]
router = "10.77.0.1"
dns = ["10.77.0.1", "10.77.0.2"]
domain = "lab.example"
lease-seconds = 7200
options = {ntp-servers = ["10.77.0.3"], "224" = {uint16 = 7}}

[[dhcp.subnet.host]]
address = "10.77.0.10"
mac = "52-54-00-12-34-56"
hostname = "node1"
options = {interface-mtu = 1400}

[[dhcp.class]]
vendor-class = "Cisco AP"
options = {vendor-specific = "0xf1040a4d0001"}
"""


def test_subnets_hosts_and_classes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "server.toml"
    path.write_text(SERVER)

    dhcp = load_config(path, {}).settings.dhcp

    assert (dhcp.mode, dhcp.authoritative) == ("server", True)
    (subnet,) = dhcp.subnets
    assert subnet.assignable == ((172818532, 172818581), (172818583, 172818632), (172818672, 172818679))
    assert (subnet.lease_seconds, subnet.firmware_lease_seconds) == (7200, 600)
    assert subnet.reply_options[224] == b"\0\7"
    (host,) = subnet.hosts
    assert (host.address, host.mac, host.hostname) == ("10.77.0.10", "52:54:00:12:34:56", "node1")
    assert host.options == {26: b"\5\x78"}
    assert dhcp.classes[0].options == {43: bytes.fromhex("f1040a4d0001")}


SERVER6 = """\
[dhcp6]
mode = "server"

[[dhcp6.subnet]]
network = "fd77::/64"
dns = "fd77::1"
options = {sntp-servers = ["fd77::3"], "65000" = {uint16 = 7}}

[[dhcp6.subnet.host]]
mac = "52-54-00-12-34-56"
options = {bootfile-param = ["quiet"]}

[[dhcp6.class]]
vendor-class = "PXEClient"
options = {sol-max-rt = 60}
"""


def test_options_of_dhcp6_are_read(tmp_path: Path) -> None:
    path = tmp_path / "server6.toml"
    path.write_text(SERVER6)

    dhcp6 = load_config(path, {}).settings.dhcp6

    (subnet,) = dhcp6.subnets
    assert subnet.reply_options == {
        code: bytes.fromhex("fd77" + "00" * 13 + end) for code, end in ((23, "01"), (31, "03"))
    } | {65000: b"\0\7"}
    assert (subnet.hosts[0].address, subnet.hosts[0].options) == ("", {60: b"\0\5quiet"})
    assert dhcp6.classes[0].options == {82: bytes((0, 0, 0, 60))}


def test_a_subnet_can_come_from_the_environment() -> None:
    environ = {"BOOTFW_DHCP_MODE": "server", "BOOTFW_DHCP_SUBNET": '[{network = "10.77.0.0/24", router = "10.77.0.1"}]'}

    (subnet,) = load_config(None, environ).settings.dhcp.subnets

    assert subnet.router == ("10.77.0.1",)


def errors_of(path: Path, environ: dict[str, str]) -> Sequence[str]:
    try:
        load_config(path, environ)
    except ConfigErrors as errors:
        return errors.lines or ["an error without a line"]
    return []


@pytest.mark.parametrize(
    ("http", "lines"),
    [
        (
            "",
            [
                'resolver[0].files.ipxe: {http} needs [http] listen = ["0.0.0.0:8069"] or the like',
                'resolver[1].clients[0].file: {https} needs [http] https-listen = ["0.0.0.0:8443"] or the like',
            ],
        ),
        (
            '[http]\nlisten = ["0.0.0.0:80"]',
            ['resolver[1].clients[0].file: {https} needs [http] https-listen = ["0.0.0.0:8443"] or the like'],
        ),
    ],
)
def test_http_placeholder_without_http_is_an_error(tmp_path: Path, http: str, lines: list[str]) -> None:
    (tmp_path / "bootfw.toml").write_text(
        f"""{http}
        [[resolver]]
        use = "by-architecture"
        [resolver.files]
        "ipxe" = "{{http}}/boot.ipxe"
        "x86_64-uefi" = "http://${{http}}/x"
        [[resolver]]
        use = "by-client"
        [[resolver.clients]]
        mac = "52:54:00:12:34:56"
        file = "{{https}}/boot.ipxe"
        """
    )
    with pytest.raises(ConfigErrors) as caught:
        assemble(load_config(tmp_path / "bootfw.toml", {}), None)
    assert caught.value.lines == tuple(f"{tmp_path}/bootfw.toml: {line}" for line in lines)


def test_every_listen_address_may_be_optional() -> None:
    pytest.importorskip("prometheus_client", reason="needs the extra metrics")
    names = ("10.0.0.1", "10.0.0.2", "10.0.0.3", "fe80::1%eth7", "eth7")
    settings = Settings(
        optional=names,
        tftp=TFTPSettings(listen=["10.0.0.1:69"]),
        http=HTTPSettings(listen=["10.0.0.2:80"]),
        web=WebSettings(listen=["10.0.0.3:8067"]),
        metrics=MetricsSettings(listen=["[fe80::1%eth7]:9150"]),
    )
    assert settings.optional == names


OPTIONAL = """
[bootfw]
optional = ["10.0.0.1", "eth7", "10.77.0.0/24"]
[tftp]
listen = ["10.0.0.1:69"]
[web]
listen = ["[fe80::1%eth7]:8067"]
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100"]
"""


def test_addresses_and_interfaces_of_other_sections_may_be_optional(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text(OPTIONAL)
    assert load_config(path, {}).settings.optional == ("10.0.0.1", "eth7", "10.77.0.0/24")
    path.write_text(OPTIONAL.replace('["10.0.0.1", "eth7"', '["10.0.0.2", "eth7"'))
    with pytest.raises(ConfigErrors, match=r'"10\.0\.0\.2" is not in the configuration; .* are: 10\.0\.0\.1, '):
        load_config(path, {})
    path.write_text(OPTIONAL.replace(":69", ":x"))
    with pytest.raises(ConfigErrors) as error_lines:
        load_config(path, {})
    assert len(error_lines.value.lines) == 1, "errors that follow from another one are left out"
