"""A boot of an image of an operating system from this server."""

from urllib.parse import quote

from attrs import field, frozen

from bootfw.images.recipe import IMAGE, Plan

PREFIX = "images"
"""The directory below which clients find the files of images."""


@frozen
class PlannedBoot:
    """A plan, and where clients find the files.

    :param content: path of the files in the image; the path contains the version.
    :param whole: path of the image itself; "": it is a directory. For the image of a disk, *content* is that of the
        system that writes it.
    :param name: path of the image without its version: ``images/debian-12``.
    """

    plan: Plan = field(hash=False)
    content: str
    whole: str
    name: str

    def path(self, name: str) -> str:
        """Return the path at which clients find a file of the image, or with IMAGE the image itself."""
        return self.whole if name == IMAGE else f"{self.content}/{name}"

    def loads_by(self, loader: str, http: str) -> bool:
        """Return whether the boot program *loader*, one of LOADERS, can boot it.

        :param http: URL of this server, without a slash at the end; "": it serves no HTTP.
        """
        return loader in self.plan.recipe.loaders and bool(http or not self.plan.needs_http)

    def arguments(self, http: str, answers: str = "") -> str:
        """Return the arguments of the kernel.

        :param http: as of loads_by().
        :param answers: path of the answers for an unattended installation; "": there are none.
        """
        content = f"{http}/{quote(self.content)}" if http else ""
        url = f"{http}/{quote(answers)}" if answers else ""
        return self.plan.arguments(content, f"{http}/{quote(self.whole)}", content or f"/{self.content}", url)


def image_path(name: str) -> str:
    """Return the path at which clients find the files of the present version of an image."""
    return f"{PREFIX}/{name}"


def content_path(name: str, version: str) -> str:
    """Return the path at which clients find the files of a version of an image."""
    return f"{PREFIX}/{name}~{version}"
