"""Real clients fetch from and store to ``twistd bootfw``, in namespaces of their own; compared octet by octet."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from bootfw.values import Address

from .clients import (
    ATFTP,
    BUSYBOX,
    CLIENTS,
    CURL,
    CURL_NOT_FOUND,
    CURL_WITHOUT_OPTIONS,
    FILES,
    HPA,
    HPA_NETASCII,
    ROLLS_OVER,
    TEXT,
    Client,
)
from .lab import Host, Lab, Program, need
from .service import start_bootfw

pytestmark = [pytest.mark.interop, pytest.mark.together]

SERVER = "10.77.0.1"
SECOND_ADDRESS = "10.77.0.2"
SERVER_IPV6 = "fd77::1"
SECOND_ADDRESS_IPV6 = "fd77::2"
SECONDS = 180

Fetch = Callable[[Client, Address, str], bytes]

each_client = pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)


def each_file_and_client(clients: Sequence[Client], *, rolling_over: Sequence[Client]) -> pytest.MarkDecorator:
    """Each file with each client; the largest with those whose blocks are of 512 bytes, as block numbers roll over."""
    combinations = [(name, client) for name in FILES for client in (rolling_over if name == ROLLS_OVER else clients)]
    return pytest.mark.parametrize(
        ("name", "client"), combinations, ids=[f"{name}-{client.name}" for name, client in combinations]
    )


def configuration(root: Path, port: int, **tftp: str) -> str:
    settings = "".join(f"{key} = {value}\n" for key, value in tftp.items())
    return f"""
        [dhcp]
        mode = "off"
        [tftp]
        listen = ["0.0.0.0:{port}", "[::]:{port}"]
        {settings}
        [[backend]]
        use = "directory"
        root = "{root}"
    """


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One segment for all these tests."""
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture(scope="module")
def server(lab: Lab) -> Host:
    return lab.host("server", f"{SERVER}/24", f"{SECOND_ADDRESS}/24", f"{SERVER_IPV6}/64", f"{SECOND_ADDRESS_IPV6}/64")


@pytest.fixture(scope="module")
def station(lab: Lab) -> Host:
    """Where the clients run."""
    return lab.host("station", "10.77.0.9/24", "fd77::9/64")


@pytest.fixture(scope="module")
def server_on_port_69(lab: Lab, server: Host, served: Path) -> Program:
    """A server on port 69 with workers."""
    return start_bootfw(server, lab.directory, "[bootfw]\nworkers = 2\n" + configuration(served, 69), 69)


@pytest.fixture(scope="module")
def single_port(server_on_port_69: Program) -> int:
    """Its port."""
    return 69


@pytest.fixture(scope="module", params=[("ephemeral", 1069), ("30000-30099", 2069)], ids=lambda param: param[0])
def port_per_transfer(request: pytest.FixtureRequest, lab: Lab, server: Host, served: Path) -> tuple[str, int]:
    """The ``ports`` setting of a server that answers from another port than the one asked, and that one."""
    ports, port = request.param
    start_bootfw(server, lab.directory, configuration(served, port, ports=f'"{ports}"'), port)
    return ports, port


