"""``bootfw explain``: what a client would be answered by a configuration, and why."""

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

CONFIG = """
[bootfw]
state-dir = "state"
[http]
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
def _configured(here: Path) -> None:
    (here / "bootfw.toml").write_text(CONFIG)


def explain(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(["explain", "-c", "bootfw.toml", "--mac", MAC, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    server = () if "--server" in arguments else ("--server", "fd77::1" if "--dhcp6" in arguments else "10.77.0.1")
    code, out, _ = explain(capsys, *server, *arguments, "--json")
    found: dict[str, Any] = json.loads(out)
    assert found["boots"] == (code == 0)
    return found


def outcomes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(each["name"], each["outcome"]) for each in found["exchanges"][-1]["resolvers"]]


def test_the_reply_to_uefi_firmware(capsys: pytest.CaptureFixture[str]) -> None:
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
    found = record(capsys, *arguments)
    assert (found["persona"]["name"], found["file"]) == (persona, file)


def test_a_reply_by_a_relay_goes_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert record(capsys, "--relay", "10.9.0.1")["exchanges"][0]["to"] == ["10.9.0.1", 67]


def test_missing_boot_file_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(capsys, "--arch", "x86-bios", "--server", "10.77.0.1")
    assert code == 1
    assert out.endswith('\nIt does not boot: no backend has "gone.kpxe".\n')


def test_client_that_does_not_boot_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    found = record(capsys, "--vendor-class", "udhcp 1.35.0")
    assert found["persona"] is None
    assert found["reason"].startswith("not a client that a proxy can boot: its vendor class is 'udhcp 1.35.0'")
    assert found["exchanges"][0]["reply"] is None


def test_a_one_time_boot_counts_and_is_not_used_up(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["next", "-c", "bootfw.toml", "--offline", MAC, "snponly.efi"]) == 0
    capsys.readouterr()
    for _ in range(2):
        assert outcomes(record(capsys))[:2] == [("next-boot", "answered"), ("by-architecture", "not reached")]
    assert main(["next", "-c", "bootfw.toml", "--json"]) == 0
    assert [order["mac"] for order in json.loads(capsys.readouterr().out)["next"]] == [MAC]


def test_explain_does_not_change_the_state(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    record(capsys)
    assert [path.name for path in here.iterdir()] == ["bootfw.toml"]


def test_why_each_resolver_has_not_answered(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "ours.py").write_text(
        "from attrs import define\n"
        "from zope.interface import implementer\n"
        "from bootfw.api import BootFile, BootRefused, IBootFileResolver, boot_plugin\n"
        "@implementer(IBootFileResolver)\n@define\nclass Ours:\n    '''Ours.'''\n    how: str\n"
        "    def resolve(self, request):\n"
        "        if self.how == 'raise': raise RuntimeError('no database')\n"
        "        if self.how == 'refuse': raise BootRefused('it is retired')\n"
        "        return BootFile(self.how) if self.how else None\n"
        "plugin = boot_plugin(IBootFileResolver, Ours)\n"
    )
    tables = "".join(f'[[resolver]]\nuse = "ours:plugin"\nhow = "{how}"\n' for how in ("raise", "", "x://y", "refuse"))
    (here / "bootfw.toml").write_text(tables + '[[resolver]]\nuse = "static"\nfile = "x"\n')
    sys.path.insert(0, str(here))
    try:
        found = record(capsys)
    finally:
        sys.path.remove(str(here))
        del sys.modules["ours"]
    told = [(each["outcome"], each["detail"]) for each in found["exchanges"][-1]["resolvers"]]
    assert told == [
        ("failed", "RuntimeError: no database"),
        ("declined", ""),
        ("unsuitable", '"x://y" is a URL, and this client loads by TFTP only'),
        ("refused", "it is retired"),
        ("not reached", ""),
    ]
    assert found["reason"] == "it is retired"


def test_a_server_gives_the_reserved_address(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    (here / "bootfw.toml").write_text(CONFIG + SERVER)
    found = record(capsys)
    assert found["exchanges"][0]["address"] == "10.77.0.7"
    values = {option["name"]: option["value"] for option in found["exchanges"][0]["options"]}
    assert (values["subnet-mask"], values["router"]) == ("255.255.255.0", "10.77.0.1")
    assert found["file"] == "snponly.efi"


def test_address_of_the_server_is_assumed_in_a_foreign_network(capsys: pytest.CaptureFixture[str], here: Path) -> None:
    """A configuration can be tried where its network is not."""
    (here / "bootfw.toml").write_text(CONFIG + SERVER.replace("10.77.0", "203.0.113"))
    code, _, err = explain(capsys)
    assert code == 0
    assert err == "bootfw: this host has no address in 203.0.113.0/24; 203.0.113.1 is assumed for the server\n"


@pytest.mark.parametrize("mode", ['[dhcp6]\nmode = "proxy"\n', SERVER6])
def test_dhcpv6_reply_is_explained(capsys: pytest.CaptureFixture[str], here: Path, mode: str) -> None:
    (here / "bootfw.toml").write_text(CONFIG + mode)
    found = record(capsys, "--dhcp6")
    assert found["file"] == "tftp://[fd77::1]/snponly.efi"
    assert found["exchanges"][0]["reply"] == "ADVERTISE"
    assert found["location"]["size"] == 7


@pytest.mark.parametrize(
    ("arguments", "told"),
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
def test_wrong_arguments_exit_with_2(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    code, out, err = explain(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(f"bootfw: {told}")


@pytest.mark.parametrize(("number", "name"), [("7", "x86_64-uefi"), ("9", "x86_64-uefi"), ("99", "arch-99")])
def test_an_architecture_may_be_its_number(capsys: pytest.CaptureFixture[str], number: str, name: str) -> None:
    client = record(capsys, "--arch", number)["client"]
    assert client["architecture"] == name
    assert client["vendor_class"] == f"PXEClient:Arch:{int(number):05}:UNDI:003000"


def test_the_pool_of_a_class_is_named_and_clients_of_no_class_are_told_why(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    pool = 'pool = ["10.77.0.100-10.77.0.199"]'
    config = SERVER.replace(pool, "").replace('mac = "52:54:00:12:34:56"', 'mac = "52:54:00:12:34:57"')
    (here / "bootfw.toml").write_text(f'{CONFIG}{config}[[dhcp.class]]\nmac = ["52:54:00"]\n{pool}\n')
    assert "address       10.77.0.100, of the pool for mac 52:54:00\n" in explain(capsys, "--mac", MAC)[1]
    code, out, _ = explain(capsys, "--mac", "02:00:00:00:00:01")
    assert code == 1
    assert "It does not boot: the addresses there are for other client classes: 10.77.0.0/24.\n" in out


def test_an_ignored_client_gets_no_reply_and_the_reason_is_shown(
    capsys: pytest.CaptureFixture[str], here: Path
) -> None:
    (here / "bootfw.toml").write_text(f'{CONFIG}\n[dhcp]\nignore = ["{MAC[:8]}"]\n')
    code, out, _ = explain(capsys, "--mac", MAC)
    assert code == 1
    assert out.endswith("It does not boot: the configuration has its hardware address in ignore.\n")
    assert explain(capsys, "--mac", "02:00:00:00:00:01")[0] == 0


class _API(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"kernel": "http://10.0.0.5/vmlinuz"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


@pytest.fixture
def api() -> Iterator[int]:
    with http.server.HTTPServer(("127.0.0.1", 0), _API) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_asynchronous_resolver_is_awaited(here: Path, api: int) -> None:
    """As a program, since it runs the reactor."""
    callout = f'[[resolver]]\nuse = "callout"\nurl = "http://127.0.0.1:{api}"\n'
    (here / "bootfw.toml").write_text(f'[http]\nlisten = ["0.0.0.0:8069"]\n{callout}')
    command = [str(Path(sys.executable).with_name("bootfw")), "explain", "-c", "bootfw.toml", "--ipxe", "--json"]
    done = subprocess.run([*command, "--server", "10.77.0.1"], capture_output=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert outcomes(found) == [("callout", "answered")]
    assert found["location"]["backend"] == "resolver callout"
