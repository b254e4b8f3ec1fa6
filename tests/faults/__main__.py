"""`python -m tests.faults`: run the audit, print the counts. Status 1 if anything was not as it must be."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from attrs import evolve

from tests.faults import strace
from tests.faults.audit import Audit, Plan
from tests.faults.evidence import FALSEHOODS, falsify, verdict

SHORT = 4
#: Some at each of them.
AT_CALLS = 3 * len(strace.CALLS)
ERRORS = len(strace.DISK)


def main() -> int:
    arguments = _arguments()
    plan = Plan(rounds=SHORT if arguments.short else arguments.rounds, engine=arguments.engine)
    if arguments.seed is not None:
        plan = evolve(plan, seed=arguments.seed)
    if not arguments.short:
        plan = evolve(plan, **_with_strace(arguments.at_calls, arguments.errors))
    folder = Path(tempfile.mkdtemp(prefix="relay-faults-"))
    began = time.monotonic()
    evidence = Audit(folder, plan, _say).run()
    if arguments.falsify is not None:
        evidence = falsify(evidence, arguments.falsify)
    judged = verdict(evidence)
    for line in judged.lines():
        _say(line)
    _say(f"{'FAILED' if judged.complaints else 'passed'} in {time.monotonic() - began:.0f} s, seed {plan.seed}")
    if judged.complaints or arguments.keep:
        _say(f"everything is left in {folder}")
    else:
        shutil.rmtree(folder)
    return 1 if judged.complaints else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="how many times to kill it (20)")
    parser.add_argument("--short", action="store_true", help=f"{SHORT} rounds, and none at exact system calls")
    parser.add_argument(
        "--at-calls", type=int, help=f"rounds with the kill at a system call ({AT_CALLS} if strace works, else 0)"
    )
    parser.add_argument("--errors", type=int, help=f"rounds with a failing disk ({ERRORS} if strace works, else 0)")
    parser.add_argument("--seed", type=int, help="repeat what chance has chosen (but not what the machine does)")
    parser.add_argument("--keep", action="store_true", help="leave spool, mailboxes and logs where they are")
    parser.add_argument("--engine", default="sqlite", help="the spool's; with 'memory' the audit has to fail")
    parser.add_argument("--falsify", choices=sorted(FALSEHOODS), help="claim it of one copy; the audit has to fail")
    return parser.parse_args()


def _with_strace(at_calls: int | None, errors: int | None) -> dict[str, int]:
    wanted = {"at_calls": AT_CALLS if at_calls is None else at_calls, "errors": ERRORS if errors is None else errors}
    if any(wanted.values()) and not strace.works():
        if at_calls or errors:
            raise SystemExit("strace is not installed, or may not trace")
        _say("no rounds at exact system calls: strace is not installed, or may not trace")
        return {}
    return wanted


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
