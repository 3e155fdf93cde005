"""``bootfw leases`` as an operator uses it, with a server that runs and without."""

import argparse
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve
from narrowing import present
from turning import Alongside
from twisted.internet.epollreactor import EPollReactor

from bootfw.cli import main as command
from bootfw.cli import running
from bootfw.cli.leases import add_leases
from bootfw.dhcp.server import AddressServer
from bootfw.dhcp.server6 import AddressServer6
from bootfw.dhcp.subnet import Subnet
from bootfw.dhcp.subnet6 import Subnet6
from bootfw.lease import NEVER, Lease, LeaseState, Reservation
from bootfw.net.control import listen_control
from bootfw.net.dhcp.leasecontrol import LeaseControl
from bootfw.net.dhcp.walltime import WallTimeLeases
from bootfw.records import lease_record
from bootfw.stores.sqlite import SqliteStore
from bootfw.stores.statefile import StateFile, row_of

NOW = 1_763_640_000.0
MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
UUID = "4c4c4544-0042-3910-8051-b4c04f4d3132"
ACTIVE = Lease(
    "10.0.0.9", b"h\1RT\0\x124V", MAC, LeaseState.ACTIVE, NOW, NEVER, b"\1RT\0\x124V", UUID, "\x1b[2Jpc", "system"
)
EXPIRED = Lease("10.0.0.10", b"h\1RT\0\0\0\1", OTHER, LeaseState.ACTIVE, NOW, NOW + 60, kind="firmware")
DECLINED = Lease("10.0.0.100", b"", "", LeaseState.DECLINED, NOW, 1e11)
UNKNOWN = Lease("10.0.0.11", b"i\xff1", "", LeaseState.ACTIVE, NOW, 1e11, b"\xff1")
CONFIGURED = Reservation("10.0.0.5", mac=OTHER)
ADDED = Reservation("10.0.0.6", mac=MAC, hostname="pc")

CONFIG = f"""
[bootfw]
state-dir = "state"
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.0.0.0/24"
pool = ["10.0.0.9-10.0.0.100"]
[[dhcp.subnet.host]]
mac = "{OTHER}"
address = "10.0.0.5"
[dhcp6]
mode = "server"
[[dhcp6.subnet]]
network = "fd77::/64"
"""


@pytest.fixture(autouse=True)
def _configuration(cwd: Path) -> None:
    (cwd / "bootfw.toml").write_text(CONFIG)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The state file of a server that has ended."""
    path = tmp_path / "state" / "bootfw.sqlite"
    StateFile.create(path)
    state_file = StateFile.open(path)
    state_file.write_leases(list(map(row_of, [ACTIVE, EXPIRED, DECLINED, UNKNOWN])))
    state_file.replace_reservations([ADDED])
    state_file.close()
    return path


class StoppedServer:
    """A server that does not run, so the command uses its state file."""

    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self.capsys = capsys

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run the command, and return its exit code, output and errors."""
        code = command.main(["leases", *arguments, "-c", "bootfw.toml", "--offline"])
        captured = self.capsys.readouterr()
        return code, captured.out, captured.err

    def stored(self) -> tuple[dict[str, Lease], list[Reservation]]:
        """The leases and reservations in the file."""
        file = StateFile.open(self.path)
        found = {lease.address: lease for lease in file.leases()}, list(file.reservations())
        file.close()
        return found


