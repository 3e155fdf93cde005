"""``bootfw lint`` as an operator uses it."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from archives import make_tar
from bootprograms import IA32, pe, pxelinux
from narrowing import of_type

from bootfw.cli import main as command
from bootfw.tap import Options


@pytest.fixture
def lint(capsys: pytest.CaptureFixture[str], clean_environment: None) -> Callable[..., tuple[int, str, str]]:
    """Runs ``bootfw lint``, and returns its exit code, output and errors."""

    def run(*arguments: Path | str) -> tuple[int, str, str]:
        try:
            code = command.main(["lint", *map(str, arguments)])
        except SystemExit as caught:
            code = of_type(int, caught.code)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def boot_directory(tmp_path: Path) -> Path:
    """A directory with one finding: a program for another architecture."""
    directory = tmp_path / "boot"
    directory.mkdir()
    (directory / "grubx64.efi").write_bytes(pe(IA32))
    return directory


def test_directory_without_findings_exits_with_0(lint: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    assert lint(tmp_path) == (0, "no findings\n", "")


def test_findings_are_printed_with_rule_reason_and_remedy(
    lint: Callable[..., tuple[int, str, str]], boot_directory: Path
) -> None:
    code, out, err = lint(boot_directory)
    assert (code, err) == (1, "")
    assert out.splitlines() == [
        f"architecture  {boot_directory}/grubx64.efi",
        "              it is a program for 32-bit x86 UEFI, and its name or directory says 64-bit x86 UEFI",
        "              -> put a program for 64-bit x86 UEFI there",
        "1 finding",
    ]


def test_json_lists_findings(lint: Callable[..., tuple[int, str, str]], boot_directory: Path) -> None:
    code, out, _ = lint("--json", boot_directory)
    (finding,) = json.loads(out)
    assert code == 1
    assert finding["file"] == f"{boot_directory}/grubx64.efi"
    assert finding["rule"] == "architecture"
    assert set(finding) == {"file", "rule", "reason", "remedy"}


def test_colours_are_for_terminals(
    lint: Callable[..., tuple[int, str, str]], boot_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1m" in lint(boot_directory)[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in lint(boot_directory)[1]


def test_control_characters_in_names_are_escaped(lint: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "\x1b[2Jx.efi").write_bytes(b"")
    code, out, _ = lint(tmp_path)
    assert code == 1
    assert "\x1b" not in out
    assert r"\x1b[2Jx.efi" in out


def test_directories_of_the_configuration_are_checked(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path, boot_directory: Path
) -> None:
    make_tar(tmp_path / "debian.tar", {"vmlinuz": b"x"})
    (boot_directory / "pxelinux.cfg").mkdir()
    (boot_directory / "pxelinux.cfg/default").write_text("label a\nkernel debian/vmlinuz\nlabel b\nkernel gone\n")
    (tmp_path / "bootfw.toml").write_text(
        '[[backend]]\nuse = "directory"\nroot = "boot"\n'
        '[[backend]]\nuse = "archive"\nfile = "debian.tar"\nprefix = "debian"\n'
        '[[resolver]]\nuse = "by-architecture"\nfiles = { "x86_64-uefi" = "grubx64.efi", "x86-bios" = "gone.0" }\n'
    )
    code, out, _ = lint("-c", tmp_path / "bootfw.toml", "--json")
    assert code == 1
    assert [(finding["file"].removeprefix(f"{boot_directory}/"), finding["rule"]) for finding in json.loads(out)] == [
        ("grubx64.efi", "architecture"),
        ("grubx64.efi", "architecture"),
        ("pxelinux.cfg/default:4", "missing"),
        ("[[resolver]] by-architecture, x86-bios", "missing"),
    ]


def test_files_that_plugins_generate_are_not_missing(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path, boot_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (boot_directory / "grubx64.efi").write_bytes(pe())
    (boot_directory / "pxelinux.0").write_bytes(pxelinux())
    (tmp_path / "generator.py").write_text(
        "from bootfw.api import FileMissing, IBackend, boot_plugin\n"
        "from zope.interface import implementer\n"
        "@implementer(IBackend)\n"
        "class Generator:\n"
        "    def open(self, path, request):\n"
        "        raise AssertionError('lint must not open files of a plugin')\n"
        "plugin = boot_plugin(IBackend, Generator, 'generator')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bootfw.toml").write_text(
        '[[backend]]\nuse = "directory"\nroot = "boot"\n[[backend]]\nuse = "generator:plugin"\n'
    )
    code, out, _ = lint("-c", tmp_path / "bootfw.toml")
    assert code == 0
    assert "generator:plugin" in out
    assert "Missing files are not reported" in out


PLUGINS = """
from attrs import define, field
from pathlib import Path
from zope.interface import implementer
from bootfw.api import (
    BootFile, FileMissing, Finding, IBackend, IBootFileResolver, IDirectoryBackend, ILintable, IListableResolver,
    ListedBootFile, MemoryReader, boot_plugin,
)

