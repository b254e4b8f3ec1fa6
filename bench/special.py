"""The measurements that are no load alone: each in a module of its own, whose `targets` says what came out."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from types import ModuleType
from typing import Final

from attrs import evolve

from bench.targets import Line, Round

#: In this order.
MODULES: Final = ("tls", "latency", "noop", "idle", "queue")
#: Those that can be tried in some seconds.
BRIEF: Final = ("tls", "latency", "noop", "idle")

#: In the values of a line about a measurement that has not come to its end.
FAILED: Final = "failed"


def specials(round_: Round, names: Iterable[str] = MODULES) -> list[Line]:
    """All of them. One that fails is told as such, and the others go on."""
    lines: list[Line] = []
    for name in names:
        folder = round_.folder / f"special-{name}"
        folder.mkdir()
        folder.chmod(0o755)
        round_.say(f"bench/{name}.py")
        try:
            lines += _module(name).targets(evolve(round_, folder=folder))
        except (AssertionError, OSError, ImportError, ValueError) as problem:
            said = (str(problem).strip() or type(problem).__name__).splitlines()[0]
            lines.append(Line(f"bench/{name}.py", "it runs", f"failed: {said}", met=False, values={FAILED: said}))
    return lines


def _module(name: str) -> ModuleType:
    module = import_module(f"bench.{name}")
    if not hasattr(module, "targets"):
        raise ImportError("it has no targets")
    return module
