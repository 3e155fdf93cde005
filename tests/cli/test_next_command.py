"""``bootfw next`` as an operator uses it, with a server that runs and without."""

import json
import time

import pytest

from bootfw.cli import main as command
from bootfw.events import OfferMade
from bootfw.net.attendants import Attendants
from bootfw.resolvers.loop_breaker import LoopBreaker
from bootfw.resolvers.oneshots import OneShots
from bootfw.values import BootFile, BootRequest

MAC, OTHER = "52:54:00:12:34:56", "52:54:00:00:00:01"
CONFIG = """
[bootfw]
state-dir = "state"
[[resolver]]
use = "next-boot"
[[resolver]]
use = "static"
file = "boot.ipxe"
"""


@pytest.fixture(autouse=True)
def _configured(here):
    (here / "bootfw.toml").write_text(CONFIG)


@pytest.fixture
def run(capsys):
    """Exit code, and what it prints."""

    def run(*arguments):
        code = command.main(["next", "-c", "bootfw.toml", *arguments])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def kept(tmp_path):
    return OneShots(tmp_path / "state" / "next-boot.sqlite")


def test_order_list_and_clear(run, kept):
    assert run("52-54-00-12-34-56", "debian/install.ipxe") == (
        0,
        "52:54:00:12:34:56 boots debian/install.ipxe next, once\n",
        "",
    )
    kept.order(MAC, "debian/install.ipxe", 1_763_640_000.0)
    assert run() == (
        0,
        "MAC                NEXT BOOT            SINCE\n52:54:00:12:34:56  debian/install.ipxe  2025-11-20 12:00:00\n",
        "",
    )
    assert run("--clear", MAC) == (0, "52:54:00:12:34:56 boots as always\n", "")
    assert run("--clear", MAC) == (1, "", "bootfw: nothing is ordered for 52:54:00:12:34:56\n")
    assert run() == (0, "MAC  NEXT BOOT  SINCE\n", "")


def test_as_json(run, kept):
    code, out, _ = run(MAC, "http://{server}/x?mac={mac}", "--json")
    order = json.loads(out)
    assert (code, order["mac"], order["file"]) == (0, MAC, "http://{server}/x?mac={mac}")
    assert order["ordered"] == pytest.approx(time.time(), abs=60)
    assert json.loads(run("--json")[1]) == {"next": [order], "looping": None}
    assert json.loads(run("--clear", MAC, "--json")[1]) == order
    assert kept.read() == {}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["host", "x"], 'MAC must be a MAC address, such as "52:54:00:12:34:56", not "host"'),
        ([MAC, "{ip}"], "FILE unknown placeholder {ip}"),
        ([MAC, "a b"], "FILE must have no blanks in it"),
        ([MAC, "a\nchain b"], "FILE must have no blanks in it"),
        (["--clear", "x"], "MAC must be a MAC address"),
        (["--forgive", MAC], "bootfw does not run, and keeps nobody from a loop"),
    ],
)
def test_what_can_not_be_done(run, kept, arguments, said):
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"bootfw: {said}")
    assert kept.version() is None


@pytest.mark.parametrize(
    "arguments", [[MAC], [MAC, "x", "--clear", MAC], ["--clear", MAC, "--forgive", MAC], ["--clear"], [MAC, "x", "y"]]
)
def test_misuse(run, arguments):
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2


def test_where_no_resolver_would_ask_for_it_nothing_can_be_ordered(run, kept, tmp_path):
    (tmp_path / "bootfw.toml").write_text(CONFIG.replace('"next-boot"', '"static"\nfile = "x"'))
    code, _, err = run(MAC, "install.ipxe")
    assert code == 1
    assert err == (
        'bootfw: bootfw.toml has resolvers, but none that asks for it: begin them with [[resolver]] use = "next-boot"\n'
    )
    assert kept.version() is None


def test_the_defaults_ask_for_it(run, tmp_path, capsys, kept):
    (tmp_path / "bootfw.toml").write_text('[bootfw]\nstate-dir = "state"\n')
    assert run(MAC, "install.ipxe")[0] == 0
    assert list(kept.read()) == [MAC]


def test_a_damaged_file_is_told_of(run, kept):
    kept.path.parent.mkdir()
    kept.path.write_bytes(b"x" * 1000)
    code, _, err = run()
    assert code == 1
    assert "next-boot.sqlite: is damaged" in err


# With a server


class Running:
    """A server with a machine that is in a loop."""

    def __init__(self, reactor, state):
        self.breaker = LoopBreaker(repeats=2, reactor=reactor)
        self.attendants = Attendants(reactor, [("loop-breaker", self.breaker)], [].append)
        self.attendants.start()
        self.attendants.listen(state / "control.sock")
        for xid in range(4):
            request = BootRequest(OTHER, "discover", "ipxe", "x86-bios", ipxe=True, xid=xid)
            self.breaker.resolve(request)
            self.breaker.observe(OfferMade(0, request, "OFFER", BootFile("http://10.0.0.7/x.ipxe"), ("", 68)))


@pytest.fixture
def server(private_reactor, tmp_path):
    made = Running(private_reactor, tmp_path / "state")
    yield made
    closed = made.attendants.close()
    while not closed.called:
        private_reactor.iterate(0.01)
    private_reactor.iterate(0)


def test_who_is_kept_from_a_loop_is_shown(run, server, alongside):
    code, out, err = alongside(run)
    assert (code, err) == (0, "")
    heading, line = out.splitlines()[-2:]
    assert heading.split("  ")[0] == "LOOPING"
    assert line.split()[0] == OTHER
    assert line.endswith("http://10.0.0.7/x.ipxe")
    [record] = json.loads(alongside(run, "--json")[1])["looping"]
    assert record == {
        "mac": OTHER,
        "files": ["http://10.0.0.7/x.ipxe"],
        "times": 2,
        "until": pytest.approx(time.time() + 600, abs=60),
    }


def test_forgive(run, server, alongside):
    assert alongside(run, "--forgive", OTHER) == (0, f"{OTHER} boots from here again\n", "")
    assert alongside(run, "--forgive", OTHER) == (1, "", f"bootfw: {OTHER} is not kept from a loop\n")
    assert "LOOPING" not in alongside(run)[1]


def test_forgive_as_json(run, server, alongside):
    assert json.loads(alongside(run, "--forgive", OTHER, "--json")[1])["mac"] == OTHER


def test_ordering_needs_no_server(run, server, alongside, kept):
    assert alongside(run, MAC, "install.ipxe")[0] == 0
    assert list(kept.read()) == [MAC]
