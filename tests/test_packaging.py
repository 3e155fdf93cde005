"""Installations in virtual environments: the wheel, the editable install, and the distributions of plugins."""

import contextlib
import email
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from howtos import blocks

ROOT = Path(__file__).parent.parent
PLUGIN = ROOT / "plugins" / "bootfw-http-mirror"
EMULAB = ROOT / "plugins" / "bootfw-emulab"
POSTGRESQL = ROOT / "plugins" / "bootfw-postgresql"
TXTFTP = ROOT / "plugins" / "bootfw-txtftp"
REDFISH = ROOT / "plugins" / "bootfw-redfish"
FBTFTP = ROOT / "plugins" / "bootfw-fbtftp"
BOOTFW_ALONE = (PLUGIN, EMULAB, TXTFTP, FBTFTP)
"""Distributions that require bootfw, and no package that bootfw does not."""
DISTRIBUTIONS = (*BOOTFW_ALONE, POSTGRESQL, REDFISH)

pytestmark = [pytest.mark.together, pytest.mark.skipif(find_spec("pip") is None, reason="needs pip")]


class Environment:
    """A virtual environment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bin = path / "bin"

    @classmethod
    def create(cls, path: Path) -> "Environment":
        venv.create(path)
        return cls(path)

    def copy(self, path: Path) -> "Environment":
        """A copy of the environment. Its files are hard links: pip and Python replace files, they never change one."""
        shutil.copytree(self.path, path, symlinks=True, copy_function=_link)
        copied = Environment(path)
        for script in copied.bin.iterdir():
            if not script.is_symlink():
                content, mode = script.read_bytes(), script.stat().st_mode
                script.unlink()
                script.write_bytes(content.replace(os.fsencode(self.path), os.fsencode(path)))
                script.chmod(mode)
        return copied

    def add(self, other: "Environment") -> None:
        """Add the packages of another environment, without their scripts."""
        (packages,) = self.path.glob("lib/python*/site-packages")
        shutil.copytree(other.path / packages.relative_to(self.path), packages, dirs_exist_ok=True, copy_function=_link)

    def run(self, program: str, *arguments: str | Path, cwd: Path) -> str:
        """Run a *program* of this environment; its output."""
        return output(self.bin / program, *arguments, cwd=cwd)

    def pip(self, *arguments: str | Path) -> str:
        """Run pip of the test environment on this environment; its output."""
        quiet = ["--disable-pip-version-check", "--quiet"]
        return output(sys.executable, "-m", "pip", "--python", self.bin / "python", *quiet, *arguments)

    def install(self, *arguments: str | Path) -> None:
        """Install packages. The few modules that a test imports are compiled when it does."""
        self.pip("install", "--no-compile", *arguments)


def _link(source: str, target: str) -> None:
    os.link(source, target, follow_symlinks=False)


def output(*command: str | Path, cwd: Path | None = None) -> str:
    """The output of *command*; if it fails, the test fails with that output."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("BOOTFW_", "PYTHON"))}
    completed = subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean, text=True, capture_output=True, timeout=300, check=False
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


def source_of(root: Path, into: Path) -> Path:
    """A copy of a distribution's source: building leaves things behind."""
    unwanted = shutil.ignore_patterns("*.egg-info", "build", "dist", "__pycache__", ".*")
    parts = [path for path in root.iterdir() if path.suffix in (".cfg", ".toml", ".md") or path.name == "LICENSE"]
    for path in parts:
        into.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, into)
    packages = (
        "bootfw",
        "bootfw_emulab",
        "bootfw_http_mirror",
        "bootfw_postgresql",
        "bootfw_redfish",
        "fbtftp",
        "tftp",
    )
    for package in (*packages, "twisted", "systemd", "man"):
        if (root / package).is_dir():
            shutil.copytree(root / package, into / package, ignore=unwanted)
    return into


