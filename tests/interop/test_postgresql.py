"""Leases in a real PostgreSQL: the page that says how, and a database that is away while clients want addresses."""

import re
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from howtos import blocks
from installing import POSTGRESQL, install_plugin
from postgresserver import Server

from .lab import Lab, need, wait_until
from .seeding import ADDRESSES, MAC, Scene
from .test_state_faults import CLIENTS, POOLS, Clients, add_ipv6, assert_file_is_served, hardware_address

pytest_plugins = ["postgresfixtures"]
pytestmark = pytest.mark.interop

PAGE = "postgresql.md"
COMMAND = str(Path(sys.executable).with_name("bootfw"))


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    need("curl")
    scene = Scene(lab, tmp_path)
    install_plugin(POSTGRESQL, tmp_path)
    yield scene
    scene.close()


def store_settings(server: Server, database: str) -> str:
    """The configuration on the page, with the socket of the test's server."""
    (settings,) = blocks(PAGE, "toml")
    assert "dbname=bootfw " in settings
    return settings.replace("dbname=bootfw ", f"host={server.directory} dbname={database} ")


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """A database and a role, made as the page says it."""
    install_command, create_command = blocks(PAGE, "console")[0].splitlines()
    assert install_command == f"# pip install ./plugins/{POSTGRESQL.name}"
    prefix = "# sudo -u postgres psql "
    assert create_command.startswith(prefix)
    statements = shlex.split(create_command.removeprefix(prefix))[1::2]
    for statement in statements:
        server.run(statement)
    yield "bootfw"
    server.run("DROP DATABASE bootfw WITH (FORCE)")
    server.run("DROP ROLE bootfw")


def stored_addresses(server: Server, database: str) -> set[str]:
    """The addresses in the database, by the statement on the page."""
    (statement,) = blocks(PAGE, "sql")
    with psycopg.connect(server.conninfo(dbname=database)) as connection:
        return {str(row[0]) for row in connection.execute(statement).fetchall()}


def command(scene: Scene, *arguments: str, **settings: str) -> str:
    """What the ``bootfw`` command prints on the server's host; the exit code is 0."""
    environment = ("env", f"PYTHONPATH={scene.directory}")
    result = scene.server.run(*environment, COMMAND, *arguments, seconds=60)
    assert result.exit_code == 0, result.output
    return result.output


def test_leases_move_to_postgresql_and_survive_there(scene: Scene, server: Server, database: str) -> None:
    """A real client keeps its lease from SQLite to PostgreSQL, and it is there after bootfw was killed."""
    need("busybox")
    udhcpc = ("busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true")
    scene.start_server(ADDRESSES)
    lease = re.search(r"lease of (\S+) obtained", scene.client.run(*udhcpc, seconds=60).output)
    assert lease is not None
    scene.program.stop()

    sqlite_configuration, postgresql_configuration = (
        scene.directory / "sqlite.toml",
        scene.directory / "postgresql.toml",
    )
    common = f'[bootfw]\nstate-dir = "{scene.state}"\n'
    sqlite_configuration.write_text(common + ADDRESSES)
    postgresql_configuration.write_text(common + ADDRESSES + store_settings(server, database))
    export_command, import_template = (
        line.removeprefix("# bootfw ") for line in blocks(PAGE, "console")[1].splitlines()
    )
    export_arguments, _, export_file = export_command.partition(" > ")
    (scene.directory / export_file).write_text(
        command(scene, *export_arguments.replace("sqlite.toml", str(sqlite_configuration)).split())
    )
    import_arguments = import_template.replace("postgresql.toml", str(postgresql_configuration)).replace(
        export_file, str(scene.directory / export_file)
    )
    assert "1 lease" in command(scene, *import_arguments.split())
    assert stored_addresses(server, database) == {lease[1]}

    scene.start_server(ADDRESSES, store_settings(server, database))
    scene.program.wait_for("this server leads", 60)
    assert f"lease of {lease[1]} obtained" in scene.client.run(*udhcpc, seconds=60).output
    scene.program.send(signal.SIGKILL)
    scene.program.wait(60)
    # No server runs: the command uses the database.
    listing = command(scene, "leases", "list", "-c", str(postgresql_configuration))
    assert lease[1] in listing
    assert MAC in listing


