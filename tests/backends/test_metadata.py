"""The ``metadata`` backend: each machine gets its own metadata, and is recognized only by its address."""

import json
from pathlib import Path
from typing import Any

import pytest
from howtos import blocks
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net.webclient import Response, Wire, parse, request
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock

from bootfw.api import BootRequest, FileMissing, TransferError, TransferRequest
from bootfw.backends.hosts import Hosts
from bootfw.backends.metadata import MetadataBackend
from bootfw.boot.clients import Clients
from bootfw.build import assemble
from bootfw.config.configuration import ConfigErrors, load_config
from bootfw.net.http.site import BootSite
from bootfw.values import Client

ONE, TWO, STRANGER = "52:54:00:00:00:01", "52:54:00:00:00:02", "52:54:00:00:00:03"
UUID = "4c4c4544-0042-3510-8052-b4c04f4e3132"
KEY = "ssh-ed25519 AAAA one@example"


@pytest.fixture
def backend(tmp_path: Path) -> MetadataBackend:
    hosts, root = tmp_path / "hosts", tmp_path / "metadata"
    hosts.mkdir()
    root.mkdir()
    (hosts / "one.toml").write_text(f'mac = "{ONE}"\nuuid = "{UUID}"\nsecret = "of-one"\nssh-keys = ["{KEY}"]\n')
    (hosts / "two.toml").write_text(f'mac = "{TWO}"\naddress = "10.0.0.9"\nsecret = "of-two"\n')
    (root / "user-data.j2").write_text("#cloud-config\npassword: {{ host.secret }}\n# {{ client.address }}\n")
    return MetadataBackend.of(root, Hosts(hosts))


class Site:
    """The HTTP server, with the clients that it finds by leases and by the kernel's neighbour table."""

    def __init__(self, backend: MetadataBackend) -> None:
        self.clock = Clock()
        self.neighbours: dict[str, str] = {}
        self.leases: dict[str, str] = {}
        self.clients = Clients(
            lambda peer: self.neighbours.get(peer[0], ""),
            seconds=self.clock.seconds,
            leased_to=lambda address: self.leases.get(address, ""),
        )
        self.site = BootSite(self.clock, backend, lambda event: None, self.clients)

    def get(self, address: str, path: str, **headers: Any) -> Response:
        peer = IPv4Address("TCP", address, 4000)
        protocol: Any = self.site.buildProtocol(peer)  # type: ignore[no-untyped-call]
        wire = Wire(self.clock, protocol, address)
        protocol.makeConnection(wire)
        protocol.dataReceived(request("GET", path, **headers))
        return parse(wire.value())[0]


@pytest.fixture
def site(backend: MetadataBackend) -> Site:
    """A site where .1 and .2 are leased to the machines one and two."""
    site = Site(backend)
    site.leases = {"10.0.0.1": ONE, "10.0.0.2": TWO}
    return site


def read(backend: MetadataBackend, path: str, client: Client, protocol: str = "http") -> str:
    reader = backend.open(path, TransferRequest(path, path, ("10.0.0.1", 4000), protocol=protocol, client=client))
    return bytes(reader.read(0, reader.size)).decode()


CLIENT = Client("10.0.0.1", ONE, leased=True)


def test_nocloud(backend: MetadataBackend) -> None:
    meta = json.loads(read(backend, "nocloud/meta-data", CLIENT))
    assert meta == {"instance-id": "bootfw-525400000001", "local-hostname": "one", "public-keys": [KEY]}
    user = "#cloud-config\npassword: of-one\n# 10.0.0.1\n"
    assert read(backend, "nocloud/user-data", CLIENT) == user
    assert read(backend, "nocloud/vendor-data", CLIENT) == ""
    with pytest.raises(FileMissing):
        read(backend, "nocloud/network-config", CLIENT)
    bundle = json.loads(read(backend, "nocloud/bundle.json", CLIENT))
    assert bundle.pop("meta-data") == read(backend, "nocloud/meta-data", CLIENT)
    assert bundle == {"user-data": user, "vendor-data": "", "network-config": None}


def test_templates_replace_the_built_in_metadata(backend: MetadataBackend, tmp_path: Path) -> None:
    for name in ("meta-data", "vendor-data", "network-config"):
        (tmp_path / "metadata" / f"{name}.j2").write_text(f"{name} of {{{{ host.name }}}}\n")
        assert read(backend, f"nocloud/{name}", CLIENT) == f"{name} of one\n"


