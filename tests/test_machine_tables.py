"""``[[machine]]``: how the tables are read and reloaded."""

from pathlib import Path

import pytest

from bootfw.build import load_parts
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.config.settings import MachineSettings

MAC = "52:54:00:12:34:56"
UUID = "52420077-1234-4abc-9def-0123456789ab"


def write_config(directory: Path, text: str) -> Path:
    path = directory / "bootfw.toml"
    path.write_text(text)
    return path


def machines(directory: Path, text: str) -> tuple[MachineSettings, ...]:
    return load_config(write_config(directory, text), {}).settings.machine


def test_table_has_the_content_of_a_host_file(tmp_path: Path) -> None:
    (machine,) = machines(
        tmp_path,
        f'[[machine]]\nmac = "52-54-00-12-34-56"\nimage = "debian-12"\n[machine.net]\nip = "10.0.0.1"\nuuid = "{UUID}"',
    )
    assert machine.host == {
        "name": MAC,
        "mac": "52-54-00-12-34-56",
        "image": "debian-12",
        "net": {"ip": "10.0.0.1", "uuid": UUID},
    }


@pytest.mark.parametrize(
    ("table", "name"),
    [
        (f'mac = ["{MAC}", "52:54:00:12:34:57"]', MAC),
        (f'uuid = "{UUID.upper()}"', UUID),
        ('address = "10.0.0.9"', "10.0.0.9"),
        (f'name = "web1"\nmac = "{MAC}"', "web1"),
        ('name = "web1"', "web1"),
    ],
)
def test_name_of_a_machine(tmp_path: Path, table: str, name: str) -> None:
    (machine,) = machines(tmp_path, f"[[machine]]\n{table}")
    assert machine.host["name"] == name


def test_machine_of_an_embedder_has_the_same_host() -> None:
    machine = MachineSettings(name="web1", mac=(MAC,), image="debian-12")
    assert machine.host == {"name": "web1", "mac": [MAC], "image": "debian-12"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[machine]\n", "machine: must be a list of tables: write [[machine]]"),
        ("[[machine]]\nrole = 'web'", "machine[0]: needs at least one of name, mac, uuid, address"),
        ("[[machine]]\nmac = '52:54'", "machine[0].mac: must be a MAC address"),
        ("[[machine]]\nuuid = 'x'", "machine[0].uuid: "),
        ("[[machine]]\naddress = '10.0.0'", 'machine[0].address: must be an IP address, not "10.0.0"'),
        ("[[machine]]\nname = 'a/b'", "machine[0].name: must be letters, digits and . _ : -"),
        ("[[machine]]\nname = 'a'\nimage = 12", "machine[0].image: must be a string"),
        (f"[[machine]]\nmac = '{MAC}'\n[[machine]]\nname = 'b'\nmac = '{MAC}'", f"machine[1]: {MAC} is in machine[0]"),
        ("machine = [1]", "machine[0]: must be a table"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigErrors) as raised:
        machines(tmp_path, text)
    assert error in str(raised.value)


def test_reload_creates_the_backends_again_that_read_the_machines(tmp_path: Path) -> None:
    text = f"""
[bootfw]
state-dir = "{tmp_path}/state"
[[backend]]
use = "template"
root = "."
[[backend]]
use = "directory"
root = "."
[[machine]]
name = "web1"
mac = "{MAC}"
"""
    path = write_config(tmp_path, text)
    before = load_parts(path, {}, None)
    assert [name for name, _ in load_parts(path, {}, None, before).backends] == ["template", "directory"]
    assert load_parts(path, {}, None, before).backends == before.backends
    write_config(tmp_path, text.replace("web1", "web2"))
    after = load_parts(path, {}, None, before)
    assert [new[1] is old[1] for new, old in zip(after.backends, before.backends, strict=True)] == [False, True]