class StartedServer(StoppedServer):
    """A server that runs, so the command uses its control socket."""

    def __init__(
        self,
        path: Path,
        capsys: pytest.CaptureFixture[str],
        reactor: EPollReactor,
        alongside: Alongside,
    ) -> None:
        super().__init__(path, capsys)
        self.reactor = reactor
        self.alongside = alongside
        self.store = SqliteStore(path, reactor)
        leases = list(self.store.load())
        added = list(self.store.reservations())
        subnet = Subnet(network="10.0.0.0/24", pool=["10.0.0.9-10.0.0.100"], hosts=[CONFIGURED])
        self.address_server = AddressServer([subnet], leases, added)
        server6 = AddressServer6([Subnet6(network="fd77::/64")], b"\0\3\0\1RT\0\0\0\1")
        store = WallTimeLeases(self.store, reactor.seconds, lambda: 0.0, self.address_server.leases)
        operations = LeaseControl(reactor, self.address_server, store, added, server6).operations()
        self.port = listen_control(reactor, path.parent / "control.sock", operations)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        return self.alongside(super().run, *arguments)

    def stop(self) -> None:
        if self.port is None:
            return
        closed: list[None] = []
        self.port.stopListening()
        self.port = None
        self.store.close().addBoth(closed.append)
        while not closed:
            self.reactor.iterate(0.01)
        assert closed == [None]

    def stored(self) -> tuple[dict[str, Lease], list[Reservation]]:
        self.stop()
        return super().stored()


@pytest.fixture
def stopped_server(path: Path, capsys: pytest.CaptureFixture[str]) -> StoppedServer:
    return StoppedServer(path, capsys)


@pytest.fixture
def running_server(
    path: Path, capsys: pytest.CaptureFixture[str], private_reactor: EPollReactor, alongside: Alongside
) -> Iterator[StartedServer]:
    server = StartedServer(path, capsys, private_reactor, alongside)
    yield server
    server.stop()
    private_reactor.iterate(0)


@pytest.fixture(params=["stopped_server", "running_server"])
def server(request: pytest.FixtureRequest) -> StoppedServer | StartedServer:
    """A server that does not run, and one that runs."""
    server: StoppedServer | StartedServer = request.getfixturevalue(request.param)
    return server


LEASE_TABLE = """\
ADDRESS     STATE     CLIENT             NAME       UNTIL                KIND
10.0.0.9    active    52:54:00:12:34:56  \\x1b[2Jpc  never                system
10.0.0.10   expired   52:54:00:00:00:01             2025-11-20 12:01:00  firmware
10.0.0.11   active    0xff31                        5138-11-16 09:46:40
10.0.0.100  declined                                5138-11-16 09:46:40
"""


@pytest.mark.parametrize("verb", [[], ["list"]])
def test_leases_are_listed_as_a_table(server: StoppedServer | StartedServer, verb: list[str]) -> None:
    assert server.run(*verb) == (0, LEASE_TABLE, "")


def listed_addresses(server: StoppedServer | StartedServer, *arguments: str) -> list[str]:
    code, out, err = server.run("list", *arguments)
    assert (code, err) == (0, "")
    return [line.split()[0] for line in out.splitlines()[1:]]


@pytest.mark.parametrize(
    ("arguments", "addresses"),
    [
        (["--state", "expired"], ["10.0.0.10"]),
        (["--network", "10.0.0.8/31"], ["10.0.0.9"]),
        (["52-54-00-12-34-56"], ["10.0.0.9"]),
        ([UUID.upper()], ["10.0.0.9"]),
        (["0xff31"], ["10.0.0.11"]),
        (["10.0.0.10", "--state", "active"], []),
    ],
)
def test_filters_select_leases(
    server: StoppedServer | StartedServer, arguments: list[str], addresses: list[str]
) -> None:
    assert listed_addresses(server, *arguments) == addresses


def test_json_lists_leases(server: StoppedServer | StartedServer) -> None:
    code, out, _ = server.run("list", "--json")
    assert code == 0
    assert [(r["address"], r["state"], r["expires"]) for r in json.loads(out)] == [
        ("10.0.0.9", "active", None),
        ("10.0.0.10", "expired", NOW + 60),
        ("10.0.0.11", "active", 1e11),
        ("10.0.0.100", "declined", 1e11),
    ]


LEASE_DETAILS = f"""\
address    10.0.0.9
state      active
mac        {MAC}
client-id  01525400123456
uuid       {UUID}
hostname   \\x1b[2Jpc
kind       system
granted    2025-11-20 12:00:00
expires    never
"""


