"""``bootfw probe``: its options; tests/interop/test_probe.py runs it against servers."""

import pytest

from bootfw.cli.main import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "give SERVER, or --interface, one of "),
        (("10.0.0.1", "-i", "eth0"), "give SERVER or --interface, not both"),
        (("fd00::1",), "fd00::1: is not an IPv4 address"),
        (("10.0.0.1", "--mac", "5"), '--mac 5: is not a MAC address, such as "52:54:00:12:34:56"'),
        (
            ("10.0.0.1", "--lease", "--mac", "52:54:00:12:34:56"),
            "--lease would end the lease of that machine: leave --mac out",
        ),
        (("10.0.0.1", "--arch", "z80"), '--arch z80: "z80" is no architecture'),
        (("-i", "nosuch0"), "there is no interface nosuch0; there are "),
    ],
)
def test_misuse(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str) -> None:
    assert main(["probe", "--json", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"bootfw: {told}")
