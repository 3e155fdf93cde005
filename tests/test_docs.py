"""Tests, modules, commands and links that the documentation names exist."""

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from howtos import README, blocks
from zope.interface.interface import InterfaceClass

import bootfw
from bootfw.build import assemble
from bootfw.cli.main import parser
from bootfw.config.configuration import load_config
from bootfw.plugins import GROUPS

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.mark.parametrize("page", ["conformance", "faults"])
def test_the_tests_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / f"docs/{page}.md").read_text()
    defined = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^\s*def (test_\w+)", path.read_text(), re.M)
    }
    named = set(re.findall(r"`(test_\w+)`", text))
    assert len(named) > 30
    assert named - defined == set()
    assert [path for path in re.findall(r"`(tests/\S+)`", text) if not (ROOT / path).is_file()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_have_targets(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_configuration_on_the_page_of_addresses_is_valid(tmp_path: Path) -> None:
    (configuration,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/howto/addresses.md").read_text(), re.S)
    path = tmp_path / "shown.toml"
    path.write_text(configuration)
    assert load_config(path, {}).settings.dhcp.subnets[0].reply_options[3] == bytes((10, 77, 0, 1))


PACKAGES = sorted(path.name for path in (ROOT / "bootfw").iterdir() if (path / "__init__.py").is_file())


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))], ids=str
)
def test_the_modules_that_a_page_names_exist(page: Path) -> None:
    """`bootfw/net/...`, `net/...`, `bootfw.net.tftp` and `bootfw.api.Name`."""
    text = page.read_text()
    paths = re.findall(rf"`((?:bootfw|{'|'.join(PACKAGES)})/(?:[\w-]+/)*(?:[\w-]+\.(?:py|toml))?)`", text)
    paths = [path if path.startswith("bootfw/") else f"bootfw/{path}" for path in paths]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    # Neither files like bootfw.toml nor keys of the section [bootfw], which stand beside their variables.
    names = re.findall(r"(?<![\w./-])bootfw(?:\.\w+)+(?!\w*[-\w]*` \| `BOOTFW_)", text)
    assert [name for name in names if not name.endswith((".toml", ".service", ".sqlite")) and not exists(name)] == []


def exists(name: str) -> bool:
    """*name* is a group of entry points, a module, or an attribute of one, such as a member of a class."""
    if name in GROUPS:
        return True
    found: Any = bootfw
    for part in name.split(".")[1:]:
        if hasattr(found, "__path__") and importlib.util.find_spec(f"{found.__name__}.{part}"):
            found = importlib.import_module(f"{found.__name__}.{part}")
        elif hasattr(found, part):
            found = getattr(found, part)
        elif isinstance(found, InterfaceClass) and part in found:
            found = found[part]
        else:
            return False
    return True


def test_every_dependency_is_documented() -> None:
    setup = (ROOT / "setup.cfg").read_text()
    lines = (ROOT / "docs/dependencies.md").read_text()
    required = re.findall(
        r"^    ([A-Za-z][\w.-]+)(?: [<>=].*)?$", setup.split("install_requires =")[1].split("[")[0], re.M
    )
    required += re.findall(r"^    ([A-Za-z][\w.-]+)$", setup.split("\ntest =")[1].split("[")[0], re.M)
    assert len(required) > 8
    assert [name for name in required if name not in lines] == []


def test_no_two_modules_of_tests_have_the_same_name() -> None:
    """Modules outside of packages: pytest can't import two with the same name."""
    modules = [path.name for path in (ROOT / "tests").rglob("test_*.py") if not (path.parent / "__init__.py").exists()]
    assert [name for name in modules if modules.count(name) > 1] == []


def tables(page: str) -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (ROOT / page).read_text(), re.S)


@pytest.mark.parametrize("configuration", tables("docs/howto/personas.md") + tables("docs/howto/pxe-menu.md"))
def test_configuration_on_the_pages_of_personas_and_menus_is_valid(configuration: str, tmp_path: Path) -> None:
    path = tmp_path / "shown.toml"
    path.write_text(
        configuration if "[[" in configuration else f'[[resolver]]\nuse = "by-architecture"\n{configuration}'
    )
    assemble(load_config(path, {}), None)


