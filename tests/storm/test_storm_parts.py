"""Frames, links, arrivals, scenarios and reports of a storm."""

import tomllib
from importlib.resources import files
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.errors import ConfigError
from bootfw.storm import frames
from bootfw.storm.arrivals import Arrivals
from bootfw.storm.driver import Effort, Outcome
from bootfw.storm.frames import UDPFrame
from bootfw.storm.link import Link, LinkQuality
from bootfw.storm.machine import PORTS, Stage
from bootfw.storm.report import as_json, percentiles, summarize, table
from bootfw.storm.scenario import Scenario, Share, Storm, read_scenario
from bootfw.storm.sockets import StormError
from bootfw.storm.storm import Target, machines_of, run


@given(st.binary(max_size=600), st.integers(1, 65535), st.integers(1, 65535))
def test_frames_are_read_by_scapy_and_by_us(data: bytes, source: int, destination: int) -> None:
    from scapy.layers.inet import IP, UDP
    from scapy.layers.l2 import Ether

    frame = UDPFrame(b"\xff" * 6, b"\x02\x5b\0\0\0\1", "10.77.1.2", source, "10.77.0.1", destination, data)
    packed = frames.pack(frame)
    assert frames.parse(packed) == frame
    scapy_frame = Ether(packed)
    assert (scapy_frame[IP].src, scapy_frame[IP].dst, scapy_frame[UDP].sport, scapy_frame[UDP].dport) == (
        "10.77.1.2",
        "10.77.0.1",
        source,
        destination,
    )
    assert bytes(scapy_frame[UDP].payload)[: len(data)] == data
    checksum = scapy_frame[IP].chksum
    del scapy_frame[IP].chksum
    assert Ether(bytes(scapy_frame))[IP].chksum == checksum


@given(st.binary(max_size=80))
def test_any_bytes_are_parsed_without_an_error(data: bytes) -> None:
    frames.parse(data)


def test_truncated_frame_is_ignored() -> None:
    packed = frames.pack(UDPFrame(b"\xff" * 6, bytes(6), "10.0.0.1", 67, "10.0.0.2", 68, b"data"))
    assert [frames.parse(packed[:size]) for size in range(42)] == [None] * 42


def test_a_perfect_link_passes_everything_at_once() -> None:
    link = Link(LinkQuality(), 1)
    assert [list(link.delays()) for _ in range(100)] == [[0.0]] * 100


def test_a_link_loses_doubles_and_delays_its_share() -> None:
    link = Link(LinkQuality(loss=0.1, duplication=0.2, reordering=0.3, delay=0.5, jitter=0.1), 7)
    copies = [list(link.delays()) for _ in range(10_000)]
    assert 0.08 < sum(not copy for copy in copies) / 10_000 < 0.12
    assert 0.15 < sum(len(copy) == 2 for copy in copies) / 10_000 < 0.2
    every = [delay for copy in copies for delay in copy]
    assert all(0.5 <= delay <= 0.62 for delay in every)
    assert 0.28 < sum(delay > 0.6 for delay in every) / len(every) * 5 < 0.4  # a reordered one, late by jitter too


def test_links_of_the_same_seed_do_the_same() -> None:
    lossy = LinkQuality(loss=0.5)
    first_link, equal_link, different_link = Link(lossy, 1), Link(lossy, 1), Link(lossy, 2)
    first = [len(first_link.delays()) for _ in range(50)]
    assert first == [len(equal_link.delays()) for _ in range(50)]
    assert first != [len(different_link.delays()) for _ in range(50)]


def test_arrivals_at_once_in_racks_and_at_random() -> None:
    assert list(Arrivals().times(3, 1)) == [0.0] * 3
    assert list(Arrivals("racks", rack=2, rack_seconds=5).times(5, 1)) == [0, 0, 5, 5, 10]
    times = list(Arrivals("poisson", rate=100).times(5000, 1))
    assert times == sorted(times)
    assert 45 < times[-1] < 55


def test_the_boots_of_bootfw_are_valid() -> None:
    scenario = read_scenario()
    stock = tomllib.loads(files("bootfw.storm").joinpath("boots.toml").read_text())
    assert [*scenario.boots] == [boot["name"] for boot in stock["boot"]]
    programs = {step.program for boot in scenario.boots.values() for step in boot.steps}
    assert programs == scenario.programs.keys()


def test_no_boot_uses_a_port_twice() -> None:
    """A server repeats its OACK for seconds when the ERROR that ends a size probe is lost."""
    for boot in read_scenario().boots.values():
        assert sum(len(step.files) + step.probe for step in boot.steps if step.do == "load") <= PORTS


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "storm.toml"
    path.write_text(text)
    return path


