"""Generates docs/configuration.md: ``python -m bootfw.config.reference`` prints it.

The description of a key is the string below its field, or its ``:param`` in the docstring of a plugin's class.
"""

import ast
import inspect
import re
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import attrs

from bootfw.config.schema import expected
from bootfw.config.sections import PLUGIN_LISTS, SECTIONS, TABLE_LISTS, keys_of, variable_of
from bootfw.config.tables import Key, fields_of
from bootfw.config.units import Seconds, Size, seconds_text, size_text
from bootfw.plugins import group_of, list_plugins, load

INTRODUCTION = """\
# Configuration

This page is generated from the code by `python -m bootfw.config.reference`.

The configuration is one TOML file: `bootfw run -c FILE`. Every key has a default, and so has the whole file. An unknown
key is an error. Relative paths are relative to the directory of the file.

A size is a number of bytes, or a string with a unit: `"256 MiB"` (B, KiB, MiB, GiB, TiB, kB, MB, GB, TB). A time is a
number of seconds, or a string with a unit: `"90 s"` (ms, s, min, h, d). Keys that have the unit in their names, such as
`lease-seconds`, take plain numbers.

`bootfw reload` [applies a changed file](howto/command-line.md#apply-a-changed-configuration) while the server runs. A
change of the keys that are marked here needs a restart.

`bootfw run --check -c FILE` checks the file, loads and verifies every plugin that it names, and lists all errors, each
with the key and what would be right.
"""

TABLES = {
    "persona": """\
## `[[persona]]`

Kinds of clients that need special treatment; [how to](howto/personas.md). `bootfw personas` lists the built-in ones.
""",
    "machine": """\
## `[[machine]]`

Machines, as [host files](howto/templates.md#host-files) describe them: for templates and `bootfw install`. Keys that
are not listed here are variables of templates.
""",
}

PLUGINS = """\
## Plugins

The key `use` names a plugin: by the name of an installed one (`bootfw run --list-plugins` lists them), or as
`"package.module:attribute"`. The other keys of the table are the options of the plugin. The kinds of plugins:

| Section | What it decides | How many | Default |
| --- | --- | --- | --- |
| `[[backend]]` | where files come from | any number; the first that has the file serves it | `directory` for \
each of `/srv/boot`, `/srv/tftp` and `/var/lib/tftpboot` that exists, `menu` of what is in them, `distribution`, and \
an iPXE script that reports what is missing and boots the local disk |
| `[[resolver]]` | what a client loads | any number; the first answer counts | `by-architecture`, with the boot \
programs that the backends have |
| `[watchdog]` | the timeouts and retries of a TFTP transfer | one | `adaptive` |
| `[[observer]]` | what receives the events, such as the log | any number | `log` |
| `[store]` | where leases, reservations and orders such as one-time boots are stored | one | `sqlite` |
"""

ENVIRONMENT = """\
## Environment

Every key can also be set by an environment variable, which overrides the file. The name of the variable is `BOOTFW_`,
the section, and the key, in upper case and with underscores for dashes; for keys of `[bootfw]` without the section.

| Key | Variable |
| --- | --- |
{rows}
| option of the first backend | `BOOTFW_BACKEND_0_ROOT`, `BOOTFW_BACKEND_0_USE`; `_1_` is the second |
| option of the first resolver, observer | `BOOTFW_RESOLVER_0_FILES`, `BOOTFW_OBSERVER_0_USE` |
| option of the watchdog, of the store | `BOOTFW_WATCHDOG_USE`, `BOOTFW_STORE_USE` |

A value is parsed as TOML; if it is not TOML, it is a string: `1400`, `true`, `/srv/boot`, `[1, 3, 7]`,
`{{"x86-bios" = "undionly.kpxe"}}`. Lists of settings may be written with commas: `eth0,eth1`. The number of a plugin
selects a plugin of the file, or adds the next one. Any other variable that begins with `BOOTFW_` is an error, except
for those that Kubernetes and Docker set for a service or link of that name, such as
`BOOTFW_PORT=udp://10.96.0.7:69`.
"""


