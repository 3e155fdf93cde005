"""The replies of tmcd: those of the real clients' boots, from host files and templates, in each version."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from bootfw_emulab.bootinfoserver import BootinfoServer, OrderSender
from bootfw_emulab.loads import KIND, Loads
from bootfw_emulab.nodes import Nodes
from bootfw_emulab.replies import Replies
from bootfw_emulab.tmcdserver import Arrival, Tmcd
from emulabcaptures import BOOTINFO_REQUEST, HOST_FILES, TMCC
from emulabtestbed import write_hosts
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs
from zope.interface import implementer

from bootfw.api import (
    BootFile,
    BootFileUsed,
    BootRefused,
    BootReported,
    BootRequest,
    Client,
    Event,
    IOrderStore,
    StateError,
    SystemUp,
)

PC1 = "52:54:00:00:00:01"


@implementer(IOrderStore)
class Orders:
    """Orders in memory."""

    def __init__(self) -> None:
        self.orders: dict[str, Mapping[str, object]] = {}
        self.error: Exception | None = None

    def load_orders(self, kind: str) -> Mapping[str, Mapping[str, object]]:
        assert kind == KIND
        return dict(self.orders)

    def save_orders(self, kind: str, orders: Mapping[str, Mapping[str, object] | None]) -> "Deferred[None]":
        assert kind == KIND
        if self.error is not None:
            return fail(self.error)
        for mac, order in orders.items():
            if order is None:
                self.orders.pop(mac, None)
            else:
                self.orders[mac] = order
        return succeed(None)

    def close_orders(self, kind: str) -> "Deferred[None]":
        return succeed(None)


class Server:
    """tmcd without sockets."""

    def __init__(self, directory: Path, files: Mapping[str, str] = HOST_FILES, templates: Path | None = None) -> None:
        self.clock = Clock()
        self.events: list[Event] = []
        self.boots: dict[str, Any] = {}
        self.orders = Orders()
        self.hosts = write_hosts(directory, files)
        self.nodes = Nodes(self.hosts)
        self.loads = Loads(self.orders)
        self.loads.start()
        self.loaders = BootinfoServer(
            self.clock, self.nodes, self.resolve, lambda peer: Client(peer[0]), self.events.append, OrderSender()
        )
        self.tmcd = Tmcd(self.clock, self.nodes, Replies(templates), self.loads, self.loaders, self.events.append)

    def resolve(self, request: BootRequest) -> Any:
        boot = self.boots.get(request.mac)
        if isinstance(boot, Exception):
            raise boot
        return boot

    def request(
        self, line: bytes, address: str = "10.9.0.11", *, by_tcp: bool = True, local: str = "10.9.0.1"
    ) -> bytes:
        replies: list[bytes] = []
        self.tmcd.answer(line, Arrival((address, 40000), local, by_tcp)).addCallback(replies.append)
        (reply,) = replies
        return reply


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.mark.parametrize(("request_", "reply"), TMCC.items(), ids=map(repr, TMCC))
def test_replies_to_requests_of_tmcc(server: Server, request_: bytes, reply: bytes) -> None:
    assert server.request(request_) == reply


def test_the_real_boot_answers_bootwhat(server: Server) -> None:
    server.boots[PC1] = BootFile("bootinfo:partition:2")
    assert server.request(b"VERSION=34 bootwhat ") == b"STATUS=success TYPE=1 WHAT=2\n"


# Whose request it is


@pytest.mark.parametrize("address", ["10.9.0.66", "10.9.0.19"])
@pytest.mark.parametrize("command", [b"status ", b"nodeid ", b"state ISUP "])
def test_no_node_gets_no_reply(server: Server, address: str, command: bytes) -> None:
    assert server.request(command, address) == b""
    assert server.events == []


def test_a_key_is_known_from_any_address(server: Server) -> None:
    assert server.request(b"PRIVKEY=DEADBEEFDEADBEEFDEADBEEFDEADBEEF nodeid ", "192.0.2.1") == b"pc1\n"
    assert server.request(b"IDKEY=abc123 nodeid ", "192.0.2.1") == b"pc1\n"
    assert server.request(b"IDKEY=abc nodeid ", "10.9.0.11") == b""


def test_a_virtual_node_has_to_be_on_the_machine(server: Server) -> None:
    assert server.request(b"VNODEID=pcvm1-1 nodeid ") == b"pcvm1-1\n"
    assert server.request(b"VNODEID=pcvm1-1 nodeid ", "10.9.0.12") == b""
    assert server.request(b"VNODEID=pc2 nodeid ") == b""
    assert server.request(b"VNODEID=pc1 nodeid ") == b"pc1\n"


def test_only_this_host_may_speak_for_a_node(server: Server) -> None:
    for address in ("127.0.0.1", "10.9.0.1"):
        assert server.request(b"REDIRECT=10.9.0.12 nodeid ", address) == b"pc2\n"
    assert server.request(b"REDIRECT=10.9.0.12 nodeid ", "10.9.0.11") == b""


def test_an_address_of_ipv4_in_ipv6_is_that_of_ipv4(server: Server) -> None:
    assert server.request(b"nodeid ", "::ffff:10.9.0.11") == b"pc1\n"


def test_a_node_that_is_sent_elsewhere(tmp_path: Path) -> None:
    files = {"pc1": 'address = "10.9.0.11"\n[emulab]\nredirect = "10.9.0.2:pcvm1-1"\n'}
    assert Server(tmp_path, files).request(b"status ") == b"REDIRECT=10.9.0.2:pcvm1-1\n"


# What a free node gets, and what there is by UDP


ONLY_IN_EXPERIMENTS = (
    *("mounts", "ifconfig", "tunnels", "hostnames", "routing", "trafgens", "nseconfigs", "rpms", "tarballs"),
    *("startupcmd", "delay", "creator", "fullconfig", "routelist"),
)


@pytest.mark.parametrize("command", ONLY_IN_EXPERIMENTS)
def test_a_free_node_gets_no_reply(tmp_path: Path, command: str) -> None:
    text = f'address = "10.9.0.12"\n[emulab.replies]\n{command} = "something"\n'
    assert Server(tmp_path, {"pc2": text}).request(f"{command} ".encode(), "10.9.0.12") == b""


def test_a_free_node_is_free(server: Server) -> None:
    assert server.request(b"status ", "10.9.0.12") == b"FREE\n"
    assert server.request(b"accounts ", "10.9.0.12") == b""
    assert server.request(b"loadinfo ", "10.9.0.12") == b""
    assert server.request(b"isalive ", "10.9.0.12") == b"UPDATE=0\n"


@pytest.mark.parametrize("command", [b"ntpinfo ", b"ipodinfo ", b"nseconfigs "])
def test_some_commands_have_no_reply_by_udp(tmp_path: Path, command: bytes) -> None:
    text = (
        'address = "10.9.0.11"\n[emulab]\nexperiment = "a/b"\nntp-servers = ["n"]\n[emulab.replies]\nnseconfigs="x"\n'
    )
    server = Server(tmp_path, {"pc1": text})
    assert server.request(command)
    assert server.request(command, by_tcp=False) == b""


# Each command in full

FULL = """
mac = "52:54:00:00:00:01"
address = "10.9.0.11"