def test_a_scenario_has_boots_and_programs_of_its_own(tmp_path: Path) -> None:
    text = """
    [storm]
    machines = 7
    loss = 0.02
    [[machine]]
    boot = "mine"
    [[program]]
    name = "rom"
    open = [1, 2]
    [[boot]]
    name = "mine"
    steps = [{ do = "load", program = "rom", files = ["a"] }]
    """
    scenario = read_scenario(write(tmp_path, text), changes={"loss": 0.05})
    assert (scenario.storm.machines, scenario.storm.loss) == (7, 0.05)
    assert scenario.boot_of(0).steps[0].files == ("a",)
    assert scenario.programs["rom"].open == (1.0, 2.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[storm]\nmachines = 0", "storm.machines: must be >= 1: 0"),
        ("[storm]\nloss = 2", "storm.loss: must be <= 1.0: 2"),
        ('[storm]\narrival = "soon"', 'storm.arrival: must be one of "at-once", "poisson", "racks", not "soon"'),
        ("[storms]", "storms: unknown key; known: storm, machine, boot, program"),
        ("machine = 1", "machine: must be a list of tables, [[machine]]"),
        ('[[machine]]\nboot = "emulap"', 'machine[0].boot: no boot "emulap"; known: emulab, '),
        (
            '[[boot]]\nname = "x"\nsteps = [{ do = "load", program = "upxe" }]',
            'boot.x.steps[0].program: no program "upxe"; known: pxe-rom, ',
        ),
        ("storm = ", "Invalid value"),
    ],
)
def test_errors_of_a_scenario_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_scenario(write(tmp_path, text))
    assert message in str(raised.value)


def test_boots_and_slow_machines_are_spread_evenly() -> None:
    stock = read_scenario()
    storm = Storm(machines=100, slow=0.1)
    scenario = Scenario(storm, (Share("u-boot", 3), Share("emulab", 1)), stock.boots, stock.programs)
    boots = [scenario.boot_of(number) for number in range(100)]
    assert 73 <= sum(boot.name == "u-boot" for boot in boots) <= 77
    assert 73 <= sum(boot.name == "u-boot" for boot in boots[:50]) * 2 <= 78
    assert sum(any(step.hesitates for step in boot.steps) for boot in boots) == 10


def outcome(number: int, ended: float | None, failure: str = "", state: str = "booted") -> Outcome:
    stages = (Stage("rom: dhcp", 0.0, 1.0, number), Stage("rom: a", 1.0, ended, 0, 100))
    return Outcome(number, "test", 0.0, ended, failure, stages, state)


def test_a_report_sums_up_the_outcomes() -> None:
    outcomes = [
        outcome(0, 2.0),
        outcome(1, 4.0),
        outcome(2, 9.0, "rom: a: no answer", "failed"),
        outcome(3, None, state="reading"),
    ]
    summary = summarize(outcomes, [Effort(0.5, 0.01, 0)])
    assert (summary.booted, summary.failed, summary.unfinished, summary.seconds) == (2, 1, 1, 9.0)
    assert (summary.boot_percentiles, summary.longest) == ((2.0, 4.0, 4.0), 4.0)
    dhcp, load = summary.stages
    assert (dhcp.machines, dhcp.completed, dhcp.retries, dhcp.retried, dhcp.most_retries) == (4, 4, 6, 3, 3)
    assert (load.completed, load.bytes, load.percentiles) == (3, 400, (3.0, 8.0, 8.0))
    lines = "\n".join(table(summary))
    assert "2 of 4 machines booted in 9.0 s; 1 failed, 1 had not finished" in lines
    assert "1 x rom: a: no answer" in lines
    assert "THE LIMIT" not in lines
    assert as_json(summary, outcomes)["outcomes"][2]["failure"] == "rom: a: no answer"


@pytest.mark.parametrize("effort", [Effort(0.99, 0.0, 0), Effort(0.1, 0.2, 0), Effort(0.1, 0.0, 3)])
def test_a_report_says_when_the_simulator_was_the_limit(effort: Effort) -> None:
    summary = summarize([outcome(0, 2.0)], [Effort(0.1, 0.0, 0), effort])
    assert summary.limited
    assert "IT WAS THE LIMIT" in table(summary)[-1]


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_percentiles_are_not_exceeded_by_their_share_of_the_values(times: list[float]) -> None:
    times.sort()
    for percent, value in zip((50, 90, 99), percentiles(times), strict=True):
        assert sum(time_ <= value for time_ in times) >= percent / 100 * len(times)
        assert sum(time_ < value for time_ in times) < percent / 100 * len(times)


def test_storm_needs_permission_beyond_loopback() -> None:
    Target().check_allowed("127.3.4.5")
    Target(allowed=(IPv4Network("10.1.0.0/16"),)).check_allowed("10.1.2.3")
    for address in "10.1.2.3", "192.0.2.1", "::1", "boot.example":
        with pytest.raises(StormError, match=address):
            Target().check_allowed(address)


def test_boots_that_need_dhcp_or_a_file_say_so() -> None:
    with pytest.raises(StormError, match="needs an interface"):
        run(read_scenario(), Target())
    with pytest.raises(StormError, match="need the name of a file"):
        run(read_scenario(shares=[Share("tftp")]), Target(server="127.0.0.1"))


def test_every_machine_has_a_mac_and_an_address_of_its_own() -> None:
    scenario = read_scenario(shares=[Share("tftp")], changes={"machines": 3000})
    machines = [machine for _, machine, _ in machines_of(scenario, Target(server="127.0.0.1", file="a"))]
    assert len({machine.identity.mac for machine in machines}) == 3000
    assert len({machine.address for machine in machines}) == 3000
    assert all(machine.identity.mac[0] & 3 == 2 for machine in machines)  # locally administered, not multicast
