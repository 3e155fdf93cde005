"""The plugin redfish, at the emulator of sushy-tools."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bmc import BMC, MACHINE, OTHER_MACHINE, USER, running
from bootfw_redfish import sushy
from bootfw_redfish.power import RedfishPower, plugin
from certificates import Authority
from howtos import blocks
from installing import REDFISH, install_plugin

from bootfw.api import ConfigError, PluginContext, PowerAction, PowerError, PowerState
from bootfw.cli.main import main
from bootfw.testing import PowerContract


def test_sushy_is_imported_where_zope_interface_knows_mappings() -> None:
    """A class that is a Mapping can't be asked what it provides without this."""
    code = "from zope.interface import implementedBy; from collections.abc import Mapping; implementedBy(Mapping);"
    command = [sys.executable, "-c", code + "import bootfw_redfish.power"]
    subprocess.run(command, cwd=Path(__file__).parents[1], check=True, timeout=300)


@pytest.fixture(scope="module")
def _bmc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BMC]:
    with running(tmp_path_factory.mktemp("bmc")) as bmc:
        yield bmc


@pytest.fixture
def bmc(_bmc: BMC) -> BMC:
    _bmc.reset()
    return _bmc


def power(bmc: BMC, **changed: Any) -> RedfishPower:
    """As a host file has it; without the options that are None."""
    options = {
        "address": bmc.url,
        "user": USER,
        "password-file": str(bmc.password_file),
        "ca-file": str(bmc.ca_file),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    set_options = {name: value for name, value in options.items() if value is not None}
    power = plugin.configure(set_options, PluginContext(None, Path("/etc/bootfw")))
    assert isinstance(power, RedfishPower)
    return power


class TestRedfish(PowerContract):
    @pytest.fixture(autouse=True)
    def _set_bmc(self, bmc: BMC) -> None:
        self.bmc = bmc

    def make_power(self) -> RedfishPower:
        return power(self.bmc)

    def boots_from_network(self) -> bool:
        return bool(self.bmc.machine.get("boot_device") == "Pxe")


def refusal(power: RedfishPower) -> str:
    with pytest.raises(PowerError) as caught:
        power.state()
    return str(caught.value)


def test_a_wrong_password_is_named_and_not_shown(bmc: BMC) -> None:
    bmc.password_file.write_text("hunter2\n")
    message = refusal(power(bmc))
    assert message == f'{bmc.url} refuses the user "{USER}": check user and password-file'
    assert "hunter2" not in message


def test_a_certificate_of_a_stranger_is_refused(bmc: BMC, tmp_path: Path) -> None:
    other_authority = tmp_path / "stranger.pem"
    other_authority.write_bytes(Authority().pem)
    for ca_file in (other_authority, None):
        message = refusal(power(bmc, ca_file=ca_file and str(ca_file)))
        assert message.startswith(f"{bmc.url} can't be reached: its certificate is not trusted (")


def test_any_certificate_is_accepted_when_that_is_wanted(bmc: BMC) -> None:
    assert power(bmc, ca_file=None, verify=False).state() is PowerState.OFF


def test_a_bmc_that_is_away(bmc: BMC) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        url = f"https://127.0.0.1:{closed.getsockname()[1]}"
        assert refusal(power(bmc, address=url)) == f"{url} can't be reached: Connection refused"


def test_a_bmc_that_does_not_answer(bmc: BMC) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        assert refusal(power(bmc, address=url, timeout_seconds=0.2)) == f"{url} can't be reached: no answer in time"


def test_one_of_several_machines_has_to_be_named(bmc: BMC) -> None:
    bmc.add_machine()
    assert refusal(power(bmc)) == f"{bmc.url} has 2 systems: set system to one of {MACHINE}, {OTHER_MACHINE}"
    assert refusal(power(bmc, system="web9")) == f'{bmc.url} has no system "web9"; it has: {MACHINE}, {OTHER_MACHINE}'
    for name in ("web1", MACHINE):
        power(bmc, system=name).switch(PowerAction.ON)
        assert power(bmc, system=name).state() is PowerState.ON
        assert power(bmc, system="other").state() is PowerState.OFF


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (None, 0, "password-file: {}: No such file or directory"),
        (b"secret\n", 0o644, "every user can read {0}: chmod o-r {0}"),
        (b"\n", 0o600, "password-file: {} has no password in its first line"),
        (b"\xff\n", 0o600, "password-file: {} must be UTF-8"),
    ],
)
def test_a_password_file_that_can_not_be_used(
    content: bytes | None, mode: int, reason: str, bmc: BMC, tmp_path: Path
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    assert refusal(power(bmc, password_file=str(path))) == reason.format(path)


def test_a_missing_file_of_certificates_is_named(bmc: BMC, tmp_path: Path) -> None:
    assert refusal(power(bmc, ca_file=str(tmp_path / "ca"))) == f"ca-file: there is no file {tmp_path / 'ca'}"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"address": "bmc:port"}, 'address: must be the URL of a BMC, such as "https://10.0.1.5", not "bmc:port"'),
        ({"address": "https://u:p@bmc"}, "address: must be the URL of a BMC"),
        ({"address": "ftp://bmc"}, "address: must be the URL of a BMC"),
        ({"address": "https://bmc/redfish"}, "address: must be the URL of a BMC"),
        ({"address": "http://bmc"}, "address: sends the password in clear text: use https, or set verify = false"),
        ({"verify": False}, "ca-file: is of no use with verify = false"),
        ({"timeout_seconds": 0.0}, "timeout-seconds: must be more than 0"),
        ({"password_file": ""}, "password-file: must be the path of a file"),
        ({"address": None}, '"address" is missing'),
    ],
)
def test_wrong_options_are_named(changed: dict[str, Any], reason: str, bmc: BMC) -> None:
    with pytest.raises(ConfigError) as caught:
        power(bmc, **changed)
    assert reason in str(caught.value)


