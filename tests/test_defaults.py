"""The defaults of bootfw for what the configuration leaves out."""

import errno
import socket
from pathlib import Path
from typing import Any

import pytest
from twistd import free_port

from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.distribution import PROGRAMS, DistributionBackend
from bootfw.backends.memory import MemoryBackend
from bootfw.backends.menu import MenuBackend
from bootfw.backends.template import TemplateBackend
from bootfw.config import defaults
from bootfw.config.settings import DHCP6Settings, HTTPSettings, Settings
from bootfw.interfaces import IListableBackend
from bootfw.plugins import PluginContext, configure, load


@pytest.fixture
def debian(tmp_path: Path) -> DistributionBackend:
    """A backend with iPXE and pxelinux where Debian installs them."""
    for name in ("/usr/lib/ipxe/undionly.kpxe", "/usr/lib/ipxe/ipxe.efi", "/usr/lib/PXELINUX/pxelinux.0"):
        path = tmp_path / "debian" / name.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return DistributionBackend(tmp_path / "debian")


def files_for(*backends: Any) -> dict[str, str]:
    """The boot file of each architecture in the default configuration with these backends."""
    chosen = defaults.resolvers([("", backend) for backend in backends])
    return dict(chosen[-1][1]["files"]) if chosen else {}


SCRIPT = MemoryBackend({defaults.SCRIPT_NAME: defaults.SCRIPT})


def test_boot_programs_of_the_distribution_are_used(debian: DistributionBackend) -> None:
    assert files_for(debian, SCRIPT) == {
        "x86-bios": "undionly.kpxe",
        "x86_64-uefi": "ipxe.efi",
        "ipxe": "boot.ipxe",
    }


def test_files_of_the_operator_come_before_those_of_the_distribution(
    debian: DistributionBackend, tmp_path: Path
) -> None:
    for name in ("pxelinux.0", "bootx64.efi", "boot.ipxe"):
        (tmp_path / name).write_bytes(b"x")
    assert files_for(DirectoryBackend(tmp_path), debian, SCRIPT) == {
        "x86-bios": "pxelinux.0",
        "x86_64-uefi": "bootx64.efi",
        "ipxe": "boot.ipxe",
    }


def test_best_program_of_the_first_backend_is_used(tmp_path: Path) -> None:
    for name in ("pxelinux.0", "undionly.kpxe", "lpxelinux.0"):
        (tmp_path / name).write_bytes(b"x")
    assert files_for(DirectoryBackend(tmp_path)) == {"x86-bios": "undionly.kpxe"}


def test_ipxe_loads_its_script_by_http_first(debian: DistributionBackend) -> None:
    once, loops, by_http, by_tftp = defaults.resolvers([("", debian), ("", SCRIPT)])
    assert (once, loops) == (("next-boot", {}), ("loop-breaker", {}))
    assert by_http == ("by-architecture", {"files": {"ipxe": "{http}/boot.ipxe"}})
    assert by_tftp[1]["files"]["ipxe"] == "boot.ipxe"
    assert len(defaults.resolvers([("", debian)])) == 3


def test_without_any_program_there_is_no_resolver(tmp_path: Path) -> None:
    other: Any = object()
    assert defaults.resolvers([("directory", DirectoryBackend(tmp_path)), ("other", other)]) == []


def test_default_boot_programs_are_names_of_the_distribution_backend_or_other_common_names() -> None:
    names = {name for programs in defaults.BOOT_PROGRAMS.values() for name in programs}
    other_names = {"boot.ipxe", "snponly-i386.efi", "bootia32.efi", "bootx64.efi", "bootaa64.efi"}
    other_names |= {"bootcode.bin", "start4.elf", "kernel_2712.img"}
    assert names - set(PROGRAMS) == other_names


def test_the_defaults_are_accepted_by_the_plugins(tmp_path: Path) -> None:
    context = PluginContext(None, tmp_path)
    backends = []
    for use, options in defaults.backends():
        backends.append((use, configure(load(use, "bootfw.backends"), options, context)))
    assert [use for use, _ in backends][-2:] == ["distribution", "memory"]
    for use, options in defaults.resolvers(backends):
        configure(load(use, "bootfw.resolvers"), options, context)


def test_missing_directories_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "ROOTS", (str(tmp_path / "none"), str(tmp_path)))
    assert defaults.backends()[1] == ("directory", {"root": str(tmp_path)})
    assert [use for use, _ in defaults.backends()] == ["images", "directory", "menu", "distribution", "memory"]
    images = str(tmp_path / "images")
    assert defaults.backends()[0] == ("images", {"root": images})
    assert defaults.backends()[2] == ("menu", {"root": [str(tmp_path)], "images": [images], "script": "boot.ipxe"})


def test_without_a_directory_there_is_no_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(defaults, "ROOTS", ("/none",))
    assert [use for use, _ in defaults.backends()] == ["distribution", "memory"]


def test_files_of_templates_and_menus_count_as_existing(tmp_path: Path) -> None:
    (tmp_path / "boot.ipxe.j2").write_text("")
    template, menu = TemplateBackend(tmp_path, {"a/*": "boot.ipxe.j2"}), MenuBackend([tmp_path])
    for backend, names in ((template, ["boot.ipxe", "a/b"]), (menu, ["boot.ipxe"])):
        assert IListableBackend.providedBy(backend)
        assert [name for name in ("boot.ipxe", "a/b", "boot.ipxe.j2", "none") if backend.has(name)] == names
        assert list(backend.names()) == ["boot.ipxe"]
    assert defaults.example([("", menu)]) == "boot.ipxe"


