"""The rule for images of operating systems that a directory serves as well."""

from collections.abc import Iterator, Sequence

from bootfw.ability import provides
from bootfw.interfaces import IBackend, IImageBackend
from bootfw.lint.tree import Tree
from bootfw.values import Finding


def check_images(tree: Tree, backends: Sequence[tuple[str, IBackend]]) -> Iterator[Finding]:
    """Report a boot.cfg of ESXi that machines get as it is on the CD, since its directory comes before the images."""
    images = [(name, backend) for name, backend in backends if provides(backend, IImageBackend)]
    for file in tree.files if images else ():
        if file.name.casefold() != "boot.cfg" or file.damage:
            continue
        served = tree.find(file.path)
        for name, backend in images:
            changed = tree.found_by(backend, file.path)
            if served is not None and changed is not None and served.data() != changed.data():
                reason = f"{file.path} is served as it is on the CD: its directory comes before the backend {name}"
                yield Finding(file.host_path, "order", reason, f"put the backend {name} before that directory")
