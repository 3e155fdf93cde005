"""The built-in resolvers, with options as in the configuration file."""

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock

from bootfw.errors import ConfigError
from bootfw.interfaces import IBootFileResolver
from bootfw.plugins import PluginContext, configure, load
from bootfw.values import BootFile, BootMenu, BootMenuItem, BootRequest
from bootfw.wire.iana import ARCHITECTURES

CONTEXT = PluginContext(Clock(), Path("/etc/bootfw"))


def configured(name: str, **options: Any) -> IBootFileResolver:
    resolver: IBootFileResolver = configure(
        load(name, "bootfw.resolvers"), {key.replace("_", "-"): value for key, value in options.items()}, CONTEXT
    )
    return resolver


def config_error(name: str, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        configured(name, **options)
    return str(caught.value)


def boot_request(architecture: str = "x86-bios", **fields: Any) -> BootRequest:
    fields = {"mac": "52:54:00:12:34:56", "phase": "discover", "persona": "uefi", "server": "10.0.0.1"} | fields
    return BootRequest(architecture=architecture, **fields)


@pytest.mark.parametrize("name", ["static", "by-architecture", "by-client", "pxe-menu"])
def test_plugin_describes_itself(name: str) -> None:
    plugin = load(name, "bootfw.resolvers")

    assert plugin.provides is IBootFileResolver
    assert plugin.summary.endswith(".")


# static


def test_static_gives_everybody_the_same() -> None:
    assert configured("static", file="pxelinux.0").resolve(boot_request()) == BootFile("pxelinux.0")
    assert configured("static", file="{mac}", server="10.0.0.7").resolve(boot_request()) == BootFile(
        "{mac}", "10.0.0.7"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, '"file" is missing'),
        ({"file": ""}, "file: must be a path"),
        ({"file": "a\0"}, "file: must be a path"),
        ({"file": "{ip}"}, "file: unknown placeholder {ip}"),
        ({"file": "x", "server": "boot.example"}, 'server: must be an IPv4 address, not "boot.example"'),
        ({"file": "x", "srever": "10.0.0.1"}, 'did you mean "server"'),
    ],
)
def test_invalid_static_options_are_errors(options: dict[str, str], message: str) -> None:
    assert message in config_error("static", **options)


# by-architecture

FILES = {
    "x86-bios": "pxelinux.0",
    "x86_64-uefi": "bootx64.efi",
    "arm64-uefi": "http://{server}/aa64.efi",
    "x86-uefi-http": "http://{server}/ia32.efi",
    "unknown": "undionly.kpxe",
    "arch-99": "new.efi",
}


@pytest.mark.parametrize(
    ("client", "file"),
    [
        (boot_request("x86-bios"), "pxelinux.0"),
        (boot_request("x86_64-uefi"), "bootx64.efi"),
        (boot_request("unknown"), "undionly.kpxe"),
        (boot_request("arch-99"), "new.efi"),
        (boot_request("x86-uefi"), None),
        (boot_request("riscv64-uefi"), None),
        # HTTP boot: the file for the name with -http, or else that for the name without it.
        (boot_request("x86-uefi-http", http=True), "http://{server}/ia32.efi"),
        (boot_request("x86-uefi", http=True), "http://{server}/ia32.efi"),
        (boot_request("arm64-uefi-http", http=True), "http://{server}/aa64.efi"),
        (boot_request("x86_64-uefi-http", http=True), "bootx64.efi"),
        (boot_request("riscv64-uefi-http", http=True), None),
        # PXE with a number that is meant for HTTP: the vendor class decides.
        (boot_request("x86_64-uefi-http"), "bootx64.efi"),
        # iPXE without a file of its own.
        (boot_request("x86-bios", ipxe=True), "pxelinux.0"),
    ],
    ids=str,
)
def test_by_architecture(client: BootRequest, file: str | None) -> None:
    assert configured("by-architecture", files=FILES).resolve(client) == (file and BootFile(file))


