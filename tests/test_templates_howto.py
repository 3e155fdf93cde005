"""The results that docs/howto/templates.md and examples/per-machine show are those of bootfw."""

import re
from pathlib import Path

import pytest

from bootfw.build import assemble
from bootfw.cli.main import main
from bootfw.config.configuration import load_config

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/howto/templates.md"
EXAMPLE = ROOT / "examples/per-machine"

# machine -> options; web1 is installed, db1 has another directory, the last one has no file
WEB1 = ("--mac", "52:54:00:12:34:56", "--server", "10.77.0.1", "--address", "10.77.0.100")
DB1 = ("--uuid", "4c4c4544-0042-3910-8051-b4c04f4d3132", "--server", "10.77.0.1")
STRANGER = ("--mac", "52:54:00:99:99:99", "--server", "10.77.0.1")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def page_files(tmp_path: Path) -> Path:
    """A directory with the files of the page."""
    _, configuration, host, group = blocks("toml")
    (template,) = blocks("jinja")
    files = {
        "bootfw.toml": configuration,
        "templates/boot.ipxe.j2": template,
        "hosts/web1.toml": host,
        "hosts/groups/rack1.toml": group,
    }
    text = PAGE.read_text()
    assert all(f"`{name}`" in text for name in files), "the page says where each of them belongs"
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_page_shows_what_bootfw_render_prints(
    page_files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (session,) = blocks("console")
    command, _, output = session.partition("\n")
    monkeypatch.chdir(page_files)
    assert main(command.removeprefix("$ bootfw ").split()) == 0
    assert capfd.readouterr().out == output
    assert main(["render", "machines/52-54-00-12-34-56.ipxe", "--server", "10.77.0.1", "-c", "bootfw.toml"]) == 0
    assert capfd.readouterr().out == output


def test_without_http_the_page_s_template_is_an_error_and_no_url_without_a_host(
    page_files: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(page_files)
    configuration = page_files / "bootfw.toml"
    configuration.write_text(
        configuration.read_text()
        .replace('[http]\nlisten = ["0.0.0.0:8069"]\n', "")
        .replace("{http}/boot.ipxe", "boot.ipxe")
    )
    assert main(["render", "boot.ipxe", "-c", "bootfw.toml", *WEB1]) == 1
    out, err = capfd.readouterr()
    assert out == ""
    assert "boot.ipxe.j2:3: server.http is empty" in err
    assert "[http] listen" in err


def test_the_menu_of_the_page_is_configured_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(blocks("toml")[0])
    _, (_, menu), _ = assemble(load_config(tmp_path / "bootfw.toml", {}), None).backends
    assert (menu.title, menu.timeout_seconds) == ("Lab 3", 10)


@pytest.mark.parametrize(
    ("path", "machine", "lines"),
    [
        (
            "boot.ipxe",
            WEB1,
            [
                "#!ipxe",
                "set base http://10.77.0.1:8069/debian-12",
                "kernel --name linux ${base}/vmlinuz initrd=initrd auto=true priority=critical console=ttyS0",
            ],
        ),
        ("boot.ipxe", DB1, ["set base http://10.77.0.1:8069/rescue"]),
        ("pxelinux.cfg/01-52-54-00-12-34-56", STRANGER, ["LINUX ::debian-12/vmlinuz", "INITRD ::debian-12/initrd.gz"]),
        ("pxelinux.cfg/default", WEB1, ["APPEND auto=true priority=critical console=ttyS0"]),
        ("grub/grub.cfg", WEB1, ["    initrd /debian-12/initrd.gz"]),
        ("grub.cfg-01-52-54-00-00-00-02", STRANGER, ["    initrd /rescue/initrd.gz"]),
    ],
)
def test_the_example_renders_the_files_of_each_machine(
    path: str, machine: tuple[str, ...], lines: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", path, "-c", str(EXAMPLE / "bootfw.toml"), *machine]) == 0
    assert set(lines) <= set(capfd.readouterr().out.splitlines())


@pytest.mark.parametrize("path", ["boot.ipxe", "pxelinux.cfg/default", "grub.cfg"])
def test_example_template_declines_unknown_hosts(path: str, capfd: pytest.CaptureFixture[str]) -> None:
    backends = dict(assemble(load_config(EXAMPLE / "bootfw.toml", {}), None).backends)
    assert list(backends) == ["template", "directory", "menu", "distribution"]
    assert backends["template"].problem() == ""
    code = main(["render", path, "-v", "-c", str(EXAMPLE / "bootfw.toml"), *STRANGER])
    out, err = capfd.readouterr()
    # There is a menu if this machine has something in /srv/boot.
    assert code == 3 or "template" not in err
    assert "{{" not in out
