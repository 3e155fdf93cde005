"""All targets, by name."""

from collections.abc import Mapping

from fuzz import files, packets, service, texts
from fuzz.target import Target

_ALL = (*packets.TARGETS, *texts.TARGETS, *files.TARGETS, *service.TARGETS)

TARGETS: Mapping[str, Target] = {each.name: each for each in _ALL}
