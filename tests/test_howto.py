"""The code blocks of the how-tos give the results that the pages show; tests/interop/test_howto.py boots them."""

import configparser
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from bootprograms import IA32, kernel, pe
from howtos import DIRECTORY as HOWTO
from howtos import PAGES, README, ROOT, blocks, read
from installing import EMULAB, POSTGRESQL, install_plugin
from twistd import Process, fetch, free_port
from twisted.application.service import MultiService
from twisted.internet.defer import maybeDeferred

from bootfw.api import BootFile, BootService, DHCPSettings, Outcome, Settings, TFTPSettings
from bootfw.backends.memory import MemoryBackend
from bootfw.bootchain import ends_at_ipxe
from bootfw.build import assemble
from bootfw.cli.main import main
from bootfw.config.configuration import load_config
from bootfw.testing import MemoryNetwork, ResolverContract, TFTPClient, TransferFailed


def programs(page: str) -> list[str]:
    return blocks(page, "python")


NO_CONFIGURATION = {
    "emulab.md": (1,),
    "images.md": (1,),
    "install.md": (1,),
    "power.md": (0, 1),
    "storm.md": (1,),
    "templates.md": (2, 3),
}
"""Page -> its blocks of TOML that are host files, families of images, or a scenario of ``bootfw storm``."""
NO_CONFIGURATION["metadata.md"] = (1,)  # a host file


