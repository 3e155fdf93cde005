"""Every fuzz target with its seeds, with inputs that failed before, and with variants. ``make fuzz`` looks for more."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.__main__ import main
from fuzz.target import Target
from fuzz.targets import TARGETS

_EXAMPLES = {"service": 10, "control": 10, "web": 10, "configuration": 25, "boot-files": 25, "host-files": 25}
"""Number of variants for the targets that take long for an input."""


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_seeds_break_no_rule(target: Target) -> None:
    for data in target.seeds():
        target.run(data)


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_found_inputs_break_no_rule(target: Target) -> None:
    for path in target.found():
        target.run(path.read_bytes())


def _variants(seeds: list[bytes]) -> st.SearchStrategy[bytes]:
    """Beginnings and ends of seeds with some bytes between them, and seeds with some bytes changed."""
    seed = st.sampled_from(seeds)
    cut = st.integers(0, 255)

    def joined(first: bytes, end: int, between: bytes, begin: int, last: bytes) -> bytes:
        return first[: end * len(first) // 255] + between + last[begin * len(last) // 255 :]

    def changed(data: bytes, changes: list[tuple[int, int]]) -> bytes:
        array = bytearray(data or b"\0")
        for index, value in changes:
            array[index % len(array)] = value
        return bytes(array)

    # The first bytes are checked most.
    change = st.tuples(st.integers(0, 40) | st.integers(0, 1 << 16), cut)
    return st.builds(joined, seed, cut, st.binary(max_size=8), cut, seed) | st.builds(
        changed, seed, st.lists(change, max_size=4)
    )


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_variants_of_seeds_break_no_rule(target: Target) -> None:
    @settings(
        max_examples=_EXAMPLES.get(target.name, 200),
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_variants(list(target.seeds())))
    def run(data: bytes) -> None:
        target.run(data[: target.largest])

    run()


def test_an_input_that_takes_too_long_breaks_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.target.LONGEST", -1.0)
    with pytest.raises(AssertionError, match=r"tftp: 3 bytes took 0\.0 s"):
        TARGETS["tftp"].run(b"abc")


def test_the_targets_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list(TARGETS)


def test_a_kept_input_runs_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "tftp" / "input"
    path.parent.mkdir()
    path.write_bytes(b"\0\1a\0octet\0")
    assert main(["--again", str(path)]) == 0
    assert "breaks no rule" in capsys.readouterr().out


def test_a_target_that_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["tfpt"])
    assert caught.value.code == 2
    assert "there is no target tfpt; there are tftp, dhcp4" in capsys.readouterr().err
