"""How many calls a piece of work takes: the same on a slow machine as on a fast one, so that a bound may be committed."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any


def calls_of(function: Callable[[], object], *, by_name: Counter[str] | None = None) -> int:
    """
    How many calls `function` makes, of Python's functions and of C's, each time a generator or coroutine goes on
    included; its own is not counted, and what other threads do is not either.

    `by_name` is told which: `server.py next_event`, `bytes.find`. Work that is done once (caches, imports, the first
    of a hundred messages) is done before by who wants to know what it costs in the long run.
    """
    calls = 0
    named: Counter[tuple[CodeType | None, Any]] = Counter()

    def count(frame: FrameType, event: str, called: Any) -> None:
        nonlocal calls
        if event == "call":
            calls += 1
            if by_name is not None:
                named[frame.f_code, None] += 1
        elif event == "c_call":
            calls += 1
            if by_name is not None:
                named[None, f"{type(called.__self__).__name__}.{called.__name__}"] += 1

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # What a finalizer calls belongs to whoever left the garbage.
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()
    if by_name is not None:
        for (code, name), times in named.items():
            by_name[name if code is None else f"{code.co_filename.rpartition('/')[2]} {code.co_name}"] += times
    return calls - 2  # its own, and that of `sys.setprofile`
