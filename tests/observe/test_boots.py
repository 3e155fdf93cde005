"""BootRecorder: a service's events become attempts, which are published, stored, and shown to the operator."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from attrs import define, evolve, field
from booted import MAC, UEFI, Machine
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, formatEvent, globalLogPublisher
from zope.interface import implementer, provider
from zope.interface.verify import verifyObject

from bootfw.api import BootAttempt, BootAttemptChanged, BootAttemptEnded, Client, Event, IAttemptStore, StateError
from bootfw.attempts.attempt import StageKind, Verdict
from bootfw.backends.directory import DirectoryBackend
from bootfw.config.settings import BootsSettings
from bootfw.events import RequestClassified, SystemUp
from bootfw.interfaces import IBatchObserver, IClientAware, IOperable, IStartable
from bootfw.net.control import ControlError
from bootfw.observe.boots import RECENT, BootRecorder
from bootfw.stores.memory import MemoryStore

WALL = 1_763_640_000.0


@implementer(IAttemptStore)
@define
class BrokenStore:
    """A store that fails until it is mended."""

    error: Exception | None = field(factory=lambda: StateError("the disk is full"))
    saved: list[BootAttempt] = field(factory=list)

    def save_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> "Deferred[Any]":
        if self.error is not None:
            return fail(self.error)
        self.saved += attempts
        return succeed(None)

    def find_attempts(
        self, machine: str = "", verdict: str = "", since: float = 0.0, before: float = 0.0, limit: int = 100
    ) -> "Deferred[Any]":
        return fail(self.error) if self.error is not None else succeed(list(self.saved))

    def close_attempts(self) -> "Deferred[Any]":
        return fail(self.error) if self.error is not None else succeed(None)


@define
class RunningRecorder:
    """A recorder that has been started, and a machine whose events it gets."""

    store: Any = field(factory=MemoryStore)
    backends: Sequence[tuple[str, Any]] = ()
    settings: BootsSettings = field(factory=BootsSettings)
    clock: Clock = field(factory=Clock)
    published: list[Event] = field(factory=list)
    recorder: BootRecorder = field(init=False)

    def __attrs_post_init__(self) -> None:
        def wall_time() -> float:
            return WALL + self.clock.seconds()

        self.recorder = BootRecorder(self.clock, self.store, self.settings, self.backends, wall_time)
        self.recorder.set_client_lookup(lambda peer: Client(peer[0]))
        self.recorder.start(self.published.append)

    def wait(self, seconds: float) -> None:
        self.clock.pump([0.5] * int(2 * seconds))

    def machine(self, mac: str = MAC, address: str = "10.77.0.20") -> Machine:
        return Machine(self.recorder.observe, self.clock, mac, address)

    def records(self, operation: str = "boots", **arguments: Any) -> list[Mapping[str, Any]]:
        records: list[Mapping[str, Any]] = []
        answer: Any = self.recorder.operations()[operation](arguments)
        if isinstance(answer, Deferred):
            answer.addCallback(records.extend)
        else:
            records += answer
        return json.loads(json.dumps(records))  # type: ignore[no-any-return]

    def events_of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.published if type(event) is kind]


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """The lines that are logged."""
    lines: list[str] = []

    @provider(ILogObserver)
    def observer(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observer)
    yield lines
    globalLogPublisher.removeObserver(observer)


def test_recorder_provides_its_interfaces() -> None:
    recorder = RunningRecorder().recorder
    for interface in (IBatchObserver, IClientAware, IStartable, IOperable):
        verifyObject(interface, recorder)


def test_a_boot_is_published_and_stored_when_it_has_ended() -> None:
    recording = RunningRecorder()
    recording.machine().boot()
    recording.wait(2)
    (changed,) = recording.events_of(BootAttemptChanged)
    assert (changed.attempt.mac, changed.attempt.verdict) == (MAC, Verdict.IN_PROGRESS)
    assert recording.events_of(BootAttemptEnded) == []
    recording.wait(35)
    (ended,) = recording.events_of(BootAttemptEnded)
    assert (ended.attempt.id, ended.attempt.verdict) == (changed.attempt.id, Verdict.BOOTED)
    assert ended.attempt.began == WALL
    stored: list[BootAttempt] = []
    recording.store.find_attempts().addCallback(stored.extend)
    assert stored == [ended.attempt]


def test_changes_are_published_once_a_second_at_most() -> None:
    recording = RunningRecorder()
    machine = recording.machine()
    machine.request()
    for _ in range(10):
        machine.request_missing_file("grub.cfg")
        recording.clock.advance(0.1)
    recording.wait(2)
    assert len(recording.events_of(BootAttemptChanged)) <= 2


def test_nothing_runs_when_nothing_boots() -> None:
    recording = RunningRecorder()
    assert recording.clock.getDelayedCalls() == []
    recording.machine().boot()
    assert len(recording.clock.getDelayedCalls()) == 1
    recording.wait(60)
    assert recording.clock.getDelayedCalls() == []


def test_a_stop_leaves_no_timer_and_a_start_begins_again() -> None:
    recording = RunningRecorder()
    recording.machine().request()
    recording.recorder.close()
    assert recording.clock.getDelayedCalls() == []
    recording.recorder.start(recording.published.append)
    recording.machine("52:54:00:00:00:09", "10.77.0.9").boot()
    recording.wait(60)
    assert [record["verdict"] for record in recording.records()] == ["booted", "interrupted"]


def test_a_stop_stores_the_boots_in_progress() -> None:
    recording = RunningRecorder()
    recording.machine("52:54:00:00:00:01", "10.77.0.1").boot()
    recording.wait(2)
    recording.machine("52:54:00:00:00:02", "10.77.0.2").request()
    recording.recorder.close()
    stored: list[BootAttempt] = []
    recording.store.find_attempts().addCallback(stored.extend)
    states = {attempt.mac[-1]: (attempt.verdict, attempt.cause, attempt.ended is not None) for attempt in stored}
    assert states == {"1": (Verdict.BOOTED, None, True), "2": (Verdict.INTERRUPTED, None, True)}
    assert len(recording.events_of(BootAttemptEnded)) == 2


def test_phone_home_changes_the_verdict_to_up() -> None:
    recording = RunningRecorder()
    machine = recording.machine()
    machine.boot()
    recording.wait(60)
    recording.recorder.observe(SystemUp(recording.clock.seconds(), (machine.address, 80), "", "http"))
    recording.wait(2)
    assert [event.attempt.verdict for event in recording.events_of(BootAttemptEnded)] == [Verdict.BOOTED, Verdict.UP]
    assert [record["verdict"] for record in recording.records()] == ["up"]


# The store.


def test_a_store_that_fails_is_logged_once_and_stops_nothing(logged: list[str]) -> None:
    recording = RunningRecorder(BrokenStore())
    for number in range(3):
        recording.machine(f"52:54:00:00:00:0{number}", f"10.77.0.{number}").boot()
        recording.wait(40)
    assert [line for line in logged if "can't be stored" in line] == [
        f"boot attempts can't be stored; the latest {RECENT} are kept in memory: the disk is full"
    ]
    assert len(recording.records()) == 3
    recording.store.error = None
    recording.machine("52:54:00:00:00:09", "10.77.0.9").boot()
    recording.wait(40)
    assert logged[-1] == "boot attempts are stored again"
    recording.store.error = StateError("again")
    recording.recorder.close()


class HangingStore(BrokenStore):
    """A store that answers to nothing until it is mended."""

    def __init__(self) -> None:
        super().__init__(None)
        self.batches: list[list[BootAttempt]] = []
        self.pending: list[Deferred[Any]] = []

    def save_attempts(self, attempts: Sequence[BootAttempt], keep: int, since: float) -> "Deferred[Any]":
        self.batches.append(list(attempts))
        self.pending.append(Deferred())
        return self.pending[-1]


def test_a_store_that_hangs_is_given_no_more_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bootfw.observe.boots.RECENT", 4)
    store = HangingStore()
    recording = RunningRecorder(store)

    def boot(number: int) -> None:
        recording.machine(f"52:54:00:00:00:0{number}", f"10.77.0.{number}").boot()
        recording.wait(40)

    for number in range(7):
        boot(number)
    assert [[attempt.mac[-1] for attempt in batch] for batch in store.batches] == [["0"]]
    store.pending[0].callback(None)
    recording.wait(2)
    assert [attempt.mac[-1] for attempt in store.batches[1]] == ["3", "4", "5", "6"], "the latest ones"
    boot(8)
    recording.recorder.close()
    assert [attempt.mac[-1] for attempt in store.batches[2]] == ["8"], "a stop does not wait"


def test_the_bounds_of_the_settings_are_kept() -> None:
    recording = RunningRecorder(settings=BootsSettings(keep=2, days=1))
    for number in range(3):
        recording.machine(f"52:54:00:00:00:0{number}", f"10.77.0.{number}").boot()
        recording.wait(40)
    stored: list[BootAttempt] = []
    recording.store.find_attempts().addCallback(stored.extend)
    assert [attempt.mac[-1] for attempt in stored] == ["2", "1"]


def test_the_wait_after_the_last_file_is_set() -> None:
    recording = RunningRecorder(settings=BootsSettings(quiet_seconds=3))
    recording.machine().boot()
    recording.wait(5)
    assert len(recording.events_of(BootAttemptEnded)) == 1


def test_other_settings_count_from_the_reload_on() -> None:
    recording = RunningRecorder()
    recording.recorder.use(BootsSettings(quiet_seconds=3, keep=1), ())
    for number in range(2):
        recording.machine(f"52:54:00:00:00:0{number}", f"10.77.0.{number}").boot()
        recording.wait(5)
    assert len(recording.events_of(BootAttemptEnded)) == 2
    stored: list[BootAttempt] = []
    recording.store.find_attempts().addCallback(stored.extend)
    assert [attempt.mac[-1] for attempt in stored] == ["1"]


# What the files say.


def test_the_nearest_names_are_in_the_verdict(tmp_path: Path) -> None:
    (tmp_path / "debian").mkdir()
    for name in ("vmlinuz-6.10", "vmlinuz-6.12", "initrd.gz"):
        (tmp_path / "debian" / name).write_bytes(b"x")
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address()
    machine.load("boot.efi")
    machine.request_missing_file("debian/vmlinuz-6.1")
    recording.wait(60)
    (ended,) = recording.events_of(BootAttemptEnded)
    assert ended.attempt.cause.key == "missing-file"
    assert '"debian/vmlinuz-6.12" and "debian/vmlinuz-6.10"' in ended.attempt.cause.sentence
    (refused,) = [stage for stage in ended.attempt.stages if stage.kind is StageKind.REFUSED]
    assert refused.data["nearest"] == ["debian/vmlinuz-6.12", "debian/vmlinuz-6.10"]


def test_files_are_examined_for_a_machine_that_restarted(tmp_path: Path) -> None:
    """Its firmware did not wait for the end of the silence, and its record is closed."""
    (tmp_path / "vmlinuz-6.12").write_bytes(b"x")
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address()
    machine.load("boot.efi")
    machine.request_missing_file("vmlinuz-6.1")
    recording.wait(5)
    recording.recorder.observe(RequestClassified(recording.clock.seconds(), evolve(UEFI, xid=8)))
    (ended,) = recording.events_of(BootAttemptEnded)
    assert ended.attempt.cause.key == "missing-file"
    assert '"vmlinuz-6.12"' in ended.attempt.cause.sentence
    recording.wait(2)
    assert [record["verdict"] for record in recording.records()] == ["in progress", "failed"]


def test_wrong_program_of_a_machine_that_has_started_again(tmp_path: Path) -> None:
    (tmp_path / "boot.efi").write_bytes(b"MZ")
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address()
    machine.load("boot.efi")
    recording.wait(5)
    recording.recorder.observe(RequestClassified(recording.clock.seconds(), evolve(UEFI, xid=8)))
    (ended,) = recording.events_of(BootAttemptEnded)
    assert ended.attempt.cause.key == "wrong-architecture"
    assert ended.attempt.stages[-1].kind is StageKind.PROGRAM


@pytest.mark.parametrize(("head", "verdict"), [(b"MZ", "failed"), (None, "booted")])
def test_the_architecture_of_the_boot_program(tmp_path: Path, head: bytes | None, verdict: str) -> None:
    if head is not None:
        (tmp_path / "boot.efi").write_bytes(head)
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address()
    machine.load("boot.efi")
    recording.wait(60)
    (ended,) = recording.events_of(BootAttemptEnded)
    assert ended.attempt.verdict.value == verdict


def test_file_that_ipxe_loads_is_no_program_of_the_firmware(tmp_path: Path) -> None:
    """The last ACK of iPXE itself was lost, so its transfer runs until it times out."""
    (tmp_path / "boot.ipxe").write_bytes(b"#!ipxe")
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address("snponly.efi")
    machine.load("snponly.efi", completes=False)
    recording.wait(2)
    machine.get_address("boot.ipxe")
    machine.load("boot.ipxe")
    recording.wait(60)
    (ended,) = recording.events_of(BootAttemptEnded)
    assert (ended.attempt.verdict, ended.attempt.cause) == (Verdict.BOOTED, None)


def test_file_that_ipxe_loads_is_not_examined_if_another_server_had_ipxe(tmp_path: Path) -> None:
    (tmp_path / "boot.ipxe").write_bytes(b"#!ipxe")
    recording = RunningRecorder(backends=[("directory", DirectoryBackend(tmp_path))])
    machine = recording.machine()
    machine.get_address("snponly.efi")
    recording.wait(2)
    machine.get_address("boot.ipxe", ipxe=True)
    machine.load("boot.ipxe")
    recording.wait(60)
    (ended,) = recording.events_of(BootAttemptEnded)
    assert (ended.attempt.verdict, ended.attempt.cause) == (Verdict.BOOTED, None)


# What the operator asks.


def test_the_list_has_boots_in_progress_and_those_that_ended() -> None:
    recording = RunningRecorder()
    recording.machine("52:54:00:00:00:01", "10.77.0.1").boot()
    recording.wait(60)
    recording.machine("52:54:00:00:00:02", "10.77.0.2").request()
    assert [(record["mac"][-1], record["verdict"]) for record in recording.records()] == [
        ("2", "in progress"),
        ("1", "booted"),
    ]
    assert "stages" not in recording.records()[0]
    assert [record["mac"][-1] for record in recording.records(verdict="booted")] == ["1"]
    assert [record["mac"][-1] for record in recording.records(machine="52-54-00-00-00-02")] == ["2"]
    assert [record["mac"][-1] for record in recording.records(limit="1")] == ["2"]
    assert [record["mac"][-1] for record in recording.records(before=str(WALL + 30))] == ["1"]
    assert [record["mac"][-1] for record in recording.records(since=WALL + 30)] == ["2"]


def test_one_machine_has_its_stages() -> None:
    recording = RunningRecorder()
    recording.machine().boot()
    recording.wait(60)
    (record,) = recording.records("boot", machine=MAC)
    assert [stage["kind"] for stage in record["stages"]][:2] == ["discover", "offer"]


def test_a_machine_that_shows_no_mac_is_found_by_its_address() -> None:
    recording = RunningRecorder()
    recording.machine(mac="", address="10.77.0.9").load("boot.efi")
    for seconds in (0, 60):
        recording.wait(seconds)
        (record,) = recording.records("boot", machine="10.77.0.9")
        assert (record["mac"], record["addresses"]) == ("", ["10.77.0.9"])
        assert recording.records("boot", machine="10.77.0.8") == []


@pytest.mark.parametrize(
    ("operation", "arguments", "reason"),
    [
        ("boots", {"machine": "x"}, "MAC address"),
        ("boots", {"verdict": "fine"}, '"booted"'),
        ("boots", {"limit": "many"}, "must be a number"),
        ("boot", {}, '"machine" is missing'),
    ],
)
def test_invalid_operations_are_refused(operation: str, arguments: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(ControlError, match=reason):
        RunningRecorder().recorder.operations()[operation](arguments)


def test_followers_get_changed_attempts() -> None:
    recording = RunningRecorder()
    (first,) = recording.records(after=-1)
    assert first == {"change": 0}
    recording.machine().boot()
    recording.wait(2)
    (changed,) = recording.records(after=first["change"])
    assert (changed["verdict"], changed["mac"]) == ("in progress", MAC)
    (unchanged,) = recording.records(after=changed["change"])
    assert unchanged == {"change": changed["change"]}
    recording.wait(40)
    (changed,) = recording.records(after=changed["change"])
    assert changed["verdict"] == "booted"


@pytest.mark.parametrize("fails", [True, False])
def test_a_failed_boot_names_the_file_with_its_packets(fails: bool) -> None:
    recording = RunningRecorder()
    written: list[BootAttempt] = []

    def write(attempt: BootAttempt) -> "Deferred[str]":
        written.append(attempt)
        return succeed("/recordings/file.pcapng")

    recording.recorder.write_packets = write
    machine = recording.machine()
    if fails:
        machine.get_address()
    else:
        machine.boot()
    recording.wait(120)
    ended = recording.events_of(BootAttemptEnded)[0].attempt
    assert (ended.verdict is Verdict.FAILED) == fails
    assert ended.recording == ("/recordings/file.pcapng" if fails else "")
    assert len(written) == fails


def test_files_are_listed_with_their_boot_once_the_kernel_knows_the_mac() -> None:
    """Of a proxy's client: no message named its address."""
    recording, neighbours = RunningRecorder(), dict[str, Client]()
    recording.recorder.set_client_lookup(lambda peer: neighbours.get(peer[0], Client(peer[0])))
    machine = recording.machine()
    machine.request()
    recording.wait(45)
    machine.load("boot.efi")
    recording.wait(2)
    assert [(record["mac"], record["verdict"]) for record in recording.records()] == [
        ("", "in progress"),
        (MAC, "failed"),
    ]
    neighbours[machine.address] = Client(machine.address, MAC)
    machine.load("vmlinuz")
    recording.wait(2)
    assert [(record["mac"], record["verdict"]) for record in recording.records()] == [(MAC, "in progress")]
    recording.wait(40)
    [record] = recording.records()
    assert (record["mac"], record["verdict"], record["files"]) == (MAC, "booted", ["boot.efi", "vmlinuz"])
