"""How many files a process may have open."""

import resource


def allow_many_files() -> None:
    """Raise the limit of open files to what the system allows: each transfer has one open, and the usual limit is
    1024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