def test_the_commands_of_the_readme_and_of_contributing_exist() -> None:
    """Only their names are tested here. tests/interop/test_run.py and test_howto.py execute them."""
    lines = [line for page in (README, "../../CONTRIBUTING.md") for line in blocks(page, "console")]
    targets = re.findall(r"^\$ make (\w+)", "\n".join(lines), re.M)
    assert {"run", "test", "firmware"} <= set(targets)
    for target in targets:
        subprocess.run(["make", "--dry-run", "-C", ROOT, target], check=True, capture_output=True)
    named = re.findall(r"^\$ \.venv/bin/pytest (\S+)", "\n".join(lines), re.M)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_commands_on_the_page_of_messages_can_be_parsed() -> None:
    """Only their spelling is tested here. tests/cli and tests/interop execute them."""
    named = set(re.findall(r"`bootfw ([^`]*)`", (ROOT / "docs/messages.md").read_text()))
    assert len(named) > 8
    values = {"MAC": "52:54:00:12:34:56", "SERVER": "192.0.2.1", "FILE": "boot.ipxe"}
    for command in named:
        words = [values.get(word, word) for word in command.split()]
        if words in (["leases"], ["storm"]):
            words.append("--help")
            with pytest.raises(SystemExit, match="0"):
                parser(words[0]).parse_args(words)
        else:
            parser(words[0]).parse_args(words)


SEARCHED = (
    "PXE-E51", "PXE-E52", "PXE-E53", "PXE-E55", "PXE-E16", "PXE-E18", "PXE-E23", "PXE-E32", "PXE-E99",
    "NBP filesize is 0 bytes", "TFTP open timeout", "no boot filename received", "chainload loop",
    "boots only sometimes",
)  # fmt: skip
"""Texts that people search for."""


@pytest.mark.parametrize("words", SEARCHED)
def test_a_search_for_a_message_finds_its_page(words: str) -> None:
    page, _, sources = (ROOT / "docs/messages.md").read_text().partition("## Where the texts come from")
    assert words.lower() in page.lower()
    assert not words.startswith("PXE-E") or words in sources, "its text has a source"


def test_each_parameter_that_a_docstring_describes_exists() -> None:
    unknown = []
    for path in sorted([*ROOT.glob("bootfw/**/*.py"), *plugin_modules()]):
        source = path.read_text()
        if ":param" not in source:
            continue
        for node in ast.walk(ast.parse(source)):
            # A class without __init__() may inherit its parameters.
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or (
                isinstance(node, ast.ClassDef) and (not node.bases or has_init(node))
            ):
                described = re.findall(r":param ([\w, ]+):", ast.get_docstring(node) or "")
                names = {name for listed in described for name in listed.split(", ")}
                unknown += [f"{path.relative_to(ROOT)}: {node.name}: {name}" for name in names - parameters_of(node)]
    assert unknown == []


def plugin_modules() -> list[Path]:
    """The modules of the packages in plugins/, including those with the names of other projects."""
    packages = [path.parent for path in ROOT.glob("plugins/*/*/__init__.py") if path.parent.name != "tests"]
    assert {"bootfw_postgresql", "fbtftp", "tftp"} <= {package.name for package in packages}
    return [path for package in packages for path in package.rglob("*.py")]


def has_init(node: ast.ClassDef) -> bool:
    return any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)


def parameters_of(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> set[str]:
    """The parameters of a function, or those of a class: of its __init__(), of configured(), or its attrs fields."""
    if isinstance(node, ast.ClassDef):
        fields = [
            item.target.id for item in node.body if isinstance(item, ast.AnnAssign) and type(item.target) is ast.Name
        ]
        constructors = ("__init__", "configured")
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name in constructors]
        return {name.lstrip("_") for name in fields}.union(*(parameters_of(method) for method in methods))
    arguments = node.args
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    return {each.arg for each in every if each is not None}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_scripts_that_a_page_names_start(page: Path) -> None:
    for script in set(re.findall(r"`(?:python )?((?:benchmarks|tools)/[\w.-]+)[^`]*`", page.read_text())):
        assert (ROOT / script).exists(), script
        if script.endswith(".py"):
            completed = subprocess.run([sys.executable, ROOT / script, "--help"], capture_output=True, text=True)
            assert completed.returncode == 0, completed.stderr