[emulab]
experiment = "testbed/myexp"
creator = "alice"
swapper = "bob"
mount-type = "NFS-RACY"
mount = [{remote = "fs:/proj/testbed", local = "/proj/testbed"}, {local = "/scratch"}]
account-group = [{name = "testbed", gid = 6000}]
router = "manual"
rpms = ["/proj/a.rpm", "/proj/b.rpm"]
tarball = [{directory = "/opt", path = "/proj/a.tgz"}]
startup-command = "run me"
ntp-peers = ["10.9.0.5"]
ntp-drift = "1.5"
accounts-changed = true
virtual-node = [{name = "pcvm1-1"}, {name = "pcvm1-2", jailed = false}]

[[emulab.user]]
login = "alice"
password = "$1$x"
uid = 10001
gid = 6000
root = true
name = "Alice A."
groups = [6000, 6001]
serial = 3
email = "a@example.net"
shell = "bash"
keys = ["ssh-rsa AAAA alice"]

[[emulab.interface]]
mac = "00:11:22:33:44:55"
address = "10.1.1.2"
mask = "255.255.255.0"
lan = "lan0"
settings = {channel = "6"}

[[emulab.virtual-interface]]
type = "vlan"
id = 1
address = "10.1.2.2"
mask = "255.255.255.0"
parent = "001122334455"
encapsulate = true
lan = "lan1"
tag = 7

[[emulab.host-name]]
name = "nodea-lan0"
address = "10.1.1.2"
aliases = ["nodea-0", "nodea"]

[[emulab.host-name]]
name = "nodeb-lan0"
address = "10.1.1.3"