@pytest.mark.parametrize("architecture", ["x86-bios", "x86_64-uefi", "unknown", "arch-7777"])
def test_ipxe_gets_its_own_file_first(architecture: str) -> None:
    resolver = configured("by-architecture", files={**FILES, "ipxe": "boot.ipxe"}, server="10.0.0.7")

    assert resolver.resolve(boot_request(architecture, ipxe=True)) == BootFile("boot.ipxe", "10.0.0.7")
    assert resolver.resolve(boot_request("x86-bios")) == BootFile("pxelinux.0", "10.0.0.7")


@pytest.mark.parametrize("name", [*sorted(set(ARCHITECTURES.values())), "ipxe", "unknown", "arch-200"])
def test_every_architecture_can_be_named(name: str) -> None:
    configured("by-architecture", files={name: "x"})


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("bios", '"x86-bios"'),
        ("x86-64-uefi", '"x86_64-uefi"'),
        ("X86_64-UEFI", '"x86_64-uefi"'),
        ("x86_64-efi", '"x86_64-uefi"'),
        ("arm64", '"arm64-uefi"'),
        ("iPXE", '"ipxe"'),
        ("uefi", '"x86_64-uefi"'),
        ("arch-", '"arc-x86"'),
        ("zzz", '"x86_64-uefi"'),
    ],
)
def test_the_error_for_an_unknown_architecture_names_close_ones(wrong: str, right: str) -> None:
    message = config_error("by-architecture", files={wrong: "x"})

    assert message.startswith(f"files.{wrong}: no such architecture")
    assert right in message


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, '"files" is missing'),
        ({"files": "x"}, "files: must be a table of strings or tables"),
        ({"files": {"x86-bios": 5}}, "files.x86-bios: must be a string"),
        ({"files": {"x86-bios": ""}}, "files.x86-bios: must be a path"),
        ({"files": {"x86-bios": "{x}"}}, "files.x86-bios: unknown placeholder"),
        ({"files": {}, "server": "x"}, "server: must be an IPv4 address"),
    ],
)
def test_by_architecture_options(options: dict[str, dict[str, int | str] | str], message: str) -> None:
    assert message in config_error("by-architecture", **options)


# by-client

UUID = "52420077-1234-4abc-9def-0123456789ab"


@pytest.mark.parametrize(
    "spelling", ["52:54:00:ab:cd:ef", "52-54-00-AB-CD-EF", "525400abcdef", "5254.00AB.CDEF", "52:54:00:AB:cd:ef"]
)
def test_a_mac_may_be_spelled_in_every_usual_way(spelling: str) -> None:
    resolver = configured("by-client", clients=[{"mac": spelling, "file": "x"}])

    assert resolver.resolve(boot_request(mac="52:54:00:ab:cd:ef")) == BootFile("x")
    assert resolver.resolve(boot_request(mac="52:54:00:ab:cd:ee")) is None


@pytest.mark.parametrize("spelling", [UUID, UUID.upper(), UUID.replace("-", "")])
def test_condition_on_a_uuid(spelling: str) -> None:
    resolver = configured("by-client", clients=[{"uuid": spelling, "file": "x"}])

    assert resolver.resolve(boot_request(uuid=UUID)) == BootFile("x")
    assert resolver.resolve(boot_request(uuid=None)) is None


def test_by_client_matches_the_relay() -> None:
    resolver = configured("by-client", clients=[{"relay": "10.1.0.254", "file": "x", "server": "10.1.0.1"}])

    assert resolver.resolve(boot_request(relay_address="10.1.0.254")) == BootFile("x", "10.1.0.1")
    assert resolver.resolve(boot_request()) is None


@pytest.mark.parametrize(("written", "circuit_id"), [("ge-1/0/1", b"ge-1/0/1"), ("0x0004abCD", b"\0\4\xab\xcd")])
def test_by_client_matches_the_circuit_id(written: str, circuit_id: bytes) -> None:
    resolver = configured("by-client", clients=[{"circuit-id": written, "file": "x"}])

    assert resolver.resolve(boot_request(circuit_id=circuit_id)) == BootFile("x")
    assert resolver.resolve(boot_request(circuit_id=circuit_id + b"2")) is None
    assert resolver.resolve(boot_request()) is None


