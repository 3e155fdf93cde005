"""The entries of the menu for images of operating systems."""

from collections.abc import Iterable, Iterator

from bootfw.backends.imagelibrary.library import OSImage, Way
from bootfw.backends.imagelibrary.plannedboot import PlannedBoot, content_path
from bootfw.backends.images import Image, ascii_label

WIMBOOT = "wimboot"
"""The program that boots Windows; it is in the boot directory."""


def menu_images(images: Iterable[OSImage]) -> Iterator[Image]:
    """Yield an entry for each way to boot each image."""
    for image in images:
        for way in image.ways:
            yield _entry(image, way)


def _entry(image: OSImage, way: Way) -> Image:
    plan = way.plan
    content = content_path(image.name, image.version)
    boot = PlannedBoot(plan, content, f"{content}{image.suffix}" if image.suffix else "")
    kind: str = plan.recipe.kind
    if kind == "linux" and not way.runs.linux:
        kind = "efi"
    path = {"wimboot": WIMBOOT, "disk": boot.whole}.get(kind) or boot.path(plan.kernel)
    return Image(
        kind,
        path,
        ascii_label(f"{image.title} ({image.name})"),
        # mboot loads what boot.cfg names: nearly all of the image.
        image.size if kind in ("disk", "mboot") else plan.memory - plan.recipe.memory,
        way.runs,
        tuple(map(boot.path, plan.initrds)),
        image.arguments,
        boot,
    )
