"""One target under atheris: ``python -m fuzz.engine TARGET`` with flags of libFuzzer and a directory for its corpus."""

import hashlib
import sys
from pathlib import Path

import atheris


def main(name: str, arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["bootfw"]):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = Path(arguments[-1])
    for data in (*target.seeds(), *(path.read_bytes() for path in target.found())):
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    atheris.Setup([sys.argv[0], f"-max_len={target.largest}", *arguments], target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
