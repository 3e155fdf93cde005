"""Host files: the file of a client, groups and defaults; a broken file affects its host only."""

import builtins
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import Logger, capturedLogs

from bootfw.backends.hosts import HostFileError, Hosts
from bootfw.backends.names import Identifiers

MAC = "52:54:00:00:00:01"
UUID = "52420077-1234-4abc-9def-0123456789ab"

FILES = {
    "web1.toml": f'mac = "{MAC}"\nrole = "web"\n[net]\nip = "10.0.0.1"\n',
    "db1.yaml": f'mac: ["52-54-00-00-00-02", "52:54:00:00:00:03"]\nuuid: "{UUID}"\nrole: db\ngroups: [rack1, ssd]\n',
    "52-54-00-00-00-04.toml": "role = 'by name'",
    "far.yml": "address: 10.9.9.9",
    "defaults.toml": 'role = "none"\n[net]\nmask = 24\nip = ""\n',
    "groups/rack1.toml": 'rack = 1\nrole = "of the group"\n[net]\ngateway = "10.0.0.254"\n',
    "groups/ssd.yaml": "rack: 2",
    "README.md": "not ours",
    ".hidden.toml": "nor this [",
}


@pytest.fixture
def hosts(tmp_path: Path) -> Hosts:
    write(tmp_path, FILES)
    return Hosts(tmp_path)


def write(directory: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("identifiers", "name"),
    [
        (Identifiers(mac=MAC), "web1"),
        (Identifiers(mac="52:54:00:00:00:02"), "db1"),
        (Identifiers(mac="52:54:00:00:00:03"), "db1"),
        (Identifiers(uuid=UUID), "db1"),
        (Identifiers(uuid="77004252-3412-bc4a-9def-0123456789ab"), "db1"),
        (Identifiers(mac="52:54:00:00:00:04"), "52-54-00-00-00-04"),
        (Identifiers(address="10.9.9.9"), "far"),
        (Identifiers(name="web1"), "web1"),
        (Identifiers(mac="52:54:00:00:00:99"), ""),
        (Identifiers(name="defaults"), ""),
        (Identifiers(name="groups/ssd"), ""),
        (Identifiers(), ""),
    ],
)
def test_hosts_are_found_by_their_identifiers(hosts: Hosts, identifiers: Identifiers, name: str) -> None:
    assert hosts.find([identifiers])["name"] == name
    assert hosts.problems() == ()


def test_machines_of_the_configuration_count_like_host_files(hosts: Hosts, tmp_path: Path) -> None:
    """They have groups and defaults, too."""
    machine = {
        "name": "web2",
        "mac": ["52:54:00:00:00:22"],
        "groups": "rack1",
        "net": {"ip": "10.0.0.2"},
        "role": "mail",
    }
    hosts_and_machines = Hosts(tmp_path, machines=[machine])
    found = hosts_and_machines.find([Identifiers(mac="52:54:00:00:00:22")])
    assert found == {**machine, "rack": 1, "net": {"mask": 24, "ip": "10.0.0.2", "gateway": "10.0.0.254"}}
    assert hosts_and_machines.find([Identifiers(mac=MAC)]) == hosts.find([Identifiers(mac=MAC)])
    assert hosts_and_machines.problems() == ()


def test_a_machine_with_a_host_file_too_is_a_problem(hosts: Hosts, tmp_path: Path) -> None:
    hosts_and_machines = Hosts(
        tmp_path, machines=[{"name": "new", "mac": MAC}, {"name": "db1", "role": "of the table"}]
    )
    assert hosts_and_machines.problems() == (
        f"{tmp_path}/db1.yaml: [[machine]] db1 exists as well, and is used instead",
        f"{tmp_path}/web1.toml: {MAC} is in [[machine]] new already",
    )
    assert hosts_and_machines.find([Identifiers(name="db1")])["role"] == "of the table"


def test_machines_without_host_files() -> None:
    machines_only = Hosts(
        None, machines=[{"name": "web1", "mac": MAC, "groups": ["rack1"]}, {"name": "db1", "uuid": UUID}]
    )
    assert machines_only.find([Identifiers(uuid=UUID)]) == {"name": "db1", "uuid": UUID}
    assert machines_only.find([Identifiers(mac="52:54:00:00:00:99")]) == {"name": ""}
    error = '[[machine]] web1: group "rack1" needs a directory of host files: "hosts" of the template backend'
    assert machines_only.problems() == (error,)
    with pytest.raises(HostFileError, match="needs a directory of host files"):
        machines_only.find([Identifiers(mac=MAC)])


