"""The pages: what they show of a boot."""

import re
from pathlib import Path

import bootfw.web
from bootfw.attempts.attempt import StageKind

PAGES = Path(bootfw.web.__file__).with_name("pages")


def test_every_kind_of_stage_has_its_words() -> None:
    text = (PAGES / "stages.js").read_text()
    table = text.partition("const KINDS = {")[2].partition("\n};")[0]
    assert set(re.findall(r'^  "?([a-z0-9-]+)"?:', table, re.MULTILINE)) == {kind.value for kind in StageKind}