def test_no_lease_is_acknowledged_while_the_database_is_away(scene: Scene, server: Server, database: str) -> None:
    add_ipv6(scene)
    scene.add_file("file", b"content")
    scene.start_server(POOLS, store_settings(server, database))
    scene.program.wait_for("this server leads", 60)
    clients = Clients(scene.client, hardware_address(scene))
    assert clients.request_addresses() == (CLIENTS, CLIENTS)
    server.stop(signal.SIGQUIT)
    assert clients.request_addresses() == (0, 0)
    assert_file_is_served(scene)
    message = "the store can't be reached"
    scene.program.wait_for(message, 60)
    lines = [line for line in scene.program.output.splitlines() if message in line]
    assert len(lines) == 1, lines
    assert "PostgreSQL" in lines[0]

    server.start()
    wait_until(lambda: scene.program.output.count("this server leads") == 2, 60, "it leads again")
    assert clients.request_addresses() == (CLIENTS, CLIENTS)
    scene.program.send(signal.SIGKILL)
    scene.program.wait(60)
    assert clients.acknowledged - stored_addresses(server, database) == set()
    assert len(clients.acknowledged) == 4 * CLIENTS
    assert "Traceback" not in scene.program.output


@pytest.fixture
def remote(lab: Lab) -> Iterator[Server]:
    """A server on a host of its own, 10.77.0.2, with a database "bootfw"."""
    host = lab.host("database", "10.77.0.2/24")
    directory = Path(tempfile.mkdtemp(prefix="bootfw-pg-"))
    try:
        server = Server.make(directory, ("ip", "netns", "exec", host.namespace))
        server.configure("listen_addresses = '10.77.0.2'", "host all all 10.77.0.0/24 trust")
        server.start()
        server.run("CREATE DATABASE bootfw")
        yield server
        server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(directory)


def test_the_network_between_bootfw_and_its_database_is_cut(scene: Scene, remote: Server) -> None:
    """Neither end is told. The database releases the lock, so that another bootfw could lead; this one goes on."""
    need("nft")
    add_ipv6(scene)
    scene.add_file("file", b"content")
    configuration = '[store]\nuse = "postgresql"\nconninfo = "host=10.77.0.2 dbname=bootfw user=postgres"\n'
    scene.start_server(POOLS, configuration)
    scene.program.wait_for("this server leads", 60)
    clients = Clients(scene.client, hardware_address(scene))
    assert clients.request_addresses() == (CLIENTS, CLIENTS)

    for direction in ("dport", "sport"):
        scene.drop(f"tcp {direction} 5432")
    assert clients.request_addresses() == (0, 0)
    assert_file_is_served(scene)
    locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    wait_until(lambda: not remote.run(locks), 60, "the database releases the lock")
    scene.program.wait_for("the store can't be reached", 60)

    scene.lab.switch.run("nft", "flush", "ruleset", seconds=10)
    rounds = 0
    while clients.request_addresses() != (CLIENTS, CLIENTS):
        rounds += 1
        assert rounds < 10
    assert "Traceback" not in scene.program.output
    assert clients.acknowledged - stored_addresses(remote, "bootfw") == set()


def test_a_server_that_starts_without_its_database_serves_files(scene: Scene, server: Server, database: str) -> None:
    server.stop()
    add_ipv6(scene)
    scene.add_file("file", b"content")
    scene.start_server(POOLS, store_settings(server, database))
    assert_file_is_served(scene)
    clients = Clients(scene.client, hardware_address(scene))
    scene.program.wait_for('this server is a standby, and does not answer: PostgreSQL "host=', 60)
    assert "Is the server running" in scene.program.output
    assert clients.request_addresses()[0] == 0
    server.start()
    scene.program.wait_for("this server leads", 60)
    assert clients.request_addresses()[0] == CLIENTS
    assert "Traceback" not in scene.program.output
