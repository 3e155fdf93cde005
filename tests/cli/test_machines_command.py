"""``bootfw machines``, with a server that runs and without."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from attrs import evolve

from bootfw.attempts.attempt import BootAttempt, Cause, Verdict
from bootfw.cli import main as command
from bootfw.cli.offline import done
from bootfw.lease import Lease, LeaseState, Reservation
from bootfw.resolvers.next_boot import Order, save_next_boot
from bootfw.stores.sqlite import SqliteStore

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
BEGAN = 1_763_640_000.0
BOOTED = BootAttempt(
    "1", BEGAN, BEGAN + 9, MAC, addresses=("10.77.0.20",), persona="uefi", architecture="arm64", verdict=Verdict.BOOTED
)
FAILED = evolve(BOOTED, id="2", began=BEGAN + 90, verdict=Verdict.FAILED, cause=Cause("k", "did not read it", "look"))
ELSE = BootAttempt("3", BEGAN + 60, BEGAN + 70, OTHER, verdict=Verdict.BOOTED)

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
def run(here: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Exit code, and what it prints."""
    (here / "bootfw.toml").write_text(CONFIGURATION)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = command.main(["machines", "-c", "bootfw.toml", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def store(here: Path) -> SqliteStore:
    """With three boots of two machines."""
    store = SqliteStore(here / "state" / "bootfw.sqlite")
    done(store.save_attempts([BOOTED, FAILED, ELSE], 100, 0.0))
    done(store.close_attempts())
    return store


@pytest.mark.usefixtures("store")
def test_machines_are_listed_as_a_table(run: Run) -> None:
    code, out, errors = run()
    assert (code, errors) == (0, "")
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
        "addresses": ["10.77.0.20"],
        "persona": "uefi",
        "architecture": "arm64",
        "boots": 2,
        "failed": 1,
        "last": {"id": "2", "began": BEGAN + 90, "verdict": "failed", "outcome": "failed: did not read it"},
        "next": "install.ipxe",
    }
    assert (other["name"], other["next"]) == ("reserved", None)


def test_no_machine_exits_with_1(run: Run, here: Path) -> None:
    assert run() == (1, "", "bootfw: no machine has booted yet\n")
    assert run("--json") == (1, "[]\n", "")
    assert not (here / "state").exists()
