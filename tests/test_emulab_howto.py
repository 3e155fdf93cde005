"""The testbed of docs/howto/emulab.md in one process: sockets, TLS, one-time boots, orders and the boot record."""

import os
import re
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from bootfw_emulab.__main__ import call
from bootfw_emulab.__main__ import main as emulab_command
from certificates import Authority
from emulabcaptures import BOOTINFO_ORDERS, BOOTINFO_REPLIES, BOOTINFO_REQUEST, TMCC
from howtos import blocks
from installing import EMULAB, install_plugin
from twistd import bootfw, free_port

from bootfw.cli.main import main as bootfw_command
from bootfw.config.configuration import load_config
from bootfw.config.settings import may_write

PAGE = "emulab.md"
SECONDS = 60.0
MAC = "52:54:00:00:00:01"
LOAD = BOOTINFO_REPLIES["mfs:10.9.0.1:/tftpboot/frisbee"].replace(b"10.9.0.1:", b"")


def by_tcp(port: int, line: bytes, context: ssl.SSLContext | None = None) -> bytes:
    """The answer of tmcd by TCP, until it closes the connection; with TLS if there is a *context*."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as plain:
        if context is None:
            plain.sendall(line)
            plain.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: plain.recv(65536), b""))
        plain.sendall(b"ISPEAKSSL_TMCDV10")
        with context.wrap_socket(plain, server_hostname="localhost") as encrypted:
            encrypted.sendall(line)
            return b"".join(iter(lambda: encrypted.recv(65536), b""))


def wait_for(condition: Callable[[], Any]) -> Any:
    """Wait until *condition* returns something true; returns that."""
    deadline = time.monotonic() + SECONDS
    while not (found := condition()):
        assert time.monotonic() < deadline, "the condition did not become true"
        time.sleep(0.05)
    return found


def write_configuration(directory: Path, tmcd: int, bootinfo: int, orders: int) -> Path:
    """Write the configuration of the page and its host file, with 127.0.0.1 for node and server; returns its path."""
    config, host_file, *_ = blocks(PAGE, "toml")
    (directory / "hosts").mkdir()
    (directory / "hosts" / "pc1.toml").write_text(host_file.replace("10.9.0.11", "127.0.0.1"))
    config = re.sub(r"\[\[dhcp\.subnet\]\]\n(?:.+\n)+", "", config).replace('mode = "server"', 'mode = "off"')
    config = re.sub(r'"/etc/letsencrypt/live/boss.example.net/(\w+)\.pem"', r'"\1.pem"', config)
    config = config.replace("/srv/tftp", str(directory))
    path = directory / "bootfw.toml"
    path.write_text(f"""
