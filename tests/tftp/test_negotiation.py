"""bootfw.tftp.negotiation: only requested options with valid values are acknowledged, in the client's spelling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.tftp.negotiation import Limits, negotiate
from bootfw.values import Agreed, Mode

LIMITS = Limits(max_blksize=1468, max_windowsize=64)


def agree(
    *options: tuple[str, str], write: bool = False, mode: Mode = Mode.OCTET, size: int | None = 123_456
) -> Agreed:
    return negotiate(options, write=write, mode=mode, size=size, limits=LIMITS)


def test_no_requested_options_give_no_oack() -> None:
    assert agree() == Agreed()


@pytest.mark.parametrize(
    ("options", "agreed"),
    [
        # iPXE
        (
            (("blksize", "1432"), ("tsize", "0")),
            Agreed(1432, tsize=123_456, acknowledged=(("blksize", "1432"), ("tsize", "123456"))),
        ),
        # OVMF
        (
            (("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")),
            Agreed(
                1468, 4, tsize=123_456, acknowledged=(("tsize", "123456"), ("blksize", "1468"), ("windowsize", "4"))
            ),
        ),
        # U-Boot
        (
            (("timeout", "5"), ("blksize", "1468")),
            Agreed(1468, timeout=5, acknowledged=(("timeout", "5"), ("blksize", "1468"))),
        ),
        # Windows Boot Manager
        (
            (("tsize", "0"), ("blksize", "1456"), ("windowsize", "4"), ("msftwindow", "31416")),
            Agreed(
                1456, 4, tsize=123_456, acknowledged=(("tsize", "123456"), ("blksize", "1456"), ("windowsize", "4"))
            ),
        ),
        # s390x and SLOF
        ((("blksize", "1428"),), Agreed(1428, acknowledged=(("blksize", "1428"),))),
    ],
)
def test_options_of_real_clients_are_negotiated(options: tuple[tuple[str, str], ...], agreed: Agreed) -> None:
    assert agree(*options) == agreed


INVALID_VALUES = [
    "",
    "abc",
    "-1",
    "+8",
    " 8",
    "8 ",
    "1e3",
    "0x10",
    "1_0",
    "8.0",
    "٣٢",
    "²",
    "9" * 300,
    "1" * 21,
    "\udcff",
]


@pytest.mark.parametrize(
    ("name", "value"),
    [(name, value) for name in ("blksize", "timeout", "tsize", "windowsize") for value in INVALID_VALUES]
    + [("blksize", "0"), ("blksize", "7"), ("blksize", "65465"), ("blksize", str(2**64))]
    + [("timeout", "0"), ("timeout", "256"), ("windowsize", "0"), ("windowsize", "65536")],
)
def test_a_value_out_of_range_is_left_out(name: str, value: str) -> None:
    assert agree((name, value)) == Agreed()
    assert agree((name, value), write=True) == Agreed()


@pytest.mark.parametrize(("requested", "agreed"), [(8, 8), (512, 512), (1468, 1468), (1469, 1468), (65464, 1468)])
def test_blksize_is_limited_by_the_server(requested: int, agreed: int) -> None:
    assert agree(("blksize", str(requested))) == Agreed(agreed, acknowledged=(("blksize", str(agreed)),))


@pytest.mark.parametrize(("requested", "agreed"), [(1, 1), (64, 64), (65, 64), (65535, 64)])
def test_windowsize_is_limited_by_the_server(requested: int, agreed: int) -> None:
    assert agree(("windowsize", str(requested))) == Agreed(
        windowsize=agreed, acknowledged=(("windowsize", str(agreed)),)
    )


@pytest.mark.parametrize("requested", [1, 255])
def test_timeout_is_echoed(requested: int) -> None:
    assert agree(("timeout", str(requested))) == Agreed(timeout=requested, acknowledged=(("timeout", str(requested)),))


@pytest.mark.parametrize("requested", ["0", "1", "18446744073709551615"])
def test_tsize_of_a_read_is_the_size_of_the_file(requested: str) -> None:
    assert agree(("tsize", requested)) == Agreed(tsize=123_456, acknowledged=(("tsize", "123456"),))


def test_tsize_of_an_empty_file_is_left_out_for_curl() -> None:
    assert agree(("tsize", "0"), ("blksize", "600"), size=0) == Agreed(600, acknowledged=(("blksize", "600"),))


def test_tsize_of_an_unknown_size_is_left_out() -> None:
    assert agree(("tsize", "0"), ("blksize", "600"), size=None) == Agreed(600, acknowledged=(("blksize", "600"),))


def test_tsize_of_a_write_is_echoed() -> None:
    assert agree(("tsize", "98765432100"), write=True, size=None) == Agreed(
        tsize=98_765_432_100, acknowledged=(("tsize", "98765432100"),)
    )


@pytest.mark.parametrize("write", [False, True])
def test_netascii_has_neither_tsize_nor_windows(write: bool) -> None:
    agreed = agree(
        ("tsize", "0"), ("windowsize", "8"), ("blksize", "600"), ("timeout", "3"), write=write, mode=Mode.NETASCII
    )
    assert agreed == Agreed(600, timeout=3, acknowledged=(("blksize", "600"), ("timeout", "3")))


def test_the_oack_has_the_clients_spelling_and_order() -> None:
    assert agree(("TSIZE", "0"), ("Timeout", "2"), ("BlkSize", "600")).acknowledged == (
        ("TSIZE", "123456"),
        ("Timeout", "2"),
        ("BlkSize", "600"),
    )


def test_of_an_option_that_is_named_twice_the_first_counts() -> None:
    agreed = agree(("blksize", "600"), ("BLKSIZE", "700"), ("blksize", "800"))
    assert agreed == Agreed(600, acknowledged=(("blksize", "600"),))
    assert agree(("blksize", "abc"), ("blksize", "700")) == Agreed()


def test_unknown_options_alone_mean_no_oack() -> None:
    assert agree(("multicast", ""), ("blksize2", "1024"), ("rollover", "0"), ("", "")) == Agreed()


names = st.sampled_from(["blksize", "BLKSIZE", "timeout", "tsize", "windowsize", "rollover", ""])
values = st.one_of(st.integers(-10, 70_000).map(str), st.text(max_size=5))


@given(
    st.lists(st.tuples(names, values), max_size=8),
    st.booleans(),
    st.sampled_from(Mode),
    st.none() | st.integers(0, 2**40),
    st.integers(8, 65464),
    st.integers(1, 65535),
)
def test_oack_keeps_the_rules_for_any_options(
    options: list[tuple[str, str]], write: bool, mode: Mode, size: int | None, blksize: int, windowsize: int
) -> None:
    agreed = negotiate(options, write=write, mode=mode, size=size, limits=Limits(blksize, windowsize))
    requested = [name for name, _ in options]
    answered = [name for name, _ in agreed.acknowledged]
    assert answered == [
        name for index, name in enumerate(requested) if name in answered and requested.index(name) == index
    ]
    assert len({name.lower() for name in answered}) == len(answered)
    acknowledged = {name.lower(): int(value) for name, value in agreed.acknowledged}
    assert acknowledged.get("blksize", 512) == agreed.blksize
    assert acknowledged.get("windowsize", 1) == agreed.windowsize
    assert acknowledged.get("timeout") == agreed.timeout
    assert acknowledged.get("tsize") == agreed.tsize
    assert set(acknowledged) <= {"blksize", "timeout", "tsize", "windowsize"}
    assert agreed.blksize <= max(512, blksize)
    assert agreed.windowsize <= windowsize
