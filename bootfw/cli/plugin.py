"""``bootfw plugin new``: writes the distribution of a new plugin, with tests."""

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from bootfw.cli.failure import CommandError

KINDS: Mapping[str, tuple[str, str, str]] = {
    "resolver": ("[[resolver]]", "prefix", '"52:54:00"'),
    "backend": ("[[backend]]", "files", '{ "boot.ipxe" = "#!ipxe" }'),
    "observer": ("[[observer]]", "prefix", '"lab"'),
    "watchdog": ("[watchdog]", "wait-seconds", "1.0"),
}
"""Kind of a plugin -> (its table in the configuration, an option of what is written, a value of that)."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

_EPILOG = """
Examples:
  bootfw plugin new by-rack                      a resolver, in ./bootfw-by-rack
  bootfw plugin new from-s3 --kind backend       where files come from

Then, in the new directory: pip install --editable ".[test]" && pytest
"""


def add_plugin(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "plugin",
        help="begin a plugin of your own",
        description="Begins a plugin of your own.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new = command.add_subparsers(title="commands", metavar="COMMAND", required=True).add_parser(
        "new",
        help="write the distribution of a plugin",
        description="Writes the distribution of a plugin into a new directory: a class that works, tests with the"
        " contract kits, and the settings of pip, pytest, mypy and ruff. Nothing is installed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    new.add_argument("name", metavar="NAME", help="what the configuration calls it, such as by-rack")
    new.add_argument("--kind", choices=tuple(KINDS), default="resolver", help="what it is (default: %(default)s)")
    new.add_argument(
        "--directory", metavar="DIRECTORY", type=Path, default=None, help="to create (default: bootfw-NAME)"
    )
    new.set_defaults(run=_new)


def _new(options: argparse.Namespace) -> None:
    if not _NAME.fullmatch(options.name):
        raise CommandError(
            f'"{options.name}" is no name of a plugin: lower-case letters, digits and hyphens, such as by-rack'
        )
    root = options.directory or Path(f"bootfw-{options.name}")
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise CommandError(f"{root} is there already: name another one by --directory, or remove it")
    for path, text in distribution(options.name, options.kind):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        sys.stdout.write(f"{target}\n")
    sys.stdout.write(f'Next: cd {root} && pip install --editable ".[test]" && pytest\n')


def distribution(name: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield (path, text) of each file.

    :param name: what the configuration calls the plugin.
    :param kind: one of KINDS.
    """
    import jinja2

    section, option, value = KINDS[kind]
    package = f"bootfw_{name.replace('-', '_')}"
    variables = {
        "name": name,
        "kind": kind,
        "distribution": f"bootfw-{name}",
        "package": package,
        "class_name": "".join(part.capitalize() for part in name.split("-")),
        "section": section,
        "option": option,
        "option_value": value,
    }
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"{package}/__init__.py": f"{kind}.py",
        f"tests/test_{package.removeprefix('bootfw_')}.py": f"test_{kind}.py",
    }
    environment = jinja2.Environment(keep_trailing_newline=True, undefined=jinja2.StrictUndefined, autoescape=False)
    templates = resources.files("bootfw.cli") / "plugintemplate"
    for path, template in files.items():
        source = (templates / f"{template}.j2").read_text("utf-8")
        yield path, environment.from_string(source).render(variables)
    yield f"{package}/py.typed", ""
