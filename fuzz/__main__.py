"""``make fuzz``: runs the targets under atheris, one after the other, and keeps what breaks a rule.

Exit codes: 0 nothing was found, 1 an input broke a rule, 2 the command is wrong or atheris is missing.
"""

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from fuzz.target import FOUND
from fuzz.targets import TARGETS

CORPUS = Path(".fuzz")
"""CORPUS/TARGET has the inputs that reached new code, so that the next run begins where this one ended."""

_MEGABYTES = 1024
"""Of memory that a target may take."""
_HANGS = 60
"""Seconds after which an input counts as one that never ends. See target.LONGEST for the time that it may take."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="the targets to run; all of them without any")
    parser.add_argument("--seconds", type=int, default=60, help="of each target (60)")
    parser.add_argument("--list", action="store_true", help="list the targets and end")
    parser.add_argument("--again", type=Path, metavar="FILE", help="give one input to a target, by its directory")
    options = parser.parse_args(arguments)
    names = options.targets or ([options.again.parent.name] if options.again is not None else list(TARGETS))
    if unknown := sorted(set(names) - TARGETS.keys()):
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    if options.list:
        for target in TARGETS.values():
            print(f"{target.name:14} {(target.check.__doc__ or '').splitlines()[0]}")
        return 0
    if options.again is not None:
        for name in names:
            TARGETS[name].run(options.again.read_bytes())
            print(f"{name}: {options.again} breaks no rule")
        return 0
    if find_spec("atheris") is None:
        print("atheris is not installed: .venv/bin/pip install --editable '.[fuzz]'", file=sys.stderr)
        return 2
    failed_targets = []
    for number, name in enumerate(names, 1):
        began = time.monotonic()
        print(f"{name}: target {number} of {len(names)}, for {options.seconds} s", flush=True)
        # A process for each: libFuzzer ends its process when the time is over, and without any cleaning up.
        with TemporaryDirectory(prefix="bootfw-fuzz-") as temporary:
            command = [sys.executable, "-m", "fuzz.engine", name, *_flags(name, options.seconds)]
            if subprocess.run(command, env={**os.environ, "TMPDIR": temporary}).returncode:
                failed_targets.append(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    for name in failed_targets:
        print(f"{name}: an input broke a rule, or the target did not run; see above")
        for path in _new_inputs(name):
            print(f'  kept as {path}; again: make fuzz ARGS="{name} --again {path}"')
    return 1 if failed_targets else 0


def _flags(name: str, seconds: int) -> list[str]:
    """Of libFuzzer, see ``-help=1``."""
    (FOUND / name).mkdir(parents=True, exist_ok=True)
    (CORPUS / name).mkdir(parents=True, exist_ok=True)
    return [
        f"-max_total_time={seconds}",
        f"-timeout={_HANGS}",
        f"-rss_limit_mb={_MEGABYTES}",
        f"-artifact_prefix={FOUND / name}/",
        "-print_final_stats=1",
        str(CORPUS / name),
    ]


def _new_inputs(name: str) -> list[Path]:
    """What libFuzzer has written, by the beginnings of its names."""
    return [path for path in sorted((FOUND / name).iterdir()) if path.name.startswith(("crash-", "timeout-", "oom-"))]


if __name__ == "__main__":
    sys.exit(main())