def test_show_prints_every_field_of_a_lease(server: StoppedServer | StartedServer) -> None:
    assert server.run("show", MAC) == (0, LEASE_DETAILS, "")
    _, out, _ = server.run("show", "10.0.0.9", "--json")
    assert [record["client"] for record in json.loads(out)] == [ACTIVE.client.hex()]
    assert server.run("show", "10.0.0.12") == (1, "", "bootfw: 10.0.0.12 has no lease\n")


def test_released_lease_is_stored(server: StoppedServer | StartedServer) -> None:
    assert server.run("release", "10.0.0.9", "10.0.0.100") == (
        0,
        "10.0.0.9 is released\n10.0.0.100 is released\n",
        "",
    )
    assert listed_addresses(server, "--state", "released") == ["10.0.0.9", "10.0.0.100"]
    leases, _ = server.stored()
    assert {a: lease.state for a, lease in leases.items() if lease.state is LeaseState.RELEASED} == {
        "10.0.0.9": LeaseState.RELEASED,
        "10.0.0.100": LeaseState.RELEASED,
    }
    assert leases["10.0.0.9"].expires < NEVER
    assert leases["10.0.0.9"].client == ACTIVE.client


def test_release_of_an_address_without_a_lease_is_an_error(server: StoppedServer | StartedServer) -> None:
    assert server.run("release", "10.0.0.99") == (1, "", "bootfw: 10.0.0.99 is not leased\n")


RESERVATION_TABLE = """\
ADDRESS   CLIENT             NAME  FROM
10.0.0.5  52:54:00:00:00:01        configuration
10.0.0.6  52:54:00:12:34:56  pc    command
"""


def test_reservations_are_listed(server: StoppedServer | StartedServer) -> None:
    assert server.run("reservations") == (0, RESERVATION_TABLE, "")
    assert [r["address"] for r in json.loads(server.run("reservations", "--json")[1])] == ["10.0.0.5", "10.0.0.6"]


def test_reservation_is_added_and_removed(server: StoppedServer | StartedServer) -> None:
    assert server.run("reserve", "10.0.0.7", "--uuid", UUID) == (0, "10.0.0.7 is reserved\n", "")
    assert server.run("reserve", "--client-id", "0x01ff", "--hostname", "x") == (
        0,
        "an address of the pool is reserved\n",
        "",
    )
    assert server.run("unreserve", "10.0.0.6") == (0, "10.0.0.6 is no longer reserved\n", "")
    assert server.run("unreserve", "0x01ff") == (0, "client-id 0x01ff is no longer reserved\n", "")
    _, reservations = server.stored()
    assert reservations == [Reservation("10.0.0.7", uuid=UUID)]


def test_reservation_has_a_lease_time_of_its_own(server: StoppedServer | StartedServer) -> None:
    result = server.run("reserve", "10.0.0.7", "--uuid", UUID, "--lease-seconds", "7200")
    assert result == (0, "10.0.0.7 is reserved\n", "")
    records = json.loads(server.run("reservations", "--json")[1])
    assert [each["lease_seconds"] for each in records if each["address"] == "10.0.0.7"] == [7200]
    message = "bootfw: must be from 60 to 31536000 seconds, not 5\n"
    assert server.run("reserve", "10.0.0.8", "--mac", "52:54:00:00:00:08", "--lease-seconds", "5") == (1, "", message)
    _, reservations = server.stored()
    assert Reservation("10.0.0.7", uuid=UUID, lease_seconds=7200) in reservations