@pytest.mark.parametrize("version", ["latest", "2009-04-04"])
def test_the_directory_tree_of_ec2(backend: MetadataBackend, version: str) -> None:
    def read_tree(path: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name in read(backend, path, CLIENT).splitlines():
            if name.endswith("/"):
                found |= read_tree(f"{path}/{name.rstrip('/')}")
            elif "=" in name:
                found |= read_tree(f"{path}/{name.partition('=')[0]}")
            else:
                found[f"{path}/{name}"] = read(backend, f"{path}/{name}", CLIENT)
        return found

    assert read_tree(f"{version}/meta-data") == {
        f"{version}/meta-data/{name}": value
        for name, value in {
            "ami-id": "one",
            "hostname": "one",
            "instance-id": "bootfw-525400000001",
            "local-hostname": "one",
            "local-ipv4": "10.0.0.1",
            "mac": ONE,
            "public-keys/0/openssh-key": KEY,
        }.items()
    }
    assert read(backend, f"{version}/user-data", CLIENT) == read(backend, "nocloud/user-data", CLIENT)
    assert read(backend, version, CLIENT) == read(backend, f"{version}/", CLIENT) == "meta-data/\nuser-data\n"
    assert read(backend, f"{version}/meta-data/", CLIENT) == read(backend, f"{version}/meta-data", CLIENT)
    two = Client("10.0.0.2", TWO, leased=True)
    assert "public-keys" not in read(backend, f"{version}/meta-data", two)
    with pytest.raises(FileMissing):
        read(backend, f"{version}/meta-data/public-keys", two)


PATHS = [
    "nocloud/meta-data",
    "nocloud/user-data",
    "nocloud/bundle.json",
    "latest",
    "latest/meta-data",
    "latest/user-data",
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("client", "protocol"),
    [
        (Client("10.0.0.3", STRANGER, leased=True), "http"),
        (Client("10.0.0.3", STRANGER, uuid=UUID, leased=True), "http"),
        (Client("10.0.0.9", STRANGER, leased=True), "http"),
        (Client("10.0.0.1", "", leased=True), "http"),
        (Client("10.0.0.1", ONE), "http"),
        (CLIENT, "tftp"),
    ],
    ids=["no host file", "the UUID of another", "the address of another", "no MAC", "not leased", "TFTP"],
)
def test_clients_without_metadata_of_their_own_get_nothing(
    backend: MetadataBackend, path: str, client: Client, protocol: str
) -> None:
    with pytest.raises(FileMissing):
        read(backend, path, client, protocol)


@pytest.mark.parametrize(
    "path", ["nocloud", "nocloud/x", "meta-data", "latest/x", "1.0/meta-data", "latest/meta-data/x"]
)
def test_other_paths_are_missing(backend: MetadataBackend, path: str) -> None:
    with pytest.raises(FileMissing):
        read(backend, path, CLIENT)


def test_directories_are_requested_with_a_slash(site: Site) -> None:
    with_slash, without = site.get("10.0.0.1", "/latest/meta-data/"), site.get("10.0.0.1", "/latest/meta-data")
    assert (with_slash.status, with_slash.body) == (200, without.body)
    assert site.get("10.0.0.3", "/latest/meta-data/").status == 404
    assert site.get("10.0.0.1", "/x/").status == 404


FORWARDED = {
    "X_Forwarded_For": "10.0.0.2",
    "Forwarded": "for=10.0.0.2",
    "X_Real_IP": "10.0.0.2",
    "Client_IP": "10.0.0.2",
    "True_Client_IP": "10.0.0.2",
    "X_Client_IP": "10.0.0.2",
    "Via": "1.1 10.0.0.2",
    "X_MAC": TWO,
    "X_Instance_ID": "bootfw-525400000002",
    "Host": "10.0.0.2",
    "Cookie": f"mac={TWO}",
}


@pytest.mark.parametrize("header", FORWARDED)
def test_no_header_gets_the_metadata_of_another_machine(site: Site, header: str) -> None:
    response = site.get("10.0.0.1", "/nocloud/user-data", **{header: FORWARDED[header]})
    assert response.status == 200
    assert b"of-one" in response.body
    assert site.get("10.0.0.3", "/nocloud/user-data", **{header: FORWARDED[header]}).status == 404


@pytest.mark.parametrize(
    "path",
    [
        f"/nocloud/user-data?mac={TWO}",
        "/nocloud/user-data?host=two",
        "http://10.0.0.2/nocloud/user-data",
        "//10.0.0.2/nocloud/user-data",
        "/two/../nocloud/user-data",
        f"/{TWO}/nocloud/user-data",
        "/nocloud/two/user-data",
    ],
)
def test_no_path_gets_the_metadata_of_another_machine(site: Site, path: str) -> None:
    response = site.get("10.0.0.1", path)
    assert b"of-two" not in response.body
    assert response.status in (200, 404)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3"]), max_size=12))
def test_machines_that_take_turns_get_their_own_metadata(site: Site, order: list[str]) -> None:
    secrets = {"10.0.0.1": b"of-one", "10.0.0.2": b"of-two"}
    for address in order:
        body = site.get(address, "/nocloud/user-data").body
        assert [secret in body for secret in secrets.values()] == [address == each for each in secrets]


def test_an_address_that_has_moved_gets_the_metadata_of_its_new_machine(site: Site) -> None:
    site.leases["10.0.0.1"] = TWO
    assert b"of-two" in site.get("10.0.0.1", "/nocloud/user-data").body
    site.neighbours["10.0.0.1"] = STRANGER  # a machine that uses the address without a lease
    assert site.get("10.0.0.1", "/nocloud/user-data").status == 404


def test_the_address_in_a_dhcp_request_does_not_count(site: Site) -> None:
    site.clients.remember(BootRequest(TWO, "discover", "ipxe", "x86-bios", client_address="10.0.0.3"))
    assert site.clients.lookup(("10.0.0.3", 4000)).mac == TWO
    assert site.get("10.0.0.3", "/nocloud/user-data").status == 404
    # The request does not change which machine this address belongs to, either.
    site.clients.remember(BootRequest(TWO, "discover", "ipxe", "x86-bios", client_address="10.0.0.1"))
    assert b"of-one" in site.get("10.0.0.1", "/nocloud/user-data").body


def test_a_mistake_in_a_host_file_affects_its_machine_only(site: Site, tmp_path: Path) -> None:
    (tmp_path / "hosts" / "one.toml").write_text(f'mac = "{ONE}"\nsecret = \n')
    assert site.get("10.0.0.1", "/nocloud/user-data").status == 500
    assert site.get("10.0.0.2", "/nocloud/user-data").status == 200


def test_ssh_keys_must_be_a_list_of_lines(backend: MetadataBackend, tmp_path: Path) -> None:
    (tmp_path / "hosts" / "one.toml").write_text(f'mac = "{ONE}"\nssh-keys = ["a\\nb"]\n')
    with pytest.raises(TransferError):
        read(backend, "nocloud/meta-data", CLIENT)


def test_the_configuration_of_the_howto_serves_the_metadata_that_it_shows(tmp_path: Path) -> None:
    configuration, host = blocks("metadata.md", "toml")
    (template,) = blocks("metadata.md", "jinja")
    for name, text in (("hosts/web1.toml", host), ("metadata/user-data.j2", template), ("bootfw.toml", configuration)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    ((_, backend),) = assemble(load_config(tmp_path / "bootfw.toml", {}), None).backends
    client = Client("10.77.0.20", "52:54:00:12:34:56", leased=True)
    assert "passwd: $6$salt$hash\n" in read(backend, "nocloud/user-data", client)
    assert read(backend, "latest/meta-data/public-keys/0/openssh-key", client).startswith("ssh-ed25519 ")


def test_host_files_or_tables_are_needed(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    section = '[[backend]]\nuse = "metadata"\nroot = "metadata"\n'
    (tmp_path / "bootfw.toml").write_text(section)
    with pytest.raises(ConfigErrors, match=r"backend\[0\].hosts: is missing, and there are no \[\[machine\]\] tables"):
        assemble(load_config(tmp_path / "bootfw.toml", {}), None)
    (tmp_path / "bootfw.toml").write_text(f'{section}[[machine]]\nname = "one"\nmac = "{ONE}"\n')
    ((_, backend),) = assemble(load_config(tmp_path / "bootfw.toml", {}), None).backends
    assert read(backend, "latest/meta-data/hostname", CLIENT) == "one"