def reference() -> str:
    """Return the page."""
    parts = [
        INTRODUCTION,
        *(_section(section) for section in SECTIONS),
        *(_tables(name) for name in TABLE_LISTS),
        PLUGINS,
    ]
    built_in = [row for row in list_plugins() if row.distribution.startswith("bootfw ")]
    parts += [_plugin(row.kind, row.name, load(row.name, group_of(row.kind))) for row in built_in]
    rows = [f"| `{s}.{key.key}` | `{variable_of(s, key)}` |" for s in SECTIONS for key in keys_of(s)]
    parts.append(ENVIRONMENT.format(rows="\n".join(rows)))
    return "\n".join(parts)


def _section(section: str) -> str:
    return f"## `[{section}]`\n\n{_keys(SECTIONS[section], keys_of(section), section)}"


def _tables(name: str) -> str:
    return f"{TABLES[name]}\n{_keys(TABLE_LISTS[name], fields_of(TABLE_LISTS[name]), name)}"


def _keys(kind: type, keys: Sequence[Key], section: str) -> str:
    """Return the Markdown table of *keys*, followed by those of nested tables."""
    docs = _documented(kind)
    text = _table(_row(key, docs[key.attribute.name]) for key in keys)
    for key in keys:
        if key.tables is not None:
            inner = f"{section}.{key.path[-1]}"
            text += f"\n### `[[{inner}]]`\n\n{_keys(key.tables, fields_of(key.tables), inner)}"
    return text


def _row(key: Key, doc: str) -> tuple[str, str, str, str]:
    restart = " A change needs a restart." if key.metadata.get("restart") else ""
    return key.key, expected(key.annotation), _default(key), doc + restart


def _default(key: Key) -> str:
    if key.required:
        return "*required*"
    if key.default is None:
        return ""
    if key.annotation is Size:
        return toml(size_text(key.default))
    if key.annotation is Seconds:
        return toml(seconds_text(key.default))
    return toml(key.default)


def _plugin(kind: str, name: str, plugin: Any) -> str:
    docs = _documented(plugin.cls)
    about = (inspect.getdoc(plugin.cls) or "").split("\n:param", 1)[0].strip()
    header = f"[[{kind}]]" if kind in PLUGIN_LISTS else f"[{kind}]"
    text = f'### {kind} `{name}`\n\n```toml\n{header}\nuse = "{name}"\n```\n\n{_unwrapped(about)}\n'
    rows = [_row(key, docs.get(key.name, "")) for key in plugin.options]
    return f"{text}\n{_table(rows)}" if rows else text


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = ["| Key | Value | Default | |", "| --- | --- | --- | --- |"]
    for key, value, default, doc in rows:
        formatted = default if default in ("", "*required*") else f"`{default}`"
        text = _unwrapped(doc)
        lines.append(f"| `{key}` | {value} | {formatted} | {text[:1].upper()}{text[1:]} |")
    return "\n".join(lines) + "\n"


def toml(value: Any) -> str:
    """Format *value* as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | bytes):
        return f'"{value if isinstance(value, str) else value.decode()}"'
    if isinstance(value, list | tuple | frozenset):
        value = sorted(value) if isinstance(value, frozenset) else value
        if len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int):
            host, port = value
            return f'"[{host}]:{port}"' if ":" in host else f'"{host}:{port}"'
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml(key)} = {toml(item)}' for key, item in value.items())}}}"
    return str(value)


def _documented(cls: type) -> dict[str, str]:
    """Return field -> its description, for a class and its base classes."""
    found: dict[str, str] = {}
    for part in reversed([kind for kind in cls.__mro__ if attrs.has(kind)] or [cls]):
        found |= _documented_in(part)
    return found


@cache
def _documented_in(cls: type) -> Mapping[str, str]:
    found: dict[str, str] = {}
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            found[statement.target.id] = _string(following)
    parameters = re.findall(r":param (\w+):\s*(.*?)(?=\n:|\n\n|\Z)", inspect.getdoc(cls) or "", re.DOTALL)
    return found | dict(parameters)


def _string(statement: ast.stmt) -> str:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return str(statement.value.value).strip()
    return ""


def _unwrapped(text: str) -> str:
    """Join the lines of each paragraph, and convert reST literals to Markdown."""
    paragraphs = re.split(r"\n\s*\n", text)
    return "\n\n".join(" ".join(part.split()) for part in paragraphs).replace("``", "`")


if __name__ == "__main__":
    sys.stdout.write(reference())
