"""``bootfw probe``: its arguments, and URLs; tests/interop/test_probe.py runs it against servers."""

import json

import pytest
from playedtftp import scripted_server

from bootfw.cli.main import main
from bootfw.wire import tftp


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_wrong_arguments_exit_with_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
) -> None:
    assert main(["probe", "--json", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"bootfw: {message}")


def probe(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run ``bootfw probe``, and return its exit code and output."""
    code = main(["probe", *arguments])
    return code, capsys.readouterr().out


def test_url_is_fetched(capsys: pytest.CaptureFixture[str]) -> None:
    def answer(packet: tftp.Packet) -> list[bytes]:
        assert not isinstance(packet, tftp.Request) or packet.filename == "a b"
        return [tftp.data(1, b"ok")] if isinstance(packet, tftp.Request) else []

    with scripted_server(answer) as port:
        url = f"tftp://127.0.0.1:{port}/a%20b"
        code, out = probe(capsys, url)
        assert code == 0
        assert out.startswith(f"{url}: 2 bytes in ")
        code, out = probe(capsys, url, "--json")
        assert (code, json.loads(out)["fetched"], json.loads(out)["bytes"]) == (0, True, 2)


def test_url_that_is_not_served_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with scripted_server(lambda packet: [tftp.error(1, "File not found")]) as port:
        url = f"tftp://127.0.0.1:{port}/missing"
        code, out = probe(capsys, url)
        assert (code, out) == (1, f'{url}: TFTP server 127.0.0.1 refuses: error 1, "File not found"\n')
        code, out = probe(capsys, url, "--json")
        assert (code, json.loads(out)["fetched"]) == (1, False)
        assert "File not found" in json.loads(out)["reason"]
    with scripted_server(lambda packet: []) as port:
        code, out = probe(capsys, f"tftp://127.0.0.1:{port}/hangs", "--timeout", "0.2")
        assert code == 1
        assert "does not answer" in out


@pytest.mark.parametrize("url", ["tftp://10.0.0.1", "tftp:///file", "ftp://10.0.0.1/file", "tftp://10.0.0.1:x/file"])
def test_invalid_urls_are_errors(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["probe", url]) == 2
    assert capsys.readouterr().err == (
        f"bootfw: {url}: must be a URL such as tftp://10.0.0.1/FILE or http://10.0.0.1/FILE\n"
    )