def test_ipv6_reservation_is_added_and_removed(server: StoppedServer | StartedServer) -> None:
    # The machine has an IPv4 reservation too.
    assert server.run("reserve", "FD77:0::7", "--mac", MAC) == (0, "fd77::7 is reserved\n", "")
    assert server.run("reserve", "fd77::8", "--duid", "0x0003") == (0, "fd77::8 is reserved\n", "")
    lines = server.run("reservations")[1].splitlines()
    assert [" ".join(line.split()) for line in lines[-2:]] == [f"fd77::7 {MAC} command", "fd77::8 duid 0x0003 command"]
    message = f"bootfw: {MAC} has two reservations, 10.0.0.6 and fd77::7: give the address\n"
    assert server.run("unreserve", MAC) == (1, "", message)
    assert server.run("unreserve", "fd77:0::7") == (0, "fd77::7 is no longer reserved\n", "")
    assert server.run("unreserve", MAC) == (0, "10.0.0.6 is no longer reserved\n", "")
    _, reservations = server.stored()
    assert reservations == [Reservation("fd77::8", client_id=b"\0\3")]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["reserve", "fd78::7", "--mac", MAC], "fd78::7 is in no subnet"),
        (["reserve", "10.0.1.7", "--mac", MAC], "10.0.1.7 is in no subnet"),
        (["reserve", "fd77::7", "--duid", "x"], 'must be a DUID, such as "0x00030001525400123456", not "x"'),
        (
            ["reserve", "fd77::7", "--uuid", UUID],
            "by DHCPv6 a client is known by its MAC and its DUID, and gets no name",
        ),
        (["reserve", "fd77::7", "--client-id", "x"], "--client-id goes with an IPv4 address; by DHCPv6 it is --duid"),
        (["reserve", "10.0.0.7", "--duid", "x"], "--duid goes with an IPv6 address"),
        (
            ["reserve", "fd77::x", "--mac", MAC],
            'must be an address, such as "10.77.0.10" or "fd77::10", not "fd77::x"',
        ),
        (
            ["reserve", "10.0.0.5", "--uuid", UUID],
            "address 10.0.0.5 is reserved already; remove that reservation first",
        ),
        (["reserve", "10.0.0.7", "--mac", MAC], f"mac {MAC} is reserved already; remove that reservation first"),
        (["reserve", "10.0.0.7"], "needs at least one of mac, client-id, uuid, circuit-id"),
        (["reserve", "10.0.1.7", "--uuid", UUID], "10.0.1.7 is in no subnet"),
        (["reserve", "10.0.0.7", "--mac", "x"], 'must be a MAC address, such as "52:54:00:12:34:56", not "x"'),
        (["unreserve", "10.0.0.5"], "10.0.0.5: the configuration file reserves it: remove it there"),
        (["unreserve", "10.0.0.99"], "10.0.0.99: nothing is reserved"),
        (["unreserve", "0x1"], 'must be text, or "0x" and pairs of hexadecimal digits, not "0x1"'),
        (["list", "0x1"], 'must be text, or "0x" and pairs of hexadecimal digits, not "0x1"'),
        (["list", "--network", "10.0.0"], 'must be a network, such as "10.77.0.0/24", not "10.0.0"'),
    ],
)
def test_invalid_reservations_are_refused(
    server: StoppedServer | StartedServer, arguments: list[str], reason: str
) -> None:
    assert server.run(*arguments) == (1, "", f"bootfw: {reason}\n")
    assert server.stored()[1] == [ADDED]


