"""``bootfw explain``: the answer that a client would get with a configuration, and why."""

import http.server
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootfw.cli.main import main

MAC = "52:54:00:12:34:56"

STATE = '[bootfw]\nstate-dir = "state"\n'

CONFIG = (
    STATE
    + """[http]
listen = ["0.0.0.0:8069"]
[[backend]]
use = "memory"
files = {"snponly.efi" = "program", "boot.ipxe" = "#!ipxe"}
[[resolver]]
use = "next-boot"
[[resolver]]
use = "by-architecture"
files = {x86_64-uefi = "snponly.efi", x86-bios = "gone.kpxe", ipxe = "{http}/boot.ipxe"}
[[resolver]]
use = "static"
file = "last.efi"
"""
)

SERVER = """
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.199"]
router = "10.77.0.1"
[[dhcp.subnet.host]]
mac = "52:54:00:12:34:56"
address = "10.77.0.7"
"""

SERVER6 = """
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
pool = ["fd77::100-fd77::1ff"]
"""


@pytest.fixture(autouse=True)
def _configuration(cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG)


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run ``bootfw explain``, and return its exit code, output and errors."""
    code = main(["explain", "-c", "bootfw.toml", "--mac", MAC, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def explain_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The output with --json, for a server whose address is known."""
    server = () if "--server" in arguments else ("--server", "fd77::1" if "--dhcp6" in arguments else "10.77.0.1")
    code, out, _ = explain(capsys, *server, *arguments, "--json")
    record: dict[str, Any] = json.loads(out)
    assert record["boots"] == (code == 0)
    return record


def outcomes(record: dict[str, Any]) -> list[tuple[str, str]]:
    """(name, outcome) of each resolver in the last exchange."""
    return [(each["name"], each["outcome"]) for each in record["exchanges"][-1]["resolvers"]]


def test_reply_to_uefi_firmware_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = explain(capsys, "--server", "10.77.0.1")
    assert (code, err) == (0, "")
    assert out == (
        "client        52:54:00:12:34:56, PXEClient:Arch:00007:UNDI:003000\n"
        "persona       uefi, the first whose conditions hold (vendor-class: PXEClient)\n"
        "architecture  x86_64-uefi\n"
        "DISCOVER      OFFER without a boot file: the client requests it at port 4011\n"
        "resolvers     next-boot  declined\n"
        "              by-architecture  answered: snponly.efi\n"
        "              static  not reached\n"
        "REQUEST       ACK to 192.0.2.9 port 4011\n"
        "options       53 message-type: ACK\n"
        "              54 server-identifier: 10.77.0.1\n"
        "              60 vendor-class-identifier: PXEClient\n"
        "              67 bootfile-name: snponly.efi\n"
        "boot file     snponly.efi by TFTP from 10.77.0.1\n"
        "              7 bytes, from backend memory\n"
        "\n"
        "It boots.\n"
        "The file is iPXE, which sends a DHCP request of its own; its answer: "
        "bootfw explain --mac 52:54:00:12:34:56 --arch x86_64-uefi --ipxe -c bootfw.toml\n"
    )


@pytest.mark.parametrize(
    ("arguments", "persona", "file"),
    [
        (("--ipxe",), "ipxe", "http://10.77.0.1:8069/boot.ipxe"),
        (("--http",), "uefi-http", "http://10.77.0.1:8069/snponly.efi"),
        (("--arch", "x86_64-uefi-http"), "uefi-http", "http://10.77.0.1:8069/snponly.efi"),
        (("--user-class", "iPXE"), "ipxe", "http://10.77.0.1:8069/boot.ipxe"),
        (("--relay", "10.9.0.1"), "uefi", "snponly.efi"),
        (("--arch", "x86-bios"), "pxe-bios", "gone.kpxe"),
    ],
)
def test_options_select_the_kind_of_client(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], persona: str, file: str
) -> None:
    record = explain_json(capsys, *arguments)
    assert (record["persona"]["name"], record["file"]) == (persona, file)


