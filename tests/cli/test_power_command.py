"""``bootfw power``, and ``bootfw install --power``, with a plugin of the test; bootfw-redfish has tests of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from archives import make_tar
from osimages import CONFIG, TREES

from bootfw.cli import main as command

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:12:34:57"

SWITCH_PLUGIN = '''
"""Power control of machines that are files, in which each action is a line."""

from attrs import define
from bootfw.api import IPower, PowerAction, PowerError, PowerState, boot_plugin
from zope.interface import implementer


@implementer(IPower)
@define
class Switch:
    """Writes its actions into a file."""

    path: str
    fails: str = ""

    def state(self):
        self._do("state")
        return PowerState.OFF

    def switch(self, action):
        self._do(action.value)

    def boot_from_network(self):
        self._do("network")

    def _do(self, action):
        if action == self.fails:
            raise PowerError(f"{self.path} is unplugged")
        if action != "state":
            with open(self.path, "a") as file:
                file.write(f"{action}\\n")


plugin = boot_plugin(IPower, Switch)
'''

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def site(cwd: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a configuration, and the host files of two machines in a group."""
    monkeypatch.syspath_prepend(str(cwd))
    (cwd / "machineswitch.py").write_text(SWITCH_PLUGIN)
    (cwd / "bootfw.toml").write_text(CONFIG)
    for name in ("answers", "hosts", "hosts/groups", "images"):
        (cwd / name).mkdir()
    (cwd / "hosts/groups/rack1.toml").write_text('[power]\nuse = "machineswitch:plugin"\n')
    write_host_file(cwd, "web1", MAC, 'path = "web1.log"')
    write_host_file(cwd, "web2", OTHER, 'path = "web2.log"')
    return cwd


