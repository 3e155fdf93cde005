"""Names of client system architectures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootfw.wire.iana import ARCHITECTURES, architecture_codes, architecture_name


@pytest.mark.parametrize(
    ("code", "name"),
    [
        (0, "x86-bios"),
        (6, "x86-uefi"),
        (7, "x86_64-uefi"),
        (9, "x86_64-uefi"),
        (10, "arm32-uefi"),
        (11, "arm64-uefi"),
        (15, "x86-uefi-http"),
        (16, "x86_64-uefi-http"),
        (19, "arm64-uefi-http"),
        (20, "x86-bios-http"),
        (22, "arm64-uboot"),
        (27, "riscv64-uefi"),
        (31, "s390"),
        (39, "loongarch64-uefi"),
        (41, "arm-rpiboot"),
        (42, "arch-42"),
        (65535, "arch-65535"),
    ],
)
def test_architecture_codes_have_names(code: int, name: str) -> None:
    assert architecture_name(code) == name


def test_two_codes_mean_x64() -> None:
    # RFC 4578 erratum 4624
    assert architecture_codes("x86_64-uefi") == (7, 9)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "x86_64",
        "X86-BIOS",
        "arch-",
        "arch-7",
        "arch-042",
        "arch-65536",
        "arch--1",
        "arch-+50",
        "arch-٤٢",
        "arch-" + "9" * 5000,
    ],
)
def test_unknown_name_has_no_code(name: str) -> None:
    assert architecture_codes(name) == ()


def test_every_other_name_has_one_code() -> None:
    assert [name for name in ARCHITECTURES.values() if len(architecture_codes(name)) != 1] == ["x86_64-uefi"] * 2


def test_the_registry_has_no_gap() -> None:
    assert list(ARCHITECTURES) == list(range(42))


def test_http_names_are_plain_names_with_a_suffix() -> None:
    plain = set(ARCHITECTURES.values())

    assert {name for name in plain if name.endswith("-http") and name.removesuffix("-http") not in plain} == {
        "ebc-uefi-http"
    }


@given(st.integers(0, 0xFFFF))
def test_every_code_is_found_by_its_name(code: int) -> None:
    assert code in architecture_codes(architecture_name(code))
