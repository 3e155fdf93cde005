"""File names as clients write them, made into paths."""

LONGEST_NAME = 4095
"""Characters of a file name: Linux opens no longer path (PATH_MAX). Names are kept in memory and logged, so they have a
limit."""


def relative(filename: str) -> str:
    r"""Return *filename* as a relative path: ``\boot\\x86//a`` becomes ``boot/x86/a``.

    It has ``/`` only, and no empty and no ``.`` parts.

    ``..`` parts stay: only a backend knows where its root is, and stops them there. The empty string means that
    nothing was named.
    """
    parts = filename.replace("\\", "/").split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in ("", ".")]
    return "/".join(parts)
