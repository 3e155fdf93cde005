"""What all commands have in common: help, completion in the shells, and the manual page."""

import argparse
import contextlib
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import shtab

from bootfw import __version__
from bootfw.cli.completion import SHELLS, parsers, subcommands
from bootfw.cli.main import main, parser
from bootfw.cli.manpage import manpage
from bootfw.config.state import CONTROL_SOCKET

PARSERS = parsers(parser())
COMMANDS = [each.prog.removeprefix("bootfw ") for _, each in subcommands(parser())]


@pytest.mark.parametrize("name", PARSERS)
def test_help_texts_are_sentences(name: str) -> None:
    description = PARSERS[name].description
    assert description is not None
    text = " ".join(description.split())
    assert re.match(r"[A-Z]", text)
    assert text.endswith(".")


@pytest.mark.parametrize("name", PARSERS)
def test_every_option_has_help(name: str) -> None:
    missing = [action.dest for action in PARSERS[name]._actions if not action.help and not _has_subcommands(action)]
    assert missing == []


def _has_subcommands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command: str) -> None:
    command_parser = PARSERS[f"bootfw {command}"]
    assert re.search(rf"^  bootfw {command}\b", command_parser.epilog or "", re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_printed(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    assert "%(" not in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_parser_of_one_command_is_the_same_as_in_the_full_parser(command: str) -> None:
    name = f"bootfw {command}"
    single = parsers(parser(command))
    assert single[name].format_help() == PARSERS[name].format_help()
    assert single["bootfw"].format_usage() == PARSERS["bootfw"].format_usage()


_QUERIES = ("status", "boots", "show 52:54:00:12:34:56", "leases list", "reload")

_PRINT_IMPORTS = f"""
import sys
from bootfw.cli.main import main
print([main([*words.split(), "-c", "bootfw.toml"]) for words in {_QUERIES!r}], *sys.modules)
"""


def test_commands_for_a_running_server_import_no_server(tmp_path: Path) -> None:
    """The operator waits for their imports, which take half a second for a server."""
    (tmp_path / "bootfw.toml").write_text(f'[bootfw]\nstate-dir = "{tmp_path}"\n')

    def refuse() -> None:
        with contextlib.suppress(OSError):  # the listener is closed when all commands have ended
            while True:
                with listener.accept()[0] as connection, connection.makefile("rwb") as stream:
                    if request := stream.readline():
                        requests.append(request)
                        stream.write(b'{"error": "not now"}\n')

    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / CONTROL_SOCKET))
        listener.listen()
        threading.Thread(target=refuse, daemon=True).start()
        command = [sys.executable, "-c", _PRINT_IMPORTS]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "bootfw: not now\n" * len(_QUERIES)
    assert len(requests) == len(_QUERIES)
    assert {"bootfw.service", "bootfw.plugins", "twisted", "zope.interface.verify"} & {*done.stdout.split()} == set()


_OFFLINE = ("lint", "render boot.ipxe", "doctor", "leases list")

_PRINT_OFFLINE_IMPORTS = f"""
import sys
from bootfw.cli.main import main
try:
    main(["--version"])
except SystemExit:
    print(*[name for name in sys.modules if name.startswith("bootfw.cli.")])
for words in {_OFFLINE!r}:
    main([*words.split(), "-c", "bootfw.toml"])
print(*sys.modules)
"""


def test_commands_that_only_load_plugins_import_no_server(tmp_path: Path) -> None:
    (tmp_path / "bootfw.toml").write_text(
        f'[bootfw]\nstate-dir = "{tmp_path}"\n[[backend]]\nuse = "directory"\nroot = "."\n'
    )
    command = [sys.executable, "-c", _PRINT_OFFLINE_IMPORTS]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"bootfw {__version__}", "bootfw.cli.main"]
    loaded = {*lines[-1].split()}
    assert "bootfw.backends.directory" in loaded
    assert {"bootfw.service", "bootfw.net.listening", "twisted.web.server", "OpenSSL.SSL"} & loaded == set()


def completion_script(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Path:
    """A file with the completion for *shell*."""
    if shell not in shtab.SUPPORTED_SHELLS:
        pytest.skip(f"shtab {shtab.__version__} does not know {shell}")
    assert main(["completion", shell]) == 0
    path = tmp_path / "completion"
    path.write_text(capsys.readouterr().out)
    return path


_CHECKS = {
    "bash": 'source "$1"; COMP_WORDS=(bootfw exp); COMP_CWORD=1; _shtab_bootfw bootfw exp bootfw; '
    'printf "%s\\n" "${COMPREPLY[@]}"',
    "zsh": 'autoload -U compinit; compinit -u -d "$1.dump"; eval "$(<$1)"; print -r -- ${_comps[bootfw]}; '
    "functions _shtab_bootfw_commands",
    "fish": 'source $argv[1]; complete -C "bootfw exp"',
}


@pytest.mark.interop
@pytest.mark.parametrize("shell", SHELLS)
def test_completion_works_in_each_shell(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")
    path = completion_script(shell, capsys, tmp_path)
    options = {"bash": ["--norc", "--noprofile"], "zsh": ["-f"], "fish": ["--no-config"]}[shell]
    arguments = [_CHECKS[shell], str(path)] if shell == "fish" else [_CHECKS[shell], shell, str(path)]
    done = subprocess.run([shell, *options, "-c", *arguments], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    assert "explain" in done.stdout
    if shell == "zsh":
        assert done.stdout.startswith("_shtab_bootfw\n")


@pytest.mark.interop
def test_zsh_loads_the_completion(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("there is no zsh here")
    completion_script("zsh", capsys, tmp_path).rename(tmp_path / "_bootfw")
    command = 'fpath=("$1" $fpath); autoload -U compinit; compinit -u -D; print ${_comps[bootfw]}; autoload +X _bootfw'
    done = subprocess.run(
        ["zsh", "-f", "-c", command, "zsh", tmp_path], capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("_bootfw\n", "")


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_has_every_command(shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = completion_script(shell, capsys, tmp_path).read_text()
    assert [command for command in COMMANDS if command not in text] == []


def test_shtab_without_fish_is_an_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shtab.SUPPORTED_SHELLS", ["bash", "zsh", "tcsh"])
    monkeypatch.setattr("shtab.__version__", "1.7.0")
    assert main(["completion", "fish"]) == 1
    message = "bootfw: shtab 1.7.0 writes no completion for fish, only for bash, zsh: install a newer one\n"
    assert capsys.readouterr() == ("", message)


def test_the_manual_page_has_every_command_and_option() -> None:
    text = "\n".join(manpage(parser()))
    plain = text.replace("\\-", "-").replace("\\&", "")
    for name, each in PARSERS.items():
        assert name == "bootfw" or f".SH {name.upper()}\n" in plain
        for action in each._actions:
            if name != "bootfw" and action.option_strings and action.dest != "help":
                assert action.option_strings[-1] in plain
    assert "%(default)s" not in text


@pytest.mark.interop
def test_man_formats_the_page_without_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("man") is None or shutil.which("groff") is None:
        pytest.skip("there is no man or groff here")
    assert main(["manpage"]) == 0
    page = tmp_path / "bootfw.1"
    page.write_text(capsys.readouterr().out)
    done = subprocess.run(
        ["man", "--warnings", "-E", "UTF-8", "-l", page],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "80", "LC_ALL": "C.UTF-8", "MANPAGER": "cat"},
    )
    assert done.stderr == ""
    assert "BOOTFW PROBE" in done.stdout