@implementer(IDirectoryBackend, ILintable)
@define
class Files:
    root: Path = field(converter=Path)

    def open(self, path, request):
        if not (self.root / path).is_file():
            raise FileMissing()
        return MemoryReader((self.root / path).read_bytes())

    def lint(self):
        yield Finding("index.db", "index", "it is empty", "build it")

@implementer(IListableResolver, ILintable)
class Chooser:
    def resolve(self, request):
        return None

    def boot_files(self):
        yield ListedBootFile(BootFile("grubx64.efi"), "x86_64-uefi", "row 1")
        yield ListedBootFile(BootFile("gone.efi"), option="row 2")
        yield ListedBootFile(BootFile("elsewhere.efi", server="10.0.0.5"))
        yield ListedBootFile(BootFile("generated.ipxe", content=b"#!ipxe"))

    def lint(self):
        yield Finding("rows.csv:3", "row", "it has no MAC", "add it")

files = boot_plugin(IBackend, Files)
chooser = boot_plugin(IBootFileResolver, Chooser)
"""


def test_plugins_have_the_abilities_of_the_built_in_ones(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path, boot_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "bootfw.toml").write_text(
        f'[[backend]]\nuse = "site_plugins:files"\nroot = "{boot_directory}"\n'
        '[[resolver]]\nuse = "site_plugins:chooser"\n'
    )
    code, out, _ = lint("-c", tmp_path / "bootfw.toml", "--json")
    assert code == 1
    assert [(finding["file"].removeprefix(f"{boot_directory}/"), finding["rule"]) for finding in json.loads(out)] == [
        ("grubx64.efi", "architecture"),
        ("grubx64.efi", "architecture"),
        ("[[resolver]] site_plugins:chooser, row 2", "missing"),
        ("index.db", "index"),
        ("rows.csv:3", "row"),
    ]


def test_files_of_templates_and_menus_are_not_missing(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path, boot_directory: Path
) -> None:
    (boot_directory / "grubx64.efi").write_bytes(pe())
    (boot_directory / "more.ipxe").write_text("#!ipxe\nchain generated.ipxe\nchain menu.ipxe\nchain gone.ipxe\n")
    (tmp_path / "templates").mkdir()
    (tmp_path / "templates/generated.ipxe.j2").write_text("#!ipxe\n")
    (tmp_path / "bootfw.toml").write_text(
        '[[backend]]\nuse = "directory"\nroot = "boot"\n'
        '[[backend]]\nuse = "template"\nroot = "templates"\n'
        '[[backend]]\nuse = "menu"\nroot = "boot"\nscript = "menu.ipxe"\n'
        '[[resolver]]\nuse = "static"\nfile = "generated.ipxe"\n'
    )
    code, out, _ = lint("-c", tmp_path / "bootfw.toml", "--json")
    assert code == 1
    assert [(finding["file"], finding["rule"]) for finding in json.loads(out)] == [
        (f"{boot_directory}/more.ipxe:4", "missing")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/nowhere"], "/nowhere: No such file or directory"),
        (["-c", "/nowhere.toml"], "/nowhere.toml: can't be read"),
        (["--user", "no such user", "/"], "there is no user"),
        (["--colour"], "usage"),
    ],
)
def test_invalid_commands_exit_with_an_error(
    lint: Callable[..., tuple[int, str, str]], arguments: list[str], message: str
) -> None:
    code, out, err = lint(*arguments)
    assert (code, out) == (2, "")
    assert message in err


def test_missing_boot_directory_is_an_error(lint: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text('[[backend]]\nuse = "directory"\nroot = "gone"\n')
    code, _, err = lint("-c", tmp_path / "bootfw.toml")
    assert code == 2
    assert re.search(r"gone: No such file", err)


def test_missing_configuration_of_another_command_exits_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["leases", "-c", "/nowhere.toml"]) == 1


def test_script_of_the_menu_backend_counts_as_existing(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    """The directory needs no such script, and missing files are still reported."""
    boot_directory = tmp_path / "boot"
    boot_directory.mkdir()
    (boot_directory / "site.ipxe").write_text("#!ipxe\nchain none.ipxe\n")
    config = '[[backend]]\nuse = "directory"\nroot = "boot"\n[[backend]]\nuse = "menu"\nroot = "boot"\n'
    (tmp_path / "bootfw.toml").write_text(config)
    code, out, _ = lint("-c", tmp_path / "bootfw.toml")
    assert code == 1
    assert "none.ipxe" in out
    assert "not known here" not in out


def test_templates_host_files_and_menus_are_checked(lint: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "boot/kernel": "no kernel",
        "templates/good.j2": "{{ client.mac }} {% include '_part.txt' %} {% include 'maybe' ignore missing %}",
        "templates/_part.txt": "{{ 1 }}",
        "templates/syntax.ipxe.j2": "#!ipxe\n{% if host.name %}\necho\n",
        "templates/filter.j2": "\n{{ path|nosuch }}",
        "templates/sub/including.j2": "\n\n{% include 'sub/gone' %}{% import 'sub/wrong.txt' as w %}",
        "templates/sub/wrong.txt": "\n{{ }}",
        "templates/latin.j2": b"\xff",
        "hosts/web1.toml": "role = 'a'\nrole = 'b'\n",
        "hosts/web2.toml": "mac = '52:54:00:00:00:01'\ngroups = ['rack1', 'rack2']\n",
        "hosts/groups/rack2.toml": "x =\n",
        "own/ipxe.j2": "#!ipxe\n{{ title",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "bootfw.toml").write_text("""
        [[backend]]
        use = "template"
        root = "templates"
        hosts = "hosts"
        files = { "a/*" = "absent.j2" }
        [[backend]]
        use = "menu"
        root = "boot"
        templates = "own"
        default = "kernel"
        [[resolver]]
        use = "pxe-menu"
        items = [{ description = "Rescue", file = "rescue.0" }, { description = "Generated", file = "good" }]
    """)
    code, out, err = lint("--json", "-c", tmp_path / "bootfw.toml")
    assert (code, err) == (1, "")
    reasons = {finding["file"].removeprefix(f"{tmp_path}/"): finding["reason"] for finding in json.loads(out)}
    assert list(reasons) == sorted(
        [
            "[[backend]] menu, default",
            '[[resolver]] pxe-menu, items[0] "Rescue"',
            "hosts/groups/rack2.toml:1",
            "hosts/web1.toml:2",
            "hosts/web2.toml",
            "own/ipxe.j2:2",
            "templates/absent.j2",
            "templates/filter.j2:2",
            "templates/latin.j2",
            "templates/sub/including.j2:3",
            "templates/sub/wrong.txt:2",
            "templates/syntax.ipxe.j2:3",
        ],
        key=lambda name: name if name.startswith("[[") else f"{tmp_path}/{name}",
    )
    assert reasons["templates/sub/including.j2:3"] == "there is no template sub/gone"
    assert reasons["hosts/web2.toml"].endswith('for group "rack1"')


def test_templates_are_not_checked_for_a_directory_argument(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "syntax.ipxe.j2").write_text("#!ipxe\n{% if host.name %}\necho\n")
    assert lint(tmp_path) == (0, "no findings\n", "")


IPXE_WITHOUT_SCRIPT = """
    [[backend]]
    use = "memory"
    files = { "undionly.kpxe" = "x", "boot.ipxe" = "#!ipxe" }
    [[resolver]]
    use = "by-architecture"
    [resolver.files]
    "x86-bios" = "undionly.kpxe"
"""


def test_machines_without_a_script_for_ipxe_are_reported(
    lint: Callable[..., tuple[int, str, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configuration = tmp_path / "bootfw.toml"
    configuration.write_text(IPXE_WITHOUT_SCRIPT)
    code, out, _ = lint("-c", configuration)
    assert code == 1
    assert out.startswith("ipxe  [[resolver]]\n      x86-bios machines load undionly.kpxe, which is iPXE")
    with pytest.raises(SystemExit) as caught:
        Options().parseOptions(["--check", "-c", str(configuration)])
    assert caught.value.code == 0, "a script may be built into this iPXE"
    assert f"WARNING: {configuration}: resolver: x86-bios machines load undionly.kpxe" in capsys.readouterr().out
    configuration.write_text(IPXE_WITHOUT_SCRIPT + '"ipxe" = "boot.ipxe"')
    assert lint("-c", configuration) == (0, "no findings\n", "")
    with pytest.raises(SystemExit):
        Options().parseOptions(["--check", "-c", str(configuration)])
    assert "WARNING" not in capsys.readouterr().out