@pytest.mark.parametrize(
    ("page", "number"),
    [
        (page, n)
        for page in [*PAGES, README]
        for n in range(len(blocks(page, "toml")))
        if n not in NO_CONFIGURATION.get(page, ())
    ],
)
def test_configurations_are_valid_and_name_a_file_after_ipxe(
    page: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = blocks(page, "toml")[number]
    if "certificate" in text:
        certificates = pytest.importorskip("certificates", reason="needs the extra tls")
        paths = re.findall(r'"(/etc/letsencrypt/.*?)"', text)
        for path, pem in zip(paths, certificates.Authority().issue("10.77.0.1"), strict=True):
            (tmp_path / Path(path).name).write_bytes(pem)
            text = text.replace(path, Path(path).name)
    if "by_rack:" in text:
        (tmp_path / "by_rack.py").write_text(blocks(page, "python")[0])
        monkeypatch.syspath_prepend(str(tmp_path))
    for name, plugin in (("postgresql", POSTGRESQL), ("emulab", EMULAB)):
        if f'use = "{name}"' in text:
            install_plugin(plugin, tmp_path)
            monkeypatch.syspath_prepend(str(tmp_path))
    for name, package in (("postgresql", "psycopg"), ("otel", "opentelemetry.sdk")):
        if f'use = "{name}"' in text:
            pytest.importorskip(package)
    (tmp_path / "bootfw.toml").write_text(text)
    parts = assemble(load_config(tmp_path / "bootfw.toml", {}), None)
    assert list(ends_at_ipxe(parts.resolvers, parts.settings)) == []


@pytest.mark.parametrize(
    ("page", "paths"),
    [
        ("from-dnsmasq.md", ["/etc/dnsmasq.conf"]),
        ("from-isc-dhcpd.md", ["/etc/dhcp/dhcpd.conf", "/etc/default/tftpd-hpa"]),
        ("from-kea.md", ["/etc/kea/kea-dhcp4.conf", "/etc/default/tftpd-hpa"]),
        ("from-tftpd-hpa.md", ["/etc/default/tftpd-hpa", "/etc/tftpd.map"]),
    ],
)
def test_import_of_the_page(page: str, paths: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def moved(text: str) -> str:
        return text.replace("/etc/", f"{tmp_path}/etc/")

    for path, text in zip(paths, blocks(page, ""), strict=True):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(moved(text))
    (tmp_path / "etc" / "bootfw").mkdir()
    command, _, expected = moved(blocks(page, "console")[0]).partition("\n")
    assert main(command.split()[2:]) == (3 if "left out" in expected else 0)
    assert capsys.readouterr().err == expected
    assert (tmp_path / "etc" / "bootfw" / "bootfw.toml").read_text() == moved(blocks(page, "toml")[0])


def test_the_page_for_pixiecore_names_its_command() -> None:
    """The files of the old command are those of the script."""
    command, script = blocks("from-pixiecore.md", "")
    words = shlex.split(command)
    assert words[:2] == ["pixiecore", "boot"]
    assert re.findall(r"^(?:kernel|initrd) (\S+)", script, re.MULTILINE) == words[2:4]


def test_the_script_of_the_page_for_pixiecore_has_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commands = blocks("from-pixiecore.md", "console")[0].splitlines()
    assert [line.split()[1] for line in commands] == ["systemctl", "bootfw", "bootfw"]
    (tmp_path / "boot.ipxe").write_text(blocks("from-pixiecore.md", "")[1])
    (tmp_path / "vmlinuz").write_bytes(kernel())
    words = [word.replace("/srv/boot", str(tmp_path)) for word in commands[1].split()[2:]]
    assert main(words) == 1
    assert "initrd.img" in capsys.readouterr().out, "it is missing"
    (tmp_path / "initrd.img").write_bytes(b"\x1f\x8b")
    assert main(words) == 0, capsys.readouterr().out


def test_leases_of_dhcpd_are_imported_as_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BOOTFW_STATE_DIR", str(tmp_path / "state"))
    test_import_of_the_page("from-isc-dhcpd.md", ["/etc/dhcp/dhcpd.conf", "/etc/default/tftpd-hpa"], tmp_path, capsys)
    (tmp_path / "dhcpd.leases").write_text(
        "lease 10.77.0.100 {\n  ends 4 2037/11/19 12:00:00;\n  binding state active;\n"
        "  hardware ethernet 52:54:00:12:34:57;\n}\n"
    )
    (command,) = [line for line in blocks("from-isc-dhcpd.md", "console")[1].splitlines() if "bootfw leases" in line]
    text = command.replace("/etc/", f"{tmp_path}/etc/").replace("/var/lib/dhcp/", f"{tmp_path}/")
    assert main(text.split()[2:]) == 0
    assert capsys.readouterr().out == "1 leases and 0 reservations imported\n"


def test_the_page_shows_the_output_of_lint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (session,) = blocks("lint.md", "console")
    command, _, output = session.partition("\n")
    boot = tmp_path / "boot"
    files = {
        "debian/grubx64.efi": pe(IA32),
        "debian/vmlinuz": kernel(),
        "pxelinux.cfg/default": b"\n" * 6 + b"KERNEL debian/VMLINUZ\n",
    }
    for name, data in files.items():
        (boot / name).parent.mkdir(parents=True, exist_ok=True)
        (boot / name).write_bytes(data)
    (tmp_path / "bootfw.toml").write_text(f'[[backend]]\nuse = "directory"\nroot = "{boot}"\n')
    monkeypatch.chdir(tmp_path)
    assert main(command.removeprefix("$ bootfw ").split()) == 1
    assert capsys.readouterr().out.replace(str(boot), "/srv/boot") == output


DAMAGED_LEASES = """\
lease 10.77.0.100 {
  starts 4 2026/11/19 15:02:11;
  ends never;
  binding state active;
  hardware ethernet 52:54:00:12:34:56;
}

NULS
lease 10.77.0.102 {
  starts 4 2026/11/19 15:02:11;
  ends never;
  binding state active;
  hardware ethernet 52:54:00:12:34:58;
LINES  client-hostname "kids" pc";
}
lease 192.168.50.2 {
  starts 4 2026/11/19 15:02:11;
  ends never;
  binding state active;
  hardware ethernet 52:54:00:12:34:59;
}
""".replace("NULS", "\0" * 200).replace("LINES", "\n" * 17)


def test_the_page_shows_the_output_of_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (expected,) = blocks("leases.md", "")
    monkeypatch.chdir(tmp_path)
    configuration = '[bootfw]\nstate-dir = "state"\n' + blocks("addresses.md", "toml")[0]
    (tmp_path / "bootfw.toml").write_text(configuration)
    (tmp_path / "dhcpd.leases").write_text(DAMAGED_LEASES)
    assert main(["leases", "-c", "bootfw.toml", "import", "dhcpd.leases"]) == 3
    assert capsys.readouterr() == ("2 leases and 0 reservations imported\n", expected)


@pytest.mark.parametrize("page", [*PAGES, README])
def test_packages_that_a_page_installs_are_extras(page: str) -> None:
    setup_cfg = configparser.ConfigParser()
    setup_cfg.read(ROOT / "setup.cfg")
    extras = set(setup_cfg["options.extras_require"])
    assert set(re.findall(r"pip install ['\"]?bootfw\[(\w+)\]", read(page))) <= extras


def test_the_plugin_of_the_howto() -> None:
    names: dict[str, Any] = {}
    resolver, configured, without_ability, contract = programs("plugins.md")
    exec(resolver, names)
    assert names["plugin"].summary == "Gives one file to all machines whose MACs have the same prefix."
    assert "def configured(cls, context, root: str)" in configured
    exec(without_ability, names)
    exec(contract, names)
    kit = names["TestByRack"]()
    assert isinstance(kit, ResolverContract)
    assert kit.resolve(kit.make_resolver(), kit.requests[0]) == BootFile("boot.ipxe")
    kit.test_answers_every_client_with_a_file_or_none_or_a_refusal()


def test_the_plugin_of_the_howto_as_a_distribution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is configured by the name of its entry point."""
    (tmp_path / "by_rack.py").write_text(programs("plugins.md")[0])
    setup_cfg = configparser.ConfigParser(delimiters=("=",))
    setup_cfg.read_string(blocks("plugins.md", "ini")[0])
    ((group, entries),) = setup_cfg["options.entry_points"].items()
    (tmp_path / "by_rack-1.dist-info").mkdir()
    (tmp_path / "by_rack-1.dist-info/METADATA").write_text("Name: by-rack\nVersion: 1\n")
    (tmp_path / "by_rack-1.dist-info/entry_points.txt").write_text(f"[{group}]{entries}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bootfw.toml").write_text(blocks("plugins.md", "toml")[0].replace("by_rack:plugin", "by-rack"))
    ((_, resolver),) = assemble(load_config(tmp_path / "bootfw.toml", {}), None).resolvers
    assert type(resolver).__name__ == "ByRack"


def test_the_classmethod_of_the_howto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the class of the page, whose fields are then the reactor, and the path beside the configuration file."""
    body = re.search(r"^    @classmethod\n(?: {4}.*\n)+", (HOWTO / "plugins.md").read_text(), re.MULTILINE)
    assert body
    program = programs("plugins.md")[0].replace("prefix: str\n", "prefix: object\n")
    program = program.replace('file: str = "boot.ipxe"\n', f'file: object = "boot.ipxe"\n\n{body[0]}')
    (tmp_path / "rooted.py").write_text(program)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "bootfw.toml").write_text('[[resolver]]\nuse = "rooted:plugin"\nroot = "racks"\n')
    reactor = MemoryNetwork().host("192.0.2.1")
    ((_, resolver),) = assemble(load_config(tmp_path / "bootfw.toml", {}), reactor).resolvers
    assert (resolver.prefix, resolver.file) == (reactor, tmp_path / "racks")


def test_the_service_of_the_howto() -> None:
    network = MemoryNetwork()
    application = MultiService()
    exec(programs("embedding.md")[0], {"reactor": network.host("192.0.2.1"), "application": application})
    application.startService()
    (service,) = application
    assert [(row.service, row.address) for row in service.summary()] == [("tftp", ("192.0.2.1", 69))]
    network.result_of(application.stopService())
    assert network.leaks() == []


def test_the_configuration_of_the_howto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bootfw.toml").write_text('[dhcp]\nmode = "off"\n[tftp]\nlisten = ["0.0.0.0:69"]\n')
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"reactor": MemoryNetwork().host("192.0.2.1"), "os": __import__("os")}
    exec(programs("embedding.md")[2], names)
    assert isinstance(names["boot"], BootService)


