"""One target under atheris, which is libFuzzer: `python -m tests.fuzz.one TARGET DIRECTORY... -OPTION...`."""

from __future__ import annotations

import importlib
import shlex
import sys
from typing import Any


def main() -> None:
    atheris: Any = importlib.import_module("atheris")
    target = sys.argv.pop(1)
    # When it merges, libFuzzer starts itself again through a shell, by this name.
    sys.argv[0] = shlex.join([sys.executable, "-m", "tests.fuzz.one", target])
    # What is imported from here on tells the fuzzer which of its branches were taken.
    with atheris.instrument_imports(include=["relay", "tests.fuzz"]):
        check = importlib.import_module(f"tests.fuzz.{target}").check
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