def test_export_can_be_imported_by_another_server(
    server: StoppedServer | StartedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = server.run("export")
    assert code == 0
    (tmp_path / "export.json").write_text(out)
    (tmp_path / "other.toml").write_text(CONFIG.replace('"state"', '"other"'))
    assert command.main(["leases", "-c", "other.toml", "import", "export.json"]) == 0
    assert capsys.readouterr().out == "4 leases and 1 reservations imported\n"
    other_server = StoppedServer(tmp_path / "other" / "bootfw.sqlite", capsys)
    assert other_server.stored() == ({lease.address: lease for lease in (ACTIVE, EXPIRED, DECLINED, UNKNOWN)}, [ADDED])


def test_ipv6_leases_are_imported(
    server: StoppedServer | StartedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = evolve(ACTIVE, address="fd77::9")
    for name, address in (("inside", "fd77::9"), ("outside", "fd78::9")):
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"leases": [lease_record(evolve(lease, address=address), NOW)], "reservations": []})
        )
    (tmp_path / "other.toml").write_text(CONFIG.replace('"state"', '"other"'))
    assert command.main(["leases", "-c", "other.toml", "import", "inside.json"]) == 0
    assert capsys.readouterr().err == ""
    assert command.main(["leases", "-c", "other.toml", "import", "outside.json"]) == 3
    message = "left out: the lease of fd78::9: it is in no subnet of the configuration\n"
    assert capsys.readouterr().err == message
    assert command.main(["leases", "-c", "other.toml", "list", "--network", "fd77::/64", "--json"]) == 0
    assert [record["address"] for record in json.loads(capsys.readouterr().out)] == ["fd77::9"]


DNSMASQ = f"""\
99999999999 52:54:00:00:00:09 10.0.0.9 theirs *
99999999999 {OTHER} 10.0.0.10 again *
99999999999 52:54:00:00:00:08 10.0.1.8 outside *
nonsense
"""


def test_dnsmasq_leases_are_imported(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.leases").write_text(DNSMASQ)
    assert stopped_server.run("import", "dnsmasq.leases") == (
        3,
        "1 leases and 0 reservations imported, 1 leased here already\n",
        "left out: line 4 is not a lease: nonsense\n"
        "left out: the lease of 10.0.1.8: it is in no subnet of the configuration\n",
    )
    leases, reservations = stopped_server.stored()
    assert leases["10.0.0.9"] == ACTIVE
    assert leases["10.0.0.10"].hostname == "again"
    assert leases["10.0.0.10"].client == EXPIRED.client
    assert "10.0.1.8" not in leases
    assert reservations == [ADDED]


def test_dnsmasq_dhcpv6_leases_are_imported(stopped_server: StoppedServer, tmp_path: Path) -> None:
    duid = "00:03:00:01:52:54:00:00:00:09"
    (tmp_path / "dnsmasq.leases").write_text(f"duid 00:01\n99999999999 7 fd77::9 pc {duid}\n")
    assert stopped_server.run("import", "dnsmasq.leases") == (0, "1 leases and 0 reservations imported\n", "")
    lease = stopped_server.stored()[0]["fd77::9"]
    assert (lease.client[:5].hex(), lease.client[5:].hex(":")) == ("3600000007", duid)
    assert (lease.mac, lease.hostname) == ("52:54:00:00:00:09", "pc")


HOSTS = f"""\
host again {{
  hardware ethernet {MAC};
  fixed-address 10.0.0.6;
  option host-name "pc";
}}
host clash {{
  hardware ethernet 52:54:00:00:00:08;
  fixed-address 10.0.0.5;
}}
host outside {{
  hardware ethernet 52:54:00:00:00:07;
  fixed-address 10.0.1.7;
}}
host new {{
  hardware ethernet 52:54:00:00:00:06;
}}
"""


def test_reservations_are_imported(stopped_server: StoppedServer, tmp_path: Path) -> None:
    """A reservation that exists already is kept; one that is invalid is reported."""
    (tmp_path / "dhcpd.leases").write_text(HOSTS)
    assert stopped_server.run("import", "dhcpd.leases") == (
        3,
        "0 leases and 1 reservations imported\n",
        "left out: the reservation of 10.0.0.5: address 10.0.0.5 is reserved already; remove that reservation first\n"
        "left out: the reservation of 10.0.1.7: 10.0.1.7 is in no subnet\n",
    )
    assert stopped_server.stored()[1] == [ADDED, Reservation(mac="52:54:00:00:00:06")]


def test_a_reservation_without_an_address_needs_a_subnet_of_ipv4(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "six.toml").write_text(
        '[bootfw]\nstate-dir = "six"\n[dhcp6]\nmode = "server"\n[[dhcp6.subnet]]\nnetwork = "fd77::/64"\n'
    )
    (tmp_path / "dhcpd.leases").write_text("host new {\n  hardware ethernet 52:54:00:00:00:06;\n}\n")
    assert command.main(["leases", "-c", "six.toml", "import", "dhcpd.leases"]) == 3
    assert capsys.readouterr().err == (
        "left out: the reservation of 52:54:00:00:00:06: a reservation without an address is in no subnet\n"
    )


def test_import_of_an_export_reports_reservations_of_the_other_configuration(
    server: StoppedServer | StartedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "export.json").write_bytes(b"\xef\xbb\xbf" + server.run("export")[1].encode())
    other = CONFIG.replace('"state"', '"other"').replace("10.0.0.5", "10.0.0.7")
    (tmp_path / "other.toml").write_text(other)
    assert command.main(["leases", "-c", "other.toml", "import", "export.json"]) == 3
    assert capsys.readouterr() == (
        "4 leases and 1 reservations imported\n",
        "left out: the reservation of 10.0.0.5: it is in the configuration file of the other server\n",
    )


def test_file_with_crlf_and_byte_order_mark_is_imported(stopped_server: StoppedServer, tmp_path: Path) -> None:
    text = f"\ufefflease 10.0.0.20 {{\n ends never;\n hardware ethernet {OTHER};\n}}\n".replace("\n", "\r\n")
    (tmp_path / "dhcpd.leases").write_bytes(text.encode())
    assert stopped_server.run("import", "dhcpd.leases") == (0, "1 leases and 0 reservations imported\n", "")


def test_standard_input_is_imported(stopped_server: StoppedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    text = f'lease 10.0.0.20 {{\n ends never;\n hardware ethernet {OTHER};\n client-hostname "kü";\n}}\n'
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), "ascii"))
    assert stopped_server.run("import", "-") == (0, "1 leases and 0 reservations imported\n", "")
    leases, _ = stopped_server.stored()
    assert (leases["10.0.0.20"].client, leases["10.0.0.20"].expires) == (EXPIRED.client, NEVER)


