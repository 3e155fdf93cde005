"""``bootfw lint``: reports what will not boot, and why."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bootfw.ability import provides
from bootfw.backends.directory import DirectoryBackend
from bootfw.backends.distribution import DistributionBackend
from bootfw.boot.backends import LayeredBackend
from bootfw.bootchain import ends_at_ipxe
from bootfw.build import Parts, assemble
from bootfw.cli.failure import CommandError
from bootfw.cli.statedir import running, state_of
from bootfw.config.configuration import load_config
from bootfw.interfaces import IBackend, IDirectoryBackend, IListableBackend, ISelfChecking, IStaticBackend
from bootfw.lint.entries import User
from bootfw.lint.rules import lint
from bootfw.lint.tree import Tree
from bootfw.power import power_mistakes
from bootfw.terminal import printable
from bootfw.values import Finding

FOUND = 1
"""Exit code: something will not boot."""

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"

ABOUT = """
Reads the boot directories of the configuration, or those on the command line, and reports what will not boot and why.
It changes nothing and needs no server. Exit codes: 0 nothing found, 1 something found, 2 the check failed.

With --cluster the server that runs here compares the names, sizes and times of its files with those of the other nodes,
and the command reports the differences.
"""

EPILOG = """
Examples:
  bootfw lint -c /etc/bootfw/bootfw.toml             what this configuration serves
  bootfw lint /srv/tftp                              a directory, without a configuration
  bootfw lint -c /etc/bootfw/bootfw.toml --cluster   whether the nodes of a cluster serve the same files
"""


def add_lint(commands: Any) -> None:
    """Add the command to those of the parser."""
    command = commands.add_parser(
        "lint",
        help="check the boot directory for files that will not boot",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("-c", "--config", metavar="FILE", help="the configuration of the server")
    command.add_argument(
        "--user", metavar="NAME", help="the user that must be able to read the files (default: this user)"
    )
    command.add_argument("--cluster", action="store_true", help="compare the files of all nodes that share the store")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.add_argument(
        "directories",
        nargs="*",
        metavar="DIR",
        type=Path,
        help="check these directories instead of those of the configuration",
    )
    command.set_defaults(run=_lint, failed=2)


def _lint(options: argparse.Namespace) -> int:
    if options.cluster:
        return _compare(options)
    user = _user(options.user)
    parts = (
        assemble(load_config(options.config, os.environ), None) if options.config or not options.directories else None
    )
    unsure: list[str] = []
    findings: list[Finding] = []
    for tree in _trees(options.directories, parts, unsure):
        # Resolvers and templates refer to the files of the configuration, not to those of directories that are named.
        configured = parts if parts is not None and not options.directories else None
        findings += lint(
            tree, configured.resolvers if configured else (), user, configured.backends if configured else ()
        )
    if parts is not None and not options.directories:
        sentences = ends_at_ipxe(parts.resolvers, parts.settings)
        findings += [Finding("[[resolver]]", "ipxe", *sentence.split(": ", 1)) for sentence in sentences]
        findings += [Finding(*found, "correct it; bootfw power uses it") for found in _power_findings(parts)]
    if options.json:
        sys.stdout.write(json.dumps([attrs.asdict(finding) for finding in findings], indent=2) + "\n")
    else:
        _show(findings, unsure)
    return FOUND if findings else 0


def _power_findings(parts: Parts) -> Iterator[tuple[str, str, str]]:
    """Yield (file, rule, reason)."""
    for path, reason in power_mistakes(parts):
        yield path, "power", reason


def _compare(options: argparse.Namespace) -> int:
    """Report the files that the nodes of a cluster do not have in common."""
    if options.directories:
        raise CommandError("--cluster compares what running servers serve, and takes no directory")
    state = state_of(load_config(options.config, os.environ))
    server = running(state)
    if server is None:
        raise CommandError(
            f"no server runs with the state directory {state}; --cluster needs it to query the other nodes"
        )
    try:
        *different, summary = server.call("compare-files")
    except CommandError as error:
        if "compare-files" not in str(error):
            raise
        raise CommandError("this server is alone: its store can't be shared with other nodes") from error
    findings = [_difference(record["file"], record["versions"]) for record in different]
    for node in summary["silent"]:
        reason = "did not answer, so its files were not compared"
        findings.append(
            Finding(node, "cluster", reason, "check whether it reaches the store: run bootfw status on that node")
        )
    if options.json:
        sys.stdout.write(json.dumps([attrs.asdict(finding) for finding in findings], indent=2) + "\n")
        return FOUND if findings else 0
    _show(findings, ())
    if summary["more"]:
        sys.stdout.write("More files differ, which are not shown: copy these first.\n")
    compared = ", ".join(summary["compared"])
    sys.stdout.write(printable(f"compared: {compared}; {summary['files']} files on this node") + "\n")
    return FOUND if findings else 0


def _difference(file: str, versions: Mapping[str, str]) -> Finding:
    nodes: dict[str, list[str]] = {}
    for node, version in versions.items():
        nodes.setdefault(version, []).append(node)
    parts = [f"{', '.join(sorted(having))}: {version or 'missing'}" for version, having in sorted(nodes.items())]
    return Finding(file, "cluster", "; ".join(parts), "copy it with its time, as rsync --times does, to all nodes")


def _user(name: str | None) -> User:
    if name is None:
        return User.current()
    try:
        return User.named(name)
    except KeyError:
        raise CommandError(f"there is no user {name}") from None


def _trees(directories: Sequence[Path], parts: Parts | None, unsure: list[str]) -> list[Tree]:
    if directories:
        for directory in directories:
            os.close(os.open(directory, os.O_RDONLY | os.O_DIRECTORY))
        # Treat each directory as the boot directory of a server without a configuration.
        return [_tree([("directory", DirectoryBackend(each)), *_INSTALLED], True) for each in directories]
    assert parts is not None
    static, listable = [], []
    for name, backend in parts.backends:
        if provides(backend, IStaticBackend):
            static.append((name, backend))
        elif provides(backend, IListableBackend):
            listable.append(backend)
        else:
            unsure.append(name)
    for name, backend in static:
        problem = backend.problem() if ISelfChecking.providedBy(backend) else ""
        if problem:
            raise CommandError(f"backend {name}: {problem}")
    return [_tree(static, not unsure, lambda path: any(backend.has(path) for backend in listable))]


_INSTALLED = [("distribution", DistributionBackend())]


def _tree(
    backends: Sequence[tuple[str, IBackend]], complete: bool, makes: Callable[[str], bool] = lambda path: False
) -> Tree:
    roots = [(each.root, each) for _, each in backends if provides(each, IDirectoryBackend)]
    return Tree(LayeredBackend(backends), roots, complete, makes)


def _show(findings: Sequence[Finding], unsure: Sequence[str]) -> None:
    bold, plain = (_BOLD, _PLAIN) if sys.stdout.isatty() and "NO_COLOR" not in os.environ else ("", "")
    width = max((len(finding.rule) for finding in findings), default=0)
    for finding in findings:
        rule = finding.rule.ljust(width)
        sys.stdout.write(f"{rule}  {bold}{printable(finding.file)}{plain}\n")
        sys.stdout.write(f"{' ' * width}  {printable(finding.reason)}\n")
        sys.stdout.write(f"{' ' * width}  -> {printable(finding.remedy)}\n")
    if unsure:
        sys.stdout.write(
            f"Missing files are not reported: only a running server knows what {', '.join(unsure)} serves.\n"
        )
    count = len(findings)
    sys.stdout.write(f"{count or 'no'} finding{'' if count == 1 else 's'}\n")