def build_requirements(root: Path) -> list[str]:
    with open(root / "pyproject.toml", "rb") as file:
        requirements: list[str] = tomllib.load(file)["build-system"]["requires"]
    return requirements


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A directory of this test run, the same one in all processes of pytest-xdist."""
    base = tmp_path_factory.getbasetemp()
    path = (base if worker_id == "master" else base.parent) / "packaging"
    path.mkdir(exist_ok=True)
    return path


@contextlib.contextmanager
def made_once(shared: Path, name: str) -> Iterator[bool]:
    """Lock something that is made once for all processes; yields whether this process has to make it."""
    with open(shared / f"{name}.lock", "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = shared / f"{name}.done"
        yield not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def build_environment(shared: Path) -> Environment:
    """An environment with the packages that building the distributions requires. Tests don't change it."""
    with made_once(shared, "building") as must_make:
        if must_make:
            (requirements,) = {tuple(build_requirements(root)) for root in (ROOT, *DISTRIBUTIONS)}
            Environment.create(shared / "building").install(*requirements)
    return Environment(shared / "building")


BUILD = """
import os, sys
from setuptools import build_meta

into, *sources = sys.argv[1:]
for source in sources:
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0, source
        continue
    os.chdir(source)
    sys.argv[1:] = []
    assert build_meta.get_requires_for_build_wheel() == []
    build_meta.build_wheel(into)
    sys.exit()
"""
"""Builds a wheel of each source as pip does (PEP 517), in a fork that has setuptools imported."""


@pytest.fixture(scope="session")
def wheels(build_environment: Environment, shared: Path) -> dict[Path, Path]:
    """Root of a distribution -> its wheel, of all seven.

    pip would make an environment with the requirements of the build for each of them, and start Python thrice, which
    takes most of the time. They are the same, so one environment has them, and nothing else; see BUILD.
    """
    roots = (ROOT, *DISTRIBUTIONS)
    with made_once(shared, "wheels") as must_make:
        if must_make:
            sources = [source_of(root, shared / "sources" / root.name) for root in roots]
            build_environment.run("python", "-c", BUILD, shared / "wheels", *sources, cwd=shared)
    wheels = {}
    for root in roots:
        name = "bootfw" if root == ROOT else root.name.replace("-", "_")
        (wheels[root],) = (shared / "wheels").glob(f"{name}-[0-9]*.whl")
    return wheels


@pytest.fixture(scope="session")
def wheel(wheels: dict[Path, Path]) -> Path:
    """The wheel of bootfw."""
    return wheels[ROOT]


@pytest.fixture(scope="session")
def installed(wheel: Path, shared: Path) -> Environment:
    """bootfw from its wheel, and nothing else. Tests don't change it."""
    with made_once(shared, "installed") as must_make:
        if must_make:
            created = Environment.create(shared / "installed")
            created.install(wheel)
            # It compiles almost all that the tests import, here and in the copies.
            assert plugins_of(created, shared) == dict.fromkeys(BUILT_IN, "bootfw")
    return Environment(shared / "installed")


@pytest.fixture(scope="session")
def with_plugins(installed: Environment, wheels: dict[Path, Path], shared: Path) -> Environment:
    """The same with pytest and the distributions that require bootfw alone. Tests don't change it."""
    with made_once(shared, "with-plugins") as must_make:
        if must_make:
            copied = installed.copy(shared / "with-plugins")
            copied.install("pytest", *(wheels[root] for root in BOOTFW_ALONE))
    return Environment(shared / "with-plugins")


@pytest.fixture(scope="session")
def with_all(with_plugins: Environment, wheels: dict[Path, Path], shared: Path) -> Environment:
    """The same with the others and what they require. Tests don't change it."""
    with made_once(shared, "with-all") as must_make:
        if must_make:
            copied = with_plugins.copy(shared / "with-all")
            copied.install(wheels[POSTGRESQL], wheels[REDFISH])
    return Environment(shared / "with-all")


def names_required(wheel: Path) -> set[str]:
    """Names of the packages that a wheel requires without an extra."""
    with zipfile.ZipFile(wheel) as opened:
        (metadata,) = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        required = email.message_from_bytes(opened.read(metadata)).get_all("Requires-Dist", [])
    return {re.split(r"[^\w.-]", line)[0].lower() for line in required if "extra ==" not in line}


def plugins_of(environment: Environment, cwd: Path) -> dict[str, str]:
    rows = json.loads(environment.run("twistd", "bootfw", "--list-plugins", "--json", cwd=cwd))
    assert [row for row in rows if row["error"]] == []
    return {f"{row['kind']} {row['name']}": row["distribution"].split()[0] for row in rows}