def test_reply_to_a_relayed_client_goes_to_the_relay(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain_json(capsys, "--relay", "10.9.0.1")["exchanges"][0]["to"] == ["10.9.0.1", 67]


def test_missing_boot_file_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(capsys, "--arch", "x86-bios", "--server", "10.77.0.1")
    assert code == 1
    assert out.endswith('\nIt does not boot: no backend has "gone.kpxe".\n')


def test_client_that_does_not_boot_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    record = explain_json(capsys, "--vendor-class", "udhcp 1.35.0")
    assert record["persona"] is None
    assert record["reason"].startswith("not a client that a proxy can boot: its vendor class is 'udhcp 1.35.0'")
    assert record["exchanges"][0]["reply"] is None


def test_a_one_time_boot_is_explained_and_not_used_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", "-c", "bootfw.toml", "--offline", MAC, "snponly.efi"]) == 0
    capsys.readouterr()
    for _ in range(2):
        assert outcomes(explain_json(capsys))[:2] == [("next-boot", "answered"), ("by-architecture", "not reached")]
    assert main(["next", "-c", "bootfw.toml", "--json"]) == 0
    assert [order["mac"] for order in json.loads(capsys.readouterr().out)["next"]] == [MAC]


def test_explain_does_not_change_the_state(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    explain_json(capsys)
    assert [path.name for path in cwd.iterdir()] == ["bootfw.toml"]


def test_output_says_why_each_resolver_has_not_answered(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    (cwd / "scripted.py").write_text(
        "from attrs import define\n"
        "from zope.interface import implementer\n"
        "from bootfw.api import BootFile, BootRefused, IBootFileResolver, boot_plugin\n"
        "@implementer(IBootFileResolver)\n@define\nclass Scripted:\n    behaviour: str\n"
        "    def resolve(self, request):\n"
        "        if self.behaviour == 'raise': raise RuntimeError('no database')\n"
        "        if self.behaviour == 'refuse': raise BootRefused('it is retired')\n"
        "        return BootFile(self.behaviour) if self.behaviour else None\n"
        "plugin = boot_plugin(IBootFileResolver, Scripted)\n"
    )
    tables = "".join(
        f'[[resolver]]\nuse = "scripted:plugin"\nbehaviour = "{behaviour}"\n'
        for behaviour in ("raise", "", "x://y", "refuse")
    )
    (cwd / "bootfw.toml").write_text(STATE + tables + '[[resolver]]\nuse = "static"\nfile = "x"\n')
    sys.path.insert(0, str(cwd))
    try:
        record = explain_json(capsys)
    finally:
        sys.path.remove(str(cwd))
        del sys.modules["scripted"]
    results = [(each["outcome"], each["detail"]) for each in record["exchanges"][-1]["resolvers"]]
    assert results == [
        ("failed", "RuntimeError: no database"),
        ("declined", ""),
        ("unsuitable", '"x://y" is a URL, and this client loads by TFTP only'),
        ("refused", "it is retired"),
        ("not reached", ""),
    ]
    assert record["reason"] == "it is retired"


def test_a_server_gives_the_reserved_address(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG + SERVER)
    record = explain_json(capsys)
    assert record["exchanges"][0]["address"] == "10.77.0.7"
    values = {option["name"]: option["value"] for option in record["exchanges"][0]["options"]}
    assert (values["subnet-mask"], values["router"]) == ("255.255.255.0", "10.77.0.1")
    assert record["file"] == "snponly.efi"


def test_address_of_the_server_is_assumed_in_a_foreign_network(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    """A configuration can be tried where its network is not."""
    (cwd / "bootfw.toml").write_text(CONFIG + SERVER.replace("10.77.0", "203.0.113"))
    code, _, err = explain(capsys)
    assert code == 0
    assert err == "bootfw: this host has no address in 203.0.113.0/24; 203.0.113.1 is assumed for the server\n"


@pytest.mark.parametrize("dhcp6", ['[dhcp6]\nmode = "proxy"\n', SERVER6])
def test_dhcpv6_reply_is_explained(capsys: pytest.CaptureFixture[str], cwd: Path, dhcp6: str) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG + dhcp6)
    record = explain_json(capsys, "--dhcp6")
    assert record["file"] == "tftp://[fd77::1]/snponly.efi"
    assert record["exchanges"][0]["reply"] == "ADVERTISE"
    assert record["location"]["size"] == 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--mac", "52:54"), '--mac must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (("--uuid", "1"), "--uuid 1: is not a UUID"),
        (("--arch", "x86-64-uefi"), '--arch x86-64-uefi: there is no such architecture; did you mean "x86_64-uefi"?'),
        (("--arch", "65536"), "--arch 65536: there is no such architecture; it may be "),
        (("--relay", "fd77::1"), "--relay fd77::1: is not an IPv4 address"),
        (("--dhcp6", "--server", "10.0.0.1"), "--server 10.0.0.1: is not an IPv6 address"),
        (("--dhcp6", "--relay", "10.0.0.1"), "--relay is for DHCPv4: leave it out with --dhcp6"),
        (("--dhcp6",), 'no client is answered: [dhcp6] has mode = "off" in bootfw.toml; it may be "proxy" or "server"'),
    ],
)
def test_wrong_arguments_exit_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = explain(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"bootfw: {message}")


@pytest.mark.parametrize(("number", "name"), [("7", "x86_64-uefi"), ("9", "x86_64-uefi"), ("99", "arch-99")])
def test_an_architecture_may_be_its_number(capsys: pytest.CaptureFixture[str], number: str, name: str) -> None:
    client = explain_json(capsys, "--arch", number)["client"]
    assert client["architecture"] == name
    assert client["vendor_class"] == f"PXEClient:Arch:{int(number):05}:UNDI:003000"


def test_pool_of_a_client_class_is_named_and_other_clients_get_the_reason(
    capsys: pytest.CaptureFixture[str], cwd: Path
) -> None:
    pool = 'pool = ["10.77.0.100-10.77.0.199"]'
    server = SERVER.replace(pool, "").replace('mac = "52:54:00:12:34:56"', 'mac = "52:54:00:12:34:57"')
    (cwd / "bootfw.toml").write_text(f'{CONFIG}{server}[[dhcp.class]]\nmac = ["52:54:00"]\n{pool}\n')
    assert "address       10.77.0.100, of the pool for mac 52:54:00\n" in explain(capsys, "--mac", MAC)[1]
    code, out, _ = explain(capsys, "--mac", "02:00:00:00:00:01")
    assert code == 1
    assert "It does not boot: the addresses there are for other client classes: 10.77.0.0/24.\n" in out


def test_an_ignored_client_gets_no_reply_and_the_reason_is_shown(capsys: pytest.CaptureFixture[str], cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(f'{CONFIG}\n[dhcp]\nignore = ["{MAC[:8]}"]\n')
    code, out, _ = explain(capsys, "--mac", MAC)
    assert code == 1
    assert out.endswith("It does not boot: the configuration has its hardware address in ignore.\n")
    assert explain(capsys, "--mac", "02:00:00:00:00:01")[0] == 0


class _BootAPI(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"kernel": "http://10.0.0.5/vmlinuz"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def boot_api_port() -> Iterator[int]:
    """The port of a server with the API of Pixiecore, which names a kernel for every machine."""
    with http.server.HTTPServer(("127.0.0.1", 0), _BootAPI) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_asynchronous_resolver_is_awaited(cwd: Path, boot_api_port: int) -> None:
    """The command runs in its own process, since it runs the reactor."""
    resolver = f'[[resolver]]\nuse = "callout"\nurl = "http://127.0.0.1:{boot_api_port}"\n'
    (cwd / "bootfw.toml").write_text(f'{STATE}[http]\nlisten = ["0.0.0.0:8069"]\n{resolver}')
    command = [str(Path(sys.executable).with_name("bootfw")), "explain", "-c", "bootfw.toml", "--ipxe", "--json"]
    done = subprocess.run([*command, "--server", "10.77.0.1"], capture_output=True, timeout=60, check=True)
    record = json.loads(done.stdout)
    assert outcomes(record) == [("callout", "answered")]
    assert record["location"]["backend"] == "resolver callout"