@pytest.mark.parametrize("address", ["10.0.1.5", "https://10.0.1.5", "https://10.0.1.5/"])
def test_an_address_alone_means_https(address: str, bmc: BMC) -> None:
    assert power(bmc, address=address).address == "https://10.0.1.5"


def test_paths_are_relative_to_the_configuration(bmc: BMC) -> None:
    redfish = power(bmc, password_file="bmc.password", ca_file="bmc.pem")
    assert (redfish.password_file, redfish.ca_file) == (Path("/etc/bootfw/bmc.password"), Path("/etc/bootfw/bmc.pem"))


class LimitedPower(RedfishPower):
    """At a BMC that offers little, and whose machine is in a state of its own."""

    def __init__(self, bmc: BMC, *allowed: Any) -> None:
        super().__init__(bmc.url, USER, bmc.password_file)
        self.actions: list[Any] = []
        self._allowed = {*allowed}

    @contextmanager
    def _machine(self) -> Iterator[Any]:
        yield SimpleNamespace(
            power_state=sushy.PowerState.PAUSED,
            get_allowed_reset_system_values=lambda: self._allowed,
            get_allowed_system_boot_source_values=lambda: self._allowed,
            reset_system=self.actions.append,
            set_system_boot_options=lambda source, enabled: self.actions.append((source, enabled)),
        )


def test_it_does_what_the_bmc_offers(bmc: BMC) -> None:
    limited = LimitedPower(bmc, sushy.ResetType.FORCE_ON, sushy.ResetType.POWER_CYCLE, sushy.BootSource.UEFI_HTTP)
    assert limited.state() is PowerState.UNKNOWN
    limited.boot_from_network()
    limited.switch(PowerAction.ON)
    limited.switch(PowerAction.RESET)
    once = sushy.BootSourceOverrideEnabled.ONCE
    cycle = sushy.ResetType.POWER_CYCLE
    assert limited.actions == [(sushy.BootSource.UEFI_HTTP, once), sushy.ResetType.FORCE_ON, cycle]
    with pytest.raises(PowerError, match=r'can\'t do "off": it offers ForceOn, PowerCycle, UefiHttp$'):
        limited.switch(PowerAction.OFF)
    with pytest.raises(PowerError, match=r"can't have the machine boot from the network: it offers nothing$"):
        LimitedPower(bmc).boot_from_network()


def test_the_page_switches_a_machine(
    bmc: BMC, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install_plugin(REDFISH, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for text in blocks("power.md", "toml"):
        path = tmp_path / text.splitlines()[0].removeprefix("# ")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace("https://10.0.1.5", bmc.url))
    (tmp_path / "bootfw.toml").write_text('[[backend]]\nuse = "template"\nroot = "hosts"\nhosts = "hosts"\n')
    (tmp_path / "bmc.password").write_bytes(bmc.password_file.read_bytes())
    (tmp_path / "bmc.password").chmod(0o600)
    (tmp_path / "bmc-ca.pem").write_bytes(bmc.ca_file.read_bytes())
    lines = blocks("power.md", "console")[1].splitlines()
    for command, expected in zip(lines[::2], lines[1::2], strict=True):
        assert main([*command.removeprefix("$ bootfw ").split(), "-c", "bootfw.toml"]) == 0
        assert capsys.readouterr().out == f"{expected}\n"
    assert power(bmc).state() is PowerState.ON
    assert bmc.machine["boot_device"] == "Pxe"
