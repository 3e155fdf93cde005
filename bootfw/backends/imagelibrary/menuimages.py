"""The entries of the menu for images of operating systems."""

from collections.abc import Iterable, Iterator

from bootfw.backends.imagelibrary.library import OSImage, Way
from bootfw.backends.imagelibrary.plannedboot import PlannedBoot, content_path, image_path
from bootfw.backends.images import Image, ascii_label

WIMBOOT = "wimboot"
"""The program that boots Windows; it is in the boot directory."""


def menu_images(images: Iterable[OSImage]) -> Iterator[Image]:
    """Yield an entry for each way to boot each image. Those that write the disk of a machine are installed only by an
    order of the operator, and have no entry."""
    for image in images:
        for way in image.ways:
            if way.plan.recipe.kind != "receiver":
                yield _entry(image, way)


def disk_images(images: Iterable[OSImage]) -> Iterator[Image]:
    """Yield an entry for each way to install each image of a disk."""
    for image in images:
        for way in image.ways if image.is_disk else ():
            yield _entry(image, way)


def _entry(image: OSImage, way: Way) -> Image:
    plan = way.plan
    system = way.system or image
    whole = f"{content_path(image.name, image.version)}{image.suffix}" if image.suffix else ""
    boot = PlannedBoot(plan, content_path(system.name, system.version), whole, image_path(image.name))
    kind: str = "linux" if plan.recipe.kind == "receiver" else plan.recipe.kind
    if kind == "linux" and not way.runs.linux:
        kind = "efi"
    arguments = dict.fromkeys(filter(None, (system.arguments, image.arguments)))
    path = {"wimboot": WIMBOOT, "disk": boot.whole}.get(kind) or boot.path(plan.kernel)
    return Image(
        kind,
        path,
        ascii_label(f"{image.title} ({image.name})"),
        # mboot loads what boot.cfg names: nearly all of the image.
        image.size if kind in ("disk", "mboot") else plan.memory - plan.recipe.memory,
        way.runs,
        tuple(map(boot.path, plan.initrds)),
        " ".join(arguments),
        boot,
    )
