"""
What strangers may say, by the million: coverage-guided fuzzing of all that reads octets of others.

A target is a module with `check(octets)`, which raises `AssertionError` where something does not hold. It needs no
fuzzer: `test_corpus` runs the inputs that are kept in `corpus/` through all of them with every run of the tests.
`python -m tests.fuzz` (`make fuzz`) looks for new ones with atheris.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

#: The modules of this package that are targets, and their share of the time.
TARGETS: Final = {
    "server": 4,
    "client": 3,
    "content": 2,
    "commands": 2,
    "parameters": 2,
    "exchange": 2,
    "addresses": 2,
    "header": 1,
}
CORPUS: Final = Path(__file__).parent / "corpus"