def test_default_script_is_an_ipxe_script_that_exits() -> None:
    lines = defaults.SCRIPT.splitlines()
    assert lines[0] == "#!ipxe"
    assert lines[-1] == "exit 0"
    assert "{" not in defaults.SCRIPT.replace("${", "")
    assert not any(command in defaults.SCRIPT for command in ("boot ", "sanboot", "autoboot", "kernel", "reboot"))


def test_example_file_exists_in_a_backend(debian: DistributionBackend, tmp_path: Path) -> None:
    assert defaults.example([("", debian), ("", SCRIPT)]) == "undionly.kpxe"
    assert defaults.example([("", SCRIPT)]) == "boot.ipxe"
    (tmp_path / "own").mkdir()
    assert defaults.example([("", DirectoryBackend(tmp_path / "own"))]) is None
    (tmp_path / "own" / "vmlinuz").write_bytes(b"x")
    assert defaults.example([("", DirectoryBackend(tmp_path / "own"))]) == "vmlinuz"
    assert defaults.example([("", DirectoryBackend(tmp_path / "absent"))]) is None


# Ports


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> dict[Any, int]:
    """(host, port), or (host, port, kind of socket) -> errno of binding it; all others can be bound."""
    errors: dict[Any, int] = {}
    monkeypatch.setattr(defaults, "_fault", lambda address, *kind: errors.get((*address, *kind), 0))
    return errors


PROXY6 = DHCP6Settings(mode="proxy")
WITH_HTTP = Settings(http=HTTPSettings(defaults.HTTP_LISTEN), dhcp6=PROXY6)

DENIED = dict.fromkeys([("0.0.0.0", 67), ("0.0.0.0", 69), ("::", 69)], errno.EACCES)


def test_bindable_ports_are_kept(faults: Any) -> None:
    assert defaults.bindable_settings(Settings(), (), True) == (WITH_HTTP, {})


def test_low_ports_that_are_not_allowed_are_replaced_with_a_note(faults: Any) -> None:
    faults |= DENIED
    settings, notes = defaults.bindable_settings(Settings(), (), True)
    assert settings.tftp.listen == (("0.0.0.0", 10069), ("::", 10069))
    assert (settings.dhcp.server_port, settings.dhcp.boot_server_port) == (10067, 4011)
    assert notes == {
        "tftp": "instead of 69, which needs root or CAP_NET_BIND_SERVICE",
        "dhcp": "instead of 67, which needs root or CAP_NET_BIND_SERVICE: no real client comes here",
    }


def test_ports_of_a_configuration_file_are_not_replaced(faults: Any) -> None:
    faults |= DENIED
    assert defaults.bindable_settings(Settings(), (), False) == (Settings(), {})


def test_configured_ports_are_not_replaced(faults: Any) -> None:
    faults |= DENIED
    configured = {("tftp", "listen"), ("dhcp", "ports"), ("http", "listen"), ("dhcp6", "mode")}
    assert defaults.bindable_settings(Settings(), configured, True) == (Settings(), {})


def test_a_port_that_is_in_use_is_not_avoided(faults: Any) -> None:
    faults |= dict.fromkeys(DENIED, errno.EADDRINUSE)
    assert defaults.bindable_settings(Settings(), (), True) == (WITH_HTTP, {})


@pytest.mark.parametrize("fault", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
@pytest.mark.parametrize("fall_back", [True, False])
def test_ipv6_is_left_out_where_there_is_none(faults: Any, fault: int, fall_back: bool) -> None:
    faults["::", 69] = fault
    settings, notes = defaults.bindable_settings(Settings(), (), fall_back)
    assert settings.tftp.listen == (("0.0.0.0", 69),)
    assert notes == {}


def test_configured_ipv6_is_kept(faults: Any) -> None:
    faults["::", 69] = errno.EAFNOSUPPORT
    assert defaults.bindable_settings(Settings(), {("tftp", "listen")}, True)[0] == WITH_HTTP


@pytest.mark.parametrize("fault", [errno.EADDRINUSE, errno.EAFNOSUPPORT, errno.EACCES])
def test_http_is_served_where_its_port_is_free(faults: Any, fault: int) -> None:
    faults["::", 8069, socket.SOCK_STREAM] = fault
    settings, notes = defaults.bindable_settings(Settings(), (), True)
    assert settings.http.listen == (("0.0.0.0", 8069),)
    assert notes == {}


def test_a_tcp_port_is_free_unless_a_program_listens() -> None:
    address = ("127.0.0.1", free_port(socket.SOCK_STREAM))
    with socket.create_server(address) as server:
        assert defaults._fault(address, socket.SOCK_STREAM) == errno.EADDRINUSE
        with socket.create_connection(address) as client:
            server.accept()[0].close()  # the end that closes first keeps TIME_WAIT
            client.recv(1)
    assert defaults._fault(address, socket.SOCK_STREAM) == 0


def test_availability_of_a_port_is_found_by_binding_it() -> None:
    assert defaults._fault(("127.0.0.1", 0)) == 0
    assert defaults._fault(("192.0.2.1", 0)) == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("port", [547, 4011])
def test_dhcpv6_is_off_if_its_ports_cannot_be_bound(faults: Any, port: int) -> None:
    faults["::", port] = errno.EADDRINUSE
    settings, notes = defaults.bindable_settings(Settings(), (), True)
    assert (settings.dhcp6.mode, notes) == ("off", {})