BUILT_IN = [
    "backend archive",
    "backend directory",
    "backend distribution",
    "backend images",
    "backend memory",
    "backend menu",
    "backend metadata",
    "backend template",
    "resolver by-architecture",
    "resolver by-client",
    "resolver callout",
    "resolver loop-breaker",
    "resolver next-boot",
    "resolver pxe-menu",
    "resolver static",
    "watchdog adaptive",
    "watchdog exponential",
    "watchdog fixed",
    "watchdog hpa",
    "store memory",
    "store sqlite",
    "observer log",
    "observer otel",
    "observer webhook",
]


def test_the_wheel_holds_all_of_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    release = "-".join(wheel.name.split("-")[:2])
    packed = {name for name in names if not name.startswith((f"{release}.dist-info/", f"{release}.data/"))}
    data = {name.partition(".data/data/")[2] for name in names if name.startswith(f"{release}.data/")}
    units = {f"lib/systemd/system/bootfw.{kind}" for kind in ("service", "socket")}
    assert data == units | {"share/man/man1/bootfw.1"}
    expected = {
        str(path.relative_to(ROOT))
        for path in [*(ROOT / "bootfw").rglob("*"), ROOT / "twisted" / "plugins" / "bootfw_plugin.py"]
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == expected
    assert "bootfw/py.typed" in packed
    assert "bootfw/personas/stock.toml" in packed
    assert "bootfw/backends/menus/ipxe.j2" in packed
    assert {f"bootfw/web/pages/{name}" for name in ("index.html", "style.css", "app.js", "icon.svg")} <= packed
    assert not any(name.startswith("twisted/") and name.endswith("__init__.py") for name in packed)


def test_the_wheel_has_the_commands(installed: Environment, tmp_path: Path) -> None:
    assert "Network boot services" in installed.run("twistd", "--help", cwd=tmp_path)
    assert "bootfw leases" in installed.run("bootfw", "leases", "--help", cwd=tmp_path)


def test_wheel_needs_only_its_declared_dependencies(installed: Environment, tmp_path: Path) -> None:
    installed.run("python", "-W", "error", "-c", "import bootfw.api, bootfw.tap, bootfw.testing", cwd=tmp_path)


def test_the_example_configuration_is_valid_with_the_wheel(installed: Environment, tmp_path: Path) -> None:
    example = ROOT / "examples" / "bootfw.toml"
    printed = installed.run("twistd", "bootfw", "--check", "-c", example, cwd=tmp_path)
    assert printed.splitlines()[0] == f"{example}: OK"


def test_an_editable_install_has_the_same_plugins(
    installed: Environment, build_environment: Environment, tmp_path: Path
) -> None:
    """It replaces the wheel."""
    source = source_of(ROOT, tmp_path / "checkout")
    environment = installed.copy(tmp_path / "environment")
    environment.add(build_environment)
    environment.install("--no-build-isolation", "--editable", source)
    module_path = environment.run("python", "-c", "import bootfw; print(bootfw.__file__)", cwd=tmp_path)
    assert module_path == f"{source}/bootfw/__init__.py\n"
    assert plugins_of(environment, tmp_path) == dict.fromkeys(BUILT_IN, "bootfw")
    environment.pip("uninstall", "--yes", "bootfw")
    assert list(environment.path.rglob("*bootfw*")) == []
    environment.run("twistd", "--help", cwd=tmp_path)


@pytest.mark.firmware
def test_the_environment_of_the_page(tmp_path: Path) -> None:
    """With its dependencies from the package index."""
    source = source_of(ROOT, tmp_path / "source")
    shutil.copytree(ROOT / "packaging", source / "packaging")
    for line in blocks("packages.md", "console")[3].splitlines():
        command = line.removeprefix("# ").replace("/opt", f"{tmp_path}/opt").replace("/etc", f"{tmp_path}/etc")
        output("sh", "-c", command.replace("python3 ", f"{sys.executable} "), cwd=source)
    configuration = tmp_path / "etc/bootfw/bootfw.toml"
    printed = output(tmp_path / "opt/bootfw/bin/bootfw", "run", "--check", "-c", configuration)
    assert printed.splitlines()[0] == f"{configuration}: OK"
    assert (tmp_path / "opt/bootfw/lib/systemd/system/bootfw.service").is_file()


def test_the_wheels_bring_their_plugins(with_plugins: Environment, tmp_path: Path) -> None:
    assert plugins_of(with_plugins, tmp_path) == {
        **dict.fromkeys(BUILT_IN, "bootfw"),
        "backend http-mirror": "bootfw-http-mirror",
        "resolver emulab": "bootfw-emulab",
    }
    assert "nodes" in with_plugins.run("bootfw-emulab", "--help", cwd=tmp_path)


def test_distributions_work_with_the_wheel(with_plugins: Environment, tmp_path: Path) -> None:
    """The boundary of the public names: plugins of their own distributions, their own tests, and bootfw's wheel.

    The templates of Emulab's services are in their wheel; the rest of its tests use the checkout.
    """
    tests = [f"tests_of_{root.name.replace('-', '_')}" for root in (PLUGIN, FBTFTP, TXTFTP)]
    for root, name in zip((PLUGIN, FBTFTP, TXTFTP), tests, strict=True):
        shutil.copytree(root / "tests", tmp_path / name)
    tests.append(f"{EMULAB}/tests/test_emulab_replies.py::test_replies_to_requests_of_tmcc")
    arguments = ("-q", "-c", os.devnull, "--rootdir", tmp_path, "-p", "no:cacheprovider")
    path = f"pythonpath={EMULAB / 'tests'}"
    with_plugins.run("python", "-m", "pytest", *arguments, "-o", path, *tests, cwd=tmp_path)


def test_distributions_require_no_more_than_bootfw_does(wheels: dict[Path, Path]) -> None:
    required = {root: names_required(wheels[root]) for root in (ROOT, *BOOTFW_ALONE)}
    for root in BOOTFW_ALONE:
        assert "bootfw" in required[root], root
        assert required[root] <= {"bootfw", *required[ROOT]}, root


def test_bootfw_works_when_a_distribution_is_removed(with_plugins: Environment, tmp_path: Path) -> None:
    environment = with_plugins.copy(tmp_path / "environment")
    environment.pip("uninstall", "--yes", "bootfw-txtftp")
    assert "twistd [options] bootfw" in environment.run("twistd", "bootfw", "--help", cwd=tmp_path)


def test_the_wheels_with_requirements_of_their_own_bring_their_plugins(with_all: Environment, tmp_path: Path) -> None:
    """Their own tests use the checkout."""
    found = plugins_of(with_all, tmp_path)
    assert found["store postgresql"] == "bootfw-postgresql"
    assert found["power redfish"] == "bootfw-redfish"
    assert with_all.pip("check") == ""


def test_the_store_in_postgresql_works_with_the_wheel(with_all: Environment, tmp_path: Path) -> None:
    """It passes a contract kit in the wheel, where there is PostgreSQL."""
    arguments = (
        "-q",
        "-c",
        os.devnull,
        "--rootdir",
        tmp_path,
        "-p",
        "no:cacheprovider",
        "-k",
        "TestOrders and not Offline",
    )
    contract = POSTGRESQL / "tests" / "test_postgresql_contract.py"
    with_all.run("python", "-m", "pytest", *arguments, contract, cwd=tmp_path)


@pytest.mark.parametrize(
    "package",
    [
        PLUGIN / "bootfw_http_mirror",
        EMULAB / "bootfw_emulab",
        POSTGRESQL / "bootfw_postgresql",
        TXTFTP / "tftp",
        FBTFTP / "fbtftp",
    ],
    ids=str,
)
def test_distributions_of_plugins_import_the_public_names_only(package: Path) -> None:
    sources = list(package.glob("*.py"))
    lines = [line.split() for path in sources for line in path.read_text().splitlines()]
    imported = {words[1] for words in lines if words[:1] in (["from"], ["import"])}
    bootfw_modules = {name for name in imported if name.split(".")[0] == "bootfw"}
    assert bootfw_modules == {"bootfw.api"}


def test_the_manual_page_is_installed_where_man_looks_below_a_prefix(installed: Environment) -> None:
    page = installed.bin.parent / "share" / "man" / "man1" / "bootfw.1"
    assert page.read_text().startswith(".TH BOOTFW 1 ")


def test_the_units_are_installed_where_systemd_looks_below_a_prefix(installed: Environment) -> None:
    """/usr/local/lib/systemd/system is one of its directories, as is that of /usr."""
    units = installed.bin.parent / "lib" / "systemd" / "system"
    assert {path.name for path in units.iterdir()} == {"bootfw.service", "bootfw.socket"}