[[emulab.route]]
destination = "10.1.3.3"
next-hop = "10.1.1.3"
source = "10.1.1.2"

[emulab.replies]
delay = "DELAY INT0=a INT1=b"
"""


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        ("VERSION=34 status", "ALLOCATED=testbed/myexp NICKNAME=pc1\n"),
        (
            "VERSION=34 mounts",
            "FSTYPE=NFS-RACY\nREMOTE=fs:/proj/testbed LOCAL=/proj/testbed\nLOCAL=/scratch\n",
        ),
        ("VERSION=31 mounts", "REMOTE=fs:/proj/testbed LOCAL=/proj/testbed\nLOCAL=/scratch\n"),
        (
            "VERSION=34 accounts",
            "ADDGROUP NAME=testbed GID=6000\n"
            'ADDUSER LOGIN=alice PSWD=$1$x UID=10001 GID=6000 ROOT=1 NAME="Alice A." HOMEDIR=/users/alice '
            'GLIST="6000,6001" SERIAL=3 EMAIL="a@example.net" SHELL=bash\n',
        ),
        (
            "VERSION=34 accounts pubkeys",
            "ADDGROUP NAME=testbed GID=6000\n"
            'ADDUSER LOGIN=alice PSWD=$1$x UID=10001 GID=6000 ROOT=1 NAME="Alice A." HOMEDIR=/users/alice '
            'GLIST="6000,6001" SERIAL=3 EMAIL="a@example.net" SHELL=bash\n'
            'PUBKEY LOGIN=alice KEY="ssh-rsa AAAA alice"\n',
        ),
        (
            "VERSION=3 accounts",
            "ADDGROUP NAME=testbed GID=6000\n"
            'ADDUSER LOGIN=alice PSWD=$1$x UID=10001 GID=6000 ROOT=1 NAME="Alice A." HOMEDIR=/users/alice '
            "GLIST=6000,6001\n",
        ),
        (
            "VERSION=34 ifconfig",
            "INTERFACE IFACETYPE=em INET=10.1.1.2 MASK=255.255.255.0 MAC=001122334455 SPEED=100Mbps DUPLEX=full IFACE= "
            "RTABID=0 LAN=lan0\n"
            "INTERFACE_SETTING MAC=001122334455 KEY='channel' VAL='6'\n"
            "INTERFACE IFACETYPE=vlan INET=10.1.2.2 MASK=255.255.255.0 ID=1 VMAC= PMAC=001122334455 RTABID=0 "
            "ENCAPSULATE=1 LAN=lan1 VTAG=7\n",
        ),
        (
            "VERSION=34 hostnames",
            "NAME=nodea-lan0 IP=10.1.1.2 ALIASES='nodea-0 nodea'\nNAME=nodeb-lan0 IP=10.1.1.3 ALIASES=' '\n",
        ),
        (
            "VERSION=34 routing",
            "ROUTERTYPE=manual\n"
            "ROUTE DEST=10.1.3.3 DESTTYPE=host DESTMASK=255.255.255.255 NEXTHOP=10.1.1.3 COST=1 SRC=10.1.1.2\n",
        ),
        (
            "VERSION=11 routing",
            "ROUTERTYPE=manual\nROUTE DEST=10.1.3.3 DESTTYPE=host DESTMASK=255.255.255.255 NEXTHOP=10.1.1.3 COST=1\n",
        ),
        (
            "VERSION=34 routelist",
            "ROUTERTYPE=manual\nROUTE NODE=pc1 SRC=10.1.1.2 DEST=10.1.3.3 DESTTYPE=host DESTMASK=255.255.255.255 "
            "NEXTHOP=10.1.1.3 COST=1\n",
        ),
        ("VERSION=34 rpms", "RPM=/proj/a.rpm\nRPM=/proj/b.rpm\n"),
        ("VERSION=34 tarballs", "DIR=/opt TARBALL=/proj/a.tgz\n"),
        ("VERSION=34 startupcmd", "CMD='run me' UID=bob\n"),
        ("VERSION=34 delay", "DELAY INT0=a INT1=b\n"),
        ("VERSION=34 ntpinfo", "PEER=10.9.0.5\nDRIFT=1.5\n"),
        ("VERSION=34 vnodelist", "VNODEID=pcvm1-1 JAILED=1\nVNODEID=pcvm1-2 JAILED=0\n"),
        ("VERSION=6 vnodelist", "pcvm1-1\npcvm1-2\n"),
        ("VERSION=34 isalive", "UPDATE=1\n"),
        ("VERSION=34 creator", "CREATOR=alice SWAPPER=bob\n"),
        ("VERSION=20 creator", "CREATOR=alice\n"),
        ("VERSION=34 tunnels", ""),
        ("VERSION=34 trafgens", ""),
    ],
)
def test_each_reply(tmp_path: Path, request_: str, reply: str) -> None:
    assert Server(tmp_path, {"pc1": FULL}).request(f"{request_} ".encode()).decode() == reply


@pytest.mark.parametrize(
    ("version", "begins"), [(16, "INTERFACE IFACETYPE="), (15, "IFACETYPE="), (9, "INTERFACE=0 IF")]
)
def test_older_clients_get_older_lines(tmp_path: Path, version: int, begins: str) -> None:
    reply = Server(tmp_path, {"pc1": FULL}).request(f"VERSION={version} ifconfig ".encode())
    assert reply.decode().startswith(begins)


def test_the_hash_is_another_one_each_time(server: Server) -> None:
    replies = {server.request(b"VERSION=34 ipodinfo ").decode() for _ in range(2)}
    assert len(replies) == 2
    assert all(re.fullmatch(r"HOST=10\.9\.0\.1 MASK=255\.255\.255\.255 HASH=[0-9a-f]{32}\n", text) for text in replies)


@pytest.mark.parametrize(("version", "absent"), [(34, ""), (32, "IMAGEID"), (30, "SERVER")])
def test_loadinfo_depends_on_the_version(server: Server, version: int, absent: str) -> None:
    reply = server.request(f"VERSION={version} loadinfo ".encode()).decode()
    assert reply.startswith("ADDR= PART=1 PARTOS=FreeBSD ")
    assert reply.count("\n") == 1
    assert not absent or absent not in reply
    assert ("SERVER=10.9.0.1 DISK=" in reply) is (version >= 31)


def test_several_images_are_too_much_for_old_clients(tmp_path: Path) -> None:
    text = 'address = "10.9.0.11"\n' + '[[emulab.load]]\nimage = "a,a,b"\n' * 2
    server = Server(tmp_path, {"pc1": text})
    assert server.request(b"VERSION=29 loadinfo ") == b"ADDR=/NEWER-MFS-NEEDED PART=0 PARTOS=Bogus\n"
    assert server.request(b"VERSION=33 loadinfo ").count(b"IMAGEID=a,a,b\n") == 2


@pytest.mark.parametrize(
    ("boot", "line"),
    [
        (BootFile("bootinfo:mfs:h:/m -s"), b"STATUS=success TYPE=7 WHAT=h:/m CMDLINE='-s'\n"),
        (BootFile("bootinfo:wait"), b"STATUS=success TYPE=4\n"),
        (None, b"STATUS=failed\n"),
        (BootRefused("no"), b"STATUS=failed\n"),
    ],
)
def test_bootwhat(server: Server, boot: Any, line: bytes) -> None:
    server.boots[PC1] = boot
    assert server.request(b"VERSION=34 bootwhat ") == line


# The full configuration


def test_the_full_configuration_is_each_reply_between_its_markers(tmp_path: Path) -> None:
    server = Server(tmp_path, {"pc1": FULL})
    bundle = server.request(b"VERSION=34 fullconfig pubkeys ").decode()
    parts = re.findall(r"\*\*\* (\w+)\n(.*?)\*\*\* \1\n", bundle, re.S)
    assert "".join(f"*** {name}\n{body}*** {name}\n" for name, body in parts) == bundle
    assert [name for name, _ in parts[:5]] == ["nodeid", "manifest", "ifconfig", "accounts", "delay"]
    bodies = dict(parts)
    for name in ("nodeid", "ifconfig", "delay", "mounts", "routing", "vnodelist", "tunnels"):
        assert bodies[name] == server.request(f"VERSION=34 {name} ".encode()).decode()
    assert "PUBKEY" in bodies["accounts"]
    assert bodies["manifest"] == ""


def test_a_virtual_node_has_a_bundle_of_its_own(server: Server) -> None:
    bundle = server.request(b"VNODEID=pcvm1-1 VERSION=34 fullconfig ")
    assert b"*** nodeid\npcvm1-1\n*** nodeid\n" in bundle
    assert b"*** vnodelist" not in bundle


# Templates of the operator


def test_own_templates_replace_ours_and_add_commands(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "creator.j2").write_text("CREATOR={{ host.owner }}\n")
    (templates / "motd.j2").write_text("{{ name }} {{ argument }}\n")
    server = Server(tmp_path, {"pc1": 'address="10.9.0.11"\nowner="carol"\n[emulab]\nexperiment="a/b"\n'}, templates)
    assert server.request(b"creator ") == b"CREATOR=carol\n"
    assert server.request(b"motd today ") == b"pc1 today\n"
    assert server.request(b"nodeid ") == b"pc1\n"


def test_a_broken_template_is_no_reply_and_is_logged(tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "creator.j2").write_text("{{ host.owner }}\n")
    server = Server(tmp_path, templates=templates)
    with capturedLogs() as logs:
        assert server.request(b"creator ") == b""
    (text,) = [event["log_format"].format(**event) for event in logs]
    assert text.startswith("tmcd pc1: the template creator.j2 can't be rendered: ")
    assert '"owner"' in text or "'owner'" in text


# States


@pytest.mark.parametrize("state", ["TBSETUP", "RELOADING", "a-b_c9"])
def test_a_state_is_reported(server: Server, state: str) -> None:
    assert server.request(f"VERSION=34 state {state} ".encode()) == b""
    assert server.events == [BootReported(0.0, ("10.9.0.11", 40000), PC1, "tmcd", state, by_system=True)]


def test_a_node_that_is_up_is_up(server: Server) -> None:
    server.request(b"VERSION=34 state ISUP ")
    assert server.events[1:] == [SystemUp(0.0, ("10.9.0.11", 40000), PC1, "tmcd")]


def test_a_one_time_boot_is_over_when_the_system_reports(server: Server) -> None:
    server.boots[PC1] = BootFile("bootinfo:partition:1")
    server.loaders.datagramReceived(BOOTINFO_REQUEST, ("10.9.0.11", 9696))
    server.request(b"VERSION=34 state TBSETUP ")
    assert server.events[-1] == BootFileUsed(0.0, PC1, "bootinfo:partition:1")


@pytest.mark.parametrize("state", ["", "A B", "A;B", "ä", "A" * 128])
def test_an_invalid_state_is_ignored(server: Server, state: str) -> None:
    assert server.request(b"VERSION=34 state " + state.encode("latin-1") + b" ") == b""
    assert server.events == []


def test_images_that_are_loaded_are_not_loaded_again(server: Server) -> None:
    server.request(b"VERSION=34 state RELOADDONE ")
    assert server.request(b"VERSION=34 loadinfo ") == b""
    restarted = Loads(server.orders)
    restarted.start()
    node = server.nodes.named("pc1")
    assert node is not None
    assert not restarted.is_pending(node)
    path = server.hosts / "pc1.toml"
    path.write_text(path.read_text().replace("testbed,FBSD", "testbed,FBSD9"))
    assert b"FBSD9" in server.request(b"VERSION=34 loadinfo ")


def test_images_can_be_loaded_again(server: Server) -> None:
    server.request(b"VERSION=34 state RELOADDONE ")
    node = server.nodes.named("pc1")
    assert node is not None
    server.loads.again(node)
    assert server.orders.orders == {}
    assert server.request(b"VERSION=34 loadinfo ")


def test_a_store_that_fails_is_logged(server: Server) -> None:
    server.orders.error = StateError("disk full")
    with capturedLogs() as logs:
        server.request(b"VERSION=34 state RELOADDONE ")
    assert "pc1 has loaded its images can't be stored" in logs[-1]["log_format"].format(**logs[-1])
    assert server.request(b"VERSION=34 loadinfo ") == b""


def test_boot_logs_are_logged_without_control_characters(server: Server) -> None:
    with capturedLogs() as logs:
        server.request(b"VERSION=34 bootlog one\ntwo\x1b[0m\n")
    assert logs[-1]["log_format"].format(**logs[-1]) == "tmcd pc1: boot log\none\ntwo?[0m"


def test_a_mistake_in_a_host_file_is_logged_once(tmp_path: Path) -> None:
    server = Server(tmp_path, {"pc1": 'address = "10.9.0.11"\n[emulab]\nboot = "partitions:2"\n'})
    with capturedLogs() as logs:
        assert server.request(b"status ") == server.request(b"status ") == b""
    (text,) = [event["log_format"].format(**event) for event in logs]
    assert "pc1: emulab.boot: must be one of" in text
