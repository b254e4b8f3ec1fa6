"""`python -m tests.fuzz [TARGET...]`: look for octets that break something, and say which did."""

from __future__ import annotations

import argparse
import importlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

from tests.fuzz import CORPUS, TARGETS, seeds

ROOT = CORPUS.parents[2]
#: Where inputs are left that broke something.
BROKEN = ROOT / "build" / "fuzz"
#: Larger ones find no more, and take longer.
LONGEST = 2048
#: What libFuzzer calls an input that it has found; those that people keep (what broke something once) have names.
_FOUND = re.compile(r"[0-9a-f]{40}")
_STATISTICS = re.compile(r"stat::(\w+): +(\d+)")

NO_FUZZER = """\
atheris is not installed. `make fuzz` installs it; it has wheels for Python 3.11, 3.12 and 3.13 on Linux (x86-64), and
this is Python {version}. What was found before is tried without it: python -m pytest tests/fuzz"""


def main() -> int:
    arguments = _arguments()
    if arguments.replay is not None:
        for target in arguments.targets:
            importlib.import_module(f"tests.fuzz.{target}").check(arguments.replay.read_bytes())
        return 0
    if find_spec("atheris") is None:
        print(NO_FUZZER.format(version=sys.version.split()[0]))
        return 1
    shares = sum(TARGETS[target] for target in arguments.targets)
    sound = True
    for target in arguments.targets:
        if arguments.runs:
            until = f"-runs={arguments.runs * TARGETS[target]}"
        else:
            until = f"-max_total_time={max(2, arguments.seconds * TARGETS[target] // shares)}"
        sound = _fuzz(target, until, arguments.seed, arguments.learn) and sound
    return 0 if sound else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", metavar="TARGET", nargs="*", help=f"{', '.join(TARGETS)}; without one, all of them")
    parser.add_argument("--seconds", type=int, default=600, help="how long in all (600)")
    parser.add_argument(
        "--runs",
        type=int,
        default=0,
        help="how many inputs instead, for each share of a target; with a seed they are the same ones each time",
    )
    parser.add_argument("--seed", type=int, default=0, help="choose as in another run with this seed (0: by chance)")
    parser.add_argument("--learn", action="store_true", help="keep in the corpus what was found to be interesting")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="only try this input; needs no fuzzer")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}")
    arguments.targets = arguments.targets or list(TARGETS)
    return arguments


def _fuzz(target: str, until: str, seed: int, learn: bool) -> bool:
    """Whether nothing was broken until the end, which an option of libFuzzer says."""
    kept = CORPUS / target
    BROKEN.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as new, tempfile.TemporaryDirectory() as made:
        _write_seeds(target, Path(made))
        options = [
            until,
            f"-max_len={LONGEST}",
            f"-seed={seed}",
            f"-artifact_prefix={BROKEN / target}-",
            f"-dict={CORPUS.parent / 'words.dict'}",
            "-timeout=10",
            "-rss_limit_mb=1024",
            "-print_final_stats=1",
        ]
        began = time.monotonic()
        done = _run(target, new, str(kept), made, *options)
        seconds = time.monotonic() - began
        if done.returncode:
            _complain(target, done.stdout)
            return False
        numbers = dict(_STATISTICS.findall(done.stdout))
        print(
            f"{target:10} {seconds:4.0f} s  {numbers.get('number_of_executed_units', '?'):>8} inputs  "
            f"{numbers.get('average_exec_per_sec', '?'):>6} a second  {len(list(Path(new).iterdir())):4} new",
            flush=True,
        )
        if learn:
            _learn(target, kept, Path(new))
    return True


def _write_seeds(target: str, folder: Path) -> None:
    for whose, name, octets in seeds.seeds():
        if whose == target:
            (folder / name).write_bytes(octets)


def _run(target: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz.one", target, *arguments],
        cwd=ROOT,
        # The order in a set is chance, too.
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )


def _complain(target: str, output: str) -> None:
    told = [line for line in output.splitlines() if not line.startswith(("#", "INFO:", "stat::"))]
    print(f"{target}: something broke", *told[-40:], sep="\n")
    for path in re.findall(r"Test unit written to (\S+)", output):
        where = Path(path).relative_to(ROOT)
        print(f"Again, without the fuzzer: python -m tests.fuzz {target} --replay {where}")
        print(f"When it is mended, keep it: tests/fuzz/corpus/{target}/ and a name that says what it shows.")


def _learn(target: str, kept: Path, new: Path) -> None:
    """Of what was found, now and before, keep what is needed to reach all that they reach together."""
    with tempfile.TemporaryDirectory() as merged:
        _write_seeds(target, Path(merged))
        for path in kept.iterdir():
            if not _FOUND.fullmatch(path.name):
                shutil.copy(path, merged)
        done = _run(target, "-merge=1", f"-max_len={LONGEST}", merged, str(kept), str(new))
        if done.returncode:
            _complain(target, done.stdout)
            return
        for path in kept.iterdir():
            if _FOUND.fullmatch(path.name):
                path.unlink()
        for path in Path(merged).iterdir():
            if _FOUND.fullmatch(path.name):
                shutil.copy(path, kept)
    size = sum(path.stat().st_size for path in kept.iterdir())
    print(f"{target:10} keeps {len(list(kept.iterdir()))} inputs of {size} octets")


if __name__ == "__main__":
    sys.exit(main())
