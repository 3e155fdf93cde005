"""One target under atheris: ``python -m fuzz.engine TARGET`` with flags of libFuzzer and a directory for its corpus."""

import hashlib
import re
import sys
from pathlib import Path

import atheris


def main(name: str, arguments: list[str]) -> None:
    """Fuzz until libFuzzer ends the process."""
    with atheris.instrument_imports(include=["bootfw"]):
        from fuzz.targets import TARGETS
    target = TARGETS[name]
    corpus = Path(arguments[-1])
    inputs = [*target.seeds(), *(path.read_bytes() for path in target.found())]
    for data in inputs:
        (corpus / hashlib.sha1(data).hexdigest()).write_bytes(data)
    dictionary = corpus.with_suffix(".words")
    dictionary.write_text(_dictionary(inputs) + "\n")
    atheris.Setup([sys.argv[0], f"-max_len={target.largest}", f"-dict={dictionary}", *arguments], target.run)
    atheris.Fuzz()


def _dictionary(inputs: list[bytes]) -> str:
    """The words in *inputs*, which libFuzzer puts in as a whole."""
    words = {word for data in inputs for word in re.findall(rb"[A-Za-z][A-Za-z_-]{2,30}", data)}
    return "".join(f'"{word.decode()}"\n' for word in sorted(words)[:1000])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
