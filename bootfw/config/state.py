"""The directory of the state that outlives the process."""

import os
from pathlib import Path

CONTROL_SOCKET = "control.sock"
"""The name of the control socket in the state directory."""


def state_directory(configured: str = "") -> Path:
    """Return the path of the state directory, which may not exist yet.

    :param configured: ``state-dir`` of the configuration; "": /var/lib/bootfw for root, for other users a directory in
        that of the XDG Base Directory Specification.
    """
    if configured:
        return Path(configured)
    if os.geteuid() == 0:
        return Path("/var/lib/bootfw")
    # The specification requires that a relative path is ignored.
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    return (state if state.is_absolute() else Path.home() / ".local" / "state") / "bootfw"