def test_clients_are_identified_as_configured(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(CONFIG.replace("[dhcp]\n", '[dhcp]\nidentify-by = "client-id"\n'))
    (tmp_path / "dnsmasq.leases").write_text(f"99999999999 {OTHER} 10.0.0.20 * 01:02\n")
    assert stopped_server.run("import", "dnsmasq.leases")[0] == 0
    assert stopped_server.stored()[0]["10.0.0.20"].client == b"i\1\2"


def test_import_is_refused_while_the_server_runs(running_server: StartedServer, tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.leases").write_text(DNSMASQ)
    assert running_server.run("import", "dnsmasq.leases") == (
        1,
        "",
        "bootfw: bootfw is running: stop it, import the leases, and start it again\n",
    )


def test_more_leases_than_one_batch_are_listed(running_server: StartedServer) -> None:
    many = [evolve(ACTIVE, address=f"10.0.0.{number}") for number in range(10, 101)]
    for lease in many:
        running_server.address_server.restore(lease)
    assert len(listed_addresses(running_server)) == 92


# Names that a terminal can't show


@pytest.mark.parametrize(
    ("encoding", "name"),
    [
        ("ascii", "k\\xfc\\u4e2d\\x1b[2J"),
        ("latin-1", "k\xfc\\u4e2d\\x1b[2J"),
        ("utf-8", "k\xfc\u4e2d\\x1b[2J"),
    ],
)
def test_characters_that_the_terminal_cannot_show_are_escaped(
    path: Path, tmp_path: Path, encoding: str, name: str
) -> None:
    """Control characters are always escaped."""
    file = StateFile.open(path)
    file.write_leases([row_of(evolve(ACTIVE, hostname="k\xfc\u4e2d\x1b[2J"))])
    file.close()
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    argument_lists = [[], ["show", MAC], ["show", "k\xfc\u4e2d\x1b[3J"], ["list", "k\xfc\u4e2d\x1b[2J", "--json"]]
    done = subprocess.run(
        [sys.executable, "-c", RUN_EACH, json.dumps(argument_lists)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    lease_table, details, missing, records = done.stdout.decode(encoding).split("\0")[:-1]
    heading, line = lease_table.splitlines()[:2]
    assert f"  {name}  never" in line
    assert heading.index("UNTIL") - heading.index("NAME") == len(name) + 2
    assert f"hostname   {name}\n" in details
    assert json.loads(records)[0]["hostname"] == "k\xfc\u4e2d\x1b[2J"
    errors = done.stderr.decode(encoding).split("\0")
    assert (missing, errors) == ("", ["0 ", "0 ", f"bootfw: {name.replace('2J', '3J')} has no lease\n1 ", "0 ", ""])


RUN_EACH = """
import json, sys
from bootfw.cli.main import main

for arguments in json.loads(sys.argv[1]):
    code = main(["leases", "-c", "bootfw.toml", *arguments])
    print(end="\\0", flush=True)
    print(code, end=" \\0", file=sys.stderr, flush=True)
"""
"""Runs the command with each list of arguments. Its output and its exit code end with NUL."""


# The default state directory


@pytest.mark.parametrize(
    "arguments",
    [["release", "10.0.0.100"], ["reserve", "10.0.0.7", "--uuid", UUID], ["unreserve", MAC], ["import", "x"]],
)
def test_a_default_directory_without_a_server_is_not_changed(
    stopped_server: StoppedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    """A server may run with a configuration that was not given."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "state").rename(tmp_path / "bootfw")
    (tmp_path / "x").write_text(DNSMASQ)
    assert command.main(["leases", *arguments]) == 1
    assert capsys.readouterr() == (
        "",
        f"bootfw: no server runs with the state directory {tmp_path}/bootfw: "
        "give your server's configuration with -c FILE, or change the stored state with --offline\n",
    )
    stored = StoppedServer(tmp_path / "bootfw" / "bootfw.sqlite", capsys).stored()
    assert stored == ({lease.address: lease for lease in (ACTIVE, EXPIRED, DECLINED, UNKNOWN)}, [ADDED])
    for offline in (["--offline", *arguments], [*arguments, "--offline"]):
        command.main(["leases", *offline])
        assert "no server runs" not in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["list"], ["show", MAC], ["reservations"], ["export"]])
def test_reading_the_default_state_directory_prints_its_path(
    stopped_server: StoppedServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (tmp_path / "state").rename(tmp_path / "bootfw")
    assert command.main(["leases", *arguments]) == 0
    message = f"bootfw: no server runs with the state directory {tmp_path}/bootfw; this is the stored state\n"
    assert capsys.readouterr().err == message
    assert command.main(["leases", *arguments, "--offline"]) == 0
    assert capsys.readouterr().err == ""


def test_change_without_a_server_is_reported_to_take_effect_at_the_next_start(
    stopped_server: StoppedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["leases", "-c", "bootfw.toml", "release", "10.0.0.100"]) == 0
    message = (
        f"bootfw: no server runs with the state directory {tmp_path}/state; this takes effect with its next start\n"
    )
    assert capsys.readouterr().err == message
    assert command.main(["leases", "-c", "bootfw.toml"]) == 0
    (tmp_path / "x").write_text("99999999999 52:54:00:00:00:09 10.0.0.20 theirs *\n")
    assert command.main(["leases", "-c", "bootfw.toml", "import", "x"]) == 0
    assert capsys.readouterr().err == ""


# Errors


def test_import_of_an_empty_file_imports_nothing(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "dnsmasq.leases").write_text("\n")
    assert stopped_server.run("import", "dnsmasq.leases") == (0, "0 leases and 0 reservations imported\n", "")


def test_import_of_another_file_is_an_error(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x\n")
    assert stopped_server.run("import", "file") == (
        1,
        "",
        "bootfw: this is neither a lease file of ISC dhcpd or dnsmasq nor an export of bootfw\n",
    )


def test_import_of_a_missing_file_is_an_error(stopped_server: StoppedServer) -> None:
    assert stopped_server.run("import", "none") == (1, "", "bootfw: none: No such file or directory\n")


def test_list_without_a_state_directory_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = StoppedServer(tmp_path / "state/leases.sqlite", capsys).run("list")
    assert (code, out) == (1, "")
    assert err == "bootfw: no leases are stored: no server has run with this state directory and configuration\n"
    assert not (tmp_path / "state").exists()


def test_invalid_configuration_is_an_error(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text("[dhcp]\nmode = 1\n[store]\nuse = 'none'")
    assert stopped_server.run("list") == (1, "", "bootfw: bootfw.toml: dhcp.mode: must be a string, not 1\n")


def test_unknown_store_is_an_error(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(CONFIG + "[store]\nuse = 'sqlight'")
    code, _, err = stopped_server.run("list")
    assert code == 1
    assert err.startswith('bootfw: bootfw.toml: store.use: no plugin "sqlight"; known: ')


def test_store_without_offline_access_is_an_error(stopped_server: StoppedServer, tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(CONFIG + "[store]\nuse = 'memory'")
    assert stopped_server.run("list") == (
        1,
        "",
        f"bootfw: no server runs with the state directory {tmp_path}/state, "
        'and without one the leases in "memory" can\'t be reached\n',
    )


def test_lease_file_in_use_is_an_error(stopped_server: StoppedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.stores.statefile.LOCK_TIMEOUT", 0)
    file = StateFile.open(stopped_server.path)
    assert stopped_server.run("list") == (
        1,
        "",
        f"bootfw: {stopped_server.path}: another process uses it; is bootfw running already?\n",
    )
    file.close()


def test_stale_control_socket_means_no_server(stopped_server: StoppedServer) -> None:
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(stopped_server.path.parent / "control.sock"))
    assert listed_addresses(stopped_server) == ["10.0.0.9", "10.0.0.10", "10.0.0.11", "10.0.0.100"]


def test_unresponsive_server_is_an_error(running_server: StartedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "_ANSWER_TIMEOUT", 0.05)
    result = StoppedServer.run(running_server, "list")  # while the reactor does not run
    assert result == (1, "", "bootfw: bootfw has not answered for 0 seconds\n")


def test_server_that_ends_during_a_command_is_an_error(stopped_server: StoppedServer) -> None:
    """It accepts the connection, and closes it without an answer."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(stopped_server.path.parent / "control.sock"))
        server.listen()

        def end() -> None:
            for _ in range(2):  # the first connection only finds out whether a server runs
                server.accept()[0].close()

        thread = threading.Thread(target=end)
        thread.start()
        assert stopped_server.run("list") == (1, "", "bootfw: bootfw ended in the middle of its answer\n")
        thread.join()


@pytest.mark.parametrize(
    "arguments", [[], ["leases", "lost"], ["leases", "list", "--state", "lost"], ["leases", "release"], ["--none"]]
)
def test_wrong_arguments_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 2
    assert "usage: bootfw" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--help"], ["leases", "--help"], ["leases", "reserve", "--help"], ["--version"]]
)
def test_help_is_printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(("usage: bootfw", "bootfw 0"))


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands below a command."""
    [action] = present(parser._subparsers)._group_actions
    assert isinstance(action, argparse._SubParsersAction)
    return dict(action.choices)


def test_manual_has_exactly_the_existing_subcommands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "howto" / "leases.md").read_text()
    parser = argparse.ArgumentParser()
    add_leases(parser.add_subparsers())
    leases = _choices(parser)["leases"]
    verbs = set(_choices(leases))
    documented = re.findall(r"bootfw leases (?:-c \S+ )?([a-z]+)", page) + re.findall(r"`([a-z]+)` makes", page)
    assert set(documented) - {"is"} == verbs
