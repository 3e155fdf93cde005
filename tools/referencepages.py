#!/usr/bin/env python3
"""Reference pages of the documentation that are generated from the code.

    tools/referencepages.py commands > docs/commands.md
    tools/referencepages.py metrics > docs/metrics.md

bootfw.config.reference generates that of the configuration. Those of the API and the events, from tools/publicapi.py,
have docstrings, which change often: they are made with the site (`make docs`), and are not in git.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMANDS = """\
# Commands

This page is generated from the code by `python tools/referencepages.py commands`.

`bootfw COMMAND --help` prints the same. [Work on the command line](howto/command-line.md) shows what to do with them.
A command that fails ends with exit code 1, misuse with 2, and SIGINT with 130; where codes mean more, it says so.
"""

METRICS = """\
# Metrics

This page is generated from the code by `python tools/referencepages.py metrics`.

[Monitor it](howto/monitoring.md#metrics) shows how to serve them. A counter's samples end in `_total`, those of a
histogram in `_bucket`, `_count` and `_sum`. Values of labels come from the configuration and from fixed lists, never
from packets; `image` is one of the files that are sent to many machines now.

| metric | kind | labels | meaning |
| --- | --- | --- | --- |
"""


class _OneNodeService:
    """What the collector asks of a service: one that is a node of a cluster, so that every metric is there."""

    ready = True

    def lease_counts(self) -> tuple[dict[Any, Any], dict[Any, Any]]:
        return {}, {}

    def images_sent(self) -> list[Any]:
        return []

    def sockets(self) -> list[Any]:
        return []

    def cluster_record(self) -> dict[str, Any]:
        return {"nodes": [], "behind": 0.0}


def metrics() -> str:
    """The page of the metrics."""
    from bootfw.observe.counts import Counts
    from bootfw.observe.metrics import Collector

    families = sorted(Collector(_OneNodeService(), Counts()).collect(), key=lambda family: str(family.name))
    rows = []
    for family in families:
        labels = ", ".join(f"`{label}`" for label in family._labelnames)
        rows.append(f"| `{family.name}` | {family.type} | {labels} | {family.documentation} |")
    return METRICS + "\n".join(rows) + "\n"


def commands() -> str:
    """The page of the commands."""
    from bootfw.cli.completion import parsers
    from bootfw.cli.main import parser

    return "\n".join([COMMANDS, *(_command(name, each) for name, each in parsers(parser()).items() if " " in name)])


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    return "\n\n".join(_parts(name, parser)) + "\n"


def _parts(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    from bootfw.cli.manpage import help_of, invocation

    yield f"{'#' * len(name.split())} {name}"
    for paragraph in re.split(r"\n\s*\n", (parser.description or "").strip()):
        yield " ".join(paragraph.split())
    usage = " ".join(parser.format_usage().removeprefix("usage: ").split())
    yield f"```\n{usage}\n```"
    rows = []
    for action in parser._actions:
        if action.help != argparse.SUPPRESS and not isinstance(
            action, argparse._SubParsersAction | argparse._HelpAction
        ):
            rows.append(f"| `{invocation(action)}` | {help_of(action, parser)} |".replace("|`", "| `"))
    if rows:
        yield "| | |\n| --- | --- |\n" + "\n".join(rows)
    if parser.epilog:
        yield f"```text\n{parser.epilog.strip()}\n```"


def main() -> None:
    """Print a page."""
    options = argparse.ArgumentParser(description="Reference pages that are generated from the code.")
    options.add_argument("page", choices=("commands", "metrics"))
    sys.stdout.write({"commands": commands, "metrics": metrics}[options.parse_args().page]())


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    main()
