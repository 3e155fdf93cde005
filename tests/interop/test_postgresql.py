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
from .test_state_faults import CLIENTS, POOLS, Clients, add_ipv6, hardware_address, serves

pytest_plugins = ["postgresfixtures"]
pytestmark = pytest.mark.interop

PAGE = "postgresql.md"
COMMAND = str(Path(sys.executable).with_name("bootfw"))


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    need("curl")
    made = Scene(lab, tmp_path)
    install_plugin(POSTGRESQL, tmp_path)
    yield made
    made.close()


def store(server: Server, database: str) -> str:
    """The configuration on the page, with the socket of the test's server."""
    (shown,) = blocks(PAGE, "toml")
    assert "dbname=bootfw " in shown
    return shown.replace("dbname=bootfw ", f"host={server.directory} dbname={database} ")


@pytest.fixture
def database(server: Server) -> Iterator[str]:
    """A database and a role, made as the page says it."""
    installing, making = blocks(PAGE, "console")[0].splitlines()
    assert installing == f"# pip install ./plugins/{POSTGRESQL.name}"
    sudo = "# sudo -u postgres psql "
    assert making.startswith(sudo)
    statements = shlex.split(making.removeprefix(sudo))[1::2]
    for statement in statements:
        server.run(statement)
    yield "bootfw"
    server.run("DROP DATABASE bootfw WITH (FORCE)")
    server.run("DROP ROLE bootfw")


def stored(server: Server, database: str) -> set[str]:
    """The addresses in the database, by the statement on the page."""
    (statement,) = blocks(PAGE, "sql")
    with psycopg.connect(server.conninfo(dbname=database)) as connection:
        return {str(row[0]) for row in connection.execute(statement).fetchall()}


def command(scene: Scene, *words: str, **settings: str) -> str:
    """What the ``bootfw`` command prints on the server's host; the exit code is 0."""
    environment = ("env", f"PYTHONPATH={scene.directory}")
    done = scene.server.run(*environment, COMMAND, *words, seconds=60)
    assert done.exit_code == 0, done.output
    return done.output


def test_leases_move_to_postgresql_and_survive_there(scene: Scene, server: Server, database: str) -> None:
    """A real client keeps its lease from SQLite to PostgreSQL, and it is there after bootfw was killed."""
    need("busybox")
    udhcpc = ("busybox", "udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true")
    scene.starts(ADDRESSES)
    leased = re.search(r"lease of (\S+) obtained", scene.client.run(*udhcpc, seconds=60).output)
    assert leased is not None
    scene.running.stop()

    before, after = scene.directory / "sqlite.toml", scene.directory / "postgresql.toml"
    common = f'[bootfw]\nstate-dir = "{scene.state}"\n'
    before.write_text(common + ADDRESSES)
    after.write_text(common + ADDRESSES + store(server, database))
    exporting, importing = (line.removeprefix("# bootfw ") for line in blocks(PAGE, "console")[1].splitlines())
    words, _, exported = exporting.partition(" > ")
    (scene.directory / exported).write_text(command(scene, *words.replace("sqlite.toml", str(before)).split()))
    imported = importing.replace("postgresql.toml", str(after)).replace(exported, str(scene.directory / exported))
    assert "1 lease" in command(scene, *imported.split())
    assert stored(server, database) == {leased[1]}

    scene.starts(ADDRESSES, store(server, database))
    scene.running.wait_for("this server leads", 60)
    assert f"lease of {leased[1]} obtained" in scene.client.run(*udhcpc, seconds=60).output
    scene.running.send(signal.SIGKILL)
    scene.running.wait(60)
    # No server runs: the command uses the database.
    listed = command(scene, "leases", "list", "-c", str(after))
    assert leased[1] in listed
    assert MAC in listed


def test_no_lease_is_acknowledged_while_the_database_is_away(scene: Scene, server: Server, database: str) -> None:
    add_ipv6(scene)
    scene.serves("file", b"content")
    scene.starts(POOLS, store(server, database))
    scene.running.wait_for("this server leads", 60)
    clients = Clients(scene.client, hardware_address(scene))
    assert clients.come() == (CLIENTS, CLIENTS)
    server.stop(signal.SIGQUIT)
    assert clients.come() == (0, 0)
    serves(scene)
    away = "the store can't be reached"
    scene.running.wait_for(away, 60)
    unable = [line for line in scene.running.output.splitlines() if away in line]
    assert len(unable) == 1, unable
    assert "PostgreSQL" in unable[0]

    server.start()
    wait_until(lambda: scene.running.output.count("this server leads") == 2, 60, "it leads again")
    assert clients.come() == (CLIENTS, CLIENTS)
    scene.running.send(signal.SIGKILL)
    scene.running.wait(60)
    assert clients.acknowledged - stored(server, database) == set()
    assert len(clients.acknowledged) == 4 * CLIENTS
    assert "Traceback" not in scene.running.output


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
    scene.serves("file", b"content")
    configuration = '[store]\nuse = "postgresql"\nconninfo = "host=10.77.0.2 dbname=bootfw user=postgres"\n'
    scene.starts(POOLS, configuration)
    scene.running.wait_for("this server leads", 60)
    clients = Clients(scene.client, hardware_address(scene))
    assert clients.come() == (CLIENTS, CLIENTS)

    for direction in ("dport", "sport"):
        scene.drops(f"tcp {direction} 5432")
    assert clients.come() == (0, 0)
    serves(scene)
    locks = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"
    wait_until(lambda: not remote.run(locks), 60, "the database releases the lock")
    scene.running.wait_for("the store can't be reached", 60)

    scene.lab.switch.run("nft", "flush", "ruleset", seconds=10)
    waves = 0
    while clients.come() != (CLIENTS, CLIENTS):
        waves += 1
        assert waves < 10
    assert "Traceback" not in scene.running.output
    assert clients.acknowledged - stored(remote, "bootfw") == set()


def test_a_server_that_starts_without_its_database_serves_files(scene: Scene, server: Server, database: str) -> None:
    server.stop()
    add_ipv6(scene)
    scene.serves("file", b"content")
    scene.starts(POOLS, store(server, database))
    serves(scene)
    clients = Clients(scene.client, hardware_address(scene))
    scene.running.wait_for('this server is a standby, and does not answer: PostgreSQL "host=', 60)
    assert "Is the server running" in scene.running.output
    assert clients.come()[0] == 0
    server.start()
    scene.running.wait_for("this server leads", 60)
    assert clients.come()[0] == CLIENTS
    assert "Traceback" not in scene.running.output