def test_the_log_of_the_howto(tmp_path: Path) -> None:
    """The program of the page, with another port and directory."""
    port = free_port()
    (tmp_path / "motd").write_text("hello")
    program = programs("embedding.md")[1].replace("6969", str(port)).replace("/srv/boot", str(tmp_path))
    with Process(sys.executable, "-u", "-c", program, cwd=tmp_path) as server:
        server.until(f"tftp listens on 127.0.0.1:{port}")
        assert fetch(("127.0.0.1", port), "motd") == b"hello"
        server.until("got 'motd': complete")
        server.send(signal.SIGTERM)
        assert f"tftp no longer listens on 127.0.0.1:{port}" in server.rest()


def test_the_test_of_the_howto() -> None:
    names = {
        "BootService": BootService,
        "settings": Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),))),
        "backend": MemoryBackend({"pxelinux.0": b"x" * 3000}),
    }
    exec(programs("embedding.md")[3].replace("== ...", "== b'x' * 3000"), names)


def test_the_session_of_the_howto() -> None:
    sent: list[bytes] = []
    names: dict[str, Any] = {"content": bytes(600), "send": sent.append}
    exec(programs("embedding.md")[4], names)
    assert sent == [b"\0\3\0\1" + bytes(512), b"\0\3\0\2" + bytes(88)]
    assert names["session"].deadline == 5.1
    names["session"].handle(names["session"].Input.ACK, 2, 0.2)
    assert names["session"].outcome is Outcome.COMPLETE


def check_the_file_of_a_client(backend: Any) -> None:
    """The backend gives 10.0.0.9 its pxelinux.cfg/default, and no other file."""
    network = MemoryNetwork()
    settings = Settings(tftp=TFTPSettings(listen=(("10.0.0.1", 69),)), dhcp=DHCPSettings(mode="off"))
    service = BootService(network.host("10.0.0.1"), settings=settings, backend=backend)
    service.startService()
    client = TFTPClient(network.host("10.0.0.9"), ("10.0.0.1", 69))
    assert network.result_of(client.download("pxelinux.cfg/default")).data == b"# for 10.0.0.9\n"
    with pytest.raises(TransferFailed):
        network.result_of(client.download("other"))
    network.result_of(service.stopService())


def test_the_backend_of_the_page_for_python_tx_tftp() -> None:
    names: dict[str, Any] = {}
    exec(programs("from-python-tx-tftp.md")[0], names)
    check_the_file_of_a_client(names["PerClient"]())


def test_the_backend_of_the_page_for_fbtftp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread: the network in memory would not wait for it."""
    monkeypatch.setattr("twisted.internet.threads.deferToThread", maybeDeferred)
    names: dict[str, Any] = {}
    exec(programs("from-fbtftp.md")[0], names)
    files = {"pxelinux.cfg/default": "# for {}\n"}
    check_the_file_of_a_client(
        names["FromInventory"](lambda path, address: files[path].format(address) if path in files else None)
    )


@pytest.mark.parametrize("page", ["plugins.md", "embedding.md"])
def test_links_have_targets(page: str) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", (HOWTO / page).read_text())
    assert links
    assert [link for link in links if not (HOWTO / link).exists()] == []
