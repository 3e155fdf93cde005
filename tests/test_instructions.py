"""Instructions for a packet and a request: at most a tenth more than benchmarks/instructions.json says."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest
from narrowing import present

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
VERSION = "{}.{}".format(*sys.version_info)


@pytest.mark.interop
def test_no_packet_or_request_costs_a_tenth_more() -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    spec = importlib.util.spec_from_file_location("instructions", BENCHMARKS / "instructions.py")
    instructions = importlib.util.module_from_spec(present(spec))
    assert spec is not None
    present(spec.loader).exec_module(instructions)
    recorded = json.loads(instructions.RECORDED.read_text()).get(VERSION)
    if recorded is None:
        pytest.skip(f"nothing is recorded for Python {VERSION}: python -P benchmarks/instructions.py --record")
    figures = instructions.measure(list(recorded))
    limits = {name: figure * instructions.TOLERATED for name, figure in recorded.items()}
    grown = {name: (recorded[name], figure) for name, figure in figures.items() if figure > limits[name]}
    assert grown == {}
