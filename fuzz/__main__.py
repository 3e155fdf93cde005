"""``make fuzz``: runs the targets under atheris, one after the other, and keeps what breaks a rule.

Exit codes: 0 nothing was found, 1 an input broke a rule, 2 the command is wrong or atheris is missing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

from fuzz.target import FOUND

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
    parser.add_argument("--again", type=Path, metavar="FILE", help="give one input to one target, without atheris")
    options = parser.parse_args(arguments)
    if options.again is not None or options.list:
        from fuzz.targets import TARGETS

        if options.list:
            for target in TARGETS.values():
                print(f"{target.name:14} {(target.check.__doc__ or '').splitlines()[0]}")
            return 0
        name = options.targets[0] if options.targets else options.again.parent.name
        TARGETS[name].run(options.again.read_bytes())
        print(f"{name}: {options.again} breaks no rule")
        return 0
    try:
        import atheris  # noqa: F401
    except ImportError:
        print("atheris is not installed: .venv/bin/pip install --editable '.[fuzz]'", file=sys.stderr)
        return 2
    # A process for each: libFuzzer ends its process when the time is over.
    names = options.targets or _names()
    broken = []
    for number, name in enumerate(names, 1):
        began = time.monotonic()
        print(f"{name}: target {number} of {len(names)}, for {options.seconds} s", flush=True)
        if subprocess.run([sys.executable, "-m", "fuzz.engine", name, *_flags(name, options.seconds)]).returncode:
            broken.append(name)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)
    for name in broken:
        print(f"{name}: an input broke a rule, or the target did not run; see above")
        for path in _new(name):
            print(f'  kept as {path}; again: make fuzz ARGS="{name} --again {path}"')
    return 1 if broken else 0


def _names() -> list[str]:
    listed = subprocess.run([sys.executable, "-m", "fuzz", "--list"], capture_output=True, text=True, check=True)
    return [line.split()[0] for line in listed.stdout.splitlines()]


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


def _new(name: str) -> list[Path]:
    """What libFuzzer has written, by the beginnings of its names."""
    return [path for path in sorted((FOUND / name).iterdir()) if path.name.startswith(("crash-", "timeout-", "oom-"))]


if __name__ == "__main__":
    sys.exit(main())