def write_host_file(site: Path, name: str, mac: str, power: str) -> None:
    (site / f"hosts/{name}.toml").write_text(f'mac = "{mac}"\ngroups = ["rack1"]\n[power]\n{power}\n')


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command, and returns its exit code, output and errors."""

    def run(name: str, *arguments: str) -> tuple[int, str, str]:
        code = command.main([name, "-c", "bootfw.toml", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def switched(site: Path, name: str = "web1") -> list[str]:
    """The actions of the power plugin for a machine."""
    path = site / f"{name}.log"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize(
    ("arguments", "message", "expected"),
    [
        (("status",), "off", []),
        (("on",), "switched on", ["on"]),
        (("off",), "switched off", ["off"]),
        (("reset",), "started anew", ["reset"]),
        (("on", "--network"), "switched on, and boots from the network", ["network", "on"]),
        (("reset", "--network"), "started anew, and boots from the network", ["network", "reset"]),
    ],
)
def test_each_action_is_done_by_the_plugin(
    arguments: tuple[str, ...], message: str, expected: list[str], site: Path, run: Run
) -> None:
    assert run("power", MAC, *arguments) == (0, f"{MAC}: {message}\n", "")
    assert switched(site) == expected


def test_machine_that_fails_does_not_stop_the_others(site: Path, run: Run) -> None:
    write_host_file(site, "web1", MAC, 'path = "web1.log"\nfails = "on"')
    code, out, err = run("power", MAC, OTHER, "on")
    assert (code, out) == (1, f"{OTHER}: switched on\n")
    assert err == f"bootfw: {MAC}: web1.log is unplugged\n"
    assert switched(site, "web2") == ["on"]


def test_machine_of_the_configuration_is_switched(site: Path, run: Run) -> None:
    mac = "52:54:00:12:34:58"
    table = f'[[machine]]\nname = "web3"\nmac = "{mac}"\n[machine.power]\nuse = "machineswitch:plugin"\n'
    (site / "bootfw.toml").write_text(f'{CONFIG}{table}path = "web3.log"\n')
    assert run("power", mac, "on") == (0, f"{mac}: switched on\n", "")
    assert switched(site, "web3") == ["on"]


def test_network_option_is_only_for_on_and_reset(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run("power", MAC, "off", "--network")
    assert caught.value.code == 2
    assert "--network is for on and reset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("power = 1", 'power: must be a table, such as [power] use = "redfish"'),
        ("[power]", 'power.use: must name the plugin, such as use = "redfish"'),
        ('[power]\nuse = "absent"', 'power: no plugin "absent"'),
        (
            '[power]\nuse = "next-boot"',
            'power: "next-boot" is a plugin of the kind resolver: write it under [[resolver]]',
        ),
        ('[power]\nuse = "machineswitch:plugin"', 'power: "path" is missing'),
        ('[power]\nuse = "machineswitch:plugin"\npath = "x"\nfail = "on"', "power.fail: "),
    ],
)
def test_mistakes_in_a_host_file_are_reported(table: str, message: str, site: Path, run: Run) -> None:
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\n{table}\n')
    code, out, err = run("power", MAC, "on")
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: the host file of web1: {message}")


def test_machine_without_power_control_is_an_error(site: Path, run: Run) -> None:
    example = '[power] use = "redfish", address = "https://ADDRESS"'
    (site / "hosts/web1.toml").write_text(f'mac = "{MAC}"\n')
    assert run("power", MAC, "on")[2] == f"bootfw: {MAC}: add to the host file of web1: {example}\n"
    (site / "hosts/web1.toml").unlink()
    assert run("power", MAC, "on")[2] == f"bootfw: {MAC}: add to a host file of its own: {example}\n"


# bootfw install --power


@pytest.fixture
def install(site: Path, run: Run) -> Run:
    """Runs ``bootfw install --power`` for the first machine."""
    make_tar(site / "images/debian-12.tar", dict(next(tree for tree in TREES if tree.family == "debian-netboot").files))
    return lambda: run("install", "--offline", "--power", MAC, "debian-12")


def ordered_files(run: Run) -> list[str]:
    """The files of all one-time boots."""
    return [order["file"] for order in json.loads(run("next", "--offline", "--json")[1])["next"]]


def test_install_starts_the_machine_from_the_network(site: Path, install: Run, run: Run) -> None:
    code, out, err = install()
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == f'it is being started; "bootfw show {MAC}" shows what has become of it'
    assert switched(site) == ["network", "reset"]
    assert ordered_files(run) == ["install/debian-12.ipxe"]


def test_nothing_is_ordered_when_the_machine_can_not_be_switched(site: Path, install: Run, run: Run) -> None:
    write_host_file(site, "web1", MAC, 'path = "web1.log"\nfails = "state"')
    assert install() == (1, "", f"bootfw: {MAC}: web1.log is unplugged; nothing was ordered\n")
    assert (switched(site), ordered_files(run)) == ([], [])


def test_an_order_stays_when_its_machine_does_not_start(site: Path, install: Run, run: Run) -> None:
    write_host_file(site, "web1", MAC, 'path = "web1.log"\nfails = "reset"')
    code, _, err = install()
    assert code == 1
    assert err == (
        f"bootfw: {MAC}: web1.log is unplugged; the image is still ordered for its next boot; "
        f'"bootfw next --clear {MAC}" cancels it\n'
    )
    assert ordered_files(run) == ["install/debian-12.ipxe"]


def test_lint_and_check_report_mistakes_before_a_machine_is_switched(
    site: Path, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    (site / "bootfw.toml").write_text(CONFIG + '[[machine]]\nname = "web3"\npower = 1\n')
    write_host_file(site, "web1", MAC, 'pth = "web1.log"')
    mistakes = [
        (f"{site}/hosts/web1.toml", 'power.pth: unknown key; known: path, fails; did you mean "path"?'),
        ("[[machine]] web3", 'power: must be a table, such as [power] use = "redfish"'),
    ]
    code, out, _ = run("lint")
    assert code == 1
    lines = [line.strip() for line in out.splitlines()]
    expected = [
        line
        for source, mistake in mistakes
        for line in (f"power  {source}", mistake, "-> correct it; bootfw power uses it")
    ]
    assert lines == [*expected, "2 findings"]
    with pytest.raises(SystemExit) as caught:
        run("run", "--check")
    assert caught.value.code == 0
    warnings = [line for line in capsys.readouterr().out.splitlines() if line.startswith("WARNING")]
    assert warnings == [f"WARNING: {source}: {mistake}" for source, mistake in mistakes]
