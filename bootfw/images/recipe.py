"""A recipe, which says how the images of a family are booted, and a plan, which is the recipe for one image."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from attrs import field, frozen

from bootfw.config.units import Size
from bootfw.images.listing import Listing

LOADERS = ("ipxe", "grub", "pxelinux")

IMAGE = "{image}"
"""As the name of a file in a recipe: the image itself."""

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

_OF_SERVER = frozenset(("content", "image", "root"))
"""Placeholders for places on the server."""


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(values)


def _among(allowed: Iterable[str]) -> Any:
    known = tuple(allowed)

    def check(instance: Any, attribute: Any, value: Iterable[str]) -> None:
        for one in value:
            if one not in known:
                raise ValueError(f'"{one}" is unknown; known: {", ".join(known)}')

    return check


@frozen(kw_only=True)
class Recipe:
    """``[[family.recipe]]``: how an image is booted.

    Names of files are paths in the image; ``*`` stands for anything but ``/``. The recipe applies to an image that has
    all of them.
    """

    kind: Literal["linux", "mboot", "wimboot", "disk", "receiver"] = "linux"
    """`"linux"`: a kernel, or an EFI program. `"mboot"`: the boot program of ESXi. `"wimboot"`: Windows, booted by
    the program of this name. `"disk"`: the image itself, as a CD or a disk. `"receiver"`: a kernel, whose system
    receives a disk image and writes it to the machine's disk; `{image}` is the URL of the disk image."""
    kernel: str = ""
    """The kernel or the boot program."""
    initrd: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Initial RAM disks, in the order in which they are loaded. One whose name ends in `?` need not exist."""
    named: Mapping[str, str] = field(factory=dict, metadata={"toml": dict[str, str]})
    """Name -> file: the kernel finds the file under this name. `"{image}"`: the image itself."""
    arguments: str = ""
    """Arguments of the kernel. `{content}` is the URL of the files in the image, `{image}` that of the image itself,
    `{root}` the URL of the files, or without HTTP their path. Others are names of `paths`, and of groups in the
    patterns of the family."""
    answers: str = ""
    """Arguments that are added for an unattended installation. `{answers}` is the URL of the answers,
    `{answers_directory}` that of their directory."""
    required: Mapping[str, str] = field(factory=dict, metadata={"toml": dict[str, str]})
    """Argument that only the operator can choose, in `NAME.cmdline` -> what it is, for people. Without it the recipe
    does not apply."""
    beside: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Files beside the answers, by whose names the system finds them: they are loaded with it for an unattended
    installation."""
    bootif: bool = False
    """Whether the system takes the argument `BOOTIF`, the network card that the machine has booted from. The boot
    program adds it: a machine may have several cards, and only one that reaches this server."""
    paths: Mapping[str, str] = field(factory=dict, metadata={"toml": dict[str, str]})
    """Placeholder -> the file in the image whose path it stands for."""
    firmware: tuple[str, ...] = field(
        default=("bios", "efi"), converter=_texts, validator=_among(("bios", "efi")), metadata={"toml": list[str]}
    )
    """The firmware that it is for. Firmware that the kernel does not support is left out."""
    cpu: str = ""
    """The processor that it is for, such as `"x86_64"`. Empty: read from the kernel."""
    loaders: tuple[str, ...] = field(
        default=LOADERS, converter=_texts, validator=_among(LOADERS), metadata={"toml": list[str]}
    )
    """The boot programs that can boot it."""
    memory: Size = field(default=Size(0), metadata={"toml": Size})
    """Memory that the machine needs, in addition to the files that are loaded into it."""
    loaded: tuple[str, ...] = field(default=(), converter=_texts, metadata={"toml": list[str]})
    """Files that the system loads into memory as a whole."""

    def plan(self, listing: Listing, groups: Mapping[str, str]) -> "Plan | str":
        """Return the plan for an image, or the file that it lacks.

        :param groups: placeholder -> its value, from the recognition.
        """
        absent: list[str] = []

        def found(name: str) -> str:
            if name == IMAGE:
                if not listing.size:
                    absent.append("the image as one file")
                return IMAGE
            path = listing.find(name)
            if path is None:
                absent.append(name)
            return path or ""

        kernel = found(self.kernel) if self.kernel else ""
        optional = [name[:-1] for name in self.initrd if name.endswith("?")]
        initrds = [name.removesuffix("?") for name in self.initrd]
        initrds = [found(name) for name in initrds if name not in optional or listing.find(name)]
        named = {name: found(path) for name, path in self.named.items()}
        values = {**groups, **{name: found(path) for name, path in self.paths.items()}}
        loaded = [found(path) for path in self.loaded]
        if kernel == "" and self.kind == "disk":
            found(IMAGE)
        if absent:
            return absent[0]
        inside = [kernel, *initrds, *named.values(), *loaded]
        size = sum(listing.size if path == IMAGE else listing.sizes.get(path, 0) for path in inside)
        return Plan(
            self,
            kernel,
            tuple(initrds),
            named,
            _filled(self.arguments, values),
            _filled(self.answers, values),
            self.memory + size,
        )


@frozen
class Plan:
    """How one image is booted."""

    recipe: Recipe
    kernel: str
    """Path in the image; "": the recipe needs none."""
    initrds: tuple[str, ...]
    named: Mapping[str, str]
    """See Recipe.named."""
    _arguments: str
    _answers: str
    memory: int
    """Bytes of memory that the machine needs, the files that are loaded included."""

    @property
    def needs_http(self) -> bool:
        """Whether the system itself fetches files of the image by HTTP."""
        return bool(_OF_SERVER.difference(("root",)).intersection(_PLACEHOLDER.findall(self._arguments)))

    @property
    def takes_answers(self) -> bool:
        """Whether it can install without questions."""
        return bool(self._answers or self.recipe.beside)

    def arguments(self, content: str, image: str, root: str, answers: str = "") -> str:
        """Return the arguments of the kernel.

        :param content: the URL of the files in the image; no HTTP: "".
        :param image: the URL of the image itself.
        :param root: the URL of the files in the image, or their path.
        :param answers: the URL of the answers; "": there are none.
        """
        text = f"{self._arguments} {self._answers}" if answers else self._arguments
        places = {"content": content, "image": image, "root": root, "answers": answers}
        return _filled(text, {**places, "answers_directory": answers.rpartition("/")[0]}).strip()


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)