def test_all_hosts_with_valid_files_are_listed(tmp_path: Path) -> None:
    write(tmp_path, {**FILES, "broken.toml": "role ="})
    listed = Hosts(tmp_path).all()
    assert [host["name"] for host in listed] == ["52-54-00-00-00-04", "db1", "far", "web1"]
    assert listed[-1] == Hosts(tmp_path).find([Identifiers(name="web1")])


def test_identifiers_in_the_name_come_before_those_of_dhcp(hosts: Hosts) -> None:
    assert hosts.find([Identifiers(), Identifiers(name="db1"), Identifiers(mac=MAC)])["name"] == "db1"


def test_the_host_wins_over_its_groups_and_these_over_the_defaults(hosts: Hosts) -> None:
    assert hosts.find([Identifiers(name="db1")]) == {
        "name": "db1",
        "mac": ["52-54-00-00-00-02", "52:54:00:00:00:03"],
        "uuid": UUID,
        "role": "db",
        "groups": ["rack1", "ssd"],
        "rack": 2,
        "net": {"mask": 24, "ip": "", "gateway": "10.0.0.254"},
    }
    assert hosts.find([Identifiers(name="web1")])["net"] == {"mask": 24, "ip": "10.0.0.1"}
    assert hosts.find([Identifiers()]) == {"name": "", "role": "none", "net": {"mask": 24, "ip": ""}}


def test_changed_added_and_removed_files_are_noticed(hosts: Hosts, tmp_path: Path) -> None:
    assert hosts.find([Identifiers(mac=MAC)])["role"] == "web"
    write(tmp_path, {"web1.toml": f'mac = "{MAC}"\nrole = "mail!"\n', "new.toml": 'address = "10.0.0.77"'})
    assert hosts.find([Identifiers(mac=MAC)])["role"] == "mail!"
    assert hosts.find([Identifiers(address="10.0.0.77")])["name"] == "new"
    (tmp_path / "web1.toml").unlink()
    assert hosts.find([Identifiers(mac=MAC)])["name"] == ""


def test_files_are_checked_for_changes_once_a_second(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    now = [100.0]
    hosts = Hosts(tmp_path, lambda: now[0])
    assert hosts.find([Identifiers(mac=MAC)])["name"] == "web1"
    (tmp_path / "web1.toml").unlink()
    now[0] = 100.9
    assert hosts.find([Identifiers(mac=MAC)])["name"] == "web1"
    now[0] = 101.0
    assert hosts.find([Identifiers(mac=MAC)])["name"] == ""


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("x.toml", f'mac = "{MAC}"\nrole = [\n', "x.toml:3: "),
        ("x.toml", f'mac = "{MAC}"\nrole = web\n', "x.toml:2: Invalid value"),
        ("x.toml", f'mac = "{MAC}', "x.toml:1: "),
        ("x.yaml", f'role: "{MAC}\nx: [\n', "x.yaml:3: "),
        ("x.yaml", f'- "{MAC}"\n', "x.yaml: must be a table"),
        ("x.toml", f'mac = "{MAC}"\nname = "y"\n', "the name of the file is"),
        ("x.toml", f'mac = ["{MAC}", 7]\n', '"mac" must be a string or a list of strings'),
        ("x.toml", f'mac = "{MAC}"\ngroups = 7\n', '"groups" must be a string or a list of strings'),
        ("x.toml", f'mac = "{MAC}"\nuuid = "1-2"\n', '"1-2" is no UUID'),
        ("x.toml", f'mac = ["{MAC}", "52:54"]\n', '"52:54" is no MAC'),
        ("52-54-00-00-00-01.toml", "[", "52-54-00-00-00-01.toml:1: "),
        ("x.toml", f'mac = "{MAC}"\ngroups = ["nope"]\n', 'groups/nope.toml for group "nope"'),
    ],
)
def test_invalid_host_file_affects_its_host_only(tmp_path: Path, name: str, text: str, reason: str) -> None:
    """The host of the broken file is not served as an unknown one: the defaults may install a system."""
    write(tmp_path, {name: text, "other.toml": 'mac = "52:54:00:00:00:02"'})
    hosts = Hosts(tmp_path)
    with pytest.raises(HostFileError) as caught:
        hosts.find([Identifiers(mac=MAC)])
    assert reason in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert hosts.find([Identifiers(mac="52:54:00:00:00:02")])["name"] == "other"
    assert hosts.find([Identifiers(mac="52:54:00:00:00:09")])["name"] == ""
    write(tmp_path, {name: 'mac = "52:54:00:00:00:01"\n' if name.endswith("toml") else f'mac: "{MAC}"\n'})
    assert hosts.find([Identifiers(mac=MAC)])["name"] == Path(name).stem