@pytest.fixture(scope="module")
def writable(lab: Lab, server: Host, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """The root and the port of a server that takes uploads."""
    root = tmp_path_factory.mktemp("uploads")
    # An upload that begins before the workers have started is cancelled when they have: late on a busy machine.
    one_process = "[bootfw]\nworkers = 1\n"
    start_bootfw(server, lab.directory, one_process + configuration(root, 3069, writable="true"), 3069)
    return root, 3069


@pytest.fixture
def fetch(station: Host, tmp_path: Path) -> Fetch:
    """``fetch(client, (address, port), name)``: what the client stored."""

    def fetch_file(client: Client, address: Address, name: str) -> bytes:
        need(client.program)
        local = tmp_path / "fetched"
        result = station.run(*client.get(address, name, local), seconds=SECONDS)
        assert result.exit_code == 0, result.output
        # curl makes no file when there is nothing to put in it.
        return local.read_bytes() if local.exists() else b""

    return fetch_file


@each_file_and_client(CLIENTS, rolling_over=[CURL_WITHOUT_OPTIONS])
def test_a_file_arrives_intact(fetch: Fetch, single_port: int, served: Path, client: Client, name: str) -> None:
    assert fetch(client, (SERVER, single_port), name) == (served / name).read_bytes()


@each_client
def test_a_file_arrives_over_ipv6(fetch: Fetch, single_port: int, served: Path, client: Client) -> None:
    assert fetch(client, (SERVER_IPV6, single_port), "1MB") == (served / "1MB").read_bytes()


@each_client
def test_download_from_an_ephemeral_port(
    fetch: Fetch, port_per_transfer: tuple[str, int], served: Path, client: Client
) -> None:
    _, port = port_per_transfer
    assert fetch(client, (SERVER, port), "1MB") == (served / "1MB").read_bytes()


def test_the_port_of_a_transfer_is_the_one_configured(station: Host, port_per_transfer: tuple[str, int]) -> None:
    ports, port = port_per_transfer
    with station.udp_socket() as client:
        client.sendto(b"\0\1empty\0octet\0", (SERVER, port))
        data, source = client.recvfrom(600)
        client.sendto(b"\0\4\0\1", source)
    assert data == b"\0\3\0\1"
    assert source[0] == SERVER
    assert source[1] != port
    if "-" in ports:
        first, last = map(int, ports.split("-"))
        assert first <= source[1] <= last


@pytest.mark.parametrize("address", [SERVER, SECOND_ADDRESS, SERVER_IPV6, SECOND_ADDRESS_IPV6])
def test_the_reply_leaves_from_the_requested_address(station: Host, single_port: int, address: str) -> None:
    with station.udp_socket("::" if ":" in address else "") as client:
        # A connected socket receives from its peer only.
        client.connect((address, single_port))
        client.send(b"\0\1empty\0octet\0")
        assert client.recv(600) == b"\0\3\0\1"
        client.send(b"\0\4\0\1")


@pytest.mark.parametrize("address", [SECOND_ADDRESS, SECOND_ADDRESS_IPV6])
def test_a_port_per_transfer_keeps_the_requested_address(
    station: Host, port_per_transfer: tuple[str, int], address: str
) -> None:
    _, port = port_per_transfer
    with station.udp_socket("::" if ":" in address else "") as client:
        client.sendto(b"\0\1empty\0octet\0", (address, port))
        data, source = client.recvfrom(600)
        client.sendto(b"\0\4\0\1", source)
    assert (data, source[0]) == (b"\0\3\0\1", address)


def test_a_burst_of_300_requests_is_answered(station: Host, single_port: int) -> None:
    """All are sent before the first answer is read; nothing is sent twice."""
    clients = [station.udp_socket() for _ in range(300)]
    try:
        for client in clients:
            client.sendto(b"\0\1empty\0octet\0", (SERVER, single_port))
        replies = [client.recv(600) for client in clients]
        for client in clients:
            client.sendto(b"\0\4\0\1", (SERVER, single_port))
    finally:
        for client in clients:
            client.close()
    assert replies == [b"\0\3\0\1"] * 300


@each_client
def test_a_missing_file_is_refused_at_once(
    station: Host, server_on_port_69: Program, client: Client, tmp_path: Path
) -> None:
    """The client does not repeat its request."""
    need(client.program)
    name = f"no-such-file-{client.name}"
    result = station.run(*client.get((SERVER, 69), name, tmp_path / "fetched"), seconds=SECONDS)
    server_on_port_69.wait_for(name, SECONDS)
    assert server_on_port_69.output.count(name) == 1
    assert "not found" in result.output.lower() or result.exit_code == CURL_NOT_FOUND


@each_file_and_client([HPA, ATFTP, BUSYBOX, CURL], rolling_over=[CURL])
def test_an_upload_is_stored_intact(
    station: Host, writable: tuple[Path, int], served: Path, client: Client, name: str
) -> None:
    need(client.program)
    assert client.put is not None
    root, port = writable
    remote_name = f"{client.name}-{name}"
    result = station.run(*client.put((SERVER, port), remote_name, served / name), seconds=SECONDS)
    assert result.exit_code == 0, result.output
    assert (root / remote_name).read_bytes() == (served / name).read_bytes()


@pytest.mark.parametrize("client", [HPA, ATFTP, BUSYBOX, CURL], ids=lambda client: client.name)
def test_an_upload_is_refused_unless_writable(station: Host, single_port: int, served: Path, client: Client) -> None:
    need(client.program)
    assert client.put is not None
    station.run(*client.put((SERVER, single_port), "upload", served / "one-block"), seconds=SECONDS)
    assert sorted(path.name for path in served.iterdir()) == sorted([*FILES, TEXT])


def test_netascii_download_is_intact(fetch: Fetch, single_port: int, served: Path) -> None:
    assert fetch(HPA_NETASCII, (SERVER, single_port), TEXT) == (served / TEXT).read_bytes()


def test_netascii_upload_is_intact(station: Host, writable: tuple[Path, int], served: Path) -> None:
    need(HPA_NETASCII.program)
    assert HPA_NETASCII.put is not None
    root, port = writable
    result = station.run(*HPA_NETASCII.put((SERVER, port), TEXT, served / TEXT), seconds=SECONDS)
    assert result.exit_code == 0, result.output
    assert (root / TEXT).read_bytes() == (served / TEXT).read_bytes()
