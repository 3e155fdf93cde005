"""bootfw as an operator starts it."""

from pathlib import Path

from forks import ONE_PROCESSOR
from twistd import TWISTD

from .lab import Host, Program

BOOTFW = (*ONE_PROCESSOR, str(TWISTD), "--nodaemon", "--pidfile=", "bootfw")
"""The command line, as far as it is always the same. The boots of firmware/ are those of a server with workers."""

OWN_STATE = "mount -t tmpfs none /var/lib"
"""A setup_command: the default state directory is the program's own. Two servers can't share one, and tests run in
parallel."""


def start_bootfw(host: Host, directory: Path, configuration: str, *ports: int) -> Program:
    """``twistd -n bootfw -c FILE`` on *host*, when it listens on all of *ports*. *directory* takes the file."""
    path = directory / f"bootfw-{host.name}-{ports[0]}.toml"
    path.write_text(configuration)
    program = host.start(*BOOTFW, "-c", path, name=f"bootfw-{ports[0]}", setup_command=OWN_STATE)
    program.wait_until_bound(*ports)
    return program