[bootfw]
state-dir = "state"
[tftp]
listen = []
[web]
listen = []
{config}
bootinfo-listen = "127.0.0.1:{bootinfo}"
order-port = {orders}
tmcd-listen = ["127.0.0.1:{tmcd}"]
""")
    return path


def test_the_testbed_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    chain, key = Authority().issue("localhost", "127.0.0.1")
    (tmp_path / "fullchain.pem").write_bytes(chain)
    (tmp_path / "privkey.pem").write_bytes(key)
    tmcd, bootinfo, orders = free_port(socket.SOCK_STREAM), free_port(), free_port()
    config = write_configuration(tmp_path, tmcd, bootinfo, orders)
    install_plugin(EMULAB, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    state = tmp_path / "state"

    def command(line: str) -> str:
        program, *arguments = line.split()
        if program == "bootfw":
            assert bootfw_command([*arguments, "-c", str(config)]) == 0
        else:
            assert emulab_command(["--state-dir", str(state), *arguments]) == 0
        return capsys.readouterr().out.replace("127.0.0.1", "10.9.0.11")

    with bootfw(config) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node:
        server.until("tmcd by UDP listens on")
        node.bind(("127.0.0.1", 9696))
        node.settimeout(SECONDS)

        def request_boot() -> bytes:
            node.sendto(BOOTINFO_REQUEST, ("127.0.0.1", bootinfo))
            reply, peer = node.recvfrom(600)
            assert (peer, len(reply)) == (("127.0.0.1", bootinfo), 520)
            return reply.rstrip(b"\0")

        assert request_boot() == LOAD
        command(f"bootfw next {MAC} bootinfo:wait")
        assert request_boot() == BOOTINFO_REPLIES["wait"]
        (session,) = blocks(PAGE, "console")
        commands = re.findall(r"^\$ (.*)\n((?:[^$].*\n)+)", session, re.MULTILINE)
        assert len(commands) == session.count("$ ")
        for line, output in commands[:2]:
            assert command(line) == output
        order, peer = node.recvfrom(600)
        assert (order.rstrip(b"\0"), peer) == (BOOTINFO_ORDERS["auto"], ("127.0.0.1", orders))
        wait_for(lambda: request_boot() == LOAD)

        # A load that is done is not repeated, until the operator wants that.
        assert b"IMAGEID=testbed,testbed,FBSD\n" in by_tcp(tmcd, b"VERSION=34 loadinfo ")
        assert by_tcp(tmcd, b"VERSION=34 state RELOADDONE ") == b""
        assert request_boot() == BOOTINFO_REPLIES["partition:2"]
        line, output = commands[2]
        assert command(line) == output
        assert request_boot() == BOOTINFO_REPLIES["partition:2"][:-1] + b"\1"
        line, output = commands[3]
        assert command(line) == output

        for request in (b"VERSION=34 status ", b"VERSION=34 ifconfig ", b"VERSION=34 creator ", b"VERSION=34 bogus "):
            assert by_tcp(tmcd, request) == TMCC[request]
        assert by_tcp(tmcd, b"VERSION=34 delay ") == b"DELAY INT0=001122334455 INT1=001122334456\n"
        trusting = ssl.create_default_context(cadata=chain.decode())
        assert by_tcp(tmcd, b"VERSION=34 status ", trusting) == TMCC[b"VERSION=34 status "]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(SECONDS)
            client.sendto(b"VERSION=34 isalive ", ("127.0.0.1", tmcd))
            assert client.recv(9000) == b"UPDATE=0\n"

        assert by_tcp(tmcd, b"VERSION=34 state ISUP ") == b""

        def ended_boots() -> Any:
            records = call(state / "control.sock", "boot", {"machine": MAC})
            return [each for each in records if each["verdict"] == "up"]

        (record,) = wait_for(ended_boots)
        reports = [stage["data"]["what"] for stage in record["stages"] if stage["kind"] == "report"]
        assert reports[:2] == ["PXEBOOTING", "BOOTING: mfs:/tftpboot/frisbee"]
        assert {"PXEWAKEUP: order auto", "RELOADDONE"} < {*reports}
        assert reports[-1] == "ISUP"
        text = server.stop()
    assert "Traceback" not in text
    assert "one-time boot 'bootinfo:wait' served, entry removed" in text
    assert "pc1 has loaded its images can't" not in text


def test_an_error_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert emulab_command(["--state-dir", str(tmp_path), "nodes"]) == 1
    assert capsys.readouterr().err == (
        f"bootfw-emulab: no server answers at {tmp_path}/control.sock: No such file or directory\n"
    )


def test_the_images_of_the_page(tmp_path: Path) -> None:
    """Only the settings: the tests of multicast.md send and upload such images."""
    config, _, images = blocks(PAGE, "toml")
    path = tmp_path / "bootfw.toml"
    path.write_text(config + images)
    settings = load_config(path, {}).settings
    assert settings.multicast.listen == (("0.0.0.0", 64494),)
    assert may_write(settings.multicast, "10.9.0.11")
    assert not may_write(settings.multicast, "10.10.0.1")
    assert settings.interfaces == ("eth0",)
