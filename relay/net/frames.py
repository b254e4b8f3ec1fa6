"""Where in its code a thread is at this moment, in words for people."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Final

import twisted
import zope.interface

import relay


def _folder(of: str | None) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(of or "")), "")


#: Code that only passes questions on.
_OURS: Final = tuple(map(_folder, (relay.__file__, twisted.__file__, zope.interface.__file__)))
_PATHS: Final = sysconfig.get_paths()
_INSTALLED: Final = tuple(os.path.join(_PATHS[key], "") for key in ("purelib", "platlib"))
_PYTHONS: Final = tuple(os.path.join(_PATHS[key], "") for key in ("stdlib", "platstdlib"))
#: Modules of Python that are part of the interpreter.
_FROZEN: Final = "<frozen "


def frames(innermost: FrameType | None) -> Iterator[FrameType]:
    """This frame, and those that have called it."""
    while innermost is not None:
        yield innermost
        innermost = innermost.f_back


def place(innermost: FrameType) -> str:
    """
    Where this is: `/srv/policies/slow.py:17 (Slow.route)`.

    That is the innermost frame of code that is neither ours nor Twisted's nor Python's own, since whoever wrote that
    can do something about it; and the innermost of all, where it is another one.
    """
    theirs = _theirs(innermost)
    if theirs is None or theirs is innermost:
        return _spelled(innermost)
    return f"{_spelled(theirs)}, by way of {_spelled(innermost)}"


def origin(error: BaseException) -> str:
    """
    Where in such code an exception has come about, in the same words: the innermost line of it that was passed. ""
    where only ours, Twisted's and Python's was on the way.
    """
    found, step = "", error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if not code.co_filename.startswith(_OURS) and not _is_pythons(code.co_filename):
            found = f"{code.co_filename}:{step.tb_lineno} ({code.co_qualname})"
        step = step.tb_next
    return found


def _theirs(innermost: FrameType) -> FrameType | None:
    found: FrameType | None = None
    for frame in frames(innermost):
        file = frame.f_code.co_filename
        if file.startswith(_OURS):
            if found is not None:
                return found  # what is further out has started us, and is nobody's guest
        elif found is None and not _is_pythons(file):
            found = frame
    return None


def _is_pythons(file: str) -> bool:
    return file.startswith(_FROZEN) or (file.startswith(_PYTHONS) and not file.startswith(_INSTALLED))


def _spelled(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_qualname})"


def frame_of(thread: int) -> FrameType | None:
    """The innermost frame of the thread with this `threading.get_ident()`; `None` if it has ended."""
    return sys._current_frames().get(thread)


def stacks() -> str:
    """The stacks of all threads but the one that asks."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    own = threading.get_ident()
    told = [
        f"Thread {names.get(number, number)}, innermost call last:\n" + "".join(traceback.format_stack(frame))
        for number, frame in sys._current_frames().items()
        if number != own
    ]
    return "\n".join(told)
