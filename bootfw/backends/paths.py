"""Paths as clients write them."""


def components(path: str) -> list[str]:
    """The parts of *path* without empty ones and ``.``; ``\\`` separates as ``/`` does (Windows boot manager).

    ``TransferRequest.path`` is in this form already; an embedder may call a backend with anything.
    """
    return [part for part in path.replace("\\", "/").split("/") if part not in ("", ".")]


def lexical(path: str) -> str:
    """*path* in one spelling: ``..`` takes the part before it away and stops at the root."""
    kept: list[str] = []
    for part in components(path):
        if part != "..":
            kept.append(part)
        elif kept:
            kept.pop()
    return "/".join(kept)
