"""Commands take the names of machines wherever they take their MAC addresses."""

from pathlib import Path

import pytest

from bootfw.cli import main as command
from bootfw.cli.assembly import Assembly
from bootfw.cli.failure import CommandError
from bootfw.cli.machinenames import machine_client, machine_mac
from bootfw.cli.offline import OfflineEntries
from bootfw.config.configuration import load_config
from bootfw.stores.sqlite import SqliteStore

WEB, TABLE, RESERVED, LEASED, DATABASE = (f"52:54:00:00:00:0{number}" for number in range(1, 6))

CONFIGURATION = f"""
[bootfw]
state-dir = "state"
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.20-10.77.0.99"]
[[dhcp.subnet.host]]
mac = "{RESERVED}"
address = "10.77.0.7"
hostname = "Printer"
[[machine]]
name = "table1"
mac = "{TABLE}"
[[machine]]
name = "bonded"
mac = ["52:54:00:00:00:0a", "52:54:00:00:00:0b"]
[[backend]]
use = "directory"
root = "."
"""

TEMPLATES = """
[[backend]]
use = "template"
root = "."
hosts = "hosts"
"""


@pytest.fixture
def site(cwd: Path) -> Path:
    (cwd / "bootfw.toml").write_text(CONFIGURATION)
    return cwd


def mac_of(text: str) -> str:
    """The MAC address of a machine with this name or address in the current configuration."""
    return machine_mac(text, Assembly(load_config("bootfw.toml", {})))


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("text", "mac"),
    [(WEB.upper().replace(":", "-"), WEB), ("table1", TABLE), ("printer", RESERVED), ("PRINTER", RESERVED)],
)
def test_machine_is_found_by_address_or_name(text: str, mac: str) -> None:
    assert mac_of(text) == mac


def test_machine_is_found_by_the_name_of_its_host_file(site: Path) -> None:
    (site / "hosts").mkdir()
    (site / "hosts/web1.toml").write_text(f'mac = "{WEB}"\n')
    (site / f"hosts/{DATABASE}.toml").write_text("")
    (site / "bootfw.toml").write_text(CONFIGURATION + TEMPLATES)
    assert [mac_of("web1"), mac_of("table1"), mac_of(DATABASE)] == [WEB, TABLE, DATABASE]


def test_name_that_was_set_overrides_the_configuration(site: Path) -> None:
    store = SqliteStore(site / "state" / "bootfw.sqlite")
    OfflineEntries(store).set({"mac": DATABASE, "name": "table1"})
    assert mac_of("table1") == DATABASE


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("52:54", 'MAC must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (
            "web9",
            'MAC: no machine has the name "web9", which is no MAC address either; "bootfw machines" lists the names',
        ),
        (
            "bonded",
            'MAC: "bonded" is the name of 52:54:00:00:00:0a, 52:54:00:00:00:0b: give one of these MAC addresses',
        ),
    ],
)
def test_text_that_names_no_machine_is_an_error(text: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        mac_of(text)
    assert str(caught.value) == message


@pytest.mark.usefixtures("site")
def test_client_of_a_boot_record_may_be_an_address() -> None:
    assembly = Assembly(load_config("bootfw.toml", {}))
    assert [machine_client(text, assembly) for text in ("10.0.0.1", "table1")] == ["10.0.0.1", TABLE]


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["next", "table1", "x.ipxe", "--offline"], f"{TABLE} boots x.ipxe next, once"),
        (["machines", "--offline", "tag", "table1", "rack1"], f"{TABLE} has the tags rack1"),
        (["boots", "--mac", "table1"], "no boot matches"),
        (["show", "table1"], f"{TABLE} has not booted"),
        (["power", "table1", "status"], f"{TABLE}: add to the host file of table1: [power]"),
        (["explain", "--mac", "table1", "--arch", "x86-bios"], TABLE),
        (["render", "x", "--mac", "table1"], 'no backend has "x"'),
        (["wake", "web9"], 'no machine has the name "web9"'),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_command_takes_the_name_of_a_machine(
    capsys: pytest.CaptureFixture[str], arguments: list[str], expected: str
) -> None:
    command.main([*arguments, "-c", "bootfw.toml"])
    captured = capsys.readouterr()
    assert expected in captured.out + captured.err
