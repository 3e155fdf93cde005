"""The configuration from the environment."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.config.configuration import ConfigErrors, PluginChoice, load_config
from bootfw.config.environment import apply, variables
from bootfw.config.settings import Settings


def plugins(kind: str, **environ: str) -> tuple[PluginChoice, ...]:
    return load_config(None, environ).plugins[kind]


def settings(**environ: str) -> Settings:
    return load_config(None, environ).settings


def error_lines(**environ: str) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        load_config(None, environ)
    return list(caught.value.lines)


def test_every_key_of_the_settings_has_a_variable() -> None:
    assert list(variables()) == [
        "BOOTFW_INTERFACES",
        "BOOTFW_EXCEPT_INTERFACES",
        "BOOTFW_ALLOW",
        "BOOTFW_DENY",
        "BOOTFW_REQUESTS_PER_SECOND",
        "BOOTFW_OPTIONAL",
        "BOOTFW_STATE_DIR",
        "BOOTFW_USER",
        "BOOTFW_WORKERS",
        "BOOTFW_TFTP_LISTEN",
        "BOOTFW_TFTP_PORTS",
        "BOOTFW_TFTP_WRITABLE",
        "BOOTFW_TFTP_MAX_BLKSIZE",
        "BOOTFW_TFTP_MAX_WINDOWSIZE",
        "BOOTFW_TFTP_CACHE_SIZE",
        "BOOTFW_TFTP_WRITABLE_BY",
        "BOOTFW_TFTP_MULTICAST_GROUPS",
        "BOOTFW_TFTP_MULTICAST_TTL",
        "BOOTFW_DHCP_MODE",
        "BOOTFW_DHCP_PORTS_SERVER",
        "BOOTFW_DHCP_PORTS_CLIENT",
        "BOOTFW_DHCP_PORTS_BOOT_SERVER",
        "BOOTFW_DHCP_ANSWER_WITHIN_SECONDS",
        "BOOTFW_DHCP_AUTHORITATIVE",
        "BOOTFW_DHCP_IDENTIFY_BY",
        "BOOTFW_DHCP_FOREIGN_NETWORKS",
        "BOOTFW_DHCP_IGNORE",
        "BOOTFW_DHCP_PROBE_SECONDS",
        "BOOTFW_DHCP_NEW_CLIENTS_PER_SECOND",
        "BOOTFW_DHCP_STORE_OUTAGE_SECONDS",
        "BOOTFW_DHCP_SUBNET",
        "BOOTFW_DHCP_CLASS",
        "BOOTFW_DHCP6_MODE",
        "BOOTFW_DHCP6_PORTS_SERVER",
        "BOOTFW_DHCP6_PORTS_CLIENT",
        "BOOTFW_DHCP6_PORTS_BOOT_SERVER",
        "BOOTFW_DHCP6_IGNORE",
        "BOOTFW_DHCP6_NEW_CLIENTS_PER_SECOND",
        "BOOTFW_DHCP6_FOREIGN_NETWORKS",
        "BOOTFW_DHCP6_SUBNET",
        "BOOTFW_DHCP6_CLASS",
        "BOOTFW_HTTP_LISTEN",
        "BOOTFW_HTTP_HTTPS_LISTEN",
        "BOOTFW_HTTP_CERTIFICATE",
        "BOOTFW_HTTP_KEY",
        "BOOTFW_MULTICAST_LISTEN",
        "BOOTFW_MULTICAST_GROUPS",
        "BOOTFW_MULTICAST_PORTS",
        "BOOTFW_MULTICAST_METHODS",
        "BOOTFW_MULTICAST_RATE",
        "BOOTFW_MULTICAST_TOTAL_RATE",
        "BOOTFW_MULTICAST_SESSIONS",
        "BOOTFW_MULTICAST_IDLE_SECONDS",
        "BOOTFW_MULTICAST_TTL",
        "BOOTFW_MULTICAST_IMAGE",
        "BOOTFW_MULTICAST_WRITABLE",
        "BOOTFW_MULTICAST_WRITABLE_BY",
        "BOOTFW_MULTICAST_MAX_UPLOAD",
        "BOOTFW_MULTICAST_UPLOAD_SECONDS",
        "BOOTFW_LOG_FORMAT",
        "BOOTFW_LOG_LEVEL",
        "BOOTFW_METRICS_LISTEN",
        "BOOTFW_WEB_LISTEN",
        "BOOTFW_WEB_HOSTS",
        "BOOTFW_WEB_TOKEN",
        "BOOTFW_WEB_API_TOKEN",
        "BOOTFW_BOOTS_KEEP",
        "BOOTFW_BOOTS_DAYS",
        "BOOTFW_BOOTS_QUIET_SECONDS",
        "BOOTFW_BOOTS_SILENT_SECONDS",
    ]


def test_scalars_are_read() -> None:
    loaded = settings(
        BOOTFW_TFTP_MAX_BLKSIZE="1400",
        BOOTFW_TFTP_WRITABLE="true",
        BOOTFW_TFTP_PORTS="30000-30999",
        BOOTFW_DHCP_MODE='"off"',
        BOOTFW_DHCP_PORTS_BOOT_SERVER="14011",
        BOOTFW_DHCP_ANSWER_WITHIN_SECONDS="1.5",
        BOOTFW_STATE_DIR="/var/lib/bootfw",
    )
    assert (loaded.tftp.max_blksize, loaded.tftp.writable, loaded.tftp.ports) == (1400, True, (30000, 30999))
    assert (loaded.dhcp.mode, loaded.dhcp.boot_server_port, loaded.dhcp.answer_within_seconds) == ("off", 14011, 1.5)
    assert loaded.state_dir == "/var/lib/bootfw"


def test_numeric_text_stays_a_string_for_string_keys() -> None:
    assert settings(BOOTFW_STATE_DIR="2026").state_dir.endswith("/2026")


@pytest.mark.parametrize("value", ["eth0,br-boot", "eth0, br-boot", '["eth0", "br-boot"]'])
def test_lists_with_commas_or_as_toml(value: str) -> None:
    assert settings(BOOTFW_INTERFACES=value).interfaces == ("eth0", "br-boot")


def test_bracketed_ipv6_address_is_not_parsed_as_a_list() -> None:
    assert settings(BOOTFW_TFTP_LISTEN="[::]:1069").tftp.listen == (("::", 1069),)
    assert settings(BOOTFW_TFTP_LISTEN="[::]:1069,10.0.0.1:69").tftp.listen == (("::", 1069), ("10.0.0.1", 69))


def test_an_empty_value_is_an_empty_list() -> None:
    assert settings(BOOTFW_TFTP_LISTEN="").tftp.listen == ()


def test_plugins_are_counted_from_0() -> None:
    assert plugins(
        "backend",
        BOOTFW_BACKEND_0_USE="directory",
        BOOTFW_BACKEND_0_ROOT="/srv/boot",
        BOOTFW_BACKEND_0_IGNORE_CASE="true",
        BOOTFW_BACKEND_1_USE="distribution",
    ) == (
        PluginChoice("directory", {"root": "/srv/boot", "ignore-case": True}, ("backend", 0)),
        PluginChoice("distribution", {}, ("backend", 1)),
    )


def test_more_than_ten_plugins_are_in_order() -> None:
    environ = {f"BOOTFW_RESOLVER_{index}_USE": f"r{index}" for index in range(12)}
    assert [choice.use for choice in plugins("resolver", **environ)] == [f"r{index}" for index in range(12)]


def test_tables_are_inline_toml() -> None:
    assert plugins(
        "resolver",
        BOOTFW_RESOLVER_0_USE="by-architecture",
        BOOTFW_RESOLVER_0_FILES='{"x86_64-uefi" = "snponly.efi"}',
    )[0].options == {"files": {"x86_64-uefi": "snponly.efi"}}


def test_the_watchdog_has_no_number() -> None:
    assert plugins("watchdog", BOOTFW_WATCHDOG_USE="fixed", BOOTFW_WATCHDOG_SECONDS="[1, 3, 7]") == (
        PluginChoice("fixed", {"seconds": [1, 3, 7]}, ("watchdog",)),
    )


FILE = """
[tftp]
max-blksize = 512
max-windowsize = 4
[[backend]]
use = "directory"
root = "a"
[[backend]]
use = "directory"
root = "b"
"""


def test_the_environment_wins_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(FILE)
    configuration = load_config(
        tmp_path / "bootfw.toml", {"BOOTFW_TFTP_MAX_BLKSIZE": "1400", "BOOTFW_BACKEND_1_ROOT": "c"}
    )
    assert (configuration.settings.tftp.max_blksize, configuration.settings.tftp.max_windowsize) == (1400, 4)
    assert [choice.options["root"] for choice in configuration.plugins["backend"]] == ["a", "c"]


def test_errors_name_the_variable_or_the_file(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text("[tftp]\nmax-blksize = 1\nmax-windowsize = 0")
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, {"BOOTFW_TFTP_MAX_BLKSIZE": "2"})
    assert caught.value.lines == (
        "BOOTFW_TFTP_MAX_BLKSIZE: must be from 8 to 65464 bytes (RFC 2348), not 2",
        f"{path}: tftp.max-windowsize: must be from 1 to 65535 blocks (RFC 7440), not 0",
    )


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        (
            {"BOOTFW_TFTP_MAX_BLOCKSIZE": "1"},
            'BOOTFW_TFTP_MAX_BLOCKSIZE: unknown variable; did you mean "BOOTFW_TFTP_MAX_BLKSIZE"?',
        ),
        (
            {"BOOTFW_BOOTFW_INTERFACES": "a"},
            'BOOTFW_BOOTFW_INTERFACES: unknown variable; did you mean "BOOTFW_INTERFACES"?',
        ),
        (
            {"BOOTFW_BACKEND_USE": "memory"},
            'BOOTFW_BACKEND_USE: unknown variable; did you mean "BOOTFW_BACKEND_0_USE"?',
        ),
        ({"BOOTFW_QQQQ": "1"}, "BOOTFW_QQQQ: unknown variable"),
        (
            {"BOOTFW_BACKEND_1_USE": "memory"},
            "BOOTFW_BACKEND_1_USE: number 0 is missing before it; plugins are numbered from 0",
        ),
        ({"BOOTFW_TFTP_WRITABLE": "yes"}, 'BOOTFW_TFTP_WRITABLE: must be true or false, not "yes"'),
        ({"BOOTFW_TFTP_LISTEN": "[1, 2]"}, None),
        ({"BOOTFW_BACKEND_0_ROOT": "a"}, 'backend[0]: "use" is missing: it names the plugin'),
        ({"BOOTFW_WATCHDOG_USE": "1"}, "BOOTFW_WATCHDOG_USE: must be a string, not 1"),
    ],
)
def test_wrong_variables_are_errors(environ: dict[str, str], line: str | None) -> None:
    if line is None:
        assert error_lines(**environ) == [
            "BOOTFW_TFTP_LISTEN[0]: must be a string, not 1",
            "BOOTFW_TFTP_LISTEN[1]: must be a string, not 2",
        ]
    else:
        assert error_lines(**environ) == [line]


def test_variable_below_a_value_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "bootfw.toml"
    path.write_text("tftp = 1\nbackend = 2\nresolver = [3]")
    with pytest.raises(ConfigErrors) as caught:
        load_config(path, dict.fromkeys(["BOOTFW_TFTP_PORTS", "BOOTFW_BACKEND_0_USE", "BOOTFW_RESOLVER_0_USE"], "a"))
    assert caught.value.lines == (
        f"{path}: tftp: must be a table, not 1",
        f"{path}: backend: must be a list of tables: write [[backend]]",
        f"{path}: resolver[0]: must be a table, not 3",
    )


@given(st.dictionaries(st.sampled_from([*variables(), "BOOTFW_BACKEND_0_USE", "BOOTFW_WATCHDOG_USE"]), st.text()))
def test_any_value_is_read_or_refused_by_name(environ: dict[str, str]) -> None:
    lines: tuple[str, ...] = ()
    try:
        load_config(None, environ)
    except ConfigErrors as errors:
        lines = errors.lines
    assert {line.split(":")[0].split("[")[0] for line in lines} <= set(environ)


def service(name: str, address: str = "10.96.0.7", host: str = "10.96.0.7") -> dict[str, str]:
    """The variables that Kubernetes sets for a service with the ports 69/UDP, named "tftp", and 80/TCP."""
    return {
        f"{name}_SERVICE_HOST": host,
        f"{name}_SERVICE_PORT": "69",
        f"{name}_SERVICE_PORT_TFTP": "69",
        f"{name}_PORT": f"udp://{address}:69",
        f"{name}_PORT_69_UDP": f"udp://{address}:69",
        f"{name}_PORT_69_UDP_PROTO": "udp",
        f"{name}_PORT_69_UDP_PORT": "69",
        f"{name}_PORT_69_UDP_ADDR": host,
        f"{name}_PORT_80_TCP": f"tcp://{address}:80",
        f"{name}_PORT_80_TCP_PROTO": "tcp",
        f"{name}_PORT_80_TCP_PORT": "80",
        f"{name}_PORT_80_TCP_ADDR": host,
    }


@pytest.mark.parametrize(
    "name",
    ["BOOTFW", "BOOTFW_TFTP", "BOOTFW_DHCP", "BOOTFW_HTTP", "BOOTFW_WATCHDOG", "BOOTFW_STORE", "BOOTFW_BACKEND_0"],
)
def test_variables_of_a_kubernetes_service_are_no_configuration(name: str) -> None:
    """Each container of a namespace gets them for each service, and a service may have any name."""
    assert load_config(None, service(name)) == load_config(None, {})
    assert load_config(None, service(name, "[fd00::7]", "fd00::7")) == load_config(None, {})
    loaded = load_config(None, {**service(name), "BOOTFW_TFTP_PORTS": "30000-30999"})
    assert loaded.settings.tftp.ports == (30000, 30999)


@pytest.mark.parametrize("name", service("BOOTFW"))
def test_each_variable_of_a_service_is_ignored_alone(name: str) -> None:
    assert load_config(None, {name: service("BOOTFW")[name]}) == load_config(None, {})


@pytest.mark.parametrize("value", ["69", "10.96.0.7", "udp", "udp://10.96.0.7:69"])
def test_variables_of_settings_are_not_taken_for_service_links(value: str) -> None:
    for name in variables():
        origins, errors = apply({name: value}, {})
        assert origins or errors


def test_variables_of_a_docker_link_are_no_configuration() -> None:
    link = {"BOOTFW_NAME": "/web/bootfw", "BOOTFW_PORT": "tcp://172.17.0.2:80", "BOOTFW_ENV_PATH": "/bin"}
    assert load_config(None, link) == load_config(None, {})
    assert error_lines(BOOTFW_NAME="/web/bootfw")[0].startswith("BOOTFW_NAME: unknown variable")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("BOOTFW_PORT", "69"),
        ("BOOTFW_TFTP_PORT", "69"),
        ("BOOTFW_SERVICE_HOST", "boot"),
        ("BOOTFW_SERVICE_PORT", "tftp"),
        ("BOOTFW_PORT_69_UDP_PROTO", "icmp"),
        ("BOOTFW_PORTS", "udp://10.96.0.7:69"),
    ],
)
def test_similar_variables_are_still_errors(name: str, value: str) -> None:
    [line] = error_lines(**{name: value})
    assert line.startswith(f"{name}: unknown variable")


def test_an_option_of_a_plugin_may_have_the_name_of_a_service_variable() -> None:
    (choice,) = plugins(
        "backend",
        BOOTFW_BACKEND_0_USE="x",
        BOOTFW_BACKEND_0_PORT="8080",
        BOOTFW_BACKEND_0_SERVICE_HOST="10.96.0.7",
        BOOTFW_BACKEND_0_SERVICE_PORT="80",
    )
    assert choice.options == {"port": 8080, "service-host": "10.96.0.7", "service-port": 80}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BOOTFW_TFTP_CACHE_OCTETS", "BOOTFW_TFTP_CACHE_SIZE"),
    ],
)
def test_an_old_variable_is_an_error_that_names_the_new_one(old: str, new: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        load_config(None, {old: "1"})
    assert caught.value.lines == (f'{old}: is called "{new}" now',)


def test_sizes_and_times_may_have_units() -> None:
    settings = load_config(None, {"BOOTFW_TFTP_CACHE_SIZE": "64 MiB", "BOOTFW_DHCP_PROBE_SECONDS": "150 ms"}).settings
    assert (settings.tftp.cache_size, settings.dhcp.probe_seconds) == (64 << 20, 0.15)
