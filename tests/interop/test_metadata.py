"""Debian's cloud-init gets its metadata and user data from bootfw: by NoCloud and as of Ec2, each machine its own."""

import json
from pathlib import Path
from typing import Any

import pytest

from .lab import Host, Lab
from .service import start_bootfw

pytestmark = pytest.mark.interop

PACKAGES = Path(__file__).parents[2] / ".clients" / "usr" / "lib" / "python3" / "dist-packages"
"""Of cloud-init, which is only unpacked: it would configure this machine if it were installed."""

PYTHON = "/usr/bin/python3"
"""Debian's, for which the packages are."""

ONE, TWO, UNKNOWN_MAC = "52:54:00:77:16:01", "52:54:00:77:16:02", "52:54:00:77:16:03"
SERVER = "http://10.77.0.1:8069"

NOCLOUD = f"""
import json, sys
from cloudinit import helpers
from cloudinit.sources.DataSourceNoCloud import DataSourceNoCloudNet

here = sys.argv[1]
paths = helpers.Paths({{"cloud_dir": here, "run_dir": here, "templates_dir": here}})
settings = {{"datasource": {{"NoCloud": {{"seedfrom": "{SERVER}/nocloud/", "fs_label": None}}}}}}
source = DataSourceNoCloudNet(settings, None, paths)
found = source.get_data()
shown = {{"found": found}}
if found:
    hostname = source.get_hostname()
    shown["instance"] = source.get_instance_id()
    shown["hostname"] = getattr(hostname, "hostname", hostname)
    shown["keys"] = source.get_public_ssh_keys()
    shown["user"] = source.get_userdata_raw().decode()
print("SHOWN", json.dumps(shown))
"""

EC2 = f"""
import json
from cloudinit.sources.helpers import ec2

metadata = ec2.get_instance_metadata("2009-04-04", "{SERVER}", retries=0, timeout=10)
user = ec2.get_instance_userdata("2009-04-04", "{SERVER}", retries=0, timeout=10)
print("SHOWN", json.dumps({{"metadata": metadata, "user": user.decode()}}))
"""


@pytest.fixture
def site(tmp_path: Path) -> str:
    """The configuration of a server with templates and host files of two machines."""
    if not (PACKAGES / "cloudinit").is_dir():
        pytest.skip("needs cloud-init in .clients: tools/install-clients")
    hosts, root = tmp_path / "hosts", tmp_path / "metadata"
    hosts.mkdir()
    root.mkdir()
    for name, mac in (("one", ONE), ("two", TWO)):
        (hosts / f"{name}.toml").write_text(f'mac = "{mac}"\nsecret = "of-{name}"\nssh-keys = ["ssh-rsa AA {name}"]\n')
    (root / "user-data.j2").write_text("#cloud-config\npassword: {{ host.secret }}\n")
    return f"""
        [bootfw]
        state-dir = "{tmp_path / "state"}"
        [tftp]
        listen = ["10.77.0.1:69"]
        [http]
        listen = ["10.77.0.1:8069"]
        [dhcp]
        mode = "off"
        [web]
        listen = []
        [[backend]]
        use = "metadata"
        root = "{root}"
        hosts = "{hosts}"
    """


def station(lab: Lab, name: str, mac: str, address: str) -> Host:
    host = lab.host(name)
    host.ip("link", "set", "eth0", "address", mac)
    host.ip("address", "add", address, "dev", "eth0")
    return host


def output_of_cloud_init(host: Host, script: str, directory: Path) -> Any:
    """What a script prints that uses the modules of cloud-init."""
    directory.mkdir()
    program = host.run("env", f"PYTHONPATH={PACKAGES}", PYTHON, "-c", script, directory, seconds=120)
    lines = [line for line in program.output.splitlines() if line.startswith("SHOWN ")]
    assert lines, program.output
    return json.loads(lines[0].removeprefix("SHOWN "))


def test_each_machine_gets_its_own_by_cloud_init(lab: Lab, tmp_path: Path, site: str) -> None:
    server = lab.host("server", "10.77.0.1/24")
    start_bootfw(server, tmp_path, site, 69)
    for number, (name, mac) in enumerate((("one", ONE), ("two", TWO)), 11):
        host = station(lab, name, mac, f"10.77.0.{number}/24")
        user = f"#cloud-config\npassword: of-{name}\n"
        instance = f"bootfw-{mac.replace(':', '')}"
        nocloud = output_of_cloud_init(host, NOCLOUD, tmp_path / f"nocloud-{name}")
        assert nocloud == {
            "found": True,
            "instance": instance,
            "hostname": name,
            "keys": [f"ssh-rsa AA {name}"],
            "user": user,
        }
        ec2 = output_of_cloud_init(host, EC2, tmp_path / f"ec2-{name}")
        assert ec2["user"] == user
        assert [ec2["metadata"][key] for key in ("instance-id", "local-hostname", "mac")] == [instance, name, mac]
        assert list(ec2["metadata"]["public-keys"].values()) == [f"ssh-rsa AA {name}"]
    unknown_machine = station(lab, "stranger", UNKNOWN_MAC, "10.77.0.13/24")
    result = unknown_machine.run("env", f"PYTHONPATH={PACKAGES}", PYTHON, "-c", NOCLOUD, tmp_path, seconds=120)
    assert f"404 Client Error: Not Found for url: {SERVER}/nocloud/meta-data" in result.output
    assert "SHOWN" not in result.output