@pytest.mark.parametrize(
    ("link", "file"),
    [
        ("10.77.0.1", "here"),
        ("10.77.1.1", None),
        ("10.78.0.254", "there"),
        ("fd77::1", "by IPv6"),
        ("fe80::1%eth0", None),
        ("::", None),
        ("", None),
    ],
)
def test_by_client_matches_the_network(link: str, file: str | None) -> None:
    files = {"10.77.0.0/24": "here", "10.78.0.0/16": "there", "fd77::/64": "by IPv6"}
    resolver = configured("by-client", clients=[{"network": network, "file": name} for network, name in files.items()])

    assert resolver.resolve(boot_request(link_address=link)) == (BootFile(file) if file else None)


def test_by_client_matches_the_architecture() -> None:
    resolver = configured("by-client", clients=[{"architecture": "arm64-uefi", "file": "x"}])
    assert resolver.resolve(boot_request("arm64-uefi")) == BootFile("x")
    assert resolver.resolve(boot_request("arm64-uefi-http")) is resolver.resolve(boot_request()) is None


def test_by_client_needs_all_conditions_and_uses_the_first_match() -> None:
    mac = "52:54:00:12:34:56"
    resolver = configured(
        "by-client",
        clients=[
            {"mac": mac, "uuid": UUID, "file": "both"},
            {"mac": mac, "relay": "10.1.0.254", "file": "behind the relay"},
            {"mac": mac, "file": "mac"},
            {"mac": mac, "file": "never"},
        ],
    )

    assert resolver.resolve(boot_request(uuid=UUID)) == BootFile("both")
    assert resolver.resolve(boot_request(relay_address="10.1.0.254")) == BootFile("behind the relay")
    assert resolver.resolve(boot_request()) == BootFile("mac")


def test_without_entries_no_client_matches() -> None:
    assert configured("by-client", clients=[]).resolve(boot_request()) is None


VALID_ENTRY = {"mac": "525400abcdef", "file": "x"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**VALID_ENTRY, "mac": "52:54:00"}, "clients[1].mac: must be a MAC address"),
        ({**VALID_ENTRY, "mac": "52:54-00:ab:cd:ef"}, "clients[1].mac: must be a MAC address"),
        ({**VALID_ENTRY, "mac": "525400abcdeg"}, "clients[1].mac: must be a MAC address"),
        ({**VALID_ENTRY, "uuid": "5"}, "clients[1].uuid: must be a UUID"),
        ({**VALID_ENTRY, "relay": "10.0.0.0/8"}, "clients[1].relay: must be an IPv4 address"),
        ({**VALID_ENTRY, "circuit-id": "0xabc"}, "clients[1].circuit-id: must be text"),
        ({**VALID_ENTRY, "circuit-id": ""}, "clients[1].circuit-id: must not be empty"),
        ({**VALID_ENTRY, "file": "{x}"}, "clients[1].file: unknown placeholder"),
        ({**VALID_ENTRY, "file": ""}, "clients[1].file: must be a path"),
        ({**VALID_ENTRY, "server": "x"}, "clients[1].server: must be an IPv4 address"),
        ({**VALID_ENTRY, "maca": "x"}, "clients[1].maca: unknown key"),
        ({**VALID_ENTRY, "mac": 5}, "clients[1].mac: must be a string"),
        ({"mac": "525400abcdef"}, 'clients[1]: "file" is missing'),
        ({**VALID_ENTRY, "network": "10.0.0.1/8"}, 'clients[1].network: must be a network, such as "10.77.0.0/24"'),
        ({"file": "x"}, "clients[1]: needs at least one of mac, uuid, network, relay, circuit-id"),
        (
            {**VALID_ENTRY, "architecture": "x86-64-uefi"},
            'clients[1].architecture: no such architecture; near to it: "x86_64',
        ),
        ("x", "clients[1]: must be a table"),
    ],
)
def test_by_client_options(entry: dict[str, str | int] | str, message: str) -> None:
    assert message in config_error("by-client", clients=[VALID_ENTRY, entry])