def test_file_that_is_not_utf_8_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_bytes(b'mac = "52:54:00:00:00:01"\nrole = "\xff"\n')
    with pytest.raises(HostFileError, match=r"x\.toml:2: must be UTF-8"):
        Hosts(tmp_path).find([Identifiers(mac=MAC)])


@pytest.mark.parametrize(("name", "text"), [("x.toml", f'mac = "{MAC}"\r\n'), ("x.yaml", f'mac: "{MAC}"\r\n')])
def test_byte_order_mark_is_ignored(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert Hosts(tmp_path).find([Identifiers(mac=MAC)])["name"] == "x"


def test_yaml_mac_parsed_as_a_number_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"x.yaml": "mac: 52:54:00:00:00:01\n"})
    with pytest.raises(HostFileError, match=r"YAML takes .* without quotes for a number"):
        Hosts(tmp_path).find([Identifiers(mac=MAC)])


def test_invalid_defaults_affect_every_host(tmp_path: Path) -> None:
    write(tmp_path, {"defaults.toml": "["})
    with pytest.raises(HostFileError, match=r"defaults\.toml:1"):
        Hosts(tmp_path).find([Identifiers()])


def test_unreadable_host_file_is_an_error(hosts: Hosts, tmp_path: Path) -> None:
    (tmp_path / "web1.toml").unlink()
    (tmp_path / "web1.toml").mkdir()
    with pytest.raises(HostFileError, match=r"web1\.toml: Is a directory"):
        hosts.find([Identifiers(name="web1")])


def test_a_second_file_for_one_machine_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path, {"a.toml": f'mac = "{MAC}"', "b.toml": f'mac = "{MAC}"', "a.yaml": "x: 1"})
    hosts = Hosts(tmp_path)
    assert hosts.find([Identifiers(mac=MAC)])["name"] == "a"
    assert hosts.problems() == (
        f"{tmp_path}/a.yaml: a.toml exists as well, and is used instead",
        f"{tmp_path}/b.toml: {MAC} is in a.toml already",
    )


def test_missing_directory_makes_every_client_unknown(tmp_path: Path) -> None:
    hosts = Hosts(tmp_path / "none")
    assert hosts.find([Identifiers(mac=MAC)]) == {"name": ""}
    assert hosts.problems() == (f"{tmp_path}/none: No such file or directory",)


def test_the_log_has_each_problem_once(tmp_path: Path) -> None:
    write(tmp_path, {"x.toml": "["})
    hosts = Hosts(tmp_path)
    with capturedLogs() as events:
        for _ in range(3):
            hosts.find([Identifiers()])
        write(tmp_path, {"x.toml": "x = y"})
        hosts.find([Identifiers()])
    assert isinstance(hosts.log, Logger)
    assert [event["problem"].startswith(f"{tmp_path}/x.toml:1: ") for event in events] == [True, True]


def test_yaml_file_without_pyyaml_is_an_error(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    def import_without_yaml(name: str, *arguments: Any) -> Any:
        if name == "yaml":
            raise ImportError(name)
        return original_import(name, *arguments)

    original_import = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", import_without_yaml)
    with pytest.raises(HostFileError, match=r"bootfw\[yaml\]"):
        hosts.find([Identifiers(name="db1")])
    assert hosts.find([Identifiers(mac=MAC)])["name"] == "web1"


def test_a_dangling_link_is_a_problem_and_affects_no_other_host(hosts: Hosts, tmp_path: Path) -> None:
    os.symlink("nowhere", tmp_path / "gone.toml")
    assert hosts.problems() == (f"{tmp_path}/gone.toml: No such file or directory",)
    assert hosts.find([Identifiers(mac=MAC)])["name"] == "web1"


def test_a_fifo_is_a_problem_and_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web9.toml")
    hosts = Hosts(tmp_path)
    assert hosts.problems() == (f"{tmp_path}/web9.toml: must be a regular file",)
    with pytest.raises(HostFileError, match="regular"):
        hosts.find([Identifiers(name="web9")])


def test_a_missing_group_is_a_problem_before_its_host_sends_a_request(tmp_path: Path) -> None:
    (tmp_path / "web9.toml").write_text('groups = ["rack1"]')
    assert Hosts(tmp_path).problems() == (
        f'{tmp_path}/web9.toml: there is no {tmp_path}/groups/rack1.toml for group "rack1"',
    )
