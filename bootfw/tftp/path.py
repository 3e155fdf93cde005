"""File names as clients write them, made into paths."""

LONGEST_NAME = 4095
"""Characters of a file name: Linux opens no longer path (PATH_MAX). What clients name is remembered and logged."""


def relative(filename: str) -> str:
    r"""*filename* with ``/`` only, relative, without empty and ``.`` parts: ``\boot\\x86//a`` becomes ``boot/x86/a``.

    ``..`` parts stay: only a backend knows where its root is, and stops them there. The empty string means that
    nothing was named.
    """
    parts = filename.replace("\\", "/").split("/")
    if "" in parts or "." in parts:
        parts = [part for part in parts if part not in ("", ".")]
    return "/".join(parts)
