"""bootinfo, from packet to packet: whose request it is, what decides, what is reported, and orders."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from bootfw_emulab.bootinfoserver import LOADERS
from bootfw_emulab.emulab import plugin
from emulabcaptures import (
    BOOTINFO_KEYED,
    BOOTINFO_NOTHING,
    BOOTINFO_ORDERS,
    BOOTINFO_REPLIES,
    BOOTINFO_REQUEST,
)
from emulabtestbed import Testbed, write_hosts
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from bootfw.api import (
    BootFile,
    BootFileUsed,
    BootRefused,
    BootRequest,
    Client,
    ConfigError,
    Event,
    ListedBootFile,
    ListenerBound,
    ListenerFailed,
    PluginContext,
    RequestClassified,
    StateError,
)
from bootfw.testing import ClientAwareContract, FakePeer, MemoryNetwork, ResolverContract

PC1, PC2 = "52:54:00:00:00:01", "52:54:00:00:00:02"
PARTITION_2 = BOOTINFO_REPLIES["partition:2"]
WAIT = BOOTINFO_REPLIES["wait"]


@pytest.fixture
def testbed(tmp_path: Path) -> Iterator[Callable[..., Testbed]]:
    testbeds: list[Testbed] = []

    def make(**options: Any) -> Testbed:
        testbeds.append(Testbed(tmp_path, {key.replace("_", "-"): value for key, value in options.items()}))
        return testbeds[-1]

    yield make
    for bed in testbeds:
        bed.stop()
        assert [leak for leak in bed.network.leaks() if "9696" not in leak and "10.9.0.1" in leak] == []


# Whose request it is, and what decides


def test_a_node_of_an_experiment_boots_what_its_host_file_says(testbed: Callable[..., Testbed]) -> None:
    assert testbed().request(BOOTINFO_REQUEST) == [PARTITION_2]


def test_a_free_node_waits(testbed: Callable[..., Testbed]) -> None:
    assert testbed().request(BOOTINFO_REQUEST, "10.9.0.12") == [WAIT]


def test_images_to_load_come_first_where_it_is_configured(testbed: Callable[..., Testbed]) -> None:
    bed = testbed(load_boot="mfs:10.9.0.1:/tftpboot/frisbee")
    assert bed.request(BOOTINFO_REQUEST) == [BOOTINFO_REPLIES["mfs:10.9.0.1:/tftpboot/frisbee"]]
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.12") == [WAIT]


@pytest.mark.parametrize(("text", "packet"), BOOTINFO_REPLIES.items())
def test_a_one_time_boot_is_answered_as_the_real_server_does(
    testbed: Callable[..., Testbed], text: str, packet: bytes
) -> None:
    bed = testbed()
    bed.once.boots[PC1] = f"bootinfo:{text}"
    assert bed.request(BOOTINFO_REQUEST) == [packet]


def test_a_request_with_a_key_is_of_the_node_with_the_key(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.once.boots[PC2] = "bootinfo:partition:2 console=sio1"
    assert bed.request(BOOTINFO_KEYED) == [BOOTINFO_REPLIES["partition:2 console=sio1"]]
    assert [request.mac for request in bed.once.requests] == [PC2]


def test_a_request_with_an_unknown_key_gets_nothing(testbed: Callable[..., Testbed]) -> None:
    assert testbed().request(BOOTINFO_KEYED.replace(b"0", b"f")) == [BOOTINFO_NOTHING]


def test_an_unknown_machine_gets_nothing(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.66") == [BOOTINFO_NOTHING]
    assert bed.once.requests == []


def test_a_host_file_without_emulab_describes_no_node(testbed: Callable[..., Testbed]) -> None:
    assert testbed().request(BOOTINFO_REQUEST, "10.9.0.19") == [BOOTINFO_NOTHING]


def test_a_machine_without_a_host_file_is_left_to_the_other_resolvers(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.emulab.set_client_lookup(lambda peer: Client(peer[0], "52:54:00:00:00:66", persona="pxe-bios"))
    bed.once.boots["52:54:00:00:00:66"] = "bootinfo:partition:2"
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.66") == [PARTITION_2]
    (request,) = bed.once.requests
    assert (request.phase, request.persona, request.client_address) == ("bootinfo", "pxe-bios", "10.9.0.66")
    assert request.server == "10.9.0.1"


@pytest.mark.parametrize("answer", [BootFile("pxelinux.0"), "bootinfo:partitions:2", "bootinfo:restart"])
def test_answer_that_no_loader_can_use_is_nothing_to_boot(testbed: Callable[..., Testbed], answer: Any) -> None:
    bed = testbed(free_boot="")
    bed.once.boots[PC2] = answer
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.12") == [BOOTINFO_NOTHING]
    assert bed.reported()[1].startswith("nothing to boot: ")


def test_a_resolver_that_refuses_is_nothing(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    deferred: Deferred[Any] = Deferred()
    bed.once.boots[PC1] = deferred
    assert bed.request(BOOTINFO_REQUEST) == []
    deferred.errback(BootRefused("not today"))
    bed.network.advance(0.1)
    assert [each.data[:8] for each in bed.node().take()] == [BOOTINFO_NOTHING + b"\0\0\0"]
    assert bed.reported() == ["PXEBOOTING", "nothing to boot: not today"]


def test_repetitions_while_a_resolver_waits_are_answered_once(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    deferred: Deferred[Any] = Deferred()
    bed.once.boots[PC1] = deferred
    for _ in range(3):
        assert bed.request(BOOTINFO_REQUEST) == []
    deferred.callback(BootFile("bootinfo:wait"))
    bed.network.advance(0.1)
    assert len(bed.node().take()) == 1
    assert len(bed.once.requests) == 1


def test_the_reply_leaves_from_the_address_that_was_asked(testbed: Callable[..., Testbed]) -> None:
    assert testbed().request(BOOTINFO_REQUEST, server="10.9.0.2") == [PARTITION_2]


@pytest.mark.parametrize("address", ["10.9.0.11", "10.9.0.66"])
def test_the_reply_goes_to_the_port_of_the_client_wherever_it_asks_from(
    testbed: Callable[..., Testbed], address: str
) -> None:
    bed = testbed()
    other = FakePeer(bed.node(address).host, 1234)
    other.send(BOOTINFO_REQUEST, ("10.9.0.1", 6969))
    bed.network.advance(0.1)
    assert other.take() == []
    assert len(bed.node(address).take()) == 1


def test_a_node_that_has_another_address_now_gets_its_reply_there(
    testbed: Callable[..., Testbed], tmp_path: Path
) -> None:
    bed = testbed()
    path = tmp_path / "hosts" / "pc1.toml"
    path.write_text(path.read_text().replace('"10.9.0.11"', '["10.9.0.11", "10.9.0.31"]'))
    for address in ("10.9.0.11", "10.9.0.31"):
        bed.network.advance(2)
        assert bed.request(BOOTINFO_REQUEST, address) == [PARTITION_2]


@pytest.mark.parametrize("packet", [b"", BOOTINFO_REQUEST[:519], b"\1\0\2\0" + bytes(516)])
def test_invalid_packet_gets_no_reply(testbed: Callable[..., Testbed], packet: bytes) -> None:
    assert testbed().request(packet) == []


# What is reported, and when a one-time boot is over


def test_repetitions_are_answered_and_not_reported(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    for _ in range(3):
        assert bed.request(BOOTINFO_REQUEST) == [PARTITION_2]
        bed.network.advance(4)
    assert bed.reported() == ["PXEBOOTING", "BOOTING: partition:2"]
    bed.network.advance(30)
    bed.request(BOOTINFO_REQUEST)
    assert bed.reported() == ["PXEBOOTING", "BOOTING: partition:2"]


@pytest.mark.parametrize(
    ("text", "events"),
    [("wait", ["PXEWAIT"]), ("reboot", ["REBOOTING"]), ("auto", []), ("mfs:/m", ["BOOTING: mfs:/m"])],
)
def test_each_answer_has_its_event(testbed: Callable[..., Testbed], text: str, events: list[str]) -> None:
    bed = testbed()
    bed.once.boots[PC1] = f"bootinfo:{text}"
    bed.request(BOOTINFO_REQUEST)
    assert bed.reported() == ["PXEBOOTING", *events]


def used(bed: Testbed) -> list[tuple[str, str]]:
    bed.network.advance(0)
    return [(event.mac, event.file) for event in bed.observer.events if isinstance(event, BootFileUsed)]


def test_a_one_time_boot_stays_while_the_node_repeats_its_request(testbed: Callable[..., Testbed]) -> None:
    """Its answer may be lost, and pxeboot asks again after 2, 4, 8 and 16 s."""
    bed = testbed()
    bed.once.boots[PC1] = "bootinfo:reboot"
    for pause in (2, 4, 8, 16):
        assert bed.request(BOOTINFO_REQUEST) == [BOOTINFO_REPLIES["reboot"]]
        bed.network.advance(pause)
    assert used(bed) == []
    bed.network.advance(20)
    assert used(bed) == [(PC1, "bootinfo:reboot")]
    assert bed.request(BOOTINFO_REQUEST) == [PARTITION_2]


def test_a_one_time_boot_is_over_when_the_firmware_starts_again(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.once.boots[PC1] = "bootinfo:reboot"
    bed.request(BOOTINFO_REQUEST)
    bed.emulab.observe(RequestClassified(1.0, BootRequest(PC2, "discover", "pxe-bios", "x86-bios")))
    assert used(bed) == []
    bed.emulab.observe(RequestClassified(1.0, BootRequest(PC1, "discover", "pxe-bios", "x86-bios")))
    assert used(bed) == [(PC1, "bootinfo:reboot")]
    assert bed.request(BOOTINFO_REQUEST) == [PARTITION_2]


def test_a_node_with_the_order_auto_gets_the_next_answer(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.once.boots[PC1] = "bootinfo:auto"
    bed.request(BOOTINFO_REQUEST)
    assert bed.request(BOOTINFO_REQUEST) == [PARTITION_2]


# Orders


@pytest.mark.parametrize("name", ["pc1", PC1, "52-54-00-00-00-01", "10.9.0.11"])
@pytest.mark.parametrize(("text", "packet"), BOOTINFO_ORDERS.items())
def test_an_order_is_sent_from_its_own_port(
    testbed: Callable[..., Testbed], name: str, text: str, packet: bytes
) -> None:
    bed = testbed()
    node = bed.node()
    assert bed.operate("node-order", node=name, order=text) == [{"node": "pc1", "order": text, "address": "10.9.0.11"}]
    bed.network.advance(0.1)
    (received,) = node.take()
    assert received.peer == ("10.9.0.1", 6970)
    assert received.data == packet.ljust(520, b"\0")


@pytest.mark.parametrize(
    ("text", "event"),
    [("auto", "PXEWAKEUP: order auto"), ("reboot", "SHUTDOWN: order reboot"), ("wait", "BOOTING: order wait")],
)
def test_orders_are_reported(testbed: Callable[..., Testbed], text: str, event: str) -> None:
    bed = testbed()
    bed.request(BOOTINFO_REQUEST)
    bed.reported()
    bed.operate("node-order", node="pc1", order=text)
    assert bed.reported() == [event]


@pytest.mark.parametrize(
    ("node", "order", "reason"),
    [
        ("pc9", "auto", 'there is no node "pc9" with a MAC; known: pc1, pc2'),
        ("pcvm1-1", "auto", 'no node "pcvm1-1" with a MAC'),
        ("pc1", "go", 'must be one of .* not "go"'),
    ],
)
def test_invalid_order_is_refused_with_the_reason(
    testbed: Callable[..., Testbed], node: str, order: str, reason: str
) -> None:
    with pytest.raises(StateError, match=reason):
        testbed().operate("node-order", node=node, order=order)


def test_nodes_are_listed_with_what_they_boot(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.request(BOOTINFO_REQUEST, "10.9.0.12")
    rows = {row["node"]: row for row in bed.operate("nodes")}
    assert rows["pc2"] == {
        "node": "pc2",
        "mac": PC2,
        "address": "10.9.0.12",
        "experiment": "",
        "boot": "wait",
        "loads": False,
        "loader": "waiting",
    }
    assert (rows["pc1"]["boot"], rows["pc1"]["loads"], rows["pc1"]["loader"]) == ("partition:2", True, "")


# The resolver by DHCP


def discover(**changes: Any) -> BootRequest:
    return BootRequest(**{"mac": PC1, "phase": "discover", "persona": "", "architecture": "x86-bios", **changes})


def test_nodes_get_their_loader_by_dhcp(testbed: Callable[..., Testbed]) -> None:
    bed = testbed(loader={"x86-bios": "pxeboot"})
    assert bed.emulab.resolve(discover()) == BootFile("pxeboot")
    for other in (discover(mac="52:54:00:00:00:99"), discover(architecture="x86_64-uefi"), discover(ipxe=True)):
        assert bed.emulab.resolve(other) is None


def test_without_a_loader_others_decide(testbed: Callable[..., Testbed]) -> None:
    assert testbed().emulab.resolve(discover()) is None


# Its life, and its options


def test_it_starts_again(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.request(BOOTINFO_REQUEST)
    bed.service.stopService()
    bed.network.advance(1)
    bed.service.startService()
    assert bed.request(BOOTINFO_REQUEST) == [PARTITION_2]


def test_a_port_that_is_held_is_waited_for(testbed: Callable[..., Testbed], tmp_path: Path) -> None:
    """So a reload works, at which the former instance of the plugin has the ports."""
    bed = testbed()
    context: Any = PluginContext(cast(Any, bed.network.hosts[0]), tmp_path)
    second_instance: Any = plugin.configure({"hosts": "hosts", "tmcd-listen": [], "free-boot": "reboot"}, context)
    second_instance.set_resolver_chain(second_instance.resolve)
    events: list[Event] = []
    second_instance.start(events.append)
    bed.network.advance(5)
    assert [(event.service, event.address) for event in events if isinstance(event, ListenerFailed)] == [
        ("bootinfo", ("0.0.0.0", 6969)),
        ("bootinfo", ("0.0.0.0", 6970)),
    ]
    assert len(events) == 2
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.12") == [WAIT]
    bed.service.stopService()
    bed.network.advance(1)
    assert [type(event) for event in events[2:]] == [ListenerBound, ListenerBound]
    assert bed.request(BOOTINFO_REQUEST, "10.9.0.12") == [BOOTINFO_REPLIES["reboot"]]
    second_instance.close()
    bed.network.advance(5)
    bed.service.startService()


def test_plugin_that_waits_for_a_port_can_be_closed(testbed: Callable[..., Testbed], tmp_path: Path) -> None:
    bed = testbed()
    context: Any = PluginContext(cast(Any, bed.network.hosts[0]), tmp_path)
    second_instance: Any = plugin.configure({"hosts": "hosts", "tmcd-listen": []}, context)
    second_instance.start(bed.observer.observe)
    bed.network.advance(2)
    second_instance.close()
    assert bed.network.clock.getDelayedCalls() == []


def test_a_stop_while_a_resolver_waits_leaves_nothing(testbed: Callable[..., Testbed]) -> None:
    bed = testbed()
    bed.once.boots[PC1] = Deferred()
    bed.request(BOOTINFO_REQUEST)
    with capturedLogs() as logs:
        bed.service.stopService()
        bed.network.advance(0)
    assert [each for each in logs if "log_failure" in each] == []
    assert bed.network.clock.getDelayedCalls() == []
    assert bed.node().take() == []


@pytest.mark.parametrize(
    ("certificate", "key", "reason"),
    [
        (b"", b"", "there is no certificate in it"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", b"", "tmcd can't use .*pem with .*key"),
        (None, None, "No such file"),
    ],
)
def test_a_certificate_that_is_unusable_is_named(
    tmp_path: Path, certificate: bytes | None, key: bytes | None, reason: str
) -> None:
    """Nothing is open then."""
    write_hosts(tmp_path)
    for name, content in (("a.pem", certificate), ("a.key", key)):
        if content is not None:
            (tmp_path / name).write_bytes(content)
    network = MemoryNetwork()
    host: Any = network.host("10.9.0.1")
    options = {"hosts": "hosts", "tmcd-listen": [], "certificate": "a.pem", "key": "a.key"}
    emulab: Any = plugin.configure(options, PluginContext(host, tmp_path))
    with pytest.raises(StateError, match=reason):
        emulab.start(lambda event: None)
    assert host.ports == []


def test_its_loaders_are_boot_files_for_lint(testbed: Callable[..., Testbed]) -> None:
    (listed,) = testbed(loader={"x86-bios": "pxeboot"}).emulab.boot_files()
    assert listed == ListedBootFile(BootFile("pxeboot"), "x86-bios", "loader.x86-bios")


def test_a_machine_of_the_configuration_can_be_a_node(tmp_path: Path) -> None:
    machine = {"name": "pc7", "mac": [PC1], "emulab": {"free-boot": "partition:3"}}
    emulab: Any = plugin.configure({}, PluginContext(None, tmp_path, machines=(machine,)))
    request = BootRequest(PC1, "bootinfo", "", "unknown")
    assert emulab.resolve(request) == BootFile("bootinfo:partition:3")
    invalid_machine = {**machine, "emulab": {"free-boot": "no"}}
    emulab = plugin.configure({}, PluginContext(None, tmp_path, machines=(invalid_machine,)))
    assert emulab.problem().startswith("[[machine]] pc7: emulab.free-boot: must be one of")


def test_only_so_many_loaders_are_remembered(testbed: Callable[..., Testbed], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw_emulab.bootinfoserver.LOADERS", 1)
    assert LOADERS == 65536
    bed = testbed()
    bed.request(BOOTINFO_REQUEST)
    bed.request(BOOTINFO_REQUEST, "10.9.0.12")
    assert [row["loader"] for row in bed.operate("nodes") if row["node"] in ("pc1", "pc2")] == ["", "waiting"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, '"hosts" is missing: a directory of host files; or'),
        ({"hosts": ""}, "hosts: must be a path"),
        ({"hosts": "h", "free-boot": "sleep"}, "free-boot: must be one of"),
        ({"hosts": "h", "load-boot": "sleep"}, "load-boot: must be one of"),
        ({"hosts": "h", "bootinfo-listen": "6969"}, "bootinfo-listen: must be an IPv4 address and a port"),
        ({"hosts": "h", "tmcd-listen": ["0.0.0.0:x"]}, "tmcd-listen: must be an IPv4 address and a port"),
        ({"hosts": "h", "order-port": 65536}, "order-port: "),
        ({"hosts": "h", "loader": {"x86": "pxeboot"}}, "loader.x86: unknown architecture; known: x86-bios"),
        ({"hosts": "h", "certificate": "c"}, '"key" is missing'),
        ({"hosts": "h", "context": "x"}, "context: unknown key"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        plugin.configure(options, PluginContext(None, tmp_path))


def test_mistakes_in_host_files_are_reported(tmp_path: Path) -> None:
    write_hosts(tmp_path, {"pc1": '[emulab]\nboot = "partitions:2"\nexperimnt = "a/b"\n', "pc2": "mac = 1"})
    emulab: Any = plugin.configure({"hosts": "hosts"}, PluginContext(None, tmp_path))
    problem = emulab.problem()
    assert f"{tmp_path / 'hosts'} pc1: emulab.experimnt: unknown key" in problem
    assert "emulab.boot: must be one of" in problem
    assert "pc2.toml" in problem


class TestContract(ResolverContract, ClientAwareContract):
    @pytest.fixture(autouse=True)
    def _hosts(self, tmp_path: Path) -> None:
        self.directory = tmp_path
        write_hosts(tmp_path)

    def make_resolver(self) -> Any:
        self.network = MemoryNetwork()
        reactor: Any = self.network.host("10.9.0.1")
        options = {"hosts": "hosts", "tmcd-listen": [], "loader": {"x86-bios": "pxeboot"}}
        return plugin.configure(options, PluginContext(reactor, self.directory))

    make_plugin = make_resolver

    def wait(self, deferred: "Deferred[Any]") -> None:
        self.network.run_until(lambda: deferred.called)