def test_by_client_selects_by_persona() -> None:
    resolver = configured("by-client", clients=[{"persona": "network-gear", "file": "switch.cfg"}])

    assert resolver.resolve(boot_request(persona="network-gear")) == BootFile("switch.cfg")
    assert resolver.resolve(boot_request()) is None


# PXELINUX (RFC 5071)

PXELINUX = {"configfile": "own.cfg", "pathprefix": "{http}/debian/", "reboot-seconds": 300}
PXELINUX_FILE = BootFile("pxelinux.0", configfile="own.cfg", pathprefix="{http}/debian/", reboot_seconds=300)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("static", {"file": "pxelinux.0", **PXELINUX}),
        ("by-client", {"clients": [{"mac": "52:54:00:12:34:56", "file": "pxelinux.0", **PXELINUX}]}),
        ("by-architecture", {"files": {"x86-bios": {"file": "pxelinux.0", **PXELINUX}}}),
    ],
)
def test_pxelinux_gets_more_options(
    name: str, options: dict[str, list[dict[str, str | int]] | dict[str, dict[str, str | int]] | str | int]
) -> None:
    assert configured(name, **options).resolve(boot_request()) == PXELINUX_FILE


def test_a_file_of_by_architecture_may_have_a_server_of_its_own() -> None:
    files = {"x86-bios": {"file": "a", "server": "10.0.0.8"}, "ipxe": {"file": "b"}}
    resolver = configured("by-architecture", files=files, server="10.0.0.7")

    assert resolver.resolve(boot_request()) == BootFile("a", "10.0.0.8")
    assert resolver.resolve(boot_request(ipxe=True)) == BootFile("b", "10.0.0.7")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"configfile": "x"}, '"file" is missing'),
        ({"file": "x", "configfile": "{nic}"}, ".configfile: unknown placeholder {nic}"),
        ({"file": "x", "pathprefix": 5}, ".pathprefix: must be a string"),
        ({"file": "x", "reboot-seconds": "5"}, ".reboot-seconds: must be an integer"),
        ({"file": "x", "reboot-seconds": -1}, ".reboot-seconds: must be 0 to 4294967295 seconds, not -1"),
        ({"file": "x", "reboot": 1}, ".reboot: unknown key; known: "),
    ],
)
def test_invalid_boot_file_tables_are_errors(table: dict[str, str | int], message: str) -> None:
    assert message in config_error("by-architecture", files={"x86-bios": table})
    assert message.removeprefix(".") in config_error("by-client", clients=[{"mac": "52:54:00:12:34:56", **table}])
    assert message.removeprefix(".") in config_error("pxe-menu", items=[{"description": "x", **table}])


# pxe-menu


def test_pxe_menu_has_its_items() -> None:
    items = [{"description": "Disk"}, {"description": "Linux", "file": "pxelinux.0", **PXELINUX}]
    resolver = configured("pxe-menu", items=items, prompt="F8", timeout_seconds=5)

    menu = BootMenu((BootMenuItem("Disk"), BootMenuItem("Linux", PXELINUX_FILE)), "F8", 5)
    assert resolver.resolve(boot_request()) == menu
    assert [item.type for item in menu.items] == [0, 0x8001]
    assert resolver.resolve(boot_request(http=True)) is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"items": []}, "a menu needs items"),
        ({"items": [{}]}, "items[0].description: must be a line of text"),
        ({"items": [{"description": "a\nb"}]}, "items[0].description: must be a line of text"),
        ({"items": [{"description": "a", "files": "x"}]}, "items[0].files: unknown key; known: description, file"),
        ({"items": [{"description": "a" * 250, "file": "x"}]}, "there is room for 255: use shorter texts"),
        ({"items": [{"description": "a"}], "timeout_seconds": 256}, "a menu waits 0 to 255 seconds, not 256"),
    ],
)
def test_invalid_menus_are_errors(options: dict[str, list[dict[str, str]] | int], message: str) -> None:
    assert message in config_error("pxe-menu", **options)
