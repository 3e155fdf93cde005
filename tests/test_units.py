"""Sizes and times as the configuration spells them."""

import contextlib
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.config.units import Seconds, Size, seconds_text, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        (268435456, 256 << 20),
        ("256 MiB", 256 << 20),
        ("256MiB", 256 << 20),
        (" 1 KiB ", 1024),
        ("1.5 GiB", 3 << 29),
        ("4 TiB", 4 << 40),
        ("12 B", 12),
        ("1 kB", 1000),
        ("2 MB", 2_000_000),
        ("1 GB", 10**9),
        ("1 TB", 10**12),
    ],
)
def test_sizes_are_read(text: object, size: int) -> None:
    assert Size.read(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(0, 0), (1.5, 1.5), ("90 s", 90), ("200 ms", 0.2), ("1.5 min", 90), ("2h", 7200), ("1 d", 86400)],
)
def test_times_are_read(text: object, seconds: float) -> None:
    assert Seconds.read(text) == seconds


WRONG: list[Any] = [
    True,
    -1,
    math.nan,
    math.inf,
    None,
    [],
    "",
    "1",
    "MiB",
    "-1 s",
    "1 s s",
    "1 s 2 ms",
    "1e3 s",
    "٣ s",
    "1 S",
    "1 mb",
]


@pytest.mark.parametrize("value", [*WRONG, 1.5, "0.3 B", "1 s"])
def test_invalid_sizes_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be a size"):
        Size.read(value)


@pytest.mark.parametrize("value", [*WRONG, "1 B", "1 MiB"])
def test_invalid_times_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must be a time"):
        Seconds.read(value)


@given(st.integers(0, 1 << 50))
def test_a_size_is_read_as_it_is_shown(size: int) -> None:
    assert Size.read(size_text(size)) == size


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (0.8, "800 ms"), (1, "1 s"), (1.5, "1.5 s"), (90, "90 s")])
def test_times_are_shown_with_a_unit(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text
    assert Seconds.read(text) == seconds


@given(st.one_of(st.text(), st.floats(), st.integers(), st.booleans()))
def test_any_value_is_read_or_refused_with_a_value_error(value: object) -> None:
    for kind in (Size, Seconds):
        with contextlib.suppress(ValueError):
            assert kind.read(value) >= 0
