"""``bootfw machines`` as an operator uses it, without a running server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from howtos import all_blocks

from bootfw.attempts.attempt import BootAttempt, Cause, Verdict
from bootfw.cli import main as command
from bootfw.cli.offline import done
from bootfw.config.configuration import read_config
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.resolvers.next_boot import Order, save_next_boot
from bootfw.stores.sqlite import SqliteStore

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
BEGAN = 1_763_640_000.0
BOOTED = BootAttempt(
    "1", BEGAN, BEGAN + 9, MAC, addresses=("10.77.0.20",), persona="uefi", architecture="arm64", verdict=Verdict.BOOTED
)
FAILED = evolve(BOOTED, id="2", began=BEGAN + 90, verdict=Verdict.FAILED, cause=Cause("k", "did not read it", "look"))
OTHER_BOOTED = BootAttempt("3", BEGAN + 60, BEGAN + 70, OTHER, verdict=Verdict.BOOTED)

CONFIGURATION = """
[bootfw]
state-dir = "state"
[dhcp]
mode = "server"
[[dhcp.subnet]]
network = "10.77.0.0/24"
pool = ["10.77.0.20-10.77.0.99"]
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(cwd: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs ``bootfw machines``, and returns its exit code, output and errors."""
    (cwd / "bootfw.toml").write_text(CONFIGURATION)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command.main(["machines", "-c", "bootfw.toml", "--offline", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(cwd: Path) -> SqliteStore:
    """A store with three boots of two machines."""
    store = SqliteStore(cwd / "state" / "bootfw.sqlite")
    done(store.save_attempts([BOOTED, FAILED, OTHER_BOOTED], 100, 0.0))
    done(store.close_attempts())
    return store


@pytest.mark.usefixtures("store")
def test_machines_are_listed_as_a_table(run: Run) -> None:
    code, out, err = run()
    assert (code, err) == (0, "")
    head, *rows = out.splitlines()
    assert head.split("  ")[0] == "MACHINE"
    assert rows == [
        "52:54:00:12:34:56  -     10.77.0.20  uefi, arm64  2      2025-11-20 12:01:30  failed: did not read it  -",
        "52:54:00:00:00:01  -     -           -            1      2025-11-20 12:01:00  booted                   -",
    ]


@pytest.mark.usefixtures("store")
def test_the_verdict_of_the_latest_boot_selects_machines(run: Run) -> None:
    code, out, _ = run("--verdict", "booted", "--json")
    assert (code, [machine["machine"] for machine in json.loads(out)]) == (0, [OTHER])
    assert run("--verdict", "up") == (1, "", "bootfw: no machine matches\n")


def test_names_and_one_time_boots_are_listed(run: Run, store: SqliteStore) -> None:
    list(store.load())
    leases = [
        Lease(f"10.77.0.2{n}", bytes([n]), mac, LeaseState.ACTIVE, BEGAN, BEGAN + 60, hostname=f"leased{n}")
        for n, mac in enumerate((MAC, OTHER))
    ]
    done(store.commit(leases))
    done(store.save_reservations([Reservation("10.77.0.9", OTHER, hostname="reserved")]))
    done(store.close())
    done(save_next_boot(store, Order(MAC, "install.ipxe", BEGAN)))
    done(store.close_orders("next-boot"))
    code, out, _ = run("--json")
    assert code == 0
    failed, other = json.loads(out)
    assert failed == {
        "machine": MAC,
        "mac": MAC,
        "uuid": "",
        "name": "leased0",
        "tags": [],
        "image": "",
        "host": "",
        "addresses": ["10.77.0.20"],
        "persona": "uefi",
        "architecture": "arm64",
        "boots": 2,
        "failed": 1,
        "last": {"id": "2", "began": BEGAN + 90, "verdict": "failed", "outcome": "failed: did not read it"},
        "next": "install.ipxe",
    }
    assert (other["name"], other["next"]) == ("reserved", None)


def test_machine_is_named_and_tagged_and_found_by_both(run: Run) -> None:
    assert run("name", MAC.upper(), "Web1") == (0, f"{MAC} is named web1\n", "")
    assert run("tag", MAC, "rack1", "role=web", "old") == (0, f"{MAC} has the tags old, rack1, role=web\n", "")
    assert run("untag", MAC, "old") == (0, f"{MAC} has the tags rack1, role=web\n", "")
    code, out, _ = run()
    assert (code, out.splitlines()[0].split()) == (
        0,
        ["MACHINE", "NAME", "TAGS", "ADDRESS", "CLIENT", "BOOTS", "LAST", "BOOT", "VERDICT", "NEXT", "BOOT"],
    )
    assert out.splitlines()[1].split() == [MAC, "web1", "rack1,role=web", "-", "-", "0", "never", "-", "-"]
    assert run("show", "web1")[1] == f"machine  {MAC}\nname     web1\ntags     rack1, role=web\nboots    0\n"
    assert run("list", "--tag", "rack2") == (1, "", "bootfw: no machine matches\n")
    assert run("--tag", "rack1")[0] == run("list", "--tag", "rack1")[0] == 0
    assert run("show", "web2") == (1, "", "bootfw: there is no machine web2\n")


@pytest.mark.usefixtures("store")
def test_commands_of_the_howto_print_its_output(run: Run) -> None:
    ((_, text),) = all_blocks("machines.md")
    console = [part.split("\n", 1) for part in text.split("# bootfw machines")[1:]]
    assert len(console) == 4
    for arguments, output in console:
        assert run(*arguments.split()) == (0, output, "")


def test_a_name_without_a_value_and_untag_without_tags_remove_them(run: Run) -> None:
    run("name", MAC, "web1")
    run("tag", MAC, "rack1")
    assert run("untag", MAC) == (0, f"{MAC} has no tags\n", "")
    assert run("show", "web1")[0] == 0
    # Without a name, tags and boots the machine is not listed.
    assert run("name", MAC) == (0, f"{MAC} has no name of its own\n", "")
    assert run() == (1, "", "bootfw: no machine has booted yet\n")


@pytest.mark.usefixtures("store")
def test_forget_removes_what_was_set_and_keeps_the_boots(run: Run) -> None:
    run("name", MAC, "web1")
    code, out, _ = run("forget", MAC, "--json")
    assert (code, json.loads(out)["name"]) == (0, "web1")
    machine = json.loads(run("show", MAC, "--json")[1])[0]
    assert (machine["name"], machine["boots"]) == ("", 2)
    assert run("forget", MAC) == (1, "", f"bootfw: {MAC} has no name, tag or image that bootfw machines has set\n")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["name", "52:54", "web1"], 'MAC must be a MAC address, such as "52:54:00:12:34:56", not "52:54"'),
        (["name", MAC, "web_1"], 'name must be a host name, such as "web1" or "web1.example.org", not "web_1"'),
        (["name", MAC, "taken"], f"taken is the name of {OTHER} already; give one of them another name"),
        (["tag", MAC, "a b"], "a tag must be of at most 63 letters, digits and ._:=/-, and begin with a letter or "),
    ],
)
def test_invalid_changes_are_refused(run: Run, arguments: list[str], error: str) -> None:
    run("name", OTHER, "taken")
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {error}")
    assert [machine["mac"] for machine in json.loads(run("--json")[1])] == [OTHER]


def test_an_image_that_does_not_exist_is_refused(run: Run, cwd: Path) -> None:
    (cwd / "images").mkdir()
    (cwd / "bootfw.toml").write_text(CONFIGURATION + '[[backend]]\nuse = "images"\nroot = "images"\n')
    code, out, err = run("image", MAC, "debian-12")
    assert (code, out) == (1, "")
    assert err.startswith("bootfw: there is no image debian-12")


@pytest.mark.usefixtures("store")
def test_a_host_file_names_a_machine_and_what_was_set_overrides_it(run: Run, cwd: Path) -> None:
    (cwd / "hosts").mkdir()
    (cwd / "templates").mkdir()
    (cwd / "hosts" / "web1.toml").write_text(f'mac = "{MAC}"\nimage = "debian-12"\nsecret = "x"\n')
    backend = '[[backend]]\nuse = "template"\nroot = "templates"\nhosts = "hosts"\n'
    (cwd / "bootfw.toml").write_text(CONFIGURATION + backend)
    machine = json.loads(run("show", "web1", "--json")[1])[0]
    assert [machine[key] for key in ("mac", "name", "host", "image")] == [MAC, "web1", "web1", "debian-12"]
    assert "secret" not in machine
    run("name", MAC, "web2")
    machine = json.loads(run("show", "web2", "--json")[1])[0]
    assert [machine[key] for key in ("name", "host", "image")] == ["web2", "web1", "debian-12"]


@pytest.mark.usefixtures("store")
def test_the_configuration_is_loaded_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[object] = []

    def counting_read_config(*arguments: Any) -> Any:
        loads.append(arguments)
        return read_config(*arguments)

    monkeypatch.setattr("bootfw.cli.statedir.read_config", counting_read_config)
    monkeypatch.setattr("bootfw.config.configuration.read_config", counting_read_config)
    assert run()[0] == 0
    assert len(loads) == 1


def test_no_machine_exits_with_1(run: Run, cwd: Path) -> None:
    assert run() == (1, "", "bootfw: no machine has booted yet\n")
    assert run("--json") == (1, "[]\n", "")
    assert not (cwd / "state").exists()
